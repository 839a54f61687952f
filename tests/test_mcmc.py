"""HMC and MALA: geometry, invariance, closed forms, adaptation, diagnostics and what they cost."""

import inspect
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.sampling import (
    HMC,
    MALA,
    ChainReport,
    Density,
    Histogram,
    ParticleReport,
    SamplerReport,
    SMCReport,
    ess,
    hmc,
    mala,
    metric,
    rhat,
    run,
)
from polymodal.sampling.kernels import jittered, leapfrog
from polymodal.sampling.registry import SAMPLERS, make_sampler

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


FACTORS = [
    None,
    torch.tensor([[0.5, 1.0, 2.0]], dtype=F64),
    torch.tensor([[[0.8, 0.3, 0.0], [-0.2, 0.6, 0.1], [0.4, 0.0, 1.1]]], dtype=F64),
]


def normal(z: Tensor) -> Tensor:
    return -z.square().sum(-1) / 2


def crooked(z: Tensor) -> Tensor:
    """Neither normal nor a product of its dimensions."""
    return (
        -z.square().sum(-1) / 2
        - (z[..., 0] * z[..., 1]).square()
        - (z[..., 2] - z[..., 0].square()).square()
    )


class Gaussians:
    """The product of two full-covariance normal experts over a standard normal prior, and its
    closed form.

    `log_prob` is log q_1 + log q_2 - log p, which is not normalised; `start` the equal mixture of
    q_1 and q_2.
    """

    def __init__(self, batch: int, dim: int) -> None:
        roots = torch.randn(2, batch, dim, dim, dtype=F64)
        self.precisions = roots @ roots.mT / dim + 1.2 * torch.eye(dim, dtype=F64)
        self.means = 2 * torch.randn(2, batch, dim, dtype=F64)
        self.precision = self.precisions.sum(0) - torch.eye(dim, dtype=F64)
        self.covariance = torch.linalg.inv(self.precision)
        weighted = torch.einsum("ebij,ebj->bi", self.precisions, self.means)
        self.mean = (self.covariance @ weighted.unsqueeze(-1)).squeeze(-1)
        self.experts = torch.distributions.MultivariateNormal(
            self.means.movedim(0, 1), precision_matrix=self.precisions.movedim(0, 1)
        )
        weights = torch.distributions.Categorical(torch.ones(batch, 2, dtype=F64))
        self.start = torch.distributions.MixtureSameFamily(weights, self.experts)

    def log_prob(self, z: Tensor) -> Tensor:
        prior = normal(z) - z.shape[-1] / 2 * math.log(2 * math.pi)
        return self.experts.log_prob(z.unsqueeze(-2)).sum(-1) - prior


def ill_conditioned(batch: int, dim: int, condition: float = 100.0) -> tuple:
    """A log-density of rotated normals, covariances of that condition; starts 3 times as wide as
    the widest side.
    """
    q = torch.linalg.qr(torch.randn(batch, dim, dim, dtype=F64))[0]
    precision = q * torch.logspace(0, math.log10(condition), dim, dtype=F64) @ q.mT
    log_prob = lambda z: -torch.einsum("...bi,bij,...bj->...b", z, precision, z) / 2
    return log_prob, lambda n: 3 * torch.randn(n, batch, dim, dtype=F64)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("factor", FACTORS, ids=["identity", "diagonal", "dense"])
