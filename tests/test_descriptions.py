"""Descriptions of a user's files: joins, parts, statistics, new rows, what bad ones are told."""

import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polymodal.data import load_data, read_rows
from polymodal.data.described import read_described
from polymodal.data.description import Split, read_section
from polymodal.data.joining import random_parts
from polymodal.experiments.changes import Changes
from polymodal.settings.data import load_splits
from polymodal.settings.recipes import load_recipe
from polymodal.settings.resolve import resolve, to_dict

N = 60


def people(n=N, seed=0):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "id": [f"p{k}" for k in range(n)],
            "age": rng.normal(50, 9, n).round(2),
            "city": rng.choice(["a", "b", "c"], n),
            "note": [f"a person of {rng.choice(['red', 'blue'])} hair {k}" for k in range(n)],
            "class": rng.choice(["yes", "no"], n),
            "fold": ["test"] * (n // 6) + ["val"] * (n // 6) + ["train"] * (n - n // 6 * 2),
            "group": [k // 3 for k in range(n)],
        }
    )
    data.loc[rng.random(n) < 0.3, "age"] = np.nan
    data.loc[rng.random(n) < 0.3, "city"] = np.nan
    return data


@pytest.fixture
def folder(tmp_path) -> Path:
    people().to_csv(tmp_path / "people.csv", index=False)
    lab = pd.DataFrame({"who": [f"p{k}" for k in range(10, N + 10)], "iron": np.arange(N) + 0.5})
    lab.sample(frac=1, random_state=0).to_parquet(tmp_path / "lab.parquet")
    return tmp_path


def write(folder, text) -> Path:
    (folder / "d.yaml").write_text(text)
    return folder / "d.yaml"


BODY = "modalities: {body: {columns: {age: real, city: category}}}"


def whole(data):
    """All parts of a data set, one after another: name -> values, NaN where absent."""
    values = {}
    for m in data.modalities:
        parts = []
        for part in data.parts.values():
            x = part.tables[m.name][part.rows_of(m.name)]
            x[~part.is_present(m.name)] = math.nan
            parts.append(x)
        values[m.name] = torch.cat(parts)
    return values


def test_a_table_alone_is_a_description(folder) -> None:
    data = load_data(folder / "people.csv")
    assert data.name == "people" and [m.name for m in data.modalities] == ["table", "note"]
    table, note = data.modalities
    # `class` and `fold` are columns like others until a description says more.
    names = [(c.name, c.type) for c in table.columns]
    assert names[:2] == [("age", "real"), ("city", "category")]
    assert ("id", "category") not in names and table.holes and table.scale is None
    assert note.kind == "text" and "hair" in note.vocabulary
    assert [len(p) for p in data.parts.values()] == [48, 6, 6]


def test_statistics_are_those_of_the_training_part(folder) -> None:
    data = load_data(write(folder, f"data: {{file: people.csv, split: fold, {BODY}}}"))
    (body,) = data.modalities
    train = people().query("fold == 'train'")["age"]
    assert body.location == pytest.approx((train.mean(), 0.0), rel=1e-5)
    assert body.spread == pytest.approx((train.std(ddof=0), 1.0), rel=1e-5)
    assert body.columns[1].categories == ("a", "b", "c")


def test_cells_are_those_of_the_file(folder) -> None:
    data = load_data(write(folder, f"data: {{file: people.csv, split: fold, {BODY}}}"))
    original = people()
    order = original["fold"].map({"train": 0, "val": 1, "test": 2}).argsort(kind="stable")
    original = original.iloc[order]
    kept = original[original["age"].notna() | original["city"].notna()]
    expected = np.stack([kept["age"], kept["city"].map({"a": 0, "b": 1, "c": 2})], 1).astype(
        np.float32
    )
    np.testing.assert_array_equal(whole(data)["body"].numpy(), expected)


def test_rows_without_any_value_are_left_out_of_training_and_kept_as_new_rows(folder) -> None:
    path = write(folder, f"data: {{file: people.csv, split: fold, {BODY}}}")
    read = read_described(read_section(path), "d")
    lost = int((people()["age"].isna() & people()["city"].isna()).sum())
    assert lost and sum(len(p) for p in read.splits.parts.values()) == N - lost
    assert sum("no value at all" in note for note in read.notes) >= 1
    rows = read_rows(read.splits.modalities, read_section(path), folder / "people.csv")
    assert len(rows) == N and int((~rows.is_present("body")).sum()) == lost


# Several files.


