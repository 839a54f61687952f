"""Filling in what is missing: draws, intervals, and estimates on completed data."""

from polymodal.imputation.completion import Completion, complete
from polymodal.imputation.conformal import Calibration, quantiles_of, widened
from polymodal.imputation.evaluate import calibrate, evaluate_imputation
from polymodal.imputation.fill import Filled, fill
from polymodal.imputation.pooling import Pooled, pool_estimates
from polymodal.imputation.results import calibration_of

__all__ = [
    "Calibration",
    "Completion",
    "Filled",
    "Pooled",
    "calibrate",
    "calibration_of",
    "complete",
    "evaluate_imputation",
    "fill",
    "pool_estimates",
    "quantiles_of",
    "widened",
]
