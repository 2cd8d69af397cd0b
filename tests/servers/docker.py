"""Kafka and Elasticsearch from deploy/compose.yml, where a Docker engine runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from tests.servers.base import ServerError, free_port

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yml"


def missing() -> str:
    """Return why Docker cannot be used, or nothing."""
    if shutil.which("docker") is None:
        return "no docker command"
    for command, why in ((["info"], "no Docker engine runs"), (["compose", "version"], "no docker compose plugin")):
        try:
            done = subprocess.run(["docker", *command], capture_output=True, check=False, timeout=20)
        except subprocess.TimeoutExpired:
            return f"`docker {' '.join(command)}` hangs"
        if done.returncode != 0:
            return why
    return ""


class ComposeServer:
    """One service of the Compose file in a project of its own, so that test runs do not meet."""

    controllable = True

    def __init__(self, service: str, port_variable: str, address: str) -> None:
        port = free_port()
        self.service = service
        self.address = address.format(port=port)
        self.project = f"querywatch-test-{uuid.uuid4().hex[:8]}"
        self.environment = {**os.environ, port_variable: str(port)}

    def _compose(self, *arguments: str) -> None:
        command = ["docker", "compose", "-p", self.project, "-f", str(COMPOSE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=self.environment)
        if done.returncode != 0:
            raise ServerError(f"`{' '.join(command)}` failed: {(done.stdout + done.stderr).strip()[-1000:]}")

    def start(self) -> None:
        self._compose("up", "-d", "--wait", self.service)

    def stop(self) -> None:
        self._compose("stop", self.service)

    def kill(self) -> None:
        self._compose("kill", self.service)

    def pause(self) -> None:
        self._compose("pause", self.service)

    def resume(self) -> None:
        with contextlib.suppress(ServerError):  # it was not frozen
            self._compose("unpause", self.service)

    def close(self) -> None:
        self._compose("down", "-v")
