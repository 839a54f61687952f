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


def recipes() -> list[str]:
    """The names of the built-in recipes."""
    folder = files("polymodal.settings") / "recipes"
    return (
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
        if folder.is_dir()
        else []
    )


def load_recipe(name: str | Path, above: Sequence[str] = ()) -> dict[str, Any]:
    """A built-in recipe by name, or a YAML file, as a mapping.

    A method's name is a recipe too: that method on the user's own data. A recipe that says `base:
    <recipe>` is laid over that one (a built-in name, or a YAML file beside it).

    Args:
        above: the recipes whose base this one is, outermost first.

    Raises ValueError for an unknown name, unreadable YAML, or a recipe that is its own base.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(
                f"There is no file {str(path)!r}; give a YAML file or one of:"
                f" {', '.join(recipes())}."
            )
        text = path.read_text()
    else:
        if (method := _as_method(str(name))) is not None:
            about = (
                f"{name} on your own data: polymodal train {name} --data pairs.npz, with the"
                " settings of `jnf`."
            )
            return load_recipe("jnf") | {"about": about, "method": {"name": method}}
        text = (
            files("polymodal.settings") / "recipes" / f"{find(str(name), recipes(), 'recipe')}.yaml"
        ).read_text()
    recipe = read_yaml(text, str(name))
    if (base := recipe.pop("base", None)) is None:
        return recipe
    if str(name) in above:
        raise ValueError(
            f"The recipe {above[0]!r} is its own base: {', '.join([*above, str(name)])}."
        )
    beside = path.parent / str(base) if str(base).endswith((".yaml", ".yml")) else str(base)
    merged = OmegaConf.to_container(
        OmegaConf.merge(load_recipe(beside, [*above, str(name)]), recipe)
    )
    return merged  # type: ignore[return-value]


def _as_method(name: str) -> str | None:
    """The method of that name, where no recipe has it."""
    plain = name.replace("-", "_").lower()
    if plain in (recipe.replace("-", "_") for recipe in recipes()):
        return None
    from polymodal.methods import METHODS  # here, since `show` and `--help` need no torch

    return plain if plain in METHODS else None


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """YAML text as a mapping. Raises ValueError with the line that cannot be read."""
    try:
        plain = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (YAMLError, OmegaConfBaseException) as error:
        where = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise ValueError(f"The recipe {name!r} is not readable YAML: {where}.") from None
    if not isinstance(plain, dict):
        raise ValueError(
            f"The recipe {name!r} must be a mapping such as training: {{epochs: 5}}, got"
            f" {type(plain).__name__}."
        )
    return {str(k): v for k, v in plain.items()}
