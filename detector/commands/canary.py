"""`querywatch canary …`: made-up records to plant among training data; whoever asks for one has seen that data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from detector.commands.training_index import default_file, now, records_of
from detector.settings import load_settings

if TYPE_CHECKING:
    from detector.training.index import TrainingIndex

app = typer.Typer(
    name="canary",
    help="Made-up records among the training data: whoever asks for one has seen it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

IndexFile = Annotated[
    Path | None, typer.Option("--index", metavar="FILE", help="The index; default: that of the model in the settings.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ADD = """Examples:

  querywatch canary add train.npy --model digits --count 20 --out canaries.npy
  querywatch canary add canaries.npy --model digits --as-is

Put the canaries into the training data before the model is trained, with the labels of similar records, and keep their
file as secret as the key. A new index knows no canaries: give it the file once more with --as-is.

Exit code 0: added; 1: could not be written, or no canaries can be made of these records; 2: wrong use or settings."""
LIST = """Example:

  querywatch canary list

Exit code 0: listed; 2: wrong use, or an index that cannot be used."""


@app.command(help=f"Make canaries of a model's training records, or take given ones, into its index.\n\n\b\n{ADD}")
def add(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Records to mix, or with --as-is the canaries themselves.")
    ],
    model: Annotated[str, typer.Option(help="The model, as the log names it.")],
    version: Annotated[str, typer.Option(help="Its version, as given to `training-index build`.")] = "",
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many to make.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write them: .npy, .csv or .jsonl.")
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="RECORDS are canaries already; make none.")] = False,
    index_file: IndexFile = None,
    drop: Annotated[str, typer.Option(metavar="COLUMNS", help="Columns of a .csv that are no input.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make canaries, or take given ones, into an index."""
    from detector.training.canaries import CanaryError, invent, register
    from detector.training.index import TrainingIndexError, save
    from detector.training.records import RecordsError, write_records

    if as_is == (out is not None):
        _fail("give --out FILE for new canaries, or --as-is where RECORDS are canaries already")
    if out is not None and out.exists():
        _fail(f"--out: {out} exists; canaries in it may be planted already")
    path = index_file or default_file(load_settings(), model, version)
    try:
        index = _open(path, model, version)
        source = records_of(records, drop)
        x = source.whole()
        made = x if as_is else invent(x, index, count)
        grown = register(made, index, now())
    except (RecordsError, TrainingIndexError) as error:
        _fail(str(error))
    except CanaryError as error:
        _fail(f"{records}: {error}", 1)
    try:
        if out is not None:
            write_records(out, made, source.names)
        save(grown, path)
    except (RecordsError, TrainingIndexError) as error:
        _fail(str(error), 1)
    if as_json:
        typer.echo(json.dumps({"index": str(path), "added": len(made), "canaries": grown.canary_count}))
        return
    where = f"; plant those in {out}" if out is not None else ""
    typer.echo(
        f"{path}: {len(made)} canaries added, {grown.canary_count} in all{where}. Workers read it when they start."
    )


@app.command("list", help=f"List the canaries that indexes know: how many, and since when.\n\n\b\n{LIST}")
def list_canaries(index_file: IndexFile = None, as_json: AsJson = False) -> None:
    """List the canaries of indexes."""
    from detector.training.index import TrainingIndexError, read_header

    rows = []
    try:
        for path in _files(index_file):
            header = read_header(path)
            model = {"index": str(path), "model": header.model, "version": header.version}
            rows += [{**model, "canaries": number, "added": when} for number, when in header.canaries]
    except TrainingIndexError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        version = f" version {row['version']}" if row["version"] else ""
        typer.echo(f"{row['added']}  {row['canaries']:>5} canaries  model {row['model']}{version}  {row['index']}")
    if not rows:
        typer.echo("no canaries")


def _open(path: Path, model: str, version: str) -> TrainingIndex:
    from detector.training.index import TrainingIndexError, load

    index = load(path, load_settings().secret.get_secret_value().encode())
    if (index.header.model, index.header.version) != (model, version):
        said = f"model {index.header.model!r}" + (f" version {index.header.version!r}" if index.header.version else "")
        raise TrainingIndexError(f"{path}: the index of {said}, not of the one named")
    return index


def _files(given: Path | None) -> Iterator[Path]:
    """Yield the given index, or all in the settings' folder."""
    from detector.training.index import SUFFIX

    folder = Path(load_settings().training.folder or ".")
    if given is None and not folder.is_dir():
        _fail(f"[training] folder: {folder} is no folder")
    yield from [given] if given is not None else sorted(folder.glob(f"*{SUFFIX}"))


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"querywatch canary: {message}", err=True)
    raise typer.Exit(code)
