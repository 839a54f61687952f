"""`Imputer`: scikit-learn's own checks, and every form of data given back as it came."""

import logging
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import polymodal
from polymodal import Imputer
from polymodal.data.tables.frame import Frame

QUICK = {"hidden": 16, "k": 5, "eval_every": 1}
# {check: why it fails}, at most 8.
EXPECTED: dict[str, str] = {}


def quick(**options) -> Imputer:
    given = {"epochs": 1, "latent": 2, "proposals": 20, "settings": QUICK, "random_state": 0}
    return Imputer(**given | options)


def mixed(n=120, seed=0) -> pd.DataFrame:
    """Columns of many types, with holes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "x": z + 0.1 * rng.normal(size=n),
            "f": (z - 1).astype(np.float32),
            "n": pd.array(rng.poisson(np.exp(1 + z)), "Int64"),
            "word": np.where(z > 0, "up", np.where(z > -1, "middle", "low")),
            "cat": pd.Categorical(np.where(z > 0, "b", "a"), categories=["b", "a", "never"]),
            "size": pd.Categorical(np.digitize(z, [-1, 1]), categories=[0, 1, 2], ordered=True),
            "flag": pd.array(z > 0, "boolean"),
            "truth": (z > 0).astype(object),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta((30 * z).round(), "D"),
            "zone": pd.to_datetime((1.6e9 + 1e6 * z).astype(int), unit="s", utc=True),
            "square": z**2,
        }
    )
    frame["truth"] = frame["truth"].map({True: True, False: False}).astype(object)
    for column in frame.columns:
        frame.loc[rng.random(n) < 0.15, column] = pd.NA if column != "truth" else None
    frame["f"] = frame["f"].astype(np.float32)
    frame["id"] = [f"p{k}" for k in range(n)]
    return frame.set_index(np.arange(n) * 3)


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn() -> None:
    assert len(EXPECTED) <= 8
    found = check_estimator(quick(), expected_failed_checks=EXPECTED, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in found if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in found) > 40


@pytest.mark.filterwarnings("ignore")
def test_a_pipeline_in_cross_validation() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 1)) + 0.3 * rng.normal(size=(90, 3))
    y = x.sum(1)
    x[rng.random(x.shape) < 0.2] = np.nan
    pipeline = make_pipeline(quick(epochs=60), StandardScaler(), LinearRegression())
    scores = cross_val_score(pipeline, x, y, cv=3, error_score="raise")
    assert scores.min() > 0.7
    assert pipeline.get_params()["imputer__epochs"] == 60


def test_holes_are_filled_by_the_other_columns() -> None:
    """The error is far below that of the column's mean, and draws spread as far."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(400, 1))
    truth = 100 * (z + 0.3 * rng.normal(size=(400, 3)))
    holes = rng.random(truth.shape) < 0.25
    holes[holes.all(1)] = False
    x = np.where(holes, np.nan, truth)
    imputer = Imputer(epochs=80, latent=2, proposals=200, settings=QUICK, random_state=0)
    full = imputer.fit_transform(x)
    np.testing.assert_array_equal(full[~holes], truth[~holes])
    error = np.sqrt(np.mean((full - truth)[holes] ** 2))
    assert np.isfinite(full).all() and error < 0.5 * truth.std()
    copies = np.stack(imputer.sample(x, 50))
    assert copies.shape == (50, 400, 3) and (copies[:, ~holes] == truth[~holes]).all()
    spread = np.sqrt(np.mean((copies.std(0))[holes] ** 2))
    assert spread == pytest.approx(error, rel=0.35)
    pooled = polymodal.pool_estimates(copies.mean(1), copies.var(1, ddof=1) / 400, 399)
    assert (abs(pooled.estimate - truth.mean(0)) < 4 * np.sqrt(pooled.variance)).all()
    assert (pooled.missing_information < 0.4).all() and (pooled.missing_information > 0).all()
    bounds = imputer.intervals(x, level=0.9)
    assert len(bounds) == holes.sum()
    columns = bounds["column"].str[1:].astype(int)
    hidden = truth[bounds["row"], columns]
    inside = (hidden >= bounds["lower"]) & (hidden <= bounds["upper"])
    assert abs(inside.mean() - 0.9) < 3 * np.sqrt(0.09 / 36)  # 36 values calibrate them
    np.testing.assert_array_equal(full[bounds["row"], columns], bounds["value"])


