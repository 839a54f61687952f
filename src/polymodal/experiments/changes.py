"""The user's changes to a recipe: overrides, and other data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.checks import typed
from polymodal.data.description import is_own, section_of
from polymodal.settings.merge import parse_overrides
from polymodal.settings.recipes import load_recipe
from polymodal.settings.schema import Settings


@dataclass(frozen=True)
class Changes:
    """The user's changes to a recipe.

    Args:
        overrides: key=value.
        data: a file, which replaces the recipe's data; or the folder of the named data sets.
    """

    overrides: Sequence[str] = ()
    data: str | None = None

    def read(self, recipe: str) -> dict[str, Any]:
        """The recipe, on the user's data, in which no stage contradicts an override for all
        stages.
        """
        given = load_recipe(recipe)
        typed(Settings, given)
        return self._on_data(self._for_all_stages(given))

    def all_notes(self, recipes: Iterable[str]) -> list[str]:
        """Sentences on the stages' own settings that an override for all stages replaces."""
        return list(dict.fromkeys(note for recipe in recipes for note in self._notes(recipe)))

    def _notes(self, recipe: str) -> Iterator[str]:
        training = self._training
        for stage, settings in _stages(load_recipe(recipe)).items():
            named = (training.get("stages") or {}).get(stage) or {}
            for key in sorted((training.keys() & settings.keys()) - named.keys()):
                if settings[key] != training[key]:
                    own = f"{stage}.{key}={settings[key]}"
                    yield f"training.{key}={training[key]} holds for every stage, and replaces" + (
                        f" {own}; training.stages.{own} keeps it."
                    )

    def _on_data(self, recipe: dict[str, Any]) -> dict[str, Any]:
        if self.data is None:
            return recipe
        if Path(self.data).expanduser().is_dir():
            section = {**(recipe.get("data") or {}), "path": self.data}
        else:
            section = section_of(self.data) if is_own(self.data) else {"name": self.data}
        return {**recipe, "data": section}

    def _for_all_stages(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """The recipe without the stages' values of settings that are overridden for all stages, as
        by training.epochs=3.
        """
        return without_stage_values(recipe, self._training)

    @property
    def _training(self) -> dict[str, Any]:
        """The overrides for all stages, and for single ones under "stages"."""
        return typed(dict[str, Any], parse_overrides(self.overrides).get("training"), "training")


def without_stage_values(recipe: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without the stages' own values of settings that `training` has for all stages."""
    stages = {
        stage: {k: v for k, v in settings.items() if k not in training}
        for stage, settings in _stages(recipe).items()
    }
    return {**recipe, "training": {**(recipe.get("training") or {}), "stages": stages}}


def _stages(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of single stages in a recipe."""
    stages = (recipe.get("training") or {}).get("stages") or {}
    return {stage: settings or {} for stage, settings in stages.items()}
