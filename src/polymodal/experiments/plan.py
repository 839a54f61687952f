"""Recipes to runs: one recipe is one run; a comparison is several, for several seeds, equal stages
trained once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from polymodal.checks import suggest
from polymodal.data import Splits, load_data
from polymodal.experiments.sharing import common_stages
from polymodal.model import Method
from polymodal.runs.run import Run, build
from polymodal.settings.recipes import load_recipe
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import Settings
from polymodal.training.fit import fit


@dataclass(frozen=True)
class Planned:
    """A run that is to be trained.

    Args:
        label: what tells it from the others in a comparison, without the seed.
        settings: of the run.
        seed: of the run.
        directory: where it will lie.
        reuse: stages that are taken from another run's directory.
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
    """What a recipe asks for: its runs, the data they train on (one set for all), and whether it is
    a comparison.
    """

    runs: Sequence[Planned]
    data: Splits
    settings: Settings

    @property
    def compares(self) -> bool:
        return bool(self.settings.compare)


def label_runs(recipes: Sequence[str]) -> dict[str, str]:
    """label -> recipe: names without the folder, the suffix and the words that all of them begin
    with.

    >>> label_runs(["mnist-svhn-jnf", "mnist-svhn-jnf-dcca"])
    {'jnf': 'mnist-svhn-jnf', 'jnf-dcca': 'mnist-svhn-jnf-dcca'}
    """
    stems = [Path(r).stem if r.endswith((".yaml", ".yml")) else r for r in recipes]
    words = [s.split("-") for s in stems]
    same = 0
    while len(words) > 1 and all(len(w) > same + 1 and w[same] == words[0][same] for w in words):
        same += 1
    labels = ["-".join(w[same:]) for w in words]
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"A comparison needs recipes of different names, got {', '.join(recipes)}."
        )
    return dict(zip(labels, recipes, strict=True))


def _laid_over(base: Mapping[str, Any], above: Any, data: str | None) -> dict[str, Any]:
    """`above` merged over `base`; `data` replaces the data set (a file) or says where its files lie
    (a folder).
    """
    base = dict(base)
    if data is not None and not Path(data).expanduser().is_dir():
        base["data"] = {"name": data}
    elif data is not None:
        base["data"] = {**(base.get("data") or {}), "path": data}
    try:
        return OmegaConf.to_container(OmegaConf.merge(base, above))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ValueError(f"The settings cannot be read: {str(error).splitlines()[0]}") from None


def _overrides(given: Sequence[str]) -> Any:
    for one in given:
        key, equals, _ = one.partition("=")
        if not equals or not key.strip():
            raise ValueError(
                f"A setting is written key=value, such as training.epochs=5; got {one!r}."
            )
    try:
        return OmegaConf.from_dotlist(list(given))
    except OmegaConfBaseException as error:
        raise ValueError(f"The settings cannot be read: {str(error).splitlines()[0]}") from None


