"""Checkpoints come back exactly, or not at all."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detector.snapshot import Arrays, Checkpoints, Position, Snapshot, SnapshotError, decode, encode

SMALL = Snapshot(Position("t", 3, 41, 99), "f1", 7, {"counts": np.arange(5), "names": np.array(["a", "bc"], "U4")})


def at(offset: int, fingerprint: str = "f1") -> Snapshot:
    return Snapshot(Position("t", 3, offset, 99), fingerprint, 7, {"counts": np.array([offset])})


@given(
    arrays=st.dictionaries(
        st.text(max_size=8), hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)), max_size=4
    )
)
def test_any_plain_arrays_come_back_bit_for_bit(arrays: Arrays) -> None:
    back = decode(encode(Snapshot(SMALL.position, "f", 1, arrays)))
    assert (back.position, back.fingerprint, back.generation) == (SMALL.position, "f", 1)
    assert list(back.arrays) == list(arrays)
    for name, array in arrays.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        assert back.arrays[name].tobytes() == array.tobytes()


def test_records_of_several_fields_come_back_and_can_be_written_to() -> None:
    table = np.zeros(3, [("key", "u8"), ("ring", "f4", (4,))])
    table["key"] = [1, 2, 3]
    back = decode(encode(Snapshot(SMALL.position, "f", 1, {"table": table}))).arrays["table"]
    assert back.dtype == table.dtype
    back["key"][0] = 9
    assert back["key"].tolist() == [9, 2, 3]


def test_python_objects_are_refused_when_writing() -> None:
    with pytest.raises(SnapshotError, match="'odd' cannot be kept"):
        encode(Snapshot(SMALL.position, "f", 1, {"odd": np.array([{}], dtype=object)}))


def test_a_file_cut_short_at_any_byte_is_detected() -> None:
    data = encode(SMALL)
    for length in range(len(data)):
        with pytest.raises(SnapshotError):
            decode(data[:length])


def test_any_flipped_bit_is_detected() -> None:
    data = encode(SMALL)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotError):
            decode(bytes(damaged))


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        decode(data)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_the_newest_at_or_below_the_committed_offset_is_found(tmp_path: Path, kind: str) -> None:
    store = Checkpoints(str(tmp_path) if kind == "local" else f"memory://{tmp_path.name}", "g")
    for offset in (10, 20, 30):
        store.write(at(offset))
    assert [_found(store, committed) for committed in (9, 10, 25, 30, None)] == [None, 10, 20, 30, 30]


def test_a_damaged_one_gives_way_to_the_one_before_and_the_reason_is_told(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), "g")
    store.write(at(10))
    store.write(at(20))
    newest = next(tmp_path.rglob("*20.qws"))
    newest.write_bytes(newest.read_bytes()[:-1])
    found = store.newest("t", 3, "f1", committed=20)
    assert found.snapshot is not None
    assert found.snapshot.position.offset == 10
    assert len(found.refused) == 1
    assert "cut short or damaged" in found.refused[0]


def test_state_of_other_detectors_or_rules_is_refused(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), "g")
    store.write(at(10, fingerprint="old rules"))
    found = store.newest("t", 3, "f1", committed=10)
    assert found.snapshot is None
    assert "other detectors, rules" in found.refused[0]


def test_pruning_keeps_the_last_few_committed_ones_and_none_of_an_undone_past(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), "g", keep=2)
    for offset in (10, 20, 30, 40, 90):
        store.write(at(offset))
    store.prune("t", 3, committed=40)
    assert sorted(int(path.stem) for path in tmp_path.rglob("*.qws")) == [30, 40]


def test_groups_topics_and_partitions_do_not_see_each_other(tmp_path: Path) -> None:
    Checkpoints(str(tmp_path), "g").write(at(10))
    assert Checkpoints(str(tmp_path), "other").newest("t", 3, "f1", committed=10).snapshot is None
    assert Checkpoints(str(tmp_path), "g").newest("t", 4, "f1", committed=10).snapshot is None
    assert Checkpoints(str(tmp_path), "g").newest("u", 3, "f1", committed=10).snapshot is None


def test_a_write_that_fails_says_so_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), "g")
    store.write(at(10))
    folder = tmp_path / "g" / "t" / "3"
    (folder / f"{20:020d}.qws").mkdir()  # the final name is taken by something that cannot be replaced
    with pytest.raises(SnapshotError, match=r"20\.qws"):
        store.write(at(20))
    assert not list(folder.glob(".*"))
    assert _found(store, 15) == 10


def test_readers_never_see_half_a_file_while_another_process_writes(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), "g")
    big = Snapshot(Position("t", 3, 10, 0), "f1", 1, {"state": np.zeros(200_000)})
    store.write(big)
    done = threading.Event()

    def write_often() -> None:
        for _ in range(20):
            store.write(big)
        done.set()

    writer = threading.Thread(target=write_often)
    writer.start()
    refused = []
    while not done.is_set():
        refused += store.newest("t", 3, "f1", committed=10).refused
    writer.join()
    assert refused == []


def test_files_are_private_to_the_service(tmp_path: Path) -> None:
    Checkpoints(str(tmp_path), "g").write(at(10))
    mode = next(tmp_path.rglob("*.qws")).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600  # a snapshot holds the secret that keys the hashes of client ids


def _found(store: Checkpoints, committed: int | None) -> int | None:
    snapshot = store.newest("t", 3, "f1", committed=committed).snapshot
    return None if snapshot is None else snapshot.position.offset