def test_leapfrog_is_reversible(factor: Tensor | None) -> None:
    evaluate, step = Density(crooked), torch.full((1, 1), 0.1, dtype=F64)
    z, momentum = torch.randn(2, 5, 1, 3, dtype=F64)
    there, end = leapfrog(evaluate, evaluate(z), momentum, step, 7, factor)
    back, begin = leapfrog(evaluate, there, -end, step, 7, factor)
    assert (there.z - z).abs().min() > 0.01
    torch.testing.assert_close(back.z, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(-begin, momentum, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", FACTORS, ids=["identity", "diagonal", "dense"])
def test_leapfrog_preserves_volume(factor: Tensor | None) -> None:
    """In (u, momentum), where z = A u; central differences."""
    evaluate, step = Density(crooked), torch.full((1, 1), 0.2, dtype=F64)
    dense = torch.eye(3, dtype=F64)[None]
    if factor is not None:
        dense = torch.diag_embed(factor) if factor.dim() == 2 else factor

    def flow(x: Tensor) -> Tensor:  # (K, 6)
        z = torch.einsum("bij,kbj->kbi", dense, x[:, None, :3])
        state, end = leapfrog(evaluate, evaluate(z), x[:, None, 3:], step, 5, factor)
        return torch.cat(
            [torch.linalg.solve(dense, state.z.unsqueeze(-1)).squeeze(-1), end], -1
        ).squeeze(1)

    x, h = torch.randn(1, 6, dtype=F64) / 2, 1e-5
    jacobian = (flow(x + h * torch.eye(6, dtype=F64)) - flow(x - h * torch.eye(6, dtype=F64))) / (
        2 * h
    )
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-6)
    assert (jacobian - torch.eye(6, dtype=F64)).abs().max() > 0.3


@pytest.mark.parametrize("factor", FACTORS[1:], ids=["diagonal", "dense"])
def test_a_factor_is_a_change_of_coordinates(factor: Tensor) -> None:
    """With A on p(z), and without on p(A u): the same trajectory, the same energies."""
    dense = torch.diag_embed(factor) if factor.dim() == 2 else factor
    image = lambda u: torch.einsum("bij,...bj->...bi", dense, u)
    plain, step = Density(lambda u: crooked(image(u))), torch.full((1, 1), 0.1, dtype=F64)
    u, momentum = torch.randn(2, 5, 1, 3, dtype=F64)
    expected, end = leapfrog(plain, plain(u), momentum, step, 7)
    state, last = leapfrog(Density(crooked), Density(crooked)(image(u)), momentum, step, 7, factor)
    torch.testing.assert_close(state.z, image(expected.z))
    torch.testing.assert_close(last, end)


def test_the_energy_error_is_of_second_order_in_the_step() -> None:
    evaluate = Density(crooked)
    z, momentum = torch.randn(2, 200, 1, 3, dtype=F64) / 2

    def error(steps: int) -> float:
        state, end = leapfrog(
            evaluate, evaluate(z), momentum, torch.full((1, 1), 0.8 / steps, dtype=F64), steps
        )
        energy = lambda s, p: p.square().sum(-1) / 2 - s.log_prob
        return (energy(state, end) - energy(evaluate(z), momentum)).abs().mean().item()

    assert error(16) / error(32) == pytest.approx(4, rel=0.1)


def test_mala_accepts_as_langevin_with_metropolis_does() -> None:
    """One leapfrog step against the textbook ratio p(z') q(z|z') / p(z) q(z'|z) of the Langevin
    proposal.
    """
    evaluate, step = Density(crooked), 0.6
    state = evaluate(torch.randn(50, 1, 3, dtype=F64))
    torch.manual_seed(1)
    _, info = mala(crooked, step)(state)
    torch.manual_seed(1)
    there = evaluate(state.z + step**2 / 2 * state.grad + step * torch.randn_like(state.z))
    q = lambda to, frm: -(to.z - frm.z - step**2 / 2 * frm.grad).square().sum(-1) / (2 * step**2)
    ratio = there.log_prob - state.log_prob + q(state, there) - q(there, state)
    torch.testing.assert_close(info.energy, -ratio)
    torch.testing.assert_close(info.acceptance, ratio.clamp(max=0).exp())
    assert 0.3 < info.acceptance.mean() < 0.95


# ---------------------------------------------------------------- invariance


@pytest.mark.parametrize("kernel", ["hmc", "mala"])
def test_exact_draws_stay_exact(kernel: str) -> None:
    """exp(3 z - e^z), the log of a Gamma(3): mean digamma(3), variance trigamma(3), skewness -0.58;
    40,000 chains.
    """
    log_prob = lambda z: (3 * z - z.exp()).sum(-1)
    k = torch.tensor(3.0, dtype=F64)
    mean, var, third = (torch.special.polygamma(i, k).item() for i in range(3))
    z = torch.distributions.Gamma(k, torch.ones((), dtype=F64)).sample((40000, 1, 1)).log()
    move = hmc(log_prob, 0.7, 2) if kernel == "hmc" else mala(log_prob, 1.0)
    state, acceptance = Density(log_prob)(z), []
    for _ in range(15):
        state, info = move(state)
        acceptance.append(info.acceptance.mean().item())
    assert 0.6 < min(acceptance) and max(acceptance) < 0.97, (
        "a test of the acceptance step needs rejections"
    )
    d = state.z.flatten() - mean
    assert d.mean().item() == pytest.approx(0, abs=4 * math.sqrt(var / 40000))
    assert d.square().mean().item() == pytest.approx(var, rel=0.03)
    assert d.pow(3).mean().item() == pytest.approx(third, rel=0.15)
    assert (state.z - z).abs().mean() > 0.3


def test_a_jittered_trajectory_does_not_resonate() -> None:
    """Steps of half a period of the first direction in all: at fixed length a start 2.15 times too
    wide stays so.
    """
    scale = torch.tensor([1.0, 0.3], dtype=F64)
    log_prob = lambda z: normal(z / scale)
    start = Density(log_prob)(math.sqrt(2.15) * scale * torch.randn(4000, 1, 2, dtype=F64))
    ratio = {}
    for jitter in (0.0, 0.5):
        kernel, state = hmc(log_prob, math.pi / 40, 40, jitter=jitter), start
        for _ in range(15):
            state, _ = kernel(state)
        ratio[jitter] = (state.z.var(0) / scale.square())[0]
    assert ratio[0.0][0] > 1.9
    assert (ratio[0.5] - 1).abs().max() < 0.08


def test_trajectory_lengths_are_uniform() -> None:
    lengths = torch.tensor(
        [count * stretch for count, stretch in (jittered(3, 0.5) for _ in range(4000))]
    )
    assert lengths.min() > 1.5 and lengths.max() < 4.5
    assert lengths.mean().item() == pytest.approx(3, abs=0.05)
    assert torch.histc(lengths, 6, 1.5, 4.5).div(4000 / 6).sub(1).abs().max() < 0.15
    assert jittered(3, 0.0) == (3, 1.0)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    "sampler", [HMC(draws=250, chains=100), MALA(draws=500, chains=100)], ids=["hmc", "mala"]
)
def test_products_of_gaussians(sampler: HMC) -> None:
    torch.manual_seed(1)
    g = Gaussians(batch=8, dim=4)
    n = sampler.draws * sampler.chains
    z, diagnostics = sampler(g.log_prob, lambda n: g.start.sample((n,)), g.start.log_prob, n)
    size = ess(z.unflatten(0, (sampler.draws, -1)))
    error = (z.mean(0) - g.mean) / (g.covariance.diagonal(dim1=-1, dim2=-2) / size).sqrt()
    assert error.abs().max() < 3.3  # of 32
    assert 0.75 < error.std() < 1.3, "the standard errors are neither too wide nor too narrow"
    d = z - z.mean(0)
    covariance = torch.einsum("nbi,nbj->bij", d, d) / n
    off = torch.linalg.matrix_norm(covariance - g.covariance) / torch.linalg.matrix_norm(
        g.covariance
    )
    assert off.max() < 0.05
    assert diagnostics.warning() is None


