"""The fast computation of masked autoregressive maps against zuko's, which holds their weights."""

import pytest
import torch

from polymodal.batch import Modality
from polymodal.distributions.normal import DiagNormal
from polymodal.distributions.products import Product
from polymodal.methods.jnf import jnf, jnf_dcca
from polymodal.networks.flows import FLOWS, Flow, MaskedAffine, zuko
from polymodal.priors import FlowPrior, StandardNormal

D, FEATURES, SIZE = 5, 13, 4


@pytest.fixture(params=[True, False], ids=["conditional", "alone"])
def pair(request):
    """The same flow given the same h, computed here and by zuko."""
    torch.manual_seed(0)
    flow = Flow(D, FEATURES, "maf", 3, (17, 6, 11), conditional=request.param).double()
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=0.4)
    h = torch.randn(SIZE, FEATURES, dtype=torch.float64)
    loc, log_variance = h[:, : 2 * D].chunk(2, -1)
    base = DiagNormal(loc, (0.5 * log_variance).exp())
    theirs = zuko.distributions.NormalizingFlow(flow.maps(h if request.param else None), base)
    ours = flow(h)
    assert isinstance(ours.transform, MaskedAffine)
    return flow, ours, theirs


def test_density_and_all_gradients_are_the_librarys(pair) -> None:
    flow, ours, theirs = pair
    z = torch.randn(3, SIZE, D, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z), rtol=1e-12, atol=1e-12)
    wanted = [z, *flow.parameters()]
    gradients = [torch.autograd.grad(q.log_prob(z).sum(), wanted) for q in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_both_inverses_are_the_librarys(pair, leading: tuple[int, ...], monkeypatch) -> None:
    monkeypatch.setattr("polymodal.networks.masked_affine.ROWS", 10)  # in several parts
    _, ours, theirs = pair
    y = torch.randn(*leading, SIZE, D, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.transform.inv(y)
        torch.testing.assert_close(ours.transform.inv(y), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.transform.inv(y), expected, rtol=1e-10, atol=1e-10)


def test_draws_keep_their_gradient(pair) -> None:
    flow, ours, _ = pair
    (gradient,) = torch.autograd.grad(
        ours.rsample((2,)).square().sum(), [flow.maps.transforms[0].hyper[0].bias]
    )
    assert gradient.abs().sum() > 0


def test_one_dimension_has_no_masked_map() -> None:
    torch.manual_seed(0)
    q = Flow(1, 2, "maf", 2, (8,))(torch.randn(3, 2))
    assert q.log_prob(q.sample((6,))).shape == (6, 3)


def bounded(
    dim: int = D, tail_variance: float | None = 1.5, std: float = 0.4
) -> tuple[Flow, torch.Tensor]:
    """A flow of scales up to 3 with coarse weights, and features whose base is very wide where
    nothing bounds it.
    """
    torch.manual_seed(0)
    flow = Flow(
        dim, 2 * dim + 3, "maf", 2, (17, 6, 11), max_scale=3.0, tail_variance=tail_variance
    ).double()
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=std)
    h = torch.randn(SIZE, 2 * dim + 3, dtype=torch.float64)
    h[:, dim : 2 * dim] += 4
    return flow, h


def test_bounded_flows_invert_and_know_their_jacobian() -> None:
    flow, h = bounded()
    transform, z = flow(h).transform, 4 * torch.randn(50, SIZE, D, dtype=torch.float64)
    y, log_det = transform.call_and_ladj(z)
    torch.testing.assert_close(transform.inv(y), z, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(transform.inv(y), z, rtol=1e-9, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda x: transform(x).sum((0, 1)), z[:1])[
        :, 0
    ].transpose(0, 1)
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
    assert 0 < log_det.min() and log_det.max() < 2 * D * torch.tensor(3.0).log()


def test_a_bounded_flow_integrates_to_one() -> None:
    flow, h = bounded(dim=2)
    line = torch.linspace(-9, 9, 361, dtype=torch.float64)
    z = torch.cartesian_prod(line, line).unsqueeze(1).expand(-1, SIZE, -1)
    mass = flow(h).log_prob(z).exp().sum(0) * (line[1] - line[0]) ** 2
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-4, atol=0)


def test_products_of_bounded_flows_vanish_far_away_and_others_do_not() -> None:
    """log q <= const |z| - |z|^2 / (2 tail_variance): for tail_variance < n / (n-1), prod q_m /
    p^(n-1) falls like a normal.
    """
    rays = 1e7 * torch.nn.functional.normalize(torch.randn(4000, 1, D, dtype=torch.float64), dim=-1)
    prior = StandardNormal(D)()

    def steepest_growth(tail_variance: float | None, n: int) -> float:
        """The largest log product / |z|^2 on a sphere, and where the experts' maps take a sphere
        back.
        """
        flow, h = bounded(tail_variance=tail_variance, std=2.0)
        experts = [flow(h[i].expand(1, -1)) for i in range(n)]
        z = torch.cat([rays, *(q.transform.inv(rays) for q in experts)])
        return (
            (Product(experts, prior, lambda *_: None).log_prob(z) / z.square().sum(-1)).max().item()
        )

    for tail_variance in (0.5, 1.4):
        assert (
            -0.55 / tail_variance < steepest_growth(tail_variance, 1) < -0.5 / tail_variance + 1e-3
        )
    assert steepest_growth(1.4, 2) < -1 / 1.4 + 0.5 + 1e-3
    assert steepest_growth(1.4, 3) < -1.5 / 1.4 + 1 + 1e-3
    assert steepest_growth(None, 2) > 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"tail_variance": 0.0},
        {"tail_variance": 1.0, "kind": "coupling"},
        {"tail_variance": 1.0, "dim": 1},
    ],
)
def test_a_bound_that_cannot_be_kept_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="tail_variance"):
        Flow(**{"dim": 2, "features": 4} | wrong)


