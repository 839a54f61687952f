"""Patterns of missing values laid over a data set: missing completely at random, at random, by
label, or unpaired.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polymodal.checks import BelowOne, Share, check_names, checked, find, typed, typed_arguments
from polymodal.data.dataset import Dataset
from polymodal.data.labels import Class
from polymodal.data.rows import gather
from polymodal.data.splits import PARTS, Splits

Rates = BelowOne | dict[str, BelowOne]


def mcar(data: Dataset, rate: Rates, seed: int = 0) -> Dataset:
    """`data` with modalities missing completely at random, each with probability `rate` (one for
    all, or by name).

    Every sample keeps at least one modality: a sample that would lose all keeps one of those that
    it had, chosen uniformly (the share missing is therefore rate - rate^M / M for M modalities, a
    little below `rate`). Modalities that were missing stay missing.

    Raises ValueError for a rate outside [0, 1) or of an unknown modality.
    """
    return _thinned(data, _rates(data.names, rate).expand(len(data), -1), seed)


@checked
def mar(
    data: Dataset, rate: Rates, seed: int = 0, *, driver: str | None = None, slope: float = 2.0
) -> Dataset:
    """`data` with modalities missing at random: the values of one modality, the driver, determine
    the probability that the others are missing.

    P(m missing | x) = sigmoid(a_m + slope s) for every modality m except the driver (default: the
    first), where s is the mean of the driver's values, standardised over the samples, and a_m is
    such that these probabilities have the mean `rate` (one for all the others, or by name). The
    driver is never removed, so that missingness depends only on observed values (Rubin 1976); a
    sample without the driver keeps its modalities. With slope 0 it is that of `mcar`.

    Raises ValueError for rates outside [0, 1), unknown names, a slope that is not a finite number,
    or a driver with one mean for all samples.
    """
    driver = data.names[0] if driver is None else driver
    if driver not in data.names:
        raise ValueError(
            f"missing.driver must be one of the modalities {data.names}, got {driver!r}."
        )
    if isinstance(rate, Mapping) and rate.get(driver):
        raise ValueError(f"missing.rate must not include the driver {driver!r}, got {rate}.")
    rates = _rates(data.names, rate)
    rates[data.names.index(driver)] = 0
    present = data.is_present(driver)
    chance = rates.new_zeros(len(data), len(rates))
    means = _means(data, driver)[present]
    score = slope * (means - means.mean()) / _spread(means, driver)
    chance[present] = _logistic(score, rates)
    return _thinned(data, chance, seed)


def _spread(means: Tensor, driver: str) -> Tensor:
    """The standard deviation of the driver's means. Raises ValueError if it is 0."""
    spread = means.std(correction=0) if len(means) else torch.zeros(())
    if not spread > 0:
        raise ValueError(
            f"All {len(means)} samples have the same mean of {driver!r}, on which nothing can then"
            " depend; choose another driver."
        )
    return spread


@checked
def by_label(data: Dataset, rate: Any, seed: int = 0, *, slope: float = 2.0) -> Dataset:
    """`data` with modalities missing at rates that depend on the label, which models do not see:
    not at random.

    `rate` is a table of rates by label, {0: .1, 1: .9} (other labels: 0) or a list whose k-th entry
    is the rate of label k; or one number, the mean rate: then P(missing | label) = sigmoid(a +
    slope r), r being the label's rank among the labels in the data, standardised over the samples.
    It holds for all modalities, or each has its own: {modality: table or number} (other modalities:
    0). Every sample keeps at least one modality, as by `mcar`.

    Raises ValueError for data without labels, a list that is too short for the labels, a slope that
    is not a finite number, or rates outside [0, 1].

    >>> from polymodal.data import shapes
    >>> data = by_label(shapes(n=2000).train, {"circle": [0.0, 0.5]})
    >>> [round((~data.present["circle"])[data.label == k].float().mean().item(), 1) for k in (0, 1)]
    [0.0, 0.5]
    """
    if data.label is None:
        raise ValueError(
            "The pattern label needs data with labels, and this data set has none; choose mcar or"
            " mar."
        )
    classes, rank = data.label.unique(return_inverse=True)
    values = [data.classes[k] for k in classes.tolist()]
    centred = rank - rank.double().mean()
    spread = centred.square().mean().sqrt().clamp_min(1e-9)  # of a single label: all scores are 0
    score = slope * centred / spread
    columns = []
    for m, table in _tables(data.names, rate).items():
        if isinstance(table, int | float):
            columns.append(_logistic(score, _rates([m], table))[:, 0])
        else:
            columns.append(_by_value(table, values, data.classes)[rank])
    return _thinned(data, torch.stack(columns, 1), seed)