def test_few_gradients_suffice_for_condition_100_in_20_dimensions() -> None:
    """The documented budget: a peer spends 1,100."""
    log_prob, start = ill_conditioned(batch=32, dim=20)
    _, diagnostics = HMC()(log_prob, start, log_prob, 1)
    assert diagnostics.gradients < 260
    assert (diagnostics.rhat < 1.05).double().mean() >= 0.9
    assert diagnostics.ess.median() > 120
    assert diagnostics.warning() is None


# ---------------------------------------------------------------- adaptation


@pytest.mark.parametrize("leapfrog", [1, 3])
@pytest.mark.parametrize("target", [0.65, 0.8, 0.9])
def test_each_item_reaches_the_acceptance_target(target: float, leapfrog: int) -> None:
    """Logistic densities whose scales differ by 1e4, in 20 dimensions, after 40 transitions of
    warm-up.
    """
    scale = torch.logspace(-2, 2, 9, dtype=F64).unsqueeze(-1)
    log_prob = lambda z: (logsigmoid(z / scale) + logsigmoid(-z / scale)).sum(-1)
    z0 = 4 * scale * torch.randn(8, 9, 20, dtype=F64)
    _, diagnostics = run(
        log_prob, z0, warmup=40, draws=100, leapfrog=leapfrog, trajectory=None, target=target
    )
    assert (diagnostics.acceptance - target).abs().max() < 0.1
    assert diagnostics.acceptance.mean() == pytest.approx(target, abs=0.05)
    assert diagnostics.step_size.max() / diagnostics.step_size.min() < 1.5, (
        "the metric has taken the scales over"
    )


