"""The published detectors over a capture: one pass for all of them, the time of each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np

from detector.settings import Settings
from replay.anchors import catalogue
from replay.evaluate.stream import Progress, Stream, batches, pairs_in
from replay.evaluate.watch import Found, in_episodes


def run_anchors(
    files: Sequence[Path], stream: Stream, settings: Settings, progress: Progress | None = None
) -> dict[str, Found]:
    """Return what each anchor found; its seconds include reading and decoding, as those of the pipeline do."""
    entries = catalogue()
    running = {entry.name: entry.build(len(stream.number), stream.ranges) for entry in entries}
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
    found = {}
    for name, anchor in running.items():
        began = process_time()
        alarms = in_episodes(anchor.alarms(benign), stream)
        found[name] = Found(alarms, seconds[name] + process_time() - began)
    return found
