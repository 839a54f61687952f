"""Sources beside tables: pictures, cells, arrays; what is read is what the files hold."""

import re
import sys

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image

from polymodal.cli.main import run
from polymodal.data import load_data, read_rows
from polymodal.data.described import read_described
from polymodal.data.description import read_section
from polymodal.data.readers import cells as cells_reader
from polymodal.data.readers import decoded as decoded_reader
from polymodal.data.rows import gather
from polymodal.data.sources.cells import feature_names
from polymodal.data.variable import most_variable

N = 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(decoded_reader, "cache_folder", lambda: folder)
    return folder


def picture(k: int, size=(64, 64), channels=3) -> np.ndarray:
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(k).integers(0, 256, shape, np.uint8)


def birds(tmp_path, size=(64, 64), channels=3, folder="photos"):
    """A table and a folder of pictures; every part is known: the first rows are for training."""
    root = tmp_path / "birds"
    (root / folder).mkdir(parents=True)
    for k in range(N):
        Image.fromarray(picture(k, size, channels)).save(root / folder / f"b{k}.png")
    rng = np.random.default_rng(0)
    pd.DataFrame(
        {
            "id": [f"b{k}" for k in range(N)],
            "file": [f"b{k}.png" for k in range(N)],
            "wing": rng.normal(size=N).round(2),
            "tail": rng.normal(size=N).round(2),
            "part": ["train"] * (N - 10) + ["val"] * 5 + ["test"] * 5,
        }
    ).to_csv(root / "birds.csv", index=False)
    return root


def described(root, photo="column: file, folder: photos", more=""):
    (root / "d.yaml").write_text(
        f"data: {{file: birds.csv, split: part, {more}"
        f" modalities: {{body: {{columns: [wing, tail]}},"
        f" photo: {{source: images, {photo}}}}}}}\n"
    )
    return read_described(read_section(root / "d.yaml"), "birds")


def values(described_, m="photo"):
    """Values of all samples in their order, NaN where absent."""
    parts = []
    for data in described_.splits.parts.values():
        x = gather(data.tables[m], data.rows_of(m))
        parts.append(
            x.masked_fill(~data.is_present(m).reshape(-1, *[1] * (x.dim() - 1)), torch.nan)
        )
    return torch.cat(parts)


def sentence(root, match, photo="column: file, folder: photos", more=""):
    with pytest.raises(ValueError, match=match) as caught:
        described(root, photo, more)
    assert "\n" not in str(caught.value)


# Pictures.


def test_pictures_are_those_of_the_files(tmp_path) -> None:
    read = described(birds(tmp_path))
    photo = read.splits.modalities[1]
    assert (photo.kind, photo.link, photo.scale, photo.shape) == (
        "image",
        "sigmoid",
        None,
        (3, 64, 64),
    )
    expected = np.stack([picture(k) for k in range(N)]).transpose(0, 3, 1, 2)
    torch.testing.assert_close(values(read), torch.from_numpy(expected.copy()).float() / 255)
    table = read.splits.train.tables["photo"]
    assert table.dtype == torch.uint8 and not read.notes
    assert table.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "size, channels, shape",
    [
        ((28, 28), 1, (1, 28, 28)),
        ((32, 32), 3, (3, 32, 32)),
        ((40, 40), 1, (1, 64, 64)),
        ((32, 28), 3, (3, 64, 64)),
    ],
)
def test_the_size_and_the_colours_follow_from_the_files(tmp_path, size, channels, shape) -> None:
    assert described(birds(tmp_path, size, channels)).splits.modalities[1].shape == shape


def test_one_coloured_picture_makes_all_colours(tmp_path) -> None:
    root = birds(tmp_path, (28, 28), 1)
    Image.fromarray(picture(7, (28, 28), 3)).save(root / "photos" / "b7.png")
    read = described(root)
    assert read.splits.modalities[1].shape == (3, 28, 28)
    grey = torch.from_numpy(picture(3, (28, 28), 1)).float() / 255
    torch.testing.assert_close(values(read)[3], grey.expand(3, -1, -1))


def test_pictures_are_made_smaller_with_antialiasing(tmp_path) -> None:
    root = birds(tmp_path)
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(root / "photos" / "b0.png")
    x = values(described(root, "column: file, folder: photos, size: 16"))[0]
    assert x.shape == (3, 16, 16) and (x - 0.5).abs().max() < 0.02  # every fourth pixel: 0 or 1


