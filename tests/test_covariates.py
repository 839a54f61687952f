"""Batch covariates: the networks of counts are told in which batch a cell was measured."""

from dataclasses import replace

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import polymodal
from polymodal.app.service import Service
from polymodal.batch import AVERAGE, Batch, Covariate, Modality
from polymodal.cli.main import run
from polymodal.data import Dataset, Splits
from polymodal.data.covariates import covariate_of, places_of
from polymodal.data.sources.array import described_by
from polymodal.imputation.weighted import weighted_latents
from polymodal.methods import METHODS
from polymodal.metrics.likelihood import importance_log_likelihood
from polymodal.networks.covariates import OneHot
from polymodal.training.fit import fit
from polymodal.training.stage_trainer import StageTrainer

DONOR = Covariate("donor", ("d0", "d1", "d2"), (0.5, 0.25, 0.25))
N, D, P = 500, 24, 5


def planted(seed=0):
    """Places of batches, what they add to the logarithms of shares (3, D), counts, and a vector."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(5)
    loads, shifts = 0.7 * fixed.normal(size=(2, D)), 0.7 * fixed.normal(size=(3, D))
    z, places = rng.normal(size=(N, 2)), rng.integers(0, 3, N)
    shares = np.exp(z @ loads + shifts[places])
    size = rng.lognormal(6, 0.3, (N, 1))
    x = rng.poisson(size * shares / shares.sum(1, keepdims=True))
    other = z @ fixed.normal(size=(2, P)) + 0.3 * rng.normal(size=(N, P))
    return places, shifts, torch.tensor(x).float(), torch.tensor(other).float()


def splits(told: bool) -> Splits:
    places, _, x, _ = planted()
    m = described_by(Modality("rna", (D,), "library_counts", kind="counts"), x, range(400))
    m = replace(m, covariate=DONOR if told else None)
    whole = Dataset([m], {"rna": x}, covariates={"rna": places} if told else {})
    rows = torch.arange(N).split([400, 50, 50])
    return Splits(*(whole.take(part) for part in rows))


@pytest.fixture(scope="module")
def models():
    """The same model, told the batch and not."""
    options = {"latent": 4, "hidden": 32, "k": 5, "lr": 5e-3, "epochs": 40, "batch": 50}
    options["progress"] = False
    return {told: fit("miwae", splits(told), **options) for told in (True, False)}


def read(trained, data: Dataset) -> Batch:
    return trained.model.readable(data.batch(torch.arange(len(data))))


def test_latents_are_free_of_the_batch_that_networks_are_told(models) -> None:
    right = {}
    for told, trained in models.items():
        batch, places = read(trained, splits(told).train), planted()[0][:400]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            z = trained.model.latents(batch, 1)[0].numpy()
        probes = LogisticRegression(max_iter=1000), RandomForestClassifier(100, random_state=0)
        right[told] = max(cross_val_score(probe, z, places, cv=5).mean() for probe in probes)
    chance = np.bincount(planted()[0][:400]).max() / 400
    assert right[True] < chance + 0.1 and right[False] > 0.85


def test_held_out_likelihood_is_higher(models) -> None:
    logs = {}
    for told, trained in models.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            batch = read(trained, splits(told).test)
            logs[told] = importance_log_likelihood(trained.model, batch, 300)
    gain = logs[True] - logs[False]
    assert gain.mean() > 1 and gain.mean() > 2 * gain.std() / len(gain) ** 0.5


def test_another_batch_changes_the_mean_by_the_planted_effect(models) -> None:
    shifts, model = planted()[1], models[True].model
    batch = splits(True).test.batch(torch.arange(50))
    with torch.random.fork_rng():
        x = {}
        for donor in (*DONOR.categories, AVERAGE):
            torch.manual_seed(0)
            x[donor] = model.generate(batch, 20, covariates={"rna": donor})["rna"].mean(0).log()
    for k, donor in enumerate(DONOR.categories[1:], 1):
        found = (x[donor] - x["d0"]).mean(0).numpy()
        true = shifts[k] - shifts[0]
        error = (found - found.mean()) - (true - true.mean())
        assert np.corrcoef(found, true)[0, 1] > 0.95 and error.std() < 0.3 * true.std()
    middle = torch.stack([DONOR.shares[k] * x[d] for k, d in enumerate(DONOR.categories)]).sum(0)
    assert (x[AVERAGE] - middle).mean(0).std() < 0.3 * shifts.std()


def test_each_sample_is_decoded_for_its_own_batch(models) -> None:
    model, data = models[True].model, splits(True).test
    z = torch.zeros(1, 50, 4)
    own = model.decode(z, covariates=data.covariates)["rna"][0].log().softmax(-1)
    for k in range(3):
        rows = data.covariates["rna"] == k
        same = model.decode(z, covariates={"rna": torch.full((50,), k)})["rna"][0].log()
        torch.testing.assert_close(own[rows], same.softmax(-1)[rows])
    lone = model.decode(z)["rna"]  # nothing is known: the average
    torch.testing.assert_close(
        lone, model.decode(z, covariates={"rna": torch.full((50,), -1)})["rna"]
    )


@pytest.mark.parametrize("kept", [True, False])
def test_draws_that_are_weighted_are_decoded_for_their_own_batch(models, kept) -> None:
    model, batch = models[True].model, splits(True).test.batch(torch.arange(8))
    batch = model.readable(replace(batch, present={"rna": torch.zeros(8, dtype=torch.bool)}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        latents = weighted_latents(model, batch, 3, ["rna"] if kept else [])
    shares = latents.under(model, batch, "rna").log_shares
    own = model.decoded("rna", latents.z, batch.covariates).log_shares
    torch.testing.assert_close(shares, own)
    assert (shares != model.decoded("rna", latents.z).log_shares).any()


# Every method.


def told_batch(n=6) -> tuple[list[Modality], Batch]:
    places, _, x, other = planted()
    counts = described_by(Modality("x", (D,), "library_counts", kind="counts"), x, range(N))
    vector = described_by(Modality("y", (P,)), other, range(N))
    modalities = [replace(counts, covariate=DONOR), vector]
    told = {"x": torch.from_numpy(places)[:n]}
    label = torch.zeros(n, dtype=torch.int64)
    return modalities, Batch({"x": x[:n], "y": other[:n]}, {}, label, covariates=told)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_told(method) -> None:
    torch.manual_seed(0)
    modalities, batch = told_batch()
    made = METHODS[method](modalities, latent=2, **({"target": "x"} if method == "cvae" else {}))
    model = made.model.eval()
    z = torch.randn(3, 6, model.prior().event_shape[0])
    other = replace(batch, covariates={"x": (batch.covariates["x"] + 1) % 3})
    assert (model.log_p("x", batch, z) != model.log_p("x", other, z)).all()
    nothing = replace(batch, covariates={})
    unknown = replace(batch, covariates={"x": torch.full((6,), -1)})
    torch.testing.assert_close(model.log_p("x", nothing, z), model.log_p("x", unknown, z))
    reads_embeddings = model.posterior.embeddings is not None

    def mean(given: Batch) -> torch.Tensor:
        torch.manual_seed(1)
        return model.latents(given, 5)

    assert torch.equal(mean(batch), mean(other)) == (reads_embeddings and not made_joint(model))
    torch.testing.assert_close(mean(nothing), mean(unknown))
    for stage in made.stages:
        after = batch if stage.prepare is None else stage.prepare(model, batch)
        if (
            stage.trains
            and not stage.min_pairs
            and (after.x["x"].shape if "x" in after.x else None) == batch.x["x"].shape
        ):
            value = stage.loss(model, after, 1.0).value
            assert value.isfinite().all()


def made_joint(model) -> bool:
    """Whether all modalities together are read by a joint encoder."""
    return hasattr(model.posterior, "joint")


@pytest.mark.parametrize("method", ["jnf", "jnf_dcca", "mvae", "mmvae_plus", "jnf_score", "miwae"])
def test_methods_train_with_stages_that_prepare(method) -> None:
    places, _, x, other = planted()
    modalities, _ = told_batch()
    whole = Dataset(modalities, {"x": x, "y": other}, covariates={"x": places})
    parts = Splits(*(whole.take(rows) for rows in torch.arange(N).split([400, 50, 50])))
    options = {"embedding": {"embedding_size": 2}} if method == "jnf_dcca" else {}
    trained = fit(method, parts, latent=2, epochs=1, batch=100, progress=False, **options)
    x = trained.model.generate(parts.test.batch(torch.arange(4)).only(["y"]), 2)["x"]
    assert x.shape == (2, 4, D) and x.isfinite().all()


# Batches and data sets.


def test_places_travel_with_their_samples() -> None:
    places = planted()[0]
    data = splits(True).train
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    part = data.take(order[:90]).take(torch.arange(5, 50))
    expected = torch.from_numpy(places)[order[5:50]]
    assert torch.equal(part.covariates["rna"], expected)
    batch = part.batch(torch.arange(10, 30))
    assert torch.equal(batch.covariates["rna"], expected[10:30])
    assert torch.equal(batch.rows(torch.tensor([3, 1])).covariates["rna"], expected[[13, 11]])
    assert torch.equal(batch.only(["rna"]).to("cpu").covariates["rna"], expected[10:30])
    streamed = data.stream().take(order[:90])
    assert torch.equal(
        streamed.batch(torch.arange(7)).covariates["rna"], torch.from_numpy(places)[order[:7]]
    )
    inputs = batch.inputs("rna")
    assert inputs.shape == (20, D + 1) and torch.equal(inputs[:, -1].long(), expected[10:30])


@pytest.mark.parametrize("places", [[0.5] * 6, [0] * 5, [-2] * 6, ["d0"] * 6])
def test_places_are_checked(places) -> None:
    batch = told_batch()[1]
    with pytest.raises(ValueError, match="whole numbers from -1"):
        replace(
            batch,
            covariates={"x": places} if isinstance(places[0], str) else {"x": torch.tensor(places)},
        )


def test_covariates_are_checked(models) -> None:
    with pytest.raises(ValueError, match="two or more different categories"):
        Covariate("donor", ("d0",), (1.0,))
    with pytest.raises(ValueError, match="only counts and vectors"):
        Modality("x", (3, 8, 8), covariate=DONOR)
    model, batch = models[True].model, splits(True).test.batch(torch.arange(2))
    for covariates, said in (
        ({"rna": "d9"}, "d9"),
        ({"rn": "d0"}, "rna"),
        ({"rna": 1}, "covariates"),
    ):
        with pytest.raises(ValueError, match=said):
            model.generate(batch, covariates=covariates)
    with pytest.raises(ValueError, match="must be places from 0 to 2, or -1, got 3"):
        model.latents(replace(batch, covariates={"rna": torch.tensor([0, 3])}))


def test_a_model_that_is_not_told_reads_batches_of_one_that_is(models) -> None:
    batch = splits(True).test.batch(torch.arange(3))
    assert models[False].model.generate(batch, 2)["rna"].isfinite().all()


def test_what_is_not_known_is_the_average() -> None:
    words = ["d1", None, "d9", "d0"]
    places, notes = places_of(DONOR, words, "rna")
    assert places.tolist() == [1, -1, -1, 0]
    assert notes == [
        "2 of 4 samples have no category of training in 'donor' ('d9'); for 'rna' they are read as"
        " the average of the categories."
    ]
    vectors = OneHot(DONOR)(places)
    assert vectors[0].tolist() == [0, 1, 0] and vectors[1].tolist() == [0.5, 0.25, 0.25]


def test_shares_are_those_of_training() -> None:
    words = ["b", "a", "b", None, "b", "c"]
    found = covariate_of("lane", words, np.arange(5), "rna")
    assert found == Covariate("lane", ("a", "b"), (0.25, 0.75))
    with pytest.raises(ValueError, match="'lane' has 1; name another column"):
        covariate_of("lane", words, np.array([0, 2]), "rna")
    with pytest.raises(ValueError, match="2 to 100 categories"):
        covariate_of("lane", [str(k) for k in range(101)], np.arange(101), "rna")


# Files.


def cells(lacking=20, donors=("d0", "d1", "d2"), seed=0, n=120) -> mudata.MuData:
    places, _, x, other = planted(seed)
    obs = pd.DataFrame(
        {"donor": [donors[k] for k in places[:n]], "line": np.where(other[:n, 0] > 0, "A", "B")},
        index=[f"c{k}" for k in range(n)],
    )
    rna = anndata.AnnData(
        x[:n].numpy(), obs=obs[[]], var=pd.DataFrame(index=[f"g{k}" for k in range(D)])
    )
    prot = anndata.AnnData(other[:n].numpy(), obs=obs[[]], var=pd.DataFrame(index=list("abcde")))
    mudata.set_options(pull_on_update=False)
    whole = mudata.MuData({"rna": rna[:-lacking].copy(), "prot": prot})
    whole.obs = obs.loc[whole.obs_names]
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was trained by commands only, and what they said."""
    root = tmp_path_factory.mktemp("covariates")
    cells().write(root / "cells.h5mu")
    assert run(["init", str(root / "cells.h5mu")]) == 0
    text = (root / "cells.yaml").read_text()
    assert "batch_key" not in text  # never used in silence
    (root / "told.yaml").write_text(
        text.replace("modality: rna", "modality: rna, batch_key: donor")
    )
    quick = ["training.epochs=2", "method.latent=2", "training.progress=false"]
    assert run(["train", str(root / "told.yaml"), "--out", str(root / "run"), *quick]) == 0
    return root


