"""Data that stay on disk: the same weights to the last bit as in memory, wherever the data come
from, and after a run was stopped; no more is read ahead than a few batches, and nothing is left.
"""

import errno
import os
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image

from polymodal import fit
from polymodal.batch import Batch, Modality
from polymodal.data import Dataset, load_data
from polymodal.data.hashing import digests_of
from polymodal.data.mapped import where, within
from polymodal.data.readers import mapped as mapped_reader
from polymodal.data.readers.mapped import Room
from polymodal.data.rows import AHEAD, gather
from polymodal.model import Stage
from polymodal.training.prepare import prepared
from polymodal.training.stage_trainer import StageTrainer

N = 300
TINY = 1e-5  # GB, less than any of the data here


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    from polymodal.data.readers import decoded

    folder = tmp_path / "cache"
    monkeypatch.setattr(mapped_reader, "cache_folder", lambda: folder)
    monkeypatch.setattr(decoded, "cache_folder", lambda: folder)
    return folder


def arrays() -> dict[str, np.ndarray]:
    """Holes, other types and orders in memory, images of both orders of axes, a mask, labels."""
    draw = np.random.default_rng(0)
    z = draw.normal(size=(N, 3))
    numbers = (z @ draw.normal(size=(3, 6))).astype(np.float32)
    numbers[draw.random(numbers.shape) < 0.1] = np.nan
    numbers[::40] = np.nan
    return {
        "numbers": numbers,
        "double": z @ draw.normal(size=(3, 5)),
        "columns": np.asfortranarray(z @ draw.normal(size=(3, 4))),
        "last": draw.integers(0, 256, (N, 8, 8, 3), np.uint8),
        "first": draw.integers(0, 256, (N, 3, 8, 8), np.uint8),
        "double_present": draw.random(N) < 0.8,
        "label": draw.integers(0, 3, N),
    }


def recipe(data, memory, method="jmvae", **training):
    return {
        "data": {"path": str(data), "memory": memory},
        "method": {"name": method, "latent": 2},
        "training": {"epochs": 2, "batch": 64, "progress": False, **training},
    }


def same(a, b) -> bool:
    """Whether two runs have the same weights and the same losses, to the last bit."""
    first, second = a.model.state_dict(), b.model.state_dict()
    losses = [
        [
            {k: v for k, v in row.items() if k != "seconds"}
            for row in run.log.frame().to_dict("records")
        ]
        for run in (a, b)
    ]
    return (
        first.keys() == second.keys()
        and all(torch.equal(v, second[k]) for k, v in first.items())
        and str(losses[0]) == str(losses[1])
    )


@pytest.mark.parametrize("packed", [False, True], ids=["as they are", "packed"])
@pytest.mark.parametrize("method", ["jmvae", "jnf"])  # jnf keeps what its first stage gives
def test_arrays_on_disk_give_the_weights_of_memory(packed, method, tmp_path) -> None:
    file = tmp_path / "x.npz"
    (np.savez_compressed if packed else np.savez)(file, **arrays())
    runs = [fit(recipe(file, memory, method)) for memory in ("auto", TINY)]
    assert same(*runs)
    assert not load_data(str(file)).train.streamed
    data = load_data(str(file), memory=TINY)
    assert data.train.streamed and "stay where they are" in where(data, TINY)
    assert data.train.tables["last"].data_ptr() == data.test.tables["last"].data_ptr()


def test_an_array_is_not_written_again_if_it_can_be_mapped_as_it_is(tmp_path, cache) -> None:
    held = arrays()
    np.savez(tmp_path / "x.npz", **{k: held[k] for k in ("numbers", "last", "label")})
    np.savez(tmp_path / "y.npz", **{k: held[k] for k in ("double", "first")})
    assert load_data(str(tmp_path / "x.npz"), memory=TINY).train.streamed
    assert not cache.exists()
    load_data(str(tmp_path / "y.npz"), memory=TINY)
    files = sorted(cache.rglob("*"))
    load_data(str(tmp_path / "y.npz"), memory=TINY)
    assert sorted(cache.rglob("*")) == files and len(files) == 3  # a folder, two tables


