"""Observed data: `Modality` describes one modality, `Batch` holds a batch of several, any of which
may be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Modality:
    """One modality: its name, its shape, and how its values are modelled.

    Args:
        name: a Python identifier without dots (it names modules, files and columns).
        shape: of one value, without the batch: `(3, 32, 32)` for an image, `(40,)` for a vector.
        likelihood: p(x|z), a key of `polymodal.distributions.likelihoods.LIKELIHOODS`.
        weight: factor on log p(x|z) in *training* objectives; evaluation ignores it.
        scale: fixed standard deviation (normal) or scale (laplace) of the likelihood.
        link: maps the decoder's output to the likelihood's mean: "identity", or "sigmoid" for
            values in [0, 1].
        kind: the kind of data, a key of `polymodal.data.kinds.KINDS`; None: by shape.

    Raises:
        ValueError: for a name that cannot name a module, an empty shape, or a weight or scale that
            is not positive.
    """

    name: str
    shape: tuple[int, ...]
    likelihood: str = "normal"
    weight: float = 1.0
    scale: float = 1.0
    link: str = "identity"
    kind: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not self.name.isidentifier():
            raise ValueError(
                f"A modality's name must be letters, digits and underscores, got {self.name!r}."
            )
        if not self.shape or min(self.shape) < 1:
            raise ValueError(
                f"Modality {self.name!r} needs a shape of positive sizes such as (40,), got"
                f" {self.shape}."
            )
        for what in ("weight", "scale"):
            if not getattr(self, what) > 0:
                raise ValueError(
                    f"Modality {self.name!r} needs a positive {what}, got {getattr(self, what)}."
                )


def _fill(x: Tensor, present: Tensor) -> Tensor:
    """`x` with zeros where it is absent, so that no value of an absent entry, NaN included, is
    read.
    """
    return torch.where(
        present.reshape(-1, *[1] * (x.dim() - 1)),
        x,
        torch.zeros((), dtype=x.dtype, device=x.device),
    )


def where_present(present: Mapping[str, Tensor], m: str, value: Tensor) -> Tensor:
    """`value` (..., B) where modality m is present, 0 where it is absent.

    Args:
        present: (B,) masks as in `Batch`; no key: all present.
    """
    return torch.where(present[m], value, 0) if m in present else value


@dataclass(frozen=True)
class Batch:
    """A batch of several modalities, any of which may be missing, wholly or for some samples.

    Args:
        x: x[m] of shape (B, *shape_m). A modality that is not a key is missing for the whole batch.
        present: present[m] of shape (B,), bool: which samples have modality m. No key: all of them.
            The values of absent entries are replaced by zeros when the batch is made.
        label: (B,) integers, or None; for evaluation and for methods that predict labels.
        kept: values that a stage computed once, each (B, ...); see `polymodal.model.Stage`.

    >>> x = {"a": torch.ones(2, 3), "b": torch.ones(2, 1)}
    >>> batch = Batch(x, {"b": torch.tensor([True, False])})
    >>> batch.mask(["a", "b"])
    tensor([ True, False])
    >>> batch.only(["a"]).x.keys()
    dict_keys(['a'])
    """

    x: Mapping[str, Tensor]
    present: Mapping[str, Tensor] = field(default_factory=dict)
    label: Tensor | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_masks()
        filled = {
            m: _fill(x, self.present[m]) if m in self.present else x for m, x in self.x.items()
        }
        object.__setattr__(self, "x", filled)

    def _check_sizes(self) -> None:
        sizes = {m: len(x) for m, x in self.x.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                "A batch needs at least one modality and the same number of samples in each, got"
                f" {sizes}."
            )

    def _check_masks(self) -> None:
        for m, mask in self.present.items():
            if m in self.x and (mask.dtype != torch.bool or mask.shape != (len(self),)):
                raise ValueError(
                    f"present[{m!r}] must be bool of shape ({len(self)},), got {mask.dtype},"
                    f" {tuple(mask.shape)}."
                )

    def __len__(self) -> int:
        return len(next(iter(self.x.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.x.values())).device

    def only(self, names: Iterable[str]) -> Batch:
        """The batch as if only `names` had been observed. Raises ValueError for a name it does not
        hold.
        """
        names = list(names)
        if missing := [m for m in names if m not in self.x]:
            raise ValueError(
                f"The batch holds {list(self.x)}, not {missing}; ask for a subset of what it holds."
            )
        return Batch(
            {m: self.x[m] for m in names},
            {m: v for m, v in self.present.items() if m in names},
            self.label,
            self.kept,
        )

    def mask(self, names: Iterable[str]) -> Tensor:
        """True where all of `names` are present, shape (B,); False everywhere for a name without
        values.
        """
        mask = torch.ones(len(self), dtype=torch.bool, device=self.device)
        for m in names:
            if m not in self.x:
                return torch.zeros_like(mask)
            if m in self.present:
                mask = mask & self.present[m]
        return mask

    def where(self, m: str, value: Tensor) -> Tensor:
        """`value` (..., B) where modality m is present, 0 where it is absent."""
        if m not in self.x:
            return torch.zeros_like(value)
        return where_present(self.present, m, value)

    def rows(self, index: Tensor | slice) -> Batch:
        """The samples that `index` selects."""
        x = {m: v[index] for m, v in self.x.items()}
        present = {m: v[index] for m, v in self.present.items()}
        kept = {k: v[index] for k, v in self.kept.items()}
        return Batch(x, present, None if self.label is None else self.label[index], kept)

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Every tensor moved as by `Tensor.to` (device; the dtype of masks and labels stays)."""

        def moved(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.to(*args, **kwargs) for k, v in values.items()}

        label = None if self.label is None else self.label.to(*args, **kwargs)
        return replace(
            self, x=moved(self.x), present=moved(self.present), label=label, kept=moved(self.kept)
        )
