"""Records -> an index. How near is near is measured on the records themselves.

1. Centre and spread of each feature, rounded to powers of two, from at most 65,536 records spread over the file.
2. Exact digests and whole numbers of all records.
3. Cells as wide as they can be while at most 0.5 % of the distinct records have another one within reach: about what
   records of the same kind hit that were never trained on, or less (few records make a rough estimate).
4. Noise is added to some records, to tell how much of it the cells forgive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.events import F32, I8, I16, I32, U64
from detector.training.fingerprints import PRINTS, Frame, Key, cells, exact, fingerprints, near
from detector.training.index import CONSTANT, Header, TrainingIndex, check_of, frame_of
from detector.training.records import Progress, Records, RecordsError

LEAST = 16  # distinct records
SAMPLE = 65_536
TRIED = 2048  # records whose neighbourhood is measured
NOISY = 512  # records of which noisy copies are made
CROWDED = 0.005
WIDEST, NARROWEST = 12, 1  # bits of a cell: four spreads, 1/512 of one
FOUND = 0.95
NOISES = np.exp2(np.arange(1.0, -12.5, -0.5))  # in spreads


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first reading gives."""

    records: int
    sample: F32  # [≤ SAMPLE, d] rows at equal distances
    exponents: I8  # [d]
    centers: I32  # [d]


def build(
    records: Records,
    key: Key,
    model: str,
    version: str = "",
    made_at: str = "",
    progress: Callable[[str], Progress] | None = None,
) -> TrainingIndex:
    """Return the index of the records in a file; RecordsError where they cannot be read or are too few.

    `progress` is called with the name of each reading and returns what is told how far it got.
    """
    found = survey(records, progress("read") if progress else None)
    frame = frame_of(key, found.exponents, found.centers)
    digests, sketches = _digested(records, found.records, frame, key, progress("index") if progress else None)
    digests, first, times = np.unique(digests, return_index=True, return_counts=True)
    if len(digests) < LEAST:
        raise RecordsError(f"{records.path}: {len(digests)} distinct records; at least {LEAST} are needed")
    bits, crowding, prints = _widest(sketches[first], key)
    header = Header(
        model=model,
        version=version,
        width=frame.width,
        records=found.records,
        distinct=len(digests),
        bits=bits,
        reach=_reach(found, frame, key, bits),
        crowding=crowding,
        chance=float(1.0 - (1.0 - times[times > 1].sum() / found.records) * (1.0 - crowding)),
        digests=len(everything := np.unique(np.append(digests, prints))),
        key_check=check_of(key),
        made_at=made_at,
    )
    nothing = np.empty(0, np.uint64), np.empty(0, np.int32)
    return TrainingIndex(header, found.exponents, found.centers, everything, *nothing, key)


def survey(records: Records, progress: Progress | None = None) -> Survey:
    """Count the records and measure centre and spread of their features."""
    kept: list[F32] = []
    count, step = 0, 1
    for x in records.chunks(progress):
        kept.append(x[-count % step :: step].copy())
        count += len(x)
        while count // step >= 2 * SAMPLE:
            kept, step = [np.concatenate(kept)[::2]], 2 * step
    sample = np.concatenate(kept)
    low, center, high = np.quantile(sample.astype(np.float64), [0.25, 0.5, 0.75], axis=0)
    spread = np.maximum((high - low) / 1.349, sample.std(axis=0, dtype=np.float64))
    with np.errstate(divide="ignore"):
        exponents = np.rint(np.log2(spread))
    at = np.rint(center / np.exp2(np.maximum(exponents, -127)))
    constant = (np.abs(exponents) > 126) | (np.abs(at) >= 1 << 31)  # of the latter float32 holds no difference
    exponents[constant], at[constant] = CONSTANT, 0
    return Survey(count, sample, exponents.astype(np.int8), at.astype(np.int32))


def _digested(records: Records, count: int, frame: Frame, key: Key, progress: Progress | None) -> tuple[U64, I16]:
    """Return exact digests [n] and whole numbers [n, 32] of all records."""
    digests = np.empty(count, np.uint64)
    sketches = np.empty((count, frame.signs.shape[1]), np.int16)
    siphash = cells(key, WIDEST).key
    done = 0
    for x in records.chunks(progress):
        n, offsets = len(x), np.arange(len(x) + 1) * frame.width
        out = np.empty((n, PRINTS), np.uint64)
        exact(x.ravel(), offsets, np.arange(n), siphash, out)
        digests[done : done + n] = out[:, 0]
        sketches[done : done + n] = frame.sketch(x.ravel(), offsets, np.arange(n))
        done += n
    return digests, sketches


def _widest(sketches: I16, key: Key) -> tuple[int, float, U64]:
    """Return the widest cells (bits) that keep records apart, the share that they do not, and the cells' digests."""
    tried = np.unique(np.linspace(0, len(sketches) - 1, TRIED).astype(np.int64))
    for bits in range(WIDEST, NARROWEST - 1, -1):
        prints = _near(sketches, key, bits)
        crowded = np.zeros(len(tried), np.bool_)
        for column in prints.T:
            order, mine = np.sort(column), column[tried]
            crowded |= np.searchsorted(order, mine, "right") - np.searchsorted(order, mine) > 1
        if crowded.mean() <= CROWDED:
            break
    return bits, float(crowded.mean()), prints


def _near(sketches: I16, key: Key, bits: int) -> U64:
    grid = cells(key, bits)
    out = np.empty((len(sketches), PRINTS), np.uint64)
    near(sketches, grid.key, grid.shifts, grid.bits, out)
    return out[:, 1:]


def _reach(found: Survey, frame: Frame, key: Key, bits: int) -> float:
    """Return the most Gaussian noise, in spreads of each feature, with which 95 % of copies share a cell; 0 if none."""
    grid = cells(key, bits)
    digests = np.empty((len(found.sample), PRINTS), np.uint64)
    every = np.arange(len(found.sample) + 1) * frame.width
    exact(found.sample.ravel(), every, np.arange(len(found.sample)), grid.key, digests)
    x = found.sample[np.argsort(digests[:, 0])[:NOISY]]  # the same ones whatever the order of the file
    offsets, rows = every[: len(x) + 1], np.arange(len(x))
    spread = np.where(found.exponents == CONSTANT, 0.0, np.exp2(found.exponents.astype(np.float64)))
    own = fingerprints(frame, grid, x.ravel(), offsets, rows)[:, 1:]
    noise = np.random.default_rng(0).normal(size=x.shape) * spread
    for level in NOISES.tolist():
        copies = (x + level * noise).astype(np.float32)
        if (fingerprints(frame, grid, copies.ravel(), offsets, rows)[:, 1:] == own).any(axis=1).mean() >= FOUND:
            return float(level)
    return 0.0
