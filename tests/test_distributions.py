"""Densities integrate to one, products and mixtures are what they say, absent experts change
nothing.
"""

import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    kl_divergence,
)

from polymodal.distributions.divergences import detach, divergence
from polymodal.distributions.mixture import Joint, Mixture, Proposal, choose
from polymodal.distributions.normal import DiagLaplace, DiagNormal, product
from polymodal.distributions.products import Product
from polymodal.distributions.sampled import Sampled, report_of
from polymodal.networks.augment import Dropout, RandomShift
from polymodal.networks.flows import FLOWS, Flow
from polymodal.rng import noise, own_random_state, seed_all, shard
from polymodal.sampling import ParticleReport

pytestmark = pytest.mark.usefixtures("double")


def normal(size: int = 3, dim: int = 2, narrow: float = 0.3) -> DiagNormal:
    return DiagNormal(torch.randn(size, dim), narrow + 0.4 * torch.rand(size, dim))


def grid(reach: float = 9.0, n: int = 201) -> tuple[torch.Tensor, float]:
    """(n^2, 3, 2) points of a square grid in the plane and the area that each stands for."""
    line = torch.linspace(-reach, reach, n)
    return torch.cartesian_prod(line, line).unsqueeze(1).expand(-1, 3, -1), float(
        (line[1] - line[0]) ** 2
    )


def flow(kind: str) -> object:
    q = Flow(2, 6, kind, hidden=(16,))
    for p in q.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return q(torch.randn(3, 6).clamp(-1, 1))


NORMALISED = {
    "normal": lambda: normal(),
    "laplace": lambda: DiagLaplace(torch.randn(3, 2), torch.full((3, 2), 0.5)),
    "mixture": lambda: Mixture(
        [normal(), normal()], torch.tensor([[1.0, 0.0], [0.2, 0.8], [3.0, 3.0]])
    ),
    "joint": lambda: Joint(normal(dim=1), normal(dim=1)),
    "product": lambda: product([normal(), normal()]),
    **{f"flow-{kind}": lambda kind=kind: flow(kind) for kind in FLOWS},
}


@pytest.mark.parametrize("name", NORMALISED)
def test_densities_integrate_to_one_and_fit_their_samples(name: str) -> None:
    q = NORMALISED[name]()
    points, area = grid()
    with torch.no_grad():
        density = q.log_prob(points).exp()
        torch.testing.assert_close(density.sum(0) * area, torch.ones(3), atol=2e-3, rtol=0)
        mean = (points * density.unsqueeze(-1)).sum(0) * area
        second = (points.square() * density.unsqueeze(-1)).sum(0) * area
        draws = q.sample((40_000,))
    tolerance = 5 * (second - mean.square()).sqrt().max() / 200
    assert (draws.mean(0) - mean).abs().max() < tolerance
    assert (draws.square().mean(0) - second).abs().max() < 5 * draws.square().std(0).max() / 200


@pytest.mark.parametrize("kind", FLOWS)
def test_flows_invert(kind: str) -> None:
    torch.manual_seed(1)
    q = flow(kind)
    z = q.base.sample((50,))
    there = q.transform.inv(z)
    torch.testing.assert_close(q.transform(there), z, atol=1e-6, rtol=1e-6)


def test_product_is_the_normalised_product_and_absent_experts_have_no_precision() -> None:
    a, b, c = normal(), normal(), normal()
    points, area = grid()
    log = a.log_prob(points) + b.log_prob(points)
    log = log - torch.logsumexp(log, 0) - math.log(area)
    torch.testing.assert_close(product([a, b]).log_prob(points), log, atol=1e-6, rtol=1e-6)
    here = torch.tensor([True, False, True])
    mixed = product(
        [a, b, c], [torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool), here]
    )
    torch.testing.assert_close(mixed.loc[1], product([a, b]).loc[1])
    torch.testing.assert_close(mixed.scale[[0, 2]], product([a, b, c]).scale[[0, 2]])


