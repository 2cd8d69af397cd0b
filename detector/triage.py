"""Triage: matches become episodes, and few of them alerts. No I/O, no clock: event time only.

An episode of a rule and a client on a model opens at the first match and ends after `episode` of event time without
one. It is raised once, escalated when the severity rises above what was raised, and otherwise only counted. A rule of
stage `shadow` goes through the same, alerts nobody, and is counted.

In a pipeline, for every chunk, after detectors and `families.combine`:

    emissions = triage.observe(batch, slot, signals, state)
    alerts = [build_alert(ruleset, e, batch, signals, context) for e in emissions]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerts import SEVERITIES, About, Alert, Span
from detector.events import F32, I32, I64, U8, EventBatch
from detector.explain import at, evidence_items, quiet
from detector.families import family_tests
from detector.kernel import kernel
from detector.registry import UNKNOWN, Entry, Registry
from detector.rules import Ruleset
from detector.rules_match import Matcher
from detector.rules_yaml import clip

TARGETED = ("inversion", "adversarial_search")  # families that aim at a class


class TriageState(NamedTuple):
    """Episodes by slot and active rule. A row of zeros is a new client: severity 0 means no episode yet."""

    level: U8  # [capacity, r] highest severity raised in the episode, 1..4
    first_us: I64  # [capacity, r] first match
    first_offset: I64  # [capacity, r] its offset
    last_us: I64  # [capacity, r] newest match
    matches: I64  # [capacity, r] matches of the episode
    suppressed: I64  # [capacity, r] those of them that raised nothing
    size: I32  # [capacity, r] clients of the campaign when it last raised something, 0 for a client alone
    open_until_us: I64  # [capacity] end of the last open episode of any rule that alerts


class Emission(NamedTuple):
    """One alert event to be built: row of the chunk, and the episode as it stands there."""

    row: int
    rule: int  # index into `Ruleset.active`
    level: int  # severity 1..4
    escalated: bool  # else raised
    first_match_us: int
    first_offset: int
    matches: int
    suppressed: int


class Triage:
    """One rule set at work. Its counters are by active rule and for metrics; they are no part of the result."""

    def __init__(self, ruleset: Ruleset, registry: Registry | None = None) -> None:
        self.ruleset = ruleset
        self.registry = registry or Registry()
        self.matcher = Matcher(ruleset, self.registry)
        rules = ruleset.active
        self.columns = tuple(
            rule.uuid for rule in rules
        )  # what the second axis of the state means: goes into snapshots
        self.alerting = tuple(rule.stage != "shadow" for rule in rules)
        self.matched = np.zeros(len(rules), np.int64)
        self.raised = np.zeros(len(rules), np.int64)  # of a shadow rule: what it would have raised
        self.escalated = np.zeros(len(rules), np.int64)
        self._protects_us = np.array([rule.episode if rule.stage != "shadow" else -1 for rule in rules], np.int64)

    def state(self, capacity: int) -> TriageState:
        """Return zeroed state for that many slots."""
        shape = (capacity, len(self.columns))
        return TriageState(
            level=np.zeros(shape, np.uint8),
            first_us=np.zeros(shape, np.int64),
            first_offset=np.zeros(shape, np.int64),
            last_us=np.zeros(shape, np.int64),
            matches=np.zeros(shape, np.int64),
            suppressed=np.zeros(shape, np.int64),
            size=np.zeros(shape, np.int32),
            open_until_us=np.zeros(capacity, np.int64),
        )

    def observe(
        self,
        batch: EventBatch,
        slot: I64,
        signals: Mapping[str, F32],
        state: TriageState,
        size: I32 | None = None,
    ) -> list[Emission]:
        """Update the episodes with a chunk of n events and return the few alert events, in stream order.

        `slot` [n] says where each event's client lives in `state`; a row with slot < 0 (no place of its own yet) is
        left out. `signals` holds columns [n]: those of the detectors and of the families. `size` [n] counts the clients
        of a campaign: an episode is told again when they have become half as many more.
        """
        emissions: list[Emission] = []
        size = np.zeros(len(slot), np.int32) if size is None else size
        for rule, rows, level in self.matcher.matches(batch, signals):
            out = np.empty((len(rows), len(Emission._fields)), np.int64)
            episode_us = self.ruleset.active[rule].episode
            found = _episodes(rule, episode_us, rows, level, slot, batch.time_us, batch.offset, size, state, out)
            self.matched[rule] += len(rows)
            self.escalated[rule] += (escalated := int(out[:found, 3].sum()))
            self.raised[rule] += found - escalated
            if self.alerting[rule]:
                _protect(rows, slot, self._protects_us, state)
                emissions += [Emission._make(row)._replace(escalated=bool(row[3])) for row in out[:found].tolist()]
        return sorted(emissions)

    def carry(self, before: TriageState, columns: tuple[str, ...]) -> TriageState:
        """Return state for this rule set with the episodes of another set or of a snapshot, matched by rule uuid.

        `columns` names the rules of `before`. So rules can be reloaded, and new versions deployed, without raising
        open episodes a second time. Rules that are gone take their episodes with them.
        """
        after = self.state(len(before.open_until_us))
        for to, uuid in enumerate(self.columns):
            if uuid in columns:
                came = columns.index(uuid)
                for name in TriageState._fields[:-1]:
                    getattr(after, name)[:, to] = getattr(before, name)[:, came]
        slots = np.arange(len(after.open_until_us))
        _protect(slots, slots, self._protects_us, after)
        return after


def under_suspicion(state: TriageState, now_us: int) -> NDArray[np.bool_]:
    """Mark the slots [capacity] with an open episode, not to be evicted; a kernel reads `open_until_us` itself."""
    return state.open_until_us >= now_us


@kernel
def _episodes(
    rule: int,
    episode_us: int,
    rows: I64,
    level: U8,
    slot: I64,
    time_us: I64,
    offset: I64,
    size: I32,
    state: TriageState,
    out: I64,
) -> int:
    """Walk the matches of one rule in stream order; write an emission a row into `out` and return how many.

    A single event stamped far in the future must not keep an episode open for years: a match from before the last
    one's reach moves the end back.
    """
    found = 0
    for i in range(len(rows)):
        row = rows[i]
        s = slot[row]
        if s < 0:
            continue
        t = time_us[row]
        last = state.last_us[s, rule]
        if state.level[s, rule] == 0 or t - last > episode_us:
            state.level[s, rule] = 0
            state.first_us[s, rule] = t
            state.first_offset[s, rule] = offset[row]
            state.matches[s, rule] = 0
            state.suppressed[s, rule] = 0
            last = t
        if t > last or last - t > episode_us:
            last = t
        state.last_us[s, rule] = last
        state.matches[s, rule] += 1
        grown = size[row] > 0 and 2 * size[row] >= 3 * state.size[s, rule]
        if level[i] <= state.level[s, rule] and not grown:
            state.suppressed[s, rule] += 1
            continue
        out[found, 0] = row
        out[found, 1] = rule
        out[found, 2] = max(level[i], state.level[s, rule])
        out[found, 3] = state.level[s, rule] > 0
        out[found, 4] = state.first_us[s, rule]
        out[found, 5] = state.first_offset[s, rule]
        out[found, 6] = state.matches[s, rule]
        out[found, 7] = state.suppressed[s, rule]
        state.level[s, rule] = out[found, 2]
        state.size[s, rule] = size[row]
        found += 1
    return found


@kernel
def _protect(rows: I64, slot: I64, protects_us: I64, state: TriageState) -> None:
    """Set `open_until_us` of the rows' slots anew from the episodes there: the same however the stream was cut.

    `protects_us` [r] is each rule's episode, −1 for a rule that protects nobody from eviction.
    """
    before = -1
    for row in rows:
        s = slot[row]
        if s < 0 or s == before:
            continue
        before = s
        until = 0
        for rule in range(len(protects_us)):
            if protects_us[rule] >= 0 and state.level[s, rule] > 0:
                until = max(until, state.last_us[s, rule] + protects_us[rule])
        state.open_until_us[s] = until


class Campaign(NamedTuple):
    """Clients that are judged as one."""

    clients: tuple[str, ...]  # in the order in which they were proven to belong to it
    networks: int  # different ones that they come from
    links: float  # log10 e-value: their queries go on from each other's


class Context(NamedTuple):
    """What the pipeline knows of an alerting event beside its columns."""

    start_us: int  # the client's first query to the model, as far as remembered
    baseline: str  # which reference served
    target: str = ""  # the class that the client climbs towards
    model: Entry = UNKNOWN  # what its owner says of the model
    quantiles: Mapping[str, tuple[float, float, float]] = {}  # signal -> p50, p95, p99 over the model's other clients
    steepest: tuple[tuple[int, float], ...] = ()  # (offset, gain) where the family's evidence rose most
    starved: tuple[str, ...] = ()  # tests that could say nothing of the query: the log holds too little of it
    campaign: Campaign | None = None


def build_alert(
    ruleset: Ruleset, emission: Emission, batch: EventBatch, signals: Mapping[str, F32], context: Context
) -> Alert:
    """Return the alert of one emission; the same chunk and signals as `observe` saw."""
    row, rule, ref = emission.row, ruleset.active[emission.rule], ruleset.refs[emission.rule]
    group = context.campaign
    model = batch.models[batch.model[row]]
    tests = {test: at(signals, test, row) for test in family_tests(rule.family)}
    contributions = {test: value for test, value in tests.items() if not np.isnan(value)}
    progress = at(signals, f"{rule.family}.progress", row)
    severity = SEVERITIES[emission.level - 1]
    offset = int(batch.offset[row])
    alert = Alert(
        action="alert-escalated" if emission.escalated else "alert-raised",
        rule=ref,
        severity=severity,
        time_us=int(batch.time_us[row]),
        start_us=min(context.start_us, emission.first_match_us),
        first_match_us=emission.first_match_us,
        client_id=group.clients[0] if group else batch.client_id[row],
        client_kind=batch.client_kind[row],
        client_ip="" if group else batch.client_ip[row],
        model=model.name,
        model_version=model.version,
        about=About(context.model.sensitivity, context.model.owner, context.model.output or ""),
        queries=int(np.nan_to_num(at(signals, "trajectory.queries", row))),
        target=context.target if rule.family in TARGETED else "",
        reason="",
        risk=risk(at(signals, f"{rule.family}.evidence", row), progress, context.model.rank),
        evidence=evidence_items(ruleset, rule, signals, row, context.quantiles),
        contributions=contributions,
        baseline=context.baseline,
        span=Span(batch.topic, int(batch.partition[row]), emission.first_offset, offset),
        suppressed=emission.suppressed,
        steepest=context.steepest,
        starved=context.starved,
        quiet=quiet(rule.when, signals, row),
        members=group.clients if group else (),
        links={"trajectory": group.links, "networks": group.networks} if group else {},
    )
    return replace(alert, reason=_reason(alert, progress))


def risk(evidence: float, progress: float, sensitivity: int) -> float:
    """Return 0–100, rising with each of its three parts; `sensitivity` is 0 (low) to 3 (critical).

    Strength is 1 − 2^(−evidence/3): half at an e-value of 10³, three quarters at 10⁶. Evidence alone gives at most 60:
    the rest is for how far the attacker got. What the model protects scales the whole: ½, ⅔, ⅚ or 1.
    NaN counts as nothing known: 0.
    """
    strength = 1.0 - 2.0 ** (-max(float(np.nan_to_num(evidence)), 0.0) / 3.0)
    reach = 0.6 + 0.4 * min(max(float(np.nan_to_num(progress)), 0.0), 1.0)
    return float(100.0 * strength * reach * (3 + sensitivity) / 6)


def _reason(alert: Alert, progress: float) -> str:
    """Say in one sentence, with numbers, why; the client's name comes from outside and is made printable."""
    client = "".join(c if c.isprintable() else "?" for c in clip(alert.client_id, 64))
    met = {item.signal: item for item in alert.evidence if item.met}  # of a ladder of thresholds the highest met
    facts = [f"{item.signal} {item.observed:.4g} ({item.op} {item.threshold:g})" for item in met.values()]
    if not np.isnan(progress) and f"{alert.rule.family}.progress" not in met:
        facts.append(f"{alert.rule.family}.progress {progress:.2f}")
    if alert.contributions:
        test, value = max(alert.contributions.items(), key=lambda item: item[1])
        facts.append(f"strongest test {test} {value:.4g}")
    target = f", towards class {alert.target}" if alert.target else ""
    who = f"{len(alert.members)} clients acting as one, first {client}," if alert.members else f"client {client}"
    subject = f"{alert.rule.title}: {who} on model {alert.model}{target}, {alert.queries} queries"
    return f"{subject}: {', '.join(facts)}."