def test_init_offers_a_column_and_inspect_says_it(folder, tmp_path, capsys) -> None:
    cells().write(tmp_path / "cells.h5mu")
    assert run(["init", str(tmp_path / "cells.h5mu")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "write batch_key: donor into the description of 'rna'" in said
    assert run(["inspect", str(folder / "told.yaml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "are told 'donor' of each sample, one of 3 categories (d0" in said
    assert "donor: no modality" not in said and "line: no modality" in said


def test_the_run_keeps_it_and_new_cells_have_their_own(folder, tmp_path, caplog) -> None:
    trained = polymodal.load(folder / "run")
    (m,) = (m for m in trained.modalities if m.name == "rna")
    assert m.covariate is not None and m.covariate.categories == ("d0", "d1", "d2")
    from polymodal.data import read_rows

    new = cells(donors=("d2", "d9", "d0"))
    new.write(tmp_path / "new.h5mu")
    data = read_rows(trained.modalities, trained.settings["data"], tmp_path / "new.h5mu")
    expected = [m.covariate.places([word])[0] for word in new.obs.donor]
    assert data.covariates["rna"].tolist() == expected  # also of cells without RNA
    assert "have no category of training in 'donor' ('d9')" in caplog.text


def test_what_is_filled_in_is_that_of_the_cells_own_batch(folder, tmp_path) -> None:
    source = cells(lacking=60)
    filled = {}
    for name in ("d0", "d1"):
        source.obs["donor"] = name
        source.write(tmp_path / f"{name}.h5mu")
        out = tmp_path / f"{name}.out.h5mu"
        given = [str(folder / "run"), str(tmp_path / f"{name}.h5mu")]
        assert run(["impute", *given, "--out", str(out), "--intervals", "0"]) == 0
        filled[name] = mudata.read_h5mu(out).mod["rna"].layers["imputed"][-60:]
        assert run(["encode", *given, "--out", str(tmp_path / f"{name}.latents.h5mu")]) == 0
    latents = [mudata.read_h5mu(tmp_path / f"{d}.latents.h5mu").obsm["X_polymodal"] for d in filled]
    assert np.isfinite(filled["d0"]).all() and (filled["d0"] != filled["d1"]).mean() > 0.9
    assert (latents[0] != latents[1]).any()


def test_the_imputer_is_told_by_the_name_of_a_column(caplog) -> None:
    def imputer(**options) -> polymodal.Imputer:
        return polymodal.Imputer(epochs=2, latent=2, proposals=20, random_state=0, **options)

    source, filled = cells(lacking=60), {}
    told = imputer(batch_key="donor").fit(source)
    assert all(m.covariate.categories == ("d0", "d1", "d2") for m in told.modalities_)
    for name in ("d0", "d1", "d9"):
        source.obs["donor"] = name
        filled[name] = told.transform(source).mod["rna"].layers["imputed"][-60:]
    assert (filled["d0"] != filled["d1"]).mean() > 0.9 and np.isfinite(filled["d9"]).all()
    assert "have no category of training in 'donor' ('d9')" in caplog.text
    with pytest.raises(ValueError, match=r"no batch_key .donr. in obs\. Did you mean donor"):
        imputer(batch_key="donr").fit(source)
    with pytest.raises(ValueError, match="batch_key is of cells"):
        imputer(batch_key="donor").fit(np.zeros((20, 2)))


def test_evaluate_and_the_app_work(folder) -> None:
    options = [
        "--metrics",
        "imputation,joint_log_likelihood,conditional_log_likelihood",
        "--limit",
        "8",
    ]
    assert run(["evaluate", str(folder / "run"), *options]) == 0
    service = Service(polymodal.load(folder / "run"), polymodal.load_data(folder / "told.yaml"))
    assert any("are told 'donor'" in sentence for sentence in service.about())
    drawn = service.draw({}, 2)
    assert drawn is not None
    out = folder / "generated"
    given = ["--out", str(out), "--n", "2", "--batch", "rna=d1"]
    assert run(["generate", str(folder / "run"), *given]) == 0
    of_another = ["--out", str(folder / "other"), "--n", "2", "--batch", "rna=d2"]
    assert run(["generate", str(folder / "run"), *of_another]) == 0
    x, y = (np.load(path / "generated.npz")["rna"] for path in (out, folder / "other"))
    assert x.shape == y.shape and (x != y).any()
    assert run(["generate", str(folder / "run"), "--out", str(out), "--batch", "rna=d9"]) == 2


def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path, monkeypatch) -> None:
    options = {"latent": 2, "epochs": 3, "batch": 100, "progress": False, "checkpoint_minutes": 0.0}
    expected = fit("jnf", splits(True), **options).model.state_dict()
    real, done = StageTrainer.run_epoch, []

    def interrupted(self, *args):
        done.append(args)
        if len(done) in (3, 6):  # in each of the two stages
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(StageTrainer, "run_epoch", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit("jnf", splits(True), out=tmp_path / "run", **options)
    state = fit("jnf", splits(True), out=tmp_path / "run", **options).model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_arrays_with_a_table_of_batches(tmp_path, capsys) -> None:
    places, _, x, _ = planted()
    np.savez(tmp_path / "x.npz", rna=x[:90].int().numpy())
    frame = pd.DataFrame({"lane": [f"l{k}" for k in places[:90]], "age": np.arange(90) % 7})
    frame.to_csv(tmp_path / "about.csv", index=False)
    text = (
        "data:\n  file: about.csv\n  modalities:\n    about: {columns: {age: real}}\n"
        "    rna: {source: array, file: x.npz, array: rna, counts: true, batch_key: LANE}\n"
    )
    (tmp_path / "d.yaml").write_text(text.replace("LANE", "lane"))
    data = polymodal.load_data(tmp_path / "d.yaml")
    (m,) = (m for m in data.train.modalities if m.name == "rna")
    assert m.covariate is not None and m.covariate.column == "lane"
    assert torch.cat([d.covariates["rna"] for d in data.parts.values()]).bincount().sum() == 90
    for wrong, said in (("lan", "lane"), ("age", "about")):
        (tmp_path / "d.yaml").write_text(text.replace("LANE", wrong))
        if wrong == "lan":
            with pytest.raises(ValueError, match=said):
                polymodal.load_data(tmp_path / "d.yaml")
