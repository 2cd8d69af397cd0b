"""Whoever starts again from what the answers favour is found; whoever only changes part after part is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detector.detectors import choices
from detector.events import F32, F64, OutputLevel
from tests import streams, views

LENSES = {width: views.Lens((width,)) for width in (8, 30, 200)}
Score = Callable[[F64], float]
Habit = Callable[[np.random.Generator, int, Score, int], list[F64]]


def signals(
    habit: Habit, width: int, seed: int, n: int = 200, answer: OutputLevel = OutputLevel.SCORES
) -> dict[str, F32]:
    """Return what the detector says of one client with this habit, which sees the score of class 0."""
    lens, rng = LENSES[width], np.random.default_rng(seed)
    model = lens.models[0]
    steep = min(1.0, 12 / width)  # or else a model of many features is sure of everything

    def answers(x: F64) -> F32:
        return np.asarray(model.scores((x * steep).astype(np.float32)))

    rows = habit(rng, width, lambda x: float(answers(x)[0]), n)[:n]
    like = streams.Query("a", None, None, lens.refs[0], answer=answer)
    made = [replace(like, x=x.astype(np.float32), scores=answers(x)) for x in rows]
    events = streams.batch(made)
    view = lens.view(events, views.slots(events), views.Memory.of(1))
    return dict(choices.DETECTOR.observe(view, choices.DETECTOR.state(1)))


def highest(
    habit: Habit, width: int, seed: int, name: str, n: int = 200, answer: OutputLevel = OutputLevel.SCORES
) -> float:
    column = signals(habit, width, seed, n, answer)[f"choices.{name}"]
    return float(np.nanmax(column)) if np.isfinite(column).any() else 0.0


def simba(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """One random feature at a time, up or down; what lowers the score stays."""
    made: list[F64] = []
    while len(made) < n:
        best = rng.normal(size=width)
        made.append(best)
        for j in rng.permutation(width).tolist():
            for sign in (0.4, -0.4):
                trial = best.copy()
                trial[j] += sign
                made.append(trial)
                if score(trial) < score(best):
                    best = trial
                    break
    return made


def square(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """Windows of features are moved together; what raises the score stays."""
    best = rng.normal(size=width)
    made = [best]
    while len(made) < n:
        trial = best.copy()
        trial[(int(rng.integers(width)) + np.arange(width // 5)) % width] += rng.choice([-0.3, 0.3])
        made.append(trial)
        if score(trial) > score(best):
            best = trial
    return made


def zoo(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """Symmetric differences of four features, then a step against the slope."""
    best = rng.normal(size=width)
    made: list[F64] = [best]
    while len(made) < n:
        step = np.zeros(width)
        for j in rng.choice(width, 4, replace=False).tolist():
            pair = [best.copy(), best.copy()]
            pair[0][j] += 0.05
            pair[1][j] -= 0.05
            made += pair
            step[j] = 0.1 * np.sign(score(pair[1]) - score(pair[0]))
        best = best + step
        made.append(best)
    return made


def coin(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """Like SimBA, but a coin decides what stays: the null."""
    del score
    best = rng.normal(size=width)
    made = [best]
    while len(made) < n:
        trial = best.copy()
        trial[int(rng.integers(width))] += rng.normal() * 0.4
        made.append(trial)
        best = trial if rng.random() < 0.5 else best
    return made


def occlusion(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """Every feature of record after record by zero: each lowers or raises the score, none stays."""
    del score
    made: list[F64] = []
    while len(made) < n:
        x = rng.normal(size=width)
        made += [x, *np.where(np.eye(width) == 1, 0, x)]
    return made


def sliders(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """Ten ticks of a feature; it is left where it was let go, and another one is moved."""
    del score
    made: list[F64] = []
    while len(made) < n:
        x = rng.normal(size=width)
        for j in rng.choice(width, 3, replace=False).tolist():
            ticks = np.repeat(x[None], 10, axis=0)
            ticks[:, j] += np.linspace(0.1, 1, 10) * rng.choice([-1, 1])
            made += list(ticks)
            x = ticks[int(rng.integers(10))]
    return made


def grid(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """All pairs of values of two features, on record after record."""
    del score
    made: list[F64] = []
    while len(made) < n:
        x = rng.normal(size=width)
        for one in range(4):
            for two in range(4):
                row = x.copy()
                row[0], row[1] = one, two
                made.append(row)
    return made


def masks(rng: np.random.Generator, width: int, score: Score, n: int) -> list[F64]:
    """KernelSHAP: random features of a record by those of a background record."""
    del score
    made: list[F64] = []
    background = rng.normal(size=width)
    while len(made) < n:
        x = rng.normal(size=width)
        made += list(np.where(rng.random((60, width)) < 0.25, background, x))
    return made


@pytest.mark.parametrize("width", [8, 30, 200])
@pytest.mark.parametrize("habit", [simba, square])
def test_a_search_that_keeps_what_helps_is_found(habit: Habit, width: int) -> None:
    assert np.median([highest(habit, width, seed, "kept") for seed in range(5)]) >= 3


@pytest.mark.parametrize("habit", [coin, occlusion, sliders, grid, masks])
def test_who_does_not_look_at_the_answers_is_not_said_to(habit: Habit) -> None:
    values = np.array([highest(habit, width, seed, "kept") for width in (8, 30) for seed in range(40)])
    assert np.mean(values >= 1) <= 0.1
    assert values.max() < 3


def test_bare_labels_say_too_little_for_choices() -> None:
    assert highest(simba, 8, 1, "kept", answer=OutputLevel.LABEL) < 1


@pytest.mark.parametrize("width", [8, 30, 200])
def test_pairs_that_mirror_each_other_are_found(width: int) -> None:
    assert highest(zoo, width, 1, "mirrored") >= 3


@pytest.mark.parametrize("habit", [coin, occlusion, sliders, grid, masks])
def test_nothing_else_mirrors(habit: Habit) -> None:
    assert max(highest(habit, width, seed, "mirrored") for width in (8, 30) for seed in range(10)) < 1


@pytest.mark.parametrize("habit", [occlusion, masks])
def test_explainers_change_part_after_part_of_one_record(habit: Habit) -> None:
    assert highest(habit, 30, 1, "around") >= 4


@pytest.mark.parametrize("habit", [sliders])
def test_values_of_one_feature_are_no_parts(habit: Habit) -> None:
    assert max(highest(habit, 30, seed, "around") for seed in range(10)) < 4


def test_a_change_of_the_classes_followed_begins_a_new_chain() -> None:
    lens = views.Lens((8,), classes=60)
    rng = np.random.default_rng(1)
    rows = simba(rng, 8, lambda x: float(lens.models[0].scores(x.astype(np.float32))[0]), 300)
    like = streams.Query("a", None, None, lens.refs[0], answer=OutputLevel.CONFIDENCE)
    made = [replace(like, x=x.astype(np.float32), scores=lens.models[0].scores(x.astype(np.float32))) for x in rows]
    events = streams.batch(made)
    view = lens.view(events, views.slots(events), views.Memory.of(1))
    state = choices.DETECTOR.state(1)
    choices.DETECTOR.observe(view, state)
    changed = np.flatnonzero(view.replaced >= 0)
    assert len(changed) > 16
    stop = int(changed[-1]) + 1
    early = lens.view(events.slice(0, stop), np.zeros(stop, np.int64), views.Memory.of(1))
    state = choices.DETECTOR.state(1)
    choices.DETECTOR.observe(early, state)
    assert not state.linked[0]
    assert not state.run[0]
