"""Likelihoods: the densities are torch's, summed over the event, and draws have their moments."""

import math

import pytest
import torch
from torch.distributions import Laplace, Normal

from polymodal.batch import Batch
from polymodal.distributions.likelihoods import IsotropicLaplace, IsotropicNormal
from polymodal.networks.architectures import NETWORKS
from polymodal.networks.layers import UpToImage
from polymodal.networks.modules import JointEncoder

FAMILIES = [(IsotropicNormal, Normal), (IsotropicLaplace, Laplace)]


@pytest.mark.parametrize(("ours", "theirs"), FAMILIES)
def test_log_prob_is_the_sum_over_the_event(ours, theirs) -> None:
    generator = torch.Generator().manual_seed(0)
    loc, x = torch.randn(2, 4, 3, 5, 6, generator=generator, dtype=torch.float64)
    expected = theirs(loc, 0.3).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(ours(loc, 0.3, 3).log_prob(x), expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("ours", "theirs"), FAMILIES)
def test_draws_have_the_moments(ours, theirs) -> None:
    torch.manual_seed(0)
    loc = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    draws = ours(loc, 0.3, 1).sample((200_000,))
    law = theirs(loc, torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(draws.mean(0), loc, atol=0.005, rtol=0)
    torch.testing.assert_close(draws.std(0), law.stddev, atol=0, rtol=0.01)
    deviation = lambda x: (x - loc).abs().mean(0)
    torch.testing.assert_close(
        deviation(draws), deviation(law.sample((200_000,))), atol=0, rtol=0.01
    )


@pytest.mark.parametrize("size", [1, 4, 5])
def test_up_to_image_is_the_transposed_convolution(size: int) -> None:
    torch.manual_seed(0)
    up = UpToImage(6, 3).double()
    x = torch.randn(2, 6, size, size + 1, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 2 * size, 2 * size + 2, dtype=torch.float64)
    wanted = [x, up.conv.weight, up.conv.bias]
    torch.testing.assert_close(up(x), up.conv(x), rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad((f(x) * weights).sum(), wanted) for f in (up, up.conv))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_silu_network_starts_with_signals_of_their_size() -> None:
    """torch's own start gives .02 and .1 here, and a decoder that shows one mean image for hundreds
    of steps.
    """
    torch.manual_seed(0)
    network = NETWORKS["digit-silu"]
    encoder, decoder = network.encoder((3, 28, 28), 64), network.decoder(64, (3, 28, 28))
    with torch.no_grad():
        sizes = encoder(torch.rand(100, 3, 28, 28)).std(), decoder(torch.randn(100, 64)).std()
    assert 0.1 < sizes[0] < 1 and 0.5 < sizes[1] < 1.5
    up = next(layer for layer in decoder if isinstance(layer, torch.nn.ConvTranspose2d))
    assert (
        up.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9 / 4)), rel=0.03)
        and (up.bias == 0).all()
    )


def test_a_joint_encoder_without_a_hidden_layer_adds_up_what_modalities_say() -> None:
    torch.manual_seed(0)
    joint = JointEncoder(
        {m: torch.nn.Linear(3, 4) for m in "ab"}, features={"a": 4, "b": 4}, hidden=0, dim=2
    ).double()
    x = {m: torch.randn(5, 3, dtype=torch.float64) for m in "ab"}
    mean = lambda **given: joint(Batch({**x, **given})).mean
    other = {"a": torch.randn(5, 3, dtype=torch.float64)}
    moved = {"b": torch.randn(5, 3, dtype=torch.float64)}
    torch.testing.assert_close(mean(**other) - mean(), mean(**other, **moved) - mean(**moved))
    assert (mean(**other) - mean()).abs().min() > 0 and mean().shape == (5, 2)