@pytest.mark.parametrize("n", [2, 3, 4])
def test_product_over_the_prior_takes_it_out_n_minus_one_times(n: int) -> None:
    """prod q_m / p^(n-1), seed paper eq. (12); with one power for every n, its eq. (21), this is
    red for n > 2.
    """
    prior = DiagNormal(torch.zeros(2), torch.ones(2))
    experts = [normal() for _ in range(n)]
    points, area = grid()
    log = sum(q.log_prob(points) for q in experts) - (n - 1) * prior.log_prob(points)
    log = log - torch.logsumexp(log, 0) - math.log(area)
    torch.testing.assert_close(
        product(experts, over=prior).log_prob(points), log, atol=1e-6, rtol=1e-6
    )


def test_product_over_the_prior_is_the_prior_where_nothing_is_present_and_never_wider() -> None:
    prior = DiagNormal(torch.full((2,), 0.5), torch.full((2,), 1.5))
    wide = DiagNormal(torch.randn(3, 2), torch.full((3, 2), 4.0))
    none = torch.zeros(3, dtype=torch.bool)
    empty = product([normal(), wide], [none, none], over=prior)
    torch.testing.assert_close(empty.loc, prior.loc.expand(3, 2))
    torch.testing.assert_close(empty.scale, prior.scale.expand(3, 2))
    assert (product([wide, wide], over=prior).scale <= prior.scale + 1e-12).all()


def test_a_mixture_of_one_component_is_that_component() -> None:
    q, other = normal(), normal()
    points = torch.randn(7, 3, 2)
    for mixture in (Mixture([q]), Mixture([q, other], torch.tensor([1.0, 0.0]))):
        torch.testing.assert_close(mixture.log_prob(points), q.log_prob(points))
        torch.testing.assert_close(mixture.mean, q.mean)
        torch.testing.assert_close(divergence(mixture, other, points[0]), kl_divergence(q, other))


def test_a_mixture_draws_by_weight_and_never_from_what_is_absent() -> None:
    q = Mixture(
        [DiagNormal(torch.full((2, 1), v), torch.full((2, 1), 0.01)) for v in (-1.0, 0.0, 1.0)],
        torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]]),
    )
    z = q.sample((20_000,)).squeeze(-1)
    assert (z[:, 1] < -0.9).all() and (z[:, 0] > -0.5).all()
    assert abs((z[:, 0] > 0.5).double().mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 20_000)


def test_divergence_is_exact_where_known_and_the_log_ratio_elsewhere() -> None:
    q, p, z = normal(), normal(), torch.randn(3, 2)
    torch.testing.assert_close(divergence(q, p, z), kl_divergence(q, p))
    f = flow("maf")
    torch.testing.assert_close(divergence(q, f, z), q.log_prob(z) - f.log_prob(z))
    a, b = Joint(normal(dim=1), normal(dim=1)), Joint(normal(dim=1), normal(dim=1))
    parts = sum(kl_divergence(s, t) for s, t in zip(a.parts, b.parts, strict=True))
    torch.testing.assert_close(divergence(a, b, z), parts)


def test_divergence_of_a_mixture_bounds_its_divergence() -> None:
    q, p = Mixture([normal(), normal(), normal()]), normal()
    points, area = grid()
    log = q.log_prob(points)
    exact = (log.exp() * (log - p.log_prob(points)) * area).sum(0)
    assert (divergence(q, p, torch.zeros(3, 2)) >= exact - 1e-6).all()


def test_proposal_draws_from_one_and_has_the_density_of_the_other() -> None:
    draw, density, points = normal(), normal(), torch.randn(5, 3, 2)
    q = Proposal(draw, density)
    torch.testing.assert_close(q.log_prob(points), density.log_prob(points))
    assert (q.sample((20_000,)).mean(0) - draw.mean).abs().max() < 0.03


def test_detach_keeps_values_and_drops_gradients() -> None:
    loc = torch.randn(3, 2, requires_grad=True)
    q = Mixture([DiagNormal(loc, torch.ones(3, 2)), DiagNormal(2 * loc, torch.ones(3, 2))])
    for part in (q, Joint(q, q), Proposal(q, q)):
        z = torch.randn(3, part.event_shape[0])
        assert part.log_prob(z).requires_grad and not detach(part).log_prob(z).requires_grad
        torch.testing.assert_close(detach(part).log_prob(z), part.log_prob(z).detach())


