"""Tables of typed columns, Parquet and Feather, which keep their types and their metadata."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.checks.files import atomic, check_file, disk_errors, regular
from polymodal.data.readers.files import DamageError, log, reading
from polymodal.data.readers.mapped import Room, cache_file, once
from polymodal.data.tables.cells import (
    Cells,
    Places,
    cells_of_text,
    infinite_cells,
    real_dtype,
)
from polymodal.data.tables.dates import days
from polymodal.data.tables.decimals import step_of, with_decimals
from polymodal.data.tables.user_table import MAX_MB, Filled, UserTable

PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow")
REMEDY = "write it again, with to_parquet or to_feather"
TOO_MANY = "give fewer rows or columns"
MOST_UNPACKED = 40  # times the size of its file that a table may have
CELLS = 2**20  # that are unpacked at a time


class Typed(UserTable):
    """A table of typed columns.

    Args:
        table: all of it, or some rows.
        is_large: whether it lies in a file that is mapped.
        before: rows of the file before the first one.
    """

    def __init__(
        self, path: Path, table: pa.Table, is_large: bool = False, before: int = 0
    ) -> None:
        self.table, self.is_large = table, is_large
        super().__init__(path, table.column_names, Places(before=before), keeps=not is_large)
        if not len(table) or not table.column_names:
            raise ValueError(f"{path} has {len(table)} rows and {table.num_columns} columns.")

    def __len__(self) -> int:
        return len(self.table)

    def _cells(
        self, column: str, empty: Sequence[str], as_words: bool, date_format: str | None
    ) -> Cells:
        values, type_ = self.table.column(column), self.table.schema.field(column).type
        order: tuple[str, ...] = ()
        if pa.types.is_dictionary(type_):
            order = tuple(map(str, values.chunk(0).dictionary.to_pylist())) if type_.ordered else ()
            type_, values = type_.value_type, values.cast(type_.value_type)
        if pa.types.is_boolean(type_):
            words = [None if v is None else str(v) for v in values.to_pylist()]
            return Cells(column, "word", words=words, dtype="bool", places=self.places)
        if _is_text(type_):
            texts = ["" if v is None else v for v in values.to_pylist()]
            cells = cells_of_text(
                column, texts, self.places, empty, as_words=as_words, date_format=date_format
            )
            return _with_order(cells, order)
        if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
            return _dates(column, values, type_, self.places)
        if _is_number(type_):
            return _numbers(column, values, type_, self.places)
        raise ValueError(
            f"Column {column!r} holds {type_}, and numbers, words, dates and true or false are"
            " read; convert it, or leave it out of columns: in the description."
        )

    def in_parts(self, rows: int) -> Iterator[UserTable]:
        if not self.is_large:
            yield self
            return
        for start in range(0, len(self), rows):
            yield Typed(self.path, self.table.slice(start, rows), before=start)

    def encoded(self, filled: Filled, suffix: str) -> bytes:
        """The table with what is filled, as Parquet or Feather by the suffix."""
        import pyarrow.feather
        import pyarrow.parquet

        table = self.table
        for name, (rows, values) in filled.items():
            if len(rows):
                at = table.column_names.index(name)
                column = _filled(table.column(name), rows, values)
                table = table.set_column(at, table.schema.field(name), column)
        content = io.BytesIO()
        if suffix in FEATHER:
            pyarrow.feather.write_feather(table, content)
        else:
            pyarrow.parquet.write_table(table, content)
        return content.getvalue()


def _is_text(type_: pa.DataType) -> bool:
    of_words = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return type_ == pa.null() or any(is_text(type_) for is_text in of_words)


def _is_number(type_: pa.DataType) -> bool:
    return any(is_(type_) for is_ in (pa.types.is_integer, pa.types.is_floating, is_decimal))


def is_decimal(type_: pa.DataType) -> bool:
    """Whether a type of Arrow is one of exact decimals."""
    return bool(pa.types.is_decimal(type_))


def _with_order(cells: Cells, order: tuple[str, ...]) -> Cells:
    from dataclasses import replace

    return replace(cells, order=order)


def _numbers(name: str, values: pa.ChunkedArray, type_: pa.DataType, places: Places) -> Cells:
    """Numbers, float64, NaN where null. Raises ValueError for infinite ones."""
    numbers = values.cast(pa.float64(), safe=False).to_pandas().to_numpy(np.float64, copy=True)
    decimals = max(0, type_.scale) if is_decimal(type_) else None
    dtype = "int64" if pa.types.is_integer(type_) else real_dtype(numbers, decimals)
    form = "nothing" if np.isnan(numbers).all() else "number"
    cells = Cells(name, form, numbers, (), dtype, places)  # type: ignore[arg-type]
    if len(infinite := np.flatnonzero(np.isinf(numbers))):
        raise infinite_cells(cells, infinite.tolist())
    return cells


def _dates(name: str, values: pa.ChunkedArray, type_: pa.DataType, places: Places) -> Cells:
    """Days since 1970-01-01."""
    if pa.types.is_timestamp(type_):  # of microseconds, which Python's datetime has
        values = values.cast(pa.timestamp("us", tz=type_.tz), safe=False)
    try:
        moments = values.to_pylist()
    except (OverflowError, ValueError):
        raise ValueError(
            f"Column {name!r} has dates outside the years 1 to 9999; correct them, or empty the"
            " cells."
        ) from None
    numbers = np.array([math.nan if v is None else days(v) for v in moments])
    dtype = "date" if pa.types.is_date(type_) else "datetime"
    form = "nothing" if np.isnan(numbers).all() else "date"
    return Cells(name, form, numbers, (), dtype, places)  # type: ignore[arg-type]


def _filled(column: pa.ChunkedArray, rows: Sequence[int], values: Sequence[Any]) -> pa.Array:
    """The column with other values in some rows, of the same type."""
    type_ = column.type
    inner = type_.value_type if pa.types.is_dictionary(type_) else type_
    cells = column.to_pylist()
    for row, value in zip(rows, values, strict=True):
        cells[row] = cell_of(value, inner)
    if not pa.types.is_dictionary(type_):
        return pa.array(cells, type_)
    words = list(dict.fromkeys([*column.chunk(0).dictionary.to_pylist(), *cells]))
    words = [word for word in words if word is not None]
    place = {word: k for k, word in enumerate(words)}
    places = pa.array([None if c is None else place[c] for c in cells], type_.index_type)
    return pa.DictionaryArray.from_arrays(places, pa.array(words, inner), ordered=type_.ordered)


def cell_of(value: Any, type_: pa.DataType) -> Any:
    """A value as Python's of a type of Arrow."""
    if pa.types.is_boolean(type_):
        return value if isinstance(value, bool) else str(value).lower() in ("true", "1")
    if pa.types.is_integer(type_):
        return round(float(value))
    if pa.types.is_floating(type_):
        return float(f"{float(value):.6g}")
    if is_decimal(type_):
        return _decimal(value, type_)
    if pa.types.is_date(type_):
        return value.date() if isinstance(value, datetime) else value
    if pa.types.is_timestamp(type_):
        is_day = isinstance(value, date) and not isinstance(value, datetime)
        return datetime(value.year, value.month, value.day) if is_day else value
    return str(value)


