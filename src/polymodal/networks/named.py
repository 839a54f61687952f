"""Modules and parameters by name, where a name is a user's word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from polymodal.batch import escaped

_SET_LATER = frozenset(vars(nn.Module()))  # attributes that modules assign, such as "training"


def key_of(name: str) -> str:
    """The name under which an entry of `Named` stands in the model's state."""
    key = escaped(name)
    return f"%{key}" if key in _SET_LATER else key


class Named(nn.Module, Mapping[str, Any]):
    """Modules or parameters by name. Any words are names: unlike those of `nn.ModuleDict` they
    never become attributes. In the model's state an entry stands under `key_of` its name.

    >>> modules = Named({"train": nn.Linear(1, 2), "a.b": nn.Linear(1, 3)})
    >>> list(modules), modules["train"].out_features, [name for name, _ in modules.named_children()]
    (['train', 'a.b'], 2, ['train', 'a%2Eb'])
    """

    __eq__, __hash__ = object.__eq__, object.__hash__  # not those of mappings

    def __init__(self, entries: Mapping[str, nn.Module | nn.Parameter] | None = None) -> None:
        super().__init__()
        self._names: dict[str, None] = {}
        for name, entry in (entries or {}).items():
            self[name] = entry

    def __getitem__(self, name: str) -> Any:
        key = key_of(name)
        return self._modules[key] if key in self._modules else self._parameters[key]

    def __setitem__(self, name: str, entry: nn.Module | nn.Parameter) -> None:
        self._names[name] = None
        if isinstance(entry, nn.Parameter):
            self._parameters[key_of(name)] = entry
        else:
            self._modules[key_of(name)] = entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
