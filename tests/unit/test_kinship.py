"""Kinship: who goes on from other clients' queries; its null, its twin, and what must not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from detector import kinship
from detector.closeness import LEAST_OWNERS, LEAST_ROWS, POINTS, closeness
from detector.detectors import View
from detector.events import F32, F64, U64, EventBatch
from detector.pipeline import Columns, Pipeline
from detector.rules import catalogue, default_folder, load_rules
from detector.settings import LimitSettings
from tests import crowds, streams, twins_kinship
from tests.twins_kinship import Crowd

RULES = load_rules(default_folder(), catalogue())


def reference(seed: int, clients: int = 16, each: int = 16, spread: float = 0.0) -> tuple[F64, U64]:
    """Return rows and owners of a benign reference; `spread`: how far clients are from each other."""
    rng = np.random.default_rng(seed)
    homes = np.repeat(rng.normal(size=(clients, 6)) * spread, each, axis=0)
    return homes + rng.normal(size=(clients * each, 6)), np.repeat(np.arange(1, clients + 1, dtype=np.uint64), each)


def gaps_of(rows: F64) -> F64:
    gaps: F64 = np.sqrt(((rows[:, None] - rows[None, :]) ** 2).sum(axis=2)) * 1000
    np.fill_diagonal(gaps, np.inf)
    return gaps


def seen(*parts: Sequence[streams.Query]) -> tuple[Pipeline, list[View], list[F32]]:
    """Run traffic; return the pipeline, its views, and the evidence of kinship after every row."""
    views: list[View] = []
    found: list[F32] = []

    def watch(view: View, signals: Columns) -> None:
        del signals
        views.append(view)

    limits = LimitSettings(clients=256, models=4, campaigns=8, admit_after=2)
    line = Pipeline(RULES, limits, b"tests", watch=watch)
    observe = line.campaigns.observe

    def noted(view: View, alone: list) -> tuple:  # type: ignore[type-arg]
        out = observe(view, alone)
        found.append(out[2])
        return out

    line.campaigns.observe = noted  # type: ignore[method-assign]
    line.process(crowds.in_time(*parts))
    line.close()
    return line, views, found


def final(line: Pipeline, events: EventBatch) -> dict[str, float]:
    """Return each client's evidence at the end."""
    table, wealth = line.clients.table, line.campaigns.world.newcomers.wealth
    ids = dict(zip(events.client_key.tolist(), events.client_id, strict=True))
    return {
        ids[int(table.key[s])]: float(kinship.evidence(wealth, int(s)))
        for s in np.flatnonzero(table.key)
        if int(table.key[s]) in ids and wealth[s, 0] > 0
    }


