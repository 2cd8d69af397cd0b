"""The file of a training index, and all indexes of a folder as the stream looks records up in them.

A file: a magic line, the length of a JSON header and the header; the sorted digests of all records (exact and near
together) and of the canaries with their numbers; the frame under a keyed mask; a keyed digest of everything before.
Digests are read in place (memory-mapped).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.events import F32, I8, I16, I32, I64, U8, U64, EventBatch, ModelRef
from detector.kernel import kernel
from detector.sketch import UNITS
from detector.training.fingerprints import PRINTS, TABLES, Cells, Frame, Key, cells, fingerprints

FORMAT = 1
SUFFIX = ".qwi"
ABSENT = 1  # looked up and not found; digests are larger
CONSTANT = -128  # exponent of a feature that never varied
SETTLED = 8  # rows from which on a client counts for what is usual
STRANGERS, STRANGER_ROWS = 3, 16  # added to those clients
MOST = TABLES // 2 + 1  # tables that must agree on a canary: its copies, nothing merely like it
_MAGIC = b"querywatch-training-index\n"
_ALIGNED = 64
_MAC_BYTES = 32
_MAX_HEADER = 1 << 20


class TrainingIndexError(Exception):
    """An index cannot be used; the message says which file, and why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says to everyone."""

    model: str
    version: str  # "" = every version
    width: int  # numbers in a record
    records: int
    distinct: int
    bits: int  # width of a cell: 2^bits / 1024 spreads of a feature
    reach: float  # of copies with Gaussian noise of so many spreads in every feature 95 % are found
    crowding: float  # share of distinct records of which another one is within reach
    chance: float  # share of records of which another one is the same or within reach: what strangers hit by chance
    digests: int
    key_check: str
    made_at: str = ""
    canaries: tuple[tuple[int, str], ...] = ()  # (how many, when), one a batch
    canary_digests: int = 0
    format: int = FORMAT


class Place(NamedTuple):
    """Sorted digests with the first of every range of equal leading bits."""

    digests: U64
    starts: I64  # [2^b + 1]
    shift: np.uint64  # 64 − b


class Hits(NamedTuple):
    """Columns [n]: what an index knows of each event."""

    trained: U64  # 0 = not looked up, 1 = no training record, else a digest of the record that it equals or is near to
    canary: I32  # number of the canary that it is, 0 = none, −1 = not looked up or no canaries


@dataclass(frozen=True, slots=True)
class TrainingIndex:
    """The training records of one model (version)."""

    header: Header
    exponents: I8  # [d] the spread of each feature is 2^exponent of the data's own units
    centers: I32  # [d] in spreads
    digests: U64  # [digests] sorted
    canary_digests: U64  # sorted
    canary_numbers: I32  # from 1
    key: Key
    _frame: Frame = field(init=False)
    _cells: Cells = field(init=False)
    _place: Place = field(init=False)

    def __post_init__(self) -> None:
        for array in (self.digests, self.canary_digests, self.canary_numbers):
            array.flags.writeable = False
        frame = frame_of(self.key, self.exponents, self.centers)
        for name, value in (("_frame", frame), ("_cells", cells(self.key, self.header.bits))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_place", place_of(self.digests))

    def fingerprints(self, values: F32, offsets: I64, rows: I64) -> U64:
        """Return the digests [n, PRINTS] of some ragged rows of this width."""
        return fingerprints(self._frame, self._cells, values, offsets, rows)

    def look_up(self, prints: U64) -> Hits:
        """Return what is known of records, from their digests [n, PRINTS]."""
        hits = Hits(np.empty(len(prints), np.uint64), np.empty(len(prints), np.int32))
        _look_up(prints, self._place, self.canary_digests, self.canary_numbers, hits)
        return hits

    @property
    def canary_count(self) -> int:
        """Return how many canaries it knows."""
        return sum(count for count, _ in self.header.canaries)

    def sketch(self, x: F32) -> I16:
        """Return records x [n, d] as whole numbers [n, 32], near where the records are."""
        n, width = x.shape
        return self._frame.sketch(np.ascontiguousarray(x, np.float32).ravel(), np.arange(n + 1) * width, np.arange(n))

    @property
    def fingerprint(self) -> str:
        """Name what the index answers: another one for other records, canaries or cells, whenever it was made."""
        state = hashlib.blake2b(f"{self.header.key_check} {self.header.bits}".encode(), digest_size=16)
        for array in (self.exponents, self.centers, self.digests, self.canary_digests, self.canary_numbers):
            state.update(array.tobytes())
        return state.hexdigest()

    def look_up_records(self, x: F32) -> tuple[Hits, NDArray[np.bool_]]:
        """Return what is known of records x [n, d], and which of them are exactly in the index."""
        prints = self.prints(x)
        hits = self.look_up(prints)
        return hits, hits.trained == prints[:, 0]

    def prints(self, x: F32) -> U64:
        """Return the digests [n, PRINTS] of records x [n, d]."""
        n, width = x.shape
        if width != self.header.width:
            raise TrainingIndexError(
                f"records of {width} numbers; the index of model {self.header.model!r} holds records of "
                f"{self.header.width}"
            )
        return self.fingerprints(np.ascontiguousarray(x, np.float32).ravel(), np.arange(n + 1) * width, np.arange(n))


def frame_of(key: Key, exponents: I8, centers: I32) -> Frame:
    """Return the frame of spreads and centres as the file holds them."""
    spread = np.exp2(exponents.astype(np.float64))
    varies = exponents != CONSTANT
    scale = np.where(varies, UNITS / spread, 0.0)
    center = np.where(varies, centers * spread, 0.0)
    return Frame.of(key, center.astype(np.float32), scale.astype(np.float32))


def place_of(digests: U64) -> Place:
    """Return sorted digests with a directory by their leading bits: about four digests an entry."""
    leading = max(len(digests).bit_length() - 2, 1)
    shift = np.uint64(64 - leading)
    edges = np.arange(1 << leading, dtype=np.uint64) << shift
    starts = np.append(np.searchsorted(digests, edges), len(digests)).astype(np.int64)
    return Place(digests, starts, shift)


@kernel
def _look_up(prints: U64, place: Place, canaries: U64, numbers: I32, out: Hits) -> None:
    for i in range(len(prints)):
        out.trained[i] = 1
        for t in range(PRINTS):
            if _holds(place, prints[i, t]):
                out.trained[i] = prints[i, t]
                break
        out.canary[i] = _canary(prints[i], canaries, numbers) if len(canaries) else -1


@kernel
def _holds(place: Place, digest: np.uint64) -> bool:
    b = digest >> place.shift
    found = False
    for j in range(place.starts[b], place.starts[b + np.uint64(1)]):
        found |= place.digests[j] == digest
    return found


@kernel
def _canary(prints: U64, canaries: U64, numbers: I32) -> int:
    """Return the canary that has this exact digest, or most of these cells."""
    number, agree = 0, 0
    for t in range(PRINTS):
        j = np.searchsorted(canaries, prints[t])
        if j < len(canaries) and canaries[j] == prints[t]:
            if t == 0:
                return int(numbers[j])
            if agree == 0:
                number = int(numbers[j])
            agree += numbers[j] == number
    return number if agree >= MOST else 0


class TrainingIndexes:
    """The indexes of all models that have one, by model and version; TrainingIndexError for two of the same."""

    def __init__(self, indexes: Iterable[TrainingIndex] = ()) -> None:
        self._of: dict[ModelRef, TrainingIndex] = {}
        for index in indexes:
            ref = ModelRef(index.header.model, index.header.version)
            if ref in self._of:
                version = f" version {ref.version!r}" if ref.version else ""
                raise TrainingIndexError(f"two training indexes of model {ref.name!r}{version}: remove one")
            self._of[ref] = index

    def __bool__(self) -> bool:
        return bool(self._of)

    def __iter__(self) -> Iterator[TrainingIndex]:
        return iter(self._of.values())

    def of(self, ref: ModelRef) -> TrainingIndex | None:
        """Return the index of a model's version, else the one for every version of it."""
        return self._of.get(ref) or self._of.get(ModelRef(ref.name, ""))

    @property
    def fingerprint(self) -> str:
        """Name what all indexes together answer; "" without any."""
        return " ".join(sorted(index.fingerprint for index in self))

    def chance(self, ref: ModelRef) -> float:
        """Return how often strangers' records are in the model's index by chance; 0 without one."""
        index = self.of(ref)
        return index.header.chance if index is not None else 0.0

    def look_up(self, batch: EventBatch, wanted: NDArray[np.bool_]) -> Hits:
        """Look the wanted rows [n] up whose models have an index for inputs of their width."""
        hits = Hits(np.zeros(len(batch), np.uint64), np.full(len(batch), -1, np.int32))
        for m, ref in enumerate(batch.models if self._of else ()):
            index = self.of(ref)
            if index is not None:
                rows = np.flatnonzero(wanted & (batch.model == m) & (_widths(batch) == index.header.width))
                found = index.look_up(index.fingerprints(batch.input.values, batch.input.offsets, rows))
                hits.trained[rows], hits.canary[rows] = found
        return hits

    def unreadable(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Mark answered queries [n] to models with an index whose input is not logged in full, or of another width."""
        marked = np.zeros(len(batch), np.bool_)
        for m, ref in enumerate(batch.models if self._of else ()):
            index = self.of(ref)
            if index is not None:
                marked |= (batch.model == m) & (_widths(batch) != index.header.width) & (batch.status < 400)
        return marked


NO_INDEXES = TrainingIndexes()


def usual_share(clients: U64, trained: NDArray[Any], chance: float) -> float:
    """Return the share of training records that three quarters of the clients do not exceed, from their rows [n].

    A client counts once, however many rows are its own, and not at all with less than 8: neither one attacker among
    four moves it, nor a hundred ids with a few queries each. Three more are added who hit by `chance` alone, so that
    the first client of a new model does not say what is usual. It is at least the share of those three quarters
    together, with one hit and one miss added.
    """
    _, who, rows = np.unique(clients, return_inverse=True, return_counts=True)
    settled = rows >= SETTLED
    hits = np.append(np.bincount(who, trained)[settled], np.full(STRANGERS, STRANGER_ROWS * chance))
    rows = np.append(rows[settled], np.full(STRANGERS, STRANGER_ROWS))
    usual = np.argsort(hits / rows, kind="stable")[: int(0.75 * len(rows) + 0.5)]
    pooled = (hits[usual].sum() + 1) / (rows[usual].sum() + 2)
    return float(max((hits / rows)[usual[-1]], pooled))


def _widths(batch: EventBatch) -> I64:
    widths: I64 = np.diff(batch.input.offsets)
    return widths


# --- the file ---------------------------------------------------------------------------------------------------------


def save(index: TrainingIndex, path: Path) -> None:
    """Write an index beside its name, then rename it; TrainingIndexError where that fails."""
    head = json.dumps(asdict(index.header)).encode()
    content = _MAGIC + len(head).to_bytes(8, "little") + head
    parts = [
        content + bytes(-len(content) % _ALIGNED),
        index.digests.astype("<u8").tobytes(),
        index.canary_digests.astype("<u8").tobytes(),
        index.canary_numbers.astype("<i4").tobytes(),
        _masked(index.key, index.exponents.tobytes() + index.centers.astype("<i4").tobytes()),
    ]
    mac = _mac(index.key)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            for data in parts:
                mac.update(data)
                file.write(data)
            file.write(mac.digest())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise TrainingIndexError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def load(path: Path, secret: bytes) -> TrainingIndex:
    """Open an index; TrainingIndexError where the file is not whole, or made with another secret."""
    header, start, data = _open(path)
    ends = np.cumsum(
        [start, 8 * header.digests, 8 * header.canary_digests, 4 * header.canary_digests, 5 * header.width]
    )
    if len(data) != ends[-1] + _MAC_BYTES:
        raise TrainingIndexError(f"{path}: cut short or damaged ({len(data)} bytes of {ends[-1] + _MAC_BYTES})")
    key = Key(secret, header.model, header.version)
    if check_of(key) != header.key_check:
        raise TrainingIndexError(f"{path}: made with another secret than the settings'; build it again")
    mac = _mac(key)
    mac.update(data[: ends[-1]])
    if mac.digest() != data[ends[-1] :].tobytes():
        raise TrainingIndexError(f"{path}: damaged (its checksum does not match); build it again")
    digests, canaries, numbers, frame = (data[a:b] for a, b in pairwise(ends.tolist()))
    plain = _masked(key, frame.tobytes())
    return TrainingIndex(
        header,
        np.frombuffer(plain[: header.width], np.int8),
        np.frombuffer(plain[header.width :], "<i4").astype(np.int32),
        np.asarray(digests.view("<u8")),
        np.asarray(canaries.view("<u8")),
        np.asarray(numbers.view("<i4")),
        key,
    )


def load_folder(folder: Path, secret: bytes) -> TrainingIndexes:
    """Open every index of a folder; TrainingIndexError where one cannot be used."""
    if not folder.is_dir():
        raise TrainingIndexError(f"{folder}: no such folder of training indexes")
    return TrainingIndexes(load(path, secret) for path in sorted(folder.glob(f"*{SUFFIX}")))


def read_header(path: Path) -> Header:
    """Return what a file says without a key."""
    return _open(path)[0]


def check_of(key: Key) -> str:
    """Return what tells whether a file belongs to a key."""
    return key.part("check", 8).hex()


def _open(path: Path) -> tuple[Header, int, U8]:
    try:
        data: U8 = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    except OSError as error:
        raise TrainingIndexError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    start = len(_MAGIC) + 8
    if data[: len(_MAGIC)].tobytes() != _MAGIC:
        raise TrainingIndexError(f"{path}: not a training index; make one with `querywatch training-index build`")
    size = int.from_bytes(data[len(_MAGIC) : start].tobytes(), "little")
    try:
        if size > _MAX_HEADER:
            raise ValueError
        header = _header(json.loads(data[start : start + size].tobytes()))
    except (ValueError, TypeError, KeyError):
        raise TrainingIndexError(f"{path}: cut short or damaged (its header cannot be read)") from None
    if header.format != FORMAT:
        raise TrainingIndexError(
            f"{path}: format {header.format}, but this version reads format {FORMAT}; build it again"
        )
    end = start + size
    return header, end + -end % _ALIGNED, data


def _header(values: Mapping[str, Any]) -> Header:
    header = Header(**{**values, "canaries": tuple((int(n), str(when)) for n, when in values["canaries"])})
    if min(header.width, header.digests, header.canary_digests, header.bits) < 0:
        raise ValueError
    return header


def _masked(key: Key, frame: bytes) -> bytes:
    return bytes(np.frombuffer(frame, np.uint8) ^ np.frombuffer(key.part("frame", len(frame)), np.uint8))


def _mac(key: Key) -> Any:
    return hashlib.blake2b(key=key.part("mac", 32), digest_size=_MAC_BYTES)
