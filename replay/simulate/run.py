"""Plays a scenario: every job by itself, its events encoded as prediction_event/1, its truth kept apart."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.random import Generator
from threadpoolctl import threadpool_limits

from detector.events import F32, F64, I16, I64
from replay.simulate import attacks, benign, capture, play, victims
from replay.simulate.benign.protocol import Setting
from replay.simulate.data import half_of
from replay.simulate.records import Source, source_of
from replay.simulate.scenario import MODELS, START, Job, Preset, Scenario, able_models, plan
from replay.simulate.victims import Answer, Victim

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class Played(NamedTuple):
    """Everything that one job sent, in order of time, and the truth about it."""

    time_us: I64  # [n]
    lines: list[bytes]  # [n] prediction_event/1
    truth: list[dict[str, Any]]  # one a client and model


class Summary(NamedTuple):
    """What a simulation wrote."""

    events: int
    bytes: int
    clients: int
    campaigns: int
    succeeded: int
    capture: Path
    truth: Path


def simulate(
    scenario: Scenario,
    out: Path,
    progress: Callable[[Job], None] = lambda _: None,
    workers: int = 1,
    training: Path | None = None,
) -> Summary:
    """Play a scenario into a capture and its truth file; the number of workers does not change a byte of them.

    `progress` is told of each finished job. `training` is a folder for the training records of every model, one array
    [n, d] of float32 each: what an owner would index.
    """
    truth: list[dict[str, Any]] = []
    with capture.Spill() as spill, threadpool_limits(1):  # BLAS sums in another order with more threads
        for job, played in _performed(scenario, workers):
            spill.add(played.time_us, job.number, played.lines)
            truth += played.truth
            progress(job)
        written = spill.write(out)
    beside = truth_path(out)
    with capture.opened(beside) as file:
        file.write(b"".join(orjson.dumps(line, option=_JSON) for line in truth))
    for name in scenario.models if training else ():
        np.save(Path(training or "") / f"{name}.npy", victims.build(name, scenario.seed).data.members.x)
    campaigns = {line["campaign"]: line["succeeded"] for line in truth if line["campaign"]}
    clients = len({line["client"] for line in truth})
    return Summary(*written, clients, len(campaigns), sum(campaigns.values()), out, beside)


def stream(name: str, queries: int, seed: int, model: str = "") -> Played:
    """Return what one attacker or one benign client of this name sends: for tests of rules and detectors.

    The model is the first of the usual ones that suits. Raises UnknownNameError or ScenarioError.
    """
    hostile = name in attacks.catalogue()
    models = (model,) if model else MODELS
    wanted, kinds = ((name,), ()) if hostile else ((), (name,))
    preset = Preset(24, models, int(not hostile), queries, int(hostile), wanted, kinds, evasions=("none",))
    scenario = plan(preset, seed)
    able = able_models(name, preset, seed)
    job = replace(scenario.jobs[0], models=able[:1], queries=queries, snap=False)
    with threadpool_limits(1):
        return perform(scenario, job)


def _performed(scenario: Scenario, workers: int) -> Iterator[tuple[Job, Played]]:
    """Yield jobs in their order, played here or by a few processes that are never far ahead."""
    if workers == 1:
        for job in scenario.jobs:
            yield job, perform(scenario, job)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), threadpool_limits, (1,)) as pool:
        waiting: deque[tuple[Job, Future[Played]]] = deque()
        for job in scenario.jobs:
            waiting.append((job, pool.submit(perform, scenario, job)))
            if len(waiting) >= 4 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def truth_path(out: Path) -> Path:
    """Return where the truth of a capture lies: x.jsonl.gz → x.truth.jsonl."""
    return capture.stem(out).with_name(capture.stem(out).name + ".truth.jsonl")


def perform(scenario: Scenario, job: Job) -> Played:
    """Play one job; it depends on the scenario's seed and the job alone."""
    rng = np.random.default_rng([scenario.seed, 2, job.number])
    return (_attack if job.hostile else _benign)(scenario, job, rng)


def _benign(scenario: Scenario, job: Job, rng: Generator) -> Played:
    kind = benign.kind_named(job.name)
    client = _client(scenario, job, 0)
    parts = []
    for name in job.models:
        victim = victims.build(name, scenario.seed)
        source = source_of(victim.data.name, scenario.seed, half_of(client["id"]))
        asked = kind.run(rng, Setting(victim, source, job.begin, job.end, job.queries))
        answer = victim.serve(asked.x, rng)
        who = np.zeros(len(asked.x), np.int64)
        sent = Sent(asked.time_s, asked.x, answer, asked.status, who)
        row = {"family": None, "hard": kind.hard, "explainer": kind.explainer}
        parts.append(_finish(job, victim, [client], sent, rng, row))
    return _merged(parts)