@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_the_metric_of_a_normal_target_is_its_covariance_wherever_the_points_lie(
    width: float,
) -> None:
    rotation, n = torch.linalg.qr(torch.randn(3, 6, 6, dtype=F64))[0], 40
    covariance = rotation * torch.logspace(-1, 1, 6, dtype=F64) @ rotation.mT
    z = width * torch.randn(n, 3, 6, dtype=F64) + 5
    grad = -torch.einsum("bij,nbj->nbi", torch.linalg.inv(covariance), z - 1)
    factor = torch.eye(6, dtype=F64).expand(3, 6, 6)
    for _ in range(3):  # shrunk towards the old one, it arrives by steps
        factor = metric.update(factor, z, grad)
    off = torch.linalg.matrix_norm(factor @ factor.mT - covariance) / torch.linalg.matrix_norm(
        covariance
    )
    assert off.max() < 0.02
    sd = torch.rand(3, 6, dtype=F64) + 0.1
    diagonal = metric.update(torch.ones(3, 6, dtype=F64), z, -z / sd.square())
    torch.testing.assert_close(diagonal, sd)


def test_the_metric_survives_points_that_say_nothing() -> None:
    z = torch.randn(4, 2, 3, dtype=F64)
    factor = torch.eye(3, dtype=F64).expand(2, 3, 3)
    for grad in (torch.zeros_like(z), torch.full_like(z, 1e300), torch.full_like(z, math.nan)):
        assert torch.equal(metric.update(factor, z, grad), factor)


# ---------------------------------------------------------------- diagnostics


@pytest.mark.parametrize("rho", [0.9, 0.5, 0.0, -0.3])
def test_ess_of_an_autoregression(rho: float) -> None:
    n, chains, batch = 2000, 4, 40
    x = [torch.randn(chains, batch, dtype=F64)]
    for noise in math.sqrt(1 - rho**2) * torch.randn(n - 1, chains, batch, dtype=F64):
        x.append(rho * x[-1] + noise)
    expected = (1 - rho) / (1 + rho) * n * chains
    assert ess(torch.stack(x)).mean().item() == pytest.approx(expected, rel=0.1)


