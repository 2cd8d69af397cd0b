"""Rule files as plain data that knows where it stands: YAML 1.2 -> dict, tuple, scalar, with line and column of each.

Rule files may come from anywhere, so nothing is constructed but core scalars: no tags, no merge keys. Size, depth and
the number of nodes (after anchors are expanded) are bounded; duplicate keys are refused. A fault becomes a `Problem`
and reading goes on where it can, so that all faults are told at once.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

MAX_BYTES = 32 << 10
MAX_NODES = 5_000
MAX_DEPTH = 24

Where = tuple[str | int, ...]  # keys and indices from the root


class Problem(NamedTuple):
    """One fault of a rule set. `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.code} {self.message}"


class Source:
    """One YAML file: its `data`, the positions of its values and keys, and the problems found so far."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._values: dict[Where, tuple[int, int]] = {(): (1, 1)}
        self._keys: dict[Where, tuple[int, int]] = {}
        self._nodes = 0
        self._unread: set[Where] = set()  # values with a fault already: what follows from it need not be told
        self.data: Any = None
        try:
            root = _compose(text)
            if root is None:
                self.problem((), "QW101", "the file is empty")
            else:
                self.data = self._build(root, ())
        except _FaultError as fault:
            self._note(fault.position, fault.code, fault.message)

    def problem(self, where: Where, code: str, message: str, *, key: bool = False) -> None:
        """Note a fault at a value (or at its key); what is not in the file is placed at the mapping around it."""
        if where in self._unread:
            return
        if key and where in self._keys:
            position = self._keys[where]
        else:
            while where not in self._values:
                where = where[:-1]
            position = self._values[where]
        self.problems.append(Problem(self.file, *position, code, message))

    def _build(self, node: Node, where: Where) -> Any:
        self._nodes += 1
        position = self._values[where] = _position(node)
        if self._nodes > MAX_NODES:
            raise _FaultError(position, "QW102", f"more than {MAX_NODES} values once anchors are expanded")
        if len(where) > MAX_DEPTH:
            raise _FaultError(position, "QW102", f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, MappingNode) and _tag(node) == "map":
            return self._mapping(node, where)
        if isinstance(node, SequenceNode) and _tag(node) == "seq":
            return tuple(self._build(child, (*where, i)) for i, child in enumerate(node.value))
        return self._scalar(node, where)

    def _mapping(self, node: MappingNode, where: Where) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            position = _position(key)
            if not isinstance(key, ScalarNode) or _tag(key) != "str":
                self._note(position, "QW106", "a key is plain text here; merge keys (<<) are not used")
                continue
            name = str(key.value)
            if name in data:
                first = self._keys[*where, name]
                self._note(position, "QW103", f"key {name!r} was already given in line {first[0]}")
                continue
            self._keys[*where, name] = position
            data[name] = self._build(value, (*where, name))
        return data

    def _scalar(self, node: Node, where: Where) -> Any:
        read = _SCALARS.get(_tag(node)) if isinstance(node, ScalarNode) else None
        if read is None:
            self.problem(where, "QW107", "tags (!…) are not used here")
            self._unread.add(where)
            return None
        try:
            return read(node.value)
        except ValueError:
            self.problem(
                where, "QW106", f"{clip(node.value)!r} cannot be read; put text in quotes, dates as 2026-12-31"
            )
            return None

    def _note(self, position: tuple[int, int], code: str, message: str) -> None:
        self.problems.append(Problem(self.file, *position, code, message))


def read_source(path: Path, name: str) -> Source:
    """Read one file under the name to show in errors; what cannot be read is a problem, not an exception."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            return _unread(name, "QW102", f"larger than {MAX_BYTES >> 10} KiB")
        return Source(name, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _unread(name, "QW101", f"not UTF-8 (byte {error.start})")
    except OSError as error:
        return _unread(name, "QW101", f"cannot be read: {error.strerror}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest valid words, or all of them where few; starts with a separator."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(close) + "?"
    return "; valid: " + ", ".join(words) if 0 < len(words) <= 16 else ""


def clip(value: object, size: int = 40) -> str:
    """Shorten what a file says for a message."""
    text = str(value)
    return text if len(text) <= size else text[: size - 1] + "…"


class _FaultError(Exception):
    def __init__(self, position: tuple[int, int], code: str, message: str) -> None:
        super().__init__(message)
        self.position, self.code, self.message = position, code, message


def _compose(text: str) -> Node | None:
    """Parse to nodes only: they carry positions, and composing them runs nobody's constructor."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)  # a re-used anchor simply means the later one
            yaml = YAML(typ="safe", pure=True)
            yaml.max_depth = MAX_DEPTH + 1  # the parser's time grows with the square of the depth
            node: Node | None = yaml.compose(text)
            return node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(error, MaxDepthExceededError):
            raise _FaultError(position, "QW102", f"nested deeper than {MAX_DEPTH} levels") from None
        raise _FaultError(position, "QW101", f"not YAML: {error.problem or error.context}") from None
    except ReaderError as error:
        before = text[: error.position]
        position = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _FaultError(position, "QW101", "a control character is not allowed in YAML") from None
    except RecursionError:
        raise _FaultError((1, 1), "QW102", f"nested deeper than {MAX_DEPTH} levels") from None
    except (YAMLError, ValueError) as error:
        raise _FaultError((1, 1), "QW101", f"not YAML: {clip(error, 200)}") from None


def _unread(name: str, code: str, message: str) -> Source:
    source = Source(name, "{}")
    source.data = None
    source.problem((), code, message)
    return source


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _float(text: str) -> float:
    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": lambda text: int(text.replace("_", ""), 0),
    "float": _float,
    "bool": lambda text: text.lower() == "true",
    "null": lambda _: None,
    "timestamp": date.fromisoformat,
}
