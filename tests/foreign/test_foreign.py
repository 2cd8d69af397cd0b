"""The foreign traffic: lines keep budgets, benign clients behave, and a small capture with its truth can be scored."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import orjson
import pytest

from detector.settings import Settings
from replay.evaluate.stream import read_stream
from replay.evaluate.truth import read_truth
from tests.foreign import missing
from tests.foreign.attack import Scene
from tests.foreign.benign import HARD, ORDINARY, Kind
from tests.foreign.served import Line, Spent, serve
from tests.foreign.timing import times


def a_line(budget: int, model: str = "iris-logistic-scores") -> Line:
    return Line(serve(model, 1), np.random.default_rng(0), budget)


def test_a_line_answers_what_the_budget_allows_and_then_is_spent() -> None:
    line = a_line(5)
    x = line.data.public.x
    assert len(line.label(x[:3])) == 3
    with pytest.raises(Spent):
        line.ask(x[:3])
    asked = line.asked()
    np.testing.assert_array_equal(asked.x, x[[0, 1, 2, 0, 1]])
    assert asked.call.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(asked.answer.label, line.victim.scores(asked.x).argmax(1))


def test_what_part_of_a_line_sends_is_in_the_log_of_the_whole() -> None:
    line = a_line(10)
    part = line.part(4)
    with pytest.raises(Spent):
        part.ask(line.data.public.x[:6])
    assert len(line.asked().x) == 4


@pytest.mark.parametrize("interface", ["scores", "rounded", "top1", "label"])
def test_probabilities_are_known_as_far_as_the_interface_tells(interface: str) -> None:
    line = a_line(40, f"iris-logistic-{interface}")
    scores = line.proba(line.data.held_out.x[:40])
    assert scores.shape == (40, 3)
    np.testing.assert_allclose(scores.sum(1), 1, atol=0.02)
    np.testing.assert_array_equal(scores.argmax(1), line.victim.scores(line.data.held_out.x[:40]).argmax(1))
    assert (set(np.unique(scores)) == {0.0, 1.0}) == (interface == "label")


@pytest.mark.parametrize("kind", ORDINARY + HARD, ids=lambda kind: kind.name)
def test_a_benign_client_uses_its_budget_and_stays_in_range(kind: Kind) -> None:
    model = next(m for m in ("census-logistic-scores", "digits12-bayes-scores") if kind.suits(a_line(1, m).data))
    line = a_line(36, model)
    Scene(line, np.random.default_rng(3)).act(kind.act)
    asked = line.asked()
    assert len(asked.x) == 36
    if kind.name not in ("noisy", "imputed"):  # noise, and zeros for what is missing, may leave the range
        assert (asked.x >= line.data.low - 1e-4).all()
        assert (asked.x <= line.data.high + 1e-4).all()


@pytest.mark.parametrize("pace", ["machine", "human", "batch", "steady", "slow", "script"])
def test_queries_arrive_in_order_between_begin_and_end(pace: str) -> None:
    at = times(pace, np.random.default_rng(1), np.arange(300) // 4, 1000.0, 9000.0)
    assert (np.diff(at) >= 0).all()
    assert at[0] >= 1000
    assert at[-1] <= 9000.1


@pytest.mark.skipif(bool(missing()), reason=f"public tools not installed (docs/foreign.md): {', '.join(missing())}")
def test_a_capture_of_public_tools_is_the_same_twice_and_can_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # one of the tools writes a log where it stands
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.foreign import inversion, plan, theft, toolbox  # noqa: PLC0415  # may be missing
        from tests.foreign.play import write  # noqa: PLC0415
    chosen = ("cma", "nevergrad_de", "art_hop_skip_jump", "sobol")
    attacks = tuple(a for a in inversion.DEVELOP + toolbox.DEVELOP + theft.DEVELOP if a.name in chosen)
    capture = plan.Capture(("iris-logistic-scores",), attacks, 4, (20, 30))
    path, again = tmp_path / "small.jsonl", tmp_path / "again.jsonl"
    written = write("small", capture, path, seed=1, quick=True)
    write("small", capture, again, seed=1, quick=True)
    assert path.read_bytes() == again.read_bytes()
    clients = read_truth([tmp_path / "small.truth.jsonl"])
    stream = read_stream([path], clients, Settings())
    assert (len(stream.pair), stream.missing, stream.refused) == (written.events, 0, 0)
    assert {c.kind for c in clients if c.hostile} == set(chosen)
    rows = [orjson.loads(line) for line in (tmp_path / "small.truth.jsonl").read_bytes().splitlines()]
    hour = int(stream.time_us[0]) + 3_600_000_000
    early = [stream.truth[pair] for pair in set(stream.pair[stream.time_us < hour].tolist())]
    assert len(early) == plan.REGULARS
    assert all(c is not None and not c.hostile and not c.hard for c in early)
    assert all(row["attack_queries"] <= 500 for row in rows if row["hostile"])
