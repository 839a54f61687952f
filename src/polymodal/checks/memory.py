"""Memory: what is left of it, and a refusal before more is asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

GB = 1e9
AUTO: Literal["auto"] = "auto"
SHARE = 0.25  # of what is available: reading holds data up to three times
HEAP = 2**25 - 2**14  # bytes, just below 32 MB
# Where the system writes what is left, the pattern of the number, and its unit in bytes.
SIZES = (
    ("/proc/meminfo", r"MemAvailable: *(\d+) kB", 1024),
    ("/sys/fs/cgroup/memory.max", r"(\d+)", 1),
)


def available() -> float:
    """The memory that this process may still take, in bytes."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sizes = [_size(*place) for place in SIZES]
    return min([pages, *(size for size in sizes if size is not None)])


def permitted(memory: float | Literal["auto"]) -> float:
    """The bytes that data may take in memory.

    Args:
        memory: in GB; "auto": a quarter of what is available.

    >>> permitted(0.5)
    500000000.0
    """
    return SHARE * available() if memory == AUTO else memory * GB


def _size(file: str, pattern: str, unit: int) -> int | None:
    """A size that the system writes into a file; None if it does not."""
    try:
        match = re.search(pattern, Path(file).read_text())
    except OSError:
        return None
    return int(match[1]) * unit if match else None


def check_memory(need: float, what: str, advice: str, most: float | None = None) -> None:
    """Raises ValueError for something that needs more memory than there is.

    Args:
        need: about how many bytes.
        what: what needs it, with the verb.
        advice: what to do.
        most: bytes that it may take; None: what is available.

    >>> check_memory(5e9, "A batch needs", "lower training.batch", most=2e9)
    Traceback (most recent call last):
    ValueError: A batch needs about 5 GB of memory, of which there are 2 GB; lower training.batch.
    """
    limit = available() if most is None else most
    if need > limit:
        raise ValueError(
            f"{what} about {need / GB:,.3g} GB of memory, of which there are {limit / GB:,.3g} GB;"
            f" {advice}."
        )


def keep_heap() -> None:
    """Makes glibc keep freed memory, up to 64 MB, instead of mapping it anew for every layer: saves
    5 to 20 % of the time.

    Freeing a block just below 32 MB raises glibc's thresholds to that size (mallopt(3),
    M_MMAP_THRESHOLD); with other allocators this has no effect.
    """
    import torch  # here, since the settings need it not

    torch.empty(HEAP, dtype=torch.uint8)
