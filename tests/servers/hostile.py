"""A real HTTP server in front of a real Elasticsearch that does to its requests what networks and clusters do."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

PRODUCT = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Exchange:
    """One request that a fault may forward, answer, or ruin."""

    def __init__(self, handler: _Handler, body: bytes) -> None:
        self._handler = handler
        self.method = handler.command
        self.path = handler.path
        self.body = body

    def forward(self, body: bytes | None = None) -> Reply:
        upstream = HTTPConnection(self._handler.server.upstream, timeout=60)
        try:
            kept = {k: v for k, v in self._handler.headers.items() if k.lower() not in {"host", "content-length"}}
            upstream.request(self.method, self.path, self.body if body is None else body, kept)
            answer = upstream.getresponse()
            headers = {k: v for k, v in answer.getheaders() if k.lower() in {"content-type", "x-elastic-product"}}
            return Reply(answer.status, headers, answer.read())
        finally:
            upstream.close()

    def answer(self, reply: Reply, *, keep: int | None = None) -> None:
        """Send the reply, or only the first `keep` bytes of its body although more are announced."""
        handler = self._handler
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body if keep is None else reply.body[:keep])
        handler.wfile.flush()
        if keep is not None:
            handler.close_connection = True

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.close_connection = True
        self._handler.connection.close()

    def pairs(self) -> list[bytes]:
        """Return the actions of a bulk request, two lines each."""
        lines = self.body.splitlines(keepends=True)
        return [lines[i] + lines[i + 1] for i in range(0, len(lines), 2)]


Fault = Callable[[Exchange], None]


def too_many_requests(exchange: Exchange) -> None:
    exchange.answer(Reply(429, PRODUCT, b'{"error": {"type": "es_rejected_execution_exception"}, "status": 429}'))


def unavailable(exchange: Exchange) -> None:
    exchange.answer(Reply(503, PRODUCT, b'{"error": {"type": "master_not_discovered_exception"}, "status": 503}'))


def forbidden(exchange: Exchange) -> None:
    reason = b'{"error": {"type": "security_exception", "reason": "action is unauthorized"}, "status": 403}'
    exchange.answer(Reply(403, PRODUCT, reason))


def half_applied(exchange: Exchange) -> None:
    """Apply every other action and answer 429 to the rest, item by item."""
    pairs = exchange.pairs()
    good = exchange.forward(b"".join(pairs[::2]))
    applied = iter(json.loads(good.body)["items"])
    full = {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}}
    items = [full if i % 2 else next(applied) for i in range(len(pairs))]
    exchange.answer(Reply(200, PRODUCT, json.dumps({"errors": True, "items": items}).encode()))


def reset_before(exchange: Exchange) -> None:
    exchange.reset()


def reset_after(exchange: Exchange) -> None:
    """Apply, then break the connection instead of answering."""
    exchange.forward()
    exchange.reset()


def truncated(exchange: Exchange) -> None:
    """Apply, then answer half of the body."""
    reply = exchange.forward()
    exchange.answer(reply, keep=len(reply.body) // 2)


def broken_json(exchange: Exchange) -> None:
    """Apply, then answer half of the JSON as if it were all."""
    reply = exchange.forward()
    exchange.answer(reply._replace(body=reply.body[: len(reply.body) // 2]))


def hang(exchange: Exchange) -> None:
    """Apply, then say nothing for longer than any client of the tests waits."""
    exchange.forward()
    time.sleep(4)
    exchange.reset()


def refuse_documents(exchange: Exchange) -> None:
    """Answer to every action that its document does not fit the mapping."""
    fault = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "failed to parse field [x]"}}
    items = [{"create": fault} for _ in exchange.pairs()]
    exchange.answer(Reply(200, PRODUCT, json.dumps({"errors": True, "items": items}).encode()))


def too_large(exchange: Exchange) -> None:
    """Take no request of more than three actions, as a proxy with a small limit would."""
    if len(exchange.pairs()) > 3:
        exchange.answer(Reply(413, {"Content-Type": "text/html"}, b"<html>Request Entity Too Large</html>"))
    else:
        exchange.answer(exchange.forward())


class LifecycleApi:
    """The `_ilm` API as a full cluster has it, recorded in memory: the servers of the tests lack that module."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def __call__(self, exchange: Exchange) -> None:
        status, body = 200, b'{"acknowledged": true}'
        if exchange.method == "PUT":
            self.kept[exchange.path] = exchange.body
        elif exchange.path == "/_ilm/status":
            body = b'{"operation_mode": "RUNNING"}'
        elif exchange.path in self.kept:
            body = b'{"querywatch": %s}' % self.kept[exchange.path]
        else:
            status, body = 404, b'{"error": {"type": "resource_not_found_exception"}, "status": 404}'
        exchange.answer(Reply(status, PRODUCT, body))


def login_page(exchange: Exchange) -> None:
    exchange.answer(Reply(200, {"Content-Type": "text/html"}, b"<html>Please sign in</html>"))


PASSING: list[Fault] = [
    too_many_requests,
    unavailable,
    half_applied,
    reset_before,
    reset_after,
    truncated,
    broken_json,
    hang,
]


class Hostile(ThreadingHTTPServer):
    """Forwards to `upstream`; bulk requests meet the faults of `plan` one after the other (None: none)."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.plan: Iterator[Fault | None] = iter(())
        self.at: dict[str, Iterator[Fault]] = {}  # stage of a write -> faults of its requests, before those of the plan
        self.bulk_requests = 0
        self.paths: dict[str, Fault] = {}  # the start of a path -> what answers it instead
        self._lock = threading.Lock()

    def next_fault(self, path: str, body: bytes) -> Fault | None:
        for start, instead in self.paths.items():
            if path.startswith(start):
                return instead
        if not path.startswith("/_bulk"):
            return None
        with self._lock:
            self.bulk_requests += 1
            stage = _stage(body)
            return next(self.at[stage], None) if stage in self.at else next(self.plan, None)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: broken connections are the point."""


def _stage(body: bytes) -> str:
    """Tell which step of a write a bulk request is: states are created, events appended, then states marked."""
    ((operation, head),) = json.loads(body.split(b"\n", 1)[0]).items()
    if operation == "index":
        return "marks"
    return "states" if head["_index"].startswith("querywatch-alerts") else "events"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hostile

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        exchange = Exchange(self, body)
        fault = self.server.next_fault(self.path, body)
        if fault is None:
            exchange.answer(exchange.forward())
        else:
            fault(exchange)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def hostile(upstream: str) -> Iterator[Hostile]:
    """Run the server in front of `upstream`."""
    server = Hostile(upstream)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
