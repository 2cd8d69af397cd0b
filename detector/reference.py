"""What is measured of a model's benign rows: how far apart they are, how alike, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.blocks import BLOCKS, coarseness
from detector.candidates import ROWS, Flags
from detector.closeness import POINTS, closeness
from detector.detectors import References
from detector.events import F64, I16, I64, U8, U64
from detector.genuine import dependence_of, nothing_known, values_of
from detector.kernel import kernel
from detector.sketch import DIMENSIONS
from detector.training.index import usual_share

MINUTE_PRIOR = (np.log1p(10.0), 1.5)  # until clients have been seen: ten queries a minute, two thirds within 2 and 50


def references(models: int) -> References:
    """Return references that know nothing yet."""
    return References(
        r0=np.ones(models),
        q95=np.ones(models),
        q50=np.ones(models),
        q20=np.ones(models),
        q05=np.ones(models),
        classes=np.full(models, 2, np.int64),
        probability=np.ones(models, np.uint8),
        radius=np.ones(models),
        near_rate=np.zeros(models),
        rows=np.zeros((models, DIMENSIONS, ROWS), np.int16),
        blocks=np.zeros((models, ROWS, BLOCKS), np.uint8),
        owners=np.zeros((models, ROWS), np.uint64),
        trained=np.zeros((models, ROWS), np.uint8),
        trained_chance=np.zeros(models),
        trained_rate=np.zeros(models),
        row_count=np.zeros(models, np.int64),
        mean=np.zeros((models, DIMENSIONS)),
        width=np.zeros(models, np.int64),
        alike=np.zeros(models, np.int64),
        recent=np.zeros(models, np.int64),
        alike_rate=np.zeros(models),
        twins=np.zeros(models, np.int64),
        twin_rate=np.zeros(models),
        twin_repeat=np.zeros(models),
        same=np.zeros((models, BLOCKS)),
        minute_mean=np.full(models, MINUTE_PRIOR[0]),
        minute_sd=np.full(models, MINUTE_PRIOR[1]),
        closeness=np.zeros((models, POINTS), np.float32),
        **nothing_known(models),
    )


def describe(s: References, m: int, rows: I16, blocks: U8, owners: U64, trained: Flags, trim: float = 0.0) -> I64:
    """Write scales and rates of model m, from rows [n, 32], blocks [n, 64], `owners` [n] and which were `trained` on.

    The share `trim` of the rows that are farthest from every other client's are left out first: a client alone with
    its kind of inputs does not shape what counts as benign. Only the first rows are trimmed: at each epoch it would
    narrow the reference hour by hour. Returns which rows were kept.
    """
    kept = np.arange(len(rows))
    gaps = _gaps(rows)
    strangers = np.where(owners[:, None] == owners[None, :], np.inf, gaps).min(axis=1)
    if np.isfinite(strangers).all():
        kept = np.flatnonzero(strangers <= np.quantile(strangers, 1.0 - trim))
        rows, blocks, owners, trained = rows[kept], blocks[kept], owners[kept], trained[kept]
        gaps, strangers = gaps[np.ix_(kept, kept)], strangers[kept]
    else:  # one client alone: its own rows have to do
        strangers = gaps.min(axis=1)
    n = len(rows)
    s.rows[m, :, :n] = rows.T
    s.blocks[m, :n] = blocks
    s.owners[m, :n] = owners
    s.trained[m, :n] = trained
    s.trained_rate[m] = usual_share(owners, trained, s.trained_chance[m])
    s.row_count[m] = n
    s.mean[m] = rows.mean(axis=0)
    some = gaps[:64, :64].min(axis=1)
    s.r0[m] = max(float(np.median(some)), 1.0) if n > 1 else 1.0
    quantiles = np.quantile(strangers, (0.95, 0.5, 0.2, 0.05)) if n > 1 else (1.0,) * 4
    s.q95[m], s.q50[m], s.q20[m], s.q05[m] = np.maximum(quantiles, 1.0)
    s.radius[m] = float(np.median(np.sqrt(((rows - s.mean[m]) ** 2).sum(axis=1))))
    s.near_rate[m] = float((gaps[:128, :128].min(axis=1) < 0.3 * s.r0[m]).mean())
    s.closeness[m] = closeness(gaps, owners)
    put(s, m, coarseness(blocks, owners, int(s.width[m]))._asdict())
    put(s, m, dependence_of(rows)._asdict())
    if s.feature[m, 0] < 0:
        put(s, m, values_of(rows, min(int(s.width[m]), DIMENSIONS))._asdict())
    return kept


def put(s: References, m: int, found: Mapping[str, Any]) -> None:
    """Write columns of model m by their names."""
    for name, value in found.items():
        getattr(s, name)[m] = value


@kernel
def _gaps(rows: I16) -> F64:
    """Return the distances between all rows; a row is infinitely far from itself."""
    n = len(rows)
    x = np.ascontiguousarray(rows.astype(np.float64).T)  # sums of whole numbers below 2^53 are exact in any order
    out = np.zeros((n, n))
    for i in range(n):
        for k in range(DIMENSIONS):
            here = x[k, i]
            for j in range(n):
                out[i, j] += (x[k, j] - here) ** 2
        for j in range(n):
            out[i, j] = np.sqrt(out[i, j])
        out[i, i] = np.inf
    return out
