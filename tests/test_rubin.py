"""Rubin's rules: closed forms, limits, and intervals that cover the truth."""

import numpy as np
import pytest
from scipy import stats

from polymodal import pool_estimates

Q, U = [10.0, 12.0, 11.0, 13.0, 9.0], [4.0, 5.0, 6.0, 5.0, 5.0]


def test_the_rules_of_rubin_1987() -> None:
    pooled = pool_estimates(Q, U)
    m, within, between = 5, 5.0, 2.5  # (1 + 0 + 4 + 1 + 4) / 4
    total = within + 1.2 * between
    ratio = 1.2 * between / within
    df = (m - 1) * (1 + 1 / ratio) ** 2
    assert pooled.estimate == 11.0 and pooled.within == within and pooled.between == between
    assert pooled.variance == pytest.approx(total)
    assert pooled.df == pytest.approx(df)
    information = (ratio + 2 / (df + 3)) / (ratio + 1)
    assert pooled.missing_information == pytest.approx(information)


def test_degrees_of_freedom_of_barnard_and_rubin_1999() -> None:
    whole = 20.0
    share = 3.0 / 8.0
    old = 4 / share**2
    observed = (whole + 1) / (whole + 3) * whole * (1 - share)
    pooled = pool_estimates(Q, U, complete_df=whole)
    assert pooled.df == pytest.approx(1 / (1 / old + 1 / observed))
    assert pooled.df < min(old, whole)
    large = pool_estimates(Q, U, complete_df=1e9)
    assert large.df == pytest.approx(old, rel=1e-6)


def test_copies_that_agree_miss_nothing() -> None:
    pooled = pool_estimates([3.0, 3.0], [0.5, 1.5])
    assert pooled.variance == 1.0 and pooled.df == np.inf and pooled.missing_information == 0
    small = pool_estimates([3.0, 3.0], [0.5, 1.5], complete_df=17)
    assert small.df == pytest.approx(18 / 20 * 17)
    exact = pool_estimates([1.0, 3.0], [0.0, 0.0])
    assert exact.variance == 3.0 and exact.missing_information == 1 and exact.df == 1
    assert pool_estimates([2.0, 2.0], [0.0, 0.0]).variance == 0


def test_arrays_are_pooled_entry_by_entry() -> None:
    rng = np.random.default_rng(0)
    q, u = rng.normal(size=(7, 3, 2)), rng.random((7, 3, 2))
    whole = pool_estimates(q, u, complete_df=30)
    for i, j in np.ndindex(3, 2):
        one = pool_estimates(q[:, i, j], u[:, i, j], complete_df=30)
        for a, b in zip(whole, one, strict=True):
            assert a[i, j] == pytest.approx(b)
            assert isinstance(b, float)


def test_intervals_of_pooled_means_cover_the_truth() -> None:
    """Normal data of which half is missing, imputed properly: 95 % intervals cover 95 %, within 3
    standard errors; those of one completed copy do not.
    """
    rng = np.random.default_rng(0)
    n, m, runs = 40, 10, 2000
    seen = n // 2
    covered = single = 0
    for _ in range(runs):
        x = rng.normal(size=seen)
        sigma2 = x.var(ddof=1) * (seen - 1) / rng.chisquare(seen - 1, m)
        mu = rng.normal(x.mean(), np.sqrt(sigma2 / seen))
        drawn = rng.normal(mu[:, None], np.sqrt(sigma2)[:, None], (m, n - seen))
        copies = np.concatenate([np.broadcast_to(x, (m, seen)), drawn], 1)
        q, u = copies.mean(1), copies.var(1, ddof=1) / n
        pooled = pool_estimates(q, u, complete_df=n - 1)
        half = stats.t.ppf(0.975, pooled.df) * np.sqrt(pooled.variance)
        covered += abs(pooled.estimate) < half
        single += abs(q[0]) < stats.t.ppf(0.975, n - 1) * np.sqrt(u[0])
    assert abs(covered / runs - 0.95) < 3 * np.sqrt(0.95 * 0.05 / runs)
    assert single / runs < 0.85


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([1.0], [1.0]), r"at least 2 completed copies, got \(1,\)"),
        (([1.0, 2.0], [1.0]), r"same shape .*got \(2,\) and \(1,\)"),
        (([1.0, 2.0], [1.0, -1.0]), "variances of at least 0"),
        (([1.0, np.nan], [1.0, 1.0]), "finite estimates"),
        (([1.0, [2.0]], [1.0, 1.0]), "all of one shape"),
        (("ab", [1.0, 1.0]), "one estimate and one variance"),
        ((3.0, 1.0), "one estimate and one variance"),
        (([1.0, 2.0], [1.0, 1.0], 0), "complete_df must be positive, got 0"),
    ],
)
def test_what_cannot_be_pooled(arguments, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        pool_estimates(*arguments)