def test_ess_and_rhat_equal_their_sums_written_out() -> None:
    x = torch.randn(21, 3, dtype=F64).cumsum(0) * 0.3 + torch.randn(21, 3, dtype=F64)
    halves = [c[s] for c in x.T for s in (slice(0, 10), slice(-10, None))]
    n, m = 10, 6
    means = torch.stack([h.mean() for h in halves])
    within = sum(((h - h.mean()) ** 2).sum() / (n - 1) for h in halves) / m
    pooled = (n - 1) / n * within + ((means - means.mean()) ** 2).sum() / (m - 1)
    rho = []
    for t in range(n):
        covariance = (
            sum(((h[: n - t] - h.mean()) * (h[t:] - h.mean())).sum() / n for h in halves) / m
        )
        rho.append((1 - (within - covariance) / pooled).item() if t else 1.0)
    total, smallest = 0.0, math.inf
    for k in range(n // 2):
        pair = rho[2 * k] + rho[2 * k + 1]
        if pair < 0:
            break
        smallest = min(smallest, pair)
        total += smallest
    assert rhat(x).item() == pytest.approx(math.sqrt(pooled / within))
    assert ess(x).item() == pytest.approx(n * m / (2 * total - 1))
    both = torch.stack([x, x.flip(0)], -1)  # batched over what stands behind the chains
    torch.testing.assert_close(ess(both)[0], ess(x))


def test_rhat_tells_separated_chains_from_good_ones() -> None:
    x = torch.randn(1000, 4, 50, dtype=F64)
    assert rhat(x).max() < 1.02
    apart = x[:100] + torch.tensor([0.0, 0.0, 3.0, 3.0], dtype=F64)[:, None]
    assert rhat(apart).min() > 1.2
    drift = x[:100] + torch.linspace(-2, 2, 100, dtype=F64)[:, None, None]
    assert rhat(drift).min() > 1.2
    stuck = torch.tensor([0.0, 1.0]).expand(10, 2)
    assert (
        rhat(stuck).isinf() and rhat(torch.zeros(10, 2)).isnan() and ess(torch.zeros(10, 2)).isnan()
    )
    with pytest.raises(ValueError, match=r"N >= 4 draws"):
        rhat(x[:3])


def test_a_chain_of_separate_modes_is_reported() -> None:
    log_prob = lambda z: torch.logaddexp(normal(z - 5), normal(z + 5))
    start = lambda n: (
        5 * torch.randn(n, 1, 1, dtype=F64).sign().expand(n, 16, 2)
        + torch.randn(n, 16, 2, dtype=F64)
    )
    _, diagnostics = HMC()(log_prob, start, log_prob, 1)
    assert (diagnostics.rhat > 1.2).all()
    assert (
        "R-hat" in diagnostics.warning()
        and "100%" in diagnostics.warning()
        and "SMC" in diagnostics.warning()
    )
    assert diagnostics.summary()["rhat_ok"] == 0


def test_summary_and_warning_count_the_items() -> None:
    good = dict(
        acceptance=torch.full((20,), 0.8),
        divergent=torch.zeros(20),
        ess=torch.full((20,), 100.0),
        step_size=torch.ones(20),
        gradients=7,
        transitions=100,
        rhat=torch.full((20,), 1.01),
    )
    assert ChainReport(**good).warning() is None
    assert ChainReport(**good).summary() | {"acceptance": 0, "rhat": 0} == {
        "items": 20,
        "gradients": 7,
        "acceptance": 0,
        "acceptance_ok": 1,
        "divergent": 0,
        "step_size": 1,
        "ess": 100,
        "rhat": 0,
        "rhat_ok": 1,
    }
    part = torch.arange(20) < 5
    particles = dict(unique=torch.ones(20), log_normalizer=torch.zeros(20))
    for change, word in [
        (dict(rhat=torch.where(part, torch.nan, 1.01)), "R-hat"),
        (dict(acceptance=torch.where(part, 0.1, 0.8)), "Acceptance"),
        (dict(divergent=5.0 * part), "diverged"),
        (dict(rhat=None, ess=torch.where(part, 2.0, 50.0)) | particles, "particles"),
    ]:
        kind = SMCReport if "unique" in change else ChainReport
        warning = kind(**good | change).warning()
        assert word in warning and "25%" in warning


def report_of_chains(**changes: object) -> ChainReport:
    figures = dict(
        acceptance=torch.tensor([0.7, 0.99]),
        divergent=torch.tensor([0, 3]),
        ess=torch.tensor([100.0, 4.0]),
        step_size=torch.tensor([0.5, 0.7]),
        gradients=7,
        transitions=100,
        rhat=torch.tensor([1.01, 1.2]),
    )
    kind = SMCReport if "unique" in changes else ChainReport
    return kind(**figures | changes)


def good(histogram: Histogram) -> list[bool]:
    values = histogram.values
    return ((values >= histogram.low) & (values <= histogram.high)).tolist()


def test_a_report_of_chains_shows_which_items_are_good() -> None:
    report = report_of_chains()
    assert isinstance(report, SamplerReport)
    assert list(report.per_item()) == ["acceptance", "divergent", "step_size", "ess", "rhat"]
    assert report.per_item()["divergent"].tolist() == [0, 3]
    shown = {h.title: h for h in report.histograms()}
    assert [good(h) for h in shown.values()] == [[True, False]] * 3 + [[True, True]]
    assert [(h.low, h.high) for h in shown.values()] == [
        (0.6, 0.95),
        (-math.inf, 1.05),
        (0.0, 0.01),
        (-math.inf, math.inf),
    ]
    torch.testing.assert_close(
        shown["share of divergent transitions"].values, torch.tensor([0.0, 0.03])
    )
    assert report.summary()["divergent"] == 3 and report.summary()["acceptance_ok"] == 0.5


def test_the_starts_of_particles_have_a_range_and_r_hat_is_left_out() -> None:
    report = report_of_chains(rhat=None, unique=torch.ones(2), log_normalizer=torch.zeros(2))
    assert {"unique", "log_normalizer"} < set(report.per_item()) and "rhat" not in report.per_item()
    titles = [h.title for h in report.histograms()]
    assert titles == ["acceptance", "share of divergent transitions", "effective number of starts"]
    last = report.histograms()[-1]
    assert good(last) == [True, False] and (last.low, last.high) == (5, math.inf)


def test_a_report_of_particles_counts_calls_and_says_where_particles_are_few() -> None:
    calls = ParticleReport(items=4, calls=3, rows=14)
    assert isinstance(calls, SamplerReport) and calls.warning() is None
    assert calls.summary() == {"items": 4, "calls": 3, "points_per_item": 3.5}
    assert calls.per_item()["points_per_item"].tolist() == [3.5] * 4
    (histogram,) = calls.histograms()
    assert (histogram.low, histogram.high) == (-math.inf, math.inf)
    few = ParticleReport(4, 3, 14, ess=torch.tensor([1.0, 9.0, 9.0, 9.0]), advice="raise `x`.")
    assert list(few.per_item()) == ["points_per_item", "ess"]
    assert good(few.histograms()[1]) == [False, True, True, True]
    assert few.summary()["ess"] == 9 and few.warning().endswith("effectively: raise `x`.")
    assert "25%" in few.warning()


# ---------------------------------------------------------------- edges and cost


def test_where_the_density_is_not_a_number_nothing_goes_and_it_is_counted() -> None:
    """A half-normal, NaN below 0: mean sqrt(2 / pi), variance 1 - 2 / pi."""
    log_prob = lambda z: torch.where(z[..., 0] > 0, normal(z), math.nan)
    state = Density(log_prob)(torch.randn(20000, 1, 1, dtype=F64).abs())
    kernel, counted = hmc(log_prob, 0.5, 2), 0
    for _ in range(10):
        before = state
        state, info = kernel(state)
        counted += info.divergent.sum().item()
        assert torch.equal(state.z[info.divergent], before.z[info.divergent])
        assert (info.acceptance[info.divergent] == 0).all()
    assert (state.z > 0).all() and counted > 1000
    assert state.z.mean().item() == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)
    assert state.z.var().item() == pytest.approx(1 - 2 / math.pi, rel=0.05)


