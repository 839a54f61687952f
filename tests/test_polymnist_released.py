"""PolyMNIST as released: tuples are pictures of one name, and digits are held out evenly."""

import numpy as np
import pytest
import torch
from PIL import Image

from polymodal.batch import Modality
from polymodal.data import load_data
from polymodal.data.readers import decoded

COUNTS = {"train": [10, 12, 20], "test": [3, 2, 4]}  # tuples of the digits 0, 1, 2


def pixels(part, view, number, digit):
    """A picture whose colours say which it is."""
    picture = np.zeros((28, 28, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 10 * number, 100 * digit
    picture[..., 2] = 40 * view + 100 * (part == "test")
    picture[0] = 255  # the upper edge
    return picture


@pytest.fixture
def released(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "cache_folder", lambda: tmp_path / "cache")
    for part, counts in COUNTS.items():
        for view in range(3):
            place = tmp_path / "PolyMNIST" / "MMNIST" / part / f"m{view}"
            place.mkdir(parents=True)
            for digit, count in enumerate(counts):
                for number in range(count):
                    picture = Image.fromarray(pixels(part, view, number, digit))
                    picture.save(place / f"{number}.{digit}.png")
            (place / "notes.txt").write_text("no picture")
    return tmp_path


def test_tuples_are_aligned_and_digits_held_out_evenly(released) -> None:
    data = load_data("polymnist-released", path=released, val=0.2)
    view = Modality("m0", (3, 28, 28), "laplace", scale=0.75, link="sigmoid")
    assert data.modalities[0] == view and data.train.names == ["m0", "m1", "m2"]
    expected = {"train": [8, 10, 16], "val": [2, 2, 4], "test": [3, 2, 4]}
    for name, part in data.parts.items():
        batch = part.batch(torch.arange(len(part)))
        assert batch.label.bincount().tolist() == expected[name]
        x = {m: (255 * v).round().long() for m, v in batch.x.items()}
        for k, v in enumerate(x.values()):
            assert (v[:, :, 0] == 255).all()  # upright
            assert (v[:, 1, 5, 5] == 100 * batch.label).all()
            assert torch.equal(v[:, 0, 5, 5], x["m0"][:, 0, 5, 5])  # the same number
            assert (v[:, 2, 5, 5] == 40 * k + 100 * (name == "test")).all()
    numbers = [
        set((100 * x.label + (25.5 * x.x["m0"][:, 0, 5, 5]).round()).tolist())
        for x in (p.batch(torch.arange(len(p))) for p in (data.train, data.val))
    ]
    assert len(data.train.first(3).label.unique()) == 3 and not numbers[0] & numbers[1]


def test_pictures_are_decoded_once(released, monkeypatch) -> None:
    first = load_data("polymnist-released", path=released)
    monkeypatch.setattr(decoded, "_fill", lambda *a: pytest.fail("decoded again"))
    again = load_data("polymnist-released", path=released)
    assert torch.equal(first.test.tables["m2"], again.test.tables["m2"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: root.rename(root.parent / "x"), r"unpack PolyMNIST\.zip"),
        (lambda root: (root / "train" / "m1" / "3.0.png").unlink(), "m1 must hold pictures of the"),
        (lambda root: (root / "train" / "m1").rename(root / "y"), r"got \['m0'\]"),
        (lambda root: (root / "test" / "m2").rename(root / "y"), "in train and .* in test"),
        (lambda root: (root / "test" / "m0" / "0.0.png").write_bytes(b"x"), r"0\.0\.png cannot"),
        (
            lambda root: Image.new("RGB", (28, 27)).save(root / "test" / "m0" / "0.0.png"),
            "must have 28 x 28 pixels",
        ),
    ],
)
def test_what_is_wrong_with_the_files_is_told(released, change, says) -> None:
    change(released / "PolyMNIST" / "MMNIST")
    with pytest.raises(ValueError, match=says):
        load_data("polymnist-released", path=released)


def test_a_share_of_nothing_is_refused(released) -> None:
    with pytest.raises(ValueError, match="val must be above 0"):
        load_data("polymnist-released", path=released, val=0)
