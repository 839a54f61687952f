"""The metrics against closed forms: linear-Gaussian likelihoods, oracle classifiers, Frechet
distances of normals.
"""

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from polymodal.batch import Batch, Modality
from polymodal.data import Dataset, LinearGaussian, Splits
from polymodal.distributions import stratified
from polymodal.distributions.likelihoods import IsotropicNormal
from polymodal.distributions.mixture import Joint, Mixture
from polymodal.distributions.normal import DiagNormal
from polymodal.distributions.products import Product
from polymodal.metrics import METRICS, Measurement, UnavailableError
from polymodal.metrics import classifier_training as training
from polymodal.metrics.classifier_networks import Classifier, Nearest, compact, senellart_cnn
from polymodal.metrics.classifier_training import ClassifierTraining, LabelClassifier
from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.coherence import agreement, correct, kappa, unanimity
from polymodal.metrics.decoding import Decoding, pieces
from polymodal.metrics.frechet import frechet_distance, frechet_with_error, inception
from polymodal.metrics.labels import LabelledValues, distinct, labels_of
from polymodal.metrics.likelihood import (
    NoDensityError,
    importance_log_likelihood,
    monte_carlo_log_likelihood,
)
from polymodal.metrics.measurement import MeasurementOptions
from polymodal.metrics.probe import latent_means, linear_probe
from polymodal.metrics.statistics import macro_mean_and_error, mean_and_error
from polymodal.model import MultimodalVAE
from polymodal.networks.architectures import network_of
from polymodal.networks.augment import shifted
from polymodal.networks.modules import Decoder
from polymodal.priors import StandardNormal
from polymodal.sampling import HMC

LAW = LinearGaussian.draw(dims=(2, 3, 2), latent=2, noise=0.7, seed=1)
NAMES = list(LAW.loading)


pytestmark = pytest.mark.usefixtures("double")


