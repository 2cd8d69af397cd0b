"""Maven jars in a cache folder, fetched once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.base import ServerError

POMS = Path(__file__).parent / "poms"


def cache_folder() -> Path:
    """Return $QUERYWATCH_TEST_CACHE, else ~/.cache/querywatch."""
    return Path(os.environ.get("QUERYWATCH_TEST_CACHE", Path.home() / ".cache" / "querywatch"))


def fetch(name: str) -> list[Path]:
    """Return the jars of `poms/<name>.xml`; Maven runs only when this pom has not been fetched before."""
    pom = POMS / f"{name}.xml"
    version = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "jars" / f"{name}-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start on one machine
        if not folder.is_dir():
            _run_maven(pom, folder)
    return sorted(folder.glob("*.jar"))


def _run_maven(pom: Path, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerError("mvn is not on the PATH: it fetches the server's jars from Maven Central (apt install maven)")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise ServerError(f"mvn could not fetch the jars of {pom.name}: {(done.stdout + done.stderr).strip()[-600:]}")
    partial.rename(folder)
