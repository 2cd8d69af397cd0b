"""Fixtures of every test: real servers, started only when a test asks for them and stopped at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests import servers
from tests.commandline import Querywatch, in_process


def pytest_configure(config: pytest.Config) -> None:
    """Pass over the one warning that is not ours: kafka-python reads its message schemas in an old way."""
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """The address of a running broker, host:port. It is shared: use names of your own (`fresh_name`)."""
    server = servers.start_kafka()
    yield server.address
    server.close()


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """The address of a running node, http://host:port. It is shared: use a namespace of your own (`fresh_name`)."""
    server = servers.start_elasticsearch()
    yield server.address
    server.close()


@pytest.fixture(scope="session")
def _kafka() -> Iterator[servers.Server]:
    server = servers.start_kafka(own=True)
    yield server
    server.close()


@pytest.fixture(scope="session")
def _elasticsearch() -> Iterator[servers.Server]:
    server = servers.start_elasticsearch(own=True)
    yield server
    server.close()


@pytest.fixture
def kafka_server(_kafka: servers.Server) -> Iterator[servers.Server]:
    """Another broker, for tests of failure: stop, kill, pause, start. It runs again after the test."""
    yield _kafka
    _kafka.resume()
    _kafka.start()


@pytest.fixture
def elasticsearch_server(_elasticsearch: servers.Server) -> Iterator[servers.Server]:
    """Another node, for tests of failure: stop, kill, pause, start. It runs again after the test."""
    yield _elasticsearch
    _elasticsearch.resume()
    _elasticsearch.start()


@pytest.fixture
def fresh_name() -> str:
    """A name that no other test uses, fit for a topic, a group and a namespace."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def querywatch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Querywatch:
    """The command line: `querywatch("alerts", "list", folder=…)`."""
    return in_process(monkeypatch, capsys)
