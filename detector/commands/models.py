"""`querywatch models`: what models.yml says of the protected models, or of one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from detector.commands.text import cell
from detector.settings import SettingsError, load_settings

EXAMPLES = """Examples:

  querywatch models --file deploy/models.yml
  querywatch models credit 4

Exit code 0: no faults; 1: faults, each printed with file, line and column; 2: wrong use."""


def models(
    model: Annotated[str, typer.Argument(help="Show the entry that holds for this model.")] = "",
    version: Annotated[str, typer.Argument(help="… in this version.")] = "",
    file: Annotated[Path | None, typer.Option(help="The file; default: the settings'.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check models.yml and show what it says: sensitivity, output and owner of each protected model."""
    from detector.events import ModelRef
    from detector.registry import load_registry

    path = file or load_settings().models
    try:
        registry = load_registry(path)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    shown = [registry.entry(ModelRef(model, version))] if model else list(registry.entries)
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in shown]))
        return
    if path is None:
        typer.echo("no models.yml (setting: models): every model counts as of medium sensitivity")
    if shown:
        table = Table("name", "version", "sensitivity", "output", "owner", box=None, pad_edge=False)
        for entry in shown:
            words = (entry.name, entry.version or "*", entry.sensitivity, entry.output or "not said", entry.owner)
            table.add_row(*(cell(word) for word in words))
        Console(highlight=False).print(table)


models.__doc__ = f"{models.__doc__}\n\n\b\n{EXAMPLES}"