def test_keys_join_files_and_what_one_lacks_is_absent(folder) -> None:
    path = write(
        folder,
        "data:\n  file: people.csv\n  key: id\n  modalities:\n"
        "    body: {columns: [age, city]}\n"
        "    lab: {file: lab.parquet, key: who, columns: {iron: real}}\n",
    )
    read = read_described(read_section(path), "d")
    joined = read.joined
    assert len(joined) == N + 10 and (joined.rows["body"] == -1).sum() == 10
    assert (joined.rows["lab"] == -1).sum() == 10
    x, present = whole(read.splits)["lab"][:, 0], [p for p in read.parts.values()]
    samples = np.concatenate(present)
    lab = pd.read_parquet(folder / "lab.parquet").set_index("who")["iron"]
    # The samples of the main table come first, then those of the other.
    keys = [*people()["id"], *(who for who in lab.index if int(who[1:]) >= N)]
    expected = np.array([lab.get(keys[k], np.nan) for k in samples])
    np.testing.assert_array_equal(x.numpy(), expected.astype(np.float32))


def test_files_without_keys_are_paired_by_row(folder) -> None:
    path = write(
        folder,
        "data: {file: people.csv, split: fold, modalities: {body: {columns: [city, age]},"
        " lab: {file: lab.parquet, columns: [iron]}}}",
    )
    data = load_data(path)
    iron = pd.read_parquet(folder / "lab.parquet")["iron"].to_numpy()
    iron = np.concatenate([iron[20:], iron[10:20], iron[:10]])  # train, val, test
    np.testing.assert_array_equal(whole(data)["lab"][:, 0].numpy(), iron.astype(np.float32))
    pd.read_parquet(folder / "lab.parquet")[:9].to_parquet(folder / "lab.parquet")
    with pytest.raises(ValueError, match=r"need equally many rows, got 60 of body, 9 of lab"):
        load_data(path)


def test_texts_and_labels(folder) -> None:
    text = (
        "data: {file: people.csv, label: class, split: fold, modalities: {note: {source: text,"
        " column: note}, body: {columns: [age]}}}"
    )
    data = load_data(write(folder, text))
    assert data.train.classes == ("no", "yes")
    labels = torch.cat([p.label for p in data.parts.values()])
    said = [int(c == "yes") for c in people()["class"]]
    assert labels.tolist() == [*said[20:], *said[10:20], *said[:10]]
    assert [m.kind for m in data.modalities] == ["text", "table"]


# Parts.


@given(st.integers(5, 200), st.integers(0, 9))
def test_random_parts_are_disjoint_complete_and_seeded(count, seed) -> None:
    parts = random_parts(count, Split(), seed)
    assert sorted(np.concatenate([*parts.values()])) == list(range(count))
    assert all(len(rows) for rows in parts.values())
    again = random_parts(count, Split(), seed)
    assert all((again[k] == parts[k]).all() for k in parts)
    fixed = random_parts(count, Split(seed=3), seed)
    assert all((fixed[k] == random_parts(count, Split(seed=3), 99)[k]).all() for k in parts)


@given(st.lists(st.sampled_from("abcdefg"), min_size=30, max_size=60), st.integers(0, 9))
def test_groups_stay_together(groups, seed) -> None:
    words = [*groups, *"abcdefg"]
    parts = random_parts(len(words), Split(), seed, words)
    owners = {part: {words[k] for k in rows} for part, rows in parts.items()}
    assert not owners["train"] & owners["val"] and not owners["train"] & owners["test"]
    assert not owners["val"] & owners["test"]


