"""The compiled part of reading: digests of inputs, nesting depth, largest scores."""

from __future__ import annotations

import numpy as np
from numba import njit

from detector.events import F32, I64, U8, U64

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_FINISH = np.uint64(0xBF58476D1CE4E5B9)  # the finaliser of splitmix64 (Steele, Lea & Flood 2014)
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPEN, _CLOSE = (ord("["), ord("{")), (ord("]"), ord("}"))


@njit(cache=True)
def hash_rows(values: F32, offsets: I64) -> U64:
    """Return a 64-bit hash of each ragged row: of its float32 bits, their order and their number; 0 for an empty row.

    It depends on nothing else, so equal inputs have equal hashes in every batch and process; -0.0 counts as 0.0.
    """
    bits = (values + np.float32(0.0)).view(np.uint32)
    digests = np.zeros(len(offsets) - 1, np.uint64)
    for i in range(len(digests)):
        if offsets[i] == offsets[i + 1]:
            continue
        h = np.uint64(offsets[i + 1] - offsets[i])
        for k in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(bits[k])) * _MULTIPLIER
            h ^= h >> np.uint64(29)
        h = (h ^ (h >> np.uint64(30))) * _FINISH
        h ^= h >> np.uint64(31)
        digests[i] = max(h, np.uint64(1))  # 0 means "no input"
    return digests


@njit(cache=True)
def depth(text: U8) -> int:
    """Return how deep lists and objects nest in JSON bytes, whatever else they hold; strings do not count."""
    level = deepest = 0
    quoted = escaped = False
    for c in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped = c == _BACKSLASH
            quoted = c != _QUOTE
        elif c == _QUOTE:
            quoted = True
        elif c in _OPEN:
            level += 1
            deepest = max(deepest, level)
        elif c in _CLOSE:
            level -= 1
    return deepest
