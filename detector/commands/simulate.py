"""`querywatch simulate`: a capture of benign and hostile traffic against real models, with the truth beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Capture to write: .jsonl, .jsonl.gz or .jsonl.zst.")],
    preset: Annotated[str, typer.Option(help="demo, small, full or benign.")] = "demo",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    hours: Annotated[float | None, typer.Option(help="Hours of event time.")] = None,
    clients: Annotated[int | None, typer.Option(min=0, help="Benign clients.")] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Mean number of queries of a benign client.")] = None,
    campaigns: Annotated[int | None, typer.Option(min=0, help="Attack campaigns.")] = None,
    attacks: Annotated[str, typer.Option(help="Attacks by name, separated by commas; `all` for every one.")] = "",
    benign: Annotated[str, typer.Option(help="Benign kinds by name, separated by commas; `all` for every one.")] = "",
    evasions: Annotated[str, typer.Option(help="Evasions by name, separated by commas.")] = "",
    models: Annotated[str, typer.Option(help="Models DATA-KIND[-INTERFACE], separated by commas.")] = "",
    training: Annotated[Path | None, typer.Option(help="Folder for the training records of each model (.npy).")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes; they do not change the result.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Simulate clients and attackers of real scikit-learn models: FILE, and the truth in FILE.truth.jsonl."""
    from replay.simulate.data import UnknownNameError
    from replay.simulate.run import simulate as run
    from replay.simulate.scenario import PRESETS, ScenarioError, plan

    if preset not in PRESETS:
        raise typer.BadParameter(f"there are {', '.join(PRESETS)}", param_hint="--preset")
    if not out.name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
        raise typer.BadParameter("the name must end in .jsonl, .jsonl.gz or .jsonl.zst", param_hint="--out")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"the folder {out.parent} does not exist", param_hint="--out")
    if hours is not None and not 0 < hours <= 24 * 366:
        raise typer.BadParameter("more than 0 and at most 8784", param_hint="--hours")
    if training is not None and not training.is_dir():
        raise typer.BadParameter(f"the folder {training} does not exist", param_hint="--training")
    given: dict[str, Any] = {
        "hours": hours,
        "clients": clients,
        "queries": queries,
        "attacks": _names(attacks),
        "kinds": _names(benign),
        "evasions": _names(evasions) or None,
        "models": _names(models) or None,
        "campaigns": campaigns if campaigns is not None or not _names(attacks) else max(1, len(_names(attacks) or ())),
    }
    wanted = replace(PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
    try:
        scenario = plan(wanted, seed)
    except (UnknownNameError, ScenarioError) as error:
        typer.echo(f"querywatch simulate: {error}", err=True)
        raise typer.Exit(2) from None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("clients", total=len(scenario.jobs))
        made = run(scenario, out, lambda _: bar.advance(task), workers, training)
    summary = {name: str(value) if isinstance(value, Path) else value for name, value in made._asdict().items()}
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{made.events:,} events ({made.bytes / 1e6:,.1f} MB) of {made.clients:,} clients in {made.capture}; "
        f"{made.campaigns} attack campaigns, {made.succeeded} succeeded; truth in {made.truth}"
    )


def _names(text: str) -> tuple[str, ...] | None:
    """Return the names of a list separated by commas; None where it is empty, () for `all`."""
    if text.strip() == "all":
        return ()
    return tuple(part.strip() for part in text.split(",") if part.strip()) or None
