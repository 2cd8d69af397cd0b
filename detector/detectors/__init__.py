"""Detectors: one file each, found by discovery, all behind one protocol and one contract suite.

A detector reads the columns of a `View`, keeps numbers per client slot, and returns columns of signals: one number an
event, NaN where it has nothing to say (not enough detail, still warming up). It never decides: rules put thresholds on
signals. Its state is a NamedTuple of arrays whose first axis is the slot and whose all-zero row means "new client"; the
client table clears, saves and restores it without knowing what it means.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.events import F32, F64, I8, I16, I32, I64, U8, U64, EventBatch, InputLevel, OutputLevel

State = Any  # a NamedTuple of arrays, first axis = slot, zero = new


class Signal(NamedTuple):
    """An entry of the catalogue that rules are checked against."""

    name: str  # <detector or family>.<what>
    unit: str
    low: float
    high: float
    meaning: str


class Need(NamedTuple):
    """The least detail a detector works with; what falls short is counted, and the detector says NaN."""

    input: InputLevel
    output: OutputLevel


class View(NamedTuple):
    """One chunk of events as detectors see it: n rows in stream order, geometry in units of the model's own scale.

    `slot` is the client's place in every state array. Distances are in units of r0, the median nearest-neighbour
    distance among 64 benign rows of the model. NaN where a row has no usable input (none, failed call, wrong width).
    """

    batch: EventBatch
    slot: I64  # [n] ≥ 0
    queries: I64  # [n] queries of this client to this model so far, this one included
    since_us: I64  # [n] event time of its first query
    reference: I32  # [n] row of the model in `scales`
    scales: References
    sketch: I16  # [n, 32] whole numbers; only rows with `usable` mean something
    blocks: U8  # [n, 64] what tells which features changed (blocks.py); 0 where not all features are known
    whole: U8  # [n] 1 where usable and all features are known
    apart: U8  # [n] blocks in which it differs from the most alike of the recent whole inputs; 0 where there is none
    apart_age: I32  # [n] how many fresh whole inputs ago that one came, from 1; 0 where there is none
    changed: U64  # [n] those blocks, as bits
    answer: I16  # [n, 16] the answer as a number for each class followed (answers.py)
    places: I64  # [n, 16] the label of each, −1 = none
    replaced: I8  # [n] the place that changed hands with this event, −1 = none
    usable: U8  # [n] 1 where input and answer can be read and the call succeeded
    fresh: U8  # [n] 1 where usable and not an exact repeat within the client's last 256 inputs
    step: F32  # [n] length of the step from the client's previous fresh query, r0
    cosine: F32  # [n] cosine of the last two fresh steps, −1..1
    near: F32  # [n] distance to the nearest of the last 64 fresh queries but the newest, r0
    joined: F32  # [n] distance to the nearest of the last 256 fresh queries, r0
    age: I32  # [n] how many fresh queries ago that one came, from 1; 0 where there is none
    span: I32  # [n] fresh queries since the narrowest chain that it joins began (q05, q20, q50); all remembered if none
    origin: F32  # [n] distance to the first query of its wide thread, r0; NaN where none was joined or it is forgotten
    number: I64  # [n] which fresh query of the client it is, from 1; 0 where it is not fresh
    founder: I32  # [n] number of the first query of its wide thread; its own where it begins one
    path: U8  # [n] 1 where the query only goes on along a path: a small step from its thread's newest query
    thread: F32  # [n] cosine of the last two steps inside the wide thread (2 r0, 256); NaN where none was joined
    tight: F32  # [n] cosine of the last two steps inside the tight thread (0.3 r0, 128); NaN where none
    tight_joined: U8  # [n] 1 where a tight thread was joined
    record: I32  # [n] number of the first query of its tight thread; its own where it begins one, 0 where not fresh
    run: I32  # [n] how often this very input came back to back, this one included; 0 without a digest
    trained: U64  # [n] training index: 0 = not looked up, 1 = not in it, else the record's digest; fresh queries only
    canary: I32  # [n] number of the canary that it is, 0 = none, −1 = not looked up or no canaries


class References(NamedTuple):
    """What the kernels need of every model's benign reference, one row a model."""

    r0: F64  # [m] median nearest-neighbour distance among 64 benign rows, sketch units
    q95: F64  # [m] 95 % quantile of the distances of benign rows to the nearest of another client, sketch units
    classes: I64  # [m] number of classes answered, 2..16 (more are followed as they come up)
    probability: U8  # [m] 1 where scores lie in 0..1
    q50: F64  # [m] the median of the same
    q20: F64  # [m] 20 % quantile of the same
    q05: F64  # [m] 5 % quantile of the same
    radius: F64  # [m] median distance of benign rows from their mean, sketch units
    near_rate: F64  # [m] share of benign rows with another within 0.3 r0 among 128
    rows: I16  # [m, 32, 256] benign rows as sketches, one a column
    owners: U64  # [m, 256] client keys of the rows
    trained: U8  # [m, 256] 1 where the row is a training record
    trained_chance: F64  # [m] share of strangers' records that are training records by chance
    trained_rate: F64  # [m] share of training records that three quarters of the rows' clients do not exceed
    row_count: I64  # [m]
    mean: F64  # [m, 32] mean of the benign rows
    width: I64  # [m] features of the input, 0 where unknown
    inverse_sd: F32  # [m, 32] for each number of the sketch; 0 where it never varied (these and on: genuine.py)
    precision: F32  # [m, 32, 32] inverse of the correlation matrix of the benign rows, shrunk
    dependence: F64  # [m] z'Pz / z'z above which the features do not depend on each other as benign ones do
    feature: I32  # [m, 32] which features of a wide vector are followed by themselves; −1: the numbers of the sketch
    feature_center: F32  # [m, 32]
    feature_scale: F32  # [m, 32] sketch units
    bin_low: F32  # [m, 32] lower end of the benign values of a feature
    bin_scale: F32  # [m, 32] bins a unit
    surprise: F32  # [m, 32, 10] ln(uniform / benign) of each bin, over the number of features
    value_mean: F32  # [m, 32]
    unusual: F64  # [m] surprise above which the values of an input are unusual; infinite where that cannot be told
    input_width: I64  # [m] features of a vector, 0 where the model does not take vectors or it is unknown
    malformed_rate: F64  # [m] share of malformed calls that three quarters of the model's clients do not exceed
    blocks: U8  # [m, 256, 64] the blocks of the benign rows
    alike: I64  # [m] and on: how coarse the data are, see `blocks.Coarseness`
    recent: I64
    alike_rate: F64
    twins: I64
    twin_rate: F64
    twin_repeat: F64
    same: F64  # [m, 64] how often two benign rows are alike in a block
    minute_mean: F64  # [m] mean of ln(1 + queries) over the active minutes of the model's clients
    minute_sd: F64  # [m] its standard deviation
    closeness: F32  # [m, 256] quantiles of how near benign clients come to each other (closeness.py); 0 = unknown


class Detector(Protocol):
    """What every file in this folder offers as `DETECTOR`."""

    name: str
    version: int  # part of a snapshot's fingerprint: raise it when the meaning of the state changes
    need: Need
    signals: tuple[Signal, ...]

    def state(self, capacity: int) -> State:
        """Return zeroed state for that many slots."""

    def observe(self, view: View, state: State) -> Mapping[str, F32]:
        """Update the state event by event and return a column [n] for every signal."""


@cache
def discover() -> tuple[Detector, ...]:
    """Return every detector of this folder, by name."""
    found = [importlib.import_module(f"{__name__}.{m.name}").DETECTOR for m in pkgutil.iter_modules(__path__)]
    return tuple(sorted(found, key=lambda d: d.name))


def starved(view: View, need: Need) -> NDArray[np.bool_]:
    """Mark the rows that hold less detail than a detector needs."""
    return (view.batch.input_level < need.input) | (view.batch.output_level < need.output)


__all__ = [
    "F32",
    "I64",
    "U8",
    "U64",
    "Detector",
    "Need",
    "References",
    "Signal",
    "State",
    "View",
    "discover",
    "starved",
]
