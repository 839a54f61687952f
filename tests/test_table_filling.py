"""Filling in tables: values that a heavy tail cannot blow up, probabilities that hold."""

import math

import pytest
import torch

from polymodal.batch import Column, Modality
from polymodal.data import load_data
from polymodal.distributions.table import BEYOND, TableValues, layout_of
from polymodal.imputation.fill import summarised
from polymodal.imputation.weighted import Weighted

LARGEST = 7300.0
COLUMNS = (Column("n", "count", largest=LARGEST), Column("x", "positive", largest=LARGEST))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def values(raw: torch.Tensor, columns: tuple[Column, ...] = COLUMNS) -> TableValues:
    location, spread = torch.zeros(len(columns)), torch.ones(len(columns))
    return TableValues(raw, layout_of(columns), location, spread)


def centre(raw: torch.Tensor, columns: tuple[Column, ...] = COLUMNS) -> torch.Tensor:
    """What is filled in where all latents (K, B) weigh the same, (B, d)."""
    k, b = raw.shape[:2]
    latents = Weighted(torch.zeros(k, b, 1), torch.full((k, b), 1 / k), torch.full((b,), float(k)))
    p = values(raw, columns)
    modality = Modality("t", (len(columns),), "table", kind="table", columns=columns)
    return summarised(p, p.sample(), modality, latents, None, (0.5,)).center


def test_a_log_that_is_far_off_stays_near_the_values_of_training() -> None:
    """A tenth of the latents say e^15: neither draws nor means are far above the largest value of
    training, and what is filled in is not above it.
    """
    raw = torch.tensor([3.0, -1.0, 3.0, 0.0]).repeat(1000, 5, 1)
    raw[:100, :, [0, 2]] = 15.0
    p = values(raw)
    most = BEYOND * LARGEST * (1 + 1e-5)
    assert p.mean.max() <= most and p.sample().max() <= most
    assert p.mean.max() > LARGEST
    filled = centre(raw)
    assert (filled <= LARGEST).all()
    # The tenth counts with the largest value, more or less; without the limit it would be 3e5.
    assert (filled > 0.02 * LARGEST).all() and (filled < 0.2 * LARGEST).all()


def test_the_centre_of_counts_is_their_mean_where_the_limit_is_far() -> None:
    """Draws with the mean 20 and the variance 20 + 20^2 / e."""
    raw = torch.tensor([math.log(20.0), 1.0]).repeat(20_000, 3, 1)
    filled = centre(raw, COLUMNS[:1])
    error = math.sqrt((20 + 400 / math.e) / 20_000)
    assert (filled - 20).abs().max() < 4 * error


def test_a_mean_beyond_the_bound_can_return() -> None:
    raw = torch.tensor([[30.0, 0.0]], requires_grad=True)
    values(raw, COLUMNS[:1]).log_prob(torch.tensor([[20.0]])).sum().backward()
    assert raw.grad is not None and raw.grad[0, 0] < -1e-3


def test_columns_without_a_largest_value_have_a_trimmed_mean() -> None:
    raw = torch.tensor([3.0, 0.0]).repeat(2000, 3, 1)
    raw[:10, :, 0] = 15.0
    plain = (Column("n", "count"),)
    assert (centre(raw, plain) < 100).all() and values(raw, plain).mean.max() > 1e6


def test_the_largest_value_is_that_of_the_training_part(tmp_path) -> None:
    """Of counts and positive columns only; row 9 is not in training."""
    rows = [f"{k % 15 * 3},{math.exp(k % 7):.3f},{k - 30.5},train" for k in range(60)]
    rows[9] = "999,99999.5,3000.5,test"
    (tmp_path / "t.csv").write_text("\n".join(["n,x,r,part", *rows]) + "\n")
    data = {"file": "t.csv", "path": str(tmp_path), "split": "part"}
    data["modalities"] = {"t": {"columns": {"n": "count", "x": "positive", "r": "real"}}}
    (table,) = load_data(data).modalities
    assert [c.largest for c in table.columns] == [42.0, pytest.approx(403.429), None]
