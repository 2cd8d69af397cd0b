"""Campaigns: pieces of one attack become one alert that names its members; nobody else is named."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator

from detector.alerts import SEVERITIES, Alert, Engine, document
from detector.campaigns import Judged, network
from detector.commands.alerts_page import links
from detector.detectors import View
from detector.events import F32
from detector.pipeline import Pipeline
from detector.rules import catalogue, default_folder, load_rules
from detector.triage import Emission
from tests import crowds, streams
from tests.pipelines import sensitive_rules

RULES = load_rules(default_folder(), catalogue())
IDS = {f"id{k}" for k in range(8)}


def judged(*parts: list[streams.Query], campaigns: int = 16) -> tuple[Pipeline, list[Alert]]:
    line = crowds.pipeline(RULES, campaigns)
    return line, line.process(crowds.in_time(*crowds.ordinary(), *parts)) + line.close()


def campaigns_of(alerts: list[Alert]) -> list[Alert]:
    return [alert for alert in alerts if alert.members]


@pytest.mark.parametrize("spread", [crowds.at_random, crowds.in_turn, crowds.by_role])
def test_a_climb_over_eight_ids_is_one_alert_that_names_them(spread: crowds.Spread) -> None:
    later = crowds.ordinary(8, 40, at_s=2000, name="later")
    _, alerts = judged(crowds.job(streams.climb, 400, 8, spread), *later)
    found = campaigns_of(alerts)
    assert len({alert.alert_id("default") for alert in found}) == 1
    assert {alert.rule.family for alert in found} == {"inversion"}
    assert set(found[-1].members) <= IDS
    assert len(found[-1].members) >= 7
    assert {alert.client_id for alert in alerts if alert.severity != "low"} <= IDS


def test_no_piece_of_it_shows_anything_alone() -> None:
    attack = crowds.job(streams.climb, 400, 8)
    for k in range(8):
        _, alerts = judged([query for query in attack if query.client == f"id{k}"])
        assert [alert for alert in alerts if alert.severity != "low"] == []


@pytest.mark.parametrize("habit", [streams.ordinary, streams.slider, streams.constant, streams.retries])
@pytest.mark.parametrize("spread", crowds.SPREADS)
def test_one_harmless_job_under_eight_ids_is_as_quiet_as_under_one(habit: streams.Habit, spread: crowds.Spread) -> None:
    _, alerts = judged(crowds.job(habit, 400, 8, spread))
    assert campaigns_of(alerts) == []


def test_whoever_copies_a_victims_queries_does_not_get_the_victim_named() -> None:
    """The attacker sends a near copy after each of the victim's queries, and attacks over its ids meanwhile."""
    rng = np.random.default_rng(2)
    victim = crowds.job(streams.ordinary, 60, 1, name="victim")
    copies = [
        replace(
            q, client=f"id{k % 8}", x=q.x + rng.normal(size=len(q.x)).astype(np.float32) * 0.01, time_us=q.time_us + 1
        )
        for k, q in enumerate(victim)
        if q.x is not None
    ]
    _, alerts = judged(victim, copies, crowds.job(streams.climb, 400, 8))
    named = Counter(client for alert in campaigns_of(alerts) for client in alert.members)
    assert named
    assert set(named) <= IDS
    assert "victim0" not in {alert.client_id for alert in alerts}


def test_two_jobs_on_one_model_are_two_groups() -> None:
    first = crowds.job(streams.climb, 300, 6, name="one", seed=1)
    second = crowds.job(streams.climb, 300, 6, name="two", seed=2)
    line, alerts = judged(first, second)
    groups = [
        {line.campaigns.names[key][0][:3] for key in row[row != 0].tolist()}
        for row in line.campaigns.book.members
        if row.any()
    ]
    assert sorted(map(sorted, groups)) == [["one"], ["two"]]
    for alert in campaigns_of(alerts):
        assert len({member[:3] for member in alert.members}) == 1


