"""The published detectors over a capture: one pass for all, the time of each by itself, kept for the next run."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np

import replay.anchors
from detector.settings import Settings
from replay.anchors import Judged, catalogue
from replay.evaluate.stream import Progress, Stream, batches, pairs_in
from replay.evaluate.watch import Found, Peaks, in_episodes

_BLOCK = 1 << 20


class _Timed(NamedTuple):
    judged: Judged
    seconds: float  # reading and decoding included, as for the pipeline


def run_anchors(
    files: Sequence[Path],
    stream: Stream,
    settings: Settings,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> dict[str, Found]:
    """Return what each anchor found; with `cache` it is looked for in that folder first, and kept there."""
    kept = None if cache is None else cache / f"anchors-{_digest(files, stream)}.npz"
    told = _read(kept) if kept is not None else None
    if told is None:
        told = _run(files, stream, settings, progress)
        if kept is not None:
            _write(kept, told)
    return {
        name: Found(in_episodes(judged.alarms, stream), seconds, Peaks.of(stream, judged.row, judged.suspicion))
        for name, (judged, seconds) in told.items()
    }


def _run(files: Sequence[Path], stream: Stream, settings: Settings, progress: Progress | None) -> dict[str, _Timed]:
    running = {entry.name: entry.build(len(stream.number), stream.ranges) for entry in catalogue()}
    seconds = dict.fromkeys(running, stream.read_s)
    number, keys, seen = dict(stream.number), dict[int, int](), 0
    for batch, _ in batches(files, settings, progress):
        if not len(batch):
            continue
        pair, row = pairs_in(batch, number, keys), np.arange(seen, seen + len(batch))
        seen += len(batch)
        for name, anchor in running.items():
            began = process_time()
            anchor.observe(batch, pair, row)
            seconds[name] += process_time() - began
    benign = np.array(
        [c is not None and not c.hostile and not c.hard and c.half == "calibration" for c in stream.truth]
    )
    told = {}
    for name, anchor in running.items():
        began = process_time()
        judged = anchor.judged(benign)
        told[name] = _Timed(judged, seconds[name] + process_time() - began)
    return told


def _digest(files: Sequence[Path], stream: Stream) -> str:
    """Name everything that the anchors' results depend on: the captures, the truth, the anchors themselves."""
    digest = hashlib.blake2b(digest_size=12)
    for path in [*files, *sorted(Path(replay.anchors.__file__).parent.glob("*.py"))]:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    digest.update(repr([None if c is None else (c.hostile, c.hard, c.half) for c in stream.truth]).encode())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, _Timed] | None:
    """Return what was kept; None where nothing was, or nothing that can be read."""
    try:
        with np.load(path) as kept:
            return {
                entry.name: _Timed(
                    Judged(kept[f"{entry.name}.row"], kept[f"{entry.name}.suspicion"]),
                    float(kept[f"{entry.name}.seconds"]),
                )
                for entry in catalogue()
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(path: Path, told: Mapping[str, _Timed]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {}
    for name, (judged, seconds) in told.items():
        columns |= {f"{name}.row": judged.row, f"{name}.suspicion": judged.suspicion, f"{name}.seconds": seconds}
    part = path.with_name(f"{path.name}.part.npz")
    np.savez_compressed(part, **columns)
    part.replace(path)
