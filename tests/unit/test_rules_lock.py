"""rules.lock: no new logic without a new version."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.rules import load_rules
from detector.rules_lock import LOCK, logic_hash, write_lock
from tests.unit.rules_support import CATALOGUE, RULE, edited, folder_of, problems_of, ruleset_of

VERSION_2 = ("version: 1", "version: 2")


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder whose lock fits its rule."""
    write_lock(tmp_path, ruleset_of(tmp_path, RULE).rules)
    assert problems_of(tmp_path) == ()
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value: 2}", "value: 3}"),
        ('op: ">=", value: 2', 'op: ">", value: 2'),
        ("severity: medium", "severity: low"),
        ("severity: critical", "severity: high"),
        ("episode: 1h", "episode: 2h"),
        ("  all:", "  any:"),
        ("episode: 1h", "episode: 1h\nmodels: {exclude: [sandbox]}"),
    ],
)
def test_changed_logic_needs_a_new_version(locked: Path, old: str, new: str) -> None:
    changed = edited(old, new)
    assert [p.code for p in problems_of(locked, changed)] == ["QW701"]
    raised = edited(*VERSION_2, changed)
    assert [(p.file, p.code) for p in problems_of(locked, raised)] == [(LOCK, "QW702")]
    write_lock(locked, load_rules(locked, CATALOGUE, fresh_lock=False).rules)
    assert problems_of(locked) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: A climb", "title: The climb"),
        ("stage: alert", "stage: shadow"),
        ("Ask the key's owner.", "Do not ask."),
        ("value: 2}", "value: 2.0}  # a remark"),
        ("episode: 1h", "episode: 60m"),
    ],
)
def test_what_is_no_logic_may_change(locked: Path, old: str, new: str) -> None:
    assert problems_of(locked, edited(old, new)) == ()


def test_a_version_never_goes_back(locked: Path) -> None:
    write_lock(locked, ruleset_of(locked.parent / "two", edited(*VERSION_2)).rules)
    assert [p.code for p in problems_of(locked)] == ["QW701"]


def test_a_rule_that_is_new_or_gone_asks_for_a_new_lock(locked: Path) -> None:
    (locked / "ascent.yml").unlink()
    assert [p.code for p in problems_of(locked)] == ["QW702"]


def test_a_broken_lock_is_told_with_its_line(locked: Path) -> None:
    with (locked / LOCK).open("a") as file:
        file.write("nonsense\n")
    assert [(p.file, p.line, p.code) for p in problems_of(locked)] == [(LOCK, 3, "QW703")]


def test_the_hash_of_the_logic_stays_the_same_for_ever(tmp_path: Path) -> None:
    (rule,) = ruleset_of(folder_of(tmp_path), RULE).rules
    assert logic_hash(rule) == "2f24f0ef6a8e87c91d2fac367ea811ee", "alerts and locks in the field carry it"
