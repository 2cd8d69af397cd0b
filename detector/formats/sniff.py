"""Which format a sample of records is written in. Nobody has to rely on it: the settings name the format."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from detector import formats
from detector.events import Records
from detector.formats.calls import Message, message
from detector.formats.record import RecordError, parse
from detector.settings import LimitSettings


class Fit(NamedTuple):
    """How many of the sampled records look like each format."""

    records: int
    fitting: dict[str, int]  # best first

    @property
    def best(self) -> str:
        """The format that fits most of the records, "" where none fits any."""
        return next(iter(self.fitting), "")

    @property
    def sure(self) -> bool:
        """Whether one format fits every record, and no other fits any."""
        return len(self.fitting) == 1 and self.fitting[self.best] == self.records


def sniff(records: Records, limits: LimitSettings) -> Fit:
    """Look at records as each format would find them."""
    found: Counter[str] = Counter()
    seen = 0
    for i, value in enumerate(records.values):
        if value:
            seen += 1
            found.update(_fitting(records, i, limits))
    return Fit(seen, dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))))


def _fitting(records: Records, i: int, limits: LimitSettings) -> list[str]:
    try:
        one = message(records, i, limits)
    except RecordError:
        return []
    value = _parsed(one, limits)
    found = [name for name, adapter in formats.foreign().items() if adapter.fits(one, value)]
    return found or [formats.NATIVE] * is_native(value)


def _parsed(one: Message, limits: LimitSettings) -> Any:
    try:
        return parse(one.value, limits)
    except RecordError:
        return None


def is_native(value: Any) -> bool:
    """Say whether a parsed record is a prediction_event/1."""
    return isinstance(value, dict) and "event_time" in value and isinstance(value.get("model"), dict)