def test_a_column_of_groups(folder) -> None:
    text = f"data: {{file: people.csv, split: {{val: .3, test: .2, by: group}}, {BODY}}}"
    read = read_described(read_section(write(folder, text)), "d")
    groups = [set(people()["group"][rows]) for rows in read.parts.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_parts_that_a_column_does_not_name_are_split_off(folder) -> None:
    data = people()
    data["fold"] = ["training"] * (N - 10) + ["test"] * 10
    data["age"] = np.arange(N) + 0.5
    data.to_csv(folder / "people.csv", index=False)
    text = f"data: {{file: people.csv, split: fold, {BODY}}}"
    parts = load_data(write(folder, text)).parts
    assert [len(p) for p in parts.values()] == [45, 5, 10]
    assert (parts["test"].tables["body"][:, 0] > N - 10).all()


# New rows.


def test_new_rows_have_the_statistics_of_training(folder, caplog) -> None:
    section = read_section(write(folder, f"data: {{file: people.csv, {BODY}}}"))
    modalities = read_described(section, "d").splits.modalities
    (folder / "new.csv").write_text("city,other,age\nb,x,1.5\nz,y,\n,,NA\n")
    with caplog.at_level(logging.WARNING, "polymodal"):
        rows = read_rows(modalities, section, folder / "new.csv")
    assert rows.modalities == modalities
    expected = torch.tensor([[1.5, 1.0], [math.nan, math.nan], [math.nan, math.nan]])
    torch.testing.assert_close(rows.tables["body"], expected, equal_nan=True)
    assert rows.is_present("body").tolist() == [True, False, False]
    assert "has 'z', not among the categories of training, in 1 rows (first: line 3)" in caplog.text
    caplog.clear()
    (folder / "fewer.csv").write_text("city\na\n")
    with caplog.at_level(logging.WARNING, "polymodal"):
        assert read_rows(modalities, section, folder / "fewer.csv").tables["body"][0, 1] == 0
    assert "has no column 'age'; all of its cells are empty" in caplog.text
    with pytest.raises(ValueError, match=r"from a table or a description, got x.npz"):
        read_rows(modalities, section, "x.npz")


def test_new_rows_of_texts_and_absent_modalities(folder) -> None:
    section = {"file": "people.csv", "path": str(folder)}
    modalities = load_data(folder / "people.csv").modalities
    (folder / "new.csv").write_text("note,age\na person of red hair,\n,40\n")
    rows = read_rows(modalities, section, folder / "new.csv")
    assert rows.is_present("note").tolist() == [True, False]
    assert rows.is_present("table").tolist() == [False, True]
    (folder / "new.csv").write_text("age\n40\n")
    assert not read_rows(modalities, section, folder / "new.csv").is_present("note").any()


def test_new_files_by_another_description(folder) -> None:
    text = (
        "data: {file: people.csv, key: id, modalities: {body: {columns: [age, city]},"
        " lab: {file: lab.parquet, key: who, columns: [iron]}}}"
    )
    section = read_section(write(folder, text))
    modalities = load_data(folder / "d.yaml").modalities
    new = folder / "new"
    new.mkdir()
    people(9, seed=1).to_csv(new / "p.csv", index=False)
    (new / "new.yaml").write_text(f"data: {{file: p.csv, key: id, {BODY}}}")
    rows = read_rows(modalities, section, new / "new.yaml")
    assert len(rows) == 9 and not rows.is_present("lab").any()


# Recipes and runs.


def test_a_description_is_a_recipe_and_stays_in_the_settings(folder) -> None:
    path = write(folder, f"method: {{name: vae}}\ndata: {{file: people.csv, split: fold, {BODY}}}")
    settings = resolve(load_recipe(path))
    assert settings.data.path == str(folder) and settings.data.options["split"] == "fold"
    assert resolve(to_dict(settings)) == settings
    data = load_splits(settings.data, settings.modalities)
    assert whole(data)["body"].nan_to_num().equal(whole(load_data(path))["body"].nan_to_num())
    moved = folder / "moved"
    moved.mkdir()
    people(30, seed=2).to_csv(moved / "people.csv", index=False)
    assert sum(map(len, load_splits(settings.data, {}, str(moved)).parts.values())) < 31


def test_data_of_the_command_line_is_described_in_the_settings(folder) -> None:
    for name in ("people.csv", "d.yaml"):
        write(folder, f"data: {{file: people.csv, {BODY}}}")
        recipe = Changes((), str(folder / name)).read("jnf")
        settings = resolve(recipe)
        assert settings.data.options["file"] == "people.csv" and settings.data.name is None
    by_name = resolve({"data": {"name": str(folder / "people.csv"), "label": "class"}})
    assert by_name.data.options == {"file": "people.csv", "label": "class"}
    assert by_name.data.path == str(folder)


def test_limits_seeds_and_patterns_hold_for_descriptions(folder) -> None:
    path = write(folder, f"data: {{file: people.csv, key: id, limit: 5, {BODY}}}")
    settings = resolve(load_recipe(path), ["data.seed=3"])
    data = load_splits(settings.data, {})
    assert len(data.train) == 5
    other = load_splits(resolve(load_recipe(path)).data, {})
    assert not whole(data)["body"].nan_to_num().equal(whole(other)["body"].nan_to_num())


def test_shared_settings_of_a_description_hold_everywhere(folder) -> None:
    path = write(folder, f"data: {{file: people.csv, limit: 5, seed: 3, {BODY}}}")
    data, other = load_data(path), load_splits(resolve(load_recipe(path)).data, {})
    assert len(data.train) == 5
    assert whole(data)["body"].nan_to_num().equal(whole(other)["body"].nan_to_num())
    section = to_dict(resolve(load_recipe(path)))["data"]
    assert len(read_rows(data.modalities, section, folder / "people.csv")) == N


# Bad descriptions.

BAD = {
    "no files": ("data: {name: shapes}", "describes no files; write data: {file: TABLE}"),
    "no data": ("method: {name: jnf}", "describes no files"),
    "an unknown field": ("data: {file: people.csv, keys: id}", "no setting data.keys.*data.key"),
    "an unknown source": (
        "data: {file: people.csv, modalities: {a: {source: tabel}}}",
        "no source 'tabel' for data.modalities.a. Did you mean table",
    ),
    "an unknown field of a source": (
        "data: {file: people.csv, modalities: {a: {colums: [age]}}}",
        "no setting data.modalities.a.colums. Did you mean data.modalities.a.columns",
    ),
    "an unknown column": (
        "data: {file: people.csv, modalities: {a: {columns: [agee]}}}",
        "no column 'agee' in .*people.csv. Did you mean age",
    ),
    "an unknown type": (
        "data: {file: people.csv, modalities: {a: {columns: {age: reel}}}}",
        "data.modalities.a.columns",
    ),
    "an unknown text column": (
        "data: {file: people.csv, modalities: {a: {source: text, column: notes}}}",
        "no column 'notes'.*Did you mean note",
    ),
    "a file that is not there": ("data: {file: none.csv}", "There is no file .*none.csv"),
    "a path that climbs": ("data: {file: ../x.csv}", "relative to its folder and stay in it"),
    "an absolute path": ("data: {file: /etc/passwd}", "relative to its folder and stay in it"),
    "a path of a home": ("data: {file: ~/x.csv}", "relative to its folder and stay in it"),
    "a folder": ("data: {file: people.csv, path: /tmp}", "data.path of .* must be left out"),
    "no table": (
        "data: {modalities: {a: {columns: [age]}}}",
        "names no table; write file: into data or modalities",
    ),
    "keys that come twice": (
        "data: {file: people.csv, key: city}",
        "has (the key|no key)",
    ),
    "keys of one file": (
        "data: {file: people.csv, modalities: {a: {columns: [age]}, b: {file: lab.parquet,"
        " key: who}}}",
        r"\['b'\] have keys and \['a'\] have none",
    ),
    "an empty label": ("data: {file: people.csv, label: city}", "label 'city' is empty in"),
    "a column that is no split": (
        "data: {file: people.csv, split: note}",
        "'note' of split: must say train, val, test for every sample, got 'a person",
    ),
    "a share above 1": (
        "data: {file: people.csv, split: {val: 2}}",
        "data.split.val must be a number from 0 to 1",
    ),
    "shares that leave nothing": (
        "data: {file: people.csv, split: {val: .6, test: .5}}",
        "60 samples are too few",
    ),
    "a text as real": (
        "data: {file: people.csv, modalities: {a: {columns: {note: real}}}}",
        "'note' of type real must hold numbers, got words",
    ),
    "too many values of a boolean": (
        "data: {file: people.csv, modalities: {a: {columns: {city: boolean}}}}",
        "'city' of type boolean must have two values",
    ),
    "only a key": (
        "data: {file: people.csv, modalities: {a: {columns: [id]}}}",
        "'a' has no column that can be used .id: every row has another word",
    ),
    "a date in another format": (
        "data: {file: people.csv, modalities: {a: {columns: {city: {type: real,"
        ' date: "%d/%m/%Y"}}}}}',
        "'city' must hold dates in the format",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_descriptions_are_told_in_one_sentence(folder, case) -> None:
    text, sentence = BAD[case]
    with pytest.raises(ValueError, match=f"(?s)^[^\n]*{sentence}[^\n]*$"):
        load_data(write(folder, text))


def test_wrong_arguments_are_told(folder) -> None:
    with pytest.raises(ValueError, match=r"There is no setting data.lable. Did you mean"):
        load_data(folder / "people.csv", lable="class")
    with pytest.raises(ValueError, match=r"There is no file .*none.csv"):
        load_data("none.csv")
    with pytest.raises(ValueError, match=r"There is no setting data.colour"):
        resolve({"data": {"file": "people.csv", "colour": 3}})