class Linear(nn.Module):
    """p(x_m|z) of the law; `most` is the largest number of latents it was ever called on."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.most = name, 0

    def forward(self, z: Tensor) -> IsotropicNormal:
        self.most = max(self.most, math.prod(z.shape[:-1]))
        return IsotropicNormal(
            z @ LAW.loading[self.name].T + LAW.bias[self.name], LAW.noise[self.name], 1
        )


class Posterior(nn.Module):
    """Any function Batch -> distribution."""

    def __init__(self, of: Callable[[Batch], Distribution]) -> None:
        super().__init__()
        self.of = of

    def forward(self, batch: Batch) -> Distribution:
        return self.of(batch)


def linear(
    posterior: Callable[[Batch], Distribution] = LAW.posterior, weight: float = 1.0
) -> MultimodalVAE:
    """The law as a model, exact but for the posterior given."""
    modalities = [Modality(m.name, m.shape, scale=m.scale, weight=weight) for m in LAW.modalities]
    return MultimodalVAE(
        StandardNormal(2), {m: Linear(m) for m in NAMES}, Posterior(posterior), modalities
    )


def wide(batch: Batch) -> DiagNormal:
    """A proposal off the mark: shifted, and wider than the posterior."""
    exact = LAW.posterior(batch)
    return DiagNormal(exact.mean + 0.2, 1.5 * exact.variance.sqrt())


def experts(batch: Batch) -> Mixture:
    """A mixture of the exact unimodal posteriors, absent ones without weight."""
    parts = [LAW.posterior(Batch({m: x})) for m, x in batch.x.items()]
    return Mixture(parts, torch.stack([batch.mask([m]) for m in batch.x], -1).double())


def repeated(n: int, row: int = 0) -> Batch:
    """One sample n times."""
    one = LAW.sample(row + 1, torch.Generator().manual_seed(5))
    return Batch({m: x[row:].expand(n, -1).clone() for m, x in one.x.items()})


def within(values: Tensor, truth: float, errors: float = 3.5) -> bool:
    """Whether the mean of independent values is `truth` within so many standard errors."""
    mean, error = mean_and_error(values)
    return abs(mean - truth) < errors * error


@pytest.mark.parametrize("samples", [1, 7])
def test_with_the_exact_posterior_one_sample_gives_the_evidence(samples: int) -> None:
    batch = LAW.sample(20)
    torch.testing.assert_close(
        importance_log_likelihood(linear(), batch, samples), LAW.log_evidence(batch)
    )


@pytest.mark.parametrize("posterior", [wide, experts], ids=["wide", "mixture"])
def test_with_another_posterior_the_weights_average_to_the_evidence(posterior) -> None:
    """exp of the estimate is unbiased, its mean is below by about Var / 2K, and it converges."""
    batch, model = repeated(1500), linear(posterior)
    truth = LAW.log_evidence(batch)[0].item()
    few = importance_log_likelihood(model, batch, 3) - truth
    assert within(few.exp(), 1.0)
    assert few.mean() < -5 * few.std() / math.sqrt(len(few)) < 0
    many = importance_log_likelihood(model, repeated(50), 4000) - truth
    assert within(many, 0.0, 4.5) and many.abs().max() < 0.1


@pytest.mark.parametrize(
    ("target", "given"), [("x1", ["x2"]), ("x2", ["x1", "x3"]), ("x3", ["x3"])]
)
def test_the_conditional_likelihood_is_the_integral_over_the_posterior(
    target: str, given: list[str]
) -> None:
    batch = repeated(1500, row=1)
    for posterior in (LAW.posterior, wide):
        q = posterior(batch.only(given))
        A, b, s = LAW.loading[target], LAW.bias[target], LAW.noise[target]
        S = q.covariance_matrix if isinstance(q, MultivariateNormal) else q.variance.diag_embed()
        exact = MultivariateNormal(
            q.mean @ A.T + b, A @ S @ A.T + s**2 * torch.eye(len(b))
        ).log_prob(batch.x[target])
        found = monte_carlo_log_likelihood(linear(posterior), batch, target, given, 30)
        assert within((found - exact).exp(), 1.0)
    if target not in given:
        exact = LAW.conditional(batch.only([target, *given]), target).log_prob(batch.x[target])
        found = monte_carlo_log_likelihood(linear(), repeated(20, row=1), target, given, 20_000)
        torch.testing.assert_close(found, exact[:20], atol=0.1, rtol=0)


@pytest.mark.parametrize("given", [["x1"], ["x2"], ["x1", "x2"]])
def test_the_marginal_likelihood_is_the_same_whatever_was_given(given: list[str]) -> None:
    """exp of the estimate is unbiased for p(x1); from x1 itself one draw is exact; what knows less
    falls shorter.
    """
    batch = repeated(3000, row=1)
    truth = LAW.log_evidence(batch.only(["x1"]))[0].item()
    short = importance_log_likelihood(linear(), batch, 4, targets=["x1"], given=given) - truth
    if given == ["x1"]:
        assert short.abs().max() < 1e-8
    else:
        assert short.mean() < -0.01 and short.mean() < -5 * short.std() / math.sqrt(len(short))
    many = (
        importance_log_likelihood(
            linear(wide), repeated(50, row=1), 20_000, targets=["x1"], given=given
        )
        - truth
    )
    assert within(many.exp(), 1.0, 4.5) and many.abs().mean() < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_every_modality_matters(name: str) -> None:
    batch = LAW.sample(4)
    far = Batch({**batch.x, name: torch.full_like(batch.x[name], 100.0)})
    for model in (linear(), linear(experts)):
        assert (
            importance_log_likelihood(model, far, 50)
            < importance_log_likelihood(model, batch, 50) - 1000
        ).all()
    others = [m for m in NAMES if m != name]
    for given, target in ((others, name), ([name], others[0])):
        before, after = (
            monte_carlo_log_likelihood(linear(), b, target, given, 50) for b in (batch, far)
        )
        assert (after < before - 500).all()


def test_weights_are_off() -> None:
    batch = LAW.sample(5)
    torch.testing.assert_close(
        importance_log_likelihood(linear(weight=50.0), batch, 3), LAW.log_evidence(batch)
    )


def test_the_place_in_the_batch_does_not_matter() -> None:
    """Every one of 64 copies of a sample uses all components: a component chosen by place would
    spread them by nats.
    """
    batch = repeated(64)
    found = importance_log_likelihood(linear(experts), batch, 3000)
    assert (found - LAW.log_evidence(batch)).abs().max() < 0.15
    only = [
        importance_log_likelihood(
            linear(lambda b, m=m: LAW.posterior(b.only([m]))), repeated(1), 300
        )
        for m in NAMES
    ]
    assert torch.stack(only).std() > 0.15


@pytest.mark.parametrize("memory", [1, 10**5, 10**6])
def test_pieces_change_the_rounding_alone(memory: int) -> None:
    batch, model = LAW.sample(6), linear(wide)
    values = []
    for bytes_ in (memory, None):
        torch.manual_seed(3)
        joint = importance_log_likelihood(model, batch, 41, decoding=Decoding(memory=bytes_))
        values.append(
            (
                joint,
                monte_carlo_log_likelihood(
                    model, batch, "x1", ["x2"], 41, decoding=Decoding(memory=bytes_)
                ),
            )
        )
    for small, large in zip(*values, strict=True):
        torch.testing.assert_close(small, large, atol=1e-11, rtol=1e-12)


@pytest.mark.parametrize("samples", [10, 3000])
def test_memory_bounds_what_is_decoded_at_once(samples: int) -> None:
    model = linear(wide)
    memory = 100 * 4 * 8 * 512
    assert Decoding(memory=memory).rows(model, NAMES, torch.device("cpu")) == 100
    importance_log_likelihood(model, LAW.sample(30), samples, decoding=Decoding(memory=memory))
    assert 50 < model.decoders["x1"].most <= 100


def test_blocks_of_latents_join_exactly(monkeypatch) -> None:
    batch = LAW.sample(3)
    monkeypatch.setattr("polymodal.metrics.likelihood.LATENTS", 3 * 2 * 10)  # ten draws at a time
    torch.testing.assert_close(
        importance_log_likelihood(linear(), batch, 35), LAW.log_evidence(batch)
    )
    found = importance_log_likelihood(linear(wide), repeated(400), 25) - LAW.log_evidence(
        repeated(1)
    )
    assert within(found.exp(), 1.0)


def test_missing_values_are_left_out_of_the_likelihoods() -> None:
    batch = LAW.sample(6)
    present = {"x2": torch.tensor([True, False, True, False, True, True])}
    holes = Batch(batch.x, present)
    torch.testing.assert_close(
        importance_log_likelihood(linear(), holes, 2), LAW.log_evidence(holes)
    )
    for target, given in (("x2", ["x1"]), ("x1", ["x2", "x3"])):
        found = monte_carlo_log_likelihood(
            linear(lambda b: LAW.posterior(b)), holes, target, given, 5000
        )
        assert torch.equal(found.isnan(), ~present["x2"])
        exact = LAW.conditional(batch.only([target, *given]), target).log_prob(batch.x[target])
        torch.testing.assert_close(found[present["x2"]], exact[present["x2"]], atol=0.15, rtol=0)


def test_likelihoods_refuse_what_they_cannot_compute() -> None:
    batch = LAW.sample(2)
    with pytest.raises(NoDensityError, match="normalised"):
        importance_log_likelihood(
            linear(lambda b: Product([wide(b)], StandardNormal(2)(), HMC())), batch
        )
    with pytest.raises(ValueError, match="at least 1, got 0"):
        importance_log_likelihood(linear(), batch, 0)
    with pytest.raises(ValueError, match="precision"):
        importance_log_likelihood(linear(), batch, 2, decoding=Decoding("fp8"))
    with pytest.raises(ValueError, match="not \\['x9'\\]"):
        monte_carlo_log_likelihood(linear(), batch, "x9", ["x1"])


def test_bfloat16_agrees_within_a_tenth_of_a_nat() -> None:
    torch.set_default_dtype(torch.float32)
    modalities = [
        Modality("grey", (1, 28, 28), link="sigmoid"),
        Modality("colour", (3, 32, 32), link="sigmoid"),
    ]
    decoders = {m.name: Decoder(m, 20, network_of(m, "mlp")) for m in modalities}
    # A posterior whose density is that of the prior: the estimate is that of the likelihood alone.
    prior = StandardNormal(20)
    model = MultimodalVAE(
        prior, decoders, Posterior(lambda b: prior().expand((len(b),))), modalities
    )
    batch = Batch({m.name: torch.rand(3, *m.shape) for m in modalities})
    found = []
    for precision in (None, "bf16"):
        torch.manual_seed(1)
        found.append(importance_log_likelihood(model, batch, 60, decoding=Decoding(precision)))
    assert 0 < (found[0] - found[1]).abs().max() < 0.1
    assert found[1].dtype == torch.float32


def test_strata_have_their_exact_shares() -> None:
    at = lambda mean: DiagNormal(torch.full((2, 1), mean), torch.full((2, 1), 0.01))
    weights = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.5, 0.5]])
    draws = stratified(Mixture([at(0.0), at(1.0), at(2.0)], weights), 10).squeeze(-1).round()
    for k, counts in enumerate(([2, 8, 0], [0, 5, 5])):
        assert [(draws[:, k] == c).sum().item() for c in range(3)] == counts
    # The order carries nothing: every place has the law of the mixture.
    first = torch.stack(
        [stratified(Mixture([at(0.0), at(1.0)]), 3)[0].round().flatten() for _ in range(400)]
    )
    assert within(first[:, 0], 0.5) and within(first[:, 1], 0.5)


def test_strata_of_two_independent_mixtures_are_independent() -> None:
    mixture = Mixture(
        [DiagNormal(torch.full((1, 1), m), torch.full((1, 1), 0.01)) for m in (-1.0, 1.0)]
    )
    z = stratified(Joint(mixture, mixture), 20_000).squeeze(1)
    assert (z > 0).sum(0).tolist() == [10_000, 10_000], "each has its exact shares"
    assert abs((z[:, 0] * z[:, 1]).mean()) < 4 / math.sqrt(len(z))


@pytest.mark.parametrize(("total", "most"), [(1000, 490), (5, 100), (7, 1), (3, 0)])
def test_pieces_cover_everything_once(total: int, most: int) -> None:
    cut = list(pieces(total, most))
    assert [i for s in cut for i in range(s.start, s.stop)] == list(range(total))
    assert max(s.stop - s.start for s in cut) <= max(most, 1)


# ------------------------------------------------------------
# Frechet


def coloured(n: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """n samples whose empirical mean and covariance are exactly these."""
    x = torch.randn(n, len(mean))
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def spread(dim: int) -> Tensor:
    a = torch.randn(dim, dim)
    return a @ a.T / dim + 0.1 * torch.eye(dim)


@pytest.mark.parametrize("dim", [1, 5, 30])
def test_frechet_of_normals_is_the_closed_form(dim: int) -> None:
    m, n, S, T = torch.randn(dim), torch.randn(dim), spread(dim), spread(dim)
    root = torch.from_numpy(sqrtm((S @ T).numpy()).real)
    exact = (m - n).square().sum() + (S + T - 2 * root).trace()
    found = frechet_distance(coloured(200, m, S), coloured(300, n, T))
    assert found == pytest.approx(exact.item(), rel=1e-9)


@pytest.mark.parametrize("n", [20, 200], ids=["rank deficient", "full rank"])
def test_frechet_of_equal_sets_is_zero_and_order_is_nothing(n: int) -> None:
    x, y = torch.randn(n, 50), torch.randn(n, 50) + 0.5
    assert abs(frechet_distance(x, x)) < 1e-10
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x, y) == pytest.approx(
        frechet_distance(x[torch.randperm(n)], y[torch.randperm(n)]), rel=1e-10
    )
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(2 * x, 2 * y) / 4, rel=1e-10)


def test_the_jackknife_error_is_that_of_repeated_samples() -> None:
    pairs = [
        frechet_with_error(torch.randn(300, 4), 1.3 * torch.randn(300, 4) + 0.5) for _ in range(60)
    ]
    values, errors = torch.tensor(pairs).T
    assert 0.75 < (errors.square().mean().sqrt() / values.std()).item() < 1.3
    assert math.isnan(frechet_with_error(torch.randn(19, 2), torch.randn(19, 2))[1])


def test_frechet_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="same number of features"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(5, 2))


def test_the_bias_of_frechet_is_as_its_docstring_says() -> None:
    """Of white features of the same law: 2F/N + F(F + 1)/(2N)."""
    n, dim = 400, 6
    distances = [frechet_distance(torch.randn(n, dim), torch.randn(n, dim)) for _ in range(200)]
    expected = 2 * dim / n + dim * (dim + 1) / (2 * n)
    assert sum(distances) / 200 == pytest.approx(expected, rel=0.05)


class MeanAndSpread(nn.Module):
    """Stands for the Inception network: the mean and the spread of each channel."""

    def __init__(self, **options) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 3 and x.dtype == torch.uint8
        return torch.cat([x.float().mean((2, 3)), x.float().std((2, 3))], 1)


@pytest.fixture
def features(monkeypatch):
    """Features of images by a stand-in for Inception."""
    module = SimpleNamespace(NoTrainInceptionV3=MeanAndSpread)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)
    monkeypatch.setattr("polymodal.metrics.frechet.find_spec", lambda name: True)
    inception.cache_clear()
    yield inception(torch.device("cpu"))
    inception.cache_clear()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (lambda x: 2 * x - 1, r"in \[0, 1\], got values from -"),
        (lambda x: 1 + 255 * x, r"in \[0, 1\], got values from"),
        (lambda x: x + torch.nan, "in .0, 1., got values from nan"),
        (lambda x: x[:, :2], "1 or 3 channels"),
        (lambda x: torch.cat([x, x[:, :1]], 1), "1 or 3 channels"),
        (lambda x: x[:, 0, 0], "1 or 3 channels"),
    ],
)
def test_fid_refuses_what_is_no_picture_in_the_unit_interval(features, images, said) -> None:
    x = 0.01 + 0.98 * torch.rand(20, 3, 8, 8)
    assert features(x).shape == (20, 6) and features(x[:, :1]).shape == (20, 6)
    with pytest.raises(UnavailableError, match=said):
        features(images(x))


@pytest.mark.parametrize(("shift", "channels"), [(0.0, 3), (-2.0, 3), (0.0, 4)])
def test_fid_of_other_values_is_an_empty_row(features, shift: float, channels: int) -> None:
    """Values outside [0, 1] are not clamped: two sets would become one. Generated means of a normal
    likelihood may leave [0, 1] a little, and count as the nearest value.
    """
    modality = Modality("a", (channels, 8, 8))
    x = torch.rand(30, channels, 8, 8) + shift
    data = Dataset([modality], {"a": x})

    class Decoder(nn.Module):
        def forward(self, z: torch.Tensor) -> IsotropicNormal:
            return IsotropicNormal(1.5 * x[: len(z)] - 0.2, 1.0, 3)

    model = SimpleNamespace(decoders={"a": Decoder()}, modalities=[modality])
    model.latents = lambda batch, n: torch.zeros(n, 1, 2)
    model.draw = lambda batch: SimpleNamespace(z=torch.zeros(1, len(batch), 2), report=None)
    measurement = Measurement(model, data)
    if shift or channels == 4:
        with pytest.raises(UnavailableError):
            METRICS["fid"].compute(measurement, ("a",), "a")
    else:
        value, _, n = METRICS["fid"].compute(measurement, ("a",), "a")
        fake = features((1.5 * x - 0.2).clamp(0, 1))
        assert n == 30 and value == pytest.approx(frechet_distance(features(x), fake)) and value > 1


def test_inception_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("polymodal.metrics.frechet.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install polymodal\[image\]"):
        inception(torch.device("cpu"))


# ------------------------------------------------------------
# coherence

CLASSES = 10


class OneHot(nn.Module):
    """p(x|z) around the `CLASSES` coordinates of z from `first` on, rolled by `roll`."""

    def __init__(self, first: int = 0, roll: int = 0) -> None:
        super().__init__()
        self.first, self.roll = first, roll

    def forward(self, z: Tensor) -> IsotropicNormal:
        return IsotropicNormal(
            z[..., self.first : self.first + CLASSES].roll(self.roll, -1), 1.0, 1
        )


def oracle() -> LabelClassifier:
    """Sees the class in the largest coordinate."""
    net = Classifier(nn.Identity(), CLASSES, CLASSES)
    nn.init.eye_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return LabelClassifier(net.eval(), False, 1.0)


CLASSIFIERS = Classifiers({"a": oracle(), "b": oracle()})


def generator(roll: int = 0, first: int = 0, latent: int = CLASSES) -> MultimodalVAE:
    """Copies what is given into z and z into both modalities, the second rolled or from other
    coordinates.
    """
    q = lambda b: DiagNormal(next(iter(b.x.values())), torch.full((len(b), CLASSES), 0.01))
    modalities = [Modality(m, (CLASSES,)) for m in ("a", "b")]
    decoders = {"a": OneHot(), "b": OneHot(first, roll)}
    return MultimodalVAE(StandardNormal(latent), decoders, Posterior(q), modalities)


def digits(n: int = 400, counts: Tensor | None = None) -> Dataset:
    label = (
        torch.randint(CLASSES, (n,))
        if counts is None
        else torch.arange(CLASSES).repeat_interleave(counts)
    )
    x = nn.functional.one_hot(label, CLASSES).to(torch.get_default_dtype())
    modalities = [Modality("a", (CLASSES,)), Modality("b", (CLASSES,))]
    return Dataset(modalities, {"a": x, "b": x}, label=label, classes=range(CLASSES))


def measured(name: str, model: MultimodalVAE, data: Dataset, **options) -> tuple:
    """The value of a metric of `data` for b given a, and for joint samples."""
    measurement = Measurement(
        model, data, classifiers=CLASSIFIERS, options=MeasurementOptions(**options)
    )
    given, target = ((), "a+b") if name.startswith("joint") else (("a",), "b")
    return METRICS[name].compute(measurement, given, target)


def coherent(model: MultimodalVAE, data: Dataset, **options) -> Tensor:
    """Whether each sample's b, generated given a, shows its label."""
    options = MeasurementOptions(**options)
    return correct(Measurement(model, data, None, CLASSIFIERS, options), ("a",), "b")[0]


