"""Checks of what comes from outside: types, ranges, names, the nearest name of a misspelt one.

`typed` validates a value against any annotation by pydantic, converts only where nothing is lost,
and says in one sentence what was expected and what came. This room knows nothing of polymodal.
"""

from polymodal.checks.annotations import (
    BelowOne,
    Count,
    CountOrZero,
    Depth,
    DepthOrZero,
    FileName,
    FilePath,
    Measured,
    Memory,
    NonNegative,
    Positive,
    Seed,
    Share,
    Size,
    SizeOrZero,
)
from polymodal.checks.arguments import (
    call,
    check_positive,
    checked,
    checked_options,
    typed_arguments,
)
from polymodal.checks.groups import Group, typed
from polymodal.checks.memory import AUTO, check_memory, keep_heap, permitted
from polymodal.checks.names import check_name, check_names, find, shown, suggest, unknown
from polymodal.checks.values import first_difference, plain

__all__ = [
    "AUTO",
    "BelowOne",
    "Count",
    "CountOrZero",
    "Depth",
    "DepthOrZero",
    "FileName",
    "FilePath",
    "Group",
    "Measured",
    "Memory",
    "NonNegative",
    "Positive",
    "Seed",
    "Share",
    "Size",
    "SizeOrZero",
    "call",
    "check_memory",
    "check_name",
    "check_names",
    "check_positive",
    "checked",
    "checked_options",
    "find",
    "first_difference",
    "keep_heap",
    "permitted",
    "plain",
    "shown",
    "suggest",
    "typed",
    "typed_arguments",
    "unknown",
]
