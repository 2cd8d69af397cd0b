"""Compiled loops over JSON bytes and over rows of numbers.

The number reader is exact or declines: it returns what float32(float64(text)) gives, or says that it cannot tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from detector.events import F32, I64, U8, U64
from detector.kernel import kernel

if TYPE_CHECKING:
    from detector.kernel import kernel as _inlined
else:
    _inlined: Any = njit(inline="always", error_model="numpy")

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_FINISH = np.uint64(0xBF58476D1CE4E5B9)  # the finaliser of splitmix64 (Steele, Lea & Flood 2014)

_QUOTE, _BACKSLASH, _COLON, _COMMA = ord('"'), ord("\\"), ord(":"), ord(",")
_MINUS, _PLUS, _POINT, _EXPONENT, _NOUGHT, _SPACE = ord("-"), ord("+"), ord("."), ord("e"), ord("0"), ord(" ")
_LIST, _LIST_END, _OBJECT, _OBJECT_END, _LINE_END = ord("["), ord("]"), ord("{"), ord("}"), ord("\n")

_POW10 = np.array([float(f"1e{k}") for k in range(128)])
_EXACT_INTEGER, _EXACT_POW10 = np.uint64(1 << 53), 22  # what float64 holds exactly
_MAX_DIGITS = np.uint64(19)  # so many fit into 64 bits
_LARGEST = np.finfo(np.float32).max
_SLACK = 1e-15  # more than four roundings of float64
_U0, _U1, _U10 = np.uint64(0), np.uint64(1), np.uint64(10)
_ZERO = np.uint64(ord("0"))  # c ^ _ZERO is below 10 for digits only
_VECTOR = np.frombuffer(b'"vector"', np.uint64)[0]
_VALUES = np.frombuffer(b'"values"', np.uint64)[0]  # of a sketch
_SCORES = np.frombuffer(b'"scores"', np.uint64)[0]
_MONTH_STARTS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_ORDINARY = np.array([32 <= c < 127 and chr(c) not in '"\\{}' for c in range(256)])  # may be copied without a look
PADDING = 8  # readable bytes that must follow the text: a word may begin at its last byte


@kernel
def hash_rows(values: F32, offsets: I64) -> U64:
    """Return a 64-bit hash of each ragged row: of its float32 bits, their order and their number; 0 for an empty row.

    It depends on nothing else, so equal inputs have equal hashes in every batch and process; -0.0 counts as 0.0.
    """
    bits = (values + np.float32(0.0)).view(np.uint32)
    digests = np.zeros(len(offsets) - 1, np.uint64)
    for i in range(len(digests)):
        if offsets[i] == offsets[i + 1]:
            continue
        start, stop = offsets[i], offsets[i + 1]
        h = np.uint64(stop - start)
        for k in range(start, stop, 2):  # two numbers a step: each step waits for the last
            pair = np.uint64(bits[k]) | (np.uint64(bits[k + 1]) << np.uint64(32) if k + 1 < stop else _U0)
            h = (h ^ pair) * _MULTIPLIER
            h ^= h >> np.uint64(29)
        h = (h ^ (h >> np.uint64(30))) * _FINISH
        h ^= h >> np.uint64(31)
        digests[i] = max(h, _U1)  # 0 means "no input"
    return digests


@kernel
def best_of_rows(values: F32, offsets: I64) -> I64:
    """Return the place of the (first) largest value in each ragged row, -1 for an empty row."""
    best = np.full(len(offsets) - 1, -1, np.int64)
    for i in range(len(best)):
        for k in range(offsets[i], offsets[i + 1]):
            if best[i] < 0 or values[k] > values[offsets[i] + best[i]]:
                best[i] = k - offsets[i]
    return best


@kernel
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
        elif c in (_LIST, _OBJECT):
            level += 1
            deepest = max(deepest, level)
        elif c in (_LIST_END, _OBJECT_END):
            level -= 1
    return deepest


@kernel
def _two(text: U8, p: int) -> np.int64:
    tens, ones = np.int64(text[p]) - _NOUGHT, np.int64(text[p + 1]) - _NOUGHT
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else np.int64(-100_000)


@kernel
def times_us(text: U8, offsets: I64) -> I64:
    """Return microseconds since 1970 of texts such as 2026-11-21T10:00:00.123456Z; -1 for other forms."""
    micros = np.full(len(offsets) - 1, -1, np.int64)
    for i in range(len(micros)):
        p, end = offsets[i], offsets[i + 1] - 1
        if end - p < 19 or end - p == 20 or end - p > 26 or text[end] != ord("Z") or text[p + 10] != ord("T"):
            continue
        if text[p + 4] != _MINUS or text[p + 7] != _MINUS or text[p + 13] != _COLON or text[p + 16] != _COLON:
            continue
        year, month, day = _two(text, p) * 100 + _two(text, p + 2), _two(text, p + 5), _two(text, p + 8)
        hour, minute, second = _two(text, p + 11), _two(text, p + 14), _two(text, p + 17)
        if not (1970 <= year < 2200 and 1 <= month <= 12 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
            continue
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if not 1 <= day <= _MONTH_STARTS[month] - _MONTH_STARTS[month - 1] + (leap and month == 2):
            continue
        fraction, unit = np.int64(0), 1_000_000
        for k in range(p + 20, end):
            digit = np.int64(text[k]) - _NOUGHT
            unit = unit // 10 if 0 <= digit <= 9 else 0
            fraction += digit * unit
        if unit == 0 or (end - p > 19 and text[p + 19] != _POINT):
            continue
        years = 365 * (year - 1970) + (year - 1969) // 4 - (year - 1901) // 100 + (year - 1601) // 400
        days = years + _MONTH_STARTS[month - 1] + (leap and month > 2) + day - 1
        micros[i] = (days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000 + fraction
    return micros


# Places in text are unsigned (no test for negative indexes) and readers are inlined: each halves the time of a number.


@_inlined
def _digits(text: U8, p: np.uint64, m: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Append the digits from `p` on to m; return it and the place after them."""
    digit = np.uint64(text[p]) ^ _ZERO
    while digit < _U10:
        m = m * _U10 + digit
        p += _U1
        digit = np.uint64(text[p]) ^ _ZERO
    return m, p


