"""The fast computation of masked autoregressive maps against zuko's own, which holds their weights."""

import pytest
import torch

from polymodal.distributions import DiagNormal
from polymodal.flows import Flow, MaskedAffine, zuko

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
    monkeypatch.setattr("polymodal.flows_masked.ROWS", 10)  # in several parts
    _, ours, theirs = pair
    y = torch.randn(*leading, SIZE, D, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.transform.inv(y)
        torch.testing.assert_close(ours.transform.inv(y), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.transform.inv(y), expected, rtol=1e-10, atol=1e-10)


def test_draws_keep_their_gradient(pair) -> None:
    flow, ours, _ = pair
    (gradient,) = torch.autograd.grad(ours.rsample((2,)).square().sum(), [flow.maps.transforms[0].hyper[0].bias])
    assert gradient.abs().sum() > 0


def test_one_dimension_has_no_masked_map() -> None:
    torch.manual_seed(0)
    q = Flow(1, 2, "maf", 2, (8,))(torch.randn(3, 2))
    assert q.log_prob(q.sample((6,))).shape == (6, 3)