def _tables(names: Sequence[str], rate: Any) -> dict[str, Any]:
    """The table or number of each modality."""
    if not isinstance(rate, Mapping) or not any(m in names for m in rate):
        return dict.fromkeys(names, rate)
    return _by_modality(names, rate)


@checked
def unpaired(data: Dataset, seed: int = 0, *, paired: Share = 0.0) -> Dataset:
    """`data` of which each sample keeps one of its modalities, chosen uniformly; round(paired * N)
    samples keep all.

    Raises ValueError for a share `paired` outside [0, 1].
    """
    generator, had = torch.Generator().manual_seed(seed), _had(data)
    keep = _one_of(had, generator)
    keep[torch.randperm(len(data), generator=generator)[: round(paired * len(data))]] = True
    return _with(data, had & keep)


PATTERNS: dict[str, Callable[..., Dataset]] = {
    "mcar": mcar,
    "mar": mar,
    "label": by_label,
    "unpaired": unpaired,
}


def remove_values(splits: Splits, settings: Mapping[str, Any], seed: int = 0) -> Splits:
    """A data set with values missing in some parts by a pattern, with independent draws for each
    part.

    `settings` holds `pattern` (a key of `PATTERNS`, default mcar), its arguments, and `parts`, a
    list of the parts in which values are missing (default train and val: the test part stays
    complete).

    Raises ValueError for an unknown pattern, part or argument (with the nearest), and what the
    pattern raises.
    """
    arguments = dict(settings)
    pattern = arguments.pop("pattern", "mcar")
    parts = _parts(arguments.pop("parts", PARTS[:2]))
    arguments = _checked(pattern, arguments)

    def change(part: str, data: Dataset) -> Dataset:
        if part not in parts:
            return data
        # Far from the seeds by which samples are drawn and matched, so that missingness is
        # independent of those.
        part_seed = 1_000_003 + 3 * seed + PARTS.index(part)
        return PATTERNS[pattern](data, seed=part_seed, **arguments)

    return splits.map(change)


def _parts(parts: Any) -> Sequence[str]:
    """Names of parts, from a list or one name."""
    parts = [parts] if isinstance(parts, str) else parts
    if not isinstance(parts, Sequence) or not parts or not all(p in PARTS for p in parts):
        raise ValueError(f"missing.parts must list some of {list(PARTS)}, got {parts!r}.")
    return parts