@_inlined
def _decimal(text: U8, p: np.uint64) -> tuple[np.uint64, np.int64, np.uint64]:
    """Return the unsigned JSON number at `p` as mantissa * 10^exponent, and the place after it (0 = none)."""
    first = p
    m, p = _digits(text, p, _U0)
    good = p > first and (text[first] != _NOUGHT or p == first + _U1)
    digits, exponent = p - first, np.int64(0)
    if text[p] == _POINT:
        point = p + _U1
        p = point
        if m == _U0:  # noughts before the first digit that counts
            while text[p] == _NOUGHT:
                p += _U1
            digits = _U0
        first = p
        m, p = _digits(text, p, m)
        digits += p - first
        good &= p > point
        exponent = np.int64(point) - np.int64(p)
    good &= digits <= _MAX_DIGITS
    if text[p] | 32 == _EXPONENT:
        p += _U1
        sign = text[p]
        if sign in (_MINUS, _PLUS):
            p += _U1
        first = p
        power, p = _digits(text, p, _U0)
        good &= _U0 < p - first < np.uint64(5)
        exponent += -np.int64(power) if sign == _MINUS else np.int64(power)
    return m, exponent, p if good else _U0


@_inlined
def _float32(m: np.uint64, exponent: np.int64) -> tuple[np.float32, bool]:
    """Return m * 10^exponent rounded to float64 and then to float32, and whether that is sure and finite."""
    if m == _U0 or exponent < -80:  # at most 10^19 * 10^-81: nought as float32
        return np.float32(0), True
    if exponent > 60:
        return np.float32(0), False
    wide = np.float64(m) / _POW10[np.uint64(-exponent)] if exponent < 0 else np.float64(m) * _POW10[np.uint64(exponent)]
    narrow = np.float32(wide)
    exact = m <= _EXACT_INTEGER and -_EXACT_POW10 <= exponent <= _EXACT_POW10
    sure = exact or (np.float32(wide * (1 - _SLACK)) == narrow and np.float32(wide * (1 + _SLACK)) == narrow)
    return narrow, bool(sure and narrow <= _LARGEST)


