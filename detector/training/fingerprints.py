"""Keyed fingerprints of a record: one digest of the record itself, eight of its neighbourhood.

Exact: SipHash-2-4 (Aumasson & Bernstein 2012) of the float32 bits. Near: the record becomes whole numbers (centred and
scaled by the index's own frame, projected to 32 where it is wider: `detector/sketch.py`); each of eight tables moves
them by its own secret shifts and cuts every axis into cells, and the digest is that of the cell (locality-sensitive
hashing: Datar et al. 2004). A copy with a little noise leaves its cell in some tables and stays in others; another
record is elsewhere in all of them.

SipHash is a pseudo-random function: who lacks the key sees numbers without relation to records, or to each other. Who
has it can ask of a record that he already holds whether it was one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.events import F32, I16, I64, U64
from detector.kernel import kernel
from detector.sketch import DIMENSIONS, project

TABLES = 8
PRINTS = 1 + TABLES  # of one record: exact first
RESERVED = np.uint64(2)  # smaller numbers are no digest
_STRETCH = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}  # about 40 ms a guess, for secrets that people have chosen
_U13, _U16, _U17, _U21, _U32 = np.uint64(13), np.uint64(16), np.uint64(17), np.uint64(21), np.uint64(32)
_WORD = np.uint64(64)


class Key:
    """The key of one index: of the secret, the model and its version, so that no two indexes can be compared."""

    def __init__(self, secret: bytes, model: str, version: str) -> None:
        salt = b"querywatch training index" + b"".join(
            len(part).to_bytes(4, "big") + part for part in (model.encode(), version.encode())
        )
        self._key = hashlib.scrypt(secret, salt=salt, **_STRETCH)

    def part(self, purpose: str, size: int) -> bytes:
        """Return as many bytes as wanted for one purpose, independent of those for another."""
        return hashlib.shake_256(self._key + purpose.encode()).digest(size)

    def numbers(self, purpose: str, count: int) -> U64:
        """Return seeded 64-bit numbers for one purpose."""
        return np.frombuffer(self.part(purpose, 8 * count), "<u8").astype(np.uint64)


class Cells(NamedTuple):
    """What the kernel needs to cut axes into cells."""

    key: U64  # [2] of SipHash
    shifts: I64  # [TABLES, 32] below 2^bits
    bits: int  # a cell is 2^bits units wide; 1,024 units are the spread of a feature


@dataclass(frozen=True, slots=True)
class Frame:
    """How records of one index become whole numbers."""

    center: F32  # [d]
    scale: F32  # [d] units in one of the data's own; 0 = a feature that never varied, left out of nearness
    signs: F32  # [d, 32]

    @classmethod
    def of(cls, key: Key, center: F32, scale: F32) -> Frame:
        """Return the frame with the secret signs of this key."""
        bits = np.unpackbits(np.frombuffer(key.part("signs", len(center) * DIMENSIONS // 8), np.uint8))
        return cls(center, scale, (bits.reshape(-1, DIMENSIONS).astype(np.float32) * 2 - 1))

    @property
    def width(self) -> int:
        """Return the number of features."""
        return len(self.center)

    def sketch(self, values: F32, offsets: I64, rows: I64) -> I16:
        """Return the whole numbers [n, 32] of some rows, all of this width."""
        out = np.zeros((len(offsets) - 1, DIMENSIONS), np.int16)
        project(values, offsets, rows, self.center, self.scale, self.signs, out)
        return out[rows]


def cells(key: Key, bits: int) -> Cells:
    """Return the cells of a key."""
    shifts = key.numbers("shifts", TABLES * DIMENSIONS).reshape(TABLES, DIMENSIONS) % np.uint64(1 << bits)
    return Cells(key.numbers("siphash", 2), shifts.astype(np.int64), bits)


def fingerprints(frame: Frame, grid: Cells, values: F32, offsets: I64, rows: I64) -> U64:
    """Return the digests [n, PRINTS] of some ragged rows, all as wide as the frame."""
    out = np.empty((len(rows), PRINTS), np.uint64)
    exact(values, offsets, rows, grid.key, out)
    near(frame.sketch(values, offsets, rows), grid.key, grid.shifts, grid.bits, out)
    return out


@kernel
def exact(values: F32, offsets: I64, rows: I64, key: U64, out: U64) -> None:
    """Write the digest of each row itself to out[:, 0]; −0.0 counts as 0.0."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    for i in range(len(rows)):
        first, last = offsets[rows[i]], offsets[rows[i] + 1]
        v = _word(_begin(key), np.uint64(0))
        for k in range(first, last, 2):
            word = np.uint64(bits[k])
            if k + 1 < last:
                word |= np.uint64(bits[k + 1]) << _U32
            v = _word(v, word)
        out[i, 0] = _end(v, 1 + (last - first + 1) // 2)


@kernel
def near(sketch: I16, key: U64, shifts: I64, bits: int, out: U64) -> None:
    """Write the digests of each row's cells to out[:, 1:]."""
    shift = np.uint64(bits)
    for i in range(len(sketch)):
        for t in range(TABLES):
            v = _word(_begin(key), np.uint64(1 + t))
            for first in range(0, DIMENSIONS, 4):
                word = np.uint64(0)
                for k in range(first, first + 4):
                    cell = np.uint64(np.int64(sketch[i, k]) + 32768 + shifts[t, k]) >> shift
                    word = (word << _U16) | cell
                v = _word(v, word)
            out[i, 1 + t] = _end(v, 1 + DIMENSIONS // 4)


State = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@kernel
def _begin(key: U64) -> State:
    return (
        key[0] ^ np.uint64(0x736F6D6570736575),
        key[1] ^ np.uint64(0x646F72616E646F6D),
        key[0] ^ np.uint64(0x6C7967656E657261),
        key[1] ^ np.uint64(0x7465646279746573),
    )


@kernel
def _round(v: State) -> State:
    a, b, c, d = v
    a += b
    b = _turned(b, _U13) ^ a
    a = _turned(a, _U32)
    c += d
    d = _turned(d, _U16) ^ c
    a += d
    d = _turned(d, _U21) ^ a
    c += b
    b = _turned(b, _U17) ^ c
    c = _turned(c, _U32)
    return a, b, c, d


@kernel
def _turned(x: np.uint64, by: np.uint64) -> np.uint64:
    return np.uint64((x << by) | (x >> (_WORD - by)))


@kernel
def _word(v: State, word: np.uint64) -> State:
    a, b, c, d = _round(_round((v[0], v[1], v[2], v[3] ^ word)))
    return a ^ word, b, c, d


@kernel
def _end(v: State, words: int) -> np.uint64:
    """Close a message of so many whole words: the last block holds its length in bytes, modulo 256."""
    a, b, c, d = _word(v, np.uint64((8 * words) & 255) << np.uint64(56))
    a, b, c, d = _round(_round(_round(_round((a, b, c ^ np.uint64(255), d)))))
    digest = a ^ b ^ c ^ d
    return digest if digest >= RESERVED else digest + RESERVED
