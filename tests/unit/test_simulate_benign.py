"""Each benign kind does what it says: checked by what it sends, not by its name."""

from __future__ import annotations

import numpy as np
import pytest

from replay.simulate import benign, pace, victims
from replay.simulate.benign.protocol import Setting, Trace
from replay.simulate.data import UnknownNameError, load
from replay.simulate.records import source_of

SEED, DAY = 5, 86_400.0


def play(kind: str, model: str = "", queries: int = 400, seed: int = 1) -> tuple[Trace, Setting]:
    plan = benign.kind_named(kind)
    name = model or next(m for m in ("segments-forest", "digits-mlp") if plan.suits(load(m.split("-")[0], SEED)))
    victim = victims.build(name, SEED)
    at = Setting(victim, source_of(victim.data.name, SEED, "report"), 0.0, DAY, queries)
    return plan.run(np.random.default_rng(seed), at), at


def distinct(trace: Trace) -> float:
    return len({row.tobytes() for row in trace.x}) / len(trace.x)


def steps(trace: Trace, at: Setting) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the distances between consecutive queries, in units of the median distance of random pairs."""
    spread = np.maximum(at.victim.data.held_out.x.std(0), 1e-6)
    x = trace.x / spread
    others = np.random.default_rng(0).permutation(len(x))
    return np.asarray(np.linalg.norm(np.diff(x, axis=0), axis=1) / np.median(np.linalg.norm(x - x[others], axis=1)))


@pytest.mark.parametrize("kind", benign.catalogue())
@pytest.mark.parametrize("queries", [9, 300])
def test_every_kind_sends_valid_queries_in_order_inside_its_time(kind: str, queries: int) -> None:
    trace, at = play(kind, queries=queries)
    data = at.victim.data
    assert 0 < len(trace.x) <= 3 * queries
    assert len(trace.x) == len(trace.time_s) == len(trace.status)
    assert (np.diff(trace.time_s) >= 0).all()
    assert trace.time_s[0] >= 0
    assert trace.time_s[-1] <= DAY + 60
    assert (trace.x >= data.low - 1e-3).all()
    assert (trace.x <= data.high + 1e-3).all()


@pytest.mark.parametrize("kind", ["human", "machine", "batch", "newcomer", "onboarding", "drift", "noise"])
def test_these_kinds_send_nearly_only_new_records(kind: str) -> None:
    assert distinct(play(kind)[0]) > 0.97


def test_batches_are_fast_inside_and_slow_between() -> None:
    gaps = np.diff(play("batch", queries=1024)[0].time_s)
    assert np.median(gaps) < 0.05
    assert gaps.max() > 3600


def test_people_pause_for_seconds_and_work_by_day() -> None:
    trace, _ = play("human", queries=2000)
    assert 2 < np.median(np.diff(trace.time_s)) < 30
    hours = trace.time_s % DAY / 3600
    assert ((hours > 7) & (hours < 20)).mean() > 0.7


def test_a_health_check_repeats_a_few_records_at_a_fixed_period() -> None:
    trace, _ = play("health_check")
    gaps = np.diff(trace.time_s)
    assert len({row.tobytes() for row in trace.x}) <= 3
    assert gaps.std() < 0.2 * gaps.mean()


def test_retries_repeat_a_failed_call_until_it_succeeds() -> None:
    trace, _ = play("retries", queries=2000)
    failed = np.flatnonzero(trace.status != 200)
    assert 0.05 < len(failed) / len(trace.x) < 0.4
    later = {row.tobytes() for row in trace.x[trace.status == 200]}
    assert all(trace.x[i].tobytes() in later for i in failed.tolist())


def test_a_load_test_loops_over_a_pool() -> None:
    trace, _ = play("load_test", queries=4000)
    assert distinct(trace) < 0.15
    assert np.median(np.diff(trace.time_s)) < 0.05


def test_a_slider_moves_one_feature_at_a_time() -> None:
    trace, _ = play("what_if_slider")
    changed = (np.diff(trace.x, axis=0) != 0).sum(1)
    assert (changed <= 1).mean() > 0.85


@pytest.mark.parametrize("kind", ["sensor", "video_frames"])
def test_paths_take_small_steps_to_far_places(kind: str) -> None:
    trace, at = play(kind, queries=600)
    assert np.median(steps(trace, at)) < 0.5
    fresh, at = play("machine", queries=600)
    assert np.median(steps(fresh, at)) > 0.8


def test_augmentation_sends_variants_close_to_each_record() -> None:
    trace, at = play("augmentation")
    near = steps(trace, at)
    assert (near < 0.3).mean() > 0.5
    assert distinct(trace) > 0.9


def test_drift_leaves_where_it_began() -> None:
    trace, at = play("drift", queries=2000)
    spread = np.maximum(at.victim.data.held_out.x.std(0), 1e-6)
    moved = np.abs(trace.x[-200:].mean(0) - trace.x[:200].mean(0)) / spread
    still, _ = play("machine", queries=2000)
    assert moved.max() > 3 * (np.abs(still.x[-200:].mean(0) - still.x[:200].mean(0)) / spread).max()


def margins(trace: Trace, at: Setting) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    scores = np.sort(at.victim.scores(trace.x), 1)
    return np.asarray(scores[:, -1] - scores[:, -2])


def test_a_review_queue_holds_what_the_model_is_least_sure_of() -> None:
    hard, usual = play("hard_sample_queue"), play("machine")
    assert np.median(margins(*hard)) < 0.5 * np.median(margins(*usual))


def test_threshold_tuning_sends_each_record_to_both_arms() -> None:
    trace, _ = play("threshold_tuning")
    pairs = len(trace.x) // 2
    assert np.array_equal(trace.x[: 2 * pairs : 2], trace.x[1 : 2 * pairs : 2])


@pytest.mark.parametrize("kind", ["lime", "kernel_shap", "occlusion"])
def test_explainers_send_many_mixtures_of_one_record(kind: str) -> None:
    trace, at = play(kind, "digits-mlp", queries=300)
    background = {row.tobytes() for row in at.source.originals.x}
    assert not {row.tobytes() for row in trace.x} & background
    fresh, _ = play("machine", "digits-mlp", queries=300)
    same = [(row == trace.x[0]).mean() for row in trace.x[1:40]]
    usual = [(row == fresh.x[0]).mean() for row in fresh.x[1:40]]
    assert np.mean(same) > np.mean(usual) + 0.1
    assert benign.kind_named(kind).explainer


def test_a_notebook_repeats_edits_and_samples() -> None:
    assert 0.3 < distinct(play("notebook")[0]) < 0.95


def test_a_sorted_batch_is_sorted_by_something() -> None:
    trace, at = play("sorted_batch")
    keys = [*at.victim.scores(trace.x).T, *trace.x.T]
    runs = [max((np.diff(key) >= 0).mean(), (np.diff(key) <= 0).mean()) for key in keys if np.ptp(key) > 0]
    assert max(runs) == 1.0


def test_a_single_class_tenant_has_one_class() -> None:
    trace, at = play("single_class_tenant")
    labels = at.victim.scores(trace.x).argmax(1)
    assert np.bincount(labels).max() / len(labels) > 0.8


def test_there_are_ordinary_and_hard_kinds_and_explainers() -> None:
    kinds = benign.catalogue().values()
    assert sum(not kind.hard for kind in kinds) >= 4
    assert sum(kind.hard for kind in kinds) >= 15
    assert sum(kind.explainer for kind in kinds) == 3


def test_an_unknown_kind_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownNameError, match="health_check"):
        benign.kind_named("poltergeist")


def test_times_that_run_past_the_end_are_squeezed() -> None:
    out = pace.fit_between(np.array([0.0, 50.0, 200.0]), 0.0, 100.0)
    assert out.tolist() == [0.0, 25.0, 100.0]
