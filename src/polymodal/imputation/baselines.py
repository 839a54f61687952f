"""What simpler methods say of hidden entries: the column's own distribution, ridge regression and
nearest neighbours. They read tables and vectors; where a whole modality is missing, the ridge
regression also reads the pixels of pictures. Other modalities are not shown to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from polymodal.batch import CODED, Column
from polymodal.data import Dataset, kind_of
from polymodal.data.grid import values_of
from polymodal.imputation.columns import columns_of

MARGINAL, RIDGE, NEIGHBOURS = "marginal", "ridge", "neighbours"
NUMBER = 10  # neighbours
ROWS = 2000  # of training that baselines read
WIDE = 80  # encoded columns above which ridge regression is not iterated
ROUNDS = 10  # of iterated regression
STRENGTHS = np.logspace(-2, 4, 13)
PIXELS = 16  # height and width to which pictures are averaged
PENALTY = 1e-2  # of the ridge, as a share of a column's variance
Impute = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where a column stands in the encoded matrix: one number standardised, or one for each
    category but the last (with it, each would be a sum of the others).
    """

    modality: str
    index: int
    column: Column
    span: slice
    mean: float
    spread: float


@dataclass(frozen=True)
class Baselines:
    """Ridge regression and nearest neighbours, fitted on the training part.

    Args:
        places: of all columns of tables and vectors.
        train: the encoded matrix of training, (N, D), NaN in holes.
        pixels: of the pictures of training, (N, P), NaN where there is none.
        methods: {name: matrix with NaN (n, D) -> matrix without}.
    """

    places: Sequence[Place]
    train: np.ndarray
    pixels: np.ndarray
    methods: dict[str, Impute]

    @classmethod
    def fit(cls, train: Dataset) -> Baselines:
        """Fitted on at most `ROWS` samples of training."""
        train = train.first(ROWS)
        places = _places(train)
        matrix = _encoded(train, places)
        methods = {RIDGE: _ridge(matrix), NEIGHBOURS: _neighbours(matrix)}
        return cls(places, matrix, _pixels(train), methods)

    def predict(self, data: Dataset, whole: str | None = None) -> dict[str, dict[str, Tensor]]:
        """{name: {modality: (N, d)}}: values for all entries, in the user's units and categories'
        places.

        Args:
            whole: a modality that all of the samples lack; ridge regression is then that of its
                columns on those of the others.
        """
        matrix = _encoded(data, self.places)
        filled = {name: impute(matrix) for name, impute in self.methods.items()}
        if whole is not None:
            filled[RIDGE] = self._of_the_others(matrix, whole, _pixels(data))
        return {name: self._decoded(values) for name, values in filled.items()}

    def _of_the_others(self, matrix: np.ndarray, whole: str, pixels: np.ndarray) -> np.ndarray:
        """The matrix with ridge regressions of a modality's columns on all others and on pixels."""
        target = np.zeros(matrix.shape[1], dtype=bool)
        for place in self.places:
            target[place.span] = place.modality == whole
        values, mean = np.nan_to_num(matrix), _means(self.pixels)
        x = _beside(self.train[:, ~target], self.pixels - mean)
        if target.any() and x.shape[1]:
            new = _beside(matrix[:, ~target], pixels - mean)
            values[:, target] = _regressed(x, self.train[:, target], new)
        return values

    def _decoded(self, matrix: np.ndarray) -> dict[str, Tensor]:
        columns: dict[str, list[Tensor]] = {}
        for place in self.places:
            columns.setdefault(place.modality, []).append(_decoded(matrix, place))
        return {m: torch.stack(each, 1) for m, each in columns.items()}


def _places(train: Dataset) -> list[Place]:
    places, start = [], 0
    for m in train.modalities:
        columns = columns_of(m)
        values = values_of(train, m).double() if columns else torch.zeros(0, 0)
        for i, column in enumerate(columns):
            size = len(column.categories) - 1 if column.type in CODED else 1
            x = values[:, i][~values[:, i].isnan()]
            mean = x.mean().item() if len(x) else 0.0
            spread = x.std(correction=0).item() if len(x) else 1.0
            span = slice(start, start + size)
            places.append(Place(m.name, i, column, span, mean, spread or 1.0))
            start += size
    return places


def _encoded(data: Dataset, places: Sequence[Place]) -> np.ndarray:
    """The columns side by side, (N, D), NaN in holes."""
    values = {m.name: values_of(data, m).double() for m in data.modalities if columns_of(m)}
    parts = []
    for place in places:
        x = values[place.modality][:, place.index, None]
        if place.column.type in CODED:
            one_hot = (x == torch.arange(len(place.column.categories) - 1)).double()
            parts.append(torch.where(x.isnan(), torch.nan, one_hot))
        else:
            parts.append((x - place.mean) / place.spread)
    return torch.cat(parts, 1).numpy()


def _pixels(data: Dataset) -> np.ndarray:
    """The pixels (N, P) of pictures, averaged to at most PIXELS a side, NaN where there is none."""
    parts = [torch.zeros(len(data), 0)]
    for m in data.modalities:
        if kind_of(m).visual and len(m.shape) == 3:
            _, height, width = m.shape
            size = min(PIXELS, height), min(PIXELS, width)
            parts.append(adaptive_avg_pool2d(values_of(data, m), size).flatten(1))
    return torch.cat(parts, 1).double().numpy()


