"""Volume: more queries a minute than this client's own past and the model's other clients ever showed.

For every active minute, x = ln(1 + queries) is held against two normal distributions: the model's clients (learned by
river, frozen by epoch; a wide prior in the first hour) and the client's own earlier minutes (exponentially weighted,
from the sixth on). The larger of the two upper-tail p-values is the bet. Null: minutes are no more extraordinary than
both say. Sees: bursts and floods. Cannot see: anything at an ordinary pace; volume alone is weak evidence (an attacker
evades it by waiting, a batch job causes it), so rules grade it low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from detector.detectors import Need, Signal, View
from detector.events import F32, F64, I32, I64, InputLevel, OutputLevel
from detector.evidence import CAP, power_bet, spend, unspent
from detector.kernel import in_place

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
OWN_LEAST = 5  # minutes before a client's own past counts
OWN_MEMORY = 0.1  # weight of the newest minute in it
OWN_SD = 0.35  # the least standard deviation of one's own minutes


class VolumeState(NamedTuple):
    """One row a client slot."""

    minute: I64  # [slots] the current minute
    inside: I32  # [slots] queries in it
    minutes: I64  # [slots] complete active minutes so far
    mean: F64  # [slots] of ln(1 + queries), own past
    var: F64  # [slots]
    wealth: F64  # [slots]
    hour: I64  # [slots] the current hour
    hourly: I32  # [slots, 2] queries in the hour before and in the current one


class Out(NamedTuple):
    """Columns [n] of the signals."""

    burst: F32
    minute: F32
    rate: F32


class Volume:
    """See the module."""

    name = "volume"
    version = 1
    need = Need(InputLevel.NONE, OutputLevel.NONE)
    signals = (
        Signal("volume.burst", "log10 e-value", -200, 200, "active minutes busier than own and peer history"),
        Signal("volume.minute", "ln(1 + queries)", 0, 25, "the client's minute that has just become complete"),
        Signal("volume.rate", "queries an hour", 0, 1e9, "sliding estimate over the last hour"),
    )

    def state(self, capacity: int) -> VolumeState:
        """Return state for that many clients."""
        whole = np.zeros((3, capacity), np.int64)
        real = np.zeros((3, capacity))
        return VolumeState(whole[0], np.zeros(capacity, np.int32), whole[1], real[0], real[1], real[2], whole[2],
                           np.zeros((capacity, 2), np.int32))  # fmt: skip

    def observe(self, view: View, state: VolumeState) -> Mapping[str, F32]:
        """Count every event, and bet whenever a minute is complete."""
        out = Out(*np.full((len(Out._fields), len(view.slot)), np.nan, np.float32))
        scales = view.scales
        _observe(
            view.slot,
            view.batch.time_us,
            scales.minute_mean[view.reference],
            scales.minute_sd[view.reference],
            state,
            out,
        )
        return {f"volume.{name}": getattr(out, name) for name in Out._fields}


@in_place
def _observe(slot: I64, time_us: I64, peer_mean: F64, peer_sd: F64, state: VolumeState, out: Out) -> None:
    for i in range(len(slot)):
        c = slot[i]
        minute = time_us[i] // MINUTE_US
        if minute > state.minute[c]:
            if state.inside[c]:
                x = math.log1p(state.inside[c])
                out.minute[i] = x
                _bet(c, x, peer_mean[i], peer_sd[i], state)
            state.minute[c] = minute
            state.inside[c] = 0
        state.inside[c] += 1
        if state.minutes[c]:
            out.burst[i] = math.log10(state.wealth[c] + unspent(state.minutes[c] - 1))
        out.rate[i] = _hourly(c, time_us[i], state)


@in_place
def _bet(c: int, x: float, peer_mean: float, peer_sd: float, state: VolumeState) -> None:
    """Bet on one complete minute, then learn it."""
    n = state.minutes[c]
    p = _tail(x, peer_mean, peer_sd)
    if n >= OWN_LEAST:
        p = max(p, _tail(x, state.mean[c], max(math.sqrt(state.var[c]), OWN_SD)))
    state.wealth[c] = min((state.wealth[c] + spend(n)) * power_bet(p), CAP)
    weight = max(OWN_MEMORY, 1.0 / (n + 1))
    gap = x - state.mean[c]
    state.mean[c] += weight * gap
    state.var[c] = (1.0 - weight) * (state.var[c] + weight * gap * gap)
    state.minutes[c] = n + 1


@in_place
def _tail(x: float, mean: float, sd: float) -> float:
    return max(0.5 * math.erfc((x - mean) / (sd * 1.4142135623730951)), 1e-6)


@in_place
def _hourly(c: int, time_us: int, state: VolumeState) -> float:
    hour = time_us // HOUR_US
    if hour > state.hour[c]:
        state.hourly[c, 0] = state.hourly[c, 1] if hour == state.hour[c] + 1 else 0
        state.hourly[c, 1] = 0
        state.hour[c] = hour
    state.hourly[c, 1] += 1
    part = (time_us % HOUR_US) / HOUR_US
    return float(state.hourly[c, 0] * (1.0 - part) + state.hourly[c, 1])


DETECTOR = Volume()
