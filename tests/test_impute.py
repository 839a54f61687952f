"""`polymodal impute` and `encode`: only holes change, and what fills them is the model's."""

import logging
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import polymodal
from polymodal.batch import Batch
from polymodal.cli.main import run
from polymodal.data.tables import read_table
from polymodal.imputation import complete
from polymodal.imputation.completion import Completion
from polymodal.imputation.evaluate import calibrate
from polymodal.imputation.weighted import latent_means, weighted_latents

N = 160
OPTIONS = {"latent": 2, "hidden": 32, "k": 5, "progress": False, "batch": 32, "lr": 5e-3}
NUMBERS = ("age", "weight", "visits")


def people(n=N, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    data = pd.DataFrame(
        {
            "id": [f"p{k}" for k in range(n)],
            "age": (50 + 9 * z + rng.normal(size=n)).round(1),
            "weight": (70 + 8 * z + rng.normal(size=n)).round(1),
            "visits": pd.array(rng.poisson(np.exp(1 + 0.5 * z)), "Int64"),
            "city": np.where(z > 0.4, "Rome", np.where(z > -0.4, "Oslo", "Bern")),
            "smoker": np.where(z + 0.5 * rng.normal(size=n) > 0, "yes", "no"),
            "note": np.where(z > 0, "a person of red hair", "a person of blue hair"),
        }
    )
    for column in data.columns[1:]:
        data.loc[rng.random(n) < 0.2, column] = pd.NA
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("impute")
    people().to_csv(folder / "people.csv", index=False)
    (folder / "d.yaml").write_text(
        "data:\n  file: people.csv\n  key: id\n  modalities:\n"
        "    body: {columns: {age: real, weight: real, visits: count}}\n"
        "    life: {columns: {city: category, smoker: boolean}}\n"
        "    note: {source: text, column: note}\n"
    )
    polymodal.fit(
        "miwae",
        folder / "d.yaml",
        out=folder / "run",
        epochs=40,
        networks={"note": "mlp-small"},
        **OPTIONS,
    )
    return folder


def impute(folder, source, out, *options) -> int:
    arguments = ["impute", folder / "run", source, "--out", out, "--proposals", 100, *options]
    return run([str(a) for a in arguments])


def test_only_holes_change_and_none_is_left(folder, tmp_path, capsys) -> None:
    assert impute(folder, folder / "people.csv", tmp_path / "full.csv") == 0
    before, after = read_table(folder / "people.csv"), read_table(tmp_path / "full.csv")
    assert after.columns == before.columns
    for column in before.columns:
        old, new = before.texts(column), after.texts(column)
        assert all(a == b for a, b in zip(old, new, strict=True) if a)
        assert all(new)
    said = capsys.readouterr().out
    holes = people().isna()
    assert f"Filled {int(holes.sum().sum())} cells in {int(holes.any(axis=1).sum())} of {N}" in said
    assert f"age {int(holes['age'].sum())}" in said
    assert re.search(r"Effective number of draws behind a row: \d+ of 100 \(median\)", said)
    full = pd.read_csv(tmp_path / "full.csv")
    assert set(full["city"]) == {"Bern", "Oslo", "Rome"} and set(full["smoker"]) == {"no", "yes"}
    assert (full["visits"] == full["visits"].round()).all()
    assert full["note"].str.contains("hair").mean() > 0.9


def test_characters_of_other_cells_stay(folder, tmp_path) -> None:
    text = '"id" ;age;other; city\r\n"a;1";;"say ""x""";\r\na2; 41,50 ;;Bern\r\n'
    (tmp_path / "odd.csv").write_bytes(text.encode("utf-8-sig"))
    assert impute(folder, tmp_path / "odd.csv", tmp_path / "o.csv") == 0
    written = (tmp_path / "o.csv").read_bytes().decode("utf-8-sig")
    pattern = r'"id" ;age;other; city\r\n"a;1";[\d,]+;"say ""x""";(Bern|Oslo|Rome)\r\n'
    assert re.fullmatch(pattern + r"a2; 41,50 ;;Bern\r\n", written)


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv.gz", ".tsv"])
def test_the_format_is_that_of_the_input(folder, tmp_path, suffix) -> None:
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    frame = people()
    if suffix == ".tsv":
        frame.to_csv(source, index=False, sep="\t")
    else:
        getattr(frame, f"to_{suffix[1:].partition('.')[0]}")(source, index=False) if (
            suffix != ".feather"
        ) else frame.to_feather(source)
    assert impute(folder, source, out, "--draws", 2) == 0
    names = {f"out{mark}{suffix}" for mark in ("", ".1", ".2", ".intervals")}
    assert {p.name for p in tmp_path.iterdir()} == {*names, source.name}
    before, after = read_table(source), read_table(out)
    assert before.columns == after.columns
    for column in NUMBERS:
        a, b = before.cells(column), after.cells(column)
        observed = a.observed
        np.testing.assert_array_equal(a.numbers[observed], b.numbers[observed])
        assert b.observed.all()
    if suffix == ".parquet":
        assert pq.read_schema(out).equals(pq.read_schema(source))
    bounds = read_table(tmp_path / f"out.intervals{suffix}")
    assert bounds.columns == ("row", "column", "value", "lower", "upper", "probability")


def test_bounds_have_a_row_for_each_filled_cell(folder, tmp_path, capsys) -> None:
    draws = 40
    out = tmp_path / "full.csv"
    own = ["--intervals", 0.8, "--data", tmp_path / "none.csv"]
    assert impute(folder, folder / "people.csv", out, "--draws", draws, *own) == 0
    assert "Intervals are the model's own, and may not hold" in capsys.readouterr().out
    bounds, frame = pd.read_csv(tmp_path / "full.intervals.csv"), people()
    holes = frame.drop(columns="note").isna()
    assert {(r, c) for r, c in zip(bounds["row"], bounds["column"], strict=True)} == {
        (r, holes.columns[k]) for r, k in zip(*np.nonzero(holes.to_numpy()), strict=True)
    }
    full = pd.read_csv(out)
    assert all(
        str(full.loc[b.row, b.column]) == str(b.value)
        or float(full.loc[b.row, b.column]) == float(b.value)
        for b in bounds.itertuples()
    )
    coded = bounds["column"].isin(["city", "smoker"])
    assert bounds.loc[coded, "probability"].between(1 / 3 - 1e-3, 1).all()
    assert bounds.loc[coded, ["lower", "upper"]].isna().all(None)
    numbers = bounds[~coded]
    assert numbers["probability"].isna().all() and (numbers["lower"] < numbers["upper"]).all()
    # Draws lie between the bounds as often as these say.
    copies = [pd.read_csv(tmp_path / f"full.{k + 1}.csv") for k in range(draws)]
    assert not (tmp_path / f"full.{draws + 1}.csv").exists()
    for column, least, most in (("age", 0.8, 0.8), ("weight", 0.8, 0.8), ("visits", 0.8, 1.0)):
        some = numbers[numbers["column"] == column]
        drawn = np.stack([copy.loc[some["row"], column].to_numpy() for copy in copies])
        inside = (drawn >= some["lower"].to_numpy()) & (drawn <= some["upper"].to_numpy())
        assert least - 0.05 < inside.mean() < most + 0.05
        assert drawn.std(0).min() > 0


def test_intervals_are_stretched_by_what_validation_shows(folder, tmp_path, capsys) -> None:
    source, trained = folder / "people.csv", polymodal.load(folder / "run")
    calibration = calibrate(trained, polymodal.load_data(folder / "d.yaml"))
    impute(folder, source, tmp_path / "own.csv", "--data", folder / "none.csv")
    impute(folder, source, tmp_path / "wide.csv", "--data", folder / "d.yaml")
    said = capsys.readouterr().out
    assert "On the validation part" in said and "may not hold" in said
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "wide.csv").read_bytes()
    own, wide = (pd.read_csv(tmp_path / f"{name}.intervals.csv") for name in ("own", "wide"))
    table = people()
    some = (own["column"] == "age") & table["weight"].notna().to_numpy()[own["row"]]
    assert some.sum() > 20
    widths = [(bounds["upper"] - bounds["lower"])[some] for bounds in (wide, own)]
    factor = calibration.factor("entries", "body", "age").factors[2]
    rounding = 0.1 * (1 + factor)  # ages have one digit behind the point
    assert abs(factor - 1) > 0.05 and np.allclose(widths[0], factor * widths[1], 0, rounding)
    assert widths[1].mean() * abs(factor - 1) > 2 * rounding


