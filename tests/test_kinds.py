"""Kinds of data: laws that every kind obeys, and what is particular to images and vectors."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from polymodal.batch import END, UNKNOWN, Column, Modality
from polymodal.data import load_data
from polymodal.data.kinds import KINDS, Kind, kind_of, kind_of_array, mosaic, png
from polymodal.data.kinds.pixels import GAP, WIDE
from polymodal.distributions.likelihoods import LIKELIHOODS, likelihood_of
from polymodal.networks.architectures import network_of

# Modalities of every kind; a new kind adds its own.
EXAMPLES = {
    "image": [
        Modality("x", (3, 28, 28), link="sigmoid"),
        Modality("x", (1, 6, 5), link="sigmoid"),
        Modality("x", (3, 32, 32)),
        Modality("x", (4, 64, 64), link="sigmoid"),
    ],
    "audio": [
        Modality("x", (1, 32, 32), link="sigmoid", kind="audio"),
        Modality("x", (1, 8, 12), link="sigmoid", kind="audio"),
    ],
    "mask": [
        Modality("x", (1, 32, 32), "bernoulli", kind="mask"),
        Modality("x", (18, 9, 7), "bernoulli", kind="mask"),
        Modality("x", (2, 128, 128), "bernoulli", kind="mask"),
    ],
    "vector": [
        Modality("x", (40,)),
        Modality("x", (1,), "bernoulli"),
        Modality("x", (2, 3, 4, 5)),
        Modality("x", (3,), "bernoulli", names=("a", "b", "c")),
        Modality("x", (20,), names=tuple(f"n{k}" for k in range(20))),
    ],
    "counts": [
        Modality("x", (6,), "library_counts", kind="counts"),
        Modality("x", (3,), "library_counts", kind="counts", names=("a", "b", "c")),
    ],
    "table": [
        Modality("x", (2,), "table", kind="table", columns=(Column("a"), Column("b", "bounded"))),
        Modality("x", (1,), "table", kind="table", columns=(Column("a", "boolean", ("n", "y")),)),
    ],
    "features": [
        Modality("x", (16,), kind="features"),
        Modality("x", (100,), kind="features"),
    ],
    "series": [
        Modality("x", (3, 40), kind="series"),
        Modality("x", (1, 8), kind="series"),
        Modality("x", (2, 5), kind="series"),
    ],
    "text": [
        Modality("x", (32,), "tokens", kind="text", vocabulary=(END, UNKNOWN, *"ab cd ef".split())),
        Modality("x", (8,), "tokens", kind="text", vocabulary=(END, UNKNOWN, *"ab -")),
        Modality("x", (3,), "tokens", kind="text", vocabulary=(END, UNKNOWN, "ab")),
        Modality("x", (200,), "tokens", kind="text", vocabulary=(END, UNKNOWN, "ab")),
    ],
}
CASES = [(name, m) for name, examples in EXAMPLES.items() for m in examples]


def values(modality, n=3, seed=0):
    """Values (n, *shape) in [0, 1] that any of the examples can have; bytes as shares."""
    generator = torch.Generator().manual_seed(seed)
    if modality.vocabulary:
        return texts(modality, n, generator)
    x = torch.randint(0, 256, (n, *modality.shape), generator=generator) / 255
    coded = any(column.type == "boolean" for column in modality.columns)
    whole = coded or modality.likelihood in ("bernoulli", "library_counts")
    return (x > 0.5).float() if whole else x


def texts(modality, n, generator):
    """Ids (n, L) of texts of any length, without unknown words; the first has full length."""
    (length,) = modality.shape
    ids = torch.randint(2, len(modality.vocabulary), (n, length), generator=generator)
    end = torch.randint(0, length, (n, 1), generator=generator)
    end[0] = length
    return ids.masked_fill(torch.arange(length) >= end, 0).float()


def test_every_kind_has_examples() -> None:
    assert EXAMPLES.keys() == KINDS.keys()
    assert all(kind.name == name for name, kind in KINDS.items())


@pytest.mark.parametrize(("name", "modality"), CASES)
class TestLaws:
    def test_defaults_exist(self, name, modality) -> None:
        kind = KINDS[name]
        assert kind.holds(modality.shape) and kind.likelihood in LIKELIHOODS
        network = network_of(modality, kind.network(modality))
        shape = likelihood_of(modality).output_shape(modality)
        assert network.decoder(4, shape)(torch.randn(2, 4)).shape == (2, *shape)
        assert network.encoder(modality.shape, 7)(values(modality)).shape == (3, 7)

    def test_what_is_encoded_is_read_back(self, name, modality, tmp_path) -> None:
        x = values(modality)[0]
        suffix, content = KINDS[name].encode(x, modality)
        file = tmp_path / f"value{suffix}"
        file.write_bytes(content)
        torch.testing.assert_close(KINDS[name].read(file, modality), x[None])

    def test_arrays_are_read(self, name, modality, tmp_path) -> None:
        x = values(modality)
        np.save(tmp_path / "x.npy", x.numpy())
        np.savez(tmp_path / "x.npz", x=x.numpy(), other=np.zeros(2))
        for file in ("x.npy", "x.npz"):
            assert torch.equal(KINDS[name].read(tmp_path / file, modality), x)

    def test_a_table_holds_the_values(self, name, modality) -> None:
        x = values(modality)
        table = KINDS[name].table(x.numpy(), modality)
        assert torch.equal(table, x) and not list(bad(KINDS[name], table, modality))

    def test_wrong_shapes_and_values_are_told(self, name, modality, tmp_path) -> None:
        sizes = ", ".join(map(str, modality.shape))
        for wrong, sentence in (
            (np.zeros((2, 7, 9, 2, 2, 2)), rf"'x' must have shape \({sizes}\) or \(B, {sizes}\)"),
            (
                np.full(modality.shape, np.inf),
                "values that are infinite, in .* samples .*; repair",
            ),
            (np.zeros((0, *modality.shape)), "at least one sample"),
            (np.full(modality.shape, "a"), "must be real numbers, got words"),
        ):
            if name == "text" and wrong.dtype.kind == "U":
                continue  # words are values
            np.save(tmp_path / "x.npy", wrong)
            with pytest.raises(ValueError, match=sentence):
                KINDS[name].read(tmp_path / "x.npy", modality)
        with pytest.raises(ValueError, match="There is no file"):
            KINDS[name].read(tmp_path / "none.npy", modality)

    def test_likelihoods_refuse_what_they_do_not_admit(self, name, modality) -> None:
        x = torch.full((2, *modality.shape), 1.5)
        for likelihood, words in (("bernoulli", "in [0, 1]"), ("poisson", "counts")):
            (found,) = bad(KINDS[name], x, replace(modality, likelihood=likelihood))
            assert words in found and likelihood not in words

    def test_what_is_shown_is_a_row_of_pictures(self, name, modality) -> None:
        x = values(modality)
        shown = KINDS[name].show(x, modality, KINDS[name].span(x, modality))
        assert shown.shape[:2] == (3, 3) and shown.isfinite().all()
        assert shown.min() >= 0 and shown.max() <= 1 and mosaic([shown]).dtype == np.uint8

    def test_files_of_draws(self, name, modality) -> None:
        draws = torch.stack([values(modality, seed=k) for k in range(4)])
        above = [torch.rand(3, 3, 5, 5)]
        for given, x in ((above, draws), ((), draws[:, :1])):
            files = KINDS[name].files(x, modality, given)
            assert all(file.startswith("x.") and content for file, content in files.items())


def bad(kind, x, modality):
    return [words for bad, words, _ in kind.faults(x, modality) if bad.any()]


def test_a_modality_is_of_the_kind_it_names_or_of_its_shapes() -> None:
    assert kind_of(Modality("x", (3, 4, 5))).name == "image"
    assert kind_of(Modality("x", (3, 4, 5), kind="vector")).name == "vector"
    assert kind_of(Modality("x", (4, 5))).name == "vector"
    with pytest.raises(ValueError, match=r"no kind 'imgae' for modality 'x'\. Did you mean image"):
        kind_of(Modality("x", (3, 4, 5), kind="imgae"))
    with pytest.raises(ValueError, match=r"'x' cannot be of kind 'image' with shape \(4, 5\)"):
        kind_of(Modality("x", (4, 5), kind="image"))


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ((3, 28, 28), "digit-conv"),
        ((3, 32, 32), "svhn-conv"),
        ((3, 64, 64), "celeba-conv"),
        ((3, 128, 128), "celebahq-conv"),
        ((1, 28, 28), "mlp"),
        ((3, 32, 28), "mlp"),
        ((28,), "mlp"),
    ],
)
def test_default_networks(shape, network) -> None:
    modality = Modality("x", shape)
    assert kind_of(modality).network(modality) == network


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((5, 4, 4), np.uint8, "image"),
        ((5, 4, 4), np.float32, "vector"),
        ((5, 4, 4, 3), np.float32, "image"),
        ((5, 4), np.uint8, "vector"),
        ((5,), np.float64, "vector"),
    ],
)
def test_the_kind_of_an_array(shape, dtype, kind) -> None:
    assert kind_of_array(np.full(shape, 7, dtype)).name == kind


def test_vectors_are_laid_out_in_range() -> None:
    x = torch.tensor([[-2.0, 0.0, 2.0, 5.0]])
    shown = KINDS["vector"].show(x, Modality("x", (4,)), (-2, 2))
    assert torch.equal(shown[0, 0], torch.tensor([[0.0, 0.5], [1.0, 1.0]]))
    assert KINDS["vector"].show(torch.rand(2, 4, 6), Modality("x", (4, 6))).shape == (2, 3, 4, 6)


def test_colour_becomes_grey_and_grey_colour(tmp_path) -> None:
    image = KINDS["image"]
    colour, grey = (
        Modality("x", (3, 6, 5), link="sigmoid"),
        Modality("x", (1, 6, 5), link="sigmoid"),
    )
    x = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(x).save(tmp_path / "colour.png")
    expected = torch.from_numpy(x).float().permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(image.read(tmp_path / "colour.png", colour), expected)
    torch.testing.assert_close(
        image.read(tmp_path / "colour.png", grey), expected.mean(1, keepdim=True)
    )
    np.save(tmp_path / "grey.npy", x[..., :1])
    as_colour = image.read(tmp_path / "grey.npy", colour)
    torch.testing.assert_close(as_colour, expected[:, :1].expand(1, 3, 6, 5))


def test_a_vector_is_not_read_from_a_picture(tmp_path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match=r"'x' is read from .npy and .npz files, got .*x\.png"):
        KINDS["vector"].read(tmp_path / "x.png", Modality("x", (4,)))


class Letters(Kind):
    """Bytes of two letters a and b, one-hot (2, 2): a kind that a user adds."""

    name = "letters"
    likelihood = "categorical"

    def holds(self, shape) -> bool:
        return shape == (2, 2)

    def claims(self, x) -> bool:
        return x.dtype.kind == "S"

    def describe(self, name, parts) -> Modality:
        return Modality(name, (2, 2), self.likelihood, kind=self.name)

    def table(self, x, modality):
        letters = torch.tensor([["ab".index(chr(c)) for c in word] for word in x.tolist()])
        return torch.nn.functional.one_hot(letters, 2).float()

    def show(self, x, modality, span=(0.0, 1.0)):
        return x[:, None].expand(-1, 3, -1, -1)


def test_a_kind_of_a_user_reads_arrays_that_no_other_kind_does(tmp_path, monkeypatch) -> None:
    words = np.array([b"ab", b"ba", b"aa"] * 10)
    np.savez(tmp_path / "data.npz", word=words, number=np.arange(30.0))
    with pytest.raises(ValueError, match=r"data.npz cannot be read: 'word' must hold real numbers"):
        load_data(tmp_path / "data.npz")
    monkeypatch.setitem(KINDS, "letters", Letters())
    data = load_data(tmp_path / "data.npz")
    word, number = data.modalities
    assert word == Modality("word", (2, 2), "categorical", kind="letters")
    assert kind_of(word).name == "letters" and kind_of(number).name == "vector"
    batch = data.train.batch(torch.arange(len(data.train)))
    expected = words[batch.x["number"][:, 0].long().numpy()]
    assert torch.equal(batch.x["word"], Letters().table(expected, word))


def test_a_mosaic_shows_every_pixel_in_its_place() -> None:
    first, second = torch.rand(3, 1, 4, 5), torch.rand(2, 3, 6, 7)
    image = mosaic([first, second], gap_after=1)
    gap, wide = GAP, WIDE
    assert image.shape == (4 + 6 + gap + wide, 3 * 7 + 2 * gap, 3)
    small = image[:4, 1 + 7 + gap : 1 + 7 + gap + 5]  # 4 x 5 in the middle of 4 x 7
    assert np.array_equal(
        small, (first[1].permute(1, 2, 0) * 255).round().expand(4, 5, 3).byte().numpy()
    )
    large = image[4 + gap + wide :, 7 + gap : 14 + gap]
    assert np.array_equal(large, (second[1].permute(1, 2, 0) * 255).round().byte().numpy())
    assert (image[4 : 4 + gap + wide] == 255).all() and (
        image[4 + gap + wide :, 14 + gap :] == 255
    ).all()


def test_png_of_an_image_repeats_pixels_exactly() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8)
    back = np.asarray(Image.open(io.BytesIO(png(image, scale=2))))
    assert np.array_equal(back, image.repeat(2, 0).repeat(2, 1))
