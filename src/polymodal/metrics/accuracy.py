"""Accuracy of the classifiers that judge generated values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, targets

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement


@metric(direction="none", unit="share", places=targets, labels=True)
def classifier_accuracy(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Accuracy of the classifier on real test values, which bounds the coherence that can be seen.

    The standard error is binomial; NaN for attributes, whose errors are not independent.
    """
    classifier = measurement.label_classifiers.get(target)
    if classifier is None or classifier.net is None:
        return None
    accuracy, size = classifier.accuracy, classifier.size
    binomial = accuracy * (1 - accuracy) / max(size - 1, 1)
    return accuracy, math.nan if classifier.several else math.sqrt(binomial), size
