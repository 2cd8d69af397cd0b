"""The operating curve as a picture; needs matplotlib, the extra `querywatch[plots]`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from replay.evaluate.board import OWN
from replay.evaluate.score import Json


class NoPlotsError(RuntimeError):
    """matplotlib is not installed; the message says what to do."""


def require() -> None:
    """Raise NoPlotsError where nothing can be drawn: to be asked before the long work."""
    if find_spec("matplotlib") is None:
        raise NoPlotsError("--plot needs matplotlib: pip install 'querywatch[plots]'")


def plot(board: Json, path: Path) -> None:
    """Draw detection against benign clients alarmed into a PNG file, the other detectors as single points."""
    require()
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = board["systems"][OWN]["curve"]
    thresholds = [row["threshold"] for row in rows]
    for family in rows[0]["families"]:
        left.plot(thresholds, [_percent(row["families"][family]) for row in rows], label=family, marker=".")
    left.plot(thresholds, [_percent(row["hard"]) for row in rows], "k--", label="hard benign clients")
    left.plot(thresholds, [_percent(row["ordinary"]) for row in rows], "k:", label="ordinary benign clients")
    left.set(xlabel="threshold on the evidence, log10", ylabel="% alarmed", ylim=(-2, 102), title="by family")
    left.legend(fontsize="small")
    right.plot([_percent(r["hard"]) for r in rows], [_percent(r["campaigns"]) for r in rows], "o-", label=OWN)
    for row in (rows[0], rows[2], rows[-1]):
        right.annotate(str(row["threshold"]), (_percent(row["hard"]), _percent(row["campaigns"])))
    for name, system in board["systems"].items():
        if name != OWN and system["all"]:
            hard, found = system["benign"]["hard"]["medium"], system["all"]["all"]["campaigns"]
            right.plot([_percent(hard)], [_percent(found)], "s", label=name)
    right.set(xlabel="% of hard benign clients alarmed", ylabel="% of campaigns detected", xlim=(-2, 102))
    right.set(ylim=(-2, 102), title=f"all attacks, half: {board['half']}")
    right.legend(fontsize="small")
    figure.savefig(path, format="png", dpi=100, metadata={"Software": None})


def _percent(rate: Json) -> float:
    return 100 * (rate["rate"] or 0.0)
