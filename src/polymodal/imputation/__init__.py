"""Filling in what is missing: draws, intervals, and estimates on completed data."""

from polymodal.imputation.conformal import Calibration, calibrated, quantiles_of, widened
from polymodal.imputation.evaluate import calibrate, evaluate_imputation
from polymodal.imputation.fill import Filled, fill
from polymodal.imputation.results import calibration_of

__all__ = [
    "Calibration",
    "Filled",
    "calibrate",
    "calibrated",
    "calibration_of",
    "evaluate_imputation",
    "fill",
    "quantiles_of",
    "widened",
]