@pytest.mark.parametrize("method", [jnf, jnf_dcca])
def test_methods_hand_the_bound_to_every_expert(method) -> None:
    modalities = [Modality("a", (3,)), Modality("b", (3,))]
    model = method(modalities, latent=2, flow={"tail_variance": 1.3}).model
    assert [expert.head.tail_variance for expert in model.posterior.experts.values()] == [1.3, 1.3]


@pytest.mark.parametrize(("kind", "dim"), [("coupling", 3), ("spline", 3), ("maf", 1)])
@pytest.mark.parametrize("bound", [{"max_scale": 3.0}, {"tail_variance": 1.2}])
def test_bounds_that_a_flow_cannot_keep_are_refused(kind: str, dim: int, bound: dict) -> None:
    with pytest.raises(ValueError, match="bound only flows of kind 'maf' in two or more"):
        Flow(dim, 2 * dim, kind, **bound)
    assert Flow(dim, 2 * dim, kind).forward(torch.randn(2, 2 * dim)).batch_shape == (2,)


def test_a_prior_of_masked_maps_draws_single_points() -> None:
    """Without a batch, (D,): the draw is the inverse of what the maps say."""
    p = FlowPrior(3, "maf")()
    z = p.sample()
    assert z.shape == (3,) and p.sample((4,)).shape == (4, 3)
    with torch.no_grad():
        base = p.transform(z)
        torch.testing.assert_close(p.transform.inv(base), z)


@pytest.mark.parametrize("kind", list(FLOWS))
@pytest.mark.parametrize("conditional", [True, False])
def test_a_flow_of_no_maps_is_its_base(kind: str, conditional: bool) -> None:
    h = torch.randn(5, 7)
    q = Flow(3, 7, kind, transforms=0, conditional=conditional)(h)
    base = DiagNormal(h[:, :3], (0.5 * h[:, 3:6]).exp())
    z = torch.randn(4, 5, 3)
    torch.testing.assert_close(q.log_prob(z), base.log_prob(z))
    assert isinstance(q, DiagNormal) and q.rsample((2,)).shape == (2, 5, 3)
