"""`Stage` and `Method`: how a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from polymodal.batch import Batch
from polymodal.model.autoencoder import MultimodalVAE


class Loss(NamedTuple):
    """`value` (B,), nats, is minimised; `terms`, each (B,), are only logged: the parts of the value
    by name, before they are weighted by a method's options.
    """

    value: Tensor
    terms: dict[str, Tensor]


class Step:
    """A named function with plain options, which is called with further arguments in front.

    Two steps are equal if their functions and options are: so stages can be compared by value.

    >>> half = Step(max, default=0)
    >>> half([3, 5]), half == Step(max, default=0), half == Step(max, default=1)
    (5, True, False)
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function, self.options = function, options

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments, **self.options)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return self.function is other.function and self.options == other.options

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        said = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return f"Step({self.function.__qualname__}{said})"


@dataclass(frozen=True)
class Stage:
    """One optimisation problem: a loss, and the parts of the model that it trains; the others are
    frozen.

    A stage is a value: it names parts instead of holding them, and its functions take the model.

    Args:
        name: "joint", "surrogates", ...; its settings stand under training.stages.<name>.
        loss: (model, batch, progress) -> Loss, per sample, nats; `progress` goes from 0 to 1 over
            the stage (for warm-ups) and is 1 in validation.
        trains: names of the parts whose parameters are optimised, such as ("prior", "decoders",
            "posterior.joint"); "" is the whole model. May be empty if there is a `finish`.
        prepare: (model, batch) -> Batch: it depends on x and frozen parts only, and is run once
            over the data. A modality whose tensor it returns unchanged stays where it was; its
            `kept` values are stored.
        finish: (model, training batches, validation batches) -> figures for the log: a closed-form
            step after the training.
        built_from: plain values that determine how its parts were built. Stages of two methods are
            equal, and can be trained once for both, only if both say it.
        min_pairs: the fewest rows of a batch in which some two modalities are present, for a loss
            that is not defined on fewer; see `polymodal.training.checks`.
    """

    name: str
    loss: Callable[[MultimodalVAE, Batch, float], Loss]
    trains: Sequence[str]
    prepare: Callable[[MultimodalVAE, Batch], Batch] | None = None
    finish: Callable[[MultimodalVAE, Iterable[Batch], Iterable[Batch]], dict[str, Any]] | None = (
        None
    )
    built_from: Mapping[str, Any] | None = None
    min_pairs: int = 0

    def modules(self, model: nn.Module) -> list[nn.Module]:
        """The parts of `model` that the stage trains. Raises ValueError for a name without one."""
        parts = dict(model.named_modules(remove_duplicate=False))
        for name in self.trains:
            if name not in parts:
                raise ValueError(
                    f"Stage {self.name!r} trains {list(self.trains)}, but the model has no part"
                    f" {name!r}; name parts as `dict(model.named_modules())` does."
                )
        return [parts[name] for name in self.trains]


@dataclass(frozen=True)
class Method:
    """A model and the stages that train it, in turn.

    Args:
        renamed: {beginning of a name in the model's state: its beginning in the same model without
            a fitted prior}.
    """

    model: MultimodalVAE
    stages: Sequence[Stage]
    renamed: Mapping[str, str] = field(default_factory=dict)

    def plain_name(self, name: str) -> str:
        """The name of a part or an entry of the state in the same model without a fitted prior."""
        for ours, plain in self.renamed.items():
            if name == ours or name.startswith(f"{ours}."):
                return plain + name[len(ours) :]
        return name
