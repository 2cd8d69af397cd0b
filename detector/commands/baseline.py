"""`querywatch baseline export | import | show`: what benign traffic of a model looks like, as a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer
from rich.console import Console
from rich.table import Table

from detector.commands.text import cell
from detector.settings import Settings, load_settings

if TYPE_CHECKING:
    from detector.alerts import Document
    from detector.baseline_state import ModelState
    from detector.pipeline import Pipeline
    from detector.stores import Written

app = typer.Typer(
    name="baseline",
    help="""Make a file of what benign traffic of each model looks like, and let a new service start from it.

    A file holds sketches, not records; but the sketch of an input of up to 32 features is that input, rounded: keep the
    file as you keep the log.""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that `baseline export` made.")]


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, NAME.npz.")],
    log: Annotated[list[str] | None, typer.Option(metavar="CAPTURE", help="Learn from captures, in order.")] = None,
    from_snapshot: Annotated[Path | None, typer.Option(metavar="FILE", help="Take those of a snapshot (.qws).")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the baselines that captured logs give, or those of a snapshot of the service."""
    from detector.baseline_file import SUFFIX, BaselineFileError, write

    if (not log) == (from_snapshot is None):
        _fail("give either --log or --from-snapshot")
    if file.suffix != SUFFIX:
        _fail(f"{file}: a file of baselines ends in {SUFFIX}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    settings = load_settings()
    pipeline = _pipeline(settings)
    models = (
        _of_snapshot(from_snapshot, pipeline) if from_snapshot is not None else _of_log(log or [], pipeline, settings)
    )
    if not models:
        _fail("no model has a baseline there")
    try:
        write(file, models, pipeline.baselines.seed)
    except BaselineFileError as error:
        _fail(str(error))
    _print(models, as_json)


@app.command("import")
def import_file(file: File, as_json: AsJson = False) -> None:
    """Check a file and put it into the settings' folder: its models are judged from their first event on.

    A baseline that the service has learned already stays; a running service reads the folder at its next start.
    """
    from detector.baseline_file import BaselineFileError, read_folder

    settings = load_settings()
    models = _read(file, settings)
    folder = settings.baselines.folder
    target = folder / file.name
    try:
        there = {(model.name, model.version) for model in read_folder(folder, _seed(settings), but=target)}
    except BaselineFileError as error:
        _fail(str(error))
    twice = sorted(f"{m.name} {m.version}" for m in models if (m.name, m.version) in there)
    if twice:
        _fail(f"{folder} holds a baseline of {', '.join(twice)} already: remove its file first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(file)):
            part = shutil.copyfile(file, folder / f".{file.name}.part")
            part.chmod(0o600)
            part.replace(target)
    except OSError as error:
        _fail(f"{target}: {error.strerror}")
    _print(models, as_json)


@app.command()
def show(file: File, as_json: AsJson = False) -> None:
    """Check a file and say what it holds."""
    _print(_read(file, load_settings()), as_json)


class _Nowhere:
    """A sink that keeps nothing: a baseline is made, nobody is alerted."""

    def write(self, documents: Sequence[Document]) -> Written:
        from detector.stores import Written

        return Written(stored=len(documents))


def _of_log(log: list[str], pipeline: Pipeline, settings: Settings) -> list[ModelState]:
    from detector.baseline_state import models_of
    from detector.sources.capture import CaptureError
    from replay.run import replay

    try:
        replay(log, pipeline, _Nowhere(), settings)
    except CaptureError as error:
        _fail(str(error))
    pipeline.end_epoch()
    return models_of(pipeline.baselines)


def _of_snapshot(path: Path, pipeline: Pipeline) -> list[ModelState]:
    from detector.baseline_state import models_in
    from detector.snapshot import SnapshotError, decode

    try:
        snapshot = decode(path.read_bytes())
    except OSError as error:
        _fail(f"{path}: {error.strerror}")
    except SnapshotError as error:
        _fail(f"{path}: {error}")
    if snapshot.fingerprint != pipeline.fingerprint:
        _fail(f"{path}: made under other detectors, rules or settings than these")
    return models_in(snapshot.arrays["baselines"])


def _read(file: Path, settings: Settings) -> list[ModelState]:
    from detector.baseline_file import SUFFIX, BaselineFileError, read

    if file.suffix != SUFFIX:
        _fail(f"{file}: a file of baselines ends in {SUFFIX}")
    try:
        return read(file, _seed(settings))
    except BaselineFileError as error:
        _fail(str(error))


def _seed(settings: Settings) -> int:
    from detector.sketch import seed_of

    return seed_of(settings.secret.get_secret_value().encode())


def _pipeline(settings: Settings) -> Pipeline:
    from detector.rules import RulesError
    from detector.wiring import build_pipeline, rules_of

    try:
        return build_pipeline(settings, rules_of(settings), imported=())
    except RulesError as error:
        _fail(str(error))


def _print(models: list[ModelState], as_json: bool) -> None:
    from detector.baseline_state import rows_in

    rows = [
        {"model": m.name, "version": m.version, "rows": rows_in(m), "signals": len(m.quantiles), "baseline": m.words}
        for m in models
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("model", "version", "rows", "signals", "baseline", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    Console(highlight=False).print(table)


def _fail(message: str) -> NoReturn:
    typer.echo(f"querywatch baseline: {message}", err=True)
    raise typer.Exit(2)
