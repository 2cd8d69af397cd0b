"""`python -m tests.foreign play` writes captures with their truth; `report` says what is found in captures."""

from __future__ import annotations

import argparse
import logging
import os
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import NoReturn, Protocol

import structlog

from tests.foreign import missing


class _Fail(Protocol):
    def __call__(self, message: str) -> NoReturn: ...


def main(given: list[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.foreign", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("play", help="write captures with their truth")
    play.add_argument("--out", type=Path, required=True, help="folder for NAME.jsonl and NAME.truth.jsonl")
    play.add_argument("--seed", type=int, default=1)
    play.add_argument("--only", nargs="+", metavar="NAME", default=[], help="captures; default: all")
    play.add_argument("--quick", action="store_true", help="two models a capture, few clients: a minute")
    tell = commands.add_parser(
        "report", help="print what is found in captures, as Markdown; truth files are passed over"
    )
    tell.add_argument("captures", type=Path, nargs="+", metavar="CAPTURE")
    tell.add_argument("--anchors", action="store_true", help="also PRADA, Blacklight, neighbours, volume")
    tell.add_argument("--page", type=Path, metavar="FILE.md", help="write it between the marks of a page instead")
    options = parser.parse_args(given)
    if options.command == "play":
        if options.seed < 0:
            play.error("--seed: a whole number from 0 on")
        _play(options.out, options.seed, options.only, options.quick, play.error)
    else:
        captures = [path for path in options.captures if not path.name.endswith(".truth.jsonl")]
        if not captures:
            tell.error("only truth files are given: name captures")
        _report(captures, options.anchors, options.page, tell.error)


def _play(out: Path, seed: int, only: list[str], quick: bool, fail: _Fail) -> None:
    if tools := missing():
        fail(f"not installed: {', '.join(tools)}; docs/foreign.md says how")
    os.environ["TQDM_DISABLE"] = "1"
    folder = out.resolve()
    with TemporaryDirectory() as scratch, chdir(scratch):  # a tool writes a log where it stands when it is imported
        from tests.foreign.plan import CAPTURES  # noqa: PLC0415  # needs the tools
        from tests.foreign.play import write  # noqa: PLC0415  # likewise

        if unknown := [name for name in only if name not in CAPTURES]:
            fail(f"no capture is called {unknown[0]!r}: there are {', '.join(CAPTURES)}")
        folder.mkdir(parents=True, exist_ok=True)
        for name in only or CAPTURES:
            began, path = process_time(), folder / f"{name}.jsonl"
            written = write(name, CAPTURES[name], path, seed, quick=quick)
            print(f"{path}: {written.events} events, {written.clients} clients, {process_time() - began:.0f} s of CPU")


def _report(captures: list[Path], anchors: bool, page: Path | None, fail: _Fail) -> None:
    from detector.rules import RulesError  # noqa: PLC0415  # needs the compiled kernels, as those below
    from detector.settings import SettingsError  # noqa: PLC0415
    from detector.sources.capture import CaptureError  # noqa: PLC0415
    from replay.evaluate.stream import UnknownClientsError  # noqa: PLC0415
    from replay.evaluate.truth import TruthError  # noqa: PLC0415
    from tests.foreign.report import PageError, check, put, report  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        if page is not None:
            check(page)
        text = report(captures, anchors=anchors)
    except (PageError, SettingsError, RulesError, TruthError, CaptureError, UnknownClientsError) as error:
        fail(str(error))
    if page is None:
        print(text)
    else:
        put(text, page)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
