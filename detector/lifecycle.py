"""What analysts may do with an alert: its states, the steps between them, and the log entry of each step. No I/O.

    new → acknowledged → investigating → contained → closed → acknowledged (reopened)

Steps of an open alert may be left out, but nothing is closed that nobody acknowledged, and nothing goes back. Every
change is applied by the store to the alert as it is at that moment: of two analysts who take the same alert, the second
meets what the first has made of it, and is told so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from detector.alerts import ECS_VERSION, Document, digest, rfc3339

STATUSES = ("new", "acknowledged", "investigating", "contained", "closed")
NEXT = {
    "new": ("acknowledged",),
    "acknowledged": ("investigating", "contained", "closed"),
    "investigating": ("contained", "closed"),
    "contained": ("closed",),
    "closed": ("acknowledged",),
}
DISPOSITIONS = (
    "true_positive",
    "benign_positive",
    "false_positive.logic",
    "false_positive.data",
    "duplicate",
    "undetermined",
)
FIELDS = (  # what a state holds of its triage; alert events never touch it
    "status",
    "assignee",
    "disposition",
    "acknowledged_at",
    "closed_at",
    "changed",
    "changes",
)
_PAST = {"ack": "acknowledged", "assign": "assigned", "note": "noted", "close": "closed", "reopen": "reopened"}


class RefusedError(Exception):
    """The change is not allowed on the alert as it is now; the message says why and what is."""


@dataclass(slots=True, frozen=True)
class Change:
    """What one analyst wants to do with an alert. `time_us` is the wall clock, given by the caller."""

    action: str  # ack | assign | note | close | reopen
    who: str
    time_us: int
    note: str = ""
    status: str = ""  # note: the step to take with it
    assignee: str = ""  # assign: the new owner
    taken_from: str = ""  # assign: the owner that the caller believes it has
    disposition: str = ""  # close: what it turned out to be


def apply(state: Document, change: Change) -> tuple[Document, Document]:
    """Return the alert's state after the change and the entry of the triage log; RefusedError where not allowed."""
    own = state["querywatch"]
    before = own["status"]
    after = {"ack": "acknowledged", "close": "closed", "reopen": "acknowledged"}.get(change.action) or change.status
    after = after or before
    _check(own, change, after)
    changed = copy.deepcopy(state)
    new = changed["querywatch"]
    new.update(status=after, changed=rfc3339(change.time_us), changes=own.get("changes", 0) + 1)
    if change.action in {"ack", "reopen"}:
        new.setdefault("acknowledged_at", new["changed"])
        new["assignee"] = change.who
        new.pop("disposition", None)
        new.pop("closed_at", None)
    elif change.action == "assign":
        new["assignee"] = change.assignee
    elif change.action == "close":
        new.update(disposition=change.disposition, closed_at=new["changed"])
    return changed, _entry(changed, change, before)


def _check(own: Document, change: Change, after: str) -> None:
    before, owner = own["status"], own.get("assignee", "")
    if change.action == "ack" and owner not in {"", change.who} and before != "closed":
        raise RefusedError(f"{owner} has it ({before}{_since(own)}): to take it over, assign it --from its owner")
    if change.action == "reopen" and before != "closed":
        raise RefusedError(f"it is {before}, not closed{_since(own)}")
    if change.action == "ack" and before == "closed":
        raise RefusedError(f"it is closed{_since(own)}: reopen it instead")
    if after != before or change.action in {"ack", "close"}:
        _check_step(own, before, after)
    if change.action == "close" and change.disposition not in DISPOSITIONS:
        raise RefusedError(f"closing needs a disposition: {', '.join(DISPOSITIONS)}")
    if change.action == "assign":
        _check_assign(own, change)


def _check_step(own: Document, before: str, after: str) -> None:
    if after in NEXT[before]:
        return
    same = f"it is {before} already" if after == before else f"it is {before} and cannot become {after}"
    raise RefusedError(f"{same}{_since(own)}: from {before} it can become {' or '.join(NEXT[before])}")


def _check_assign(own: Document, change: Change) -> None:
    owner = own.get("assignee", "")
    if own["status"] == "closed":
        raise RefusedError(f"it is closed{_since(own)}: reopen it first")
    if not change.assignee:
        raise RefusedError("assigning needs an owner")
    if change.taken_from and change.taken_from != owner:
        raise RefusedError(f"{owner or 'nobody'} has it by now, not {change.taken_from}{_since(own)}")
    if owner not in {"", change.who, change.taken_from}:
        raise RefusedError(f"{owner} has it{_since(own)}: to take it over, assign it --from its owner")


def _since(own: Document) -> str:
    return f" since {own['changed'][:19].replace('T', ' ')} UTC" if own.get("changed") else ""


def entry_id(alert_id: str, change: Change) -> str:
    """Return the id of a change's log entry: the same when the same change is applied again."""
    return digest("triage", alert_id, change.action, change.who, str(change.time_us))


def _entry(state: Document, change: Change, before: str) -> Document:
    """Return the entry of the triage log."""
    own = state["querywatch"]
    after = own["status"]
    step = f", {before} → {after}" if after != before else ""
    said = {"assign": f" to {change.assignee}", "close": f" as {change.disposition}"}.get(change.action, "")
    triage = {"number": own["changes"], "from": before, "to": after, "reason": change.note}
    triage |= {name: own[name] for name in ("assignee", "disposition") if own.get(name)}
    return {
        "@timestamp": rfc3339(change.time_us),
        "ecs": {"version": ECS_VERSION},
        "message": f"{change.who} {_PAST[change.action]}{said}{step}",
        "event": {
            "id": entry_id(own["alert_id"], change),
            "kind": "event",
            "category": ["configuration"],
            "type": ["change"],
            "action": f"alert-{_PAST[change.action]}",
        },
        "rule": {"id": state["rule"]["id"], "uuid": state["rule"]["uuid"]},
        "user": {"id": change.who},
        "querywatch": {"alert_id": own["alert_id"], "namespace": own["namespace"], "triage": triage},
    }