def test_a_frame_keeps_its_columns_index_and_types(caplog) -> None:
    frame = mixed()
    with caplog.at_level(logging.WARNING, "polymodal"):
        imputer = quick(epochs=3).fit(frame)
    assert "stays as it is" not in caplog.text  # the key has no holes
    assert [g.name for g in imputer.left_out_["X"]] == ["id"]
    full = imputer.transform(frame)
    pd.testing.assert_series_equal(full.dtypes, frame.dtypes)
    assert full.columns.equals(frame.columns) and full.index.equals(frame.index)
    assert frame.isna().sum().min() == 0 < frame.isna().sum().sum() and not full.isna().any(
        axis=None
    )
    for column in frame:
        observed = frame[column].notna()
        pd.testing.assert_series_equal(full.loc[observed, column], frame.loc[observed, column])
    assert (full["day"] == full["day"].dt.normalize()).all()
    assert set(full["truth"]) == {True, False} and "never" not in set(full["cat"])
    assert str(full["zone"].dt.tz) == "UTC"
    bounds = imputer.intervals(frame)
    assert len(bounds) == frame.isna().sum().sum()
    dates = bounds[bounds["column"] == "day"]
    assert (dates["lower"] <= dates["upper"]).all()
    types = {c.name: c.type for c in imputer.modalities_[0].columns}
    assert types["cat"] == "category" and types["size"] == "ordinal" and types["n"] == "count"


def test_what_cannot_be_filled_stays_and_is_told(caplog) -> None:
    frame = mixed()[["x", "f"]]
    frame["empty"] = np.nan
    frame["name"] = [f"n{k}" if k % 2 else None for k in range(len(frame))]
    frame["my_id"] = np.where(np.arange(len(frame)) % 9, np.arange(len(frame)) * 1.0, np.nan)
    with caplog.at_level(logging.WARNING, "polymodal"):
        full = quick().fit_transform(frame)
    assert "Column 'name' stays as it is, with its holes: every row has another word" in caplog.text
    assert "Column 'empty' stays as it is" in caplog.text
    same = ["empty", "name", "my_id"]
    pd.testing.assert_frame_equal(full[same], frame[same])


def test_a_number_that_stands_for_nothing_is_told(caplog) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    x[:4, 1] = -999
    with caplog.at_level(logging.WARNING, "polymodal"):
        quick().fit(x)
    assert "Column 'x1' has -999 in 4 rows, far from all other values" in caplog.text


def test_categories_of_a_frame_may_look_like_numbers() -> None:
    """Their type says that codes have no order, and that words among numbers are right."""
    n = 60
    frame = pd.DataFrame(
        {
            "code": pd.Categorical([(101, 205, 333)[k % 3] for k in range(n)]),
            "mixed": pd.Categorical([("-", "1", "2", "3")[k % 4] for k in range(n)]),
            "x": np.arange(n) % 3 + np.linspace(0, 0.1, n),
        }
    )
    frame.loc[::7, ["code", "mixed"]] = None
    imputer = quick()
    full = imputer.fit_transform(frame)
    types = {c.name: c.type for c in imputer.modalities_[0].columns}
    assert types == {"code": "category", "mixed": "category", "x": "real"}
    assert full.dtypes.equals(frame.dtypes) and full.notna().all(None)


def test_new_rows_have_other_patterns_and_unseen_words(caplog) -> None:
    frame = mixed()
    imputer = quick().fit(frame)
    new = frame.iloc[:3].copy()
    new.loc[:, "x"] = np.nan
    new.iloc[1, :-1] = pd.NA
    new["word"] = ["sideways", None, "up"]
    with caplog.at_level(logging.WARNING, "polymodal"):
        full = imputer.transform(new)
    assert "'sideways', not among the categories of training" in caplog.text
    assert full["word"].iloc[0] == "sideways" and full["word"].iloc[2] == "up"
    assert not full.isna().any(axis=None)
    again = imputer.transform(new)
    pd.testing.assert_frame_equal(full, again)


