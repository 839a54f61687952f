"""Diffusion samplers on a normal law whose denoiser is known in closed form: what is exact, and
what is biased.
"""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from polymodal.diffusion import conditioning as conditionings
from polymodal.diffusion import solvers
from polymodal.diffusion.conditioning import Inpainting, spread
from polymodal.diffusion.noise_levels import VP, karras_levels
from polymodal.diffusion.ode import log_density
from polymodal.diffusion.sampler import Diffusion
from polymodal.diffusion.twisted import Twisted

pytestmark = pytest.mark.usefixtures("double")

SIZES = (2, 1, 3)


def covariance() -> Tensor:
    """Three blocks of one normal law with correlations up to .9 between them, variances 1."""
    loading = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    c = loading @ loading.T + 0.3 * torch.eye(6)
    return c / c.diag().sqrt() / c.diag().sqrt()[:, None]


def exact(c: Tensor):
    """E[x0 | x] = C (C + diag(sigma^2))^-1 x, for any sigmas."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        assert x.shape == (len(sigma), 6) and sigma.shape[1] == 3
        clean, left = torch.empty_like(x), torch.ones(len(x), dtype=torch.bool)
        while left.any():
            s = sigma[left.int().argmax()]  # of the first row that is left
            gain = torch.linalg.solve(c + torch.diag(spread(s, SIZES) ** 2), c)
            rows = (sigma == s).all(-1)
            if rows.all():
                return x @ gain
            clean[rows] = x[rows] @ gain
            left &= ~rows
        return clean

    return denoise


def task(
    n: int, blocks: tuple[int, ...], seed: int = 5
) -> tuple[Inpainting, list[int], Tensor, Tensor]:
    """n items given one value of `blocks`; which coordinates are drawn, their exact mean and
    covariance.
    """
    c = covariance()
    seen = torch.zeros(n, 3, dtype=torch.bool)
    seen[:, list(blocks)] = True
    known = spread(seen, SIZES)[0]
    value = MultivariateNormal(torch.zeros(6), c).sample() * known
    s, u = known.nonzero().squeeze(1), (~known).nonzero().squeeze(1)
    gain = torch.linalg.solve(c[s][:, s], c[s][:, u]).T
    return (
        Inpainting(value.expand(n, 6), seen, SIZES),
        u.tolist(),
        gain @ value[s],
        c[u][:, u] - gain @ c[s][:, u],
    )


def errors(x: Tensor, mean: Tensor, c: Tensor) -> tuple[float, float]:
    """Largest error of a mean in standard deviations, and relative error of the covariance."""
    wrong = (x.mean(0) - mean) / c.diag().sqrt()
    return float(wrong.abs().max()), float((x.T.cov() - c).norm() / c.norm())


SOLVERS = {
    "dpm": ({"steps": 60}, 60),
    "heun": ({"steps": 30}, 59),
    "ddim": ({"steps": 400}, 400),
    "ancestral": ({"solver": "ddim", "eta": 1.0, "steps": 400}, 400),
    "pc": ({"steps": 200}, 400),
}


@pytest.mark.parametrize("name", list(SOLVERS))
def test_joint_samples_have_the_exact_law(name: str) -> None:
    options, calls = SOLVERS[name]
    n = 10_000
    x, report = Diffusion(**{"solver": name, **options})(exact(covariance()), task(n, ())[0])
    mean, spread_ = errors(x, torch.zeros(6), covariance())
    assert mean < 0.04 and spread_ < 0.05, (mean, spread_)
    assert report.calls == calls and report.rows == calls * n and report.items == n


@pytest.mark.parametrize("blocks", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize(
    "way", [("masks", "unseen"), ("guidance", "unseen"), ("guidance", "alone")]
)
def test_masks_give_every_exact_conditional(way: tuple[str, str], blocks: tuple[int, ...]) -> None:
    """Guidance of weight 1 is none; a weight above 1 is another law."""
    (conditioning, against), (given, unknown, mean, c) = way, task(10_000, blocks)
    sampler = Diffusion(conditioning, steps=60, weight=1.0, against=against, high=200.0)
    x, _ = sampler(exact(covariance()), given)
    assert torch.equal(x[given.observed], given.value[given.observed])
    wrong = errors(x[:, unknown], mean, c)
    assert wrong[0] < 0.04 and wrong[1] < 0.06, wrong
    if conditioning == "guidance":
        x, _ = Diffusion(conditioning, steps=60, weight=3.0, against=against)(
            exact(covariance()), given
        )
        assert errors(x[:, unknown], mean, c)[1] > 0.1


def test_langevin_dynamics_end_at_the_conditional_of_two_numbers() -> None:
    """Of correlation .8, one given as 2: mean 1.6 and deviation .6. Fewer steps lag behind the
    levels, and leave the spread too wide.
    """
    c = torch.tensor([[1.0, 0.8], [0.8, 1.0]])

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.linalg.solve(c + torch.diag(sigma[0] ** 2), x.T).T @ c

    seen = torch.tensor([[True, False]]).expand(8000, 2)
    given = Inpainting(torch.tensor([[2.0, 0.0]]).expand(8000, 2), seen, (1, 1))
    x = Diffusion(solver="langevin")(denoise, given)[0][:, 1]
    assert x.mean() == pytest.approx(1.6, abs=0.02) and x.std() == pytest.approx(0.6, abs=0.025)
    x = Diffusion(solver="langevin", langevin_steps=1)(denoise, given)[0][:, 1]
    assert x.mean() == pytest.approx(1.6, abs=0.03) and x.std() > 0.75


@pytest.mark.parametrize("blocks", [(), (1,), (1, 2)])
def test_langevin_dynamics_give_every_conditional(blocks: tuple[int, ...]) -> None:
    given, unknown, mean, c = task(2000, blocks)
    x, report = Diffusion(solver="langevin", high=20.0)(exact(covariance()), given)
    assert torch.equal(x[given.observed], given.value[given.observed]) and report.calls == 601
    wrong = errors(x[:, unknown], mean, c)
    assert wrong[0] < 0.08 and wrong[1] < 0.1, wrong


@pytest.mark.parametrize("weight", [1.0, 2.0, 3.0])
def test_guided_joint_samples_have_the_variances_that_their_equations_say(weight: float) -> None:
    """p^w prod p_m^(1-w) at each level: along an eigenvector of the correlations its value to the
    power w.
    """
    n, c = 20_000, 0.4 + 0.6 * torch.eye(3)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        noisy = c + torch.diag_embed(sigma**2)
        return torch.linalg.solve(noisy, x.unsqueeze(-1)).squeeze(-1) @ c

    none = Inpainting(torch.zeros(n, 3), torch.zeros(n, 3, dtype=torch.bool), (1, 1, 1))
    x, calls = Diffusion("guidance", steps=60, weight=weight, against="alone", rescale=False)(
        denoise, none
    )
    up, down = (
        (x @ torch.tensor(v)).var() / sum(map(abs, v)) for v in ([1.0, 1.0, 1.0], [1.0, -1.0, 0.0])
    )
    assert up == pytest.approx(1.8**weight, rel=0.04) and down == pytest.approx(
        0.6**weight, rel=0.04
    )
    assert (
        calls.calls == 60 and calls.rows == 4 * 60 * n
    )  # the joint law and each block alone, in one call
    plain, _ = Diffusion("guidance", steps=60, weight=weight)(
        denoise, none
    )  # nothing seen: nothing to compare with
    assert plain.T.cov()[0, 1] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("blocks", [(), (0,), (1, 2)])
def test_guidance_compares_with_each_unseen_block_alone(blocks: tuple[int, ...]) -> None:
    """One guess, against D_alone + w (D - D_alone) in closed form, for blocks of several
    dimensions.
    """
    given, unknown, *_ = task(7, blocks)
    given = Inpainting(given.value, given.seen, SIZES, high=1e5)
    c, s, w, seen = covariance(), 0.7, 2.5, []
    sampler = Diffusion(
        "guidance", steps=1, low=s, high=s + 1e-9, weight=w, against="alone", rescale=False
    )
    denoise = exact(c)
    x, _ = sampler(lambda x, sigma: (seen.append((x, sigma)), denoise(x, sigma))[1], given)
    noisy = seen[0][0][:7]  # the first rows: the point itself
    whole = noisy @ torch.linalg.solve(c + torch.diag(torch.where(given.observed[0], 0, s * s)), c)
    own = torch.block_diag(*(c[a:b, a:b] for a, b in ((0, 2), (2, 3), (3, 6))))
    alone = noisy @ torch.linalg.solve(own + s * s * torch.eye(6), own)
    torch.testing.assert_close(
        x[:, unknown], (alone + w * (whole - alone))[:, unknown], atol=1e-4, rtol=0
    )


def test_a_rescaled_guess_is_no_longer_than_the_one_without_guidance() -> None:
    """Of what is unseen, item by item; its direction stays."""
    given = task(50, (0,))[0]
    one = {"steps": 1, "low": 0.7, "high": 0.7 + 1e-9, "against": "alone"}
    guess = lambda **options: Diffusion("guidance", **one, **options)(exact(covariance()), given)[0]
    draws = []
    for options in ({"weight": 1.0}, {"weight": 4.0, "rescale": False}, {"weight": 4.0}):
        torch.manual_seed(3)
        draws.append(torch.where(given.observed, 0, guess(**options)))
    most, free, held = (x.norm(dim=-1) for x in draws)
    torch.testing.assert_close(held, torch.minimum(free, most))
    assert (free > 1.2 * most).any()
    torch.testing.assert_close(draws[2] / held[:, None], draws[1] / free[:, None])


def test_what_guidance_compares_with_needs_guidance() -> None:
    for options in ({"against": "alone"}, {"rescale": True}):
        with pytest.raises(ValueError, match="take conditioning=guidance"):
            Diffusion(**options)


def test_replacement_is_biased_and_correctors_or_repeats_mend_it() -> None:
    """The error that the plain sampler hides: no number of steps removes it."""
    given, unknown, mean, c = task(1500, (0,))
    error = lambda **options: max(
        errors(Diffusion(**options)(exact(covariance()), given)[0][:, unknown], mean, c)
    )
    plain = [error(conditioning="replacement", solver="dpm", steps=n) for n in (30, 300)]
    assert min(plain) > 0.5, plain
    langevin = [
        error(conditioning="replacement", solver="pc", steps=100, corrector=n) for n in (0, 2, 20)
    ]
    assert langevin[0] > 0.5 and langevin[1] < 0.75 * langevin[0] and langevin[2] < 0.15, langevin
    again = [
        error(conditioning="repaint", solver="ddim", eta=1.0, steps=50, repeats=n) for n in (1, 30)
    ]
    assert again[0] > 0.5 and again[1] < 0.3, again


@pytest.mark.parametrize(("eta", "mean", "variance"), [(1.0, 1.0, 0.494), (0.0, 0.69, 0.6)])
def test_replacement_ends_where_its_equations_say(eta: float, mean: float, variance: float) -> None:
    """Two numbers of correlation .8, one given as 2: docs/derivations/conditionings.md has the
    solutions; the truth is 1.6, .36.
    """
    n, c = 20_000, torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    denoise = lambda x, s: x @ torch.linalg.solve(c + torch.diag(s[0] ** 2), c)
    given = Inpainting(
        torch.tensor([[2.0, 0.0]]).expand(n, 2), torch.tensor([[True, False]]).expand(n, 2), (1, 1)
    )
    x, _ = Diffusion("replacement", "ddim", eta=eta, steps=500)(denoise, given)
    assert x[:, 1].mean() == pytest.approx(mean, abs=0.03) and x[:, 1].var() == pytest.approx(
        variance, abs=0.02
    )


def test_the_released_code_shows_the_clean_latent_again() -> None:
    """alpha z + sigma z instead of alpha z + sigma eps: in these coordinates (1 + sigma) z."""
    given = task(4, (0,))[0]
    seen = []
    denoise = exact(covariance())
    Diffusion("clean", "ddim", steps=6)(
        lambda x, s: (seen.append((x, s[0, 0])), denoise(x, s))[1], given
    )
    for x, s in seen:
        torch.testing.assert_close(x[given.observed], ((1 + s) * given.value)[given.observed])
    assert len(seen) == 6


def test_an_energy_pulls_replacement_to_the_conditional() -> None:
    """With the exact gradient of log p(x_S | x_U) - what replacement lacks - at every level, it is
    nearer.
    """
    given, unknown, mean, c = task(10_000, (0,))
    known = spread(given.seen, SIZES)[0]
    s, u = known.nonzero().squeeze(1), (~known).nonzero().squeeze(1)

    def energy_gradient(x: Tensor, seen: Tensor, sigma: float) -> Tensor:
        """grad_U [log p(x0_S | x_U at this level) - log p(x_S at this level | x_U)]."""
        full = covariance() + sigma**2 * torch.eye(6)
        gain = torch.linalg.solve(full[u][:, u], full[u][:, s])
        miss = lambda noise: (
            covariance()[s][:, s] + noise * torch.eye(len(s)) - full[s][:, u] @ gain
        )
        sharp, blurred = (torch.linalg.inv(miss(v)) for v in (0.0, sigma**2))
        out = torch.zeros_like(x)
        out[:, u] = (given.value[:, s] - x[:, u] @ gain) @ sharp @ gain.T
        out[:, u] -= (x[:, s] - x[:, u] @ gain) @ blurred @ gain.T
        return out

    options = {"conditioning": "energy", "solver": "heun", "steps": 40}
    without, _ = Diffusion(**options, weight=0.0)(exact(covariance()), given, energy_gradient)
    with_, _ = Diffusion(**options, weight=1.0)(exact(covariance()), given, energy_gradient)
    before, after = (errors(x[:, unknown], mean, c) for x in (without, with_))
    assert max(before) > 0.3 and max(after) < 0.05, (before, after)
    with pytest.raises(ValueError, match="needs the energies' gradient"):
        Diffusion("energy")(exact(covariance()), given)


def test_items_have_subsets_of_their_own() -> None:
    """A batch in which every item has other blocks is the same as the items apart, with as many
    calls as one.
    """
    tasks = [task(1, blocks) for blocks in ((0,), (1, 2), ())]
    both = Inpainting(
        torch.cat([t[0].value for t in tasks]), torch.cat([t[0].seen for t in tasks]), SIZES
    )
    noise = torch.randn(3, 6)
    sampler, found = Diffusion(steps=20), []
    for part in [both, *(t[0] for t in tasks)]:
        rows = noise if len(part.value) == 3 else noise[len(found) - 1 : len(found)]
        object.__setattr__(part, "noise", lambda rows=rows: rows)
        x, calls = sampler(exact(covariance()), part)
        assert calls.calls == 20
        found.append(x)
    torch.testing.assert_close(found[0], torch.cat(found[1:]))


@pytest.mark.parametrize("blocks", [(0,), (1,), (0, 1)])
def test_twisted_particles_give_the_exact_conditional_and_evidence(blocks: tuple[int, ...]) -> None:
    given, unknown, mean, c = task(2000, blocks)
    x, report = Twisted(steps=200, particles=16)(exact(covariance()), given)
    wrong = errors(x[:, unknown], mean, c)
    assert wrong[0] < 0.07 and wrong[1] < 0.12, wrong
    known = spread(given.seen, SIZES)[0]
    marginal = MultivariateNormal(torch.zeros(int(known.sum())), covariance()[known][:, known])
    truth = marginal.log_prob(given.value[0, known])
    estimate = report.log_normalizer.logsumexp(0) - math.log(len(given.value))
    assert estimate == pytest.approx(float(truth), abs=0.25)
    assert report.calls == 200 and report.rows == 200 * 16 * 2000
    assert ((report.unique > 0) & (report.unique <= 1)).all() and (report.ess >= 1).all()


def test_twisted_particles_use_a_denoiser_without_masks() -> None:
    """Every call has one level for all blocks: no network that knows masks is needed."""
    seen = []
    denoise = exact(covariance())
    Twisted(steps=5, particles=2)(lambda x, s: (seen.append(s), denoise(x, s))[1], task(3, (0,))[0])
    assert all((s == s[0, 0]).all() and s[0, 0] > 0 for s in seen)


@pytest.mark.parametrize("blocks", [(), (0,), (1, 2)])
def test_the_ode_gives_the_exact_log_density(blocks: tuple[int, ...]) -> None:
    law = MultivariateNormal(torch.zeros(6), covariance())
    x = law.sample((100,))
    seen = torch.zeros(100, 3, dtype=torch.bool)
    seen[:, list(blocks)] = True
    known = spread(seen, SIZES)[0]
    truth = law.log_prob(x)
    if blocks:
        part = MultivariateNormal(torch.zeros(int(known.sum())), covariance()[known][:, known])
        truth = truth - part.log_prob(x[:, known])
    given = Inpainting(x, seen, SIZES)
    torch.testing.assert_close(log_density(exact(covariance()), given), truth, atol=0.01, rtol=0)
    often = Inpainting(x.repeat(30, 1), seen.repeat(30, 1), SIZES)
    rough = log_density(exact(covariance()), often, probes=4).reshape(30, 100)
    assert ((rough.mean(0) - truth).abs() < 5 * rough.std(0) / math.sqrt(30) + 0.02).all()


def test_inactive_coordinates_stay_zero_and_out_of_the_density() -> None:
    active = torch.tensor([True, False, True, True, False, False])
    one = Normal(0.0, 1.0)
    # What a network says of coordinates that are not there must reach nothing, nor must it ever see
    # anything there.
    clean = lambda x, s: x / (1 + spread(s, SIZES) ** 2)
    denoise = lambda x, s: (
        clean(x, s) + torch.where(active, x[:, ~active].sum(-1, keepdim=True), 3.0)
    )
    free = Inpainting(torch.zeros(500, 6), torch.zeros(500, 3, dtype=torch.bool), SIZES, active)
    for sampler in (
        Diffusion(steps=40),
        Diffusion(solver="pc", steps=60),
        Twisted(steps=100, particles=4),
    ):
        x, _ = sampler(denoise, free)
        assert (x[:, ~active] == 0).all() and (x[:, active].std(0) - 1).abs().max() < 0.15
    given = Inpainting(
        torch.ones(500, 6) * active,
        torch.tensor([True, False, False]).expand(500, 3),
        SIZES,
        active,
    )
    _, report = Twisted(steps=200, particles=4)(denoise, given)
    assert report.log_normalizer.mean() == pytest.approx(
        float(one.log_prob(torch.tensor(1.0))), abs=0.1
    )
    x = torch.randn(10, 6) * active
    truth = one.log_prob(x[:, active]).sum(-1)
    torch.testing.assert_close(
        log_density(denoise, Inpainting(x, free.seen[:10], SIZES, active)), truth, atol=5e-3, rtol=0
    )


def test_the_variance_preserving_process_is_the_integral_of_its_beta() -> None:
    """alpha(t)^2 = exp(-int_0^t beta), and the levels of a ladder fall to 0."""
    process, t = VP(1.0, 5.0), torch.linspace(0, 0.7, 10_001)
    beta = 1 + t * 4
    assert process.alpha(0.7) ** 2 == pytest.approx(
        math.exp(-float(torch.trapezoid(beta, t))), rel=1e-6
    )
    assert process.sigma(0.7) ** 2 == pytest.approx(1 / process.alpha(0.7) ** 2 - 1)
    levels = karras_levels(5, 0.01, 10.0)
    assert levels[0] == pytest.approx(10) and levels[-2] == pytest.approx(0.01) and levels[-1] == 0
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("solver", list(solvers.SOLVERS))
@pytest.mark.parametrize("conditioning", list(conditionings.CONDITIONINGS))
def test_every_conditioning_draws_by_every_solver(conditioning: str, solver: str) -> None:
    """Only solvers of single steps repeat; joint samples are the same for every conditioning."""
    if conditioning == "repaint" and solver in ("dpm", "pc", "langevin"):
        with pytest.raises(ValueError, match="solver=ddim or heun"):
            Diffusion(conditioning, solver)
        return
    sampler = Diffusion(conditioning, solver, steps=25, repeats=2, langevin_steps=2)
    still = lambda x, seen, sigma: torch.zeros_like(x)
    given = task(3, (1,))[0]
    x, report = sampler(exact(covariance()), given, still)
    assert torch.equal(x[given.observed], given.value[given.observed]) and x.isfinite().all()
    each = {"dpm": 25, "ddim": 25, "heun": 49, "pc": 50, "langevin": 51}[solver]
    if conditioning == "repaint":
        each = {"ddim": 50, "heun": 98}[solver]
    assert report.calls == each and report.items == 3
    torch.manual_seed(1)
    joint, report = sampler(exact(covariance()), task(3, ())[0], still)
    torch.manual_seed(1)
    alike = Diffusion("masks", solver, steps=25, langevin_steps=2)
    masks, _ = alike(exact(covariance()), task(3, ())[0])
    torch.testing.assert_close(joint, masks, atol=0, rtol=0)


def test_a_sampler_composes_a_conditioning_and_a_solver() -> None:
    given, denoise = task(4, (0,))[0], exact(covariance())
    guidance = conditionings.Guidance(3.0, "alone")
    torch.manual_seed(1)
    x = solvers.DDIM(steps=9, eta=0.5)(partial(guidance, denoise, given), given)
    torch.manual_seed(1)
    options = {"weight": 3.0, "against": "alone", "steps": 9, "eta": 0.5}
    named, _ = Diffusion("guidance", "ddim", **options)(denoise, given)
    torch.testing.assert_close(given.put(x), named, atol=0, rtol=0)
    assert guidance == conditionings.Guidance(3.0, "alone") != conditionings.Guidance(2.0, "alone")


def test_mistakes_are_named() -> None:
    for options, words in (
        ({"conditioning": "mask"}, "There is no conditioning 'mask'"),
        ({"solver": "euler"}, "There is no solver 'euler'"),
        ({"eta": 1.5}, "0 <= eta <= 1"),
        ({"solver": "pc", "steps": 19}, "take more than 19"),
        ({"steps": 0}, "steps, repeats and langevin_steps of at least 1"),
        ({"langevin_steps": 0}, "steps, repeats and langevin_steps of at least 1"),
        ({"step_size": 2.0}, r"step_size must be in \(0, 2\), got 2\.0"),
        ({"step_size": math.nan}, r"step_size must be in \(0, 2\)"),
        ({"conditioning": "repaint"}, "solver=ddim or heun"),
    ):
        with pytest.raises(ValueError, match=words):
            Diffusion(**options)
    with pytest.raises(ValueError, match="particles >= 1"):
        Twisted(particles=0)
    with pytest.raises(ValueError, match=r"needs value \(N, 6\)"):
        Inpainting(torch.zeros(3, 5), torch.zeros(3, 3, dtype=torch.bool), SIZES)
