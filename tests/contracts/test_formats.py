"""What every log format must do, over all adapters that are found; and the checks find adapters that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import formats
from detector.events import EventBatch, Records
from detector.formats import Decoder, native
from detector.formats.calls import Message, Options, Read
from detector.formats.columns import ClientKeys
from detector.formats.mapped_json import read as read_mapped
from detector.formats.reader import Reader
from detector.settings import LimitSettings
from tests.contracts import format_suite
from tests.format_samples import SAMPLES, options
from tests.fuzz_formats import fuzz
from tests.unit.event_bytes import records

EVERY = pytest.mark.parametrize("name", formats.names())
SMALL = LimitSettings(max_record_bytes=1 << 16)


def make(name: str) -> Callable[[], Decoder]:
    return lambda: formats.decoder(name, options())


def test_every_format_has_samples() -> None:
    assert set(SAMPLES) == set(formats.names())


@EVERY
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.one_of(st.binary(max_size=60), records()), max_size=8))
def test_no_bytes_raise_and_columns_fit_together(name: str, values: list[bytes | None]) -> None:
    format_suite.check_batch(make(name)(), values)


@EVERY
def test_every_record_is_accounted_for(name: str) -> None:
    format_suite.check_accounted(make(name), [*SAMPLES[name], b"{}", b"[]", b"7", b"{"])


@EVERY
def test_batches_cut_nothing(name: str) -> None:
    format_suite.check_cuts(make(name), [*SAMPLES[name], b"{", *SAMPLES[name][::-1]])


@EVERY
def test_samples_are_read_whole(name: str) -> None:
    decoder = make(name)()
    decoded = decoder(format_suite.records(SAMPLES[name]))
    assert not decoded.refused
    assert len(decoded.batch) + len(decoder.rest()) > 0


@EVERY
def test_what_is_too_large_is_never_parsed(name: str) -> None:
    format_suite.check_too_large(lambda: formats.decoder(name, options(limits=SMALL)), SMALL.max_record_bytes)


@EVERY
def test_mutated_records_never_raise(name: str) -> None:
    assert fuzz(name, records=4000, seed=7, seconds=8) > 0


def test_an_unknown_format_says_which_there_are() -> None:
    with pytest.raises(LookupError, match="mlserver"):
        formats.decoder("morse", options())


@settings(max_examples=40, deadline=None)
@given(values=st.lists(records(), max_size=6))
def test_what_native_encodes_reads_back(values: list[bytes | None]) -> None:
    batch = make("native")()(format_suite.records(values)).batch
    lines = native.encode(batch)
    again = make("native")()(format_suite.records(lines))
    assert not again.refused
    assert native.encode(again.batch) == lines
    assert again.batch.client_key.tolist() == batch.client_key.tolist()


# --- the checks themselves ------------------------------------------------------------------------------------------


def bad(read: Callable[[Message, Options], Read]) -> Callable[[], Decoder]:
    return lambda: Reader(read, options(), ClientKeys(b"s"))


def raises(message: Message, options: Options) -> Read:
    if message.value == b"[]":
        raise IndexError
    return read_mapped(message, options)


def loses(message: Message, options: Options) -> Read:
    found = read_mapped(message, options)
    return Read([]) if found.calls[0].client_id == "key-9f3a21" else found


def forgets_limits(message: Message, options: Options) -> Read:
    return read_mapped(message._replace(value=SAMPLES["mapped_json"][0]), options)


class CountsBatches:
    """A decoder whose events depend on how the records are cut."""

    def __init__(self) -> None:
        self.inner = make("mapped_json")()

    def __call__(self, records: Records) -> object:
        decoded = self.inner(records)
        decoded.batch.status[:] = len(records.values)
        return decoded

    def rest(self) -> EventBatch:
        return self.inner.rest()


def test_the_checks_find_an_adapter_that_raises() -> None:
    with pytest.raises(IndexError):
        format_suite.check_batch(bad(raises)(), [b"[]"])


def test_the_checks_find_an_adapter_that_loses_records() -> None:
    with pytest.raises(AssertionError):
        format_suite.check_accounted(bad(loses), SAMPLES["mapped_json"])


def test_the_checks_find_an_adapter_that_parses_whatever_comes() -> None:
    with pytest.raises(AssertionError):
        format_suite.check_too_large(bad(forgets_limits), SMALL.max_record_bytes)


def test_the_checks_find_a_decoder_that_depends_on_the_batches() -> None:
    with pytest.raises(AssertionError):
        format_suite.check_cuts(CountsBatches, SAMPLES["mapped_json"])  # type: ignore[arg-type]
