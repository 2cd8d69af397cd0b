"""The sentence that says what would have kept a rule quiet is true."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from detector.alerts import Evidence
from detector.conditions import Condition, Every, Some, Threshold, evaluate
from detector.explain import evidence_items, quiet
from tests.unit.rules_support import RULE, column, ruleset_of
from tests.unit.test_rules_match import TREE


def sentence(condition: Condition, **row: float) -> str:
    return quiet(condition, {name: column([value]) for name, value in row.items()}, 0)


def test_one_threshold() -> None:
    assert sentence(Threshold("a", ">=", 3), a=6.25) == (
        "The rule would have stayed quiet with a threshold above 6.25 on a (3.25 more than its 3)."
    )
    assert "of at most 0.1 on a (0.75 less than its 0.85)" in sentence(Threshold("a", "<", 0.85), a=0.1)


def test_any_part_of_all_and_every_met_part_of_any() -> None:
    some = Some((Threshold("b", ">=", 1), Threshold("c", "<", 2), Threshold("d", ">", 9)))
    said = sentence(Every((Threshold("a", ">=", 3), some)), a=4, b=1.5, c=0, d=0)
    assert said.count(", or ") == 1
    assert "all of (a threshold above 1.5 on b (0.5 more than its 1); a threshold of at most 0 on c" in said
    assert " on d " not in said, "what was not met kept nothing from being quiet"


@given(TREE, st.integers(-3, 3), st.integers(-3, 3))
def test_moving_the_thresholds_that_it_names_makes_the_rule_quiet(condition: Condition, a: int, b: int) -> None:
    columns = {"a": column([a]), "b": column([b])}
    if not evaluate(condition, columns, 1)[0]:
        return
    said = sentence(condition, a=a, b=b).removeprefix("The rule would have stayed quiet with ").removesuffix(".")
    offers = top_level(said, ", or ")
    assert len(offers) >= 1
    for offer in offers:
        assert not evaluate(moved(condition, named(offer)), columns, 1)[0], offer


Moves = dict[tuple[str, str, float], float]  # a threshold, and where it would have to stand


def top_level(text: str, separator: str) -> list[str]:
    """Split a text at a separator outside of all parentheses."""
    parts, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and text.startswith(separator, i):
            parts.append(text[start:i])
            start = i + len(separator)
    return [*parts, text[start:]]


def named(offer: str) -> Moves:
    """Read one offer of the sentence; where it offers a choice inside, take the first."""
    if offer.startswith("all of ("):
        inner = top_level(offer[len("all of (") : -1], "; ")
        return {move: value for part in inner for move, value in named(top_level(part, ", or ")[0]).items()}
    match = re.fullmatch(r"a threshold (.+) (\S+) on (\w+) \(\S+ \w+ than its (\S+)\)", offer)
    assert match is not None, offer
    op, step = {"above": (">=", 0.5), "of at least": (">", 0), "below": ("<=", -0.5), "of at most": ("<", 0)}[match[1]]
    return {(match[3], op, float(match[4])): float(match[2]) + step}


def moved(condition: Condition, moves: Moves) -> Condition:
    if isinstance(condition, Threshold):
        return replace(condition, value=moves.get((condition.signal, condition.op, condition.value), condition.value))
    return replace(condition, parts=tuple(moved(part, moves) for part in condition.parts))


def test_a_margin_is_positive_exactly_where_a_threshold_is_passed() -> None:
    for op, observed, margin in ((">=", 5.0, 2.0), (">", 1.0, -2.0), ("<=", 1.0, 2.0), ("<", 5.0, -2.0)):
        assert Evidence("a", observed, op, 3.0, "", True, None).margin == margin


def test_every_threshold_of_rule_and_ladder_is_an_item_with_its_baseline(tmp_path: Path) -> None:
    ruleset = ruleset_of(tmp_path, RULE)
    items = evidence_items(
        ruleset, ruleset.rules[0], {"inversion.evidence": column([4])}, 0, {"inversion.evidence": (0.0, 0.5, 1.0)}
    )
    assert [(i.signal, i.met, i.baseline) for i in items] == [
        ("inversion.evidence", True, (0.0, 0.5, 1.0)),
        ("trajectory.queries", False, None),
        ("inversion.evidence", False, (0.0, 0.5, 1.0)),
        ("inversion.progress", False, None),
    ]
    assert math.isnan(items[1].observed)


def test_the_sentence_of_a_rule_reads_well(tmp_path: Path) -> None:
    said = sentence(ruleset_of(tmp_path, RULE).rules[0].when, **{"inversion.evidence": 5, "trajectory.queries": 30})
    assert re.fullmatch(
        r"The rule would have stayed quiet with .*\(2 more than its 3\), or .*\(28 more than its 2\)\.", said
    )
