"""What one rule file may say: frozen dataclasses that pydantic fills, and its errors turned into positions and hints.

`read_rule` checks everything that can be checked on one file alone; `detector/rules.py` reads a whole folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass

from detector.alerts import SEVERITIES
from detector.atlas import Atlas
from detector.conditions import Condition, read_condition, thresholds
from detector.detectors import Signal
from detector.families import FAMILIES
from detector.rules_faults import STRICT, Line, fault, note
from detector.rules_yaml import Source, clip, nearest

FAMILY_NAMES = tuple(family.name for family in FAMILIES)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Checks(NamedTuple):
    """What the rules are checked against. None leaves a check out."""

    catalogue: Mapping[str, Signal] | None
    atlas: Atlas
    today: date | None = None  # exceptions that expired before this day are faults
    attacks: Collection[str] | None = None  # names that `tests` may give as attack
    benign: Collection[str] | None = None  # … and as benign


def _checks(info: ValidationInfo) -> Checks:
    assert isinstance(info.context, Checks)  # noqa: S101 - `read_rule` is the only caller
    return info.context


def _duration(text: object) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"a duration is written as 45s, 30m, 1h or 7d, not {clip(text)!r}")
    return int(match[1]) * _UNITS[match[2]] * 1_000_000


def _mitigation(id_: str, info: ValidationInfo) -> str:
    known = _checks(info).atlas.mitigations
    if id_ not in known:
        raise fault("QW303", f"unknown ATLAS mitigation {clip(id_)!r}{nearest(id_, known)}")
    return id_


def _technique(id_: str, info: ValidationInfo) -> str:
    atlas: Atlas = _checks(info).atlas
    if id_ in atlas.retired:
        raise fault("QW302", f"{id_} was withdrawn from ATLAS; {atlas.retired[id_]} took its place")
    if id_ not in atlas.techniques:
        near = nearest(id_, atlas.techniques)
        raise fault("QW301", f"unknown technique {clip(id_)!r} (ATLAS {atlas.version}){near}")
    return id_


def _expiry(day: date, info: ValidationInfo) -> date:
    today: date | None = _checks(info).today
    if today is not None and day < today:
        raise fault("QW501", f"the exception expired on {day}: remove it, or have its owner renew it")
    return day


def _clients(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if any(set(pattern) == {"*"} for pattern in patterns):
        raise fault("QW502", "an exception for every client switches the rule off: write stage: off instead")
    return patterns


Prose = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=16_000)]
Slug = Annotated[str, Strict(), StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,63}$")]
Uuid = Annotated[str, Strict(), StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Count = Annotated[int, Strict(), Field(ge=1)]
Duration = Annotated[int, BeforeValidator(_duration)]  # microseconds
Severity = Literal["low", "medium", "high", "critical"]
Lines = tuple[Line, ...]


@dataclass(frozen=True, slots=True, config=STRICT)
class Models:
    """Which models a rule watches: globs on the model's name."""

    include: Lines = ("*",)
    exclude: Lines = ()

    def admit(self, model: str) -> bool:
        """Say whether a model is watched."""
        return any(fnmatchcase(model, p) for p in self.include) and not any(fnmatchcase(model, p) for p in self.exclude)


@dataclass(frozen=True, slots=True, config=STRICT)
class Step:
    """A rung of the ladder: with this, the episode has that severity."""

    when: Condition
    severity: Severity


@dataclass(frozen=True, slots=True, config=STRICT)
class RuleException:
    """Clients that a rule leaves alone up to and including the day of expiry, judged by event time."""

    id: Slug
    client: Annotated[Lines, Field(min_length=1), AfterValidator(_clients)]  # ids or globs
    reason: Line
    owner: Line
    expires: Annotated[date, Strict(), AfterValidator(_expiry)]

    def covers(self, client_id: str) -> bool:
        """Say whether a client is named."""
        return any(client_id == p or fnmatchcase(client_id, p) for p in self.client)

    @property
    def expires_us(self) -> int:
        """The first microsecond in which it no longer holds."""
        end = datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC) + timedelta(days=1)
        return int(end.timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True, config=STRICT)
class Containment:
    """What an analyst may approve; the gateway carries it out."""

    action: Literal["throttle", "round_scores", "drop_scores", "top1_only", "block"]
    ttl: Line
    mitigation: Annotated[str, Strict(), AfterValidator(_mitigation)]
    decimals: Annotated[int, Strict(), Field(ge=0, le=6)] | None = None  # for round_scores
    per_minute: Count | None = None  # for throttle

    @model_validator(mode="after")
    def _fits(self) -> Containment:
        _duration(self.ttl)
        for action, key in (("round_scores", "decimals"), ("throttle", "per_minute")):
            if (self.action == action) != (getattr(self, key) is not None):
                raise ValueError(f"{key!r} goes with action {action}, and only with it")
        return self

    def as_data(self) -> dict[str, Any]:
        """Return it as an alert carries it."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


@dataclass(frozen=True, slots=True, config=STRICT)
class Respond:
    """What to do about an alert."""

    playbook: Prose
    containment: Containment | None = None


@dataclass(frozen=True, slots=True, config=STRICT)
class Given:
    """The traffic of a rule's test: one simulated client."""

    queries: Annotated[int, Strict(), Field(ge=1, le=100_000)]
    seed: Annotated[int, Strict(), Field(ge=0)]
    attack: Line | None = None
    benign: Line | None = None
    training: Annotated[bool, Strict()] = False  # with an index of the model's training records

    @model_validator(mode="after")
    def _one_kind(self, info: ValidationInfo) -> Given:
        if (self.attack is None) == (self.benign is None):
            raise ValueError("give either an attack or a benign kind")
        attacks, benign = _checks(info).attacks, _checks(info).benign
        name, known = (self.attack, attacks) if self.attack is not None else (self.benign, benign)
        if known is not None and name not in known:
            raise fault("QW403", f"unknown kind of traffic {clip(name)!r}{nearest(str(name), known)}")
        return self


