"""`querywatch evaluate`: a simulated capture through the live pipeline and the anchors, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from detector.cli import app
from detector.detectors import discover
from detector.families import FAMILIES
from detector.settings import Settings
from detector.wiring import rules_of
from replay.evaluate.board import cases
from replay.evaluate.page import FIRST, LAST, write
from replay.evaluate.plot import plot as draw
from replay.evaluate.stream import NEVER, read_stream
from replay.evaluate.watch import MEDIUM, watch
from replay.simulate.run import simulate
from replay.simulate.scenario import PRESETS, Preset, plan

ATTACKS = ("hill_climb", "finite_differences", "extraction_random", "zoo")
PRESET = Preset(6, ("digits-mlp",), 12, 60, 5, ATTACKS, ("human", "lime"), ("none", "turncoat"))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "tiny.jsonl.gz"
    scenario = plan(PRESET, 5)
    simulate(replace(scenario, jobs=tuple(replace(job, queries=min(job.queries, 500)) for job in scenario.jobs)), path)
    return path


@pytest.fixture(scope="module")
def board(capture: Path) -> dict[str, Any]:
    given = ["evaluate", str(capture), "--half", "both", "--json", "--cache", str(capture.parent / "anchors")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_scoreboard_has_all_detectors_in_the_same_columns(board: dict[str, Any]) -> None:
    systems = board["systems"]
    assert list(systems) == ["querywatch", "blacklight", "neighbours", "prada", "volume"]
    for name, system in systems.items():
        assert set(system) - {"confusion", "curve"} == set(systems["querywatch"]) - {"confusion", "curve"}, name
        assert system["all"]["all"]["campaigns"]["n"] == 5
        assert system["events_per_s"] > 0
    counted = systems["querywatch"]["benign"]
    assert counted["all"]["queries"] == sum(kind["queries"] for kind in counted["kinds"].values())
    assert counted["all"]["queries"] == counted["ordinary"]["queries"] + counted["hard"]["queries"]
    assert set(counted["kinds"]) >= {"human", "lime"}


def test_climbs_on_a_plain_model_are_found(board: dict[str, Any]) -> None:
    own = board["systems"]["querywatch"]["families"]["inversion"]
    assert own["campaigns"]["found"] >= 2
    assert 1 < own["queries"]["median"] <= 500


def test_the_operating_curve_falls_with_the_threshold(board: dict[str, Any]) -> None:
    rows = board["systems"]["querywatch"]["curve"]
    assert [row["threshold"] for row in rows] == list(range(1, 11))
    for column in ("campaigns", "clients", "ordinary", "hard"):
        shares = [row[column]["found"] for row in rows]
        assert shares == sorted(shares, reverse=True)
    assert rows[2]["campaigns"]["found"] > 0


def test_alerts_are_those_of_a_replay_and_come_with_the_evidence(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "alerts.jsonl"
    assert CliRunner().invoke(app, ["replay", str(capture), "--alerts-out", str(out)]).exit_code == 0
    documents = [json.loads(line) for line in out.read_text().splitlines()]
    (case,), config = cases([capture]), Settings()
    stream = read_stream(case.files, case.truth, config)
    found = watch(case.files, stream, config, rules_of(config))
    assert [a.offset for a in found.alarms] == [d["querywatch"]["position"]["last_offset"] for d in documents]
    assert found.crossings is not None
    loud = [alarm for alarm in found.alarms if alarm.level >= MEDIUM]
    assert "inversion" in {alarm.family for alarm in loud}
    assert len({alarm.family for alarm in loud}) > 1
    for alarm in loud:
        pair = alarm.pairs[0]
        late = stream.time_at(alarm.offset) >= stream.start_us[pair]
        side = found.crossings.after if late else found.crossings.before
        assert side[pair, 1] <= alarm.offset < NEVER  # the rules ask for 3 of one test: 2 of a mean of ten at most


def test_events_of_each_client_are_counted_as_the_simulator_did(capture: Path) -> None:
    (case,) = cases([capture])
    stream = read_stream(case.files, case.truth, Settings())
    beside = capture.with_name("tiny.truth.jsonl").read_text().splitlines()
    for row in map(json.loads, beside):
        pair = stream.number[row["client"], row["model"]]
        assert len(stream.rows(pair)) == row["queries"]
        if row["hostile"]:
            history = {"turncoat": 400}.get(row["evasion"], 0)
            assert len(stream.attack_rows(pair)) == row["queries"] - history
    assert (np.diff(stream.offset) >= 0).all()


def run(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """Return the scoreboard that `querywatch evaluate` prints as JSON."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--half", "both", "--no-anchors", "--json"])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_what_the_anchors_found_is_kept_and_used_again(capture: Path, tmp_path: Path) -> None:
    given = ["evaluate", str(capture), "--json", "--cache", str(tmp_path / "kept")]
    first, second = (json.loads(CliRunner().invoke(app, given).stdout) for _ in range(2))
    (kept,) = (tmp_path / "kept").iterdir()
    for name in ("blacklight", "prada", "neighbours", "volume"):
        assert first["systems"][name] == second["systems"][name]
    assert first["matched"] == second["matched"]
    kept.write_bytes(b"broken")
    assert json.loads(CliRunner().invoke(app, given).stdout)["matched"] == first["matched"]