def _checked(pattern: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a pattern. Raises ValueError for an unknown pattern, or arguments that it
    does not take or lacks.
    """
    function = PATTERNS[find(pattern, PATTERNS, "pattern of missing values")]
    names = [n for n in inspect.signature(function).parameters if n not in ("data", "seed")]
    check_names(arguments, [*names, "pattern", "parts"], "missing")
    if "rate" in names and "rate" not in arguments:
        raise ValueError(
            f"missing.rate is needed, such as {{pattern: {pattern}, rate: 0.5}}; got"
            f" {dict(arguments)}."
        )
    return typed_arguments(function, arguments, "missing")


def _rates(names: Sequence[str], rate: Rates) -> Tensor:
    """Rates (M,) in the modalities' order, float64."""
    rate = typed(Rates, rate, "missing.rate")
    rates = _by_modality(names, rate) if isinstance(rate, Mapping) else dict.fromkeys(names, rate)
    return torch.tensor([*rates.values()], dtype=torch.float64)


def _by_modality(names: Sequence[str], rate: Mapping[str, Any]) -> dict[str, Any]:
    """The rates of all modalities, 0 of those that are not named."""
    unknown = [m for m in rate if m not in names]
    if unknown or not rate:
        raise ValueError(
            f"missing.rate names {unknown or 'nothing'}, but the modalities are {list(names)}."
        )
    return {m: rate.get(m, 0.0) for m in names}


def _by_value(table: Any, values: Sequence[Class], classes: Sequence[Class]) -> Tensor:
    """The rates of the labels `values`, (K,), from a mapping or a list; keys may be words, as in
    JSON.
    """
    if isinstance(table, str) or not isinstance(table, Mapping | Sequence):
        raise ValueError(
            "missing.rate needs a rate by label, such as {0: 0.1, 1: 0.9} or a list, got"
            f" {table!r}."
        )
    entries = table if isinstance(table, Mapping) else dict(enumerate(table))
    rates = {str(label): rate for label, rate in entries.items()}
    if isinstance(table, Mapping):
        for label in rates:
            find(label, map(str, classes), "label")
    elif unlisted := [v for v in values if str(v) not in rates]:
        raise ValueError(
            f"missing.rate lists {len(table)} rates, but the data has the label {unlisted[-1]}."
        )
    if not all(isinstance(r, int | float) and 0 <= r <= 1 for r in rates.values()):
        raise ValueError(f"missing.rate must hold rates between 0 and 1 by label, got {table}.")
    return torch.tensor([rates.get(str(v), 0.0) for v in values], dtype=torch.float64)


def _had(data: Dataset) -> Tensor:
    """Which modalities each sample has, (N, M) bool."""
    return torch.stack([data.is_present(m) for m in data.names], 1)


def _with(data: Dataset, keep: Tensor) -> Dataset:
    return replace(data, present=dict(zip(data.names, keep.unbind(1), strict=True)))


def _one_of(had: Tensor, generator: torch.Generator) -> Tensor:
    """One of the modalities that each sample had, chosen uniformly: (N, M) bool."""
    chosen = (torch.rand(had.shape, generator=generator) * had).argmax(1)
    return (torch.arange(had.shape[1]) == chosen[:, None]) & had


def _thinned(data: Dataset, chance: Tensor, seed: int) -> Dataset:
    """`data` without each modality with probability chance (N, M); a sample that would lose all
    keeps one.
    """
    generator, had = torch.Generator().manual_seed(seed), _had(data)
    keep = had & (torch.rand(had.shape, generator=generator) >= chance)
    return _with(data, keep | ~keep.any(1, keepdim=True) & _one_of(had, generator))


def _means(data: Dataset, m: str, at_once: int = 4096) -> Tensor:
    """The mean of the values of modality m in each sample, (N,) float64."""
    values = (gather(data.tables[m], rows) for rows in data.rows_of(m).split(at_once))
    return torch.cat([x.double().flatten(1).mean(1) for x in values])


def _logistic(score: Tensor, rates: Tensor) -> Tensor:
    """sigmoid(a_m + score) of scores (N,), with a_m such that their mean is rates (M,): (N, M), by
    bisection.
    """
    reach = score.abs().max() + 40
    low, high = -reach.expand(len(rates)), reach.expand(len(rates))
    for _ in range(60):  # leaves 1e-16 of the interval's length
        middle = (low + high) / 2
        above = torch.sigmoid(score[:, None] + middle).mean(0) > rates
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(rates > 0, torch.sigmoid(score[:, None] + (low + high) / 2), 0)
