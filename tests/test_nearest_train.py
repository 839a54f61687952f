"""Distances to the nearest training sample: 0 for an oracle that copies, 1 for new data."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from polymodal.data import Dataset, Splits
from polymodal.metrics import METRICS, Measurement, UnavailableError, nearest_train, neighbours
from polymodal.metrics.nearest_train import copying_ratio, nearest
from test_evaluation import LAW, a_run, fixed_classifiers, splits

pytestmark = pytest.mark.usefixtures("double")
BOTH = ("nearest_train", "nearest_train_values")


class Oracle(nn.Module):
    """Gives rows of `values` (N, F) whatever the latents, the i-th for the i-th latent."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, z: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=self.values[: z.shape[-2]])


def measured(name: str, values: Tensor, data: Splits, with_train: bool = True) -> tuple:
    """The metric of a model that generates these values of b given a."""
    model = a_run().model
    model.decoders["b"] = Oracle(values)
    train = data.train if with_train else None
    m = Measurement(model, data.test, train, fixed_classifiers())
    return METRICS[name].compute(m, ("a",), "b")


@pytest.mark.parametrize("name", BOTH)
def test_copies_are_at_no_distance_and_new_data_at_that_of_test_data(name: str) -> None:
    data = splits(800)
    value, error, n = measured(name, data.train.tables["b"].flip(0), data)
    assert value == pytest.approx(0, abs=1e-6) and error < 1e-6 and n == 800
    fresh = LAW.sample(800, torch.Generator().manual_seed(9)).x["b"]
    value, error, _ = measured(name, fresh, data)
    assert abs(value - 1) < 3 * error < 0.3
    half = torch.cat([fresh[:400], data.train.tables["b"][:400]])
    value, error, _ = measured(name, half, data)
    assert abs(value - 0.5) < 3 * error, "half of them copied"
    value, error, _ = measured(name, fresh + 10, data)
    assert value > 2


def test_the_nearest_is_that_of_all_pairs(monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 7)
    x, among = torch.randn(20, 3), torch.randn(11, 3)
    pairs = [min((a - b).norm().item() for b in among) for a in x]
    torch.testing.assert_close(nearest(x, among), torch.tensor(pairs))


def test_the_error_is_that_of_repetitions() -> None:
    draws = [copying_ratio(torch.rand(50), 1 + torch.rand(80)) for _ in range(500)]
    values, errors = torch.tensor(draws).T
    assert errors.mean().item() == pytest.approx(values.std().item(), rel=0.1)


def test_a_stated_number_of_different_training_values_is_searched(monkeypatch) -> None:
    data = splits()
    monkeypatch.setattr(nearest_train, "TRAINING", 30)
    index = {m: torch.arange(60) // 2 for m in "abc"}  # 30 values, each in two samples
    train = Dataset(data.train.modalities, data.train.tables, index, label=data.train.label)
    copied = data.train.tables["b"][:30].repeat(2, 1)
    value, _, _ = measured("nearest_train_values", copied, Splits(train, train, data.test, "law"))
    assert value == pytest.approx(0, abs=1e-6), "all 30 different values were searched"
    monkeypatch.setattr(nearest_train, "TRAINING", 10)
    value, _, _ = measured("nearest_train_values", copied, Splits(train, train, data.test, "law"))
    assert value > 0.1


def test_what_is_not_there_is_said() -> None:
    data = splits()
    for name in BOTH:
        with pytest.raises(UnavailableError, match="needs a training part"):
            measured(name, data.train.tables["b"], data, with_train=False)
        with pytest.raises(UnavailableError, match="also a training value"):
            same = Splits(data.test, data.test, data.test, "law")
            assert measured(name, data.train.tables["b"], same)
    with pytest.raises(UnavailableError, match="are no values of it"):
        measured("nearest_train_values", torch.zeros(60, 5), data)


def test_what_is_a_copy_does_not_depend_on_the_origin() -> None:
    train = torch.randn(300, 5)
    x = torch.cat([train[:40], torch.randn(60, 5)])
    far = nearest(x + 1e7, train + 1e7)
    assert (far[:40] < 1e-6).all() and torch.allclose(far[40:], nearest(x, train)[40:], rtol=1e-6)
