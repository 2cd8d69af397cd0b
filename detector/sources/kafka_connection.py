"""What a connection to Kafka needs beside the library: the settings in its words, and one line an outage.

Nothing here imports the library.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import structlog

from detector.outbox import Backoff
from detector.settings import KafkaSettings

log = structlog.get_logger()
_CONNECT_S = 2.0


class Outage:
    """Says once that Kafka is away and once that it is back, whatever the library logs in between."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._backoff = Backoff()
        self._next_try = 0.0
        self._warnings = _LibraryWarnings()

    def try_now(self, timeout_s: float) -> bool:
        """Wait for the next try, at most `timeout_s`; True when it is due and an address answers."""
        wait_s = self._next_try - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return False
        if reachable(self._bootstrap):
            return True
        self.begin("no answer")
        return False

    def check(self) -> None:
        """After a poll without records: look whether Kafka is there, if the library has complained."""
        if time.monotonic() < self._next_try or not (self._warnings.taken() or self._backoff.failures):
            return
        if reachable(self._bootstrap):
            self.end()
        else:
            self.begin("no answer")

    def begin(self, error: str) -> None:
        """Note a failure; the first of an outage is said."""
        if not self._backoff.failures:
            log.warning("Kafka unreachable, trying again", kafka=self._bootstrap, error=error)
        self._next_try = time.monotonic() + self._backoff.next_s()

    def end(self) -> None:
        """Note a success; the first after an outage is said."""
        if self._backoff.failures:
            log.info("Kafka is back", kafka=self._bootstrap, tries=self._backoff.failures)
            self._backoff.reset()


class _LibraryWarnings(logging.Handler):
    """Takes the library's log: it repeats a lost connection many times a second. Only whether it complained is kept."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen = False
        library = logging.getLogger("kafka")
        library.handlers = [h for h in library.handlers if not isinstance(h, _LibraryWarnings)] + [self]
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        del record
        self._seen = True

    def taken(self) -> bool:
        """Return whether it complained since the last call."""
        seen, self._seen = self._seen, False
        return seen


def connection(s: KafkaSettings) -> dict[str, Any]:
    """Return the library's options for reaching the brokers."""
    options: dict[str, Any] = {
        "bootstrap_servers": [address.strip() for address in s.bootstrap.split(",")],
        "client_id": "querywatch",
        "security_protocol": s.security_protocol,
        "reconnect_backoff_max_ms": 5000,
    }
    if s.ssl_cafile:
        options["ssl_cafile"] = s.ssl_cafile
    if s.sasl_mechanism:
        options["sasl_mechanism"] = s.sasl_mechanism
        options["sasl_plain_username"] = s.sasl_username
        options["sasl_plain_password"] = s.sasl_password.get_secret_value()
    return options


def reachable(bootstrap: str) -> bool:
    """Try a bare connection to each address: the library would leave threads behind and say nothing for long."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]") or address.strip(), int(port or 9092)), _CONNECT_S):
                return True
        except (OSError, ValueError):
            continue
    return False


def text(error: BaseException) -> str:
    """Return an error in one line; the library's often have a type only."""
    return (str(error) or type(error).__name__)[:256]
