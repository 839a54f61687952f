"""The sections of a recipe, typed; `polymodal.settings.resolve` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, field_serializer

from polymodal.checks import (
    AUTO,
    BelowOne,
    Count,
    CountOrZero,
    FileName,
    Group,
    Memory,
    NonNegative,
    Positive,
    Seed,
    check_names,
)

Optimizer = Literal["adam", "adamw", "amsgrad", "rmsprop", "sgd"]
Schedule = Literal["constant", "cosine", "plateau"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Logger = Literal["tensorboard", "wandb"]
Device = Literal["auto", "cpu", "cuda", "mps"]


class OpenGroup(Group):
    """A group that also takes the options of a function, whose names are checked elsewhere."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The settings that are not fields."""
        return dict(self.model_extra or {})


class DataSettings(OpenGroup):
    """The data: arguments of `polymodal.load_data`.

    Args:
        name: a data set, or the path of the user's own file.
        path: the folder in which the files of a named data set lie.
        limit: the number of samples of each part to keep; null: all.
        memory: what the data may take in memory, in GB; larger data stay on disk, and their batches
            are read ahead; auto: a quarter of what is available.
        options: those of the data set.
    """

    name: FileName | None = None
    path: FileName | None = None
    limit: Count | None = None
    memory: Memory = AUTO


class MethodSettings(OpenGroup):
    """The method.

    Args:
        name: a key of `polymodal.METHODS`.
        options: keyword arguments of that function, such as latent.
    """

    name: str | None = None


class StageSettings(Group):
    """How one stage is trained.

    Args:
        epochs: passes over the training data; 0 leaves the weights as they are.
        batch: samples per gradient, over all processes. A shorter last batch is left out, unless it
            is the only one.
        lr: learning rate, after warm-up.
        optimizer: adam, adamw, amsgrad, rmsprop or sgd (momentum 0.9).
        weight_decay: decoupled for adamw, else added to the gradient.
        schedule: constant; cosine (to 0 over the stage); plateau (multiplied by `factor` after more
            than `plateau` evaluations without a lower validation loss).
        factor: by which a plateau multiplies the learning rate.
        plateau: evaluations without improvement before the learning rate is reduced.
        warmup: steps over which the learning rate rises linearly to `lr`.
        clip: largest norm of the gradient; 0: no clipping.
        ema: decay of an exponential moving average of the weights, which is then evaluated and
            saved; 0: no average.
        patience: evaluations without a lower validation loss after which the stage stops and
            restores the best weights; 0: no early stopping, the last weights are kept.
        precision: 32-true, bf16-mixed or 16-mixed.
        accumulate: batches whose gradients are averaged for one step.
        compile: whether the loss is compiled by `torch.compile`; faster only in long runs on GPUs.
        max_steps: steps after which the stage ends; 0: no limit.
        eval_every: epochs between evaluations on the validation data; the last epoch always has
            one.
    """

    epochs: CountOrZero = 30
    batch: Count = 128
    lr: Positive = 1e-3
    optimizer: Optimizer = "adam"
    weight_decay: NonNegative = 0.0
    schedule: Schedule = "constant"
    factor: BelowOne = 0.1
    plateau: CountOrZero = 10
    warmup: CountOrZero = 0
    clip: NonNegative = 0.0
    ema: BelowOne = 0.0
    patience: CountOrZero = 0
    precision: Precision = "32-true"
    accumulate: Count = 1
    compile: bool = False
    max_steps: CountOrZero = 0
    eval_every: Count = 1

    def per_epoch(self, samples: int) -> int:
        """Steps of one epoch on so many training samples."""
        return max(1, samples // (self.batch * self.accumulate))

    def steps(self, samples: int) -> int:
        """Steps of the whole stage on so many training samples."""
        steps = self.epochs * self.per_epoch(samples)
        return min(steps, self.max_steps or steps)


class TrainingSettings(StageSettings):
    """The settings of every stage, and of the run as a whole.

    Args:
        stages: settings of single stages that differ: {"joint": {"epochs": 100}}.
        device: auto, cpu, cuda or mps.
        deterministic: whether the same run gives the same bits also on GPUs, more slowly. (On CPUs
            it always does, with the same number of threads.)
        progress: show a line of progress.
        logger: tensorboard or wandb, in addition to log.csv; with pictures of draws after each
            stage.
        checkpoint_minutes: minutes between checkpoints (last.ckpt) within an epoch; one is also
            written at the end of epochs.
        memory_gb: the memory that the run may take by an estimate before its first step, in GB;
            null: what this machine has left.
    """

    stages: dict[str, StageSettings] = {}
    device: Device = "auto"
    deterministic: bool = False
    progress: bool = True
    logger: Logger | None = None
    checkpoint_minutes: NonNegative = 10.0
    memory_gb: Positive | None = None

    @field_serializer("stages")
    def _only_differences(self, stages: dict[str, StageSettings]) -> dict[str, dict[str, Any]]:
        return {name: stage.model_dump(exclude_unset=True) for name, stage in stages.items()}

    def check_stages(self, names: Sequence[str]) -> None:
        """Raises ValueError for settings of a stage that is none of `names`, with the nearest."""
        check_names(self.stages, names, "training.stages")

    def stage(self, name: str) -> StageSettings:
        """The settings of the stage `name`."""
        common = {field: getattr(self, field) for field in StageSettings.model_fields}
        if name not in self.stages:
            return StageSettings(**common)
        return StageSettings(**(common | self.stages[name].model_dump(exclude_unset=True)))


class EvaluationSettings(OpenGroup):
    """The measurement: arguments of `polymodal.evaluate`.

    Args:
        metrics: keys of `polymodal.METRICS`; null: all that apply.
        subsets: the subsets of modalities that are given: "all", or a list such as ["mnist",
            "mnist+svhn"]; null: all of up to four modalities, of more each single one, all but one,
            and all.
        classifiers: networks of the classifiers by modality, {"svhn": "senellart-cnn"}; the others
            are chosen by the values and their shape.
        options: limit, and those of `polymodal.metrics.MeasurementOptions`, such as samples.
    """

    metrics: list[str] | None = None
    subsets: Literal["all"] | list[str | list[str]] | None = None
    classifiers: dict[str, str] = {}


class Settings(Group):
    """A whole recipe.

    Args:
        about: one sentence on the recipe.
        data: the data.
        modalities: fields of a `Modality` that differ from the data's: {"svhn": {"likelihood":
            "laplace", "weight": 2}}.
        method: the method and its options.
        networks: names in `polymodal.networks.architectures.NETWORKS` by modality; the others are
            chosen by shape.
        training: how the stages are trained.
        evaluation: what is measured.
        compare: recipes to train and to compare; the other settings are laid over each recipe.
        vary: values of settings, {"method.latent": [10, 20]}: each recipe is one run for every
            combination of them.
        seeds: seeds of the compared runs.
    """

    about: str = ""
    data: DataSettings = DataSettings()
    modalities: dict[str, dict[str, Any]] = {}
    method: MethodSettings = MethodSettings()
    networks: dict[str, str] = {}
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    compare: list[str] = []
    vary: dict[str, Any] = {}
    seeds: list[Seed] = []
