"""Values at the door: names, types, labels, pictures, archives and masks of a user."""

from __future__ import annotations

import io
import os
import re
import tempfile
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from polymodal import Batch, Dataset, Modality, Splits, fit, load_data
from polymodal.batch import escaped
from polymodal.data.kinds import kind_of
from polymodal.data.labels import mapped
from polymodal.data.missing import by_label
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.pictures import read_picture, shares
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.methods import METHODS

FOREIGN = re.compile(
    r"torch|pydantic|omegaconf|PIL|zipfile|allow_pickle|pickle|ndarray|dtype|<U|>f"
)
QUICK = settings(max_examples=60, deadline=None)
FILES = tempfile.mkdtemp()
MODALITIES = [Modality("a", (4,)), Modality("b", (3,))]
X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def refusal(call) -> str:
    """The sentence of a ValueError, which is in no library's words."""
    with pytest.raises(ValueError) as error:
        call()
    said = str(error.value)
    assert "\n" not in said and not FOREIGN.search(said.replace(FILES, "")), said
    return said


def data(a=X, names=("a", "b"), **options) -> Dataset:
    modalities = [Modality(names[0], (4,)), Modality(names[1], (3,))]
    return Dataset(modalities, {names[0]: a, names[1]: X[:, :3]}, **options)


def trained(name="jmvae", part=None, **options):
    part = part or data()
    splits = Splits(part, part, part)
    return fit(name, splits, latent=2, epochs=1, progress=False, **options), splits


# Names.

WORDS = (
    "train forward values type to pop state_dict training keys items parameters _names file + a.b"
    " ../x a/b $\\frac$ 'q' <b> [/red] %41 _parameters"
).split()
NAMES = [w for w in WORDS if w != "+"] + ["two words", "é", "e\u0301", "שלום", "数据", "x" * 200]


@pytest.mark.parametrize("method", ["jmvae", "jnf", "mopoe", "mmvae_plus", "mvae", "meme"])
def test_any_words_are_names(method) -> None:
    for name in NAMES[:: 1 if method == "jmvae" else 9]:
        run, splits = trained(method, data(names=(name, "b")), batch=60)
        x = run.model.generate(splits.test.batch(torch.arange(2)).only(["b"]))
        assert x[name].shape == (1, 2, 4) and name in run.model.decoders
        keys = run.model.state_dict()
        assert any(key.split(".")[1] in (escaped(name), f"%{name}") for key in keys)


def test_keys_of_ordinary_names_are_the_names() -> None:
    run, _ = trained()
    assert {"decoders.a.net.0.weight", "posterior.joint.absent.a"} <= run.model.state_dict().keys()


@QUICK
@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_escaped_names_are_safe_and_different(names) -> None:
    assume(not any(0xD800 <= ord(c) < 0xE000 for name in names for c in name))
    first, second = map(escaped, names)
    assert first != second and not set(first) & set("/\\.:$ \n")


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a\nb", "a\x00", "a+b", "a,b", "a=b", "x" * 201, "數" * 80, "\ud800", 3],
)
def test_other_names_are_refused(name) -> None:
    refusal(lambda: Modality(name, (3,)))


@pytest.mark.parametrize(
    "options",
    [
        {"shape": "12"},
        {"shape": ()},
        {"shape": (0,)},
        {"shape": (2.5,)},
        {"shape": (10**6, 10**6)},
        {"scale": 1e-300},
        {"scale": float("nan")},
        {"weight": -1},
        {"weight": "2"},
    ],
)
def test_modalities_are_typed_and_bounded(options) -> None:
    refusal(lambda: Modality("a", **{"shape": (3,), **options}))


# Types.

TYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_of_any_type_are_read(dtype) -> None:
    values = (3 * X).to(dtype)
    part = data(values)
    assert part.tables["a"].dtype == torch.float32
    assert torch.equal(part.tables["a"], values.float())
    run, _ = trained(part=part)
    x = run.model.generate(Batch({"a": values[:2]}))["b"]
    expected = run.model.generate({"a": values[:2].float()})["b"]
    assert x.shape == expected.shape and x.dtype == torch.float32


