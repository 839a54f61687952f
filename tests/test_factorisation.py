"""Probes of the shared and the private parts of a latent: each finds the label where it was put."""

import pytest
import torch
from torch import Tensor, nn

from polymodal.batch import Modality
from polymodal.data import Dataset
from polymodal.distributions.normal import DiagNormal, product
from polymodal.methods import METHODS
from polymodal.metrics import METRICS, Measurement, UnavailableError
from polymodal.model import MultimodalVAE
from polymodal.posteriors import PooledExperts, SharedPrivate
from polymodal.posteriors.pooling import whole
from polymodal.priors import JointPrior, StandardNormal

CLASSES, MODALITIES = 3, [Modality(m, (5,)) for m in "ab"]


class Reads(nn.Module):
    """A normal posterior whose mean is some columns of x."""

    def __init__(self, columns: slice) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, x: Tensor) -> DiagNormal:
        loc = x[:, self.columns]
        return DiagNormal(loc, 0.1 * torch.ones_like(loc))


def model(shared: slice, private: slice) -> MultimodalVAE:
    """z = [u, w_a, w_b]: u reads the columns `shared` of every modality, w_m those of `private`."""
    width = lambda columns: columns.stop - columns.start
    prior = JointPrior([StandardNormal(width(c)) for c in (shared, private, private)])
    pooled = PooledExperts({m: Reads(shared) for m in "ab"}, whole, prior.parts[0], rule=product)
    posterior = SharedPrivate(pooled, {m: Reads(private) for m in "ab"}, prior)
    return MultimodalVAE(prior, {}, posterior, MODALITIES)


def data(n: int, seed: int) -> Dataset:
    """The first three columns of x tell the label, the last two are noise; class 0 is frequent."""
    g = torch.Generator().manual_seed(seed)
    label = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=g)
    told = nn.functional.one_hot(label, CLASSES) * 8.0
    tables = {m: torch.cat([told, torch.zeros(n, 2)], 1) for m in "ab"}
    noisy = {m: x + torch.randn(n, 5, generator=g) for m, x in tables.items()}
    return Dataset(MODALITIES, noisy, label=label)


def figures(m: Measurement) -> dict[tuple[str, tuple, str], tuple[float, float, int]]:
    names = ("probe", "shared_probe", "private_probe", "probe_chance")
    asked = [("a",), ("a", "b")]
    return {
        (name, given, target): METRICS[name].compute(m, given, target)
        for name in names
        for given, target in METRICS[name].places("ab", asked)
    }


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_label_is_found_in_the_part_that_holds_it_and_not_in_the_other(is_shared: bool) -> None:
    label, noise = slice(0, 3), slice(3, 5)
    parts = (label, noise) if is_shared else (noise, label)
    train, test = data(600, 0), data(900, 1)
    found = figures(Measurement(model(*parts), test, train))
    chance, error, n = found["probe_chance", (), "a+b"]
    assert n == 900 and chance == pytest.approx(float((test.label == 0).double().mean()))
    shared = [found["shared_probe", given, "z"][0] for given in (("a",), ("a", "b"))]
    private = [found["private_probe", (m,), m][0] for m in "ab"]
    told, silent = (shared, private) if is_shared else (private, shared)
    assert min(told) > 0.97
    assert all(abs(value - chance) < 4 * error for value in silent)
    assert found["probe", ("a",), "z"][0] > 0.97


def test_the_columns_of_private_latents_are_those_that_decoders_read() -> None:
    method = METHODS["mmvae_plus"](MODALITIES, latent=3, private=2)
    columns = method.model.posterior.private_columns
    assert columns == {"a": slice(3, 5), "b": slice(5, 7)}
    z = torch.randn(4, 7)
    changed = z.clone()
    changed[:, columns["a"]] += 1
    with torch.no_grad():
        before, after = (method.model.eval().decode(v.unsqueeze(0)) for v in (z, changed))
    assert torch.equal(before["b"], after["b"]) and not torch.equal(before["a"], after["a"])


def test_a_method_without_private_latents_has_no_row_and_data_without_labels_a_reason() -> None:
    jmvae = METHODS["jmvae"](MODALITIES, latent=3, hidden=8).model.eval()
    m = Measurement(jmvae, data(20, 0), data(40, 1))
    assert METRICS["shared_probe"].compute(m, ("a",), "z") is None
    assert METRICS["private_probe"].compute(m, ("a",), "a") is None
    bare = Measurement(jmvae, Dataset(MODALITIES, data(20, 0).tables), data(40, 1))
    with pytest.raises(UnavailableError, match="labels in both parts"):
        METRICS["probe_chance"].compute(bare, (), "a+b")