def _decimal(value: Any, type_: pa.DataType) -> Decimal:
    """A number as one of a type of decimals; what it does not hold as its first or last."""
    largest = (10**type_.precision - 1) * step_of(type_.scale)
    return min(largest, max(-largest, with_decimals(value, type_.scale)))


# Reading.


def read_typed(path: Path, room: Room | None = None) -> Typed:
    """A Parquet or Feather file.

    Args:
        room: a table that it does not hold is unpacked once into a file of the cache, which is
            mapped. None: all is read.

    Raises ValueError for a file that is damaged or too large.
    """
    regular(path)
    if room is not None and _is_large(path, room):
        return Typed(path, _unpacked(path).unify_dictionaries(), is_large=True)
    check_file(path, MAX_MB)
    with reading(path, REMEDY):
        table = _parquet(path) if path.suffix in PARQUET else _feather(path)
        table.validate(full=True)  # that words are text, and lengths and places fit
    return Typed(path, table.unify_dictionaries())


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet

    _check_size(_content(path))
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read()


def _feather(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        batches, size = [], 0
        for k in range(file.num_record_batches):
            batches.append(file.get_batch(k))
            size += batches[-1].nbytes
            _check_size(size)
        return pa.Table.from_batches(batches, file.schema)


def _check_size(size: int) -> None:
    """Raises DamageError for more than `MAX_MB`."""
    if size > MAX_MB * 1e6:
        raise DamageError(
            f"it takes {size / 1e6:,.0f} MB in memory, more than {MAX_MB:,.0f} MB", TOO_MANY
        )


# Tables that are larger than memory.


def _is_large(path: Path, room: Room) -> bool:
    """Whether a table is unpacked into a file. One that grows more than real tables do is not."""
    with reading(path, REMEDY):
        size = _content(path) if path.suffix in PARQUET else 4 * path.stat().st_size
    in_memory = room.holds(size) and size <= MAX_MB * 1e6
    return not in_memory and size <= MOST_UNPACKED * path.stat().st_size


def _content(path: Path) -> int:
    """The bytes that a Parquet file holds, unpacked."""
    import pyarrow.parquet

    about = pyarrow.parquet.read_metadata(path)
    sizes = [about.row_group(k).total_byte_size for k in range(about.num_row_groups)]
    return max(sum(sizes), about.num_rows * about.num_columns)


def _unpacked(path: Path) -> pa.Table:
    """The table, mapped from a file of the cache in the format of Arrow's streams."""
    target = cache_file(path, "table", ".arrows")
    with disk_errors(target, "written"), once(target):
        if not target.is_file():
            log.warning("Unpacking %s once, into %s", path, target)
            with reading(path, REMEDY), atomic(target) as beside:
                _unpack(path, beside)
    with pa.memory_map(str(target)) as source, pa.ipc.open_stream(source) as stream:
        return stream.read_all()


def _unpack(path: Path, target: Path) -> None:
    import pyarrow.parquet

    if path.suffix not in PARQUET:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as feather:
            batches = map(feather.get_batch, range(feather.num_record_batches))
            _write_stream(batches, feather.schema, target)
        return
    with pyarrow.parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as parquet:
        columns = max(1, parquet.metadata.num_columns)
        batches = parquet.iter_batches(max(1, CELLS // columns))
        _write_stream(batches, parquet.schema_arrow, target)


def _write_stream(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path) -> None:
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
