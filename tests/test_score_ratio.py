"""Score ratio matching against laws whose score, spectrum and divergences are known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from polymodal.analysis import score_ratio as srm
from polymodal.analysis.trace import diagonal, jacobian_trace
from polymodal.diffusion import LatentWhitening

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


def whitened(
    x: dict[str, torch.Tensor], rows: int | None = None
) -> tuple[LatentWhitening, torch.Tensor]:
    """The whitening of the first `rows` samples, and all of them whitened."""
    white = LatentWhitening({m: v.shape[1] for m, v in x.items()})
    white.set_(*srm.whitening_of({m: v[:rows] for m, v in x.items()}))
    return white, white(torch.cat(list(x.values()), -1))


def directions(found: srm.Reduction, sizes: dict[str, int]) -> torch.Tensor:
    """W = blockdiag(U_m), (d, sum of sizes), of the leading directions of each block."""
    return torch.block_diag(*(u[:, : sizes[m]] for m, u in found.vectors.items()))


def test_whitening_makes_every_block_white_and_inverts() -> None:
    x = correlated(4000)
    white, z = whitened(x)
    for part in z.split([5, 4], -1):
        torch.testing.assert_close(
            part.T.cov(), torch.eye(5)[: part.shape[1], : part.shape[1]], atol=1e-4, rtol=0
        )
    torch.testing.assert_close(white.inverse(z), torch.cat(list(x.values()), -1))
    with pytest.raises(ValueError, match="more samples than its 5 dimensions, got 5"):
        srm.whitening_of({"a": x["a"][:5]})


def test_the_divergence_is_the_trace_of_the_jacobian() -> None:
    score, x = srm.RatioScore(4, (16,)), torch.randn(6, 4)
    nn.init.normal_(score.net[-1].weight)
    exact = torch.stack([torch.autograd.functional.jacobian(score, row).trace() for row in x])
    torch.testing.assert_close(jacobian_trace(score, x)[1], exact)
    torch.testing.assert_close(diagonal(score, x)[1].sum(-1), exact)
    many = torch.stack([jacobian_trace(score, x, 64)[1] for _ in range(200)])
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
) -> tuple[LatentWhitening, torch.Tensor, srm.Reduction]:
    """The whitening, the held-out samples, and what was found in them."""
    half = len(x["a"]) // 2
    white, z = whitened(x, half)
    train, held = z[:half], z[half:]
    score = srm.fit(train, held[:5000], **{"steps": 50, "hidden": (32,), **options})
    return white, held, srm.reduce(score, train, held, {m: v.shape[1] for m, v in x.items()})


def test_the_eigenvalues_of_normal_data_are_c2_over_1_minus_c2() -> None:
    _, _, found = fitted(correlated(120_000))
    exact = CORRELATIONS**2 / (1 - CORRELATIONS**2)
    for values in found.values.values():
        torch.testing.assert_close(values[:3], exact, rtol=0.05, atol=0)
        assert values[3:].max() < 0.01
        assert (values[3:] == 0).all(), "noise has no eigenvalue"
    assert found.trace == pytest.approx(2 * float(exact.sum()), rel=0.05) and found.found == 6
    assert abs(found.gain / (found.trace / 2) - 1) < 0.03 and found.error < 0.02 * found.gain


def test_the_divergence_of_every_reduction_is_below_its_bound() -> None:
    _, held, found = fitted(correlated(40_000))
    pi = MultivariateNormal(torch.zeros(9), held.T.cov())
    for r in range(5):
        sizes = {"a": r, "b": min(r, 4)}
        frame = directions(found, sizes)
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
    _, _, found = fitted({"a": torch.cat(list(x.values()), -1)})
    assert found.trace < 0.01


def test_one_epsilon_chooses_all_sizes() -> None:
    _, _, found = fitted(correlated(30_000))
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
    white, z = whitened({"a": x[:, :4], "b": x[:, 4:8], "c": x[:, 8:]})
    score = srm.fit(
        z[: n // 2],
        z[n // 2 : n // 2 + 2000],
        steps=400,
        hidden=(48, 48),
        rank=4,
        training=srm.Training(batch=256, lr=3e-3),
    )
    found = srm.reduce(score, z[: n // 2], z[n // 2 :], {"all": 12})
    true = torch.linalg.qr(torch.linalg.solve(white.matrix, plane))[
        0
    ]  # plane'x is a function of this of z
    cosines = torch.linalg.svdvals(true.T @ directions(found, {"all": 2}))
    assert math.degrees(math.acos(min(1.0, float(cosines.min())))) < 5
    assert found.values["all"][1] > 10 * found.values["all"][2]
    lost = [divergence_of_the_ring(plane, white, directions(found, {"all": r})) for r in (0, 1, 2)]
    bounds = [found.bound({"all": r}) for r in (0, 1, 2)]
    assert all(kl < b + 0.02 for kl, b in zip(lost, bounds, strict=True)), (lost, bounds)
    assert (
        lost[0] > 0.7 and lost[1] > 0.5 and lost[2] < 0.2
    )  # whitened block by block, the plane is not all


def divergence_of_the_ring(
    plane: torch.Tensor, white: LatentWhitening, frame: torch.Tensor, n: int = 200_000
) -> float:
    """KL(pi || pi_r) = E log pi / rho - KL(law of U'z || N(0, I)): the first from the exact
    density, the second from a histogram of r <= 2 dimensions.
    """
    noise = torch.randn(n, 12)
    inside, g = ring(n), noise - noise @ plane @ plane.T
    z = white(g + inside @ plane.T)
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


def test_the_product_of_the_marginals_as_reference_leaves_what_is_shared() -> None:
    """Two blocks with two modes each, independent of each other: N(0, I) sees them, the marginals'
    product nothing.
    """
    n = 12_000
    modes = lambda: torch.randint(0, 2, (n, 1)) * 2.0 - 1 + 0.6 * torch.randn(n, 1)
    x = {"a": modes(), "b": modes()}
    white, z = whitened(x)
    train, held = z[: n // 2], z[n // 2 :]
    options = dict(steps=400, hidden=(32, 32), training=srm.Training(batch=256, lr=3e-3))
    score = srm.fit(train, held[:2000], **options)
    base = {
        m: srm.fit(train[:, [i]], held[:2000, [i]], **options) for i, m in enumerate(white.sizes)
    }
    plain, shared = (srm.reduce(score, train, held, white.sizes, b) for b in ({}, base))
    assert plain.trace > 0.5 and shared.trace < 0.1 * plain.trace


def test_nothing_is_found_where_nothing_is() -> None:
    """N(0, I), few samples in many dimensions: the score of the training samples is noise, and a
    gain on held-out samples is a gain beyond its error.
    """
    for seed, (n, d) in enumerate([(200, 12), (200, 20), (1000, 20), (200, 60)] * 2):
        torch.manual_seed(seed)
        x = dict(zip("ab", torch.randn(n, d).split(d // 2, -1), strict=True))
        _, z = whitened(x, round(0.8 * n))
        train, held = z.split([round(0.8 * n), n - round(0.8 * n)])
        score = srm.fit(train, held, steps=100, hidden=(32,))
        found = srm.reduce(score, train, held, {"a": d // 2, "b": d // 2})
        assert found.found == 0 and found.gain < 3 * found.error + 1e-3, (seed, found)
        assert found.trace == 0 and found.choose(0.05) == {"a": 0, "b": 0}


def test_planted_directions_are_found_and_no_others() -> None:
    """Three canonical correlations of .8 in 20 dimensions, 1,000 samples."""
    for seed in range(3):
        torch.manual_seed(seed)
        a, b = torch.randn(1000, 10), torch.randn(1000, 10)
        b[:, :3] = 0.8 * a[:, :3] + 0.6 * b[:, :3]
        white, z = whitened({"a": a, "b": b}, 800)
        score = srm.fit(z[:800], z[800:], steps=100, hidden=(32,))
        found = srm.reduce(score, z[:800], z[800:], {"a": 10, "b": 10})
        assert found.choose(0.05) == {"a": 3, "b": 3} and found.found == 6
        true = torch.linalg.qr(
            torch.linalg.solve(white.matrix, torch.eye(20)[:, [0, 1, 2, 10, 11, 12]])
        )[0]
        cosines = torch.linalg.svdvals(true.T @ directions(found, {"a": 3, "b": 3}))
        assert math.degrees(math.acos(float(cosines.min().clamp(max=1)))) < 15


def test_a_score_that_is_noise_is_shrunk_to_what_it_has_in_common_with_the_true_one() -> None:
    """The learned score s + e, e independent of s and as large: half of it remains, and so half of
    the eigenvalue; of e by itself nothing. In closed form: x ~ N(0, 1 / (1 - a)), s = a x.
    """
    a, n = 0.5, 200_000
    x = torch.randn(n, 2) / torch.tensor([1 - a, 1.0]).sqrt()

    class Learned(nn.Module):
        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return torch.stack([a * y[..., 0] + a * math.sqrt(2) * y[..., 1], 0 * y[..., 1]], -1)

    found = srm.reduce(Learned(), x, x, {"all": 2})
    eigenvalue = a**2 / (1 - a)  # E[s^2]; E[e^2] is the same
    assert found.values["all"].tolist() == [pytest.approx(eigenvalue / 2, rel=0.03), 0]
    assert found.gain == pytest.approx(eigenvalue - eigenvalue, abs=0.01), (
        "unshrunk it gains nothing"
    )


def test_a_score_trained_for_few_steps_is_looked_at() -> None:
    """Also at the last step, where that is not a multiple of 50."""
    torch.manual_seed(0)
    x = torch.randn(4000, 2)
    x[:, 1] = 0.5 * x[:, 0].square() + 0.7 * torch.randn(4000)
    x = (x - x.mean(0)) @ srm.whitening_of({"all": x})[1]
    torch.manual_seed(1)
    score = srm.fit(x[:3000], x[3000:], hidden=(32,), steps=30, training=srm.Training(lr=1e-2))
    assert score.net[-1].weight.abs().max() > 0
