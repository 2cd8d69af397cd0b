"""The only reader of the environment and of `querywatch.toml`.

Every setting can be given in the file (`[kafka] topic = …`) or as a variable (`QUERYWATCH_KAFKA__TOPIC=…`), which wins.
`deploy/querywatch.toml` is the annotated example; a test holds it against this module.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class SettingsError(Exception):
    """A setting is wrong; the message names it, where it came from, and what it takes."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """Where prediction events are read from."""

    bootstrap: str = "localhost:9092"
    topic: str = "prediction-events"
    group: str = "querywatch"
    instance_id: str = ""  # static membership: a restart within the session time-out keeps its partitions
    session_timeout_s: float = Field(default=30.0, gt=0)
    start: Literal["earliest", "latest"] = "earliest"  # the very first start only, when nothing is committed
    max_poll_records: int = Field(default=4000, ge=1)
    idle_s: float = Field(default=0.3, ge=0)  # a partition this long at its end no longer holds back the others
    dead_letter_topic: str = ""  # default: <topic>.dlq
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: str = ""
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")


class LogSettings(_Section):
    """How the records of the log are written."""

    format: str = "native"  # see `querywatch formats list`
    mapping: str = ""  # for mapped_json: the file that says where each field stands
    model: str = ""  # the model of records that name none
    client_headers: list[str] = ["x-consumer-id", "x-consumer-username"]  # the gateway sets them, callers cannot


class ElasticsearchSettings(_Section):
    """The alert store of the SOC."""

    url: str = "http://localhost:9200"
    api_key: SecretStr = SecretStr("")
    ca_certs: str = ""
    timeout_s: float = Field(default=10.0, gt=0)


class SqliteSettings(_Section):
    """The embedded alert store."""

    path: Path = Path("var/alerts.sqlite")


class StateSettings(_Section):
    """Where checkpoints go."""

    url: str = "var/state"  # any fsspec URL or a local folder
    snapshot_every_s: float = Field(default=30.0, gt=0)
    keep: int = Field(default=2, ge=1)
    warm_up_records: int = Field(default=100_000, ge=0)  # read again, a partition, when no checkpoint is usable


class TrainingSettings(_Section):
    """What the owner knows of the training data."""

    folder: str = ""  # of training indexes (*.qwi), read at the start; "" = none


class BaselineSettings(_Section):
    """What benign traffic looks like, known before the first event."""

    folder: Path = Path("var/baselines")  # of files that `querywatch baseline import` put there


class LimitSettings(_Section):
    """What bounds memory and work; a caller controls the size of what it sends."""

    max_record_bytes: int = Field(default=4 << 20, ge=1024)
    max_instances: int = Field(default=4096, ge=1, le=1_000_000)
    max_numbers: int = Field(default=1_000_000, ge=1)
    clients: int = Field(default=8192, ge=16)  # (client, model) pairs followed in full at the same time
    campaigns: int = Field(default=128, ge=4)  # groups of clients that are judged as one at the same time
    admit_after: int = Field(default=4, ge=1)  # queries before a client gets a place of its own
    models: int = Field(default=256, ge=1)


class Settings(BaseSettings):
    """All settings. `load_settings` reads them and turns what is wrong into one clear error."""

    model_config = SettingsConfigDict(
        env_prefix="QUERYWATCH_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    namespace: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_]{0,63}$")
    store: Literal["sqlite", "elasticsearch"] = "sqlite"
    rules: Path | None = None  # a folder of rules; default: the shipped ones
    models: Path | None = None  # models.yml: sensitivity, output and owner of the protected models
    secret: SecretStr = SecretStr(
        "querywatch"
    )  # keys the hashes of client ids, so that nobody can choose colliding ones
    analyst: str = ""  # who acts in `querywatch alerts`; "" = the account on this machine
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kafka: KafkaSettings = KafkaSettings()
    log: LogSettings = LogSettings()
    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    sqlite: SqliteSettings = SqliteSettings()
    state: StateSettings = StateSettings()
    training: TrainingSettings = TrainingSettings()
    baselines: BaselineSettings = BaselineSettings()
    limits: LimitSettings = LimitSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(path: Path | None = None) -> Settings:
    """Read `path`, else $QUERYWATCH_CONFIG, else ./querywatch.toml; SettingsError names what is wrong."""
    named = path or (Path(os.environ["QUERYWATCH_CONFIG"]) if "QUERYWATCH_CONFIG" in os.environ else None)
    if named is not None and not named.is_file():
        raise SettingsError(f"{named}: no such configuration file")
    file = named or Path("querywatch.toml")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return FromFile()
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{file} or the environment (QUERYWATCH_…): {faults}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file}: {error}") from None
    except ValueError as error:  # a whole section in one variable
        raise SettingsError(f"the environment: {error}; name each setting: QUERYWATCH_SECTION__NAME=…") from None
