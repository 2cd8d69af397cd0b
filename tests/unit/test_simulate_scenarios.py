"""Whole scenarios: the same seed gives the same bytes, and the truth is that of the capture."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from detector.cli import app
from replay.simulate.capture import BUCKET_S, Spill
from replay.simulate.data import half_of
from replay.simulate.run import perform, simulate, stream, truth_path
from replay.simulate.scenario import PRESETS, Preset, Scenario, plan

TINY = Preset(
    6,
    ("digits-mlp", "breast-logistic-top1", "diabetes-mlp-label", "wine-svm"),
    30,
    30,
    6,
    ("hill_climb", "cma_es", "membership_noise", "attribute_sweep", "hop_skip_jump", "extraction_random"),
    evasions=("ids10", "turncoat", "dummies50"),
)


def tiny(seed: int = 3) -> Scenario:
    whole = plan(TINY, seed)
    return replace(whole, jobs=tuple(replace(job, queries=min(job.queries, 200)) for job in whole.jobs))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Path]:
    out = tmp_path_factory.mktemp("capture") / "tiny.jsonl"
    simulate(tiny(), out)
    events, truth = ([json.loads(line) for line in path.read_bytes().splitlines()] for path in (out, truth_path(out)))
    return events, truth, out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path, made: Any) -> None:
    simulate(tiny(), tmp_path / "two.jsonl", workers=2)
    assert (tmp_path / "two.jsonl").read_bytes() == made[2].read_bytes()
    assert truth_path(tmp_path / "two.jsonl").read_bytes() == truth_path(made[2]).read_bytes()
    simulate(tiny(4), tmp_path / "other.jsonl")
    assert (tmp_path / "other.jsonl").read_bytes() != made[2].read_bytes()


def test_the_capture_is_in_order_of_event_time(made: Any) -> None:
    times = [event["event_time"] for event in made[0]]
    assert times == sorted(times)
    assert len(times) > 1000


def test_the_truth_counts_exactly_what_the_capture_holds(made: Any) -> None:
    events, truth, _ = made
    sent = Counter((event["client"]["id"], event["model"]["name"]) for event in events)
    assert {(row["client"], row["model"]): row["queries"] for row in truth} == dict(sent)
    first: dict[tuple[str, str], str] = {}
    last: dict[tuple[str, str], str] = {}
    for event in events:
        who = (event["client"]["id"], event["model"]["name"])
        first.setdefault(who, event["event_time"])
        last[who] = event["event_time"]
    for row in truth:
        who = (row["client"], row["model"])
        assert (row["start"], row["end"]) == (first[who], last[who])
        assert datetime.fromisoformat(row["start"]) <= datetime.fromisoformat(row["end"])


def test_benign_and_hostile_rows_say_what_they_are(made: Any) -> None:
    for row in made[1]:
        if row["hostile"]:
            assert row["technique"].startswith("AML.T00")
            assert row["client"] in row["members"]
            assert row["attack_start"] <= row["attack_end"]
            assert set(row["measure"]) >= {"name", "value", "level"}
            assert row["succeeded"] == (row["measure"]["value"] >= row["measure"]["level"])
        else:
            assert row["family"] is row["campaign"] is row["measure"] is None
        assert row["half"] == half_of(row["campaign"] if len(row["members"]) > 1 else row["client"])


def test_members_of_a_campaign_share_its_half_and_turncoats_start_benign(made: Any) -> None:
    rows = [row for row in made[1] if row["hostile"]]
    for campaign in {row["campaign"] for row in rows}:
        members = [row for row in rows if row["campaign"] == campaign]
        assert {row["client"] for row in members} == set(members[0]["members"])
        assert len({row["half"] for row in members}) == 1
    turncoats = [row for row in rows if row["evasion"] == "turncoat"]
    assert turncoats
    assert all(row["start"] < row["attack_start"] for row in turncoats)


def test_outputs_follow_the_interface_and_failed_calls_have_none(made: Any) -> None:
    for event in made[0]:
        if event["status"] != 200:
            assert "output" not in event
            continue
        keys = {"top1": {"label", "confidence"}, "label": {"label"}}
        interface = event["model"]["name"].split("-")[-1]
        assert set(event["output"]) == keys.get(interface, {"label", "scores"})


def test_no_client_id_or_request_tells_who_is_hostile(made: Any) -> None:
    shapes = {(len(row["client"]), row["client"][:4]) for row in made[1]}
    assert shapes == {(14, "key-")}


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_compressed_captures_hold_the_same_lines(tmp_path: Path, made: Any, suffix: str) -> None:
    out = tmp_path / f"tiny{suffix}"
    simulate(tiny(), out)
    raw = out.read_bytes()
    if suffix.endswith("gz"):
        content = gzip.decompress(raw)
    else:
        content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    assert content == made[2].read_bytes()
    assert truth_path(out).name == "tiny.truth.jsonl"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 4 * BUCKET_S)), max_size=60), st.randoms())
def test_spilled_lines_come_back_sorted_whatever_the_order_of_jobs(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[int, float]], random: Any
) -> None:
    out = tmp_path_factory.mktemp("spill") / "x.jsonl"
    jobs = sorted({job for job, _ in items})
    random.shuffle(jobs)
    expected = []
    with Spill() as spill:
        for job in jobs:
            times = np.array([int(t * 1e6) for j, t in items if j == job], np.int64)
            lines = [b"%d %d %d\n" % (t, job, i) for i, t in enumerate(times.tolist())]
            expected += [(t, job, i) for i, t in enumerate(times.tolist())]
            spill.add(times, job, lines)
        written = spill.write(out)
    assert [tuple(map(int, line.split())) for line in out.read_bytes().splitlines()] == sorted(expected)
    assert written.events == len(items)


def test_a_single_stream_can_be_had_for_tests() -> None:
    hostile, harmless = stream("hill_climb", 300, 7), stream("what_if_slider", 120, 7)
    assert len(hostile.lines) == 300
    assert len(harmless.lines) == 120
    assert hostile.truth[0]["family"] == "inversion"
    assert harmless.truth[0]["hostile"] is False
    assert stream("hill_climb", 300, 7).lines == hostile.lines
    assert stream("hill_climb", 300, 8).lines != hostile.lines


def test_a_job_depends_on_nothing_but_the_seed_and_itself() -> None:
    scenario = tiny()
    alone = perform(scenario, scenario.jobs[-1])
    for job in scenario.jobs[:3]:
        perform(scenario, job)
    assert perform(scenario, scenario.jobs[-1]).lines == alone.lines


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_what_the_manual_says(name: str) -> None:
    preset, scenario = PRESETS[name], plan(PRESETS[name], 1)
    hostile = [job for job in scenario.jobs if job.hostile]
    harmless = [job for job in scenario.jobs if not job.hostile]
    assert len(hostile) == preset.campaigns
    assert len(harmless) == preset.clients
    promised = {"demo": (40, 1, 1), "small": (300, 60, 15), "full": (1500, 300, 15), "benign": (3000, 0, 15)}[name]
    assert len(harmless) >= promised[0]
    assert len(hostile) >= promised[1]
    assert len({job.name for job in harmless}) >= promised[2]


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_the_command_writes_a_capture_and_says_so_in_json(tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    training = tmp_path / "training"
    training.mkdir()
    result = command(
        *("--out", str(out), "--hours", "1", "--clients", "5", "--queries", "20"),
        *("--attacks", "hill_climb,membership_confidence,attribute_sweep", "--evasions", "none"),
        *("--models", "breast-logistic,diabetes-mlp", "--training", str(training), "--seed", "3", "--json"),
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["events"] == len(out.read_bytes().splitlines())
    assert summary["campaigns"] == 3
    assert 0 < summary["succeeded"] <= 3
    assert np.load(training / "breast-logistic.npy").shape == (228, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.csv"], "must end in .jsonl"),
        (["--out", "/nowhere/at/all/x.jsonl"], "does not exist"),
        (["--out", "OUT", "--preset", "huge"], "demo, small, full, benign"),
        (["--out", "OUT", "--attacks", "telepathy"], "unknown attack 'telepathy'"),
        (["--out", "OUT", "--benign", "ghost"], "unknown benign kind 'ghost'"),
        (["--out", "OUT", "--models", "cats-mlp"], "unknown model 'cats-mlp'"),
        (["--out", "OUT", "--evasions", "cloak"], "unknown evasion 'cloak'"),
        (["--out", "OUT", "--hours", "0"], "more than 0"),
        (["--out", "OUT", "--hours", "nan"], "more than 0"),
        (["--out", "OUT", "--models", "digits-mlp-label", "--attacks", "nes"], "suits nes"),
        (
            ["--out", "OUT", "--models", "breast-logistic", "--benign", "video_frames", "--attacks", "nes"],
            "suits video_frames",
        ),
        (["--out", "OUT", "--training", "/nowhere"], "does not exist"),
        (["--out", "OUT", "--seed", "-1"], "--seed"),
        ([], "--out"),
    ],
)
def test_a_wrong_argument_ends_in_exit_code_2_and_one_clear_message(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = command(*[str(tmp_path / "x.jsonl") if text == "OUT" else text for text in arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())
