"""Filling in: thinning in training, weighted quantiles, importance sampling."""

from functools import partial

import pytest
import torch

from polymodal.batch import Batch, Modality, is_observed
from polymodal.imputation import fill
from polymodal.imputation.weighted import flattened, weighted_latents, weighted_quantiles
from polymodal.methods import METHODS
from polymodal.methods.miwae import ALL, KEPT, thinned
from test_methods import SIZE, batch, build


def large(rows: int = 4000) -> Batch:
    torch.manual_seed(0)
    x = {"a": torch.randn(rows, 20), "b": torch.randn(rows, 3)}
    x["a"][torch.rand(rows, 20) < 0.3] = torch.nan
    return Batch(x, {"b": torch.rand(rows) < 0.7})


def test_thinning_takes_entries_away_and_leaves_something() -> None:
    whole = large()
    torch.manual_seed(1)
    part = thinned(whole, 0.5, ["a"])
    for m in whole.x:
        assert not (part.mask([m]) & ~whole.mask([m])).any()
        kept = part.mask([m])
        same = (part.x[m] == whole.x[m]) | part.x[m].isnan()
        assert same[kept].all()
    something = part.mask(["b"]) | (part.mask(["a"]) & is_observed(part.x["a"]))
    assert something.all() and not part.x["b"][part.mask(["b"])].isnan().any()


def test_thinning_takes_the_stated_shares_away() -> None:
    """Half of the samples, of which a third keep all modalities and the others lose each with
    probability a half (but never both); entries are kept at uniform rates.
    """
    whole = large(20_000)
    torch.manual_seed(2)
    part = thinned(whole, 0.5, ["a"])
    both = whole.mask(["a", "b"])
    lost = (both & ~part.mask(["b"])).sum() / both.sum()
    # A thinned sample keeps b if it is drawn, or if it is the larger draw while neither is.
    expected = 0.5 * (1 - ALL) * (0.25 + 0.125)
    assert abs(float(lost) - expected) < 0.01
    there = part.mask(["a"])
    before, after = ((~v.x["a"].isnan())[there].float().mean(1) for v in (whole, part))
    assert abs(float((after / before).mean()) - (0.5 + 0.5 * sum(KEPT) / 2)) < 0.05
    untouched = thinned(whole, 0.0, ["a"])
    assert torch.equal(untouched.x["a"].isnan(), whole.x["a"].isnan())


def test_weighted_quantiles_of_equal_weights_are_order_statistics() -> None:
    torch.manual_seed(0)
    x = torch.randn(101, 7, 2)
    equal = torch.full((101, 7), 1 / 101)
    levels = torch.tensor([0.1, 0.5, 0.9])
    ours = weighted_quantiles(x, equal, levels)
    theirs = torch.quantile(x, levels, dim=0)
    assert torch.allclose(ours, theirs, atol=0.1)
    assert torch.equal(ours[1], x.sort(0).values[50])


def test_a_draw_without_weight_has_no_say() -> None:
    x = torch.tensor([[0.0], [1e9], [1.0]])
    weight = torch.tensor([[0.5], [0.0], [0.5]])
    assert float(weighted_quantiles(x, weight, torch.tensor([0.99]))) == 1.0


@pytest.mark.parametrize("name", ["miwae", "mvae", "mopoe", "jmvae", "mmvae", "jnf"])
def test_weights_add_up_and_fill_all_entries(name: str) -> None:
    model = build(name).model.eval()
    given = batch().only(["a", "b"])
    latents = weighted_latents(model, given, 50)
    assert torch.allclose(latents.weight.sum(0), torch.ones(SIZE), atol=1e-5)
    assert ((latents.ess >= 1 - 1e-4) & (latents.ess <= 50 + 1e-3)).all()
    filled = fill(model, given, ["a", "c"], draws=3, proposals=50)
    for m in ("a", "c"):
        assert filled[m].center.isfinite().all() and filled[m].draws.shape[:2] == (3, SIZE)
        low, middle, high = filled[m].quantiles
        assert (low <= middle).all() and (middle <= high).all()


def test_weights_are_flattened_until_enough_draws_count() -> None:
    """Up to their power they stay as they are; weights of which enough count are not touched."""
    log_w = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)).double()
    log_w = log_w * torch.tensor([0.1, 0.5, 1.0, 3.0, 10.0, 100.0])
    plain = log_w.softmax(0)
    weight = flattened(log_w, 200)
    effective = 1 / weight.square().sum(0)
    enough = 1 / plain.square().sum(0) >= 200
    assert enough.tolist() == [True, True, False, False, False, False]
    torch.testing.assert_close(weight[:, enough], plain[:, enough])
    torch.testing.assert_close(
        effective[~enough], torch.full((4,), 200.0).double(), rtol=0.01, atol=0
    )
    assert torch.equal(weight.argmax(0), plain.argmax(0))
    torch.testing.assert_close(flattened(log_w, 0), plain)


def test_surrogates_say_how_many_draws_count() -> None:
    modalities = [Modality("a", (3,)), Modality("b", (2,))]
    models = {m: METHODS[m](modalities, latent=2).model for m in ("jnf", "miwae")}
    assert models["miwae"].posterior.least_effective == 0
    x, model = {"a": 40 * torch.randn(5, 3)}, models["jnf"]
    assert weighted_latents(model, model.readable(Batch(x)), 100).ess.min() >= 49


def test_latents_are_decoded_once() -> None:
    """Each decoder runs once for a batch, whether its modality was given, filled in, or both; what
    is kept is what would be decoded again.
    """
    model = build("miwae").model.eval()
    calls = dict.fromkeys(model.decoders, 0)
    for m in calls:
        count = partial(_count, calls, m)
        model.decoders[m].register_forward_hook(count)
    fill(model, batch().only(["a", "b"]), ["a", "c"], proposals=50)
    assert calls == {**dict.fromkeys(calls, 0), "a": 1, "b": 1, "c": 1}
    torch.manual_seed(0)
    kept = weighted_latents(model, batch().only(["a", "b"]), 50, ["a", "c"])
    torch.manual_seed(0)
    plain = weighted_latents(model, batch().only(["a", "b"]), 50)
    assert torch.equal(kept.weight, plain.weight)
    assert list(kept.decoded) == ["a"] and not plain.decoded
    for m in ("a", "c"):
        assert torch.equal(kept.under(model, batch(), m).mean, plain.under(model, batch(), m).mean)


def _count(calls: dict[str, int], m: str, *_: object) -> None:
    calls[m] += 1
