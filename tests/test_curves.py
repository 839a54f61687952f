"""benchmarks/curves.py: the clock of both libraries, and when ours is as good."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from curves_common import FinishedError, Marks
from curves_picture import as_good, curve_of, table


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_time_of_draws_does_not_count() -> None:
    """Draws that take longer than the time to the next mark do not bring it nearer."""
    reached: list[tuple[float, str, int]] = []

    def draws(mark: float, model: str, steps: int) -> None:
        reached.append((mark, model, steps))
        _busy(0.6)

    marks = Marks([0.2 / 60, 0.6 / 60], draws)
    with pytest.raises(FinishedError):
        for _ in range(100):
            _busy(0.05)
            marks.step("model")
    (first, second), steps = [m for m, _, _ in reached], [s for _, _, s in reached]
    assert (first, second) == (0.2 / 60, 0.6 / 60)
    assert 3 <= steps[0] <= 4 and 7 <= steps[1] - steps[0] <= 8


@pytest.mark.parametrize(
    ("quantity", "ours", "good"),
    [
        ("coherence", 0.45, True),
        ("coherence", 0.43, False),
        ("frechet", 0.55, True),
        ("frechet", 0.57, False),
    ],
)
def test_as_good_is_two_standard_errors_of_the_difference(
    quantity: str, ours: float, good: bool
) -> None:
    assert as_good(quantity, (ours, 0.03), (0.5, 0.0)) is good


def _training(library: str, seed: int, coherence: float) -> dict:
    figures = {"coherence": coherence, "coherence_se": 0.01, "frechet": 1.0, "frechet_se": 0.1}
    place = {"task": "mnist-svhn", "method": "jnf", "library": library, "seed": seed}
    return place | {"marks": {"5": figures}}


def test_curves_average_over_seeds_with_their_error() -> None:
    """Of one seed the error over items stands; of several the error of their mean."""
    one = [_training("polymodal", 0, 0.4), _training("multivae", 0, 0.5)]
    two = [*one, _training("polymodal", 1, 0.6)]
    where = "mnist-svhn", "jnf", "polymodal", "coherence"
    assert curve_of({"trainings": one}, *where) == {5.0: (0.4, 0.01)}
    assert curve_of({"trainings": two}, *where)[5.0] == pytest.approx((0.5, 0.1))
    assert table({"trainings": one}).splitlines()[-1].endswith("| no |")
    assert table({"trainings": two}).splitlines()[-1].endswith("| yes |")
