"""The model's state by the modules that a stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from polymodal.priors import FittedPrior

if TYPE_CHECKING:
    pass


def state_of(modules: Sequence[nn.Module], model: nn.Module) -> dict[str, Tensor]:
    """The entries of the model's state that belong to `modules`, by name, sharing memory with the
    model.

    Raises ValueError if a module has parameters that are not the model's, since they would not be
    saved.
    """
    parts = {id(t): t for module in modules for t in module.state_dict(keep_vars=True).values()}
    found = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) in parts}
    if parts.keys() - {id(t) for t in found.values()}:
        raise ValueError(
            "A stage trains a module that is no part of the model; add it to the model, or it is"
            " not saved."
        )
    return {name: t.detach() for name, t in found.items()}


def plain_state(modules: Sequence[nn.Module], model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """{plain name: (name, value)} of `state_of`, a tensor of several names once.

    The plain name is what an entry is called in the same model without a fitted prior.
    """
    fitted = isinstance(getattr(model, "prior", None), FittedPrior)
    tensors, met = model.state_dict(keep_vars=True), set()
    found = {}
    for name, value in state_of(modules, model).items():
        if id(tensors[name]) not in met:
            met.add(id(tensors[name]))
            base = fitted and name.startswith("prior.base.")
            found[name.replace("prior.base.", "prior.", 1) if base else name] = (name, value)
    return found
