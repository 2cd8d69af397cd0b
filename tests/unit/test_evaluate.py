"""The scoreboard: what counts as detected, as false, and how often; exact bounds; truth files; comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from detector.alerts import SEVERITIES, Alert, Engine, Evidence, RuleRef, Span, document
from detector.conditions import Condition, Every, Some, Threshold, evaluate
from detector.detectors import Signal
from detector.settings import Settings
from replay.evaluate.board import cases
from replay.evaluate.bounds import rate
from replay.evaluate.compare import CompareError, compare
from replay.evaluate.outcome import Outcomes, judge
from replay.evaluate.score import BEFORE, Json, delays, score
from replay.evaluate.stream import Stream, UnknownClientsError, read_stream
from replay.evaluate.truth import TruthError, read_truth
from replay.evaluate.watch import KNOB_FROM, MEDIUM, Alarm, alarm_of, in_episodes, strength

LOW, HIGH = SEVERITIES.index("low"), SEVERITIES.index("high")
MODEL = "m"


def moment(second: int) -> str:
    return f"{np.datetime64('2026-11-16T00:00:00') + np.timedelta64(second, 's')}Z"


@dataclass
class World:
    """A capture and its truth: one event a second, and who sends it."""

    senders: str  # one letter an event
    truth: list[dict[str, Any]] = field(default_factory=list)

    def hostile(self, who: str, family: str = "inversion", start: int | None = None, **more: Any) -> World:
        begins = {} if start is None else {"attack_start": moment(start)}
        row = {"client": who, "model": MODEL, "hostile": True, "family": family, "half": "report", **begins, **more}
        return replace(self, truth=[*self.truth, row])

    def benign(self, who: str, **more: Any) -> World:
        row = {"client": who, "model": MODEL, "hostile": False, "kind": "human", "half": "report", **more}
        return replace(self, truth=[*self.truth, row])

    def write(self, folder: Path) -> Path:
        capture = folder / "capture.jsonl"
        events = [
            {
                "schema": "prediction_event/1",
                "event_time": moment(second),
                "client": {"id": who},
                "model": {"name": MODEL, "version": "1"},
                "input": {"vector": [second, 1.0]},
                "output": {"label": 0},
            }
            for second, who in enumerate(self.senders)
        ]
        capture.write_text("".join(json.dumps(event) + "\n" for event in events))
        (folder / "capture.truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.truth))
        return capture

    def stream(self, folder: Path) -> Stream:
        (case,) = cases([self.write(folder)])
        return read_stream(case.files, case.truth, Settings())


def alarm(stream: Stream, who: str, offset: int, level: int = MEDIUM, **more: Any) -> Alarm:
    """Return an alarm that accuses the clients `who` (the last is the one that sent the event)."""
    pairs = tuple(stream.number[letter, MODEL] for letter in who)
    given = {"family": "inversion", "risk": 10.0, "episode": f"{who}{offset}", **more}
    return Alarm(pairs, offset, level, **given)


def scored(stream: Stream, alarms: list[Alarm]) -> Json:
    return score(judge(stream, alarms), families=True)


TWO = World("aabbccaabbcc").hostile("a").hostile("b", "extraction", start=7).benign("c")


def test_an_oracle_that_alerts_exactly_on_attackers_scores_everything(tmp_path: Path) -> None:
    stream = TWO.stream(tmp_path)
    found = scored(stream, [alarm(stream, "a", 0), alarm(stream, "b", 8, family="extraction")])
    everything = found["all"]["all"]
    assert everything["campaigns"]["rate"] == everything["clients"]["rate"] == 1.0
    assert everything["queries"]["median"] == 1
    assert found["benign"]["all"]["false_alerts"] == 0
    assert found["benign"]["all"]["medium"]["found"] == 0
    assert found["benign"]["all"]["queries"] == 4 + 2  # those of b before its attack are benign
    for which in ("first", "highest"):
        assert found["confusion"][which]["right"]["rate"] == 1.0
        assert found["confusion"][which]["table"]["extraction"] == {"extraction": 1}


def test_silence_scores_nothing(tmp_path: Path) -> None:
    found = scored(TWO.stream(tmp_path), [])
    assert found["all"]["all"]["campaigns"]["rate"] == found["all"]["all"]["clients"]["rate"] == 0.0
    assert found["all"]["all"]["queries"]["median"] is None
    assert found["benign"]["all"]["per_million"] == 0.0
    assert found["confusion"]["first"]["table"]["inversion"] == {"missed": 1}
    assert found["confusion"]["first"]["right"]["rate"] is None


def test_an_alert_before_the_attack_began_counts_as_false(tmp_path: Path) -> None:
    stream = TWO.stream(tmp_path)
    found = scored(stream, [alarm(stream, "b", 3)])
    assert found["families"]["extraction"]["campaigns"]["found"] == 0
    before = found["benign"]["kinds"][BEFORE]
    assert (before["false_alerts"], before["medium"]["found"], before["queries"]) == (1, 1, 2)
    later = scored(stream, [alarm(stream, "b", 3), alarm(stream, "b", 9)])
    assert later["families"]["extraction"]["campaigns"]["found"] == 1
    assert later["families"]["extraction"]["queries"]["median"] == 2
    assert later["benign"]["all"]["false_alerts"] == 1


def test_a_client_never_alerted_and_one_alerted_twice_are_counted_once(tmp_path: Path) -> None:
    stream = World("abcabcabc").hostile("a").hostile("b").benign("c").stream(tmp_path)
    alarms = [alarm(stream, "a", 6, HIGH), alarm(stream, "a", 3), alarm(stream, "c", 2), alarm(stream, "c", 5, HIGH)]
    found = scored(stream, alarms)
    detected = found["families"]["inversion"]["clients"]
    assert (detected["found"], detected["n"]) == (1, 2)
    assert found["families"]["inversion"]["queries"]["median"] == 2  # the earlier alert, whatever the order given
    benign = found["benign"]["kinds"]["human"]
    assert (benign["medium"]["found"], benign["high"]["found"], benign["medium"]["n"]) == (1, 1, 1)
    assert benign["false_alerts"] == 2  # two episodes, one client


def test_the_escalation_of_an_episode_is_no_second_false_alert_and_low_is_none(tmp_path: Path) -> None:
    stream = World("cccc").benign("c").stream(tmp_path)
    rising = [alarm(stream, "c", i, level, episode="one") for i, level in enumerate((LOW, MEDIUM, HIGH))]
    found = scored(stream, rising)["benign"]["all"]
    assert (found["false_alerts"], found["high"]["found"]) == (1, 1)
    found = scored(stream, rising[:1])["benign"]["all"]
    assert (found["false_alerts"], found["low"]["found"], found["medium"]["found"]) == (0, 1, 0)


def test_a_low_alert_detects_nothing(tmp_path: Path) -> None:
    stream = TWO.stream(tmp_path)
    assert scored(stream, [alarm(stream, "a", 6, LOW)])["all"]["all"]["campaigns"]["found"] == 0


CAMPAIGN = (
    World("xabcabcabcy").hostile("a", campaign="k").hostile("b", campaign="k").hostile("c", campaign="k")
).benign("x").benign("y")  # fmt: skip


def test_a_campaign_is_detected_by_any_member_and_its_queries_are_pooled(tmp_path: Path) -> None:
    stream = CAMPAIGN.stream(tmp_path)
    row = scored(stream, [alarm(stream, "b", 5)])["families"]["inversion"]
    assert (row["campaigns"]["found"], row["campaigns"]["n"]) == (1, 1)
    assert (row["clients"]["found"], row["clients"]["n"]) == (1, 3)
    assert row["queries"]["median"] == 5
    assert row["client_queries"]["median"] == 2


def test_a_campaign_is_named_when_an_alert_lists_half_of_its_members(tmp_path: Path) -> None:
    stream = CAMPAIGN.stream(tmp_path)
    found = scored(stream, [alarm(stream, "axb", 5, campaign=True)])
    assert found["campaigns"]["named"]["rate"] == 1.0
    assert (found["campaigns"]["wrong_members"]["found"], found["campaigns"]["wrong_members"]["n"]) == (1, 3)
    assert found["families"]["inversion"]["clients"]["found"] == 2
    assert found["benign"]["all"]["medium"]["found"] == 1  # x is accused ...
    assert found["benign"]["all"]["false_alerts"] == 0  # ... by an alert about a real campaign
    assert scored(stream, [alarm(stream, "a", 5, campaign=True)])["campaigns"]["named"]["rate"] == 0.0
    assert scored(stream, [alarm(stream, "ab", 5)])["campaigns"]["named"]["rate"] == 0.0
    false = scored(stream, [alarm(stream, "xy", 10, campaign=True)])
    assert (false["benign"]["all"]["false_alerts"], false["benign"]["all"]["medium"]["found"]) == (1, 2)


def test_clients_without_truth_are_counted_apart(tmp_path: Path) -> None:
    stream = World("abz").hostile("a").benign("b").stream(tmp_path)
    found = scored(stream, [alarm(stream, "z", 2)])
    assert found["unlabelled"] == {"clients": 1, "alarmed": 1}
    assert found["benign"]["all"]["medium"]["n"] == 1
    assert found["benign"]["all"]["false_alerts"] == 0


def test_halves_are_scored_apart(tmp_path: Path) -> None:
    stream = World("abcd").hostile("a").hostile("b", half="calibration").benign("c").benign("d").stream(tmp_path)
    outcomes = judge(stream, [alarm(stream, "a", 0)])
    shares = {half: score(outcomes.half(half), families=True)["all"]["all"]["campaigns"] for half in ("report", "both")}
    assert {half: (row["found"], row["n"]) for half, row in shares.items()} == {"report": (1, 1), "both": (1, 2)}


def test_the_highest_alert_is_the_one_of_the_greatest_risk(tmp_path: Path) -> None:
    stream = World("aaaa").hostile("a").stream(tmp_path)
    alarms = [alarm(stream, "a", 1, family="extraction", risk=90.0), alarm(stream, "a", 2, risk=20.0)]
    confusion = scored(stream, [alarms[1], alarms[0]])["confusion"]
    assert confusion["first"]["table"]["inversion"] == {"extraction": 1}
    assert confusion["highest"]["table"]["inversion"] == {"extraction": 1}
    swapped = [alarms[0]._replace(risk=5.0), alarms[1]]
    assert scored(stream, swapped)["confusion"]["highest"]["table"]["inversion"] == {"inversion": 1}


def test_an_anchors_alarms_less_than_an_hour_apart_are_one_episode(tmp_path: Path) -> None:
    stream = World("a" * 30 + "b" * 10).hostile("a").benign("b").stream(tmp_path)
    assert [a.offset for a in in_episodes(np.array([3, 9, 30, 31]), stream)] == [3, 30]
    assert [a.offset for a in in_episodes(np.array([3, 9, 20]), stream, episode_us=8_000_000)] == [3, 20]


def test_alarms_are_read_from_alert_documents() -> None:
    rule = RuleRef("r", "u", "t", 1, "alert", "inversion", "h", None, None, "")
    alert = Alert(
        "alert-raised", rule, "high", 5, 1, 2, "a", "api_key", "", MODEL, "1", 9, "", "why", 61.5,
        (Evidence("inversion.evidence", 4.0, ">=", 3.0, "log10 e-value", True, None),),
        {}, "first rows", Span("t", 0, 3, 7), members=("a", "b", "elsewhere"),
    )  # fmt: skip
    found = alarm_of(document(alert, Engine("n", "replay", 0)), {("b", MODEL): 4, ("a", MODEL): 2, ("a", "other"): 1})
    assert found._replace(episode="") == Alarm((2, 4), 7, HIGH, "inversion", 61.5, "", campaign=True)
    assert found.episode == alert.alert_id("n")


# --- bounds


@pytest.mark.parametrize(
    ("found", "n", "low", "high"),
    [
        (0, 300, 0.0, 0.00993607),  # 1 − 0.05^(1/300): one per cent takes 300 clean clients
        (0, 3_000_000, 0.0, 0.99857e-6),  # one in a million takes three million queries
        (10, 10, 0.741134, 1.0),  # 0.05^(1/10)
        (5, 10, 0.222441, 0.777559),
        (0, 0, 0.0, 1.0),
    ],
)
def test_bounds_have_their_known_values(found: int, n: int, low: float, high: float) -> None:
    assert rate(found, n)[3:] == pytest.approx((low, high), rel=1e-4)


@given(st.integers(1, 2000), st.data())
def test_bounds_are_the_rates_at_which_the_count_becomes_improbable(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    bounds = rate(k, n)
    assert bounds.low95 <= k / n <= bounds.high95
    if k < n:
        assert binom.cdf(k, n, bounds.high95) == pytest.approx(0.05, rel=1e-6)
    if k:
        assert binom.sf(k - 1, n, bounds.low95) == pytest.approx(0.05, rel=1e-6)


@given(st.lists(st.none() | st.integers(1, 100), max_size=30))
def test_delays_of_all_are_infinite_where_too_many_were_missed(queries: list[int | None]) -> None:
    found = delays(queries)
    hits = sorted(q for q in queries if q is not None)
    assert (found["median"] is None) == (not hits)
    assert found["median"] is None or found["median"] in hits
    if len(hits) * 2 < len(queries):
        assert found["median_of_all"] is None
    if len(hits) == len(queries):
        assert found["median_of_all"] == found["median"]
        assert found["p90_of_all"] == found["p90"]


# --- the knob of the operating curve

CATALOGUE = {
    **{name: Signal(name, "log10 e-value", -300, 300, "") for name in ("e", "f")},
    **{name: Signal(name, "share", 0, 1, "") for name in ("s",)},
}
THRESHOLD = st.sampled_from(
    [Threshold("e", ">=", 3.0), Threshold("f", ">=", 4.0), Threshold("f", "<", 1.0), Threshold("e", ">=", 1.0)]
) | st.builds(Threshold, st.just("s"), st.sampled_from([">=", "<"]), st.sampled_from([0.25, 0.5]))  # fmt: skip
CONDITION = st.recursive(
    THRESHOLD,
    lambda inner: st.builds(Every, st.tuples(inner, inner)) | st.builds(Some, st.tuples(inner, inner)),
    max_leaves=6,
)
VALUES = st.floats(-2, 12, width=32) | st.just(float("nan"))


def turned(condition: Condition, knob: float) -> Condition:
    """Return the condition with its main thresholds on e-values set to `knob`."""
    if isinstance(condition, Threshold):
        main = condition.signal in "ef" and condition.op == ">=" and condition.value >= KNOB_FROM
        return replace(condition, value=knob) if main else condition
    return type(condition)(tuple(turned(part, knob) for part in condition.parts))


@given(CONDITION, st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=8), st.sampled_from([1, 2.5, 3, 7]))
def test_strength_says_at_which_thresholds_a_condition_holds(
    condition: Condition, rows: list[tuple[float, float, float]], knob: float
) -> None:
    columns = {name: np.array(column, np.float32) for name, column in zip("efs", zip(*rows, strict=True), strict=True)}
    strong = strength(condition, columns, CATALOGUE, len(rows))
    assert ((strong >= knob) == evaluate(turned(condition, knob), columns, len(rows))).all()


# --- truth files


def test_the_least_truth_is_client_hostile_and_family(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"client": "a", "hostile": true, "family": "inversion"}\n\n{"client": "b", "hostile": false}\n')
    first, second = read_truth([path])
    assert (first.campaign, first.start_us, first.model) == ("a", None, "")
    assert (second.family, second.campaign) == ("", "")
    assert {first.half, second.half} <= {"calibration", "report"}


def test_an_attack_without_a_start_begins_with_the_first_query(tmp_path: Path) -> None:
    stream = World("bba").hostile("a").benign("b").stream(tmp_path)
    assert scored(stream, [alarm(stream, "a", 2)])["all"]["all"]["campaigns"]["found"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ('{"hostile": true}', "'client' is missing"),
        ('{"client": 7, "hostile": true}', "'client' must be text"),
        ('{"client": "a", "hostile": "yes"}', "'hostile' must be true or false"),
        ('{"client": "a", "hostile": true}', "'family' of a hostile client is one of"),
        ('{"client": "a", "hostile": true, "family": "extraction", "attack_start": "noon"}', "'attack_start' must be"),
        ('{"client": "a", "hostile": false, "half": "third"}', "'half' is one of"),
        ('{"client": "b", "hostile": false}', "is also in"),
        ('{"client": "b", "model": "m", "hostile": false}', "is also in"),
    ],
)
def test_a_fault_of_the_truth_is_named_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"client": "b", "hostile": false}\n' + line + "\n")
    with pytest.raises(TruthError, match=r"t\.jsonl:2: ") as error:
        read_truth([path])
    assert said in str(error.value)


def test_a_missing_truth_file_and_a_truth_of_another_capture_are_errors(tmp_path: Path) -> None:
    capture = World("ab").benign("elsewhere").write(tmp_path)
    (case,) = cases([capture])
    with pytest.raises(UnknownClientsError, match="names none of its 2 clients"):
        read_stream(case.files, case.truth, Settings())
    (tmp_path / "capture.truth.jsonl").unlink()
    with pytest.raises(TruthError, match=r"capture\.truth\.jsonl: no such file"):
        cases([capture])


def test_captures_with_one_truth_file_are_one_stream(tmp_path: Path) -> None:
    first = World("ab").hostile("a").benign("b").write(tmp_path)
    second = tmp_path / "second.jsonl"
    second.write_bytes(first.read_bytes())
    (case,) = cases([first, second], [tmp_path / "capture.truth.jsonl"])
    stream = read_stream(case.files, case.truth, Settings())
    assert len(stream.pair) == 4
    assert len(stream.number) == 2
    assert stream.offset.tolist() == [0, 1, 2, 3]


# --- comparison


def board(outcomes: Outcomes, **more: Any) -> Json:
    systems = {"querywatch": score(outcomes, families=True)}
    return {"half": "report", "captures": [{"digest": "d"}], "systems": systems, **more}


def test_a_comparison_shows_what_got_worse_and_what_got_better(tmp_path: Path) -> None:
    stream = TWO.stream(tmp_path)
    good = board(judge(stream, [alarm(stream, "a", 0), alarm(stream, "b", 8, family="extraction")]))
    bad = board(judge(stream, [alarm(stream, "a", 6), alarm(stream, "c", 5)]))
    worse = compare(good, bad)
    measures = {change.measure for change in worse.worse}
    assert "campaigns detected" in " ".join(measures)
    assert "benign: human, clients alarmed at medium" in measures
    assert "families: inversion, median queries" in measures
    assert not [change for change in worse.changes if change.better]
    better = compare(bad, good)
    assert not better.worse
    assert {change.measure for change in better.changes} == {change.measure for change in worse.changes}
    assert not compare(good, good).changes
    assert not worse.note


def test_a_difference_in_the_last_digit_saved_is_no_change(tmp_path: Path) -> None:
    old = board(judge(World("abc").hostile("a").hostile("b").hostile("c").stream(tmp_path), []))
    new = json.loads(json.dumps(old))
    for share, row in ((2 / 3, new), (0.666667, old)):
        row["systems"]["querywatch"]["all"]["all"]["campaigns"]["rate"] = share
    assert not compare(old, new).changes


def test_a_comparison_of_other_captures_or_halves_says_so(tmp_path: Path) -> None:
    same = judge(TWO.stream(tmp_path), [])
    assert "different captures" in compare(board(same, captures=[{"digest": "e"}]), board(same)).note
    assert "half" in compare(board(same, half="both"), board(same)).note
    assert "level of detail" in compare(board(same, level="sketch"), board(same)).note


def test_a_broken_scoreboard_is_a_clear_error(tmp_path: Path) -> None:
    whole = board(judge(TWO.stream(tmp_path), []))
    with pytest.raises(CompareError, match="not whole"):
        compare({"systems": {"querywatch": {"families": {"inversion": {}}}}}, whole)
