"""Recipes: built-in ones and YAML files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from polymodal.checks import find
from polymodal.checks.yaml_text import read_file
from polymodal.settings.merge import merge

FOLDER = files("polymodal.settings") / "recipes"
YAML = (".yaml", ".yml")
TABLE = (".csv", ".tsv", ".gz", ".parquet", ".feather", ".npz")
BASES = 20  # recipes below one another


def recipes() -> list[str]:
    """The names of the built-in recipes."""
    if not FOLDER.is_dir():
        return []
    names = [file.name for file in FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_recipe(name: str | Path, above: Sequence[str] = ()) -> dict[str, Any]:
    """A built-in recipe by name, or a YAML file, as a mapping.

    A method's name is also a recipe: that method on the user's own data. A recipe with `base:
    <recipe>` is merged over that one (a built-in name, or a YAML file in the same folder).

    Args:
        above: the recipes whose base this one is, outermost first.

    Raises ValueError for an unknown name, unreadable YAML, or a recipe that is its own base.
    """
    if (method := _method_named(str(name))) is not None:
        return _recipe_of_method(str(name), method)
    recipe = read_file(_file(name), f"The recipe {str(name)!r}")
    if (section := described_in(recipe, name)) is not None:
        recipe = {**recipe, "data": section}
    if (base := recipe.pop("base", None)) is None:
        return recipe
    chain = [*above, str(name)]
    if str(name) in above or len(above) > BASES:
        raise ValueError(f"The recipe {chain[0]!r} is its own base: {', '.join(chain[:3])}.")
    return merge(load_recipe(beside(name, str(base)), chain), recipe)


def is_file(name: str | Path) -> bool:
    """Whether a recipe's name is that of a YAML file."""
    return Path(name).suffix in YAML


def beside(recipe: str | Path, name: str) -> str:
    """The recipe that `recipe` calls `name`: a built-in one, or a YAML file in its folder."""
    folder = Path(recipe).parent if is_file(recipe) else Path()
    return str(folder / name) if is_file(name) else name


def described_in(recipe: Mapping[str, Any], name: str | Path) -> dict[str, Any] | None:
    """The section `data` of a recipe that describes a user's files, with their folder."""
    if not is_file(name) or not isinstance(recipe.get("data"), Mapping):
        return None
    from polymodal.data import description  # here, since it needs torch

    return description.described_in(recipe, name)


def _file(name: str | Path) -> Path:
    if str(name).lower().endswith(TABLE):
        raise ValueError(
            f"{str(name)!r} is a file of data and no recipe; polymodal init {name} makes a recipe"
            " of it."
        )
    if not is_file(name):
        return Path(str(FOLDER / f"{find(str(name), recipes(), 'recipe')}.yaml"))
    if not os.path.exists(name):
        raise ValueError(f"There is no file {str(name)!r}; polymodal list recipes shows names.")
    return Path(name)


def _method_named(name: str) -> str | None:
    """The method of that name, if no recipe has it."""
    key = name.replace("-", "_").lower()
    if is_file(name) or key in (recipe.replace("-", "_") for recipe in recipes()):
        return None
    from polymodal.methods import METHODS  # here, since it needs torch

    return key if key in METHODS else None


def _recipe_of_method(name: str, method: str) -> dict[str, Any]:
    """A method on the user's own data, with the training settings of the recipe `jnf`."""
    about = (
        f"{name} on your own data: polymodal train {name} --data pairs.npz, with the training"
        " settings of `jnf`."
    )
    return load_recipe("jnf") | {"about": about, "method": {"name": method}}