def test_an_oracle_generator_is_coherent_and_shuffled_labels_are_chance() -> None:
    data = digits(2000)
    assert (coherent(generator(), data) == 1).all()
    assert (coherent(generator(roll=1), data) == 0).all()
    wrong = torch.arange(2000) < 700
    table = {
        **data.tables,
        "a": torch.where(wrong[:, None], data.tables["a"].roll(1, -1), data.tables["a"]),
    }
    some = coherent(generator(), Dataset(data.modalities, table, label=data.label))
    assert torch.equal(some, (~wrong).double()), "every sample has its own"
    shuffled = Dataset(data.modalities, data.tables, label=data.label[torch.randperm(len(data))])
    assert within(coherent(generator(), shuffled), 0.1)


def test_coherence_counts_each_draw() -> None:
    """A model that is right with probability .3 has coherence .3, with the standard error of a
    share; every seed has its own draws.
    """
    model = generator()
    at = lambda x: DiagNormal(x, torch.full_like(x, 0.01))
    model.posterior = Posterior(
        lambda b: Mixture([at(b.x["a"]), at(b.x["a"].roll(1, -1))], torch.tensor([0.3, 0.7]))
    )
    value, error, n = measured("coherence", model, digits(2000))
    assert abs(value - 0.3) < 3.5 * error and n == 2000
    assert error == pytest.approx(math.sqrt(0.3 * 0.7 / 2000), rel=0.1)
    again, other = (coherent(model, digits(2000), seed=seed) for seed in (0, 1))
    assert again.mean() == value and not torch.equal(again, other)


