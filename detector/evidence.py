"""Anytime-valid evidence: e-processes that start anew every 64 events (Ville 1939; Shin, Ramdas & Rinaldo 2024).

An e-value is a non-negative number whose expectation is at most 1 while its null holds; a running product of them, one
an event, is an e-process: the chance that it *ever* reaches 1/α is at most α. To find a client that turns hostile after
a benign month, start b (at event 64 b) gets the weight w_b = 1/((b + 1)(b + 2)), which sums to 1:

    E_t = Σ_b w_b · mean_j Π_{s ≥ 64 b} e_{s,j} + (weight not yet spent)

All kernels work on a row of a state array in place and return log10 E. Products are capped, which only lowers
them. An all-zero row is a new process.
"""

from __future__ import annotations

import numpy as np

from detector.events import F32, F64, I32
from detector.kernel import in_place

RESTART = 64  # events between two starts
LIVE = 4  # starts that `Pair` follows at once; the poorest is dropped for a new one, which only lowers E
CAP = 1e200
SHARED_CAP = 1e30  # of bets that share their wealth: kept in single precision
SWITCH = 1 / 64  # of the wealth is spread over all bets with every event
POWERS = (0.1, 0.3, 0.5, 0.7)
TAIL_POWERS = (0.2, 0.5, 0.8)  # bets with a wealth of their own each
RANKS = 4096


def _power_table() -> F64:
    """Tabulate e(p) = mean of k·p^(k−1) at p = i/4096; p is rounded up, and e falls with p, so a bet stays fair."""
    p = np.maximum(np.arange(RANKS + 1), 1) / RANKS
    return np.asarray(np.mean([k * p ** (k - 1) for k in POWERS], axis=0))


def _tail_table() -> F64:
    """Tabulate k·p^(k−1) at p = i/4096, one row for each k of TAIL_POWERS."""
    p = np.maximum(np.arange(RANKS + 1), 1) / RANKS
    return np.asarray([k * p ** (k - 1) for k in TAIL_POWERS])


POWER = _power_table()
TAILS = _tail_table()


@in_place
def power_bet(p: float) -> float:
    """Bet against a conformal p-value in (0, 1] being uniform: large when p is small."""
    return float(POWER[int(np.ceil(p * RANKS))])


@in_place
def tail_bets(p: float, bets: F64, first: int) -> None:
    """Write the bets of TAIL_POWERS against p in (0, 1] being uniform to `bets` from place `first` on.

    With a wealth each, the best of them is followed; `power_bet` mixes them anew with every event and wins less.
    """
    rank = int(np.ceil(p * RANKS))
    for j in range(len(TAILS)):
        bets[first + j] = TAILS[j, rank]


@in_place
def uniform(key: int, count: int, salt: int) -> float:
    """Return a number in (0, 1] from its arguments only (splitmix64): breaks ties the same in every replay."""
    x = (
        np.uint64(key)
        ^ (np.uint64(count) * np.uint64(0x9E3779B97F4A7C15))
        ^ (np.uint64(salt) * np.uint64(0xD1342543DE82EF95))
    )
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (float(x >> np.uint64(11)) + 1.0) / 9007199254740992.0


@in_place
def spend(event: int) -> float:
    """Return the weight of the start at this event (counted from 0), 0 where none begins."""
    if event % RESTART:
        return 0.0
    b = event // RESTART
    return 1.0 / ((b + 1.0) * (b + 2.0))


