"""The report counts what `evaluate` counts, puts intervals beside it, and writes between the marks of a page only."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.settings import Settings
from detector.wiring import rules_of
from replay.evaluate.board import OWN, Wanted, cases, evaluate
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Hit, Outcomes
from replay.evaluate.truth import Client
from replay.evaluate.watch import MEDIUM
from replay.simulate.run import simulate
from replay.simulate.scenario import PRESETS, plan
from tests.foreign import missing
from tests.foreign.__main__ import main
from tests.foreign.report import FIRST, LAST, RECOURSE, PageError, Scored, put, report, tables, wilson


def campaign(queries: int | None, evasion: str = "none", succeeded: str = "true") -> CampaignOutcome:
    said = {"succeeded": succeeded}
    about = Client("c", "m", True, "inversion", "cma", "", evasion, "scores", False, "report", None, "c", said)
    member = ClientOutcome(about, benign_queries=0, attack_queries=300)
    hit = None if queries is None else Hit(queries, "inversion", queries)
    return CampaignOutcome([member], first=hit, highest=hit)


def benign(kind: str, level: int = -1, *, hard: bool = True) -> ClientOutcome:
    about = Client("b", "m", False, "", kind, "", "none", "scores", hard, "report", None, "", {})
    alarmed = level >= MEDIUM
    return ClientOutcome(about, benign_queries=50, attack_queries=0, false_level=level, false_alerts=int(alarmed))


def cells(text: str, name: str) -> list[str]:
    return next(
        [c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith(f"| {name} |")
    )


@pytest.mark.parametrize(
    ("found", "n", "interval"), [(8, 10, "49–94 %"), (0, 20, "0–16 %"), (20, 20, "84–100 %"), (0, 0, "–")]
)
def test_intervals_are_those_of_wilson(found: int, n: int, interval: str) -> None:
    assert wilson(found, n) == interval


def test_tables_part_what_hides_from_what_does_not_and_recourse_from_false_alarms() -> None:
    outcomes = Outcomes(
        [benign("lime"), benign("lime", MEDIUM), benign(RECOURSE, MEDIUM), benign("human", hard=False)],
        [campaign(30), campaign(90, succeeded="false"), campaign(70, "slow"), campaign(None, "slow")],
    )
    _, families, evasions, attacks, alarmed = tables(Scored([], {OWN: outcomes}))
    assert cells(families, "inversion") == ["3 of 4", "30–95 %", "70", "2 of 2", "34–100 %", "90"]
    assert "confidence 0.9, 2 of 3 are found" in families
    assert cells(evasions, "slow")[0] == "1 of 2"
    assert cells(attacks, "inversion: cma") == ["3 of 4", "70"]
    assert cells(alarmed, "**hard**")[0] == "2 of 3"
    assert cells(alarmed, f"**hard but {RECOURSE}**")[0] == "1 of 2"
    assert cells(alarmed, "**ordinary**")[0] == "0 of 1"
    assert cells(alarmed, "lime")[0] == "1 of 2"


def test_detectors_stand_side_by_side() -> None:
    ours = Outcomes([benign("lime")], [campaign(30)])
    theirs = Outcomes([benign("lime", MEDIUM)], [campaign(None)])
    beside = list(tables(Scored([], {OWN: ours, "prada": theirs})))[3]
    assert cells(beside, "inversion") == ["1 of 1", "0 of 1"]
    assert cells(beside, "hard clients alarmed") == ["0 of 1", "1 of 1"]


def test_the_report_counts_what_evaluate_counts(tmp_path: Path) -> None:
    captures = [tmp_path / "day.jsonl", tmp_path / "holdout-day.jsonl"]
    for seed, path in enumerate(captures, 1):
        simulate(plan(PRESETS["demo"], seed), path, lambda _: None, 1)
    text = report(captures)
    held_out, development = text.split("### ")[1:]
    for path, part in zip(captures, (development, held_out), strict=True):
        board = evaluate(cases([path]), Settings(), rules_of(Settings()), Wanted("both", anchors=False))
        own = board["systems"][OWN]
        campaigns, medium = own["all"]["all"]["campaigns"], own["benign"]["ordinary"]["medium"]
        assert cells(part, "all")[0] == f"{campaigns['found']} of {campaigns['n']}"
        assert cells(part, "**ordinary**")[0] == f"{medium['found']} of {medium['n']}"
        assert path.name in part


def test_a_page_changes_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{FIRST}\nold\n{LAST}\nafter\n")
    put("new", page)
    assert page.read_text() == f"before\n{FIRST}\n\nnew\n\n{LAST}\nafter\n"
    put("newer", page)
    assert page.read_text() == f"before\n{FIRST}\n\nnewer\n\n{LAST}\nafter\n"
    page.write_text(f"{LAST} before {FIRST}")
    with pytest.raises(PageError, match="are missing"):
        put("new", page)
    with pytest.raises(PageError, match="no such file"):
        put("new", tmp_path / "none.md")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["report", "nowhere.jsonl"], "nowhere.truth.jsonl: no such file"),
        (["report", "x.jsonl", "--page", "none.md"], "none.md: no such file"),
        (["report", "x.truth.jsonl"], "only truth files"),
        (["report"], "CAPTURE"),
        (["play"], "--out"),
        (["play", "--out", "x", "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(wrong)
    assert exit_code.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not missing(), reason="all public tools are installed")
def test_play_says_which_tools_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["play", "--out", str(tmp_path / "out")])
    assert f"not installed: {', '.join(missing())}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
