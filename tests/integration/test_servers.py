"""The test servers themselves: what failure tests rely on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from elasticsearch import ConnectionTimeout, Elasticsearch

from tests.servers import Server, ServerError
from tests.servers.base import GuardedProcess, wait_until

pytestmark = pytest.mark.integration


def _accepts(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def test_elasticsearch_keeps_its_data_and_address_when_killed(elasticsearch_server: Server, fresh_name: str) -> None:
    with Elasticsearch(elasticsearch_server.address, request_timeout=30) as client:
        client.index(index=fresh_name, id="1", document={"a": 1})
        elasticsearch_server.kill()
        assert not _accepts(elasticsearch_server.address)
        elasticsearch_server.start()
        client.cluster.health(index=fresh_name, wait_for_status="yellow", timeout="30s")
        assert client.get(index=fresh_name, id="1")["_source"] == {"a": 1}


def test_kafka_keeps_its_address_when_killed(kafka_server: Server) -> None:
    kafka_server.kill()
    assert not _accepts(kafka_server.address)
    kafka_server.start()
    assert _accepts(kafka_server.address)


def test_a_frozen_server_holds_its_connections_and_answers_after_it_is_resumed(elasticsearch_server: Server) -> None:
    with Elasticsearch(elasticsearch_server.address, max_retries=0) as client:
        elasticsearch_server.pause()
        with pytest.raises(ConnectionTimeout):
            client.options(request_timeout=1).cluster.health()
        elasticsearch_server.resume()
        assert client.options(request_timeout=30).cluster.health()["status"] in {"green", "yellow"}


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import os, pathlib; from tests.servers.base import GuardedProcess\n"
        f"p = GuardedProcess('sleep', ['sleep', '60'], pathlib.Path(r'{tmp_path}/log'), lambda: True)\n"
        "p.start(); print(p._pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=False)
    status = Path(f"/proc/{done.stdout.strip()}/stat")
    assert wait_until(lambda: not status.exists() or " Z " in status.read_text(), 10), (
        "the command outlived its starter"
    )


def test_a_server_that_cannot_start_says_what_its_log_says(tmp_path: Path) -> None:
    broken = GuardedProcess("Broken", ["sh", "-c", "echo no disk; exit 3"], tmp_path / "log", lambda: False)
    with pytest.raises(ServerError, match=r"Broken ended at once(.|\n)*no disk"):
        broken.start()