def test_macro_and_plain_differ_on_imbalanced_classes() -> None:
    counts = torch.tensor([910] + [10] * 9)
    data = digits(counts=counts)
    right = torch.where(data.label == 0, 1.0, 0.0)
    assert mean_and_error(right)[0] == pytest.approx(0.91) and macro_mean_and_error(
        right, data.label
    )[0] == pytest.approx(0.1)
    chance = torch.rand(1000) < torch.where(data.label == 0, 0.9, 0.2)
    value, error = macro_mean_and_error(chance, data.label)
    exact = (
        math.sqrt(0.09 / 910 + 9 * 0.16 / 9) / 10
    )  # sum of p (1 - p) / (n - 1) or so, over ten classes
    assert abs(value - (0.9 + 9 * 0.2) / 10) < 3.5 * exact and error == pytest.approx(
        exact, rel=0.35
    )


def test_standard_errors() -> None:
    x = torch.tensor([1.0, 2.0, 4.0, 9.0])
    mean, error = mean_and_error(x)
    assert mean == 4.0 and error == pytest.approx(math.sqrt(((9 + 4 + 0 + 25) / 3) / 4))
    assert math.isnan(mean_and_error(x[:1])[1])


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 1.0), ({"roll": 1}, 0.0), ({"first": CLASSES}, 0.1)]
)
def test_joint_coherence(options: dict, expected: float) -> None:
    model = generator(**options, latent=2 * CLASSES)
    value, error, n = measured("joint_coherence", model, digits(3000))
    assert abs(value - expected) <= 3.5 * error and n == 3000
    assert (error == 0) == (expected in (0.0, 1.0))


