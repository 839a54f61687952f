"""Observed data: `Batch` holds a batch of several modalities, any of which may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checks import shown, suggest


def as_numbers(x: Any, what: str) -> Tensor:
    """A tensor or array of real numbers in torch's default precision; bytes stay bytes, since they
    may stand for shares.

    Args:
        what: the values in words, for the sentence.

    Raises ValueError for what holds no real numbers.
    """
    if not isinstance(x, Tensor):
        x = torch.from_numpy(_real_array(x, what))
    if x.dtype in (torch.uint8, torch.get_default_dtype()) and x.layout == torch.strided:
        return x
    if x.is_complex() or x.is_quantized or x.layout != torch.strided:
        raise ValueError(f"{what} must be real numbers in a dense tensor, got another kind.")
    return x.to(torch.get_default_dtype())


def _is_exact(x: Any) -> bool:
    """Whether `x` is a tensor of float64, in which closed forms are computed."""
    return isinstance(x, Tensor) and x.dtype == torch.float64


def _real_array(x: Any, what: str) -> np.ndarray:
    """An array that torch can share: of bytes, or of numbers in the default precision."""
    try:
        array = np.asarray(x)
    except ValueError:  # lists of different lengths
        array = np.empty((), object)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} must be real numbers, got {in_words(array.dtype)}.")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with all infinite values
        if array.dtype != np.uint8:
            array = array.astype(str(torch.get_default_dtype()).removeprefix("torch."))
    return np.require(array, requirements=["C", "W"])


def in_words(dtype: np.dtype) -> str:
    """What an array holds, in words."""
    nouns = {"c": "complex numbers", "O": "Python objects", "U": "words", "S": "words"}
    return nouns.get(dtype.kind, "records or dates" if dtype.kind in "VMm" else "numbers")


def as_mask(mask: Any, size: int, what: str, shape: Sequence[int] | None = None) -> Tensor:
    """A mask (size,), or (size, *shape) if a shape is given, as bool, from bool or zeros and ones.

    Raises ValueError for all else.
    """
    if not (isinstance(mask, Tensor) and mask.dtype == torch.bool):
        numbers = as_numbers(mask, what)
        mask = numbers.bool() if bool(((numbers == 0) | (numbers == 1)).all()) else numbers
    whole = None if shape is None else (size, *shape)
    if mask.dtype != torch.bool or tuple(mask.shape) not in ((size,), whole):
        each = "" if whole is None else f" or of each entry, of shape {whole},"
        raise ValueError(
            f"{what} must hold {size} zeros and ones, one for each sample,{each} got values of"
            f" shape {tuple(mask.shape)}."
        )
    return mask


def as_places(x: Any, size: int, m: str) -> Tensor:
    """Places (size,) of categories, int64, -1 where they are not known.

    Raises ValueError for all else.
    """
    try:
        places = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        places = torch.zeros(())  # words, and lists of different lengths
    is_whole = not places.is_floating_point() and not places.is_complex()
    if tuple(places.shape) != (size,) or not is_whole or (len(places) and int(places.min()) < -1):
        raise ValueError(
            f"covariates[{m!r}] must hold {size} places of categories, whole numbers from -1 (not"
            f" known), one for each sample, got {shown(x)}; Covariate.places gives them."
        )
    return places.long()


def check_mappings(**values: Any) -> None:
    """Raises ValueError for a value that is no mapping by modality."""
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{name} must be a mapping by modality, such as {{'a': values}}, got"
                f" {shown(value)}."
            )


def check_masks(masks: Iterable[str], names: Iterable[str], what: str = "present[{!r}]") -> None:
    """Raises ValueError for a mask of a modality that does not exist, with the nearest."""
    names = list(names)
    for m in masks:
        if m not in names:
            raise ValueError(
                f"{what.format(m)} is a mask of no modality.{suggest(m, names)} There are:"
                f" {', '.join(names)}."
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


def with_holes(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, *shape) with NaN where an entry is not observed, and which samples have any entry.

    Args:
        observed: (B, *shape) bool.
    """
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype()) / 255
    return torch.where(observed, x, math.nan), observed.flatten(1).any(1)


def has_holes(x: Tensor) -> bool:
    """Whether an entry of the values is a hole, that is NaN."""
    return x.is_floating_point() and bool(x.isnan().any())


def is_observed(x: Tensor) -> Tensor:
    """Which samples of values (B, *shape) have an entry that is no hole, (B,) bool."""
    return (~x.isnan()).flatten(1).any(1)


