"""`querywatch simulate --endpoint`: the same clients and attacks against an HTTP endpoint of one's own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detector.commands.text import printable


class Wanted(NamedTuple):
    """The options that only an endpoint has."""

    url: str
    protocol: str
    owned: bool
    rate: float
    samples: Path | None
    model: str
    timeout_s: float
    input_name: str
    insecure_http: bool


def simulate_endpoint(
    wanted: Wanted, attacks: tuple[str, ...], kinds: tuple[str, ...], queries: int | None, seed: int, out: Path
) -> dict[str, object]:
    """Play the clients and return the summary. Exits with 2 for wrong use, 1 where the endpoint failed, 130 on Ctrl-C.

    What was done until then stays in the capture.
    """
    from replay.simulate.data import UnknownNameError
    from replay.simulate.endpoint import EndpointError, Key, checked
    from replay.simulate.live import Plan, planned, run
    from replay.simulate.samples import read_samples

    if not wanted.owned:
        _fail("these are attacks: say --i-own-this-endpoint if it is yours, or if you have its owner's written leave")
    if wanted.protocol not in {"v1", "v2"}:
        _fail("--protocol is v1 or v2")
    key = Key(
        os.environ.get("QUERYWATCH_ENDPOINT_KEY", ""),
        os.environ.get("QUERYWATCH_ENDPOINT_KEY_HEADER") or "Authorization",
    )
    plan = Plan(kinds, attacks, queries, seed)
    try:
        target = checked(
            wanted.url,
            "v1" if wanted.protocol == "v1" else "v2",
            wanted.rate,
            wanted.model,
            wanted.timeout_s,
            key,
            wanted.input_name,
            wanted.insecure_http,
        )
        most = planned(plan)
        samples = read_samples(wanted.samples)
    except (EndpointError, UnknownNameError) as error:
        _fail(str(error))
    typer.echo(f"at most {most:,} queries to {target.shown}, {most / target.rate / 60:.1f} minutes or more", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queries", total=most)
        made = run(target, samples, plan, out, lambda: bar.advance(task))
    for note in made.notes:
        typer.echo(f"querywatch simulate: {printable(note)}", err=True)
    summary = {name: str(value) if isinstance(value, Path) else value for name, value in made._asdict().items()}
    if made.stopped:
        typer.echo(f"querywatch simulate: {printable(made.stopped)}", err=True)
        typer.echo(f"{made.events:,} events until then in {made.capture}; truth in {made.truth}", err=True)
        raise typer.Exit(130 if made.stopped == "interrupted" else 1)
    return summary


def print_summary(summary: dict[str, object], as_json: bool) -> None:
    """Print what was written."""
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        "{events:,} events ({failed:,} failed calls) of {clients} clients in {capture}; "
        "{campaigns} attacks, {succeeded} known to have succeeded; truth in {truth}".format(**summary)
    )


def _fail(message: str) -> NoReturn:
    typer.echo(f"querywatch simulate: {printable(message)}", err=True)
    raise typer.Exit(2)
