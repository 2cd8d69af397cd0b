"""Targets, breakdowns, anchors, costs: which campaigns a row counts, what it is compared with, who is beaten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import detector
from detector.alerts import SEVERITIES
from replay.anchors import catalogue
from replay.evaluate.bounds import rate, ratio, sign_test
from replay.evaluate.cost import ITSELF, by_part
from replay.evaluate.matched import Shares, loosest, matched
from replay.evaluate.outcome import CampaignOutcome, ClientOutcome, Hit, Outcomes
from replay.evaluate.score import Json, parted
from replay.evaluate.targets import ATTACKS, missed, row_of, targets, verdict
from replay.evaluate.truth import FAMILIES, Client
from replay.evaluate.watch import MEDIUM
from replay.simulate import attacks

HIGH = SEVERITIES.index("high")


def client(name: str = "a", *, hostile: bool = True, family: str = "inversion", **more: Any) -> Client:
    given: dict[str, Any] = {
        **{"client": name, "model": "m", "hostile": hostile, "family": family if hostile else "", "kind": "nes"},
        **{"technique": "", "evasion": "none", "interface": "scores", "hard": False, "half": "report"},
        **{"start_us": None, "campaign": name if hostile else "", "fields": {}},
    }
    return Client(**(given | more))


def campaign(found: int | None = None, *, named: bool = False, peak: float = -np.inf, **truth: Any) -> CampaignOutcome:
    """Return a campaign that was found after so many queries."""
    first = None if found is None else Hit(found, truth.get("family", "inversion"), 0)
    members = [ClientOutcome(client(**truth), 0, 500, first=first)]
    return CampaignOutcome(members, first=first, named=named, peak=peak)


def calm(level: int = -1, *, hard: bool = False, peak: float = -np.inf, **truth: Any) -> ClientOutcome:
    """Return a benign client of 100 queries, alarmed up to a level."""
    said = {"kind": "lime" if hard else "human", **truth}
    outcome = ClientOutcome(client(hostile=False, hard=hard, **said), 100, 0, level, int(level >= MEDIUM))
    outcome.benign_peak = peak
    return outcome


def rows_of(campaigns: list[CampaignOutcome], clients: list[ClientOutcome] | None = None) -> dict[str, Json]:
    members = [member for c in campaigns for member in c.members]
    return {row["name"]: row for row in targets(Outcomes(members + (clients or []), campaigns))}


def test_every_attack_of_the_simulator_falls_into_a_row_of_its_family() -> None:
    for attack in attacks.catalogue().values():
        for interface in attack.interfaces:
            row = row_of(client(family=attack.family, kind=attack.name, interface=interface))
            assert row is not None, attack.name
            assert row.family == attack.family
    assert {row.family for row in ATTACKS} == set(FAMILIES)


@pytest.mark.parametrize(
    ("family", "kind", "interface", "name"),
    [
        ("inversion", "nes", "scores", "inversion with scores"),
        ("inversion", "brep_mi", "label", "inversion, label only"),
        ("membership_inference", "lira", "scores", "membership: boundary, noise, augmentation"),
        ("membership_inference", "loss_threshold", "scores", "membership: one query a record"),
        ("extraction", "KnockoffNets", "scores", "extraction: natural, another distribution"),
        ("extraction", "jbda", "label", "extraction: synthetic, data-free, equations"),
        ("adversarial_search", "HopSkipJump", "scores", "adversarial search, decision-based"),
        ("adversarial_search", "square", "scores", "adversarial search, score-based"),
        ("adversarial_search", "square", "label", "adversarial search, decision-based"),
    ],
)
def test_attacks_of_other_tools_find_their_row(family: str, kind: str, interface: str, name: str) -> None:
    row = row_of(client(family=family, kind=kind, interface=interface))
    assert row is not None
    assert row.name == name


def test_a_row_counts_campaigns_that_do_not_hide_with_bounds_and_delays() -> None:
    found = [campaign(n, evasion=evasion) for n, evasion in ((10, "none"), (30, "jittered"), (None, "none"))]
    row = rows_of([*found, campaign(None, evasion="dummies50")])["inversion with scores"]
    assert (row["n"], row["found"], row["queries"]["median"]) == (3, 2, 30)
    assert row["low95"] == pytest.approx(rate(2, 3).low95)
    assert (row["verdict"], row["floor_verdict"], row["queries_reached"]) == ("missed", "missed", True)


def test_more_is_asked_where_the_training_records_are_indexed() -> None:
    lira = campaign(90, family="membership_inference", kind="membership_confidence")
    missed_one = campaign(None, family="membership_inference", kind="membership_confidence")
    for indexed, name, said in ((False, "no training index", "reached"), (True, "training index", "missed")):
        rows = {row["name"]: row for row in targets(Outcomes([], [lira, missed_one]), indexed=indexed)}
        assert rows[f"membership: one query a record, {name}"]["verdict"] == said


def test_dummies_are_compared_with_the_same_kinds_without_them() -> None:
    plain = [campaign(10), campaign(20), campaign(None), campaign(None), campaign(None, kind="spsa")]
    hidden = [campaign(60, evasion="dummies50"), campaign(None, evasion="dummies50")]
    row = rows_of(plain + hidden)["50 % dummy queries"]
    assert (row["n"], row["rate"]) == (2, 0.5)
    assert row["of_plain"]["rate"] == 1.0  # half of them, as without dummies; spsa has none with dummies
    assert row["floor_verdict"] == "reached"
    assert row["target_queries"] == 2 * 20
    assert row["queries_reached"] is False


def test_a_campaign_over_ids_must_be_named_and_accuse_nobody_else() -> None:
    spread = [campaign(40, evasion="ids10", named=named) for named in (True, True, False)]
    spread[0].listed, spread[0].wrong = 10, 1
    rows = rows_of(spread)
    assert rows["over 10 ids: campaign named"]["found"] == 2
    assert (rows["over 10 ids: wrong members"]["found"], rows["over 10 ids: wrong members"]["n"]) == (1, 10)
    assert rows["over 10 ids: wrong members"]["verdict"] == "missed"
    assert rows["over 100 ids: detected"]["n"] == 0


def test_benign_rows_count_alerts_a_query_and_clients_and_name_the_worst_kind() -> None:
    clients = [calm(MEDIUM)] + [calm()] * 9 + [calm(HIGH, hard=True)] + [calm(hard=True, kind="shap")] * 3
    rows = rows_of([], clients)
    ordinary = rows["ordinary benign, false alerts a query"]
    assert (ordinary["found"], ordinary["n"]) == (1, 1000)
    assert rows["hard benign clients at medium or above"]["rate"] == 0.25
    assert rows["hard benign clients at high or above"]["rate"] == 0.25
    assert rows["worst hard kind at medium: lime"]["rate"] == 1.0
    assert set(missed(list(rows.values()))) == {
        "ordinary benign, false alerts a query",
        "hard benign clients at medium or above",
    }


def test_a_verdict_needs_data_and_is_proven_by_the_bound_alone() -> None:
    assert verdict(rate(0, 0), 0.5) is None
    assert verdict(rate(9, 10), None) is None
    assert verdict(rate(9, 10), 0.9) == "reached"
    assert verdict(rate(60, 60), 0.95) == "proven"
    assert verdict(rate(8, 10), 0.9) == "missed"
    assert verdict(rate(0, 10), 0.05, less=True) == "reached"
    assert verdict(rate(0, 300), 0.01, less=True) == "proven"


@given(st.integers(1, 12), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=20)
def test_bounds_of_a_ratio_hold_at_least_as_often_as_they_say(n: int, p: float, q: float) -> None:
    """Summed over all outcomes in which there is a ratio: each bound is on the wrong side in at most 5 %."""
    too_high = too_low = 0.0
    for k in range(n + 1):
        for m in range(1, n + 1):
            found = ratio(rate(k, n), rate(m, n))
            assert found is not None
            chance = binom.pmf(k, n, p) * binom.pmf(m, n, q)
            too_high += chance * (found.low95 > p / q)
            too_low += chance * (found.high95 < p / q)
    assert max(too_high, too_low) <= 0.05


def test_a_ratio_of_nothing_is_none() -> None:
    assert ratio(rate(0, 0), rate(1, 2)) is None
    assert ratio(rate(1, 2), rate(0, 2)) is None


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_sign_test_is_the_tail_of_fair_coins(more: int, less: int) -> None:
    n = more + less
    assert sign_test(more, less) == pytest.approx(sum(binom.pmf(k, n, 0.5) for k in range(more, n + 1)))


def test_clients_are_parted_by_any_field_of_the_truth() -> None:
    some = campaign(10, fields={"data": "wine"})
    other = campaign(None, fields={"data": "iris"})
    outcomes = Outcomes([*some.members, *other.members, calm(MEDIUM, fields={"data": "iris"}), calm()], [some, other])
    groups = parted(outcomes, "data")
    assert list(groups) == ["iris", "unknown", "wine"]
    assert (groups["wine"]["campaigns"]["rate"], groups["iris"]["campaigns"]["rate"]) == (1.0, 0.0)
    assert groups["iris"]["ordinary"]["medium"]["found"] == 1
    assert groups["unknown"]["campaigns"]["n"] == 0
    assert parted(outcomes, "interface")["scores"]["campaigns"]["n"] == 2


# --- anchors at equal false alarms


peaks = st.one_of(st.just(-np.inf), st.integers(0, 4).map(float))


@given(st.lists(st.tuples(peaks, st.booleans())), st.integers(0, 4), st.integers(0, 4))
def test_the_loosest_threshold_alarms_no_more_than_allowed_and_none_below_does(
    said: list[tuple[float, bool]], ordinary: int, hard: int
) -> None:
    clients = [calm(hard=is_hard, peak=peak) for peak, is_hard in said]

    def alarmed(threshold: float) -> tuple[int, int]:
        loud = [is_hard for peak, is_hard in said if peak >= threshold]
        return len(loud) - sum(loud), sum(loud)

    threshold = loosest(clients, Shares(ordinary, hard))
    assert alarmed(threshold)[0] <= ordinary
    assert alarmed(threshold)[1] <= hard
    for lower in sorted({peak for peak, _ in said if -np.inf < peak < threshold})[-1:]:
        assert alarmed(lower)[0] > ordinary or alarmed(lower)[1] > hard


def system(found: list[bool], own_peaks: list[float], false: int, calm_peaks: list[float]) -> Outcomes:
    """Return what one detector made of adversarial searches and of ordinary benign clients."""
    campaigns = [
        campaign(5 if hit else None, family="adversarial_search", peak=peak)
        for hit, peak in zip(found, own_peaks, strict=True)
    ]
    benign = [calm(MEDIUM if i < false else -1, peak=peak) for i, peak in enumerate(calm_peaks)]
    return Outcomes([c for campaign in campaigns for c in campaign.members] + benign, campaigns)


def test_an_anchor_that_alarms_on_everyone_is_no_better_and_one_that_ranks_better_is_not_beaten() -> None:
    own = system([True, True, False], [9.0, 8.0, 2.0], 0, [1.0, 0.5, 0.2, -np.inf])
    loud = system([True] * 3, [1.5, 1.1, 1.0], 4, [3.0, 2.0, 1.6, 1.2])
    (row,) = (r for r in matched(own, {"blacklight": loud}) if r["anchor"] == "blacklight")
    assert row["published"]["querywatch"]["found"] == row["published"]["anchor"]["found"] == 3
    assert (row["shipped"]["querywatch"]["found"], row["shipped"]["anchor"]["found"]) == (2, 0)
    assert (row["shipped"]["more"], row["shipped"]["less"]) == (2, 0)
    assert row["beaten"]
    assert row["published"]["ordinary"]["kept"]["rate"] == 1.0
    sharp = system([True] * 3, [3.0, 2.0, 1.5], 0, [0.9, 0.8, 0.7, 0.6])
    (row,) = matched(own, {"blacklight": sharp})
    assert not row["beaten"]
    assert row["shipped"]["less"] == 1


def test_every_anchor_says_which_families_it_was_made_for() -> None:
    assert all(set(entry.families) <= set(FAMILIES) and entry.families for entry in catalogue())


# --- costs


def test_a_part_costs_what_the_frame_calls_less_what_it_hands_back_to_the_frame() -> None:
    def calls(of: dict[str, float]) -> tuple[int, int, float, float, dict[Any, tuple[int, int, float, float]]]:
        callers = {(by, 1, "f"): (1, 1, 0.0, seconds) for by, seconds in of.items()}
        return 1, 1, 0.0, sum(of.values()), callers

    root = Path(detector.__file__).parent
    pipeline, tracks, loop = (str(root / name) for name in ("pipeline.py", "tracks.py", "service.py"))
    history, groups = str(root / "history.py"), str(root / "campaigns.py")
    found = by_part(
        {
            (pipeline, 1, "process"): calls({loop: 10.0}),
            (tracks, 1, "measure"): calls({pipeline: 5.0, groups: 2.0}),
            (history, 1, "observe"): calls({tracks: 4.0, history: 1.0}),
            (groups, 1, "observe"): calls({pipeline: 3.0}),
            ("numpy.py", 1, "sort"): calls({pipeline: 0.5}),
        }
    )
    assert found == {"history": 4.0, "campaigns": 1.0, ITSELF: 5.0}
