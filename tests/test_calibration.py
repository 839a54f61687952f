"""The exponent of products of likelihoods: known where the likelihoods are linear and normal."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from polymodal import fit, load, load_data
from polymodal.batch import Batch
from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.methods.calibration import _some, _subsets, fit_exponent
from polymodal.sampling import HMC, Importance

SIZE, SHOWN, NOISE = 8, 3, 0.5
SAMPLER = HMC(warmup=40, draws=50)


@dataclass
class Claimed:
    """p(g | z) = N(g; A z, scale^2), whatever the true noise of g is."""

    matrix: Tensor
    g: Tensor
    scale: float

    def log_prob(self, z: Tensor) -> Tensor:
        return Independent(Normal(z @ self.matrix.T, self.scale), 1).log_prob(self.g)

    def linear(self, z: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        left = self.g[rows].unsqueeze(1) - z @ self.matrix.T
        weight = torch.full_like(left, self.scale**-2)
        return left, self.matrix.expand(*z.shape[:2], -1, -1), weight


def tuples(items: int, scale: float) -> tuple[Tensor, list[Claimed], MixtureSameFamily]:
    """z ~ N(0, I) and three modalities A_m z + NOISE, whose likelihoods claim `scale`."""
    z = torch.randn(items, SIZE)
    matrices = [torch.linalg.qr(torch.randn(SIZE, SHOWN)).Q.T for _ in range(3)]
    g = [z @ a.T + NOISE * torch.randn(items, SHOWN) for a in matrices]
    normal = MultivariateNormal(torch.zeros(1, SIZE), torch.eye(SIZE)[None])
    prior = MixtureSameFamily(Categorical(torch.ones(1)), normal)
    return z, [Claimed(a, x, scale) for a, x in zip(matrices, g, strict=True)], prior


def product(
    likelihoods: list[Claimed], prior: MixtureSameFamily, t: Tensor | float
) -> LikelihoodProduct:
    items = len(likelihoods[0].g)
    experts = [DiagNormal(torch.zeros(items, SIZE), torch.ones(items, SIZE))] * len(likelihoods)
    return LikelihoodProduct(experts, prior, Importance(50), None, likelihoods, t)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.25, 1.5], ids="{}".format)
def test_the_exponent_is_the_claimed_variance_by_the_true_one(ratio: float) -> None:
    """1 for exact likelihoods, so that they are not changed; within 3 standard errors and .1."""
    z, likelihoods, prior = tuples(300, NOISE * ratio**0.5)
    found = fit_exponent(lambda t: product(likelihoods, prior, t), z, SAMPLER)
    assert found.exponent == pytest.approx(ratio, rel=0.1)
    assert abs(found.exponent - ratio) < 3 * found.error < 0.2
    assert found.gain > -1e-3
    assert (found.gain < 0.02) == (ratio == 1)


@pytest.mark.usefixtures("double")
def test_the_gain_is_that_of_the_normalised_densities() -> None:
    """log q_t(z) - log q_1(z), for which `start`, exact here, has the constants."""
    z, likelihoods, prior = tuples(300, 0.5 * NOISE)
    found = fit_exponent(lambda t: product(likelihoods, prior, t), z, SAMPLER)
    before, after = (product(likelihoods, prior, t).start() for t in (1.0, found.exponent))
    gain = float((after.log_prob(z) - before.log_prob(z)).mean())
    assert gain > 1
    assert found.gain == pytest.approx(gain, rel=0.1)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("t", [0.4, 1.0, 2.5], ids="{}".format)
def test_the_start_is_exact_for_every_exponent(t: float) -> None:
    """Of one normal, and with absent modalities; log q - log start is the same for all z."""
    _, likelihoods, prior = tuples(4, NOISE)
    whole = product(likelihoods, prior, t)
    present = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]]).bool()
    partial = LikelihoodProduct(whole.experts, prior, Importance(), [*present], likelihoods, t)
    z = torch.randn(5, 4, SIZE)
    for q in (whole, partial):
        constant = q.log_prob(z) - q.start().log_prob(z)
        torch.testing.assert_close(constant, constant[:1].expand_as(constant))
    torch.testing.assert_close(partial.log_prob(z)[:, 3], prior.log_prob(z)[:, 3])
    expected = prior.log_prob(z) + t * sum(p.log_prob(z) for p in likelihoods)
    torch.testing.assert_close(whole.log_prob(z), expected)


def test_subsets_have_two_modalities_or_more_of_those_present_all_sizes_alike() -> None:
    torch.manual_seed(0)
    there = torch.rand(4000, 4) < 0.8
    x = {f"x{m}": torch.zeros(4000, 1) for m in range(4)}
    batch = Batch(x, {f"x{m}": there[:, m] for m in range(4)})
    chosen = _subsets(batch)
    assert not (chosen & ~there).any()
    assert (chosen.sum(1) >= there.sum(1).clamp(max=2)).all()
    sizes = chosen.sum(1)[there.all(1)]
    counts = torch.bincount(sizes, minlength=5)[2:].double() / len(sizes)
    torch.testing.assert_close(counts, torch.full((3,), 1 / 3).double(), atol=0.05, rtol=0)


def test_samples_are_taken_evenly_from_all_batches() -> None:
    parts = [Batch({"a": torch.full((100, 1), float(k))}) for k in range(9)]
    taken = _some(parts).x["a"].flatten()
    assert torch.equal(torch.bincount(taken.long()), torch.full((9,), 15))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    small = {"latent": 2, "hidden": 16, "aggregate": 1, "embedding": {"embedding_size": 3}}
    small |= {"epochs": 4, "lr": 5e-3, "progress": False, "product": "likelihoods"}
    return fit("jnf_dcca", load_data("linear_gaussian", n=600), out=out, **small)


def test_the_exponent_is_saved_with_the_model_and_its_figures_with_the_run(run) -> None:
    figures = run.info["stages"]["likelihoods"]["figures"]
    assert figures["gain_by_exponent"] > -1e-3
    assert 0 < figures["exponent_error"] < 1
    again = load(run.directory).model.posterior
    assert float(again.exponent) == pytest.approx(figures["exponent"]) != 1
    batch = load_data("linear_gaussian", n=600).test.batch(torch.arange(3))
    q, z = again.product(batch), torch.randn(3, 2)
    torch.testing.assert_close(
        q.log_prob(z), q.aggregate.log_prob(z) + again.exponent * q.log_likelihood(z)
    )


def test_a_run_from_before_the_exponent_loads_with_1_and_no_other_entry_may_be_missing(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    def without(name: str) -> Path:
        directory = tmp_path / name
        run.save(directory)
        file = directory / "model.safetensors"
        state, meta = load_file(file), _metadata(file)
        del state[name]
        save_file(state, file, meta)
        return directory

    assert float(load(without("posterior.exponent")).model.posterior.exponent) == 1
    with pytest.raises(ValueError, match=r"posterior\.aggregate\.loc is missing"):
        load(without("posterior.aggregate.loc"))


def _metadata(file: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata()
