"""The truth of a capture: one JSON object a line, for each client and model.

`client` and `hostile` are needed; for a hostile client also `family`. The simulator writes more, and whoever labels
captures of their own may give any of it: `model` (default: every model that the client asks), `kind`, `technique`,
`attack_start` (RFC 3339; default: the client's first query), `campaign` (default: the client by itself), `evasion`,
`interface`, `hard` (benign, but prone to look hostile), `half` (calibration or report; default: by a hash of the
campaign or client). Any other field with a text, a number or a boolean is kept too: the scoreboard can be parted by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from replay.simulate.data import HALVES, half_of

FAMILIES = ("inversion", "attribute_inference", "membership_inference", "extraction", "adversarial_search")


class TruthError(ValueError):
    """A truth file cannot be used; the message says file, line and what is wrong."""


class Client(NamedTuple):
    """What a client really did to a model; texts are "" where nothing is known."""

    client: str
    model: str  # "" = every model
    hostile: bool
    family: str
    kind: str  # the attack or the benign kind
    technique: str
    evasion: str
    interface: str
    hard: bool
    half: str
    start_us: int | None  # when the attack began, None: with the first query
    campaign: str  # of a hostile client always something
    fields: Mapping[str, str]  # everything that the truth file says in one word, by the field's name

    def value_of(self, field: str) -> str:
        """Return what the truth says in a field of any name."""
        return (str(getattr(self, field)) if field in OWN_FIELDS else self.fields.get(field)) or "unknown"


OWN_FIELDS = ("client", "model", "family", "kind", "technique", "evasion", "interface", "half", "campaign")


def truth_of(capture: Path) -> Path:
    """Return where the truth of a capture is looked for: x.jsonl.gz → x.truth.jsonl."""
    name = capture.name
    for suffix in (".gz", ".zst", ".jsonl"):
        name = name.removesuffix(suffix)
    return capture.with_name(f"{name}.truth.jsonl")


def read_truth(paths: Sequence[Path]) -> list[Client]:
    """Read truth files; TruthError where one is missing, broken, or says two things about one client."""
    clients: list[Client] = []
    where: dict[tuple[str, str], str] = {}
    for path in paths:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise TruthError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            at = f"{path}:{number}"
            client = _client(line, at)
            for model in {client.model, ""}:
                if before := where.get((client.client, model)):
                    raise TruthError(f"{at}: {client.client!r} on this model is also in {before}")
            if not client.model and (other := next((w for (c, _), w in where.items() if c == client.client), None)):
                raise TruthError(f"{at}: {client.client!r} on every model, but {other} names one")
            where[client.client, client.model] = at
            clients.append(client)
    if not clients:
        raise TruthError(f"{', '.join(map(str, paths))}: no client in it")
    return clients


def _client(line: bytes, at: str) -> Client:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TruthError(f"{at}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise TruthError(f"{at}: a line is one JSON object")
    name, hostile = _text(row, "client", at), row.get("hostile")
    if not name:
        raise TruthError(f"{at}: 'client' is missing")
    if not isinstance(hostile, bool):
        raise TruthError(f"{at}: 'hostile' must be true or false")
    family = _text(row, "family", at)
    if hostile and family not in FAMILIES:
        raise TruthError(f"{at}: 'family' of a hostile client is one of {', '.join(FAMILIES)}")
    campaign = _text(row, "campaign", at) or name
    half = _text(row, "half", at) or half_of(campaign)
    if half not in HALVES:
        raise TruthError(f"{at}: 'half' is one of {', '.join(HALVES)}")
    return Client(
        client=name,
        model=_text(row, "model", at),
        hostile=hostile,
        family=family if hostile else "",
        kind=_text(row, "kind", at) or "unnamed",
        technique=_text(row, "technique", at),
        evasion=_text(row, "evasion", at) or "none",
        interface=_text(row, "interface", at) or "unknown",
        hard=row.get("hard") is True,
        half=half,
        start_us=_moment(row, at) if hostile else None,
        campaign=campaign if hostile else "",
        fields={name: _word(value) for name, value in row.items() if isinstance(value, str | int | float)},
    )


def _word(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(row: dict[str, Any], name: str, at: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TruthError(f"{at}: {name!r} must be text")
    return value


def _moment(row: dict[str, Any], at: str) -> int | None:
    text = _text(row, "attack_start", at)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TruthError(f"{at}: 'attack_start' must be a time such as 2026-11-16T01:41:04Z") from None
    whole = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (int(whole.replace(microsecond=0).timestamp()) * 1_000_000) + whole.microsecond
