"""Laying a pattern of missing values over a data set: completely at random, at random, by label, or
unpaired.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polymodal.checks import meant
from polymodal.data.dataset import Dataset, Splits, gather

Rates = float | Mapping[str, float]
PARTS = ("train", "val", "test")


def mcar(data: Dataset, rate: Rates, seed: int = 0) -> Dataset:
    """`data` with modalities missing completely at random, each with probability `rate` (one for
    all, or by name).

    Every sample keeps at least one modality: one that would lose all keeps one of those it had,
    chosen evenly (so the share missing is a little below `rate`: rate - rate^M / M of M
    modalities). What was missing stays missing.

    Raises ValueError for a rate outside [0, 1) or of an unknown modality.
    """
    return _thinned(data, _rates(data.names, rate).expand(len(data), -1), seed)


def mar(
    data: Dataset, rate: Rates, seed: int = 0, *, driver: str | None = None, slope: float = 2.0
) -> Dataset:
    """`data` with modalities missing at random: what one that is there looks like decides whether
    the others are.

    P(m missing | x) = sigmoid(a_m + slope s) for every modality m but the driver (default: the
    first), where s is the mean of the driver's values, standardised over the samples, and a_m is
    such that these probabilities have the mean `rate` (one for all the others, or by name). The
    driver loses nothing, so that missingness depends on what is observed alone (Rubin 1976); a
    sample without it keeps what it had. At slope 0 the rest is missing as by `mcar`.

    Raises ValueError for rates outside [0, 1), names there are not, a slope that is no number, or a
    driver with one mean for all samples.
    """
    driver = data.names[0] if driver is None else driver
    if driver not in data.names:
        raise ValueError(
            f"missing.driver must be one of the modalities {data.names}, got {driver!r}."
        )
    if isinstance(rate, Mapping) and rate.get(driver):
        raise ValueError(
            f"missing.rate must leave out {driver!r}, by whose values the others are missing; got"
            f" {rate}."
        )
    rates = _rates(data.names, rate)
    rates[data.names.index(driver)] = 0
    here = _had(data)[:, data.names.index(driver)]
    score = _means(data, driver)[here]
    spread = score.std(correction=0) if len(score) else torch.zeros(())
    if not spread > 0:
        raise ValueError(
            f"All {len(data)} samples have the same mean of {driver!r}, which then decides nothing;"
            " choose another driver."
        )
    chance = rates.new_zeros(len(data), len(rates))
    chance[here] = _logistic(_finite("slope", slope) * (score - score.mean()) / spread, rates)
    return _thinned(data, chance, seed)


def by_label(data: Dataset, rate: Any, seed: int = 0, *, slope: float = 2.0) -> Dataset:
    """`data` with modalities missing at rates that depend on the label, which models do not see:
    not at random.

    `rate` is a table of rates by label, {0: .1, 1: .9} (a label that it does not name: 0) or a list
    whose k-th entry is that of label k; or one number, the mean rate: P(missing | label) =
    sigmoid(a + slope r) then, r being the label's rank among those there are, standardised over the
    samples. All modalities follow it, or each its own: {modality: table or number} (one that it
    does not name: 0). Every sample keeps at least one modality, as by `mcar`.

    Raises ValueError for data without labels, a list shorter than the labels need, keys that are
    neither whole numbers nor modalities, a slope that is no number, or rates outside [0, 1].

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
    tables = dict.fromkeys(data.names, rate)
    if isinstance(rate, Mapping) and any(m in data.names for m in rate):
        if unknown := [m for m in rate if m not in data.names]:
            raise ValueError(f"missing.rate names {unknown}, but the modalities are {data.names}.")
        tables = {m: rate.get(m, 0.0) for m in data.names}
    values, rank = data.label.unique(return_inverse=True)
    score = rank - rank.double().mean()
    score = (
        _finite("slope", slope) * score / score.square().mean().sqrt().clamp_min(1e-9)
    )  # of one label: zeros
    columns = [
        (
            _logistic(score, _rates([m], t))[:, 0]
            if isinstance(t, int | float)
            else _by_value(t, values.tolist())[rank]
        )
        for m, t in tables.items()
    ]
    return _thinned(data, torch.stack(columns, 1), seed)


def unpaired(data: Dataset, seed: int = 0, *, paired: float = 0.0) -> Dataset:
    """`data` of which each sample keeps one modality of those it had, chosen evenly; round(paired *
    N) keep all.

    Raises ValueError for a share `paired` outside [0, 1].
    """
    if not 0 <= _finite("paired", paired) <= 1:
        raise ValueError(f"missing.paired must be a share between 0 and 1, got {paired}.")
    generator, had = torch.Generator().manual_seed(seed), _had(data)
    one = _one_of(had, generator)
    one[torch.randperm(len(data), generator=generator)[: round(paired * len(data))]] = True
    return _with(data, had & one)


PATTERNS: dict[str, Callable[..., Dataset]] = {
    "mcar": mcar,
    "mar": mar,
    "label": by_label,
    "unpaired": unpaired,
}