def test_holes_of_the_test_part_alone_are_not_those_of_training(tmp_path) -> None:
    x = np.ones((40, 3), np.float32)
    x[:, 0] = np.arange(40)
    x[35:, 1] = np.nan
    table = pd.DataFrame({"part": ["train"] * 30 + ["val"] * 5 + ["test"] * 5})
    table.to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "d.yaml").write_text(
        "data: {file: t.csv, split: part, modalities: {x: {source: array, file: x.npy}}}"
    )
    for memory in ("auto", 1e-7):
        data = load_data(str(tmp_path / "d.yaml"), memory=memory)
        assert data.train.streamed is (memory != "auto")
        assert data.train.holes == frozenset() and data.test.holes == {"x"}
        assert not data.modalities[0].holes


def test_described_data_on_disk_give_the_weights_of_memory(tmp_path) -> None:
    held, draw = arrays(), np.random.default_rng(1)
    (tmp_path / "photos").mkdir()
    for k in range(0, N, 2):  # half of the samples have none
        pixels = draw.integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"s{k}.png")
    ids = np.array([f"s{k}" for k in range(N)])
    np.savez(tmp_path / "x.npz", values=held["double"], holes=held["numbers"], ids=ids)
    frame = pd.DataFrame({"id": ids, "size": draw.normal(size=N)})
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "d.yaml").write_text(
        "data: {file: t.csv, key: id, modalities: {"
        " values: {source: array, file: x.npz, array: values, key: ids},"
        " holes: {source: array, file: x.npz, array: holes, key: ids},"
        " photo: {source: images, folder: photos}, row: {columns: [size]}}}"
    )
    runs = []
    for memory in (100, TINY):
        settings = recipe("", memory)
        settings["data"] = {"memory": memory}
        runs.append(fit(settings, str(tmp_path / "d.yaml")))
    assert same(*runs)
    assert load_data(str(tmp_path / "d.yaml"), memory=TINY).train.streamed


def test_a_run_on_disk_is_resumed_bit_for_bit_also_in_memory(tmp_path, monkeypatch) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, **arrays())
    whole = fit(recipe(file, TINY, "jnf"))
    step, at = StageTrainer._train_step, []

    def stopping(self, *args):
        at.append(0)
        if len(at) == 12:  # in the second stage
            raise KeyboardInterrupt
        return step(self, *args)

    for memory in (TINY, "auto"):
        at.clear()
        out = tmp_path / f"run {memory}"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(StageTrainer, "_train_step", stopping)
            fit(recipe(file, TINY, "jnf", checkpoint_minutes=0), out=out)
        resumed = fit(recipe(file, memory, "jnf", checkpoint_minutes=0), out=out)
        assert same(whole, resumed)
        assert not [p for p in out.iterdir() if p.suffix in (".npy", ".tmp")]
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


@pytest.mark.parametrize("mode", ["r", "c"])
def test_arrays_that_a_user_mapped_stay_mapped(mode, tmp_path, recwarn) -> None:
    held = {k: v for k, v in arrays().items() if k in ("numbers", "last", "first")}
    for name, x in held.items():
        np.save(tmp_path / f"{name}.npy", x)
    given = {name: np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in held}
    data = load_data(given)
    assert data.train.streamed and not recwarn.list
    for name in ("numbers", "last"):
        assert data.train.tables[name].data_ptr() == given[name].ctypes.data
    whole = load_data(held)
    rows = torch.arange(20)
    for m in held:
        assert torch.equal(
            data.val.batch(rows).x[m].nan_to_num(), whole.val.batch(rows).x[m].nan_to_num()
        )


# Reading ahead.


def streamed() -> Dataset:
    held = arrays()
    modalities = [Modality("numbers", (6,)), Modality("last", (3, 8, 8), link="sigmoid")]
    last = torch.from_numpy(held["last"]).permute(0, 3, 1, 2)
    tables = {"numbers": torch.from_numpy(held["numbers"]), "last": last}
    index = {"last": torch.arange(N).flip(0)}
    kept = {"k": torch.arange(2.0 * N).reshape(N, 2)}
    return Dataset(modalities, tables, index, label=held["label"], kept=kept)


def test_batches_that_are_read_ahead_are_the_same_and_few(monkeypatch) -> None:
    data = streamed()
    parts = torch.randperm(N).split(7)
    reads = []
    read = Dataset.read
    monkeypatch.setattr(Dataset, "read", lambda self, s: reads.append(s) or read(self, s))
    batches = data.stream().read_ahead(parts)
    for k, (batch, rows) in enumerate(zip(batches, parts, strict=True)):
        assert len(reads) <= k + AHEAD + 1
        plain = data.batch(rows)
        reads.pop()
        for m in data.names:
            assert torch.equal(batch.x[m].nan_to_num(), plain.x[m].nan_to_num())
            assert batch.x[m].stride() == plain.x[m].stride()
        assert torch.equal(batch.label, plain.label)
        assert torch.equal(batch.kept["k"], plain.kept["k"])
        assert torch.equal(batch.present["numbers"], plain.present["numbers"])


