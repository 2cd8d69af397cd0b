"""rules.lock: what each version of each rule means, so that a rule's logic never changes behind its version.

One line a rule: uuid, version, hash of the logic, id. The logic is what decides over alerts; playbooks, tests, stages
and exceptions may change without a new version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from detector.alerts import digest
from detector.conditions import as_data
from detector.rules_schema import Rule
from detector.rules_yaml import Problem

LOCK = "rules.lock"
_HEADER = "# uuid, version, hash of the logic, id. Written by `querywatch rules lock`; do not edit.\n"
_LINE = re.compile(r"([0-9a-f-]{36}) ([1-9][0-9]{0,8}) ([0-9a-f]{32}) ([a-z0-9-]+)")


class Locked(NamedTuple):
    """One line of the lock."""

    version: int
    hash: str
    id: str


def logic_hash(rule: Rule) -> str:
    """Return 32 hex digits that change exactly when the rule's logic does."""
    logic = {
        "when": as_data(rule.when),
        "severity": rule.severity,
        "escalate": [[as_data(step.when), step.severity] for step in rule.escalate],
        "episode_us": rule.episode,
        "group_by": rule.group_by,
        "include": rule.models.include,
        "exclude": rule.models.exclude,
    }
    return digest(json.dumps(logic, sort_keys=True, separators=(",", ":")))


def read_lock(folder: Path) -> tuple[dict[str, Locked] | None, list[Problem]]:
    """Return the lock by uuid (None where the folder has none) and what is wrong with the file."""
    path = folder / LOCK
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, []
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(LOCK, 1, 1, "QW703", f"cannot be read: {error}")]
    locked, problems = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(Problem(LOCK, number, 1, "QW703", "not a line of a lock: uuid, version, hash, id"))
        else:
            locked[match[1]] = Locked(int(match[2]), match[3], match[4])
    return locked, problems


def changed_behind(rule: Rule, locked: dict[str, Locked]) -> str:
    """Say how a rule's logic changed without a new version; "" where it did not."""
    old = locked.get(rule.uuid)
    if old is None or rule.version > old.version:
        return ""
    if rule.version < old.version:
        return f"version {rule.version} is older than the locked version {old.version}"
    if logic_hash(rule) != old.hash:
        return f"the logic changed but the version did not: raise it to {old.version + 1}"
    return ""


def is_behind(rules: Iterable[Rule], locked: dict[str, Locked]) -> bool:
    """Say whether the lock has yet to be rewritten."""
    return locked != {rule.uuid: Locked(rule.version, logic_hash(rule), rule.id) for rule in rules}


def write_lock(folder: Path, rules: Iterable[Rule]) -> None:
    """Rewrite the lock of a folder, sorted by id."""
    lines = [f"{r.uuid} {r.version} {logic_hash(r)} {r.id}\n" for r in sorted(rules, key=lambda r: r.id)]
    (folder / LOCK).write_text(_HEADER + "".join(lines), encoding="utf-8")
