"""`querywatch …`: the commands by name; each is imported only when it is called, so that light ones start at once.

A command is one line of COMMANDS and one module of detector/commands, which holds `app` (a typer.Typer) or a function
named like the command. It reads settings with `load_settings()`: `--config` reaches that through $QUERYWATCH_CONFIG.
Exit codes: 0 fine, 1 failed or something was found, 2 wrong usage or settings, 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from detector import __version__
from detector.settings import SettingsError
from detector.stores import StoreUnavailableError

COMMANDS = {
    "simulate": "Make a capture of benign and hostile traffic against real models.",
    "replay": "Find attacks in a capture.",
    "evaluate": "Score detection on captures of which the truth is known.",
    "run": "Watch prediction events in Kafka and write alerts to the store.",
    "setup": "Make what the alert store needs: tables or index templates.",
    "alerts": "List, read, explain and triage alerts.",
    "rules": "Detection rules: list, show, check, lock.",
    "training-index": "Index a model's training records, so that queries for them show.",
    "canary": "Plant made-up records in training data, which no stranger can know.",
    "baseline": "Export and import what benign traffic of each model looks like.",
    "formats": "Which log formats can be read, and what is in a log of yours.",
    "models": "Check models.yml and show what it says of each model.",
}


class _Later(TyperCommand):
    """A command whose module is imported when it is called; until then a name and one line of help."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _load(str(self.name)).make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        return self.commands.get(cmd_name)

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, help_text in COMMANDS.items():
            if find_spec(_module(name)) is not None:
                self.commands[name] = _Later(name, help=help_text, callback=None)


def _module(name: str) -> str:
    return f"detector.commands.{name.replace('-', '_')}"


def _load(name: str) -> Any:
    """Import a command's module and return the command that it holds."""
    module = importlib.import_module(_module(name))
    outer = typer.Typer(add_completion=False)
    if hasattr(module, "app"):
        outer.add_typer(module.app, name=name)
        return typer.main.get_group(outer).commands[name]
    outer.command(name)(getattr(module, name))
    return typer.main.get_command(outer)


app = typer.Typer(
    cls=_Commands,
    name="querywatch",
    help="The SIEM for machine-learning prediction APIs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"querywatch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="PATH", help="Settings file; default ./querywatch.toml.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    if config is not None:
        os.environ["QUERYWATCH_CONFIG"] = str(config.absolute())  # load_settings reads it, here and in workers


def main() -> None:
    """Run the command line; whatever can be foreseen ends in one clear line instead of a traceback."""
    try:
        app()
    except SettingsError as error:
        _stop(2, str(error))
    except StoreUnavailableError as error:
        _stop(1, f"alert store: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(code: int, message: str) -> None:
    typer.echo(f"querywatch: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
