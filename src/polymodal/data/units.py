"""The units in which networks read and give the values of a user's own data."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.data.splits import Splits
from polymodal.data.tables.sizes import LARGEST, SMALLEST
from polymodal.distributions.library import library_size, log_normalised, usual_shares
from polymodal.distributions.likelihoods import likelihood_of

TINY = 1e-12  # of the mean square: a variance that is rounding


def standardised(splits: Splits) -> Splits:
    """The splits in which the scales of normal and Laplace likelihoods are learned, and networks
    read and give values in units of the training part: (x - mean) / standard deviation, entry by
    entry. Values in [0, 1] under a sigmoid stay as they are; so do all values outside networks.
    """
    modalities = [standardised_modality(m, splits.train) for m in splits.modalities]
    return splits.map(lambda part, data: replace(data, modalities=modalities))


def standardised_modality(m: Modality, train: Dataset) -> Modality:
    """One modality of `standardised` splits, by the training part."""
    if likelihood_of(m).library:
        return _log_normalised(m, train)
    if not likelihood_of(m).scaled or m.scale is None:
        return m
    if m.link != "identity":
        return replace(m, scale=None)
    mean, variance = (x.flatten() for x in train.exact_moments(m.name))
    spread = torch.where(variance > TINY * mean.square(), variance.sqrt(), 1.0)
    mean = torch.where(mean.abs() > SMALLEST + TINY * spread, mean, 0.0)
    _check_sizes(m, mean, spread)
    return replace(m, scale=None, location=tuple(mean.tolist()), spread=tuple(spread.tolist()))


def _log_normalised(m: Modality, train: Dataset) -> Modality:
    """Counts of cells, by the moments of their `log_normalised` values; twice, since the library
    size of a cell with holes depends on the shares that the first gives.
    """
    x = gather(train.tables[m.name], train.rows_of(m.name)[train.is_present(m.name)]).float()
    location = torch.zeros(0)
    for _ in range(2):
        values = log_normalised(x, library_size(x, usual_shares(location, x.shape[1]))).double()
        location = values.nanmean(0).nan_to_num().float()
        spread = (values - location).square().nanmean(0).nan_to_num().sqrt()
        if not x.isnan().any():
            break
    spread = torch.where(spread > TINY, spread, 1.0)
    return replace(m, location=tuple(location.tolist()), spread=tuple(spread.tolist()))


def _check_sizes(m: Modality, mean: Tensor, spread: Tensor) -> None:
    """Raises ValueError for values whose mean or deviation is too large or too small."""
    is_large = (torch.cat([mean.abs(), spread]).nan_to_num(nan=torch.inf) > LARGEST).any()
    if is_large or (spread < SMALLEST).any():
        size = f"beyond {LARGEST:g}" if is_large else f"below {SMALLEST:g}"
        raise ValueError(f"Modality {m.name!r} has values {size} in size; write other units.")
