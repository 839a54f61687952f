"""Metrics of trained models: METRICS, by name.

`@metric` enters a function into METRICS. All modules of this folder are imported here, so that a
new metric needs its own module only.
"""

from importlib import import_module
from pkgutil import iter_modules

from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.measurement import Measurement, MeasurementOptions
from polymodal.metrics.metric import (
    METRICS,
    Metric,
    UnavailableError,
    metric,
    named_metrics,
)
from polymodal.metrics.places import (
    couples,
    each_alone,
    every,
    generated,
    once,
    others,
    pairs,
    partners,
    subsets,
    targets,
)
from polymodal.metrics.statistics import mean_of
from polymodal.metrics.traversals import attribute_latents
from polymodal.posteriors.pooling import powerset

__all__ = [
    "METRICS",
    "Classifiers",
    "Measurement",
    "MeasurementOptions",
    "Metric",
    "UnavailableError",
    "attribute_latents",
    "couples",
    "each_alone",
    "every",
    "generated",
    "mean_of",
    "metric",
    "named_metrics",
    "once",
    "others",
    "pairs",
    "partners",
    "powerset",
    "subsets",
    "targets",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
