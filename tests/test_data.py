"""Data: laws of matchings and splits, closed forms, geometry, and what bad input is told."""

import gzip
import itertools
import math
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from polymodal.batch import Batch, Modality
from polymodal.data import (
    Dataset,
    LinearGaussian,
    celeba,
    circles,
    gather,
    load_data,
    match,
    mcar,
    mnist_svhn,
    shapes,
    squares,
)
from polymodal.data.readers import decoded, files
from polymodal.data.readers import digits as digit_files

faces = import_module("polymodal.data.celeba")  # the package's attribute is the function

ALL = ("x1", "x2", "x3")
SUBSETS = [s for k in (1, 2, 3) for s in itertools.combinations(ALL, k)]


def parts(splits):
    return {"train": splits.train, "val": splits.val, "test": splits.test}


def everything(data):
    return data.batch(torch.arange(len(data)))


# Linear-Gaussian: closed forms against conditioning the joint Gaussian of (z, x) by brute force.


@pytest.fixture
def law():
    return replace(
        LinearGaussian.draw((2, 3, 1), latent=2, seed=3), noise={"x1": 0.4, "x2": 0.9, "x3": 0.2}
    )


def brute_force(law):
    """Mean and covariance of (z, x1, x2, x3), and the rows of each."""
    A = np.concatenate([np.eye(law.latent), *[law.loading[m].numpy() for m in ALL]])
    noise = np.concatenate(
        [np.zeros(law.latent), *[np.full(len(law.bias[m]), law.noise[m] ** 2) for m in ALL]]
    )
    mean = np.concatenate([np.zeros(law.latent), *[law.bias[m].numpy() for m in ALL]])
    ends = np.cumsum([0, law.latent, *[len(law.bias[m]) for m in ALL]])
    rows = {
        name: list(range(a, b)) for name, a, b in zip(("z", *ALL), ends[:-1], ends[1:], strict=True)
    }
    return mean, A @ A.T + np.diag(noise), rows


def conditioned(law, target, subset, x):
    mean, covariance, rows = brute_force(law)
    t, s = rows[target], [r for m in subset for r in rows[m]]
    gain = covariance[np.ix_(t, s)] @ np.linalg.inv(covariance[np.ix_(s, s)])
    seen = np.concatenate([x[m].numpy() for m in subset], 1)
    return (
        mean[t] + (seen - mean[s]) @ gain.T,
        covariance[np.ix_(t, t)] - gain @ covariance[np.ix_(s, t)],
    )


