"""Pictures of a user: networks for any size, what training takes, filling in."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from polymodal import Batch, Dataset, Modality, Splits, fit
from polymodal.cli.main import run as command
from polymodal.data.kinds import mosaic
from polymodal.data.kinds.lettering import lettered
from polymodal.data.readers import decoded as decoded_reader
from polymodal.data.readers.pictures import picture_bytes
from polymodal.distributions import divergence
from polymodal.imputation.baselines import Baselines
from polymodal.imputation.completion import complete
from polymodal.imputation.fill import FEW, fill
from polymodal.imputation.weighted import weighted_latents
from polymodal.methods.miwae import miwae_loss
from polymodal.networks.images import channels, image_decoder, image_encoder
from polymodal.settings.cost import SPEED, epoch_seconds, operations
from polymodal.settings.pictures import EPOCHS, MINUTES, for_pictures
from polymodal.training.advice import warn_of_ignored

IMAGE = Modality("photo", (3, 64, 64), link="sigmoid", kind="image", scale=None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded_reader, "cache_folder", lambda: tmp_path / "cache")


# Networks for any size.


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 28), (1, 8, 8), (3, 50, 21), (4, 96, 96)])
def test_convolutions_read_and_give_any_size(shape) -> None:
    x = torch.rand(2, *shape)
    encoder, decoder = image_encoder(16, shape, 5), image_decoder(16, 4, shape)
    assert encoder(x).shape == (2, 5)
    assert decoder(torch.randn(2, 4)).shape == (2, *shape)


def test_every_pixel_is_read_and_written() -> None:
    shape = (1, 50, 21)
    x = torch.rand(1, *shape, requires_grad=True)
    image_encoder(16, shape, 3)(x).square().sum().backward()
    assert x.grad is not None and (x.grad != 0).all()
    decoder = image_decoder(16, 2, shape)
    images = decoder(torch.randn(32, 2))
    assert (images.std(0) > 0).all()


def test_every_level_takes_the_same_operations() -> None:
    shape = (3, 128, 128)
    sizes = channels(shape, 256)
    work = [
        (128 >> k) ** 2 * inputs * outputs for k, (inputs, outputs) in enumerate(pairwise(sizes))
    ]
    assert max(work) == min(work)


# What training takes.


def splits(count, modalities, present=None):
    parts = []
    for _ in range(3):
        tables = {m.name: torch.zeros(1, *m.shape, dtype=torch.uint8) for m in modalities}
        index = {m.name: torch.zeros(count, dtype=torch.int64) for m in modalities}
        parts.append(Dataset(modalities, tables, index=index, present=present or {}))
    return Splits(*parts)


def test_operations_are_those_of_a_convolution_counted_by_hand() -> None:
    tiny = Modality("x", (1, 8, 8), kind="image", link="sigmoid")
    encoder, _ = operations(tiny, "image-conv")
    # One convolution to 128 channels of 4 x 4 with kernels of 4 x 4, and a linear layer to 64.
    assert encoder == 2 * (4 * 4 * 128 * 4 * 4 + 128 * 4 * 4 * 64)


def test_an_epoch_takes_three_times_the_forward_operations_of_every_sample() -> None:
    encoder, decoder = operations(IMAGE, "image-conv")
    seconds = epoch_seconds([IMAGE], {"photo": "image-conv"}, 1000, encoded=2)
    assert seconds == pytest.approx(3 * 1000 * (2 * encoder + decoder) / SPEED)


@pytest.mark.parametrize("count", [200, 40_000])
def test_default_training_fits_into_its_minutes(monkeypatch, count) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    data = splits(count, [IMAGE, Modality("other", (3, 64, 64), link="sigmoid", kind="image")])
    advice = for_pictures(data, "jnf", "two")
    seconds = epoch_seconds(data.modalities, advice.networks, count, encoded=2)
    assert advice.training["epochs"] * seconds <= 60 * MINUTES
    assert advice.training["epochs"] == EPOCHS or (
        (advice.training["epochs"] + 1) * seconds > 60 * MINUTES
    )
    assert "by an estimate" in advice.because


def test_less_than_an_epoch_is_bounded_by_steps(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("polymodal.settings.pictures.epoch_seconds", lambda *_: 60 * MINUTES * 4.0)
    training = for_pictures(splits(640, [IMAGE]), "vae", "one").training
    assert training["epochs"] == 1
    assert training["max_steps"] == 640 // training["batch"] // 4


def test_a_gpu_trains_longer_with_the_networks_of_the_kinds(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    advice = for_pictures(splits(200, [IMAGE]), "vae", "one")
    assert advice.training["epochs"] > EPOCHS and not advice.networks


def test_pictures_that_some_samples_lack_take_one_encoder_for_all_patterns(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    other = Modality("other", (3, 28, 28), link="sigmoid", kind="image")
    whole = for_pictures(splits(64, [IMAGE, other]), "jnf", "two")
    present = {"other": torch.arange(64) % 2 == 0}
    lacking = for_pictures(splits(64, [IMAGE, other], present), "jnf", "two")
    assert whole.method == "jnf" and lacking.method == "miwae"
    assert lacking.options["k"] == 1  # one picture is decoded for each sample


def test_tables_and_texts_weigh_the_root_of_their_share_of_values() -> None:
    row = Modality("row", (3,), scale=None)
    assert for_pictures(splits(64, [IMAGE, row]), "jnf", "two").weights == {"row": 64.0}


# What a part of a sample says.


def test_the_consensus_is_the_divergence_of_the_posterior_of_a_part() -> None:
    model, data = model_of_pictures()
    batch = data.batch(torch.arange(20))

    def loss(consensus, hide=1.0):
        torch.manual_seed(0)
        return miwae_loss(model, batch, 1.0, hide, (), "elbo", 1, consensus)

    one, three = loss(1.0), loss(3.0)
    assert torch.allclose(three.value - one.value, 2 * one.terms["kl_part"], atol=1e-3)
    lost = one.terms["kl_part"] > 0
    assert 5 < lost.sum() < 20  # a third of the samples lose nothing
    assert (loss(1.0, 1e-9).terms["kl_part"] == 0).all()


def test_with_a_consensus_a_part_says_what_it_can_of_the_rest() -> None:
    torch.manual_seed(0)
    z = torch.randn(400, 1)
    modalities = [Modality("a", (8,), scale=0.5, weight=5.0), Modality("b", (1,), scale=0.5)]
    data = Dataset(modalities, {"a": z.expand(-1, 8) + 0.3 * torch.randn(400, 8), "b": z})
    errors = []
    for consensus in (0.0, 1.0):
        options = {"k": 1, "objective": "elbo", "hide": 0.9, "consensus": consensus}
        training = {"epochs": 15, "batch": 40, "lr": 1e-2, "progress": False}
        method = {"latent": 4, "hidden": 32, **options}
        run = fit("miwae", Splits(data, data, data), method=method, training=training)
        whole, part = (
            run.model.posterior(Batch({m: data.tables[m] for m in given})) for given in ("ab", "b")
        )
        errors.append(divergence(whole, part, whole.mean).mean().item())
    assert errors[1] < 0.6 * errors[0]


# Filling in.


def model_of_pictures():
    """A model of pictures and rows; the second half of the samples lacks the picture."""
    torch.manual_seed(0)
    photo = Modality("photo", (1, 8, 8), link="sigmoid", kind="image", scale=None)
    row = Modality("row", (2,), scale=None)
    x = {"photo": torch.rand(40, 1, 8, 8), "row": torch.randn(40, 2)}
    data = Dataset([photo, row], x, present={"photo": torch.arange(40) < 20})
    training = {"epochs": 1, "progress": False}
    method = {"latent": 2, "hidden": 8, "k": 1, "objective": "elbo"}
    return fit("miwae", Splits(data, data, data), method=method, training=training).model, data


def test_draws_are_weighed_by_rows_and_not_by_pixels() -> None:
    model, data = model_of_pictures()
    latents = weighted_latents(model, model.readable(data.batch(torch.arange(40))), 50)
    assert torch.allclose(latents.weight[:, :20], torch.tensor(1 / 50))
    assert (latents.ess[20:] < 49.9).all()
    z = latents.z[:, 20:]
    with torch.no_grad():
        rows = model.readable(Batch({"row": data.tables["row"][20:]}))
        log_w = model.log_likelihood(rows, z) + model.prior().log_prob(z)
        log_w = log_w - model.posterior(rows).log_prob(z)
    assert torch.allclose(latents.weight[:, 20:], log_w.softmax(0), rtol=1e-3)


def test_few_draws_become_pictures_and_their_mean_is_that_of_many() -> None:
    model, data = model_of_pictures()
    decoded = []
    model.decoders["photo"].register_forward_hook(lambda m, z, p: decoded.append(z[0].shape[0]))
    torch.manual_seed(0)
    filled = fill(model, data.batch(torch.arange(40)), ["photo"], draws=3, proposals=2000)["photo"]
    assert max(decoded) == FEW and filled.draws.shape == (3, 40, 1, 8, 8)
    with torch.no_grad():
        latents = weighted_latents(model, model.readable(data.batch(torch.arange(40))), 2000)
        means = model.decoders["photo"](latents.z).mean
    exact = (latents.weight[..., None, None, None] * means).sum(0)
    error = (filled.center - exact).abs().max()
    assert error < 5 * means.std(0).max() / FEW**0.5


def test_pictures_are_decoded_only_for_samples_that_lack_them() -> None:
    model, data = model_of_pictures()
    decoded = []
    model.decoders["photo"].register_forward_hook(lambda m, z, p: decoded.append(z[0].shape[1]))
    done = complete(model, data, proposals=30, draws=2)
    assert done.rows.tolist() == [*range(20, 40)] and set(decoded) == {20}
    decoded.clear()
    holes = data.tables["row"].clone()
    holes[:5] = torch.nan
    torn = replace(data, tables={**data.tables, "row": holes}, holes=None)
    done = complete(model, torn, proposals=30, draws=2)
    assert done.rows.tolist() == [*range(5), *range(20, 40)] and set(decoded) == {20}
    photo = done.filled["photo"]
    assert (photo.center[:5] == 0).all() and (photo.center[5:] > 0).all()
    assert (photo.draws[:, 5:] > 0).all() and len(photo.ess) == 25


@pytest.mark.parametrize(("suffix", "error"), [(".png", 0.002), (".JPG", 0.03), (".tif", 0.002)])
def test_pictures_are_written_as_they_are_read(suffix, error) -> None:
    ramp = torch.linspace(0, 1, 16).expand(3, 16, 16) * torch.tensor([1, 0.5, 0.2])[:, None, None]
    for x in (ramp, ramp[:1]):
        read = Image.open(io.BytesIO(picture_bytes(x, suffix)))
        values = torch.from_numpy(np.array(read)).float() / 255
        shown = values[None] if x.shape[0] == 1 else values.movedim(-1, 0)
        assert shown.shape == x.shape and (shown - x).abs().mean() < error
    assert Image.open(io.BytesIO(picture_bytes(ramp, suffix, (20, 30)))).size == (30, 20)


def folder_of_pictures(root, lacking):
    """A table of pictures (20 x 24 JPEGs: bright or dark) and words; some rows lack the picture."""
    (root / "photos").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        level = 200 if k % 2 else 40
        pixels = rng.integers(level - 30, level + 30, (24, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"p{k}.jpg")
        rows.append({"id": f"s{k}", "photo": f"p{k}.jpg", "light": "yes" if k % 2 else "no"})
    table = pd.DataFrame(rows)
    table.loc[lacking, "photo"] = ""
    table.to_csv(root / "data.csv", index=False)
    return table


def test_a_table_of_pictures_comes_back_with_pictures(tmp_path) -> None:
    root = tmp_path / "mine"
    table = folder_of_pictures(root, [3, 4, 50])
    assert command(["init", str(root / "data.csv"), "--key", "id"]) == 0
    text = (root / "data.yaml").read_text()
    assert "method: {name: miwae" in text and "networks: {photos: image-conv}" in text
    assert "size: 64" in text
    small = text.replace("size: 64", "size: 16").replace("epochs: 60", "epochs: 2")
    (root / "data.yaml").write_text(small)
    runs, out = tmp_path / "run", tmp_path / "out" / "full.csv"
    assert command(["train", str(root / "data.yaml"), "--out", str(runs)]) == 0
    options = ["--out", str(out), "--draws", "1", "--proposals", "20"]
    assert command(["impute", str(runs), str(root / "data.csv"), *options]) == 0
    filled = pd.read_csv(out)
    names = filled["photo"].tolist()
    assert [names[k] for k in (3, 4, 50)] == ["s3.jpg", "s4.jpg", "s50.jpg"]
    kept = [k for k in range(60) if k not in (3, 4, 50)]
    assert [names[k] for k in kept] == table["photo"][kept].tolist()
    for mark in ("full", "full.1"):
        written = sorted((out.parent / f"{mark}.photos").iterdir())
        assert [p.name for p in written] == ["s3.jpg", "s4.jpg", "s50.jpg"]
        assert {Image.open(p).size for p in written} == {(20, 24)}


def test_new_rows_may_lack_all_pictures(tmp_path) -> None:
    root = tmp_path / "mine"
    folder_of_pictures(root, [3])
    assert command(["init", str(root / "data.csv")]) == 0
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(
        text.replace("size: 64", "size: 16").replace("epochs: 60", "epochs: 1")
    )
    runs, new = tmp_path / "run", tmp_path / "new" / "new.csv"
    assert command(["train", str(root / "data.yaml"), "--out", str(runs)]) == 0
    new.parent.mkdir()
    pd.DataFrame({"photo": ["", ""], "light": ["yes", "no"]}).to_csv(new, index=False)
    out = tmp_path / "full.csv"
    options = ["--out", str(out), "--proposals", "10"]
    assert command(["impute", str(runs), str(new), *options]) == 0
    assert sorted(p.name for p in (tmp_path / "full.photos").iterdir()) == ["0.png", "1.png"]
    assert pd.read_csv(out)["photo"].tolist() == ["0.png", "1.png"]


def test_ridge_regression_reads_pixels_of_samples_without_the_table() -> None:
    torch.manual_seed(0)
    photo = Modality("photo", (1, 32, 32), link="sigmoid", kind="image", scale=None)
    row = Modality("row", (1,), scale=None)
    pixels = torch.rand(200, 1, 32, 32)
    bright = 100 * pixels[:, :, 4:8].mean((1, 2, 3))[:, None]
    present = {"photo": torch.arange(200) % 10 > 0}
    data = Dataset([photo, row], {"photo": pixels, "row": bright}, present=present)
    lacking = replace(data, present={**present, "row": torch.zeros(200, dtype=torch.bool)})
    found = Baselines.fit(data).predict(lacking, "row")["ridge"]["row"]
    error = (found - bright).square().mean(0).sqrt() / bright.std(0)
    without = Baselines.fit(replace(data, present={"photo": torch.zeros(200) > 0}))
    same = without.predict(lacking, "row")["ridge"]["row"]
    assert error < 0.5  # a tenth of the samples have no picture
    assert torch.allclose(same, bright.double().mean(0).expand_as(same), rtol=1e-3)


# Decoders that ignore the latent.


@pytest.mark.parametrize("ignores", [True, False])
def test_a_picture_whose_decoder_ignores_the_latent_is_told(caplog, ignores) -> None:
    torch.manual_seed(0)
    photo = Modality("photo", (1, 8, 8), link="sigmoid", kind="image", scale=None)
    row = Modality("row", (2,), scale=None)
    z = torch.randn(200, 1)
    pixels = (0.5 + 0.3 * z.tanh()).reshape(-1, 1, 1, 1) + 0.02 * torch.randn(200, 1, 8, 8)
    rows = z.expand(-1, 2) + 0.1 * torch.randn(200, 2)
    data = Dataset([photo, row], {"photo": pixels.clamp(0, 1), "row": rows})
    training = {"epochs": 15, "batch": 20, "lr": 1e-2, "progress": False}
    method = {"latent": 1, "hidden": 8, "k": 1, "objective": "elbo", "hide": 0.0}
    model = fit("miwae", Splits(data, data, data), method=method, training=training).model
    assert "ignores" not in caplog.text
    if ignores:
        for p in model.decoders["photo"].net[0].parameters():
            torch.nn.init.zeros_(p)
    before = torch.random.get_rng_state()
    warn_of_ignored(model, data)
    assert torch.equal(before, torch.random.get_rng_state())
    assert ("The decoder of 'photo' ignores" in caplog.text) == ignores


# Pictures beside texts.


def test_small_pictures_beside_wide_ones_are_enlarged_and_rows_are_as_high_as_they() -> None:
    wide, small = torch.zeros(2, 3, 10, 30), torch.rand(2, 3, 8, 8)
    image = mosaic([wide, small])
    assert image.shape == (10 + 2 + 24, 30 + 2 + 30, 3)
    first = image[12:, 3:27]  # in the middle of its place
    exact = (small[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    assert (first == exact.repeat(3, 0).repeat(3, 1)).all()


def test_long_texts_are_shown_whole_and_cut_ones_say_so() -> None:
    short = lettered(["a bird"])
    long = lettered([" ".join(["brown"] * 40)])
    assert long.shape[2] > short.shape[2]
    longest = [lettered([" ".join(["brown"] * n)]) for n in (300, 400)]
    assert torch.equal(*longest)  # both are cut, and say so
    assert longest[0].shape[2] <= 16 * 12 + 4
