"""The entries of a model's state that belong to the parts that a stage trains."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polymodal.model import Method, Stage


def state_of(modules: Sequence[nn.Module], model: nn.Module) -> dict[str, Tensor]:
    """The entries of the model's state that belong to `modules`, by name, sharing memory with the
    model.

    Raises ValueError if a module has parameters that are not the model's, since they would not be
    saved.
    """
    parts = {id(t): t for module in modules for t in module.state_dict(keep_vars=True).values()}
    state = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) in parts}
    if parts.keys() - {id(t) for t in state.values()}:
        raise ValueError(
            "A stage trains a module that is no part of the model, and would not be saved; add it"
            " to the model."
        )
    return {name: t.detach() for name, t in state.items()}


def plain_state(modules: Sequence[nn.Module], method: Method) -> dict[str, tuple[str, Tensor]]:
    """{plain name: (name, value)} of `state_of`; a tensor with several names is listed once.

    The plain name is that of the entry in the same model without a fitted prior.
    """
    tensors = method.model.state_dict(keep_vars=True)
    state: dict[str, tuple[str, Tensor]] = {}
    listed: set[int] = set()
    for name, value in state_of(modules, method.model).items():
        if id(tensors[name]) not in listed:
            listed.add(id(tensors[name]))
            state[method.plain_name(name)] = (name, value)
    return state


def trained_names(stage: Stage, method: Method) -> set[str]:
    """The plain names of the entries that a stage trains."""
    return set(plain_state(stage.modules(method.model), method))
