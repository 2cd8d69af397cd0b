"""The slow truth of how far a client got: lists of everything that it did, counted anew."""

from __future__ import annotations

import math
from collections import Counter

from detector.detectors import View, reach
from detector.history import TIGHT


class ReachTwin:
    """One client; see the docstring of the detector."""

    def __init__(self) -> None:
        self.joined: Counter[int] = Counter()  # near copies of each record, none asked long after it
        self.long_runs: list[int] = []  # inputs
        self.equations = 0.0
        self.last: tuple[int, int] | None = None  # thread and answer of the newest fresh query
        self.flips: list[float] = []  # lengths of steps that changed the answer

    def observe(self, view: View, i: int) -> dict[str, float]:
        digest, m = int(view.batch.input_digest[i]), view.reference[i]
        if not digest:
            return {}
        if view.run[i] == reach.LONG_RUN and self.long_runs[-1:] != [digest]:
            self.long_runs.append(digest)
        if view.fresh[i]:
            self._fresh(view, i)
        probed = sum(copies >= reach.COPIES for copies in self.joined.values())
        unknowns = (view.scales.width[m] + 1) * (view.scales.classes[m] - 1)
        return {
            "reach.records": probed + len(self.long_runs),
            "reach.copy": self.equations / unknowns,
            "reach.bracket": min(self.flips, default=math.nan),
        }

    def _fresh(self, view: View, i: int) -> None:
        record, number = int(view.record[i]), int(view.number[i])
        if 0 < number - record < TIGHT:
            self.joined[record] += 1
        classes = int(view.scales.classes[view.reference[i]])
        worth = {0: 0.0, 1: math.log2(classes) / 10, 2: 1.0, 3: classes - 1}
        if math.isnan(view.joined[i]) or view.joined[i] >= reach.NEAR:
            self.equations += worth[int(view.batch.output_level[i])]
        here = int(view.founder[i]), int(view.batch.label_key[i])
        same = self.last is not None and self.last[0] == here[0]
        if self.last is not None and same and -1 not in (here[1], self.last[1]) and here[1] != self.last[1]:
            self.flips += [float(view.step[i])] if view.step[i] > 0 else []
        self.last = here
