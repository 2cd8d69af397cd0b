"""Training records are read from three kinds of files alike, and every fault is told with its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detector.events import F32
from detector.training import records
from detector.training.records import Records, RecordsError, write_records


def some(n: int = 30, width: int = 5) -> F32:
    return (np.random.default_rng(0).normal(size=(n, width)) * 1e3).astype(np.float32)


@pytest.mark.parametrize("kind", records.KINDS)
def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    write_records(path, some())
    np.testing.assert_array_equal(Records(path).whole(), some())


@pytest.mark.parametrize("kind", records.KINDS)
def test_chunks_are_the_whole(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_NUMBERS", 40)
    path = tmp_path / f"x{kind}"
    write_records(path, some())
    told: list[tuple[int, int]] = []
    chunks = list(Records(path).chunks(lambda done, total: told.append((done, total))))
    assert len(chunks) == 4
    np.testing.assert_array_equal(np.concatenate(chunks), some())
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_a_csv_may_have_names_and_columns_that_are_no_input(tmp_path: Path) -> None:
    x = some()
    write_records(tmp_path / "x.csv", x, ["a", "b", "label", "c", "d"])
    for drop in (["label"], ["3"]):
        source = Records(tmp_path / "x.csv", drop)
        np.testing.assert_array_equal(source.whole(), x[:, [0, 1, 3, 4]])
        assert source.names == ("a", "b", "c", "d")


def test_images_become_rows_and_whole_numbers_become_floats(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    np.testing.assert_array_equal(Records(tmp_path / "x.npy").whole(), np.arange(48.0).reshape(3, 16))


def test_json_lines_hold_lists_vectors_or_events(tmp_path: Path) -> None:
    lines = ["[1, 2]", '{"vector": [3, 4]}', "", '{"input": {"vector": [[5], [6]]}}', '{"input": [7, 8]}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert Records(tmp_path / "x.jsonl").whole().tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("name", "content", "drop", "message"),
    [
        ("x.parquet", b"PAR1", (), "write .parquet as .npy or .csv first"),
        ("x.txt", b"1,2", (), "records are read from"),
        ("x.npy", b"not numpy", (), "not an array of numbers"),
        ("x.npy", b"", (), "not an array of numbers"),
        ("x.npy", b"1", ("a",), "from .csv only"),
        ("x.csv", b"", (), "no records"),
        ("x.csv", b"a,b\n", (), "no records"),
        ("x.csv", b"a,b\n1,2\n3,dog\n", (), r"x\.csv:3: column 2 is no number"),
        ("x.csv", b"1,2\n3\n", (), r"x\.csv:2: 1 columns"),
        ("x.csv", b"a,b\n1,2\n", ("c",), "no column 'c'; there are a, b"),
        ("x.csv", b"1,2\n", ("3",), "no column '3'; there are 1 to 2"),
        ("x.csv", b"1,\xff\n", (), r"x\.csv:1: not a table of text"),
        ("x.csv", b"1,nan\n", (), "record 1 holds NaN"),
        ("x.csv", b"1,2\n1,1e39\n", (), "record 2 holds NaN, infinity or a number too large"),
        ("x.jsonl", b"[1, 2]\n[1]\n", (), "a record of 1 numbers among records of 2, at or before line 2"),
        ("x.jsonl", b"[1, 2]\n{}\n", (), r"x\.jsonl:2: not a record"),
        ("x.jsonl", b'["a"]\n', (), r"x\.jsonl:1: not a record"),
        ("x.jsonl", b"[1, null]\n", (), "record 1 holds NaN"),
        ("x.jsonl", b"[1,\n", (), r"x\.jsonl:1: not a record"),
    ],
)
def test_a_fault_is_told_with_its_place(
    tmp_path: Path, name: str, content: bytes, drop: Sequence[str], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordsError, match=message):
        Records(tmp_path / name, drop).whole()


@pytest.mark.parametrize("array", [np.zeros(4), np.zeros((0, 3)), np.array([["a"]]), np.array(3.0)])
def test_an_array_without_a_row_a_record_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(RecordsError, match="a row a record"):
        Records(tmp_path / "x.npy").whole()


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    for kind in records.KINDS:
        with pytest.raises(RecordsError, match="no such file"):
            Records(tmp_path / f"none{kind}").whole()


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no such file"):
        write_records(tmp_path / "none" / "x.npy", some())
