"""Settings: the typed schema of a recipe, how recipes are read, merged and checked."""

from polymodal.settings.recipes import load_recipe, recipes
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import (
    DataSettings,
    EvaluationSettings,
    MethodSettings,
    Settings,
    StageSettings,
    TrainingSettings,
)

__all__ = [
    "DataSettings",
    "EvaluationSettings",
    "MethodSettings",
    "Settings",
    "StageSettings",
    "TrainingSettings",
    "load_recipe",
    "recipes",
    "resolve",
    "to_dict",
]
