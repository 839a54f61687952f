"""`Kind`: how the values of one kind of data are read, described, checked, shown and written."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, as_numbers, in_words
from polymodal.checks.files import regular
from polymodal.data.readers.archives import array_for
from polymodal.data.rows import in_parts, rows_to_look_at
from polymodal.distributions.likelihoods import UNIT, likelihood_of, values_of

Shape = tuple[int, ...]
Asked = Literal["picture", "text", "cells", "file"]
VALUES = 2**22  # that are looked at at a time
# Values that a modality cannot have: which of them (bool), what they are, to be read after "has 3
# values", and what the user can do.
Fault = tuple[Tensor, str, str]


class Kind(ABC):
    """One kind of data. A new kind is a file in `polymodal.data.kinds` that registers a subclass.

    A kind holds no state; its methods take the modality. `name` is its key in `KINDS`, `likelihood`
    the default likelihood of its modalities, `visual` says whether its values are pictures, and
    `asked` how a person gives one value: a picture, a text, cells or a file. A modality that names
    no kind is of a kind with `by_shape`, if that `holds` its shape.
    """

    name: str
    likelihood: str = "normal"
    visual: bool = False
    asked: Asked = "file"
    by_shape: bool = False

    # What modalities are of this kind.

    @abstractmethod
    def holds(self, shape: Shape) -> bool:
        """Whether values of this kind can have this shape."""

    def claims(self, x: np.ndarray) -> bool:
        """Whether an array (N, ...) of a user's file, about which nothing else is said, is of this
        kind.
        """
        return False

    def network(self, modality: Modality) -> str:
        """The default network, a key of `polymodal.networks.architectures.NETWORKS`."""
        return "mlp"

    # Reading a data set.

    def describe(self, name: str, parts: Sequence[np.ndarray]) -> Modality:
        """The modality whose values are in `parts`, arrays (N, ...) of one shape but for N.

        Values that are all 0 or 1 (or NaN) are bernoulli. Raises ValueError for what is no number.
        """
        check_numbers(name, parts)
        shape = self.value_shape(parts[0])
        if all(is_binary(x) for x in parts):
            return Modality(name, shape, "bernoulli")
        return Modality(name, shape, self.likelihood)

    def value_shape(self, x: np.ndarray) -> Shape:
        """The shape of one value of an array (N, ...)."""
        return x.shape[1:] or (1,)

    def are_shares(self, modality: Modality) -> bool:
        """Whether bytes 0 to 255 of a modality stand for shares 0 to 1."""
        return modality.link == "sigmoid"

    def as_table(self, x: Any, modality: Modality, what: str = "") -> Tensor:
        """A tensor or array as a tensor: bytes that stand for shares (read as x / 255) stay bytes,
        other numbers become the default float.

        Args:
            what: the values in words; "": the modality's.

        Raises ValueError for what holds no real numbers.
        """
        values = as_numbers(x, what or f"The table of {modality.name!r}")
        is_number = values.dtype == torch.uint8 and not self.are_shares(modality)
        return values.to(torch.get_default_dtype()) if is_number else values

    def floats(self, x: Any, modality: Modality, what: str) -> Tensor:
        """`as_table`, bytes divided by 255."""
        values = self.as_table(x, modality, what)
        return values / 255 if values.dtype == torch.uint8 else values

    def table(self, x: Any, modality: Modality) -> Tensor:
        """A tensor or array (N, ...) as a table (N, *shape)."""
        return self.in_memory(self.as_table(x, modality), modality.shape)

    def in_memory(self, values: Tensor, shape: Shape) -> Tensor:
        """Values (N, ...) as (N, *shape), laid out in memory as networks of this kind read them."""
        return values.reshape(len(values), *shape).contiguous()

    # Checking.

    def faults(self, x: Tensor, modality: Modality) -> Iterator[Fault]:
        """What is wrong with values (N, *shape): first infinite ones, then those that the
        likelihood does not admit. `x` is floating, or uint8 (then read as x / 255). NaN is a hole,
        which a value can have unless it is text.
        """
        if x.dtype != torch.uint8:
            whole = likelihood_of(modality).words
            remedy = "repair them or leave those samples out"
            yield x.isinf(), "that are infinite", remedy
            yield x.isnan() & whole, "that are NaN", "mark those samples as absent"
        values = values_of(modality)
        if values is None or (x.dtype == torch.uint8 and values is UNIT):
            return
        admitted = values.admits(x / 255 if x.dtype == torch.uint8 else x) | x.isnan()
        remedy = (
            f"rescale them, or choose another likelihood (it is {modality.likelihood} with link"
            f" {modality.link})"
        )
        yield ~admitted, f"that are not {values.words}", remedy

    # Reading samples that a user gives.

    def read(self, file: Path, modality: Modality) -> Tensor:
        """The samples (B, *shape), float32, in a file that holds one value or several.

        Raises ValueError for a file that is absent, damaged or of another shape, and for values
        that the modality cannot have.
        """
        x = self.fit(self.load(regular(file), modality.name), modality, file)
        self.check(x, modality, str(file))
        return x

    def check(
        self, x: Tensor, modality: Modality, whose: str, rows: Any = ..., present: Any = 1
    ) -> None:
        """Raises ValueError for values that the modality cannot have, naming the samples.

        Args:
            x: (B', *shape).
            whose: the values in words.
            rows: (B,), those of the samples in x; ...: all.
            present: (B,), where the modality is present; 1: in all samples.
        """
        chosen = torch.arange(len(x), device=x.device) if rows is ... else rows
        looked, places = rows_to_look_at(x, chosen)
        counts: dict[str, Tensor] = {}  # by fault, of each row that is looked at
        remedies, start = {}, 0
        for some, part in in_parts(x, looked):
            for bad, words, remedy in self.faults(part, modality):
                remedies[words] = remedy
                if bad.any():
                    count = counts.setdefault(words, torch.zeros_like(looked))
                    count[start : start + len(some)] = bad.flatten(1).sum(1)
            start += len(some)
        for words in (words for words in remedies if words in counts):
            count = counts[words][places] * present
            if samples := count.nonzero().squeeze(1).tolist():
                raise ValueError(
                    f"{whose} has {int(count.sum())} values {words}, in {len(samples)} of"
                    f" {len(count)} samples (first: {samples[:5]}); {remedies[words]}."
                )

    def load(self, file: Path, name: str) -> np.ndarray:
        """The array in a file. Raises ValueError if it cannot be read."""
        if file.suffix.lower() in (".npy", ".npz"):
            return array_for(file, name)
        raise ValueError(f"{name!r} is read from .npy and .npz files, got {file}.")

    def fit(self, x: np.ndarray, modality: Modality, file: Path) -> Tensor:
        """An array from `file` as (B, *shape). Raises ValueError if it does not fit."""
        if not x.size:
            raise ValueError(f"{file} must hold at least one sample, got shape {x.shape}.")
        values = self.arrange(self.floats(x, modality, str(file)), modality.shape)
        if tuple(values.shape) == modality.shape:
            values = values[None]
        if tuple(values.shape[1:]) != modality.shape:
            sizes = ", ".join(map(str, modality.shape))
            raise ValueError(
                f"{modality.name!r} must have shape ({sizes}) or (B, {sizes}), but {file} holds"
                f" {x.shape}."
            )
        return values

    def arrange(self, values: Tensor, shape: Shape) -> Tensor:
        """The values with their axes in the order of `shape`, as far as they can be recognised."""
        return values

    # Showing and writing.

    def span(self, x: Tensor, modality: Modality) -> tuple[float, float]:
        """The values that `show` makes black and white: 0 and 1 for shares, else the smallest and
        largest of `x`.
        """
        return (0.0, 1.0) if modality.link == "sigmoid" else (float(x.min()), float(x.max()))

    @abstractmethod
    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Values (n, *shape) as n small colour pictures (n, 3, H, W) in [0, 1], for
        `polymodal.data.kinds.pixels.mosaic`; see `span`.
        """

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        """One value (*shape) as a file that `read` reads: its suffix and its content."""
        content = io.BytesIO()
        np.save(content, x.detach().cpu().numpy())
        return ".npy", content.getvalue()

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """Files to look at what was generated, beside the arrays: their names and contents.

        Args:
            draws: (n, B, *shape), n draws for each of B samples.
            modality: what was drawn.
            above: what was given, as `show` shows it: one (B', 3, H, W) for each modality. Nothing:
                the draws are joint samples, and B is 1.
        """
        return {}


KINDS: dict[str, Kind] = {}

K = TypeVar("K", bound=Kind)


def register(kind: type[K]) -> type[K]:
    """Puts an instance of a class of kinds into `KINDS`, under its `name`."""
    KINDS[kind.name] = kind()
    return kind


def scaled(x: Tensor, span: tuple[float, float]) -> Tensor:
    """Values as brightness in [0, 1] on the CPU, the two of `span` as black and white."""
    low, high = span
    return ((x.detach().float().cpu() - low) / max(high - low, 1e-12)).clamp(0, 1)


def is_binary(x: np.ndarray) -> bool:
    """Whether all values (N, ...) are 0, 1 or NaN."""
    some = max(1, VALUES // max(1, x[:1].size))
    parts = (x[k : k + some] for k in range(0, len(x), some))
    return all(((y == 0) | (y == 1) | np.isnan(y)).all() for y in parts)


def check_numbers(name: str, parts: Sequence[np.ndarray]) -> None:
    """Raises ValueError unless all arrays (N, ...) hold real numbers."""
    if any(x.dtype.kind not in "biuf" or x.ndim < 1 for x in parts):
        raise ValueError(
            f"{name!r} must hold real numbers, one row for each sample, got"
            f" {in_words(parts[0].dtype)} of shape {parts[0].shape}."
        )
