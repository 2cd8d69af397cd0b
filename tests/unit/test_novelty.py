"""Made-up inputs against genuine ones: what counts as made, what does not, how rarely benign clients are accused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detector import genuine
from detector.baseline import Baselines
from detector.detectors import References, View, discover
from detector.events import F32, F64, I16, EventBatch, ModelRef
from detector.sketch import robust_scale
from tests import streams, views

NOVELTY = next(d for d in discover() if d.name == "novelty")
REF = ModelRef("m", "1")
Maker = Callable[[np.random.Generator, int], F64]


def records_of(width: int) -> Maker:
    """Return records whose features hang together: a few hidden causes, skewed, in units that differ a thousandfold."""
    fixed = np.random.default_rng(width)
    causes, units = fixed.normal(size=(max(2, width // 5), width)), 10.0 ** fixed.uniform(-3, 3, width)

    def make(rng: np.random.Generator, n: int) -> F64:
        hidden = rng.normal(size=(n, len(causes)))
        return np.asarray(np.sinh(0.6 * (hidden @ causes + 0.2 * rng.normal(size=(n, width)))) * units)

    return make


def events(x: F64, client: str) -> EventBatch:
    rows = x.astype(np.float32)
    scores = np.array([0.9, 0.1], np.float32)
    return streams.batch([streams.Query(client, row, scores, REF) for row in rows])


class World:
    """One model with a reference of genuine records, and clients in front of the detector."""

    def __init__(self, width: int, rows: int = 256) -> None:
        self.width, self.make = width, records_of(width)
        self.rng = np.random.default_rng(4)
        self.baselines = Baselines(1, 7)
        self.benign = self.make(self.rng, rows)
        parts = [events(part, f"benign{k}") for k, part in enumerate(np.array_split(self.benign, 16))]
        list(self.baselines.admit(EventBatch.concat(parts)))
        list(self.baselines.flush())

    @property
    def scales(self) -> References:
        return self.baselines.scales

    def uniform(self, n: int) -> F64:
        low, high = self.benign.min(axis=0), self.benign.max(axis=0)
        return np.asarray(low + (high - low) * self.rng.random((n, self.width)))

    def shuffled(self, n: int) -> F64:
        return np.asarray(self.rng.permuted(np.resize(self.benign, (n, self.width)), axis=0))

    def signals(self, x: F64, client: str = "a") -> dict[str, F32]:
        batch = events(x, client)
        slot = np.zeros(len(batch), np.int64)
        return dict(NOVELTY.observe(view_of(self.baselines, batch, slot), NOVELTY.state(1)))


def view_of(baselines: Baselines, batch: EventBatch, slot: np.ndarray) -> View:
    lens = views.Lens.__new__(views.Lens)
    lens.baselines = baselines
    return lens.view(batch, slot, views.Memory.of(1))


@pytest.fixture(scope="module", params=[6, 12, 60], ids=lambda width: f"{width} features")
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_uniform_inputs_are_made_from_the_first_dozens_on(world: World) -> None:
    found = world.signals(world.uniform(100))
    assert found["novelty.made"][60] > 4
    assert np.nanmax(found["novelty.inputs"]) > 60


def test_every_fifth_query_of_uniform_inputs_shows_in_time(world: World) -> None:
    x = world.make(world.rng, 600)
    x[::5] = world.uniform(120)
    found = world.signals(x)
    assert np.nanmax(found["novelty.made"]) > 2


def test_genuine_records_are_not_made(world: World) -> None:
    found = world.signals(world.make(world.rng, 400))
    assert np.nanmax(found["novelty.made"]) < 0.5
    assert np.nanmax(found["novelty.inputs"]) <= 12


@pytest.mark.parametrize("kind", ["shuffled", "shifted", "scaled", "one constant feature", "one foreign unit"])
def test_what_disturbs_honest_inputs_is_no_evidence(world: World, kind: str) -> None:
    x = world.make(world.rng, 300)
    spread = x.std(axis=0)
    if kind == "shuffled":
        x = world.shuffled(300)
    elif kind == "shifted":
        x = x + spread * world.rng.normal(size=world.width)
    elif kind == "scaled":
        x = x * world.rng.uniform(0.7, 1.4, world.width)
    elif kind == "one constant feature":
        x[:, 1] = 0.0
    else:
        x[:, 1] *= 10.0
    found = world.signals(x)
    assert np.nanmax(found["novelty.made"]) < 3


def test_a_few_inputs_again_and_again_are_counted_once(world: World) -> None:
    pool = world.uniform(12)
    found = world.signals(pool[world.rng.integers(0, 12, 400)])
    assert np.nanmax(found["novelty.inputs"]) <= 12


@pytest.mark.parametrize("width", [6, 12, 60])
def test_clients_under_the_null_are_rarely_accused(width: int) -> None:
    world = World(width)
    ever = [np.nanmax(world.signals(world.make(world.rng, 150))["novelty.made"]) for _ in range(80)]
    assert np.mean(np.array(ever) >= 1) <= 0.1  # Ville: P(ever E ≥ 10) ≤ 1/10


def test_without_dependence_or_rows_there_is_no_test() -> None:
    few = World(12, rows=20)
    assert np.isnan(few.signals(few.uniform(50))["novelty.made"]).all()
    rng = np.random.default_rng(0)
    one = np.zeros((200, 32), np.int16)
    one[:, 0] = rng.integers(-1000, 1000, 200)
    assert np.isinf(genuine.dependence_of(one).dependence)


def test_thresholds_lie_between_benign_shuffled_and_uniform_rows(world: World) -> None:
    scales, m = world.scales, 0
    rows: I16 = scales.rows[m, :, : scales.row_count[m]].T
    found = genuine.dependence_of(rows)
    z = np.clip((rows - rows.mean(axis=0)) * found.inverse_sd, -genuine.ROBUST, genuine.ROBUST)
    ratio = np.einsum("ni,ij,nj->n", z, found.precision, z) / (z * z).sum(axis=1)
    mixed = world.rng.permuted(z, axis=0)
    shuffled = np.einsum("ni,ij,nj->n", mixed, found.precision, mixed) / (mixed * mixed).sum(axis=1)
    assert np.median(ratio) < found.dependence < np.median(shuffled)


def test_the_unit_of_one_feature_does_not_weigh_on_another() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 3)) * [1e-4, 1.0, 1e5]
    _, spread = robust_scale(rows)
    np.testing.assert_allclose(spread, rows.std(axis=0), rtol=0.25)
    _, spread = robust_scale(np.column_stack([rows[:, 1], np.zeros(200)]))
    assert spread[1] == pytest.approx(0.1 * np.sqrt(np.mean([spread[0] ** 2, 0])))
