"""Cells of anndata and mudata in, the same cells back without holes."""

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import polymodal
from polymodal.cli.main import run
from polymodal.data.described import read_described

N, LACKING = 60, 12  # cells, and those without proteins


def cells(seed=0, names="c", lacking=LACKING) -> mudata.MuData:
    """RNA of all cells, sparse, and proteins of some, dense and in another order."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(N, 2))
    size = rng.lognormal(5, 0.3, (N, 1))
    loads = np.random.default_rng(7).normal(size=(2, 12))
    share = np.exp(z @ loads)
    rna = rng.poisson(size * share / share.sum(1, keepdims=True)).astype(np.int32)
    protein = rng.poisson(np.exp(3 + z @ loads[:, :4])).astype(np.float32)
    obs = pd.DataFrame(
        {"line": pd.Categorical(np.where(z[:, 0] > 0, "A", "B")), "plate": rng.integers(0, 3, N)},
        index=[f"{names}{k}" for k in range(N)],
    )
    genes = pd.DataFrame({"chrom": 1}, index=[f"g{k}" for k in range(11)] + ["A,B"])
    x = scipy.sparse.csr_matrix(rna)
    first = anndata.AnnData(x, obs=obs, var=genes, layers={"twice": 2 * x})
    second = anndata.AnnData(protein, obs=obs[["plate"]], var=pd.DataFrame(index=list("abcd")))
    second = second[lacking:][::-1].copy()
    second.obsp["near"] = scipy.sparse.eye(second.n_obs).tocsr()
    mudata.set_options(pull_on_update=False)
    whole = mudata.MuData({"rna": first, "protein": second})
    whole.obs["line"] = obs.line
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was trained by commands only."""
    root = tmp_path_factory.mktemp("cells")
    cells().write(root / "cells.h5mu")
    assert run(["init", str(root / "cells.h5mu"), "--label", "line"]) == 0
    quick = ["training.epochs=4", "method.latent=2", "training.progress=false"]
    assert run(["train", str(root / "cells.yaml"), "--out", str(root / "run"), *quick]) == 0
    return root


def impute(folder, source, out, *options) -> int:
    few = ["--proposals", "20"]
    return run(["impute", str(folder / "run"), str(source), "--out", str(out), *few, *options])


def test_observed_values_stay_and_cells_without_proteins_get_some(folder, tmp_path) -> None:
    before, out = cells(), tmp_path / "filled.h5mu"
    assert impute(folder, folder / "cells.h5mu", out, "--draws", "2") == 0
    after = mudata.read_h5mu(out)
    assert list(after.obs_names) == list(before.obs_names)
    rna, protein = after.mod["rna"], after.mod["protein"]
    assert rna.X.dtype == np.int32 and scipy.sparse.issparse(rna.X) and "imputed" not in rna.layers
    assert (rna.X != before.mod["rna"].X).nnz == 0
    pd.testing.assert_frame_equal(rna.obs, before.mod["rna"].obs)
    assert (rna.layers["twice"] != before.mod["rna"].layers["twice"]).nnz == 0
    old = before.mod["protein"]
    assert list(protein.obs_names[: old.n_obs]) == list(old.obs_names)  # then those added
    assert set(protein.obs_names[old.n_obs :]) == {f"c{k}" for k in range(LACKING)}
    assert protein.obs.polymodal_added.tolist() == [False] * old.n_obs + [True] * LACKING
    np.testing.assert_array_equal(protein.layers["imputed"][: old.n_obs], old.X)
    np.testing.assert_array_equal(protein.X[: old.n_obs], old.X)
    assert np.isnan(protein.X[old.n_obs :]).all()
    assert (protein.layers["imputed"] >= 0).all() and protein.obsp["near"].shape == (N, N)
    assert after.obsm["X_polymodal"].shape == (N, 2) and after.obs.line.dtype == "category"
    copies = [mudata.read_h5mu(tmp_path / f"filled.{k}.h5mu") for k in (1, 2)]
    drawn = [copy.mod["protein"].layers["imputed"][old.n_obs :] for copy in copies]
    assert (drawn[0] == drawn[0].round()).all() and (drawn[0] != drawn[1]).any()


