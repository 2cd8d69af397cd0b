"""Fixtures of every test: real servers, started only when a test asks for them and stopped at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests import servers


def pytest_configure(config: pytest.Config) -> None:
    """Pass over the one warning that is not ours: kafka-python reads its message schemas in an old way."""
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def _kafka() -> Iterator[servers.Server]:
    server = servers.start_kafka()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _elasticsearch() -> Iterator[servers.Server]:
    server = servers.start_elasticsearch()
    yield server
    server.close()


@pytest.fixture(scope="session")
def kafka_bootstrap(_kafka: servers.Server) -> str:
    """The address of a running broker, host:port. It is shared: use names of your own (`fresh_name`)."""
    return _kafka.address


@pytest.fixture(scope="session")
def elasticsearch_url(_elasticsearch: servers.Server) -> str:
    """The address of a running node, http://host:port. It is shared: use a namespace of your own (`fresh_name`)."""
    return _elasticsearch.address


@pytest.fixture
def kafka_server(_kafka: servers.Server) -> Iterator[servers.Server]:
    """The broker itself, for tests of failure: stop, kill, pause, start. It runs again after the test."""
    yield from _handled(_kafka)


@pytest.fixture
def elasticsearch_server(_elasticsearch: servers.Server) -> Iterator[servers.Server]:
    """The node itself, for tests of failure: stop, kill, pause, start. It runs again after the test."""
    yield from _handled(_elasticsearch)


@pytest.fixture
def fresh_name() -> str:
    """A name that no other test uses, fit for a topic, a group and a namespace."""
    return f"t{uuid.uuid4().hex[:12]}"


def _handled(server: servers.Server) -> Iterator[servers.Server]:
    if not server.controllable:
        pytest.skip(f"{server.address} was given by the environment: it is not ours to stop")
    yield server
    server.resume()
    server.start()
