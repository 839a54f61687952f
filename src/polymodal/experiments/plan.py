"""Recipes to runs: one recipe is one run; a comparison is several, for several seeds, in which
equal stages are trained once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polymodal.checks import check_names
from polymodal.data import Splits
from polymodal.experiments.changes import Changes
from polymodal.experiments.sharing import common_stages
from polymodal.experiments.vary import variants
from polymodal.model import Method
from polymodal.settings.data import complete, load_splits
from polymodal.settings.merge import merge, parse_overrides
from polymodal.settings.recipes import beside, is_file
from polymodal.settings.resolve import resolve
from polymodal.settings.schema import Settings
from polymodal.training.checks import (
    check_evaluation,
    check_method,
    check_reuse,
    check_sources,
)
from polymodal.training.memory import built


@dataclass(frozen=True)
class Planned:
    """A run that is to be trained.

    Args:
        label: its name in a comparison, without the seed; with the values of `vary`.
        settings: of the run, with the fields and the network of every modality.
        seed: of the run.
        directory: where it is written.
        reuse: directories of the runs from which stages are taken, by stage.
        stages: their names, in order.
        parameters: numbers of parameters by part of the model.
    """

    label: str
    settings: Settings
    seed: int
    directory: Path
    reuse: Mapping[str, Path] = field(default_factory=dict)
    stages: Sequence[str] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The runs of a recipe, the data on which all of them train, the settings of the recipe, and
    what the user should know of them.
    """

    runs: Sequence[Planned]
    data: Splits
    settings: Settings
    notes: Sequence[str] = ()

    @property
    def compares(self) -> bool:
        """Whether the recipe is a comparison."""
        return bool(self.settings.compare or self.settings.vary)


@dataclass(frozen=True)
class Candidate:
    """A recipe of a plan: its settings and its method, built but not trained."""

    settings: Settings
    method: Method

    @property
    def stages(self) -> list[str]:
        """The names of the stages, in order."""
        return [stage.name for stage in self.method.stages]


def make_plan(
    recipe: str,
    out: Path,
    overrides: Sequence[str] = (),
    data: str | None = None,
    seed: int | None = None,
    reuse: Mapping[str, Path] | None = None,
) -> Plan:
    """The runs of a recipe; trains nothing.

    Args:
        recipe: a built-in name or a YAML file.
        out: the run directory; of a comparison: the directory in which each run has one,
            <label>-seed<k>.
        overrides: key=value; they win over every recipe.
        data: an .npz file, or the folder of the named data sets.
        seed: of the run, instead of 0 or the recipe's seeds.
        reuse: {stage: run directory}; of a comparison, for all of its runs that have the stage.

    Raises ValueError for an unknown recipe, setting, stage or data set, with the nearest name.
    """
    changes = Changes(overrides, data)
    whole = merge(changes.read(recipe), parse_overrides(overrides))
    settings, given = resolve(whole), dict(reuse or {})
    if settings.compare or settings.vary:
        splits, candidates = _compared(recipe, whole, settings, changes)
        seeds = list(dict.fromkeys(settings.seeds or [0])) if seed is None else [seed]
        _check_given(given, candidates.values(), seeds)
        recipes = [recipe, *(beside(recipe, name) for name in settings.compare)]
        runs = _runs(candidates, seeds, out, given)
        return Plan(runs, splits, settings, changes.all_notes(recipes))
    splits = load_splits(settings.data, settings.modalities)
    candidate = _candidate(settings, splits)
    check_method(candidate.method, candidate.settings, splits)
    _check_given(given, [candidate], [seed or 0])
    run = _planned("run", candidate, seed or 0, out, given)
    return Plan([run], splits, settings, changes.all_notes([recipe]))


def _check_given(
    given: Mapping[str, Path], candidates: Iterable[Candidate], seeds: Sequence[int]
) -> None:
    """Raises ValueError for a stage to reuse that no run has, or what is no run directory, or a
    comparison of several seeds: a stage has one.
    """
    check_reuse(given, sorted({name for candidate in candidates for name in candidate.stages}))
    check_sources(given)
    if given and len(seeds) > 1:
        raise ValueError(
            f"A stage is reused by runs of its own seed, but the comparison has {len(seeds)}; give"
            " --seed."
        )


def _candidate(settings: Settings, splits: Splits) -> Candidate:
    """Builds the method; torch's global random stream stays as it is."""
    settings = complete(settings, splits.modalities)
    check_evaluation(settings.evaluation, splits)
    with torch.random.fork_rng(devices=[]):
        method = built(settings, splits.modalities, len(splits.train))
    return Candidate(settings, method)


def _planned(
    label: str, candidate: Candidate, seed: int, directory: Path, reuse: Mapping[str, Path]
) -> Planned:
    sizes = _parameters(candidate.method)
    return Planned(label, candidate.settings, seed, directory, reuse, candidate.stages, sizes)


def _parameters(method: Method) -> dict[str, int]:
    """Numbers of trainable parameters by part of the model, of the parts that have any."""
    model = method.model
    parts = {"prior": model.prior, "decoders": model.decoders, "mechanisms": model.mechanisms}
    parts |= dict(model.posterior.named_children())
    sizes = {name: _size(part) for name, part in parts.items()}
    return {name: size for name, size in sizes.items() if size}


def _size(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters() if p.requires_grad)


# Comparisons.


