"""Score-based autoencoders: what their denoiser, whitening, prior and stages must satisfy."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from polymodal import fit, load
from polymodal.batch import Batch, Modality
from polymodal.data.dataset import Dataset
from polymodal.data.splits import Splits
from polymodal.diffusion.conditioning import Inpainting, spread
from polymodal.diffusion.denoisers import TRUNKS, Denoiser, denoising_score_matching
from polymodal.diffusion.energies import PairEnergies, noise_contrastive_loss
from polymodal.diffusion.fitting import fit_whitening, reduced
from polymodal.diffusion.masking import TrainingMasks
from polymodal.diffusion.prior import DiffusionPrior, FirstBlock
from polymodal.diffusion.sampler import Diffusion
from polymodal.diffusion.whitening import LatentWhitening
from polymodal.distributions import report_of
from polymodal.distributions.normal import DiagNormal
from polymodal.methods.diffusion_stages import diffusion_prior

SIZES = {"a": 2, "b": 1, "c": 3}
BLOCKS = list(SIZES.values())


def covariance() -> torch.Tensor:
    loading = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    c = loading @ loading.T + 0.3 * torch.eye(6)
    return c / c.diag().sqrt() / c.diag().sqrt()[:, None]


class Exact(nn.Module):
    """The denoiser of N(0, C), for one row of sigmas."""

    def __init__(self, c: torch.Tensor, sizes=BLOCKS) -> None:
        super().__init__()
        self.c, self.sizes = c, sizes

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x @ torch.linalg.solve(
            self.c + torch.diag(spread(sigma[0], self.sizes) ** 2), self.c
        )


class Known(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


def trained(steps: int, batch: int = 512, holes: float = 0.0, **options) -> Denoiser:
    torch.manual_seed(0)
    net, factor = Denoiser(BLOCKS, **options), torch.linalg.cholesky(covariance())
    optimizer, patterns = torch.optim.Adam(net.parameters(), 2e-3), TrainingMasks()
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = torch.randn(batch, 6) @ factor.T
        present = torch.rand(batch, 3) >= holes
        sigma, counted = patterns(x, present)
        optimizer.zero_grad()
        denoising_score_matching(
            net, torch.where(spread(present, BLOCKS), x, 0), sigma, counted
        ).mean().backward()
        optimizer.step()
        rate.step()
    return net.eval()


@pytest.mark.parametrize("scaling", ["edm", "vp"])
@pytest.mark.parametrize("trunk", list(TRUNKS))
def test_what_is_known_comes_back_and_what_is_not_active_is_nothing(
    trunk: str, scaling: str
) -> None:
    net = Denoiser(BLOCKS, trunk, scaling, width=16, depth=1)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    x, sigma = torch.randn(5, 6), torch.tensor([0.0, 0.7, 30.0]).expand(5, 3)
    out = net(x, sigma)
    torch.testing.assert_close(
        out[:, :2], x[:, :2]
    )  # sigma 0: E[x0 | x] is x, whatever the network says
    assert (out[:, 2:] != x[:, 2:]).all()
    active = torch.tensor([True] * 4 + [False] * 2)
    seen = []
    net.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    counted = torch.ones(5, 3, dtype=torch.bool)
    first = denoising_score_matching(net, x * active, sigma.clamp_min(0.1), counted, active)
    assert (seen[-1][:, 4:] == 0).all() and first.shape == (5,)


@pytest.mark.parametrize("scaling", ["edm", "vp"])
def test_the_loss_is_least_for_the_true_denoiser(scaling: str) -> None:
    """With a network that gives the true E[x0 | x] the loss is the variance left, weighed; any
    other is worse.
    """
    c, sigma = covariance(), torch.tensor([[0.5, 0.8, 0.3]])
    x = torch.randn(100_000, 6) @ torch.linalg.cholesky(c).T
    net = Denoiser(BLOCKS, scaling=scaling, width=8, depth=1)
    into, skip, out = net.scales(sigma)
    noise2 = torch.diag(spread(sigma[0], BLOCKS) ** 2)
    best = torch.linalg.solve(c + noise2, c)
    values = []
    for shift in (0.0, 0.1, -0.1):
        gain = best + shift * torch.eye(6)
        net.net = Known(lambda y, s, gain=gain: (y / into @ gain - skip * y / into) / out)
        values.append(
            float(
                denoising_score_matching(
                    net, x, sigma.expand(len(x), 3), torch.ones(len(x), 3).bool()
                ).mean()
            )
        )
    left = (c - best.T @ c).diag() / out[0] ** 2
    assert values[0] == pytest.approx(float(left.mean()), rel=0.02)
    assert values[0] < 0.98 * min(values[1:])


def test_what_is_missing_or_known_carries_no_loss() -> None:
    net, x = Denoiser(BLOCKS, width=8, depth=1), torch.randn(4, 6)
    sigma = torch.full((4, 3), 0.5)
    counted = torch.tensor([[True, False, True]] * 4)
    torch.manual_seed(1)
    first = denoising_score_matching(net, x, sigma, counted)
    other = x.clone()
    other[:, 2] += 100
    nn.init.zeros_(net.net.first.weight)  # so that b enters through the loss alone
    torch.manual_seed(1)
    before = denoising_score_matching(net, x, sigma, counted)
    torch.manual_seed(1)
    torch.testing.assert_close(denoising_score_matching(net, other, sigma, counted), before)
    assert (first > 0).all() and (
        denoising_score_matching(net, x, sigma, torch.zeros(4, 3).bool()) == 0
    ).all()


def test_patterns_hide_what_is_missing_and_count_what_is_noised() -> None:
    torch.manual_seed(0)
    present = torch.rand(20_000, 3) < 0.8
    sigma, counted = TrainingMasks(joint=0.5, dropped=0.1, high=80.0)(torch.zeros(1), present)
    assert (sigma[~present] == 80).all() and not counted[~present].any()
    known = present & (sigma == 0)
    assert not counted[known].any() and (sigma[counted] > 0).all()
    levels = torch.where(counted, sigma, torch.nan)
    both = counted[:, 0] & counted[:, 1]
    assert torch.equal(levels[both, 0], levels[both, 1])  # one level for all that is noised
    assert (counted.any(-1) == present.any(-1)).all()  # of what is there, something always counts
    dropped = present & ~counted & (sigma == 80)
    shown = float((known | dropped)[present].float().mean())
    assert 0.12 < shown < 0.18 and dropped[present].float().mean() == pytest.approx(
        0.1 * shown, abs=0.01
    )
    log = sigma[counted].log()
    assert log.mean() == pytest.approx(-0.4, abs=0.1) and log.std() == pytest.approx(1.6, abs=0.1)
    none, all_ = TrainingMasks(conditional=False)(torch.zeros(1), torch.ones(9, 3).bool())
    assert all_.all() and (none == none[:, :1]).all()


@pytest.mark.parametrize(("trunk", "holes"), [("mlp", 0.0), ("mlp", 0.5), ("transformer", 0.0)])
def test_a_small_denoiser_learns_the_joint_law_and_its_conditionals(
    trunk: str, holes: float
) -> None:
    """Also from tuples of which half of the blocks are missing. (benchmarks/score.py has the exact
    figures.)
    """
    many = (1000, 512) if trunk == "mlp" else (500, 384)  # steps, samples in each
    net, c, n = trained(*many, holes, trunk=trunk, width=64, depth=2), covariance(), 1500
    blank = Inpainting(torch.zeros(n, 6), torch.zeros(n, 3).bool(), BLOCKS)
    x, _ = Diffusion(steps=40)(net, blank)
    assert (x.T.cov() - c).norm() / c.norm() < 0.15
    value = torch.tensor([1.0, -0.5, 0.8, 0, 0, 0]).expand(n, 6)
    x, _ = Diffusion(steps=40)(
        net, Inpainting(value, torch.tensor([True, True, False]).expand(n, 3), BLOCKS)
    )
    gain = torch.linalg.solve(c[:3, :3], c[:3, 3:]).T
    left = c[3:, 3:] - gain @ c[:3, 3:]
    assert ((x[:, 3:].mean(0) - gain @ value[0, :3]) / left.diag().sqrt()).abs().max() < 0.25
    assert (x[:, 3:].T.cov() - left).norm() / left.norm() < 0.2


def test_a_prior_in_whitened_coordinates_has_the_density_of_its_law() -> None:
    """log p(z) of blocks that are shifted, mixed, and cut: change of variables, and N(0, I) for
    what is left out.
    """
    torch.manual_seed(0)
    matrix = torch.block_diag(*(torch.randn(d, d) + 2 * torch.eye(d) for d in BLOCKS))
    mean, c = torch.randn(6), covariance()
    prior = DiffusionPrior(SIZES, Exact(c))
    prior.whitening.set_(mean, matrix)
    back = torch.linalg.inv(matrix)
    law = MultivariateNormal(mean, back.T @ c @ back)
    z = law.sample((50,))
    torch.testing.assert_close(prior().log_prob(z), law.log_prob(z), atol=0.02, rtol=0)
    draws = prior().sample((20_000,))
    torch.testing.assert_close(draws.mean(0), law.mean, atol=0.03, rtol=0)
    assert (draws.T.cov() - law.covariance_matrix).norm() / law.covariance_matrix.norm() < 0.06
    q = {
        "a": DiagNormal(z[:, :2], torch.full((50, 2), 0.1)),
        "c": DiagNormal(z[:, 3:], torch.full((50, 3), 0.1)),
    }
    both = prior.fill(q, Batch({"a": z[:, :2], "c": z[:, 3:]}))
    a, b = [0, 1, 3, 4, 5], [2]
    s = law.covariance_matrix
    gain = torch.linalg.solve(s[a][:, a], s[a][:, b]).T
    rest = Normal(
        law.mean[2] + (z[:, a] - law.mean[a]) @ gain[0],
        (s[2, 2] - (gain @ s[a][:, b])[0, 0]).sqrt(),
    )
    truth = rest.log_prob(z[:, 2]) + q["a"].log_prob(z[:, :2]) + q["c"].log_prob(z[:, 3:])
    torch.testing.assert_close(both.log_prob(z), truth, atol=0.02, rtol=0)


def test_a_reduced_prior_keeps_a_seen_blocks_own_complement_and_gives_others_noise() -> None:
    torch.manual_seed(0)
    c = torch.eye(6)
    c[0, 2] = c[2, 0] = c[0, 3] = c[3, 0] = 0.8
    c[2, 3] = c[3, 2] = 0.64
    prior = DiffusionPrior(SIZES, Exact(c))
    prior.whitening.set_(torch.ones(6), torch.eye(6), {"a": 1, "b": 1, "c": 1})
    assert prior.whitening.modelled.tolist() == [True, False, True, True, False, False]
    value = torch.tensor([[3.0, 9.0, 0, 0, 0, 0]]).expand(20_000, 6)
    z, _ = prior.draw(value, torch.tensor([True, False, False]).expand(20_000, 3))
    assert torch.equal(z[:, :2], value[:, :2])
    torch.testing.assert_close(z[:, 2:].mean(0), torch.tensor([2.6, 2.6, 1, 1]), atol=0.03, rtol=0)
    torch.testing.assert_close(z[:, 2:].std(0), torch.tensor([0.6, 0.6, 1, 1]), atol=0.03, rtol=0)
    x = MultivariateNormal(torch.ones(6), c).sample((20,))
    torch.testing.assert_close(
        prior().log_prob(x), MultivariateNormal(torch.ones(6), c).log_prob(x), atol=0.02, rtol=0
    )


def test_the_first_block_has_the_report_of_the_whole_and_no_density() -> None:
    prior = DiffusionPrior(SIZES, Exact(covariance()), Diffusion(steps=7))
    whole = prior()
    first = FirstBlock(whole, 2)
    assert first.report is None and report_of(whole) is None
    assert first.sample((5,)).shape == (5, 2) and report_of(first).calls == 7
    assert whole.has_density and not first.has_density
    mean, seen = Normal(torch.zeros(4, 2), 0.1), Batch({"a": torch.zeros(4, 2)})
    assert prior.fill({"a": mean}, seen).has_density
    prior.encode_means = True
    assert not prior.fill({"a": mean}, seen).has_density and prior().has_density


def blocks(n: int) -> dict[str, torch.Tensor]:
    """Three blocks of which a shares one direction with b and c; c has another one, skewed, of its
    own.
    """
    shared, own = torch.randn(n, 1), torch.randn(n, 1)
    a = torch.cat([shared + 0.4 * torch.randn(n, 1), torch.randn(n, 3)], -1)
    b = torch.cat([torch.randn(n, 1), shared + 0.4 * torch.randn(n, 1)], -1)
    c = torch.cat([shared + 0.4 * torch.randn(n, 1), torch.randn(n, 1), (0.8 * own).exp()], -1)
    g = torch.Generator().manual_seed(3)
    turn = lambda v: (
        v @ (torch.randn(v.shape[1], v.shape[1], generator=g) + 2 * torch.eye(v.shape[1]))
    )
    return {"a": turn(a), "b": turn(b), "c": turn(c)}


def test_one_epsilon_finds_what_every_block_shares() -> None:
    """Against N(0, I) the block c keeps two directions, against its own law only the one that it
    shares.
    """
    torch.manual_seed(0)
    train, held = blocks(8000), blocks(4000)
    whitening = LatentWhitening({"a": 4, "b": 2, "c": 3})
    found = reduced(whitening, train, train, held, epsilon=0.3, steps=150)
    assert found["kept"] == {"a": 1, "b": 1, "c": 2} and found["of"] == {"a": 4, "b": 2, "c": 3}
    assert found["bound"] < 0.3 and abs(found["trace"] / 2 / found["gain"] - 1) < 0.15
    assert reduced(whitening, train, train, held, 0.3, "marginals", steps=150)["kept"] == {
        "a": 1,
        "b": 1,
        "c": 1,
    }
    y = whitening(torch.cat(list(held.values()), -1))
    torch.testing.assert_close(y.T.cov().diag(), torch.ones(9), atol=0.1, rtol=0)
    kept = y[:, whitening.modelled]
    assert (
        kept.shape[1] == 3 and kept.T.corrcoef().abs()[0, 1:].min() > 0.7
    )  # what is kept is what is shared
    assert y[:, ~whitening.modelled].T.corrcoef().sub(torch.eye(6)).abs().max() < 0.05
    with pytest.raises(ValueError, match=r"at least 20 samples with every modality, .*got 5"):
        reduced(whitening, train, {m: v[:5] for m, v in train.items()}, held, 0.3)
    with pytest.raises(ValueError, match="The reference is one of normal, marginals, not 'own'"):
        reduced(whitening, train, train, held, 0.3, "own")


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_directions_in_which_latents_hardly_vary_are_not_kept(size: float) -> None:
    """Two blocks share two directions; eight of sixteen have a deviation of `size`, turned."""
    generator = torch.Generator().manual_seed(0)
    turns = [torch.linalg.qr(torch.randn(16, 16, generator=generator))[0] for _ in range(2)]

    def latents(n: int) -> dict[str, torch.Tensor]:
        shared = torch.randn(n, 2, generator=generator)
        z = torch.randn(2, n, 16, generator=generator)
        z[..., :2] = 0.9 * shared + 0.19**0.5 * z[..., :2]
        z[..., 8:] *= size
        return {m: v @ turn for m, v, turn in zip("ab", z, turns, strict=True)}

    torch.manual_seed(0)
    train = latents(3000)
    whitening = LatentWhitening({"a": 16, "b": 16})
    found = reduced(whitening, train, train, latents(1000), epsilon=0.5, steps=50)
    assert found["kept"] == {"a": 2, "b": 2} and found["found"] == 4
    exact = 2 * 0.81**2 / (1 - 0.81**2)  # of each block
    assert found["trace"] == pytest.approx(2 * exact, rel=0.1)


def test_where_nothing_is_found_nothing_is_kept_and_a_warning_says_so(caplog) -> None:
    torch.manual_seed(0)
    z = lambda n: {"a": torch.randn(n, 4), "b": torch.randn(n, 3)}
    whitening = LatentWhitening({"a": 4, "b": 3})
    train = z(300)
    found = reduced(whitening, train, train, z(100), epsilon=0.05, steps=50)
    assert (
        found["kept"] == {"a": 0, "b": 0} and found["found"] == 0 and not whitening.modelled.any()
    )
    assert "found nothing" in caplog.text
    prior = DiffusionPrior({"a": 4, "b": 3}, Denoiser([4, 3], width=8, depth=1))
    prior.whitening.load_state_dict(whitening.state_dict())
    z = torch.randn(5, 7)
    log_p = Normal(0.0, 1.0).log_prob(whitening(z)).sum(-1) + whitening.log_det().sum()
    torch.testing.assert_close(prior().log_prob(z), log_p, atol=1e-4, rtol=0)
    assert prior().sample(torch.Size((4,))).isfinite().all()


def test_the_whitening_without_epsilon_standardises_what_is_there() -> None:
    torch.manual_seed(0)
    x = {"a": 3 * torch.randn(5000, 2) + 1, "b": torch.randn(5000, 1), "c": torch.randn(5000, 3)}
    x["c"][:, 2] *= 1e-4  # an unused dimension is not blown up
    here = torch.rand(5000) < 0.5
    whitening = LatentWhitening(SIZES)
    fit_whitening(whitening, None, "normal", [Batch(x, {"a": here})], [])
    y = whitening(torch.cat(list(x.values()), -1))
    torch.testing.assert_close(y[here, :2].mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(y[here, :2].std(0), torch.ones(2), atol=1e-4, rtol=0)
    assert y[:, 5].std() < 0.01


def test_energies_learn_which_pairs_belong_together() -> None:
    """-E of two correlated numbers is the log-ratio log p(a, b) / p(a) p(b), whose gradient is
    known, at any level.
    """
    torch.manual_seed(0)
    net, rho = PairEnergies((1, 1), width=64), 0.8
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        a = torch.randn(256, 1)
        x = torch.cat([a, rho * a + 0.6 * torch.randn(256, 1)], -1)
        optimizer.zero_grad()
        noise_contrastive_loss(
            net, x, torch.ones(256, 2).bool(), TrainingMasks(conditional=False)
        ).mean().backward()
        optimizer.step()
        rate.step()
    sigma, x = 0.5, torch.randn(400, 2)
    seen = torch.tensor([True, False]).expand(400, 2)
    r = rho / (1 + sigma**2)  # the correlation of the noised pair; v its variance
    v = 1 + sigma**2
    u, w = x[:, 0] / math.sqrt(v), x[:, 1] / math.sqrt(v)
    # Two negatives: half shuffled, half N(0, 1) for x_j, noised alike: the same law here, so the
    # ratio is to p(a) p(b).
    truth = ((r * u - r * r * w) / (1 - r * r)) / math.sqrt(v)
    pulled = net.energy_gradient(x, seen, sigma)
    assert (pulled[:, 0] == 0).all()
    near = (u.abs() < 1.5) & (w.abs() < 1.5)
    assert (pulled[near, 1] - truth[near]).abs().mean() < 0.15 and truth[near].abs().mean() > 0.3
    assert (net.energy_gradient(x, torch.zeros(400, 2).bool(), sigma) == 0).all()


def data(n: int = 600, holes: bool = False) -> Splits:
    torch.manual_seed(0)
    z = torch.randn(n, 2)
    x = {
        "a": z @ torch.randn(2, 3) + 0.3 * torch.randn(n, 3),
        "b": z @ torch.randn(2, 4) + 0.3 * torch.randn(n, 4),
    }
    modalities = [Modality("a", (3,), scale=0.3), Modality("b", (4,), scale=0.3)]
    present = {"b": torch.rand(n) < 0.5} if holes else {}
    whole = Dataset(modalities, x, present=present)
    rows = torch.arange(n)
    return Splits(
        *(whole.take(r) for r in (rows[: n - 200], rows[n - 200 : n - 100], rows[n - 100 :])), "own"
    )


@pytest.mark.parametrize(
    "options", [{}, {"posterior": "point", "decoder_noise": 0.01}, {"epsilon": 0.5}]
)
def test_a_run_generates_from_any_subset(options: dict, tmp_path) -> None:
    small = {
        "latent": 2,
        "networks": {"a": "mlp-small", "b": "mlp-small"},
        "epochs": 20,
        "lr": 3e-3,
    }
    small |= {"denoiser": {"width": 32, "depth": 1}, "progress": False}
    run = fit("sbm", data(2000, holes=not options), out=tmp_path / "run", **small, **options)
    assert list(run.info["stages"]) == ["autoencoders", "frame", "prior"]
    model, test = run.model, data(2000).test.batch(torch.arange(100))
    assert model.prior.ready
    z, report = model.draw(test.only(["a"]), n=3)
    out = model.decode(z)
    assert out["b"].shape == (3, 100, 4) and report.calls == 30
    assert model.generate(n=7)["a"].shape == (7, 1, 3)
    right = (out["b"].mean(0) - test.x["b"]).square().mean()
    assert (
        right < 0.6 * (test.x["b"].roll(1, 0) - test.x["b"]).square().mean()
    )  # it knows whose b it is
    if options.get("epsilon"):
        figures = run.info["stages"]["frame"]["figures"]
        assert 0 < sum(figures["kept"].values()) <= 4 and len(figures["spectra"]["a"]) == 2
    again = load(tmp_path / "run").model
    for m, seed in (("a", 0), ("b", 1)):
        torch.manual_seed(seed)
        first = model.generate(test.only([m]))
        torch.manual_seed(seed)
        torch.testing.assert_close(again.generate(test.only([m])), first)


def test_what_is_no_density_is_not_weighed_by() -> None:
    """Points, denoisers without masks, other conditionings and random traces have no importance
    weights; else log p(x) of a linear model is found.
    """
    from polymodal.metrics.likelihood import NoDensityError, importance_log_likelihood

    small = {
        "latent": 2,
        "networks": {"a": "linear", "b": "linear"},
        "denoiser": {"width": 64, "depth": 2},
    }
    small |= {
        "epochs": 30,
        "lr": 3e-3,
        "progress": False,
        "training": {"stages": {"prior": {"epochs": 60}}},
    }
    splits = data(4000)
    run = fit("sbm", splits, **small)
    test, model = splits.test.batch(torch.arange(30)), run.model
    x = torch.cat([splits.train.batch(torch.arange(3800)).x[m] for m in ("a", "b")], -1)
    law = MultivariateNormal(x.mean(0), x.T.cov())
    whole = importance_log_likelihood(model, test, 30).mean()
    assert whole == pytest.approx(
        float(law.log_prob(torch.cat([test.x["a"], test.x["b"]], -1)).mean()), abs=1.0
    )
    given = importance_log_likelihood(model, test.only(["a"]), 30).mean()
    only = MultivariateNormal(law.mean[:3], law.covariance_matrix[:3, :3])
    assert given == pytest.approx(float(only.log_prob(test.x["a"]).mean()), abs=1.0)
    score = model.prior.fitted
    score.encode_means = True
    with pytest.raises(NoDensityError):
        importance_log_likelihood(model, test.only(["a"]), 5)
    score.encode_means, score.sampler = False, Diffusion("replacement")
    with pytest.raises(NoDensityError):
        importance_log_likelihood(model, test.only(["a"]), 5)
    score.training_masks = replace(score.training_masks, high=4.0)
    with pytest.raises(NoDensityError):
        importance_log_likelihood(model, test, 5)


def test_any_method_may_have_a_diffusion_prior() -> None:
    """Joint samples of z then follow the aggregate posterior, which is not N(0, I)."""
    small = {"latent": 2, "networks": {"a": "mlp-small", "b": "mlp-small"}}
    run = fit(
        "mopoe",
        data(2000),
        epochs=15,
        lr=3e-3,
        progress=False,
        fitted_prior="diffusion",
        beta=0.1,
        **small,
    )
    assert list(run.info["stages"]) == ["all", "frame", "prior"]
    drawn, every = run.model.prior().sample((600,)), data(2000).train.batch(torch.arange(1400))
    z = run.model.posterior(every).sample()
    assert (drawn.T.cov() - z.T.cov()).norm() / z.T.cov().norm() < 0.25
    assert torch.isfinite(run.model.prior().log_prob(z[:5])).all()


def test_score_options_are_named_when_wrong() -> None:
    for options, words in (
        ({"sampler": {"name": "diffuson"}}, "Did you mean diffusion"),
        (
            {"sampler": {"step": 3}},
            "no setting method.sampler.step. Did you mean steps",
        ),
        ({"sampler": {"steps": "many"}}, "steps must be a whole number of at least 1, got 'many'"),
        ({"sampler": {"steps": 2.5}}, "steps must be a whole number of at least 1, got 2.5"),
        ({"sampler": {"weight": math.nan}}, "weight must be a number, got nan"),
        ({"sampler": {"high": math.inf}}, "high must be a number, got inf"),
        ({"denoiser": {"width": -3}}, "width must be a whole number of at least 1, got -3"),
        (
            {"denoiser": {"widht": "x"}},
            "no setting denoiser.widht. Did you mean denoiser.width",
        ),
        (
            {"denoiser": {"trunks": "mlp"}},
            "no setting denoiser.trunks. Did you mean denoiser.trunk",
        ),
        ({"denoiser": {"sizes": [3]}}, "no setting denoiser.sizes"),
        (
            {"denoiser": {"depth": "x"}},
            "denoiser.depth must be a whole number of at least 1, got 'x'",
        ),
        (
            {"denoiser": {"trunk": "transformer", "heads": 3}},
            "multiple of its heads, got 256 and 3",
        ),
        (
            {"training_masks": {"foo": 1}},
            "no setting training_masks.foo. There are: conditional, joint",
        ),
        ({"training_masks": {"vp": [0.1, math.inf]}}, r"vp\[1\] must be a number, got inf"),
        ({"sampler": {"vp": [math.nan, 20]}}, r"vp\[0\] must be a number, got nan"),
        ({"training_masks": {"log_mean": math.nan}}, "log_mean must be a number, got nan"),
        ({"posterior": "foo"}, "posterior must be one of normal, point, laplace, got 'foo'"),
        ({"sampler": ["x"]}, "sampler must be a mapping"),
        ({"training_masks": {"vp": 3}}, "training_masks.vp must be"),
        ({"training_masks": {"vp": [1, -5]}}, "two betas|betas of a VP process"),
        ({"denoiser": {"trunk": "unet"}}, "one of mlp, transformer"),
        ({"training_masks": {"vp": [1]}}, "two betas|betas of a VP process"),
        ({"sampler": {"eta": 1.5}}, "0 <= eta <= 1"),
    ):
        with pytest.raises(ValueError, match=words):
            fit("sbm", data(), **options)
    assert diffusion_prior({"a": 2, "b": 1}, None, Diffusion("energy")).energies is not None