@QUICK
@given(
    arrays_of.arrays(
        st.sampled_from(["f2", ">f4", "<f8", ">f8", "longdouble", "i1", ">i4", "u2", "u8", "?"]),
        (5, 4),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.booleans(),
)
def test_arrays_of_any_type_are_read(x, fortran) -> None:
    with np.errstate(over="ignore"):
        assume(np.isfinite(x.astype(np.float32)).all())
    values = np.asfortranarray(x) if fortran else x
    table = Dataset([MODALITIES[0]], {"a": values}).tables["a"]
    np.testing.assert_array_equal(table.numpy(), x.astype(np.float32))


@pytest.mark.parametrize(
    "x",
    [
        X[:, :3] + 0j,
        X[:, :3].to_sparse(),
        [["a"] * 3] * 60,
        [[1], [1, 2]],
        np.zeros((60, 3), object),
        np.zeros((60, 3), "M8[s]"),
        None,
    ],
)
def test_what_holds_no_numbers_is_refused(x) -> None:
    refusal(lambda: Dataset(MODALITIES[1:], {"b": x}))
    refusal(lambda: Batch({"b": x}))


def test_bytes_are_shares_where_they_show_pictures() -> None:
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    for options, factor in (
        ({"link": "sigmoid"}, 255),
        ({}, 255),
        ({"likelihood": "bernoulli", "link": "identity"}, 1),
        ({"likelihood": "poisson"}, 1),
    ):
        part = Dataset([Modality("x", (1, 4, 4), **options)], {"x": pixels})
        x = part.batch(torch.arange(2)).x["x"]
        torch.testing.assert_close(x, torch.from_numpy(pixels).float() / factor)
    vector = Dataset([Modality("x", (16,))], {"x": pixels.reshape(2, 16)})
    assert vector.tables["x"].max() == 31


def test_infinite_values_are_refused_both_ways() -> None:
    run, _ = trained()
    x = X[:2].clone()
    x[0, 0] = torch.inf
    said = refusal(lambda: run.model.generate(Batch({"a": x})))
    assert said.startswith("The given 'a' has 1 values that are infinite, in 1 of 2 samples")
    absent = Batch({"a": x, "b": X[:2, :3]}, {"a": torch.tensor([False, True])})
    assert run.model.generate(absent)["a"].isfinite().all()
    refusal(lambda: run.model.generate(Batch({"a": X[:0]})))
    with torch.no_grad():
        next(run.model.decoders["a"].parameters()).fill_(torch.nan)
    assert "values of 'a' that are NaN" in refusal(lambda: run.model.generate(Batch({"a": X[:2]})))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Batch(X),
        lambda: Batch({"a": 3.0}),
        lambda: Dataset(MODALITIES, X),
        lambda: Dataset(["a"], {"a": X}),
        lambda: data(present=torch.ones(60)),
        lambda: data(index={"a": torch.arange(60) + 1}),
        lambda: data(index={"a": torch.arange(60.0)}),
        lambda: data(X[:, :3]),
        lambda: Dataset(MODALITIES[:1], {"a": X[:0]}),
        lambda: load_data(3),
        lambda: load_data("shapes", n=10**12),
        lambda: load_data("linear_gaussian", n=1e12),
        lambda: load_data("shapes", n="x"),
        lambda: load_data("shapes", seed=-1),
        lambda: load_data("shapes", n=20, modalities={"square": 3}),
        lambda: load_data("shapes", n=20, modalities={"square": {"scale": "x"}}),
    ],
)
def test_what_does_not_fit_is_told(call) -> None:
    refusal(call)


# Masks.


