"""New tables of a few columns, in any of the files of tables."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.data.tables.delimited import PACKED, digits
from polymodal.data.tables.reading import TYPED


def table_bytes(columns: Mapping[str, Sequence[Any]], path: Path) -> bytes:
    """The bytes of a table for a file, whose kind its name says: text (.csv, .tsv, .tab, also
    packed, .gz), Parquet or Feather.

    Args:
        columns: {name: cells}, equally many; None is an empty cell. Those of one column have one
            type.

    >>> table_bytes({"a": [1, None], "b": ["x", "y,z"]}, Path("t.csv"))
    b'a,b\\n1,x\\n,"y,z"\\n'
    """
    name = path.name.lower()
    if name.endswith(TYPED):
        return _typed(columns, name)
    content = io.StringIO()
    is_tab = {".tsv", ".tab"} & {suffix.lower() for suffix in path.suffixes}
    writer = csv.writer(content, delimiter="\t" if is_tab else ",", lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if cell is None else digits(cell) for cell in row])
    encoded = content.getvalue().encode()
    return gzip.compress(encoded, mtime=0) if name.endswith(PACKED) else encoded


def _typed(columns: Mapping[str, Sequence[Any]], name: str) -> bytes:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    table = pa.table({column: pa.array(list(cells)) for column, cells in columns.items()})
    content = io.BytesIO()
    if name.endswith((".feather", ".arrow")):
        pyarrow.feather.write_feather(table, content)
    else:
        pyarrow.parquet.write_table(table, content)
    return content.getvalue()