def test_a_reference_of_few_rows_or_few_clients_tells_nothing() -> None:
    rows, owners = reference(0, clients=LEAST_OWNERS - 1, each=40)
    assert not closeness(gaps_of(rows), owners).any()
    rows, owners = reference(0, clients=LEAST_ROWS // 2, each=1)
    assert not closeness(gaps_of(rows), owners).any()
    rows, owners = reference(0)
    quantiles = closeness(gaps_of(rows), owners)
    assert quantiles.shape == (POINTS,)
    assert (quantiles > 0).all()
    assert (np.diff(quantiles) >= 0).all()


@pytest.mark.parametrize("clients", [LEAST_OWNERS, 16])
def test_closeness_is_what_its_twin_says(clients: int) -> None:
    rows, owners = reference(1, clients=clients, each=12)
    np.testing.assert_allclose(closeness(gaps_of(rows), owners), twins_kinship.closeness(gaps_of(rows), owners))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_p_values_of_fresh_benign_clients_are_not_too_small(spread: float) -> None:
    rng = np.random.default_rng(5)
    found = []
    for seed in range(40):
        rows, owners = reference(seed, clients=48, spread=spread)
        known, recent = owners <= 16, (owners > 16) & (owners <= 32)
        quantiles = closeness(gaps_of(rows[known]), owners[known])
        for row in rows[owners > 32][::16]:  # one query of each of 16 other clients
            a = np.sqrt(((rows[recent] - row) ** 2).sum(axis=1)).min()
            b = np.sqrt(((rows[known] - row) ** 2).sum(axis=1)).min()
            found.append(kinship.rank(quantiles, float(a / b), 1.0 - rng.random()))
    p = np.array(found)
    for level in (0.02, 0.1, 0.3, 0.6):
        error = np.sqrt(level * (1 - level) / len(p))
        assert (p <= level).mean() <= level + 4 * error + 0.02


def test_a_tie_is_broken_between_the_ranks_that_it_spans() -> None:
    quantiles = np.full(POINTS, 0.5, np.float32)
    assert kinship.rank(quantiles, 0.4, 1.0) == 1 / (POINTS + 1)
    assert kinship.rank(quantiles, 0.5, 1.0) == 1.0
    assert kinship.rank(quantiles, 0.5, 0.5) == pytest.approx(0.5)
    assert kinship.rank(quantiles, 0.6, 1.0) == 1.0


def test_a_fair_game_is_rarely_won() -> None:
    rng = np.random.default_rng(1)
    won = 0
    for _ in range(2000):
        wealth = np.ones((1, len(kinship.POWERS)))
        best = -np.inf
        for p in (1.0 - rng.random(kinship.YOUNG)).tolist():
            kinship.bet(wealth, 0, p)
            best = max(best, kinship.evidence(wealth, 0))
        won += best >= 1.5
    assert won <= 2000 * 10**-1.5 + 4 * np.sqrt(2000 * 10**-1.5)


@pytest.mark.parametrize("habit", [streams.climb, streams.noise_copies, streams.slider, streams.coarse])
def test_the_kernel_bets_as_its_twin_does(habit: streams.Habit) -> None:
    parts = [*crowds.ordinary(), crowds.job(habit, 160, 5), *crowds.ordinary(4, 40, at_s=2000, name="later")]
    _, views, found = seen(*parts)
    twin = Crowd()
    for view, evidence in zip(views, found, strict=True):
        slow = np.array(twin.evidence(view))
        told = ~np.isnan(evidence)
        assert told.any() or np.isnan(slow).all()
        np.testing.assert_allclose(evidence[told], slow[told], atol=1e-4)
    assert twin.wealth


@pytest.mark.parametrize("spread", [crowds.at_random, crowds.in_turn, crowds.by_role])
def test_pieces_of_one_climb_are_kin_and_ordinary_newcomers_are_not(spread: crowds.Spread) -> None:
    later = crowds.ordinary(8, 40, at_s=2000, name="later")
    events = crowds.in_time(*crowds.ordinary(), crowds.job(streams.climb, 300, 6, spread), *later)
    line, _, _ = seen(*crowds.ordinary(), crowds.job(streams.climb, 300, 6, spread), *later)
    evidence = final(line, events)
    assert sum(evidence[f"id{k}"] >= kinship.KIN for k in range(6)) >= 5
    assert all(worth < kinship.KIN for client, worth in evidence.items() if not client.startswith("id"))


def test_the_same_records_from_many_ids_are_no_kin() -> None:
    records = crowds.job(streams.ordinary, 60, 1, name="worker")
    jobs = [[replace(q, client=f"worker{k}") for q in records] for k in range(5)]  # five scorers of one nightly table
    line, _, _ = seen(*crowds.ordinary(), *jobs)
    assert not line.campaigns.names


def test_a_path_that_one_client_walks_alone_makes_no_kin() -> None:
    sensors = [crowds.job(streams.slider, 80, 1, name=f"sensor{k}-", seed=k) for k in range(5)]
    line, _, _ = seen(*crowds.ordinary(), *sensors)
    assert not line.campaigns.names


def test_replicas_that_read_the_same_with_noise_of_their_own_are_no_kin() -> None:
    rng = np.random.default_rng(4)
    seen_by_one = crowds.job(streams.ordinary, 80, 1, name="meter")
    fleet = [
        replace(q, client=f"meter{k}", x=q.x + rng.normal(size=len(q.x)).astype(np.float32) * 0.01)
        for q in seen_by_one
        if q.x is not None
        for k in range(6)
    ]
    line, _, _ = seen(*crowds.ordinary(), fleet)
    assert not line.campaigns.names


def test_ids_that_come_once_leave_nothing_behind() -> None:
    flood = crowds.job(streams.novel, 3000, 3000, crowds.in_turn, name="once")
    line, _, _ = seen(*crowds.ordinary(), flood)
    before = {int(key) for key in crowds.in_time(*crowds.ordinary()).client_key}
    owners = {int(key) for key in line.campaigns.world.ring.owners[0]} - {0}
    assert owners <= before