def test_a_picture_that_is_not_square_is_stretched_or_cropped(tmp_path) -> None:
    root = birds(tmp_path)
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 32:64] = 255  # the middle is white
    Image.fromarray(wide).save(root / "photos" / "b0.png")
    whole = values(described(root, "column: file, folder: photos, size: 32"))[0]
    assert 0.25 < whole.mean() < 0.42 and whole[:, :, :8].max() < 0.05
    middle = values(described(root, "column: file, folder: photos, size: 32, fit: crop"))[0]
    assert middle.mean() > 0.95


MODES = {
    "L": (51, (51, 51, 51)),
    "1": (1, (255, 255, 255)),
    "RGB": ((255, 0, 51), (255, 0, 51)),
    "RGBA": ((255, 0, 51, 0), (255, 255, 255)),  # over white
    "LA": ((51, 255), (51, 51, 51)),
    "I;16": (51 * 257, (51, 51, 51)),
    "P": (0, (0, 0, 0)),
    "CMYK": ((0, 255, 255, 0), (255, 0, 0)),
}


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_mode(tmp_path, mode) -> None:
    colour, expected = MODES[mode]
    root = birds(tmp_path)
    ending = "tif" if mode == "CMYK" else "png"
    Image.new(mode, (90, 50), colour).save(
        root / "photos" / "b0.x", "TIFF" if ending == "tif" else "PNG"
    )
    (root / "photos" / "b0.x").rename(root / "photos" / "b0.png")
    x = values(described(root))[0]
    shown = torch.tensor(expected).float() / 255
    torch.testing.assert_close(x, shown[:, None, None].expand(3, 64, 64))


def test_an_absent_file_is_an_absent_modality(tmp_path) -> None:
    root = birds(tmp_path)
    (root / "photos" / "b3.png").unlink()
    table = pd.read_csv(root / "birds.csv")
    table.loc[5, "file"] = np.nan
    table.to_csv(root / "birds.csv", index=False)
    read = described(root)
    lacking = values(read).isnan().flatten(1).all(1).nonzero().squeeze(1).tolist()
    assert lacking == [3, 5] and not values(read, "body").isnan().any()
    (note,) = read.notes
    assert "1 of 40 pictures of 'photo' are not in" in note and "'b3.png'" in note


@pytest.mark.parametrize("how", ["truncated", "text", "empty"])
def test_a_damaged_picture_is_named_or_left_out(tmp_path, how) -> None:
    root = birds(tmp_path)
    file = root / "photos" / "b4.png"
    content = {"truncated": file.read_bytes()[:2000], "text": b"no picture", "empty": b""}[how]
    file.write_bytes(content)
    sentence(root, r"photos/b4\.png .*(truncated|cannot be read).*or write skip: true")
    for _ in range(2):  # decoded, then from the cache
        read = described(root, "column: file, folder: photos, skip: true")
        lacking = values(read).isnan().flatten(1).all(1).nonzero().squeeze(1).tolist()
        assert lacking == [4]
        assert "1 of 40 pictures of 'photo' cannot be read" in read.notes[0]


def test_a_picture_of_too_many_pixels_is_refused(tmp_path) -> None:
    root = birds(tmp_path)
    Image.new("1", (9000, 9000)).save(root / "photos" / "b4.png")
    sentence(root, r"b4\.png cannot be read, since it has more than 50,000,000 pixels")


def test_pictures_are_decoded_once_and_again_when_a_file_changes(tmp_path, cache, caplog) -> None:
    root = birds(tmp_path)
    described(root)
    assert "Decoding 40 images" in caplog.text
    caplog.clear()
    described(root)
    assert not caplog.text
    Image.fromarray(picture(99)).save(root / "photos" / "b0.png")
    x = values(described(root))[0]
    torch.testing.assert_close(x, torch.from_numpy(picture(99)).permute(2, 0, 1).float() / 255)


