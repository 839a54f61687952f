"""Probes with few and all labels, clusters, and retrieval: against scikit-learn, loops and latents
whose answer is known.
"""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.data import Dataset
from polymodal.distributions.normal import DiagNormal
from polymodal.metrics import METRICS, Measurement, UnavailableError, probe, retrieval
from polymodal.metrics.representation import clusters, score_with_error
from polymodal.metrics.retrieval import recall_at
from polymodal.model import MultimodalVAE
from polymodal.posteriors import Posterior
from polymodal.priors import StandardNormal
from test_evaluation import a_run, splits

pytestmark = pytest.mark.usefixtures("double")
MODALITIES = [Modality(m, (4,)) for m in "ab"]
CHANCE = ("retrieval_1", "retrieval_5", "retrieval_10", "retrieval_chance")


class Reads(Posterior):
    """A normal whose mean is the value of its first modality, times `size`."""

    def __init__(self, size: float = 1.0) -> None:
        super().__init__()
        self.size, self.calls = size, []

    def forward(self, batch: Batch) -> DiagNormal:
        self.calls.append(tuple(batch.x))
        loc = self.size * next(iter(batch.x.values()))
        return DiagNormal(loc, torch.ones_like(loc))


def measurement(
    a: Tensor, b: Tensor, label: Tensor | None, size: float = 1.0, **data
) -> Measurement:
    """Of a model whose latents are the values."""
    model = MultimodalVAE(StandardNormal(4), {}, Reads(size), MODALITIES)
    part = Dataset(MODALITIES, {"a": a, "b": b}, label=label, **data)
    return Measurement(model, part, part)


def classes(n: int, size: float = 3.0) -> tuple[Tensor, Tensor]:
    """Four clouds of the standard deviation 1 whose centres lie `size` from 0, and their labels."""
    label = torch.arange(n) % 4
    return size * torch.eye(4)[label] + torch.randn(n, 4), label


def test_probes_with_500_and_all_labels_are_those_of_scikit_learn() -> None:
    x, label = classes(3000, 1.0)
    m = measurement(x, x, label)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(0))
    for name, rows in (("probe_500", order[:500]), ("probe", order[:2000]), ("probe_all", order)):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        fitted.fit(x[rows].numpy(), label[rows].numpy())
        value, error, n = METRICS[name].compute(m, ("a",), "z")
        assert value == pytest.approx(fitted.score(x.numpy(), label.numpy())) and n == 3000
        assert 0 < error < 0.01 and value < 0.9


def test_latents_are_encoded_once_for_all_measures_of_the_representation() -> None:
    x, label = classes(200)
    m = measurement(x, x, label)
    for name in ("probe", "probe_500", "cluster_ari", "cluster_nmi"):
        METRICS[name].compute(m, ("a",), "z")
    for name in CHANCE:
        METRICS[name].compute(m, ("a",), "b")
    assert m.model.posterior.calls == [("a",), ("a",), ("b",)], "training, test, partners"


def test_clusters_are_the_classes_of_clouds_apart_and_chance_without_them() -> None:
    x, label = classes(400, 12.0)
    for name in ("cluster_ari", "cluster_nmi"):
        value, error, n = METRICS[name].compute(measurement(x, x, label), ("a",), "z")
        assert (value, error, n) == (pytest.approx(1), pytest.approx(0, abs=1e-12), 400)
        shuffled = label[torch.randperm(400)]
        value, error, _ = METRICS[name].compute(measurement(x, x, shuffled), ("a",), "z")
        assert abs(value) < 0.03 and error < 0.03
    x, label = classes(400, 2.5)
    found = clusters(x, 4)
    for name, score in (
        ("cluster_ari", adjusted_rand_score),
        ("cluster_nmi", normalized_mutual_info_score),
    ):
        value, error, _ = METRICS[name].compute(measurement(x, x, label), ("a",), "z")
        assert value == pytest.approx(score(label.numpy(), found.numpy()))
        assert 0.2 < value < 0.95 and error > 0


def test_the_error_of_clusters_is_that_of_repetitions() -> None:
    def once() -> tuple[float, float]:
        x, label = classes(200, 4.0)
        return score_with_error(adjusted_rand_score, label, x.argmax(1))

    values, errors = torch.tensor([once() for _ in range(100)]).T
    assert errors.square().mean().sqrt().item() == pytest.approx(values.std().item(), rel=0.25)


def test_clusters_of_one_class_or_too_few_samples_are_refused() -> None:
    x, label = classes(40)
    with pytest.raises(UnavailableError, match="one and the same class"):
        METRICS["cluster_ari"].compute(measurement(x, x, 0 * label), ("a",), "z")
    with pytest.raises(UnavailableError, match="9 clusters need as many samples, got 4"):
        clusters(x[:4], 9)
    assert METRICS["cluster_nmi"].compute(measurement(x, x, None), ("a",), "z") is None


