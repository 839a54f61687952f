"""Columns of decimals: as many digits out as in, in text and in exact types."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import polymodal
from polymodal.batch import Column, Modality
from polymodal.cli.main import run
from polymodal.data import filled, read_table
from polymodal.data.tables import decoded
from polymodal.data.tables.cells import cells_of_text
from polymodal.data.tables.decimals import MOST
from polymodal.data.tables.frame import Frame
from polymodal.data.tables.guess import guess

N = 60
PRICES = [None if k % 5 == 3 else Decimal(k * 37 % 100 + 1) / 4 for k in range(N)]
PRICES = [None if p is None else p.quantize(Decimal("0.01")) for p in PRICES]
EXACT = {
    "decimal128": pa.decimal128(10, 2),
    "decimal256": pa.decimal256(40, 2),
    "wider scale": pa.decimal128(20, 4),
}


def table_of(type_=EXACT["decimal128"]) -> pa.Table:
    return pa.table({"price": pa.array(PRICES, type_), "q": np.linspace(0, 1.5, N) ** 2})


def text(separator=",", point=".", style="{:.2f}") -> str:
    cells = ["" if p is None else style.format(p).replace(".", point) for p in PRICES]
    rows = [f"{cell}{separator}{k * 7 % 13}" for k, cell in enumerate(cells)]
    return "\n".join([f"price{separator}k", *rows, ""])


def fill_in(table, value, column=Column("price", dtype="float64")):
    """What `filled` writes into the holes of the prices, if a model says `value`."""
    modality = Modality("t", (1,), columns=(column,), location=(0.0,), spread=(1.0,))
    return filled(table, modality, torch.full((len(table), 1), value))


@given(
    st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=2),
    st.integers(1, MOST),
    st.floats(-1e6, 1e6),
)
def test_values_have_the_digits_of_text(numbers, places, value) -> None:
    words = [f"{x:.{places}f}" for x in numbers]
    cells = cells_of_text("x", words, None)
    if all(float(word).is_integer() for word in words):
        assert cells.dtype == "Int64"
        return
    assert cells.dtype == f"decimal[{places}]" and cells.form == "number"
    (cell,) = decoded([value], Column("x", dtype=cells.dtype))
    assert f"{cell:f}".partition(".")[2].isdigit() and len(f"{cell:f}".partition(".")[2]) == places
    assert abs(float(cell) - value) <= 0.51 * 10.0**-places and str(cell) != "-0." + "0" * places


@pytest.mark.parametrize("words", [["1.5", "2.25"], ["1.5", "2"], ["1e-1", "2.5"], ["0.1234567"]])
def test_other_numbers_are_no_decimals(words) -> None:
    assert cells_of_text("x", words, None).dtype == "float64"


@pytest.mark.parametrize("separator, point", [(",", "."), (";", ","), ("\t", ".")])
def test_text_is_filled_with_its_digits(tmp_path, separator, point) -> None:
    path = tmp_path / ("x.tsv" if separator == "\t" else "x.csv")
    path.write_text(text(separator, point))
    table = read_table(path)
    assert guess(table.cells("price")).type in ("real", "positive", "bounded")
    table.write(tmp_path / path.with_suffix(".out").name, fill_in(table, 7.5))
    written = path.with_suffix(".out").read_text().splitlines()
    before = path.read_text().splitlines()
    for old, new in zip(before, written, strict=True):
        assert new == (f"7{point}50" + old if old.startswith(separator) else old)


def test_whole_numbers_keep_their_zeros(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("price\n3.000\n\n5.000\nNA\n")
    table = read_table(tmp_path / "x.csv")
    table.write(tmp_path / "y.csv", {"price": ([2], [4.0])})
    assert (tmp_path / "y.csv").read_text() == "price\n3.000\n\n5.000\n4.000\n"


def test_a_file_is_written_with_its_own_digits(tmp_path) -> None:
    trained_on = Column("price", dtype="decimal[2]")
    for style, expected in (("{:.3f}", "7.123"), ("{:.1f}", "7.1"), ("{:.2f}", "7.12")):
        (tmp_path / "x.csv").write_text(text(style=style))
        written = fill_in(read_table(tmp_path / "x.csv"), 7.1234567, trained_on)
        assert {str(cell) for cell in written["price"][1]} == {expected}
    (tmp_path / "x.csv").write_text("price,k\n,1\n,2\n")  # no digits to look at
    written = fill_in(read_table(tmp_path / "x.csv"), 7.1234567, trained_on)
    assert {str(cell) for cell in written["price"][1]} == {"7.12"}
    frame = Frame(pd.DataFrame({"price": [1.0, 0.12345, np.nan]}), "X")
    (cell,) = fill_in(frame, 7.1234567, trained_on)["price"][1]
    assert isinstance(cell, float)
    frame = Frame(pd.DataFrame({"price": [np.nan, np.nan]}), "X")
    done = frame.completed(fill_in(frame, 7.1234567, trained_on))
    assert done["price"].dtype == np.float64 and done["price"].tolist() == [7.12, 7.12]


@pytest.mark.parametrize("type_", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_exact_types_come_back(tmp_path, suffix, type_) -> None:
    path, out = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    write, read = {
        ".parquet": (pyarrow.parquet.write_table, pyarrow.parquet.read_table),
        ".feather": (pyarrow.feather.write_feather, pyarrow.feather.read_table),
    }[suffix]
    write(table_of(type_), path)
    table = read_table(path)
    table.write(out, fill_in(table, 12.345678))
    before, after = table_of(type_), read(out)
    assert after.schema == before.schema and after["q"] == before["q"]
    step = Decimal(1).scaleb(-type_.scale)
    pairs = zip(PRICES, after["price"].to_pylist(), strict=True)
    assert all(y == (Decimal("12.345678").quantize(step) if x is None else x) for x, y in pairs)


def test_values_that_a_type_does_not_hold_are_its_last(tmp_path) -> None:
    column = pa.array([Decimal("1.25"), None, Decimal("-9.50")], pa.decimal128(3, 2))
    pyarrow.parquet.write_table(pa.table({"price": column}), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    for value, expected in ((123.0, "9.99"), (-1e20, "-9.99"), (9.994, "9.99")):
        table.write(tmp_path / "y.parquet", fill_in(table, value))
        filled_in = pyarrow.parquet.read_table(tmp_path / "y.parquet")["price"][1].as_py()
        assert filled_in == Decimal(expected)


def test_rounded_values_are_those_of_their_column() -> None:
    positive = Column("x", "positive", dtype="decimal[2]")
    bounded = Column("x", "bounded", low=0.005, high=0.995, dtype="decimal[2]")
    assert decoded([1e-9, 0.5], positive) == [Decimal("0.01"), Decimal("0.50")]
    assert decoded([-1.0, 2.0], bounded) == [Decimal("0.01"), Decimal("0.99")]
    steps = Column("x", "ordinal", ("1.5", "2.5"), dtype="decimal[2]")
    assert [str(cell) for cell in decoded([0, 1], steps)] == ["1.50", "2.50"]


@pytest.mark.parametrize("exact", ["objects", "arrow"])
def test_a_frame_of_decimals_is_imputed(exact) -> None:
    frame = table_of().to_pandas(types_mapper=pd.ArrowDtype if exact == "arrow" else None)
    if exact == "objects":
        frame.loc[3, "price"] = Decimal("NaN")
    done = polymodal.Imputer(epochs=1).fit_transform(frame)
    assert [*done.dtypes] == [*frame.dtypes] and not done.isna().any().any()
    known = frame["price"].notna()
    assert (done["price"][known] == frame["price"][known]).all()
    assert {x.as_tuple().exponent for x in done["price"]} == {-2}


def test_the_command_line_gives_digits_and_intervals(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text(text())
    assert run(["init", "x.csv"]) == 0
    assert run(["train", "x.yaml", "--out", "run", "training.epochs=1"]) == 0
    into = ["--out", "y.csv", "--intervals", "0.8", "--draws", "2"]
    assert run(["impute", "run", "x.csv", *into]) == 0
    for path in ("y.csv", "y.1.csv", "y.2.csv"):
        prices = (tmp_path / path).read_text().splitlines()[1:]
        assert all(len(row.partition(",")[0].partition(".")[2]) == 2 for row in prices)
    bounds = pd.read_csv(tmp_path / "y.intervals.csv", dtype=str)
    bounds = bounds[["lower", "value", "upper"]].map(Decimal)
    assert len(bounds) == PRICES.count(None)
    assert (bounds.lower <= bounds.value).all() and (bounds.value <= bounds.upper).all()
    assert {x.as_tuple().exponent for x in bounds.to_numpy().ravel()} == {-2}