def on(device: torch.device | str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values on `device`."""
    return {k: v.to(device) for k, v in values.items()}


def where_present(present: Mapping[str, Tensor], m: str, value: Tensor) -> Tensor:
    """`value` (..., B) where modality m is present, 0 where it is absent.

    Args:
        present: (B,) masks as in `Batch`; no key: all present.
    """
    return torch.where(present[m], value, 0) if m in present else value


@dataclass(frozen=True)
class Batch:
    """A batch of several modalities, any of which may be missing, wholly, for some samples, or in
    single entries.

    Args:
        x: x[m] of shape (B, *shape_m), tensors or arrays of real numbers. They become torch's
            default floating point; bytes, and tensors of float64, stay as they are until a model
            reads them. A modality that is not a key is missing for the whole batch. NaN is a hole:
            an entry that was not observed.
        present: present[m] of shape (B,), 0 or 1: which samples have modality m; or of shape
            (B, *shape_m): which entries, the others become holes, and a sample without any is
            absent. No key: all of them. Absent values are zeros once the batch is made.
        label: (B,) classes 0, 1, ..., or None; for evaluation and for methods that predict labels.
        kept: values that a stage computed once, each (B, ...); see `polymodal.model.Stage`.
        holes: the modalities that may have holes; None: looked for where it matters.
        hidden: hidden[m] of shape (B, *shape_m), bool: the holes whose values were observed and are
            hidden, in training or to be measured; of modalities that x does not have, too. No key:
            none. Only a model of why entries are missing asks.
        covariates: covariates[m] of shape (B,), the place of each sample's category in the
            covariate of modality m, which may be absent; -1: not known. No key: not known.

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
    holes: frozenset[str] | None = None
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    covariates: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_mappings(x=self.x, present=self.present, covariates=self.covariates)
        x = {m: v if _is_exact(v) else as_numbers(v, f"x[{m!r}]") for m, v in self.x.items()}
        object.__setattr__(self, "x", x)
        self._check_sizes()
        covariates = {m: as_places(v, len(self), m) for m, v in self.covariates.items()}
        object.__setattr__(self, "covariates", covariates)
        check_masks(self.present, x)
        present = {
            m: as_mask(v, len(self), f"present[{m!r}]", x[m].shape[1:])
            for m, v in self.present.items()
        }
        for m, mask in [*present.items()]:
            if mask.dim() > 1:
                x[m], present[m] = with_holes(x[m], mask)
                if bool(present[m].all()):
                    del present[m]
        object.__setattr__(self, "present", present)
        filled = {m: _fill(v, present[m]) if m in present else v for m, v in x.items()}
        object.__setattr__(self, "x", filled)

    def _check_sizes(self) -> None:
        sizes = {m: len(x) if x.dim() else None for m, x in self.x.items()}
        if len(set(sizes.values())) != 1 or None in sizes.values():
            raise ValueError(
                "A batch needs at least one modality and the same number of samples in each, got"
                f" {sizes}."
            )

    def __len__(self) -> int:
        return len(next(iter(self.x.values())))

    @property
    def device(self) -> torch.device:
        return next(iter(self.x.values())).device

    def has_holes(self, m: str) -> bool:
        """Whether entries of modality m may be holes."""
        return has_holes(self.x[m]) if self.holes is None else m in self.holes

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
            self.holes,
            self.hidden,
            self.covariates,
        )

    def inputs(self, m: str) -> Tensor:
        """What encoders read of modality m: its values (B, *shape); with a covariate (B, d + 1), in
        the last column the places of the categories.
        """
        x = self.x[m]
        if m not in self.covariates:
            return x
        return torch.cat([x, self.covariates[m].to(x).unsqueeze(-1)], -1)

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
        label = None if self.label is None else self.label[index]
        hidden = {m: v[index] for m, v in self.hidden.items()}
        covariates = {m: v[index] for m, v in self.covariates.items()}
        return Batch(x, present, label, kept, self.holes, hidden, covariates)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with everything on `device`."""

        x, present, kept = (on(device, values) for values in (self.x, self.present, self.kept))
        label = None if self.label is None else self.label.to(device)
        changes: dict[str, Any] = {"x": x, "present": present, "label": label, "kept": kept}
        changes |= {"hidden": on(device, self.hidden), "covariates": on(device, self.covariates)}
        return replace(self, **changes)


def batch_of(given: Batch | Mapping[str, Any]) -> Batch:
    """A batch as it is, or one of these values by modality."""
    return given if isinstance(given, Batch) else Batch(given)
