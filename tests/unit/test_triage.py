"""Episodes: one alert each, more only when it gets worse, whatever way the stream is cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.rules import Ruleset
from detector.triage import Emission, Triage, TriageState, under_suspicion
from tests.unit.rules_support import RULE, batch_of, column, edited, renamed, ruleset_of

MINUTE = 60_000_000
HOUR = 60 * MINUTE
START = 1_700_000_000_000_000


Event = tuple[int, int, float, float]  # time, slot, evidence, progress
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 30, 59, 60, 61, 200]),  # minutes after the event before
        st.integers(-1, 2),  # slot; −1 has none
        st.sampled_from([float("nan"), 0.0, 3.0, 6.0]),
        st.sampled_from([0.0, 0.95]),
        st.booleans(),  # a stamp far in the future
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def ruleset(tmp_path_factory: pytest.TempPathFactory) -> Ruleset:
    """Three rules: one that alerts, one with a short episode, one in the shadow."""
    short = renamed(2, edited("episode: 1h", "episode: 30m"))
    shadow = renamed(3, edited("stage: alert", "stage: shadow"))
    return ruleset_of(tmp_path_factory.mktemp("rules"), RULE, short, shadow)


def observe(triage: Triage, state: TriageState, events: list[Event], start: int = 0) -> list[Emission]:
    """Feed one chunk; rows of emissions count from the start of the stream."""
    batch = batch_of([t for t, *_ in events], start=start)
    signals = {
        "inversion.evidence": column([e for _, _, e, _ in events]),
        "inversion.progress": column([p for *_, p in events]),
        "trajectory.queries": column([30] * len(events)),
    }
    slot = np.array([s for _, s, *_ in events], np.int64)
    return [e._replace(row=e.row + start) for e in triage.observe(batch, slot, signals, state)]


@dataclass
class Episode:
    level: int
    first: int
    offset: int
    last: int
    matches: int = 0
    suppressed: int = 0


def naive(ruleset: Ruleset, events: list[Event]) -> list[Emission]:
    """The slow truth: event by event, one object an episode."""
    out, episodes = [], dict[tuple[int, int], Episode]()
    for row, (t, slot, evidence, progress) in enumerate(events):
        if slot < 0 or not evidence >= 3:
            continue
        level = 4 if progress >= 0.9 else 3 if evidence >= 6 else 2
        for index, rule in enumerate(ruleset.active):
            e = episodes.get((index, slot))
            if e is None or t - e.last > rule.episode:
                e = episodes[index, slot] = Episode(0, t, row, t)
            e.last = t if t > e.last or e.last - t > rule.episode else e.last
            e.matches += 1
            if level > e.level:
                if rule.stage != "shadow":
                    out.append(Emission(row, index, level, e.level > 0, e.first, e.offset, e.matches, e.suppressed))
                e.level = level
            else:
                e.suppressed += 1
    return out


def stream_of(drawn: list[tuple[int, int, float, float, bool]]) -> list[Event]:
    now, events = START, []
    for minutes, slot, evidence, progress, future in drawn:
        now += minutes * MINUTE
        events.append((now + future * 9000 * HOUR, slot, evidence, progress))
    return events


@settings(max_examples=100, deadline=None)
@given(drawn=EVENTS, cuts=st.sets(st.integers(0, 30)))
def test_any_cut_of_the_stream_gives_what_one_event_at_a_time_gives(
    ruleset: Ruleset, drawn: list[tuple[int, int, float, float, bool]], cuts: set[int]
) -> None:
    events = stream_of(drawn)
    expected = naive(ruleset, events)
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    triage, whole = Triage(ruleset), Triage(ruleset)
    state, whole_state = triage.state(3), whole.state(3)
    got = [e for a, b in pairwise(bounds) for e in observe(triage, state, events[a:b], a)]
    assert got == expected
    assert observe(whole, whole_state, events) == expected
    for cut, uncut in zip(state, whole_state, strict=True):
        np.testing.assert_array_equal(cut, uncut)


def test_an_episode_is_raised_once_and_the_rest_is_counted(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    found = observe(triage, triage.state(1), [(START + i, 0, 3.0, 0.0) for i in range(1000)])
    assert [(e.row, e.rule, e.level, e.escalated) for e in found] == [(0, 0, 2, False), (0, 1, 2, False)]
    assert triage.matched.tolist() == [1000, 1000, 1000]


def test_a_rise_of_severity_escalates_and_says_how_much_was_suppressed(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    events = [(START, 0, 3.0, 0.0), (START + 1, 0, 4.0, 0.0), (START + 2, 0, 6.0, 0.0), (START + 3, 0, 3.0, 0.0)]
    first, second = (e for e in observe(triage, triage.state(1), events) if e.rule == 0)
    assert (second.row, second.level, second.escalated, second.matches, second.suppressed) == (2, 3, True, 3, 1)
    assert (second.first_match_us, second.first_offset) == (first.first_match_us, first.first_offset) == (START, 0)


def test_an_episode_ends_after_its_quiet_time_and_not_before(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    state = triage.state(1)
    times = [START, START + HOUR, START + 2 * HOUR, START + 3 * HOUR + 1]
    found = [e for e in observe(triage, state, [(t, 0, 3.0, 0.0) for t in times]) if e.rule == 0]
    assert [(e.row, e.escalated, e.first_match_us) for e in found] == [(0, False, START), (3, False, times[3])]


def test_a_shadow_rule_counts_and_alerts_nobody(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    state = triage.state(1)
    found = observe(triage, state, [(START, 0, 3.0, 0.0), (START + 1, 0, 6.0, 0.0)])
    assert {e.rule for e in found} == {0, 1}
    assert (triage.raised.tolist(), triage.escalated.tolist()) == ([1, 1, 1], [1, 1, 1])


def test_an_open_episode_protects_its_slot_until_it_ends(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    state = triage.state(3)
    observe(triage, state, [(START, 1, 3.0, 0.0), (START, 2, 0.0, 0.0)])
    assert under_suspicion(state, START + HOUR).tolist() == [False, True, False]
    assert under_suspicion(state, START + HOUR + 1).tolist() == [False, False, False]


def test_one_stamp_from_the_future_protects_nobody_for_years(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    state = triage.state(1)
    observe(triage, state, [(START + 9000 * HOUR, 0, 3.0, 0.0), (START, 0, 3.0, 0.0)])
    assert not under_suspicion(state, START + 2 * HOUR).any()


def test_a_shadow_rule_protects_nobody(tmp_path: Path) -> None:
    triage = Triage(ruleset_of(tmp_path, edited("stage: alert", "stage: shadow")))
    state = triage.state(1)
    observe(triage, state, [(START, 0, 3.0, 0.0)])
    assert triage.raised.tolist() == [1]
    assert not under_suspicion(state, START).any()


def test_reloaded_rules_keep_their_open_episodes(ruleset: Ruleset, tmp_path: Path) -> None:
    before = Triage(ruleset)
    state = before.state(2)
    observe(before, state, [(START, 1, 3.0, 0.0)])
    new = renamed(4)
    after = Triage(ruleset_of(tmp_path, new, edited("version: 1", "version: 2")))
    carried = after.carry(state, before.columns)
    assert under_suspicion(carried, START + HOUR).tolist() == [False, True]
    found = observe(after, carried, [(START + 1, 1, 3.0, 0.0), (START + 2, 1, 6.0, 0.0)])
    kept = [e for e in found if after.columns[e.rule] == before.columns[0]]
    assert [(e.level, e.escalated, e.matches) for e in kept] == [(3, True, 3)]
    assert [e.escalated for e in found if e not in kept] == [False, True]


def test_a_cleared_row_is_a_new_client(ruleset: Ruleset) -> None:
    triage = Triage(ruleset)
    state = triage.state(1)
    observe(triage, state, [(START, 0, 6.0, 0.0)])
    for array in state:
        array[0] = 0
    assert [e.escalated for e in observe(triage, state, [(START + 1, 0, 3.0, 0.0)])] == [False, False]


def test_no_rules_and_no_events_are_fine(tmp_path: Path, ruleset: Ruleset) -> None:
    empty = Triage(ruleset_of(tmp_path))
    assert observe(empty, empty.state(1), [(START, 0, 6.0, 0.0)]) == []
    full = Triage(ruleset)
    assert observe(full, full.state(1), []) == []
