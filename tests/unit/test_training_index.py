"""A training index knows the records that it was made of, their near copies, and nothing that it could tell."""

from __future__ import annotations

import zlib
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.events import F32, U64, ModelRef
from detector.training.build import CROWDED, build
from detector.training.fingerprints import PRINTS, Key, cells, fingerprints
from detector.training.index import (
    ABSENT,
    Header,
    TrainingIndex,
    TrainingIndexError,
    TrainingIndexes,
    frame_of,
    load,
    load_folder,
    read_header,
    save,
)
from detector.training.records import Records
from tests import twins_training

SECRET = b"the owner's"


def records(seed: int = 1, n: int = 400, width: int = 12) -> F32:
    """Return correlated records in features of very different units, one of them constant."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) @ rng.normal(size=(5, width)) + 0.3 * rng.normal(size=(n, width))
    x = x * np.exp2(rng.integers(-12, 12, width)) + rng.normal(size=width) * 1000
    x[:, 3] = 7.5
    return x.astype(np.float32)


def indexed(folder: Path, x: F32, model: str = "m", version: str = "", secret: bytes = SECRET) -> TrainingIndex:
    path = folder / f"{model}{version}.npy"
    np.save(path, x)
    return build(Records(path), Key(secret, model, version), model, version)


def share_found(index: TrainingIndex, x: F32) -> float:
    return float((index.look_up_records(x)[0].trained > ABSENT).mean())


# --- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 12, 31, 33, 90])
def test_every_record_is_found_exactly_and_strangers_are_not(tmp_path: Path, width: int) -> None:
    strangers = []
    for seed in range(5):
        x = records(seed, 800, width)
        index = indexed(tmp_path, x[:400])
        hits, exact = index.look_up_records(x)
        assert (hits.trained[:400] > ABSENT).all()
        assert exact[:400].all()
        assert not exact[400:].any()
        strangers.append(share_found(index, x[400:]))
    assert np.mean(strangers) <= 0.02  # 0.5 % is aimed at, estimated from 400 records


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), width=st.sampled_from([4, 12, 31, 33, 90]))
def test_copies_with_the_noise_that_the_header_states_are_found_and_with_much_more_are_not(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int
) -> None:
    x = records(seed, 400, width)
    index = indexed(tmp_path_factory.mktemp("index"), x)
    noise = np.random.default_rng(seed).normal(size=x.shape) * x.std(axis=0, dtype=np.float64)
    assert share_found(index, (x + 0.5 * index.header.reach * noise).astype(np.float32)) >= 0.93
    assert share_found(index, (x + 64 * index.header.reach * noise).astype(np.float32)) <= 0.05


def test_a_record_with_one_feature_rounded_is_found(tmp_path: Path) -> None:
    x = records()
    index = indexed(tmp_path, x)
    for j in range(x.shape[1]):
        copies, grain = x.copy(), max(float(x[:, j].std()) / 50, 1e-3)
        copies[:, j] = np.round(x[:, j] / grain) * grain
        assert share_found(index, copies) >= 0.99


def test_a_constant_feature_does_not_hide_a_record(tmp_path: Path) -> None:
    x = records()
    changed = x.copy()
    changed[:, 3] = -2.0
    assert share_found(indexed(tmp_path, x), changed) == 1.0


def test_crowded_records_make_narrow_cells(tmp_path: Path) -> None:
    x = records(n=300)
    near = (x + 0.02 * x.std(axis=0) * np.random.default_rng(0).normal(size=x.shape)).astype(np.float32)
    wide, narrow = indexed(tmp_path, x), indexed(tmp_path, np.concatenate([x, near]), "crowded")
    assert narrow.header.bits < wide.header.bits
    assert max(wide.header.crowding, narrow.header.crowding) <= CROWDED


def test_records_on_a_coarse_grid_are_kept_apart(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 4), axis=-1).reshape(-1, 4).astype(np.float32)
    some = np.random.default_rng(0).permutation(len(grid)) < 100
    index = indexed(tmp_path, grid[some])
    assert share_found(index, grid[some]) == 1.0
    assert share_found(index, grid[~some]) == 0.0


def test_repeated_records_count_once(tmp_path: Path) -> None:
    x = records(n=50)
    once, twice = indexed(tmp_path, x), indexed(tmp_path, np.concatenate([x, x, x]))
    assert (twice.header.records, twice.header.distinct) == (150, 50)
    assert twice.header.crowding == once.header.crowding
    assert (once.header.chance, twice.header.chance) == (once.header.crowding, 1.0)


def test_minus_nought_is_nought(tmp_path: Path) -> None:
    x = records()
    x[:, 0] = 0.0
    assert indexed(tmp_path, x).look_up_records(np.where(x == 0, -x, x))[1].all()


# --- kernels and their twins ------------------------------------------------------------------------------------------


def test_the_twin_of_siphash_gives_the_value_of_its_paper() -> None:
    assert twins_training.siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


@pytest.mark.parametrize("width", [1, 2, 7, 32, 33, 100])
def test_fingerprints_equal_their_twin(width: int) -> None:
    rng = np.random.default_rng(width)
    key = Key(SECRET, "m", "1")
    frame = frame_of(key, rng.integers(-3, 3, width).astype(np.int8), rng.integers(-3, 3, width).astype(np.int32))
    x = (rng.normal(size=(5, width)) * 40).astype(np.float32)
    x[0, 0] = -0.0
    for bits in (1, 6, 12):
        grid = cells(key, bits)
        fast = fingerprints(frame, grid, x.ravel(), np.arange(6) * width, np.arange(5))
        assert fast.tolist() == [twins_training.fingerprints(frame, grid, row) for row in x]


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 39), max_size=8), tables=st.lists(st.integers(0, PRINTS - 1), max_size=8))
def test_the_look_up_equals_its_twin(rows: list[int], tables: list[int]) -> None:
    index, prints = crafted()
    asked = prints[rows].copy()
    for i, t in zip(range(len(rows)), tables, strict=False):
        asked[i, t] = prints[5, t]
    hits = index.look_up(asked)
    found = zip(hits.trained.tolist(), hits.canary.tolist(), strict=True)
    assert list(found) == [twins_training.look_up(index, row) for row in asked.tolist()]


@cache
def crafted() -> tuple[TrainingIndex, U64]:
    """Return an index of digests that belong to no records, and digests [40, PRINTS] to ask it for."""
    prints = np.random.default_rng(3).integers(2, 1 << 63, (40, PRINTS)).astype(np.uint64)
    prints[20:, 1:5] = prints[:20, 1:5]  # four tables in common with a record or a canary
    prints[35:, 5] = prints[15:20, 5]  # five: most of them
    known, canaries = prints[:10], prints[10:20]
    key = Key(SECRET, "crafted", "")
    header = Header("crafted", "", 2, 10, 10, 5, 0.1, 0.0, 0.0, known.size, "")
    order = np.argsort(canaries.ravel())
    numbers = np.repeat(np.arange(1, len(canaries) + 1, dtype=np.int32), PRINTS)[order]
    frame = np.zeros(2, np.int8), np.zeros(2, np.int32)
    return TrainingIndex(header, *frame, np.unique(known), canaries.ravel()[order], numbers, key), prints


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_saved_index_answers_as_the_one_that_was_built(tmp_path: Path) -> None:
    x = records()
    built = indexed(tmp_path, x[:200])
    save(built, tmp_path / "m.qwi")
    loaded = load(tmp_path / "m.qwi", SECRET)
    assert loaded.header == built.header == read_header(tmp_path / "m.qwi")
    assert loaded.fingerprint == built.fingerprint
    for one, other in zip(built.look_up_records(x)[0], loaded.look_up_records(x)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    x = records()
    for name, rows in (("a", x), ("b", x[::-1])):
        index = indexed(tmp_path, rows)
        save(index, tmp_path / f"{name}.qwi")
    assert (tmp_path / "a.qwi").read_bytes() == (tmp_path / "b.qwi").read_bytes()


def test_an_index_of_other_records_has_another_fingerprint_and_one_made_later_has_not(tmp_path: Path) -> None:
    x = records()
    np.save(tmp_path / "x.npy", x)
    key = Key(SECRET, "m", "")
    early, late = (build(Records(tmp_path / "x.npy"), key, "m", made_at=when) for when in ("2026", "2027"))
    assert early.fingerprint == late.fingerprint != indexed(tmp_path, x[1:]).fingerprint


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.999])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(TrainingIndexError, match=r"m\.qwi: (cut short|not a training index)"):
        load(path, SECRET)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**9), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: int, flip: int) -> None:
    path = saved(tmp_path_factory.mktemp("index"))
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= flip
    path.write_bytes(data)
    with pytest.raises(TrainingIndexError, match=r"m\.qwi: "):
        load(path, SECRET)


def test_another_secret_is_told_apart_from_damage(tmp_path: Path) -> None:
    with pytest.raises(TrainingIndexError, match="made with another secret"):
        load(saved(tmp_path), b"another")


def test_a_file_that_is_missing_or_of_a_later_format_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingIndexError, match="no such file"):
        load(tmp_path / "none.qwi", SECRET)
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 7'))
    with pytest.raises(TrainingIndexError, match="format 7"):
        load(path, SECRET)


def test_records_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingIndexError, match=r"records of 11 numbers.*of 12"):
        indexed(tmp_path, records()).look_up_records(records()[:, 1:])


def saved(folder: Path) -> Path:
    path = folder / "m.qwi"
    path.write_bytes(content())
    return path


@cache
def content() -> bytes:
    """Return a small index as a file holds it."""
    with TemporaryDirectory() as folder:
        save(indexed(Path(folder), records(n=60)), Path(folder) / "m.qwi")
        return (Path(folder) / "m.qwi").read_bytes()


# --- a folder of them -------------------------------------------------------------------------------------------------


def test_a_model_is_given_the_index_of_its_version_before_the_one_for_all(tmp_path: Path) -> None:
    x = records(n=40)
    for version in ("", "2"):
        save(indexed(tmp_path, x, version=version), tmp_path / f"{version or 'all'}.qwi")
    found = load_folder(tmp_path, SECRET)
    versions = [index.header.version for v in ("1", "2") if (index := found.of(ModelRef("m", v)))]
    assert versions == ["", "2"]
    assert found.of(ModelRef("other", "1")) is None
    assert found.fingerprint


def test_two_indexes_of_one_model_are_refused(tmp_path: Path) -> None:
    index = indexed(tmp_path, records(n=40))
    with pytest.raises(TrainingIndexError, match="two training indexes of model 'm'"):
        TrainingIndexes([index, index])


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingIndexError, match="no such folder"):
        load_folder(tmp_path / "none", SECRET)


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_indexes_of_the_same_records_share_no_digest_across_secrets_models_or_versions(tmp_path: Path) -> None:
    x = records()
    made = [
        indexed(tmp_path, x),
        indexed(tmp_path, x, secret=b"another"),
        indexed(tmp_path, x, "n"),
        indexed(tmp_path, x, version="2"),
    ]
    every = np.concatenate([index.digests for index in made])
    assert len(np.unique(every)) == len(every)
    assert share_found(replace(made[0], key=made[1].key), x) == 0.0


def test_without_the_key_the_file_is_noise_after_its_header(tmp_path: Path) -> None:
    """Nothing compresses, every byte is as frequent as the next, and sorted digests lie as random numbers do."""
    x = records(n=4000)
    save(indexed(tmp_path, x), tmp_path / "m.qwi")
    data = (tmp_path / "m.qwi").read_bytes()[1024:-1020]
    low = np.frombuffer(data, np.uint8).reshape(-1, 8)[:, :5]  # upper bytes of sorted numbers rise
    assert len(zlib.compress(low.tobytes(), 9)) > 0.999 * low.size
    counts = np.bincount(low.ravel(), minlength=256)
    chi_square = ((counts - low.size / 256) ** 2 / (low.size / 256)).sum()
    assert 255 - 5 * 22.6 < chi_square < 255 + 5 * 22.6  # mean 255, standard deviation √510
    gaps = np.diff(indexed(tmp_path, x).digests.astype(np.float64))
    np.testing.assert_allclose(np.median(gaps) / gaps.mean(), np.log(2), rtol=0.05)


def test_the_header_holds_no_value_of_a_record(tmp_path: Path) -> None:
    header = read_header(saved(tmp_path))
    told = set(asdict(header))
    assert told == {
        *(
            "model",
            "version",
            "width",
            "records",
            "distinct",
            "bits",
            "reach",
            "crowding",
            "chance",
            "digests",
            "key_check",
        ),
        *("made_at", "canaries", "canary_digests", "format"),
    }


def test_centre_and_spread_are_masked_in_the_file(tmp_path: Path) -> None:
    index = indexed(tmp_path, records())
    save(index, tmp_path / "m.qwi")
    data = (tmp_path / "m.qwi").read_bytes()
    assert index.centers.tobytes() not in data
    assert index.exponents.tobytes() not in data


def test_with_the_key_only_members_answer(tmp_path: Path) -> None:
    """The owner of the key tests membership; from a digest no way leads back, and a frame is spread and centre."""
    x = records()
    index = indexed(tmp_path, x[:200])
    kept = sum(array.nbytes for array in (index.exponents, index.centers))
    assert kept == 5 * x.shape[1]  # all that a key unmasks: five bytes a feature, whatever the number of records
    assert index.digests.nbytes <= 8 * PRINTS * 200
