"""`querywatch alerts export`: an evidence bundle, one zip file that stands on its own.

    README.txt, manifest.json, SHA256SUMS          what it is, who made it when, and hashes: `sha256sum -c SHA256SUMS`
    alerts/<id>/alert.json, events.jsonl           the alert as it stands, and each raise and escalation
    alerts/<id>/triage.jsonl, explain.json         who did what; conditions, contributions, what would have turned them
    alerts/<id>/positions.json                     where its queries lie in the log
    rules/<rule>.yml                               the rules, as they are now; the manifest tells whether they changed

The records themselves are not in it: they may hold personal data, and the positions say where they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from detector import __version__
from detector.alerts import Document, rfc3339
from detector.commands.alerts_explain import explained
from detector.commands.alerts_query import AsJson, Replay, alert_id, analyst, filtered, now_us, opened, the_alert
from detector.commands.alerts_rules import ruleset, text
from detector.commands.text import printable
from detector.stores import AlertQuery, AlertStore, Documents

if TYPE_CHECKING:
    from detector.rules import Ruleset

MOST = 1000  # alerts in one bundle


@filtered
def export(
    *,
    query: AlertQuery,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Alerts, by the start of their ids.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: querywatch-<id>.zip, here.")] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who exports; default: as for ack.")] = "",
    replay: Replay = False,
    as_json: AsJson = False,
) -> None:
    """Write the evidence of alerts into one zip file: documents, positions, rules, hashes, how to replay."""
    starts = list(dict.fromkeys(alert_id(name) for name in ids or ()))
    if bool(starts) == (query != AlertQuery()):
        raise typer.BadParameter("either name alerts by id, or choose them with filters", param_hint="ID")
    who = analyst(by)
    with opened(replay) as store:
        states = _named(store, starts, replay) if starts else store.list(replace(query, limit=MOST + 1))
        if not states or len(states) > MOST:
            _stop(f"{'more than ' + str(MOST) if states else 'no'} alerts match: nothing was written")
        files = bundle(store, states, ruleset(), {"by": who, "at": rfc3339(now_us())})
    path = out or Path(f"querywatch-{states[0]['querywatch']['alert_id'][:8] if len(states) == 1 else 'alerts'}.zip")
    content = packed(files)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        _stop(f"{path} exists already: choose another name with --out")
    except OSError as error:
        _stop(f"{path} cannot be written: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    if as_json:
        typer.echo(json.dumps({"file": str(path), "alerts": len(states), "bytes": len(content), "sha256": digest}))
    else:
        typer.echo(f"{printable(path)}: {len(states)} alert{'s' if len(states) > 1 else ''}, sha256 {digest}")


def _named(store: AlertStore, starts: Sequence[str], replay: bool) -> Documents:
    return [the_alert(store, start, replay) for start in starts]


def bundle(store: AlertStore, states: Documents, rules: Ruleset | None, made: dict[str, str]) -> dict[str, bytes]:
    """Return the files of a bundle by name; `made` says who made it when."""
    files: dict[str, bytes] = {}
    entries = []
    for state in states:
        own = state["querywatch"]
        folder = f"alerts/{own['alert_id']}"
        events = store.events(own["alert_id"])
        why = explained(state, events, rules)
        files[f"{folder}/alert.json"] = _json(state)
        files[f"{folder}/events.jsonl"] = _lines(events)
        files[f"{folder}/triage.jsonl"] = _lines(store.log(own["alert_id"]))
        files[f"{folder}/explain.json"] = _json(why)
        files[f"{folder}/positions.json"] = _json([event["querywatch"]["position"] for event in events])
        rule = text(state)
        if rule:
            files[f"rules/{state['rule']['id']}.yml"] = rule.encode()
        entries.append({"alert_id": own["alert_id"], "rule": why["rule"], "replay": replay_command(state)})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = {"made": {**made, "version": __version__}, "alerts": entries, "sha256": hashes}
    files["manifest.json"] = _json(manifest)
    files["README.txt"] = _readme(manifest).encode()
    hashes |= {name: hashlib.sha256(files[name]).hexdigest() for name in ("manifest.json", "README.txt")}
    files["SHA256SUMS"] = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())).encode()
    return files


def replay_command(state: Document) -> str:
    """Return what finds the alert again, under the same id, in a capture of the records at its positions."""
    own = state["querywatch"]
    topic = own["position"]["topic"]
    capture = shlex.quote(topic) if topic.isprintable() and topic.endswith((".jsonl", ".gz", ".zst")) else "CAPTURE"
    return f"QUERYWATCH_NAMESPACE={own['namespace']} querywatch replay {capture} --rules rules --alerts-out -"


def packed(files: dict[str, bytes]) -> bytes:
    """Return files as a zip: the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"querywatch-evidence/{name}")
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _readme(manifest: dict[str, Any]) -> str:
    made = manifest["made"]
    lines = [
        "Evidence of querywatch alerts.",
        f"Made {made['at']} by {printable(made['by'])} with querywatch {made['version']}.",
        "",
        "Check it:        sha256sum -c SHA256SUMS",
        "Find it again:   capture the records at the positions and some hours before, then run in this folder,",
        "                 with the secret, models.yml and baselines of that time:",
        "",
        *dict.fromkeys(f"  {printable(entry['replay'])}" for entry in manifest["alerts"]),
        "",
        "Alerts:",
        *(
            f"  {entry['alert_id']}  rule {entry['rule']['id']} version {entry['rule']['version']}"
            f" ({entry['rule']['hash']}): {entry['rule']['file']}"
            for entry in manifest["alerts"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=True) + "\n").encode()


def _lines(documents: Documents) -> bytes:
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


def _stop(message: str) -> NoReturn:
    typer.echo(f"querywatch: {message}", err=True)
    raise typer.Exit(1)
