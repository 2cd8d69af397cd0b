"""Data, records, models and victims of the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.simulate import victims
from replay.simulate.data import LOADERS, UnknownNameError, half_of, load
from replay.simulate.models import KINDS, fit
from replay.simulate.records import source_of

DATA = tuple(name for name in LOADERS if name != "mnist")


@pytest.mark.parametrize("name", DATA)
def test_members_public_and_held_out_records_share_no_place_and_cover_all_classes(name: str) -> None:
    data = load(name, 3)
    sizes = [len(part.y) for part in (data.members, data.public, data.held_out)]
    assert sizes[0] / sum(sizes) == pytest.approx(0.4, abs=0.03)
    for part in (data.members, data.public, data.held_out):
        assert set(part.y.tolist()) == set(range(data.classes))


def test_the_seed_decides_who_is_a_member() -> None:
    first, again, other = load("wine", 1), load("wine", 1), load("wine", 2)
    assert np.array_equal(first.members.x, again.members.x)
    assert not np.array_equal(first.members.x, other.members.x)


@pytest.mark.parametrize("name", DATA)
def test_new_records_stay_in_range_and_on_the_grid_of_the_data(name: str) -> None:
    data, source = load(name, 3), source_of(name, 3, "report")
    x = source.draw(np.random.default_rng(1), 400).x.astype(np.float64)
    assert (x >= data.low - 1e-4).all()
    assert (x <= data.high + 1e-4).all()
    gridded = data.step >= 0.01  # finer steps are beyond float32 in wide columns
    whole = x[:, gridded] / data.step[gridded]
    assert np.abs(whole - np.round(whole)).max(initial=0) < 0.02


@pytest.mark.parametrize("name", [name for name in DATA if name not in {"iris", "phishing"}])
def test_new_records_are_nearly_all_new(name: str) -> None:
    source = source_of(name, 3, "report")
    x = source.draw(np.random.default_rng(1), 1000).x
    old = {row.tobytes() for row in source.originals.x}
    fresh = {row.tobytes() for row in x} - old
    assert len(fresh) > 970


@pytest.mark.parametrize("name", DATA)
def test_models_judge_new_records_about_as_well_as_held_out_ones(name: str) -> None:
    data = load(name, 3)
    model = fit("logistic", data.members, 1)
    new = source_of(name, 3, "report").draw(np.random.default_rng(1), 1000)
    on_new = (model.forward(new.x).argmax(1) == new.y).mean()
    on_old = (model.forward(data.held_out.x).argmax(1) == data.held_out.y).mean()
    assert abs(on_new - on_old) < 0.12


def test_the_halves_share_no_parent() -> None:
    one, other = (source_of("digits", 3, half).originals.x for half in ("calibration", "report"))
    assert not {row.tobytes() for row in one} & {row.tobytes() for row in other}


def test_an_image_without_motion_is_its_parent() -> None:
    source = source_of("digits", 3, "report")
    parents = np.arange(20)
    assert np.array_equal(source.near(np.random.default_rng(1), parents, 0.0).x, source.originals.x[parents])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["digits", "breast"])
def test_the_fast_forward_pass_equals_scikit_learn(kind: str, name: str) -> None:
    data = load(name, 3)
    model = fit(kind, data.members, 1)
    x = np.concatenate([data.held_out.x, data.members.x])
    expected = model.estimator.predict_proba(x)
    assert np.abs(model.forward(x) - expected).max() < 5e-6
    assert np.abs(np.concatenate([model.forward(x[i : i + 1]) for i in range(40)]) - expected[:40]).max() < 5e-6


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(victims.INTERFACES), st.integers(1, 20), st.integers(0, 2**32))
def test_an_interface_shows_what_it_says_and_no_more(interface: str, n: int, seed: int) -> None:
    victim = victims.build(f"breast-logistic-{interface}", 3)
    rng = np.random.default_rng(seed)
    x = victim.data.held_out.x[rng.integers(0, len(victim.data.held_out.y), n)]
    answer, output = victim.serve(x, rng), None
    output = victim.output(answer)
    keys = {"scores": {"label", "scores"}, "top1": {"label", "confidence"}, "label": {"label"}}
    assert all(set(one) == keys.get(interface, keys["scores"]) for one in output)
    if interface == "rounded":
        assert answer.scores is not None
        assert np.array_equal(answer.scores, np.round(answer.scores, 2))
    if interface == "noisy":
        assert answer.scores is not None
        assert not np.allclose(answer.scores, victim.scores(x), atol=1e-6)
    else:
        assert np.array_equal(answer.label, victim.scores(x).argmax(1))


@pytest.mark.parametrize("name", ["digits", "digits-mlp-scores-x", "cats-mlp", "digits-gpt", "digits-mlp-secret"])
def test_an_unknown_victim_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(UnknownNameError, match="DATA-KIND"):
        victims.parts(name)


def test_half_of_all_clients_fall_into_each_half() -> None:
    share = np.mean([half_of(f"key-{i}") == "report" for i in range(4000)])
    assert share == pytest.approx(0.5, abs=0.04)
