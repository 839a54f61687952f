"""`@metric` enters a function into METRICS, the registry of everything that can be measured."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polymodal.metrics.places import Given, Places

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement

DIRECTIONS = ("higher", "lower", "none")

Value = tuple[float, float, int]  # value, standard error over the samples, number of samples
Function = Callable[["Measurement", Given, str], Value | None]


@dataclass(frozen=True)
class Metric:
    """A quantity that can be measured of a model.

    Args:
        function: (measurement, given, target) -> value, standard error, n; None if the quantity
            does not exist there.
        direction: which values are better: "higher", "lower" or "none".
        unit: of the value.
        places: for which (given, target) it is computed: a function of `polymodal.metrics.places`.
        labels: whether it needs the data's labels.
        default: whether it is measured if no metrics are named.
        description: one sentence.
    """

    function: Function
    direction: str
    unit: str
    places: Places
    labels: bool = False
    default: bool = True
    description: str = ""


METRICS: dict[str, Metric] = {}


def metric(
    *, direction: str, unit: str, places: Places, labels: bool = False, default: bool = True
) -> Callable[[Function], Function]:
    """Enters a function into METRICS, under its name; see `Metric` for the arguments.

    The first paragraph of its docstring is the description.

    Raises ValueError for an unknown direction, or a function without a docstring.

    >>> from polymodal.metrics import others
    >>> @metric(direction="higher", unit="share", places=others)
    ... def luck(measurement, given, target):
    ...     '''Share of guesses that are right.'''
    >>> METRICS.pop("luck").description
    'Share of guesses that are right.'
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}.")

    def enter(function: Function) -> Function:
        first = (inspect.getdoc(function) or "").split("\n\n")[0]
        if not first:
            raise ValueError(f"The metric {function.__name__} needs a docstring that describes it.")
        description = " ".join(first.split())
        METRICS[function.__name__] = Metric(
            function, direction, unit, places, labels, default, description
        )
        return function

    return enter
