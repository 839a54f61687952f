"""From mappings and overrides to typed settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polymodal.batch import Modality
from polymodal.checks import checked_options, fill, find, plain, suggest, typed
from polymodal.settings.schema import DataSettings, MethodSettings, Settings


def _check_names(settings: Settings) -> Settings:
    """Names and options against what there is: methods, data sets, modalities' fields."""
    keys = {f.name: f for f in fields(Modality) if f.name not in ("name", "shape")}
    hints = get_type_hints(Modality)
    modalities = {}
    for m, given in settings.modalities.items():
        path = f"modalities.{m}"
        for key in given:
            if key not in keys:
                raise ValueError(
                    f"There is no setting {path}.{key}.{suggest(key, keys, path + '.')}"
                )
        modalities[m] = {k: typed(hints[k], v, f"{path}.{k}") for k, v in given.items()}
    method, data = settings.method, settings.data
    if method.name is not None:
        from polymodal.methods import METHODS  # here, since `show` and `--help` need no torch

        name = find(method.name, METHODS, "method")
        options = checked_options(
            METHODS[name], method.options, "method", ("modalities", "networks")
        )
        method = MethodSettings(name, options)
    if data.name is not None and not Path(data.name).exists():
        from polymodal.data import DATASETS, load_data

        name = find(data.name, DATASETS, "data set")
        shared = [
            n
            for n in inspect.signature(load_data).parameters
            if n not in ("name_or_path", "kwargs", "modalities")
        ]
        checked_options(DATASETS[name], data.options, "data", ("path", "limit"), shared)
        data = DataSettings(name, data.path, data.limit, data.options)
    return replace(settings, modalities=modalities, method=method, data=data)


def resolve(
    given: Any = None, overrides: Sequence[str] = (), *, more: Mapping[str, Any] | None = None
) -> Settings:
    """Typed settings from a mapping (a recipe, an OmegaConf, `Settings`) and overrides `a.b=value`,
    which win.

    `more` is a mapping that wins over `given`, key by key.

    Raises ValueError for an unknown key (with the nearest there is), a wrong type, a value out of
    range, an unknown method, data set or option of one.
    """
    for one in overrides:
        key, equals, _ = one.partition("=")
        if not equals or not key.strip():
            raise ValueError(
                f"A setting is written key=value, such as training.epochs=5; got {one!r}."
            )
    try:
        base = OmegaConf.create(to_dict(given) if isinstance(given, Settings) else given or {})
        merged = OmegaConf.merge(base, plain(more or {}), OmegaConf.from_dotlist(list(overrides)))
        whole = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"The settings cannot be read: {' '.join(str(error).split())}.") from None
    return _check_names(fill(Settings, whole, ""))


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as plain nested mappings, as a recipe writes them; `resolve` of it gives the
    settings back.
    """

    def flat(value: Any) -> Any:
        if isinstance(value, Mapping):
            value = {k: flat(v) for k, v in value.items()}
            return (
                {k: v for k, v in value.items() if k != "options"} | value["options"]
                if "options" in value
                else value
            )
        return [flat(v) for v in value] if isinstance(value, list | tuple) else value

    return flat(asdict(settings))
