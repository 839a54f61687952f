"""The keywords of `fit`, sorted into the sections of a recipe."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from polymodal.checks import FilePath, find, suggest, typed
from polymodal.data import Splits
from polymodal.methods import METHODS
from polymodal.model import Method
from polymodal.settings.recipes import is_file, load_recipe, recipes
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import Settings, TrainingSettings

SECTIONS = list(Settings.model_fields)
TRAINING = list(TrainingSettings.model_fields)


def settings_of(
    method: str | Method | Settings | Mapping[str, Any], data: Any, keywords: Mapping[str, Any]
) -> Settings:
    """The settings of a run from the arguments of `fit`.

    A keyword is a section of a recipe, a setting of the training, or an option of the method.

    Raises ValueError for a keyword that is none of them or two of them, and for a comparison.
    """
    recipe = _recipe(method)
    if "method" in keywords:
        _check_options(keywords["method"], method, recipe)
    layer = _sorted(keywords, recipe.get("method", {}).get("name"))
    if data is not None and not isinstance(data, Splits):
        layer["data"] = {**layer.get("data", {}), "name": os.fspath(typed(FilePath, data, "data"))}
    settings = resolve(recipe, more=layer)
    if settings.compare:
        names = ", ".join(settings.compare)
        raise ValueError(f"This recipe compares {names}; fit trains one method, give one of those.")
    if settings.vary:
        raise ValueError(
            "This recipe varies settings, and fit trains one run; leave vary out, or use"
            " polymodal train."
        )
    return settings


def _recipe(method: Any) -> dict[str, Any]:
    """The recipe that the first argument of `fit` gives; empty for a custom method."""
    if isinstance(method, Method):
        return {}
    if isinstance(method, Settings):
        return to_dict(method)
    if isinstance(method, str):
        if not is_file(method):
            method = find(method, [*METHODS, *recipes()], "method or recipe")
        if method in METHODS:
            return {"method": {"name": method}}
        method = load_recipe(method)
    return to_dict(resolve(method))


def _sorted(keywords: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    """The keywords by section."""
    options = _options(method)
    layer: dict[str, Any] = {"training": {}, "method": {}}
    for key, value in keywords.items():
        if isinstance(value, BaseModel) and key in SECTIONS:
            value = value.model_dump(exclude_unset=True)
        if key in SECTIONS:
            layer[key] = {**layer.get(key, {}), **value} if isinstance(value, Mapping) else value
        else:
            layer[_section(key, options, method)][key] = value
    return layer


def _options(method: str | None) -> list[str]:
    """The options of a method of METHODS."""
    if method is None:
        return []
    names = inspect.signature(METHODS[find(method, METHODS, "method")]).parameters
    return [name for name in names if name != "modalities" and name not in SECTIONS]


def _check_options(options: Any, method: Any, recipe: Mapping[str, Any]) -> None:
    """Checks the keyword method={...}, which holds options only."""
    if isinstance(method, Method):
        raise ValueError("A custom Method has its options already; leave method={...} out.")
    has_name = isinstance(options, Mapping) and "name" in options
    if has_name and "name" in recipe.get("method", {}):
        raise ValueError(
            "The first argument of fit names the method; leave 'name' out of method={...}."
        )


def _section(key: str, options: list[str], method: str | None) -> str:
    """The section of a keyword that is not one itself."""
    if key in TRAINING and key in options:
        raise ValueError(
            f"{key!r} is a setting of the training and an option of {method}: write"
            f" training={{{key!r}: ...}} or method={{{key!r}: ...}}."
        )
    if key in TRAINING:
        return "training"
    if key in options:
        return "method"
    near = suggest(key, [*options, *TRAINING, *SECTIONS])
    raise ValueError(f"fit has no setting {key!r}.{near}")