@in_place
def unspent(event: int) -> float:
    """Return the weight of all starts after this event."""
    return 1.0 / (event // RESTART + 2.0)


@in_place
def bernoulli(wealth: F64, event: int, hit: bool, p0: float, bets: F64) -> float:
    """Bet that hits are more frequent than p0: e = q/p0 on a hit, (1 − q)/(1 − p0) otherwise, averaged over the bets q.

    Null: P(hit | past) ≤ p0 (all q > p0). `wealth` [len(bets)] is the state, `event` the number of earlier events.
    """
    start = spend(event) / len(bets)
    total = 0.0
    for j in range(len(bets)):
        wealth[j] = min((wealth[j] + start) * stake(hit, p0, bets[j]), CAP)
        total += wealth[j]
    return float(np.log10(total + unspent(event)))


@in_place
def bernoulli_above(wealth: F64, event: int, hit: bool, p0: float, shares: F64) -> float:
    """Bet with q = p0 + (1 − p0)·share, for a p0 that follows the model's reference; see `bernoulli`."""
    start = spend(event) / len(shares)
    total = 0.0
    for j in range(len(shares)):
        wealth[j] = min((wealth[j] + start) * stake(hit, p0, p0 + (1.0 - p0) * shares[j]), CAP)
        total += wealth[j]
    return float(np.log10(total + unspent(event)))


@in_place
def standing(wealth: F64, events: int) -> float:
    """Return log10 E of bets [k] after that many events, without another bet."""
    return float(np.log10(wealth.sum() + unspent(events - 1)))


@in_place
def stake(hit: bool, p0: float, q: float) -> float:
    """Return the e-value of one Bernoulli event: the likelihood ratio of q against p0."""
    return q / p0 if hit else (1.0 - q) / (1.0 - p0)


@in_place
def open_start(first: F64 | F32, second: F64, began: I32, event: int, width: int) -> None:
    """Begin a start of a pair where one is due.

    `first` [LIVE, ≥ width] (columns from `width` on are unused) and `second` [LIVE, k] are products, 1 at the start.
    `began` [LIVE] holds the start's number + 1, 0 where the place is free.
    """
    if event % RESTART:
        return
    place = 0
    poorest = np.inf
    for m in range(LIVE):
        if began[m] == 0:
            place = m
            break
        worth = minimum(first, second, m, width) * _weight(began[m])
        if worth < poorest:
            place, poorest = m, worth
    began[place] = event // RESTART + 1
    first[place] = 1.0
    second[place] = 1.0


@in_place
def minimum(first: F64 | F32, second: F64, m: int, width: int) -> float:
    """Return the smaller of the two means of start m: an e-value while one and the same null holds throughout."""
    bets = second.shape[1]
    return float(min(added(first, m, width) / width, added(second, m, bets) / bets))


@in_place
def pair_evidence(first: F64 | F32, second: F64, began: I32, event: int, width: int) -> float:
    """Return log10 E of a pair: the minimum is taken for every start by itself."""
    total = unspent(event)
    for m in range(LIVE):
        if began[m]:
            total += _weight(began[m]) * minimum(first, second, m, width)
    return float(np.log10(min(total, CAP)))


@in_place
def multiply(products: F64, began: I32, hit: bool, p0: float, bets: F64) -> None:
    """Multiply the bets on one event into every live start: products [LIVE, len(bets)]."""
    for j in range(len(bets)):
        e = stake(hit, p0, bets[j])
        for m in range(LIVE):
            if began[m]:
                products[m, j] = min(products[m, j] * e, CAP)


@in_place
def share(wealth: F64 | F32, m: int, bets: F64, width: int) -> None:
    """Multiply bets into row m, then spread SWITCH of the whole evenly: fixed share (Herbster & Warmuth 1998).

    The mean stays an e-process, and what one bet has won is not lost when another one becomes the right one: an
    attacker goes on to the next class.
    """
    for j in range(width):
        wealth[m, j] = min(wealth[m, j] * bets[j], SHARED_CAP)
    total = added(wealth, m, width)
    even = SWITCH * total / width
    for j in range(width):
        wealth[m, j] = (1.0 - SWITCH) * wealth[m, j] + even


@in_place
def added(values: F64 | F32, m: int, width: int) -> float:
    """Add up the first `width` numbers of row m, four sums side by side: no addition waits for the one before.

    Whole arrays and a row number, no slices: numba counts references to each slice, which costs more than the sum.
    """
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = width - width % 4
    for j in range(0, whole, 4):
        a += values[m, j]
        b += values[m, j + 1]
        c += values[m, j + 2]
        d += values[m, j + 3]
    for j in range(whole, width):
        a += values[m, j]
    return (a + b) + (c + d)


@in_place
def _weight(number: int) -> float:
    return 1.0 / (number * (number + 1.0))
