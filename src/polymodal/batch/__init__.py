"""What modalities and batches are, and what "absent" means."""

from polymodal.batch.batch import (
    Batch,
    as_mask,
    as_numbers,
    batch_of,
    check_mappings,
    check_masks,
    has_holes,
    in_words,
    is_observed,
    on,
    where_present,
    with_holes,
)
from polymodal.batch.modality import (
    CODED,
    END,
    OF_THE_DATA,
    UNKNOWN,
    Column,
    Modality,
    checked_fields,
    escaped,
)

__all__ = [
    "CODED",
    "END",
    "OF_THE_DATA",
    "UNKNOWN",
    "Batch",
    "Column",
    "Modality",
    "as_mask",
    "as_numbers",
    "batch_of",
    "check_mappings",
    "check_masks",
    "checked_fields",
    "escaped",
    "has_holes",
    "in_words",
    "is_observed",
    "on",
    "where_present",
    "with_holes",
]
