"""What the options of methods may be, checked once for all of them: an option of one name has one range everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from polymodal.methods.score import REFERENCES

# name -> least value; whole numbers.
COUNTS = dict.fromkeys(("latent", "k", "pseudo", "size", "kept", "transforms", "components"), 1)
COUNTS |= dict.fromkeys(("hidden", "augment", "extra", "private"), 0) | {"classes": 2}
# Numbers from 0: weights and the like; shares of 1; and what must stay below 1.
WEIGHTS = ("beta", "alpha", "consensus", "contrast", "tie", "gamma", "discriminate", "discrepancy")
SCALES = ("ridge", "smooth", "epsilon", "steepest", "widest")
SHARES, BELOW = ("warmup",), ("dropout", "rho")
MAPPINGS = ("patterns", "denoiser_options", "sampler_options")
WORDS = {"objective": ("elbo", "iwae", "dreg"), "reference": REFERENCES}


def check(options: Mapping[str, Any]) -> None:
    """Raises ValueError for the first option that is not what its name stands for; None stands for none.

    >>> check({"k": 0})
    Traceback (most recent call last):
    ValueError: k must be a whole number, at least 1; got 0.
    """
    for name, value in options.items():
        must = None if value is None else _wanted(name, value)
        if must:
            raise ValueError(f"{name} must be {must}; got {value!r}.")


def _wanted(name: str, value: Any) -> str | None:
    """What the option should be, if it is not."""
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
    return "a mapping of names to values" if name in MAPPINGS and not isinstance(value, Mapping) else None