def label_runs(recipes: Sequence[str]) -> dict[str, str]:
    """label -> recipe: names without the folder, the suffix and the words with which all of them
    begin.

    Raises ValueError if two labels are the same.

    >>> label_runs(["mnist-svhn-jnf", "mnist-svhn-jnf-dcca"])
    {'jnf': 'mnist-svhn-jnf', 'jnf-dcca': 'mnist-svhn-jnf-dcca'}
    """
    words = [_stem(recipe).split("-") for recipe in recipes]
    common = _common_words(words) if len(words) > 1 else 0
    labels = ["-".join(w[common:]) for w in words]
    if len(set(labels)) < len(labels):
        names = ", ".join(recipes)
        raise ValueError(f"A comparison needs recipes of different names, got {names}.")
    return dict(zip(labels, recipes, strict=True))


def _stem(recipe: str) -> str:
    return Path(recipe).stem if is_file(recipe) else recipe


def _common_words(names: Sequence[Sequence[str]]) -> int:
    """The number of words with which all names begin; each name keeps at least one."""
    longest = min(map(len, names)) - 1
    for k in range(longest):
        if len({name[k] for name in names}) > 1:
            return k
    return longest


def _compared(
    recipe: str, whole: Mapping[str, Any], given: Settings, changes: Changes
) -> tuple[Splits, dict[str, Candidate]]:
    """The data and the candidates of a comparison, by label.

    Args:
        recipe: the comparison.
        whole: the same, read, with the user's changes.
        given: `whole`, resolved.
    """
    above = {k: v for k, v in whole.items() if k not in ("compare", "vary", "seeds", "about")}
    if given.compare:
        recipes = _compared_recipes(recipe, given.compare, above, changes)
    else:
        recipes = {(given.method.name or "run").replace("_", "-"): above}
    first = _check_same_data({label: resolve(each) for label, each in recipes.items()})
    splits = load_splits(first.data, first.modalities)

    def stages(each: Mapping[str, Any]) -> list[str]:
        return _candidate(resolve(each), splits).stages

    made = variants(recipes, given.vary, stages)
    settings = {label: resolve(variant.recipe) for label, variant in made.items()}
    candidates = _with_known_stages({k: _candidate(s, splits) for k, s in settings.items()})
    for candidate in candidates.values():
        check_method(candidate.method, candidate.settings, splits)
    return splits, candidates


def _compared_recipes(
    recipe: str, names: Sequence[str], above: Mapping[str, Any], changes: Changes
) -> dict[str, dict[str, Any]]:
    """The recipes that a comparison lists, by label, with its settings `above` laid over each.

    Raises ValueError for one that has several runs itself.
    """
    bases = {k: changes.read(beside(recipe, name)) for k, name in label_runs(names).items()}
    for label, base in bases.items():
        if base.get("compare") or base.get("vary"):
            raise ValueError(f"A comparison takes recipes of one run, and {label!r} has several.")
    layers = _layers_by_method(above, bases)
    return {label: merge(base, layers[label]) for label, base in bases.items()}


def _layers_by_method(
    above: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The comparison's settings for each recipe: an option of `method` only for the methods that
    have it.

    Raises ValueError for an option that no method has, with the nearest.
    """
    given = above.get("method") or {}
    options = {label: set(resolve(base).method.options) for label, base in bases.items()}
    check_names(given, sorted(set().union(*options.values())), "method")
    return {label: {**above, "method": _only(given, names)} for label, names in options.items()}


def _only(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    kept = set(names)
    return {k: v for k, v in settings.items() if k in kept}


def _check_same_data(settings: Mapping[str, Settings]) -> Settings:
    """The first settings. Raises ValueError if others have other data or modalities."""
    first = next(iter(settings.values()))
    for label, other in settings.items():
        if (other.data, other.modalities) != (first.data, first.modalities):
            raise ValueError(
                f"All runs in a comparison must use the same data and modalities; {label!r} uses"
                " different ones."
            )
    return first


def _with_known_stages(candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """The candidates, each with the settings of its own stages only: the comparison may name a
    stage that only some of the methods have.

    Raises ValueError for a stage that no method has, with the nearest.
    """
    every = sorted({name for candidate in candidates.values() for name in candidate.stages})
    for candidate in candidates.values():
        candidate.settings.training.check_stages(every)
    return {label: _with_own_stages(candidate) for label, candidate in candidates.items()}


def _with_own_stages(candidate: Candidate) -> Candidate:
    training = candidate.settings.training
    stages = _only(training.stages, candidate.stages)
    training = training.model_copy(update={"stages": stages})
    settings = candidate.settings.model_copy(update={"training": training})
    return Candidate(settings, candidate.method)


# Runs.


def _runs(
    candidates: Mapping[str, Candidate],
    seeds: Sequence[int],
    out: Path,
    given: Mapping[str, Path],
) -> list[Planned]:
    """The runs of a comparison, seed by seed; a run may reuse stages of an earlier one of its seed,
    and the `given` ones.
    """
    runs = []
    for seed in seeds:
        earlier: dict[Path, Candidate] = {}
        for label, candidate in candidates.items():
            directory = out / f"{label}-seed{seed}"
            reuse = _only(given, candidate.stages) | _reusable(candidate, earlier)
            runs.append(_planned(label, candidate, seed, directory, reuse))
            earlier[directory] = candidate
    return runs


def _reusable(candidate: Candidate, earlier: Mapping[Path, Candidate]) -> dict[str, Path]:
    """The leading stages that an earlier run trains in the same way, with its directory; those of
    the run that has most.
    """
    best: dict[str, Path] = {}
    for directory, other in earlier.items():
        names = _common_stages(candidate, other)
        if len(names) > len(best):
            best = dict.fromkeys(names, directory)
    return best


def _common_stages(candidate: Candidate, other: Candidate) -> list[str]:
    training = candidate.settings.training, other.settings.training
    return common_stages((candidate.method, other.method), training)
