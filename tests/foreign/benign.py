"""Benign clients as another implementer sees them: ordinary ones, and hard ones that look hostile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, rotate, shift

from detector.events import F32, F64
from replay.simulate.data import Dataset
from tests.foreign.attack import Scene

Act = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of benign client: it acts until its queries are spent."""

    name: str
    act: Act
    paces: tuple[str, ...]
    hard: bool = True
    explainer: bool = False
    images: bool | None = None
    widest: int = 10_000

    def suits(self, data: Dataset) -> bool:
        """Return whether such clients would use a model of this data."""
        return (self.images is None or self.images == (data.shape is not None)) and data.width <= self.widest


def records(scene: Scene, n: int, label: int | None = None) -> F32:
    """Return n held-out records."""
    held_out = scene.data.held_out
    rows = np.arange(len(held_out.y)) if label is None else np.flatnonzero(held_out.y == label)
    return np.asarray(held_out.x[rows[scene.rng.integers(0, len(rows), n)]])


def measured(scene: Scene) -> F64:
    """Return [d] the spread of each feature, 0 for codes: what noise is scaled by."""
    return np.where(scene.data.category, 0.0, scene.data.held_out.x.std(0))


def ordinary(scene: Scene) -> None:
    """Send held-out records."""
    scene.line.ask(records(scene, scene.line.budget))


def health_check(scene: Scene) -> None:
    """Send the same one to three records for ever."""
    fixed = records(scene, int(scene.rng.integers(1, 4)))
    scene.line.ask(np.tile(fixed, (scene.line.budget, 1)))


def retries(scene: Scene) -> None:
    """Send records again after an error or a time-out, up to five times."""
    for x in records(scene, scene.line.budget):
        while scene.rng.random() < 0.35:
            scene.line.ask(x, status=503 if scene.rng.random() < 0.5 else 200)
        scene.line.ask(x)


def sensor(scene: Scene) -> None:
    """Send readings that wander around the mean of a class: a first-order process with the class's covariance."""
    label = int(scene.rng.integers(scene.data.classes))
    own = scene.data.held_out.x[scene.data.held_out.y == label].astype(np.float64)
    keep = scene.rng.uniform(0.8, 0.995)
    deviation = own - own.mean(0)
    state = deviation[0]
    readings = np.empty((scene.line.budget, scene.data.width))
    for reading in readings:
        pair = deviation[scene.rng.integers(0, len(own), 2)]
        state = keep * state + np.sqrt(1 - keep**2) * (pair[0] - pair[1]) / np.sqrt(2)
        reading[:] = own.mean(0) + state
    scene.line.ask(scene.data.on_grid(readings))


def set_point(scene: Scene) -> None:
    """Send readings with white noise around a set point that is changed at times."""
    sd = scene.rng.choice([0.005, 0.02, 0.05]) * measured(scene)
    while True:
        centre = np.repeat(records(scene, 1), scene.rng.integers(25, 90), 0)
        scene.line.ask(scene.data.on_grid(centre + sd * scene.rng.standard_normal(centre.shape)))


def video(scene: Scene) -> None:
    """Send frames in which an object drifts and the light changes, with a cut at times."""
    while True:
        frame = records(scene, 1)[0].reshape(scene.data.shape or (1, 1)).astype(np.float64)
        at, speed, light = np.zeros(2), 0.1 * scene.rng.standard_normal(2), 1.0
        film = []
        for _ in range(int(scene.rng.integers(30, 120))):
            speed += 0.02 * scene.rng.standard_normal(2) - 0.02 * at
            at, light = at + speed, light + 0.01 * scene.rng.standard_normal() + 0.05 * (1 - light)
            moved = light * shift(frame, at, order=1, mode="nearest")
            grain = 0.01 * scene.span.max() * scene.rng.standard_normal(frame.shape)
            film.append((moved + grain).ravel())
        scene.line.ask(scene.data.on_grid(np.array(film)))


