"""Requests and responses that a log writes as separate records become whole calls, whichever comes first.

Both carry an id, which callers often choose: it joins what waits at the same time, and nothing else. What waits is
bounded by time (`ttl_us` of event time since it arrived), by number and by bytes; whatever leaves without its other
half is kept as an event and flagged. Order and result depend on the records only, not on batches or on a clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from math import isnan
from typing import NamedTuple

from detector.events import Flag
from detector.formats.calls import Call

TTL_US = 30_000_000
_SAME_ID = 64  # halves with one id that wait at the same time


class Place(NamedTuple):
    """Where a call stands in the log; `first` is the number of its first instance."""

    partition: int
    offset: int
    first: int = 0


class Placed(NamedTuple):
    """A call that is whole, or will never be."""

    call: Call
    place: Place


@dataclass(slots=True)
class _Waiting:
    call: Call
    place: Place
    size: int
    since_us: int


@dataclass(slots=True)
class Counts:
    """What became of the halves."""

    joined: int = 0
    no_response: int = 0
    orphans: int = 0
    reused: int = 0
    evicted: int = 0  # of the lonely ones: those that had to leave before their time


class Joiner:
    """Holds halves until the others come."""

    def __init__(self, ttl_us: int = TTL_US, max_waiting: int = 65_536, max_bytes: int = 16 << 20) -> None:
        self.counts = Counts()
        self._ttl_us, self._max_waiting, self._max_bytes = ttl_us, max_waiting, max_bytes
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()  # in order of arrival
        self._by_id: dict[str, deque[int]] = {}
        self._bytes = 0
        self._arrived = 0
        self._now_us = 0

    def add(self, call: Call, place: Place, size: int) -> list[Placed]:
        """Take a call or half a call of `size` bytes; return what leaves by it, in order."""
        if not call.half:
            return [Placed(call, place)]
        if not call.join:
            return [self._lonely(call, place)]
        self._now_us = max(self._now_us, call.time_us)
        ready = self._expired()
        same = self._by_id.get(call.join, deque())
        for number in same:
            other = self._waiting[number]
            if other.call.half != call.half and _one_model(other.call, call):
                self._forget(number)
                self.counts.joined += 1
                ready.append(_whole(other, call, place))
                return ready
        reused = [self._waiting[number] for number in same if _one_model(self._waiting[number].call, call)]
        for other in reused:
            other.call.flags |= Flag.ID_REUSE
            call.flags |= Flag.ID_REUSE
        self.counts.reused += bool(reused)
        self._by_id.setdefault(call.join, same).append(self._arrived)
        self._waiting[self._arrived] = _Waiting(call, place, size, self._now_us)
        self._arrived += 1
        self._bytes += size
        return ready + self._overflow(same)

    def rest(self) -> list[Placed]:
        """Return what still waits, at the end of the log."""
        return [self._leave(number) for number in list(self._waiting)]

    def __len__(self) -> int:
        return len(self._waiting)

    def _expired(self) -> list[Placed]:
        left = []
        while self._waiting:
            number, oldest = next(iter(self._waiting.items()))
            if self._now_us - oldest.since_us <= self._ttl_us:
                break
            left.append(self._leave(number))
        return left

    def _overflow(self, same: deque[int]) -> list[Placed]:
        left = []
        if len(same) > _SAME_ID:
            left.append(self._leave(same[0]))
        while len(self._waiting) > self._max_waiting or self._bytes > self._max_bytes:
            left.append(self._leave(next(iter(self._waiting))))
        self.counts.evicted += len(left)
        return left

    def _leave(self, number: int) -> Placed:
        waiting = self._forget(number)
        return self._lonely(waiting.call, waiting.place)

    def _lonely(self, call: Call, place: Place) -> Placed:
        if call.half == "request":
            self.counts.no_response += 1
            return Placed(replace(call, flags=call.flags | Flag.NO_RESPONSE), place)
        self.counts.orphans += 1
        return Placed(replace(call, flags=call.flags | Flag.ORPHAN), place)

    def _forget(self, number: int) -> _Waiting:
        waiting = self._waiting.pop(number)
        same = self._by_id[waiting.call.join]
        same.remove(number)
        if not same:
            del self._by_id[waiting.call.join]
        self._bytes -= waiting.size
        return waiting


def _one_model(one: Call, other: Call) -> bool:
    """Say whether both may speak of one model: not every half names it."""
    return one.model.name == other.model.name or not one.model.name or not other.model.name


def _whole(waiting: _Waiting, call: Call, place: Place) -> Placed:
    """Return the call of two halves, at the place of its request."""
    first = waiting.call.half == "request"
    request, response = (waiting.call, call) if first else (call, waiting.call)
    model = request.model if request.model.name else response.model
    took_ms = (response.time_us - request.time_us) / 1000
    known = response if request.client_id == "" and response.client_id else request
    whole = replace(
        request,
        half="",
        response=response.response,
        model=model._replace(version=model.version or response.model.version),
        client_id=known.client_id,
        client_kind=known.client_kind,
        status=request.status if response.status == 200 else response.status,
        latency_ms=took_ms if isnan(request.latency_ms) and took_ms >= 0 else request.latency_ms,
        flags=request.flags | response.flags,
    )
    return Placed(whole, waiting.place if first else place)
