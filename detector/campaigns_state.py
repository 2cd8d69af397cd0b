"""The state of campaigns as arrays for a checkpoint, and back.

Every piece goes with one partition: a kin with that of its events, a group with that of its founder, a remembered query
with its own. All partitions of a worker together are the whole; what a partition leaves behind on a worker goes on
without it: queries of members elsewhere are not pooled any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from detector.baseline import Baselines
from detector.campaigns import Campaigns
from detector.events import I64, ModelRef

Arrays = dict[str, np.ndarray]


def export(campaigns: Campaigns, baselines: Baselines, partition: int) -> Arrays:
    """Return everything of one partition, by name."""
    world, book = campaigns.world, campaigns.book
    kin = np.flatnonzero((world.kin.key != 0) & (world.kin.partition == partition))
    groups = np.flatnonzero((world.groups.serial != 0) & (book.partition == partition))
    m, w = np.nonzero((world.ring.owners != 0) & (world.ring.partitions == partition))
    known = {int(key): campaigns.names[int(key)] for key in world.kin.key[kin] if int(key) in campaigns.names}
    models = [(ref.name, ref.version) for ref in baselines.known]
    out: Arrays = {
        "campaign.words": _packed((sorted(known.items()), models)),
        "campaign.dropped": np.array([campaigns.dropped]),
        "kin.place": kin,
        "group.place": groups,
        "ring.place": np.stack([m, w]),
        "ring.rows": world.ring.rows[m, :, w],
        "ring.owners": world.ring.owners[m, w],
        "ring.total": world.ring.total[: len(models)].copy(),
    }
    out |= {f"kin.{name}": column[kin] for name, column in world.kin._asdict().items()}
    return out | {f"group.{name}": column[groups] for name, column in _of_groups(campaigns)}


def restore(campaigns: Campaigns, baselines: Baselines, partition: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Take in what `export` gave, after the baselines; places that are taken are left, what finds none is lost."""
    world = campaigns.world
    names, models = msgspec.msgpack.decode(arrays["campaign.words"].tobytes(), type=_Words)
    campaigns.names |= dict(names)
    campaigns.dropped = max(campaigns.dropped, int(arrays["campaign.dropped"][0]))
    kin, some = _places(world.kin.key, arrays["kin.place"])
    for name, column in world.kin._asdict().items():
        column[kin] = arrays[f"kin.{name}"][some]
    groups, some = _places(world.groups.serial, arrays["group.place"])
    for name, column in _of_groups(campaigns):
        column[groups] = arrays[f"group.{name}"][some]
    here = np.array([baselines.known.get(ModelRef(*ref), -1) for ref in models], np.int64)
    m, w = arrays["ring.place"]
    for row in np.flatnonzero(here[m] >= 0).tolist():
        at = here[m[row]], w[row]
        world.ring.rows[at[0], :, at[1]] = arrays["ring.rows"][row]
        world.ring.owners[at] = arrays["ring.owners"][row]
        world.ring.partitions[at] = partition
    for model, total in zip(here.tolist(), arrays["ring.total"].tolist(), strict=True):
        if model >= 0:
            world.ring.total[model] = max(world.ring.total[model], total)


def drop(campaigns: Campaigns, partition: int) -> None:
    """Forget what belongs to a partition that another worker has taken over."""
    world, book = campaigns.world, campaigns.book
    for g in np.flatnonzero((world.groups.serial != 0) & (book.partition == partition)).tolist():
        campaigns.clear(g)
    gone = (world.kin.key != 0) & (world.kin.partition == partition)
    for key in world.kin.key[gone].tolist():
        campaigns.names.pop(key, None)
    for column in world.kin:
        column[gone] = 0
    world.ring.owners[world.ring.partitions == partition] = 0


_Words = tuple[list[tuple[int, tuple[str, str]]], list[tuple[str, str]]]


def _packed(words: _Words) -> np.ndarray:
    return np.frombuffer(msgspec.msgpack.encode(words), np.uint8)


def _of_groups(campaigns: Campaigns) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array whose first axis is the group."""
    states = {"count": campaigns.world.groups, "book": campaigns.book, **campaigns.tracks.states}
    for owner, state in states.items():
        for name, column in state._asdict().items():
            yield f"{owner}.{name}", column


def _places(taken: np.ndarray, wanted: I64) -> tuple[I64, I64]:
    """Return where rows go, and which of them: to their old places if all of these are free, else to free ones."""
    if not len(wanted) or (wanted.max() < len(taken) and not taken[wanted].any()):
        return wanted, np.arange(len(wanted))
    free = np.flatnonzero(taken == 0)[: len(wanted)]
    return free, np.arange(len(free))
