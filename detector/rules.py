"""Rules as code: a folder of YAML files -> a `Ruleset`, or every fault of it at once.

    conditions.py    thresholds on signals, and how they are evaluated on columns
    rules_yaml.py    YAML with positions
    rules_schema.py  what one file may say
    rules_lock.py    no new logic without a new version
    triage.py        what happens when a rule matches

Nothing here reads a clock: whoever wants expired exceptions refused gives the day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from detector.alerts import SEVERITIES, Alert, RuleRef, digest
from detector.atlas import Atlas, load_atlas
from detector.detectors import Signal, discover
from detector.families import SIGNALS
from detector.rules_lock import LOCK, changed_behind, is_behind, logic_hash, read_lock
from detector.rules_schema import Checks, Rule, RuleTest, read_rule
from detector.rules_yaml import Problem, Source, read_source

MAX_RULES = 256

__all__ = [
    "Problem",
    "Rule",
    "RuleTest",
    "RulesError",
    "Ruleset",
    "catalogue",
    "default_folder",
    "load_rules",
    "verdict",
]


class RulesError(Exception):
    """A rule set is wrong; `problems` says all that is wrong with it, in the order of the files."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Ruleset:
    """The rules of one folder, by id, with the catalogue and the ATLAS release that they were checked against."""

    rules: tuple[Rule, ...]
    catalogue: Mapping[str, Signal]
    atlas: Atlas

    @cached_property
    def active(self) -> tuple[Rule, ...]:
        """The rules that are evaluated: every stage but off. Their order is the order of triage's columns."""
        return tuple(rule for rule in self.rules if rule.stage != "off")

    @cached_property
    def refs(self) -> tuple[RuleRef, ...]:
        """What alerts say of each active rule."""
        return tuple(self._ref(rule) for rule in self.active)

    @cached_property
    def hash(self) -> str:
        """Name the whole set: changes with any rule's logic, stage or exceptions."""
        return digest(*(repr((r.uuid, r.version, logic_hash(r), r.stage, r.exceptions)) for r in self.rules))

    def _ref(self, rule: Rule) -> RuleRef:
        containment = rule.respond.containment
        return RuleRef(
            id=rule.id,
            uuid=rule.uuid,
            title=rule.title,
            version=rule.version,
            stage=rule.stage,
            family=rule.family,
            hash=logic_hash(rule),
            technique=self.atlas.techniques[rule.attack],
            containment=containment.as_data() if containment else None,
            playbook=rule.respond.playbook,
        )


def default_folder() -> Path:
    """Return the shipped rules: inside an installed wheel, else those of the checkout."""
    package = Path(__file__).parent
    shipped = package / "_shipped" / "rules"
    return shipped if shipped.is_dir() else package.parent / "rules"


def catalogue() -> dict[str, Signal]:
    """Return every signal that a rule may name, by name: the detectors' own and the families'."""
    own = (signal for detector in discover() for signal in detector.signals)
    from detector import kinship  # noqa: PLC0415 - numba, which a list of rules does not need

    return {signal.name: signal for signal in sorted((*own, *SIGNALS, *kinship.SIGNALS))}


def load_rules(
    folder: Path,
    signals: Mapping[str, Signal] | None,
    *,
    today: date | None = None,
    attacks: Collection[str] | None = None,
    benign: Collection[str] | None = None,
    fresh_lock: bool = True,
) -> Ruleset:
    """Read every rule of a folder (*.yml, *.yaml), all or nothing.

    `signals` is the catalogue to check against, None to leave that out (a listing needs no detectors). Given `today`,
    expired exceptions are refused; without it they simply stop to hold, by event time. `attacks` and `benign` are the
    kinds of traffic that tests may name. A folder with a `rules.lock` is held against it; `fresh_lock=False` lets the
    lock lag behind new versions, for whoever is about to rewrite it. RulesError lists all that is wrong.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".yml", ".yaml"))
        table = folder / "atlas.json"
        atlas = load_atlas(table if table.is_file() else default_folder() / "atlas.json")
    except OSError as error:
        raise RulesError(
            [Problem(str(folder), 1, 1, "QW101", f"no readable folder of rules: {error.strerror}")]
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RulesError([Problem("atlas.json", 1, 1, "QW101", f"not a table of ATLAS: {error!r}")]) from None
    if len(paths) > MAX_RULES:
        raise RulesError([Problem(str(folder), 1, 1, "QW102", f"{len(paths)} rules; at most {MAX_RULES} are read")])
    locked, problems = read_lock(folder)
    rules: list[Rule] = []
    for path in paths:
        source = read_source(path, path.name)
        rule = read_rule(source, Checks(signals, atlas, today, attacks, benign))
        if rule is not None:
            _check_among(source, rule, rules)
            if path.stem != rule.id:
                source.problem(("id",), "QW601", f"rule {rule.id!r} belongs into {rule.id}.yml")
            if locked is not None and (change := changed_behind(rule, locked)):
                source.problem(("version",), "QW701", change)
            rules.append(rule)
        problems += source.problems
    if not problems and fresh_lock and locked is not None and is_behind(rules, locked):
        problems.append(Problem(LOCK, 1, 1, "QW702", "behind the rules: run `querywatch rules lock`"))
    if problems:
        raise RulesError(problems)
    return Ruleset(tuple(sorted(rules, key=lambda rule: rule.id)), signals or {}, atlas)


def verdict(test: RuleTest, rule: Rule, alerts: Iterable[Alert]) -> str:
    """Judge one test of a rule by the alerts that its traffic gave; "" where it passes, else what went wrong.

    The seam for `querywatch rules test`: its caller makes the traffic that `test.given` describes, runs the pipeline
    with a set that holds this rule, and hands over all alert events. Escalations are no alerts of their own; the
    severity judged is the highest reached.
    """
    own = [alert for alert in alerts if alert.rule.uuid == rule.uuid]
    raised = sum(alert.action == "alert-raised" for alert in own)
    if raised != test.expect.alerts:
        return f"{test.name}: {raised} alerts, expected {test.expect.alerts}"
    highest = max((alert.severity for alert in own), key=SEVERITIES.index, default="")
    if highest and test.expect.severity and highest not in test.expect.severity:
        return f"{test.name}: severity {highest}, expected {' or '.join(test.expect.severity)}"
    return ""


def _check_among(source: Source, rule: Rule, others: Sequence[Rule]) -> None:
    for other in others:
        for key in ("id", "uuid"):
            if getattr(rule, key) == getattr(other, key):
                source.problem((key,), "QW601", f"{key} {getattr(rule, key)} is taken by rule {other.id!r}")
