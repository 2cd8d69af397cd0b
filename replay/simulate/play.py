"""Plays one attack against one victim, and gives its queries times and client ids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from sklearn.datasets import load_sample_image

from detector.events import F32, F64, I64
from replay.simulate import pace
from replay.simulate.attacks.protocol import Attack, Family, Knowledge
from replay.simulate.data import Bools, Dataset, Part, load
from replay.simulate.evasion import Disguise, Evasion, disguises, put_on
from replay.simulate.judge import Verdict, judge
from replay.simulate.records import Source
from replay.simulate.victims import Answer, Victim

_SUBJECTS: dict[Family, int] = {"membership_inference": 200, "attribute_inference": 120, "adversarial_search": 8}


class Transcript(NamedTuple):
    """What went over the wire: n queries of one attack in order, and how the attack ended."""

    x: F32  # [n, d]
    answer: Answer  # [n]
    own: Bools  # [n] the attack's own queries; the others are dummies
    step: I64  # [n] the same number for queries that were sent without waiting
    verdict: Verdict


class BudgetError(ValueError):
    """The attack cannot do anything with so few queries."""


def attack(
    plan: Attack, victim: Victim, source: Source, evasion: Evasion, budget: int, rng: Generator, snap: bool = False
) -> Transcript:
    """Run an attack to its end or for `budget` own queries. `snap` rounds queries to the grid of the data."""
    know, member = knowledge(plan.family, victim, source, rng)
    hidden = Evasion(grid=True) if snap else Evasion()
    worn = disguises(evasion, victim.data, source, rng) + disguises(hidden, victim.data, source, rng)
    return _run(plan, victim, know, member, worn, budget, rng)


def _run(
    plan: Attack, victim: Victim, know: Knowledge, member: Bools, worn: list[Disguise], budget: int, rng: Generator
) -> Transcript:
    rows, answers, own = [], [], []
    spent, game = 0, plan.run(rng, know, budget)
    try:
        x = next(game)
        while True:
            sent, mine = put_on(worn, np.atleast_2d(x))
            answer = victim.serve(sent, rng)
            spent += len(x)
            if spent > budget:
                raise RuntimeError(f"attack {plan.name} sent {spent} queries, its budget was {budget}")
            rows.append(sent)
            answers.append(answer)
            flags = np.zeros(len(sent), bool)
            flags[mine] = True
            own.append(flags)
            x = game.send(answer.take(mine))
    except StopIteration as end:
        verdict = judge(end.value, victim, know, member)
    if not rows:
        raise BudgetError(
            f"attack {plan.name} cannot start with a budget of {budget} queries; it usually has {plan.budget}"
        )
    step = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return Transcript(np.concatenate(rows), joined(answers), np.concatenate(own), step, verdict)


def joined(answers: list[Answer]) -> Answer:
    """Return the answers to all queries, one after the other."""
    first = answers[0]
    confidence = None if first.confidence is None else np.concatenate([_given(a.confidence) for a in answers])
    scores = None if first.scores is None else np.concatenate([_given(a.scores) for a in answers])
    return Answer(np.concatenate([a.label for a in answers]), confidence, scores, first.classes)


def _given(part: F64 | None) -> F64:
    if part is None:
        raise ValueError("answers of different interfaces cannot be joined")
    return part


def knowledge(family: Family, victim: Victim, source: Source, rng: Generator) -> tuple[Knowledge, Bools]:
    """Return what an attacker knows, and which of its subjects were training records (which it does not know)."""
    data = victim.data
    subjects, member = _subjects(family, data, source, rng)
    known = Knowledge(
        low=data.low,
        high=data.high,
        step=data.step,
        category=data.category,
        shape=data.shape,
        classes=data.classes,
        interface=victim.interface,
        public=data.public,
        other=foreign(data, rng) if family == "extraction" else None,
        subjects=subjects,
        sensitive=data.sensitive,
        sensitive_values=None if data.sensitive is None else data.values(data.sensitive),
        targets=rng.permutation(data.classes),
    )
    return known, member


def _subjects(family: Family, data: Dataset, source: Source, rng: Generator) -> tuple[Part, Bools]:
    n = _SUBJECTS.get(family, 0)
    if family == "membership_inference":  # half members, half held-out records of this half of the evaluation
        k = min(n // 2, len(data.members.y), len(source.originals.y))
        inside = data.members.take(rng.choice(len(data.members.y), k, replace=False))
        outside = source.originals.take(rng.choice(len(source.originals.y), k, replace=False))
        order = rng.permutation(2 * k)
        both = Part(np.concatenate([inside.x, outside.x]), np.concatenate([inside.y, outside.y]))
        return both.take(order), order < k
    pool = data.members if family == "attribute_inference" else source.originals
    k = min(n, len(pool.y))
    return pool.take(rng.choice(len(pool.y), k, replace=False)), np.full(k, family == "attribute_inference")


def foreign(data: Dataset, rng: Generator) -> F64:
    """Return records of another population in this input space: other tables by ranks, or patches of photographs."""
    if data.shape is not None:
        return _patches(data, rng)
    other = load("segments" if data.name != "segments" else "breast", 0).public.x.astype(np.float64)
    columns = other[:, rng.integers(0, other.shape[1], data.width)]
    ranks = columns.argsort(0).argsort(0) / (len(other) - 1)
    return data.low + ranks * (data.high - data.low)


def _patches(data: Dataset, rng: Generator, n: int = 1000) -> F64:
    """Return grey patches of the two photographs that scikit-learn ships, at the size of the images."""
    height, width = data.shape or (1, 1)
    zoom, out = 2, np.empty((n, data.width))
    photos = [load_sample_image(name).mean(2) / 255 for name in ("china.jpg", "flower.jpg")]
    for i in range(n):
        photo = photos[int(rng.integers(2))]
        top = int(rng.integers(0, photo.shape[0] - zoom * height))
        left = int(rng.integers(0, photo.shape[1] - zoom * width))
        patch = photo[top : top + zoom * height, left : left + zoom * width]
        out[i] = patch.reshape(height, zoom, width, zoom).mean((1, 3)).ravel()
    return np.asarray(data.low.min() + out * (data.high.max() - data.low.min()))


def times(transcript: Transcript, evasion: Evasion, batch: int, rng: Generator, begin: float, end: float) -> F64:
    """Return [n] seconds at which the queries arrive."""
    n, step = len(transcript.own), transcript.step
    gap_s = float(np.exp(rng.uniform(np.log(0.02), np.log(0.4))))
    if evasion.pace == "slow":  # minutes to hours between queries: the whole time at hand
        return begin + (end - begin) * np.sort(rng.random(n))
    if evasion.pace == "jittered":
        gaps = rng.lognormal(np.log(3 * gap_s), 1.3, n)
    else:
        gaps = rng.gamma(3, gap_s / 3, n)
        if batch > 1:  # inside a batch the API's own latency, between batches the attacker's computing
            gaps = np.where(np.diff(step, prepend=-1) > 0, gaps + gap_s * batch * 0.1, gaps * 0.1)
    return pace.fit_between(begin + np.cumsum(gaps), begin, end)


def identities(evasion: Evasion, n: int, rng: Generator) -> I64:
    """Return [n] which of the attacker's ids sends each query: at random, in turn, or in blocks."""
    if evasion.ids == 1:
        return np.zeros(n, np.int64)
    style = rng.integers(3)
    if style == 0:
        return rng.integers(0, evasion.ids, n)
    turn = np.arange(n) if style == 1 else np.arange(n) // 5
    return turn % evasion.ids