@pytest.mark.parametrize("n", [2, 3, 4])
def test_product_density_has_the_power_of_eq_12_and_counts_only_who_is_present(n: int) -> None:
    prior, z = DiagNormal(torch.zeros(2), torch.ones(2)), torch.randn(5, 3, 2)
    experts = [normal() for _ in range(n)]
    full = sum(q.log_prob(z) for q in experts) - (n - 1) * prior.log_prob(z)
    torch.testing.assert_close(Product(experts, prior, None).log_prob(z), full)
    here = torch.rand(n, 3) > 0.5
    here[:, 0], here[:, 1] = False, True
    log = Product(experts, prior, None, list(here)).log_prob(z)
    torch.testing.assert_close(log[:, 0], prior.log_prob(z)[:, 0])
    torch.testing.assert_close(log[:, 1], full[:, 1])


def test_product_starts_at_the_experts_that_are_present() -> None:
    far = [DiagNormal(torch.full((2, 1), v), torch.full((2, 1), 0.1)) for v in (-50.0, 50.0)]
    prior = DiagNormal(torch.zeros(1), torch.ones(1))
    z = (
        Product(far, prior, None, [torch.tensor([False, False]), torch.tensor([True, False])])
        .start()
        .sample((500,))
    )
    assert (z[:, 0] > 40).all() and z[:, 1].abs().max() < 6


def test_two_shards_together_draw_what_one_process_draws() -> None:
    q = DiagNormal(torch.zeros(4, 3), torch.ones(4, 3))
    torch.manual_seed(3)
    whole = q.rsample((5,))
    halves = []
    for rank in (0, 1):
        torch.manual_seed(3)
        with shard(rank, 2):
            halves.append(DiagNormal(torch.zeros(2, 3), torch.ones(2, 3)).rsample((5,)))
    torch.testing.assert_close(torch.cat(halves, dim=-2), whole)
    torch.manual_seed(3)
    torch.testing.assert_close(noise(whole, (5, 4, 3)), whole)