def observed(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = {"x1": 2, "x2": 3, "x3": 1}
    return {
        m: 2 * torch.randn(n, d, generator=generator, dtype=torch.float64) for m, d in shape.items()
    }


@pytest.mark.parametrize("subset", SUBSETS)
def test_posterior_of_every_subset(law, subset):
    x = observed()
    q = law.posterior(Batch(x).only(subset))
    mean, covariance = conditioned(law, "z", subset, x)
    np.testing.assert_allclose(q.mean, mean, atol=1e-12)
    np.testing.assert_allclose(
        q.covariance_matrix, np.broadcast_to(covariance, q.covariance_matrix.shape), atol=1e-12
    )


@pytest.mark.parametrize("subset", SUBSETS)
def test_evidence_of_every_subset(law, subset):
    x = observed()
    mean, covariance, rows = brute_force(law)
    s = [r for m in subset for r in rows[m]]
    p = torch.distributions.MultivariateNormal(
        torch.tensor(mean[s]), torch.tensor(covariance[np.ix_(s, s)])
    )
    expected = p.log_prob(torch.cat([x[m] for m in subset], 1))
    torch.testing.assert_close(
        law.log_evidence(Batch(x).only(subset)), expected, atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("subset", [(), *SUBSETS])
def test_conditional_ignores_the_target_itself(law, target, subset):
    x = observed()
    p = law.conditional(Batch(x).only({*subset, target}), target)
    given_names = [m for m in subset if m != target]
    if given_names:
        mean, covariance = conditioned(law, target, given_names, x)
    else:
        mean, covariance, rows = brute_force(law)
        mean = np.broadcast_to(mean[rows[target]], p.mean.shape)
        covariance = covariance[np.ix_(rows[target], rows[target])]
    np.testing.assert_allclose(p.mean, mean, atol=1e-12)
    np.testing.assert_allclose(p.covariance_matrix[2], covariance, atol=1e-12)


def test_masks_are_subsets_sample_by_sample(law):
    x = observed(8)
    present = {m: torch.arange(8) // 2**k % 2 == 1 for k, m in enumerate(ALL)}  # all eight subsets
    batch = Batch(x, present)
    q, evidence = law.posterior(batch), law.log_evidence(batch)
    assert q.mean[0].tolist() == [0, 0] and evidence[0] == 0  # nothing seen: the prior
    for i in range(1, 8):
        seen = [m for m in ALL if present[m][i]]
        torch.testing.assert_close(
            q.mean[i], law.posterior(Batch(x).only(seen)).mean[i], atol=1e-12, rtol=0
        )
        torch.testing.assert_close(
            evidence[i], law.log_evidence(Batch(x).only(seen))[i], atol=1e-12, rtol=0
        )


def test_joint_is_the_law_of_the_samples(law):
    torch.set_default_dtype(torch.float64)
    try:
        x = torch.cat(list(law.sample(200_000, torch.Generator().manual_seed(0)).x.values()), 1)
    finally:
        torch.set_default_dtype(torch.float32)
    mean, covariance, _ = brute_force(law)
    joint = law.joint()
    np.testing.assert_allclose(joint.mean, mean[2:])
    np.testing.assert_allclose(joint.covariance_matrix, covariance[2:, 2:], atol=1e-12)
    error = (x.T.cov() - joint.covariance_matrix).abs() / joint.covariance_matrix.diagonal().max()
    assert error.max() < 0.02  # 1/sqrt(n) = .002
    assert (x.mean(0) - joint.mean).abs().max() < 0.02


def test_linear_gaussian_states_its_law():
    data = load_data("linear_gaussian", dims={"a": 2, "b": 1}, n=100, noise=0.3)
    assert [len(p) for p in parts(data).values()] == [80, 10, 10]
    assert (
        data.modalities
        == [Modality("a", (2,), scale=0.3), Modality("b", (1,), scale=0.3)]
        == data.truth.modalities
    )


# Shapes.

STEP = 2 / 31  # distance between neighbouring pixels' centres


@pytest.mark.parametrize(
    ("draw", "full", "area", "perimeter"),
    [
        (circles, True, lambda r: math.pi * r**2, 2 * math.pi),
        (squares, True, lambda r: 2 * r**2, 4 * math.sqrt(2)),
        (circles, False, lambda r: 2 * math.pi * r * 0.25, 4 * math.pi),
        (squares, False, lambda r: 4 * r * 0.25, 8 * math.sqrt(2)),
    ],
)
def test_areas_are_those_of_the_figures(draw, full, area, perimeter):
    radius = torch.linspace(0.3, 0.87, 500)
    images = draw(radius, torch.full((500,), full))
    assert images.shape == (500, 1, 32, 32) and set(images.unique().tolist()) == {0, 255}
    measured = (images > 0).sum((1, 2, 3)) * STEP**2
    error = measured - torch.tensor([area(r) for r in radius.tolist()])
    assert (
        error.abs() / (perimeter * radius * STEP)
    ).max() < 0.5  # within half a pixel along the edge
    assert abs(error.mean() / measured.mean()) < 0.01  # and on average right


def test_shapes_share_being_full_and_nothing_else():
    data = everything(shapes(n=4000).train)
    for m in ("square", "circle"):
        # An empty figure's contour begins at .3 - .125 from the centre, whose nearest pixels are
        # .05 away.
        assert torch.equal(data.x[m][:, 0, 15, 15].long(), data.label)
    assert abs(data.label.float().mean() - 0.5) < 0.05
    full = data.label == 1
    r_square = (data.x["square"][full].sum((1, 2, 3)) * STEP**2 / 2).sqrt()
    r_circle = (data.x["circle"][full].sum((1, 2, 3)) * STEP**2 / math.pi).sqrt()
    for r in (r_square, r_circle):
        assert 0.25 < r.min() < 0.33 and 0.87 < r.max() < 0.95 and abs(r.mean() - 0.6) < 0.02
    assert abs(torch.corrcoef(torch.stack([r_square, r_circle]))[0, 1]) < 0.08  # 1/sqrt(n) = .03


def test_shapes_split():
    assert [len(p) for p in parts(shapes(n=1000)).values()] == [630, 70, 300]


# Determinism.


def same(a, b):
    return all(
        torch.equal(x, y)
        for p, q in zip(parts(a).values(), parts(b).values(), strict=True)
        for x, y in zip(everything(p).x.values(), everything(q).x.values(), strict=True)
    )


@pytest.mark.parametrize("name", ["linear_gaussian", "shapes", "mnist-svhn", "polymnist", "own"])
def test_data_is_a_function_of_the_seed_alone(name, digits, tmp_path):
    if name == "own":
        name = tmp_path / "own.npz"
        np.savez(name, a=np.random.default_rng(0).normal(size=(30, 2)))
    load = partial(load_data, name, path=None if "own" in str(name) else digits)
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = load(seed=1)
    assert (
        torch.equal(before[0], torch.get_rng_state())
        and (before[1] == np.random.get_state()[1]).all()
    )
    torch.manual_seed(5)
    assert same(first, load(seed=1))
    assert not same(first, load(seed=2))


# Matchings. Each fabricated image carries its own number, so that it can be known again.


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=2, max_size=3),
    st.integers(1, 4),
    st.integers(1, 10),
)
@settings(max_examples=60, deadline=None)
def test_matching_laws(labels, times, most):
    labels = [torch.tensor(every) for every in labels]
    common = set.intersection(*[set(every.tolist()) for every in labels])
    draw = lambda: match(labels, torch.Generator().manual_seed(0), times, most)
    if not common:
        with pytest.raises(ValueError, match="no label in common"):
            draw()
        return
    rows = draw()
    drawn = [every[r] for every, r in zip(labels, rows, strict=True)]
    assert all(torch.equal(drawn[0], d) for d in drawn)
    for every, r in zip(labels, rows, strict=True):
        for value in common:
            n = min(most, *[int((other == value).sum()) for other in labels])
            first = (every == value).nonzero().squeeze(1)[:n]
            seen, count = r[every[r] == value].unique(return_counts=True)
            assert torch.equal(seen, first) and set(count.tolist()) == {times}


@pytest.mark.parametrize(("sizes", "times"), [((40, 40), 5), ((30, 50, 35), 5), ((6, 6), 5)])
def test_no_pair_is_matched_twice(sizes, times):
    """Neither sample of a pair meets the other again; each keeps its number of tuples."""
    labels = [torch.arange(2 * n) % 2 for n in sizes]
    for seed in range(5):
        rows = match(labels, torch.Generator().manual_seed(seed), times)
        for other in rows[1:]:
            pairs = set(zip(rows[0].tolist(), other.tolist(), strict=True))
            assert len(pairs) == times * 2 * min(sizes)
        for r in rows:
            assert set(r.bincount()[r.unique()].tolist()) == {times}


@pytest.mark.parametrize(("small", "times"), [(7, 1), (7, 3), (7, 5), (20, 5)])
def test_fresh_matchings_use_all_of_the_larger_set(small, times):
    larger = 20
    labels = [
        torch.tensor([1]).repeat_interleave(larger),
        torch.tensor([0, 1]).repeat_interleave(small),
    ]
    draw = lambda **kw: match(labels, torch.Generator().manual_seed(0), times, **kw)
    a, b = draw(fresh=True)
    assert torch.equal(labels[0][a], labels[1][b]) and len(a) == times * small
    seen = torch.bincount(a, minlength=larger)
    assert set(seen.tolist()) <= {
        times * small // larger,
        -(-times * small // larger),
    }  # as evenly as can be
    assert set(torch.bincount(b)[small:].tolist()) == {times}
    assert torch.equal(draw(fresh=False)[0].unique(), torch.arange(small))


def test_fresh_pairs_use_more_images(digits):
    used = [
        len(mnist_svhn(path=digits, fresh=fresh).train.index["svhn"].unique())
        for fresh in (False, True)
    ]
    assert used[0] < used[1] == len(mnist_svhn(path=digits).train.tables["svhn"])


def test_matching_is_random():
    label = torch.zeros(500, dtype=torch.long)
    a, b = match([label, label], torch.Generator().manual_seed(0), times=1)
    assert (a == b).sum() < 8  # one expected
    label = torch.arange(500) // 250
    a, _ = match([label, label], torch.Generator().manual_seed(0), times=1)
    assert (
        abs(label[a[:250]].float().mean() - 0.5) < 0.15
    )  # shuffled over the labels, standard error .03


def idx(array):
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def numbered(shape, start):
    """uint8 images whose first two values are their number; the sixth, in the first row, is 9."""
    images = np.zeros(shape, np.uint8)
    flat, number = images.reshape(len(images), -1), np.arange(len(images)) + start
    flat[:, 5] = 9
    flat[:, 0], flat[:, 1] = number // 256, number % 256
    return images


def number_of(x):
    first = (x.permute(0, 2, 3, 1).flatten(1)[:, :2] * 255).round().long()
    return first[:, 0] * 256 + first[:, 1]


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A folder of small official MNIST and SVHN files."""
    rng = np.random.default_rng(0)
    hashes = {}
    (tmp_path / "mnist").mkdir()
    for which, n, start in (("train", 200, 0), ("t10k", 60, 1000)):
        for kind, array in (
            ("images-idx3", numbered((n, 28, 28), start)),
            ("labels-idx1", rng.integers(0, 10, n)),
        ):
            content = idx(array)
            hashes[f"{which}-{kind}-ubyte"] = files.hashlib.md5(content).hexdigest()
            (tmp_path / "mnist" / f"{which}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setitem(digit_files.IDX, "mnist", (digit_files.IDX["mnist"][0], hashes))
    for which, n, start in (("train", 300, 0), ("test", 80, 1000)):
        X = numbered((n, 32, 32, 3), start).transpose(1, 2, 3, 0)
        savemat(
            tmp_path / f"{which}_32x32.mat",
            {"X": X, "y": rng.integers(1, 11, (n, 1))},
            do_compression=True,
        )
    return tmp_path


def test_no_image_is_in_two_parts(digits):
    seen = {"mnist": [], "svhn": []}
    for part in parts(mnist_svhn(path=digits, val=0.2)).values():
        x = everything(part).x
        for m, numbers in seen.items():
            number, count = number_of(x[m]).unique(return_counts=True)
            assert set(count.tolist()) == {5}
            numbers.append(set(number.tolist()))
    for train, val, test in seen.values():
        assert train and val and test and not (train & val or train & test or val & test)
        assert max(train) < min(val) and max(val) < 1000 <= min(test)  # contiguous; official test


def test_pairs_share_the_label_of_the_files(digits):
    mnist = digit_files.read_idx(digits / "mnist" / "train-labels-idx1-ubyte.gz")
    svhn = digit_files.read_mat(digits / "train_32x32.mat")["y"].ravel() % 10  # "10" is the digit 0
    data = mnist_svhn(path=digits)
    batch = everything(data.train)
    assert (mnist[number_of(batch.x["mnist"])] == batch.label.numpy()).all()
    assert (svhn[number_of(batch.x["svhn"])] == batch.label.numpy()).all()
    assert 0 in batch.label and 10 not in batch.label
    assert (batch.x["mnist"][:, 0, 0, 5] == 9 / 255).all() and (
        batch.x["svhn"][:, 2, 0, 1] == 9 / 255
    ).all()  # upright
    assert {m.name: m.weight for m in data.modalities} == {
        "mnist": pytest.approx(3.918, abs=1e-3),
        "svhn": 1,
    }


def test_test_pairs_do_not_depend_on_validation(digits):
    a, b = (everything(mnist_svhn(path=digits, val=v).test).x["svhn"] for v in (0.1, 0.3))
    assert torch.equal(a, b)


# Tables.


def test_bytes_are_read_as_fractions_and_stay_channels_last():
    nhwc = torch.randint(
        0, 256, (7, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    table, rows = nhwc.permute(0, 3, 1, 2), torch.tensor([6, 0, 0, 3])
    x = gather(table, rows)
    assert torch.equal(x, nhwc.float()[rows].permute(0, 3, 1, 2) / 255)
    assert x.is_contiguous(memory_format=torch.channels_last) and table.dtype == torch.uint8
    values = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(gather(values, rows), values[rows])


def test_taking_and_index_compose():
    table = torch.arange(5.0)[:, None]
    data = Dataset(
        [Modality("a", (1,))],
        {"a": table},
        {"a": torch.tensor([4, 2, 0])},
        label=torch.tensor([7, 8, 9]),
    )
    taken = data.take(torch.tensor([2, 0]))
    batch = everything(taken)
    assert batch.x["a"].flatten().tolist() == [0, 4] and batch.label.tolist() == [2, 0]
    assert list(taken.classes) == [7, 8, 9]
    assert taken.tables["a"] is table and [len(b) for b in data.batches(2)] == [2, 1]


# Missing values.


@pytest.mark.parametrize("rates", [0.5, {"a": 0.7, "c": 0.2}])
def test_mcar_rates(rates):
    n = 20_000
    names = ("a", "b", "c")
    data = Dataset([Modality(m, (1,)) for m in names], {m: torch.ones(n, 1) for m in names})
    present = mcar(data, rates, seed=1).present
    assert data.present == {}
    keep = torch.stack([present[m] for m in names], 1)
    assert keep.any(1).all()
    rate = {m: rates if isinstance(rates, float) else rates.get(m, 0.0) for m in names}
    rescued = math.prod(rate.values()) / 3  # of each, where all were taken
    for m in names:
        assert (
            abs((~present[m]).float().mean() - (rate[m] - rescued)) < 0.015
        )  # standard error .0035
    assert torch.equal(keep[:, 0], mcar(data, rates, seed=1).present["a"])
    assert not torch.equal(keep[:, 0], mcar(data, rates, seed=2).present["a"])


def test_mcar_keeps_what_was_there_and_adds_nothing():
    had = {"a": torch.arange(1000) % 2 == 0, "b": torch.arange(1000) % 2 == 1}
    data = Dataset(
        [Modality(m, (1,)) for m in "ab"], {m: torch.ones(1000, 1) for m in "ab"}, present=had
    )
    present = mcar(data, 0.9).present
    assert all(torch.equal(present[m], had[m]) for m in "ab")  # each sample had one, and keeps one


def test_missing_and_limit_are_laid_over_any_set():
    data = load_data("shapes", n=500, limit=100, missing={"pattern": "mcar", "rate": 0.5})
    assert [len(p) for p in parts(data).values()] == [100, 35, 100]
    whole = shapes(n=500)
    assert torch.equal(data.val.tables["square"], whole.val.tables["square"])
    rows = data.train.present["circle"].nonzero().squeeze(1)
    assert torch.equal(data.train.batch(rows).x["circle"], whole.train.batch(rows).x["circle"])
    assert (
        data.test.present == {}
        and not data.train.present["circle"].all()
        and not data.val.present["circle"].all()
    )


# A user's own file.


@pytest.fixture
def own(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return tmp_path / "own.npz"

    return write


def test_own_modalities_are_read_from_values(own):
    rng = np.random.default_rng(0)
    bytes_ = lambda *shape: rng.integers(0, 256, shape, dtype=np.uint8)
    hwc, chw, grey = bytes_(40, 6, 5, 3), bytes_(40, 3, 6, 5), bytes_(40, 6, 5)
    flags, real, column = rng.integers(0, 2, (40, 4)), rng.normal(size=(40, 2)), rng.normal(size=40)
    label = np.arange(40)
    file = own(hwc=hwc, chw=chw, grey=grey, flags=flags, real=real, column=column, label=label)
    data = load_data(file, modalities={"real": {"likelihood": "laplace", "weight": 2.0}})
    image = Modality("hwc", (3, 6, 5), link="sigmoid", scale=None)
    units = {}
    for m in ("real", "column"):
        x = data.train.tables[m].double()
        units[m] = {
            "location": tuple(x.mean(0).tolist()),
            "spread": tuple(x.std(0, correction=0).tolist()),
        }
    found = [replace(m, location=(), spread=()) for m in data.modalities]
    for m in data.modalities:
        if m.name in units:
            assert np.allclose([m.location, m.spread], [*units[m.name].values()], rtol=1e-5)
        else:
            assert not m.spread
    assert found == [
        image,
        replace(image, name="chw"),
        replace(image, name="grey", shape=(1, 6, 5)),
        Modality("flags", (4,), "bernoulli"),
        Modality("real", (2,), "laplace", weight=2.0, scale=None),
        Modality("column", (1,), scale=None),
    ]
    assert [len(p) for p in parts(data).values()] == [32, 4, 4]
    batches = [everything(p) for p in parts(data).values()]
    at = torch.cat([b.label for b in batches])
    assert sorted(at.tolist()) == list(range(40))  # a partition
    x = {m: torch.cat([b.x[m] for b in batches]) for m in data.train.names}
    assert torch.equal(x["hwc"], torch.tensor(hwc[at]).permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(x["chw"], torch.tensor(chw[at]).float() / 255)
    assert torch.equal(x["grey"][:, 0], torch.tensor(grey[at]).float() / 255)
    assert torch.equal(x["flags"], torch.tensor(flags[at]).float())
    assert torch.equal(x["real"], torch.tensor(real[at]).float())
    assert torch.equal(x["column"][:, 0], torch.tensor(column[at]).float())
    assert all(
        batches[0].x[m].is_contiguous(memory_format=torch.channels_last)
        for m in ("hwc", "chw", "grey")
    )


def test_own_parts(own):
    x = {
        f"{p}_a": np.full((n, 2), float(k + 2))
        for k, (p, n) in enumerate((("train", 20), ("val", 3), ("test", 4)))
    }
    data = load_data(
        own(**x, train_labels=np.arange(20), val_labels=np.arange(3), test_labels=np.arange(4))
    )
    assert {p: (len(d), everything(d).x["a"].unique().item()) for p, d in parts(data).items()} == {
        "train": (20, 2),
        "val": (3, 3),
        "test": (4, 4),
    }
    x.pop("val_a")
    data = load_data(own(**x))
    assert [len(p) for p in parts(data).values()] == [18, 2, 4]


def test_own_missing_rows(own):
    a, b = np.random.default_rng(0).normal(size=(2, 50, 3))
    a[7] = np.nan
    label, there = np.arange(50), np.arange(50) != 3
    data = load_data(own(a=a, b=b, b_present=there, label=label))
    for part in parts(data).values():
        batch = everything(part)
        assert torch.equal(batch.mask(["a"]), batch.label != 7) and torch.equal(
            batch.mask(["b"]), batch.label != 3
        )
        assert batch.x["a"].isfinite().all()
    both = load_data(own(a=a, b=b, label=label), missing={"pattern": "mcar", "rate": 0.3})
    at = everything(both.train)
    assert not at.mask(["a"])[at.label == 7].any() and 0.1 < (~at.mask(["b"])).float().mean() < 0.4


# Bad input: one sentence, with what, how many, where.

NAN = float("nan")


def two(a=None, b=None, **changes):
    """A good data set of two modalities and four samples, some of it changed; `a`, `b`: what the
    modalities are.
    """
    good = {
        "modalities": [Modality("a", (2,), **a or {}), Modality("b", (1,), **b or {})],
        "tables": {"a": torch.ones(4, 2), "b": torch.ones(4, 1)},
    }
    return Dataset(**good | changes)


def test_a_part_in_which_a_modality_is_missing_is_named() -> None:
    data = two(present={"b": torch.tensor([True, False, False, False])}).take(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="'b' is missing from all 2 samples of the val part"):
        data.check("val")


def b_values(*values):
    return {"a": torch.ones(4, 2), "b": torch.tensor(values)[:, None]}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: two(tables={"a": torch.ones(4, 2)}),
            r"one table for each.*\['a', 'b'\] and tables \['a'\]",
        ),
        (
            lambda: two(tables={"a": torch.ones(4, 3), "b": torch.ones(4, 1)}),
            r"'a' has shape \(2,\).*\(3,\)",
        ),
        (
            lambda: two(tables={"a": torch.ones(4, 2), "b": torch.ones(5, 1)}),
            "same number of samples.*'a': 4, 'b': 5",
        ),
        (lambda: two(tables={"a": torch.ones(0, 2), "b": torch.ones(0, 1)}), "empty"),
        (
            lambda: two(label=torch.zeros(3)),
            "4 samples need as many labels, got 3",
        ),
        (
            lambda: two(present={"c": torch.ones(4, dtype=torch.bool)}),
            "'c'.*mask of no modality.*There are: a, b",
        ),
        (lambda: two(present={"b": 0.5 * torch.ones(4)}), "4 zeros and ones, one for each sample"),
        (
            lambda: two(tables=b_values(1, NAN, 1, math.inf)),
            r"'b' has 1 values that are inf.*1 of 4.*first: \[3\]",
        ),
        (lambda: two(present={"b": torch.zeros(4, dtype=torch.bool)}), "'b' is missing from all 4"),
        (
            lambda: two(present={m: torch.tensor([True, False, True, True]) for m in "ab"}),
            r"1 samples have no modality at all \(first: \[1\]\)",
        ),
        (
            lambda: two(b={"likelihood": "bernoulli"}, tables=b_values(0, 1, 3.0, 1)),
            r"'b' has 1 values that are not in \[0, 1\], in 1 of 4.*first: \[2\]",
        ),
        (
            lambda: two(b={"likelihood": "poisson"}, tables=b_values(0, 1, 2.5, 1)),
            "'b' has 1 values that are not counts",
        ),
        (lambda: two(a={"likelihood": "categorical"}), "'a' has 8 values that are not one-hot"),
        (
            lambda: two(b={"link": "sigmoid"}, tables=b_values(0, 1, -1.0, 1)),
            "'b' has 1 values.*link sigmoid",
        ),
    ],
)
def test_what_bad_data_is_told(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make().check()


def test_absent_values_may_be_anything():
    absent = torch.tensor([True, True, True, False])
    data = two(tables=b_values(1, 1, 1, NAN), present={"b": absent}).check()
    taken = data.take(torch.tensor([3, 0])).check()
    assert everything(taken).x["b"].flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mnist-shvn", {}, "no file or data set 'mnist-shvn'.*Did you mean mnist-svhn"),
        ("qqqq", {}, "no file or data set 'qqqq'.*There are: .*shapes"),
        ("nothing.npz", {}, "no file nothing.npz"),
        ("shapes", {"nn": 5}, r"no setting data\.nn\. Did you mean data\.n"),
        ("shapes", {"n": 3}, "at least 15"),
        ("shapes", {"limit": 0}, "limit must be a whole number of at least 1.*got 0"),
        (
            "shapes",
            {"modalities": {"squar": {}}},
            r"no setting modalities\.squar\. Did you mean modalities\.square",
        ),
        (
            "shapes",
            {"modalities": {"square": {"wieght": 1}}},
            r"no setting modalities\.square\.wieght\. Did you mean modalities\.square\.weight",
        ),
        ("shapes", {"modalities": {"square": {"likelihood": "gauss"}}}, "likelihood 'gauss'"),
        (
            "shapes",
            {"modalities": {"square": {"kind": "imag"}}},
            "no kind 'imag' for modality 'square'. Did you mean image",
        ),
        ("shapes", {"missing": "mcar"}, "missing must be a mapping"),
        (
            "shapes",
            {"missing": {"pattern": "mnar", "rate": 0.5}},
            r"no pattern of missing values 'mnar'. Did you mean mar\?",
        ),
        ("shapes", {"missing": {"pattern": "mcar", "rate": 1.0}}, "below 1"),
        (
            "shapes",
            {"missing": {"pattern": "mcar", "rate": {"disc": 0.1}}},
            r"\['disc'\], but the modalities are",
        ),
        ("linear_gaussian", {"noise": 0.0}, "must be positive"),
        ("mnist-svhn", {"path": "/nowhere"}, "no folder /nowhere"),
    ],
)
def test_what_bad_requests_are_told(name, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_data(name, **options)


ONES = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"label": np.arange(10)}, "holds no modality"),
        ({"a": np.zeros((0, 2))}, "needs at least one sample"),
        ({"a": np.array([["x"]] * 10)}, "must hold real numbers.*got words"),
        ({"a": np.array([None] * 10)}, "Python objects.*array of numbers for each"),
        (
            {"a": ONES, "labels": np.arange(9)},
            "10 samples need as many labels, got 9",
        ),
        (
            {"a": ONES, "label": np.linspace(0, 1, 10)},
            "whole numbers or words, one for each sample, got 0.11",
        ),
        ({"a": ONES, "a_present": np.ones(3)}, "a_present must hold 10"),
        ({"a": ONES, "b": ONES[:9]}, "same number of samples.*'a': 10, 'b': 9"),
        ({"train_a": ONES, "b": ONES}, "with a prefix.*without"),
        ({"train_a": ONES, "test_b": ONES}, "same modalities in every part"),
        ({"train_a": ONES, "test_a": ONES[:, :1]}, "one shape in all parts"),
        ({"a": ONES[:2]}, "too few"),
        ({"a": np.where(ONES == 7, np.inf, ONES)}, "'a' has 1 values that are infinite"),
    ],
)
def test_what_bad_files_are_told(own, arrays, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_data(own(**arrays))


def test_truncated_files_are_named(digits, own):
    labels = digits / "mnist" / "t10k-labels-idx1-ubyte.gz"
    for file, load in (
        (labels, lambda: mnist_svhn(path=digits)),
        (digits / "test_32x32.mat", lambda: mnist_svhn(path=digits)),
        (
            own(a=np.random.default_rng(0).normal(size=(50, 3))),
            lambda: load_data(digits / "own.npz"),
        ),
    ):
        content = file.read_bytes()
        file.write_bytes(content[: 2 * len(content) // 3])
        with pytest.raises(
            ValueError, match=f"{file.name} (is truncated or damaged|cannot be read)"
        ):
            load()
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello, world", "no IDX file"),
        (idx(np.zeros((3, 2)))[:-1], "should hold 6 bytes of values and holds 5"),
        (idx(np.zeros((3, 2))), "its content has md5"),
    ],
)
def test_idx_files_are_checked(tmp_path, content, sentence):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        digit_files.read_idx(tmp_path / "x", "0" * 32)


# Fetching: served from this machine.


@pytest.fixture
def server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "served").mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


def test_fetched_files_are_checked_before_they_get_their_name(server, tmp_path, monkeypatch):
    monkeypatch.setattr("polymodal.data.readers.download.PAUSE", 0.001)
    served, url = server
    content = idx(np.arange(6).reshape(2, 3))
    (served / "x.gz").write_bytes(gzip.compress(content))
    md5 = files.hashlib.md5(content).hexdigest()
    target = tmp_path / "data" / "x.gz"
    with pytest.raises(
        ValueError, match=r"x\.gz is not in .*could not be fetched.*put the file there"
    ):
        files.fetch(url + "x.gz", target, "0" * 32)
    with pytest.raises(ValueError, match="could not be fetched"):
        files.fetch(url + "absent.gz", target, md5)
    with pytest.raises(ValueError, match="could not be fetched"):
        files.fetch("http://127.0.0.1:9/x.gz", target, md5)
    assert list(target.parent.iterdir()) == []
    assert digit_files.read_idx(files.fetch(url + "x.gz", target, md5), md5).tolist() == [
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert [f.name for f in target.parent.iterdir()] == ["x.gz"]


def test_absent_files_are_fetched(server, digits, monkeypatch):
    served, url = server
    name = "train-images-idx3-ubyte.gz"
    (digits / "mnist" / name).rename(served / name)
    monkeypatch.setitem(digit_files.IDX, "mnist", (url, digit_files.IDX["mnist"][1]))
    assert len(mnist_svhn(path=digits).train) > 0 and (digits / "mnist" / name).is_file()


def test_data_folder_order(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYMODAL_DATA", str(tmp_path))
    (tmp_path / "sub").mkdir()
    assert (
        files.data_folder() == tmp_path and files.data_folder(tmp_path / "sub") == tmp_path / "sub"
    )
    monkeypatch.delenv("POLYMODAL_DATA")
    assert files.data_folder() == files.cache_folder()


# CelebA's official files.


@pytest.fixture
def celeba_files(tmp_path, monkeypatch):
    """Six images: a bright centre square of 148, dark outside, of grey 40 * i."""
    monkeypatch.setattr(decoded, "cache_folder", lambda: tmp_path / "cache")
    names = [f"{i + 1:06d}.jpg" for i in range(6)]
    (tmp_path / "img_align_celeba").mkdir()
    for i, name in enumerate(names):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[35:183, 15:163] = 40 * i
        Image.fromarray(pixels).save(
            tmp_path / "img_align_celeba" / name, quality=100, subsampling=0
        )
    flags = np.random.default_rng(0).integers(0, 2, (6, 40)) * 2 - 1
    rows = [f"{n} " + " ".join(f"{v:2d}" for v in r) for n, r in zip(names, flags, strict=True)]
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join(["6", " ".join(faces.ATTRIBUTES), *rows, ""])
    )
    lines = [f"{n} {k}" for n, k in zip(names, (0, 0, 0, 1, 2, 2), strict=True)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join([*lines, ""]))
    return tmp_path, flags


def test_celeba_official_files(celeba_files):
    folder, flags = celeba_files
    data = load_data("celeba", path=folder)
    assert [len(p) for p in parts(data).values()] == [3, 1, 2]
    assert data.modalities[1].names == faces.ATTRIBUTES
    for part, rows in zip(
        parts(data).values(), (slice(0, 3), slice(3, 4), slice(4, 6)), strict=True
    ):
        x = everything(part).x
        assert torch.equal(x["attributes"], torch.tensor(flags[rows] > 0).float())
        grey = torch.tensor([40.0 * i / 255 for i in range(6)])[rows]
        assert (
            x["image"] - grey[:, None, None, None]
        ).abs().max() < 0.02  # the centre square and nothing else
    cached = list((folder / "cache" / "decoded").iterdir())
    assert len(cached) == 1 and cached[0].suffix == ".npy"
    source = folder / "img_align_celeba"
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for image in source.iterdir():
            archive.write(image, f"img_align_celeba/{image.name}")
            image.unlink()
    source.rmdir()
    assert same(data, celeba(path=folder))


def test_celeba_uses_its_cache_and_does_without(celeba_files, monkeypatch):
    folder, _ = celeba_files
    first = celeba(path=folder)
    with monkeypatch.context() as patch:
        patch.setattr(faces, "_face", lambda *jpeg: pytest.fail("decoded again"))
        assert same(first, celeba(path=folder))
    (folder / "blocked").write_text("a file where the cache's folder should be")
    monkeypatch.setattr(decoded, "cache_folder", lambda: folder / "blocked")
    assert same(first, celeba(path=folder))


def test_celeba_bad_files(celeba_files):
    folder, _ = celeba_files
    image = folder / "img_align_celeba" / "000002.jpg"
    content = image.read_bytes()
    image.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=r"Image 1 of .* truncated or damaged"):
        celeba(path=folder)
    image.unlink()
    with pytest.raises(ValueError, match=r"000002\.jpg"):
        celeba(path=folder)
    assert not list((folder / "cache" / "decoded").iterdir())  # nothing half-written
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(ValueError, match=r"put img_align_celeba\.zip"):
        celeba(path=folder)


def test_what_is_wrong_is_named_by_its_row_in_the_file(tmp_path) -> None:
    """Not by its place in a part that was split off."""
    x = np.random.default_rng(0).normal(size=(300, 4))
    x[77, 2] = np.inf
    np.savez(tmp_path / "pairs.npz", a=x, b=x[:, :2])
    with pytest.raises(ValueError, match=r"in 1 of 300 samples \(first: \[77\]\)"):
        load_data(tmp_path / "pairs.npz")
