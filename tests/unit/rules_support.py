"""Rule folders and batches for the tests of rules and triage."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.detectors import Signal
from detector.events import EventBatch, Flag, ModelRef, Ragged
from detector.families import SIGNALS
from detector.rules import Problem, RulesError, Ruleset, default_folder, load_rules

CATALOGUE: dict[str, Signal] = {
    **{signal.name: signal for signal in SIGNALS},
    **{
        name: Signal(name, "log10 e-value", -200, 200, "")
        for name in ("steering.chosen", "steering.chosen", "recency.nearest", "recency.block", "novelty.made")
    },
    "trajectory.queries": Signal("trajectory.queries", "queries", 0, 1e12, ""),
    "steering.target": Signal("steering.target", "class", 0, 1e6, ""),
    "novelty.share": Signal("novelty.share", "share", 0, 1, ""),
    "volume.rate": Signal("volume.rate", "queries an hour", 0, 1e9, ""),
}

RULE = """\
id: ascent
uuid: 00000000-0000-4000-8000-000000000001
version: 1
title: A climb
status: stable
stage: alert
attack: AML.T0024.001
when:
  all:
    - {signal: inversion.evidence, op: ">=", value: 3}
    - {signal: trajectory.queries, op: ">=", value: 2}
episode: 1h
severity: medium
escalate:
  - {when: {signal: inversion.evidence, op: ">=", value: 6}, severity: high}
  - {when: {signal: inversion.progress, op: ">=", value: 0.9}, severity: critical}
respond:
  playbook: Ask the key's owner.
blind_spots: [patience]
false_positives: [optimisers]
tests:
  - {name: climb, given: {attack: hill_climb, queries: 400, seed: 7}, expect: {alerts: 1}}
  - {name: slider, given: {benign: what_if_slider, queries: 400, seed: 7}, expect: {alerts: 0}}
"""


def edited(old: str, new: str, text: str = RULE) -> str:
    """Return the sample rule with one passage changed."""
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the rule"
    return text.replace(old, new)


def renamed(number: int, text: str = RULE) -> str:
    """Return the sample rule under another id and uuid."""
    name = str(uuid.UUID(int=number, version=4))
    return text.replace("id: ascent", f"id: ascent-{number}", 1).replace("00000000-0000-4000-8000-000000000001", name)


def folder_of(path: Path, *rules: str) -> Path:
    """Write rules into a folder, each under its id."""
    path.mkdir(exist_ok=True)
    for text in rules:
        (path / f"{text.split('id: ', 1)[1].split()[0]}.yml").write_text(text, encoding="utf-8")
    return path


def ruleset_of(path: Path, *rules: str) -> Ruleset:
    """Load rules that must be right."""
    return load_rules(folder_of(path, *rules), CATALOGUE)


def problems_of(path: Path, *rules: str, **options: Any) -> tuple[Problem, ...]:
    """Load rules that may be wrong, and return what is."""
    try:
        load_rules(folder_of(path, *rules), CATALOGUE, **options)
    except RulesError as error:
        return error.problems
    return ()


def shipped() -> Path:
    """Return the project's own rules."""
    return default_folder()


def batch_of(
    time_us: Sequence[int],
    client: Sequence[str] | None = None,
    model: Sequence[str] | None = None,
    start: int = 0,
) -> EventBatch:
    """Return n events; offsets count up from `start`. A client called `unknown` carries its flag."""
    n = len(time_us)
    clients, models = list(client or ["key-1"] * n), list(model or ["scorer"] * n)
    refs = [ModelRef(name, "1") for name in dict.fromkeys(models)]
    empty = Ragged(np.zeros(0, np.float32), np.zeros(n + 1, np.int64))
    return EventBatch(
        topic="t",
        models=refs,
        model=np.array([refs.index(ModelRef(name, "1")) for name in models], np.int32),
        time_us=np.array(time_us, np.int64),
        partition=np.zeros(n, np.int32),
        offset=np.arange(start, start + n, dtype=np.int64),
        instance=np.zeros(n, np.int32),
        client_key=np.array([hash_of(c + "\0" + m) for c, m in zip(clients, models, strict=True)], np.uint64),
        client_id=clients,
        client_kind=["api_key"] * n,
        client_ip=["192.0.2.7"] * n,
        status=np.full(n, 200, np.int16),
        latency_ms=np.full(n, np.nan, np.float32),
        input_level=np.zeros(n, np.uint8),
        input=empty,
        input_digest=np.zeros(n, np.uint64),
        output_level=np.zeros(n, np.uint8),
        scores=empty,
        confidence=np.full(n, np.nan, np.float32),
        label=[""] * n,
        label_key=np.full(n, -1, np.int64),
        flags=np.array([Flag.UNKNOWN_CLIENT if c == "unknown" else 0 for c in clients], np.uint16),
    )


def hash_of(text: str) -> int:
    """Hash a text to 64 bits, the same in every run."""
    return uuid.uuid5(uuid.NAMESPACE_URL, text).int & (2**64 - 1)


def column(values: Sequence[float]) -> np.ndarray:
    """Return a signal's column."""
    return np.array(values, np.float32)
