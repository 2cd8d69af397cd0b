"""Numbers of a scoreboard in words, for its tables."""

from __future__ import annotations

from replay.evaluate.score import Json

_BAR = 24


def share(rate: Json) -> str:
    """Return a rate with its counts."""
    return f"{percent(rate['rate'])} ({rate['found']:,} of {rate['n']:,})"


def at_most(rate: Json) -> str:
    """Return a rate with its upper bound in brackets."""
    return f"{percent(rate['rate'])} ({percent(rate['high95'])})"


def percent(rate: float | None) -> str:
    """Return per cent, with a decimal where they are few."""
    return "–" if rate is None else f"{100 * rate:.0f} %" if rate == 0 or rate >= 0.095 else f"{100 * rate:.1f} %"


def number(value: float | None) -> str:
    """Return a whole number, – where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def value(value: float | None) -> str:
    """Return four digits of a number."""
    return "–" if value is None else f"{value:.4g}"


def bar(rate: float | None) -> str:
    """Return a bar of up to 24 blocks."""
    return "█" * round(_BAR * (rate or 0.0))
