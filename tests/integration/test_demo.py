"""`make demo` as a newcomer meets it: twice in a row, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "deploy" / "demo.sh"


def demo(folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUERYWATCH_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["sh", DEMO], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_demo_finds_the_inversion_and_a_second_run_says_the_same(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert "CRITICAL  Query trajectory climbs towards one class" in first
    attackers = [
        line for line in (tmp_path / "demo/capture.truth.jsonl").read_text().splitlines() if '"hostile":true' in line
    ]
    client = first.split("client     ")[1].split()[0]
    assert len(attackers) == 1
    assert client in attackers[0]
    assert demo(tmp_path) == first
