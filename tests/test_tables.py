"""Tables of a user: what is written is what was read, types, numbers, and what bad data is told."""

import csv
import gzip
import io
import math
import re
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.batch import Column, Modality
from polymodal.data import filled, read_table
from polymodal.data.kinds import KINDS
from polymodal.data.tables import categories_of, decoded, guess, moments, numbers_of
from polymodal.data.tables.cells import EMPTY, Cells, Places, cells_of_text

# Text tables: written as they were read.

CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
WORDS = st.text(CHARACTERS, max_size=6)
NAMES = ("a", "b c", 'd"', "e;f")


@st.composite
def dialects(draw):
    return {
        "delimiter": draw(st.sampled_from([",", ";", "\t", "|"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
    }


@given(dialects(), st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_table_without_holes_is_written_byte_by_byte(tmp_path_factory, dialect, rows) -> None:
    # Python's writer quotes only those ends of lines that are its own.
    own = dialect["lineterminator"] == "\r\n" or dialect["quoting"] != csv.QUOTE_MINIMAL
    rows = rows if own else [[re.sub(r"[\r\n]", "/", word) for word in row] for row in rows]
    stream = io.StringIO(newline="")
    csv.writer(stream, **dialect).writerows([NAMES, *rows])
    folder = tmp_path_factory.mktemp("t")
    content = stream.getvalue().encode()
    (folder / "x.csv").write_bytes(content)
    table = read_table(folder / "x.csv", separator=dialect["delimiter"])
    assert table.columns == NAMES and len(table) == len(rows)
    for k, name in enumerate(NAMES):
        assert table.texts(name) == [row[k] for row in rows]
    table.write(folder / "y.csv", {name: ([], []) for name in NAMES})
    assert (folder / "y.csv").read_bytes() == content


def quoted(word):
    return '"' + word.replace('"', '""') + '"'


@st.composite
def raw_tables(draw):
    """Cells as they are written, with holes, and what fills them."""
    plain = st.sampled_from(["1.50", "  7", "007", "a b", "é", "1e3", "-"])
    observed = plain | WORDS.filter(lambda w: w.strip() not in EMPTY).map(quoted)
    hole = st.sampled_from(["", "NA", '""', " ", "nan", '"NA"', "?"])
    cells = st.tuples(st.booleans(), observed, hole, st.sampled_from(["x", 'q"r', "s,t", "u\nv"]))
    rows = draw(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
    return rows, draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans())


@given(raw_tables())
@settings(max_examples=150, deadline=None)
def test_only_the_characters_of_holes_change(tmp_path_factory, table) -> None:
    rows, end, is_ended = table
    folder = tmp_path_factory.mktemp("t")

    def text(cell_of):
        lines = ["k,a,b", *(",".join(["x", *map(cell_of, row)]) for row in rows)]
        return (end.join(lines) + (end if is_ended else "")).encode()

    (folder / "x.csv").write_bytes(text(lambda c: c[2] if c[0] else c[1]))
    read = read_table(folder / "x.csv", separator=",")
    holes = {}
    for k, name in enumerate("ab"):
        at = [i for i, row in enumerate(rows) if row[k][0]]
        empty = ~read.cells(name, as_words=True).observed
        assert at == np.flatnonzero(empty).tolist()
        holes[name] = at, [rows[i][k][3] for i in at]

    def expected(cell):
        is_hole, observed, hole, value = cell
        needs = '"' in hole or set(value) & set(',"\n')
        return (quoted(value) if needs else value) if is_hole else observed

    read.write(folder / "y.csv", holes)
    assert (folder / "y.csv").read_bytes() == text(expected)


def test_marks_blank_lines_and_packed_files_stay(tmp_path) -> None:
    content = b"\xef\xbb\xbfa;b\r\n\r\n1,5;x\r\n;y\r\n\r\n2,25;\r\n"
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(content))
    table = read_table(tmp_path / "x.csv.gz")
    assert table.columns == ("a", "b") and [table.places.of(i) for i in range(3)] == [
        "line 3",
        "line 4",
        "line 6",
    ]
    assert table.cells("a").numbers.tolist()[::2] == [1.5, 2.25]
    table.write(tmp_path / "y.csv.gz", {"a": ([1], [3.14159265])})
    written = gzip.decompress((tmp_path / "y.csv.gz").read_bytes())
    assert written == content.replace(b"\r\n;y", b"\r\n3,14159;y")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig", "cp1252"])
def test_other_encodings_are_read_and_written_when_they_are_named(tmp_path, encoding) -> None:
    content = "a,b\nä,1\nö,NA\n".encode(encoding)
    (tmp_path / "x.csv").write_bytes(content)
    table = read_table(tmp_path / "x.csv", encoding=encoding)
    assert table.texts("a") == ["ä", "ö"]
    table.write(tmp_path / "y.csv", {"b": ([1], [2])})
    assert (tmp_path / "y.csv").read_bytes() == "a,b\nä,1\nö,2\n".encode(encoding)


def test_a_table_is_written_whole_or_not_at_all(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n\n2\n")
    table = read_table(tmp_path / "x.csv")
    before = (tmp_path / "x.csv").read_bytes()
    for holes, sentence in (
        ({"b": ([0], [1])}, "no column 'b'"),
        ({"a": ([2], [1])}, "rows 0 to 1"),
        ({"a": ([0], [1, 2])}, "1 rows and 2 values"),
    ):
        with pytest.raises(ValueError, match=sentence):
            table.write(tmp_path / "x.csv", holes)
    assert (tmp_path / "x.csv").read_bytes() == before and len([*tmp_path.iterdir()]) == 1


# Typed tables.


def frame(n=60):
    rng = np.random.default_rng(0)
    data = pd.DataFrame(
        {
            "real": rng.normal(size=n),
            "single": rng.normal(size=n).astype(np.float32),
            "count": pd.array(rng.poisson(20, n), "Int64"),
            "small": rng.integers(0, 9, n).astype("int8"),
            "truth": pd.array(rng.random(n) < 0.5, "boolean"),
            "word": rng.choice(["x", "y", "z"], n),
            "level": pd.Categorical(rng.choice(["lo", "hi"], n), ["lo", "hi"], ordered=True),
            "day": [date(2020, 1, 1 + k % 28) for k in range(n)],
            "moment": pd.Timestamp("2020-01-01 10:00")
            + pd.to_timedelta(rng.integers(0, 99, n), "D"),
        }
    )
    for k, name in enumerate(data.columns):
        if name != "small":
            data.loc[data.index[k :: len(data.columns)], name] = None
    return data


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_typed_tables_keep_types_order_and_observed_cells(tmp_path, suffix) -> None:
    data = frame()
    getattr(data, f"to_{suffix}")(tmp_path / f"x.{suffix}")
    table = read_table(tmp_path / f"x.{suffix}")
    columns = []
    for name in table.columns:
        cells = table.cells(name)
        about = guess(cells)
        coded = about.type in ("boolean", "category", "ordinal")
        words = categories_of(cells) if coded else ()
        columns.append(Column(name, about.type, words, dtype=cells.dtype))
    types = [c.type for c in columns]
    assert types == "real real real ordinal boolean category ordinal real real".split()
    scaling = {"location": (0,) * len(columns), "spread": (1,) * len(columns)}
    modality = Modality("t", (len(columns),), "table", columns=tuple(columns), **scaling)
    values = torch.tensor([0.5, 0.25, 12.4, 0, 1, 2, 0, 18262.4, 18262.5]).expand(len(table), -1)
    table.write(tmp_path / f"y.{suffix}", filled(table, modality, values))
    written = getattr(pd, f"read_{suffix}")(tmp_path / f"y.{suffix}")
    original = getattr(pd, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    assert written.dtypes.equals(original.dtypes) and [*written] == [*original]
    observed = original.notna()
    for name in original:
        seen = observed[name]
        pd.testing.assert_series_equal(written[name][seen], original[name][seen])
    expected = {
        "real": 0.5,
        "count": 12,
        "truth": True,
        "word": "z",
        "level": "lo",
        "day": date(2020, 1, 1),
        "moment": pd.Timestamp("2020-01-01 12:00"),
    }
    for name, value in expected.items():
        assert (written[name][~observed[name]] == value).all(), name
        assert (~observed[name]).any()


# Types.


def cells_of(texts, name="x"):
    from polymodal.data.tables.cells import Places, cells_of_text

    return cells_of_text(name, texts, Places())


RNG = np.random.default_rng(0)
GUESSES = {
    "boolean of 0 and 1": (["0", "1"] * 4, "boolean"),
    "boolean of words": (["yes", "no"] * 20, "boolean"),
    "boolean of two codes": (["1", "2"] * 20, "boolean"),
    "two different measurements": (["30", "41"], "real"),
    "few whole numbers": ([str(k % 5) for k in range(50)], "ordinal"),
    "counts": (RNG.poisson(30, 300).astype(str).tolist(), "real"),
    "counts from 0": (RNG.negative_binomial(1, 0.05, 300).astype(str).tolist(), "count"),
    "years": (RNG.integers(1950, 2020, 300).astype(str).tolist(), "real"),
    "a row number": ([str(k) for k in range(100)], "drop"),
    "a skewed positive": ([f"{v:.6f}" for v in np.exp(RNG.normal(size=300))], "positive"),
    "a positive that is not skewed": ([f"{v:.6f}" for v in RNG.normal(50, 1, 300)], "real"),
    "shares": ([f"{v:.6f}" for v in RNG.beta(0.3, 0.3, 300)], "bounded"),
    "shares far from 1": ([f"{v:.6f}" for v in RNG.uniform(0, 0.5, 300)], "real"),
    "percentages": ([f"{v:.3f}" for v in 100 * RNG.beta(0.3, 0.3, 300)], "bounded"),
    "dates": ([f"2020-01-{1 + k % 28:02}" for k in range(40)], "real"),
    "categories": (["a", "b", "c"] * 10, "category"),
    "codes with zeros in front": (["007", "008", "010"] * 10, "category"),
    "texts": ([f"a bird with {k} wings" for k in range(50)], "text"),
    "keys": ([f"p{k}" for k in range(50)], "drop"),
    "many words": ([f"city {k}" for k in range(100)] * 2, "drop"),
    "a constant": (["3.5"] * 9, "real"),
    "a constant word": (["a"] * 9, "category"),
    "nothing": (["NA", "", "?"], "drop"),
}


@pytest.mark.parametrize("case", GUESSES)
def test_types_are_guessed(case) -> None:
    texts, type_ = GUESSES[case]
    about = guess(cells_of(texts))
    assert about.type == type_ and about.reason


SHUFFLED = RNG.permutation(100)[:80].astype(str).tolist()
NAMED = {
    "keys with holes, of any name": ("record", SHUFFLED, "drop"),
    "far numbers of which none comes twice": ("record", [str(k * k) for k in range(40)], "count"),
    "keys that recur": ("patient_id", [str(k) for k in range(200)] * 4, "drop"),
    "keys of few groups": ("shop id", [str(k) for k in range(6)] * 9, "category"),
    "a name that ends like one": ("acid", [str(k) for k in range(6)] * 9, "ordinal"),
}


@pytest.mark.parametrize("case", NAMED)
def test_names_and_gaps_tell_keys(case) -> None:
    name, texts, type_ = NAMED[case]
    assert guess(cells_of(texts, name)).type == type_


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([f"{k / 7:.2f} EUR" for k in range(50)], "words with digits"),
        ([f"{k / 7:.1f}%" for k in range(50)], "words with digits"),
        ([f"${k:,}" for k in range(1000, 1050)], "words with digits"),
        ([f"{1 + k % 28:02}.{1 + k % 12:02}.20" for k in range(50)], "dates or times"),
        ([f"{k % 24}:{k % 60:02}" for k in range(50)], "dates or times"),
        ([f"{100 + k}/{60 + k}" for k in range(50)], "every row has another word"),
    ],
)
def test_words_of_digits_are_told_what_they_look_like(texts, reason) -> None:
    """A point in a number makes no date of it, nor does a blood pressure."""
    about = guess(cells_of(texts))
    assert about.type == "drop" and about.reason.startswith(reason)


@given(
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1),
    st.lists(st.floats(-1e6, 1e6, width=32) | st.none(), min_size=1),
)
def test_numbers_of_cells_are_the_cells_again(words, numbers) -> None:
    words, numbers = [*words, "a"], [*numbers, 1.0]
    coded = Column("x", "category", ("a", "b", "c"), dtype="str")
    values, unseen = numbers_of(Cells("x", "word", words=words, dtype="str"), coded)
    seen = [w for w in words if w is not None]
    assert not unseen and decoded(values[~np.isnan(values)], coded) == seen
    array = np.array([math.nan if v is None else v for v in numbers])
    values, _ = numbers_of(Cells("x", "number", array, dtype="float64"), Column("x"))
    np.testing.assert_array_equal(values, array.astype(np.float32))


def test_written_types_are_the_cells() -> None:
    assert decoded([2.6], Column("x", dtype="int64")) == [3]
    assert decoded([2.6], Column("x", dtype="Int64")) == [3.0]
    assert decoded([2.6], Column("x", "count")) == [3]
    assert decoded([1.6], Column("x", "bounded", low=0, high=1)) == [1.0]
    assert decoded([1.0], Column("x", "boolean", ("1", "2"), dtype="int64")) == [2]
    assert decoded([1.0], Column("x", "boolean", ("False", "True"), dtype="bool")) == [True]
    assert decoded([9.0, -3.0], Column("x", "category", ("a", "b"))) == ["b", "a"]
    assert decoded([0.5], Column("x", dtype="datetime")) == [datetime(1970, 1, 1, 12)]
    assert decoded([1e12], Column("x", dtype="date"))[0].year == 9999


def test_locations_and_spreads() -> None:
    x = np.array([1.0, 4.0, np.nan, 16.0])
    assert moments(x, Column("x")) == pytest.approx((7.0, math.sqrt(42.0)))
    logs = np.log([1.0, 4.0, 16.0])
    assert moments(x, Column("x", "positive")) == pytest.approx((logs.mean(), logs.std()))
    logs = np.log1p([1.0, 4.0, 16.0])
    assert moments(x, Column("x", "count")) == pytest.approx((logs.mean(), logs.std()))
    assert moments(x, Column("x", "category", ("a",))) == (0.0, 1.0)
    assert moments(np.full(3, 5e7), Column("x")) == (5e7, 1.0)


@pytest.mark.parametrize(
    ("text", "dtype", "says"),
    [
        ("2024-01-05", "float64", "must hold numbers, got dates in row 1"),
        ("7", "date[%Y-%m-%d]", "must hold dates, got 7.0 in row 1"),
    ],
)
def test_dates_are_no_numbers_and_numbers_no_dates(text: str, dtype: str, says: str) -> None:
    """In rows that come after training; a date would be read as days since 1970."""
    column = Column("x", dtype=dtype)
    with pytest.raises(ValueError, match=says):
        numbers_of(cells_of_text("x", [text, ""], Places()), column)
    values, _ = numbers_of(cells_of_text("x", ["", ""], Places()), column)
    assert np.isnan(values).all()


# The kind.

TABLE = Modality(
    "t",
    (4,),
    "table",
    kind="table",
    location=(0,) * 4,
    spread=(1,) * 4,
    columns=(
        Column("n", "count"),
        Column("c", "category", ("u", "v"), dtype="str"),
        Column("p", "positive"),
        Column("d", dtype="date[%Y-%m-%d]"),
    ),
)
ROWS = torch.tensor([[3.0, 1.0, 0.5, 10.0], [0.0, math.nan, 2.0, math.nan]])


def test_a_row_is_written_and_read_back(tmp_path) -> None:
    kind = KINDS["table"]
    for x in ROWS:
        suffix, content = kind.encode(x, TABLE)
        (tmp_path / f"x{suffix}").write_bytes(content)
        back = kind.read(tmp_path / f"x{suffix}", TABLE)
        torch.testing.assert_close(back, x[None], equal_nan=True)


def test_empty_cells_are_values_and_others_are_checked() -> None:
    kind = KINDS["table"]
    kind.check(ROWS, TABLE, "It")
    for column, value in enumerate((0.5, 2.0, -1.0, math.inf)):
        x = ROWS.clone()
        x[0, column] = value
        with pytest.raises(ValueError, match="It has 1 values that"):
            kind.check(x, TABLE, "It")


def test_rows_are_shown_as_words_of_one_width() -> None:
    kind = KINDS["table"]
    one, other = kind.show(ROWS[:1], TABLE), kind.show(ROWS[1:], TABLE)
    assert one.shape == other.shape and one.shape[:2] == (1, 3) and not one.equal(other)
    (name,) = kind.files(ROWS[None], TABLE)
    assert name == "t.csv"
    assert kind.files(ROWS[None], TABLE)[name].splitlines()[1:] == [
        b"0,0,3,v,0.5,1970-01-11",
        b"1,0,0,,2,",
    ]


def test_what_fills_holes_leaves_unseen_words_alone(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("n,c,p,d\n1,w,1.0,2020-01-01\n,,,\n")
    table = read_table(tmp_path / "x.csv")
    values = torch.tensor([[1.0, 0.0, 1.0, 0.0], [7.2, 1.0, 1234567.0, 18262.0]])
    table.write(tmp_path / "y.csv", filled(table, TABLE, values))
    assert (tmp_path / "y.csv").read_text().splitlines()[1:] == [
        "1,w,1.0,2020-01-01",
        "7,v,1234570.0,2020-01-01",
    ]
    with pytest.raises(ValueError, match=r"values of shape \(2, 4\), got \(1, 4\)"):
        filled(table, TABLE, values[:1])
    with pytest.raises(ValueError, match="'n' has no value for some"):
        filled(table, TABLE, values * math.nan)


# Bad tables.

BAD = {
    "an empty file": ("x.csv", b"", "x.csv is empty; its first line must name"),
    "blank lines": ("x.csv", b"\n\n", "x.csv is empty"),
    "a header only": ("x.csv", b"a,b\n", "a header and no rows"),
    "no header": ("x.csv", b"1,2\n3,4\n", "holds only numbers.*names of the columns"),
    "a column twice": ("x.csv", b"a,a\n1,2\n", "has the column 'a' twice; rename"),
    "a long row": ("x.csv", b"a,b\n1,2\n1,2,3\n", "3 cells in line 3 and 2 columns.*quotes"),
    "a short row": ("x.csv", b"a,b\n1\n", "1 cells in line 2 and 2 columns"),
    "an open quote": ("x.csv", b'a,b\n"1,2\n', "cell in line 2 whose quotes do not end"),
    "words after a quote": ("x.csv", b'a,b\n"1"x,2\n', "line 2 whose quotes do not end"),
    "latin-1": ("x.csv", b"a,b\n\xe4,1\n", "not text in utf-8 .line 2.*encoding: latin-1"),
    "utf-16": ("x.csv", "a,b\n1,2\n".encode("utf-16"), "not text in utf-8.*encoding: utf-16"),
    "a zero byte": ("x.csv", b"a,b\n1,\x00\n", "zero byte"),
    "no gzip": ("x.csv.gz", b"a,b\n1,2\n", "damaged"),
    "a cut gzip": ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-6], "truncated or damaged"),
    "no Parquet": ("x.parquet", b"PAR1 nothing", "truncated or damaged.*to_parquet"),
    "no Feather": ("x.feather", b"nothing", "truncated or damaged.*to_feather"),
    "a spreadsheet": ("x.xlsx", b"PK", "spreadsheet; save the sheet as CSV"),
    "another file": ("x.doc", b"", "A table is one of .csv"),
    "words among numbers": (
        "x.csv",
        b"a\n1\n2\n3\n4\nlow\n",
        r"'a' has numbers in 4 rows and words in 1: 'low' .line 6.*empty: \[\"low\"\]",
    ),
    "infinite": ("x.csv", b"a\n1\ninf\n", "'a' is infinite in line 3"),
    "too large for a float": ("x.csv", b"a\n1\n1e999\n", "'a' is infinite in line 3"),
    "dates of two meanings": ("x.csv", b"a\n01/02/2020\n03/04/2020\n", "begin with the day or"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_told_in_one_sentence(tmp_path, case) -> None:
    name, content, sentence = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)^[^\n]*{sentence}[^\n]*$"):
        table = read_table(tmp_path / name)
        [table.cells(column) for column in table.columns]


def test_other_bad_places_are_told(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"There is no file .*none.csv"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder; give a file"):
        read_table(tmp_path / "folder.csv")
    (tmp_path / "x.csv").write_text("age,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no column 'agee' in .*Did you mean age\?"):
        read_table(tmp_path / "x.csv").cells("agee")
    with pytest.raises(ValueError, match=r"There is no encoding 'utf-99'"):
        read_table(tmp_path / "x.csv", encoding="utf-99")
    from polymodal.data.tables import text_files

    monkeypatch.setattr(text_files, "MAX_MB", 0.001)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"a\n" + b"1\n" * 10**5))
    with pytest.raises(ValueError, match="holds more than 0 MB when it is unpacked"):
        read_table(tmp_path / "bomb.csv.gz")
    (tmp_path / "large.csv").write_bytes(b"a\n" + b"1\n" * 10**4)
    with pytest.raises(ValueError, match="has 0 MB, and at most 0 MB"):
        read_table(tmp_path / "large.csv")


def test_typed_tables_that_cannot_be_read_are_told(tmp_path, monkeypatch) -> None:
    pd.DataFrame({"a": [[1], [2]], "b": [1.0, math.inf]}).to_parquet(tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"'a' holds list.*leave it out"):
        table.cells("a")
    with pytest.raises(ValueError, match="'b' is infinite in row 2"):
        table.cells("b")
    pd.DataFrame({"a": []}).to_feather(tmp_path / "x.feather")
    with pytest.raises(ValueError, match="has 0 rows and 1 columns"):
        read_table(tmp_path / "x.feather")
    from polymodal.data.tables import arrow

    monkeypatch.setattr(arrow, "MAX_MB", 0.001)
    frame(900).to_parquet(tmp_path / "y.parquet")
    monkeypatch.setattr(arrow, "check_file", lambda path, most: 0)
    with pytest.raises(ValueError, match=r"more than 0 MB; give fewer rows"):
        read_table(tmp_path / "y.parquet")


WRONG = {
    "count": (["1", "2.5"], Column("x", "count"), "type count must hold counts.*got 2.5"),
    "positive": (["1", "-2"], Column("x", "positive"), "must hold positive numbers, got -2.0"),
    "bounded": (["0.5", "3"], Column("x", "bounded"), "numbers between 0 and 1, got 3.0"),
    "real": (["a", "b"], Column("x"), "must hold numbers, got words such as 'a'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_cells_that_a_type_does_not_have_are_told(case) -> None:
    texts, column, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        numbers_of(cells_of(texts), column)
