"""Captures against the contract of sources, and against damaged, huge and missing files."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

from detector.settings import LimitSettings
from detector.sources.capture import CaptureError, CaptureSource
from tests.contracts.source_suite import VALUES, OpenSource, SourceContract, drain

LIMITS = LimitSettings(max_record_bytes=1024)


def lines(values: Sequence[bytes]) -> bytes:
    return b"".join(value + b"\n" for value in values)


def zstd_frames(data: bytes, frames: int = 3) -> bytes:
    size = len(data) // frames + 1
    return b"".join(zstandard.compress(data[i : i + size]) for i in range(0, len(data), size)) or zstandard.compress(
        b""
    )


PACKERS: dict[str, Callable[[bytes], bytes]] = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstd_frames}


@pytest.fixture(params=sorted(PACKERS))
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestCapture(SourceContract):
    @pytest.fixture
    def open_source(self, tmp_path: Path, suffix: str) -> OpenSource:
        def open_capture(values: Sequence[bytes]) -> CaptureSource:
            half = len(values) // 2
            files = [tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"]
            for file, part in zip(files, (values[:half], values[half:]), strict=True):
                file.write_bytes(PACKERS[suffix](lines(part)))
            return CaptureSource(files, LIMITS)

        return open_capture


def read(*files: Path, max_records: int = 100) -> list[bytes | None]:
    return [value for records in drain(CaptureSource(files, LIMITS), max_records) for value in records.values]


def test_positions_are_line_numbers_running_on_over_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n\n3")
    (tmp_path / "b.jsonl").write_bytes(b"4\r\n5\n")
    source = CaptureSource([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], LIMITS)
    polls = drain(source, 2)
    assert [o for records in polls for o in records.offsets] == [0, 1, 2, 3, 4]
    assert [v for records in polls for v in records.values] == [b"1", b"", b"3", b"4", b"5"]
    assert {p for records in polls for p in records.partitions} == {0}


def test_progress_ends_at_the_size_of_the_files(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(PACKERS[suffix](lines(VALUES)))
    source = CaptureSource([file], LIMITS)
    assert source.bytes_read == 0
    drain(source, 100)
    assert source.bytes_read == source.bytes_total == file.stat().st_size


def test_a_huge_line_is_cut_and_the_next_one_goes_on_in_little_memory(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(PACKERS[suffix](b"1\n" + b"x" * (100 << 20) + b"\n2\n"))
    tracemalloc.start()
    try:
        assert read(file) == [b"1", b"x" * 1025, b"2"]
        assert tracemalloc.get_traced_memory()[1] < (64 << 20 if suffix == ".jsonl.zst" else 8 << 20)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_compressed_file_gives_its_lines_and_then_one_clear_error(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    if suffix == ".jsonl":
        pytest.skip("a plain file cut short is a shorter file")
    file = tmp_path / f"a{suffix}"
    whole = PACKERS[suffix](lines([bytes(f"{i * 7919 % 10007}", "ascii") for i in range(20_000)]))
    file.write_bytes(whole[: int(len(whole) * kept)])
    source = CaptureSource([file], LIMITS)
    with pytest.raises(CaptureError, match=rf"{file}.*ends in the middle"):
        drain(source, 1000)


def test_lines_before_the_fault_are_handed_over(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    good.write_bytes(lines(VALUES))
    bad.write_bytes(b"no gzip at all")
    source = CaptureSource([good, bad], LIMITS)
    records = source.poll(1000, 0)
    assert records is not None
    assert len(records.values) == len(VALUES)
    for _ in range(2):
        with pytest.raises(CaptureError, match=r"b\.jsonl\.gz"):
            source.poll(1000, 0)


def test_what_cannot_be_opened_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"1\n")
    for wrong in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(CaptureError, match=str(wrong)):
            CaptureSource([tmp_path / "a.jsonl", wrong], LIMITS)
    with pytest.raises(CaptureError, match="no capture file"):
        CaptureSource([], LIMITS)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(lines(VALUES))
    with pytest.raises(CaptureError, match=str(file)):
        read(file)


def test_standard_input_is_a_capture() -> None:
    code = (
        "from detector.sources.capture import CaptureSource\n"
        "from detector.settings import LimitSettings\n"
        "source = CaptureSource(['-'], LimitSettings())\n"
        "while (records := source.poll(10, 0)) is not None: print(records.topic, list(records.values))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"1\n2", capture_output=True, check=True)
    assert done.stdout.decode().strip() == "standard input [b'1', b'2']"
