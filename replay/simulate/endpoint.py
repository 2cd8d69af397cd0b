"""One HTTP endpoint that its owner put under test: requests in protocol V1 or V2, a rate cap, what answers mean.

With `live.py` the only module of the simulator that reads a clock. The API key is sent and nothing else is done with
it: messages hold neither headers, nor bodies, nor the query part of the address.
"""

from __future__ import annotations

import http.client
import ipaddress
import math
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np
import orjson

from detector.events import F32

Protocol = Literal["v1", "v2"]
MAX_RATE = 200.0  # requests a second: enough for a test, too few for an attack on availability
MAX_BODY = 16 << 20
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class EndpointError(ValueError):
    """The endpoint cannot be used as asked; the message is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key and the header that carries it: `Authorization: Bearer KEY`; any other header holds the key itself."""

    value: str = field(default="", repr=False)
    header: str = "Authorization"


class Reply(NamedTuple):
    """What one request brought: `output` of the prediction event, or the problem."""

    status: int  # that of HTTP; 504 where the time was up and 502 where the connection failed, as gateways log it
    latency_ms: float
    output: dict[str, Any] | None = None
    problem: str = ""
    final: bool = False  # asking again would bring the same
    wait_s: float = 0.0  # what the endpoint wants us to wait


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and how fast. `checked` makes one and refuses what must not be."""

    url: SplitResult
    protocol: Protocol
    rate: float  # requests a second
    model: str
    timeout_s: float = 10.0
    key: Key = Key()
    input_name: str = "input-0"  # V2: the input tensor

    @property
    def shown(self) -> str:
        """Return the address as messages show it: without its query part, which may hold a secret."""
        return f"{self.url.scheme}://{self.url.netloc}{self.url.path}"


def checked(
    url: str,
    protocol: Protocol,
    rate: float,
    model: str = "",
    timeout_s: float = 10.0,
    key: Key = Key(),
    input_name: str = "input-0",
    insecure_http: bool = False,
) -> Target:
    """Return the target. Raises EndpointError for an address, rate or key that must not be used."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise EndpointError(f"the address cannot be read: {error}") from None
    if parts.scheme not in {"http", "https"} or not host or any(sign <= " " or sign > "~" for sign in url):
        raise EndpointError("the address must be a full one, such as https://models.example.org/v1/models/cats:predict")
    if parts.username is not None or parts.password is not None:
        raise EndpointError("no user or password in the address: a key comes from QUERYWATCH_ENDPOINT_KEY")
    if parts.scheme == "http" and not insecure_http and not _loopback(host):
        raise EndpointError(
            f"plain http to {host} would send key and records in the clear: use https, or say --insecure-http"
        )
    if not 0 < rate <= MAX_RATE:
        raise EndpointError(f"the rate must be more than 0 and at most {MAX_RATE:g} requests a second")
    if not 0 < timeout_s <= 300:
        raise EndpointError("the timeout must be more than 0 and at most 300 seconds")
    if not _TOKEN.fullmatch(key.header):
        raise EndpointError("QUERYWATCH_ENDPOINT_KEY_HEADER is not the name of a header")
    if any(not " " < sign <= "~" for sign in key.value):
        raise EndpointError("QUERYWATCH_ENDPOINT_KEY holds spaces, line breaks or signs that no header can carry")
    named = re.search(r"/models/([^/:]+)", parts.path)
    return Target(
        parts, protocol, rate, model or (named[1] if named else "endpoint"), timeout_s, key, input_name or "input-0"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Endpoint:
    """Sends one record a request, never faster than the rate, over one connection that is kept open."""

    def __init__(self, target: Target, row_shape: tuple[int, ...]) -> None:
        self.target = target
        self._row_shape = row_shape
        self._next_s = 0.0
        self._connection: http.client.HTTPConnection | None = None
        self._probability = False  # single numbers in the answers are the score of class 1

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def wait_turn(self) -> None:
        """Sleep until the rate allows another request."""
        now = time.monotonic()
        if now < self._next_s:
            time.sleep(self._next_s - now)
        self._next_s = max(now, self._next_s) + 1 / self.target.rate

    def ask(self, row: F32, request_id: str, client: str) -> Reply:
        """Send one record [d], after `wait_turn`. Raises nothing: what went wrong stands in the reply."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "querywatch-simulate",
            "X-Request-Id": request_id,
            "X-Querywatch-Client": client,  # so that the owner's own gateway can log who "sent" it
        }
        key = self.target.key
        if key.value:
            bearer = key.header.lower() == "authorization"
            headers[key.header] = f"Bearer {key.value}" if bearer else key.value
        begin = time.monotonic()
        try:
            status, waited, body = self._exchange(self._body(row), headers, begin + self.target.timeout_s)
        except TimeoutError:
            self.close()
            return Reply(504, _since(begin), problem=f"no answer within {self.target.timeout_s:g} s")
        except ssl.SSLCertVerificationError as error:
            self.close()
            return Reply(
                502, _since(begin), problem=f"its certificate is not valid: {error.verify_message}", final=True
            )
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            return Reply(502, _since(begin), problem=f"the connection failed: {reason}")
        return self._reply(status, waited, body, _since(begin))

    def _exchange(self, body: bytes, headers: dict[str, str], deadline: float) -> tuple[int, float, bytes]:
        """Return status, Retry-After in seconds, and body; once more if a connection kept open had gone stale."""
        kept = self._connection is not None
        try:
            return self._once(body, headers, deadline)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if not kept:
                raise
            self.close()
            self.wait_turn()
            return self._once(body, headers, deadline)

    def _once(self, body: bytes, headers: dict[str, str], deadline: float) -> tuple[int, float, bytes]:
        connection = self._connection = self._connection or self._connect()
        path = (self.target.url.path or "/") + (f"?{self.target.url.query}" if self.target.url.query else "")
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:  # a trickle keeps every single read in time
                raise TimeoutError
            if size > MAX_BODY:
                raise http.client.HTTPException
        response.close()  # read1 does not notice the end of a body of known length; the connection stays
        if response.will_close:
            self.close()
        return response.status, _seconds(response.getheader("Retry-After")), b"".join(parts)

    def _connect(self) -> http.client.HTTPConnection:
        url, limit = self.target.url, self.target.timeout_s
        if url.scheme == "https":
            return http.client.HTTPSConnection(url.hostname or "", url.port, timeout=limit)
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=limit)

    def _body(self, row: F32) -> bytes:
        shaped = row.reshape(self._row_shape)
        content: dict[str, Any] = {"instances": [shaped]}
        if self.target.protocol == "v2":
            tensor = {"name": self.target.input_name, "shape": [1, *self._row_shape], "datatype": "FP32", "data": row}
            content = {"inputs": [tensor]}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    def _reply(self, status: int, waited: float, body: bytes, latency_ms: float) -> Reply:
        if not 200 <= status < 300:
            name = http.client.responses.get(status, "")
            problem = f"it answers {status} {name}".rstrip()
            if 300 <= status < 400:
                problem += "; redirects are not followed, so that key and records go nowhere else"
            if status in {401, 403}:
                problem += "; is QUERYWATCH_ENDPOINT_KEY the right key?"
            return Reply(status, latency_ms, problem=problem, final=status not in _RETRIED, wait_s=waited)
        try:
            if self.target.key.value and self.target.key.value.encode() in body:
                raise EndpointError("the answer repeats the API key, so it is not recorded")
            output = self._output(orjson.loads(body))
        except orjson.JSONDecodeError:
            return Reply(status, latency_ms, problem="the answer is not JSON", final=True)
        except EndpointError as error:
            return Reply(status, latency_ms, problem=str(error), final=True)
        return Reply(status, latency_ms, output)

    def _output(self, answer: Any) -> dict[str, Any]:
        """Return the `output` of the prediction event for one record's answer."""
        tensors = (_v1 if self.target.protocol == "v1" else _v2)(answer)
        for values, real in tensors:
            if real and len(values) > 1 and all(_number(value) for value in values):
                return _scores([float(value) for value in values])
        for values, _ in tensors:
            if len(values) == 1:
                return self._single(values[0])
        raise EndpointError("the answer holds neither scores of several classes nor one label for the one record sent")

    def _single(self, value: Any) -> dict[str, Any]:
        """Read a single value: a label, or the score of class 1 of two (a sigmoid)."""
        if isinstance(value, str) and 0 < len(value) <= 256:
            return {"label": value}
        if isinstance(value, float) and 0 <= value <= 1 and (self._probability or not value.is_integer()):
            self._probability = True
            return _scores([1 - value, value])
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if whole and not self._probability and abs(value) < 2**53:
            return {"label": int(value)}
        raise EndpointError("the answer is a single real number: models that predict quantities are not supported")


def _v1(answer: Any) -> list[tuple[list[Any], bool]]:
    """Return the tensors of a V1 answer as (values, may hold scores)."""
    rows = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or len(rows) != 1:
        raise EndpointError("the answer has no list `predictions` with one entry for the one record sent (is it V1?)")
    parts = list(rows[0].values()) if isinstance(rows[0], dict) else [rows[0]]
    return [(_flat(part), True) for part in parts]


def _v2(answer: Any) -> list[tuple[list[Any], bool]]:
    """Return the tensors of a V2 answer as (values, is of a float type)."""
    tensors = answer.get("outputs") if isinstance(answer, dict) else None
    if not isinstance(tensors, list) or not tensors or not all(isinstance(tensor, dict) for tensor in tensors):
        raise EndpointError("the answer has no list `outputs` of tensors (is it V2?)")
    found = []
    for tensor in tensors:
        shape, data = tensor.get("shape"), tensor.get("data")
        if not isinstance(data, list) or not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
            raise EndpointError("an output tensor has no `shape` or no `data` in JSON (binary tensors are not read)")
        values = _flat(data)
        if len(values) != math.prod(shape):
            raise EndpointError(f"an output tensor has {len(values)} values, its shape {shape} says otherwise")
        real = str(tensor.get("datatype", "FP32")).upper().startswith(("FP", "BF"))
        found.append(([float(v) if real and _number(v) else v for v in values], real))
    return found


def _flat(data: Any, depth: int = 0) -> list[Any]:
    if not isinstance(data, list):
        return [data]
    if depth > 8:
        raise EndpointError("the answer is nested too deeply")
    return [value for part in data for value in _flat(part, depth + 1)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _scores(scores: list[float]) -> dict[str, Any]:
    return {"label": int(np.argmax(scores)), "scores": scores}


def _since(begin: float) -> float:
    return round(1000 * (time.monotonic() - begin), 2)


def _seconds(text: str | None) -> float:
    """Return a Retry-After in seconds, at most a minute; 0 where there is none (or a date)."""
    return min(60.0, float(text)) if text and text.isascii() and text.isdigit() else 0.0