def _means(x: np.ndarray) -> np.ndarray:
    """The means of the columns without NaN."""
    return np.nansum(x, 0) / np.maximum((~np.isnan(x)).sum(0), 1)


def _beside(*parts: np.ndarray) -> np.ndarray:
    """Matrices side by side, zeros in place of NaN."""
    return np.nan_to_num(np.concatenate(parts, 1))


def _decoded(matrix: np.ndarray, place: Place) -> Tensor:
    """The values (N,) of a column of the matrix."""
    part = torch.from_numpy(matrix[:, place.span])
    if place.column.type in CODED:
        last = 1 - part.sum(1, keepdim=True)
        return torch.cat([part, last], 1).argmax(1).double()
    return place.mean + place.spread * part[:, 0]


def _neighbours(train: np.ndarray) -> Impute:
    """The mean of the nearest training rows that have the entry."""
    from sklearn.impute import KNNImputer

    imputer = KNNImputer(n_neighbors=NUMBER, weights="distance", keep_empty_features=True)
    imputer.fit(train)
    return imputer.transform


def _ridge(train: np.ndarray) -> Impute:
    """Bayesian ridge regression of each column on all others, iterated; of more than `WIDE`
    columns, one ridge regression from the others with means in place of holes.
    """
    if train.shape[1] > WIDE:
        return _plain_ridge(train)
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    imputer = IterativeImputer(max_iter=ROUNDS, random_state=0, keep_empty_features=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged after ROUNDS
        imputer.fit(train)
    return imputer.transform


def _regressed(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge regressions of the columns of y (N, E) on x (N, D), its strength by leave-one-out, at
    new values (n, D): (n, E). Rows without an entry are left out of its regression, of more than
    `WIDE` columns their mean stands in its place.
    """
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=STRENGTHS)
    mean = _means(y)
    if y.shape[1] > WIDE:
        return model.fit(x, np.where(np.isnan(y), mean, y)).predict(new)
    result = np.tile(mean, (len(new), 1))
    for k in range(y.shape[1]):
        rows = ~np.isnan(y[:, k])
        if rows.sum() > 1:
            result[:, k] = model.fit(x[rows], y[rows, k]).predict(new)
    return result


def _plain_ridge(train: np.ndarray) -> Impute:
    """All regressions of one column on all others at once, by the inverse of the covariance P:
    x_j = -sum_k P_jk / P_jj x_k. Holes are read as means.
    """
    mean = _means(train)
    centred = np.nan_to_num(train - mean)
    covariance = centred.T @ centred / len(centred)
    ridge = PENALTY * np.maximum(covariance.diagonal(), 1e-6) + 1.0 / len(centred)
    precision = np.linalg.inv(covariance + np.diag(ridge))
    weights = -precision / precision.diagonal()[:, None]
    np.fill_diagonal(weights, 0)

    def impute(matrix: np.ndarray) -> np.ndarray:
        known = np.nan_to_num(matrix - mean)
        return np.where(np.isnan(matrix), mean + known @ weights.T, matrix)

    return impute


# The column's own distribution.


@dataclass(frozen=True)
class Marginal:
    """A column as it is in training, whatever else is known of a sample.

    Args:
        column: which.
        values: (n,), those of training, in order.
    """

    column: Column
    values: Tensor

    @property
    def spread(self) -> float:
        """The standard deviation; 1 for a constant column."""
        return (self.values.std(correction=0).item() if len(self.values) else 0.0) or 1.0

    @property
    def center(self) -> float:
        """The mean, or the most frequent category."""
        if not len(self.values):
            return 0.0
        if self.column.type in CODED:
            return float(self.values.mode().values)
        return self.values.mean().item()

    def probabilities(self) -> Tensor:
        """Of the categories, each one counted once more than it occurs, (K,)."""
        counts = torch.bincount(self.values.long(), minlength=len(self.column.categories))
        return (counts + 1) / (counts.sum() + len(counts))

    def quantiles(self, levels: Sequence[float]) -> Tensor:
        """(Q,), of the training values."""
        values = self.values if len(self.values) else torch.zeros(1, dtype=torch.float64)
        return torch.quantile(values, torch.tensor(list(levels), dtype=torch.float64))

    def log_score(self, x: Tensor) -> Tensor:
        """The log-density (n,) of values x (n,): the categories' shares, a normal for numbers, a
        log-normal for positive ones, a negative binomial with these moments for counts.
        """
        if self.column.type in CODED:
            return self.probabilities()[x.long()].log()
        if self.column.type == "count":
            return _count_log_prob(x, self.values)
        if self.column.type == "positive":
            return _normal_log_prob(x.log(), self.values.log()) - x.log()
        return _normal_log_prob(x, self.values)


def _normal_log_prob(x: Tensor, values: Tensor) -> Tensor:
    spread = values.std(correction=0).clamp_min(1e-12)
    return torch.distributions.Normal(values.mean(), spread).log_prob(x)


def _count_log_prob(x: Tensor, values: Tensor) -> Tensor:
    from scipy.stats import nbinom

    mean = max(values.mean().item(), 1e-6)
    variance = max(values.var(correction=0).item(), 1.001 * mean)
    size = mean**2 / (variance - mean)
    return torch.from_numpy(nbinom.logpmf(x.numpy(), size, size / (size + mean)))