def test_a_member_is_not_accused_again_of_what_a_campaign_alert_says() -> None:
    """What is dropped has been said: same rule, at least that severity, this client among the members."""
    line = crowds.pipeline(sensitive_rules())
    dropped: list[tuple[str, str, int, int]] = []  # rule, client, level, time
    observe = line.campaigns.observe

    def noted(view: View, alone: list[Emission]) -> tuple[list[Emission], list[Judged], F32]:
        out = observe(view, alone)
        for e in set(alone) - set(out[0]):
            rule = line.ruleset.active[e.rule].id
            dropped.append((rule, view.batch.client_id[e.row], e.level, int(view.batch.time_us[e.row])))
        return out

    line.campaigns.observe = noted  # type: ignore[method-assign]
    alerts = line.process(crowds.in_time(*crowds.ordinary(), crowds.job(streams.coordinates, 400, 8)))
    assert dropped
    for rule, client, level, time_us in dropped:
        assert any(
            alert.rule.id == rule and client in alert.members and alert.time_us <= time_us
            and SEVERITIES.index(alert.severity) + 1 >= level
            for alert in campaigns_of(alerts)
        )  # fmt: skip


def test_the_alert_says_who_and_why() -> None:
    attack = [replace(query, time_us=query.time_us) for query in crowds.job(streams.climb, 400, 8)]
    events = crowds.in_time(*crowds.ordinary(), attack)
    events.client_ip = [f"203.0.{113 + int(name[-1]) % 2}.{9}" if name in IDS else "" for name in events.client_id]
    line = crowds.pipeline(RULES)
    alert = campaigns_of(line.process(events) + line.close())[-1]
    own = document(alert, Engine("default", "replay", 0))["querywatch"]["campaign"]
    assert own["size"] == len(own["clients"]) >= 7
    assert own["links"]["networks"] == 2
    assert own["links"]["trajectory"] > 3
    assert alert.client_id == alert.members[0]
    assert f"{own['size']} clients acting as one" in alert.reason
    assert "from 2 networks" in links(own["links"])
    assert links({}) == ""


def test_more_members_make_another_event_of_the_same_alert() -> None:
    _, alerts = judged(crowds.job(streams.bisection, 400, 8))
    documents = [document(alert, Engine("default", "replay", 0)) for alert in campaigns_of(alerts)]
    assert len({doc["event"]["id"] for doc in documents}) == len(documents)
    episodes = Counter(doc["querywatch"]["alert_id"] for doc in documents)
    assert max(episodes.values()) > 1


def stride(rng: Generator, model: streams.Model, n: int) -> list[F32]:
    """The same twelve long steps over and over, a little shifted."""
    x, step = rng.normal(size=model.width), rng.normal(size=model.width) * 0.25
    shifts = rng.normal(size=(n, model.width)) * 0.2
    return [(x + i % 12 * step + i // 12 * shifts[i]).astype(np.float32) for i in range(n)]


def test_a_million_ids_do_not_push_out_a_group_under_suspicion() -> None:
    """Room for four groups, and ten jobs that link: the one with evidence stays."""
    attack = crowds.job(streams.climb, 400, 8)
    chaff = [crowds.job(stride, 90, 4, name=f"chaff{k}-", seed=k, at_s=2420 + 70 * k) for k in range(10)]
    flood = crowds.job(streams.ordinary, 2000, 1000, crowds.in_turn, name="flood", at_s=2410)
    line, alerts = judged(attack, *chaff, flood, campaigns=4)
    assert campaigns_of(alerts)
    assert line.campaigns.dropped > 0
    kept = {line.campaigns.names[key][0] for key in line.campaigns.book.members.ravel().tolist() if key}
    assert len(kept & IDS) >= 7
    assert len(line.campaigns.names) <= len(line.campaigns.world.kin.key)


def test_sensitive_rules_still_need_a_group() -> None:
    line = crowds.pipeline(sensitive_rules())
    alerts = line.process(crowds.in_time(*crowds.ordinary(), *crowds.ordinary(8, 60, at_s=2000, name="later")))
    assert campaigns_of(alerts + line.close()) == []


@pytest.mark.parametrize(
    ("ip", "shared"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("unix socket", "unix socket"),
        ("203.0.113.999", "203.0.113.999"),
    ],
)
def test_an_address_is_known_by_its_network(ip: str, shared: str) -> None:
    assert network(ip) == shared
