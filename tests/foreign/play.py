"""Plays the jobs of a capture and writes it with the truth beside it."""

from __future__ import annotations

import hashlib
import random
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from detector.alerts import rfc3339
from detector.events import F64, I64
from replay.simulate import capture as files
from replay.simulate.attacks.protocol import TECHNIQUES
from replay.simulate.data import half_of
from replay.simulate.play import joined
from replay.simulate.run import Sent, encode, truth_path
from replay.simulate.scenario import START
from replay.simulate.victims import Victim
from tests.foreign.attack import Attack, Scene
from tests.foreign.benign import Kind, records
from tests.foreign.plan import DAY_S, Capture, Evasion, Job, jobs
from tests.foreign.served import Asked, Line, serve
from tests.foreign.timing import HOUR_S, times

_START_US = int(datetime.fromisoformat(START).timestamp() * 1e6)


class Written(NamedTuple):
    """How much was written."""

    events: int
    clients: int


def write(name: str, capture: Capture, out: Path, seed: int, *, quick: bool = False) -> Written:
    """Play a capture into `out`, the truth beside it."""
    truth: list[dict[str, Any]] = []
    with files.Spill() as spill, threadpool_limits(1):  # sums in one order whatever the number of cores
        for job in jobs(capture, seed, quick=quick):
            rng = np.random.default_rng([seed, 2, *name.encode(), job.number])
            try:
                time_us, lines, rows = _played(name, job, seed, rng)
            except Exception as error:
                error.add_note(f"while playing {job.what.name} on {job.model}")
                raise
            spill.add(time_us, job.number, lines)
            truth += rows
        events = spill.write(out).events
    truth_path(out).write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in truth))
    return Written(events, len({row["client"] for row in truth}))


def _played(name: str, job: Job, seed: int, rng: Generator) -> tuple[I64, list[bytes], list[dict[str, Any]]]:
    victim = serve(job.model, seed)
    scene = Scene(Line(victim, rng, job.queries, grid=job.evasion.grid), rng)
    np.random.seed(scene.seed)  # some tools know no other generator
    random.seed(scene.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools' own: no convergence, no torch, old calls
        scene.act(job.what.run if isinstance(job.what, Attack) else job.what.act)
    asked, own = _among_dummies(scene, job.evasion)
    n = len(asked.x)
    time_s = _times(job, rng, asked.call)
    who = np.arange(n) // job.evasion.block % job.evasion.ids
    clients = [_client(f"{seed}:{name}:{job.number}:{i}") for i in range(job.evasion.ids)]
    time_us = files.microseconds(time_s, _START_US)
    lines = encode(victim, clients, time_us, Sent(time_s, asked.x, asked.answer, asked.status, who), rng)
    shared = _hostile(job.what, job, scene, clients, time_us, own) if isinstance(job.what, Attack) else _calm(job.what)
    rows = []
    for i in np.unique(who).tolist():
        mine = time_us[who == i].tolist()
        about = {"client": clients[i]["id"], "start": rfc3339(mine[0]), "end": rfc3339(mine[-1]), "queries": len(mine)}
        rows.append(about | _about(victim) | shared)
    return time_us, lines, rows


def _times(job: Job, rng: Generator, call: I64) -> F64:
    """Return [n] times. A quarter of an ordinary client's queries lies in the first hour, so that models start well."""
    if job.begin > 0:
        return times(job.pace, rng, call, job.begin, DAY_S)
    early = len(call) // 4
    first = times(job.pace, rng, call[:early], float(rng.uniform(0, 0.2 * HOUR_S)), HOUR_S)
    rest = times(job.pace, rng, call[early:], float(rng.uniform(HOUR_S, 0.5 * DAY_S)), DAY_S)
    return np.concatenate([first, rest])


def _among_dummies(scene: Scene, evasion: Evasion) -> tuple[Asked, I64]:
    """Return what is sent, held-out records among the attack's own queries, and which are its own."""
    asked = scene.line.asked()
    n = len(asked.x)
    if not evasion.dummies:
        return asked, np.arange(n)
    own = np.cumsum(scene.rng.geometric(1 - evasion.dummies, n)) - 1
    dummy = np.setdiff1d(np.arange(own[-1] + 1), own)
    x = np.empty((int(own[-1]) + 1, asked.x.shape[1]), np.float32)
    x[own], x[dummy] = asked.x, records(scene, len(dummy))
    answer = scene.line.victim.serve(x[dummy], scene.rng)
    place = np.argsort(np.concatenate([own, dummy]))
    call = np.repeat(asked.call, np.diff(own, prepend=-1))
    return Asked(x, joined([asked.answer, answer]).take(place), np.full(len(x), 200, np.int16), call), own


def _client(text: str) -> dict[str, str]:
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    numbers = bytes.fromhex(digest[12:20])
    ip = ".".join(str(n % 223 + 1) for n in numbers)
    return {"id": f"app-{digest[:10]}", "kind": "api_key", "ip": ip}


def _about(victim: Victim) -> dict[str, Any]:
    return {
        **{"model": victim.name, "version": victim.version, "data": victim.data.name},
        **{"model_kind": victim.kind, "interface": victim.interface},
    }


def _calm(kind: Kind) -> dict[str, Any]:
    return {
        **{"hostile": False, "kind": kind.name, "hard": kind.hard, "explainer": kind.explainer, "family": None},
        **{"technique": None, "attack_start": None, "evasion": None, "campaign": None, "members": []},
        **{"succeeded": False},
    }


def _hostile(
    attack: Attack, job: Job, scene: Scene, clients: list[dict[str, str]], time_us: I64, own: I64
) -> dict[str, Any]:
    campaign = f"campaign-{clients[0]['id'][4:]}"
    return {
        **{"hostile": True, "kind": attack.name, "hard": False, "explainer": False, "family": attack.family},
        **{"technique": TECHNIQUES[attack.family], "attack_start": rfc3339(int(time_us[0]))},
        **{"attack_end": rfc3339(int(time_us[-1])), "attack_queries": len(own), "evasion": job.evasion.name},
        **{"campaign": campaign, "members": sorted(client["id"] for client in clients)},
        **{"half": half_of(campaign), "succeeded": _inverted(scene)},
    }


def _inverted(scene: Scene) -> bool | None:
    """Return whether an inversion found an input of true confidence 0.9 in the class that it was after.

    None for other attacks: they are not judged.
    """
    if not scene.found:
        return None
    targets, inputs = zip(*scene.found, strict=True)
    scores = scene.line.victim.scores(np.array(inputs, np.float32))
    return bool((scores[np.arange(len(targets)), targets] >= 0.9).any())
