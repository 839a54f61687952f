"""Every kind of bad data at every door: one sentence, or the default that the page names."""

import re
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bad_data
from bad_data import GROUPS, KINDS, PAGE, Kind, page, people, text
from bad_inputs import fault_of_sentence
from polymodal import Imputer, fit, load_data
from polymodal.cli.main import run
from polymodal.data.readers import decoded as decoded_reader

SMALL = "training.epochs=1 training.progress=false method.hidden=8 method.latent=2".split()
QUICK = {"hidden": 8, "k": 2, "eval_every": 1}
FILES = [k for k in KINDS if k.group != "In Python"]
READ = [k for k in FILES if not k.new]
REFUSED = [k for k in READ if k.says]
ACCEPTED = [k for k in READ if not k.says]
DESCRIBED = (".csv", ".tsv", ".gz", ".parquet", ".h5ad")  # what `init` takes


def name(kind: Kind) -> str:
    return f"{kind.group}: {kind.came}"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder in which commands run, and a cache of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(decoded_reader, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a good table."""
    folder = tmp_path_factory.mktemp("run")
    people().to_csv(folder / "people.csv", index=False)
    out = folder / "run"
    fit("miwae", folder / "people.csv", out=out, epochs=1, latent=2, progress=False, **QUICK)
    return out


def pattern(sentence: str) -> str:
    return re.escape(sentence).replace("…", ".+")


def listed(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def train(file: str) -> int:
    method = "miwae" if file.endswith(DESCRIBED[:4]) else "jmvae"
    given = [file, "method.name=jmvae"] if file.endswith(".yaml") else [method, "--data", file]
    return run(["train", *given, "--out", "run", *SMALL])


def sentence_of(errors: str) -> str:
    """The last line, below what is logged."""
    return errors.strip().splitlines()[-1]


@pytest.mark.parametrize("kind", REFUSED, ids=name)
def test_a_kind_is_refused_in_its_sentence_and_nothing_is_left(kind, place, capsys) -> None:
    file = kind.make(place)
    before = listed(place)
    doors = [lambda: run(["inspect", file]), lambda: train(file)]
    if file.endswith(DESCRIBED):
        doors.append(lambda: run(["init", file]))
    for door in doors:
        assert door() == 2
        said = sentence_of(capsys.readouterr().err)
        assert re.fullmatch(pattern(kind.says), said), said
        assert not fault_of_sentence(said), said
        assert listed(place) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ACCEPTED, ids=name)
def test_a_kind_with_a_default_is_said_trained_and_filled(kind, place, capsys) -> None:
    file = kind.make(place)
    assert run(["inspect", file]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(kind.shows.replace(" +", " "), said), said
    if file.endswith(DESCRIBED):
        assert run(["init", file]) == 0
    assert train(file) == 0
    if file.endswith(DESCRIBED[:4]) and "Pictures" != kind.group:
        out = f"filled{file[file.index('.') :]}"
        assert run(["impute", "run", file, "--out", out, "--proposals", "20"]) == 0
        assert (place / out).exists()


@pytest.mark.parametrize("kind", [k for k in FILES if k.new], ids=name)
def test_a_kind_of_new_rows(kind, place, trained, capsys, caplog) -> None:
    file = kind.make(place)
    before = listed(place)
    status = run(["impute", str(trained), file, "--out", "filled.csv", "--proposals", "20"])
    told = capsys.readouterr()
    if kind.says:
        assert status == 2 and re.fullmatch(pattern(kind.says), sentence_of(told.err)), told.err
        assert listed(place) == before
    else:
        assert status == 0 and re.search(kind.shows, told.out + told.err + caplog.text)
        filled, came = pd.read_csv("filled.csv"), pd.read_csv(file)
        assert list(filled) == list(came) and not filled.isna().any(axis=None)
        assert filled.where(came.notna()).equals(came)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [k for k in KINDS if k.group == "In Python"], ids=name)
def test_a_kind_in_python(kind) -> None:
    imputer = Imputer(epochs=1, latent=2, proposals=20, settings=QUICK, random_state=0)
    x = kind.make()
    if kind.says:
        with pytest.raises(ValueError) as caught:
            imputer.fit(x)
        assert re.fullmatch(pattern(kind.says), str(caught.value))
        assert not fault_of_sentence(str(caught.value))
        return
    done = imputer.fit(x).transform(kind.make())
    assert done.columns.equals(x.columns) and done.index.equals(x.index)
    assert not done.isna().any(axis=None)
    assert (done.dtypes == x.dtypes).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [k for k in KINDS if k.group == "In Python"], ids=name)
def test_no_kind_in_python_is_another_error(kind) -> None:
    for door in (load_data, lambda x: fit("jmvae", x, epochs=1, progress=False, hidden=8)):
        try:
            door(kind.make())
        except ValueError as error:
            assert not fault_of_sentence(str(error)), error


def test_there_are_sixty_kinds_and_each_is_another() -> None:
    assert len(KINDS) >= 60 and {k.group for k in KINDS} == set(GROUPS)
    assert max(Counter(map(name, KINDS)).values()) == 1
    sentences = Counter(k.says for k in KINDS if k.says)
    assert max(sentences.values()) <= 2
    for kind in KINDS:
        assert bool(kind.says) != bool(kind.does)
        assert kind.says or kind.shows or kind.group == "In Python", kind.came


def test_the_page_is_current() -> None:
    """`python tests/bad_data.py` writes it."""
    assert PAGE.read_text() == page()


# Any table and any bytes: read, or one sentence.

PLAIN = "1 2.5 -3 1e9 1e400 inf nan NA ? - 2020-01-02 31/12/2020 007 5% $3 1,5 yes no é <b> None"
WORDS = st.sampled_from([*PLAIN.split(), "", " ", '"', "a\nb", "a b c d", "\u202e", "1" * 40])


def answer(read) -> None:
    """Raises unless something is read, or refused in one sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except ValueError as error:
            assert type(error) is ValueError and not fault_of_sentence(str(error)), error


@given(st.lists(st.lists(WORDS, min_size=3, max_size=3), min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_any_table_is_read_or_refused(tmp_path_factory, rows, data) -> None:
    frame = pd.DataFrame(rows * data.draw(st.integers(1, 6)), columns=["a", "b", "c"])
    path = tmp_path_factory.mktemp("t") / "people.csv"
    frame.to_csv(path, index=False, sep=data.draw(st.sampled_from(",;\t")))
    answer(lambda: load_data(path))


@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from([".csv", ".csv.gz", ".npz"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, cut, ending) -> None:
    folder = tmp_path_factory.mktemp("b")
    whole = text().encode() if ending.startswith(".csv") else b"PK\x03\x04"
    for k, some in enumerate((content, whole[:cut] + content + whole[cut:])):
        (folder / f"x{k}{ending}").write_bytes(some)
        answer(lambda k=k: load_data(folder / f"x{k}{ending}"))


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_any_damage_to_a_typed_table_is_read_or_refused(tmp_path_factory, at, content) -> None:
    path = tmp_path_factory.mktemp("p") / "x.parquet"
    people().to_parquet(path)
    damaged = bytearray(path.read_bytes())
    damaged[at % len(damaged) : at % len(damaged) + len(content)] = content
    path.write_bytes(damaged)
    answer(lambda: load_data(path))


def test_data_in_memory_are_those_of_files(tmp_path) -> None:
    """A DataFrame is read as its CSV, arrays as their .npz, and labels beside DataFrames too."""
    frame = people()
    frame.to_csv(tmp_path / "table.csv", index=False)
    ours, theirs = load_data(frame, label="city"), load_data(tmp_path / "table.csv", label="city")
    assert ours.train.classes == theirs.train.classes
    for one, other in zip(ours.modalities, theirs.modalities, strict=True):
        columns = zip(one.columns, other.columns, strict=True)  # only text shows its decimals
        same = tuple(
            replace(c, dtype=d.dtype if "decimal" in d.dtype else c.dtype) for c, d in columns
        )
        assert replace(one, columns=same) == other
    np.savez(tmp_path / "x.npz", a=bad_data.X, b=bad_data.Y, label=np.arange(60) % 2)
    held = load_data({"a": bad_data.X, "b": bad_data.Y, "label": np.arange(60) % 2})
    stored = load_data(tmp_path / "x.npz")
    assert held.modalities == stored.modalities
    assert torch.equal(held.train.tables["a"], stored.train.tables["a"])
    mixed = load_data({"t": frame, "x": bad_data.X, "label": list(frame["city"])})
    kinds = [(m.name, m.kind) for m in mixed.modalities]
    assert kinds == [("t", "table"), ("x", None)] and mixed.train.classes == (
        "Bern",
        "Oslo",
        "Rome",
    )
    assert mixed.train.is_present("x").all()
