"""Where records go that could not become events: counted, or kept in a file. The Kafka topic is in sources/kafka.py."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import orjson

from detector.alerts import Document
from detector.events import DeadLetter, Reason
from detector.stores import Rejected

ERROR_CHARACTERS = 256


class DeadLetters(Protocol):
    """Keeps refused records. Raises StoreUnavailableError when it cannot now: the service tries again."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters durably; a letter may come again after a restart."""

    def close(self) -> None:
        """Let go of connections and files; safe to call twice."""


class CountedOnly:
    """Keeps nothing: the service's counters already hold how many and why."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing to close."""


class FileDeadLetters:
    """One JSON object a line; bytes as base64, so that they can be re-driven exactly as they came."""

    def __init__(self, path: Path, failed_at: Callable[[], str] | None = None) -> None:
        self._path = path
        self._failed_at = failed_at or now_text
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # of an earlier run on the same capture

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Append the letters."""
        with self._path.open("ab") as file:
            file.writelines(orjson.dumps(self._line(letter)) + b"\n" for letter in letters)

    def close(self) -> None:
        """The file is closed after every write."""

    def _line(self, letter: DeadLetter) -> Document:
        return {
            **{name.removeprefix("dlq."): text for name, text in dlq_headers(letter, self._failed_at())},
            "value": _text(letter.value),
            "key": _text(letter.key),
            "headers": [[name, _text(value)] for name, value in letter.headers],
        }


def dlq_headers(letter: DeadLetter, failed_at: str) -> list[tuple[str, str]]:
    """Return what is known of a refused record, as the string headers of the dead-letter topic."""
    named = [
        ("dlq.original.topic", letter.topic),
        ("dlq.original.partition", str(letter.partition)),
        ("dlq.original.offset", str(letter.offset)),
        ("dlq.original.timestamp", str(letter.timestamp_ms)),
        ("dlq.stage", letter.stage),
        ("dlq.reason", letter.reason.value),
        ("dlq.error", letter.error[:ERROR_CHARACTERS]),
        ("dlq.failed_at", failed_at),
    ]
    if letter.instances:
        named.append(("dlq.instances", ",".join(map(str, letter.instances))))
    return named


def rejected_alert(rejected: Rejected) -> DeadLetter:
    """Return the dead letter of an alert document that the store will never take."""
    position = rejected.document.get("querywatch", {}).get("position", {})
    return DeadLetter(
        topic=str(position.get("topic", "")),
        partition=int(position.get("partition", -1)),
        offset=int(position.get("last_offset", -1)),
        stage="store",
        reason=Reason.ALERT_REJECTED,
        error=rejected.reason[:ERROR_CHARACTERS],
        value=orjson.dumps(rejected.document),
    )


def now_text() -> str:
    """Return the wall clock as RFC 3339: when something failed, never part of detection."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: TID251 (an operator's note)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
