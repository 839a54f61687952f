"""Typed construction: values by annotations, and groups of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from polymodal.checks.annotations import Place, adapter, lossless
from polymodal.checks.sentences import sentence
from polymodal.checks.values import plain


def typed(hint: Any, value: Any, path: str = "") -> Any:
    """`value` as the annotation `hint` says, converted only where nothing is lost: 3.0 to 3, 3 to
    3.0, a list to a tuple, an array to a list, a mapping to a `Group`.

    Args:
        path: the name of the setting, with dots, for the sentence.

    Raises ValueError in one sentence: what was expected, what came, the nearest name.

    >>> from polymodal.checks import Share
    >>> typed(Share, 3, "method.alpha")
    Traceback (most recent call last):
    ValueError: method.alpha must be a number from 0 to 1, got 3.
    """
    value = plain(value)
    try:
        return adapter(hint).validate_python(value)
    except ValidationError as error:
        raise ValueError(sentence(Place(hint, value, path), error)) from None


if TYPE_CHECKING:  # pydantic does not export the class
    from pydantic._internal._model_construction import ModelMetaclass as _Metaclass
else:
    _Metaclass = type(BaseModel)


class _Sentences(_Metaclass):
    """Makes `Group(...)` raise one sentence where pydantic raises a report of several lines."""

    def __call__(self, **values: Any) -> Any:
        try:
            return super().__call__(**plain(values))
        except ValidationError as error:
            raise ValueError(sentence(Place(self, plain(values), ""), error)) from None


class Group(BaseModel, metaclass=_Sentences):
    """Base of small groups of settings: frozen, without unknown names, and without conversions in
    which something is lost.

    A validator of a field raises ValueError("must be ..."), one of the whole group
    ValueError("<field> must be ...") or what `call` and `typed` with the path "" raise; the path is
    put before the field. Another text that begins with a capital letter stays as it is.

    >>> class Flow(Group):
    ...     kind: str = "maf"
    ...     tail_variance: float | None = None
    >>> Flow(tail_variance=2)
    Flow(kind='maf', tail_variance=2.0)
    >>> typed(Flow, {"tail_varianse": 2}, "flow")
    Traceback (most recent call last):
    ValueError: There is no setting flow.tail_varianse. Did you mean flow.tail_variance?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        for field in cls.model_fields.values():
            field.annotation = lossless(field.annotation)
        cls.model_rebuild(force=True)

    def merged(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The values that were set, overwritten by `changes`, as a mapping that is still to be
        checked.
        """
        return {**self.model_dump(exclude_unset=True), **changes}