def test_categories_are_drawn_with_their_probabilities(folder) -> None:
    trained = polymodal.load(folder / "run")
    x = {"body": torch.tensor([[50.0, torch.nan, torch.nan], [65.0, 84.0, torch.nan]])}
    data = _dataset(trained, x)
    done = complete(trained.model, data, ["life", "body"], draws=4000, proposals=2000)
    for place, share in done.filled["life"].probabilities.items():
        drawn = done.filled["life"].draws[:, :, place].long()
        found = torch.nn.functional.one_hot(drawn, share.shape[1]).float().mean(0)
        assert torch.allclose(found, share, atol=0.06)
    known = done.filled["body"]
    spread = known.draws.std(0) / known.ess.sqrt()[:, None] + known.draws.std(0) / 4000**0.5
    error = (known.draws.mean(0) - known.center).abs()
    assert (error[:, :2] < 4 * spread[:, :2]).all()  # the mean of draws; visits have a trimmed one


def _dataset(trained, x) -> polymodal.Dataset:
    size = len(next(iter(x.values())))
    tables = {m.name: x.get(m.name, torch.zeros(size, *m.shape)) for m in trained.modalities}
    absent = torch.zeros(size, dtype=torch.bool)
    present = {m: absent for m in tables if m not in x}
    return polymodal.Dataset(trained.modalities, tables, present=present)