def test_masks_are_zeros_and_ones_of_a_modality() -> None:
    for mask in (
        torch.arange(60) % 2,
        (np.arange(60) % 2).astype(float),
        torch.arange(60) % 2 == 1,
    ):
        assert data(present={"a": mask}).present["a"].tolist() == [False, True] * 30
    for make in (lambda p: data(present=p), lambda p: Batch({"a": X, "b": X}, p)):
        assert "There are: a, b" in refusal(lambda m=make: m({"A": torch.ones(60).bool()}))
        refusal(lambda m=make: m({"a": torch.full((60,), 2)}))
        refusal(lambda m=make: m({"a": torch.ones(60, 1)}))
        refusal(lambda m=make: m({"a": torch.full((60,), torch.inf)}))


@pytest.mark.parametrize("missing", [3, [], ["mcar"], {}, {"rate": []}, {"nan": 3}, {"seed": 1}])
def test_no_pattern_is_dropped_in_silence(missing) -> None:
    refusal(lambda: load_data("shapes", n=40, missing=missing))


def test_options_without_a_meaning_are_refused(tmp_path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones((30, 2)))
    refusal(lambda: load_data(tmp_path / "x.npz", path=tmp_path))


# Labels.

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9)
WHOLE = st.lists(st.integers(-(2**20), 2**20).map(float), min_size=1, max_size=9)


@QUICK
@given(st.one_of(INTEGERS, WHOLE, st.lists(st.text("abc-é ", min_size=1), min_size=1)))
def test_labels_are_places_among_their_sorted_classes(labels) -> None:
    places, classes = mapped(labels)
    assert list(classes) == sorted(set(labels)) and [classes[k] for k in places] == labels


@pytest.mark.parametrize("dtype", ["u8", "i1", "?", ">i4", "f2", "U3"])
def test_labels_of_any_type(dtype) -> None:
    given_labels = np.array([1, 0, 1, 0], dtype)
    places, classes = mapped(given_labels)
    assert places.tolist() == [1, 0, 1, 0] and list(map(str, classes)) == ["0", "1"]
    assert mapped(np.array([2**64 - 1, 5], "u8"))[1] == (5, 2**64 - 1)


@pytest.mark.parametrize(
    "labels", [[0.5], [np.nan], [np.inf], [None], [[1]], [1j], [[1], [1, 2]], 3]
)
def test_other_labels_are_refused(labels) -> None:
    refusal(lambda: mapped(labels))


def test_labels_of_all_parts_are_mapped_together() -> None:
    parts = [data(label=torch.full((60,), k)) for k in (7, -100, 10**9)]
    splits = Splits(*parts)
    assert [int(p.label[0]) for p in (splits.train, splits.val, splits.test)] == [1, 0, 2]
    assert tuple(splits.train.classes) == (-100, 7, 10**9) == tuple(splits.val.classes)
    raw = replace(splits.train, label=torch.full((60,), -5))
    assert tuple(raw.classes) == (-5,) and not raw.label.any()
    words = data(label=["x"] * 60)
    refusal(lambda: Splits(parts[0], parts[0], words))


def test_rates_by_label_name_the_labels_as_given() -> None:
    part = data(label=["x", "y"] * 30)
    absent = ~by_label(part, {"b": {"x": 1.0}}).present["b"]
    assert absent.tolist() == [True, False] * 30
    assert "no label 'z'" in refusal(lambda: by_label(part, {"z": 0.5}))


def test_mfm_refuses_more_classes_than_it_predicts_before_the_first_step() -> None:
    part = data(label=torch.arange(60) % 12)
    said = refusal(lambda: trained("mfm", part))
    assert "at least 12" in said
    run, _ = trained("mfm", part, method={"classes": 12})
    assert np.isfinite(run.history["train_loss"]).all()


# Pictures.


def saved(image: Image.Image, suffix: str, **options) -> Path:
    file = Path(FILES) / f"{len(os.listdir(FILES))}{suffix}"
    image.save(file, **options)
    return file


