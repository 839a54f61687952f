"""Metrics of a trained model: METRICS maps a name to a `Metric`. `evaluate` computes them.

A new metric is a function with the decorator `metric`, in any file of this folder or in a user's
own module.
"""

from importlib import import_module
from pkgutil import iter_modules

from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.coherence import joint_coherences
from polymodal.metrics.frechet import frechet_with_error
from polymodal.metrics.likelihood import (
    Sampling,
    conditional_log_likelihoods,
    joint_log_likelihoods,
    marginal_log_likelihoods,
)
from polymodal.metrics.means import macro_mean_with_error, mean_with_error
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import METRICS, Metric, metric
from polymodal.metrics.places import every, every_subset, once, others, pairs, subsets, targets

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
for _name in sorted(METRICS):  # the order of names, whichever file was imported first
    METRICS[_name] = METRICS.pop(_name)

__all__ = [
    "METRICS",
    "Classifiers",
    "Measurement",
    "Metric",
    "Sampling",
    "conditional_log_likelihoods",
    "every",
    "every_subset",
    "frechet_with_error",
    "joint_coherences",
    "joint_log_likelihoods",
    "macro_mean_with_error",
    "marginal_log_likelihoods",
    "mean_with_error",
    "metric",
    "once",
    "others",
    "pairs",
    "subsets",
    "targets",
]