def test_standardised_flow_is_multivariate_normal_when_its_maps_are_linear() -> None:
    """A MAF whose networks ignore z is an affine map of its base: its density has a closed form."""
    q = Flow(2, 4, "maf", transforms=1, hidden=(8,), conditional=False)
    for p in q.parameters():
        torch.nn.init.zeros_(p)
    h = torch.tensor([[0.3, -0.2, 0.5, -1.0]])
    z = torch.randn(10, 1, 2)
    exact = MultivariateNormal(h[:, :2], h[:, 2:].exp().diag_embed()).log_prob(z)
    torch.testing.assert_close(q(h).log_prob(z), exact, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("max_scale", [2.0, 5.0])
def test_a_bounded_flow_is_nowhere_steeper_and_still_inverts(max_scale: float) -> None:
    torch.manual_seed(0)
    f = Flow(2, 6, "maf", hidden=(16,), max_scale=max_scale)
    for p in f.parameters():
        torch.nn.init.normal_(p, std=3.0)
    q, z = f(torch.randn(3, 6)), 10 * torch.randn(50, 3, 2)
    steepness = lambda q: q.transform.log_abs_det_jacobian(z, q.transform(z)).abs().max()
    most = 2 * 2 * math.log(max_scale)  # two maps of two dimensions
    assert 0.3 * most < steepness(q) <= most
    h, f.max_scale = torch.randn(3, 6), 1000.0
    assert steepness(f(h)) > most
    torch.testing.assert_close(q.transform(q.transform.inv(z)), z, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(q.transform(q.transform.inv(z)), z, atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="above 1"):
        Flow(2, 6, "maf", max_scale=1.0)


def test_product_over_the_prior_of_one_present_expert_is_that_expert_however_wide() -> None:
    """Variances 9 and 1/4 over N(0, 1): the wide expert by itself stays (2, 9); beside the other it
    counts as precision 1, so that 1 + 4 - 1 = 4 is the precision and (1 * 2 + 4 * 1) / 4 the mean.
    """
    wide = DiagNormal(torch.full((3, 1), 2.0), torch.full((3, 1), 3.0))
    narrow = DiagNormal(torch.ones(3, 1), torch.full((3, 1), 0.5))
    prior = DiagNormal(torch.zeros(1), torch.ones(1))
    here = torch.ones(3, dtype=torch.bool)
    first, second = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    q = product([wide, narrow], [first, second], over=prior)
    torch.testing.assert_close(q.loc, torch.tensor([[1.5], [2.0], [1.0]]))
    torch.testing.assert_close(q.variance, torch.tensor([[0.25], [9.0], [0.25]]))
    for one in (product([wide], over=prior), product([wide], [here], over=prior)):
        torch.testing.assert_close(one.loc, wide.loc)
        torch.testing.assert_close(one.variance, wide.variance)
    both = product([wide, narrow], over=prior)
    torch.testing.assert_close(both.loc, torch.full((3, 1), 1.5))
    torch.testing.assert_close(both.variance, torch.full((3, 1), 0.25))


def test_product_over_the_prior_bounds_only_the_coordinates_that_are_wider() -> None:
    """Two experts N(1, diag(4, 1/2)) over N(0, I): precisions 1 + 1 - 1 and 2 + 2 - 1."""
    variance = torch.tensor([[4.0, 0.5]])
    expert = DiagNormal(torch.ones(1, 2), variance.sqrt())
    q = product([expert, expert], over=DiagNormal(torch.zeros(2), torch.ones(2)))
    torch.testing.assert_close(q.variance, torch.tensor([[1.0, 1 / 3]]))
    torch.testing.assert_close(q.loc, torch.tensor([[2.0, 4 / 3]]))


def test_product_draws_exactly_where_at_most_one_expert_is_present() -> None:
    """A sampler that answers 100 everywhere is heard only where two experts are present: the others
    are draws of N(-3, 0.1^2), N(5, 0.2^2) and the prior N(0, 1).
    """

    def sampler(log_prob, start, start_log_prob, n):
        return torch.full((n, 4, 1), 100.0), "report"

    means, scales, n = torch.tensor([-3.0, 5.0, 0.0]), torch.tensor([0.1, 0.2, 1.0]), 20_000
    experts = [
        DiagNormal(torch.full((4, 1), means[i]), torch.full((4, 1), scales[i])) for i in (0, 1)
    ]
    prior = DiagNormal(torch.zeros(1), torch.ones(1))
    present = [torch.tensor([True, False, False, True]), torch.tensor([False, True, False, True])]
    q = Product(experts, prior, sampler, present)
    z = q.sample((n // 2, 2))
    assert z.shape == (n // 2, 2, 4, 1) and q.report == "report"
    z = z.reshape(n, 4)
    assert (z[:, 3] == 100).all()
    assert ((z[:, :3].mean(0) - means).abs() < 5 * scales / math.sqrt(n)).all()
    assert ((z[:, :3].std(0) / scales - 1).abs() < 5 / math.sqrt(2 * n)).all()
    assert (Product(experts, prior, sampler).sample((3,)) == 100).all()


def test_divergence_from_a_prior_without_a_closed_form_is_that_of_the_whole_mixture() -> None:
    """q and p are the same mixture: the divergence is 0, at every z. (Components at draws of the
    whole mixture would give far less than 0.)
    """
    low, high = (DiagNormal(torch.full((3, 2), m), torch.ones(3, 2)) for m in (-4.0, 4.0))
    q = Mixture([low, high], torch.tensor([0.3, 0.7]))
    both = DiagNormal(torch.tensor([[-4.0, -4.0], [4.0, 4.0]]), torch.ones(2, 2))
    p = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), both, validate_args=False)
    zero = torch.zeros(3)
    for _ in range(20):
        torch.testing.assert_close(divergence(q, p, q.rsample()), zero, atol=1e-9, rtol=0)
    one_closed = Mixture([low, flow("maf")])
    z = one_closed.rsample()
    expected = one_closed.log_prob(z) - low.log_prob(z)
    torch.testing.assert_close(divergence(one_closed, low, z), expected)
    pair, origin = Joint(low, high), Joint(high, low)
    torch.testing.assert_close(
        divergence(Mixture([pair, pair]), origin, pair.rsample()), torch.full((3,), 128.0)
    )


def test_a_mixture_of_mixtures_is_a_mixture_and_keeps_the_gradient_of_its_weights() -> None:
    a, b, c = normal(), normal(), normal()
    logits = torch.zeros(3, 2, requires_grad=True)
    inner = Mixture([a, b], logits.exp() * torch.tensor([1.0, 3.0]))
    here = torch.tensor([True, False, True])
    q = choose(here, inner, c)
    assert q.components == [a, b, c] and q.weights.requires_grad
    expected = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0], [0.25, 0.75, 0.0]])
    torch.testing.assert_close(q.weights.detach(), expected)
    z = torch.randn(3, 2)
    log = torch.where(here, inner.log_prob(z), c.log_prob(z))
    torch.testing.assert_close(q.log_prob(z), log)
    shared = Mixture([Mixture([a, b]), c], torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(shared.weights, torch.tensor([0.125, 0.125, 0.75]))


class Counted(Sampled):
    """Zeros, drawn by a sampler that reports how many it drew."""

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:
        shape = [*sample_shape, 3, 2]
        self.report = ParticleReport(items=math.prod(shape[:-1]))
        return torch.zeros(shape)


def test_what_holds_a_part_that_only_samples_can_be_drawn_and_has_its_report() -> None:
    for make in (
        lambda q: Joint(normal(dim=1), q),
        lambda q: Mixture([q, normal()]),
        lambda q: Joint(Mixture([normal(), q]), normal()),
        lambda q: Proposal(q, normal()),
    ):
        part = Counted(torch.Size([3]), torch.Size([2]), validate_args=False)
        q = make(part)
        assert not q.has_rsample and report_of(q) is None
        assert q.sample((5,)).shape == (5, 3, *q.event_shape)
        assert report_of(q) is part.report and part.report.items == 15
    assert Joint(normal(), Mixture([normal()])).has_rsample


def test_laplace_draws_are_torchs_and_shared_between_processes() -> None:
    loc, scale = torch.randn(6, 2), 0.1 + torch.rand(6, 2)
    q, theirs = DiagLaplace(loc, scale), Laplace(loc, scale)
    draws = []
    for draw in (q.rsample, q.sample, theirs.rsample):
        torch.manual_seed(1)
        draws.append(draw((4,)))
    assert torch.equal(draws[0], draws[2]) and torch.equal(draws[1], draws[2])
    parts = []
    for rank in range(2):
        torch.manual_seed(1)
        rows = slice(3 * rank, 3 * rank + 3)
        with shard(rank, 2):
            parts.append(DiagLaplace(loc[rows], scale[rows]).rsample((4,)))
    assert torch.equal(torch.cat(parts, 1), draws[0])


@pytest.mark.parametrize("make", [RandomShift, Dropout], ids=["shift", "dropout"])
def test_augmentation_is_shared_between_processes(make: type) -> None:
    """Two processes move or drop what one would, and no two rows alike."""
    images, augment = torch.rand(8, 3, 6, 6) + 1, make(2 if make is RandomShift else 0.4)

    def augmented(rows: slice, rank: int, world: int) -> torch.Tensor:
        torch.manual_seed(0)
        with shard(rank, world):
            return augment(images[rows])

    whole = augmented(slice(None), 0, 1)
    halves = [augmented(slice(4 * rank, 4 * rank + 4), rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole) and not torch.equal(whole, images)
    assert torch.equal(augment.eval()(images), images)


def test_dropout_keeps_the_mean_and_its_share() -> None:
    x = torch.ones(2000, 50)
    dropped = Dropout(0.4)(x)
    assert (dropped == 0).double().mean() == pytest.approx(0.4, abs=0.005)
    torch.testing.assert_close(dropped[dropped > 0].unique(), torch.tensor([1 / 0.6]))


@pytest.mark.parametrize("current", [0, 1])
def test_random_states_are_those_of_the_device_that_is_meant(
    current: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two GPUs, neither of which exists here: seeds and states go to the second."""
    touched, chosen = [], [current]

    class On:
        def __init__(self, device: torch.device) -> None:
            self.index = device.index

        def __enter__(self) -> None:
            chosen.append(self.index)

        def __exit__(self, *_: object) -> None:
            chosen.pop()

    monkeypatch.setattr(torch.cuda, "device", On)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1])
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: touched.append(chosen[-1]))
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: touched.append(device.index)
    )
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda device: touched.append(torch.device(device).index)
    )
    device = torch.device("cuda:1")
    with own_random_state(device):
        seed_all(device, 0)
    assert touched == [1, 1, 1]


def test_the_state_of_a_mac_gpu_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ["theirs"]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state[0])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda old: state.__setitem__(0, old))
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: state.__setitem__(0, seed))
    with own_random_state(torch.device("mps")):
        seed_all(torch.device("mps"), 0)
        assert state != ["theirs"]
    assert state == ["theirs"]