def what_if(scene: Scene) -> None:
    """Move one slider after the other for a record, and leave some where the answer pleases or wherever they are."""
    data = scene.data
    while True:
        x = records(scene, 1)[0].astype(np.float64)
        for feature in scene.rng.integers(0, data.width, int(scene.rng.integers(2, 6))).tolist():
            stops = np.linspace(data.low[feature], data.high[feature], int(scene.rng.integers(4, 16)))
            stops = stops if scene.rng.random() < 0.5 else stops[::-1]
            moved = np.repeat(x[None], scene.rng.integers(3, len(stops) + 1), 0)
            moved[:, feature] = stops[: len(moved)]
            scene.line.ask(data.on_grid(moved))
            x = moved[-1]


def augmented(scene: Scene) -> None:
    """Send each picture with its mirror image, small turns and shifts: test-time augmentation."""
    for x in records(scene, scene.line.budget):
        image = x.reshape(scene.data.shape or (1, 1)).astype(np.float64)
        turned = [rotate(image, angle, reshape=False, order=1, mode="nearest") for angle in (-8, -4, 4, 8)]
        moved = [shift(image, by, order=1, mode="nearest") for by in ((1, 0), (0, 1))]
        scene.line.ask(np.stack([image, image[:, ::-1], *turned, *moved]).reshape(8, -1))


def blurred(scene: Scene) -> None:
    """Send pictures of a bad camera: out of focus, too dark."""
    shape = scene.data.shape or (1, 1)
    sd, gain = scene.rng.uniform(0.5, 1.2), scene.rng.uniform(0.6, 1)
    pictures = records(scene, scene.line.budget).reshape(-1, *shape).astype(np.float64)
    scene.line.ask(scene.data.on_grid(gain * gaussian_filter(pictures, (0, sd, sd)).reshape(len(pictures), -1)))


def noisy(scene: Scene) -> None:
    """Send new records with measurement noise on every feature that is measured."""
    sd = scene.rng.choice([0.05, 0.1, 0.25]) * measured(scene)
    x = records(scene, scene.line.budget)
    scene.line.ask(x + sd * scene.rng.standard_normal(x.shape))


def drift(scene: Scene) -> None:
    """Send a population of which some features move away, by up to a standard deviation."""
    x = records(scene, scene.line.budget)
    way = np.where(scene.rng.random(scene.data.width) < 0.4, scene.rng.uniform(-1, 1, scene.data.width), 0)
    course = np.linspace(0, 1, len(x))[:, None] * way * measured(scene)
    scene.line.ask(scene.data.on_grid(x + course))


def load_uniform(scene: Scene) -> None:
    """Send uniform random numbers within the ranges of the documentation: a load test."""
    scene.line.ask(scene.data.on_grid(scene.back(scene.rng.random((scene.line.budget, scene.data.width)))))


def load_bootstrap(scene: Scene) -> None:
    """Send the same few dozen records in random order: a load test."""
    few = records(scene, int(scene.rng.integers(10, 80)))
    scene.line.ask(few[scene.rng.integers(0, len(few), scene.line.budget)])


def sorted_batch(scene: Scene) -> None:
    """Send a table sorted by a column, by an older model's score, or grouped by class."""
    x = records(scene, scene.line.budget)
    by = scene.rng.integers(3)
    score = scene.line.victim.scores(x)[:, 0] + 0.1 * scene.rng.standard_normal(len(x))
    key = (x[:, scene.rng.integers(scene.data.width)], score, score.round(1))[by]
    scene.line.ask(x[np.argsort(key, kind="stable")])


def one_class(scene: Scene) -> None:
    """Send records of one class."""
    scene.line.ask(records(scene, scene.line.budget, int(scene.rng.integers(scene.data.classes))))


def notebook(scene: Scene) -> None:
    """Run the same cell again and again on a few records, with an edit at times."""
    few = records(scene, int(scene.rng.integers(3, 9)))
    while True:
        if scene.rng.random() < 0.5:
            row, feature = scene.rng.integers(len(few)), scene.rng.integers(scene.data.width)
            few[row, feature] = records(scene, 1)[0, feature]
        if scene.rng.random() < 0.15:
            few[scene.rng.integers(len(few))] = records(scene, 1)[0]
        scene.line.ask(few)


