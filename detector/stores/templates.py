"""The JSON files of deploy/elasticsearch: index templates and what goes with them, in the order of installation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_FOLDERS = (
    Path(__file__).parents[1] / "_shipped" / "elasticsearch",  # an installed wheel
    Path(__file__).parents[2] / "deploy" / "elasticsearch",  # a checkout
)
KINDS = ("ilm_policy", "component_template", "index_template")


class Template(NamedTuple):
    """One thing to install. The hash, kept in `_meta`, tells an installed one from a changed one."""

    kind: str  # one of KINDS
    name: str
    body: dict[str, Any]
    hash: str

    @property
    def path(self) -> str:
        """Return where the API keeps it."""
        return f"/_ilm/policy/{self.name}" if self.kind == "ilm_policy" else f"/_{self.kind}/{self.name}"

    @property
    def needs_ilm(self) -> bool:
        """Tell whether a cluster without index lifecycle management has no use for it."""
        return self.kind == "ilm_policy" or self.name == "querywatch-lifecycle"


def folder() -> Path:
    """Return where the files are; FileNotFoundError in a broken installation."""
    for candidate in _FOLDERS:
        if (candidate / "index_template").is_dir():
            return candidate
    raise FileNotFoundError(f"the Elasticsearch templates are missing; looked in {_FOLDERS[0]} and {_FOLDERS[1]}")


def templates(namespace: str) -> Iterator[Template]:
    """Yield all of them for one namespace; each only names those that came before it."""
    for kind in KINDS:
        for path in sorted((folder() / kind).glob("*.json")):
            text = path.read_text(encoding="utf-8").replace("NAMESPACE", namespace)
            body = json.loads(text)
            meta = (body["policy"] if kind == "ilm_policy" else body)["_meta"]
            meta["hash"] = hashlib.sha256(text.encode()).hexdigest()[:16]
            yield Template(kind, path.stem.replace("NAMESPACE", namespace), body, meta["hash"])
