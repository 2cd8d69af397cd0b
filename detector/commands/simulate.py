"""`querywatch simulate`: a capture of benign and hostile traffic against real models, with the truth beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detector.commands.simulate_endpoint import Wanted, print_summary, simulate_endpoint

_PANEL = "An HTTP endpoint of your own"


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
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="Ask this HTTP endpoint, on the real clock.", rich_help_panel=_PANEL)
    ] = "",
    i_own_this_endpoint: Annotated[
        bool, typer.Option("--i-own-this-endpoint", help="Needed: these are attacks.", rich_help_panel=_PANEL)
    ] = False,
    samples: Annotated[
        Path | None, typer.Option(help="Genuine records of its model: .npy or .jsonl.", rich_help_panel=_PANEL)
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="v1 (instances, predictions) or v2 (Open Inference).", rich_help_panel=_PANEL)
    ] = "v1",
    rate: Annotated[float, typer.Option(help="Requests a second, at most 200.", rich_help_panel=_PANEL)] = 10.0,
    model: Annotated[str, typer.Option(help="Its name in the capture.", rich_help_panel=_PANEL)] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", rich_help_panel=_PANEL)] = 10.0,
    input_name: Annotated[str, typer.Option(help="v2: name of the input.", rich_help_panel=_PANEL)] = "input-0",
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow http beyond this machine.", rich_help_panel=_PANEL)
    ] = False,
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
    if endpoint:
        unfit: dict[str, object] = {
            "--hours": hours,
            "--clients": clients,
            "--campaigns": campaigns,
            "--evasions": evasions or None,
        }
        unfit |= {"--models": models or None, "--training": training}
        for option, value in unfit.items():
            if value is not None:
                raise typer.BadParameter("does not go with --endpoint", param_hint=option)
        for option, names in (("--attacks", attacks), ("--benign", benign)):
            if names.strip() == "all":
                raise typer.BadParameter("against an endpoint, name them one by one", param_hint=option)
        wanted_there = Wanted(
            endpoint, protocol, i_own_this_endpoint, rate, samples, model, timeout, input_name, insecure_http
        )
        whom = _names(attacks) or (), _names(benign) or ("human", "machine", "batch")
        print_summary(simulate_endpoint(wanted_there, *whom, queries, seed, out), as_json)
        return
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
