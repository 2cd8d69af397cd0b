"""Baselines exported, imported, and refused where they make no sense."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from detector.baseline_file import BaselineFileError, mark, read, read_folder, seal, write
from detector.baseline_state import ModelState, models_of
from detector.cli import app
from detector.events import EventBatch
from detector.formats import native
from detector.pipeline import Pipeline
from detector.settings import LimitSettings
from detector.snapshot import Position, Snapshot, encode
from tests import pipelines, streams
from tests.unit.test_versions import MODEL, NEW, OLD, crowd

SEED = pipelines.pipeline().baselines.seed
Damage = Callable[[dict[str, Any]], Any]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["baseline", *map(str, arguments)])


def taught() -> Pipeline:
    """Return a pipeline that has seen an hour of ordinary clients, and its end."""
    line = pipelines.pipeline(128, admit_after=1)
    line.process(streams.batch(crowd(OLD, 40, 12)))
    line.end_epoch()
    return line


def attack() -> EventBatch:
    like = streams.Query("attacker", None, None, OLD, time_us=streams.START_US)
    return streams.batch(streams.queries(np.random.default_rng(1), MODEL, streams.noise_copies, 60, like))


def starting(models: list[ModelState]) -> Pipeline:
    limits = LimitSettings(clients=128, models=4, admit_after=1)
    return Pipeline(pipelines.sensitive_rules(), limits, b"tests", imported=models)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "benign.npz"
    write(path, models_of(taught().baselines), SEED)
    return path


def test_an_imported_model_is_judged_from_its_first_event_as_the_teacher_judges(file: Path) -> None:
    teacher, pupil = taught(), starting(read(file, SEED))
    for name, column in teacher.baselines.scales._asdict().items():
        pupil.process(attack().slice(0, 1))
        if name != "owners":
            assert getattr(pupil.baselines.scales, name)[0].tobytes() == column[0].tobytes(), name
    assert pupil.baselines.quantiles == teacher.baselines.quantiles
    alerts = starting(read(file, SEED)).process(attack())
    assert alerts, "nothing waited"
    assert {alert.baseline for alert in alerts} == {f"imported: {teacher.baselines.names[0]}"}
    assert any(item.baseline is not None for item in alerts[0].evidence)
    assert starting([]).process(attack()) == [], "without it the model waits"


def test_cutting_the_stream_and_restarting_change_nothing(file: Path) -> None:
    events = streams.batch([*crowd(OLD, 12, 20), *crowd(NEW, 12, 20), *crowd(OLD, 4, 20, hour=1)])
    whole, split = starting(read(file, SEED)), starting(read(file, SEED))
    alerts = pipelines.feed(whole, [events])
    assert pipelines.feed(split, pipelines.cut(events, range(0, len(events), 5))) == alerts
    assert pipelines.state_of(split) == pipelines.state_of(whole)
    before = starting(read(file, SEED))
    first = pipelines.feed(before, [events.slice(0, 300)])
    after = pipelines.move(before, starting(read(file, SEED)))
    assert first + pipelines.feed(after, [events.slice(300, len(events))]) == alerts


def test_what_a_snapshot_has_learned_is_not_overwritten_by_an_import(file: Path) -> None:
    old = pipelines.pipeline(128, admit_after=1)
    old.process(streams.batch(crowd(OLD, 40, 8)))
    learned = old.baselines.names[0]
    new = pipelines.move(old, starting(read(file, SEED)), [0])
    new.process(attack())
    assert new.baselines.names[0] == learned


def test_a_file_holds_no_client_and_only_its_owner_may_read_it(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    with np.load(file, allow_pickle=False) as arrays:
        owners = set(arrays["0.owners"].tolist())
        data = b"".join(arrays[name].tobytes() for name in arrays.files)
    keys = {int(key) for key in taught().clients.table.key if key}
    assert not owners & keys
    assert len(owners) > 8, "which rows are one client's is kept"
    assert not any(int(key).to_bytes(8, "little") in data for key in keys)


def test_the_same_baselines_give_the_same_bytes(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    write(again, models_of(taught().baselines), SEED)
    assert again.read_bytes() == file.read_bytes()


def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(arrays: dict[str, Any]) -> None:
        told = json.loads(arrays["header"].tobytes())
        change(told)
        arrays["header"] = np.frombuffer(json.dumps(told).encode(), np.uint8)

    return damage


def number(name: str, value: float) -> Damage:
    return lambda arrays: arrays.update({name: np.full_like(arrays[name], value)})


DAMAGES: list[tuple[Damage, str]] = [
    (lambda arrays: arrays.pop("0.r0"), "0.r0"),
    (lambda arrays: arrays.pop("header"), "header"),
    (lambda arrays: arrays.update({"0.rows": arrays["0.rows"][:, :7]}), "rows is int16"),
    (lambda arrays: arrays.update({"0.mean": arrays["0.mean"].astype(np.float32)}), "mean is float32"),
    (number("0.q95", np.nan), "not finite"),
    (number("0.scale", np.inf), "not finite"),
    (number("0.row_count", 999), "row_count of credit is out of range"),
    (number("0.row_count", -1), "row_count of credit is out of range"),
    (number("0.r0", 0), "r0 of credit is out of range"),
    (number("0.near_rate", 2), "near_rate of credit is out of range"),
    (number("0.feature", 6), "feature of credit is out of range"),
    (number("0.unusual", np.nan), "not finite"),
    (number("0.trained", 2), "trained of credit is out of range"),
    (number("0.classes", 1), "classes of credit is out of range"),
    (header(lambda told: told.update(format="other/9")), "format 'other/9'"),
    (header(lambda told: told.update(fields=["r0"])), "another version of querywatch"),
    (header(lambda told: told.update(secret=mark(5))), "another secret"),
    (header(lambda told: told["models"][0].update(width=10**9)), "inputs of credit"),
    (header(lambda told: told["models"][0].update(level="high")), "level"),
    (header(lambda told: told["models"][0].update(width=3)), "center is float32 (6,), expected float32 (3,)"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_what_makes_no_sense_is_refused_in_one_line(file: Path, damage: Damage, words: str) -> None:
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    damage(arrays)
    arrays["seal"] = seal(arrays, SEED)  # as if somebody with the secret had made it
    np.savez_compressed(file, **arrays)
    with pytest.raises(BaselineFileError) as caught:
        read(file, SEED)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_changed_without_the_secret_is_refused(file: Path) -> None:
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    arrays["0.q95"] = arrays["0.q95"] * 2
    for seals in (arrays["seal"], seal(arrays, SEED + 1), arrays["seal"][:0]):
        np.savez_compressed(file, **arrays | {"seal": seals})
        with pytest.raises(BaselineFileError, match="changed since it was made"):
            read(file, SEED)


@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bit_of_a_file_can_be_changed_and_be_taken_for_another(file: Path, changes: list[tuple[float, int]]) -> None:
    good, models = file.read_bytes(), read(file, SEED)
    bad = bytearray(good)
    for place, flip in changes:
        bad[int(place * len(bad))] ^= flip
    other = file.with_name("other.npz")
    other.write_bytes(bad)
    with contextlib.suppress(BaselineFileError):
        assert read(other, SEED) == models  # times and the like in the archive's own directory


def test_pickled_objects_and_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    np.savez(tmp_path / "object.npz", header=np.array([{"a": 1}], object))
    (tmp_path / "text.npz").write_bytes(b"hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("object", "text", "empty", "cut", "gone"):
        with pytest.raises(BaselineFileError):
            read(tmp_path / f"{name}.npz", SEED)


def test_two_files_of_one_model_are_told_apart_by_nobody(file: Path) -> None:
    (file.parent / "other.npz").write_bytes(file.read_bytes())
    with pytest.raises(BaselineFileError, match=r"credit 3 is in .*benign\.npz too"):
        read_folder(file.parent, SEED)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("QUERYWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    lines = native.encode(streams.batch(crowd(OLD, 40, 12)))
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "late.jsonl").write_bytes(b"\n".join(native.encode(attack())))
    return tmp_path


def test_from_log_to_file_to_folder_to_the_first_event(home: Path) -> None:
    made = run("export", "benign.npz", "--log", "log.jsonl", "--json")
    assert made.exit_code == 0, made.output
    (row,) = json.loads(made.stdout)
    assert (row["model"], row["version"]) == OLD
    assert 0 < row["rows"] <= 256
    assert run("import", "benign.npz").exit_code == 0
    assert run("import", "benign.npz").exit_code == 0, "again is no fault"
    assert (home / "var/baselines/benign.npz").read_bytes() == (home / "benign.npz").read_bytes()
    assert "imported: up to" in run("show", "benign.npz", "--json").stdout
    out = CliRunner().invoke(app, ["replay", "late.jsonl", "--alerts-out", "alerts.jsonl"])
    assert out.exit_code == 0
    documents = [json.loads(line) for line in (home / "alerts.jsonl").read_text().splitlines()]
    assert documents
    assert all(doc["querywatch"]["baseline"].startswith("imported: up to ") for doc in documents)


def test_a_snapshot_gives_the_baselines_that_it_holds(home: Path) -> None:
    from detector.settings import load_settings  # noqa: PLC0415
    from detector.wiring import build_pipeline, rules_of  # noqa: PLC0415

    settings = load_settings()
    line = build_pipeline(settings, rules_of(settings))
    line.process(streams.batch(crowd(OLD, 40, 12)))
    position = Position("t", 0, 480, 0)
    good = Snapshot(position, line.fingerprint, 1, line.export_partition(0))
    (home / "0.qws").write_bytes(encode(good))
    (home / "1.qws").write_bytes(encode(Snapshot(position, "other", 1, good.arrays)))
    made = run("export", "benign.npz", "--from-snapshot", "0.qws", "--json")
    assert [row["model"] for row in json.loads(made.stdout)] == [OLD.name]
    refused = run("export", "benign.npz", "--from-snapshot", "1.qws")
    assert (refused.exit_code, "made under other detectors" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "a.npz"], "give either --log or --from-snapshot"),
        (["export", "a.npz", "--log", "log.jsonl", "--from-snapshot", "x.qws"], "give either --log or --from-snapshot"),
        (["export", "a.txt", "--log", "log.jsonl"], "ends in .npz"),
        (["export", "a.npz", "--log", "gone.jsonl"], "gone.jsonl"),
        (["export", "gone/a.npz", "--log", "log.jsonl"], "cannot be written"),
        (["export", "a.npz", "--from-snapshot", "gone.qws"], "gone.qws: No such file"),
        (["export", "a.npz", "--from-snapshot", "log.jsonl"], "not a querywatch snapshot"),
        (["import", "gone.npz"], "cannot be read"),
        (["show", "log.jsonl"], "ends in .npz"),
    ],
)
def test_wrong_use_ends_in_one_clear_line(home: Path, arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), home
    assert words in result.stderr


def test_a_second_file_of_the_same_model_is_not_imported(home: Path) -> None:
    run("export", "benign.npz", "--log", "log.jsonl")
    (home / "other.npz").write_bytes((home / "benign.npz").read_bytes())
    assert run("import", "benign.npz").exit_code == 0
    second = run("import", "other.npz")
    assert (second.exit_code, "credit 3 already" in second.stderr) == (2, True)