def _attack(scenario: Scenario, job: Job, rng: Generator) -> Played:
    plan, evasion = attacks.attack_named(job.name), job.evasion
    clients = [_client(scenario, job, i) for i in range(evasion.ids)]
    campaign = f"campaign-{_hash(scenario, job, 'campaign')[:8]}"
    half = half_of(campaign if len(clients) > 1 else clients[0]["id"])
    victim = victims.build(job.models[0], scenario.seed)
    source = source_of(victim.data.name, scenario.seed, half)
    script = play.attack(plan, victim, source, evasion, job.queries, rng, job.snap)
    time_s = play.times(script, evasion, plan.batch, rng, job.begin, job.end)
    who = play.identities(evasion, len(time_s), rng)
    sent = Sent(time_s, script.x, script.answer, np.full(len(time_s), 200, np.int16), who)
    if evasion.history:
        sent = _after_history(sent, victim, source, evasion.history, rng)
    verdict = script.verdict
    row = {
        **{"family": plan.family, "technique": plan.technique, "evasion": evasion.name, "campaign": campaign},
        **{"members": sorted({clients[i]["id"] for i in who.tolist()}), "half": half},
        **{"attack_start": _moment(time_s[0]), "attack_end": _moment(time_s[-1])},
        **{"attack_queries": int(script.own.sum()), "snapped": job.snap, "succeeded": verdict.succeeded},
        "measure": {"name": verdict.measure, "value": verdict.value, "level": verdict.level, **verdict.detail},
    }
    return _finish(job, victim, clients, sent, rng, row)


class Sent(NamedTuple):
    """What one job sent, query by query: when, what, the answer, the HTTP status, and which of its clients."""

    time_s: F64
    x: F32
    answer: Answer
    status: I16
    who: I64


def _after_history(sent: Sent, victim: Victim, source: Source, n: int, rng: Generator) -> Sent:
    """Put benign queries of the same key before the attack."""
    x = source.draw(rng, n).x
    time_s = np.sort(rng.uniform(0, sent.time_s[0], n))
    return Sent(
        np.concatenate([time_s, sent.time_s]),
        np.concatenate([x, sent.x]),
        play.joined([victim.serve(x, rng), sent.answer]),
        np.full(n + len(sent.x), 200, np.int16),
        np.zeros(n + len(sent.x), np.int64),
    )


def _finish(
    job: Job,
    victim: Victim,
    clients: list[dict[str, str]],
    sent: Sent,
    rng: Generator,
    row: dict[str, Any],
) -> Played:
    time_us = capture.microseconds(sent.time_s, _start_us())
    lines = encode(victim, clients, time_us, sent, rng)
    truth = []
    for i in np.unique(sent.who).tolist():
        mine = time_us[sent.who == i]
        base = {
            **{"client": clients[i]["id"], "model": victim.name, "version": victim.version, "kind": job.name},
            **{"hostile": job.hostile, "family": None, "technique": None, "hard": False, "explainer": False},
            **{
                "half": half_of(clients[i]["id"]),
                "start": _text(mine[:1])[0],
                "end": _text(mine[-1:])[0],
                "queries": len(mine),
            },
            **{"attack_start": None, "attack_end": None, "attack_queries": 0, "evasion": None, "snapped": False},
            **{"campaign": None, "members": [], "succeeded": False, "measure": None},
            **{"data": victim.data.name, "model_kind": victim.kind, "interface": victim.interface},
        }
        truth.append(base | row)
    return Played(time_us, lines, truth)


def encode(victim: Victim, clients: list[dict[str, str]], time_us: I64, sent: Sent, rng: Generator) -> list[bytes]:
    """Return the events as lines of JSON."""
    moments, outputs = _text(time_us), victim.output(sent.answer)
    latency = np.round(rng.gamma(4, 0.8, len(moments)), 2).tolist()
    request = rng.integers(0, 2**63, len(moments)).tolist()
    model = {"name": victim.name, "version": victim.version}
    lines = []
    for i, (who, status) in enumerate(zip(sent.who.tolist(), sent.status.tolist(), strict=True)):
        event = {
            "schema": "prediction_event/1",
            "event_time": moments[i],
            "request_id": f"{request[i]:016x}",
            "client": clients[who],
            "model": model,
            "status": status,
            "latency_ms": latency[i],
            "input": {"vector": sent.x[i]},
        }
        if status == 200:
            event["output"] = outputs[i]
        lines.append(orjson.dumps(event, option=_JSON))
    return lines


def _merged(parts: list[Played]) -> Played:
    time_us = np.concatenate([part.time_us for part in parts])
    lines = [line for part in parts for line in part.lines]
    order = np.argsort(time_us, kind="stable")
    return Played(time_us[order], [lines[i] for i in order.tolist()], [row for part in parts for row in part.truth])


def _client(scenario: Scenario, job: Job, i: int) -> dict[str, str]:
    digest = _hash(scenario, job, str(i))
    octets = bytes.fromhex(digest[16:24])
    ip = f"{(octets[0] % 222) + 1}.{octets[1]}.{octets[2]}.{octets[3] or 1}"
    return {"id": f"key-{digest[:10]}", "kind": "api_key", "ip": ip}


def _hash(scenario: Scenario, job: Job, what: str) -> str:
    return hashlib.blake2b(f"{scenario.seed}:{job.number}:{what}".encode(), digest_size=16).hexdigest()


def _start_us() -> int:
    return int(datetime.fromisoformat(START).timestamp() * 1e6)


def _moment(time_s: float) -> str:
    return _text(capture.microseconds(np.array([time_s]), _start_us()))[0]


def _text(time_us: I64) -> list[str]:
    texts = np.datetime_as_string(time_us.astype("datetime64[us]"), unit="us")
    return [f"{text}Z" for text in texts.tolist()]