def test_targets_are_printed_and_a_missed_floor_ends_with_1(capture: Path, tmp_path: Path) -> None:
    saved = tmp_path / "board.json"
    given = ["evaluate", str(capture), "--half", "both", "--no-anchors", "--targets", "--save", str(saved)]
    result = CliRunner().invoke(app, given)
    rows = {row["name"]: row for row in json.loads(saved.read_text())["targets"]}
    assert result.exit_code == int(any(row["floor_verdict"] == "missed" for row in rows.values())), result.output
    assert "operating curve" not in result.stdout
    for name in ("inversion with scores", "over 100 ids: campaign named", "right family named by the first alert"):
        assert name in result.stdout
        assert name in rows
    assert rows["inversion with scores"]["n"] > 0


def test_a_page_holds_the_tables_between_its_marks_however_often_it_is_written(
    board: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{FIRST} made by a command -->\nold\n{LAST}\nafter\n")
    kinds = board["systems"]["querywatch"]["kinds"]
    odd = board | {
        "systems": {"querywatch": {**board["systems"]["querywatch"], "kinds": {"x: [/b]|": next(iter(kinds.values()))}}}
    }
    write(odd, page)
    once = page.read_text()
    assert "[/b]" in once
    write(odd, page)
    assert page.read_text() == once
    assert once.startswith(f"before\n{FIRST} made by a command -->\n\ntiny.jsonl.gz: ")
    assert once.endswith(f"\n\n{LAST}\nafter\n")
    assert "old" not in once
    for title in ("targets and floors", "operating curve", "anchors at equal false alarms"):
        assert f"**{title}" in once


def test_clients_are_parted_by_a_field_of_the_truth(capture: Path) -> None:
    groups = run(capture, "--by", "data", "--by", "evasion")["by"]
    assert list(groups["data"]) == ["digits"]
    assert set(groups["evasion"]) == {"none", "turncoat"}
    assert sum(row["campaigns"]["n"] for row in groups["evasion"].values()) == 5


def test_a_level_of_detail_changes_what_is_seen_and_nothing_else(capture: Path) -> None:
    alone = {level: run(capture, "--level", level) for level in ("sketch", "outputs", "label")}
    together = run(capture, "--levels")
    assert set(together["levels"]) == {"vectors", "sketch", "outputs", "label"}
    for level, board in alone.items():
        assert board["captures"][0]["digest"] == together["captures"][0]["digest"]  # who asked when
        row = together["levels"][level]
        assert row["all"]["all"] == board["systems"]["querywatch"]["all"]["all"]
        assert row["hard"] == board["systems"]["querywatch"]["benign"]["hard"]
    detected = {level: row["families"]["inversion"]["campaigns"]["found"] for level, row in together["levels"].items()}
    assert detected["sketch"] > detected["outputs"] == 0  # geometry needs inputs, and a sketch is enough


def test_without_the_steering_tests_climbs_are_lost_and_every_part_has_its_price(capture: Path) -> None:
    board = run(capture, "--ablation", "--cost", "--workers", "2")
    families = {test for family in FAMILIES for test, _ in family.tests}
    assert set(board["ablation"]) >= {test.partition(".")[0] for test in families}
    assert all(name in families for name in board["ablation"] if "." in name)
    assert all(change >= 0 for change in board["ablation"]["steering"]["lost"].values())
    assert (
        sum(board["ablation"]["steering"]["lost"].values())
        + abs(board["ablation"]["steering"]["queries"]["without"] - board["ablation"]["steering"]["queries"]["with"])
        > 0
    )
    for detector in discover():
        assert board["cost"][detector.name]["us_an_event"] > 0
        assert board["cost"][detector.name]["bytes_a_client"] > 0
    assert board["cost"]["history"]["bytes_a_client"] > 10_000


def test_several_seeds_are_simulated_and_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(PRESET, clients=4, campaigns=1, kinds=("human",)))
    board = run("--corpus", "small", "--seeds", "1-2", "--out", tmp_path)
    assert [one["name"] for one in board["captures"]] == ["small-1.jsonl.zst", "small-2.jsonl.zst"]
    assert board["systems"]["querywatch"]["all"]["all"]["campaigns"]["n"] == 2


