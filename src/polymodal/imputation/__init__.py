"""Filling in what is missing: draws, intervals, and estimates on completed data."""

from polymodal.imputation.fill import Filled, fill

__all__ = ["Filled", "fill"]