@kernel
def _row(text: U8, p: np.uint64, out: F32, n: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Read a flat list of numbers, from after its bracket, to out[n:]; return the new n and the place after, or 0."""
    while True:
        while text[p] == _SPACE:
            p += _U1
        negative = text[p] == _MINUS
        if negative:
            p += _U1
        m, exponent, p = _decimal(text, p)
        value, sure = _float32(m, exponent)
        if p == _U0 or not sure:
            return n, _U0
        out[n] = -value if negative else value
        n += _U1
        while text[p] == _SPACE:
            p += _U1
        p += _U1
        if text[p - _U1] == _LIST_END:
            return n, p
        if text[p - _U1] != _COMMA:
            return n, _U0


@_inlined
def _value_of(text: U8, p: np.uint64) -> np.uint64:
    """Return the place of the value that belongs to the key ending before `p`, 0 where that is no key."""
    while text[p] == _SPACE:
        p += _U1
    if text[p] != _COLON:
        return _U0
    p += _U1
    while text[p] == _SPACE:
        p += _U1
    return p


@kernel
def split(  # noqa: PLR0912 - one pass, and a call would cost more than a branch
    text: U8, words: U64, starts: I64, envelopes: U8, vectors: F32, scores: F32, widths: I64
) -> tuple[np.int64, np.int64, np.int64]:
    """Part the lists of numbers of plain records from their envelopes.

    Record i is text[starts[i]:starts[i + 1] - 1], with a line end after it. The list under its key "vector" or "values"
    (of a sketch) goes to `vectors`, the one under "scores" to `scores`, their lengths to widths[0, i] and widths[1, i]
    (0 = no such key). In the envelope, written to `envelopes` with a line end, a 0 takes their place. A record that is
    not plain is left out, with width -1: one with escapes, control characters, text beyond ASCII, a key twice, a
    vector beside a sketch, more or less than one object, or anything else than a flat list of finite numbers under
    these keys. Returns the bytes and the numbers written.
    """
    size = n_vectors = n_scores = _U0
    for i in range(len(starts) - 1):
        p, end = np.uint64(starts[i]), np.uint64(starts[i + 1] - 1)
        before = size, n_vectors, n_scores
        widths[0, i] = widths[1, i] = level = 0
        quoted, plain = False, text[p] == _OBJECT
        while plain:
            while _ORDINARY[text[p]]:
                envelopes[size] = text[p]
                size += _U1
                p += _U1
            c = text[p]
            if p >= end or c not in (_QUOTE, _OBJECT, _OBJECT_END):
                break
            envelopes[size] = c
            size += _U1
            p += _U1
            if c != _QUOTE:
                if not quoted:
                    level += 1 if c == _OBJECT else -1
                    plain = level > 0 or p == end
                continue
            quoted = not quoted
            key = words[p - _U1]
            listed = quoted and key in (_VECTOR, _VALUES, _SCORES)
            value = _value_of(text, p + np.uint64(7)) if listed else _U0
            if value == _U0:
                continue
            which = 1 if key == _SCORES else 0
            plain = text[value] == _LIST and widths[which, i] == 0
            if not plain:
                break
            for k in range(p, value):
                envelopes[size] = text[k]
                size += _U1
            envelopes[size] = _NOUGHT
            size += _U1
            quoted = False
            if which == 0:
                n_vectors, p = _row(text, value + _U1, vectors, n_vectors)
                widths[0, i] = np.int64(n_vectors - before[1])
            else:
                n_scores, p = _row(text, value + _U1, scores, n_scores)
                widths[1, i] = np.int64(n_scores - before[2])
            plain = p != _U0
        if plain and p == end and level == 0:
            envelopes[size] = _LINE_END
            size += _U1
        else:
            size, n_vectors, n_scores = before
            widths[0, i] = -1
    return np.int64(size), np.int64(n_vectors), np.int64(n_scores)
