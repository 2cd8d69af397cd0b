"""Extraction by solving equations: the log-odds of a logistic regression are linear, so d + 1 answers give it away.

Tramèr et al., Stealing Machine Learning Models via Prediction APIs (USENIX Security 2016), arXiv:1609.02943, section
4.1. A few spare queries make up for rounding; the rest of the budget checks the solution on random inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator as Random

from detector.events import F64, I64
from replay.simulate.attacks.protocol import Attack, Cloned, Knowledge, Run


def extraction_equations(rng: Random, know: Knowledge, budget: int) -> Run:
    """Ask around the public mean, where no score saturates, and solve for all weights."""
    need = min(budget, 3 * (know.width + 1))
    centre, spread = know.public.x.mean(0, dtype=np.float64), np.maximum(know.public.x.std(0), 0.01 * know.span)
    unit = 0.6 * rng.standard_normal((need, know.width))
    log_p = []
    for row in unit:
        answer = yield know.clip(centre + row * spread)[None]
        scores = (
            answer.scores if answer.scores is not None else np.stack([answer.score(k) for k in range(know.classes)], 1)
        )
        log_p.append(np.log(np.clip(scores[0], 1e-6, 1)))
    sent_x = know.clip(centre + unit * spread)
    design = np.hstack([(sent_x - centre) / spread, np.ones((need, 1))])
    logits = np.array(log_p)
    weights = np.linalg.lstsq(design, logits - logits.mean(1, keepdims=True), rcond=None)[0]

    def predict(x: F64) -> I64:
        return np.asarray((np.hstack([(x - centre) / spread, np.ones((len(x), 1))]) @ weights).argmax(1), np.int64)

    for _ in range(min(budget - need, 40)):
        yield know.clip(centre + rng.standard_normal(know.width) * spread)[None]
    return Cloned(predict)


ATTACK = Attack("extraction_equations", "extraction", extraction_equations, 300, ("scores",), kinds=("logistic",))