@dataclass(frozen=True, slots=True, config=STRICT)
class Expect:
    """What the rule must do on it: alerts raised, and the severities that the last of them may have."""

    alerts: Annotated[int, Strict(), Field(ge=0)]
    severity: tuple[Severity, ...] = ()


@dataclass(frozen=True, slots=True, config=STRICT)
class RuleTest:
    """One test inside a rule."""

    name: Line
    given: Given
    expect: Expect

    @property
    def positive(self) -> bool:
        """An attack that must be found."""
        return self.expect.alerts > 0

    @property
    def near_miss(self) -> bool:
        """A benign client that resembles the attack and must stay quiet."""
        return self.given.benign is not None and self.expect.alerts == 0


def _both_kinds(tests: tuple[RuleTest, ...]) -> tuple[RuleTest, ...]:
    if not any(test.positive for test in tests):
        raise fault("QW401", "no positive test: one that expects at least one alert")
    if not any(test.near_miss for test in tests):
        raise fault("QW402", "no near-miss test: one with benign traffic that expects no alert")
    return tests


@dataclass(frozen=True, slots=True, config=STRICT)
class Rule:
    """One detection rule, as written."""

    id: Slug
    uuid: Uuid
    version: Count
    title: Line
    status: Literal["experimental", "test", "stable", "deprecated"]
    stage: Literal["off", "shadow", "alert", "page"]
    attack: Annotated[str, Strict(), AfterValidator(_technique)]
    when: Condition
    episode: Duration
    severity: Severity
    respond: Respond
    blind_spots: Annotated[Lines, Field(min_length=1)]
    false_positives: Annotated[Lines, Field(min_length=1)]
    tests: Annotated[tuple[RuleTest, ...], AfterValidator(_both_kinds)]
    family: str = ""  # the family of the signals in `when`, unless given
    models: Models = Models()
    group_by: tuple[Literal["client"], Literal["model"]] = ("client", "model")
    escalate: tuple[Step, ...] = ()
    exceptions: tuple[RuleException, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition of the rule: its own, then those of the ladder."""
        return self.when, *(step.when for step in self.escalate)


_RULE = TypeAdapter(Rule)
_OWNERS: dict[str, Any] = {
    "": Rule,
    "models": Models,
    "escalate": Step,
    "exceptions": RuleException,
    "containment": Containment,
    "respond": Respond,
    "given": Given,
    "expect": Expect,
    "tests": RuleTest,
}


def read_rule(source: Source, checks: Checks) -> Rule | None:
    """Turn a file into a rule; faults are noted in `source`, and any makes it None."""
    if source.data is None:
        return None
    if not isinstance(source.data, dict):
        source.problem((), "QW106", "a rule is a mapping: id, uuid, version, title, …")
        return None
    data = dict(source.data)
    if "when" in data:
        before = len(source.problems)
        data["when"] = read_condition(source, ("when",), data["when"], checks.catalogue)
        data["family"] = _family(source, data, known=len(source.problems) == before)
    if isinstance(data.get("escalate"), tuple):
        data["escalate"] = tuple(_step(source, i, step, data, checks) for i, step in enumerate(data["escalate"]))
    if data.get("stage") == "page" and data.get("status") != "stable":
        source.problem(("stage",), "QW207", "only a rule of status stable may wake people up")
    try:
        rule = _RULE.validate_python(data, context=checks)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            note(source, detail, _OWNERS)
        return None
    return None if source.problems else rule


def _step(source: Source, i: int, step: Any, rule: dict[str, Any], checks: Checks) -> Any:
    if not isinstance(step, dict):
        return step
    severity, base = step.get("severity"), rule.get("severity")
    if severity in SEVERITIES and base in SEVERITIES and SEVERITIES.index(severity) <= SEVERITIES.index(base):
        source.problem(("escalate", i, "severity"), "QW206", f"{severity} is no step up from {base}")
    if "when" not in step:
        return step
    return {**step, "when": read_condition(source, ("escalate", i, "when"), step["when"], checks.catalogue)}


def _family(source: Source, data: dict[str, Any], *, known: bool) -> str:
    """Return the rule's family: the given one, or the one and only family whose signals `when` asks."""
    given = data.get("family")
    if given is not None:
        if given not in FAMILY_NAMES:
            source.problem(("family",), "QW205", f"unknown family {clip(given)!r}{nearest(str(given), FAMILY_NAMES)}")
        return str(given)
    if not known:  # signals are misspelt: first things first
        return ""
    asked = {threshold.signal.split(".", 1)[0] for threshold in thresholds(data["when"])}.intersection(FAMILY_NAMES)
    if len(asked) != 1:
        source.problem(("when",), "QW205", f"signals of {len(asked)} families here: name one with the key 'family'")
        return ""
    return asked.pop()
