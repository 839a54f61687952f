"""Checks of a user's settings: types, ranges, names, and the nearest name where one is misspelt.

`typed` validates a value against any annotation by pydantic, converts only where nothing is lost,
and says in one sentence what was expected and what came. This room knows nothing of polymodal.
"""

from polymodal.checks.annotations import BelowOne, Count, CountOrZero, NonNegative, Positive, Share
from polymodal.checks.arguments import call, checked_options, typed_arguments
from polymodal.checks.groups import Group, typed
from polymodal.checks.names import check_names, find, meant, suggest
from polymodal.checks.values import check_positive, first_difference, plain

__all__ = [
    "BelowOne",
    "Count",
    "CountOrZero",
    "Group",
    "NonNegative",
    "Positive",
    "Share",
    "call",
    "check_names",
    "check_positive",
    "checked_options",
    "find",
    "first_difference",
    "meant",
    "plain",
    "suggest",
    "typed",
    "typed_arguments",
]
