"""`querywatch rules …`: list, show, check and lock detection rules; print the catalogue of signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer

from detector.conditions import Condition, Every, Threshold, as_data
from detector.rules import Problem, Rule, RulesError, Ruleset, catalogue, default_folder, load_rules
from detector.rules_lock import LOCK, logic_hash, write_lock
from detector.rules_yaml import nearest
from detector.settings import SettingsError, load_settings

app = typer.Typer(name="rules", help="Detection rules as code.", no_args_is_help=True, pretty_exceptions_enable=False)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--rules", metavar="DIR", exists=True, file_okay=False, help="Folder of rules; default: the settings'."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Day = Annotated[
    str, typer.Option("--today", metavar="DATE", help="Day against which exceptions expire; default: today.")
]


@app.command("list")
def list_rules(rules: Folder = None, json: AsJson = False) -> None:
    """List the rules with stage, severity and technique."""
    ruleset = _load(lambda: load_rules(_folder(rules), None))
    rows = [_summary(rule, ruleset) for rule in ruleset.rules]
    if json:
        _print_json(rows)
    else:
        _print_table(rows, ("id", "version", "stage", "status", "family", "severity", "technique", "title"))


@app.command()
def show(rule: str, rules: Folder = None, json: AsJson = False) -> None:
    """Show one rule: its condition, its ladder, what it misses and what to do about an alert."""
    ruleset = _load(lambda: load_rules(_folder(rules), None))
    found = next((r for r in ruleset.rules if rule in (r.id, r.uuid)), None)
    if found is None:
        _stop(f"no rule {rule!r}{nearest(rule, [r.id for r in ruleset.rules])}")
    if json:
        _print_json(_in_full(found, ruleset))
    else:
        typer.echo("\n".join(_page(found, ruleset)))


@app.command()
def check(rules: Folder = None, json: AsJson = False, today: Day = "") -> None:
    """Check every rule; print all faults with file, line and column, and exit with 1 where there are any."""
    from replay.simulate import attacks, benign

    day = _day(today)
    folder = _folder(rules)
    try:
        ruleset = load_rules(folder, catalogue(), today=day, attacks=attacks.catalogue(), benign=benign.catalogue())
    except RulesError as error:
        _report(error.problems, folder, json)
        raise typer.Exit(1) from None
    if json:
        _print_json({"folder": str(folder), "rules": len(ruleset.rules), "hash": ruleset.hash, "problems": []})
    else:
        typer.echo(f"{len(ruleset.rules)} rules in {folder}: no faults")


@app.command()
def signals(json: AsJson = False) -> None:
    """Print the catalogue of signals that rules may name."""
    rows = [signal._asdict() for signal in catalogue().values()]
    if json:
        _print_json(rows)
    else:
        shown = [{**row, "range": f"{row['low']:g} to {row['high']:g}"} for row in rows]
        _print_table(shown, ("name", "unit", "range", "meaning"))


@app.command()
def lock(rules: Folder = None) -> None:
    """Rewrite rules.lock; refused while a rule's logic changed without a new version."""
    folder = _folder(rules)
    ruleset = _load(lambda: load_rules(folder, catalogue(), fresh_lock=False))
    try:
        write_lock(folder, ruleset.rules)
    except OSError as error:
        _stop(f"{folder / LOCK}: {error.strerror}")
    typer.echo(f"{folder / LOCK}: {len(ruleset.rules)} rules")


def _folder(given: Path | None) -> Path:
    try:
        return given or load_settings().rules or default_folder()
    except SettingsError as error:
        _stop(str(error))


def _load(load: Callable[[], Ruleset]) -> Ruleset:
    try:
        return load()
    except RulesError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(1) from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text) if text else datetime.now(UTC).date()  # noqa: TID251 - a command, not the core
    except ValueError:
        _stop(f"--today {text!r}: write a date as 2026-12-31")


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _report(problems: Iterable[Problem], folder: Path, json: bool) -> None:
    problems = list(problems)
    if json:
        _print_json({"folder": str(folder), "problems": [problem._asdict() for problem in problems]})
        return
    for problem in problems:
        typer.echo(str(problem))
    typer.echo(f"{len(problems)} fault{'s' if len(problems) > 1 else ''} in {folder}", err=True)


def _summary(rule: Rule, ruleset: Ruleset) -> dict[str, Any]:
    technique = ruleset.atlas.techniques[rule.attack]
    return {
        "id": rule.id,
        "uuid": rule.uuid,
        "version": rule.version,
        "title": rule.title,
        "status": rule.status,
        "stage": rule.stage,
        "family": rule.family,
        "severity": "–".join(dict.fromkeys((rule.severity, *(step.severity for step in rule.escalate[-1:])))),
        "technique": technique.id,
        "technique_name": technique.name,
        "hash": logic_hash(rule),
    }


def _in_full(rule: Rule, ruleset: Ruleset) -> dict[str, Any]:
    ladder = [{"when": as_data(step.when), "severity": step.severity} for step in rule.escalate]
    own = {**asdict(rule), "when": as_data(rule.when), "escalate": ladder, "episode_s": rule.episode // 1_000_000}
    del own["episode"]
    return {**own, "technique": ruleset.atlas.techniques[rule.attack]._asdict(), "hash": logic_hash(rule)}


def _page(rule: Rule, ruleset: Ruleset) -> list[str]:
    technique = ruleset.atlas.techniques[rule.attack]
    tactics = ", ".join(name for _, name in technique.tactics)
    lines = [
        f"{rule.id} version {rule.version}: {rule.title}",
        f"stage {rule.stage}, status {rule.status}, family {rule.family}, uuid {rule.uuid}",
        f"{technique.id} {technique.name} ({tactics}; ATLAS {ruleset.atlas.version})",
        f"models {', '.join(rule.models.include)}" + "".join(f", not {glob}" for glob in rule.models.exclude),
        f"episode ends after {rule.episode // 1_000_000} s without a match",
        "",
        f"{rule.severity:<9}{_text(rule.when)}",
        *(f"{step.severity:<9}and {_text(step.when)}" for step in rule.escalate),
    ]
    for exception in rule.exceptions:
        clients = ", ".join(exception.client)
        lines.append(f"except   {clients} until {exception.expires}: {exception.reason} ({exception.owner})")
    lines += ["", "Misses:", *(f"- {line}" for line in rule.blind_spots)]
    lines += ["", "Mistakes for it:", *(f"- {line}" for line in rule.false_positives)]
    if rule.respond.containment:
        proposed = ", ".join(f"{k} {v}" for k, v in rule.respond.containment.as_data().items())
        lines += ["", f"Containment: {proposed}"]
    return [*lines, "", "Playbook:", rule.respond.playbook.rstrip()]


def _text(condition: Condition) -> str:
    if isinstance(condition, Threshold):
        return f"{condition.signal} {condition.op} {condition.value:g}"
    inner = (" and " if isinstance(condition, Every) else " or ").join(_text(part) for part in condition.parts)
    return f"({inner})"


def _print_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [[*columns], *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_json(data: Any) -> None:
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