def test_rows_without_anything_are_drawn_from_the_prior(folder, tmp_path, capsys) -> None:
    (tmp_path / "new.csv").write_text("id,age,weight,visits\na,,,\nb,80,95,\nc,NA,,\n")
    assert impute(folder, tmp_path / "new.csv", tmp_path / "o.csv", "--proposals", 4000) == 0
    assert (
        "Nothing is observed in 2 rows; they are filled from the prior" in capsys.readouterr().out
    )
    full = pd.read_csv(tmp_path / "o.csv")
    assert abs(full["age"][0] - full["age"][2]) < 3 and abs(full["age"][0] - 50) < 5
    assert full["age"][1] == 80
    trained = polymodal.load(folder / "run")
    batch = trained.model.readable(
        _dataset(trained, {"body": torch.full((2, 3), torch.nan)}).batch(torch.arange(2))
    )
    torch.manual_seed(0)
    drawn = weighted_latents(trained.model, batch, 4000)
    assert drawn.z.mean().abs() < 0.05 and (drawn.z.std() - 1).abs() < 0.05
    assert torch.allclose(drawn.ess, torch.full((2,), 4000.0), rtol=1e-5)


def test_rows_of_other_patterns_are_independent_of_rows_beside_them(folder) -> None:
    """A batch in which some rows have nothing gives the others what they have alone."""
    trained = polymodal.load(folder / "run")
    x = torch.tensor([[50.0, torch.nan, 3.0], [torch.nan] * 3, [61.0, 80.0, torch.nan]])
    together = complete(trained.model, _dataset(trained, {"body": x}), ["life"], proposals=20_000)
    alone = complete(trained.model, _dataset(trained, {"body": x[2:]}), ["life"], proposals=20_000)
    for place, share in alone.filled["life"].probabilities.items():
        assert torch.allclose(together.filled["life"].probabilities[place][2:], share, atol=0.03)
    assert together.nothing.tolist() == [False, True, False]
    batch = _dataset(trained, {"body": x}).batch(torch.arange(3))
    _, weight, ess, _ = weighted_latents(trained.model, trained.model.readable(batch), 500)
    assert torch.allclose(1 / weight.square().sum(0), ess, rtol=1e-3)
    assert (ess[[0, 2]] < 499).all()


def test_what_the_run_and_the_table_do_not_share(folder, tmp_path, capsys, caplog) -> None:
    text = "city,more,age\nParis,1,\nOslo,,61\n,x,44\n"
    (tmp_path / "new.csv").write_text(text)
    with caplog.at_level(logging.WARNING, "polymodal"):
        assert impute(folder, tmp_path / "new.csv", tmp_path / "o.csv") == 0
    lines = (tmp_path / "o.csv").read_text().splitlines()
    assert lines[0] == "city,more,age" and re.fullmatch(r"Paris,1,[\d.]+", lines[1])
    assert lines[2] == "Oslo,,61" and re.fullmatch(r"(Bern|Oslo|Rome),x,44", lines[3])
    assert "has no column 'weight', 'visits'; all of their cells are empty" in caplog.text
    assert "has 'Paris', not among the categories of training" in caplog.text
    said = capsys.readouterr().out
    assert "has no place for 'note'; polymodal generate draws it" in said
    assert "Filled 2 cells in 2 of 3 rows" in said
    (tmp_path / "complete.csv").write_text("age\n61\n")
    assert impute(folder, tmp_path / "complete.csv", tmp_path / "c.csv") == 0
    assert (tmp_path / "c.csv").read_text() == "age\n61\n"
    assert "There are no holes to fill." in capsys.readouterr().out


