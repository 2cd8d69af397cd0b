"""Measure everything and print tables: `python -m tests.benchmarks [--quick] [--no-live] [--json] [--write FILE]`.

Figures of one core. In memory they are processor time, in turns with merely decoding the same messages, so that other
work on the machine weighs little; medians over rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests import servers
from tests.benchmarks import live, memory, stages
from tests.benchmarks.traffic import Traffic

SHOWN_BYTES = 512
WIDTHS = (30, 64, 784, 3072)
SMALL_POLL = 100


class Effort(NamedTuple):
    """How much to measure."""

    rounds: int
    flood: int  # fresh clients before the flood's first round
    live_messages: int
    live_rounds: int
    latency_s: float


FULL = Effort(rounds=7, flood=100_000, live_messages=30_000, live_rounds=3, latency_s=20)
QUICK = Effort(rounds=3, flood=20_000, live_messages=10_000, live_rounds=1, latency_s=8)


class Report:
    """Tables on the screen, and the same as plain text for a page."""

    def __init__(self, *, to_stderr: bool) -> None:
        self.screen = Console(highlight=False, stderr=to_stderr)
        self._page = Console(highlight=False, file=io.StringIO(), width=116)

    def say(self, what: Any) -> None:
        """Print to both, as it is."""
        for console in (self.screen, self._page):
            console.print(what, markup=False)

    def status(self, text: str) -> Any:
        """Say what is going on, on the screen only, while a block runs."""
        return self.screen.status(text)

    def table(self, title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        """Print a table."""
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        self.say("")
        self.say(table)

    def write(self, path: Path) -> None:
        """Replace what stands between the marks of a page."""
        before, mark, rest = path.read_text().partition("<!-- figures")
        first, end, after = rest.partition("<!-- end of figures -->")
        if not mark or not end:
            raise SystemExit(f"{path}: the marks <!-- figures … --> and <!-- end of figures --> are missing")
        lines = [line.rstrip() for line in str(self._page.file.getvalue()).strip().splitlines()]  # type: ignore[attr-defined]
        text = "\n".join(lines)
        path.write_text(f"{before}{mark}{first.splitlines()[0]}\n```\n{text}\n```\n{end}{after}")


def main() -> int:
    """Run all parts."""
    parser = argparse.ArgumentParser(prog="make bench", description="Speed, measured on this machine.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--no-live", action="store_true", help="without Kafka and Elasticsearch")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into a page, between its marks")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    report = Report(to_stderr=options.json)
    began = time.monotonic()
    found = in_memory(effort, report)
    if not options.no_live:
        found |= on_servers(effort, report)
    found["machine"] = _machine() | {"took_s": round(time.monotonic() - began)}
    if options.json:
        print(json.dumps(found))
    else:
        report.say(f"\n{found['machine']}")
    if options.write:
        report.write(options.write)
    return 0


def in_memory(effort: Effort, report: Report) -> dict[str, Any]:
    """Measure rates, hostile mixes, stages and state."""
    found: dict[str, Any] = {"rates": {}, "stages": {}}
    cases: dict[str, Callable[[], memory.Rate]] = {
        f"{width} floats": lambda width=width: memory.measure(Traffic(width), effort.rounds)  # type: ignore[misc]
        for width in WIDTHS
    }
    cases |= {
        "30 floats, one client with half of the traffic": lambda: memory.measure(Traffic(30, loud=0.5), effort.rounds),
        f"30 floats, after {effort.flood:,} fresh clients and amid more": lambda: memory.measure(
            Traffic(30, flood=0.9), effort.rounds, flood_first=effort.flood
        ),
        f"30 floats, {SMALL_POLL} records at a time": lambda: memory.measure(Traffic(30), effort.rounds, SMALL_POLL),
    }
    rows = []
    with report.status("in memory") as status:
        for name, case in cases.items():
            status.update(f"in memory: {name}")
            rate = case()
            found["rates"][name] = rate._asdict()
            shown = (f"{rate.decode_only:,.0f}", f"{rate.to_alerts:,.0f}", f"{rate.ratio:.2f}")
            rows.append((name, *shown, "yes" if rate.climber_found else "no"))
    columns = ("", "orjson.loads /s", "bytes to alerts /s", "ratio", "climber found")
    report.table("Messages a second of one core", columns, rows)
    for width in (30, 784):
        found["stages"][str(width)] = stages.stage_times(Traffic(width))
        found["stages"][f"{width}, {SMALL_POLL} at a time"] = stages.stage_times(Traffic(width), poll=SMALL_POLL)
    names = found["stages"]["30"]
    rows = [(name, *(f"{times.get(name, 0.0):.2f}" for times in found["stages"].values())) for name in names]
    report.table("Microseconds an event", ("floats", *found["stages"]), rows)
    found["renewal_ms"] = {str(width): stages.renewal_ms(Traffic(width)) for width in (30, 784)}
    times = ", ".join(f"{took:.1f} at {width} floats" for width, took in found["renewal_ms"].items())
    report.say(f"\nMilliseconds to measure a model's reference anew, once an hour: {times}")
    found["state"] = stages.state_bytes()
    sizes = [(name, f"{size:,.0f}") for name, size in found["state"].items() if size >= SHOWN_BYTES]
    report.table("Bytes of state a followed client", (f"arrays of {SHOWN_BYTES} or more", "bytes"), sizes)
    return found


def on_servers(effort: Effort, report: Report) -> dict[str, Any]:
    """Measure the service on a real broker, with both stores."""
    try:
        with report.status("starting Kafka"):
            kafka = servers.start_kafka()
    except servers.ServerError as error:
        report.say(f"not measured on servers: {error}")
        return {}
    found: dict[str, Any] = {"service": {}, "latency_ms": {}}
    try:
        for width, messages in ((30, effort.live_messages), (784, effort.live_messages // 5)):
            with report.status(f"the service beside a bare loop, {width} floats"):
                rate = live.throughput(kafka.address, width, messages, effort.live_rounds)
            found["service"][str(width)] = rate._asdict()
        rows = [
            (width, f"{r['bare']:,.0f}", f"{r['service']:,.0f}", f"{r['ratio_wall']:.2f}", f"{r['ratio_cpu']:.2f}")
            for width, r in found["service"].items()
        ]
        columns = ("floats", "poll + orjson.loads /s", "service /s", "ratio", "ratio of processor time")
        report.table("The service on Kafka, one partition", columns, rows)
        with report.status("time to the store: SQLite"):
            found["latency_ms"]["sqlite"] = live.latency(kafka.address, effort.latency_s)._asdict()
        found["latency_ms"]["elasticsearch"] = _elasticsearch(kafka.address, effort, report)
    finally:
        kafka.close()
    times = {store: row for store, row in found["latency_ms"].items() if row}
    rows = [
        (store, *(f"{row[p]:,.0f}" for p in ("p50", "p95", "p99")), str(row["alerts"])) for store, row in times.items()
    ]
    columns = ("store", "p50", "p95", "p99", "alerts")
    report.table(f"Milliseconds from Kafka to the store, {live.RATE_HZ} messages a second", columns, rows)
    return found


def _elasticsearch(bootstrap: str, effort: Effort, report: Report) -> dict[str, float]:
    try:
        with report.status("starting Elasticsearch"):
            node = servers.start_elasticsearch()
    except servers.ServerError as error:
        report.say(f"not measured with Elasticsearch: {error}")
        return {}
    try:
        with report.status("time to the store: Elasticsearch"):
            return live.latency(bootstrap, effort.latency_s, node.address)._asdict()
    finally:
        node.close()


def _machine() -> dict[str, Any]:
    load = os.getloadavg()[0]
    return {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(load, 1), "date": _today()}


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


if __name__ == "__main__":
    sys.exit(main())
