"""`vary`: a recipe as several, one for each value of some of its settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from polymodal.checks import check_names, shown, suggest
from polymodal.experiments.changes import without_stage_values
from polymodal.settings.merge import merge
from polymodal.settings.resolve import resolve

MOST = 50  # combinations of values
SECTIONS = ("method", "networks", "training")
FORM = "vary lists values by setting, such as vary: {method.latent: [10, 20]}"
STAGES = "training.stages."

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A recipe with one value of each varied setting that it has: {path: value}."""

    recipe: Recipe
    values: Mapping[str, Any]


def variants(
    recipes: Mapping[str, Recipe], vary: Mapping[str, Any], stages: Callable[[Recipe], list[str]]
) -> dict[str, Variant]:
    """The recipes by label, each once for every combination of values; the value is in the label.

    A recipe without an option or a stage is not varied in it. A varied setting of all stages wins
    over those of single stages, as an override does.

    Args:
        recipes: by label.
        vary: {path: values}, paths with dots or nested.
        stages: the names of a recipe's stages.

    Raises ValueError for a path that none of the recipes has, with the nearest, values that are no
    list, equal values, and too many combinations.
    """
    lists = varied_lists(vary)
    paths = _paths_of(recipes, lists, stages)
    names = _short_names(list(lists))
    result: dict[str, Variant] = {}
    for label, recipe in recipes.items():
        for values in _combinations({path: lists[path] for path in paths[label]}):
            words = [label, *(f"{names[path]}={_word(v)}" for path, v in values.items())]
            variant = "-".join(words)
            if variant in result:
                raise ValueError(f"vary makes two runs of the name {variant}; change the values.")
            result[variant] = Variant(_with_values(recipe, values), values)
    return result


def varied_lists(vary: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{path with dots: values}. Raises ValueError for another form.

    >>> varied_lists({"method": {"latent": [2, 4]}, "training.lr": [0.1]})
    {'method.latent': [2, 4], 'training.lr': [0.1]}
    """
    lists = dict(_flattened(vary))
    for path, values in lists.items():
        _check_path(path)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{FORM}; got {path}: {shown(values)}.")
        if twice := next((v for i, v in enumerate(values) if v in values[:i]), None):
            raise ValueError(f"vary lists {shown(twice)} twice for {path}; leave one out.")
    if (count := prod(map(len, lists.values()))) > MOST:
        raise ValueError(
            f"vary makes {count:,} combinations of values, and at most {MOST} are trained in one"
            " comparison; list fewer values, or fewer settings."
        )
    return lists


def _flattened(vary: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in vary.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _check_path(path: str) -> None:
    """Raises ValueError for a setting that cannot differ between the runs of a comparison."""
    section, _, rest = path.partition(".")
    if section not in SECTIONS or not rest or path == "method.name":
        raise ValueError(
            f"vary takes options of the method and settings in {' or '.join(SECTIONS[1:])} by their"
            f" path, such as method.latent; got {path}.{suggest(section, SECTIONS)}"
        )


def _paths_of(
    recipes: Mapping[str, Recipe],
    lists: Mapping[str, list[Any]],
    stages: Callable[[Recipe], list[str]],
) -> dict[str, list[str]]:
    """The varied paths that each recipe has. Raises ValueError for one that none has."""
    options = {k: list(resolve(recipe).method.options) for k, recipe in recipes.items()}
    by_stage = any(path.startswith(STAGES) for path in lists)
    parts = {k: stages(recipe) if by_stage else [] for k, recipe in recipes.items()}
    found = {}
    for label in recipes:
        known = {"method.": options[label], STAGES: parts[label]}
        found[label] = [path for path in lists if _has(path, known)]
    every = {"method.": options.values(), STAGES: parts.values()}
    for path in lists:
        for start, names in every.items():
            if path.startswith(start):
                word = path.removeprefix(start).partition(".")[0]
                check_names([word], sorted({n for each in names for n in each}), start[:-1])
    return found


def _has(path: str, known: Mapping[str, Sequence[str]]) -> bool:
    for start, names in known.items():
        if path.startswith(start):
            return path.removeprefix(start).partition(".")[0] in names
    return True


def _combinations(lists: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of one value for each path; one without values if there is no path."""
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def _with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    layer = merge(*(_nested(path, value) for path, value in values.items()))
    return merge(without_stage_values(recipe, layer.get("training") or {}), layer)


def _nested(path: str, value: Any) -> dict[str, Any]:
    """The value of a path as a layer of settings."""
    for word in reversed(path.split(".")):
        value = {word: value}
    return value


# Labels.


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """Each path's last word, with words before it as far as these tell the paths apart.

    >>> _short_names(["training.stages.joint.lr", "training.stages.surrogates.lr"])
    {'training.stages.joint.lr': 'joint.lr', 'training.stages.surrogates.lr': 'surrogates.lr'}
    """
    longest = max((path.count(".") + 1 for path in paths), default=0)
    for count in range(1, longest + 1):
        names = {path: ".".join(path.split(".")[-count:]) for path in paths}
        if len(set(names.values())) == len(names):
            return names
    return {path: path for path in paths}


def _word(value: Any) -> str:
    """A value as part of the name of a directory.

    >>> _word(-0.1), _word([128, 64]), _word(None)
    ('-0.1', '128-64', 'null')
    """
    if isinstance(value, list):
        return "-".join(map(_word, value))
    text = "null" if value is None else str(value)
    return re.sub(r"[^\w.+-]+", "-", text.strip())
