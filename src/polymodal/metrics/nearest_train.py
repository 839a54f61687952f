"""Whether a model copies: how far generated values lie from the nearest training sample, beside how
far test samples lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.metrics.features import drawn_rows, few, real_classifier_features
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.neighbours import SAME, distances, size_of
from polymodal.metrics.places import Given, generated
from polymodal.metrics.statistics import mean_and_error

TRAINING = 10_000  # training values among which the nearest is looked for

Features = Callable[[Tensor], Tensor]


def nearest(x: Tensor, among: Tensor) -> Tensor:
    """The distance of each x (N, F) to the nearest of `among` (T, F), (N,); 0 for an equal one.

    Raises UnavailableError for values that are not finite.
    """
    found = torch.cat([d.amin(1) for _, d in distances(x, among)])
    return torch.where(found < SAME * size_of(x, among), 0, found)


def copying_ratio(fake: Tensor, test: Tensor) -> tuple[float, float]:
    """The mean of distances (M,) over the mean of distances (N,), and its standard error as of
    independent means (delta method).

    Raises UnavailableError where the second mean is 0.

    >>> copying_ratio(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]))
    (0.5, 0.0)
    """
    (a, a_error), (b, b_error) = mean_and_error(fake), mean_and_error(test)
    if b == 0:
        raise UnavailableError("Every test value is also a training value.")
    return a / b, math.hypot(a_error, a / b * b_error) / b


def _training_features(m: Measurement, target: str, of: Features) -> Tensor:
    """Of at most TRAINING different training values, (T, F), float64."""
    train = _training(m)
    rows = train.rows_of(target, train.is_present(target).nonzero().squeeze(1)).unique()
    if not len(rows):
        raise UnavailableError(f"No training sample has {target}.")
    rows = rows[drawn_rows(len(rows), TRAINING, m.options.seed).to(rows.device)]
    table = train.tables[target]
    return joined(of(gather(table, part)) for part in rows.split(m.options.batch))


def _training(m: Measurement) -> Dataset:
    if m.train is None:
        raise UnavailableError("The nearest training sample needs a training part; give Splits.")
    return m.train


def joined(parts: Iterable[Tensor]) -> Tensor:
    """The parts as one tensor, float64, without gradients."""
    with torch.no_grad():
        return torch.cat([part.double() for part in parts])


def _measured(
    m: Measurement, target: str, kind: str, of: Features, real: Tensor, fake: Tensor
) -> Value:
    """Distances in the features `of`, kept under `kind`, of test values and of generated ones."""
    train = m.cached(("training features", kind, target), lambda: _training_features(m, target, of))
    test = m.cached(("nearest", kind, target), lambda: nearest(few(m, real), train))
    return *copying_ratio(nearest(few(m, fake), train), test), len(fake)


@metric(places=generated, direction="none", unit="ratio", labels=True, default=False)
def nearest_train(m: Measurement, given: Given, target: str) -> Value | None:
    """Distance of generated values to the nearest training sample over that of test values, in the
    classifier's features: 0 for copies, 1 for new data.
    """
    _training(m)
    real = real_classifier_features(m, target)
    if real is None:
        return None
    classifier, fake = m.classifier(target), m.classify(given, target)[0]

    def features(x: Tensor) -> Tensor:
        return classifier(x, m.options.precision)[0]

    return _measured(m, target, "classifier", features, real, fake)


@metric(places=generated, direction="none", unit="ratio", default=False)
def nearest_train_values(m: Measurement, given: Given, target: str) -> Value:
    """Distance of generated values to the nearest training sample over that of test values, by the
    values themselves: 0 for copies.
    """
    _training(m)
    real = m.real_features(target, "values", flat)
    z = m.latents(given)
    fake = joined(flat(x) for x in m.options.decoding.means(m.model, target, z))
    if fake.shape[1:] != real.shape[1:]:
        raise UnavailableError(f"The means of {target} are no values of it, and have no distances.")
    return _measured(m, target, "values", flat, real, fake)


def flat(x: Tensor) -> Tensor:
    """Values (B, *shape) as vectors (B, F)."""
    return x.flatten(1)
