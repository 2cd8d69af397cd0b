"""`querywatch formats`: which log formats can be read, and what detection would get out of a log of yours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from detector.commands.text import cell
from detector.settings import Settings, load_settings

if TYPE_CHECKING:
    from detector.events import Decoded, EventBatch, Records
    from detector.formats.sniff import Fit

app = typer.Typer(help="Log formats: which can be read, and what is in a log of yours.", no_args_is_help=True)
EXAMPLES = """Examples:

  querywatch formats check mlserver.jsonl
  querywatch formats check access.jsonl --format mapped_json --mapping mapping.toml
  querywatch formats check capture.jsonl.gz --model churn --json

A line is a record as the server writes it, or a record of Kafka as an object with topic, key, timestamp, headers and
value. Exit code 0: readable; 1: nothing, or not all of it, can be read; 2: wrong use."""
SHOWN = 5  # different reasons of refusal


@app.command("list")
def list_formats(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the log formats."""
    from detector import formats

    about = {formats.NATIVE: "prediction_event/1, one JSON object a line"}
    about |= {name: adapter.ABOUT for name, adapter in formats.foreign().items()}
    if as_json:
        typer.echo(json.dumps(about))
        return
    table = Table("format", "whose log", box=None, pad_edge=False)
    for name, text in sorted(about.items()):
        table.add_row(name, text)
    Console(highlight=False).print(table)


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help=".jsonl, .jsonl.gz or .jsonl.zst; - = standard input.")],
    log_format: Annotated[str, typer.Option("--format", help="Default: what fits.")] = "",
    mapping: Annotated[str, typer.Option(help="Mapping file of mapped_json.")] = "",
    model: Annotated[str, typer.Option(help="The model of records that name none.")] = "",
    records: Annotated[int, typer.Option(min=1, max=100_000, help="How many records to read.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read a sample of a log: what fits it, what one event looks like, what is missing, and who cannot see."""
    from detector.formats.sniff import sniff
    from detector.sources.capture import CaptureError
    from detector.wiring import with_log

    settings = with_log(load_settings(), log_format, mapping, model)
    try:
        sample = _sample(file, records, settings)
    except CaptureError as error:
        _fail(2, str(error))
    fit = sniff(sample, settings.limits)
    name = log_format or ("mapped_json" if mapping else fit.best)
    if not name:
        _fail(1, f"{file}: no format fits its {fit.records} records; write a mapping file (docs/formats.md)")
    report = _report(sample, with_log(settings, name), fit)
    typer.echo(json.dumps(report)) if as_json else _print(report)
    if report["refused"] or not report["events"]:
        raise typer.Exit(1)


check.__doc__ = f"{check.__doc__}\n\n\b\n{EXAMPLES}"


def _sample(file: str, records: int, settings: Settings) -> Records:
    from detector.sources.capture import CaptureError, CaptureSource

    source = CaptureSource([file], settings.limits)
    try:
        found = source.poll(records, 0.0)
    finally:
        source.close()
    if found is None:
        raise CaptureError(f"{file}: the file is empty")
    return found


def _report(sample: Records, settings: Settings, fit: Fit) -> dict[str, Any]:
    """Return what the sample holds, as one document."""
    from detector.events import EventBatch
    from detector.wiring import decoder

    decode = decoder(settings)
    decoded: Decoded = decode(sample)
    batch = EventBatch.concat([part for part in (decoded.batch, decode.rest()) if len(part)] or [decoded.batch])
    reasons = list(dict.fromkeys(f"{letter.reason.value}: {letter.error}" for letter in decoded.refused))
    return {
        "format": settings.log.format,
        "records": len(sample.values),
        "fits": fit.fitting,
        "events": len(batch),
        "refused": len(decoded.refused),
        "reasons": reasons[:SHOWN],
        "event": _event(batch) if len(batch) else {},
        "missing": _missing(batch) if len(batch) else {},
        "blind": _blind(batch, settings) if len(batch) else [],
    }


def _event(batch: EventBatch) -> dict[str, Any]:
    """Return the most complete of the first events by name of field."""
    import numpy as np

    from detector.events import Flag, InputLevel, OutputLevel

    i = int(np.argmax((batch.input_level.astype(int) + batch.output_level)[:100]))
    name, version = batch.models[batch.model[i]]
    flags = Flag(int(batch.flags[i]))
    return {
        "event_time": f"{batch.time_us[i].astype('datetime64[us]')}Z",
        "position": f"record {batch.offset[i]}, instance {batch.instance[i]}",
        "client.id": batch.client_id[i],
        "client.kind": batch.client_kind[i],
        "client.ip": batch.client_ip[i],
        "model.name": name,
        "model.version": version,
        "status": int(batch.status[i]),
        "latency_ms": None if np.isnan(batch.latency_ms[i]) else round(float(batch.latency_ms[i]), 3),
        "input": f"{InputLevel(int(batch.input_level[i])).name.lower()} {_row(batch.input.row(i))}".strip(),
        "output": OutputLevel(int(batch.output_level[i])).name.lower(),
        "label": batch.label[i],
        "scores": _row(batch.scores.row(i)),
        "flags": [str(flag.name).lower() for flag in Flag if flag & flags],
    }


def _row(values: Any) -> str:
    shown = ", ".join(f"{x:.4g}" for x in values[:8])
    return f"[{shown}{', …' if len(values) > 8 else ''}] ({len(values)} numbers)" if len(values) else ""


def _missing(batch: EventBatch) -> dict[str, float]:
    """Return the share of events that lack each thing, or that carry each flag."""
    from detector.events import Flag, InputLevel, OutputLevel

    shares = {
        "client": float((batch.flags & int(Flag.UNKNOWN_CLIENT) != 0).mean()),
        "input": float((batch.input_level == InputLevel.NONE).mean()),
        "label": float((batch.label_key < 0).mean()),
        "scores": float((batch.output_level < OutputLevel.SCORES).mean()),
    }
    wrong = {
        str(flag.name).lower(): float((batch.flags & int(flag) != 0).mean())
        for flag in Flag
        if flag is not Flag.UNKNOWN_CLIENT
    }
    return {name: round(share, 4) for name, share in (shares | {k: v for k, v in wrong.items() if v}).items()}


def _blind(batch: EventBatch, settings: Settings) -> list[dict[str, Any]]:
    import numpy as np

    from detector.detectors import discover
    from detector.registry import load_registry
    from detector.shortage import Detail

    detail = Detail()
    detail.count(batch, np.zeros(len(batch), bool))
    found = detail.shortages(discover(), load_registry(settings.models))
    return [{**shortage._asdict(), "share": round(shortage.share, 4)} for shortage in found]


def _print(report: dict[str, Any]) -> None:
    console = Console(highlight=False)
    fitting = ", ".join(f"{name} {count}" for name, count in report["fits"].items()) or "none"
    console.print(f"format: {report['format']} (records that look like it: {fitting}; of {report['records']})")
    console.print(f"{report['events']} events; {report['refused']} records cannot be read")
    for reason in report["reasons"]:
        console.print(cell(f"  {reason}"))
    _print_pairs(console, "one event", report["event"])
    _print_pairs(
        console,
        "share of events that lack it, or that are flagged so",
        {k: f"{v:.1%}" for k, v in report["missing"].items()},
    )
    if report["missing"].get("client", 0) > 0.5:
        console.print("most events name no client: attacks cannot be told apart by who asks (docs/formats.md)")
    blind = Table("model", "detector", "lacks", "in share of events", box=None, pad_edge=False)
    for entry in report["blind"]:
        words = (f"{entry['model']} {entry['version']}", entry["detector"], " and ".join(entry["missing"]))
        blind.add_row(*(cell(word) for word in words), f"{entry['share']:.1%}")
    if report["blind"]:
        console.print("\ndetectors that cannot see:")
        console.print(blind)
    elif report["events"]:
        console.print("every detector sees what it needs")


def _print_pairs(console: Console, title: str, pairs: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in pairs.items():
        shown = ", ".join(value) if isinstance(value, list) else "" if value is None else value
        table.add_row(name, cell(shown))
    if pairs:
        console.print(f"\n{title}:")
        console.print(table)


def _fail(code: int, message: str) -> None:
    typer.echo(f"querywatch formats: {message}", err=True)
    raise typer.Exit(code)
