"""Data sets by name, and a user's own arrays: `load_data`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.checks import meant
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
    """A data set by name (a key of `DATASETS`), or a user's own `.npz` file (see `own_arrays` for
    what it holds).

    Args:
        path: the folder where files lie, for the named sets; default $POLYMODAL_DATA, else the
            user's cache directory.
        limit: keep the first `limit` samples of the training part, and at most as many of the other
            two.
        seed: of what is drawn: matchings, splits, synthetic samples, what is missing.
        missing: {"pattern": "mcar", "rate": .5} takes values away from the training and validation
            parts, or from those that `parts` lists. Patterns, with their arguments: `mcar`, `mar`
            (by how one modality looks), `label` (`by_label`) and `unpaired`. "nan" (own files; or
            `nan: true` in the mapping) takes a sample whose values of a modality are all NaN for
            missing.
        modalities: {name: {"likelihood": ..., "weight": ..., "scale": ..., "link": ...}}, changes
            to what each is.
        kwargs: the data set's own, such as n or matchings.

    Raises:
        ValueError: in one sentence, for an unknown name or option (with the nearest), files that
            are absent or damaged, and values that cannot be trained on.

    >>> data = load_data("shapes", n=100, limit=20, missing={"pattern": "mcar", "rate": 0.5})
    >>> len(data.train), [m.name for m in data.modalities], bool(data.train.batch(torch.arange(20)).present)
    (20, ['square', 'circle'], True)
    """
    pattern = (
        dict(missing) if isinstance(missing, Mapping) else {"nan": True} if missing == "nan" else {}
    )
    if isinstance(missing, str) and missing != "nan":
        raise ValueError(
            'missing must be "nan" or a mapping such as {pattern: mcar, rate: 0.5}, got'
            f" {missing!r}."
        )
    shared = {
        "path": path,
        "seed": seed,
        "limit": limit,
        "nan_is_missing": bool(pattern.pop("nan", False)),
    }
    splits = _load(name_or_path, shared, kwargs)
    if modalities:
        splits = change_modalities(splits, modalities)
    if limit is not None:
        splits = _limited(splits, limit)
    if pattern:
        splits = lay(splits, pattern, seed)
    for part in (splits.train, splits.val, splits.test):
        part.check()
    return splits


def _load(
    name_or_path: str | os.PathLike[str], shared: dict[str, Any], own: dict[str, Any]
) -> Splits:
    name = os.fspath(name_or_path)
    names = {key.replace("-", "_"): key for key in DATASETS}
    key = names.get(name.replace("-", "_"))
    if key is None and not (name.endswith(".npz") or Path(name).exists()):
        raise ValueError(f"There is no data set {name!r} and no such file; {meant(name, DATASETS)}")
    if key is None and Path(name).is_dir():
        raise ValueError(
            f"{name} is a folder; name a data set and give the folder as path=, or give an .npz"
            " file."
        )
    load: Callable[..., Splits] = DATASETS[key] if key else own_arrays
    known = list(inspect.signature(load).parameters)
    if unknown := [k for k in own if k not in known]:
        raise ValueError(f"{name} has no option {unknown[0]!r}; {meant(unknown[0], known)}")
    given = {k: v for k, v in shared.items() if k in known} | own
    return load(**given) if key else load(**given | {"path": name})


def change_modalities(splits: Splits, changes: Mapping[str, Mapping[str, Any]]) -> Splits:
    """The splits with other values in the fields of some modalities: {name: {field: value}}.

    Raises ValueError for a modality or field that does not exist, with the nearest, or a value
    that it does not take.
    """
    names = splits.train.names
    allowed = [f.name for f in fields(Modality) if f.name not in ("name", "shape")]
    for m, change in changes.items():
        if m not in names:
            raise ValueError(f"The data has no modality {m!r}; {meant(m, names)}")
        if unknown := [k for k in change if k not in allowed]:
            raise ValueError(
                f"A modality has no setting {unknown[0]!r}; {meant(unknown[0], allowed)}"
            )
    new = [replace(m, **changes.get(m.name, {})) for m in splits.modalities]
    for modality in new:
        likelihood_of(modality)
        kind_of(modality)
    parts = {p: replace(getattr(splits, p), modalities=new) for p in ("train", "val", "test")}
    return replace(splits, **parts)


def _limited(splits: Splits, limit: int) -> Splits:
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    first = lambda data: data if len(data) <= limit else data.take(torch.arange(limit))
    return replace(
        splits, train=first(splits.train), val=first(splits.val), test=first(splits.test)
    )