def test_the_seed_decides(folder, tmp_path) -> None:
    people(20).to_csv(tmp_path / "few.csv", index=False)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        impute(folder, tmp_path / "few.csv", tmp_path / f"{name}.csv", "--seed", seed, "--draws", 1)
    first, second, third = ((tmp_path / f"{n}.1.csv").read_bytes() for n in "abc")
    assert first == second != third
    before = torch.get_rng_state()
    trained = polymodal.load(folder / "run")
    complete(trained.model, _dataset(trained, {"body": torch.full((1, 3), torch.nan)}))
    assert torch.equal(before, torch.get_rng_state())


def test_few_effective_draws_are_told() -> None:
    known = polymodal.imputation.Filled(*(torch.zeros(0),) * 3, {}, torch.tensor([3.0, 5.0, 900.0]))
    rows, nothing = torch.tensor([0, 2, 3]), torch.tensor([False, False, False, True])
    few = Completion(rows, {"x": known}, {}, nothing, 0.9)
    assert few.ess == 3.0 and "effective number of draws is 3, fewer than 20" in few.warning()
    many = Completion(rows, {"x": known}, {}, torch.tensor([True, False, True, False]), 0.9)
    assert many.ess == 900.0 and many.warning() is None


def test_what_is_refused_and_nothing_is_written(folder, tmp_path, capsys) -> None:
    people(3).to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bad.csv").write_text("age\nold\n")
    np.savez(tmp_path / "x.npz", zzz=np.zeros((2, 3)))
    before = sorted(p.name for p in tmp_path.iterdir())
    for source, out, sentence in (
        ("in.csv", "in.csv", "is the input, and is not written over"),
        ("in.csv", "o.parquet", r"ends in .csv or .csv.gz, got"),
        ("in.csv", "run.json", "ends in .csv or .csv.gz"),
        ("none.csv", "o.csv", "has no column of the run; it has 'a', 'b', and the run knows 'age'"),
        ("bad.csv", "o.csv", "must hold numbers, got words such as 'old' in line 2"),
        ("x.npz", "o.npz", "none of the run's modalities body, life, note; it holds zzz"),
        ("nothing.csv", "o.csv", "There is no file"),
        ("in.xlsx", "o.xlsx", "Rows are read from a table .* or an .npz file"),
    ):
        assert impute(folder, tmp_path / source, tmp_path / out) == 2
        assert re.search(sentence, capsys.readouterr().err), sentence
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# Arrays.


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    rng = np.random.default_rng(0)
    z = rng.normal(size=120)
    x = np.stack([z, -z, z + 1], 1) + 0.1 * rng.normal(size=(120, 3))
    x[rng.random(x.shape) < 0.2] = np.nan
    tags = (rng.random((120, 4)) < 1 / (1 + np.exp(-3 * z[:, None]))).astype(np.uint8)
    image = np.clip(128 + 60 * z[:, None, None, None] + np.zeros((120, 4, 5, 3)), 0, 255)
    given = {
        "x": x,
        "tags": tags,
        "tags_present": rng.random(120) < 0.7,
        "image": image.astype(np.uint8),
        "image_present": (rng.random(120) < 0.7).astype(np.int8),
        "label": np.arange(120) % 2,
    }
    given["image_present"][0], given["tags_present"][0] = 1, True
    np.savez(folder / "x.npz", **given)
    networks = {"image": "linear"}
    polymodal.fit(
        "miwae", folder / "x.npz", out=folder / "run", epochs=30, networks=networks, **OPTIONS
    )
    return folder


