"""Who asked when: the events of a capture by client, and the truth about each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np

from detector.events import F32, I64, U64, EventBatch, InputLevel
from detector.settings import Settings
from detector.sources.capture import CaptureSource
from detector.wiring import decoder
from replay.anchors import Range
from replay.evaluate.truth import Client

BATCH = 4000  # records
RANGE_ROWS = 1000
NEVER = np.iinfo(np.int64).max

Progress = Callable[[int, int], None]  # (bytes read, bytes in all; 0 where unknown)


class UnknownClientsError(ValueError):
    """The truth knows none of the clients of a capture."""


@dataclass(slots=True, frozen=True)
class Stream:
    """One capture without its inputs. A pair is a client and a model, numbered in order of first appearance."""

    name: str
    pair: I64  # [n]
    time_us: I64  # [n]
    offset: I64  # [n] ascending
    truth: list[Client | None]  # [pairs] None where the truth says nothing
    start_us: I64  # [pairs] when the attack begins; NEVER for the benign and the unknown
    number: Mapping[tuple[str, str], int]  # (client, model) -> pair
    key: U64  # [keys] the pipeline's client keys, ascending
    key_pair: I64  # [keys] the pair of each
    ranges: Mapping[str, Range]  # feature ranges by model, from benign records
    missing: int  # rows of the truth whose client is not in the capture
    refused: int  # records that could not be read
    read_s: float  # for reading and decoding
    _order: I64  # [n] rows by pair, each in stream order
    _first: I64  # [pairs + 1]

    def rows(self, pair: int) -> I64:
        """Return the rows of one pair, in stream order."""
        rows: I64 = self._order[self._first[pair] : self._first[pair + 1]]
        return rows

    def time_at(self, offset: int) -> int:
        """Return the event time of the record at an offset."""
        return int(self.time_us[min(int(np.searchsorted(self.offset, offset)), len(self.time_us) - 1)])

    def attack_rows(self, pair: int) -> I64:
        """Return the rows of one pair from the attack's start on."""
        rows = self.rows(pair)
        late: I64 = rows[self.time_us[rows] >= self.start_us[pair]]
        return late

    def pairs_of(self, client_key: U64) -> I64:
        """Return the pair of each of the pipeline's client keys [n]."""
        pair: I64 = self.key_pair[np.searchsorted(self.key, client_key)]
        return pair

    @property
    def digest(self) -> str:
        """Name the capture by who asked when, so that scoreboards of other captures are not mistaken for it."""
        columns = np.stack([self.pair, self.time_us, self.offset])
        return hashlib.blake2b(columns.tobytes(), digest_size=8).hexdigest()


def batches(
    files: Sequence[Path], settings: Settings, progress: Progress | None = None
) -> Iterator[tuple[EventBatch, int]]:
    """Yield (decoded events, records refused) of captures read one after the other; CaptureError where unreadable."""
    source, decode = CaptureSource(files, settings.limits), decoder(settings)
    with closing(source):
        while (records := source.poll(BATCH, 0.0)) is not None:
            decoded = decode(records)
            if progress is not None:
                progress(source.bytes_read, source.bytes_total)
            yield decoded.batch, len(decoded.refused)
        if len(rest := decode.rest()):
            yield rest, 0


def read_stream(
    files: Sequence[Path], clients: Sequence[Client], settings: Settings, progress: Progress | None = None
) -> Stream:
    """Read captures as one stream and join the truth to it. UnknownClientsError where none of its clients occurs."""
    began = process_time()
    number: dict[tuple[str, str], int] = {}
    keys: dict[int, int] = {}
    known = {(client.client, client.model): client for client in clients}
    columns: list[tuple[I64, I64, I64]] = []
    samples: dict[tuple[str, bool], list[F32]] = {}
    refused = 0
    for batch, bad in batches(files, settings, progress):
        refused += bad
        if len(batch):
            pair = pairs_in(batch, number, keys)
            columns.append((pair, batch.time_us, batch.offset))
            _sample(batch, known, samples)
    if not columns:
        raise UnknownClientsError(f"{files[0]}: no event in it")
    pair, time_us, offset = (np.concatenate(c) for c in zip(*columns, strict=True))
    truth = [_find(known, who) for who in number]
    if not any(truth):
        raise UnknownClientsError(f"{files[0]}: the truth names none of its {len(number)} clients")
    used = {(client.client, client.model) for client in truth if client is not None}
    key = np.array(sorted(keys), np.uint64)
    order = np.argsort(pair, kind="stable")
    first = np.searchsorted(pair[order], np.arange(len(number) + 1))
    began_us = [int(time_us[order[first[p]]]) for p in range(len(number))]
    return Stream(
        name=" + ".join(path.name for path in files),
        pair=pair,
        time_us=time_us,
        offset=offset,
        truth=truth,
        start_us=np.array([_start(c, at) for c, at in zip(truth, began_us, strict=True)], np.int64),
        number=number,
        key=key,
        key_pair=np.array([keys[int(k)] for k in key], np.int64),
        ranges={m: Range(x.min(0), x.max(0)) for m, x in _stacked(samples).items()},
        missing=len(known.keys() - used),
        refused=refused,
        read_s=process_time() - began,
        _order=order,
        _first=first,
    )


def pairs_in(batch: EventBatch, number: dict[tuple[str, str], int], keys: dict[int, int]) -> I64:
    """Return the pair of each event [n]; new ones are numbered in `number`, and `keys` (client key -> pair) grows."""
    unique, first, inverse = np.unique(batch.client_key, return_index=True, return_inverse=True)
    place = np.empty(len(unique), np.int64)
    for i in np.argsort(first).tolist():
        key, row = int(unique[i]), int(first[i])
        if key not in keys:
            who = (batch.client_id[row], batch.models[batch.model[row]].name)
            keys[key] = number.setdefault(who, len(number))
        place[i] = keys[key]
    return place[inverse]


def _find(known: Mapping[tuple[str, str], Client], who: tuple[str, str]) -> Client | None:
    return known.get(who) or known.get((who[0], ""))


def _start(client: Client | None, first_us: int) -> int:
    if client is None or not client.hostile:
        return int(NEVER)
    return client.start_us if client.start_us is not None else first_us


def _sample(
    batch: EventBatch, known: Mapping[tuple[str, str], Client], samples: dict[tuple[str, bool], list[F32]]
) -> None:
    """Keep the first whole inputs for each model, those of ordinary benign clients apart from all others."""
    for m, model in enumerate(batch.models):
        if len(samples.get((model.name, True), ())) >= RANGE_ROWS:
            continue
        for row in np.flatnonzero((batch.model == m) & (batch.input_level == InputLevel.VECTOR)).tolist():
            client = _find(known, (batch.client_id[row], model.name))
            ordinary = client is not None and not client.hostile and not client.hard
            kept = samples.setdefault((model.name, ordinary), [])
            if len(kept) < RANGE_ROWS:
                kept.append(batch.input.row(row).copy())


def _stacked(samples: Mapping[tuple[str, bool], Sequence[F32]]) -> dict[str, F32]:
    """Stack the rows of each model that have the width of most of them; ordinary benign ones where there are any."""
    stacked: dict[str, F32] = {}
    for (model, ordinary), rows in samples.items():
        width = int(np.bincount([len(x) for x in rows]).argmax())
        if width and (ordinary or model not in stacked):
            stacked[model] = np.stack([x for x in rows if len(x) == width])
    return stacked
