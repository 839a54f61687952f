"""What a recipe says, typed: `resolve` makes `Settings` of a mapping and `key=value` overrides, or
says what is wrong.

>>> settings = resolve({"training": {"epochs": 5}}, ["training.lr=3e-4", "training.stages.joint.batch=64"])
>>> settings.training.epochs, settings.training.stage("joint").batch, settings.training.stage("joint").lr
(5, 64, 0.0003)
>>> resolve({}, ["training.epoch=5"])
Traceback (most recent call last):
ValueError: There is no setting training.epoch. Did you mean training.epochs?
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from polymodal.checks import fill, suggest

OPTIMIZERS = ("adam", "adamw", "amsgrad", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "plateau")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LOGGERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class DataSettings:
    """Which data: arguments of `polymodal.load_data`, those of the particular data set in
    `options`.
    """

    name: str | None = None
    path: str | None = None
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodSettings:
    """A name in `polymodal.METHODS` and the keyword arguments of that function (latent, alpha,
    ...).
    """

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageSettings:
    """How one stage is trained.

    Args:
        epochs: passes over the training data; 0 leaves the weights as they are.
        batch: samples per gradient, over all processes. A shorter last batch is left out, unless it
            is the only one.
        lr: learning rate, after warm-up.
        optimizer: adam, adamw, amsgrad, rmsprop or sgd (momentum 0.9).
        weight_decay: decoupled for adamw, else added to the gradient.
        schedule: constant; cosine (to 0 over the stage); plateau (times `factor` after more than
            `plateau` evaluations without a better validation loss).
        factor: of the plateau.
        plateau: evaluations without progress that the plateau bears.
        warmup: steps over which the learning rate rises linearly to `lr`.
        clip: largest norm of the gradient; 0: not clipped.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated
            and saved; 0: none.
        patience: the stage stops after so many evaluations without a better validation loss, and
            keeps the weights of the best; 0: no early stop, the last weights.
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
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got"
                    f" {value!r}.{suggest(value, known)}"
                )
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
                raise ValueError(
                    f"{name} must be at least 0 and below 1, got {getattr(self, name)}."
                )


@dataclass(frozen=True)
class TrainingSettings(StageSettings):
    """The settings of every stage, and of the run as a whole.

    Args:
        stages: what is different in a stage: {"joint": {"epochs": 100}}.
        device: auto, cpu, cuda, mps.
        deterministic: on GPUs too the same run gives the same bits, more slowly. (On CPUs it always
            does.)
        progress: show it.
        logger: tensorboard or wandb, besides log.csv.
        checkpoint_minutes: how often last.ckpt is written within an epoch; it is besides at the end
            of epochs.
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
            raise ValueError(
                f"logger must be one of {', '.join(LOGGERS)} or null, got {self.logger!r}."
            )
        for name, given in self.stages.items():
            fill(StageSettings, given, f"training.stages.{name}")

    def stage(self, name: str) -> StageSettings:
        """The settings of the stage `name`."""
        common = {f.name: getattr(self, f.name) for f in fields(StageSettings)}
        return fill(
            StageSettings, common | dict(self.stages.get(name) or {}), f"training.stages.{name}"
        )


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
        modalities: what of a `Modality` is different: {"svhn": {"likelihood": "laplace", "weight":
            2}}.
        networks: names in `polymodal.networks.architectures.NETWORKS`; the others' are chosen by
            shape.
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
