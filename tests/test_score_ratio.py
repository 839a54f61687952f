"""Score ratio matching against laws whose score, spectrum and divergences are known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from polymodal.analysis import score_ratio as srm

pytestmark = pytest.mark.usefixtures("double")


CORRELATIONS = torch.tensor([0.9, 0.7, 0.4], dtype=torch.float64)


def correlated(n: int) -> dict[str, torch.Tensor]:
    """Two normal blocks of 5 and 4 dimensions with canonical correlations .9, .7, .4, mixed and
    shifted.
    """
    a, b = torch.randn(n, 5), torch.randn(n, 4)
    b[:, :3] = CORRELATIONS * a[:, :3] + (1 - CORRELATIONS**2).sqrt() * b[:, :3]
    g = torch.Generator().manual_seed(3)
    mix = lambda d: torch.randn(d, d, generator=g) + 2 * torch.eye(d)
    return {"a": a @ mix(5) + 1, "b": b @ mix(4) - 2}


def test_whitening_makes_every_block_white_and_inverts() -> None:
    x = correlated(4000)
    white = srm.Whitening.of_blocks(x)
    z = white(x)
    for part in z.split([5, 4], -1):
        torch.testing.assert_close(
            part.T.cov(), torch.eye(5)[: part.shape[1], : part.shape[1]], atol=1e-4, rtol=0
        )
    back = white.inverse(z)
    torch.testing.assert_close(back["a"], x["a"])
    torch.testing.assert_close(back["b"], x["b"])


def test_the_divergence_is_the_trace_of_the_jacobian() -> None:
    score, x = srm.RatioScore(4, (16,)), torch.randn(6, 4)
    nn.init.normal_(score.net[-1].weight)
    exact = torch.stack([torch.autograd.functional.jacobian(score, row).trace() for row in x])
    torch.testing.assert_close(srm.divergence(score, x)[1], exact)
    many = torch.stack([srm.divergence(score, x, 64)[1] for _ in range(200)])
    assert ((many.mean(0) - exact).abs() < 5 * many.std(0) / math.sqrt(200)).all()


def test_the_objective_is_least_at_the_true_score() -> None:
    """For N(0, C) the score of the ratio is (I - C^-1) x, F there is -1/2 tr H, and any other
    linear one is worse.
    """
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    x = torch.randn(200_000, 2) @ torch.linalg.cholesky(covariance).T
    score = srm.RatioScore(2, (4,))
    best = torch.eye(2) - torch.linalg.inv(covariance)
    values = []
    for shift in (torch.zeros(2, 2), 0.2 * torch.eye(2), torch.tensor([[0.0, -0.2], [0.1, 0.0]])):
        with torch.no_grad():
            score.linear.weight.copy_(best + shift)
            score.linear.bias.zero_()
        values.append(float(srm.objective(score, x).mean().detach()))
    assert values[0] < min(values[1:]) - 0.01
    assert values[0] == pytest.approx(-0.5 * float(torch.trace(best @ covariance @ best)), abs=0.01)


def fitted(
    x: dict[str, torch.Tensor], **options
) -> tuple[srm.Whitening, torch.Tensor, srm.RatioScore]:
    half = len(x["a"]) // 2
    white = srm.Whitening.of_blocks({m: v[:half] for m, v in x.items()})
    z = white(x)
    return (
        white,
        z[half:],
        srm.fit(z[:half], z[half : half + 5000], **{"steps": 50, "hidden": (32,), **options}),
    )


def test_the_eigenvalues_of_normal_data_are_c2_over_1_minus_c2() -> None:
    white, held, score = fitted(correlated(120_000))
    found = srm.reduce(score, held, white.sizes)
    exact = CORRELATIONS**2 / (1 - CORRELATIONS**2)
    for values in found.values.values():
        torch.testing.assert_close(values[:3], exact, rtol=0.05, atol=0)
        assert values[3:].max() < 0.01
    assert abs(found.trace / found.check - 1) < 0.03 and found.trace == pytest.approx(
        2 * float(exact.sum()), rel=0.05
    )


def test_the_divergence_of_every_reduction_is_below_its_bound() -> None:
    white, held, score = fitted(correlated(40_000))
    found = srm.reduce(score, held, white.sizes)
    pi = MultivariateNormal(torch.zeros(9), held.T.cov())
    for r in range(5):
        sizes = {"a": r, "b": min(r, 4)}
        frame = found.directions(sizes)
        inside = frame @ frame.T
        covariance = inside @ pi.covariance_matrix @ inside + torch.eye(9) - inside
        divergence = float(kl_divergence(pi, MultivariateNormal(torch.zeros(9), covariance)))
        assert divergence <= found.bound(sizes) + 1e-3
        assert r < 3 or divergence < 0.01
    assert found.bound({"a": 0, "b": 0}) == pytest.approx(0.5 * found.trace)


def test_whitening_all_blocks_together_erases_what_is_looked_for() -> None:
    """Joint whitening leaves H near 0, though the blocks correlate by .9: why blocks are whitened
    one by one.
    """
    x = correlated(50_000)
    together = {"a": torch.cat(list(x.values()), -1)}
    _, held, score = fitted(together)
    found = srm.reduce(score, held, {"a": 9})
    assert found.trace < 0.01


def test_one_epsilon_chooses_all_sizes() -> None:
    white, held, score = fitted(correlated(30_000))
    found = srm.reduce(score, held, white.sizes)
    for epsilon in (0.05, 0.3, 1.0, 10.0):
        sizes = found.choose(epsilon)
        assert found.bound(sizes) < epsilon
        for m in sizes:  # none of them could be left out as well
            if sizes[m]:
                assert found.bound({**sizes, m: sizes[m] - 1}) >= epsilon
    assert found.choose(0.05) == {"a": 3, "b": 3} and found.choose(10.0) == {"a": 0, "b": 0}
    with pytest.raises(ValueError, match="positive"):
        found.choose(0.0)


RADIUS, WIDTH = 2.0, 0.35


def ring(n: int) -> torch.Tensor:
    angle, radius = 2 * math.pi * torch.rand(n), RADIUS + WIDTH * torch.randn(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def test_a_ring_across_three_modalities_is_found() -> None:
    """12 dimensions in three modalities of 4; a ring in a plane that all three take part in; the
    rest is N(0, I).
    """
    g = torch.Generator().manual_seed(5)
    plane = torch.linalg.qr(torch.randn(12, 2, generator=g))[0]
    n = 24_000
    noise = torch.randn(n, 12)
    x = noise - noise @ plane @ plane.T + ring(n) @ plane.T
    white = srm.Whitening.of_blocks({"a": x[:, :4], "b": x[:, 4:8], "c": x[:, 8:]})
    z = white({"a": x[:, :4], "b": x[:, 4:8], "c": x[:, 8:]})
    score = srm.fit(
        z[: n // 2],
        z[n // 2 : n // 2 + 2000],
        steps=400,
        hidden=(48, 48),
        rank=4,
        training=srm.Training(batch=256, lr=3e-3),
    )
    found = srm.reduce(score, z[n // 2 :], {"all": 12})
    true = torch.linalg.qr(torch.linalg.solve(white.matrix, plane))[
        0
    ]  # plane'x is a function of this of z
    cosines = torch.linalg.svdvals(true.T @ found.directions({"all": 2}))
    assert math.degrees(math.acos(min(1.0, float(cosines.min())))) < 5
    assert found.values["all"][1] > 10 * found.values["all"][2]
    lost = [divergence_of_the_ring(plane, white, found.directions({"all": r})) for r in (0, 1, 2)]
    bounds = [found.bound({"all": r}) for r in (0, 1, 2)]
    assert all(kl < b + 0.02 for kl, b in zip(lost, bounds, strict=True)), (lost, bounds)
    assert (
        lost[0] > 0.7 and lost[1] > 0.5 and lost[2] < 0.2
    )  # whitened block by block, the plane is not all


def divergence_of_the_ring(
    plane: torch.Tensor, white: srm.Whitening, frame: torch.Tensor, n: int = 200_000
) -> float:
    """KL(pi || pi_r) = E log pi / rho - KL(law of U'z || N(0, I)): the first from the exact
    density, the second from a histogram of r <= 2 dimensions.
    """
    noise = torch.randn(n, 12)
    inside, g = ring(n), noise - noise @ plane @ plane.T
    z = white(dict(zip(white.sizes, (g + inside @ plane.T).split(4, -1), strict=True)))
    radius = inside.norm(dim=-1)
    wide = lambda v, s: -0.5 * (v / s) ** 2 - math.log(s) - 0.5 * math.log(2 * math.pi)
    log_pi = wide(radius - RADIUS, WIDTH) - (2 * math.pi * radius).log() + wide(g, 1.0).sum(-1)
    log_pi = log_pi + 0.5 * 2 * math.log(
        2 * math.pi
    )  # g has two dimensions less than its 12 numbers
    log_pi = log_pi - torch.linalg.slogdet(white.matrix)[1]
    total = float((log_pi - wide(z, 1.0).sum(-1)).mean())
    if not frame.shape[1]:
        return total
    t = z @ frame
    counts, edges = torch.histogramdd(t, [40] * t.shape[1], range=[-5.0, 5.0] * t.shape[1])
    cell = (edges[0][1] - edges[0][0]) ** t.shape[1]
    share = counts[counts > 0] / n
    return total - float((share * (share / cell).log()).sum() - wide(t, 1.0).sum(-1).mean())


def test_draws_keep_what_was_chosen_and_replace_the_rest_by_noise() -> None:
    frame = torch.linalg.qr(torch.randn(6, 2))[0]
    x = 3 + 0.1 * torch.randn(5000, 6)
    drawn = srm.sample(frame, x, 4000)
    torch.testing.assert_close((drawn @ frame).mean(0), (x @ frame).mean(0), atol=0.02, rtol=0)
    rest = torch.linalg.svd(frame.T, full_matrices=True)[2][2:].T
    torch.testing.assert_close((drawn @ rest).T.cov(), torch.eye(4), atol=0.1, rtol=0)
    assert (drawn @ rest).mean(0).abs().max() < 0.08
    own = srm.sample(frame, x, 5, seen=x[:5])
    torch.testing.assert_close(own @ frame, x[:5] @ frame)


def test_the_product_of_the_marginals_as_reference_leaves_what_is_shared() -> None:
    """Two blocks with two modes each, independent of each other: N(0, I) sees them, the marginals'
    product nothing.
    """
    n = 12_000
    modes = lambda: torch.randint(0, 2, (n, 1)) * 2.0 - 1 + 0.6 * torch.randn(n, 1)
    x = {"a": modes(), "b": modes()}
    white = srm.Whitening.of_blocks(x)
    z = white(x)
    train, held = z[: n // 2], z[n // 2 :]
    options = dict(steps=400, hidden=(32, 32), training=srm.Training(batch=256, lr=3e-3))
    score = srm.fit(train, held[:2000], **options)
    base = {
        m: srm.fit(train[:, [i]], held[:2000, [i]], **options) for i, m in enumerate(white.sizes)
    }
    plain, shared = (srm.reduce(score, held, white.sizes, b) for b in ({}, base))
    assert plain.trace > 0.5 and shared.trace < 0.1 * plain.trace
