"""The rule that raised an alert, as the rules folder has it now: text, logic, and whether it is the same.

Reading rules takes half a second, so these functions import them only when they are called; neither needs numba.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from detector.alerts import Document
from detector.settings import load_settings

if TYPE_CHECKING:
    from detector.conditions import Condition
    from detector.rules import Rule, Ruleset


def folder() -> Path:
    """Return the folder of rules that the settings name, or the shipped ones."""
    from detector.rules import default_folder

    return load_settings().rules or default_folder()


def ruleset() -> Ruleset | None:
    """Return the rules of the settings; None where they cannot be read."""
    from detector.rules import RulesError, load_rules

    try:
        return load_rules(folder(), None, fresh_lock=False)
    except RulesError:
        return None


def of_alert(state: Document, rules: Ruleset | None) -> tuple[str, Rule | None]:
    """Say whether the rules folder still holds what raised the alert, and return that rule where it does."""
    from detector.rules_lock import logic_hash

    if rules is None:
        return "its folder cannot be read now: `querywatch rules check` says why", None
    rule = next((r for r in rules.rules if r.uuid == state["rule"]["uuid"]), None)
    if rule is None:
        return "not in the rules folder any more", None
    if logic_hash(rule) != state["querywatch"]["rule_hash"]:
        return f"changed since: the rules folder holds version {rule.version} with other logic", None
    return "unchanged since", rule


def text(state: Document) -> str:
    """Return the text of the rule's file as it is now, "" where there is none."""
    name = state["rule"]["id"]
    if not all(c.isalnum() or c == "-" for c in name):  # it becomes a path
        return ""
    path = folder() / f"{name}.yml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def logic(rule: Rule, met: Mapping[tuple[str, str, float], bool]) -> list[str]:
    """Return the rule's condition and its ladder as an indented tree; a sign tells what was met."""
    lines = list(_tree(rule.when, met, 0))
    for step in rule.escalate:
        lines += [f"{step.severity}, if", *_tree(step.when, met, 1)]
    return lines


def _tree(condition: Condition, met: Mapping[tuple[str, str, float], bool], depth: int) -> Iterator[str]:
    from detector.conditions import Every, Threshold

    sign = "✓" if _holds(condition, met) else "–"
    if isinstance(condition, Threshold):
        yield f"{'  ' * depth}{sign} {condition.signal} {condition.op} {condition.value:g}"
        return
    yield f"{'  ' * depth}{sign} {'all' if isinstance(condition, Every) else 'any'} of"
    for part in condition.parts:
        yield from _tree(part, met, depth + 1)


def _holds(condition: Condition, met: Mapping[tuple[str, str, float], bool]) -> bool:
    from detector.conditions import Every, Threshold

    if isinstance(condition, Threshold):
        return met.get((condition.signal, condition.op, condition.value), False)
    every = all if isinstance(condition, Every) else any
    return every(_holds(part, met) for part in condition.parts)
