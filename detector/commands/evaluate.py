"""`querywatch evaluate`: how good is detection on captures of which the truth is known?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detector.settings import load_settings

if TYPE_CHECKING:
    from replay.evaluate.compare import Difference

EXAMPLES = """Examples:

  querywatch evaluate capture.jsonl.zst                       the truth is in capture.truth.jsonl
  querywatch evaluate day1.jsonl day2.jsonl --truth labels.jsonl
  querywatch evaluate --corpus small --seeds 1-3 --save board.json --plot curve.png
  querywatch evaluate capture.jsonl.zst --compare board.json --page docs/scoreboard.md
  querywatch evaluate capture.jsonl.zst --no-anchors --targets
  querywatch evaluate capture.jsonl.zst --by data --by interface
  querywatch evaluate capture.jsonl.zst --ablation --cost --workers 2
  querywatch evaluate capture.jsonl.zst --level sketch        or --levels for all of them side by side

Exit code 0: done; 1: --compare found something worse, --targets found a floor that is not reached, or records were
refused; 2: wrong use."""

TruthFiles = Annotated[
    list[Path] | None,
    typer.Option("--truth", help="Truth of the captures: one for each, or one for all of them as one stream."),
]


def evaluate(
    captures: Annotated[
        list[Path] | None, typer.Argument(metavar="CAPTURE…", help=".jsonl, .jsonl.gz, .jsonl.zst.")
    ] = None,
    truth: TruthFiles = None,
    corpus: Annotated[
        Literal["small", "full", "benign"] | None, typer.Option(help="Simulate this preset first.")
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", "--seed", help="Seeds of the simulation, such as 1, 1-3 or 1,4; pooled.")
    ] = "1",
    out: Annotated[Path, typer.Option(help="Folder for the simulated capture.")] = Path("var/corpora"),
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes for simulation and ablation.")] = 1,
    half: Annotated[
        Literal["calibration", "report", "both"],
        typer.Option(help="Clients to score: detectors are calibrated on one half and reported on the other."),
    ] = "report",
    anchors: Annotated[
        bool, typer.Option("--anchors/--no-anchors", help="Also run PRADA, Blacklight, neighbours, volume.")
    ] = True,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep what anchors find, and use it again.")
    ] = Path("var/anchors"),
    targets: Annotated[
        bool, typer.Option("--targets", help="Print targets and floors only; exit code 1 where a floor is missed.")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Also by a field of the truth: data, model_kind, technique, …"),
    ] = None,
    level: Annotated[
        Literal["vectors", "sketch", "outputs", "label"], typer.Option(help="Detail of the log that is replayed.")
    ] = "vectors",
    levels: Annotated[bool, typer.Option("--levels", help="Also every other level of detail.")] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also what is lost without each detector, test.")
    ] = False,
    cost: Annotated[bool, typer.Option("--cost", help="Also µs an event and bytes a client, by part.")] = False,
    rules: Annotated[Path | None, typer.Option(help="Folder of rules; default: the shipped ones.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the scoreboard.")] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Show what got better and worse since.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the operating curve.")] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.md", help="Put the tables between the marks of a page.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scoreboard as JSON.")] = False,
) -> None:
    """Score detection on captures whose truth is known, next to published detectors on the same captures."""
    from detector.rules import RulesError
    from detector.sources.capture import CaptureError
    from detector.wiring import rules_of
    from replay.evaluate.board import UnknownFieldError, Wanted, cases
    from replay.evaluate.board import evaluate as run
    from replay.evaluate.stream import UnknownClientsError
    from replay.evaluate.targets import missed
    from replay.evaluate.truth import TruthError

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    old = _prepared(save, compare, plot, page)
    settings = load_settings()
    wanted = Wanted(half, level, anchors, tuple(by or ()), ablation, cost, levels, workers, cache)
    files = list(captures or [])
    if bool(files) == bool(corpus):
        _fail("give either captures or --corpus")
    for file in files:
        if str(file) == "-" or (file.exists() and not file.is_file()):
            _fail(f"{file}: a capture is read several times, so it must be a file")
    console = Console(stderr=True)
    try:
        ruleset = rules_of(settings, rules)
        if corpus:
            files = [_simulated(corpus, seed, out, workers, console) for seed in _seeds(seeds)]
        all_cases = cases(files, truth or [])
        with _progress(console) as progress:
            board = run(all_cases, settings, ruleset, wanted, progress)
    except (RulesError, CaptureError, TruthError, UnknownClientsError, UnknownFieldError) as error:
        _fail(str(error))
    difference = _compared(old, board)
    _print(board, difference, as_json, targets)
    _write(board, save, plot, page)
    refused = any(capture["refused"] for capture in board["captures"])
    if refused or (difference is not None and difference.worse) or (targets and missed(board["targets"])):
        raise typer.Exit(1)


evaluate.__doc__ = f"{evaluate.__doc__}\n\n\b\n{EXAMPLES}"


def _prepared(save: Path | None, compare: Path | None, plot: Path | None, page: Path | None) -> dict[str, Any] | None:
    """Check before the long work what would fail after it, and return the old scoreboard."""
    from replay.evaluate import page as pages
    from replay.evaluate.board import SCHEMA
    from replay.evaluate.plot import NoPlotsError, require

    for option, path in (("--save", save), ("--plot", plot)):
        if path is not None and not path.parent.is_dir():
            _fail(f"{option}: the folder {path.parent} does not exist")
    if plot is not None:
        try:
            require()
        except NoPlotsError as error:
            _fail(str(error))
    if page is not None:
        try:
            pages.check(page)
        except (OSError, UnicodeDecodeError, pages.NoMarksError) as error:
            _fail(f"--page: {error if isinstance(error, pages.NoMarksError) else f'{page} cannot be read'}")
    if compare is None:
        return None
    try:
        old = json.loads(compare.read_bytes())
    except OSError as error:
        _fail(f"--compare: {compare}: {error.strerror}")
    except ValueError:
        _fail(f"--compare: {compare} is not JSON")
    if not isinstance(old, dict) or old.get("schema") != SCHEMA:
        _fail(f"--compare: {compare} is no scoreboard ({SCHEMA}); make one with --save")
    return old


def _seeds(text: str) -> list[int]:
    """Read 1, 1-3 or 1,4."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) - int(first) not in range(99):
            _fail(f"--seeds: {text!r} is not a list of seeds such as 1, 1-3 or 1,4")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def _simulated(corpus: str, seed: int, out: Path, workers: int, console: Console) -> Path:
    """Return the capture of a preset, made now unless it lies there already."""
    from replay.evaluate.truth import truth_of
    from replay.simulate.run import simulate
    from replay.simulate.scenario import PRESETS, plan

    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{corpus}-{seed}.jsonl.zst"
    if path.exists() and truth_of(path).exists():
        console.print(f"{path}: as it lies there; remove it to simulate anew", markup=False)
        return path
    scenario = plan(PRESETS[corpus], seed)
    part = out / f"{corpus}-{seed}.part.jsonl.zst"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("simulate", total=len(scenario.jobs))
            simulate(scenario, part, lambda _: bar.advance(task), workers)
        truth_of(part).replace(truth_of(path))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
        truth_of(part).unlink(missing_ok=True)
    return path


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def started(what: str) -> Callable[[int, int], None]:
            task = bar.add_task(what, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total or None)

        yield started


