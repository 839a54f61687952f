"""`Imputer`: filling in as an estimator of scikit-learn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_is_fitted,
    validate_data,
)

from polymodal.checks import shown
from polymodal.data import Dataset, Splits
from polymodal.data.readers.cells import is_cell_data
from polymodal.data.suspicions import sentinels
from polymodal.data.tables.frame import Frame
from polymodal.imputation.bounds import Bound, bounds_of
from polymodal.imputation.cell_forms import CellForms, Sections
from polymodal.imputation.completion import Completion, complete
from polymodal.imputation.evaluate import calibrate
from polymodal.imputation.forms import TABLE, Forms, check_form, frame_of
from polymodal.imputation.weighted import latent_means
from polymodal.settings.recommended import recommended
from polymodal.training.fit import fit

log = logging.getLogger("polymodal")

VALIDATION = 0.1  # share of the rows
FEW = 10  # rows below which all of them are for validation too
FLOATS = (np.float64, np.float32)
JOINS = "__"  # between the name of a modality and that of a column
Form = Literal["array", "frame", "mapping", "cells"]


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills in what is missing in tables, by a model of all columns together.

    `fit` and `transform` take a numeric array (NaN is a hole), a DataFrame (columns of any types,
    which are guessed; empty cells are holes), or a mapping of several of them, {name: table}, with
    equally many rows: modalities, of which any row can lack any. `transform` gives the same form
    back, with the same types: observed values as they were, the best single value in each hole (the
    mean of numbers, the most probable category). Columns that cannot be filled (texts, keys,
    columns without a value) stay as they are.

    An object of anndata or mudata comes back as a copy in which each modality that lacks something
    has the layer `imputed`, cells that lack a modality are added to it (`polymodal_added` in obs),
    and `.obsm["X_polymodal"]` has the latents.

    Args:
        method: a key of `polymodal.METHODS`; None: the recommended one, which is said in `advice_`.
        epochs: most passes over the rows; None: as recommended.
        latent: dimensions of the latent; None: as recommended.
        proposals: latents that are drawn and weighted for each row with holes.
        settings: further keywords of `polymodal.fit`, such as {"lr": 1e-3, "hidden": 64}.
        batch_key: of cells, the column of obs that says in which batch each was measured, which the
            networks are told; see Batches in docs/cells.md.
        random_state: of weights, order and noise; None: another one in each `fit`.
        verbose: 1 shows a progress bar.

    Attributes:
        form_: of the data: array, frame, mapping or cells.
        kinds_, columns_: {name: array or frame}, {name: columns}; of one table the name is "X".
        run_: the trained `polymodal.Run`.
        modalities_: what was understood of the columns.
        left_out_: {name: guesses of columns that stay as they are}.
        calibration_: the factors by which intervals are stretched so that they hold; None for few
            rows.
        advice_: the recommended method and training, with reasons.

    >>> x = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0], [4.0, 8.0]] * 5)
    >>> imputer = Imputer(epochs=2, latent=2, random_state=0)
    >>> imputer.fit_transform(x).shape
    (20, 2)
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        epochs: int | None = None,
        latent: int | None = None,
        proposals: int = 1000,
        settings: Mapping[str, Any] | None = None,
        batch_key: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.method = method
        self.epochs = epochs
        self.latent = latent
        self.proposals = proposals
        self.settings = settings
        self.batch_key = batch_key
        self.random_state = random_state
        self.verbose = verbose

    form_: Form
    kinds_: dict[str, Form]
    columns_: dict[str, list[str]]
    sections_: Sections
    left_out_: dict[str, list[Any]]

    def fit(self, X: Any, y: Any = None) -> Imputer:
        """Learns from the rows of X, of which each can lack anything.

        Raises ValueError in one sentence for data and settings that cannot be used.
        """
        forms = self._read(X, reset=True)
        numbers = [m for m, kind in self.kinds_.items() if kind == "array"]
        self.modalities_, self.left_out_ = forms.describe(numbers)
        data, _ = forms.dataset(self.modalities_)
        for sentence in sentinels(data):
            log.warning("%s", sentence)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31))
        splits = _splits(data, self.seed_)
        self.advice_ = recommended(splits)
        method, settings = self._settings()
        self.run_ = fit(method, splits, seed=self.seed_, **settings)
        enough = len(splits.train) + len(splits.val) >= FEW
        self.calibration_ = calibrate(self.run_, splits) if enough else None
        self._warn_of_left_out(forms)
        return self

    def _settings(self) -> tuple[str, dict[str, Any]]:
        """The method, and keywords of `polymodal.fit`."""
        advice, given = self.advice_, dict(self.settings or {})
        is_recommended = self.method in (None, advice.method)
        options = dict(advice.options) if is_recommended else {}
        own = {"epochs": self.epochs, "latent": self.latent}
        settings = {
            "training": {**advice.training, **given.pop("training", {})},
            **options,
            "progress": self.verbose > 0,
            **{name: value for name, value in own.items() if value is not None},
            **given,
        }
        return self.method or advice.method, settings

    def _warn_of_left_out(self, forms: Forms | CellForms) -> None:
        if isinstance(forms, CellForms):
            return
        for m, guesses in self.left_out_.items():
            for g in guesses:
                if not forms.tables[m].cells(g.name).observed.all():
                    log.warning("Column %r stays as it is, with its holes: %s.", g.name, g.reason)

    def transform(self, X: Any) -> Any:
        """X with the best single value in each hole, in the form in which X came.

        Raises ValueError for other columns than those of `fit`.
        """
        check_is_fitted(self)
        forms = self._read(X, reset=False)
        completion = self._completion(forms)
        values = {m: completion.all_rows(known.center) for m, known in completion.filled.items()}
        done = self._given_back(forms, values, X)
        if self.form_ == "mapping" and _get_output_config("transform", self)["dense"] != "default":
            return self._side_by_side(done)
        return done

    def _side_by_side(self, done: Mapping[str, Any]) -> pd.DataFrame:
        """Tables as one, with the names of `get_feature_names_out`."""
        tables = []
        for m, x in done.items():
            frame = x if isinstance(x, pd.DataFrame) else frame_of(x, self.columns_[m])
            names = [f"{m}{JOINS}{c}" for c in self.columns_[m]]
            tables.append(frame.reset_index(drop=True).set_axis(names, axis=1))
        return pd.concat(tables, axis=1).reindex(columns=self.get_feature_names_out())

    def sample(self, X: Any, n: int = 20) -> list[Any]:
        """n completed copies of X, for multiple imputation: holes hold draws that belong together
        row by row; see `polymodal.pool_estimates`.
        """
        check_is_fitted(self)
        forms = self._read(X, reset=False)
        completion = self._completion(forms, draws=n)
        copies = []
        for k in range(n):
            values = {
                m: completion.all_rows(known.draws[k]) for m, known in completion.filled.items()
            }
            copies.append(self._given_back(forms, values, X))
        return copies

    def intervals(self, X: Any, level: float = 0.9) -> pd.DataFrame:
        """A row for each filled cell: row (counted from 0), column, value, lower and upper (between
        which it lies with probability `level`; of numbers and dates), probability (of categories).

        Raises ValueError for a level outside (0, 1).
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {shown(level)}.")
        forms = self._read(X, reset=False)
        completion = self._completion(forms, level=level)
        holes = forms.holes(self.modalities_)
        bounds: list[Bound] = []
        for m in self.modalities_:
            if m.name in completion.filled:
                prefix = f"{m.name}{JOINS}" if self.form_ in ("mapping", "cells") else ""
                own = holes[m.name]
                bounds += bounds_of(m, completion, self.calibration_, own, prefix)
        return pd.DataFrame(bounds, columns=list(Bound._fields))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the columns, as they came; of a mapping, <name>__<column>."""
        check_is_fitted(self)
        if self.form_ not in ("mapping", "cells"):
            return super().get_feature_names_out(input_features)
        names = [f"{m}{JOINS}{c}" for m, columns in self.columns_.items() for c in columns]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.dict = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Forms.

    def _read(self, X: Any, reset: bool) -> Forms | CellForms:
        """The tables of X. With `reset`, their form and columns are kept.

        Raises ValueError for data of another form or other columns than those of `fit`.
        """
        if is_cell_data(X):
            return self._read_cells(X, reset)
        check_form(X)
        if self.batch_key is not None:
            raise ValueError(f"batch_key is of cells (anndata, mudata), got {type(X).__name__}.")
        is_mapping = isinstance(X, Mapping) and not issparse(X)
        if not reset and self.form_ == "cells":
            raise ValueError(f"X must be cells as in fit, got {type(X).__name__}.")
        if not reset and is_mapping != (self.form_ == "mapping"):
            raise ValueError(
                f"X must be {'a mapping' if not is_mapping else 'a table'} as in fit, got"
                f" {type(X).__name__}."
            )
        if is_mapping:
            return self._read_mapping(X, reset)
        form, frame = self._read_table(X, reset)
        if reset:
            self.form_, self.kinds_ = form, {TABLE: form}
            self.columns_ = {TABLE: [str(c) for c in frame.columns]}
        return Forms({TABLE: Frame(frame, TABLE)})

    def _read_table(self, X: Any, reset: bool) -> tuple[Form, pd.DataFrame]:
        """One table, checked as scikit-learn does."""
        if isinstance(X, pd.DataFrame) and (reset or self.form_ == "frame"):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            if not len(X):
                raise ValueError("Found array with 0 sample(s); give at least one row.")
            return "frame", X
        X = X.detach().cpu() if isinstance(X, torch.Tensor) else X
        x = validate_data(self, X, reset=reset, dtype=FLOATS, ensure_all_finite="allow-nan")
        columns = None if reset else self.columns_[TABLE]
        return "array", frame_of(x, columns)

    def _read_mapping(self, X: Mapping[str, Any], reset: bool) -> Forms:
        """Several tables; in `transform` some can be missing, or None."""
        given = {m: x for m, x in X.items() if x is not None}
        if not given:
            raise ValueError("X is a mapping without any table; give at least one modality.")
        if not reset and (unknown := sorted(given.keys() - self.columns_.keys())):
            raise ValueError(f"fit knew the modalities {list(self.columns_)}, not {unknown}.")
        frames = {}
        for m, x in given.items():
            is_frame = isinstance(x, pd.DataFrame)
            frames[m] = x if is_frame else frame_of(x, None if reset else self.columns_[m])
        if reset:
            self.form_ = "mapping"
            kinds = {m: isinstance(x, pd.DataFrame) for m, x in given.items()}
            self.kinds_ = {m: "frame" if is_frame else "array" for m, is_frame in kinds.items()}
            self.columns_ = {m: [str(c) for c in f.columns] for m, f in frames.items()}
            self.n_features_in_ = sum(map(len, self.columns_.values()))
        return Forms({m: Frame(frame, m) for m, frame in frames.items()})

    def _read_cells(self, X: Any, reset: bool) -> CellForms:
        """Cells of anndata or mudata."""
        if not reset and self.form_ != "cells":
            raise ValueError(f"X must be of the form {self.form_} as in fit, got cells.")
        forms = CellForms(X, None if reset else self.sections_, self.batch_key)
        if reset:
            self.form_, self.sections_ = "cells", dict(forms.sections)
            self.kinds_ = dict.fromkeys(forms.names, "cells")
            self.columns_ = {m: list(each.features or ()) for m, each in forms.values.items()}
            self.n_features_in_ = sum(map(len, self.columns_.values()))
        return forms

    def _completion(self, forms: Forms | CellForms, **options: Any) -> Completion:
        """What stands in the place of holes."""
        data, notes = forms.dataset(self.modalities_)
        for note in notes:
            log.warning("%s", note)
        completion = complete(
            self.run_.model,
            data,
            forms.names,
            proposals=self.proposals,
            seed=self.seed_,
            **options,
        )
        if warning := completion.warning("more proposals"):
            log.warning("%s", warning)
        return completion.moved(self.modalities_, self.calibration_)

    def _given_back(
        self, forms: Forms | CellForms, values: Mapping[str, torch.Tensor], X: Any
    ) -> Any:
        """The completed data in the form of X."""
        if isinstance(forms, CellForms):
            latent = latent_means(self.run_.model, forms.dataset(self.modalities_)[0], self.seed_)
            return forms.given_back(self.modalities_, values, latent)
        holes = forms.holes(self.modalities_)
        done = forms.completed(self.modalities_, values, holes)
        if isinstance(X, Mapping):
            return {m: _as(X[m], done[m]) for m in X if m in done}
        return _as(X, done[TABLE])


def _as(x: Any, done: pd.DataFrame) -> Any:
    """A completed table in the form of x: a DataFrame, a tensor, or an array of floats."""
    if isinstance(x, pd.DataFrame):
        return done
    values = done.to_numpy()
    if getattr(x, "ndim", 2) == 1:
        values = values[:, 0]
    return torch.from_numpy(values) if isinstance(x, torch.Tensor) else values


def _splits(data: Dataset, seed: int) -> Splits:
    """Rows for training and for validation, of those that have any value.

    Raises ValueError if none has.
    """
    present = torch.stack([data.is_present(m) for m in data.names]).any(0)
    rows = present.nonzero().squeeze(1)
    if not len(rows):
        raise ValueError("X has no observed value; give some rows with values.")
    if len(rows) < FEW:
        part = data.take(rows)
        return Splits(part, part, part, "X")
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    cut = max(1, round(VALIDATION * len(order)))
    val = data.take(order[:cut])
    return Splits(data.take(order[cut:]), val, val, "X")
