"""Filling in what is missing: draws, intervals, and estimates on completed data."""

from polymodal.imputation.completion import Completion, complete
from polymodal.imputation.fill import Filled, fill
from polymodal.imputation.pooling import Pooled, pool_estimates

__all__ = ["Completion", "Filled", "Pooled", "complete", "fill", "pool_estimates"]
