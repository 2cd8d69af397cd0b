"""What all adversarial searches share: one genuine record after another is moved until its label changes.

An attack on one record is a generator that yields inputs, is sent answers, and returns the moved record with the
number of queries it took. Siblings: hop_skip_jump, boundary_attack, nes_adversarial, simba, square, zoo.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64
from replay.simulate.attacks.protocol import Knowledge, Moved, Run
from replay.simulate.victims import Answer


class Victory(NamedTuple):
    """The best adversarial input found for one record, and the queries it took."""

    end: F64  # [d]
    sent: int


LEAST = 30  # queries that are worth starting on another record with
OneRecord = Callable[[Random, Knowledge, F64, int, int], Generator[F64, Answer, Victory]]


def search(one: OneRecord, per_record: int) -> Callable[[Random, Knowledge, int], Run]:
    """Return the attack that moves one genuine record after another, `per_record` queries at most for each."""

    def run(rng: Random, know: Knowledge, budget: int) -> Run:
        start, end, sent, turn = [], [], 0, 0
        while budget - sent >= LEAST:
            x = know.subjects.x[turn % len(know.subjects.y)].astype(np.float64)
            turn += 1
            label = int((yield x[None]).label[0])
            found = yield from one(rng, know, x, label, min(per_record, budget - sent - 1))
            sent += 1 + found.sent
            start.append(x)
            end.append(found.end)
        return Moved(np.array(start), np.array(end))

    return run


def margin(answer: Answer, label: int) -> F64:
    """Return [n] how far the answer is from leaving the label, as log-odds; lower is better for the attacker."""
    return answer.log_odds(label)