def test_attributes_agree_in_shares() -> None:
    found = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0]])
    assert agreement(found, torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])).tolist() == [0.75, 1.0]
    assert unanimity({"a": found, "b": 1 - found, "c": found}).tolist() == [0.0, 0.0]
    assert unanimity({"a": torch.tensor([3, 4]), "b": torch.tensor([3, 5])}).tolist() == [1.0, 0.0]


def test_coherence_skips_what_is_missing_and_refuses_what_it_cannot_classify() -> None:
    data = digits(30)
    present = torch.arange(30) % 3 > 0
    holes = Dataset(
        data.modalities, data.tables, present={"a": present}, label=data.label, classes=data.classes
    )
    right = coherent(generator(), holes, batch=7)
    assert len(right) == present.sum() and (right == 1).all()
    only_a = Measurement(generator(), data, classifiers=Classifiers({"a": oracle()}))
    with pytest.raises(ValueError, match="no classifier for 'b'"):
        METRICS["coherence"].compute(only_a, ("a",), "b")
    with pytest.raises(ValueError, match="no labels"):
        coherent(generator(), Dataset(data.modalities, data.tables))
    with pytest.raises(UnavailableError, match="Fewer than two modalities"):
        METRICS["joint_coherence"].compute(only_a, (), "a+b")


