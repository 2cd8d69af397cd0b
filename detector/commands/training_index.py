"""`querywatch training-index …`: a keyed index of the records that trained a model, so that queries for them show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from detector.settings import Settings, load_settings

if TYPE_CHECKING:
    from detector.training.index import Header

app = typer.Typer(
    name="training-index",
    help="A keyed index of training records: whoever asks for them shows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="An index.")]
RecordFile = Annotated[Path, typer.Argument(metavar="RECORDS", help=".npy, .csv or .jsonl, as the model gets them.")]
Drop = Annotated[
    str, typer.Option(metavar="COLUMNS", help="Columns of a .csv that are no input: names or numbers, with commas.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

BUILD = """Examples:

  querywatch training-index build train.npy --model digits
  querywatch training-index build train.csv --drop label,id --model credit --version 7

The records must be what the prediction log holds as input: scaled, encoded and ordered as the model gets them.
The key comes from `secret` in the settings; the index works with that secret only.

Exit code 0: written; 1: could not be written; 2: wrong use or settings."""
SHOW = """Example:

  querywatch training-index show indexes/credit-7.qwi

Exit code 0: the index can be used with the settings' secret; 1: it cannot; 2: no index at all."""
CHECK = """Example:

  querywatch training-index check indexes/credit-7.qwi suspects.csv --drop label

Exit code 0: done, whatever was found; 2: wrong use, or an index that cannot be used."""


@app.command(help=f"Make the index of a model's training records.\n\n\b\n{BUILD}")
def build(
    records: RecordFile,
    model: Annotated[str, typer.Option(help="The model, as the log names it.")],
    version: Annotated[str, typer.Option(help="Its version; default: every version without an index of its own.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: MODEL.qwi in the settings' folder.")
    ] = None,
    drop: Drop = "",
    as_json: AsJson = False,
) -> None:
    """Make the index of a model's training records."""
    from detector.training.build import build as make
    from detector.training.fingerprints import Key
    from detector.training.index import TrainingIndexError, save
    from detector.training.records import RecordsError

    settings = load_settings()
    target = out or default_file(settings, model, version)
    if not target.parent.is_dir():
        _fail(f"--out: the folder {target.parent} does not exist")
    key = Key(secret_of(settings), model, version)
    try:
        with progress_bars() as progress:
            index = make(records_of(records, drop), key, model, version, now(), progress)
    except RecordsError as error:
        _fail(str(error))
    try:
        save(index, target)
    except TrainingIndexError as error:
        _fail(str(error), 1)
    _print(target, index.header, as_json)


@app.command(help=f"Show what an index says of itself, and whether the settings' secret opens it.\n\n\b\n{SHOW}")
def show(file: File, as_json: AsJson = False) -> None:
    """Show what an index says of itself."""
    from detector.training.index import TrainingIndexError, load, read_header

    try:
        header = read_header(file)
    except TrainingIndexError as error:
        _fail(str(error))
    fault = ""
    try:
        load(file, load_settings().secret.get_secret_value().encode())
    except TrainingIndexError as error:
        fault = str(error)
    _print(file, header, as_json, fault)
    if fault:
        raise typer.Exit(1)


@app.command(help=f"Count which of some records an index knows.\n\n\b\n{CHECK}")
def check(file: File, records: RecordFile, drop: Drop = "", as_json: AsJson = False) -> None:
    """Count which of some records an index knows."""
    from detector.training.index import ABSENT, TrainingIndexError, load
    from detector.training.records import RecordsError

    settings = load_settings()
    counts = {"records": 0, "exact": 0, "near": 0, "absent": 0, "canaries": 0}
    try:
        index = load(file, settings.secret.get_secret_value().encode())
        with progress_bars() as progress:
            for x in records_of(records, drop).chunks(progress("check")):
                hits, exact = index.look_up_records(x)
                found = hits.trained > ABSENT
                counts["records"] += len(x)
                counts["exact"] += int(exact.sum())
                counts["near"] += int((found & ~exact).sum())
                counts["absent"] += int((~found).sum())
                counts["canaries"] += int((hits.canary > 0).sum())
    except (RecordsError, TrainingIndexError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(counts))
        return
    typer.echo(
        f"of {counts['records']:,} records {counts['exact']:,} are in the index, {counts['near']:,} are near "
        f"one in it, {counts['absent']:,} are neither; {counts['canaries']:,} are canaries"
    )


def default_file(settings: Settings, model: str, version: str) -> Path:
    """Return where an index belongs by default: in the settings' folder, else in the present one."""
    name = f"{model}-{version}" if version else model
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return Path(settings.training.folder or ".") / f"{safe}.qwi"


def secret_of(settings: Settings) -> bytes:
    """Return the secret for a new index, which must not be the one that everybody knows."""
    secret = settings.secret.get_secret_value()
    if secret == Settings.model_fields["secret"].default.get_secret_value():
        _fail(
            "the settings hold the default secret, which everybody knows: records could be guessed from the index. "
            "Choose one of your own (QUERYWATCH_SECRET, or `secret` in querywatch.toml), the same for all workers"
        )
    return secret.encode()


def records_of(path: Path, drop: str) -> Any:
    """Return the records of a file without the named columns."""
    from detector.training.records import Records

    return Records(path, [name.strip() for name in drop.split(",") if name.strip()])


def now() -> str:
    """Return the present moment."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - a command, not the core


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Show bars on the terminal, one for each reading."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def started(what: str) -> Callable[[int, int], None]:
            task = bar.add_task(what, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total or None)

        yield started


def _print(path: Path, header: Header, as_json: bool, fault: str = "") -> None:
    if as_json:
        typer.echo(json.dumps({"file": str(path), **asdict(header), "fault": fault}))
        return
    version = f" version {header.version}" if header.version else ", every version"
    lines = [
        f"{path}: training index of model {header.model}{version}",
        f"records    {header.records:,}, {header.distinct:,} of them distinct, of {header.width} numbers",
        f"reach      copies with noise of {header.reach:.2g} of each feature's spread are found (95 %)",
        f"crowding   {header.crowding:.2%} of the distinct records have another one within reach",
        f"chance     {header.chance:.2%} of strangers' records are expected to be found by chance",
        f"canaries   {sum(count for count, _ in header.canaries):,}",
        f"made at    {header.made_at}",
        *([f"unusable   {fault}"] if fault else []),
    ]
    typer.echo("\n".join(lines))


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"querywatch training-index: {message}", err=True)
    raise typer.Exit(code)