@pytest.mark.parametrize("k", [1, 5])
def test_recall_is_that_of_sorting(k: int) -> None:
    query, gallery = torch.randn(60, 3), torch.randn(40, 3)
    partner = torch.randint(40, (60,))
    expected = [
        float(int(p) in sorted(range(40), key=lambda j, q=q: (q - gallery[j]).norm().item())[:k])
        for q, p in zip(query, partner, strict=True)
    ]
    assert recall_at(k, query, gallery, partner).tolist() == expected


def test_equal_latents_find_their_partner_and_others_by_chance() -> None:
    x, label = classes(300)
    oracle = measurement(x, x + 1e-9 * torch.randn(300, 4), label)
    assert [METRICS[n].compute(oracle, ("a",), "b")[0] for n in CHANCE[:3]] == [1, 1, 1]
    for other in (
        measurement(x, x[torch.randperm(300)], label),  # shuffled
        measurement(x, x, label, size=0.0),  # one latent for all
    ):
        for name, k in zip(CHANCE, (1, 5, 10, 1), strict=True):
            value, error, n = METRICS[name].compute(other, ("b",), "a")
            assert abs(value - k / 300) <= 4 * error + 0.02 and n == 300
    assert METRICS["retrieval_5"].compute(other, ("a",), "b")[0] == pytest.approx(5 / 300)


def test_the_two_ways_differ() -> None:
    """a: 0 and 1, b: 0.9 and 1. From a both partners are nearest; from 0.9 it is the wrong one."""
    a, b = torch.zeros(2, 4), torch.zeros(2, 4)
    a[:, 0], b[:, 0] = torch.tensor([0.0, 1.0]), torch.tensor([0.9, 1.0])
    m = measurement(a, b, torch.arange(2))
    assert METRICS["retrieval_1"].compute(m, ("a",), "b")[0] == 1
    assert METRICS["retrieval_1"].compute(m, ("b",), "a")[0] == 0.5


def test_a_shared_value_stands_in_the_gallery_once() -> None:
    """Ten samples for each of 30 values: whichever of them is found is the partner."""
    x, _ = classes(300)
    few = x[:30]
    index = {"a": torch.arange(300), "b": torch.arange(300) % 30}
    m = measurement(few[index["b"]] + 1e-3 * torch.randn(300, 4), few, index["b"], index=index)
    assert METRICS["retrieval_1"].compute(m, ("a",), "b")[0] == 1
    assert METRICS["retrieval_chance"].compute(m, ("a",), "b") == (1 / 30, 0.0, 300)
    assert METRICS["retrieval_10"].compute(m, ("b",), "a")[0] == pytest.approx(1)


def test_the_gallery_has_a_stated_size_and_only_pairs(monkeypatch) -> None:
    x, label = classes(300)
    present = {"b": torch.arange(300) % 3 > 0}
    m = measurement(x, x, label, present=present)
    assert METRICS["retrieval_1"].compute(m, ("a",), "b") == (1.0, 0.0, 200)
    monkeypatch.setattr(retrieval, "GALLERY", 50)
    assert METRICS["retrieval_chance"].compute(m, ("a",), "b") == (1 / 50, 0.0, 50)
    assert METRICS["retrieval_1"].compute(m, ("b",), "a") == (1.0, 0.0, 50)


def test_private_latents_do_not_count_in_retrieval() -> None:
    """The partner is found by what the modalities share, whatever else the latent holds."""
    x, label = classes(200)
    noisy = x.clone()
    noisy[:, 2:] = 50 * torch.randn(200, 2)
    m = measurement(x, noisy, label)
    assert METRICS["retrieval_1"].compute(m, ("a",), "b")[0] < 0.3
    type(m.model.posterior).private_columns = {"a": slice(2, 3), "b": slice(3, 4)}
    try:
        assert METRICS["retrieval_1"].compute(m, ("a",), "b")[0] == 1
    finally:
        del type(m.model.posterior).private_columns


def test_metrics_without_a_training_part_say_so() -> None:
    with pytest.raises(UnavailableError, match="needs a training part"):
        METRICS["probe_all"].compute(Measurement(a_run().model, splits().test), ("a",), "z")
    assert probe.FEW == 500


def test_latents_that_are_not_finite_find_nobody() -> None:
    z = torch.randn(6, 2)
    with pytest.raises(UnavailableError, match="finite"):
        recall_at(1, z / 0, z, torch.arange(6))
