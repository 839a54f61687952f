"""From mappings and overrides to typed settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from polymodal.checks import Count, check_names, checked_options, find, plain, typed
from polymodal.settings.merge import merge, parse_overrides
from polymodal.settings.schema import DataSettings, EvaluationSettings, MethodSettings, Settings

Layer = dict[str, Any]
OF_NO_SECTION = {"name_or_path", "kwargs", "modalities"}  # of load_data's arguments

# The imports inside functions need torch, the schema does not.


def resolve(
    given: Settings | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    more: Mapping[str, Any] | None = None,
) -> Settings:
    """Typed settings. Those that it returns stay as they are when they are resolved again.

    Args:
        given: `Settings`, or a recipe as a mapping.
        overrides: such as "training.epochs=5"; they win over the other two.
        more: a mapping that wins over `given`, key by key.

    Raises ValueError for an unknown key (with the nearest), a wrong type, a value out of range, an
    unknown method or data set, or an unknown option of one.

    >>> settings = resolve({"training": {"epochs": 5}}, ["training.stages.joint.batch=64"])
    >>> settings.training.stage("joint").epochs, settings.training.stage("joint").batch
    (5, 64)
    >>> resolve({}, ["training.epoch=5"])
    Traceback (most recent call last):
    ValueError: There is no setting training.epoch. Did you mean training.epochs?
    """
    recipe = given if isinstance(given, Settings) else typed(Layer, given, "The recipe")
    layers = (plain(recipe), plain(more or {}), parse_overrides(overrides))
    settings = typed(Settings, merge(*layers))
    from polymodal.batch import checked_fields

    checked = {
        "modalities": checked_fields(settings.modalities),
        "method": _checked_method(settings.method),
        "data": _checked_data(settings.data),
        "evaluation": _checked_evaluation(settings.evaluation),
    }
    return settings.model_copy(update=checked)


def to_dict(settings: Settings) -> dict[str, Any]:
    """Settings as plain nested mappings, as a recipe writes them; `resolve` of it gives the
    settings back.
    """
    return plain(settings.model_dump())


def _checked_method(method: MethodSettings) -> MethodSettings:
    """The method by its key in METHODS, with the defaults of all options."""
    if method.name is None:
        return method
    from polymodal.methods import METHODS

    name = find(method.name, METHODS, "method")
    options = checked_options(METHODS[name], method.options, "method", ("modalities", "networks"))
    return MethodSettings(**{"name": name, **options})


def _checked_data(data: DataSettings) -> DataSettings:
    """The data set by its key in DATASETS; a table or a description as what it describes; another
    file stays as it is.
    """
    from polymodal.data import DATASETS, dataset_key, load_data
    from polymodal.data.description import describes, is_own

    if describes(data.options) or (data.name is not None and is_own(data.name)):
        return _checked_description(data)
    name = None if data.name is None else dataset_key(data.name)
    if name is None:
        return data
    common = set(inspect.signature(load_data).parameters) - OF_NO_SECTION
    checked_options(DATASETS[name], data.options, "data", ("path", "limit"), sorted(common))
    return data.model_copy(update={"name": name})


def _checked_description(data: DataSettings) -> DataSettings:
    """The user's files, as their description says."""
    from polymodal.data.description import SHARED, Description, description_of, section_of

    section = {k: v for k, v in plain(data.model_dump()).items() if k != "name" and v is not None}
    if data.name is not None:
        section = section_of(data.name) | section
    check_names(section, [*Description.model_fields, *SHARED], "data")
    description_of(section)
    return DataSettings(**section)


def _checked_evaluation(evaluation: EvaluationSettings) -> EvaluationSettings:
    """The metrics by their keys in METRICS, and the arguments of `polymodal.evaluate`."""
    if not evaluation.model_fields_set:
        return evaluation
    from polymodal.metrics import MeasurementOptions, named_metrics

    options = dict(evaluation.options)
    names = [*EvaluationSettings.model_fields, "limit", *MeasurementOptions.model_fields]
    check_names(options, names, "evaluation")
    typed(Count | None, options.pop("limit", None), "evaluation.limit")
    typed(MeasurementOptions, options, "evaluation")
    if evaluation.metrics is None:
        return evaluation
    return evaluation.model_copy(update={"metrics": named_metrics(evaluation.metrics)})
