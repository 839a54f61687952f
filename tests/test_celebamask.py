"""Masks, and CelebAMask-HQ on drawn faces in the layout of the release."""

import numpy as np
import pytest
import torch
from PIL import Image

from polymodal.batch import Modality
from polymodal.data import ATTRIBUTES, Dataset, load_data
from polymodal.data.celebamask import ANNOTATIONS, CHOSEN, IMAGES, MAPPING, MASKS, PARTS
from polymodal.data.kinds import KINDS
from polymodal.data.readers import decoded
from polymodal.runs.run import build
from polymodal.settings import load_recipe, resolve, to_dict
from polymodal.settings.data import complete
from polymodal.training.fit import fit

SIDE = 64  # of the drawn masks; those of the release have 512
PLACES = [5, 162_770, 162_771, 182_637, 182_638, 9, 170_000, 200_000, 7, 8]
PART_OF = [0, 0, 1, 1, 2, 0, 1, 2, 0, 0]


def disc(x, y, radius):
    grid = np.arange(SIDE)
    return (grid[None] - x) ** 2 + (grid[:, None] - y) ** 2 < radius**2


def drawn(i):
    """The parts of face i by name: skin, hair above it, a nose, and glasses if i is even."""
    parts = {"skin": disc(32, 36, 20), "nose": disc(32, 36, 3), "hair": disc(32, 12, 6 + i)}
    if i % 2 == 0:
        parts["eye_g"] = disc(24, 30, 4) | disc(40, 30, 4)
    return parts


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Ten faces: bright hair, grey skin; glasses, in mask and attribute, if the number is even."""
    monkeypatch.setattr(decoded, "cache_folder", lambda: tmp_path / "cache")
    root = tmp_path / "CelebAMask-HQ"
    (root / IMAGES).mkdir(parents=True)
    (root / MASKS / "0").mkdir(parents=True)
    rows, mapping = ["10", " ".join(reversed(ATTRIBUTES))], ["idx orig_idx orig_file"]
    for i, place in enumerate(PLACES):
        picture = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
        for part, inside in drawn(i).items():
            picture[inside.repeat(2, 0).repeat(2, 1)] = {"skin": 90, "hair": 230}.get(part, 40)
            mask = np.repeat(inside[..., None] * np.uint8(255), 3, -1)
            Image.fromarray(mask).save(root / MASKS / "0" / f"{i:05d}_{part}.png")
        Image.fromarray(picture).save(root / IMAGES / f"{i}.jpg", quality=95)
        flags = np.full(40, -1)
        flags[ATTRIBUTES.index("Eyeglasses")] = 1 if i % 2 == 0 else -1
        flags[ATTRIBUTES.index("Young")] = 1
        rows.append(f"{i}.jpg  " + " ".join(map(str, flags[::-1])))
        mapping.append(f"{i:<9}{place:<9}{place + 1:06d}.jpg")
    (root / ANNOTATIONS).write_text("\n".join(rows) + "\n")
    (root / MAPPING).write_text("\n".join(mapping) + "\n")
    return tmp_path


def batches(data):
    return [part.batch(torch.arange(len(part))).x for part in data.parts.values()]


def faces_of(part):
    return [i for i, k in enumerate(PART_OF) if k == part]


def test_faces_are_split_as_in_celeba_and_belong_to_their_masks(release) -> None:
    data = load_data("celebamask", path=release, size=32)
    assert [(m.name, m.shape) for m in data.modalities] == [
        ("image", (3, 32, 32)),
        ("mask", (1, 32, 32)),
        ("attributes", (18,)),
    ]
    for k, x in enumerate(batches(data)):
        numbers = faces_of(k)
        assert len(x["image"]) == len(numbers)
        for row, i in enumerate(numbers):
            parts = drawn(i)
            union = np.logical_or.reduce([m for part, m in parts.items() if part != "skin"])
            halves = union.reshape(32, 2, 32, 2).mean((1, 3)) >= 0.5
            errors = (x["mask"][row, 0].numpy() != halves).mean()
            assert errors < 0.02  # parts are shrunk one by one
            hair = torch.from_numpy(parts["hair"][::2, ::2])
            assert x["image"][row, :, hair].mean() > 0.7
            assert x["image"][row, :, torch.from_numpy(halves) & ~hair].mean() < 0.35
            assert x["attributes"][row, CHOSEN.index("Eyeglasses")] == (i % 2 == 0)
            assert x["attributes"][row].sum() == (i % 2 == 0)
        assert set(x["mask"].unique().tolist()) == {0, 1}


def test_all_parts_and_all_attributes(release) -> None:
    data = load_data("celebamask", path=release, size=32, masks="parts", attributes="all")
    assert [m.shape for m in data.modalities[1:]] == [(18, 32, 32), (40,)]
    assert data.train.tables["mask"].dtype == torch.uint8
    x = batches(data)[0]
    for row, i in enumerate(faces_of(0)):
        there = {part for k, part in enumerate(PARTS) if x["mask"][row, k].any()}
        assert there == set(drawn(i))
        skin = x["mask"][row, 0].mean() * SIDE**2
        assert abs(skin - drawn(i)["skin"].sum()) < 0.04 * skin
    assert (x["attributes"][:, ATTRIBUTES.index("Young")] == 1).all()
    union = batches(load_data("celebamask", path=release, size=32))[0]["mask"]
    assert torch.equal(union, x["mask"][:, 1:].amax(1, keepdim=True))


def test_decoded_once(release, monkeypatch) -> None:
    first = load_data("celebamask", path=release, size=32)
    with monkeypatch.context() as patch:
        patch.setattr(decoded, "_fill", lambda *a: pytest.fail("decoded again"))
        again = load_data("celebamask", path=release, size=32)
    assert torch.equal(first.test.tables["mask"], again.test.tables["mask"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: (root / MAPPING).unlink(), f"needs {MAPPING} in .*switchablenorms"),
        (lambda root: (root / IMAGES / "3.jpg").unlink(), r"no file .*3\.jpg"),
        (lambda root: (root / IMAGES / "3.jpg").write_bytes(b"x"), r"3\.jpg cannot be read"),
        (
            lambda root: [f.unlink() for f in (root / MASKS / "0").glob("00004_*")],
            "no mask of face 00004",
        ),
        (
            lambda root: (root / ANNOTATIONS).write_text("1\nBald\n0.jpg 1\n"),
            "no table of -1 and 1 for CelebA's 40 attributes",
        ),
        (
            lambda root: (root / MAPPING).write_text("idx orig_idx orig_file\n0 5 000006.jpg\n"),
            r"has \[1, 0, 0\] faces for training, validation and testing, and .* has 10 in all",
        ),
        (lambda root: (root / MAPPING).write_text("a b c\n1 5 6\n"), "not numbered 0, 1"),
    ],
)
def test_what_is_wrong_with_the_files_is_told(release, change, says) -> None:
    change(release / "CelebAMask-HQ")
    with pytest.raises(ValueError, match=says):
        load_data("celebamask", path=release, size=32)


def test_sizes_are_bounded(release) -> None:
    with pytest.raises(ValueError, match="size must be from 16 to 512 pixels, got 8"):
        load_data("celebamask", path=release, size=8)


@pytest.mark.parametrize("recipe", ["celebamask-sbm-vae", "celebamask-mvtcae"])
def test_recipes_build_networks_for_the_real_size(release, recipe) -> None:
    data = load_data("celebamask", path=release)
    settings = complete(resolve(load_recipe(recipe)), data.modalities)
    assert settings.networks == {
        "image": "celebahq-conv",
        "mask": "celebahq-conv",
        "attributes": "mlp",
    }
    assert build(to_dict(settings), data.modalities).stages


def test_missing_modalities_are_generated(release) -> None:
    """Trained on the drawn faces, a mask is given by the image."""
    data = load_data("celebamask", path=release, size=32)
    networks = dict.fromkeys(["image", "mask", "attributes"], "mlp-small")
    run = fit("mvtcae", data, latent=2, epochs=1, progress=False, networks=networks)
    given = data.test.batch(torch.arange(2)).only(["image"])
    mask = run.model.generate(given, n=3)["mask"]
    assert mask.shape == (3, 2, 1, 32, 32) and 0 <= mask.min() and mask.max() <= 1


# The kind.


MASK = Modality("x", (3, 4, 5), "bernoulli", kind="mask")


def test_bytes_are_shares_or_zeros_and_ones() -> None:
    kind, rng = KINDS["mask"], np.random.default_rng(0)
    ones = rng.integers(0, 2, (9, 3, 4, 5), np.uint8)
    expected = torch.from_numpy(ones).float()
    for values in (ones, 255 * ones):
        table = Dataset([MASK], {"x": values}).tables["x"]
        assert table.dtype == torch.uint8 and torch.equal(table.float() / 255, expected)
        assert torch.equal(Dataset([MASK], {"x": table}).tables["x"], table)
        assert torch.equal(kind.floats(values, MASK, "x"), expected)


def test_parts_are_shown_in_their_own_colours() -> None:
    x = torch.zeros(1, 3, 4, 5)
    x[0, 0, 0], x[0, 1, 1], x[0, 2, 1:3] = 1, 1, 1
    shown = KINDS["mask"].show(x, MASK)[0]
    first, second, third, none = shown[:, 0, 0], shown[:, 1, 0], shown[:, 2, 0], shown[:, 3, 0]
    assert torch.equal(second, third) and (first - third).abs().max() > 0.3  # later ones on top
    assert none.tolist() == [0, 0, 0]
    half = KINDS["mask"].show(0.5 * x, MASK)[0]
    torch.testing.assert_close(half[:, 0], 0.5 * shown[:, 0])
    one = Modality("x", (1, 4, 5), "bernoulli", kind="mask")
    assert torch.equal(KINDS["mask"].show(x[:, :1], one), x[:, :1].expand(-1, 3, -1, -1))