def test_a_mapping_of_modalities() -> None:
    frame = mixed()
    given = {"a": frame[["x", "word"]], "b": frame[["f"]].to_numpy(), "c": torch.rand(120)}
    given["b"][::3] = np.nan
    imputer = quick(epochs=3).fit(given)
    names = ["a__x", "a__word", "b__x0", "c__x0"]
    assert list(imputer.get_feature_names_out()) == names and imputer.n_features_in_ == 4
    full = imputer.transform(given)
    assert list(full) == ["a", "b", "c"] and not full["a"].isna().any(axis=None)
    assert full["b"].dtype == np.float32 and np.isfinite(full["b"]).all()
    assert torch.equal(full["c"], given["c"])
    alone = imputer.transform({"b": given["b"], "c": None})
    assert list(alone) == ["b"] and np.isfinite(alone["b"]).all()
    assert set(imputer.intervals(given)["column"]) <= set(names)
    side = imputer.set_output(transform="pandas").transform({"a": given["a"]})
    assert list(side.columns) == names and side["b__x0"].isna().all()
    observed = frame["word"].notna().to_numpy()
    assert list(side["a__word"][observed]) == list(frame["word"][observed])
    with pytest.raises(ValueError, match=r"fit knew the modalities \['a', 'b', 'c'\], not \['d'\]"):
        imputer.transform({"d": given["b"]})
    with pytest.raises(ValueError, match="X must be a mapping as in fit, got ndarray"):
        imputer.transform(given["b"])
    with pytest.raises(ValueError, match="same number of rows, got"):
        imputer.fit({"a": given["a"], "b": given["b"][:5]})
    with pytest.raises(ValueError, match="without any table"):
        imputer.fit({})


def test_copies_outputs_and_seeds() -> None:
    x = np.where(np.random.default_rng(0).random((40, 3)) < 0.3, np.nan, 1.5)
    x[:, 0] = np.arange(40)
    imputer = quick()
    twin = clone(imputer)
    full = imputer.fit_transform(x)
    np.testing.assert_array_equal(twin.fit_transform(x), full)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(imputer)).transform(x), full)
    named = imputer.set_output(transform="pandas").transform(x)
    assert isinstance(named, pd.DataFrame) and list(named.columns) == ["x0", "x1", "x2"]
    other = clone(imputer).set_params(random_state=1).fit_transform(x)
    assert (other.to_numpy() != full).any()


def test_settings_are_those_of_fit() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    imputer = quick(method="mvae", settings={"lr": 0.01}).fit(x)
    chosen = imputer.run_.settings
    assert chosen["method"]["name"] == "mvae" and chosen["method"]["latent"] == 2
    assert chosen["training"]["lr"] == 0.01 and chosen["training"]["epochs"] == 1
    usual = quick(latent=None).fit(x)
    assert usual.modalities_[0].holes  # though X has none, new rows can
    assert usual.run_.settings["method"]["name"] == usual.advice_.method == "miwae"
    assert usual.run_.settings["method"]["latent"] == usual.advice_.options["latent"]
    with pytest.raises(ValueError, match="fit has no setting 'lrr'"):
        quick(settings={"lrr": 1}).fit(x)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (pd.DataFrame({"a": [1.0, "x", 2.0]}), "must hold numbers, words, dates or true and false"),
        (pd.DataFrame({"a": [1j, 2]}, dtype=object), "complex numbers"),
        (pd.DataFrame([[1.0, 2.0]] * 9, columns=["a", "a"]), "Expected unique column names"),
        (pd.DataFrame({"a": [np.inf, 1.0, 2.0]}), "is infinite in iloc.0."),
        (pd.DataFrame({"a": ["-", *"123456789"]}), r"'-' \(iloc\[0\]\); if .*to_numeric"),
        (pd.DataFrame({"a": ["01/02/2020", "03/04/2020"]}), "pandas.to_datetime"),
        (pd.DataFrame({"a": [f"{k} b c d" for k in range(20)]}), "no column that can be used"),
        (np.full((5, 2), np.nan), "no column that can be used"),
        (pd.DataFrame({"a": []}), "0 sample"),
        ({"a": np.zeros((3, 2, 2))}, r"an array \(rows, columns\) of real numbers"),
    ],
)
def test_what_is_refused(given, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick().fit(given)


def test_levels_between_0_and_1() -> None:
    imputer = quick().fit(np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 90"):
        imputer.intervals(np.ones((2, 2)), level=90)


def test_frames_are_guessed_by_their_types() -> None:
    frame = Frame(mixed(), "X")
    found = {c: frame.guess(c).type for c in frame.columns}
    assert found["flag"] == found["truth"] == "boolean" and found["cat"] == "category"
    assert found["size"] == "ordinal" and found["day"] == "real" and found["square"] == "real"
