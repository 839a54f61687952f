"""PolyMNIST: composites taken apart into digit and crop again, matchings, backgrounds, and what bad
input is told.
"""

from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from polymodal.batch import Modality
from polymodal.data import load_data, polymnist
from polymodal.data.polymnist import texture

# Size of the photographs: red is x, green is y, blue 10 times the view; below 128, unlike inverses.
HEIGHT, WIDTH = 100, 120
VIEWS = 3


def parts(splits):
    return {"train": splits.train, "val": splits.val, "test": splits.test}


def digits_like(n, start, generator):
    """Images whose first 16 pixels are the bits of their number, above and below the threshold by
    one; labels.
    """
    number = torch.arange(n) + start
    bits = number[:, None] // 2 ** torch.arange(16) % 2
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, :16] = (128 + bits).to(torch.uint8)
    images[:, 0, 27, 3] = 255  # upright: bottom left
    return images, torch.randint(0, 10, (n,), generator=generator)


@pytest.fixture
def mnist(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    digits = {"train": digits_like(4000, 0, generator), "test": digits_like(800, 5000, generator)}
    module = import_module("polymodal.data.polymnist")  # the package's attribute is the function
    monkeypatch.setattr(module, "idx_digits", lambda name, path: digits)
    return digits


@pytest.fixture
def folder(tmp_path):
    """A data folder with photographs of known pixels for three views, and a file that is none."""
    (tmp_path / "backgrounds").mkdir()
    for k in range(VIEWS):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        photo = np.stack([x, y, np.full_like(x, 10 * k)], -1).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "backgrounds" / f"{k}.png")
    (tmp_path / "backgrounds" / "SOURCE.txt").write_text("where from")
    return tmp_path


def taken_apart(images):
    """The digits' numbers (N,) and the crops' places x, y (N,) of composites (N, 3, 28, 28) uint8,
    and the views.
    """
    ink = images[:, 0] > 127
    crop = torch.where(ink[:, None], 255 - images, images).long()
    x, y = crop[:, 0, 0, 0], crop[:, 1, 0, 0]
    step = torch.arange(28)
    assert torch.equal(crop[:, 0], (x[:, None, None] + step).expand(-1, 28, 28))
    assert torch.equal(crop[:, 1], (y[:, None, None] + step[:, None]).expand(-1, 28, 28))
    assert (crop[:, 2] == crop[:, 2, :1, :1]).all()
    assert ink[:, 27, 3].all() and not ink[:, 1:27].any() and not ink[:, 0, 16:].any()
    return (ink[:, 0, :16] * 2 ** torch.arange(16)).sum(1), x, y, crop[:, 2, 0, 0] // 10


def test_images_are_crops_inverted_where_the_digit_is(mnist, folder):
    data = polymnist(path=folder, views=VIEWS)
    assert data.modalities == [
        Modality(f"m{k}", (3, 28, 28), "laplace", scale=0.75, link="sigmoid") for k in range(VIEWS)
    ]
    assert {p: len(d) for p, d in parts(data).items()} == {"train": 3600, "val": 400, "test": 800}
    seen = {}
    for which, part in parts(data).items():
        labels = mnist["test" if which == "test" else "train"][1]
        for k, table in enumerate(part.tables.values()):
            assert table.dtype == torch.uint8 and table.is_contiguous(
                memory_format=torch.channels_last
            )
            number, _, _, view = taken_apart(table)
            assert (view == k).all()  # each view has its own photograph
            assert torch.equal(labels[number - 5000 * (which == "test")], part.label)
            seen[which, k] = number
    for k in range(VIEWS):  # every image once, the last tenth of the training images in validation
        assert torch.equal(seen["train", k].sort().values, torch.arange(3600))
        assert torch.equal(seen["val", k].sort().values, torch.arange(3600, 4000))
        assert torch.equal(seen["test", k].sort().values, torch.arange(5000, 5800))
    for a, b in (
        (0, 1),
        (0, 2),
        (1, 2),
    ):  # a tuple's digits are different images: 10 chance meetings expected
        assert (seen["train", a] == seen["train", b]).sum() < 30
    label = data.train.label.double()
    assert (
        abs(torch.corrcoef(torch.stack([torch.arange(3600).double(), label]))[0, 1]) < 4 / 60
    )  # shuffled


def test_crops_are_taken_anywhere_and_independently(mnist, folder):
    train = polymnist(path=folder, views=VIEWS).train
    places = []
    for table in train.tables.values():
        _, x, y, _ = taken_apart(table)
        for at, size in ((x, WIDTH - 27), (y, HEIGHT - 27)):
            assert at.min() == 0 and at.max() == size - 1  # up to both edges
            assert abs(at.double().mean() - (size - 1) / 2) < 4 * size / (12 * 3600) ** 0.5
            places.append(at.double())
    correlation = torch.corrcoef(torch.stack([*places, train.label.double()])).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / 60  # 1/sqrt(n) = 1/60


