"""Rules of pooling against numbers worked out otherwise: integration on a grid, the best linear
estimate, sampling.
"""

import math
from itertools import combinations

import pytest
import torch

from polymodal.batch import Modality
from polymodal.distributions.mixture import Mixture
from polymodal.distributions.normal import DiagNormal, product
from polymodal.methods import METHODS
from polymodal.posteriors.pooling import POOLINGS, barycentre, correlated, geometric, hoelder

pytestmark = pytest.mark.usefixtures("double")


def experts(n: int = 3, size: int = 4, dim: int = 1) -> list[DiagNormal]:
    return [DiagNormal(torch.randn(size, dim), torch.rand(size, dim) + 0.4) for _ in range(n)]


GRID = torch.linspace(-16, 16, 8001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])


def on_grid(q) -> torch.Tensor:
    """Density of a one-dimensional q of batch (B,) on the grid, (B, points)."""
    return q.log_prob(GRID[:, None, None].expand(-1, *q.batch_shape, 1)).exp().T


def normalised(values: torch.Tensor) -> torch.Tensor:
    return values / (values.sum(-1, keepdim=True) * STEP)


def test_the_geometric_mean_is_that_of_the_densities() -> None:
    q = experts()
    expected = normalised(
        torch.stack([on_grid(e).clamp_min(1e-300).log() for e in q]).mean(0).exp()
    )
    torch.testing.assert_close(on_grid(geometric(q)), expected, atol=1e-6, rtol=0)


def test_hoelder_pooling_is_the_square_of_the_sum_of_roots() -> None:
    q = experts()
    expected = normalised(torch.stack([on_grid(e).sqrt() for e in q]).sum(0).square())
    torch.testing.assert_close(on_grid(hoelder(q)), expected, atol=1e-6, rtol=0)


def test_hoelder_moments_are_those_of_hoelder_pooling() -> None:
    q = experts()
    density = on_grid(hoelder(q))
    mean = (density * GRID).sum(-1) * STEP
    variance = (density * (GRID - mean[:, None]).square()).sum(-1) * STEP
    found = hoelder(q, moments=True)
    torch.testing.assert_close(found.loc[:, 0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.variance[:, 0], variance, atol=1e-5, rtol=0)


def test_hoelder_pooling_weighs_overlap_over_all_coordinates() -> None:
    """S_ij is a product over coordinates: two dimensions, by sums on a plane."""
    q = experts(2, 1, 2)
    line = torch.linspace(-7, 7, 401)
    plane = torch.cartesian_prod(line, line).unsqueeze(1)
    log = lambda d: d.log_prob(plane)[:, 0]
    roots = torch.stack([(log(e) / 2).exp() for e in q]).sum(0).square()
    cell = float(line[1] - line[0]) ** 2
    torch.testing.assert_close(
        log(hoelder(q)).exp(), roots / (roots.sum() * cell), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_correlated_experts_give_the_best_linear_estimate(rho: float) -> None:
    q = experts(3, 5, 2)
    found = correlated(q, rho=rho)
    for b in range(5):
        for d in range(2):
            s = torch.stack([e.scale[b, d] for e in q])
            mean = torch.stack([e.loc[b, d] for e in q])
            covariance = torch.where(torch.eye(3, dtype=torch.bool), 1.0, rho) * s[:, None] * s
            ones = torch.linalg.solve(covariance, torch.ones(3))
            torch.testing.assert_close(found.loc[b, d], ones @ mean / ones.sum())
            torch.testing.assert_close(found.variance[b, d], 1 / ones.sum())


def test_uncorrelated_experts_are_their_product() -> None:
    q = experts(4, 3, 2)
    torch.testing.assert_close(correlated(q, rho=0.0).loc, product(q).loc)
    torch.testing.assert_close(correlated(q, rho=0.0).scale, product(q).scale)


def test_the_barycentre_minimises_the_mean_squared_distance() -> None:
    q = experts(3, 2, 1)
    cost = lambda p: sum((p.loc - e.loc).square() + (p.scale - e.scale).square() for e in q).sum()
    best = barycentre(q)
    for shift, stretch in ((0.05, 1.0), (-0.05, 1.0), (0.0, 1.05), (0.0, 0.95)):
        assert cost(best) < cost(DiagNormal(best.loc + shift, best.scale * stretch))


@pytest.mark.parametrize("name", POOLINGS)
def test_absent_experts_are_not_there(name: str) -> None:
    """The rule of three of which one is absent is the rule of two; of one present, that expert."""
    rule, q = POOLINGS[name].rule, experts(3, 4, 2)
    here, gone = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    z = torch.randn(7, 4, 2)
    torch.testing.assert_close(
        rule(q, [here, gone, here]).log_prob(z), rule([q[0], q[2]], None).log_prob(z)
    )
    torch.testing.assert_close(rule(q, [gone, here, gone]).log_prob(z), q[1].log_prob(z))


@pytest.mark.parametrize("name", POOLINGS)
def test_the_order_of_experts_does_not_matter(name: str) -> None:
    rule, q = POOLINGS[name].rule, experts(3, 4, 2)
    z = torch.randn(7, 4, 2)
    torch.testing.assert_close(rule(q, None).log_prob(z), rule(q[::-1], None).log_prob(z))


def test_families_are_what_their_names_say() -> None:
    names = ["a", "b", "c"]
    every = [s for r in (1, 2, 3) for s in combinations(names, r)]
    found = {name: how.family(names) for name, how in POOLINGS.items()}
    assert found["mixture_of_products"] == every and len(every) == 2**3 - 1
    assert found["mixture"] == every[:3] and found["product"] == every[-1:]


def test_correlation_out_of_range_is_refused() -> None:
    for rho in (-0.1, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            correlated(experts(), rho=rho)


def test_a_mixture_of_normals_draws_its_components_by_weight() -> None:
    parts = [DiagNormal(torch.full((2, 1), m), torch.full((2, 1), 0.1)) for m in (-5.0, 0.0, 5.0)]
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    z = Mixture(parts, weights).sample((20_000,)).squeeze(-1)
    share = torch.stack(
        [(z < -2.5).double().mean(0), (z.abs() < 2.5).double().mean(0), (z > 2.5).double().mean(0)],
        -1,
    )
    assert (share - weights).abs().max() < 4 * math.sqrt(0.25 / 20_000)
    assert share[1].tolist() == [0.0, 1.0, 0.0]


MANY = [f"m{i}" for i in range(20)]


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_a_pooling_of_twenty_modalities_is_cheap_or_refused_with_its_limit(name: str) -> None:
    """2^20 subsets, or 210 components with 210 densities each, are never begun."""
    family = POOLINGS[name].family
    assert len(family(MANY[:10])) in (1, 10, 1023)
    if name == "hoelder" or name.startswith("mixture_of"):
        with pytest.raises(ValueError, match=r"at most 10 modalities"):
            family(MANY[:11])
    else:
        assert len(family(MANY)) in (1, 20)


@pytest.mark.parametrize("method", ["mopoe", "code_vae", "barycentre", "hoelder", "pooled"])
def test_a_method_refuses_too_many_modalities_before_training(method: str) -> None:
    modalities = [Modality(m, (2,)) for m in MANY]
    with pytest.raises(ValueError, match=r"at most 10 modalities"):
        METHODS[method](modalities, latent=2)
    if method == "hoelder":
        assert METHODS[method](modalities, latent=2, moments=True).stages
