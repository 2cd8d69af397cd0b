"""E-processes equal their formula, keep their promise under each null, and find clients that turn hostile late."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from detector.events import F64
from detector.evidence import (
    CAP,
    LIVE,
    SWITCH,
    bernoulli,
    multiply,
    open_start,
    pair_evidence,
    power_bet,
    share,
    spend,
    uniform,
    unspent,
)
from tests import twins
from tests.twins_answers import splitmix

BETS = np.array([0.45, 0.65, 0.9])
STREAMS, EVENTS = 4000, 400
LEVELS = (0.1, 0.01)


# --- the formula ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_bernoulli_equals_the_mixture_over_all_starts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wealth, twin = np.zeros(3), twins.Mixture()
    for event in range(300):
        hit, p0 = bool(rng.random() < 0.4), float(rng.choice([0.2, 0.33]))
        fast = bernoulli(wealth, event, hit, p0, BETS)
        assert fast == pytest.approx(twin.bet(twins.stakes(hit, p0, BETS)), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_pair_equals_its_twin_beyond_the_starts_that_are_followed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, began = np.zeros((LIVE, 5)), np.zeros((LIVE, 3)), np.zeros(LIVE, np.int32)
    twin = twins.Pair(4, 3)
    for event in range(64 * (LIVE + 4)):
        open_start(first, second, began, event, 4)
        twin.open(event)
        hit, other = bool(rng.random() < 0.5), rng.uniform(0.5, 1.6, 4)
        multiply(second, began, hit, 0.45, BETS + 0.01)
        for m in range(LIVE):
            if began[m]:
                share(first, m, other, 4)
        twin.bet(first=other, spread=SWITCH)
        twin.bet(second=twins.stakes(hit, 0.45, BETS + 0.01))
        assert pair_evidence(first, second, began, event, 4) == pytest.approx(twin.evidence(event), abs=1e-9)


def test_all_weight_is_spent_or_unspent() -> None:
    spent = 0.0
    for event in range(1000):
        spent += spend(event)
        assert spent + unspent(event) == pytest.approx(1)


def test_the_power_bet_equals_its_formula_and_integrates_to_at_most_one() -> None:
    for p in np.random.default_rng(0).random(300):
        assert power_bet(p) == pytest.approx(twins.power(p))
    assert power_bet(1.0) == pytest.approx(0.4)
    grid = np.arange(1, 200_001) / 200_000
    assert np.mean([power_bet(p) for p in grid]) <= 1


def test_uniform_numbers_equal_whole_number_arithmetic_and_fill_the_interval() -> None:
    keys: Any = np.random.default_rng(0).integers(0, 1 << 64, 300, dtype=np.uint64)
    for count, key in enumerate(keys):
        assert uniform(key, count, 1) == splitmix(int(key), count, 1)
    drawn = np.array([uniform(5, count, 0) for count in range(4000)])
    assert drawn.min() > 0
    assert drawn.max() <= 1
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_wealth_never_overflows() -> None:
    wealth = np.zeros(3)
    values = [bernoulli(wealth, event, True, 0.05, BETS) for event in range(2000)]
    assert np.isfinite(values).all()
    assert values[-1] <= math.log10(3 * CAP)


# --- the promise: P(ever E >= 1/alpha) <= alpha ---------------------------------------------------------------------


@njit  # type: ignore[untyped-decorator]
def _highest_bernoulli(hits: Any, p0: float, bets: F64) -> Any:
    out = np.empty(len(hits))
    for s in range(len(hits)):
        wealth = np.zeros(len(bets))
        most = 0.0
        for event in range(hits.shape[1]):
            most = max(most, bernoulli(wealth, event, hits[s, event], p0, bets))
        out[s] = most
    return out


@njit  # type: ignore[untyped-decorator]
def _highest_power(p: F64) -> Any:
    out = np.empty(len(p))
    for s in range(len(p)):
        wealth, most = 0.0, 0.0
        for event in range(p.shape[1]):
            wealth = (wealth + spend(event)) * power_bet(p[s, event])
            most = max(most, np.log10(wealth + unspent(event)))
        out[s] = most
    return out


@njit  # type: ignore[untyped-decorator]
def _highest_pair(first_hits: Any, second_hits: Any, p0: float, bets: F64) -> Any:
    """The first test is a fixed share of rank-like bets, the second a Bernoulli one."""
    out = np.empty(len(first_hits))
    width = len(bets)
    for s in range(len(first_hits)):
        first, second, began = np.zeros((LIVE, width)), np.zeros((LIVE, width)), np.zeros(LIVE, np.int32)
        factor = np.empty(width)
        most = 0.0
        for event in range(first_hits.shape[1]):
            open_start(first, second, began, event, width)
            for j in range(width):
                factor[j] = bets[j] / p0 if first_hits[s, event] else (1 - bets[j]) / (1 - p0)
            for m in range(LIVE):
                if began[m]:
                    share(first, m, factor, width)
            multiply(second, began, second_hits[s, event], p0, bets)
            most = max(most, pair_evidence(first, second, began, event, width))
        out[s] = most
    return out


def assert_rarely_reached(highest: F64) -> None:
    """Each level α is reached by at most a share α of streams, three standard errors allowed."""
    for alpha in LEVELS:
        reached = float((highest >= math.log10(1 / alpha)).mean())
        margin = 3 * math.sqrt(alpha * (1 - alpha) / len(highest))
        assert reached <= alpha + margin, f"{reached:.4f} of streams reached 1/{alpha}"


def coin(seed: int, p: float, events: int = EVENTS) -> Any:
    return np.random.default_rng(seed).random((STREAMS, events)) < p


@pytest.mark.parametrize("p0", [0.03, 0.2, 0.33, 0.5])
def test_bernoulli_rarely_alarms_at_its_ceiling(p0: float) -> None:
    bets = p0 + (1 - p0) * np.array([0.15, 0.4, 0.8])
    assert_rarely_reached(_highest_bernoulli(coin(1, p0), p0, bets))


def test_bernoulli_rarely_alarms_where_hits_follow_the_past_but_never_above_the_ceiling() -> None:
    rng = np.random.default_rng(2)
    hits = np.zeros((STREAMS, EVENTS), bool)
    for event in range(1, EVENTS):  # hits cluster: likely after a hit, rare otherwise, and never above p0
        hits[:, event] = rng.random(STREAMS) < np.where(hits[:, event - 1], 0.33, 0.2)
    assert_rarely_reached(_highest_bernoulli(hits, 0.33, BETS))


def test_the_power_bet_rarely_alarms_on_uniform_p() -> None:
    assert_rarely_reached(_highest_power(1 - np.random.default_rng(3).random((STREAMS, EVENTS))))


def test_the_power_bet_rarely_alarms_on_ranks_with_ties_broken_at_random() -> None:
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 5, (1500, 150))
    p = np.ones(scores.shape)
    for event in range(8, 150):
        past, new = scores[:, max(0, event - 96) : event], scores[:, event, None]
        above, below = (past > new).sum(1), (past < new).sum(1)
        n = past.shape[1] + 1
        p[:, event] = (above + (n - above - below) * (1 - rng.random(len(past)))) / n
    assert_rarely_reached(_highest_power(p))


@pytest.mark.parametrize("sided", ["first null holds", "second null holds", "both hold"])
def test_a_pair_rarely_alarms_while_one_and_the_same_null_holds(sided: str) -> None:
    first = coin(5, 0.33 if sided != "second null holds" else 0.9)
    second = coin(6, 0.33 if sided != "first null holds" else 0.9)
    assert_rarely_reached(_highest_pair(first, second, 0.33, BETS))


def test_a_pair_alarms_where_neither_null_holds() -> None:
    assert (_highest_pair(coin(7, 0.7), coin(8, 0.7), 0.33, BETS) > 3).mean() > 0.99


def test_the_simulation_notices_bets_that_are_not_fair() -> None:
    with pytest.raises(AssertionError):
        assert_rarely_reached(_highest_bernoulli(coin(9, 0.40), 0.33, BETS))


# --- restarts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("benign", [0, 64, 1000, 10_000])
def test_a_client_that_turns_hostile_late_is_found_soon(benign: int) -> None:
    rng = np.random.default_rng(10)
    hits = np.concatenate([rng.random(benign) < 0.2, rng.random(400) < 0.7])
    wealth = np.zeros(3)
    values = [bernoulli(wealth, event, bool(hit), 0.33, BETS) for event, hit in enumerate(hits)]
    assert max(values[:benign], default=0.0) < 1
    found = next(k for k, value in enumerate(values[benign:]) if value >= 3)
    assert found <= 64 + 80 + 10 * math.log10(1 + benign / 64) ** 2


def test_a_pair_finds_a_late_turn_though_it_follows_four_starts_only() -> None:
    rng = np.random.default_rng(11)
    quiet, hostile = rng.random((2, 1, 3000)) < 0.2, rng.random((2, 1, 300)) < 0.75
    both = np.concatenate([quiet, hostile], axis=2)
    assert _highest_pair(both[0][:, :3000], both[1][:, :3000], 0.33, BETS)[0] < 1
    assert _highest_pair(both[0], both[1], 0.33, BETS)[0] >= 3
