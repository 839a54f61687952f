"""Vocalisations: what is planted is in the data, and is found by a model that is right."""

import pytest
import torch

from polymodal.analysis.bands import band_auc, band_responses, followers
from polymodal.data import load_data


@pytest.fixture(scope="module")
def data():
    return load_data("vocalisations", n=3000, seed=1)


def band_means(call, bands):
    return torch.stack([call[:, 0, low:high].mean((1, 2)) for low, high in bands], 1)


def test_bands_cover_the_rows_and_clusters_are_equal(data) -> None:
    truth = data.truth
    assert truth.bands == ((0, 8), (8, 16), (16, 24), (24, 32))
    assert (truth.cluster + 1).bincount().tolist() == [12] * 5
    assert not torch.equal(truth.cluster.sort().values, truth.cluster)
    assert ((truth.gain > 0) == (truth.cluster >= 0)).all()
    assert [len(p) for p in data.parts.values()] == [2400, 300, 300]


def test_neurons_follow_their_band_and_no_other(data) -> None:
    """log E[count] rises by the planted gain: moments of a Poisson regression on the power."""
    x = data.train.batch(torch.arange(2400)).x
    call, counts = x["call"], x["neurons"]
    assert call.min() >= 0 and call.max() <= 1 and torch.equal(counts, counts.round())
    means = band_means(call, data.truth.bands)
    assert means.T.corrcoef().fill_diagonal_(0).abs().max() < 0.08  # independent powers
    r = torch.cat([counts, means], 1).T.corrcoef()[:60, 60:]
    own = r.gather(1, data.truth.cluster.clamp_min(0)[:, None]).squeeze(1)
    planted = data.truth.cluster >= 0
    others = r.clone().scatter_(1, data.truth.cluster.clamp_min(0)[:, None], 0)
    assert own[planted].min() > 0.25 and own[~planted].abs().max() < 0.08
    assert others.abs().max() < 0.08  # standard error .02
    mean = counts.mean(0)
    gain, rate = data.truth.gain, data.truth.rate
    flat = torch.where(gain > 0, 2 * (gain / 2).sinh() / gain.clamp_min(1e-6), 1)
    expected = rate * flat * torch.tensor(0.02).exp()  # E exp(gain (u - .5)) E exp(.2 N)
    assert (mean / expected - 1).abs().max() < 0.06
    groups = counts[:, ~planted]
    assert groups.T.corrcoef().fill_diagonal_(0).mean() > 0.05  # the arousal that all share


def test_ridges_stay_in_their_band(data) -> None:
    silent = torch.eye(4)  # power in one band only
    calls = data.truth.calls(silent, torch.Generator().manual_seed(0))
    means = band_means(calls, data.truth.bands)
    assert (means.argmax(1) == torch.arange(4)).all()
    assert means[silent == 0].max() < 0.02 < means[silent == 1].min()
    assert calls[:, 0, :, 10:22].amax(1).min() > 0.6  # a ridge between rows: .88, times .85


def test_true_rates_name_all_planted_neurons(data) -> None:
    """With rates that are exp(gain log(mean)) of the band, the response is the gain."""
    truth = data.truth
    chosen = torch.nn.functional.one_hot(truth.cluster.clamp_min(0), 4) * truth.gain[:, None]

    def rates(calls):
        return (band_means(calls, truth.bands).log() @ chosen.T).exp()

    calls = 0.8 * data.test.batch(torch.arange(50)).x["call"]
    responses = band_responses(rates, calls, truth.bands)
    torch.testing.assert_close(responses, chosen.float(), atol=2e-3, rtol=0)
    assert band_auc(responses, truth.cluster).tolist() == [1] * 4
    for band in range(4):
        named = followers(responses, band)
        assert sorted(named) == (truth.cluster == band).nonzero().squeeze(1).tolist()
        assert (responses[named, band].diff() <= 0).all()


def test_chance_has_area_half_and_ties_count_half() -> None:
    cluster = torch.arange(4000) % 3 - 1
    generator = torch.Generator().manual_seed(0)
    areas = band_auc(torch.rand(4000, 2, generator=generator), cluster)
    assert (areas - 0.5).abs().max() < 0.04  # standard error .01
    assert band_auc(torch.zeros(4000, 2), cluster).tolist() == [0.5, 0.5]
    response = torch.tensor([[1.0], [3.0], [2.0], [2.0]])
    assert band_auc(response, torch.tensor([-1, 0, 0, -1])).tolist() == [3.5 / 4]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"n": 9}, "n 9"), ({"bands": 1}, "bands 1"), ({"neurons": 9}, "neurons 9")],
)
def test_what_cannot_be_simulated_is_told(options, says) -> None:
    with pytest.raises(ValueError, match=rf"vocalisations needs n of at least 10.*{says}"):
        load_data("vocalisations", **options)


def test_bands_outside_the_rows_are_told() -> None:
    with pytest.raises(ValueError, match=r"within 32 rows.*got \[\(30, 33\)\]"):
        band_responses(lambda x: x, torch.zeros(1, 1, 32, 32), [(30, 33)])
