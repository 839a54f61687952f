"""Kinds of bad data: what comes, and what polymodal does about it.

`KINDS` is the one list: `test_bad_data.py` gives each kind to the commands and functions that read
data, and `python tests/bad_data.py` writes docs/bad_data.md from it.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bad_data.md"
N = 60
GROUPS = {
    "Tables of text": "CSV and TSV",
    "Cells and columns": "what stands in a table of any format",
    "Numbers": "in a column of any table",
    "Dates": "in a column of any table",
    "Typed tables": "Parquet and Feather",
    "Several files": "a description with keys, parts and labels",
    "Pictures": "a folder of pictures that a column names",
    "Arrays": ".npz and .npy",
    "Cells of biology": ".h5ad and .h5mu",
    "In Python": "`Imputer`, `fit` and `load_data`",
}
Make = Callable[[Path], str]


@dataclass(frozen=True)
class Kind:
    """One kind of bad data.

    Args:
        group: a key of `GROUPS`.
        came: what came, in words.
        make: writes the files into a folder, and returns the name of the one that is given; in
            Python, returns the data.
        says: the sentence by which it is refused; "…" stands for any words.
        does: what is done instead, in words, if it is not refused.
        shows: a pattern of what `inspect` says then.
        new: the file is given as new rows, to a run that was trained on `people()`.
    """

    group: str
    came: str
    make: Callable[..., Any]
    says: str = ""
    does: str = ""
    shows: str = ""
    new: bool = False


KINDS: list[Kind] = []


def kind(group: str, came: str, make: Callable[..., Any], says: str = "", **more: Any) -> None:
    """Adds a kind to the list."""
    KINDS.append(Kind(group, came, make, says, **more))


# Tables.


def people(n: int = N, seed: int = 0) -> pd.DataFrame:
    """A good table with some holes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    table = pd.DataFrame(
        {
            "age": (50 + 9 * z).round(1),
            "city": np.where(z > 0.4, "Rome", np.where(z > -0.4, "Oslo", "Bern")),
            "visits": rng.poisson(np.exp(1 + 0.5 * z)),
        }
    )
    table.loc[rng.random(n) < 0.2, "age"] = np.nan
    return table


def text(table: pd.DataFrame | None = None, **options: Any) -> str:
    return (people() if table is None else table).to_csv(index=False, **options)


def raw(content: str | bytes, name: str = "people.csv") -> Make:
    """Writes a file."""

    def make(folder: Path) -> str:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return name

    return make


def column(value: Callable[[int], Any]) -> Make:
    """Writes `people` with one more column, p, whose cells are value(0), value(1), ..."""
    return raw(text(people().assign(p=[value(k) for k in range(N)])))


def typed(table: pd.DataFrame | pa.Table) -> Make:
    """Writes a Parquet file."""

    def make(folder: Path) -> str:
        made = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table)
        pq.write_table(made, folder / "people.parquet")
        return "people.parquet"

    return make


def with_p(values: Any) -> pd.DataFrame:
    return people().assign(p=values)