# ------------------------------------------------------------
# classifiers


def test_a_modality_without_training_values_has_no_classifier(tmp_path) -> None:
    torch.set_default_dtype(torch.float32)
    whole = bars(40, 0)
    absent = replace(whole, present={"vector": torch.zeros(len(whole), dtype=torch.bool)})
    training = ClassifierTraining(steps=5)  # with a rise of one step OneCycleLR divides by zero
    only = Classifiers.fit_or_load(Splits(absent, absent, absent, "bars"), training, tmp_path)
    assert list(only) == ["image"]
    unseen = Classifiers.fit_or_load(Splits(whole, absent, absent, "bars"), training, tmp_path)
    assert math.isnan(unseen["vector"].accuracy) and unseen["vector"].size == 0


def bars(n: int, seed: int) -> Dataset:
    """Bright bars on noise, level or upright by label, each image in two samples; vectors that tell
    the label too.
    """
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=g)
    image = 0.2 * torch.rand(n, 1, 16, 16, generator=g)
    image[label == 0, :, 7:9, :] = 1
    image[label == 1, :, :, 7:9] = 1
    vector = torch.randn(n, 3, generator=g) + 2 * label[:, None]
    both = {"image": (255 * image).to(torch.uint8), "vector": vector.float()}
    modalities = [Modality("image", (1, 16, 16)), Modality("vector", (3,))]
    twice = {m: torch.arange(n).repeat(2) for m in both}
    return Dataset(modalities, both, twice, label=label.repeat(2))


@pytest.fixture
def barred() -> Splits:
    torch.set_default_dtype(torch.float32)
    return Splits(bars(100, 0), bars(40, 1), bars(60, 2), "bars")


def test_classifiers_are_trained_once_and_read_again(barred: Splits, tmp_path, monkeypatch) -> None:
    told: list[str] = []
    before = torch.get_rng_state()
    first = Classifiers.fit_or_load(barred, ClassifierTraining(steps=25), tmp_path, told.append)
    assert torch.equal(before, torch.get_rng_state()), (
        "training draws from a random stream of its own"
    )
    assert first.accuracy["image"] > 0.95 and first.accuracy["vector"] > 0.9 and len(told) == 4
    files = sorted(tmp_path.iterdir())
    assert [f.suffix for f in files] == [".safetensors"] * 2

    monkeypatch.setattr(training, "train_network", lambda *_: pytest.fail("trained again"))
    second = Classifiers.fit_or_load(barred, ClassifierTraining(steps=25), tmp_path)
    assert second.accuracy == first.accuracy
    assert [c["image"].size for c in (first, second)] == [60, 60]
    for m in ("image", "vector"):
        mine, theirs = (c[m].net.state_dict() for c in (first, second))
        assert all(torch.equal(v, theirs[k]) for k, v in mine.items())


