"""Slow truths of novelty and of malformed calls: one client at a time, from docstrings and formulas."""

from __future__ import annotations

import numpy as np

from detector import genuine
from detector.detectors import References, View, malformed, novelty
from detector.events import F32, F64, Flag, InputLevel
from tests.twins import Mixture, stakes

Signals = dict[str, float]


class NoveltyTwin:
    """Unusual values without the dependence of benign ones, with and without the client's own shift."""

    def __init__(self) -> None:
        self.made = Mixture()
        self.share, self.inputs, self.seen = 0.0, 0, 0
        self.mean: F32 = np.zeros(32, np.float32)
        self.values: F32 = np.zeros(32, np.float32)

    def observe(self, view: View, i: int) -> Signals:
        scales, m = view.scales, int(view.reference[i])
        if not view.fresh[i] or not np.isfinite(scales.unusual[m]) or not np.isfinite(scales.dependence[m]):
            return {}
        x = view.sketch[i].astype(np.float32)
        values = followed(view, i, x)
        self.seen += 1
        weight = np.float32(max(novelty.MEMORY, 1 / self.seen))
        self.mean = self.mean + weight * (x - self.mean)
        self.values = self.values + weight * (values - self.values)
        if view.joined[i] < novelty.OWN:
            return {}
        shifted = values - (self.values - scales.value_mean[m])
        unusual = min(surprise(scales, m, values), surprise(scales, m, shifted)) > scales.unusual[m]
        made = bool(unusual and dependence(scales, m, x, self.mean) > scales.dependence[m])
        self.inputs += made
        self.share += novelty.SHARE * (made - self.share)
        return {
            "novelty.made": self.made.bet(stakes(made, novelty.MADE, novelty.BETS)),
            "novelty.share": self.share,
            "novelty.inputs": self.inputs,
        }


def followed(view: View, i: int, x: F32) -> F32:
    """Return the values of the features that are followed by themselves: of the sketch, or of the vector."""
    scales, m = view.scales, int(view.reference[i])
    if scales.feature[m, 0] < 0:
        return x
    vector = view.batch.input.row(i)[scales.feature[m]]
    scaled = np.rint(np.clip((vector - scales.feature_center[m]) * scales.feature_scale[m], -10_240, 10_240))
    return np.asarray(scaled, np.float32)


def surprise(scales: References, m: int, values: F32) -> float:
    total = 0.0
    for k in range(32):
        place = (values[k] - scales.bin_low[m, k]) * scales.bin_scale[m, k]
        b = 0 if place < 0 else genuine.BINS + 1 if place > genuine.BINS else min(int(place), genuine.BINS - 1) + 1
        total += float(scales.surprise[m, k, b])
    return total


def dependence(scales: References, m: int, x: F32, mean: F32) -> float:
    z = np.clip((x - mean) * scales.inverse_sd[m], -genuine.ROBUST, genuine.ROBUST).astype(np.float64)
    least = genuine.LEAST_ENERGY * np.count_nonzero(scales.inverse_sd[m])
    return float(z @ scales.precision[m].astype(np.float64) @ z / max(z @ z, least))


class MalformedTwin:
    """Malformed calls against the model's usual share of them."""

    def __init__(self) -> None:
        self.wealth, self.share = Mixture(), 0.0

    def observe(self, view: View, i: int) -> Signals:
        bad = is_malformed(view, i)
        p0 = min(max(malformed.LEAST, 3 * float(view.scales.malformed_rate[view.reference[i]])), 0.9)
        bets: F64 = p0 + (1 - p0) * malformed.SHARES
        self.share += malformed.SHARE * (bad - self.share)
        return {"malformed.calls": self.wealth.bet(stakes(bad, p0, bets)), "malformed.share": self.share}


def is_malformed(view: View, i: int) -> bool:
    batch, width = view.batch, int(view.scales.input_width[view.reference[i]])
    status = int(batch.status[i])
    if 400 <= status < 500 and status not in (401, 403, 408, 429):
        return True
    if int(batch.flags[i]) & (Flag.NOT_FINITE | Flag.SHAPE_MISMATCH | Flag.TOO_LARGE):
        return True
    vector = batch.input_level[i] == InputLevel.VECTOR and status < 400
    return bool(vector and width and len(batch.input.row(i)) != width)
