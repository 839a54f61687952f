"""The packed real data: sizes, ranges, and that parts share no image."""

from importlib import import_module

import pytest
import torch

from polymodal.data import ATTRIBUTES, load_data
from polymodal.data.readers import decoded
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.digits import PACKED_SVHN

faces = import_module("polymodal.data.celeba")  # the package's attribute is the function
pytestmark = pytest.mark.data


def table_rows(part, modality):
    """The distinct images a part uses, as bytes."""
    used = part.index[modality].unique() if modality in part.index else torch.arange(len(part))
    return {row.numpy().tobytes() for row in part.tables[modality][used]}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mnist-svhn", (36_000, 4_000, 10_000)),
        ("mnist-svhn-fashion", (36_000, 4_000, 10_000)),
        ("mnist-fashion", (282_770, 11_425, 48_930)),
    ],
)
def test_matched_digits(real_data, name, sizes):
    data = load_data(name, path=real_data)
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    for m in data.train.names:
        train, val, test = (table_rows(part, m) for part in (data.train, data.val, data.test))
        assert not train & val and not train & test and not val & test
    batch = data.train.batch(torch.arange(512))
    assert all(
        0 <= x.min() and 0.9 < x.max() <= 1 and 0.05 < x.mean() < 0.6 for x in batch.x.values()
    )
    assert batch.label.unique().tolist() == list(range(10))


def test_svhn_is_split_where_its_source_says(real_data):
    packed = read_arrays(real_data / "svhn" / PACKED_SVHN)
    data = load_data("mnist-svhn", path=real_data)
    images = torch.from_numpy(packed["images"]).permute(0, 3, 1, 2)
    assert torch.equal(data.train.tables["svhn"], images[:7200])
    assert torch.equal(data.val.tables["svhn"], images[7200:8000])
    assert torch.equal(data.test.tables["svhn"], images[8000:])
    label = torch.from_numpy(packed["labels"]).long()
    assert torch.equal(label[:7200][data.train.index["svhn"]], data.train.label)


def test_celeba(real_data, tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "cache_folder", lambda: tmp_path)
    data = load_data("celeba", path=real_data, limit=500)
    assert (len(data.train), len(data.val), len(data.test)) == (500, 500, 500)
    packed = read_arrays(real_data / "celeba-10k" / faces.PACKED)
    assert tuple(packed["attr_names"]) == ATTRIBUTES
    for part, first in ((data.train, 0), (data.val, 8000), (data.test, 9000)):
        batch = part.batch(torch.arange(500))
        assert torch.equal(
            batch.x["attributes"], torch.from_numpy(packed["attr"][first : first + 500]).float()
        )
        assert batch.x["image"].shape == (500, 3, 64, 64) and 0.3 < batch.x["image"].mean() < 0.6
    # Blond hair is brighter than black hair at the top of the picture: images and attributes belong
    # together.
    top = batch.x["image"][:, :, :12].mean((1, 2, 3))
    blond, black = (
        batch.x["attributes"][:, ATTRIBUTES.index(a)] == 1 for a in ("Blond_Hair", "Black_Hair")
    )
    assert top[blond].mean() > top[black].mean() + 0.1