def test_the_operating_curve_is_drawn(board: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    draw(board, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_scoreboard_is_saved_and_compared(capture: Path, tmp_path: Path) -> None:
    saved = tmp_path / "board.json"
    given = ["evaluate", str(capture), "--half", "both", "--no-anchors"]
    first = CliRunner().invoke(app, [*given, "--save", str(saved)])
    assert first.exit_code == 0, first.output
    assert "operating curve" in first.stdout
    same = CliRunner().invoke(app, [*given, "--compare", str(saved)])
    assert same.exit_code == 0, same.output
    assert "no change" in same.stdout
    old = json.loads(saved.read_text())
    old["systems"]["querywatch"]["benign"]["hard"]["per_million"] = -1.0  # as if there had been fewer
    saved.write_text(json.dumps(old))
    worse = CliRunner().invoke(app, [*given, "--compare", str(saved)])
    assert worse.exit_code == 1
    assert "WORSE" in worse.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either captures or --corpus"),
        (["x.jsonl", "--corpus", "small"], "give either captures or --corpus"),
        (["/nowhere/x.jsonl"], "no such file"),
        (["-", "--truth", "CAPTURE"], "-: a capture is read several times, so it must be a file"),
        (["/dev/null"], "must be a file"),
        (["CAPTURE", "--truth", "/nowhere/t.jsonl"], "no such file"),
        (["CAPTURE", "--save", "/nowhere/b.json"], "--save: the folder /nowhere does not exist"),
        (["CAPTURE", "--compare", "/nowhere/b.json"], "--compare: /nowhere/b.json"),
        (["CAPTURE", "--compare", "CAPTURE"], "--compare"),
        (["CAPTURE", "--rules", "/nowhere"], "/nowhere"),
        (["CAPTURE", "--page", "/nowhere/p.md"], "--page: /nowhere/p.md cannot be read"),
        (["CAPTURE", "--page", "MARKLESS"], "are missing"),
        (["CAPTURE", "--by", "colour"], "no client has 'colour' in its truth; there are attack_end"),
        (["--corpus", "small", "--seeds", "3-1"], "--seeds: '3-1' is not a list of seeds"),
        (["--corpus", "small", "--seeds", "one"], "--seeds: 'one' is not a list of seeds"),
    ],
)
def test_wrong_use_says_what_is_wrong_and_ends_with_2(capture: Path, arguments: list[str], said: str) -> None:
    markless = capture.with_name("page.md")
    markless.write_text("no marks")
    given = [{"CAPTURE": str(capture), "MARKLESS": str(markless)}.get(argument, argument) for argument in arguments]
    result = CliRunner().invoke(app, ["evaluate", *given])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_without_matplotlib_a_plot_says_what_to_install(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.evaluate.plot.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["evaluate", str(capture), "--plot", "curve.png"])
    assert result.exit_code == 2
    assert "querywatch[plots]" in result.stderr
