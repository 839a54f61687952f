"""Data sets of `datasets`, by what they offer."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import polymodal
from polymodal.data import load_data

N = 60


class Rows:
    """What a data set of `datasets` offers."""

    def __init__(self, columns, names=None) -> None:
        self.columns = columns
        self.column_names = list(columns)
        self.features = {
            c: SimpleNamespace(names=names) if c == "label" else SimpleNamespace() for c in columns
        }

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column):
        return self.columns[column]


def birds(n=N, seed=0, sizes=(32,)):
    rng = np.random.default_rng(seed)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (sizes[k % len(sizes)], 32, 3), np.uint8))
        for k in range(n)
    ]
    return {
        "image": pictures,
        "wing": [None if k % 9 == 1 else float(v) for k, v in enumerate(rng.normal(size=n))],
        "embedding": rng.normal(size=(n, 4)).tolist(),
        "caption": [f"a small bird with number {k}" for k in range(n)],
        "label": [k % 3 for k in range(n)],
    }


def test_every_column_is_a_modality_of_its_kind() -> None:
    data = load_data(Rows(birds(), ["owl", "jay", "tit"]), label="label")
    kinds = {m.name: (m.kind, m.shape) for m in data.modalities}
    assert kinds["table"] == ("table", (1,)) and kinds["caption"][0] == "text"
    assert kinds["image"][1] == (3, 32, 32) and kinds["embedding"][1] == (4,)
    assert data.train.classes == ("jay", "owl", "tit")
    assert 0 < (~data.train.is_present("table")).sum() < 9
    assert sum(map(len, data.parts.values())) == N


def test_splits_are_parts() -> None:
    parts = {"train": Rows(birds(40)), "validation": Rows(birds(12, 1)), "test": Rows(birds(8, 2))}
    data = load_data(parts)
    assert [len(part) for part in data.parts.values()] == [40, 12, 8]
    embedding = data.test.tables["embedding"][data.test.rows_of("embedding")]
    np.testing.assert_allclose(embedding, birds(8, 2)["embedding"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"The splits must be train, .* got \['extra'\]"):
        load_data({"train": Rows(birds(40)), "extra": Rows(birds(4))})


def test_pictures_of_different_sizes_are_resized() -> None:
    data = load_data(Rows({"image": birds(sizes=(32, 48))["image"]}))
    assert data.modalities[0].shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ([{"array": [0.1], "sampling_rate": 8000}] * N, r"holds \['array', 'sampling_rate'\]"),
        ([[1.0] * (1 + k % 2) for k in range(N)], "lists of numbers of one length"),
        ([None, *birds()["image"][1:]], "lacks some pictures; leave those rows out"),
    ],
)
def test_columns_that_are_not_read_are_told(column, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_data(Rows({"wing": [0.5] * N, "sound": column}))


def test_one_trains_on_them() -> None:
    few = {k: v for k, v in birds().items() if k in ("wing", "embedding")}
    assert polymodal.fit("mvtcae", Rows(few), latent=2, epochs=1, progress=False).model