def lay(splits: Splits, settings: Mapping[str, Any], seed: int = 0) -> Splits:
    """A pattern laid over some parts of a data set, each with draws of its own.

    `settings` holds `pattern` (a key of `PATTERNS`, default mcar), its arguments, and `parts`, the
    list of those it is laid over (default train and val: the test part stays complete).

    Raises ValueError for an unknown pattern, part or argument (with the nearest), and what the
    pattern raises.
    """
    given = dict(settings)
    pattern, parts = given.pop("pattern", "mcar"), given.pop("parts", PARTS[:2])
    if pattern not in PATTERNS:
        raise ValueError(
            "missing must be a mapping such as {pattern: mcar, rate: 0.5} with a pattern of"
            f" {list(PATTERNS)}, got {dict(settings)}."
        )
    parts = [parts] if isinstance(parts, str) else parts
    if not isinstance(parts, Sequence) or not parts or not all(p in PARTS for p in parts):
        raise ValueError(f"missing.parts must list some of {list(PARTS)}, got {parts!r}.")
    taken = inspect.signature(PATTERNS[pattern]).parameters
    known = [name for name in taken if name not in ("data", "seed")]
    if wrong := [key for key in given if key not in known]:
        end = meant(wrong[0], [*known, "pattern", "parts"])
        raise ValueError(
            f"The pattern {pattern} of missing values has no setting {wrong[0]!r}; {end}"
        )
    if "rate" in known and "rate" not in given:
        raise ValueError(
            f"missing.rate is needed, such as {{pattern: {pattern}, rate: 0.5}}; got"
            f" {dict(settings)}."
        )
    # Far from the seeds by which samples are drawn and matched, so that what is missing does not
    # follow from those.
    seeds = {part: 1_000_003 + 3 * seed + k for k, part in enumerate(PARTS)}
    over = lambda p, data: PATTERNS[pattern](data, seed=seeds[p], **given) if p in parts else data
    train, val, test = (
        over("train", splits.train),
        over("val", splits.val),
        over("test", splits.test),
    )
    return replace(splits, train=train, val=val, test=test)


def _finite(name: str, value: float) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"missing.{name} must be a finite number, got {value!r}.")
    return value


def _rates(names: Sequence[str], rate: Rates) -> Tensor:
    """Rates (M,) in the modalities' order, float64."""
    if isinstance(rate, Mapping) and (unknown := [m for m in rate if m not in names]):
        raise ValueError(f"missing.rate names {unknown}, but the modalities are {list(names)}.")
    rates = [rate.get(m, 0.0) for m in names] if isinstance(rate, Mapping) else [rate] * len(names)
    if not all(isinstance(r, int | float) and 0 <= r < 1 for r in rates):
        raise ValueError(f"missing.rate must be at least 0 and below 1, got {rate}.")
    return torch.tensor(rates, dtype=torch.float64)


def _by_value(table: Any, values: Sequence[int]) -> Tensor:
    """The rates of the label values, (K,); the keys of mappings may be words, as JSON has them."""
    if not isinstance(table, Mapping | Sequence) or isinstance(table, str):
        raise ValueError(
            "missing.rate needs a rate by label, such as {0: 0.1, 1: 0.9} or a list, got"
            f" {table!r}."
        )
    if not isinstance(table, Mapping) and max(values) >= len(table):
        raise ValueError(
            f"missing.rate lists {len(table)} rates, but the data has the label {max(values)}."
        )
    try:
        rates = {
            int(k): float(r)
            for k, r in (table.items() if isinstance(table, Mapping) else enumerate(table))
        }
    except (TypeError, ValueError):
        raise ValueError(
            "missing.rate needs whole numbers as labels, or the modalities' names, and numbers as"
            f" rates, got {table}."
        ) from None
    if not all(0 <= r <= 1 for r in rates.values()):
        raise ValueError(f"missing.rate must hold rates between 0 and 1 by label, got {table}.")
    return torch.tensor([rates.get(v, 0.0) for v in values], dtype=torch.float64)


def _had(data: Dataset) -> Tensor:
    """What is present, (N, M) bool."""
    return torch.stack([data.is_present(m) for m in data.names], 1)


def _with(data: Dataset, keep: Tensor) -> Dataset:
    return replace(data, present=dict(zip(data.names, keep.unbind(1), strict=True)))


def _one_of(had: Tensor, generator: torch.Generator) -> Tensor:
    """One of what each sample had, chosen evenly: (N, M) bool."""
    chosen = (torch.rand(had.shape, generator=generator) * had).argmax(1)
    return (torch.arange(had.shape[1]) == chosen[:, None]) & had


def _thinned(data: Dataset, chance: Tensor, seed: int) -> Dataset:
    """`data` without each modality with probability chance (N, M); who would lose all keeps one."""
    generator, had = torch.Generator().manual_seed(seed), _had(data)
    keep = had & (torch.rand(had.shape, generator=generator) >= chance)
    return _with(data, keep | ~keep.any(1, keepdim=True) & _one_of(had, generator))


def _means(data: Dataset, m: str, at_once: int = 4096) -> Tensor:
    """The mean of the values of modality m of each sample, (N,) float64."""
    parts = data.rows_of(m).split(at_once)
    return torch.cat([gather(data.tables[m], r).double().flatten(1).mean(1) for r in parts])


def _logistic(score: Tensor, rates: Tensor) -> Tensor:
    """sigmoid(a_m + score) of scores (N,), with a_m such that their mean is rates (M,): (N, M), by
    bisection.
    """
    reach = score.abs().max() + 40
    low, high = -reach.expand(len(rates)), reach.expand(len(rates))
    for _ in range(60):  # of the interval's length 1e-16 is left
        middle = (low + high) / 2
        above = torch.sigmoid(score[:, None] + middle).mean(0) > rates
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(rates > 0, torch.sigmoid(score[:, None] + (low + high) / 2), 0)