def test_arrays_keep_their_types_and_observed_entries(arrays, tmp_path) -> None:
    assert impute(arrays, arrays / "x.npz", tmp_path / "o.npz", "--draws", 1) == 0
    before, after = np.load(arrays / "x.npz"), np.load(tmp_path / "o.npz")
    assert before.files == after.files
    for name in before.files:
        assert before[name].dtype == after[name].dtype
        assert before[name].shape == after[name].shape
    x, full = before["x"], after["x"]
    np.testing.assert_array_equal(full[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(full).all()
    errors = (full[:, 0] + full[:, 1])[np.isnan(x[:, 0]) & ~np.isnan(x[:, 1])]
    assert np.sqrt((errors**2).mean()) < 0.8  # the marginal's is 1.4
    for m in ("tags", "image"):
        present = before[f"{m}_present"].astype(bool)
        np.testing.assert_array_equal(before[m][present], after[m][present])
        assert (before[m][~present] != after[m][~present]).any()
        assert after[f"{m}_present"].all()
    assert set(np.unique(after["tags"])) <= {0, 1}
    gone = ~before["image_present"].astype(bool) & np.isfinite(x[:, 0])
    means = after["image"][gone].mean((1, 2, 3))
    assert np.corrcoef(means, x[gone, 0])[0, 1] > 0.7
    bounds = np.load(tmp_path / "o.intervals.npz")
    assert (np.isnan(bounds["x_lower"]) == ~np.isnan(x)).all()
    holes = np.isnan(x)
    assert (bounds["x_lower"][holes] < bounds["x_upper"][holes]).all()
    assert bounds["tags_probability"].shape == (120, 4)
    assert np.nanmin(bounds["tags_probability"]) >= 0.5


def test_arrays_without_a_modality(arrays, tmp_path, capsys) -> None:
    np.savez(tmp_path / "n.npz", x=np.array([[1.0, np.nan, np.nan]], np.float32), more=np.ones(4))
    assert impute(arrays, tmp_path / "n.npz", tmp_path / "o.npz") == 0
    full = np.load(tmp_path / "o.npz")
    assert full.files == ["x", "more"] and full["x"].dtype == np.float32
    assert "has no array 'tags'; it is absent in all rows" in capsys.readouterr().out
    (tmp_path / "t.csv").write_text("x\n1\n")
    assert impute(arrays, tmp_path / "t.csv", tmp_path / "o.csv") == 2
    assert "was trained on arrays or a named data set" in capsys.readouterr().err
    np.savez(tmp_path / "n.npz", x=np.ones((2, 3)), tags=np.ones((3, 4)))
    assert impute(arrays, tmp_path / "n.npz", tmp_path / "p.npz") == 2
    assert "must have one row for each sample" in capsys.readouterr().err


# Latents.


def test_latents_are_the_means_of_the_posterior(folder, tmp_path, capsys) -> None:
    trained = polymodal.load(folder / "run")
    (tmp_path / "new.csv").write_text("age,id,visits\n41,a,2\n,b,\n60,c,\n")
    for name in ("z.csv", "z.npz", "z.parquet"):
        arguments = ["encode", folder / "run", tmp_path / "new.csv", "--out", tmp_path / name]
        assert run([str(a) for a in arguments]) == 0
    frame = pd.read_csv(tmp_path / "z.csv")
    assert frame.columns.tolist() == ["id", "z0", "z1"] and frame["id"].tolist() == ["a", "b", "c"]
    x = torch.tensor([[41.0, torch.nan, 2.0], [60.0, torch.nan, torch.nan]])
    with torch.no_grad():
        batch = trained.model.readable(Batch({"body": x}))
        expected = trained.model.posterior(batch).mean
    np.testing.assert_allclose(frame.iloc[[0, 2], 1:], expected.numpy(), rtol=1e-4, atol=1e-5)
    assert (frame.iloc[1, 1:].abs() < 1e-6).all()  # of the prior
    archive = np.load(tmp_path / "z.npz")
    assert archive["id"].tolist() == ["a", "b", "c"] and archive["z"].shape == (3, 2)
    assert pd.read_parquet(tmp_path / "z.parquet").shape == (3, 3)
    (tmp_path / "new.csv").write_text("age\n41\n")
    assert (
        run(
            [
                "encode",
                str(folder / "run"),
                str(tmp_path / "new.csv"),
                "--out",
                str(tmp_path / "y.csv"),
            ]
        )
        == 0
    )
    assert pd.read_csv(tmp_path / "y.csv").columns.tolist() == ["row", "z0", "z1"]
    assert (
        run(
            [
                "encode",
                str(folder / "run"),
                str(tmp_path / "new.csv"),
                "--out",
                str(tmp_path / "y.txt"),
            ]
        )
        == 2
    )
    assert "Latents are written into one of" in capsys.readouterr().err


def test_latents_of_a_posterior_without_a_mean_are_averaged() -> None:
    data = polymodal.load_data("shapes", n=60)
    trained = polymodal.fit("jnf", data, latent=2, epochs=1, progress=False)
    z = latent_means(trained.model, data.test)
    assert z.shape == (len(data.test), 2) and z.isfinite().all()
    assert torch.equal(z, latent_means(trained.model, data.test))
