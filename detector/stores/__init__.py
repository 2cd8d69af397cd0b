"""Where alerts are kept. One file a store; every store meets `tests/contracts/test_stores.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from detector.alerts import Document
from detector.lifecycle import Change

Documents = list[Document]  # the stores have a method `list`, which hides the type below it


class StoreUnavailableError(Exception):
    """The store cannot take alerts now (down, overloaded, or it refuses us): nothing is lost, try again later."""


class Rejected(NamedTuple):
    """A document that the store will never take, with its reason (a mapping fault)."""

    document: Document
    reason: str


@dataclass(slots=True)
class Written:
    """What became of some alert events."""

    stored: int = 0
    duplicates: int = 0  # already there: a replay after a restart
    rejected: list[Rejected] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class AlertQuery:
    """Which alerts to list. Empty fields do not filter."""

    since_us: int | None = None  # event time of the latest alert event
    until_us: int | None = None
    severities: tuple[str, ...] = ()
    rule: str = ""
    model: str = ""
    client: str = ""
    status: str = ""
    owner: str = ""
    limit: int = 100
    fields: tuple[str, ...] = ()  # only these parts of each state, as dotted names: what many alerts are counted by


class Triaged(NamedTuple):
    """What became of an analyst's change of one alert."""

    alert_id: str
    state: Document | None  # after the change; None where it was refused
    refused: str = ""  # why


class AlertStore(Protocol):
    """Alert events (immutable), alert states (one a raised episode) and the triage log (lifecycle.py)."""

    def setup(self, *, dry_run: bool = False) -> list[str]:
        """Make what the store needs (tables, templates); idempotent. Returns what was, or would be, done."""

    def write(self, documents: Sequence[Document]) -> Written:
        """Store alert events durably, each once however often it comes; StoreUnavailableError: none is promised."""

    def list(self, query: AlertQuery) -> Documents:
        """Return alert states, newest first."""

    def get(self, alert_id: str) -> Document | None:
        """Return one alert state by its id or an unambiguous start of it (≥ 4 characters)."""

    def events(self, alert_id: str) -> Documents:
        """Return the alert events of one episode, oldest first."""

    def triage(self, alert_ids: Sequence[str], change: Change) -> Sequence[Triaged]:
        """Apply an analyst's change to alerts (whole ids) as they are now, each with its log entry or not at all."""

    def log(self, alert_id: str = "") -> Documents:
        """Return the triage log of one alert, or of all, each alert's entries in the order of their changes."""

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
