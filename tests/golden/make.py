"""Makes the golden capture and its alerts: `python -m tests.golden.make` after a change of detection that is meant.

Look at the difference before committing it: it is what analysts will see change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from detector.alerts import Document, Engine, document
from detector.events import ModelRef, OutputLevel, Records
from detector.formats import native
from detector.pipeline import Pipeline
from detector.rules import catalogue, default_folder, load_rules
from detector.settings import LimitSettings
from tests import streams

HERE = Path(__file__).parent
CAPTURE, ALERTS = HERE / "capture.jsonl", HERE / "alerts.jsonl"
LIMITS = LimitSettings(clients=64, models=4, admit_after=1)
SECRET = b"golden"
ATTACKS: tuple[streams.Habit, ...] = (
    streams.climb,
    streams.noise_copies,
    streams.sweep,
    streams.novel,
    streams.bisection,
)


def capture() -> list[bytes]:
    """Return 696 events as lines: ordinary clients, five attacks, two that look like one, one with labels only."""
    rng = np.random.default_rng(2026)
    model = streams.Model(rng.normal(size=(8, 3)) * 0.3)
    ref = ModelRef("credit", "3")
    parts = [
        _client(rng, model, f"app-{k}", streams.ordinary, 10, streams.Query("", None, None, ref)) for k in range(12)
    ]
    hostile = (*ATTACKS, streams.slider, streams.retries)
    parts += [_client(rng, model, h.__name__, h, 72, streams.Query("", None, None, ref), 40) for h in hostile]
    bare = streams.Query("", None, None, ref, answer=OutputLevel.LABEL)
    parts.append(_client(rng, model, "climb-label-only", streams.climb, 72, bare, 40))
    made = sorted((query for part in parts for query in part), key=lambda query: query.time_us)
    events = streams.batch([replace(q, x=np.round(q.x, 4) if q.x is not None else None) for q in made])
    return native.encode(events)


def replay(lines: list[bytes]) -> list[Document]:
    """Return the alert documents of a capture, without what may differ between versions."""
    n = len(lines)
    decoded = native.decode(Records("golden", [0] * n, list(range(n)), lines), limits=LIMITS, secret=SECRET)
    line = Pipeline(load_rules(default_folder(), catalogue()), LIMITS, SECRET)
    alerts = line.process(decoded.batch) + line.close()
    return [comparable(document(alert, Engine("golden", "replay", 0))) for alert in alerts]


def comparable(doc: Document) -> Document:
    """Take out the fields in which a replay may differ."""
    doc["event"].pop("created")
    doc["observer"].pop("version")
    doc["querywatch"].pop("engine")
    return doc


def _client(
    rng: np.random.Generator, model: streams.Model, name: str, habit: streams.Habit, n: int, like: streams.Query,
    start_s: int = 0,
) -> list[streams.Query]:  # fmt: skip
    start = streams.START_US + start_s * streams.SECOND_US + int(rng.integers(900_000))
    return streams.queries(rng, model, habit, n, replace(like, client=name, time_us=start))


def main() -> None:
    lines = capture()
    CAPTURE.write_bytes(b"\n".join(lines) + b"\n")
    ALERTS.write_bytes(b"".join(orjson.dumps(doc, option=orjson.OPT_SORT_KEYS) + b"\n" for doc in replay(lines)))


if __name__ == "__main__":
    main()
