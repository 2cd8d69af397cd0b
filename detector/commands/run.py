"""`querywatch run`: the live service. Reads Kafka, writes alerts to the store, until it is told to stop."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import structlog
import typer

from detector.settings import load_settings

EXAMPLES = """Examples:

  querywatch run
  querywatch --config site.toml run --rules my-rules/
  querywatch run --until-end --json

Exit code 0: stopped as asked, everything delivered and committed; 1: something could not be delivered, or Kafka
refuses us; 2: wrong settings or rules."""


def run(
    rules: Annotated[Path | None, typer.Option(help="Folder of rules; default: the shipped ones.")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop once all that the topic holds is read.")] = False,
    log_format: Annotated[str, typer.Option("--format", help="Of the records; default: the settings'.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters at the end as JSON.")] = False,
) -> None:
    """Watch prediction events in Kafka and write alerts to the store; Ctrl-C or SIGTERM stops it cleanly."""
    from detector.rules import RulesError
    from detector.service import UndeliveredError
    from detector.sources import SourceError
    from detector.wiring import build_service, open_store, rules_of, with_log

    settings = with_log(load_settings(), log_format)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(typer.get_text_stream("stderr")),
    )
    log = structlog.get_logger()
    try:
        ruleset = rules_of(settings, rules)
    except RulesError as error:
        _fail(2, str(error))
    store = open_store(settings, patience_s=2.0)  # short: the loop itself waits, and keeps its place in the group
    try:
        service = build_service(settings, ruleset, store, until_end=until_end)
        kafka = settings.kafka
        log.info(
            "watching", topic=kafka.topic, group=kafka.group, kafka=kafka.bootstrap, store=settings.store,
            namespace=settings.namespace, rules=len(ruleset.rules), state=settings.state.url,
        )  # fmt: skip
        with _stoppable() as stop:
            counters = service.run(stop)
    except (SourceError, UndeliveredError) as error:
        _fail(1, str(error))
    finally:
        store.close()
    summary = counters.summary()
    log.info("stopped", **summary)
    if as_json:
        typer.echo(json.dumps(summary))


run.__doc__ = f"{run.__doc__}\n\n\b\n{EXAMPLES}"


@contextmanager
def _stoppable() -> Iterator[Event]:
    """Turn the first SIGTERM or Ctrl-C into a clean stop; a second one ends at once."""
    stop = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(code: int, message: str) -> None:
    typer.echo(f"querywatch run: {message}", err=True)
    raise typer.Exit(code)