@QUICK
@given(arrays_of.arrays(st.sampled_from(["u1", "u2"]), (4, 5)), st.sampled_from([".png", ".tiff"]))
def test_grey_pictures_are_scaled_by_their_type(pixels, suffix) -> None:
    file = saved(Image.fromarray(pixels), suffix)
    x = kind_of(Modality("x", (1, 4, 5), link="sigmoid")).read(file, Modality("x", (1, 4, 5)))
    expected = pixels / np.iinfo(pixels.dtype).max
    np.testing.assert_allclose(x[0, 0], expected, atol=1e-6)
    colour = kind_of(Modality("x", (3, 4, 5))).read(file, Modality("x", (3, 4, 5)))
    np.testing.assert_allclose(colour[0], np.stack([expected] * 3), atol=1e-6)


def test_palettes_bits_floats_and_turned_pictures() -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[:2] = (255, 0, 51)
    image = Image.fromarray(rgb)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(read_picture(saved(palette, ".png"), "x"), rgb)
    bits = Image.fromarray(rgb[..., 0] > 0)
    np.testing.assert_array_equal(shares(read_picture(saved(bits, ".png"), "x")), rgb[..., 0] / 255)
    floats = np.linspace(0, 1, 20, dtype="f4").reshape(4, 5)
    np.testing.assert_array_equal(
        read_picture(saved(Image.fromarray(floats), ".tiff"), "x"), floats
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    assert read_picture(saved(image, ".jpg", exif=exif), "x").shape == (5, 4, 3)


def frames(suffix: str) -> Path:
    pair = [Image.fromarray(np.full((4, 5), k, np.uint8)) for k in (0, 99)]
    return saved(pair[0], suffix, save_all=True, append_images=pair[1:])


def huge_png() -> Path:
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "png")
    forged = bytearray(content.getvalue())
    forged[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    forged[29:33] = zlib.crc32(forged[12:29]).to_bytes(4, "big")
    file = Path(FILES) / "huge.png"
    file.write_bytes(forged)
    return file


def tinted(mode: str) -> Image.Image:
    return Image.new(mode, (5, 4))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: saved(tinted("RGBA"), ".png"), "transparent"),
        (lambda: saved(tinted("LA"), ".png"), "transparent"),
        (lambda: saved(tinted("P"), ".png", transparency=0), "transparent"),
        (lambda: saved(tinted("RGB"), ".png", transparency=(0, 0, 0)), "transparent"),
        (lambda: frames(".gif"), "several frames"),
        (lambda: frames(".tiff"), "several frames"),
        (lambda: frames(".png"), "several frames"),
        (lambda: saved(tinted("I"), ".tiff"), "32 bits"),
        (lambda: saved(Image.fromarray(np.full((4, 5), 1.5, "f4")), ".tiff"), r"\[0, 1\]"),
        (lambda: saved(Image.fromarray(np.full((4, 5), np.nan, "f4")), ".tiff"), r"\[0, 1\]"),
        (huge_png, "more than 50,000,000 pixels"),
    ],
)
def test_other_pictures_are_refused(make, sentence) -> None:
    modality = Modality("x", (1, 4, 5), link="sigmoid")
    assert re.search(sentence, refusal(lambda: kind_of(modality).read(make(), modality)))


@QUICK
@given(st.binary(max_size=200), st.integers(0, 120))
def test_damaged_pictures_are_told_in_one_sentence(junk, cut) -> None:
    content = io.BytesIO()
    tinted("RGB").save(content, "png")
    for damaged in (junk, content.getvalue()[: min(cut, 40)]):
        refusal(lambda d=damaged: read_picture(io.BytesIO(d), "a picture"))


def test_the_library_of_pictures_says_nothing_itself() -> None:
    """A TIFF file that was cut: the sentence alone, no warning about its tags."""
    content = io.BytesIO()
    tinted("RGB").save(content, "tiff")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for length in range(8, len(content.getvalue()) - 60, 5):
            damaged = io.BytesIO(content.getvalue()[:length])
            refusal(lambda d=damaged: read_picture(d, "a picture"))
    assert not said


