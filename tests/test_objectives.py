"""What the methods' objectives are, worked out by hand from experts and decoders; and what goes
wrong elsewhere.
"""

import math
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, Normal, kl_divergence

from polymodal.batch import Batch, Modality
from polymodal.data.linear_gaussian import LinearGaussian
from polymodal.distributions.likelihoods import IsotropicNormal
from polymodal.distributions.mixture import Mixture
from polymodal.distributions.normal import DiagLaplace, DiagNormal, product
from polymodal.methods import METHODS
from polymodal.methods.common import random_subset
from polymodal.model import MultimodalVAE
from polymodal.networks.modules import Expert
from polymodal.objectives import ElboTerm, elbo, elbos, mmd, stratified_iwae, variational_bound
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import powerset, singletons
from polymodal.priors import (
    FittedPrior,
    FlowPrior,
    MixedPrior,
    NormalMixture,
    PseudoInputs,
    StandardNormal,
)

MODALITIES = [
    Modality("a", (3,), weight=2.0),
    Modality("b", (4,), scale=0.5),
    Modality("c", (5,), "bernoulli"),
]
NAMES = ["a", "b", "c"]


pytestmark = pytest.mark.usefixtures("double")


def batch(size: int = 6, holes: bool = False, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    x = {
        "a": torch.randn(size, 3),
        "b": torch.randn(size, 4),
        "c": torch.randint(0, 2, (size, 5)).double(),
    }
    present = {"a": torch.arange(size) % 3 != 0, "c": torch.arange(size) % 3 != 1} if holes else {}
    return Batch(x, present)


def method(name: str, modalities=MODALITIES, **options):
    """A method whose experts differ from each other and the prior, so that divergences count."""
    torch.manual_seed(1)
    made = METHODS[name](modalities, latent=2, **options)
    for part in made.model.posterior.modules():
        if isinstance(part, Expert):
            last = [layer for layer in part.net.modules() if isinstance(layer, nn.Linear)][-1]
            last.bias.data += 0.8 * torch.randn_like(last.bias)
    return made


def repeated(data: Batch, n: int) -> Batch:
    again = lambda d: {k: v.repeat_interleave(n, 0) for k, v in d.items()}
    return Batch(again(data.x), again(data.present))


@torch.no_grad()
def mean_loss(m, data: Batch, n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a method's first stage averaged over n draws for each sample, and its standard
    error.
    """
    torch.manual_seed(5)
    value = m.stages[0].loss(m.model, repeated(data, n), 1.0).value.reshape(-1, n)
    return value.mean(1), value.std(1) / math.sqrt(n)


@torch.no_grad()
def expected_log(model: MultimodalVAE, q, data: Batch, names=None, n: int = 4000) -> torch.Tensor:
    """E_q[sum_m w_m log p(x_m|z)] by n draws."""
    z = q.sample((n,))
    logs = model.log_likelihoods(data, z)
    return sum(model.weights[m] * logs[m] for m in names or logs).mean(0)


def close(value, expected, error, slack: float = 6.0) -> None:
    assert ((value - expected).abs() < slack * error + 0.05).all(), (value, expected, error)


def expected_elbo(model, q, data, names=None, beta: float = 1.0) -> torch.Tensor:
    return expected_log(model, q, data, names) - beta * kl_divergence(q, model.prior())


def test_mvae_is_the_sum_of_the_wholes_each_ones_and_the_subsets_elbos() -> None:
    m, data = method("mvae", random_subsets=3, beta=0.7), batch()
    value, error = mean_loss(m, data)
    prior = m.model.prior().expand((6,))
    q = {k: m.model.posterior.experts[k](x) for k, x in data.x.items()}
    whole = product([*q.values(), prior])
    total = expected_elbo(m.model, whole, data, beta=0.7)
    total = total + sum(
        expected_elbo(m.model, product([e, prior]), data, [k], beta=0.7) for k, e in q.items()
    )
    pairs = [
        expected_elbo(m.model, product([q[k] for k in s] + [prior]), data, s, beta=0.7)
        for s in combinations(NAMES, 2)
    ]
    close(-value, total + 3 * sum(pairs) / 3, error)


def test_random_subsets_are_uniform_and_differ_between_samples() -> None:
    names, n = list("abcde"), 40_000
    x = {m: torch.zeros(n, 1) for m in names}
    few = {m: torch.zeros(n, dtype=torch.bool) for m in "bd"}
    for present, least, sizes, count in (
        ({}, 2, (2, 3, 4), 25),
        (few, 2, (2,), 3),
        (few, 1, (1, 2), 6),
    ):
        keep = random_subset(Batch(x, present), names, least)
        code = sum(v.long() << i for i, v in enumerate(keep.values()))
        counts = code.bincount(minlength=32).double() / n
        known = [m for m in names if m not in present]
        between = [
            sum(1 << names.index(m) for m in s) for r in sizes for s in combinations(known, r)
        ]
        assert set(counts.nonzero().flatten().tolist()) == set(between) and len(between) == count
        assert (counts[between] - 1 / count).abs().max() < 5 * math.sqrt(1 / count / n)
    alone = {m: torch.zeros(n, dtype=torch.bool) for m in "bcde"}
    assert not any(v.any() for v in random_subset(Batch(x, alone), names).values())
    assert random_subset(Batch(x, alone), names, 1)["a"].all()


def test_mvtcae_weighs_what_a_sample_has() -> None:
    m, data, alpha, beta = method("mvtcae", alpha=0.6, beta=1.5), batch(holes=True), 0.6, 1.5
    value, error = mean_loss(m, data)
    for i in range(6):
        names = [k for k in NAMES if data.mask([k])[i]]
        one = Batch({k: data.x[k][i : i + 1] for k in names})
        q = {k: m.model.posterior.experts[k](x) for k, x in one.x.items()}
        joint, n = product(list(q.values())), len(names)
        expected = (n - alpha) / n * expected_log(m.model, joint, one)
        expected = expected - beta * (1 - alpha) * kl_divergence(joint, m.model.prior())
        expected = expected - beta * alpha / n * sum(kl_divergence(joint, e) for e in q.values())
        close(-value[i : i + 1], expected, error[i : i + 1])


def test_on_one_modality_mvtcae_without_alpha_is_mopoe_and_the_vae() -> None:
    one, data = MODALITIES[:1], batch().only(["a"])
    values = []
    for name, options in (
        ("mvtcae", {"alpha": 0.0, "beta": 1.3}),
        ("mopoe", {"beta": 1.3}),
        ("vae", {"beta": 1.3}),
    ):
        m = method(name, one, **options)
        weights = method("mopoe", one).model.state_dict()
        m.model.load_state_dict(
            {k: v for k, v in weights.items() if not k.startswith("prior")}, strict=False
        )
        torch.manual_seed(5)
        values.append(m.stages[0].loss(m.model, data, 1.0).value)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_mopoe_averages_divergences_over_all_subsets_and_draws_from_them() -> None:
    m, data = method("mopoe", beta=2.0), batch()
    value, error = mean_loss(m, data)
    q = {k: m.model.posterior.experts[k](x) for k, x in data.x.items()}
    parts = [product([q[k] for k in s]) for s in powerset(NAMES)]
    assert len(parts) == 7
    close(-value, sum(expected_elbo(m.model, part, data, beta=2.0) for part in parts) / 7, error)


def test_beta_weighs_the_divergence_in_every_method_that_has_it() -> None:
    import inspect

    data = batch()
    for name, function in METHODS.items():
        if "beta" not in inspect.signature(function).parameters:
            continue
        few = {"k": 4} if "k" in inspect.signature(function).parameters else {}
        values = [mean_loss(method(name, beta=b, **few), data, 200)[0] for b in (1.0, 5.0)]
        assert ((values[1] - values[0]).abs() > 1e-3).all(), name


def test_mmjsd_is_the_divergence_from_the_dynamic_prior() -> None:
    m, data = method("mmjsd", beta=1.5), batch()
    value, error = mean_loss(m, data)
    q = [m.model.posterior.experts[k](x) for k, x in data.x.items()]
    prior = m.model.prior().expand((6,))
    every = [*q, prior]
    precision = sum(e.variance.reciprocal() for e in every) / 4
    dynamic = DiagNormal(sum(e.loc / e.variance for e in every) / 4 / precision, precision.rsqrt())
    js = sum(kl_divergence(e, dynamic) for e in every) / 4
    close(-value, sum(expected_log(m.model, e, data) for e in q) / 3 - 1.5 * js, error)


def test_mmvm_pulls_each_expert_towards_all() -> None:
    m, data = method("mmvm", beta=1.5, alpha=0.25), batch()
    value, error = mean_loss(m, data)
    q = {k: m.model.posterior.experts[k](x) for k, x in data.x.items()}
    expected = sum(expected_log(m.model, e, data, [k]) for k, e in q.items())
    expected = expected - 1.5 * 0.25 * sum(kl_divergence(e, m.model.prior()) for e in q.values())
    expected = expected - 1.5 * 0.75 / 3 * sum(
        kl_divergence(e, r) for e in q.values() for r in q.values()
    )
    close(-value, expected, error)


def test_crmvae_coordinates_the_product_with_each_expert() -> None:
    m, data = method("crmvae", beta=1.5), batch()
    value, error = mean_loss(m, data)
    q = {k: m.model.posterior.experts[k](x) for k, x in data.x.items()}
    joint = product(list(q.values()))
    fit = expected_log(m.model, joint, data) + sum(
        expected_log(m.model, e, data, [k]) for k, e in q.items()
    )
    gap = kl_divergence(joint, m.model.prior()) + sum(kl_divergence(joint, e) for e in q.values())
    close(-value, (fit - 1.5 * gap) / 4, error)


def test_code_vae_weighs_subsets_by_what_it_has_learned() -> None:
    m, data = method("code_vae", rho=0.0, beta=1.5), batch()
    logits = {k: v for k, v in m.model.posterior.logits.items()}
    with torch.no_grad():
        for i, v in enumerate(logits.values()):
            v.fill_(i / 3)
    value, error = mean_loss(m, data)
    q = {k: m.model.posterior.experts[k](x) for k, x in data.x.items()}
    pi = torch.stack(list(logits.values())).softmax(0)
    each = [
        expected_elbo(m.model, product([q[k] for k in s.split("+")]), data, beta=1.5)
        for s in logits
    ]
    entropy = -(pi * pi.log()).sum()
    close(-value, sum(p * e for p, e in zip(pi, each, strict=True)) + entropy, error)
    assert m.model.posterior(data).weights.shape == (6, 7)
    ordered = torch.stack([logits["+".join(s)] for s in powerset(NAMES)]).softmax(0)
    torch.testing.assert_close(m.model.posterior(data).weights[0], ordered)


def test_mmvae_charges_every_stratum_the_whole_mixture() -> None:
    """One sample from each expert: mean_m E_{q_m}[log p(x|z) + log p(z) - log 1/M sum_r q_r(z)]."""
    m, data = method("mmvae", k=1), batch()
    value, error = mean_loss(m, data)
    q = [m.model.posterior.experts[k](x) for k, x in data.x.items()]
    assert all(isinstance(e, DiagLaplace) for e in q)
    torch.testing.assert_close(
        q[0].scale.mean(-1), torch.ones(6), atol=1e-5, rtol=0
    )  # D softmax, plus 1e-6
    with torch.no_grad():
        expected = 0
        for e in q:
            z = e.sample((4000,))
            log_q = torch.stack([r.log_prob(z) for r in q]).logsumexp(0) - math.log(3)
            log_w = (
                m.model.log_likelihood(data, z, weighted=True) + m.model.prior().log_prob(z) - log_q
            )
            expected = expected + log_w.mean(0) / 3
    close(-value, expected, error)


def test_mmvae_plus_reconstructs_itself_with_its_own_and_others_with_foreign_private_latents() -> (
    None
):
    m, data = method("mmvae_plus", k=1, private=1, beta=2.0), batch()
    with torch.no_grad():
        for i, r in enumerate(m.model.posterior.auxiliary.values()):
            r.log_scale.fill_(0.3 * i)
    value, error = mean_loss(m, data)
    model, (prior_u, *prior_w) = m.model, m.model.prior().parts
    q = {k: model.posterior.shared.experts[k](x) for k, x in data.x.items()}
    n = 4000
    with torch.no_grad():
        expected = 0
        for k, e in q.items():
            u, own = e.sample((n,)), model.posterior.private[k](data.x[k])
            w = [
                own.sample((n,)) if r == k else model.posterior.auxiliary[r]().sample((n, 6))
                for r in NAMES
            ]
            fit = sum(
                model.weights[r] * model.decoders[r](torch.cat([u, *w], -1)).log_prob(data.x[r])
                for r in NAMES
            )
            log_u = prior_u.log_prob(u) - (
                torch.stack([r.log_prob(u) for r in q.values()]).logsumexp(0) - math.log(3)
            )
            i = NAMES.index(k)
            log_w = prior_w[i].log_prob(w[i]) - own.log_prob(w[i])
            expected = expected + (fit + 2 * (log_u + log_w)).mean(0) / 3
    close(-value, expected, error)


def test_a_decoder_reads_the_shared_and_its_own_latent_alone() -> None:
    model = method("mmvae_plus", private=3).model
    z = torch.randn(5, 2 + 3 * 3)
    other = z.clone()
    other[:, 2 + 3 : 2 + 6] += 1  # the private latent of b
    for m in NAMES:
        same = torch.equal(model.decoders[m](z).mean, model.decoders[m](other).mean)
        assert same == (m != "b")


def test_dmvae_has_the_joint_the_own_and_the_cross_reconstruction() -> None:
    m, data = method("dmvae", private=1, beta=1.5), batch()
    value, error = mean_loss(m, data)
    model, posterior, prior = m.model, m.model.posterior, m.model.prior()
    q = {k: posterior.shared.experts[k](x) for k, x in data.x.items()}
    standard = prior.parts[0].expand((6,))
    own = {k: posterior.private[k](x) for k, x in data.x.items()}
    expected = 0
    for u in (product([*q.values(), standard]), *(product([e, standard]) for e in q.values())):
        with torch.no_grad():
            z = torch.cat([u.sample((4000,)), *(w.sample((4000,)) for w in own.values())], -1)
            fit = model.log_likelihood(data, z, weighted=True).mean(0)
        gap = kl_divergence(u, standard) + sum(
            kl_divergence(w, prior.parts[1]) for w in own.values()
        )
        expected = expected + fit - 1.5 * gap
    close(-value, expected, error)


def test_partitioned_adds_a_contrast_of_the_shared_latents() -> None:
    data = batch()
    values = []
    for contrast in (0.0, 0.7):
        m = method("partitioned", private=1, contrast=contrast)
        torch.manual_seed(5)
        values.append(m.stages[0].loss(m.model, data, 1.0))
    torch.testing.assert_close(values[1].value - values[0].value, 0.7 * values[1].terms["info_nce"])
    assert (values[1].terms["info_nce"] > 0).all()


def test_vcca_encodes_its_lead_alone() -> None:
    m, data = method("vcca", lead="b"), batch()
    value, error = mean_loss(m, data)
    q = m.model.posterior.experts["b"](data.x["b"])
    close(-value, expected_elbo(m.model, q, data), error)
    torch.testing.assert_close(m.model.posterior(data.only(["a", "b"])).loc, q.loc)
    assert (m.model.posterior(data.only(["a"])).mean == 0).all()
    without = m.stages[0].loss(m.model, Batch(data.x, {"b": torch.arange(6) > 2}), 1.0).value
    assert (without[:3] == 0).all() and (without[3:] != 0).all()


def test_coordinated_adds_the_distance_of_the_latents() -> None:
    data = batch()
    q = method("coordinated").model.posterior.unimodal(data)
    gaps = {
        "mean": lambda a, b: (a.loc - b.loc).square().sum(-1),
        "wasserstein": (
            lambda a, b: ((a.loc - b.loc).square() + (a.scale - b.scale).square()).sum(-1)
        ),
        "kl": lambda a, b: kl_divergence(a, b) + kl_divergence(b, a),
    }
    for distance, gap in gaps.items():
        values = []
        for coupling in (0.0, 2.0):
            m = method("coordinated", coupling=coupling, distance=distance)
            torch.manual_seed(5)
            values.append(m.stages[0].loss(m.model, data, 1.0).value)
        expected = 2 * sum(gap(q[a], q[b]) for a, b in combinations(NAMES, 2))
        torch.testing.assert_close(values[1] - values[0], expected)


class Linear(nn.Module):
    """N(A h + b, s^2 I), as an expert (a DiagNormal) or as a decoder."""

    def __init__(self, weight, bias, scale: float, expert: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.scale, self.expert = weight, bias, scale, expert

    def forward(self, h):
        loc = h @ self.weight.T + self.bias
        return (
            DiagNormal(loc, torch.full_like(loc, self.scale))
            if self.expert
            else IsotropicNormal(loc, self.scale, 1)
        )


def test_meme_bounds_the_conditional_evidence() -> None:
    """In the direction s -> t the bound, with many draws for q(t|s), is below log p(s|t) = log of
    the integral of p(s|z) q(z|t), which is normal for linear networks, and reaches it as q(z|s)
    q(t|z) / q(t|s) nears its optimum.
    """
    from polymodal.methods.tied import _directed

    modalities = [Modality("s", (1,)), Modality("t", (1,))]
    one = torch.ones(1, 1)
    experts = {
        "s": Linear(0.6 * one, torch.zeros(1), 0.7, True),
        "t": Linear(0.5 * one, torch.zeros(1), 0.8, True),
    }
    decoders = {
        "s": Linear(one, torch.zeros(1), 1.0, False),
        "t": Linear(0.9 * one, torch.zeros(1), 1.2, False),
    }
    model = MultimodalVAE(
        StandardNormal(1),
        decoders,
        PooledExperts(experts, singletons, StandardNormal(1)),
        modalities,
    )
    data = Batch({"s": torch.tensor([[0.3], [-1.0]]), "t": torch.tensor([[0.5], [0.2]])})
    n = 20_000
    with torch.no_grad():
        many = repeated(data, n)
        q = model.posterior.unimodal(many)
        value, slip = (
            _directed(model, many, q, ("s", "t"), 200, 1.0, c).reshape(2, n) for c in (False, True)
        )
    spread = math.sqrt(1 + 0.8**2)
    exact = Normal(0.5 * data.x["t"][:, 0], spread).log_prob(data.x["s"][:, 0])
    mean, error = value.mean(1), value.std(1) / math.sqrt(n)
    assert (mean < exact + 4 * error).all() and (mean > exact - 1.0).all()
    assert (
        slip.mean(1) > exact + 4 * error
    ).any()  # with the closed divergence of the authors' code it is no bound


def test_meme_alone_is_bounded_with_its_pseudo_inputs() -> None:
    m = method("meme", pseudo_inputs=4)
    data = batch().only(["a"])
    value, error = mean_loss(m, data)
    q, p = m.model.posterior.experts["a"](data.x["a"]), m.model.prior.parts["a"]()
    inputs = m.model.prior.parts["a"].inputs
    with torch.no_grad():
        z = q.sample((4000,))
        every = m.model.posterior.experts["a"](inputs)
        log_p = torch.stack(
            [DiagNormal(every.loc[i], every.scale[i]).log_prob(z) for i in range(4)]
        ).logsumexp(0) - math.log(4)
        torch.testing.assert_close(p.log_prob(z), log_p)
        expected = (
            2 * m.model.decoders["a"](z).log_prob(data.x["a"]) + log_p - q.log_prob(z)
        ).mean(0)
    close(-value, expected, error)


def test_mfm_predicts_labels_from_every_subset_and_matches_the_prior() -> None:
    m = method("mfm", private=1, classes=3, hidden=8)
    data = Batch(batch().x, {}, torch.arange(6) % 3)
    loss = m.stages[0].loss(m.model, data, 1.0)
    assert {"cross_entropy", "mmd"} <= set(loss.terms)
    with pytest.raises(ValueError, match="labels"):
        m.stages[0].loss(m.model, batch(), 1.0)


def test_mmd_vanishes_between_equal_laws_alone() -> None:
    a, b = torch.randn(2000, 3), torch.randn(2000, 3)
    assert 0 <= mmd(a, b) < 0.005 and mmd(a, b + 1) > 0.1
    kernel = lambda x, y: (-(x[:, None] - y[None]).square().sum(-1) / 3).exp().mean()
    a, b = a[:50], b[:50] * 2
    torch.testing.assert_close(mmd(a, b), kernel(a, a) + kernel(b, b) - 2 * kernel(a, b))


def test_cvae_conditions_on_what_is_given() -> None:
    m, data = method("cvae", target="b", hidden=8), batch()
    model = m.model
    given = model.posterior(data.only(["a"])).mean
    assert (given[:, :2] == 0).all()  # z from its prior
    assert not torch.allclose(given, model.posterior(data.only(["a", "c"])).mean)
    value, error = mean_loss(m, data)
    q = model.posterior(data)
    with torch.no_grad():
        fit = model.decoders["b"](q.rsample((4000,))).log_prob(data.x["b"]).mean(0)
    close(-value, fit - kl_divergence(q.parts[0], StandardNormal(2)()), error)


@pytest.mark.parametrize("trial", range(5))
def test_elbo_is_below_iwae_of_the_mixture_of_experts(trial: int) -> None:
    """Seed 004's theorem, with k and inside the log, on random models, data and holes: same draws
    throughout.
    """
    torch.manual_seed(100 + trial)
    m = method("mmvae", posterior=("normal", "laplace")[trial % 2], k=1)
    data, n = repeated(batch(4, holes=trial > 2, seed=trial), 400), 400
    value = {}
    with torch.no_grad():
        strata, weights = m.model.posterior.strata(data)
        for k, log_mean in ((1, False), (8, False), (8, True)):
            torch.manual_seed(3)
            loss = stratified_iwae(m.model, data, strata, weights, k, log_mean=log_mean)
            value[k, log_mean] = -loss.value.reshape(-1, n).mean(1)
    assert (value[1, False] < value[8, False]).all() and (
        value[8, False] <= value[8, True] + 1e-9
    ).all()


def test_hoelder_has_the_objective_of_its_page() -> None:
    """sum_c pi_c E_{q_c}[sum_m w_m log p(x_m|z) + beta (log p(z) - log q(z))], q the mixture."""
    beta, data = 0.5, batch(4)
    m = method("hoelder", beta=beta)
    value, error = mean_loss(m, data)
    with torch.no_grad():
        q = m.model.posterior(data)
        z = q.sample((20_000,))
        likelihood = sum(
            v.weight * m.model.decoders[v.name](z).log_prob(data.x[v.name]) for v in MODALITIES
        )
        each = likelihood + beta * (m.model.prior().log_prob(z) - q.log_prob(z))
    width = (error.square() + each.var(0) / len(z)).sqrt()
    assert ((value + each.mean(0)).abs() < 5 * width).all()


@pytest.mark.parametrize(
    "pooling", ["product", "mixture", "mixture_of_products", "hoelder", "mixture_of_barycentres"]
)
@pytest.mark.parametrize("posterior", ["normal", "flow", "laplace"])
@pytest.mark.parametrize("prior", ["normal", "mixture", "flow"])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_pooling_posterior_prior_and_objective_combine_freely(
    pooling, posterior, prior, objective
) -> None:
    """Whatever is combined is a posterior whose k-sample bound grows with k, or says in a sentence
    why it is none.
    """
    options = dict(pooling=pooling, posterior=posterior, objective=objective, k=2)
    options["prior"] = {"name": prior}
    words = None
    if posterior == "laplace" and pooling != "mixture":
        words = "no closed form: take pooling=mixture"
    elif pooling == "hoelder" and objective == "elbo":
        words = "use objective=iwae, k=1"
    if words:
        with pytest.raises(ValueError, match=words):
            m = method("pooled", **options)
            m.stages[0].loss(m.model, batch(), 1.0)
        return
    m, data = method("pooled", **options), batch(holes=True)
    loss = m.stages[0].loss(m.model, data, 1.0)
    assert torch.isfinite(loss.value).all()
    loss.value.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in m.model.parameters())
    z = m.model.posterior(data).rsample((5,))
    assert (
        torch.isfinite(m.model.posterior(data).log_prob(z)).all()
        and torch.isfinite(m.model.prior().log_prob(z)).all()
    )


def test_combinations_without_meaning_say_why() -> None:
    for options, words in (
        ({"prior": {"expert": True, "name": "mixture"}}, "only if it is normal"),
        ({"prior": {"expert": True}, "posterior": "flow"}, "only if it is normal"),
        ({"prior": {"learn_scale": True, "name": "flow"}}, "learned already"),
        ({"pooling": "mixtur"}, "Did you mean mixture"),
        ({"objective": "elbow"}, "elbo, iwae, dreg"),
    ):
        with pytest.raises(ValueError, match=words):
            m = method("pooled", **options)
            m.stages[0].loss(m.model, batch(), 1.0)


def test_a_flow_posterior_integrates_to_one_and_inverts() -> None:
    m = method("pooled", MODALITIES[:2], posterior="flow", pooling="mixture_of_products")
    q = m.model.posterior(batch(1).only(["a", "b"]))
    line = torch.linspace(-8, 8, 161)
    plane = torch.cartesian_prod(line, line).unsqueeze(1)
    with torch.no_grad():
        mass = q.log_prob(plane).exp().sum(0) * float(line[1] - line[0]) ** 2
    torch.testing.assert_close(mass, torch.ones(1), atol=0.01, rtol=0)


def test_parts_of_bounds_are_the_bounds_of_parts() -> None:
    """One decoding of all latents gives what separate ELBOs give, with masks and weights."""
    m, data = method("mopoe").model, batch(holes=True)
    q = m.posterior.unimodal(data)
    parts = [
        ElboTerm(q["b"], NAMES, data.present),
        ElboTerm(q["a"], ["a", "c"], data.present, data.mask(["a"])),
    ]
    torch.manual_seed(3)
    together = elbos(m, data, parts, kl=[1.0, 0.5], weights=[2.0, 3.0]).value
    torch.manual_seed(3)
    first = elbo(m, data, q["b"]).value
    second = elbo(m, Batch({k: data.x[k] for k in ("a", "c")}, data.present), q["a"], kl=0.5).value
    torch.testing.assert_close(together, 2 * first + 3 * torch.where(data.mask(["a"]), second, 0))


def test_priors_are_densities() -> None:
    line = torch.linspace(-10, 10, 401)
    plane = torch.cartesian_prod(line, line)
    expert = method("mopoe").model.posterior.experts["a"]
    pseudo = PseudoInputs(expert, MODALITIES[0], 5)
    for prior in (
        NormalMixture(2, 3),
        FlowPrior(2),
        pseudo,
        MixedPrior({"a": pseudo, "b": PseudoInputs(expert, MODALITIES[0], 3)}),
    ):
        with torch.no_grad():
            mass = prior().log_prob(plane).exp().sum() * 0.05**2
            assert prior().sample((7,)).shape == (7, 2)
        assert abs(float(mass) - 1) < 0.01


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_fitted_mixture_finds_a_mixture_of_any_size(size: float) -> None:
    """The stage's closed form against a law that it can represent: the held-out log-density nears
    the true one's.
    """
    from polymodal.methods.fitted_prior import fit_mixture

    truth = Mixture(
        [
            DiagNormal(torch.full((1, 2), m * size), torch.full((1, 2), 0.5 * size))
            for m in (-2.0, 2.0)
        ]
    )
    z, held = (truth.sample((4000,)).squeeze(1) for _ in range(2))
    prior = FittedPrior(StandardNormal(2), NormalMixture(2, 2))
    assert prior().mean.shape == (2,) and not prior.ready
    fit_mixture(prior.fitted, z, 2)
    prior.ready.fill_(True)
    gap = truth.log_prob(held.unsqueeze(1)).mean() - prior().log_prob(held).mean()
    assert -0.01 < gap < 0.01


def test_laplace_divergence_is_exact() -> None:
    q, p = (
        DiagLaplace(torch.randn(3, 2), torch.rand(3, 2) + 0.3),
        DiagLaplace(torch.zeros(2), torch.ones(2)),
    )
    plain = Independent(Laplace(q.loc, q.scale), 1)
    expected = kl_divergence(plain, Independent(Laplace(torch.zeros(3, 2), torch.ones(3, 2)), 1))
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_evidence_of_a_mixture_of_exact_posteriors_stays_below_the_evidence() -> None:
    truth = LinearGaussian.draw(dims=(2, 3), latent=2, noise=1.0, seed=2)
    decoders = {
        m: Linear(A, truth.bias[m], truth.noise[m], False) for m, A in truth.loading.items()
    }

    class Exact(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x):
            q = truth.posterior(Batch({self.name: x}))
            return DiagNormal(q.mean, q.variance.sqrt())

    posterior = PooledExperts({m: Exact(m) for m in truth.loading}, singletons, StandardNormal(2))
    model = MultimodalVAE(StandardNormal(2), decoders, posterior, truth.modalities)
    data = truth.sample(8)
    with torch.no_grad():
        values = {}
        for objective, k in (("elbo", 1), ("iwae", 1), ("iwae", 64), ("iwae", 4096)):
            torch.manual_seed(1)
            loss = variational_bound(model, repeated(data, 200 if k < 100 else 4), objective, k)
            values[objective, k] = -loss.value.reshape(8, -1).mean(1)
    exact = truth.log_evidence(data)
    assert (values["elbo", 1] < exact).all() and (values["iwae", 1] < exact).all()
    gaps = [(exact - values["iwae", k]).mean() for k in (1, 64, 4096)]
    assert gaps[0] > gaps[1] > gaps[2] > -0.01 and gaps[2] < 0.05


def test_every_sample_and_draw_picks_its_own_expert() -> None:
    """Given several modalities a mixture's draws come from all of them: not one expert for a batch
    or a call.
    """

    class Far(nn.Module):
        def __init__(self, at: float) -> None:
            super().__init__()
            self.at = at

        def forward(self, x):
            return DiagNormal(torch.full((len(x), 2), self.at), torch.ones(len(x), 2))

    posterior = PooledExperts({"a": Far(-50.0), "b": Far(50.0)}, singletons, StandardNormal(2))
    z = posterior(Batch({"a": torch.zeros(2000, 1), "b": torch.zeros(2000, 1)})).sample((3,))
    right = (z[..., 0] > 0).double()
    assert ((z[..., 0] > 0) == (z[..., 1] > 0)).all()
    for share in (right.mean(1), right[:, :1000].mean(1), right[:, 1000:].mean(1)):
        assert ((share - 0.5).abs() < 5 * 0.5 / math.sqrt(1000)).all()
    assert 0.1 < (right[0] != right[1]).double().mean() < 0.9


@pytest.mark.parametrize("name", ["mopoe", "mvtcae", "mvae", "vae"])
def test_terms_are_what_they_are_called(name: str) -> None:
    """What is logged as log p(x_m|z) holds no divergence, and the loss is made of the terms."""
    from polymodal.model import MultimodalVAE as Model

    seen = {}

    class Watched(nn.Module):
        def __init__(self, decoder: nn.Module, name: str) -> None:
            super().__init__()
            self.decoder, self.name = decoder, name

        def forward(self, z):
            p = self.decoder(z)
            seen[self.name] = p.log_prob(data.x[self.name]).detach().clone()
            return p

    data, m = batch(), method(name)
    assert isinstance(m.model, Model)
    m.model.decoders = nn.ModuleDict({k: Watched(d, k) for k, d in m.model.decoders.items()})
    value, terms = m.stages[0].loss(m.model, data, 1.0)
    for k in NAMES:
        first = seen[k] if seen[k].dim() == 1 else seen[k][0]
        torch.testing.assert_close(terms[f"log_p_{k}"].detach(), first)
    assert (terms["kl"] > 0).all()
    if name in ("mopoe", "vae"):
        fit = sum(m.model.weights[k] * terms[f"log_p_{k}"] for k in NAMES)
        torch.testing.assert_close(value, terms["kl"] - fit)


@pytest.mark.parametrize("posterior", ["normal", "flow", "laplace"])
@pytest.mark.parametrize("prior", ["normal", "laplace", "mixture"])
def test_a_lone_masked_modality_has_its_own_posterior_or_the_prior(
    posterior: str, prior: str
) -> None:
    """Present: what it has alone; absent: p(z) itself, whatever the families."""
    m = method("pooled", pooling="mixture", posterior=posterior, prior={"name": prior}).model
    x, here = batch().x["a"], torch.arange(6) % 2 == 0
    masked, alone = m.posterior(Batch({"a": x}, {"a": here})), m.posterior(Batch({"a": x}))
    z = torch.randn(5, 6, 2)
    log, own, p = masked.log_prob(z), alone.log_prob(z), m.prior().log_prob(z)
    torch.testing.assert_close(log[:, here], own[:, here])
    torch.testing.assert_close(log[:, ~here], p[:, ~here])


@pytest.mark.parametrize("name", ["mvae", "mmvae", "mopoe", "mvtcae", "mmvae_plus", "dmvae"])
def test_an_absent_modalitys_expert_learns_nothing_from_it(name: str) -> None:
    """Where a modality is absent throughout its expert has no gradient, with every objective the
    method has.
    """
    import inspect

    known = inspect.signature(METHODS[name]).parameters
    for objective in ("elbo", "iwae") if "objective" in known and name != "mmvae_plus" else (None,):
        m = method(name, **({"objective": objective} if objective else {}))
        gone = torch.zeros(6, dtype=torch.bool)
        m.stages[0].loss(m.model, Batch(batch().x, {"a": gone}), 1.0).value.sum().backward()
        encoders = [
            p
            for n, p in m.model.posterior.named_parameters()
            if ".a." in n and "auxiliary" not in n
        ]
        assert encoders and all(p.grad is None or p.grad.abs().max() == 0 for p in encoders)


def test_variances_stay_numbers_however_little_an_expert_has_to_say() -> None:
    """A peer's users met NaN here: an expert whose variance grows without bound must not end the
    training.
    """
    m, data = method("mvae"), batch()
    with torch.no_grad():
        last = [
            layer
            for layer in m.model.posterior.experts["b"].net.modules()
            if isinstance(layer, nn.Linear)
        ][-1]
        last.bias[2:] = 500.0
    torch.set_default_dtype(torch.float32)
    m.model.float()
    data = Batch({k: v.float() for k, v in data.x.items()})
    loss = m.stages[0].loss(m.model, data, 1.0).value
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in m.model.parameters())
