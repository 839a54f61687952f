"""What a recipe says, typed: `resolve` makes `Settings` of a mapping and `key=value` overrides, or says what is wrong.

>>> settings = resolve({"training": {"epochs": 5}}, ["training.lr=3e-4", "training.stages.joint.batch=64"])
>>> settings.training.epochs, settings.training.stage("joint").batch, settings.training.stage("joint").lr
(5, 64, 0.0003)
>>> resolve({}, ["training.epoch=5"])
Traceback (most recent call last):
ValueError: There is no setting training.epoch. Did you mean training.epochs?
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from polymodal.batch import Modality
from polymodal.checks import checked_options, convert, fill, find, plain, suggest

OPTIMIZERS = ("adam", "adamw", "amsgrad", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "plateau")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LOGGERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class DataSettings:
    """Which data: arguments of `polymodal.load_data`, those of the particular data set in `options`."""

    name: str | None = None
    path: str | None = None
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodSettings:
    """A name in `polymodal.METHODS` and the keyword arguments of that function (latent, alpha, ...)."""

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageSettings:
    """How one stage is trained.

    Args:
        epochs: passes over the training data; 0 leaves the weights as they are.
        batch: samples per gradient, over all processes. A shorter last batch is left out, unless it is the only one.
        lr: learning rate, after warm-up.
        optimizer: adam, adamw, amsgrad, rmsprop or sgd (momentum 0.9).
        weight_decay: decoupled for adamw, else added to the gradient.
        schedule: constant; cosine (to 0 over the stage); plateau (times `factor` after more than `plateau` evaluations
            without a better validation loss).
        factor: of the plateau.
        plateau: evaluations without progress that the plateau bears.
        warmup: steps over which the learning rate rises linearly to `lr`.
        clip: largest norm of the gradient; 0: not clipped.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated and saved; 0: none.
        patience: the stage stops after so many evaluations without a better validation loss, and keeps the weights
            of the best; 0: no early stop, the last weights.
        precision: 32-true, bf16-mixed or 16-mixed.
        accumulate: gradients of so many batches are averaged for one step.
        compile: `torch.compile` the loss; pays on GPUs in long runs alone.
        max_steps: the stage ends after so many steps; 0: no limit.
        eval_every: epochs between validations; the last epoch always has one.
    """

    epochs: int = 30
    batch: int = 128
    lr: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"
    factor: float = 0.1
    plateau: int = 10
    warmup: int = 0
    clip: float = 0.0
    ema: float = 0.0
    patience: int = 0
    precision: str = "32-true"
    accumulate: int = 1
    compile: bool = False
    max_steps: int = 0
    eval_every: int = 1

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.{suggest(value, known)}")
        for name, least in (
            ("epochs", 0),
            ("batch", 1),
            ("weight_decay", 0),
            ("plateau", 0),
            ("warmup", 0),
            ("clip", 0),
            ("patience", 0),
            ("accumulate", 1),
            ("max_steps", 0),
            ("eval_every", 1),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be positive, such as 0.001, got {self.lr}.")
        for name in ("ema", "factor"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class TrainingSettings(StageSettings):
    """The settings of every stage, and of the run as a whole.

    Args:
        stages: what is different in a stage: {"joint": {"epochs": 100}}.
        device: auto, cpu, cuda, mps.
        deterministic: on GPUs too the same run gives the same bits, more slowly. (On CPUs it always does.)
        progress: show it.
        logger: tensorboard or wandb, besides log.csv.
        checkpoint_minutes: how often last.ckpt is written within an epoch; it is besides at the end of epochs.
    """

    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    device: str = "auto"
    deterministic: bool = False
    progress: bool = True
    logger: str | None = None
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.logger is not None and self.logger not in LOGGERS:
            raise ValueError(f"logger must be one of {', '.join(LOGGERS)} or null, got {self.logger!r}.")
        for name, given in self.stages.items():
            fill(StageSettings, given, f"training.stages.{name}")

    def stage(self, name: str) -> StageSettings:
        """The settings of the stage `name`."""
        common = {f.name: getattr(self, f.name) for f in fields(StageSettings)}
        return fill(StageSettings, common | dict(self.stages.get(name) or {}), f"training.stages.{name}")


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured: arguments of `polymodal.evaluate`."""

    metrics: list[str] | None = None
    subsets: Any = "all"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """A whole recipe.

    Args:
        about: what the recipe is, one sentence.
        modalities: what of a `Modality` is different: {"svhn": {"likelihood": "laplace", "weight": 2}}.
        networks: names in `polymodal.networks.NETWORKS`; the others' are chosen by shape.
        compare: recipes to train and to compare; then only `seeds` and `evaluation` count besides.
        seeds: of those runs.
    """

    about: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    modalities: dict[str, dict[str, Any]] = field(default_factory=dict)
    method: MethodSettings = field(default_factory=MethodSettings)
    networks: dict[str, str] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    compare: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)