def test_an_error_of_the_reader_is_raised_and_its_thread_ends() -> None:
    data = streamed().stream()
    with pytest.raises(IndexError):
        list(data.read_ahead([torch.tensor([0]), torch.tensor([N])]))
    batches = data.read_ahead(torch.arange(N).split(2))
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


def test_statistics_and_sentences_are_those_of_memory(tmp_path) -> None:
    plain, data = streamed(), streamed().stream()
    for m in data.names:
        for a, b in zip(plain.exact_moments(m), data.exact_moments(m), strict=True):
            assert torch.equal(a, b)
    part = data.take(torch.arange(9)).first(5)
    assert part.streamed and len(part) == 5 and part.to("cpu").streamed
    table = plain.tables["numbers"].clone()
    table[7, 1] = table[250, 2] = float("inf")
    sentences = []
    for given in (plain, data):
        with pytest.raises(ValueError, match="2 values that are infinite, in 2 of 300") as error:
            replace(given, tables={**given.tables, "numbers": table}).check()
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1] and "[7, 250]" in sentences[0]


def test_digests_are_of_values_not_of_how_they_are_stored() -> None:
    data, rows = streamed(), torch.arange(N).flip(0)
    turned, table = data.take(rows).stream(), data.tables["numbers"]
    moved = replace(data, tables={**data.tables, "numbers": table[rows]})
    assert torch.equal(digests_of(turned)["numbers"], digests_of(moved)["numbers"])
    assert not torch.equal(digests_of(turned)["numbers"], digests_of(data)["numbers"])


def test_splits_in_memory_are_streamed_if_less_is_permitted() -> None:
    data = load_data("shapes", n=60)
    assert within(data, "auto") is data and within(data, 1) is data
    small = within(data, TINY)
    assert all(part.streamed for part in small.parts.values())
    settings = {**recipe("", TINY), "data": {"name": "shapes", "n": 60, "memory": TINY}}
    other = {**settings, "data": {"name": "shapes", "n": 60}}
    assert same(fit(settings), fit(other))


# What stages prepare.


def change(model, batch: Batch) -> Batch:
    """Another modality changes from the second batch on; values of two types are kept."""
    x = dict(batch.x)
    if batch.label[0] != 0:
        x["numbers"] = 2 * x["numbers"]
    x["last"] = x["last"].mean((1, 2, 3), keepdim=True)[..., 0, 0]
    x["new"] = torch.ones(len(batch), 2)
    kept = {"order": batch.kept["k"].long(), "half": batch.kept["k"] / 2}
    return Batch(x, batch.present, batch.label, kept)


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
def test_what_is_prepared_is_the_same_in_files(on_disk, tmp_path) -> None:
    label = np.array([0] * 50 + [1] * (N - 50))
    given = replace(streamed(), label=label, classes=())
    stage = Stage("s", None, [], change)
    data = prepared(stage, None, given, 10)
    room = Room(0, tmp_path)
    other = prepared(stage, None, given.stream() if on_disk else given, 10, room=room)
    assert other.streamed and not data.streamed
    assert data.names == other.names == ["numbers", "last", "new"]
    numbers = given.tables["numbers"].nan_to_num()
    doubled = torch.cat([numbers[:50], 2 * numbers[50:]])
    assert torch.equal(data.tables["numbers"].nan_to_num(), doubled)
    for m in data.names:
        rows = data.rows_of(m), other.rows_of(m)
        a, b = (gather(d.tables[m], r) for d, r in zip((data, other), rows, strict=True))
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    for k in data.kept:
        assert torch.equal(data.kept[k], other.kept[k])
        assert data.kept[k].dtype == other.kept[k].dtype
    assert not list(tmp_path.iterdir())  # files without a name


def test_a_full_disk_is_told_in_one_sentence(tmp_path, monkeypatch) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="cannot be written: there is no space left"):
        Room(0, tmp_path).empty((10, 2), torch.float32, torch.device("cpu"))


