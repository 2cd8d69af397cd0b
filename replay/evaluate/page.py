"""A scoreboard as Markdown, between the marks of a page."""

from __future__ import annotations

import io
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from replay.evaluate.score import Json
from replay.evaluate.show import parts

FIRST, LAST = "<!-- scoreboard:", "<!-- end of scoreboard -->"


class NoMarksError(ValueError):
    """A page has no place for a scoreboard; the message says what is missing."""


def check(path: Path) -> None:
    """Raise NoMarksError where a page has no place for a scoreboard: to be asked before the long work."""
    _parted(path)


def write(board: Json, path: Path) -> None:
    """Replace what stands between the marks of a page. NoMarksError where it has none."""
    before, mark, after = _parted(path)
    text = "\n\n".join(_markdown(part) for part in parts(board))
    path.write_text(f"{before}{mark}\n\n{text}\n\n{after}")


def _parted(path: Path) -> tuple[str, str, str]:
    """Return what stands before the first mark, the line of the mark, and all from the last mark on."""
    text = path.read_text()
    first = text.find(FIRST)
    last = text.find(LAST, first)
    if first < 0 or last < 0:
        raise NoMarksError(f"{path}: the lines {FIRST} … --> and {LAST} are missing")
    return text[:first], text[first:last].splitlines()[0], text[last:]


def _markdown(part: Table | str) -> str:
    if isinstance(part, str):
        return part.strip()
    title, part.title, part.box = part.title, None, box.MARKDOWN
    console = Console(file=io.StringIO(), width=1000, markup=False, color_system=None, no_color=True)
    console.print(part)
    rows = [line.rstrip() for line in str(console.file.getvalue()).splitlines()]  # type: ignore[attr-defined]
    return "\n".join([f"**{title}**", "", *(row for row in rows if row)])