def _check_names(settings: Settings) -> Settings:
    """Names and options against what there is: methods, data sets, modalities' fields."""
    keys = {f.name: f for f in fields(Modality) if f.name not in ("name", "shape")}
    hints = get_type_hints(Modality)
    modalities = {}
    for m, given in settings.modalities.items():
        path = f"modalities.{m}"
        for key in given:
            if key not in keys:
                raise ValueError(f"There is no setting {path}.{key}.{suggest(key, keys, path + '.')}")
        modalities[m] = {k: convert(v, hints[k], f"{path}.{k}") for k, v in given.items()}
    method, data = settings.method, settings.data
    if method.name is not None:
        from polymodal.methods import METHODS  # here, since `show` and `--help` need no torch

        name = find(method.name, METHODS, "method")
        options = checked_options(METHODS[name], method.options, "method", ("modalities", "networks"))
        method = MethodSettings(name, options)
    if data.name is not None and not Path(data.name).exists():
        from polymodal.data import DATASETS, load_data

        name = find(data.name, DATASETS, "data set")
        shared = [
            n for n in inspect.signature(load_data).parameters if n not in ("name_or_path", "kwargs", "modalities")
        ]
        checked_options(DATASETS[name], data.options, "data", ("path", "limit"), shared)
        data = DataSettings(name, data.path, data.limit, data.options)
    return replace(settings, modalities=modalities, method=method, data=data)


def resolve(given: Any = None, overrides: Sequence[str] = (), *, more: Mapping[str, Any] | None = None) -> Settings:
    """Typed settings from a mapping (a recipe, an OmegaConf, `Settings`) and overrides `a.b=value`, which win.

    `more` is a mapping that wins over `given`, key by key.

    Raises ValueError for an unknown key (with the nearest there is), a wrong type, a value out of range, an unknown
    method, data set or option of one.
    """
    for one in overrides:
        key, equals, _ = one.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"A setting is written key=value, such as training.epochs=5; got {one!r}.")
    try:
        base = OmegaConf.create(to_dict(given) if isinstance(given, Settings) else given or {})
        merged = OmegaConf.merge(base, plain(more or {}), OmegaConf.from_dotlist(list(overrides)))
        whole = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"The settings cannot be read: {' '.join(str(error).split())}.") from None
    return _check_names(fill(Settings, whole, ""))


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as plain nested mappings, as a recipe writes them; `resolve` of it gives the settings back."""

    def flat(value: Any) -> Any:
        if isinstance(value, Mapping):
            value = {k: flat(v) for k, v in value.items()}
            return (
                {k: v for k, v in value.items() if k != "options"} | value["options"] if "options" in value else value
            )
        return [flat(v) for v in value] if isinstance(value, list | tuple) else value

    return flat(asdict(settings))


def recipes() -> list[str]:
    """The names of the built-in recipes."""
    folder = files("polymodal") / "recipes"
    return (
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
        if folder.is_dir()
        else []
    )


def load_recipe(name: str | Path, above: Sequence[str] = ()) -> dict[str, Any]:
    """A built-in recipe by name, or a YAML file, as a mapping.

    A method's name is a recipe too: that method on the user's own data.
    A recipe that says `base: <recipe>` is laid over that one (a built-in name, or a YAML file beside it).

    Args:
        above: the recipes whose base this one is, outermost first.

    Raises ValueError for an unknown name, unreadable YAML, or a recipe that is its own base.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"There is no file {str(path)!r}; give a YAML file or one of: {', '.join(recipes())}.")
        text = path.read_text()
    else:
        if (method := _as_method(str(name))) is not None:
            about = f"{name} on your own data: polymodal train {name} --data pairs.npz, with the settings of `jnf`."
            return load_recipe("jnf") | {"about": about, "method": {"name": method}}
        text = (files("polymodal") / "recipes" / f"{find(str(name), recipes(), 'recipe')}.yaml").read_text()
    recipe = read_yaml(text, str(name))
    if (base := recipe.pop("base", None)) is None:
        return recipe
    if str(name) in above:
        raise ValueError(f"The recipe {above[0]!r} is its own base: {', '.join([*above, str(name)])}.")
    beside = path.parent / str(base) if str(base).endswith((".yaml", ".yml")) else str(base)
    merged = OmegaConf.to_container(OmegaConf.merge(load_recipe(beside, [*above, str(name)]), recipe))
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
            f"The recipe {name!r} must be a mapping such as training: {{epochs: 5}}, got {type(plain).__name__}."
        )
    return {str(k): v for k, v in plain.items()}
