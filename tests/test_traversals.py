"""Latent traversals against the linear-Gaussian model, whose shares are known in closed form."""

import pytest
import torch
from torch import Tensor

from polymodal.analysis.traversals import attribute, traversal_values, traverse
from polymodal.batch import Modality
from polymodal.data import Dataset, LinearGaussian
from polymodal.methods import METHODS
from polymodal.metrics import attribute_latents
from polymodal.model import MultimodalVAE
from polymodal.priors import StandardNormal
from test_exact import LinearDecoder
from test_metrics import Posterior

pytestmark = pytest.mark.usefixtures("double")


def law() -> LinearGaussian:
    """Dimension 0 moves both modalities, 1 only the first, 2 only the second, 3 none."""
    drawn = LinearGaussian.draw(dims={"a": 3, "b": 5}, latent=4, noise=0.5, seed=2)
    read = {"a": torch.tensor([1.0, 1, 0, 0]), "b": torch.tensor([1.0, 0, 2, 0])}
    return LinearGaussian(
        {m: A * read[m] for m, A in drawn.loading.items()}, drawn.bias, drawn.noise
    )


def total(truth: LinearGaussian, m: str) -> float:
    """The variance of modality m under the law, over all its values."""
    A = truth.loading[m]
    return float(A.square().sum() + len(A) * truth.noise[m] ** 2)


@pytest.mark.parametrize("steps", [2, 9])
def test_the_shares_of_a_linear_model_are_its_loadings(steps: int) -> None:
    """|A_d|^2 Var(z_d) / Var(x_m), whatever the number of steps and the samples."""
    truth, z = law(), 0.5 + torch.randn(20, 4) * torch.tensor([1.0, 2.0, 0.5, 1.0])
    decoders = {m: (lambda v, A=A, b=truth.bias[m]: v @ A.T + b) for m, A in truth.loading.items()}
    variance = {m: total(truth, m) for m in decoders}
    found = attribute(decoders, z, variance, traversal_values(z, steps), chunk=7)
    for m, A in truth.loading.items():
        exact = A.square().sum(0) * z.var(0, correction=0) / variance[m]
        torch.testing.assert_close(found.shares[m], exact)
        assert found.errors[m].max() < 1e-12, "a linear model moves all samples alike"
    assert found.moved() == [("a", "b"), ("a",), ("b",), ()]
    assert found.order("a")[:2] == found.shares["a"].argsort(descending=True)[:2].tolist()
    assert found.order()[-1] == 3


def test_the_attribution_of_a_model_is_that_of_the_law() -> None:
    truth = law()
    decoders = {
        m: LinearDecoder(A, truth.bias[m], truth.noise[m]) for m, A in truth.loading.items()
    }
    model = MultimodalVAE(StandardNormal(4), decoders, Posterior(truth.posterior), truth.modalities)
    data = Dataset(truth.modalities, dict(truth.sample(4000).x))
    found = attribute_latents(model, data, samples=4000, steps=3)
    assert found.z.shape == (4000, 4) and found.values.shape == (3, 4)
    for m, A in truth.loading.items():
        exact = A.square().sum(0) / total(
            truth, m
        )  # draws of exact posteriors have the prior's law
        torch.testing.assert_close(found.shares[m], exact, rtol=0.08, atol=1e-12)
    again = attribute_latents(model, data, samples=4000, steps=3)
    assert torch.equal(found.z, again.z)
    assert attribute_latents(model, data).z.shape == (64, 4)


def test_a_dimension_whose_effect_depends_on_others_has_their_mean_and_an_error() -> None:
    """Of x = z_0 z_1 dimension 0 moves E[z_1^2] Var(z_0)."""
    z = torch.randn(300, 2)
    found = attribute({"a": lambda v: v[..., :1] * v[..., 1:]}, z, {"a": 1.0})
    each = z[:, 1].square() * z[:, 0].var(correction=0)
    torch.testing.assert_close(found.shares["a"][0], each.mean())
    torch.testing.assert_close(found.errors["a"][0], each.std() / 300**0.5)


def test_values_are_evenly_spaced_with_the_moments_of_the_latents() -> None:
    z = torch.randn(50, 3) * 2 + 1
    values = traversal_values(z, 9)
    torch.testing.assert_close(values.mean(0), z.mean(0))
    torch.testing.assert_close(values.var(0, correction=0), z.var(0, correction=0))
    steps = values.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand(8, 3))
    assert (steps > 0).all()
    moved = traverse(z[:4], values, torch.tensor([2, 0, 1, 2]))
    assert moved.shape == (4, 9, 3)
    torch.testing.assert_close(moved[1, :, 0], values[:, 0])
    assert torch.equal(moved[1, :, 1:], z[1, 1:].expand(9, 2)), "the others stay"
    with pytest.raises(ValueError, match="at least two values and two latents, got 1 and 50"):
        traversal_values(z, 1)


def test_a_modality_that_does_not_vary_is_moved_by_nothing() -> None:
    found = attribute({"a": lambda v: v}, torch.randn(5, 2), {"a": 0.0})
    assert found.moved() == [(), ()] and found.shares["a"].tolist() == [0.0, 0.0]


def test_private_latents_move_their_own_modality_only() -> None:
    """z = [u, w_a, w_b]: by the architecture, whatever the weights; images, and missing values."""
    torch.set_default_dtype(torch.float32)
    modalities = [Modality("a", (1, 4, 4)), Modality("b", (3,))]
    model = METHODS["dmvae"](modalities, latent=2, private=1).model.eval()
    tables: dict[str, Tensor] = {m.name: torch.randn(30, *m.shape) for m in modalities}
    data = Dataset(modalities, tables, present={"b": torch.arange(30) % 3 > 0})
    found = attribute_latents(model, data, samples=10)
    assert found.shares["a"][3] == 0 == found.shares["b"][2]
    assert (found.shares["a"][:3] > 0).all() and (found.shares["b"][[0, 1, 3]] > 0).all()