def rescoring(scene: Scene) -> None:
    """Score the same list of customers again and again; a few of them change in a few features."""
    own = records(scene, max(20, scene.line.budget // 5))
    while True:
        scene.line.ask(own)
        changed = scene.rng.random(own.shape) < 0.02
        own = np.where(changed, records(scene, len(own)), own)


def imputed(scene: Scene) -> None:
    """Send records in which a third of the features is missing and set to the mean or to zero."""
    x = records(scene, scene.line.budget)
    default = scene.data.public.x.mean(0) if scene.rng.random() < 0.5 else np.zeros(scene.data.width)
    missing = scene.rng.random(x.shape) < scene.rng.uniform(0.1, 0.5)
    scene.line.ask(np.where(missing, default, x))


def contract_test(scene: Scene) -> None:
    """Send the least and the greatest value of each feature for a typical record: a test of the interface."""
    typical = np.median(scene.data.public.x, 0)
    while True:
        x = np.repeat(typical[None], 2 * scene.data.width, 0)
        for feature in range(scene.data.width):
            x[2 * feature : 2 * feature + 2, feature] = scene.data.low[feature], scene.data.high[feature]
        scene.line.ask(x)
        typical = records(scene, 1)[0]


def decision_map(scene: Scene) -> None:
    """Send a grid over two features, the others fixed: the picture of decision regions in every notebook."""
    while True:
        one, two = scene.rng.choice(scene.data.width, 2, replace=False)
        side = int(scene.rng.integers(10, 16))
        x = np.repeat(records(scene, 1), side * side, 0).astype(np.float64)
        edges = [np.linspace(scene.data.low[j], scene.data.high[j], side) for j in (one, two)]
        x[:, one], x[:, two] = (grid.ravel() for grid in np.meshgrid(*edges))
        scene.line.ask(x)


def threshold_review(scene: Scene) -> None:
    """Send only doubtful records, once each: a queue for human review."""
    x = records(scene, 6 * scene.line.budget)
    doubt = -scene.line.victim.scores(x).max(1)
    scene.line.ask(x[np.argsort(-doubt)[: scene.line.budget][scene.rng.permutation(scene.line.budget)]])


def changing(scene: Scene) -> None:
    """Behave in three of these ways one after the other."""
    acts = [one_class, noisy, load_bootstrap, set_point, what_if, rescoring]
    for act in scene.rng.permutation(len(acts))[:3].tolist():
        part = scene.line.part(scene.line.budget // 3)
        Scene(part, scene.rng).act(acts[act])
        scene.line.count = part.count


ORDINARY = tuple(Kind(f"ordinary_{pace}", ordinary, (pace,), hard=False) for pace in ("human", "machine", "batch"))
HARD = (
    Kind("health_check", health_check, ("steady",)),
    Kind("retries", retries, ("script", "machine")),
    Kind("sensor", sensor, ("steady",), images=False),
    Kind("set_point", set_point, ("steady",)),
    Kind("video", video, ("script", "steady"), images=True),
    Kind("what_if", what_if, ("human",), images=False),
    Kind("augmented", augmented, ("script",), images=True),
    Kind("blurred", blurred, ("machine",), images=True),
    Kind("noisy", noisy, ("machine", "batch")),
    Kind("drift", drift, ("machine",)),
    Kind("load_uniform", load_uniform, ("script",)),
    Kind("load_bootstrap", load_bootstrap, ("script",)),
    Kind("sorted_batch", sorted_batch, ("batch",)),
    Kind("one_class", one_class, ("machine", "human")),
    Kind("notebook", notebook, ("human",)),
    Kind("rescoring", rescoring, ("batch",)),
    Kind("imputed", imputed, ("machine", "batch")),
    Kind("contract_test", contract_test, ("script",), images=False),
    Kind("decision_map", decision_map, ("script",), images=False),
    Kind("threshold_review", threshold_review, ("human", "batch")),
    Kind("changing", changing, ("script", "machine"), images=False),
)
