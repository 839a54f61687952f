"""`@metric`: enters a function of a measurement into METRICS."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from polymodal.checks import find
from polymodal.metrics.places import Given, Places

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement

Value = tuple[float, float, int]  # value, its standard error over the samples, number of samples
Compute = Callable[["Measurement", Given, str], Value | None]
Direction = Literal["higher", "lower", "none"]
F = TypeVar("F", bound=Compute)


class UnavailableError(ValueError):
    """A metric cannot be computed for a place. The text is the reason, one sentence.

    `evaluate` then writes a row without a value, and measures the rest.
    """


@dataclass(frozen=True)
class Metric:
    """A quantity that is measured.

    Args:
        compute: (measurement, given, target) -> value, standard error, number of samples. None:
            the model or the data has no such quantity. Raises `UnavailableError` where it exists
            and cannot be computed.
        places: for which (given, target) it is computed, see `polymodal.metrics.places`.
        direction: "higher" or "lower" is better; "none".
        unit: of the value.
        labels: whether it needs labels.
        default: whether it is measured if no metrics are named.
    """

    compute: Compute
    places: Places
    direction: Direction
    unit: str
    labels: bool = False
    default: bool = True

    @property
    def description(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join((inspect.getdoc(self.compute) or "").split("\n\n")[0].split())


METRICS: dict[str, Metric] = {}


def named_metrics(names: str | Sequence[str]) -> list[str]:
    """The keys of METRICS that `names` mean, each once. Raises ValueError for an unknown name, with
    the nearest, or no name at all.
    """
    listed = [names] if isinstance(names, str) else names
    if not listed:
        raise ValueError("metrics must name at least one metric; leave it out for all that apply.")
    return list(dict.fromkeys(find(name, METRICS, "metric") for name in listed))


def metric(
    *,
    places: Places,
    direction: Direction,
    unit: str,
    labels: bool = False,
    default: bool = True,
) -> Callable[[F], F]:
    """Enters the decorated function into METRICS under its own name.

    The first paragraph of its docstring is its description. For the arguments see `Metric`.

    >>> from polymodal.metrics.places import others
    >>> @metric(places=others, direction="lower", unit="value")
    ... def mine(measurement, given, target):
    ...     "The same number everywhere."
    ...     return 1.0, 0.0, len(measurement.rows([*given, target]))
    >>> METRICS.pop("mine").description
    'The same number everywhere.'
    """

    def enter(compute: F) -> F:
        METRICS[compute.__name__] = Metric(compute, places, direction, unit, labels, default)
        return compute

    return enter