def test_bounds_hold_what_was_filled(folder, tmp_path) -> None:
    out = tmp_path / "filled.h5mu"
    assert impute(folder, folder / "cells.h5mu", out) == 0
    bounds = mudata.read_h5mu(tmp_path / "filled.intervals.h5mu").mod["protein"]
    filled = mudata.read_h5mu(out).mod["protein"][bounds.obs_names].copy()
    lower, upper = bounds.layers["lower"], bounds.layers["upper"]
    added = filled.obs.polymodal_added.to_numpy().astype(bool)
    assert np.isnan(lower[~added]).all() and (lower[added] <= upper[added]).all()
    assert "rna" not in mudata.read_h5mu(tmp_path / "filled.intervals.h5mu").mod


def test_a_modality_that_a_file_lacks_is_added(folder, tmp_path) -> None:
    source, out = tmp_path / "new.h5mu", tmp_path / "filled.h5mu"
    new = cells(1, "n")
    mudata.MuData({"rna": new.mod["rna"]}).write(source)
    assert impute(folder, source, out, "--intervals", "0") == 0
    after = mudata.read_h5mu(out)
    assert list(after.obs_names) == list(new.obs_names)
    protein = after.mod["protein"]
    assert list(protein.var_names) == list("abcd") and protein.n_obs == N
    np.testing.assert_array_equal(protein.X, protein.layers["imputed"])
    assert np.isfinite(protein.X).all() and (protein.X >= 0).all()
    assert not (tmp_path / "filled.intervals.h5mu").exists()


def test_features_that_new_cells_lack_stay_away_and_holes_are_filled(folder, tmp_path) -> None:
    source, out = tmp_path / "new.h5mu", tmp_path / "filled.h5mu"
    new = cells(1, "n", lacking=0)
    protein = new.mod["protein"][:, ["d", "b"]].copy()
    protein.X[3, 0] = np.nan
    mudata.MuData({"rna": new.mod["rna"], "protein": protein}).write(source)
    assert impute(folder, source, out) == 0
    layer = mudata.read_h5mu(out).mod["protein"].layers["imputed"]
    assert layer.shape == (N, 2) and np.isfinite(layer).all()
    others = np.ones(layer.shape, bool)
    others[3, 0] = False
    np.testing.assert_array_equal(layer[others], protein.X[others])


def test_latents_are_written_into_the_same_file(folder, tmp_path) -> None:
    out, table = tmp_path / "z.h5mu", tmp_path / "z.csv"
    command = ["encode", str(folder / "run"), str(folder / "cells.h5mu"), "--out"]
    assert run([*command, str(out)]) == 0 and run([*command, str(table)]) == 0
    after, written = mudata.read_h5mu(out), pd.read_csv(table, index_col="cell")
    np.testing.assert_allclose(
        after.obsm["X_polymodal"], written.loc[after.obs_names].to_numpy(), rtol=1e-4, atol=1e-6
    )
    before = cells()
    assert (after.mod["rna"].X != before.mod["rna"].X).nnz == 0
    assert after.mod["protein"].n_obs == N - LACKING  # nothing is filled in


def test_an_anndata_file_of_one_modality(tmp_path) -> None:
    rna = cells().mod["rna"].copy()
    rna.X = rna.X.toarray().astype(np.float32)
    rna.X[5, 2] = np.nan
    rna.write_h5ad(tmp_path / "liver.h5ad")
    assert run(["init", str(tmp_path / "liver.h5ad")]) == 0
    quick = ["training.epochs=2", "method.latent=2", "training.progress=false"]
    assert run(["train", str(tmp_path / "liver.yaml"), "--out", str(tmp_path / "run"), *quick]) == 0
    assert impute(tmp_path, tmp_path / "liver.h5ad", tmp_path / "filled.h5ad") == 0
    after = anndata.read_h5ad(tmp_path / "filled.h5ad")
    assert np.isnan(after.X[5, 2]) and np.isfinite(after.layers["imputed"]).all()
    assert after.obsm["X_polymodal"].shape == (N, 2)
    assert (tmp_path / "filled.intervals.h5ad").exists()