def _for_all_stages(recipe: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The recipe without what its stages say of a setting that the user gives for all of them:
    training.epochs=3.
    """
    keys = [one.partition("=")[0].strip().split(".") for one in overrides]
    given = {key[1] for key in keys if len(key) == 2 and key[0] == "training"}
    training = recipe.get("training") or {}
    if not given or not training.get("stages"):
        return recipe
    stages = {
        s: {k: v for k, v in (said or {}).items() if k not in given}
        for s, said in training["stages"].items()
    }
    return {**recipe, "training": {**training, "stages": stages}}


def load_splits(settings: Settings, data: str | None = None) -> Splits:
    """The data that settings name; `data` instead: a file, or the folder where the named set's
    files lie.

    Raises ValueError where there is none.
    """
    given = settings.data
    name, path = given.name or given.path, given.path if given.name else None
    if data is not None:
        name, path = (name, data) if Path(data).expanduser().is_dir() else (data, None)
    if name is None:
        raise ValueError(
            "This recipe names no data: give your own with --data FILE.npz (one array for each"
            " modality)."
        )
    return load_data(
        name, path=path, limit=given.limit, modalities=settings.modalities, **given.options
    )


def make_plan(
    recipe: str,
    out: Path,
    overrides: Sequence[str] = (),
    data: str | None = None,
    seed: int | None = None,
    reuse: Mapping[str, Path] | None = None,
) -> Plan:
    """What `recipe` (a built-in name or a YAML file) asks for; trains nothing.

    Args:
        out: the run directory; of a comparison: the directory in which each run has one,
            <label>-seed<k>.
        overrides: key=value, over everything else.
        data: an .npz file, or a folder for the named data sets.
        seed: of the run, instead of 0 or the recipe's seeds.
        reuse: {stage: run directory}, for a recipe that is no comparison.

    Raises ValueError for what is not there, with the nearest that is.
    """
    read = lambda name: _for_all_stages(load_recipe(name), overrides)
    raw = _laid_over(read(recipe), _overrides(overrides), data)
    settings = resolve(raw)
    if not settings.compare:
        splits = load_splits(settings)
        method = _built(settings, splits)
        return Plan(
            [_planned("run", settings, seed or 0, out, method, reuse or {})], splits, settings
        )
    if reuse:
        raise ValueError(
            "A comparison finds by itself which stages can be trained once; leave --reuse out."
        )
    above = {k: v for k, v in raw.items() if k not in ("compare", "seeds", "about")}
    folder = Path(recipe).parent if recipe.endswith((".yaml", ".yml")) else Path()
    beside = lambda name: str(folder / name) if name.endswith((".yaml", ".yml")) else name
    bases = {label: read(beside(name)) for label, name in label_runs(settings.compare).items()}
    changes = _for_methods(above, bases)
    found = {
        label: resolve(_laid_over(base, changes[label], data)) for label, base in bases.items()
    }
    seeds = [seed] if seed is not None else settings.seeds or [0]
    return _comparison(settings, found, seeds, out)


def _for_methods(
    above: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """`above` for each recipe, without the options that its method has not, but another's has.

    Raises ValueError for an option that none has, with the nearest.
    """
    given = above.get("method") or {}
    known = {k: set(resolve(base).method.options) for k, base in bases.items()}
    for option in given:
        if option not in (every := set().union(*known.values())):
            raise ValueError(
                f"There is no setting method.{option}.{suggest(option, sorted(every), 'method.')}"
            )
    return {
        k: {**above, "method": {o: v for o, v in given.items() if o in mine}}
        for k, mine in known.items()
    }


def _comparison(
    settings: Settings, found: dict[str, Settings], seeds: Sequence[int], out: Path
) -> Plan:
    first = next(iter(found.values()))
    for label, one in found.items():
        if (one.data, one.modalities) != (first.data, first.modalities):
            raise ValueError(
                f"Runs are compared on the same data and modalities, but those of {label!r} are"
                " others."
            )
    splits = load_splits(first)
    methods = {label: _built(one, splits) for label, one in found.items()}
    stages = {label: [s.name for s in m.stages] for label, m in methods.items()}
    every = sorted({name for names in stages.values() for name in names})
    for label, one in found.items():
        for name in one.training.stages:
            if name not in every:
                raise ValueError(
                    f"There is no stage {name!r}.{suggest(name, every)} There are:"
                    f" {', '.join(every)}."
                )
        # What is said of a stage that only some of the methods have is for those.
        mine = {k: v for k, v in one.training.stages.items() if k in stages[label]}
        training = one.training.model_copy(update={"stages": mine})
        found[label] = one.model_copy(update={"training": training})
    runs = []
    for seed in seeds:
        for k, (label, one) in enumerate(found.items()):
            earlier = {out / f"{other}-seed{seed}": other for other in list(found)[:k]}
            reuse = _shared(label, earlier, found, methods)
            runs.append(
                _planned(label, one, seed, out / f"{label}-seed{seed}", methods[label], reuse)
            )
    return Plan(runs, splits, settings)


def _built(settings: Settings, splits: Splits) -> Method:
    with torch.random.fork_rng(devices=[]):
        return build(to_dict(settings), splits.modalities)


def _planned(
    label: str,
    settings: Settings,
    seed: int,
    directory: Path,
    method: Method,
    reuse: Mapping[str, Path],
) -> Planned:
    model = method.model
    count = lambda part: sum(p.numel() for p in part.parameters() if p.requires_grad)
    parts = {"prior": model.prior, "decoders": model.decoders} | dict(
        model.posterior.named_children()
    )
    sizes = {name: n for name, part in parts.items() if (n := count(part))}
    return Planned(label, settings, seed, directory, reuse, [s.name for s in method.stages], sizes)


def _shared(
    label: str,
    earlier: Mapping[Path, str],
    settings: Mapping[str, Settings],
    methods: Mapping[str, Method],
) -> dict[str, Path]:
    """Leading stages that an earlier run of the same seed trains in the same way, and which run
    that is.
    """
    best: dict[str, Path] = {}
    for directory, other in earlier.items():
        training = settings[label].training, settings[other].training
        names = common_stages((methods[label], methods[other]), training)
        if len(names) > len(best):
            best = dict.fromkeys(names, directory)
    return best


def train(plan: Plan, say: Callable[[str], None] | None = None) -> list[Run]:
    """Trains the runs of a plan, or goes on with them; those that are finished are read. `say` is
    told of each.
    """
    found = []
    for one in plan.runs:
        if say:
            say(f"{one.label}, seed {one.seed}: {one.directory}")
        found.append(
            fit(one.settings, plan.data, out=one.directory, seed=one.seed, reuse=one.reuse)
        )
    return found


def is_first_process() -> bool:
    """True but in the further processes of torchrun."""
    return os.environ.get("RANK", "0") == "0"
