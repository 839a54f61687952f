"""The data that settings name, and the settings that the data complete."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from polymodal.batch import OF_THE_DATA, Modality
from polymodal.checks import FilePath, plain
from polymodal.data import Splits, change_modalities, load_data
from polymodal.data.description import Description, describes, is_own, section_of
from polymodal.data.kinds import kind_of
from polymodal.settings.schema import DataSettings, Settings


def load_splits(
    settings: DataSettings,
    modalities: Mapping[str, Mapping[str, Any]],
    data: Splits | FilePath | None = None,
) -> Splits:
    """The data that the settings name, their modalities changed as the settings say, each with its
    kind.

    Args:
        settings: the section `data`.
        modalities: the section `modalities`: fields that differ from the data's.
        data: instead of the data that the settings name: `Splits`, or a file; or the folder in
            which the files of the named data set lie.

    Raises ValueError if no data is named, or what `load_data` raises.
    """
    if isinstance(data, Splits):
        return _with_kinds(change_modalities(data, modalities))
    if describes(settings.options) or (data is not None and is_own(data)):
        return _with_kinds(_described(settings, modalities, data))
    name, path = _location(settings, data)
    shared = {"path": path, "limit": settings.limit, "memory": settings.memory}
    options = {**shared, **settings.options}
    return _with_kinds(load_data(name, modalities=modalities, **options))


def _described(
    settings: DataSettings,
    modalities: Mapping[str, Mapping[str, Any]],
    data: FilePath | None,
) -> Splits:
    """The data that the settings describe.

    Args:
        data: instead of them: a description, a table, or the folder of the files.
    """
    given = plain(settings.model_dump())
    section = {k: v for k, v in given.items() if k in Description.model_fields}
    shared = {k: v for k, v in given.items() if k not in section and v is not None}
    if data is not None:
        is_folder = Path(data).expanduser().is_dir()
        section = {**section, "path": os.fspath(data)} if is_folder else section_of(data)
    return load_data(section, modalities=modalities, **shared)


def _with_kinds(splits: Splits) -> Splits:
    """The splits with the kind of every modality named, whether it was given or follows from the
    shape, and which modalities have holes in the training part.
    """
    splits = change_modalities(
        splits, {m.name: {"kind": kind_of(m).name} for m in splits.modalities}
    )
    holes = splits.train.holes or ()
    modalities = [replace(m, holes=m.holes or m.name in holes) for m in splits.modalities]
    return splits.map(lambda part, data: replace(data, modalities=modalities))


def _location(settings: DataSettings, data: FilePath | None) -> tuple[str, str | None]:
    """The name or file of the data, and the folder of its files."""
    name, path = settings.name, settings.path
    if name is None:  # a path without a name is a file
        name, path = path, None
    if data is not None:
        is_folder = Path(data).expanduser().is_dir()
        name, path = (name, os.fspath(data)) if is_folder else (os.fspath(data), None)
    if name is None:
        raise ValueError(
            "There is no data: set data.name to a data set or a file, give --data FILE.npz (one"
            " array for each modality), or pass Splits to fit."
        )
    return name, path


def complete(settings: Settings, modalities: Sequence[Modality]) -> Settings:
    """The settings with every field of every modality, and, for a method of METHODS, the network
    of every modality.

    Args:
        modalities: those of the data that `load_splits` returned.

    >>> modalities = [Modality("image", (3, 32, 32)), Modality("table", (8,), weight=2.0)]
    >>> settings = complete(Settings(method={"name": "jnf"}), modalities)
    >>> settings.networks
    {'image': 'svhn-conv', 'table': 'mlp'}
    >>> settings.modalities["table"]["weight"]
    2.0
    """
    changes: dict[str, Any] = {"modalities": {m.name: _fields(m) for m in modalities}}
    if settings.method.name is not None:
        defaults = {m.name: kind_of(m).network(m) for m in modalities}
        changes["networks"] = defaults | settings.networks
    return settings.model_copy(update=changes)


def _fields(modality: Modality) -> dict[str, Any]:
    """The fields of a modality that settings can change."""
    return {k: v for k, v in asdict(modality).items() if k not in OF_THE_DATA}