def test_four_channels_are_no_colour() -> None:
    modality = Modality("x", (4, 6, 5), link="sigmoid")
    x = np.random.default_rng(0).random((6, 5, 4)).astype("f4")
    np.save(Path(FILES) / "x4.npy", x)
    np.testing.assert_array_equal(
        kind_of(modality).read(Path(FILES) / "x4.npy", modality)[0], x.transpose(2, 0, 1)
    )
    refusal(lambda: kind_of(modality).read(saved(Image.new("RGB", (5, 6)), ".png"), modality))


# Archives.


def archive(**members: bytes) -> Path:
    file = Path(FILES) / f"{len(os.listdir(FILES))}.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name.replace("__", "."), content)
    return file


def npy(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x, allow_pickle=True)
    return out.getvalue()


def header(shape: str, dtype: str = "'<f8'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


ONES = npy(np.ones((30, 2)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: archive(a__npy=ONES, readme__txt=b"hello"),
        lambda: archive(a__npy=b"hello"),
        lambda: archive(a__npy=npy(np.array([None, 1]))),
        lambda: archive(a__npy=npy(np.zeros(30, [("x", "f4")]))),
        lambda: archive(a__npy=npy(np.ones(()))),
        lambda: archive(a__npy=npy(np.ones((30, 2)) + 1j)),
        lambda: archive(a__npy=npy(np.ones((0, 2)))),
        lambda: archive(a__npy=header("(100000000000,)")),
        lambda: archive(a__npy=header("(-5,)")),
        lambda: archive(a__npy=header("(" * 3000 + ")" * 3000)),
        lambda: archive(a__npy=header("(3,)", "'O'") + b"cos\nsystem\n"),
        lambda: archive(a__npy=header("(30, 2)")),
        lambda: archive(a__npy=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10**6)),
        lambda: archive(a__npy=header("(80000000,)"), b__npy=header("(80000000,)")),
        lambda: archive(a__npy=ONES, label__npy=npy(np.ones(30)), labels__npy=npy(np.ones(30))),
        lambda: archive(a__npy=ONES, A_present__npy=npy(np.ones(30))),
        lambda: archive(a__npy=ONES, a_present__npy=npy(np.full(30, 2))),
        lambda: Path("/dev/null"),
        lambda: Path(FILES),
        lambda: Path(FILES) / ("x" * 300 + ".npz"),
    ],
)
def test_other_archives_are_refused(make) -> None:
    file = make()
    assert str(file)[: len(FILES)] in refusal(lambda: load_data(file))


def test_a_name_twice_is_refused_and_a_pipe_does_not_hang() -> None:
    file = Path(FILES) / "twice.npz"
    with zipfile.ZipFile(file, "w") as out, pytest.warns(UserWarning, match="Duplicate"):
        out.writestr("a.npy", ONES)
        out.writestr("a.npy", ONES)
    assert "'a' twice" in refusal(lambda: load_data(file))
    pipe = Path(FILES) / "pipe.npz"
    os.mkfifo(pipe)
    assert "pipe" in refusal(lambda: load_data(pipe))


def test_the_limit_can_be_raised_and_names_decide_not_suffixes() -> None:
    file = archive(a__npy=ONES)
    assert "max_gb" in refusal(lambda: load_data(file, max_gb=1e-9))
    assert len(load_data(file).train) == 24
    renamed = file.with_suffix(".npy")
    file.rename(renamed)
    modality = Modality("a", (2,))
    assert kind_of(modality).read(renamed, modality).shape == (30, 2)
    other = Modality("b", (2,))
    assert "name the array 'b'" in refusal(lambda: kind_of(other).read(renamed, other))
    unnamed = Path(FILES) / "unnamed.npz"
    np.savez(unnamed, np.ones((30, 2)))
    assert kind_of(other).read(unnamed, other).shape == (30, 2)


@QUICK
@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_archives_are_told_in_one_sentence(junk, cut) -> None:
    whole = archive(a__npy=ONES).read_bytes()
    file = Path(FILES) / "damaged.npz"
    for content in (junk, whole[: min(cut, len(whole) - 1)], whole[:30] + junk + whole[30:]):
        file.write_bytes(content)
        try:
            read = read_arrays(file)
        except ValueError:
            refusal(lambda: read_arrays(file))
        else:
            assert np.array_equal(read["a"], np.ones((30, 2)))


