"""What modalities and batches are, and what "absent" means."""

from polymodal.batch.batch import (
    Batch,
    as_mask,
    as_numbers,
    batch_of,
    check_mappings,
    check_masks,
    in_words,
    on,
    where_present,
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
    "in_words",
    "on",
    "where_present",
]