def test_a_measurement_folds_batch_normalisation_into_the_weights() -> None:
    """Features and labels stay; the network that was given stays as it is."""
    net, x = compact((1, 16, 16), CLASSES), torch.rand(8, 1, 16, 16)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
    net(3 * x + 1)  # statistics other than 0 and 1
    before = copy.deepcopy(net.eval().state_dict())
    given = Classifiers({"b": LabelClassifier(net, False, 1.0)})
    used = Measurement(generator(), digits(8), classifiers=given).classifier("b")
    assert not [p for p in used.net.modules() if isinstance(p, nn.BatchNorm1d | nn.BatchNorm2d)]
    features, labels = used(x)
    torch.testing.assert_close(features.double(), net.features(x).float().double())
    assert torch.equal(labels, net(x).argmax(-1))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_modality_has_the_network_that_is_chosen_for_it(tmp_path, monkeypatch) -> None:
    torch.set_default_dtype(torch.float32)
    modalities = [Modality(m, (1, 28, 28)) for m in "ab"]
    x = {m: torch.rand(8, 1, 28, 28) for m in "ab"}
    data = Dataset(modalities, x, label=torch.arange(8) % 2)
    splits, told = Splits(data, data, data, "two"), []
    steps = ClassifierTraining(steps=1)
    made = Classifiers.fit_or_load(splits, steps, tmp_path, told.append, {"b": "compact"})
    convolutions = [
        sum(isinstance(part, nn.Conv2d) for part in made[m].net.modules()) for m in "ab"
    ]
    assert convolutions == [2, 5]  # table 8, and compact
    assert "a (senellart-cnn, 15," in told[0] and "b (compact, " in told[2]
    monkeypatch.setattr(training, "check_memory", partial(training.check_memory, most=1e6))
    with pytest.raises(ValueError, match=r"compact of 'a' needs about .* GB"):
        Classifiers.fit_or_load(splits, steps, tmp_path, networks={"a": "compact"})
    with torch.device("meta"):
        colour = senellart_cnn((3, 32, 32), 10)
    assert sum(p.numel() for p in colour.parameters()) == 70_037_162