def _compared(old: dict[str, Any] | None, board: dict[str, Any]) -> Difference | None:
    from replay.evaluate.compare import CompareError, compare

    if old is None:
        return None
    try:
        return compare(old, board)
    except CompareError as error:
        _fail(f"--compare: {error}")


def _print(board: dict[str, Any], difference: Difference | None, as_json: bool, targets: bool) -> None:
    from replay.evaluate.show import show, show_difference
    from replay.evaluate.tables import target_table

    if as_json:
        typer.echo(json.dumps(board | ({} if difference is None else {"compared": _as_data(difference)})))
        return
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=160)
    if targets:
        console.print(target_table(board))
    else:
        show(board, console)
    if difference is not None:
        show_difference(difference, console)


def _write(board: dict[str, Any], save: Path | None, plot: Path | None, page: Path | None) -> None:
    from replay.evaluate import page as pages
    from replay.evaluate.plot import plot as draw

    try:
        if save is not None:
            part = save.with_name(f"{save.name}.part")
            part.write_text(json.dumps(board) + "\n")
            part.replace(save)
        if plot is not None:
            draw(board, plot)
        if page is not None:
            pages.write(board, page)
    except OSError as error:
        typer.echo(f"querywatch evaluate: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from None


def _as_data(difference: Difference) -> dict[str, Any]:
    return {"note": difference.note, "changes": [change._asdict() for change in difference.changes]}


def _fail(message: str) -> NoReturn:
    typer.echo(f"querywatch evaluate: {message}", err=True)
    raise typer.Exit(2)
