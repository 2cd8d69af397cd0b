"""Builds the parts that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.settings import Settings, SettingsError
from detector.stores import AlertStore

if TYPE_CHECKING:  # imported when called: a listing of alerts needs neither numba nor river
    from detector.baseline_state import ModelState
    from detector.detectors import Detector
    from detector.formats import Decoder
    from detector.formats.calls import Options
    from detector.pipeline import Pipeline, Watch
    from detector.rules import Ruleset
    from detector.service import Service
    from detector.training.index import TrainingIndexes


def open_store(settings: Settings, *, replay: bool = False, patience_s: float = 10.0) -> AlertStore:
    """Return the alert store of the settings; with `replay` its reading side shows what replays found.

    `patience_s` is how long a call waits for a store that is busy, down or overloaded. Nothing is connected yet.
    Each store is imported only when it is chosen: `alerts list` should answer at once.
    """
    if settings.store == "elasticsearch":
        from detector.stores.elastic import ElasticStore  # noqa: PLC0415

        return ElasticStore(settings.elasticsearch, settings.namespace, replay=replay, patience_s=patience_s)
    from detector.stores.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(settings.sqlite.path, settings.namespace, replay=replay, busy_s=patience_s)


def decoder(settings: Settings) -> Decoder:
    """Return the decoder of one stream, in the settings' format; SettingsError where there is no such format."""
    from detector.formats import decoder as decoder_of  # noqa: PLC0415

    try:
        return decoder_of(settings.log.format, format_options(settings))
    except LookupError as error:
        raise SettingsError(f"[log] format: {error.args[0]}") from None


def with_log(settings: Settings, log_format: str = "", mapping: str = "", model: str = "") -> Settings:
    """Return the settings with what a caller says of the log; a mapping file alone means mapped_json."""
    said = {"format": log_format or ("mapped_json" if mapping else ""), "mapping": mapping, "model": model}
    log = settings.log.model_copy(update={name: value for name, value in said.items() if value})
    return settings.model_copy(update={"log": log})


def format_options(settings: Settings) -> Options:
    """Return how foreign logs are read; SettingsError where the mapping file cannot be used."""
    from detector.formats.calls import Options  # noqa: PLC0415
    from detector.formats.pointers import Mapped, load  # noqa: PLC0415

    log, secret = settings.log, settings.secret.get_secret_value().encode()
    headers = tuple(name.lower() for name in log.client_headers)
    return Options(settings.limits, secret, log.model, headers, load(Path(log.mapping)) if log.mapping else Mapped())


def rules_of(settings: Settings, folder: Path | None = None) -> Ruleset:
    """Read the rules that the caller or the settings name; RulesError lists all faults."""
    from detector.rules import Problem, RulesError, catalogue, default_folder, load_rules  # noqa: PLC0415

    where = folder or settings.rules or default_folder()
    ruleset = load_rules(where, catalogue())
    if not ruleset.rules:
        raise RulesError([Problem(str(where), 1, 1, "QW101", "no rules here: a rule is a file NAME.yml")])
    return ruleset


def build_pipeline(
    settings: Settings,
    ruleset: Ruleset,
    watch: Watch | None = None,
    detectors: tuple[Detector, ...] | None = None,
    imported: Sequence[ModelState] | None = None,
) -> Pipeline:
    """Return all of detection, for the live service and for replays alike.

    `watch` sees every chunk's signals; `detectors` are all that can be discovered, unless others are given.
    `imported` are baselines to start from, by default those of the settings' folder. SettingsError where a training
    index or a baseline cannot be used.
    """
    from detector.pipeline import Pipeline  # noqa: PLC0415
    from detector.registry import load_registry  # noqa: PLC0415

    secret = settings.secret.get_secret_value().encode()
    registry, training = load_registry(settings.models), training_of(settings)
    known = imported_of(settings) if imported is None else imported
    return Pipeline(ruleset, settings.limits, secret, detectors, watch, registry, training, known)


def imported_of(settings: Settings) -> Sequence[ModelState]:
    """Read the imported baselines in the settings' folder; SettingsError where one cannot be used."""
    from detector.baseline_file import BaselineFileError, read_folder  # noqa: PLC0415
    from detector.sketch import seed_of  # noqa: PLC0415

    try:
        return read_folder(settings.baselines.folder, seed_of(settings.secret.get_secret_value().encode()))
    except BaselineFileError as error:
        raise SettingsError(f"[baselines] folder: {error}") from None


def training_of(settings: Settings) -> TrainingIndexes:
    """Open the training indexes in the settings' folder; SettingsError where one cannot be used."""
    from detector.training.index import NO_INDEXES, TrainingIndexError, load_folder  # noqa: PLC0415

    if not settings.training.folder:
        return NO_INDEXES
    try:
        return load_folder(Path(settings.training.folder), settings.secret.get_secret_value().encode())
    except TrainingIndexError as error:
        raise SettingsError(f"[training] folder: {error}") from None


def build_service(settings: Settings, ruleset: Ruleset, store: AlertStore, *, until_end: bool = False) -> Service:
    """Return the live service; nothing is connected before it runs. SourceError where Kafka's settings cannot work."""
    from detector.formats import is_paired  # noqa: PLC0415
    from detector.service import Service, ServiceConfig  # noqa: PLC0415
    from detector.snapshot import Checkpoints  # noqa: PLC0415
    from detector.sources.kafka import KafkaDeadLetters, KafkaSource  # noqa: PLC0415

    kafka, state = settings.kafka, settings.state
    decode = decoder(settings)
    if is_paired(settings.log.format):
        raise SettingsError(
            f"[log] format: {settings.log.format} has requests and responses as records of their own, and a restart"
            " would lose what waits for its other half: read such a log with `querywatch replay`"
        )
    return Service(
        KafkaSource(kafka, until_end=until_end),
        decode,
        build_pipeline(settings, ruleset),
        store,
        KafkaDeadLetters(kafka, settings.limits.max_record_bytes),
        checkpoints=Checkpoints(state.url, kafka.group, keep=state.keep),
        config=ServiceConfig(
            namespace=settings.namespace,
            mode="live",
            max_poll_records=kafka.max_poll_records,
            idle_s=kafka.idle_s,
            snapshot_every_s=state.snapshot_every_s,
            warm_up_records=state.warm_up_records,
        ),
    )
