"""Objectives against each other on the same random state: what the papers' relations say, to
rounding.
"""

import pytest
import torch

from polymodal.batch import Batch, Modality
from polymodal.distributions.normal import DiagNormal
from polymodal.methods import METHODS
from polymodal.methods.joint import joint_elbo, keep_joint, surrogate_kl
from polymodal.objectives import elbo, iwae, stratified_iwae
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import singletons

MODALITIES = [
    Modality("a", (3,), weight=2.0),
    Modality("b", (4,), scale=0.5),
    Modality("c", (5,), "bernoulli"),
]


pytestmark = pytest.mark.usefixtures("double")


def batch(size: int = 6, holes: bool = False) -> Batch:
    x = {
        "a": torch.randn(size, 3),
        "b": torch.randn(size, 4),
        "c": torch.randint(0, 2, (size, 5)).double(),
    }
    present = {"a": torch.arange(size) % 3 != 0, "c": torch.arange(size) % 3 != 1} if holes else {}
    return Batch(x, present)


def method(name: str, **options):
    torch.manual_seed(1)
    return METHODS[name](MODALITIES, latent=2, hidden=16, **options)


def loss(method_, stage: str, data: Batch, progress: float = 1.0):
    chosen = next(s for s in method_.stages if s.name == stage)
    if chosen.prepare:
        data = chosen.prepare(method_.model, data)
    torch.manual_seed(7)
    return chosen.loss(method_.model, data, progress).value


@pytest.mark.parametrize("holes", [False, True])
def test_jmvae_without_alpha_is_the_first_stage_of_all(holes: bool) -> None:
    data = batch(holes=holes)
    one = loss(method("jmvae", alpha=0.0), "joint", data)
    for name in ("jmvae_two_stage", "telbo", "m2vae", "jnf", "jnf_dcca", "jnf_score"):
        torch.testing.assert_close(loss(method(name), "joint", data), one)
    for name in ("jnf", "jnf_dcca"):  # whatever the products are of
        torch.testing.assert_close(loss(method(name, product="likelihoods"), "joint", data), one)


@pytest.mark.parametrize("holes", [False, True])
def test_alpha_weighs_the_loss_of_the_second_stage(holes: bool) -> None:
    """JMVAE(alpha) - JMVAE(0) = alpha * second stage, for normal surrogates (seed paper eqs. (4)
    and (5)).
    """
    data, alpha = batch(holes=holes), 0.3
    one, none = (loss(method("jmvae", alpha=a), "joint", data) for a in (alpha, 0.0))
    second = loss(method("jmvae_two_stage"), "surrogates", data)
    torch.testing.assert_close(one - none, alpha * second)


def test_warm_up_leaves_only_reconstruction_at_first_and_everything_at_the_end() -> None:
    data, m = batch(), method("jmvae", alpha=0.5, warmup=0.5)
    terms = lambda p: (torch.manual_seed(7), m.stages[0].loss(m.model, data, p))[1]
    first, half, late = terms(0.0), terms(0.25), terms(0.75)
    reconstruction = -sum(m.model.weights[k] * first.terms[f"log_p_{k}"] for k in "abc")
    torch.testing.assert_close(first.value, reconstruction)
    torch.testing.assert_close(half.value - first.value, 0.5 * (late.value - first.value))


def test_second_stage_is_minus_the_log_density_at_the_joint_posteriors_draws() -> None:
    """Seed paper eq. (9): L_JM is -sum_m log q_m(z) up to the entropy of q(z|X), which does not
    depend on q_m.
    """
    data, m = batch(), method("jnf")
    kept = keep_joint(m.model, data)
    torch.manual_seed(7)
    value = surrogate_kl(m.model, kept, 1.0).value
    torch.manual_seed(7)
    q = m.model.posterior.joint(data)
    z = q.rsample()
    expected = sum(
        q.log_prob(z) - m.model.posterior.experts[k](data.x[k]).log_prob(z) for k in "abc"
    )
    torch.testing.assert_close(value, expected)


def test_m2vae_adds_the_consensus_to_telbo() -> None:
    data = batch()
    gap = loss(method("m2vae", consensus=0.7), "surrogates", data) - loss(
        method("telbo"), "surrogates", data
    )
    m = method("m2vae", consensus=0.7)
    with torch.no_grad():
        expected = 0.7 * surrogate_kl(m.model, keep_joint(m.model, data), 1.0).value
    torch.testing.assert_close(
        gap, expected
    )  # normal surrogates: the KL is exact, whatever was drawn


