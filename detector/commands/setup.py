"""`querywatch setup`: tables of the embedded store, or the index templates of Elasticsearch."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from detector.settings import load_settings
from detector.wiring import open_store


def setup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make what the alert store needs; may run as often as you like."""
    settings = load_settings()
    store = open_store(settings, patience_s=5.0)
    try:
        steps = store.setup(dry_run=dry_run)
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps({"store": settings.store, "dry_run": dry_run, "steps": steps}))
        return
    for step in steps:
        typer.echo(step)