CSV = "Tables of text"
kind(CSV, "nothing", raw(""), "people.csv is empty; its first line must name the columns.")
kind(CSV, "a header without rows", raw("a,b\n"), "people.csv has a header and no rows.")
kind(
    CSV,
    "no header",
    raw("1,2\n3,4\n"),
    "The first line of people.csv holds only numbers (['1', '2']); write the names of the columns"
    " into it.",
)
kind(
    CSV,
    "a column twice, also where names differ by spaces",
    raw(text().replace("visits", " age", 1)),
    "people.csv has the column 'age' twice; rename one of them.",
)
kind(
    CSV,
    "a column without a name",
    raw(text().replace("city", "", 1)),
    does="it is called `column 2`",
    shows="column 2",
)
kind(
    CSV,
    "rows of other lengths than the header",
    raw(text() + "5.5,Rome\n"),
    "people.csv has 2 cells in line 62 and 3 columns; the separator is ',' (separator: in the"
    " description sets it), and cells that hold it need quotes.",
)
kind(
    CSV,
    "a quote that does not end",
    raw(text() + '"5,Rome,2\n'),
    "people.csv has a cell in line 62 whose quotes do not end with it: …; a quote inside a cell is"
    " written twice.",
)
kind(
    CSV,
    "another encoding: latin-1",
    raw(text().replace("Rome", "Röme").encode("latin-1")),
    "people.csv is not text in utf-8 (line …); save it in UTF-8, or write encoding: latin-1 into"
    " the description if it is that.",
)
kind(
    CSV,
    "another encoding: UTF-16 or UTF-32",
    raw(text().encode("utf-32")),
    "people.csv is not text in utf-8 (line 1); save it in UTF-8, or write encoding: utf-32 into"
    " the description if it is that.",
)
kind(
    CSV,
    "a mark in front (BOM), lines ended by CR or CR LF",
    raw(b"\xef\xbb\xbf" + text().replace("\n", "\r\n").encode()),
    does="it is read, and written back with the same mark and ends",
    shows="age +table",
)
kind(
    CSV,
    "a zero byte",
    raw(text().replace("Rome", "Ro\0me")),
    "people.csv holds a zero byte, which no text has; is it a table of text?",
)
kind(
    CSV,
    "semicolons between cells, commas in decimals",
    raw(text(sep=";", decimal=",")),
    does="the separator is found, and numbers are written back with commas",
    shows="age +table +real",
)
kind(
    CSV,
    "the line `sep=;` of a spreadsheet",
    raw("sep=;\n" + text(sep=";")),
    "The first line of people.csv says 'sep=;'; remove it.",
)
kind(
    CSV,
    "a .tsv with commas",
    raw(text(), "people.tsv"),
    "people.tsv has one column, 'age,city,visits', since the separator is '\\t'; write separator:"
    " ',' into the description, or name the file .csv.",
)
kind(
    CSV,
    "a spreadsheet named .csv",
    raw(b"PK\x03\x04" + bytes(99)),
    "people.csv is a spreadsheet or a zip archive, not a table of text; save the sheet as CSV, or"
    " unpack it.",
)
kind(
    CSV,
    "a web page, JSON, XML, a PDF, a picture, Parquet or gzip named .csv",
    raw("<!DOCTYPE html><html>Not found</html>"),
    "people.csv is a web page, not a table of text; download the file itself.",
)
kind(
    CSV,
    "a pointer of Git LFS in place of the file",
    raw("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"),
    "people.csv is a pointer of Git LFS, not a table of text; fetch the file itself: git lfs pull.",
)
kind(
    CSV,
    "a packed file that is cut",
    raw(gzip.compress(text().encode())[:-9], "people.csv.gz"),
    "people.csv.gz is truncated or damaged (it ends too early); pack it again.",
)


def bomb(folder: Path) -> str:
    (folder / "people.csv.gz").write_bytes(gzip.compress(b"a,b\n" + bytes(10**7)) * 60)
    return "people.csv.gz"


kind(
    CSV,
    "a packed file that unpacks to gigabytes",
    bomb,
    "people.csv.gz holds more than 500 MB when it is unpacked.",
)
kind(CSV, "no file", lambda folder: "people.csv", "There is no file people.csv.")


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "people.csv")
    return "people.csv"


kind(CSV, "a pipe or a device", pipe, "people.csv is a pipe or a device; give a file.")
kind(
    CSV,
    "names of files with spaces, brackets and letters of any alphabet",
    raw(text(), "méine [Daten] (1).csv"),
    does="it is read",
    shows="age +",
)

