"""Recipes: built-in ones and YAML files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polymodal.checks import find
from polymodal.settings.merge import merge

FOLDER = files("polymodal.settings") / "recipes"
YAML = (".yaml", ".yml")


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
    recipe = read_yaml(_text(Path(name)), str(name))
    if (base := recipe.pop("base", None)) is None:
        return recipe
    chain = [*above, str(name)]
    if str(name) in above:
        raise ValueError(f"The recipe {above[0]!r} is its own base: {', '.join(chain)}.")
    return merge(load_recipe(beside(name, str(base)), chain), recipe)


def is_file(name: str | Path) -> bool:
    """Whether a recipe's name is that of a YAML file."""
    return Path(name).suffix in YAML


def beside(recipe: str | Path, name: str) -> str:
    """The recipe that `recipe` calls `name`: a built-in one, or a YAML file in its folder."""
    folder = Path(recipe).parent if is_file(recipe) else Path()
    return str(folder / name) if is_file(name) else name


def _text(path: Path) -> str:
    if not is_file(path):
        return (FOLDER / f"{find(str(path), recipes(), 'recipe')}.yaml").read_text()
    if not path.is_file():
        names = ", ".join(recipes())
        raise ValueError(f"There is no file {str(path)!r}; give a YAML file or one of: {names}.")
    return path.read_text()


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


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """YAML text as a mapping. Raises ValueError with the line that cannot be read."""
    try:
        recipe = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (YAMLError, OmegaConfBaseException) as error:
        where = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise ValueError(f"The recipe {name!r} is not readable YAML: {where}.") from None
    if not isinstance(recipe, dict):
        raise ValueError(
            f"The recipe {name!r} must be a mapping such as training: {{epochs: 5}}, got"
            f" {type(recipe).__name__}."
        )
    return {str(k): v for k, v in recipe.items()}
