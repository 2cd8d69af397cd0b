"""The benign reference: when it is there, what is in it, and that nobody moves it fast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector import baseline
from detector.baseline import Baselines, Ended
from detector.candidates import PER_CLIENT, ROWS
from detector.pipeline import Pipeline
from tests import pipelines, streams

MODEL = streams.Model.make(np.random.default_rng(7), 6, 3)


def queries(client: str, n: int, at_s: int = 0, habit: streams.Habit = streams.ordinary) -> list[streams.Query]:
    like = streams.Query(client, None, None, time_us=streams.START_US + at_s * streams.SECOND_US)
    return streams.queries(np.random.default_rng(streams.key_of(client) % 1000), MODEL, habit, n, like)


def crowd(clients: int, each: int) -> list[streams.Query]:
    made = [query for k in range(clients) for query in queries(f"c{k}", each)]
    return sorted(made, key=lambda query: query.time_us)


def judged(baselines: Baselines, made: list[streams.Query]) -> int:
    """Return how many events are let through at once."""
    return sum(len(part) for part in baselines.admit(streams.batch(made)))


def test_the_reference_is_there_after_256_rows_of_many_clients() -> None:
    baselines = Baselines(4, 1)
    made = crowd(40, 8)
    assert judged(baselines, made[:255]) == 0
    assert judged(baselines, made[255:]) == len(made)
    assert baselines.scales.row_count[0] <= ROWS


def test_one_client_alone_cannot_fill_the_reference() -> None:
    baselines = Baselines(4, 1)
    made = queries("loud", 1000)
    slow = [replace(q, time_us=streams.START_US + i * 1000) for i, q in enumerate(made)]
    assert judged(baselines, slow) == 0
    assert next(iter(baselines.waiting.values())).rows == PER_CLIENT


def test_a_quiet_model_is_judged_after_ten_minutes_or_many_events() -> None:
    patient, busy = Baselines(4, 1), Baselines(4, 1)
    made = crowd(8, 10)
    assert judged(patient, made) == 0
    assert judged(patient, [replace(made[0], time_us=streams.START_US + baseline.WAIT_US)]) == len(made) + 1
    assert judged(busy, queries("alone", baseline.WAIT_EVENTS)) == baseline.WAIT_EVENTS


def test_repeats_and_failed_calls_are_no_rows() -> None:
    baselines = Baselines(4, 1)
    made = crowd(20, 5)
    judged(baselines, [*made, *made, *(replace(q, status=500) for q in crowd(30, 5))])
    assert next(iter(baselines.waiting.values())).rows == 100


def test_distances_of_the_reference_are_those_of_its_rows() -> None:
    baselines = Baselines(4, 1)
    judged(baselines, crowd(40, 8))
    scales = baselines.scales
    rows = scales.rows[0, :, : scales.row_count[0]].T.astype(np.float64)
    gaps = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert scales.r0[0] == pytest.approx(np.median(gaps[:64, :64].min(axis=1)), rel=0.2)
    assert scales.q95[0] > scales.r0[0]
    np.testing.assert_allclose(scales.mean[0], rows.mean(axis=0), atol=1e-6)
    assert scales.width[0] == 6
    assert scales.classes[0] == 3
    assert scales.probability[0]


def test_calls_of_another_width_or_that_failed_have_no_sketch() -> None:
    baselines = Baselines(4, 1)
    judged(baselines, crowd(40, 8))
    good = queries("late", 3)
    x = good[0].x
    assert x is not None
    bad = [replace(good[0], x=x[:4]), replace(good[0], status=503), replace(good[0], x=None)]
    batch = streams.batch([*good, *bad])
    sketch, usable = baselines.sketch(batch, np.zeros(6, np.int32))
    assert usable.tolist() == [1, 1, 1, 0, 0, 0]
    assert not sketch[3:].any()


def test_epochs_end_where_the_watermark_passes_an_hour_and_never_go_back() -> None:
    baselines = Baselines(4, 1)
    hours = [0, 0, 1, 0, 1, 2, 1, 4, 4]
    first = streams.START_US // baseline.EPOCH_US * baseline.EPOCH_US
    made = queries("a", len(hours))
    batch = streams.batch(
        [replace(q, time_us=first + h * baseline.EPOCH_US + 7) for q, h in zip(made, hours, strict=True)]
    )
    cut = [(len(part), ended) for part, ended in baselines.epochs(batch)]
    assert cut == [(2, Ended.NOTHING), (3, Ended.EPOCH), (2, Ended.EPOCH), (2, Ended.EPOCH)]


def test_an_epoch_has_six_ticks_and_its_end_is_no_tick_beside() -> None:
    baselines = Baselines(4, 1)
    first = streams.START_US // baseline.EPOCH_US * baseline.EPOCH_US
    minutes = [0, 9, 10, 11, 5, 35, 59, 61, 180]
    made = [replace(q, time_us=first + t * 60_000_000) for q, t in zip(queries("a", 9), minutes, strict=True)]
    ended = [(len(part), end.name) for one in made for part, end in baselines.epochs(streams.batch([one]))]
    names = ["NOTHING", "NOTHING", "TICK", "NOTHING", "NOTHING", "TICK", "TICK", "EPOCH", "EPOCH"]
    assert ended == [(1, name) for name in names]


def test_an_epoch_takes_in_a_quarter_of_the_rows_at_most() -> None:
    line = pipelines.pipeline(64, models=1)
    line.process(streams.batch(crowd(40, 8)))
    before = rows_of(line)
    line.process(streams.batch(crowd(50, 12)[320:]))
    assert rows_of(line) == before  # frozen inside the epoch
    line.process(streams.batch(queries("next", 1, at_s=7200)))
    assert 0 < len(rows_of(line) - before) <= ROWS // 4


def test_one_client_moves_few_rows_an_epoch() -> None:
    line = pipelines.pipeline(64, models=1)
    line.process(streams.batch(crowd(40, 8)))
    line.process(streams.batch(queries("next", 1, at_s=7200)))
    before = rows_of(line)
    line.process(streams.batch(queries("pusher", 900, at_s=7300)))
    line.process(streams.batch(queries("last", 1, at_s=14400)))
    assert 0 < len(rows_of(line) - before) <= PER_CLIENT + 1


def rows_of(line: Pipeline) -> set[bytes]:
    """Return the rows of the first model's reference."""
    scales = line.baselines.scales
    return {column.tobytes() for column in scales.rows[0].T[: scales.row_count[0]]}


def test_a_model_that_logs_no_inputs_is_still_followed() -> None:
    baselines = Baselines(4, 1)
    bare = [replace(query, x=None) for query in queries("a", baseline.WAIT_EVENTS)]
    assert judged(baselines, bare) == baseline.WAIT_EVENTS
    assert baselines.scales.row_count[0] == 0


def test_popular_records_that_return_every_hour_leave_the_scale_alone() -> None:
    line = pipelines.pipeline(64, models=1)
    line.process(streams.batch(crowd(40, 8)))
    scale = float(line.baselines.scales.r0[0])
    for hour in range(1, 6):
        line.process(
            streams.batch([replace(query, time_us=query.time_us + 3_600_000_000 * hour) for query in crowd(40, 8)])
        )
    assert line.baselines.scales.r0[0] > 0.8 * scale
    assert len(rows_of(line)) == line.baselines.scales.row_count[0]