def test_chains_that_start_outside_the_support_are_brought_in() -> None:
    log_prob = lambda z: torch.where(z[..., 0] > 0, normal(z), math.nan)
    z0 = torch.randn(4, 3, 2, dtype=F64)
    z0[0, :, 0], z0[1:, :, 0] = 1.0, -1e4  # too far to drift in
    samples, diagnostics = run(log_prob, z0)
    assert (samples[..., 0] > 0).all() and (diagnostics.divergent > 0).all()


def test_one_hopeless_item_does_not_harm_the_others() -> None:
    hopeless = torch.tensor([False, True, False])
    log_prob = lambda z: torch.where(hopeless, math.nan, normal(z))
    _, diagnostics = HMC(draws=100)(
        log_prob, lambda n: 2 * torch.randn(n, 3, 2, dtype=F64), log_prob, 1
    )
    assert (diagnostics.rhat[~hopeless] < 1.1).all() and not (
        diagnostics.rhat[hopeless] < 1.1
    ).any()
    assert (
        diagnostics.acceptance[hopeless] == 0
        and diagnostics.divergent[hopeless] == diagnostics.transitions
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(leapfrog=1, trajectory=None, jitter=0.0), 1 + 8 + 10),
        (dict(leapfrog=3, trajectory=None, jitter=0.0, thin=2), 1 + 3 * (8 + 20)),
        ({}, None),
    ],
)
def test_gradients_are_counted_and_none_is_computed_twice(
    settings: dict, expected: int | None
) -> None:
    seen = []

    def log_prob(z: Tensor) -> Tensor:
        assert z.requires_grad and z.is_leaf
        seen.append(z.detach().clone())
        return normal(z) - z.pow(4).sum(-1)

    _, diagnostics = run(log_prob, torch.randn(3, 2, 2, dtype=F64), warmup=8, draws=10, **settings)
    assert diagnostics.gradients == len(seen) == (expected or len(seen))
    assert diagnostics.transitions == 3 * 10 * settings.get("thin", 1)
    points = torch.stack(seen).flatten(0, -2)
    assert len(points.unique(dim=0)) == len(points)