def test_telbo_bounds_each_modality_with_its_own_variance() -> None:
    """The unimodal KL is that of the unimodal posterior (a peer used the joint encoder's variance
    there).
    """
    data, m = batch(), method("telbo")
    only = data.only(["b"])
    q = m.model.posterior(only)
    stage = m.stages[1].loss(m.model, only, 1.0)
    expected = 0.5 * (q.scale**2 + q.loc**2 - 1 - 2 * q.scale.log()).sum(-1)
    torch.testing.assert_close(stage.terms["kl_prior_b"], expected)


def repeated(data: Batch, n: int) -> Batch:
    """Every sample n times, so that one call draws n times for each."""
    again = lambda d: {k: v.repeat_interleave(n, 0) for k, v in d.items()}
    return Batch(again(data.x), again(data.present))


def test_the_k_sample_bound_with_one_sample_is_the_elbo() -> None:
    n, model = 4000, method("jmvae").model
    data = repeated(batch(), n)
    with torch.no_grad():
        one = iwae(model, data, model.posterior.joint(data), 1).value.reshape(-1, n)
        elbo = joint_elbo(model, data, 1.0).value.reshape(-1, n)
    error = (one.var(1) / n + elbo.var(1) / n).sqrt()
    assert ((one.mean(1) - elbo.mean(1)).abs() < 4 * error).all()
    assert (error < 0.1).all()


def test_iwae_grows_with_k_and_inside_the_log_is_tighter_than_outside() -> None:
    """ELBO <= mean of stratum bounds <= bound with the mean inside the log (Jensen; METHODS.md part
    4), same draws.
    """
    n, model = 300, method("jmvae").model
    posterior = PooledExperts(model.posterior.experts, singletons, model.prior)
    data = repeated(batch(holes=True), n)

    @torch.no_grad()
    def value(k: int, log_mean: bool) -> torch.Tensor:
        torch.manual_seed(11)
        return (
            -stratified_iwae(model, data, *posterior.strata(data), k, log_mean=log_mean)
            .value.reshape(-1, n)
            .mean(1)
        )

    assert (value(5, True) >= value(5, False) - 1e-9).all()
    assert (value(5, False) > value(1, False)).all() and (value(20, False) > value(5, False)).all()


def test_dreg_has_the_value_of_iwae_and_another_gradient() -> None:
    data, model = batch(), method("jmvae").model
    gradients = []
    for estimator in ("iwae", "dreg"):
        torch.manual_seed(5)
        value = iwae(model, data, model.posterior.joint(data), 8, estimator=estimator).value
        gradients.append(torch.autograd.grad(value.sum(), model.posterior.joint.mix[-1].weight)[0])
        values = value.detach() if estimator == "iwae" else values  # noqa: F821
    torch.testing.assert_close(value.detach(), values)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["likelihood", "kl", "consensus"])
def test_bound_is_linear_in_its_weights(name: str) -> None:
    data, model = batch(holes=True), method("jmvae").model

    def value(**weights: float) -> torch.Tensor:
        torch.manual_seed(2)
        return elbo(
            model, data, model.posterior.joint(data), **{"likelihood": 0, "kl": 0, **weights}
        ).value

    torch.testing.assert_close(value(**{name: 3.0}), 3 * value(**{name: 1.0}))
    assert value(**{name: 1.0}).abs().min() > 0


def test_bound_of_normals_is_the_textbook_elbo() -> None:
    data, model = batch(), method("jmvae").model
    q: DiagNormal = model.posterior.joint(data)
    torch.manual_seed(4)
    value = elbo(model, data, q).value
    torch.manual_seed(4)
    z = q.rsample()
    kl = 0.5 * (q.scale**2 + q.loc**2 - 1 - 2 * q.scale.log()).sum(-1)
    a, b = model.decoders["a"](z).mean, model.decoders["b"](z).mean
    logits = model.decoders["c"].net(z)
    log_a = torch.distributions.Normal(a, 1.0).log_prob(data.x["a"]).sum(-1)
    log_b = torch.distributions.Normal(b, 0.5).log_prob(data.x["b"]).sum(-1)
    log_c = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits, data.x["c"], reduction="none"
    ).sum(-1)
    torch.testing.assert_close(value, -(2.0 * log_a + log_b + log_c - kl))


@pytest.mark.parametrize("name", ["telbo", "m2vae"])
def test_the_logged_divergences_of_absent_modalities_are_zero(name: str) -> None:
    data, m = batch(holes=True), method(name)
    stage = m.stages[1]
    prepared = stage.prepare(m.model, data) if stage.prepare else data
    terms = stage.loss(m.model, prepared, 1.0).terms
    for k in "ac":
        assert (terms[f"kl_prior_{k}"] == 0).equal(~data.present[k])
