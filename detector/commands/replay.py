"""`querywatch replay`: captured logs through the live detectors."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from detector.commands.text import cell
from detector.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from detector.shortage import Shortage
    from replay.run import Replayed

FIRST_LINES = 50  # looked at to tell a log's format
EXAMPLES = """Examples:

  querywatch replay capture.jsonl.zst
  querywatch replay day1.jsonl.gz day2.jsonl.gz --alerts-out alerts.jsonl
  zcat old.gz | querywatch replay - --rules my-rules/ --json

Exit code 0: everything was read, whether or not alerts were raised; 1: records were refused; 2: wrong use."""


def replay(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help=".jsonl, .jsonl.gz, .jsonl.zst; - = standard input.")
    ],
    rules: Annotated[Path | None, typer.Option(help="Folder of rules; default: the shipped ones.")] = None,
    alerts_out: Annotated[
        str,
        typer.Option(metavar="FILE", help="Write alert documents here, one JSON object a line, instead of the store."),
    ] = "",
    dead_letters: Annotated[
        Path | None, typer.Option(help="Keep refused records here, one JSON object a line.")
    ] = None,
    log_format: Annotated[
        str, typer.Option("--format", help="Of the files; default: the settings', or what alone fits the first lines.")
    ] = "",
    mapping: Annotated[str, typer.Option(help="Mapping file of mapped_json.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Find attacks in captured logs: the live pipeline, reading files. Notifies nobody."""
    from detector.rules import RulesError
    from detector.sources.capture import CaptureError
    from detector.wiring import build_pipeline, rules_of, with_log

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    settings = with_log(load_settings(), log_format, mapping)
    if not log_format and settings.log.format == "native":
        settings = with_log(settings, _format_of(files[0], settings))
    try:
        pipeline = build_pipeline(settings, rules_of(settings, rules))
    except RulesError as error:
        _fail(str(error))
    if dead_letters is not None and not dead_letters.parent.is_dir():
        _fail(f"--dead-letters: the folder {dead_letters.parent} does not exist")
    try:
        result = _run(files, pipeline, settings, alerts_out, dead_letters, quiet=as_json)
    except CaptureError as error:
        _fail(str(error))
    _print(result, as_json, to_stderr=alerts_out == "-")
    if result.counters.refused:
        raise typer.Exit(1)


replay.__doc__ = f"{replay.__doc__}\n\n\b\n{EXAMPLES}"


def _format_of(file: str, settings: Settings) -> str:
    """Return the one foreign format that all of a file's first lines are in, and say so; "" for anything else."""
    from detector.formats import NATIVE
    from detector.formats.sniff import sniff
    from detector.sources.capture import STDIN, CaptureError, CaptureSource

    if file == STDIN or not Path(file).is_file():  # what can be read only once
        return ""
    source = CaptureSource([file], settings.limits)
    try:
        sample = source.poll(FIRST_LINES, 0.0)
    except CaptureError:
        return ""  # the replay itself says what is wrong
    finally:
        source.close()
    fit = None if sample is None else sniff(sample, settings.limits)
    if fit is None or not fit.sure or fit.best == NATIVE:
        return ""
    typer.echo(f"querywatch replay: {file} is read as {fit.best}; --format says otherwise", err=True)
    return fit.best


def _run(
    files: list[str], pipeline: Any, settings: Settings, alerts_out: str, dead_letters: Path | None, *, quiet: bool
) -> Replayed:
    from detector.deadletters import CountedOnly, FileDeadLetters
    from detector.wiring import open_store
    from replay.run import JsonLines
    from replay.run import replay as run

    letters = FileDeadLetters(dead_letters) if dead_letters is not None else CountedOnly()
    with _stoppable() as stop, _progress(quiet) as progress:
        if alerts_out:
            try:
                sink = JsonLines(alerts_out)
            except OSError as error:
                _fail(f"--alerts-out: {error.strerror}: {alerts_out}")
            complete = False
            try:
                result = run(files, pipeline, sink, settings, dead_letters=letters, progress=progress, stop=stop)
                complete = not stop.is_set()
            finally:
                sink.close(complete=complete)
        else:
            store = open_store(settings)
            store.setup()
            try:
                result = run(files, pipeline, store, settings, dead_letters=letters, progress=progress, stop=stop)
            finally:
                store.close()
        if stop.is_set():
            raise KeyboardInterrupt
    return result


@contextmanager
def _stoppable() -> Iterator[Event]:
    """Turn the first Ctrl-C into a clean end at a batch boundary; a second one ends at once."""
    stop = Event()

    def ask(_signal: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("replay", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _print(result: Replayed, as_json: bool, *, to_stderr: bool) -> None:
    counters = result.counters
    if as_json:
        summary = counters.summary()
        summary["alerts_by_rule"] = [
            {"rule": rule, "severity": severity, "alerts": count}
            for (rule, severity), count in sorted(result.alerts.items())
        ]
        summary["starved"] = [{**shortage._asdict(), "share": round(shortage.share, 4)} for shortage in result.starved]
        summary |= {"clients": result.followed, "evicted": result.evicted, "turned_away": result.turned_away}
        typer.echo(json.dumps(summary), err=to_stderr)
        return
    console = Console(highlight=False, stderr=to_stderr)
    table = Table("rule", "severity", "alerts", title="alerts", title_justify="left")
    for (rule, severity), count in sorted(result.alerts.items()):
        table.add_row(rule, severity, str(count))
    if result.alerts:
        console.print(table)
    refused = sum(counters.refused.values())
    console.print(
        f"{counters.records} records, {counters.events} events, {result.followed} clients followed; "
        f"{sum(result.alerts.values())} alerts; {counters.skipped} skipped, {refused} refused"
    )
    for reason, count in sorted(counters.refused.items()):
        console.print(f"  refused: {reason} {count}")
    if result.starved:
        console.print(_blind(result.starved))
    if result.turned_away or result.evicted:
        console.print(f"  {result.evicted} clients evicted, {result.turned_away} events of clients without a place")


def _blind(starved: list[Shortage]) -> Table:
    """Return a line for each model and thing missing, with the detectors that it blinds."""
    table = Table("model", "missing", "share of events", "detectors that see nothing there", title_justify="left")
    table.title = "too little detail in the log"
    lines: dict[tuple[str, ...], list[str]] = {}
    for s in starved:
        missing = " and ".join(s.missing) + (" (the API gives none)" if s.unanswered else "")
        lines.setdefault((f"{s.model} {s.version}", missing, f"{s.share:.2%}"), []).append(s.detector)
    for line, detectors in lines.items():
        table.add_row(*(cell(word) for word in line), ", ".join(detectors))
    return table


def _fail(message: str) -> None:
    typer.echo(f"querywatch replay: {message}", err=True)
    raise typer.Exit(2)
