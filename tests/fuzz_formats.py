"""`python -m tests.fuzz_formats --records 1000000`: mutated records through every adapter; none may raise.

Samples are changed as JSON trees (also inside texts that hold JSON) and as bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from typing import Any

from detector import formats
from detector.formats import Decoder
from detector.formats.sniff import sniff
from detector.settings import LimitSettings
from tests.contracts import format_suite
from tests.format_samples import SAMPLES, options

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 200, 10**30, -(2**63), 1e308, float("nan"), float("inf"), "", "x", "1", "NaN",
    "\ud800", "é" * 200, "[[1,2],[3,4]]", "{", '"[1]"', '{"instances":[[1]]}', "2026-11-22T06:40:28Z",
    "9999-12-31T23:59:59Z", "BASE64", "CSV", "AAAA", [], {}, [[]], [None], [1, "a"], [[1, 2], [3]],
    {"a": 1}, [{"b": 1, "a": "2"}], "-" * 300,
)  # fmt: skip
BYTES = (b"\xff", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b"0", b"\n", b"e5", b" ", b"", b"\0", b"NaN")


def mutated(value: bytes, rng: random.Random) -> bytes:
    """Return a record with one to three changes."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.7:
            try:
                tree = _changed(json.loads(value), rng)
                value = json.dumps(tree).encode("utf-8", "surrogatepass")
                continue
            except ValueError:
                pass
        at = rng.randrange(len(value) + 1)
        value = rng.choice([value[:at], value[:at] + rng.choice(BYTES) + value[at + rng.randrange(2) :]])
    return value


def _changed(tree: Any, rng: random.Random) -> Any:
    """Change one node: the deeper the rarer, so that envelopes and bodies are met alike."""
    if isinstance(tree, str) and tree[:1] in ("{", "[") and rng.random() < 0.7:
        try:
            return json.dumps(_changed(json.loads(tree), rng))
        except ValueError:
            pass
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        name = rng.choice(sorted(tree))
        return _without(tree, name) if rng.random() < 0.1 else {**tree, name: _changed(tree[name], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        k = rng.randrange(len(tree))
        return [*tree[:k], _changed(tree[k], rng), *tree[k + rng.randrange(2) :]]
    return rng.choice(ODD)


def _without(tree: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != name}


def fuzz(name: str, records: int, seed: int, seconds: float = float("inf")) -> int:
    """Send mutated records of one format through the contract; return how many there were time for."""
    rng = random.Random(seed)  # noqa: S311 (made-up records, no secret)
    decoder: Decoder = formats.decoder(name, options())
    end, done = time.monotonic() + seconds, 0
    while done < records and time.monotonic() < end:
        values = [mutated(rng.choice(SAMPLES[name]), rng) for _ in range(min(64, records - done))]
        format_suite.check_batch(decoder, values, start=done)
        sniff(format_suite.records(values), LimitSettings())
        done += len(values)
    return done


def main() -> None:
    """Fuzz every format and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000, help="for each format")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for name in formats.names():
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        fuzz(name, asked.records, asked.seed)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{name:>14} {asked.records:,} records, {time.monotonic() - start:.0f} s, peak memory +{grown:.0f} MiB")


if __name__ == "__main__":
    main()
