"""Builds the parts that the settings name."""

from __future__ import annotations

from detector.settings import Settings
from detector.stores import AlertStore


def open_store(settings: Settings, *, replay: bool = False) -> AlertStore:
    """Return the alert store of the settings; with `replay` its reading side shows what replays found.

    Nothing is connected yet. Each store is imported only when it is chosen: `alerts list` should answer at once.
    """
    if settings.store == "elasticsearch":
        from detector.stores.elastic import ElasticStore  # noqa: PLC0415

        return ElasticStore(settings.elasticsearch, settings.namespace, replay=replay)
    from detector.stores.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(settings.sqlite.path, settings.namespace, replay=replay)
