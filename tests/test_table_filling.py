"""Filling in tables: values that a heavy tail cannot blow up, probabilities that hold."""

import math

import pytest
import torch

from polymodal.batch import Column, Modality
from polymodal.data import Dataset, Splits, load_data
from polymodal.distributions.table import BEYOND, TableValues, layout_of
from polymodal.imputation.conformal import Calibration, held
from polymodal.imputation.evaluate import _checks
from polymodal.imputation.fill import Filled, summarised
from polymodal.imputation.temperature import Temperature, temperature_of, tempered
from polymodal.imputation.weighted import Weighted
from polymodal.metrics.scoring import binned_error, calibration_error, chance_error
from polymodal.settings.recommended import CHECKS, LONGEST, PASSES, STEPS, recommended

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


# Probabilities.

CODES = (Column("c", "category", ("u", "v", "w")), Column("o", "ordinal", tuple("abcde")))
CODED_TABLE = Modality("t", (2,), "table", kind="table", columns=CODES)
N = 4000


def coded(wrong: float, n: int = N) -> tuple[torch.Tensor, Filled]:
    """Categories (n, 2), and a model whose probabilities are the right ones to the power `wrong`,
    normalised.
    """
    true = {i: (1.5 * torch.randn(n, len(c.categories))).softmax(-1) for i, c in enumerate(CODES)}
    truth = torch.cat([torch.multinomial(p, 1) for p in true.values()], 1).float()
    said = {i: tempered(p, 1 / wrong) for i, p in true.items()}
    center = torch.stack([p.argmax(-1) for p in said.values()], 1).float()
    return truth, Filled(center, center[None], center[:0], said, torch.ones(n))


def fitted(wrong: float, n: int = N) -> Temperature:
    truth, filled = coded(wrong, n)
    found = temperature_of(
        "entries", CODED_TABLE, truth, torch.ones(n, 2, dtype=torch.bool), filled
    )
    assert found is not None and found.n == 2 * n
    return found


@pytest.mark.parametrize("wrong", [0.5, 0.8, 2.5])
def test_the_temperature_is_that_by_which_a_model_is_wrong(wrong: float) -> None:
    assert fitted(wrong).value == pytest.approx(wrong, rel=0.06)


def test_tempered_probabilities_of_new_rows_hold() -> None:
    """Of a model that is far too sure, on rows on which the temperature was not fitted."""
    calibration = Calibration((), (fitted(2.5),))
    truth, filled = coded(2.5)
    after = held(filled, calibration, CODED_TABLE)
    for i in after:
        own, ours = (calibration_error(p[i], truth[:, i]) for p in (filled.probabilities, after))
        assert own > 0.1 and ours < 0.03
        assert torch.equal(after[i].argmax(-1), filled.probabilities[i].argmax(-1))
        assert torch.allclose(after[i].sum(-1), torch.ones(N))


def test_a_model_that_is_right_keeps_its_probabilities() -> None:
    """At every size, but for the few cases that lie more than two standard errors off; a model that
    is wrong gets a temperature as soon as there are entries enough. None hidden: none.
    """
    for n in (5, 50, 500):
        values = [fitted(1.0, n).value for _ in range(40)]
        assert sum(v == 1.0 for v in values) >= 34
        assert all(0.4 < v < 2.5 for v in values)
    assert all(fitted(2.5, 500).value > 2 for _ in range(10))
    truth, filled = coded(1.0, 5)
    nothing = torch.zeros(5, 2, dtype=torch.bool)
    assert temperature_of("entries", CODED_TABLE, truth, nothing, filled) is None


def test_each_row_has_the_temperature_of_its_pattern() -> None:
    two = [
        Temperature(pattern=pattern, modality="t", n=9, value=value)
        for pattern, value in (("entries", 2.0), ("whole", 0.5))
    ]
    calibration = Calibration((), tuple(two))
    _, filled = coded(1.0, 4)
    whole = torch.tensor([True, False, False, True])
    after = held(filled, calibration, CODED_TABLE, whole)[0]
    p = filled.probabilities[0]
    assert torch.allclose(after[whole], tempered(p, 0.5)[whole])
    assert torch.allclose(after[~whole], tempered(p, 2.0)[~whole])
    # A pattern that was not measured has the other's, another modality none.
    assert Calibration((), tuple(two[:1])).temperature("whole", "t") == 2.0
    assert calibration.temperature("whole", "u") == 1.0
    assert Calibration.from_records(calibration.records()) == calibration


def test_the_calibration_error_by_chance_is_that_of_probabilities_that_hold() -> None:
    """Of 60 entries: the mean error over many draws, which is far from 0."""
    p = 0.4 + 0.6 * torch.rand(60)
    errors = [binned_error(p, (torch.rand(60) < p).double()) for _ in range(400)]
    mean = sum(errors) / len(errors)
    assert chance_error(p) == pytest.approx(mean, abs=0.01) and mean > 0.05
    assert chance_error(p.repeat(100)) < 0.02


# Training.


@pytest.mark.parametrize(
    "rows, batch, steps",
    [
        (100, 64, STEPS),
        (2_800, 64, STEPS),
        (5_000, 64, 78 * PASSES),
        (6_000, 64, LONGEST),
        (30_000, 256, LONGEST),
    ],
)
def test_tables_of_any_size_are_trained_for_steps(rows: int, batch: int, steps: int) -> None:
    """STEPS, of more rows PASSES epochs, and LONGEST steps at most, rounded up to an epoch; a
    validation every CHECKS steps or every epoch.
    """
    column = (Column("x"), Column("y"))
    table = Modality("t", (2,), "table", kind="table", columns=column, scale=None)
    part = Dataset([table], {"t": torch.randn(rows, 2)})
    training = recommended(Splits(part, part.first(10), part.first(10), "t")).training
    each = max(1, rows // batch)
    assert training["batch"] == batch
    assert steps <= training["epochs"] * each < steps + each
    assert training["eval_every"] * each <= max(CHECKS, each)


# Validation rows.


def test_few_rows_are_taken_several_times_each_time_with_other_holes() -> None:
    """80 rows stand four times among those that are measured, 500 once; what is hidden differs."""
    table = Modality("t", (5,), "normal", scale=None)
    for rows, times in ((80, 4), (500, 1)):
        val = Dataset([table], {"t": torch.randn(rows, 5)})
        hidden = next(_checks(val, [table], 0.3, 500, 0))
        assert hidden is not None and hidden.times == times
        assert len(hidden.data) == rows * times
        masks = hidden.mask["t"].reshape(times, rows, 5)
        assert abs(masks.double().mean().item() - 0.3) < 0.05
        assert torch.equal(hidden.truth["t"][:rows], hidden.truth["t"][-rows:])
        assert len({mask.numpy().tobytes() for mask in masks}) == times


def test_rows_that_are_taken_several_times_are_no_more_evidence() -> None:
    """A gain that is enough once is not if it comes from copies."""
    truth, filled = coded(1.6, 60)
    every = torch.ones(60, 2, dtype=torch.bool)
    given = ("entries", CODED_TABLE, truth, every, filled)
    once, often = temperature_of(*given), temperature_of(*given, times=20)
    assert once is not None and often is not None
    assert once.value > 1 and often.value == 1
