"""Simulated clients against a real HTTP server on this machine that serves a real scikit-learn model."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from typer.testing import CliRunner

from detector.cli import app
from replay.evaluate.truth import read_truth
from replay.simulate import live
from replay.simulate.data import load
from replay.simulate.endpoint import EndpointError, Key, checked
from replay.simulate.live import Plan, Summary, run
from replay.simulate.samples import Samples, read_samples
from replay.simulate.victims import build

KEY = "s3cr3t-of-the-owner-7f1c"


class Server(ThreadingHTTPServer):
    """Serves breast-logistic in both protocols; `fault(n)` may answer request n otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.moments: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.labels_only = False
        self.fault: Any = lambda _: None  # a number: that status; bytes: that body; "hang"
        self.model = build("breast-logistic", 1)

    def url(self, path: str = "/v1/models/breast:predict") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.server.moments.append(time.monotonic())
        self.server.headers.append(dict(self.headers.items()))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.fault(len(self.server.moments))
        if fault == "hang":
            time.sleep(1.5)
            self.close_connection = True
            return
        if isinstance(fault, int):
            self._send(fault, f"you sent {self.headers['Authorization']}".encode())
            return
        self._send(200, fault or self._predicted(body))

    def _predicted(self, body: dict[str, Any]) -> bytes:
        v2 = "inputs" in body
        x = np.array(body["inputs"][0]["data"] if v2 else body["instances"], np.float32).reshape(-1, 30)
        scores = self.server.model.scores(x)
        if not v2:
            names = np.array(["benign", "malignant"])
            told = names[scores.argmax(1)].tolist() if self.server.labels_only else scores.tolist()
            return json.dumps({"predictions": told}).encode()
        label = {"name": "label", "datatype": "INT64", "shape": [len(x)], "data": scores.argmax(1).tolist()}
        tensor = {"name": "p", "datatype": "FP64", "shape": list(scores.shape), "data": scores.ravel().tolist()}
        return json.dumps({"outputs": [label] if self.server.labels_only else [label, tensor]}).encode()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Send few records first and wait little between tries, but in the slow test everything is as it is."""
    if request.node.get_closest_marker("slow"):
        return
    monkeypatch.setattr(live, "LABELLED", 24)
    monkeypatch.setattr(live, "_BACK_OFF_S", 0.01)


def samples() -> Samples:
    return Samples(load("breast", 1).held_out.x, (30,))


def play(server: Server, out: Path, plan: Plan, path: str = "/v1/models/breast:predict", **options: Any) -> Summary:
    protocol = options.pop("protocol", "v1")
    return run(checked(server.url(path), protocol, options.pop("rate", 200), **options), samples(), plan, out)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "path"), [("v1", "/v1/models/breast:predict"), ("v2", "/v2/models/breast/infer")])
def test_a_hill_climb_through_the_endpoint_succeeds_and_its_capture_replays_to_an_alert(
    tmp_path: Path, server: Server, protocol: str, path: str
) -> None:
    file, out, alerts = tmp_path / "s.npy", tmp_path / "c.jsonl", tmp_path / "a.jsonl"
    np.save(file, samples().x)
    done = command(
        *(server.url(path), file, out, "--i-own-this-endpoint", "--protocol", protocol, "--rate", "200"),
        *("--attacks", "hill_climb", "--queries", "400", "--benign", "human,machine", "--json"),
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["succeeded"] == 1
    events, truth = lines(out), lines(tmp_path / "c.truth.jsonl")
    assert [event["event_time"] for event in events] == sorted(event["event_time"] for event in events)
    assert {event["model"]["name"] for event in events} == {"breast"}
    assert sum(row["queries"] for row in truth) == len(events) == len(server.moments)
    attacker = next(row for row in truth if row["hostile"])
    assert attacker["measure"]["value"] >= 0.9
    assert {client.client for client in read_truth([tmp_path / "c.truth.jsonl"])} == {row["client"] for row in truth}
    replayed = CliRunner().invoke(app, ["replay", str(out), "--alerts-out", str(alerts)])
    assert replayed.exit_code == 0, replayed.output
    assert attacker["client"] in alerts.read_text()


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_an_endpoint_of_labels_is_walked_by_labels(tmp_path: Path, server: Server, protocol: str) -> None:
    server.labels_only = True
    plan = Plan(("human",), ("hop_skip_jump",), 60)
    made = play(server, tmp_path / "c.jsonl", plan, protocol=protocol)
    assert made.stopped == ""
    told = {event["output"]["label"] for event in lines(tmp_path / "c.jsonl")}
    assert told == ({"benign", "malignant"} if protocol == "v1" else {0, 1})
    assert lines(made.truth)[-1]["measure"]["name"] == "share flipped"
    refused = play(server, tmp_path / "d.jsonl", Plan((), ("hill_climb",), 60), protocol=protocol)
    assert "not for endpoints that answer with label only" in refused.stopped


def test_no_two_requests_are_closer_than_the_rate_allows(tmp_path: Path, server: Server) -> None:
    server.fault = lambda n: 503 if n == 5 else None
    play(server, tmp_path / "c.jsonl", Plan(("human",), (), 10), rate=40)
    gaps = np.array([b - a for a, b in pairwise(server.moments)])
    assert len(server.moments) == 24 + 10 + 1
    assert server.moments[-1] - server.moments[0] >= 0.99 * 34 / 40
    assert np.median(gaps) >= 0.9 / 40


@pytest.mark.parametrize("header", ["", "X-Api-Key"])
def test_the_key_is_sent_and_stands_in_no_file_and_no_output(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setenv("QUERYWATCH_ENDPOINT_KEY", KEY)
    monkeypatch.setenv("QUERYWATCH_ENDPOINT_KEY_HEADER", header)
    server.fault = lambda n: 403 if n > 30 else None  # its body repeats the header
    np.save(tmp_path / "s.npy", samples().x)
    options = ("--i-own-this-endpoint", "--benign", "human", "--rate", "200")
    done = command(server.url(), tmp_path / "s.npy", tmp_path / "c.jsonl", *options)
    assert done.exit_code == 1
    assert "403 Forbidden; is QUERYWATCH_ENDPOINT_KEY the right key?" in done.output
    assert len(lines(tmp_path / "c.jsonl")) == 31
    sent = {headers.get(header or "Authorization") for headers in server.headers}
    assert sent == {KEY if header else f"Bearer {KEY}"}
    assert KEY not in done.output + done.stderr
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_an_answer_that_repeats_the_key_is_not_recorded(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUERYWATCH_ENDPOINT_KEY", KEY)
    server.fault = lambda _: json.dumps({"predictions": [KEY]}).encode()
    np.save(tmp_path / "s.npy", samples().x)
    done = command(server.url(), tmp_path / "s.npy", tmp_path / "c.jsonl", "--i-own-this-endpoint")
    assert done.exit_code == 1
    assert "repeats the API key" in done.output
    assert KEY.encode() not in (tmp_path / "c.jsonl").read_bytes()


def test_too_many_requests_are_waited_for_and_recorded_without_output(tmp_path: Path, server: Server) -> None:
    server.fault = {3: 429, 9: 503, 10: 500}.get
    made = play(server, tmp_path / "c.jsonl", Plan(("human",), (), 10))
    events = lines(made.capture)
    assert made.stopped == ""
    assert made.failed == 3
    assert [e["status"] for e in events if "output" not in e] == [429, 503, 500]
    assert server.moments[3] - server.moments[2] >= 1  # Retry-After: 1
    assert events[2]["input"] == events[3]["input"]


@pytest.mark.parametrize(
    ("fault", "status", "calls", "message"),
    [
        (500, 500, 5, "500 Internal Server Error (5 calls in a row)"),
        (404, 404, 1, "404 Not Found"),
        (302, 302, 1, "redirects are not followed"),
        ("hang", 504, 5, "no answer within 0.2 s"),
        (b"<html>", 200, 1, "not JSON"),
        (b"[]", 200, 1, "no list `predictions`"),
        (b'{"predictions": [[0.5, 0.5], [0.5, 0.5]]}', 200, 1, "one entry for the one record"),
        (b'{"predictions": [17.5]}', 200, 1, "models that predict quantities"),
        (b'{"predictions": [[0.1, 0.2, 0.7]]}', 200, 1, "different numbers of scores"),
        (b'{"predictions": [{"a": null}]}', 200, 1, "quantities"),
    ],
)
def test_what_goes_wrong_ends_in_one_line_and_leaves_a_valid_capture(
    tmp_path: Path, server: Server, fault: Any, status: int, calls: int, message: str
) -> None:
    server.fault = lambda n: fault if n > 3 else None
    made = play(server, tmp_path / "c.jsonl", Plan(("human",), (), 10), timeout_s=0.2)
    assert message in made.stopped
    assert "\n" not in made.stopped
    if "different numbers" not in message:
        assert [e["status"] for e in lines(made.capture)[3:]] == [status] * calls
    assert lines(made.truth)[0]["queries"] == made.events


def test_a_server_that_is_not_there_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    gone = checked("http://127.0.0.1:9/v1/models/x:predict", "v1", 200)
    made = run(gone, samples(), Plan((), ("hill_climb",)), tmp_path / "c.jsonl")
    assert "Connection refused" in made.stopped
    assert {event["status"] for event in lines(made.capture)} == {502}


def test_wrong_output_shapes_of_v2_are_named(tmp_path: Path, server: Server) -> None:
    server.fault = lambda _: b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 0.5]}]}'
    made = play(server, tmp_path / "c.jsonl", Plan((), ("hill_climb",)), protocol="v2")
    assert "has 2 values, its shape [1, 3]" in made.stopped


def test_an_attack_that_has_too_few_queries_to_start_is_named(tmp_path: Path, server: Server) -> None:
    made = play(server, tmp_path / "c.jsonl", Plan((), ("hop_skip_jump",), 5))
    assert made.notes == ["hop_skip_jump cannot start with 5 queries; it usually has 600"]
    assert (made.stopped, made.campaigns) == ("", 0)


def test_ctrl_c_leaves_a_valid_capture_with_its_truth(tmp_path: Path, server: Server) -> None:
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if seen == 60:
            raise KeyboardInterrupt

    target = checked(server.url(), "v1", 200)
    made = run(target, samples(), Plan(("human",), ("hill_climb",), 50), tmp_path / "c.jsonl.zst", stop)
    assert made.stopped == "interrupted"
    assert made.events == 60
    whole = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(made.capture.read_bytes())).read()
    assert whole.endswith(b"\n")
    assert all(json.loads(line)["output"] for line in whole.splitlines())
    assert sum(row["queries"] for row in lines(made.truth)) == 60
    assert lines(made.truth)[-1]["succeeded"] is None


def command(url: str, file: Path | None, out: Path, *arguments: str) -> Any:
    given = ["--samples", str(file)] if file else []
    return CliRunner().invoke(app, ["simulate", "--endpoint", url, "--out", str(out), *given, *arguments])


@pytest.mark.parametrize(
    ("url", "arguments", "message"),
    [
        ("", [], "--i-own-this-endpoint"),
        ("", ["--i-own-this-endpoint", "--protocol", "v3"], "v1 or v2"),
        ("", ["--i-own-this-endpoint", "--rate", "201"], "at most 200"),
        ("", ["--i-own-this-endpoint", "--rate", "nan"], "at most 200"),
        ("", ["--i-own-this-endpoint", "--queries", "10001"], "10,000"),
        ("", ["--i-own-this-endpoint", "--attacks", "telepathy"], "unknown attack 'telepathy'"),
        ("", ["--i-own-this-endpoint", "--attacks", "all"], "one by one"),
        ("", ["--i-own-this-endpoint", "--hours", "3"], "does not go with --endpoint"),
        ("", ["--i-own-this-endpoint"], "--samples is needed: genuine records"),
        ("http://192.0.2.1/v1/models/x:predict", ["--i-own-this-endpoint"], "use https, or say --insecure-http"),
        ("http://localhost.example.org/x", ["--i-own-this-endpoint"], "use https, or say --insecure-http"),
        ("https://me:pw@example.org/x", ["--i-own-this-endpoint"], "no user or password"),
        ("ftp://example.org/x", ["--i-own-this-endpoint"], "must be a full one"),
        ("http://[::1", ["--i-own-this-endpoint"], "cannot be read"),
    ],
)
def test_wrong_use_ends_in_exit_code_2_before_anything_is_sent(
    tmp_path: Path, server: Server, url: str, arguments: list[str], message: str
) -> None:
    done = command(url or server.url(), None, tmp_path / "c.jsonl", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
    assert server.moments == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://localhost:1/x", "http://127.9.9.9/x", "http://[::1]:80/x", "https://a.b/x"])
def test_loopback_and_https_need_no_further_word(url: str) -> None:
    assert checked(url, "v1", 10).model == "endpoint"
    with pytest.raises(EndpointError, match="line breaks"):
        checked(url, "v1", 10, key=Key("a\r\nb"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"no array", "not an array"),
        ("x.jsonl", b"[1, 2]\n{}\n", "x.jsonl:2: not a record"),
        ("x.jsonl", b"[1, 2]\n[1, 2, 3]\n", "x.jsonl:2"),
        ("x.jsonl", b"[1, 2]\n" * 5, "5 records; at least 20"),
        ("x.jsonl", b"[1, 2]\n" * 30, "all records are the same"),
        ("x.jsonl", b"[1, 1e300]\n" * 30, "record 1 holds NaN"),
        ("x.jsonl", b"", "0 records"),
    ],
)
def test_samples_that_are_none_are_refused_with_their_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EndpointError, match=message):
        read_samples(tmp_path / name)


def test_samples_come_from_arrays_lists_objects_and_captures(tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((30, 2, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    rows: list[Any] = [row.tolist() for row in x]
    rows = [row if i % 3 else [{"vector": row}, {"input": {"vector": row}}][i % 2] for i, row in enumerate(rows)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("x.npy", "x.jsonl"):
        read = read_samples(tmp_path / name)
        assert read.row_shape == (2, 3)
        assert np.array_equal(read.x, x.reshape(30, 6))
