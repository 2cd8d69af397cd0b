"""What every real server can do, whichever way it was started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

GUARD = Path(__file__).parent / "guard.py"


class ServerError(Exception):
    """A server could not be started or handled; the message says what was tried."""


class Server(Protocol):
    """A real server. Its address and its data outlive `stop` and `kill`, so that `start` resumes it."""

    address: str  # Kafka: host:port; Elasticsearch: http://host:port
    controllable: bool  # False for a server that somebody else runs

    def start(self) -> None:
        """Start it and wait until it answers; nothing happens when it runs."""

    def stop(self) -> None:
        """Shut it down politely."""

    def kill(self) -> None:
        """End it at once, as a power cut would."""

    def pause(self) -> None:
        """Freeze it: connections stay open, nobody answers."""

    def resume(self) -> None:
        """Let a frozen server go on."""

    def close(self) -> None:
        """Stop it and remove what it wrote; safe to call twice."""


def free_port() -> int:
    """Return a local TCP port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_until(ready: Callable[[], bool], within_s: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Poll `ready` until it is true; False when time runs out or `alive` says that waiting is pointless."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(0.1)
    return False


class GuardedProcess:
    """A server process that cannot outlive this one, even when this one is killed (see guard.py)."""

    def __init__(self, name: str, command: Sequence[str], log: Path, ready: Callable[[], bool], within_s: float = 150):
        self.name = name
        self.command = list(command)
        self.log = log
        self.ready = ready
        self.within_s = within_s
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        if self.running:
            return
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, str(GUARD), *self.command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._guard.stdout is not None
        self._pid = int(self._guard.stdout.readline() or 0)
        if self._pid == 0 or not wait_until(self.ready, self.within_s, lambda: self.running):
            why = "did not answer" if self.running else "ended at once"
            self.kill()
            raise ServerError(f"{self.name} {why}; the end of its log:\n{_tail(self.log)}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        if self.running and self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._wait(20)

    def _wait(self, timeout_s: float) -> None:
        if self._guard is None:
            return
        self._guard.wait(timeout_s)  # the guard ends after its command
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard, self._pid = None, 0


class ProcessServer:
    """A server that runs as a process of ours, with its data in a temporary folder."""

    controllable = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"querywatch-{name.lower()}-"))
        self.process: GuardedProcess | None = None

    def _runs(self, command: Sequence[str]) -> None:
        """Say by which command it starts."""
        self.process = GuardedProcess(self.name, command, self.home / f"{self.name.lower()}.log", self._answers)

    def _answers(self) -> bool:
        """Say whether it answers a request."""
        raise NotImplementedError

    def _started(self) -> GuardedProcess:
        if self.process is None:
            raise ServerError(f"{self.name} could not be prepared")
        return self.process

    def start(self) -> None:
        self._started().start()

    def stop(self) -> None:
        self._started().stop()

    def kill(self) -> None:
        self._started().kill()

    def pause(self) -> None:
        self._started().signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._started().signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
        shutil.rmtree(self.home, ignore_errors=True)


def _tail(log: Path, characters: int = 3000) -> str:
    return log.read_text(errors="replace")[-characters:] if log.exists() else "(no log)"
