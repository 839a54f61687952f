"""Data sets by name, and arrays of a user: `load_data`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.checks import check_names, find
from polymodal.data.celeba import ATTRIBUTES, celeba
from polymodal.data.dataset import Dataset, Splits, gather
from polymodal.data.digits import match, mnist_fashion, mnist_svhn, mnist_svhn_fashion
from polymodal.data.kinds import KINDS, Kind, kind_of
from polymodal.data.linear_gaussian import LinearGaussian, linear_gaussian
from polymodal.data.missing import PATTERNS, by_label, lay, mar, mcar, unpaired
from polymodal.data.polymnist import polymnist
from polymodal.data.readers.arrays import own_arrays
from polymodal.data.readers.files import data_folder
from polymodal.data.shapes import circles, shapes, squares
from polymodal.distributions.likelihoods import likelihood_of

__all__ = [
    "ATTRIBUTES",
    "DATASETS",
    "KINDS",
    "PATTERNS",
    "Dataset",
    "Kind",
    "LinearGaussian",
    "Splits",
    "by_label",
    "celeba",
    "change_modalities",
    "circles",
    "data_folder",
    "gather",
    "kind_of",
    "lay",
    "linear_gaussian",
    "load_data",
    "mar",
    "match",
    "mcar",
    "mnist_fashion",
    "mnist_svhn",
    "mnist_svhn_fashion",
    "own_arrays",
    "polymnist",
    "shapes",
    "squares",
    "unpaired",
]

DATASETS: dict[str, Callable[..., Splits]] = {
    "linear_gaussian": linear_gaussian,
    "shapes": shapes,
    "mnist-svhn": mnist_svhn,
    "mnist-fashion": mnist_fashion,
    "mnist-svhn-fashion": mnist_svhn_fashion,
    "polymnist": polymnist,
    "celeba": celeba,
}


def load_data(
    name_or_path: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    missing: str | Mapping[str, Any] | None = None,
    modalities: Mapping[str, Mapping[str, Any]] | None = None,
    **kwargs: Any,
) -> Splits:
    """A data set by name (a key of `DATASETS`), or from a user's `.npz` file (see `own_arrays`).

    Args:
        name_or_path: the name, or the file.
        path: the folder that holds the files of the named sets; default $POLYMODAL_DATA, else the
            user's cache directory.
        limit: keep the first `limit` samples of each part.
        seed: seed of matchings, splits, synthetic samples and missing values.
        missing: {"pattern": "mcar", "rate": .5} removes values from the training and validation
            parts, or from those that `parts` lists. Patterns, with their arguments: `mcar`, `mar`
            (depends on the values of one modality), `label` (`by_label`) and `unpaired`. "nan"
            (a user's file; or `nan: true` in the mapping): a sample whose values of a modality are
            all NaN is missing that modality.
        modalities: {name: {"likelihood": ..., "weight": ..., "scale": ..., "link": ..., "kind":
            ...}}, settings of modalities that replace those of the data set.
        kwargs: options of the data set, such as n or matchings.

    Raises:
        ValueError: in one sentence, for an unknown name or option (with the nearest), files that
            are absent or damaged, and values that cannot be trained on.

    >>> data = load_data("shapes", n=100, limit=20, missing={"pattern": "mcar", "rate": 0.5})
    >>> len(data.train), [m.name for m in data.modalities], list(data.train.present)
    (20, ['square', 'circle'], ['square', 'circle'])
    """
    pattern, nan_is_missing = _missing(missing)
    shared = {"path": path, "seed": seed, "limit": limit, "nan_is_missing": nan_is_missing}
    splits = _load(os.fspath(name_or_path), shared, kwargs)
    if modalities:
        splits = change_modalities(splits, modalities)
    if limit is not None:
        splits = _limited(splits, limit)
    if pattern:
        splits = lay(splits, pattern, seed)
    for part in (splits.train, splits.val, splits.test):
        part.check()
    return splits


def _missing(missing: str | Mapping[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """The pattern of missing values, and whether NaN means missing."""
    if missing is None:
        return {}, False
    if missing == "nan":
        return {}, True
    if isinstance(missing, str):
        raise ValueError(
            'missing must be "nan" or a mapping such as {pattern: mcar, rate: 0.5}, got'
            f" {missing!r}."
        )
    pattern = dict(missing)
    nan_is_missing = bool(pattern.pop("nan", False))
    return pattern, nan_is_missing


def _load(name: str, shared: Mapping[str, Any], options: Mapping[str, Any]) -> Splits:
    """The data set of this name, or in this file, with those shared settings that it has."""
    key = _key(name)
    load: Callable[..., Splits] = DATASETS[key] if key else own_arrays
    accepted = list(inspect.signature(load).parameters)
    check_names(options, accepted, "data")
    arguments = {k: v for k, v in shared.items() if k in accepted} | dict(options)
    if key is None:
        arguments["path"] = name
    return load(**arguments)


def _key(name: str) -> str | None:
    """The key of `DATASETS` that a name means, "-" and "_" being alike; None for a file."""
    for key in DATASETS:
        if key.replace("-", "_") == name.replace("-", "_"):
            return key
    if not (name.endswith(".npz") or Path(name).exists()):
        find(name, DATASETS, "file or data set")
    if Path(name).is_dir():
        raise ValueError(
            f"{name} is a folder; name a data set and give the folder as path=, or give an .npz"
            " file."
        )
    return None


def change_modalities(splits: Splits, changes: Mapping[str, Mapping[str, Any]]) -> Splits:
    """The splits with other values in the fields of some modalities: {name: {field: value}}.

    Raises ValueError for a modality or field that does not exist, with the nearest, or a value
    that it does not take.
    """
    check_names(changes, splits.train.names, "modalities")
    settings = [f.name for f in fields(Modality) if f.name not in ("name", "shape")]
    for m, change in changes.items():
        check_names(change, settings, f"modalities.{m}")
    modalities = [replace(m, **changes.get(m.name, {})) for m in splits.modalities]
    for modality in modalities:
        likelihood_of(modality)
        kind_of(modality)
    return splits.map(lambda part, data: replace(data, modalities=modalities))


def _limited(splits: Splits, limit: int) -> Splits:
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    return splits.map(lambda part, data: _first(data, limit))


def _first(data: Dataset, limit: int) -> Dataset:
    return data if len(data) <= limit else data.take(torch.arange(limit))
