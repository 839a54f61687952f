"""Objects of anndata and mudata that `Imputer` takes and gives back."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import typed, unknown
from polymodal.data import Dataset
from polymodal.data.covariates import covariate_of, places_of
from polymodal.data.finding import cell_sections
from polymodal.data.joining import ABSENT, joined
from polymodal.data.readers.cells import cells_of
from polymodal.data.sources.cells import CellsEntry, CellValues, cell_values
from polymodal.data.tables.frame import Frame
from polymodal.imputation.cell_data import completed
from polymodal.imputation.completion import missing

log = logging.getLogger("polymodal")

ONLY = "X"  # the modality of an object of anndata
Sections = Mapping[str, Mapping[str, Any]]


class CellForms:
    """Cells that stand for the data of a user; see `Forms`.

    Args:
        whole: an object of anndata or mudata.
        sections: what a description says of each modality, as `fit` kept it; None: all that
            `whole` holds, as `polymodal init` describes them.
        batch_key: the column of obs that networks are told of each cell.
    """

    def __init__(
        self, whole: Any, sections: Sections | None = None, batch_key: str | None = None
    ) -> None:
        file = cells_of(whole)
        self.whole, self.obs, self.batch_key, held = whole, file.obs, batch_key, file.modalities
        self.sections = cell_sections(held, ONLY) if sections is None else sections
        self.entries = {
            m: typed(CellsEntry, {k: v for k, v in section.items() if k != "source"}, m)
            for m, section in self.sections.items()
            if section.get("modality") is None or section["modality"] in held
        }
        if not self.entries:
            raise ValueError(f"fit knew the modalities {list(self.sections)}; X has none of them.")
        self.values: dict[str, CellValues] = {
            m: cell_values(held, entry, m, "X") for m, entry in self.entries.items()
        }
        self.keys = [str(key) for key in whole.obs_names]
        self.joined = joined(self.values, self.keys)
        self.size = len(self.joined)

    @property
    def names(self) -> list[str]:
        """The modalities that are filled in: of an object of mudata all that `fit` knew."""
        return list(self.sections if hasattr(self.whole, "mod") else self.entries)

    def describe(self, numbers: Sequence[str] = ()) -> tuple[list[Modality], dict[str, list[Any]]]:
        """The modalities; what was changed or left out is logged."""
        modalities = [each.describe(m, range(len(each))) for m, each in self.values.items()]
        if self.batch_key is not None:
            if self.batch_key not in self.obs:
                raise unknown(f"batch_key {self.batch_key!r} in obs", self.batch_key, self.obs)
            words, rows = self._batches(self.batch_key), np.arange(self.size)
            modalities = [
                replace(m, covariate=covariate_of(self.batch_key, words, rows, m.name))
                for m in modalities
            ]
        for m in modalities:
            for note in self.values[m.name].values(m)[2]:
                log.warning("%s", note)
        return modalities, {}

    def _batches(self, column: str) -> Sequence[str | None]:
        """The batch of each cell, in words; None where there is none."""
        if column not in self.obs:
            return [None] * self.size
        return Frame(self.obs[[column]], "obs").cells(column, as_words=True).as_words()

    def dataset(self, modalities: Sequence[Modality]) -> tuple[Dataset, list[str]]:
        """The cells as samples, and sentences on what was not read as it stands."""
        tables: dict[str, Tensor] = {}
        notes: list[str] = []
        batches: dict[str, Tensor] = {}
        for m in modalities:
            x = torch.full((self.size, *m.shape), torch.nan)
            if m.name in self.values:
                rows = torch.from_numpy(self.joined.rows[m.name])
                own, _, more = self.values[m.name].values(m)
                x[rows != ABSENT] = own[rows[rows != ABSENT]]
                notes += more
            tables[m.name] = x
            if m.covariate is not None:
                words = self._batches(m.covariate.column)
                batches[m.name], more = places_of(m.covariate, words, m.name)
                notes += more
        present = {m: ~x.isnan().all(1) for m, x in tables.items()}
        return Dataset(modalities, tables, present=present, covariates=batches), notes

    def holes(self, modalities: Sequence[Modality]) -> dict[str, Tensor]:
        """The entries that are filled, (N, d) bool."""
        data, _ = self.dataset(modalities)
        return {m: missing(data, m) for m in self.names}

    def given_back(
        self, modalities: Sequence[Modality], values: Mapping[str, Tensor], latent: Tensor
    ) -> Any:
        """The object with values (N, d) in holes, and latents; see `completed`."""
        holes = self.holes(modalities)
        filled = {m: torch.where(holes[m], x, torch.nan) for m, x in values.items()}
        return completed(self.whole, self.keys, self.entries, modalities, filled, latent)
