"""An answer as a file: what `polymodal generate` writes, and the filled rows."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from polymodal.app.answer import Answer, Row
from polymodal.batch import Modality, escaped
from polymodal.data.tables.writing import table_bytes
from polymodal.report.generated import generated_files

KEPT = 10  # answers that can be downloaded, of all browsers together
PREFIX = "answer-"  # of their folders


def zipped(answer: Answer, modalities: Mapping[str, Modality]) -> bytes:
    """The draws as a .zip file: what `polymodal generate` writes, and `<name>.filled.csv` of rows.

    Raises ValueError if nothing was drawn.
    """
    if not answer.draws:
        raise ValueError("Nothing was drawn, because everything was given; leave something out.")
    contents = generated_files(answer.draws, answer.batch, modalities)
    for m, row in answer.rows.items():
        name = f"{escaped(m)}.filled.csv"
        contents[name] = _row_bytes(row, name)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def keep(folder: Path, content: bytes) -> Path:
    """Writes an answer into `folder`, as a file of its own, so that another browser's download
    stays what it was; removes all but the last `KEPT` ones.
    """
    earlier = sorted(folder.glob(f"{PREFIX}*"), key=lambda path: path.stat().st_mtime_ns)
    for path in earlier[: max(0, len(earlier) - KEPT + 1)]:
        rmtree(path, ignore_errors=True)
    path = Path(mkdtemp(prefix=PREFIX, dir=folder)) / "generated.zip"
    path.write_bytes(content)
    return path


def _row_bytes(row: Row, name: str) -> bytes:
    """A filled row as a table."""
    cells = row.cells
    columns: dict[str, Sequence[Any]] = {
        "column": [c.column for c in cells],
        "value": [c.value for c in cells],
        "lower": [c.low or None for c in cells],
        "upper": [c.high or None for c in cells],
        "probability": [c.probability for c in cells],
        "given": ["yes" if c.is_given else "no" for c in cells],
    }
    return table_bytes(columns, Path(name))
