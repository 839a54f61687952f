"""What the options of methods may be, checked once for all of them: an option of one name has one
range everywhere, but for what a method narrows itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from inspect import signature
from numbers import Integral, Real
from typing import Any

from polymodal.checks import plain
from polymodal.diffusion.fitting import REFERENCES

# name -> least value; whole numbers.
COUNTS = dict.fromkeys(("latent", "k", "pseudo", "size", "kept", "transforms", "components"), 1)
COUNTS |= dict.fromkeys(("hidden", "augment", "extra", "private"), 0) | {"classes": 2}
# Numbers from 0: weights and the like; shares of 1; and what must stay below 1.
WEIGHTS = ("beta", "alpha", "consensus", "contrast", "tie", "gamma", "discriminate", "discrepancy")
SCALES = ("ridge", "smooth", "epsilon", "max_scale", "tail_variance")
SHARES, BELOW = ("warmup",), ("dropout", "rho")
MAPPINGS = ("patterns", "denoiser_options", "sampler_options")
WORDS = {"objective": ("elbo", "iwae", "dreg"), "reference": REFERENCES}
NONE = ("kept", "epsilon", "tail_variance", *MAPPINGS)  # what may be left out


def check(**options: Any) -> None:
    """Raises ValueError for the first option that is not what its name stands for.

    >>> check(k=0)
    Traceback (most recent call last):
    ValueError: k must be a whole number, at least 1; got 0.
    """
    for name, value in options.items():
        must = None if value is None and name in NONE else _wanted(name, value)
        if must:
            raise ValueError(f"{name} must be {must}; got {value!r}.")


def check_share(**options: float) -> None:
    """Raises ValueError for a share of 1 that is none."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1 here; got {value!r}.")


def check_switches(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option of `function` that is true or false by default, and neither
    now.
    """
    for name, parameter in signature(function).parameters.items():
        if isinstance(parameter.default, bool) and options.get(name, True) not in (True, False):
            raise ValueError(f"{name} must be true or false; got {options[name]!r}.")


def _wanted(name: str, value: Any) -> str | None:
    """What the option should be, if it is not."""
    value = plain(value)
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if name in COUNTS and not (isinstance(value, Integral) and number >= COUNTS[name]):
        return f"a whole number, at least {COUNTS[name]}"
    if name in (*WEIGHTS, *SCALES) and not 0 <= number < math.inf:
        return "a number, 0 or more"
    if name in SHARES and not 0 <= number <= 1:
        return "a number from 0 to 1"
    if name in BELOW and not 0 <= number < 1:
        return "a number from 0 to below 1"
    if name in WORDS and value not in WORDS[name]:
        return f"one of {', '.join(WORDS[name])}"
    return (
        "a mapping of names to values"
        if name in MAPPINGS and not isinstance(value, Mapping)
        else None
    )
