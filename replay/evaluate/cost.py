"""What each part costs: µs an event, from one replay under the standard profiler, and bytes a followed client.

The profiler counts calls of Python functions, a few hundred a batch; compiled kernels count for whoever calls them. A
part is a module that the frame calls (pipeline.py, and tracks.py for detectors); what the frame spends itself is `the
pipeline itself`. Detectors that run once more for groups of clients count as detectors. Reading and decoding are timed
without the profiler, which would slow them: they call functions for single events. The baseline works at the end of
each epoch, model by model, whatever the number of events: it weighs on thin traffic, and not on a busy service.
"""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import detector
from detector import pipeline as pipeline_module
from detector import tracks as tracks_module
from detector.pipeline import Pipeline
from detector.rules import Ruleset
from detector.settings import Settings
from detector.stores import Written
from detector.wiring import build_pipeline
from replay.evaluate.score import Json
from replay.evaluate.stream import Progress, Stream
from replay.run import replay

ITSELF = "the pipeline itself"
DECODING = "reading and decoding"
_ROOT = Path(detector.__file__).parent
_FRAME = {str(module.__file__) for module in (pipeline_module, tracks_module)}
_LOOP = "service"  # calls the pipeline
_STATS = tuple[
    int, int, float, float, dict[Any, tuple[int, int, float, float]]
]  # calls, calls, own, cumulative, by whom


class Spent(NamedTuple):
    """What one replay cost."""

    events: int
    seconds: dict[str, float]  # by part
    bytes_a_client: dict[str, float]  # by owner of state


def measure(
    files: Sequence[Path], stream: Stream, settings: Settings, ruleset: Ruleset, progress: Progress | None = None
) -> Spent:
    """Replay captures once more; machine code must be there already, or its making is counted too."""
    pipeline = build_pipeline(settings, ruleset)
    profile = cProfile.Profile(process_time, builtins=False)
    profile.enable()
    try:
        replay([str(file) for file in files], pipeline, _Nowhere(), settings, progress=progress)
    finally:
        profile.disable()
    seconds = {DECODING: stream.read_s} | by_part(pstats.Stats(profile).stats)  # type: ignore[attr-defined]
    return Spent(len(stream.pair), seconds, state_bytes(pipeline))


def by_part(calls: dict[tuple[str, int, str], _STATS]) -> dict[str, float]:
    """Return the seconds of every module that the frame calls, and of the frame itself."""
    spent: dict[str, float] = {}
    total = 0.0
    for (file, _, _), (_, _, _, _, callers) in calls.items():
        for (by, _, _), (_, _, _, cumulative) in callers.items():
            if file not in _FRAME and by in _FRAME and _is_ours(file):
                spent[_part(file)] = spent.get(_part(file), 0.0) + cumulative
            elif file in _FRAME and by not in _FRAME and _is_ours(by) and _part(by) != _LOOP:
                spent[_part(by)] = spent.get(_part(by), 0.0) - cumulative  # counts for the parts that it enters
            elif file in _FRAME and by not in _FRAME:
                total += cumulative
    dear = sorted(((part, s) for part, s in spent.items() if s > 0), key=lambda part: -part[1])
    return dict(dear) | {ITSELF: max(total - sum(spent.values()), 0.0)}


def state_bytes(pipeline: Pipeline) -> dict[str, float]:
    """Return the bytes of state of one followed client, by the part that keeps it."""
    return {
        owner: sum(array.nbytes for array in state) / pipeline.clients.capacity
        for owner, state in pipeline.clients.states.items()
    }


def cost(spent: Sequence[Spent]) -> Json:
    """Return µs an event and bytes a client by part, over several replays."""
    events = sum(one.events for one in spent)
    seconds = {part: sum(one.seconds.get(part, 0.0) for one in spent) for one in spent for part in one.seconds}
    kept = spent[0].bytes_a_client
    parts = [*seconds, *(owner for owner in kept if owner not in seconds)]
    return {
        part: {"us_an_event": 1e6 * seconds.get(part, 0.0) / events, "bytes_a_client": kept.get(part, 0.0)}
        for part in parts
    }


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(_ROOT)


def _part(file: str) -> str:
    """Name a module by its last word; the protocol of detectors (starved events) is a part of the whole."""
    path = Path(file)
    return path.parent.name if path.stem == "__init__" else path.stem


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, documents: Sequence[Any]) -> Written:
        return Written(stored=len(documents))