@pytest.mark.parametrize("n", [1, 3, 4, 9, 40, 90])
def test_the_draws_returned_are_spread_over_the_chains(n: int) -> None:
    torch.manual_seed(3)
    starts = []
    start = lambda n: starts.append(n) or torch.randn(n, 2, 3, dtype=F64)
    z, diagnostics = HMC(warmup=4, draws=10)(normal, start, normal, n)
    chains = max(4, math.ceil(n / 10))
    assert z.shape == (n, 2, 3) and starts == [chains] and diagnostics.acceptance.shape == (2,)
    torch.manual_seed(3)
    samples, _ = run(normal, torch.randn(chains, 2, 3, dtype=F64), warmup=4, draws=10)
    last = {1: [9], 3: [9, 6, 3], 10: list(reversed(range(10)))}[math.ceil(n / chains)]
    assert torch.equal(z, torch.cat([samples[i] for i in last])[:n])


def test_gradients_of_parameters_and_the_caller_s_mode_are_left_alone() -> None:
    weight = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        samples, _ = run(lambda z: normal(z * weight), torch.randn(4, 3, 2), warmup=3, draws=4)
        assert not torch.is_grad_enabled()
    assert weight.grad is None and not samples.requires_grad and samples.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HMC()(normal, lambda n: torch.zeros(n, 2, 2), normal, 0), "n must be positive"),
        (lambda: HMC(draws=0), "draws must be positive"),
        (lambda: HMC()(normal, lambda n: torch.zeros(2, 2), normal, 1), r"start\(4\) must give"),
        (lambda: run(normal, torch.zeros(4, 2, 3), warmup=-1), "warmup >= 0"),
        (lambda: run(normal, torch.zeros(4, 2, 3), target=80), "target between 0 and 1"),
        (lambda: run(normal, torch.zeros(3)), r"shape \(..., B, D\)"),
        (lambda: run(normal, torch.zeros(2, 2, dtype=torch.long)), "must be real"),
        (lambda: run(lambda z: -z.square(), torch.zeros(4, 2, 3)), r"must have shape \(4, 2\)"),
        (lambda: run(lambda z: torch.zeros(z.shape[:-1]), torch.zeros(4, 2, 3)), "depend on z"),
        (lambda: hmc(normal, 0.1, 0), "leapfrog >= 1"),
        (lambda: hmc(normal, 0.1, 3, jitter=1.0), "jitter < 1"),
    ],
)
def test_errors_say_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", [*SAMPLERS, *DIFFUSIONS])
def test_every_setting_of_every_sampler_has_bounds(name: str) -> None:
    """Nonsense is refused when the sampler is made, not when it first draws, which may be hours
    later.
    """
    known = SAMPLERS if name in SAMPLERS else DIFFUSIONS
    make_sampler(name, known)
    wrong = {int: [-3, 2.5, "x"], float: [-3.0, math.nan, math.inf, "x"], str: ["x"]}
    for key, setting in inspect.signature(known[name]).parameters.items():
        for value in wrong.get(type(setting.default), []):
            if (key, value) == ("weight", -3.0):  # guidance away from what is seen has a meaning
                continue
            with pytest.raises(ValueError):
                make_sampler(name, known, **{key: value})
