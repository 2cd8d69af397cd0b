"""Slow truths beside the kernels of training indexes: SipHash-2-4 from its paper, cells and look-up in plain Python."""

from __future__ import annotations

import numpy as np

from detector.events import F32
from detector.sketch import DIMENSIONS, UNITS
from detector.training.fingerprints import TABLES, Cells, Frame
from detector.training.index import TrainingIndex

WORD = (1 << 64) - 1


def siphash(key: bytes, message: bytes) -> int:
    """Return SipHash-2-4 of a message (Aumasson & Bernstein 2012, section 2)."""
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turn(x: int, by: int) -> int:
        return ((x << by) | (x >> (64 - by))) & WORD

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & WORD
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & WORD
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & WORD
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & WORD
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    whole = len(message) // 8
    words = [int.from_bytes(message[8 * i : 8 * i + 8], "little") for i in range(whole)]
    words.append(int.from_bytes(message[8 * whole :].ljust(7, b"\0") + bytes([len(message) % 256]), "little"))
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def fingerprints(frame: Frame, grid: Cells, x: F32) -> list[int]:
    """Return the nine digests of one record."""
    key = b"".join(int(part).to_bytes(8, "little") for part in grid.key)
    bits = (x + np.float32(0)).astype("<f4").tobytes()
    prints = [siphash(key, bytes(8) + bits.ljust(-len(bits) // 8 * -8, b"\0"))]
    whole = np.clip(np.rint((x - frame.center) * frame.scale), -10 * UNITS, 10 * UNITS).astype(np.int64)
    if frame.width <= DIMENSIONS:
        sketch = [*whole.tolist(), *[0] * (DIMENSIONS - frame.width)]
    else:
        total = whole @ frame.signs.astype(np.int64)
        sketch = [int(np.rint(min(max(t / np.sqrt(frame.width), -32767.0), 32767.0))) for t in total.tolist()]
    for t in range(TABLES):
        cells = [
            (value + 32768 + shift) // (1 << grid.bits)
            for value, shift in zip(sketch, grid.shifts[t].tolist(), strict=True)
        ]
        words = [sum(cell << (48 - 16 * k) for k, cell in enumerate(cells[i : i + 4])) for i in range(0, DIMENSIONS, 4)]
        prints.append(siphash(key, b"".join(word.to_bytes(8, "little") for word in [1 + t, *words])))
    return prints


def look_up(index: TrainingIndex, prints: list[int]) -> tuple[int, int]:
    """Return (a digest of the training record or 1, number of the canary or 0) of one record."""
    known = set(index.digests.tolist())
    trained = next((digest for digest in prints if digest in known), 1)
    numbers = dict(zip(index.canary_digests.tolist(), index.canary_numbers.tolist(), strict=True))
    if prints[0] in numbers:
        return trained, numbers[prints[0]]
    cells = [numbers[digest] for digest in prints[1:] if digest in numbers]
    return trained, cells[0] if cells and cells.count(cells[0]) > TABLES // 2 else 0
