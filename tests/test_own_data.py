"""What newcomers met with data of their own, each as it is now.

Beside what is here: what filling in is worth, with baselines and coverage, in
`test_evaluate_imputation`; intervals that hold in `test_intervals`; the report's numbers with names
in `test_evaluate_imputation`; laws of holes in `test_holes`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import polymodal
from polymodal.cli.main import run
from polymodal.metrics.evaluate import chosen_subsets

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(200, 2))
X = (Z @ RNG.normal(size=(2, 5)) + 0.1 * RNG.normal(size=(200, 5))).astype(np.float64)
Y = (Z @ RNG.normal(size=(2, 3)) + 0.1 * RNG.normal(size=(200, 3))).astype(np.float64)


def fitted(x: np.ndarray) -> tuple[polymodal.Run, polymodal.Splits]:
    data = polymodal.load_data({"x": x, "y": Y})
    options = {"latent": 2, "lr": 3e-3, "batch": 32, "progress": False}
    return polymodal.fit("mvtcae", data, epochs=15, **options), data


def guessed(run: polymodal.Run, data: polymodal.Splits) -> np.ndarray:
    """x of test samples, given y."""
    given = data.test.batch(torch.arange(len(data.test))).only(["y"])
    torch.manual_seed(0)
    return run.model.generate(given, n=1)["x"][0].double().numpy()


@pytest.mark.parametrize(("scale", "shift"), [(1e-8, 0.0), (1e4, 3e5)])
def test_units_change_nothing(scale: float, shift: float, capsys, tmp_path) -> None:
    """Data in any units give the same answers in those units, and what is standardised is said."""
    usual, other = guessed(*fitted(X)), guessed(*fitted(X * scale + shift))
    np.testing.assert_allclose((other - shift) / scale, usual, atol=0.02)
    np.savez(tmp_path / "x.npz", x=X * scale + shift, y=Y)
    assert run(["inspect", str(tmp_path / "x.npz")]) == 0
    assert "standardised" in capsys.readouterr().out


def test_scales_are_learned_for_every_kind_of_numbers() -> None:
    image = RNG.integers(0, 256, (200, 16, 16), dtype=np.uint8)
    table = pd.DataFrame(X, columns=list("abcde"))
    for data in ({"x": X, "y": Y, "image": image}, {"x": X, "table": table, "image": image}):
        assert [m.scale for m in polymodal.load_data(data).modalities] == [None] * 3


def test_the_learned_scale_leaves_its_start() -> None:
    """It starts at 1 in standardised units, where the noise is about .07, and falls."""
    trained, _ = fitted(X)
    assert trained.model.decoders["x"].get_parameter("learned.raw").exp().max() < 0.9


def test_filling_in_is_at_most_as_wrong_as_the_best_of_the_others() -> None:
    """The mean over seeds of the recorded runs, numbers and categories of every table."""
    runs = json.loads((ROOT / "benchmarks" / "results" / "impute.json").read_text())["runs"]
    tables = {r["table"] for r in runs if r["mechanism"] == "mcar"}
    for table in tables & {"wine", "modechoice", "anes96"}:
        chosen = [r["imputers"] for r in runs if r["table"] == table and r["mechanism"] == "mcar"]
        for figure in ("rmse", "error_rate"):
            means = {name: np.mean([r[name][figure] for r in chosen]) for name in chosen[0]}
            assert means.pop("polymodal") <= min(means.values()), (table, figure, means)


def test_nan_inside_a_modality_is_trained_on_given_and_filled(tmp_path) -> None:
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    np.savez(tmp_path / "x.npz", x=holes, y=Y)
    np.save(tmp_path / "given.npy", holes[:4])
    small = "training.epochs=1 training.progress=false method.latent=2".split()
    out = str(tmp_path / "run")
    assert run(["train", "mvtcae", "--data", str(tmp_path / "x.npz"), "--out", out, *small]) == 0
    given = ["--given", f"x={tmp_path / 'given.npy'}", "--want", "y"]
    assert run(["generate", out, *given, "--out", str(tmp_path / "g")]) == 0
    with np.load(tmp_path / "g" / "generated.npz") as made:
        assert made["y"].shape == (8, 4, 3) and np.isfinite(made["y"]).all()
    assert run(["impute", out, str(tmp_path / "x.npz"), "--out", str(tmp_path / "f.npz")]) == 0
    with np.load(tmp_path / "f.npz") as full:
        seen = ~np.isnan(holes)
        assert np.isfinite(full["x"]).all() and (full["x"][seen] == holes[seen]).all()


def test_the_subsets_of_many_modalities_are_few() -> None:
    names = list("abcdefg")
    assert len(chosen_subsets(None, names)) <= 2 * len(names) + 1 < 127


def test_tables_and_mappings_are_data_and_what_is_none_is_told() -> None:
    frame = pd.DataFrame(X, columns=list("abcde"))
    for data in (frame, {"x": X, "y": Y}, {"x": torch.tensor(X), "t": frame}):
        assert polymodal.fit("jmvae", data, epochs=1, progress=False, hidden=8).model
    with pytest.raises(ValueError, match=r"There is no file x\.npz"):
        polymodal.load_data("x.npz")
    model, _ = fitted(X)
    assert model.model.generate({"y": torch.zeros(2, 3)})["x"].shape == (1, 2, 5)