# Counts.


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_every_method_trains_on_counts_of_thousands(likelihood) -> None:
    draw = np.random.default_rng(0)
    rate = np.exp(draw.normal(size=(120, 1)) * 0.5 + draw.normal(size=8)) * 300
    counts = torch.from_numpy(draw.poisson(rate))
    modalities = [Modality(m, (4,), likelihood) for m in "ab"]
    part = Dataset(modalities, {"a": counts[:, :4], "b": counts[:, 4:]}, label=counts[:, 0] > 300)
    splits = Splits(part, part, part)
    for method in METHODS:
        run = fit(method, splits, latent=2, epochs=2, batch=120, progress=False)
        losses = run.history["train_loss"].dropna()
        assert np.isfinite(losses).all(), method


def test_decoders_of_counts_start_at_the_moments() -> None:
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.negative_binomial(5, 5 / (5 + 2000), size=(4000, 3))).float()
    m = Modality("x", (3,), "negative_binomial")
    part = Dataset([m], {"x": x})
    run = fit("vae", Splits(part, part, part), latent=2, epochs=0, progress=False)
    a, b = run.model.decoders["x"].start
    torch.testing.assert_close(a.exp(), x.mean(0), rtol=1e-4, atol=0)
    torch.testing.assert_close(b.exp(), torch.full((3,), 5.0), rtol=0.2, atol=0)


def log_pmf(x: int, a: float, b: float) -> float:
    """The negative binomial's log pmf as sums of logarithms in extended precision."""
    mean, r = np.exp(np.longdouble(a)), np.exp(np.longdouble(b))
    k = np.arange(x, dtype=np.longdouble)
    rising = np.log1p(k / r).sum() if r > 1 else (np.log(k + r) - np.log(r)).sum()
    return float(rising - np.log(k + 1).sum() + x * np.longdouble(a) - (x + r) * np.log1p(mean / r))


@pytest.mark.parametrize("b", [-30.0, -5.0, 0.0, 2.25, 2.35, 6.0, 12.0, 20.0, 40.0, 90.0])
def test_log_pmf_of_the_negative_binomial(b) -> None:
    m = Modality("x", (1,), "negative_binomial")
    for a in (-30.0, -3.0, 0.0, 5.0, 9.0, 16.0):
        for x in (0, 1, 7, 150, 4000, 10**6):
            raw = torch.tensor([[[a], [b]]], dtype=torch.float64, requires_grad=True)
            value = likelihood_of(m).make(raw, m).log_prob(torch.tensor([[float(x)]]))
            assert abs(value.item() - log_pmf(x, a, b)) < 1e-6, (a, x)
            value.backward()
            assert raw.grad.isfinite().all()


def test_log_pmf_of_the_poisson_is_right_for_large_counts_in_float32() -> None:
    from scipy.stats import poisson

    m = Modality("x", (1,), "poisson")
    for x in (0, 3, 1000, 10**6, 10**7):
        a = np.float32(np.log(x + 1))
        value = likelihood_of(m).make(torch.tensor([[a]]), m).log_prob(torch.tensor([[float(x)]]))
        assert abs(value.item() - poisson.logpmf(x, np.exp(np.float64(a)))) < 1e-3


def test_draws_have_the_mean_and_variance_of_the_law() -> None:
    m = Modality("x", (1,), "negative_binomial")
    torch.manual_seed(0)
    for b, variance in ((1.0, np.exp(4) + np.exp(7)), (60.0, np.exp(4))):
        draws = likelihood_of(m).make(torch.tensor([[[4.0], [b]]]), m).sample((40_000,))
        assert abs(draws.mean() - np.exp(4)) < 5 * (variance / 40_000) ** 0.5
        assert abs(draws.var() / variance - 1) < 0.1
