"""Plays benign clients and attacks against an HTTP endpoint on the real clock, and writes what a gateway would log.

First a benign client sends genuine records, which tells how the model answers them; then all clients take turns, one
request after the other, attackers once benign traffic is under way. The capture is written as it happens; the truth
when it ends, however it ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import orjson
from scipy.special import softmax

from detector.events import F32, F64
from replay.simulate import attacks, benign, capture
from replay.simulate.attacks.protocol import Attack, Family, Moved, Outcome
from replay.simulate.benign.protocol import Kind, Setting
from replay.simulate.data import Part, half_of
from replay.simulate.endpoint import Endpoint, EndpointError, Reply, Target
from replay.simulate.judge import Verdict, judge
from replay.simulate.models import Model, fit
from replay.simulate.play import joined, knowledge
from replay.simulate.records import Source
from replay.simulate.run import truth_path
from replay.simulate.samples import Samples, dataset
from replay.simulate.victims import Answer, Victim

LABELLED = 300  # genuine records that are sent first
MAX_QUERIES = 10_000  # of one client
_TRIES = 5  # of one query
_BACK_OFF_S = 0.25
_BENIGN_FIRST = 0.3  # the share of benign queries after which attackers begin
_JUDGED: tuple[Family, ...] = ("inversion", "extraction", "adversarial_search")  # by answers; others need the owner
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE

Script = Generator[F32, Answer, Outcome | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Who asks: benign kinds and attacks by name, at most `queries` each (None: what they usually need)."""

    kinds: tuple[str, ...]
    attacks: tuple[str, ...]
    queries: int | None = None
    seed: int = 1


class Summary(NamedTuple):
    """What was written. `stopped` is "", "interrupted", or why it ended early."""

    events: int
    failed: int  # calls without an answer, among the events
    clients: int
    campaigns: int
    succeeded: int
    capture: Path
    truth: Path
    stopped: str
    notes: list[str]


@dataclass(slots=True)
class _Client:
    id: str
    ip: str
    name: str
    budget: int
    attack: Attack | None = None
    kind: Kind | None = None
    script: Script | None = None  # None: its script has ended
    waiting: F32 | None = None  # the next query
    sent: int = 0
    events: int = 0
    first: str = ""  # moment of the first event
    last: str = ""
    answered: dict[bytes, dict[str, Any]] = field(default_factory=dict)  # query → output
    verdict: Verdict | None = None


def planned(plan: Plan) -> int:
    """Return how many queries a plan sends at most. Raises UnknownNameError, or EndpointError for a wrong number."""
    if plan.queries is not None and not 1 <= plan.queries <= MAX_QUERIES:
        raise EndpointError(f"--queries must be from 1 to {MAX_QUERIES:,} for each client")
    budgets = [plan.queries or 60 for name in plan.kinds if benign.kind_named(name)]
    return LABELLED + sum(budgets) + sum(plan.queries or attacks.attack_named(name).budget for name in plan.attacks)


def run(
    target: Target, samples: Samples, plan: Plan, out: Path, progress: Callable[[], None] = lambda: None
) -> Summary:
    """Play the plan. Whatever ends it early, Ctrl-C too, leaves a valid capture with its truth.

    Raises EndpointError only before anything was sent.
    """
    most = planned(plan)
    with capture.opened(out) as file:
        play = _Play(target, samples, plan, file, most, progress)
        try:
            stopped = play.all()
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            play.endpoint.close()
    rows = play.truth()
    with capture.opened(truth_path(out)) as file:
        file.write(b"".join(orjson.dumps(row, option=_JSON) for row in rows))
    hostile = [row for row in rows if row["hostile"]]
    succeeded = sum(row["succeeded"] is True for row in hostile)
    return Summary(
        play.events, play.failed, len(rows), len(hostile), succeeded, out, truth_path(out), stopped, play.notes
    )


