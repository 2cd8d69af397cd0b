"""MITRE ATLAS: the techniques, tactics and mitigations that rules may name, from `rules/atlas.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from detector.alerts import Technique


@dataclass(frozen=True, slots=True)
class Atlas:
    """One release of ATLAS, as far as prediction APIs go. Keys are ids."""

    version: str
    techniques: dict[str, Technique]
    mitigations: dict[str, str]
    retired: dict[str, str] = field(default_factory=dict)  # an id that ATLAS withdrew -> the one that took its place


def load_atlas(path: Path) -> Atlas:
    """Read the table; the names of an alert come from here, so a rule needs to give the id only."""
    table = json.loads(path.read_text(encoding="utf-8"))
    tactics, rows = table["tactics"], table["techniques"]
    techniques = {}
    for id_, row in rows.items():
        top = id_.rsplit(".", 1)[0]
        parent = (top, rows[top]["name"]) if top in rows else None
        techniques[id_] = Technique(id_, row["name"], parent, tuple((t, tactics[t]) for t in row["tactics"]))
    return Atlas(table["version"], techniques, table["mitigations"], table.get("retired", {}))
