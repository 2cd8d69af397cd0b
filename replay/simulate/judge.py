"""Did the attack succeed? Judged with what only the owner of the victim knows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detector.events import F64
from replay.simulate.attacks.protocol import Cloned, Guessed, Inverted, Knowledge, Moved, Outcome, Suspected
from replay.simulate.attacks.search import STOP
from replay.simulate.data import Bools
from replay.simulate.victims import Victim

# the true confidence that counts as inverted: what the attacker was told may be rounded, noisy, or a mere label
INVERTED = {"scores": STOP, "top1": STOP, "rounded": STOP - 0.01, "noisy": STOP - 0.1, "label": 0.5}
GAIN = 0.05  # membership and attributes: so much better than guessing, and two standard errors
FIDELITY_GAIN = 0.5  # extraction: at least half of the way from guessing the commonest label to perfect agreement
FLIP_SHARE = 0.5


class Verdict(NamedTuple):
    """The success measure of an attack, the level that counts as success, and more numbers."""

    measure: str
    value: float
    level: float
    detail: dict[str, float]

    @property
    def succeeded(self) -> bool:
        """Return whether the level was reached."""
        return bool(self.value >= self.level)


def judge(outcome: Outcome, victim: Victim, know: Knowledge, member: Bools) -> Verdict:
    """Measure an outcome; `member` [n] tells which subjects were training records."""
    match outcome:
        case Inverted():
            return _inverted(outcome, victim)
        case Suspected():
            return _suspected(outcome, member)
        case Guessed():
            return _guessed(outcome, know)
        case Cloned():
            return _cloned(outcome, victim)
        case Moved():
            return _moved(outcome, victim, know)


def auc(positive: F64, negative: F64) -> float:
    """Return the chance that a positive scores above a negative, ties counted half."""
    if not len(positive) or not len(negative):
        return 0.5
    return float((np.sign(positive[:, None] - negative[None, :]).mean() + 1) / 2)


def _inverted(outcome: Inverted, victim: Victim) -> Verdict:
    level = INVERTED[victim.interface]
    if not len(outcome.targets):
        return Verdict("target confidence", 0.0, level, {"classes": 0.0})
    scores = victim.scores(outcome.x.astype(np.float32))[np.arange(len(outcome.targets)), outcome.targets]
    members, span = victim.data.members, np.maximum(victim.data.high - victim.data.low, 1e-9)
    spread = np.maximum(members.x.std(0), 0.05 * span)  # pixels at the rim hardly vary at all
    mean = np.array([members.x[members.y == target].mean(0) for target in outcome.targets])
    gap = np.sqrt((((outcome.x - mean) / spread) ** 2).mean(1))
    detail = {
        "classes": float(len(scores)),
        "classes_reached": float((scores >= level).sum()),
        "distance_to_class_mean_sd": round(float(gap.min()), 4),
    }
    return Verdict("target confidence", round(float(scores.max()), 4), level, detail)


def _suspected(outcome: Suspected, member: Bools) -> Verdict:
    tested = np.isfinite(outcome.belief)
    inside, outside = int((tested & member).sum()), int((tested & ~member).sum())
    value = auc(outcome.belief[tested & member], outcome.belief[tested & ~member])
    error = float(np.sqrt((inside + outside + 1) / (12 * inside * outside))) if inside and outside else 0.25
    return Verdict("AUC", round(value, 4), round(0.5 + max(GAIN, 2 * error), 4), {"records": float(tested.sum())})


def _guessed(outcome: Guessed, know: Knowledge) -> Verdict:
    tested = np.isfinite(outcome.value)
    truth = know.subjects.x[:, know.sensitive or 0]
    right = float(np.isclose(truth[tested], outcome.value[tested], atol=1e-4).mean()) if tested.any() else 0.0
    common = float(np.unique(truth, return_counts=True)[1].max() / len(truth))
    error = float(np.sqrt(common * (1 - common) / max(1, tested.sum())))
    level = round(common + max(GAIN, 2 * error), 4)
    return Verdict("accuracy", round(right, 4), level, {"records": float(tested.sum()), "prior": round(common, 4)})


def _cloned(outcome: Cloned, victim: Victim) -> Verdict:
    x = victim.data.held_out.x
    truth = victim.scores(x).argmax(1)
    agree = float((outcome.predict(x.astype(np.float64)) == truth).mean())
    common = float(np.bincount(truth).max() / len(truth))
    level = common + FIDELITY_GAIN * (1 - common)
    return Verdict("fidelity", round(agree, 4), round(level, 4), {"guessing": round(common, 4)})


def _moved(outcome: Moved, victim: Victim, know: Knowledge) -> Verdict:
    """Count a flip only if the change is smaller than the way to the nearest public record of another class."""
    if not len(outcome.start):
        return Verdict("share flipped", 0.0, FLIP_SHARE, {"records": 0.0})
    before = victim.scores(outcome.start.astype(np.float32)).argmax(1)
    after = victim.scores(outcome.end.astype(np.float32)).argmax(1)
    size = np.sqrt((((outcome.end - outcome.start) / know.span) ** 2).mean(1))
    nearest = [_nearest_other(know, x, int(label)) for x, label in zip(outcome.start, before, strict=True)]
    flipped = (after != before) & (size < np.array(nearest))
    detail = {"records": float(len(before)), "median_change": round(float(np.median(size)), 4)}
    return Verdict("share flipped", round(float(flipped.mean()), 4), FLIP_SHARE, detail)


def _nearest_other(know: Knowledge, x: F64, label: int) -> float:
    others = know.public.x[know.public.y != label]
    return float(np.sqrt((((others - x) / know.span) ** 2).mean(1).min()))
