"""Elasticsearch's bulk protocol: bounded requests, every item's answer read, what may pass is tried again.

| answer | meaning |
|---|---|
| 200, 201 | stored |
| 409 | there already (`create`) or changed by another (`index` with a sequence number): the caller decides |
| 400 with a fault of the document, 413 | never: a lasting refusal, with its reason |
| 429, 5xx, no or half an answer | later: back-off with jitter, for a bounded time |
| everything else (401, 403, a missing template …) | the store is unavailable: nothing is dropped |
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from detector.stores import StoreUnavailableError

MAX_ACTIONS = 500
MAX_BYTES = 4 << 20
DOCUMENT_FAULTS = {  # types of a 400 that are the document's own; a closed index or a full cluster answers 400 as well
    "document_parsing_exception",
    "mapper_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
}


class TryAgainError(Exception):
    """The request may or may not have been applied; it can be repeated, because every action carries its id."""


class RequestTooLargeError(Exception):
    """The whole request was refused for its size (413), whichever of its documents is to blame."""


class Action(NamedTuple):
    """One line pair of a bulk request. `create` fails where the id exists; `index` replaces one known version."""

    op: str  # create | index
    target: str  # index or data stream
    id: str
    source: bytes
    version: tuple[int, int] | None = None  # sequence number and primary term that `index` replaces

    def lines(self) -> list[bytes]:
        """Return the action's two lines."""
        head: dict[str, Any] = {"_index": self.target, "_id": self.id}
        if self.version is not None:
            head["if_seq_no"], head["if_primary_term"] = self.version
        return [orjson.dumps({self.op: head}), self.source]


class Outcome(NamedTuple):
    """What became of one action: 200 or 201, 409, or the status of a lasting refusal."""

    status: int
    reason: str = ""
    version: tuple[int, int] = (-1, -1)

    @property
    def stored(self) -> bool:
        """Tell whether the action was applied."""
        return self.status in {200, 201}

    @property
    def conflict(self) -> bool:
        """Tell whether the document was there already, or is another version by now."""
        return self.status == 409


Send = Callable[[list[bytes]], list[dict[str, Any]]]  # one bulk request -> its items, in order


class Patience:
    """Back-off with jitter for at most `limit_s` seconds."""

    def __init__(self, limit_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._end = time.monotonic() + limit_s
        self._pause_s = 0.1
        self._sleep = sleep
        self._limit_s = limit_s

    def wait(self, why: str) -> None:
        """Sleep before the next attempt; StoreUnavailableError when time is up."""
        pause_s = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311  jitter, so that workers do not knock in step
        if time.monotonic() + pause_s > self._end:
            raise StoreUnavailableError(f"{why} (tried for {self._limit_s:g} s)")
        self._sleep(pause_s)
        self._pause_s = min(self._pause_s * 2, 5.0)


def run(actions: Sequence[Action], send: Send, patience: Patience) -> list[Outcome]:
    """Send all actions; return one outcome each, in order. StoreUnavailableError: some may be applied, some not."""
    outcomes: dict[int, Outcome] = {}
    todo = list(range(len(actions)))
    while todo:
        why = ""
        for chunk in _chunks(actions, todo):
            why = _send_chunk(actions, chunk, send, outcomes) or why
        todo = [i for i in todo if i not in outcomes]
        if todo:
            patience.wait(why)
    return [outcomes[i] for i in range(len(actions))]


def _chunks(actions: Sequence[Action], todo: Sequence[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for i in todo:
        length = len(actions[i].source) + 200
        if chunk and (len(chunk) == MAX_ACTIONS or size + length > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(i)
        size += length
    if chunk:
        yield chunk


def _send_chunk(actions: Sequence[Action], chunk: list[int], send: Send, outcomes: dict[int, Outcome]) -> str:
    """Fill in `outcomes`; return why something is left to try again, or nothing."""
    try:
        items = send([line for i in chunk for line in actions[i].lines()])
        if len(items) != len(chunk):
            return f"Elasticsearch answered {len(items)} items to {len(chunk)} actions"
    except TryAgainError as error:
        return str(error)
    except RequestTooLargeError as error:
        if len(chunk) == 1:
            outcomes[chunk[0]] = Outcome(413, str(error))
            return ""
        half = len(chunk) // 2  # the refusal names no document: halve until it stands alone
        why = _send_chunk(actions, chunk[:half], send, outcomes)
        return _send_chunk(actions, chunk[half:], send, outcomes) or why
    why = ""
    for i, item in zip(chunk, items, strict=True):
        outcome = _read(next(iter(item.values())))
        if outcome is None:
            why = f"Elasticsearch is overloaded: {orjson.dumps(item).decode()[:200]}"
        else:
            outcomes[i] = outcome
    return why


def _read(answer: dict[str, Any]) -> Outcome | None:
    """Return an item's outcome, None to try again; StoreUnavailableError where only an operator can help."""
    status = int(answer["status"])
    if status in {200, 201}:
        return Outcome(status, version=(int(answer["_seq_no"]), int(answer["_primary_term"])))
    error = answer.get("error") or {}
    cause = error.get("caused_by") or {}
    reason = ": ".join(str(text) for text in (error.get("type"), error.get("reason"), cause.get("reason")) if text)
    if status in {409, 413} or (status == 400 and error.get("type") in DOCUMENT_FAULTS):
        return Outcome(status, reason)
    if status == 429 or status >= 500:
        return None
    raise StoreUnavailableError(f"Elasticsearch refuses to write to {answer.get('_index')} ({status}): {reason}")
