"""The command line with its real entry point, in this process for speed: the fixture `querywatch`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from detector.cli import main


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Querywatch(Protocol):
    def __call__(self, *arguments: str, folder: Path, **environment: str) -> Result: ...


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Querywatch:
    """Return a function that runs one command in a folder, with no settings but those given."""

    def call(*arguments: str, folder: Path, **environment: str) -> Result:
        monkeypatch.setenv("QUERYWATCH_CONFIG", "")  # so that what --config sets is undone
        for name in [name for name in os.environ if name.startswith("QUERYWATCH_")]:
            monkeypatch.delenv(name)
        for name, value in {"NO_COLOR": "1", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["querywatch", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return Result(int(done.value.code or 0), said.out, said.err)

    return call