def test_what_is_refused_and_nothing_is_written(folder, tmp_path, capsys) -> None:
    for source, out, sentence in (
        (folder / "cells.h5mu", tmp_path / "filled.csv", "its name ends in .h5mu"),
        (folder / "cells.h5mu", folder / "cells.h5mu", "is the input, and is not written over"),
        (tmp_path / "none.h5mu", tmp_path / "filled.h5mu", "There is no file"),
    ):
        assert impute(folder, source, out) != 0
        assert sentence in " ".join(capsys.readouterr().err.split())
    command = ["encode", str(folder / "run"), str(folder / "cells.h5mu"), "--out"]
    assert run([*command, str(tmp_path / "z.h5ad")]) != 0
    assert not list(tmp_path.iterdir())


def test_torch_stays_as_it_was(folder, tmp_path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert impute(folder, folder / "cells.h5mu", tmp_path / "filled.h5mu") == 0
    assert torch.equal(torch.rand(1), expected)


# In memory.


def imputer(**options) -> polymodal.Imputer:
    return polymodal.Imputer(epochs=3, latent=2, proposals=20, random_state=0, **options)


def test_mudata_in_mudata_out() -> None:
    before = cells()
    model = imputer().fit(before)
    after = model.transform(before)
    assert isinstance(after, mudata.MuData) and list(after.obs_names) == list(before.obs_names)
    old, protein = before.mod["protein"], after.mod["protein"]
    assert "imputed" not in old.layers and old.n_obs == N - LACKING  # X itself is not changed
    assert (after.mod["rna"].X != before.mod["rna"].X).nnz == 0
    assert after.mod["rna"].X.dtype == np.int32 and protein.n_obs == N
    np.testing.assert_array_equal(protein.layers["imputed"][: old.n_obs], old.X)
    assert np.isfinite(protein.layers["imputed"]).all()
    assert after.obsm["X_polymodal"].shape == (N, 2)
    assert after.obsm["X_polymodal"].std(0).min() > 0
    kinds = {m.name: m.kind for m in model.modalities_}
    assert kinds == {"rna": "counts", "protein": "counts"}
    assert list(model.get_feature_names_out())[-1] == "protein__d"
    bounds = model.intervals(before)
    assert len(bounds) == LACKING * 4 and (bounds.lower <= bounds.upper).all()
    new = model.transform(mudata.MuData({"rna": cells(1, "n").mod["rna"]}))
    assert new.mod["protein"].shape == (N, 4)
    copies = model.sample(before, 2)
    assert isinstance(copies[1], mudata.MuData)


def test_anndata_in_anndata_out() -> None:
    before = cells().mod["protein"]
    before.X[3, 1] = np.nan
    after = imputer().fit_transform(before)
    assert isinstance(after, anndata.AnnData) and list(after.obs_names) == list(before.obs_names)
    layer = after.layers["imputed"]
    assert np.isfinite(layer).all() and np.isnan(after.X[3, 1])
    seen = ~np.isnan(before.X)
    np.testing.assert_array_equal(layer[seen], before.X[seen])
    assert (after.obsp["near"] != before.obsp["near"]).nnz == 0


def test_cells_and_tables_are_not_mixed() -> None:
    fitted = imputer().fit(cells().mod["protein"])
    with pytest.raises(ValueError, match="X must be cells as in fit, got ndarray"):
        fitted.transform(np.ones((3, 4)))
    other = mudata.MuData({"atac": cells().mod["protein"]})
    with pytest.raises(ValueError, match=r"fit knew the modalities \['rna', 'protein'\]"):
        imputer().fit(cells()).transform(other)


# Descriptions.


def test_the_description_says_what_are_counts(tmp_path) -> None:
    whole = cells()
    whole.mod["rna"].layers["log"] = whole.mod["rna"].X.astype(np.float32).log1p()
    whole.write(tmp_path / "cells.h5mu")
    entry = {"source": "cells", "modality": "rna"}

    def kind(**fields) -> tuple[str | None, str]:
        section = {"file": "cells.h5mu", "path": str(tmp_path)}
        section["modalities"] = {"rna": {**entry, **fields}}
        (m,) = read_described(section, "cells").splits.modalities
        return m.kind, m.likelihood

    assert kind() == ("counts", "library_counts")
    assert kind(counts=False) == ("vector", "normal")
    assert kind(layer="log") == ("vector", "normal")
    with pytest.raises(ValueError, match=r"are not all whole numbers .*; write counts: false"):
        kind(layer="log", counts=True)
