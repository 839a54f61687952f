"""Rows of tables, gathered as they are stored; tables may be files that are mapped into memory."""

from __future__ import annotations

import ctypes
import mmap
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from operator import index
from typing import Any, TypeVar

import torch
from torch import Tensor

from polymodal.checks import shown

R = TypeVar("R")
AHEAD = 4  # batches that are read before they are asked for
LOOKED = 2**20  # numbers of a table that are looked at at a time
SUMMED = 2**22  # that are summed at a time; other parts have other roundings
MOST = 4096  # rows of them
PAGE = mmap.PAGESIZE
WILL_NEED: int | None = getattr(mmap, "MADV_WILLNEED", None)


def is_channels_last(table: Tensor) -> bool:
    """Whether each row of a table is an image whose channels are next to one another in memory."""
    return table.dim() == 4 and table[:1].is_contiguous(memory_format=torch.channels_last)


def pick(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` as it is stored, on the device of `rows`; image tables stay channels-last in
    memory.
    """
    there = rows.to(table.device)
    if is_channels_last(table):
        x = table.permute(0, 2, 3, 1).index_select(0, there).permute(0, 3, 1, 2)
    else:
        x = table.index_select(0, there)
    return x.to(rows.device)


def as_floats(x: Tensor) -> Tensor:
    """Values as floating point: uint8 images become [0, 1]."""
    return x.to(torch.get_default_dtype()).div_(255) if x.dtype == torch.uint8 else x


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` as floating point: uint8 images become [0, 1]; image tables stay channels-last
    in memory.
    """
    return as_floats(pick(table, rows))


def in_parts(table: Tensor, rows: Tensor, numbers: int = LOOKED) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of `rows` (n,) after the other, and what the table has there (n, ...), as stored.

    Args:
        numbers: of the table, at most, unless one row has more.
    """
    for some in rows.split(max(1, min(MOST, numbers // max(1, table[0].numel())))):
        yield some, pick(table, some)


def picked(values: Mapping[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
    """The samples (B,) of each value (N, ...), on the device of the values."""
    return {k: v.index_select(0, samples.to(v.device)) for k, v in values.items()}


def as_rows(rows: Any, m: str) -> Tensor:
    """Rows of a table (N,), int64, from whole numbers. Raises ValueError for all else."""
    if isinstance(rows, Tensor) and rows.dtype == torch.int64 and rows.dim() == 1:
        return rows
    values = rows.tolist() if hasattr(rows, "tolist") else rows
    try:
        return torch.tensor([index(row) for row in values], dtype=torch.int64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(
            f"index[{m!r}] must hold rows of its table, whole numbers, got {shown(rows)}."
        ) from None


def means_of(table: Tensor, rows: Tensor) -> Tensor:
    """Means over rows of the values and of their squares, (2, *shape), float64, without NaN."""
    sums = torch.zeros(3, *table.shape[1:], dtype=torch.float64, device=table.device)
    for _, stored in in_parts(table, rows.to(table.device), SUMMED):
        x = as_floats(stored).double()
        sums += torch.stack([x.nansum(0), x.square().nansum(0), (~x.isnan()).sum(0)])
    return sums[:2] / sums[2].clamp_min(1)


def rows_to_look_at(table: Tensor, rows: Tensor) -> tuple[Tensor, Any]:
    """Rows to look at instead of `rows` (N,), which may be more than the table has; and the places
    of `rows` among them.
    """
    if len(rows) <= len(table):
        return rows, ...
    return torch.arange(len(table), device=rows.device), rows


def scan_holes(table: Tensor, rows: Tensor) -> tuple[Tensor, bool]:
    """Which of `rows` (N,) have an entry that is no hole, (N,) bool; and whether any entry of them
    is a hole, that is NaN.
    """
    if not table.is_floating_point():
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device), False
    looked, places = rows_to_look_at(table, rows)
    empty = torch.zeros(len(looked), dtype=torch.bool, device=rows.device)
    holed, start = torch.zeros_like(empty), 0
    for some, x in in_parts(table, looked):
        nan = x.isnan().flatten(1)
        if nan.any():
            empty[start : start + len(some)] = nan.all(1)
            holed[start : start + len(some)] = nan.any(1)
        start += len(some)
    return ~empty[places], bool(holed[places].any())


# Files.


def ask_for(table: Tensor, rows: Tensor) -> None:
    """Asks the system to read rows of a mapped table, all of them at once and nothing beside them;
    elsewhere it changes nothing. Without it, a row that is not in memory is read when it is
    touched, one after the other, with its neighbours.
    """
    if WILL_NEED is None or table.device.type != "cpu":
        return
    size, start = table.element_size(), table.data_ptr()
    step = table.stride(0) * size
    length = sum((n - 1) * s for n, s in zip(table.shape[1:], table.stride()[1:], strict=True))
    advise = ctypes.CDLL(None).madvise
    for first in (rows.sort().values * step + start).tolist():
        page = first // PAGE * PAGE
        advise(
            ctypes.c_void_p(page),
            ctypes.c_size_t(first - page + (length + 1) * size),
            ctypes.c_int(WILL_NEED),
        )


def ahead(read: Callable[[Tensor], R], parts: Iterable[Tensor]) -> Generator[R, None, None]:
    """What `read` gives for each of `parts`, read by a thread, at most `AHEAD` of them before they
    are asked for.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(1, "reader") as reader:
        for samples in parts:
            waiting.append(reader.submit(read, samples))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
