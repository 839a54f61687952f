"""Data sets by name, and arrays of a user: `load_data`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from polymodal.batch import checked_fields
from polymodal.checks import (
    AUTO,
    Count,
    FilePath,
    Memory,
    Seed,
    check_names,
    checked,
    find,
    typed,
    typed_arguments,
)
from polymodal.data.celeba import ATTRIBUTES, celeba
from polymodal.data.celebamask import celebamask
from polymodal.data.cub import cub
from polymodal.data.dataset import Dataset
from polymodal.data.described import described, read_described
from polymodal.data.description import Description, is_description, is_own, section_of
from polymodal.data.digit_names import mnist_svhn_text
from polymodal.data.digits import match, mnist_fashion, mnist_svhn, mnist_svhn_fashion
from polymodal.data.in_memory import InMemory, from_memory, is_in_memory
from polymodal.data.kinds import KINDS, Kind, kind_of
from polymodal.data.linear_gaussian import LinearGaussian, linear_gaussian
from polymodal.data.missing import PATTERNS, by_label, mar, mcar, remove_values, unpaired
from polymodal.data.new_rows import read_rows, rows_table
from polymodal.data.npz import npz_file
from polymodal.data.polymnist import polymnist
from polymodal.data.polymnist_released import polymnist_released
from polymodal.data.readers.files import data_folder
from polymodal.data.rows import gather
from polymodal.data.shapes import circles, shapes, squares
from polymodal.data.splits import Splits
from polymodal.data.spoken import mnist_audio
from polymodal.data.tables import read_table
from polymodal.data.tables.values import filled
from polymodal.data.vocalisations import vocalisations
from polymodal.data.words import ids_of, texts_of, vocabulary_of
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
    "celebamask",
    "change_modalities",
    "circles",
    "cub",
    "data_folder",
    "described",
    "filled",
    "from_memory",
    "gather",
    "ids_of",
    "is_in_memory",
    "kind_of",
    "linear_gaussian",
    "load_data",
    "mar",
    "match",
    "mcar",
    "mnist_audio",
    "mnist_fashion",
    "mnist_svhn",
    "mnist_svhn_fashion",
    "mnist_svhn_text",
    "npz_file",
    "polymnist",
    "polymnist_released",
    "read_described",
    "read_rows",
    "read_table",
    "remove_values",
    "rows_table",
    "shapes",
    "squares",
    "texts_of",
    "unpaired",
    "vocabulary_of",
    "vocalisations",
]

DATASETS: dict[str, Callable[..., Splits]] = {
    "linear_gaussian": linear_gaussian,
    "shapes": shapes,
    "mnist-svhn": mnist_svhn,
    "mnist-fashion": mnist_fashion,
    "mnist-svhn-fashion": mnist_svhn_fashion,
    "mnist-svhn-text": mnist_svhn_text,
    "mnist-audio": mnist_audio,
    "polymnist": polymnist,
    "polymnist-released": polymnist_released,
    "celeba": celeba,
    "cub": cub,
    "celebamask": celebamask,
    "vocalisations": vocalisations,
}


@checked
def load_data(
    name_or_path: FilePath | InMemory,
    *,
    path: FilePath | None = None,
    limit: Count | None = None,
    seed: Seed = 0,
    missing: Mapping[str, Any] | None = None,
    modalities: Mapping[str, Mapping[str, Any]] | None = None,
    memory: Memory = AUTO,
    **kwargs: Any,
) -> Splits:
    """A data set by name (a key of `DATASETS`), or from a user's files: an `.npz` file (see
    `npz_file`), a table or a description (see `described`).

    Args:
        name_or_path: the name, or the file; a description as a mapping; or a DataFrame, or a
            mapping of arrays and DataFrames, see `from_memory`.
        path: the folder that holds the files of the named sets; default $POLYMODAL_DATA, else the
            user's cache directory.
        limit: keep the first `limit` samples of each part.
        seed: seed of matchings, splits, synthetic samples and missing values.
        missing: {"pattern": "mcar", "rate": .5} removes values from the training and validation
            parts, or from those that `parts` lists. Patterns, with their arguments: `mcar`, `mar`
            (depends on the values of one modality), `label` (`by_label`) and `unpaired`.
        modalities: {name: {"likelihood": ..., "weight": ..., "scale": ..., "link": ..., "kind":
            ..., "names": ...}}, settings of modalities that replace those of the data set.
        memory: what the data may take in memory, in GB; a user's larger files stay on disk (see
            `Dataset.streamed`); "auto": a quarter of what is available.
        kwargs: options of the data set, such as n or matchings.

    Raises:
        ValueError: in one sentence, for an unknown name or option (with the nearest), files that
            are absent or damaged, and values that cannot be trained on.

    >>> data = load_data("shapes", n=100, limit=20, missing={"pattern": "mcar", "rate": 0.5})
    >>> len(data.train), [m.name for m in data.modalities], list(data.train.present)
    (20, ['square', 'circle'], ['square', 'circle'])
    """
    held = is_in_memory(name_or_path)
    if not held and (isinstance(name_or_path, Mapping) or is_description(name_or_path)):
        own = name_or_path if isinstance(name_or_path, Mapping) else section_of(name_or_path)
        limit = own.get("limit") if limit is None else limit
        seed = seed or typed(Seed, own.get("seed") or 0, "data.seed")
        missing = own.get("missing") if missing is None else missing
        memory = own.get("memory", AUTO) if memory == AUTO else memory
    pattern = typed(dict[str, Any] | None, missing, "missing")
    modalities = typed(dict[str, dict[str, Any]] | None, modalities, "modalities")
    memory = typed(Memory, memory, "memory")
    shared = {"path": path, "seed": seed, "limit": limit, "memory": memory}
    if held:
        splits = from_memory(name_or_path, seed=seed, **kwargs)
    elif isinstance(name_or_path, Mapping):
        splits = _described(name_or_path, shared, kwargs)
    else:
        splits = _load(os.fspath(typed(FilePath, name_or_path, "The data")), shared, kwargs)
    if modalities:
        splits = change_modalities(splits, modalities)
    splits = splits.map(lambda part, data: data.first(limit))
    if pattern is not None:
        splits = remove_values(splits, pattern, seed)
    for name, part in splits.parts.items():
        part.check(name)
    return splits


def _load(name: str, shared: Mapping[str, Any], options: Mapping[str, Any]) -> Splits:
    """The data set of this name, or in this file, with those shared settings that it has."""
    key = dataset_key(name)
    if key is None and shared["path"] is not None:
        raise ValueError(
            f"{name} is a file, so that path={shared['path']} has no meaning; leave path out."
        )
    if key is None and is_own(name):
        return _described(name, shared, options)
    load: Callable[..., Splits] = DATASETS[key] if key else npz_file
    accepted = list(inspect.signature(load).parameters)
    named = [o for o in accepted if o not in shared]
    check_names(options, named, "data")
    arguments = {k: v for k, v in shared.items() if k in accepted}
    arguments |= typed_arguments(load, options, "data")
    if key is None:
        arguments["path"] = name
    return load(**arguments)


def _described(
    given: str | Mapping[str, Any], shared: Mapping[str, Any], options: Mapping[str, Any]
) -> Splits:
    """The data of a table or a description, which options may change."""
    check_names(options, [name for name in Description.model_fields if name != "path"], "data")
    folder = {} if shared["path"] is None else {"path": os.fspath(shared["path"])}
    return described(given, seed=shared["seed"], memory=shared["memory"], **folder, **options)


def dataset_key(name: str) -> str | None:
    """The key of `DATASETS` that a name means, "-" and "_" being alike; None for a file.

    Raises ValueError for a folder, and an unknown name that is no file, with the nearest.
    """
    for key in DATASETS:
        if key.replace("-", "_") == name.replace("-", "_"):
            return key
    is_named = name.endswith(".npz") or is_own(name)
    if not (is_named or os.path.exists(name)):
        find(name, DATASETS, "file or data set")
    if os.path.isdir(name):
        raise ValueError(
            f"{name} is a folder; name a data set and give the folder as path=, or give a file:"
            " an .npz file, a table (.csv, .parquet, ...) or a description (.yaml)."
        )
    return None


def change_modalities(splits: Splits, changes: Mapping[str, Mapping[str, Any]]) -> Splits:
    """The splits with other values in the fields of some modalities: {name: {field: value}}.

    Raises ValueError for a modality or field that does not exist, with the nearest, or a value
    that it does not take.
    """
    check_names(changes, splits.train.names, "modalities")
    fields = checked_fields(changes)
    modalities = [replace(m, **fields.get(m.name, {})) for m in splits.modalities]
    for modality in modalities:
        likelihood_of(modality)
        kind_of(modality)
    return splits.map(lambda part, data: replace(data, modalities=modalities))
