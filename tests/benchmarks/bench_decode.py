"""How fast bytes become columns, beside merely parsing the same messages with orjson, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import orjson

from detector import formats
from detector.events import Records
from detector.formats import native
from detector.formats.columns import ClientKeys
from detector.settings import LimitSettings
from tests.format_samples import SAMPLES, options

WIDTHS = (30, 64, 784, 3072)
_NUMBERS_A_ROUND = 240_000  # so many numbers in the inputs of one round
_POLL = 4000  # records handed to `decode` at a time, as the service does


def messages(count: int, width: int, seed: int = 1) -> list[bytes]:
    """Return `count` plain events with `width` float32 features and ten scores, of 200 clients."""
    rng = np.random.default_rng(seed)
    return [
        orjson.dumps(
            {
                "schema": "prediction_event/1",
                "event_time": f"2026-11-21T10:{i // 60_000 % 60:02}:{i // 1000 % 60:02}.{i % 1000:03}000Z",
                "request_id": f"{i:032x}",
                "client": {"id": f"key-{rng.integers(200)}", "kind": "api_key", "ip": "203.0.113.9"},
                "model": {"name": "digits", "version": "3"},
                "status": 200,
                "latency_ms": 3.1,
                "input": {"vector": rng.random(width, np.float32)},
                "output": {"label": 3, "scores": rng.dirichlet(np.ones(10)).round(6)},
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        for i in range(count)
    ]


def rates(width: int, rounds: int = 9) -> dict[str, float]:
    """Return messages a CPU second of `orjson.loads` and of `decode`, and the ratio: medians of interleaved rounds."""
    values = messages(max(64, _NUMBERS_A_ROUND // (width + 30)), width)
    limits, secret = LimitSettings(), b"benchmark"
    cache = ClientKeys(secret)

    def parse() -> None:
        for value in values:
            orjson.loads(value)

    def decode() -> None:
        for start in range(0, len(values), _POLL):
            part = values[start : start + _POLL]
            records = Records("bench", [0] * len(part), range(start, start + len(part)), part)
            native.decode(records, limits=limits, secret=secret, cache=cache)

    decode()  # compiles
    times = [(_seconds(parse), _seconds(decode)) for _ in range(rounds)]
    return {
        "orjson": len(values) / median(a for a, _ in times),
        "decode": len(values) / median(b for _, b in times),
        "ratio": median(a / b for a, b in times),
    }


def format_rates(name: str, rounds: int = 5) -> dict[str, float]:
    """Return sample records a CPU second of `orjson.loads` and of one format's decoder: medians of rounds."""
    values = SAMPLES[name] * (4000 // len(SAMPLES[name]))
    batch = Records("bench", [0] * len(values), range(len(values)), values)

    def parse() -> None:
        for value in values:
            orjson.loads(value)

    times = [(_seconds(parse), _seconds(partial(formats.decoder(name, options()), batch))) for _ in range(rounds)]
    return {
        "orjson": len(values) / median(a for a, _ in times),
        "decode": len(values) / median(b for _, b in times),
        "ratio": median(a / b for a, b in times),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()  # of this process: other work on the machine counts less
    work()
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    print(f"{'floats':>6} {'orjson.loads/s':>15} {'decode/s':>12} {'ratio':>6}")
    for width in WIDTHS:
        result = rates(width)
        print(f"{width:>6} {result['orjson']:>15,.0f} {result['decode']:>12,.0f} {result['ratio']:>6.2f}")
    print(f"\n{'format':>22} {'orjson.loads/s':>15} {'decode/s':>12} {'ratio':>6}  small samples")
    for name in formats.names():
        result = format_rates(name)
        print(f"{name:>22} {result['orjson']:>15,.0f} {result['decode']:>12,.0f} {result['ratio']:>6.2f}")


if __name__ == "__main__":
    main()