def test_names_without_endings_and_files_named_by_key(tmp_path) -> None:
    root = birds(tmp_path)
    by_column = values(described(root))
    torch.testing.assert_close(values(described(root, "column: id, folder: photos")), by_column)
    (root / "photos" / "b9.png").unlink()
    Image.fromarray(picture(0)).save(root / "photos" / "z.png")
    (root / "photos" / "._b1.png").write_bytes(b"of a Mac")
    (root / "d.yaml").write_text(
        "data: {file: birds.csv, key: id, modalities: {body: {columns: [wing, tail]}, photo:"
        " {source: images, folder: photos}}}\n"
    )
    read = read_described(read_section(root / "d.yaml"), "birds")
    assert len(read.joined) == N + 1 and read.joined.rows["photo"][9] == -1
    assert read.joined.rows["body"][N] == -1
    (root / "photos" / "z.jpg").write_bytes((root / "photos" / "z.png").read_bytes())
    with pytest.raises(ValueError, match=r"z\.jpg and .*z\.png have one key, 'z'"):
        read_described(read_section(root / "d.yaml"), "birds")


@pytest.mark.parametrize(
    "photo, match",
    [
        ("column: file, folder: fotos", r"There is no folder .*fotos"),
        ("column: file, folder: ../birds", r"stay in it, got '\.\./birds'"),
        ("column: file", r"None of the 40 pictures that the column 'file' names is in .*'b0\.png'"),
        ("column: fil", r"no column 'fil'.*Did you mean file"),
        ("column: file, folder: photos, size: 0", r"photo\.size must"),
        ("column: file, folder: photos, fit: pad", r"photo\.fit must"),
        ("folder: photos", r"\['photo'\] have keys"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, photo, match) -> None:
    sentence(birds(tmp_path), match, photo)


def test_names_do_not_lead_out_of_the_folder(tmp_path) -> None:
    root = birds(tmp_path)
    Image.fromarray(picture(0)).save(tmp_path / "secret.png")
    table = pd.read_csv(root / "birds.csv")
    for name in ("../../secret.png", str(tmp_path / "secret.png")):
        table.loc[2, "file"] = name
        table.to_csv(root / "birds.csv", index=False)
        sentence(root, "leads out of it")


def test_new_rows_have_the_size_of_training(tmp_path) -> None:
    read = described(birds(tmp_path, (28, 28), 1))
    new = birds(tmp_path / "new", (50, 60), 3)
    rows = read_rows(
        read.splits.modalities, read_section(tmp_path / "birds" / "d.yaml"), new / "birds.csv"
    )
    assert rows.tables["photo"].shape == (N, 1, 28, 28) and rows.is_present("photo").all()


# Cells.


def cells(tmp_path, n=60):
    """Counts of 30 genes in two groups, of proteins (fewer cells), and numbers."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, n)
    rate = np.full((n, 30), 3.0)
    rate[:, [4, 9, 17]] *= np.where(group[:, None] == 1, 8, 1)
    counts = rng.poisson(rate).astype(np.float32)
    obs = pd.DataFrame(
        {"line": pd.Categorical(np.where(group == 1, "K562", "H1")), "depth": counts.sum(1)},
        index=[f"c{k}" for k in range(n)],
    )
    genes = pd.DataFrame(index=[f"g{k}" for k in range(28)] + ["chr1:5-9", "A,B"])
    rna = anndata.AnnData(scipy.sparse.csr_matrix(np.log1p(counts)), obs=obs, var=genes)
    rna.layers["counts"] = scipy.sparse.csr_matrix(counts)
    rna.obsm["X_pca"] = rng.normal(size=(n, 5)).astype(np.float32)
    protein = anndata.AnnData(
        rng.poisson(9.0, (n - 10, 6)).astype(np.float32), obs=obs[["depth"]][10:]
    )
    protein = protein[::-1].copy()  # another order
    path = tmp_path / "cells.h5mu"
    mudata.set_options(pull_on_update=False)
    mudata.MuData({"rna": rna, "protein": protein}).write(path)
    return path, counts, protein


def cell_values(splits, m):
    return torch.cat(
        [gather(p.tables[m], p.rows_of(m))[p.is_present(m)] for p in splits.parts.values()]
    )


def test_a_file_of_cells_is_a_data_set(tmp_path) -> None:
    path, *_ = cells(tmp_path)
    data = load_data(path)
    rna, surface = data.modalities
    assert (rna.name, rna.kind, rna.likelihood) == ("rna", "counts", "library_counts")
    assert rna.names is not None and rna.names[-3:] == ("g27", "chr1-5-9", "A-B")
    assert rna.shape == (30,) and surface.shape == (6,)  # the layer of counts, not their logarithms
    lacking = sum(int((~p.is_present("protein")).sum()) for p in data.parts.values())
    assert lacking == 10 and sum(map(len, data.parts.values())) == 60


def test_modalities_are_paired_by_the_names_of_cells(tmp_path) -> None:
    path, counts, protein = cells(tmp_path)
    section = {"file": path.name, "path": str(tmp_path)}
    read = read_described(section, "cells")
    data, samples = read.splits.train, read.parts["train"]
    names = [read.samples["rna"].keys[k] for k in samples]
    torch.testing.assert_close(
        gather(data.tables["rna"], data.rows_of("rna")), torch.from_numpy(counts[samples])
    )
    present = data.is_present("protein")
    kept = [name for name, there in zip(names, present.tolist(), strict=True) if there]
    expected = torch.from_numpy(protein[kept].X.copy())
    torch.testing.assert_close(
        gather(data.tables["protein"], data.rows_of("protein"))[present], expected
    )


def test_labels_layers_embeddings_and_numbers(tmp_path) -> None:
    path, *_ = cells(tmp_path)
    modalities = {
        "log": {"source": "cells", "modality": "rna"},
        "pca": {"source": "cells", "modality": "rna", "obsm": "X_pca"},
        "body": {"columns": {"rna:depth": "real"}},
    }
    data = load_data(
        {"file": path.name, "path": str(tmp_path), "label": "rna:line", "modalities": modalities}
    )
    log, pca, body = data.modalities
    assert log.likelihood == pca.likelihood == "normal" and log.scale is None and pca.names is None
    train = cell_values(data.map(lambda part, d: d), "log")[: len(data.train)]
    assert log.location == pytest.approx(train.mean(0).tolist(), abs=1e-5)
    assert log.spread == pytest.approx(train.std(0, correction=0).tolist(), rel=1e-4)
    assert data.train.classes == ("H1", "K562") and body.columns[0].name == "rna:depth"


def test_genes_are_chosen_only_if_asked_and_said(tmp_path) -> None:
    path, *_ = cells(tmp_path)
    section = {"file": path.name, "path": str(tmp_path)}
    entry = {"source": "cells", "modality": "rna", "layer": "counts"}
    read = read_described({**section, "modalities": {"rna": {**entry, "features": 3}}}, "cells")
    assert read.splits.modalities[0].names == ("g4", "g9", "g17")  # those that differ by group
    assert any("3 of 30 features of 'rna' are used" in note for note in read.notes)
    assert any(
        re.search("27 are left out, which hold [1-9][0-9]% of the counts", note)
        for note in read.notes
    )
    whole = read_described({**section, "modalities": {"rna": entry}}, "cells")
    assert whole.splits.modalities[0].shape == (30,)
    assert not any("are used" in note for note in whole.notes)


def test_new_cells_have_the_features_of_training(tmp_path) -> None:
    path, counts, _ = cells(tmp_path)
    section = {"file": path.name, "path": str(tmp_path)}
    read = read_described(section, "cells")
    names = list(read.splits.modalities[0].names)
    new = anndata.AnnData(counts[:7, [5, 4, 3]].copy(), var=pd.DataFrame(index=["g5", "g4", "g3"]))
    mudata.MuData({"rna": new}).write(tmp_path / "new.h5mu")
    section["modalities"] = {"rna": {"source": "cells", "file": path.name, "modality": "rna"}}
    rows = read_rows(read.splits.modalities, section, tmp_path / "new.h5mu")
    x = rows.tables["rna"]
    assert len(rows) == 7 and not rows.is_present("protein").any()
    torch.testing.assert_close(x[:, 3:6], torch.from_numpy(counts[:7, 3:6]))
    others = [k for k, name in enumerate(names) if name not in ("g3", "g4", "g5")]
    assert x[:, others].isnan().all()


def test_an_h5ad_file_is_one_modality(tmp_path) -> None:
    counts = np.random.default_rng(0).poisson(2.0, (30, 4)).astype(np.float32)
    anndata.AnnData(counts).write_h5ad(tmp_path / "liver.h5ad")
    assert run(["init", str(tmp_path / "liver.h5ad")]) == 0
    data = load_data(tmp_path / "liver.yaml")
    (liver,) = data.modalities
    assert liver.name == "liver" and liver.kind == "counts"
    assert load_data(tmp_path / "liver.h5ad").modalities == data.modalities


def test_bad_files_of_cells(tmp_path, monkeypatch) -> None:
    path, *_ = cells(tmp_path)
    section = {"path": str(tmp_path), "file": path.name}
    for entry, match in (
        ({"modality": "rn"}, "modality 'rn' in .*Did you mean rna"),
        ({}, r"holds the modalities \['protein', 'rna'\]; write modality: NAME"),
        ({"modality": "rna", "layer": "count"}, "layer 'count' of 'x'.*Did you mean counts"),
        ({"modality": "rna", "obsm": "pca"}, "obsm 'pca'"),
        ({"modality": "rna", "file": "no.h5mu"}, "There is no file"),
        ({"file": "a.csv"}, "is read from an .h5ad or .h5mu file, got 'a.csv'"),
    ):
        with pytest.raises(ValueError, match=match):
            read_described({**section, "modalities": {"x": {"source": "cells", **entry}}}, "c")
    cut = tmp_path / "cut.h5mu"
    cut.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut\.h5mu is truncated or damaged.*write it again"):
        load_data(cut)
    monkeypatch.setattr(cells_reader, "MAX_MB", 0.001)
    cells_reader._read.cache_clear()
    with pytest.raises(ValueError, match=r"holds 0 MB, more than 0 MB; keep fewer features"):
        load_data(path)
    monkeypatch.setitem(sys.modules, "mudata", None)
    with pytest.raises(ValueError, match=r"mudata is not installed; .*polymodal\[cells\]"):
        load_data(path)


def test_names_of_features_come_once() -> None:
    names, notes = feature_names(["a", "a", "a_2", "", "-x", "b:c"])
    assert names == ["a", "a_2", "a_2_2", "_", "_-x", "b-c"] and "5 features have other" in notes[0]
    assert feature_names(["a", "b"]) == (["a", "b"], [])


def test_the_most_variable_of_numbers_and_of_counts() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2500)) * np.where(np.arange(2500) % 500 == 3, 5, 1)
    x[:20, 3] = np.nan
    assert most_variable(x, 5, counts=False).tolist() == [3, 503, 1003, 1503, 2003]
    # A count varies with its mean: the largest is not the one that varies.
    counts = rng.poisson(np.array([50.0, 5.0, 5.0]), (300, 3))
    counts[:150, 1] *= 3
    sparse = scipy.sparse.csr_matrix(counts)
    assert most_variable(sparse, 1, counts=True).tolist() == [1]


# Arrays.


def test_arrays_of_a_file(tmp_path) -> None:
    x = np.random.default_rng(0).normal(5, 3, (30, 4))
    x[3] = np.nan
    x[4, 1] = np.nan
    np.savez(tmp_path / "x.npz", a=x, names=[f"p{k}" for k in range(30)])
    pd.DataFrame({"id": [f"p{k}" for k in range(5, 35)], "v": np.arange(30) * 0.3}).to_csv(
        tmp_path / "t.csv", index=False
    )
    modalities = {
        "a": {"source": "array", "file": "x.npz", "array": "a", "key": "names"},
        "t": {"columns": ["v"]},
    }
    section = {"path": str(tmp_path), "file": "t.csv", "key": "id", "modalities": modalities}
    read = read_described(section, "x")
    # Sample p3 has neither an array nor a row.
    assert len(read.joined) == 35 and sum(map(len, read.splits.parts.values())) == 34
    a = read.splits.modalities[0]
    train = cell_values(read.splits, "a")[: int(read.splits.train.is_present("a").sum())]
    assert a.location == pytest.approx(np.nanmean(train.double(), 0), rel=1e-5) and a.scale is None
    assert a.kind is None or a.kind == "vector"
    np.save(tmp_path / "y.npy", np.arange(60, dtype=np.uint8).reshape(30, 2))
    alone = load_data(
        {"path": str(tmp_path), "modalities": {"y": {"source": "array", "file": "y.npy"}}}
    )
    assert alone.modalities[0].shape == (2,)


@pytest.mark.parametrize(
    "entry, match",
    [
        ({}, r"x\.npz holds \['a', 'w'\]; write array: NAME"),
        ({"array": "b"}, r"array 'b' in x\.npz"),
        ({"array": "w"}, r"must hold numbers, got <U2"),
        ({"array": "a", "key": "a"}, r"must be 3 different words.*got 3, 1 of them"),
    ],
)
def test_bad_arrays(tmp_path, entry, match) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3), w=np.array(["ab", "c", "d"]))
    section = {
        "path": str(tmp_path),
        "modalities": {"x": {"source": "array", "file": "x.npz", **entry}},
    }
    with pytest.raises(ValueError, match=match):
        read_described(section, "x")


# init.


def test_init_finds_pictures_beside_a_table(tmp_path, capsys) -> None:
    root = birds(tmp_path)
    for files in ([root], [root / "birds.csv"], [root / "birds.csv", root / "photos"]):
        assert run(["init", *map(str, files), "--force"]) == 0
        said = capsys.readouterr().out
        assert "miwae" in said
        text = (root / "birds.yaml").read_text()
        assert "photos: {source: images, column: file, folder: photos, size: 64}" in text
        assert "read as 64 x 64 in colours" in text and "Left out: file" not in text
        data = load_data(root / "birds.yaml")
        assert [m.name for m in data.modalities] == ["table", "photos"]
        assert load_data(root / "birds.csv").modalities == data.modalities


def test_init_pairs_pictures_by_key_and_reads_them_alone(tmp_path, capsys) -> None:
    root = birds(tmp_path)
    table = pd.read_csv(root / "birds.csv").drop(columns="file")
    table["id"] = table["id"].str.replace("b", "c")
    table.to_csv(root / "birds.csv", index=False)
    files = [str(root / "birds.csv"), str(root / "photos")]
    assert run(["init", *files]) == 2
    assert "No column of" in capsys.readouterr().err
    assert run(["init", *files, "--key", "id"]) == 0
    assert "photos: {source: images, folder: photos, size: 64}" in (root / "birds.yaml").read_text()
    assert run(["init", str(root / "photos")]) == 0
    assert [m.name for m in load_data(root / "photos.yaml").modalities] == ["photos"]


def test_init_describes_cells_and_arrays(tmp_path) -> None:
    path, *_ = cells(tmp_path)
    assert run(["init", str(path), "--label", "rna:line"]) == 0
    text = (tmp_path / "cells.yaml").read_text()
    assert "rna: {source: cells, modality: rna, layer: counts}  # counts of 30 features" in text
    assert load_data(tmp_path / "cells.yaml").modalities == load_data(path).modalities
    root = birds(tmp_path)
    np.savez(root / "more.npz", song=np.zeros((N, 7)), map=np.ones((N, 2)))
    assert run(["init", str(root / "birds.csv"), str(root / "more.npz")]) == 0
    names = [m.name for m in load_data(root / "birds.yaml").modalities]
    assert names == ["table", "photos", "song", "map"]


def test_init_asks_which_table_of_a_folder(tmp_path, capsys) -> None:
    root = birds(tmp_path)
    (root / "other.csv").write_bytes((root / "birds.csv").read_bytes())
    assert run(["init", str(root)]) == 2
    assert "holds 2 tables (birds.csv, other.csv" in capsys.readouterr().err


def test_what_init_writes_trains(tmp_path) -> None:
    root = birds(tmp_path, (28, 28), 1)
    assert run(["init", str(root)]) == 0
    out = tmp_path / "run"
    assert run(["train", str(root / "birds.yaml"), "training.epochs=1", "--out", str(out)]) == 0
    assert (out / "model.safetensors").exists()


def test_init_describes_a_file_of_arrays_alone(tmp_path) -> None:
    """Lists of one value for each sample are labels and names, not modalities."""
    rng = np.random.default_rng(0)
    n = 40
    np.savez(
        tmp_path / "s.npz",
        genes=rng.poisson(3.0, (n, 6)).astype(np.uint16),
        topics=rng.normal(size=(n, 3)).astype(np.float32),
        labels=rng.integers(0, 2, n),
        names=np.array([f"c{k}" for k in range(n)]),
        label_names=np.array(["a", "b"]),
    )
    assert run(["init", str(tmp_path / "s.npz"), "--label", "labels", "--key", "names"]) == 0
    data = load_data(tmp_path / "s.yaml")
    kinds = {m.name: (m.kind, m.shape) for m in data.modalities}
    assert kinds == {"genes": ("counts", (6,)), "topics": (None, (3,))}
    assert data.train.classes == (0, 1) and sum(map(len, data.parts.values())) == n