CELLS = "Cells and columns"
kind(
    CELLS,
    "words among numbers, such as <0.1 or #DIV/0!",
    column(lambda k: "<0.1" if k % 5 == 0 else k * 0.3),
    "people.csv cannot be read: Column 'p' has numbers in 48 rows and words in 12: '<0.1' (line 2,"
    ' line 7, line 12 and 9 more); if they stand for nothing, write empty: ["<0.1"] into the'
    " description (--empty of polymodal init), or type: category for 'p'.",
)
kind(
    CELLS,
    "a number that stands for nothing, such as -999",
    column(lambda k: -999 if k % 6 == 0 else k * 0.37),
    does='`inspect` says so, and which `empty: ["-999"]` reads it as empty',
    shows=r"has -999 in 10 rows, far from all other values",
)
kind(
    CELLS,
    "an empty column",
    column(lambda k: ""),
    does="it is left out, and stays as it is",
    shows="p: all cells are empty",
)
kind(
    CELLS,
    "a table of which all cells are empty",
    raw("a,b\n" + ",\n" * 20),
    "Modality 'table' has no column that can be used (a: all cells are empty; b: all cells are"
    " empty); name some in columns:, with their types.",
)
kind(
    CELLS,
    "a constant column",
    column(lambda k: 3.5),
    does="it is used, and filled with its value; `inspect` says so",
    shows="'p' is constant: 3.5",
)
kind(
    CELLS,
    "one value only, all other cells empty",
    column(lambda k: 3.5 if k == 9 else ""),
    does="as a constant column",
    shows="constant",
)
kind(
    CELLS,
    "a column of keys or names, another one in each row",
    column(lambda k: f"p{k}"),
    does="it is left out, and stays as it is",
    shows="every row has another word: a name or a key",
)
kind(
    CELLS,
    "more different words than categories",
    column(lambda k: f"street {k // 2}"),
    does="it is left out; `type: category` takes it",
    shows="30 different words in 60 rows, too many for categories",
)
kind(
    CELLS,
    "truth written in several ways (TRUE, true, False, 0)",
    column(lambda k: ("TRUE", "true", "False", "0")[k % 4]),
    does="the words are different categories; `inspect` says which differ in little",
    shows="differ in little: 'TRUE', 'true'",
)
kind(
    CELLS,
    "spaces around words",
    column(lambda k: ("a", "a ", "b")[k % 3]),
    does="they are not part of a word, and are written back",
    shows="p +table +boolean",
)
kind(
    CELLS,
    "very long cells, line ends and quotes in cells",
    column(lambda k: "x" * 10**5 + '"\n' if k % 2 else "b"),
    does="they are words as others",
    shows="p +table +boolean",
)
kind(
    CELLS,
    "markup, formulas and control characters",
    column(lambda k: "[red]<b>x" if k % 2 else "\x1b[31m=1+1"),
    does="they are words; nothing runs them, and pages and the terminal show them as text",
    shows="p +table +boolean",
)
kind(
    CELLS,
    "one, two or no rows",
    raw(text(people(2))),
    "2 samples are too few for a part of 1 for val and 1 for test; give more, or lower split.val"
    " and split.test.",
)
kind(
    CELLS,
    "copies of rows",
    raw(text(pd.concat([people(N // 2)] * 2))),
    does="they are used; `inspect` counts them, also between parts",
    shows="samples are copies of others",
)

NUMBERS = "Numbers"
kind(
    NUMBERS,
    "infinite ones: inf, 1e999",
    column(lambda k: "-Infinity" if k == 7 else k * 0.37),
    "people.csv cannot be read: Column 'p' is infinite in line 9; write numbers there, or leave the"
    " cells empty.",
)
kind(
    NUMBERS,
    "one that is far too large",
    column(lambda k: 1e30 if k == 7 else k * 0.37),
    "people.csv cannot be read: Column 'p' has numbers beyond 1e+15 in size, such as 1e+30 in line"
    " 9; correct them, empty the cells, or write the column in other units.",
)
kind(
    NUMBERS,
    "all beyond 1e15, such as whole numbers beyond 2^53",
    column(lambda k: 2**53 + 7 * k * k),
    does="the column is left out, and stays as it is",
    shows="all of its numbers are larger than 1e.15; write them in other units",
)
kind(
    NUMBERS,
    "all below 1e-15",
    column(lambda k: f"{k + 1}e-300"),
    does="the column is left out, and stays as it is",
    shows="all of its numbers are smaller than 1e-15",
)
kind(
    NUMBERS,
    "different ones that 32 bits do not tell apart",
    column(lambda k: 1e12 + k / 4),
    does="the column is left out, and stays as it is",
    shows=r"60 different numbers are 1 different numbers of 32 bits; subtract 1e.12",
)
kind(
    NUMBERS,
    "with marks between thousands: 1,000 or 1 000",
    column(lambda k: f"{1000 + k * k:,}"),
    does="the column is left out, since its cells are words",
    shows="words with digits, such as '1,000'; if they are numbers, write only their digits",
)
kind(
    NUMBERS,
    "with units: $3, 5 %, 12 kg",
    column(lambda k: f"{k % 6} kg"),
    does="they are categories, if they recur; `inspect` says so",
    shows="'p' has categories that may be numbers, such as '0 kg'",
)
kind(
    NUMBERS,
    "with zeros in front: 00501",
    column(lambda k: f"{k % 5:05}"),
    does="they are codes, and keep their zeros",
    shows="p +table +category",
)

DATES = "Dates"
kind(
    DATES,
    "that may begin with the day or the month",
    column(lambda k: f"{1 + k % 12:02}/{1 + k % 11:02}/2020"),
    "people.csv cannot be read: Column 'p' has dates such as '01/01/2020', which may begin with the"
    ' day or the month; write date: "%d/%m/%Y" or date: "%m/%d/%Y" for \'p\' in the description.',
)
kind(
    DATES,
    "that no calendar has: 2020-02-30, 0000-00-00",
    column(lambda k: "2020-02-30" if k == 3 else f"2020-01-{1 + k % 28:02}"),
    "people.csv cannot be read: Column 'p' has dates such as '2020-01-01' in 59 rows and words in"
    " 1: '2020-02-30' (line 5); if they stand for nothing, write empty: [\"2020-02-30\"] into the"
    " description (--empty of polymodal init), or type: category for 'p'.",
)
kind(
    DATES,
    "in a form that is not read: Jan 1, 2020; 10:30",
    column(lambda k: f"Jan {1 + k % 28}, {1900 + k}"),
    does="the column is left out; `date:` in the description says the format",
    shows="dates or times in a form that is not read, such as 'Jan 1, 1900'",
)
kind(
    DATES,
    "with a time zone",
    column(lambda k: f"2020-01-{1 + k % 28:02} 10:00:00+02:00"),
    does="they are read, and those that are filled in are written in UTC",
    shows="dates, as days",
)

TYPED = "Typed tables"
kind(
    TYPED,
    "a file that is cut",
    lambda folder: (typed(people())(folder), os.truncate(folder / "people.parquet", 900))[0],
    "people.parquet is truncated or damaged; write it again, with to_parquet or to_feather.",
)
kind(
    TYPED,
    "nested columns: lists, structures, maps; bytes, durations",
    typed(with_p([[1, 2]] * N)),
    "people.parquet cannot be read: Column 'p' holds list<element: int64>, and numbers, words,"
    " dates and true or false are read; convert it, or leave it out of columns: in the"
    " description.",
)
kind(
    TYPED,
    "a column twice",
    typed(pa.table([pa.array(people().age), pa.array(people().age)], names=["a", "a"])),
    "people.parquet has the column 'a' twice; rename one of them.",
)
kind(
    TYPED,
    "dates outside the years 1 to 9999",
    typed(
        pa.table(
            {"p": pa.array([10**13 + k for k in range(N)], pa.timestamp("s")), "v": people().age}
        )
    ),
    "people.parquet cannot be read: Column 'p' has dates outside the years 1 to 9999; correct them,"
    " or empty the cells.",
)
kind(
    TYPED,
    "dates with a time zone",
    typed(with_p(pd.date_range("2020", periods=N, tz="Asia/Tokyo"))),
    does="they are read, and written back in that zone",
    shows="dates, as days",
)
kind(
    TYPED,
    "categories that no row has",
    typed(with_p(pd.Categorical(["a", "b"] * (N // 2), categories=["never", "a", "b"]))),
    does="they are never filled in, and stay in the file",
    shows="p +table +boolean",
)

FILES = "Several files"


def described(data: str, **tables: pd.DataFrame) -> Make:
    """Writes a description and the tables that it names."""

    def make(folder: Path) -> str:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        (folder / "d.yaml").write_text(f"data: {{{data}}}\n")
        return "d.yaml"

    return make


def keyed(keys: Any) -> pd.DataFrame:
    return people().assign(id=list(keys))


def lab(keys: Any = None, n: int = N) -> pd.DataFrame:
    table = pd.DataFrame({"iron": np.arange(n) * 0.3})
    return table if keys is None else table.assign(id=list(keys))


PAIR = (
    "file: people.csv, modalities: {body: {columns: [age, city]}, lab: {file: lab.csv,"
    " columns: [iron]}}"
)
IDS = [f"p{k}" for k in range(N)]
PARTS = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
kind(
    FILES,
    "files of different numbers of rows, without keys",
    described(PAIR, people=people(), lab=lab(n=50)),
    "Files without keys are paired by row and need equally many rows, got 60 of body, 50 of lab,"
    " 60 of the main table; name the samples by a column (key: COLUMN).",
)
kind(
    FILES,
    "a key twice",
    described(f"key: id, {PAIR}", people=keyed(["p1", *IDS[1:]]), lab=lab(IDS)),
    "people.csv has the key 'p1' in line 2 and line 3; each sample needs a key of its own. To keep"
    " rows of one key in the same part, leave out key: and write split: {by: COLUMN}.",
)
kind(
    FILES,
    "a row without a key",
    described(f"key: id, {PAIR}", people=keyed([None, *IDS[1:]]), lab=lab(IDS)),
    "people.csv has no key in line 2; write one.",
)
kind(
    FILES,
    "keys that fit nowhere, such as p1 and P-1",
    described(f"key: id, {PAIR}", people=keyed(IDS), lab=lab([f"P-{k}" for k in range(N)])),
    does="the samples are unpaired, which `inspect` says with both spellings",
    shows="No sample of 'lab' has another modality: its keys, such as 'P-0', are none of the",
)
kind(
    FILES,
    "a column in two modalities",
    described(
        "file: people.csv, modalities: {a: {columns: [age]}, b: {columns: [age, city]}}",
        people=people(),
    ),
    "Column 'age' of people.csv is in the modalities 'a' and 'b'; leave it in one of them.",
)
kind(
    FILES,
    "a modality without any value",
    described(
        "file: people.csv, modalities: {a: {columns: [city]}, b: {columns: [p]}}",
        people=with_p(np.nan),
    ),
    "Modality 'b' has no column that can be used (p: all cells are empty); name some in columns:,"
    " with their types.",
)
kind(
    FILES,
    "a modality without any value in the training part",
    described(
        "file: people.csv, split: s, modalities: {a: {columns: [city]}, b: {columns: [p]}}",
        people=people().assign(s=PARTS, p=[None] * 40 + [0.5, 0.7] * 10),
    ),
    "Modality 'b' is missing from all 40 samples of the train part; leave it out.",
)
kind(
    FILES,
    "a category that only validation and test have",
    described(
        "file: people.csv, split: s, modalities: {a: {columns: [age, city]}}",
        people=people().assign(s=PARTS, city=["a", "b", "c", "a"] * 10 + ["z"] * 20),
    ),
    does="it is read as empty and not written over; `inspect` says where it stands",
    shows="has 'z', not among the categories of training",
)
kind(
    FILES,
    "categories that no row has",
    described(
        "file: people.csv, modalities: {a: {columns: {city: {type: category, categories:"
        " [Paris]}}}}",
        people=people(),
    ),
    "Column 'city' has none of the categories ['Paris'] that the description names; it has ['Bern',"
    " 'Oslo', 'Rome'].",
)
kind(
    FILES,
    "an empty label",
    described("file: people.csv, label: age", people=people()),
    "The label 'age' is empty in 13 of 60 samples; fill it, or leave label: out of the"
    " description.",
)
kind(
    FILES,
    "a column of parts that says something else",
    described("file: people.csv, split: city", people=people()),
    "The column 'city' of split: must say train, val, test for every sample, got 'Bern'.",
)
kind(
    FILES,
    "paths that climb out, absolute paths, paths of a home",
    described("file: ../people.csv"),
    "Paths in a description are relative to its folder and stay in it, got '../people.csv'; put the"
    " file there, or give the folder on the command line (--data FOLDER).",
)
kind(
    FILES,
    "a description that names code",
    described("file: !!python/name:os.system x"),
    "The … 'd.yaml' has the tag …, and tags are not read, in line 1.",
)
kind(
    FILES,
    "new rows without a column of the run",
    raw(text(people(5).drop(columns="city"))),
    does="its cells are empty, which is said; the other columns are filled",
    shows="has no column 'city'; all of its cells are empty",
    new=True,
)
kind(
    FILES,
    "new rows with a category that training did not have",
    raw(text(people(5).assign(city="Paris"))),
    does="it is read as empty and not written over",
    shows="has 'Paris', not among the categories of training, in 5 rows",
    new=True,
)
kind(
    FILES,
    "new rows with words in a column of numbers",
    raw(text(people(5).assign(age="old"))),
    "people.csv cannot be read: Column 'age' of type real must hold numbers, got words such as"
    " 'old' in line 2, line 3, line 4 and 2 more; correct the cells, empty them, or give the column"
    " another type in the description.",
    new=True,
)
kind(
    FILES,
    "new rows without any column of the run",
    raw("a,b\n1,2\n"),
    "people.csv has no column of the run; it has 'a', 'b', and the run knows 'age', 'city',"
    " 'visits'.",
    new=True,
)

# Pictures.

PICTURES = "Pictures"
BIRDS = 40


def birds(change: Callable[[Path, pd.DataFrame], Any], describe: bool = False) -> Make:
    """Writes a table and the pictures that it names, of which one is changed: b4.png; and a
    description if asked.
    """

    def make(folder: Path) -> str:
        (folder / "photos").mkdir()
        rng = np.random.default_rng(0)
        for k in range(BIRDS):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / f"b{k}.png")
        table = pd.DataFrame(
            {"file": [f"b{k}.png" for k in range(BIRDS)], "wing": rng.normal(size=BIRDS).round(2)}
        )
        change(folder / "photos" / "b4.png", table)
        table.to_csv(folder / "birds.csv", index=False)
        if not describe:
            return "birds.csv"
        photo = "{photo: {source: images, column: file, folder: photos}}"
        (folder / "d.yaml").write_text(f"data: {{file: birds.csv, modalities: {photo}}}\n")
        return "d.yaml"

    return make


def cell(word: str) -> Make:
    return birds(lambda file, table: table.__setitem__("file", [word, *table["file"][1:]]))


def image(mode: str, format_: str = "PNG", **options: Any) -> Make:
    """A picture of another kind, whatever its name says."""

    def change(file: Path, table: pd.DataFrame) -> None:
        Image.new(mode, (32, 32), 1 if mode in "1PI" else None).save(file, format_, **options)

    return birds(change)


def lying_header(file: Path, table: pd.DataFrame) -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"x")) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def long_text(file: Path, table: pd.DataFrame) -> None:
    """A small picture with a remark that unpacks to 80 MB."""
    about = PngImagePlugin.PngInfo()
    about.add_text("a", "x" * 80_000_000, zip=True)
    Image.new("RGB", (32, 32)).save(file, pnginfo=about)


def turned(file: Path, table: pd.DataFrame) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (32, 32)).save(file, "JPEG", exif=exif)


def frames(file: Path, table: pd.DataFrame) -> None:
    first, *others = (Image.new("L", (30, 30), k) for k in (0, 99, 200))
    first.save(file, "GIF", save_all=True, append_images=others)


def another_ending(file: Path, table: pd.DataFrame) -> None:
    file.with_suffix(".jpg").write_bytes(file.read_bytes())
    table["file"] = [name.removesuffix(".png") for name in table["file"]]


SKIP = ", or write skip: true into the description to leave such pictures out."
GIVE = f"; give one grey or colour picture as .png or .jpg{SKIP}"
kind(
    PICTURES,
    "a truncated picture",
    birds(lambda file, table: os.truncate(file, 1500)),
    f"photos/b4.png is truncated or damaged{GIVE}",
)
kind(
    PICTURES,
    "an empty file, or text, SVG or HEIC, named .png",
    birds(lambda file, table: file.write_bytes(b"")),
    f"photos/b4.png cannot be read, since it is no picture of a format that is read{GIVE}",
)
kind(
    PICTURES,
    "a picture that claims too many pixels (a decompression bomb)",
    birds(lying_header),
    "photos/b4.png cannot be read, since it has more than 50,000,000 pixels; make it"
    f" smaller{SKIP}",
)
kind(
    PICTURES,
    "a picture whose remarks unpack to gigabytes",
    birds(long_text),
    f"photos/b4.png is truncated or damaged{GIVE}",
)
kind(
    PICTURES,
    "an animation, or a TIFF of several pages",
    birds(frames),
    f"photos/b4.png cannot be read, since it has several frames; give one of them as .png{SKIP}",
)
kind(
    PICTURES,
    "32-bit or floating-point pixels, LAB",
    image("I", "TIFF"),
    "photos/b4.png cannot be read, since it holds whole numbers of 32 bits or colours of another"
    f" kind{GIVE}",
)
for came, make, does in (
    ("CMYK, YCbCr, a palette", image("CMYK", "TIFF"), "colours"),
    ("16 bits or one bit a pixel", image("I;16"), "scaled by the range of its type"),
    ("transparent pixels", image("RGBA"), "laid over white"),
    ("an ending of another format", image("RGB", "JPEG"), "read by its content"),
    ("turned by its camera (EXIF)", birds(turned), "turned as it is seen"),
):
    kind(PICTURES, came, make, does=does, shows="photos +image")
kind(
    PICTURES,
    "names with spaces, commas and letters of any alphabet",
    birds(lambda file, table: table.__setitem__("file", _renamed(file, table, "ü, (1) #%.png"))),
    does="they are read",
    shows="photos +image .* 40 ",
)


def _renamed(file: Path, table: pd.DataFrame, name: str) -> list[str]:
    file.rename(file.with_name(name))
    return [name if word == "b4.png" else word for word in table["file"]]


for came, word in (
    ("a name with other capitals", "B0.PNG"),
    ("an address on the web", "https://example.org/b0.png"),
    ("a name longer than any file's", "x" * 5000 + ".png"),
):
    kind(
        PICTURES,
        came,
        cell(word),
        does="no such file is in the folder: the sample lacks the picture, which is counted",
        shows="1 of 40 pictures of 'photos' are not in photos",
    )
kind(
    PICTURES,
    "a name that climbs out of the folder, or an absolute one",
    cell("../birds.csv"),
    "The column 'file' must name pictures in photos, got '../birds.csv', which leads out of it;"
    " write names relative to the folder.",
)


def broken_link(file: Path, table: pd.DataFrame) -> None:
    file.unlink()
    file.symlink_to("nowhere.png")


kind(
    PICTURES,
    "a link to nothing, a folder or a pipe in place of a file",
    birds(broken_link),
    does="as a file that is not there; links to pictures are followed",
    shows="1 of 40 pictures of 'photos' are not in photos",
)
kind(
    PICTURES,
    "one name for two files, b4.png and b4.jpg",
    birds(another_ending, describe=True),
    "The column 'file' says 'b4', and there are photos/b4.jpg and photos/b4.png; write the endings"
    " into the column, or remove one of them.",
)

# Arrays.

ARRAYS = "Arrays"
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(N, 3)).astype(np.float32), RNG.normal(size=(N, 2))


def arrays(**held: Any) -> Make:
    def make(folder: Path) -> str:
        np.savez(folder / "x.npz", **held)
        return "x.npz"

    return make


def evil_archive(folder: Path) -> str:
    """An archive whose header claims 2.4 GB, which are all zeros."""
    head = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": (N, 40_000_000)}
    np.lib.format.write_array_header_1_0(head, about)
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", head.getvalue() + bytes(10**6))
    return "x.npz"


def no_arrays(folder: Path) -> str:
    with zipfile.ZipFile(folder / "x.npz", "w") as file:
        file.writestr("a.txt", "hello")
    return "x.npz"


def one_array(folder: Path) -> str:
    np.save(folder / "x.npy", X)
    return "x.npy"


NPZ = "; write it again as an .npz file with an array of numbers for each modality."
kind(
    ARRAYS,
    "Python objects, which could run code",
    arrays(a=np.array([1, "x", None] * 20, dtype=object), b=Y),
    f"x.npz cannot be read, since 'a' holds Python objects or a negative size, not numbers{NPZ}",
)
kind(
    ARRAYS,
    "arrays of different numbers of rows",
    arrays(a=X, b=Y[:50]),
    "x.npz cannot be read: Every modality must have the same number of samples, got {'a': 60, 'b':"
    " 50}.",
)
kind(
    ARRAYS,
    "infinite values",
    arrays(a=np.where(X > 2, np.inf, X), b=Y),
    "x.npz cannot be read: Modality 'a' has … values that are infinite, in … of 60 samples (first:"
    " …); repair them or leave those samples out.",
)
kind(
    ARRAYS,
    "values beyond 1e15 in size",
    arrays(a=X * 1e20, b=Y),
    "x.npz cannot be read: Modality 'a' has values beyond 1e+15 in size; write other units.",
)
kind(
    ARRAYS,
    "only NaN, or a mask that is all 0",
    arrays(a=X * np.nan, b=Y),
    "x.npz cannot be read: Modality 'a' is missing from all 60 samples; leave it out.",
)
kind(
    ARRAYS,
    "a mask of no modality",
    arrays(a=X, b=Y, c_present=np.ones(N, bool)),
    "x.npz cannot be read: c_present is a mask of no modality. There are: a, b.",
)
kind(
    ARRAYS,
    "complex numbers, records, dates, bytes",
    arrays(a=X * 1j, b=Y),
    "x.npz cannot be read: 'a' must hold real numbers, one row for each sample, got complex numbers"
    " of shape (60, 3).",
)
kind(
    ARRAYS,
    "one sample",
    arrays(a=X[:1], b=Y[:1]),
    "x.npz cannot be read: it has 1 samples, too few to be split into parts.",
)
kind(
    ARRAYS,
    "labels that are no whole numbers or words",
    arrays(a=X, b=Y, label=np.full(N, np.nan)),
    "x.npz cannot be read: Labels must be whole numbers or words, one for each sample, got nan.",
)
kind(
    ARRAYS,
    "an archive that unpacks to gigabytes (a zip bomb)",
    evil_archive,
    "x.npz cannot be read, since its arrays take 2.2 GB, more than 1 GB; raise data.max_gb if"
    " … holds them.",
)
kind(
    ARRAYS,
    "an archive of other files",
    no_arrays,
    f"x.npz cannot be read, since 'a.txt' is no array{NPZ}",
)
kind(
    ARRAYS,
    "an array with a name that climbs out",
    arrays(**{"../a": X, "b": Y}),
    does="it is read, and never unpacked into a file; files named after it are `%2E%2E%2Fa`",
    shows=r"\.\./a",
)
kind(
    ARRAYS,
    "an .npy file, whose array has no name",
    one_array,
    "x.npy holds one array without a name; write it into an .npz file under a name (savez of"
    " NumPy), or describe it: {source: array, file: x.npy}.",
)

BIOLOGY = "Cells of biology"


def cells(change: Callable[[Any], Any]) -> Make:
    def make(folder: Path) -> str:
        counts = np.random.default_rng(0).poisson(3, (N, 5)).astype(np.float32)
        data = anndata.AnnData(counts)
        change(data)
        data.write_h5ad(folder / "x.h5ad")
        return "x.h5ad"

    return make


def other_groups(folder: Path) -> str:
    with h5py.File(folder / "x.h5ad", "w") as file:
        file["data"] = np.zeros((3, 3))
    return "x.h5ad"


def sparse_claim(folder: Path) -> str:
    with h5py.File(folder / "x.h5ad", "w") as file:
        file.create_dataset("X", (10**6, 10**5), "f4", chunks=(1000, 1000), compression="gzip")
    return "x.h5ad"


H5 = "; write it again, with write_h5ad of anndata or write of mudata."
kind(
    BIOLOGY,
    "an HDF5 file with other groups",
    other_groups,
    f"x.h5ad cannot be read, since it has no 'obs', as files of cells have, but data{H5}",
)
kind(
    BIOLOGY,
    "a file of 3 kB that holds 400 GB",
    sparse_claim,
    "x.h5ad cannot be read, since it holds 400,000 MB, more than 4,000 MB; keep fewer features, or"
    " set POLYMODAL_MAX_MB in the environment to read it.",
)
kind(
    BIOLOGY,
    "a name of cells twice",
    cells(lambda data: data.obs.__class__ and setattr(data, "obs_names", ["c"] * N)),
    "x.h5ad has the cell 'c' twice in 'x'; make the names of cells unique (obs_names_make_unique).",
)
kind(
    BIOLOGY,
    "a name of genes twice",
    cells(lambda data: setattr(data, "var_names", ["g"] * 5)),
    does="they get numbers, which is said: g, g_2",
    shows="4 features have other names",
)

# In Python.

PYTHON = "In Python"
kind(
    PYTHON,
    "a column of several types",
    lambda: with_p([1 if k % 2 else "x" for k in range(N)]),
    "Column 'p' of … must hold numbers, words, dates or true and false, all of one type, got"
    " ['int', 'str']; convert it, for example by astype(str).",
)
kind(
    PYTHON,
    "names of columns of several types",
    lambda: people().set_axis([0, "1", 2.5], axis=1),
    "The columns of X must have names of one type, got ['float', 'int', 'str']; write X.columns ="
    " X.columns.astype(str).",
)
kind(
    PYTHON,
    "modalities of different numbers of rows",
    lambda: {"a": X, "b": Y[:50]},
    "All modalities must have the same number of rows, got {'a': 60, 'b': 50}.",
)
kind(
    PYTHON,
    "the name of a file in place of a table",
    lambda: "people.csv",
    "X must be a DataFrame, an array (rows, columns) or a mapping of them, got 'people.csv'; read a"
    " file first (read_csv of pandas).",
)
kind(
    PYTHON,
    "a list of mappings",
    lambda: people().to_dict("records"),
    "X is a list of mappings; make a DataFrame of it.",
)
kind(
    PYTHON,
    "one axis",
    lambda: np.arange(20.0),
    "X must have rows and columns, got one axis of 20 numbers. Reshape your data: x.reshape(-1, 1)"
    " is one column, x.reshape(1, -1) one row.",
)
kind(
    PYTHON,
    "whole numbers beyond 64 bits",
    lambda: with_p([10**30 + k for k in range(N)]),
    "Column 'p' of … must hold numbers, words, dates or true and false, all of one type, got"
    " ['int']; convert it, for example by astype(str).",
)
kind(
    PYTHON,
    "an index with copies, names of columns that are numbers or tuples",
    lambda: people().set_axis([0] * N).set_axis([3, 4, 5], axis=1),
    does="they are given back as they came",
)
kind(
    PYTHON,
    "sparse and masked arrays, long doubles, tensors with gradients",
    lambda: with_p(pd.arrays.SparseArray([0.0, 1.5, 2.5] * (N // 3))),
    does="they are read as ordinary numbers; a sparse matrix is refused by scikit-learn's sentence",
)


# The page.

HEAD = """# Bad data

What polymodal does with data that are damaged, hostile or only unusual: one sentence that says what
was expected, what came and what to do, or a default that is safe and is said. Nothing that is
refused leaves a file behind. `polymodal inspect` shows both before anything trains.

A refusal ends a command with status 2, and is a `ValueError` in Python. Words that `init` must know
before there is a description have options: `--empty "<0.1"`, `--encoding latin-1`, `--key`.

Every row is a test: this page is written by `tests/bad_data.py`, and `tests/test_bad_data.py` gives
each kind to `init`, `inspect`, `train` and `impute`, or to `Imputer`, `fit` and `load_data`.
`tests/bad_inputs.py` generates several hundred more.
"""


def page() -> str:
    """The text of docs/bad_data.md."""
    lines = [HEAD]
    for group, about in GROUPS.items():
        kinds = [k for k in KINDS if k.group == group]
        lines += [f"## {group}", "", f"{about[0].upper()}{about[1:]}: {len(kinds)} kinds.", ""]
        lines += ["| what came | what polymodal does |", "|---|---|"]
        lines += [f"| {_cell(k.came)} | {_does(k)} |" for k in kinds]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _does(kind: Kind) -> str:
    if not kind.says:
        return f"{kind.does[0].upper()}{kind.does[1:]}" if kind.does[0] != "`" else kind.does
    mark = "``" if "`" in kind.says else "`"
    return f"{mark}{_cell(kind.says)}{mark}"


def _cell(words: str) -> str:
    return (
        words.replace("|", "\\|").replace("<", "&lt;")
        if "`" in words
        else words.replace("|", "\\|")
    )


def counted() -> Mapping[str, int]:
    """How many kinds are refused, and how many have a default."""
    refused = sum(bool(k.says) for k in KINDS)
    return {"refused": refused, "default": len(KINDS) - refused}


if __name__ == "__main__":
    PAGE.write_text(page())
    print(len(KINDS), counted())