def test_an_array_that_is_cut_off_is_refused(tmp_path) -> None:
    np.save(tmp_path / "x.npy", arrays()["double"])
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-8])
    (tmp_path / "d.yaml").write_text("data: {modalities: {x: {source: array, file: x.npy}}}")
    for memory in ("auto", TINY):
        with pytest.raises(ValueError, match="fewer values than its shape says"):
            load_data(str(tmp_path / "d.yaml"), memory=memory)


# Tables.


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_typed_tables_on_disk_give_the_weights_of_memory(suffix, tmp_path, cache) -> None:
    draw, file = np.random.default_rng(0), tmp_path / f"t{suffix}"
    columns = {f"a.{k}": draw.normal(size=N) for k in range(3)}
    table = pd.DataFrame(
        columns | {"b.size": np.exp(draw.normal(size=N)), "b.is": draw.random(N) < 0.5}
    )
    dose = pd.Categorical(draw.choice(["low", "mid", "high"], N), ["low", "mid", "high"], True)
    table = table.assign(**{"b.dose": dose, "b.word": draw.choice(list("xyz"), N)})
    table.loc[draw.random(N) < 0.1, "a.1"] = np.nan
    table.loc[:30, "b.word"] = None
    if suffix == ".parquet":
        table.to_parquet(file, row_group_size=70)
    else:
        table.to_feather(file)
    runs = []
    for memory in (100, 1e-6):
        settings = {**recipe("", memory), "data": {"memory": memory}}
        runs.append(fit(settings, str(file)))
        assert load_data(str(file), memory=memory).train.streamed is (memory < 1)
    assert same(*runs)
    assert [c.type for c in load_data(str(file), memory=1e-6).modalities[1].columns] == [
        "positive",
        "boolean",
        "ordinal",
        "category",
    ]
    assert len(list(cache.rglob("*.arrows"))) == 1


def test_words_that_training_did_not_have_are_told_also_of_large_tables(tmp_path, caplog) -> None:
    part = ["train"] * 40 + ["val"] * 5 + ["test"] * 5
    word = ["x", "y"] * 22 + ["z"] + ["x"] + ["z"] * 4
    pd.DataFrame({"word": word, "n": np.arange(50) / 3, "part": part}).to_parquet(
        tmp_path / "t.parquet"
    )
    (tmp_path / "d.yaml").write_text(
        "data: {file: t.parquet, split: part, modalities:"
        " {a: {columns: {word: category}}, b: {columns: [n]}}}"
    )
    data = load_data(str(tmp_path / "d.yaml"), memory=1e-7)
    assert data.test.streamed and "'z', not among the categories" in caplog.text
    assert data.test.is_present("a").tolist() == [True] + [False] * 4


def test_a_table_that_grows_too_much_is_refused_not_unpacked(tmp_path, cache, monkeypatch) -> None:
    from polymodal.data.tables import arrow

    pd.DataFrame({f"c{k}": np.zeros(400_000) for k in range(3)}).to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(arrow, "MAX_MB", 0.05)
    with pytest.raises(ValueError, match="MB in memory, more than 0 MB"):
        load_data(str(tmp_path / "t.parquet"), memory=1e-6)
    assert not cache.exists()


@pytest.mark.parametrize("sparse", [True, False])
def test_cells_that_are_large_when_dense_give_the_weights_of_memory(
    sparse, tmp_path, cache
) -> None:
    anndata = pytest.importorskip("anndata")
    draw = np.random.default_rng(0)
    x = draw.poisson(draw.gamma(1.0, size=(120, 1)) * draw.gamma(1.0, size=9)).astype(np.float32)
    x = scipy.sparse.csr_matrix(x) if sparse else x
    data = anndata.AnnData(x, obsm={"X_pca": draw.normal(size=(120, 4))})
    data.obs_names = [f"c{k}" for k in range(120)]
    data.var_names = [f"g{k}" for k in range(9)]
    data.write_h5ad(tmp_path / "c.h5ad")
    (tmp_path / "d.yaml").write_text(
        "data: {file: c.h5ad, modalities: {rna: {source: cells, features: 6},"
        " pca: {source: cells, obsm: X_pca}}}"
    )
    runs = []
    for memory in (100, 1e-6):
        settings = {**recipe("", memory), "data": {"memory": memory}}
        runs.append(fit(settings, str(tmp_path / "d.yaml")))
    assert same(*runs) and len(list(cache.rglob("*.npy"))) == 2
