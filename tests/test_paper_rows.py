"""What rows of benchmarks/papers/rows.yaml say, where no other test does: the papers' networks,
flows, blocks, settings and sizes, and small laws.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from polymodal.batch import Batch, Modality
from polymodal.data import LinearGaussian
from polymodal.data.celeba import ATTRIBUTES
from polymodal.data.digits import match
from polymodal.distributions.likelihoods import IsotropicNormal
from polymodal.distributions.mixture import Joint, Mixture, Proposal
from polymodal.distributions.normal import DiagNormal, product
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE
from polymodal.networks.masked_affine import MaskedAffine
from polymodal.objectives import iwae
from polymodal.priors import JointPrior, StandardNormal
from polymodal.runs.run import build
from polymodal.settings import load_recipe, resolve, to_dict
from polymodal.settings.data import complete

DIGITS = [
    Modality("mnist", (1, 28, 28), link="sigmoid"),
    Modality("svhn", (3, 32, 32), link="sigmoid"),
]
CELEBA = [
    Modality("image", (3, 64, 64), link="sigmoid"),
    Modality("attributes", (40,), "bernoulli"),
]


def built(recipe: str, modalities: list[Modality]) -> Method:
    """The method of a recipe, its weights without values."""
    settings = complete(resolve(load_recipe(recipe)), modalities)
    with torch.device("meta"):
        return build(to_dict(settings), modalities)


def layers(network: nn.Module) -> list[tuple[int, ...]]:
    """(inputs, outputs) of linear layers, (inputs, outputs, kernel, stride) of convolutions."""
    shapes = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            shapes.append((layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            size = (layer.in_channels, layer.out_channels)
            shapes.append((*size, layer.kernel_size[0], layer.stride[0]))
    return shapes


def test_the_networks_of_table_4() -> None:
    """E_1, E_2, D_1, D_2, MLP_j, MLP_1, MLP_2, with a flag for each modality in MLP_j. The last
    convolution of E_2 and the first of D_2, over a whole 4x4 map, are linear layers of 2048. Of 16
    embedding dimensions the 9 used ones are not 0.
    """
    e_1 = [(784, 512), (512, 20)]
    e_2 = [(3, 32, 4, 2), (32, 64, 4, 2), (64, 128, 4, 2), (2048, 20)]
    model = built("mnist-svhn-jnf-dcca", DIGITS).model
    joint, experts = model.posterior.joint, model.posterior.experts
    assert [layers(joint.encoders[m]) for m in ("mnist", "svhn")] == [e_1, e_2]
    assert layers(joint.mix) == [(20 + 20 + 2, 512), (512, 2 * 20)]
    assert layers(model.decoders["mnist"]) == [(20, 512), (512, 784)]
    d_2 = [(20, 2048), (128, 64, 4, 2), (64, 32, 4, 2), (32, 3, 4, 2)]
    assert layers(model.decoders["svhn"]) == d_2
    for m, encoder in (("mnist", e_1), ("svhn", e_2)):
        assert layers(experts[m].embed) == [*encoder[:-1], (encoder[-1][0], 16)]
        assert layers(experts[m].net) == [(16, 512), (512, 512), (512, 512), (512, 2 * 20)]
    alone = built("mnist-svhn-jmvae-two-stage", DIGITS).model.posterior.experts
    assert layers(alone["svhn"].net) == [*e_2[:-1], (2048, 2 * 20)]  # the last layer is doubled


def test_the_networks_of_table_5() -> None:
    """The joint encoder reads 128 and 40 features, other encoders give 64 (twice) or 40."""
    model = built("celeba-jnf-dcca", CELEBA).model
    joint, image = model.posterior.joint, model.posterior.experts["image"]
    head = [(3, 64, 4, 2), (64, 128, 4, 2), (128, 128, 3, 2), (128, 128, 3, 2)]
    blocks = [(128, 128, 3, 1)] * 4
    assert layers(joint.encoders["image"]) == [*head, *blocks, (2048, 128)]
    assert layers(joint.encoders["attributes"]) == [(40, 512), (512, 40)]
    assert layers(joint.mix) == [(168 + 2, 512), (512, 2 * 64)]
    assert layers(image.embed) == [*head, *blocks, (2048, 40)]
    assert layers(image.net) == [(40, 512), (512, 512), (512, 512), (512, 2 * 64)]
    tail = [(128, 128, 5, 2), (128, 64, 5, 2), (64, 3, 4, 2)]
    first = [(64, 2048), (128, 128, 3, 2)]
    assert layers(model.decoders["image"]) == [*first, *blocks, *tail]
    assert layers(model.decoders["attributes"]) == [(64, 512), (512, 40)]


def test_the_flows_of_the_paper() -> None:
    """2 MADE blocks of 3 layers of 128, whose maps do not read x (eq. (8)), in every recipe."""
    for data in ("shapes", "mnist-svhn", "mnist-svhn-fashion", "celeba", "mnist-fashion"):
        for method in ("jnf", "jnf-dcca"):
            options = resolve(load_recipe(f"{data}-{method}")).method.options["flow"]
            assert (options["kind"], options["transforms"]) == ("maf", 2)
            assert tuple(options["hidden"]) == (128, 128, 128) and not options["conditional"]
    flow = built("mnist-svhn-jnf", DIGITS).model.posterior.experts["svhn"].head
    made = [layers(block) for block in flow.maps.transforms]
    one = [(20, 128), (128, 128), (128, 128), (128, 40)]  # no input of x beside the 20 of z
    assert made == [one, one]
    assert isinstance(flow.to_empty(device="cpu")(torch.zeros(1, 40)).transform, MaskedAffine)


def test_the_blocks_of_each_method() -> None:
    """Figure 7, and the order of Algorithm 1."""
    of = {name: built(f"mnist-svhn-{name}", DIGITS) for name in ("jmvae", "jnf", "jnf-dcca")}
    for name, method in of.items():
        posterior = method.model.posterior
        assert isinstance(posterior.joint, nn.Module)
        assert hasattr(posterior.experts["svhn"].head, "maps") == (name != "jmvae")
        assert (posterior.experts["svhn"].embed is not None) == (name == "jnf-dcca")
    stages = {name: [stage.name for stage in method.stages] for name, method in of.items()}
    assert stages["jmvae"] == ["joint"] and stages["jnf"] == ["joint", "surrogates"]
    assert stages["jnf-dcca"] == ["joint", "embeddings", "surrogates"]
    for name in ("mvae", "mmvae", "mmvae-1"):
        method = built(f"mnist-svhn-{name}", DIGITS)
        posterior = method.model.posterior
        assert not hasattr(posterior, "joint") and set(posterior.experts) == {"mnist", "svhn"}
        assert layers(posterior.experts["mnist"].net) == [(784, 512), (512, 2 * 20)]


def test_dcca_doubles_the_parameters_of_the_unimodal_posteriors() -> None:
    """Of MNIST-SVHN. (The paper: no significant increase.)"""
    counts = []
    for name in ("jnf", "jnf-dcca"):
        experts = built(f"mnist-svhn-{name}", DIGITS).model.posterior.experts
        counts.append(sum(p.numel() for p in experts.parameters()))
    assert counts == [833_488, 1_881_072]


def test_recipes_of_the_papers_baselines() -> None:
    """MVAE and MMVAE (Senellart et al. 2023, appendices D.1 to D.3)."""
    for data, epochs, batch, latent, k in (
        ("mnist-svhn", 200, 128, 20, 30),
        ("mnist-svhn-fashion", 200, 128, 20, 30),
        ("celeba", 60, 256, 64, 15),
    ):
        baselines = (("mvae", None, 50), ("mmvae", k, 307.2), ("mmvae-1", 1, 307.2))
        for method, draws, weight in baselines:
            settings = resolve(load_recipe(f"{data}-{method}"))
            training, options = settings.training, settings.method.options
            assert (training.epochs, training.batch * training.accumulate) == (epochs, batch)
            assert training.lr == 1e-3 and options["latent"] == latent
            assert draws is None or options["k"] == draws
            if data == "celeba":
                assert settings.modalities["attributes"]["weight"] == weight
    assert 3 * 64 * 64 / 40 == 307.2 and len(ATTRIBUTES) == 40


# Images of each class in the official files.
MNIST = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
SVHN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
SVHN_TEST = (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)


@pytest.mark.parametrize(
    ("classes", "tuples"),
    [
        ((MNIST, SVHN), 270_340 + 10_000),  # training and validation
        ((MNIST_TEST, SVHN_TEST), 50_000),
        ((MNIST, SVHN, (6000,) * 10), 275_975),
        ((MNIST_TEST, SVHN_TEST, (1000,) * 10), 48_930),
    ],
)
def test_the_sizes_of_the_papers_data(classes: tuple[tuple[int, ...], ...], tuples: int) -> None:
    """Five matchings of the official files."""
    labels = [torch.arange(10).repeat_interleave(torch.tensor(n)) for n in classes]
    rows = match(labels, torch.Generator().manual_seed(0), 5)
    assert {len(r) for r in rows} == {tuples}


def test_an_overconfident_expert_decides_a_product_and_not_a_mixture() -> None:
    """Experts N(0, 1) and N(5, .01^2): the product is at 5, and has no density at 0."""
    one = DiagNormal(torch.zeros(1, 1), torch.ones(1, 1))
    sure = DiagNormal(torch.full((1, 1), 5.0), torch.full((1, 1), 0.01))
    both, mixed, origin = product([one, sure]), Mixture([one, sure]), torch.zeros(1, 1)
    assert both.mean.item() == pytest.approx(5.0, abs=1e-3) and both.stddev.item() < 0.0101
    assert both.log_prob(origin).item() < -1e5
    expected = one.log_prob(origin).item() + torch.tensor(0.5).log().item()
    assert mixed.log_prob(origin).item() == pytest.approx(expected)


class Linear(nn.Module):
    """N(A h, s^2 I): as an expert a DiagNormal, as a decoder a likelihood."""

    def __init__(self, weight: torch.Tensor, scale: float, law: Any) -> None:
        super().__init__()
        self.weight, self.scale, self.law = weight, scale, law

    def forward(self, h: torch.Tensor) -> Any:
        loc = h @ self.weight.T
        if self.law is DiagNormal:
            return DiagNormal(loc, torch.full_like(loc, self.scale))
        return IsotropicNormal(loc, self.scale, 1)


@pytest.mark.usefixtures("double")
def test_the_loss_of_mvae_is_no_bound() -> None:
    """x_m = A z + .01 noise with one latent, exact decoders and exact experts: every ELBO of the
    sum is its evidence, and the sum is above log p(x_a, x_b), since the densities are large.
    """
    loading = torch.full((2, 1), 0.01)
    both = dict.fromkeys("ab", loading)
    law = LinearGaussian(both, {m: torch.zeros(2) for m in both}, dict.fromkeys(both, 0.01))
    x, method = law.sample(200), METHODS["mvae"](law.modalities, latent=1)
    precision = float((loading**2).sum()) / 0.01**2  # of z in p(x_m | z)
    for m in both:
        to_z = loading.T / 0.01**2 / precision
        method.model.posterior.experts[m] = Linear(to_z, precision**-0.5, DiagNormal)
        method.model.decoders[m] = Linear(loading, 0.01, IsotropicNormal)
    objective = -method.stages[0].loss(method.model, x, 1.0).value
    exact = sum(law.log_evidence(x.only(given)) for given in (["a", "b"], ["a"], ["b"]))
    assert objective.mean().item() == pytest.approx(exact.mean().item(), abs=0.5)
    assert ((objective - law.log_evidence(x)) > 0).double().mean() > 0.95


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.5])
def test_dreg_has_the_mean_gradient_of_iwae_where_draws_have_the_density(beta: float) -> None:
    """Of the shift of q(z|x) = N(shift, .7^2) for p(z) = N(0, 1) and p(x|z) = N(z, 1), whatever
    the weight of the divergence; with less noise.
    """
    law = LinearGaussian({"a": torch.ones(1, 1)}, {"a": torch.zeros(1)}, {"a": 1.0})
    decoder = Linear(torch.ones(1, 1), 1.0, IsotropicNormal)
    model = MultimodalVAE(StandardNormal(1), {"a": decoder}, nn.Identity(), law.modalities)
    x, means, errors = Batch({"a": torch.full((20_000, 1), 1.5)}), [], []
    for estimator in ("iwae", "dreg"):
        shift = torch.zeros(20_000, 1, requires_grad=True)
        q = DiagNormal(shift, torch.full((20_000, 1), 0.7))
        loss = iwae(model, x, q, 5, beta=beta, estimator=estimator).value.sum()
        (gradient,) = torch.autograd.grad(loss, shift)
        means.append(gradient.mean().item())
        errors.append(gradient.std().item() / 20_000**0.5)
    assert abs(means[0] - means[1]) < 4 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    assert errors[1] < 0.8 * errors[0] and abs(means[1]) > 20 * errors[1]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_dreg_has_the_mean_gradient_of_iwae_for_auxiliaries(beta: float) -> None:
    """Of the scale s of r(w) = N(0, s^2), from which w is drawn with the weights of its prior; for
    p(x|u, w) = N(u + w, 1).
    """
    law = LinearGaussian({"a": torch.ones(1, 2)}, {"a": torch.zeros(1)}, {"a": 1.0})
    decoder = Linear(torch.ones(1, 2), 1.0, IsotropicNormal)
    prior = JointPrior([StandardNormal(1), StandardNormal(1)])
    model = MultimodalVAE(prior, {"a": decoder}, nn.Identity(), law.modalities)
    x, means, errors = Batch({"a": torch.full((20_000, 1), 1.5)}), [], []
    zero = torch.zeros(20_000, 1)
    for estimator in ("iwae", "dreg"):
        scale = torch.full((20_000, 1), 0.7, requires_grad=True)
        own = Proposal(DiagNormal(zero, scale), prior().parts[1], nuisance=True)
        q = Joint(DiagNormal(zero + 0.5, zero + 0.8), own)
        loss = iwae(model, x, q, 5, beta=beta, estimator=estimator).value.sum()
        (gradient,) = torch.autograd.grad(loss, scale)
        means.append(gradient.mean().item())
        errors.append(gradient.std().item() / 20_000**0.5)
    assert abs(means[0] - means[1]) < 4 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    assert abs(means[0]) > 10 * errors[0]


def test_the_first_stage_of_sbm_is_the_sum_of_the_modalities_elbos() -> None:
    """E log p(x_m|z_m) - KL(q(z_m|x_m) || N(0, I)), of each by itself."""
    modalities = [Modality("a", (3,)), Modality("b", (4,))]
    x = {m.name: torch.randn(6, *m.shape) for m in modalities}
    torch.manual_seed(0)
    method = METHODS["sbm"](modalities, latent=2)
    stage = method.stages[0]
    torch.manual_seed(1)
    loss = stage.loss(method.model, Batch(x), 1.0)
    terms = loss.terms
    gaps = {
        m: 0.5 * (q.scale**2 + q.loc**2 - 1 - 2 * q.scale.log()).sum(-1)
        for m, q in ((m, method.model.posterior.experts[m](x[m])) for m in x)
    }
    elbo = sum(terms[f"log_p_{m}"] - gaps[m] for m in x)
    torch.testing.assert_close(-loss.value, elbo)