def test_limit_makes_the_first_tuples_alone(mnist, folder):
    whole, few = (
        polymnist(path=folder, views=VIEWS),
        load_data("polymnist", path=folder, views=VIEWS, limit=50),
    )
    for a, b in zip(parts(whole).values(), parts(few).values(), strict=True):
        assert len(b) == 50 and torch.equal(a.label[:50], b.label)
        assert all(len(t) == 50 and torch.equal(a.tables[m][:50], t) for m, t in b.tables.items())
    other = polymnist(path=folder, views=VIEWS, limit=50, seed=1)
    assert not torch.equal(other.train.label, few.train.label)
    again = polymnist(path=folder, views=VIEWS, limit=50, val=0.3)
    assert torch.equal(
        again.test.tables["m1"], few.test.tables["m1"]
    )  # test does not depend on validation


def means(data):
    """The mean colour of each view where no digit is."""
    return torch.stack([t[:, :, 1:27].double().mean((0, 2, 3)) for t in data.train.tables.values()])


def test_photographs_come_first_and_textures_fill_up(mnist, folder, tmp_path):
    ours = means(polymnist(path=folder, views=5))
    assert torch.equal(ours[:3, 2], torch.tensor([0.0, 10, 20], dtype=torch.float64))
    drawn = means(polymnist(path=folder, views=3, photos=False))
    of_textures = torch.stack([texture(k).double().mean((0, 1)) for k in range(3)])
    assert (drawn - of_textures).abs().max() < 8 and (ours[3:] - of_textures[:2]).abs().max() < 8
    (tmp_path / "none").mkdir()
    assert torch.equal(means(polymnist(path=tmp_path / "none", views=3)), drawn)
    files = [str(folder / "backgrounds" / f"{k}.png") for k in (2, 0)]
    given = means(polymnist(path=tmp_path / "none", views=2, backgrounds=files))
    assert given[:, 2].tolist() == [20, 0]  # in the order of the list
    inside = means(
        polymnist(path=tmp_path / "none", views=2, backgrounds=str(folder / "backgrounds"))
    )
    assert inside[:, 2].tolist() == [0, 10]


def test_textures_are_ten_looks_that_stay():
    looks = [texture(k) for k in range(10)]
    assert all(
        t.shape == (256, 256, 3) and t.dtype == torch.uint8 and torch.equal(t, texture(k))
        for k, t in enumerate(looks)
    )
    colour = torch.stack([t.double().mean((0, 1)) for t in looks])
    apart = torch.cdist(colour, colour).fill_diagonal_(1e9)
    assert apart.min() > 20  # of 255
    for t in looks:
        assert t.double().std((0, 1)).max() > 30  # no plain colour
        contrast = (
            (255 - 2 * t.double()).abs().amax(-1)
        )  # between a pixel and its inverse, in the best channel
        assert (contrast > 50).double().mean() > 0.95  # digits can be read


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"views": 1}, "needs views >= 2.*got views 1"),
        ({"val": 1.0}, "0 < val < 1"),
        ({"limit": 0}, "limit must be a whole number of at least 1"),
        ({"backgrounds": "/nowhere"}, "no folder /nowhere"),
        ({"backgrounds": ["a.png"]}, r"3 views need as many backgrounds, got 1 \(a.png\)"),
        (
            {"backgrounds": ["a.png", "b.png", "c.png"]},
            "There is no file .*a.png",
        ),
        ({"backgrounds": ["a.png"], "photos": False}, "not both"),
        ({"view": 3}, r"no setting data.view. Did you mean data.views\?"),
    ],
)
def test_what_bad_requests_are_told(mnist, folder, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_data("polymnist", **{"path": folder, "views": 3} | options)


def test_what_bad_photographs_are_told(mnist, folder):
    file = folder / "backgrounds" / "1.png"
    content = file.read_bytes()
    for broken in (content[:100], b"no picture"):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"1\.png (is truncated or damaged|cannot be read)"):
            polymnist(path=folder)
    Image.new("RGB", (300, 27)).save(file)
    with pytest.raises(
        ValueError, match=r"1\.png has 300 x 27 pixels; a background needs at least 28 x 28"
    ):
        polymnist(path=folder)
    Image.new("L", (28, 28), 200).save(file)  # grey, and just large enough
    assert (polymnist(path=folder).train.tables["m1"][:, :, 5] == 200).all()


@pytest.mark.data
def test_real_digits_and_photographs(real_data):
    data = load_data("polymnist", path=real_data, limit=200, views=6)
    assert [len(p) for p in parts(data).values()] == [
        200
    ] * 3 and data.train.label.unique().tolist() == list(range(10))
    x = data.train.batch(torch.arange(200)).x
    files = sorted((real_data / "backgrounds").glob("*.png"))
    assert len(files) == 5
    for k, file in enumerate(files):
        whole = (
            torch.from_numpy(np.array(Image.open(file).convert("RGB"))).double().mean((0, 1)) / 255
        )
        rim = torch.cat([x[f"m{k}"][:, :, :3], x[f"m{k}"][:, :, 25:]], 2).double().mean((0, 2, 3))
        assert (
            rim - whole
        ).abs().max() < 0.12  # no digit there; standard error .02, and edges are seen less