def test_few_values_are_classified_by_the_nearest_however_soft_they_are(tmp_path) -> None:
    """A half-bright drawing is still that drawing; values that do not repeat, or bear two labels,
    need a network.
    """
    torch.set_default_dtype(torch.float32)
    patterns = torch.zeros(6, 1, 16, 16, dtype=torch.uint8)
    for k in range(6):
        patterns[k, 0, 2 * k : 2 * k + 3] = 255
    kind = torch.arange(60) % 6
    data = Dataset([Modality("image", (1, 16, 16))], {"image": patterns[kind]}, label=kind // 2)
    classifier = Classifiers.fit_or_load(Splits(data, data, data, "bars"), cache=tmp_path)["image"]
    assert classifier.accuracy == 1 and not list(tmp_path.iterdir())
    soft = 0.4 * patterns[kind] / 255 + 0.1 * torch.rand(
        60, 1, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(classifier(soft)[1], kind // 2)
    part = LabelledValues(data.tables["image"], torch.arange(60), kind // 2)
    assert Nearest.of(part, few=5) is None
    assert Nearest.of(part._replace(labels=torch.arange(60) % 4)) is None
    assert Nearest.of(LabelledValues(part.table, torch.arange(6), kind[:6])) is None


def test_other_data_and_damaged_files_are_trained_anew(barred: Splits, tmp_path, caplog) -> None:
    fit = lambda data: Classifiers.fit_or_load(data, ClassifierTraining(steps=2), tmp_path)
    first = fit(barred)
    other = Splits(bars(100, 9), barred.val, barred.test, "bars")
    fit(other)
    assert len(list(tmp_path.iterdir())) == 4
    flipped = Dataset(
        barred.train.modalities,
        barred.train.tables,
        barred.train.index,
        label=1 - barred.train.label,
    )
    fit(Splits(flipped, barred.val, barred.test, "bars"))
    assert len(list(tmp_path.iterdir())) == 6, "the labels are part of the key"
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    torch.rand(1)  # where the user's random stream stands is nothing to the classifiers
    again = fit(barred)
    assert "damaged" in caplog.text
    state = first["image"].net.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again["image"].net.state_dict().items()), (
        "seeded"
    )


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    barred: Splits, tmp_path, caplog
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert Classifiers.fit_or_load(barred, ClassifierTraining(steps=1), blocked).keys() == {
        "image",
        "vector",
    }
    assert "cannot be written" in caplog.text


def test_a_classifier_sees_each_value_once_with_its_label() -> None:
    data = bars(50, 0).take(torch.tensor([3, 53, 7, 8, 57]))
    table, rows, labels = distinct(data, "image")
    assert (
        rows.tolist() == [3, 7, 8]
        and torch.equal(labels, bars(50, 0).label[[3, 7, 8]])
        and len(table) == 50
    )
    holes = Dataset(
        data.modalities,
        data.tables,
        data.index,
        {"image": torch.tensor([True, False, False, True, True])},
        label=data.label,
    )
    assert distinct(holes, "image")[1].tolist() == [3, 7, 8]
    assert distinct(
        Dataset(
            data.modalities, data.tables, data.index, {"image": torch.arange(5) < 3}, data.label
        ),
        "image",
    )[1].tolist() == [3, 7]


def test_attributes_are_their_own_labels(tmp_path) -> None:
    torch.set_default_dtype(torch.float32)
    modalities = [Modality("x", (4,)), Modality("flags", (4,), "bernoulli")]

    def part(n: int) -> Dataset:
        flags = (torch.rand(n, 4) < 0.5).float()
        return Dataset(modalities, {"x": 3 * flags + 0.1 * torch.randn(n, 4), "flags": flags})

    splits = Splits(part(300), part(50), part(100), "flags")
    found = Classifiers.fit_or_load(splits, ClassifierTraining(steps=60), tmp_path)
    assert found.accuracy["flags"] == 1.0 and found.accuracy["x"] > 0.95
    batch = splits.test.batch(torch.arange(100))
    assert labels_of(splits.test).shape == (100, 4)
    assert agreement(found["flags"](batch.x["flags"] * 0.9)[1], labels_of(splits.test)).min() == 1
    with pytest.raises(ValueError, match="no labels"):
        Classifiers.fit_or_load(
            Splits(*(Dataset(modalities[:1], {"x": torch.zeros(5, 4)}),) * 3), cache=tmp_path
        )


@pytest.mark.parametrize(
    ("shape", "network", "parameters"),
    [
        ((1, 28, 28), senellart_cnn, 15_898_922),
        ((3, 32, 32), senellart_cnn, 70_037_162),
        ((3, 32, 32), compact, 1_333_834),
        ((3, 64, 64), compact, 1_335_370),
        ((40,), compact, 26_122),
    ],
)
def test_network_sizes(shape: tuple[int, ...], network, parameters: int) -> None:
    """Table 8: 30976 and 67712 features after valid 4x4 convolutions."""
    torch.set_default_dtype(torch.float32)
    if network is senellart_cnn:
        with torch.device("meta"):
            net = network(shape, 10)
    else:
        net = network(shape, 10)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_shifts_move_by_up_to_so_much() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6).expand(200, -1, -1, -1)
    by = torch.randint(-1, 2, (2, len(x), 1))
    moved = shifted(x, by)
    assert moved.shape == x.shape
    corners = set(moved[:, 0, 2, 2].tolist())
    assert corners == {7.0, 8.0, 9.0, 13.0, 14.0, 15.0, 19.0, 20.0, 21.0}
    assert torch.equal(shifted(x, 0 * by), x)


# ------------------------------------------------------------
# probe


def test_the_probe_reads_what_is_there() -> None:
    label = torch.randint(3, (400,))
    told = torch.randn(400, 5) + 6 * nn.functional.one_hot(label, 5)
    assert linear_probe(told[:200], label[:200], told[200:], label[200:]).mean() > 0.97
    assert within(
        linear_probe(torch.randn(200, 5), label[:200], torch.randn(200, 5), label[200:]), 1 / 3, 4
    )
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(told[:5], torch.zeros(5), told, label)


def test_latent_means_are_exact_or_averages_of_draws() -> None:
    batch = LAW.sample(3)
    torch.testing.assert_close(latent_means(linear(), batch), LAW.posterior(batch).mean)

    class Hidden(DiagNormal):
        @property
        def mean(self) -> Tensor:
            raise NotImplementedError

    narrow = lambda b: Hidden(LAW.posterior(b).mean, torch.full((len(b), 2), 1e-3))
    torch.testing.assert_close(
        latent_means(linear(narrow), batch), LAW.posterior(batch).mean, atol=5e-3, rtol=0
    )


def test_kappa_is_agreement_beyond_chance_with_an_honest_error() -> None:
    """0 for modalities apart, however alike their classes; its error is the spread over
    repetitions.
    """
    torch.manual_seed(0)
    draw = lambda n: torch.multinomial(torch.tensor([0.85, 0.1, 0.05]), n, replacement=True)

    def sample(n: int, shared: float) -> dict[str, torch.Tensor]:
        common, own = draw(n), torch.rand(n) < shared
        return {m: torch.where(own, common, draw(n)) for m in "abcd"}

    assert abs(kappa(sample(100_000, 0.0))[0]) < 0.01
    assert kappa(sample(100_000, 0.6))[0] == pytest.approx(0.6, abs=0.015)
    many = [kappa(sample(400, 0.6)) for _ in range(300)]
    values, errors = (torch.tensor(v) for v in zip(*many, strict=True))
    assert errors.mean() == pytest.approx(float(values.std()), rel=0.12)
    with pytest.raises(UnavailableError, match="one and the same class"):
        kappa({m: torch.zeros(9, dtype=torch.long) for m in "ab"})
