"""The runs of a page: their labels and their data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polymodal.data import Splits
from polymodal.data.readers.files import downloads
from polymodal.runs.info import computed
from polymodal.runs.run import Run
from polymodal.settings.data import load_splits
from polymodal.settings.schema import DataSettings


@dataclass(frozen=True)
class Comparison:
    """The runs of a page with their labels, and their data."""

    runs: Sequence[Run]
    labels: Sequence[str]
    data: Splits

    def __iter__(self) -> Iterator[tuple[str, Run]]:
        return zip(self.labels, self.runs, strict=True)

    @cached_property
    def first(self) -> dict[str, Run]:
        """The first run of each label: the one that is shown in pictures."""
        first: dict[str, Run] = {}
        for label, run in self:
            first.setdefault(label, run)
        return first

    def check(self) -> None:
        """Raises ValueError for a run of other modalities than the data's."""
        shapes = [(m.name, m.shape) for m in self.data.modalities]
        for label, run in self:
            if (other := [(m.name, m.shape) for m in run.modalities]) != shapes:
                raise ValueError(
                    f"All runs in a report must use the same data, with modalities {shapes};"
                    f" {label!r} has {other}."
                )


def data_of(
    settings: Mapping[str, Any], data: str | None = None, *, offline: bool = False
) -> Splits:
    """The data that a run's settings name; `data` instead: a file, or the folder of the named
    sets. Nothing is downloaded into a folder that the run names, and nothing at all if `offline`.
    """
    section = DataSettings(**settings["data"])
    before = downloads.set(not offline and (data is not None or section.path is None))
    try:
        return load_splits(section, settings["modalities"], data)
    finally:
        downloads.reset(before)


def label_of(runs: Sequence[Run]) -> list[str]:
    """A label for each run: its method; the name of its directory, without the seed, if a run with
    other settings or data has the same method.
    """
    identities = [_identity(run) for run in runs]
    settings: dict[str, set[str]] = {}
    for run, identity in zip(runs, identities, strict=True):
        settings.setdefault(_method_of(run), set()).add(identity)
    labels = []
    for run, identity in zip(runs, identities, strict=True):
        method = _method_of(run)
        other = f"{method} {identities.index(identity) + 1}"
        labels.append(method if len(settings[method]) == 1 else _directory_of(run) or other)
    return labels


def check_distinct(runs: Sequence[Run], labels: Sequence[str]) -> None:
    """Raises ValueError for two runs of the same label and seed."""
    named = [(label, run.seed) for label, run in zip(labels, runs, strict=True)]
    for label, seed in named:
        if named.count((label, seed)) > 1:
            raise ValueError(f"{label} comes twice with seed {seed}; name runs of different seeds.")


def _identity(run: Run) -> str:
    """All that determines the numbers of a run but its seed, as text."""
    return json.dumps(computed(run.info) | {"seed": None}, sort_keys=True)


def _method_of(run: Run) -> str:
    return run.method_name.replace("_", "-")


def _directory_of(run: Run) -> str:
    """The name of the run's directory, without the seed; "" if it has none."""
    return "" if run.directory is None else re.sub(r"-seed\d+$", "", run.directory.name)
