"""What was observed: `Modality` describes one modality, `Batch` holds a batch of several, some
perhaps missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Modality:
    """What a reader must know of one modality.

    Args:
        name: how it is called, a Python identifier without dots (it names modules, files and
            columns).
        shape: of one value, without the batch: `(3, 32, 32)` for an image, `(40,)` for a vector.
        likelihood: p(x|z), a key of `polymodal.distributions.likelihoods.LIKELIHOODS`.
        weight: factor on log p(x|z) in *training* objectives; evaluation leaves weights off.
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
    """`x` with zeros where it is absent, so that what stands there (NaN too) can reach nothing."""
    return torch.where(
        present.reshape(-1, *[1] * (x.dim() - 1)),
        x,
        torch.zeros((), dtype=x.dtype, device=x.device),
    )


@dataclass(frozen=True)
class Batch:
    """A batch of several modalities, any of which may be missing, wholly or for some samples.

    Args:
        x: x[m] of shape (B, *shape_m). A modality that is not a key is missing for the whole batch.
        present: present[m] of shape (B,), bool: which samples have modality m. No key: all of them.
            The values of absent entries are replaced by zeros here, once, so that nothing
            downstream can see them.
        label: (B,) integers, or None; only for evaluation.
        kept: what a stage computed once and keeps, each (B, ...); see `polymodal.model.Stage`.

    >>> batch = Batch({"a": torch.ones(2, 3), "b": torch.ones(2, 1)}, {"b": torch.tensor([True, False])})
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
        sizes = {m: len(x) for m, x in self.x.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(
                "A batch needs at least one modality and the same number of samples in each, got"
                f" {sizes}."
            )
        for m, mask in self.present.items():
            if m in self.x and (mask.dtype != torch.bool or mask.shape != (sizes[m],)):
                raise ValueError(
                    f"present[{m!r}] must be bool of shape ({sizes[m]},), got {mask.dtype},"
                    f" {tuple(mask.shape)}."
                )
        filled = {
            m: _fill(x, self.present[m]) if m in self.present else x for m, x in self.x.items()
        }
        object.__setattr__(self, "x", filled)

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
        return torch.where(self.present[m], value, 0) if m in self.present else value

    def has_all(self, names: Iterable[str]) -> bool:
        """Whether every sample has all of `names`."""
        return all(m in self.x for m in names) and bool(self.mask(names).all())

    def rows(self, index: Tensor | slice) -> Batch:
        """The samples that `index` selects."""
        x = {m: v[index] for m, v in self.x.items()}
        present = {m: v[index] for m, v in self.present.items()}
        kept = {k: v[index] for k, v in self.kept.items()}
        return Batch(x, present, None if self.label is None else self.label[index], kept)

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Every tensor moved as by `Tensor.to` (device; the dtype of masks and labels stays)."""
        move = lambda d: {k: v.to(*args, **kwargs) for k, v in d.items()}
        label = None if self.label is None else self.label.to(*args, **kwargs)
        return replace(
            self, x=move(self.x), present=move(self.present), label=label, kept=move(self.kept)
        )
