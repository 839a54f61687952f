"""Features of a frozen encoder: cached, and turned back by retrieval."""

import numpy as np
import pytest
import torch

import polymodal
from polymodal.data.features import encode, nearest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)).astype(np.float32)


class Counted(torch.nn.Module):
    """A linear map with dropout that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(torch.as_tensor(x))


def test_features_are_those_of_the_encoder_whatever_the_batch() -> None:
    encoder = Counted()
    whole = encode(encoder, X, batch=1000)
    np.testing.assert_allclose(encode(encoder, torch.tensor(X), batch=7), whole, atol=1e-6)
    assert whole.dtype == np.float32 and not encoder.training
    words = encode(lambda some: [[len(w), w.count("a")] for w in some], ["a", "banana"])
    assert words.tolist() == [[1, 1], [6, 3]]


def test_the_cache_serves_equal_values_and_weights_only(tmp_path) -> None:
    encoder, cache = Counted(), tmp_path / "f.npz"
    first = encode(encoder, X, batch=200, cache=cache)
    assert np.array_equal(encode(encoder, X, batch=200, cache=cache), first)
    assert encoder.calls == 1
    encode(encoder, X + 1, batch=200, cache=cache)
    with torch.no_grad():
        encoder.net[0].weight.mul_(2)
    encode(encoder, X + 1, batch=200, cache=cache)
    assert encoder.calls == 3
    assert not [p for p in tmp_path.iterdir() if p != cache]


@pytest.mark.parametrize(
    ("encoder", "values", "sentence"),
    [
        (lambda x: x[:, None], X, r"vectors \(n, d\) of real numbers, got shape \(64, 1, 6\)"),
        (lambda x: x * np.nan, X, "900 of its numbers not finite"),
        (lambda x: x[:1], X, r"one vector of finite numbers for each of 150 values"),
        (lambda x: x, X[:0], "no values to encode"),
    ],
)
def test_what_is_no_vector_is_told(encoder, values, sentence, tmp_path) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode(encoder, values, cache=tmp_path / "f.npz")
    assert not list(tmp_path.iterdir())


def test_another_file_is_not_written_over(tmp_path) -> None:
    np.savez(tmp_path / "f.npz", a=X)
    with pytest.raises(ValueError, match="is no cache of features, it holds"):
        encode(lambda x: x, X, cache=tmp_path / "f.npz")


def test_the_nearest_is_that_of_the_largest_cosine() -> None:
    table, x = torch.tensor(X), torch.randn(3, 40, 6)
    found = nearest(x, table, 5)
    cosines = torch.nn.functional.cosine_similarity(x[..., None, :], table, dim=-1)
    torch.testing.assert_close(
        cosines.gather(-1, found), cosines.sort(-1, descending=True).values[..., :5]
    )
    assert torch.equal(nearest(3 * table, table)[:, 0], torch.arange(150))
    with pytest.raises(ValueError, match="looked up in a table of 150 rows"):
        nearest(torch.randn(2, 5), table)


def test_retrieved_samples_have_the_class_that_is_given() -> None:
    label = RNG.integers(0, 3, 300)
    centres = 3 * RNG.normal(size=(3, 8))
    vectors = centres[label] + 0.5 * RNG.normal(size=(300, 8))
    given = np.eye(3)[label]
    data = polymodal.load_data(
        {"photo": vectors, "kind": given, "label": label},
        modalities={"photo": {"kind": "features"}},
    )
    torch.manual_seed(0)
    run = polymodal.fit("mvtcae", data, latent=2, epochs=25, batch=32, lr=3e-3, progress=False)
    test = data.test.batch(torch.arange(len(data.test)))
    drawn = run.model.generate(test.only(["kind"]), n=4)["photo"]
    found = nearest(drawn, data.train.tables["photo"].float())[..., 0]
    right = data.train.label[found] == data.test.label
    assert right.float().mean() > 0.9
