"""`polymodal init` and `inspect`: what they write is read back, and what they say is so."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polymodal.cli.main import run
from polymodal.data import load_data
from polymodal.data.described import read_described
from polymodal.data.description import read_section
from polymodal.data.grid import Grid
from polymodal.data.summary import summary
from polymodal.report.missing import missing_picture
from polymodal.settings.recipes import load_recipe
from polymodal.settings.recommended import recommended
from polymodal.settings.resolve import resolve


def table(n=80, seed=0):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "id": [f"p{k}" for k in range(n)],
            "age (years)": rng.integers(20, 90, n),
            "yes: no": rng.choice(["yes", "no"], n),
            "true": rng.choice([0, 1], n),
            "null": rng.choice(["x", "y", "z"], n),
            "share": rng.beta(0.3, 0.3, n),
            "income": np.exp(rng.normal(10, 1, n)),
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, n), "D"),
            "comment #": [f"a long comment number {k}" for k in range(n)],
        }
    )
    data.loc[rng.random(n) < 0.3, "income"] = np.nan
    data.loc[rng.random(n) < 0.3, "null"] = np.nan
    return data


@pytest.fixture
def file(tmp_path):
    table().to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


def test_what_init_writes_is_read_as_the_table_alone(file, capsys) -> None:
    assert run(["init", str(file)]) == 0
    said = capsys.readouterr().out
    assert "Wrote" in said and "polymodal train" in said and "id: every row has another" in said
    written = load_data(file.with_suffix(".yaml"))
    alone = load_data(file)
    assert written.modalities == alone.modalities
    recipe = load_recipe(file.with_suffix(".yaml"))
    assert resolve(recipe).method.name == recommended(alone).method == "jnf"
    text = file.with_suffix(".yaml").read_text()
    assert "# two modalities" in text and "whole numbers" in text


def test_init_writes_over_nothing(file, capsys) -> None:
    file.with_suffix(".yaml").write_text("mine")
    assert run(["init", str(file)]) == 2
    assert "exists; --force writes over it" in capsys.readouterr().err
    assert file.with_suffix(".yaml").read_text() == "mine"
    assert run(["init", str(file), "--force"]) == 0
    assert sorted(p.name for p in file.parent.iterdir()) == ["mine.csv", "mine.yaml"]


def test_groups_of_columns(file, tmp_path) -> None:
    out = tmp_path / "other.yaml"
    groups = ["--modalities", "a=age (years),share", "--modalities", "b=income,null"]
    assert run(["init", str(file), "--out", str(out), "--label", "yes: no", *groups]) == 0
    data = load_data(out)
    names = {m.name: [c.name for c in m.columns] for m in data.modalities}
    assert names == {"a": ["age (years)", "share"], "b": ["income", "null"]}
    assert data.train.classes == ("no", "yes")
    rng = np.random.default_rng(0)
    grouped = {f"{g}.{k}": rng.normal(size=40) for g in "uv" for k in range(3)}
    pd.DataFrame(grouped).to_csv(tmp_path / "g.csv", index=False)
    assert run(["init", str(tmp_path / "g.csv")]) == 0
    assert "Grouped by the prefixes" in (tmp_path / "g.yaml").read_text()
    assert [m.name for m in load_data(tmp_path / "g.yaml").modalities] == ["u", "v"]


def test_several_tables_by_key(file, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    lab = pd.DataFrame({"id": [f"p{k}" for k in range(40, 120)], "iron": np.arange(80) * 0.5})
    lab.to_feather(tmp_path / "sub" / "lab.feather")
    files = [str(file), str(tmp_path / "sub" / "lab.feather")]
    assert run(["init", *files, "--key", "id"]) == 0
    data = load_data(file.with_suffix(".yaml"))
    assert [m.name for m in data.modalities] == ["table", "comment #", "lab"]
    sizes = [sum(int(p.is_present(m).sum()) for p in data.parts.values()) for m in data.train.names]
    assert sizes == [80, 80, 80] and sum(map(len, data.parts.values())) == 120


def test_a_wide_table_is_described_in_few_lines(tmp_path) -> None:
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(30, 400)), columns=[f"g{k}" for k in range(400)])
    wide.to_csv(tmp_path / "wide.csv", index=False)
    assert run(["init", str(tmp_path / "wide.csv")]) == 0
    assert len((tmp_path / "wide.yaml").read_text()) < 8000
    assert load_data(tmp_path / "wide.yaml").modalities[0].shape == (400,)


def test_init_refuses_what_is_no_table(file, tmp_path, capsys) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    for arguments, sentence in (
        ([str(tmp_path / "x.npz")], "holds no array of numbers"),
        ([str(tmp_path / "none.csv")], "There is no file"),
        ([str(file), "/tmp/other.csv"], "must lie in .*, or below it"),
        ([str(file), "--key", "ids"], "no column 'ids'.*Did you mean id"),
        ([str(file), "--modalities", "a"], "--modalities is written NAME=COL,COL"),
        ([str(file), "--modalities", "a=agee"], "no column 'agee'"),
    ):
        assert run(["init", *arguments]) == 2

        assert re.search(sentence, capsys.readouterr().err)
    assert not [*tmp_path.glob("*.yaml")]


# Inspect.


def test_inspect_says_what_was_understood(file, tmp_path, capsys) -> None:
    assert run(["inspect", str(file), "--out", str(tmp_path / "look")]) == 0
    said = capsys.readouterr().out
    original = table()
    empty = int(original["income"].isna().sum())
    assert "mine: 80 samples (64 train, 8 val, 8 test)" in said
    assert f"{empty} ({empty / 80:.0%})" in said and "positive and skewed" in said
    about = json.loads((tmp_path / "look" / "inspect.json").read_text())
    columns = {c["name"]: c for c in about["columns"]}
    assert columns["income"]["empty"] == empty and columns["income"]["type"] == "positive"
    assert about["left_out"] == {"id": "every row has another word: a name or a key"}
    assert sum(p["samples"] for p in about["patterns"]) == 80
    both = (original["income"].isna() & original["null"].isna()).sum()
    found = [p["samples"] for p in about["patterns"] if set(p["missing"]) == {"income", "null"}]
    assert found == [both]
    log_mean = np.log(original["income"]).mean()
    (location,) = [c["scaling"] for c in about["columns"] if c["name"] == "income"]
    assert (
        location.startswith("(log(x) - ") and abs(float(location.split()[2][:-1]) - log_mean) < 0.2
    )
    image = Image.open(io.BytesIO((tmp_path / "look" / "missing.png").read_bytes()))
    assert image.size[0] > 400 and image.size[1] > 400


@pytest.mark.parametrize("repeated", [0, 1])
def test_patterns_of_single_samples_are_one_line(repeated, tmp_path, capsys) -> None:
    values = np.arange(64 * 8, dtype=float).reshape(64, 8) ** 1.5
    codes = (np.arange(64) + 1)[:, None] >> np.arange(8) & 1  # all different
    codes[:repeated] = codes[repeated : 2 * repeated]
    frame = pd.DataFrame(np.where(codes, np.nan, values), columns=list("abcdefgh"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run(["inspect", str(tmp_path / "t.csv")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    more = "62 more patterns" if repeated else "1 64 patterns"
    assert f"{more}, each of a single sample" in said


def test_the_picture_has_the_share_of_missing_values() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((500, 6)) > 0.25
    picture = missing_picture(Grid(present, list("abcdef"), ["u"] * 3 + ["v"] * 3))
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3).astype(int)
    yellow = (abs(pixels - [0xF2, 0xC1, 0x4E]).sum(1) < 30).sum()
    blue = (abs(pixels - [0x3B, 0x5B, 0x7D]).sum(1) < 30).sum()
    assert yellow / (yellow + blue) == pytest.approx((~present).mean(), abs=0.02)


def test_inspect_reads_named_data_and_arrays(tmp_path, capsys) -> None:
    assert run(["inspect", "shapes"]) == 0
    assert "square" in capsys.readouterr().out
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "x.npz", a=x, b=x[:, 0], b_present=np.arange(40) % 2)
    assert run(["inspect", str(tmp_path / "x.npz"), "--out", str(tmp_path / "o")]) == 0
    assert "b" in capsys.readouterr().out


SUSPICIOUS = {
    "a number that stands for nothing": (
        {"x": [*np.linspace(20, 60, 95), *[-999.0] * 5], "y": np.random.default_rng(0).random(100)},
        r"'x' has -999 in 5 rows, far from all other values.*empty: \[\"-999\"\]",
    ),
    "a value far away": (
        {"x": [*np.random.default_rng(0).normal(size=99), 1e4]},
        "'x' has 1 values more than 10 interquartile ranges.*10000",
    ),
    "words that differ in little": (
        {"x": ["Male", "male", "female", "x"] * 25},
        "'x' has categories that differ in little: 'Male', 'male'",
    ),
    "a constant": ({"x": np.arange(100) % 7 + 0.5, "y": [2.5] * 100}, "'y' is constant: 2.5"),
    "columns that say the same": (
        {"x": np.arange(100) ** 1.5, "y": 2 * np.arange(100) ** 1.5 + 3},
        "'x' and 'y' say the same",
    ),
    "copies": (
        {"x": np.tile(np.random.default_rng(0).random(50), 2), "y": np.tile(np.arange(50) / 7, 2)},
        "50 samples are copies of others",
    ),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_suspicious_values_are_told(tmp_path, case) -> None:

    columns, sentence = SUSPICIOUS[case]
    pd.DataFrame(columns).to_csv(tmp_path / "x.csv", index=False)
    about = summary(load_data(tmp_path / "x.csv"))
    assert re.search(sentence, "\n".join(about.suspicious)), about.suspicious


def test_what_is_harmless_is_not_suspicious(tmp_path) -> None:
    data = table().drop(columns=["comment #"])
    data.to_csv(tmp_path / "x.csv", index=False)
    assert list(summary(load_data(tmp_path / "x.csv")).suspicious) == []


# Recommended methods.


def splits(tmp_path, modalities, present):
    """Vectors, of which each sample has what `present` says, (N, M) bool."""
    rng = np.random.default_rng(0)
    arrays = {f"m{k}": rng.normal(size=(len(present), 2)) for k in range(modalities)}
    arrays |= {f"m{k}_present": present[:, k] for k in range(modalities)}
    np.savez(tmp_path / "x.npz", **arrays)
    return load_data(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("modalities", "share", "method"),
    [
        (1, 1.0, "vae"),
        (2, 1.0, "jnf"),
        (2, 0.2, "meme"),
        (3, 1.0, "jmvae_two_stage"),
        (6, 1.0, "mvtcae"),
        (6, 0.5, "jmvae_two_stage"),
    ],
)
def test_a_method_is_recommended(tmp_path, modalities, share, method) -> None:
    rng = np.random.default_rng(1)
    present = rng.random((100, modalities)) < share
    present[np.arange(100), rng.integers(0, modalities, 100)] = True
    found = recommended(splits(tmp_path, modalities, present))
    assert found.method == method and found.reason


def test_miwae_is_recommended_for_tables(tmp_path) -> None:
    data = table().drop(columns="comment #")
    for name, rows in (("holes", data), ("whole", data.dropna())):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        assert recommended(load_data(tmp_path / f"{name}.csv")).method == "miwae"


def test_texts_beside_a_table_are_not_decoded_for_many_draws(file) -> None:
    """MIWAE decodes them for each of its 20 draws in training, and of 1,000 in filling."""
    data = load_data(file)
    assert {m.kind for m in data.modalities} == {"table", "text"}
    assert recommended(data).method == "jnf"


def test_a_table_is_no_recipe(file, capsys) -> None:
    assert run(["train", str(file)]) == 2
    assert f"polymodal init {file} makes a recipe of it" in capsys.readouterr().err


def test_described_and_loaded_data_are_the_same(file) -> None:
    run(["init", str(file)])
    section = read_section(file.with_suffix(".yaml"))
    one, other = read_described(section, "mine").splits, load_data(file)
    for part in ("train", "val", "test"):
        a, b = one.parts[part].tables["table"], other.parts[part].tables["table"]
        np.testing.assert_array_equal(a.numpy(), b.numpy())