class _Play:
    def __init__(
        self, target: Target, samples: Samples, plan: Plan, out: IO[bytes], most: int, progress: Callable[[], None]
    ) -> None:
        self.endpoint = Endpoint(target, samples.row_shape)
        self.events = self.failed = 0
        self.notes: list[str] = []
        self._plan, self._samples, self._out, self._progress = plan, samples, out, progress
        self._calls_left = most + most // 10 + 50  # failed calls are asked again, but not for ever
        self._rng = np.random.default_rng(plan.seed)
        self._run_id = time.time_ns()  # two runs against one deployment are different clients
        self._clients: list[_Client] = []
        self._names: dict[str | int, int] = {}  # label → class, where the endpoint answers labels
        self._interface, self._logits, self._last_us, self._classes = "", False, 0, 0

    def all(self) -> str:
        """Play everything; return "" or why it ended early."""
        try:
            victim = self._victim(self._label())
            self._cast(victim)
            self._take_turns()
        except EndpointError as error:
            return str(error)
        return ""

    def _label(self) -> Part:
        """Send genuine records as the first benign client, and learn how the endpoint answers."""
        x = self._samples.x[self._rng.permutation(len(self._samples.x))[:LABELLED]]
        client = self._client("batch", len(x), kind=benign.kind_named("batch"))
        outputs = [self._send(client, row) for row in x]
        widths = {len(output.get("scores", ())) for output in outputs}
        if len(widths) > 1:
            raise EndpointError("the endpoint gives different numbers of scores for different records")
        self._interface = "scores" if widths != {0} else "label"
        seen = sorted({output["label"] for output in outputs}, key=lambda label: (isinstance(label, str), label))
        if len(seen) < 2:
            raise EndpointError(f"the endpoint gives all {len(x)} samples the same class: give samples of several")
        if self._interface == "scores":
            self._classes = widths.pop()
            told = np.array([output["scores"] for output in outputs])
            self._logits = bool((told < 0).any() or (told > 1).any())
            return Part(x, np.array([output["label"] for output in outputs], np.int64))
        self._names, self._classes = {label: i for i, label in enumerate(seen)}, len(seen)
        return Part(x, np.array([self._names[output["label"]] for output in outputs], np.int64))

    def _victim(self, part: Part) -> Victim:
        """Return what benign clients and attackers know of the model: labelled samples, and a rough copy of it.

        The copy stands in where analysts know scores from earlier work; no attack sees it.
        """
        data = dataset(self._samples, part, self._classes, self._rng)
        known = np.unique(part.y)
        rough = fit("logistic", part, self._plan.seed % 2**31)

        def forward(x: F32) -> F64:
            scores = np.zeros((len(x), self._classes))
            scores[:, known] = rough.forward(x)
            return scores

        return Victim(
            self.endpoint.target.model, "1", data, "endpoint", self._interface, Model(rough.estimator, forward)
        )

    def _cast(self, victim: Victim) -> None:
        """Make the clients. Raises EndpointError where one does not suit the endpoint."""
        source = Source(victim.data)
        for name in self._plan.kinds:
            kind = benign.kind_named(name)
            if not kind.suits(victim.data):
                raise EndpointError(f"benign kind {name} does not suit these samples")
            client = self._client(name, self._plan.queries or 60, kind=kind)
            setting = Setting(victim, source, 0.0, 86_400.0, client.budget)
            client.script = _benign_script(kind.run(self._rng, setting).x[: client.budget])
        for name in self._plan.attacks:
            attack = attacks.attack_named(name)
            if self._interface not in attack.interfaces:
                raise EndpointError(f"attack {name} is not for endpoints that answer with {self._interface} only")
            if not attack.suits(victim.data):
                raise EndpointError(f"attack {name} does not suit these samples")
            client = self._client(name, self._plan.queries or attack.budget, attack=attack)
            client.script = self._attack_script(client, attack, victim, source)

    def _attack_script(self, client: _Client, attack: Attack, victim: Victim, source: Source) -> Script:
        know, member = knowledge(attack.family, victim, source, self._rng)
        know = replace(know, targets=self._rng.permutation(np.unique(victim.data.members.y)))
        game = attack.run(self._rng, know, client.budget)
        try:
            x = next(game)
            while True:
                rows = np.ascontiguousarray(np.atleast_2d(x), np.float32)
                answers = []
                for row in rows:
                    answers.append((yield row))
                x = game.send(joined(answers))
        except StopIteration as end:
            outcome: Outcome = end.value
        if attack.family in _JUDGED:
            seen = replace(victim, model=Model(None, lambda x: self._remembered(client, x)))
            client.verdict = judge(_settled(outcome, client), seen, know, member)
        return outcome

    def _remembered(self, client: _Client, x: F32) -> F64:
        """Return the scores that this attacker or the first client was given; zeros where neither asked."""
        scores = np.zeros((len(x), self._classes))
        for i, row in enumerate(x):
            key = row.tobytes()
            if output := client.answered.get(key) or self._clients[0].answered.get(key):
                scores[i] = self._scores(output)
        return scores

    def _take_turns(self) -> None:
        benign_left = sum(c.budget for c in self._clients if c.kind and c.script)
        wait_for = (1 - _BENIGN_FIRST) * benign_left
        for client in self._clients:
            self._step(client, None)
        while live := [client for client in self._clients if client.script]:
            gentle = [client for client in live if client.kind]
            left = sum(client.budget - client.sent for client in gentle)
            turn = gentle if gentle and left > wait_for else live
            weight = np.array([max(1, client.budget - client.sent) for client in turn], np.float64)
            client = turn[int(self._rng.choice(len(turn), p=weight / weight.sum()))]
            if client.waiting is None or client.sent >= client.budget:
                client.script = None
                continue
            query = client.waiting
            self._step(client, self._answer(self._send(client, query)))

    def _step(self, client: _Client, answer: Answer | None) -> None:
        """Let a client choose its next query."""
        if client.script is None:
            return
        try:
            client.waiting = next(client.script) if answer is None else client.script.send(answer)
        except StopIteration:
            client.script = None
            if client.attack and not client.sent:
                self.notes.append(
                    f"{client.name} cannot start with {client.budget} queries; it usually has {client.attack.budget}"
                )
        except (ValueError, IndexError, ArithmeticError) as error:
            client.script = None
            self.notes.append(f"{client.name} ended early: it cannot work with these samples ({error})")

    def _send(self, client: _Client, row: F32) -> dict[str, Any]:
        """Send one query until it is answered, recording every call; return the output of the event."""
        problem = ""
        for attempt in range(_TRIES):
            if self._calls_left <= 0:
                raise EndpointError(f"too many failed calls in all, the last time because {problem or 'of its answer'}")
            self._calls_left -= 1
            reply = self._call(client, row)
            if reply.output is not None:
                client.sent += 1
                self._progress()
                client.answered[row.tobytes()] = reply.output
                return reply.output
            problem = reply.problem
            if reply.final:
                break
            if attempt < _TRIES - 1:
                time.sleep(max(reply.wait_s, _BACK_OFF_S * 2**attempt))
        calls = "" if reply.final else f" ({_TRIES} calls in a row)"
        raise EndpointError(f"{self.endpoint.target.shown}: {problem}{calls}")

    def _call(self, client: _Client, row: F32) -> Reply:
        self.endpoint.wait_turn()
        self._last_us = max(self._last_us + 1, time.time_ns() // 1000)  # event times never go back
        moment = f"{np.datetime64(self._last_us, 'us')}Z"
        request_id = f"{int(self._rng.integers(0, 2**63)):016x}"
        try:
            reply = self.endpoint.ask(row, request_id, client.id)
        except KeyboardInterrupt:  # the endpoint may well have seen it
            self._record(client, moment, request_id, row, Reply(499, 0.0))
            raise
        self._record(client, moment, request_id, row, reply)
        return reply

    def _record(self, client: _Client, moment: str, request_id: str, row: F32, reply: Reply) -> None:
        event = {
            "schema": "prediction_event/1",
            "event_time": moment,
            "request_id": request_id,
            "client": {"id": client.id, "kind": "api_key", "ip": client.ip},
            "model": {"name": self.endpoint.target.model, "version": "1"},
            "status": reply.status,
            "latency_ms": reply.latency_ms,
            "input": {"vector": row},
        }
        if reply.output is not None:
            event["output"] = reply.output
        self._out.write(orjson.dumps(event, option=_JSON))
        self.events += 1
        self.failed += reply.output is None
        client.events += 1
        client.first, client.last = client.first or moment, moment

    def _answer(self, output: dict[str, Any]) -> Answer:
        """Return an answer as attackers read it. Raises EndpointError where its form has changed."""
        if len(output.get("scores", ())) != (self._classes if self._interface == "scores" else 0):
            raise EndpointError(f"{self.endpoint.target.shown}: its answers no longer have the form of the first ones")
        scores = self._scores(output)[None]
        if self._interface == "scores":
            return Answer(scores.argmax(1), scores.max(1), scores, self._classes)
        label = self._names.setdefault(output["label"], len(self._names))
        return Answer(np.array([label]), None, None, self._classes)

    def _scores(self, output: dict[str, Any]) -> F64:
        """Return [classes] scores: logits as probabilities, labels as 1 and 0."""
        if self._interface == "scores":
            told = np.asarray(output["scores"], np.float64)
            return np.asarray(softmax(told)) if self._logits else told
        return np.asarray(np.arange(self._classes) == self._names.get(output["label"], -1), np.float64)

    def _client(self, name: str, budget: int, attack: Attack | None = None, kind: Kind | None = None) -> _Client:
        text = f"{self._plan.seed}:{self._run_id}:{len(self._clients)}"
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        ip = f"{(digest[8] % 222) + 1}.{digest[9]}.{digest[10]}.{digest[11] or 1}"
        self._clients.append(_Client(f"key-{digest.hex()[:10]}", ip, name, budget, attack, kind))
        return self._clients[-1]

    def truth(self) -> list[dict[str, Any]]:
        """Return one row a client that sent anything."""
        return [self._row(client) for client in self._clients if client.events]

    def _row(self, client: _Client) -> dict[str, Any]:
        attack, kind, verdict = client.attack, client.kind, client.verdict
        row: dict[str, Any] = {
            **{"client": client.id, "model": self.endpoint.target.model, "version": "1", "kind": client.name},
            **{"hostile": attack is not None, "family": None, "technique": None},
            **{"hard": kind is not None and kind.hard, "explainer": kind is not None and kind.explainer},
            **{"half": half_of(client.id), "start": client.first, "end": client.last, "queries": client.events},
            **{"attack_start": None, "attack_end": None, "attack_queries": 0, "evasion": None, "snapped": False},
            **{"campaign": None, "members": [], "succeeded": False, "measure": None},
            **{"data": "samples", "model_kind": "endpoint", "interface": self._interface or "unknown"},
        }
        if attack is not None:
            row |= {"family": attack.family, "technique": attack.technique, "evasion": "none"}
            row |= {"attack_start": client.first, "attack_end": client.last, "attack_queries": client.sent}
            row |= {"campaign": f"campaign-{client.id[4:12]}", "members": [client.id]}
            row["succeeded"] = None if verdict is None else verdict.succeeded
        if verdict is not None:
            row["measure"] = {"name": verdict.measure, "value": verdict.value, "level": verdict.level}
            row["measure"] |= verdict.detail
        return row


def _benign_script(rows: F32) -> Script:
    for row in rows:  # noqa: UP028 - answers are sent in, which an array's iterator cannot take
        yield row
    return None


def _settled(outcome: Outcome, client: _Client) -> Outcome:
    """Return the outcome without adversarial examples that were never sent: nobody knows what they do."""
    if not isinstance(outcome, Moved) or not len(outcome.start):
        return outcome
    known = [row.astype(np.float32).tobytes() in client.answered for row in outcome.end]
    return Moved(outcome.start, np.where(np.array(known)[:, None], outcome.end, outcome.start))
