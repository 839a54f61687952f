"""Loggers: what they are given, and that they change nothing."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from polymodal.training.fit import fit
from toys import equal

SMALL = {"latent": 2, "hidden": 8, "epochs": 2, "batch": 32, "progress": False, "device": "cpu"}
PICTURES = {
    f"{stage}/given {given}"
    for stage in ("joint", "surrogates")
    for given in ("nothing", "square", "circle", "square+circle")
}


@pytest.fixture(scope="module")
def data():
    return polymodal.load_data("shapes", limit=64)


def test_tensorboard_reads_the_log_and_pictures_back(data, tmp_path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = fit("jmvae_two_stage", data, out=tmp_path / "run", logger="tensorboard", **SMALL)
    reader = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    reader.Reload()
    rows = run.history[run.history.stage == "joint"].dropna(subset="step")
    read = [(e.step, e.value) for e in reader.Scalars("joint/val_loss")]
    assert read == [(s, pytest.approx(v)) for s, v in zip(rows.step, rows.val_loss, strict=True)]
    assert set(reader.Tags()["images"]) == PICTURES
    (picture,) = reader.Images("surrogates/given square")
    pixels = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    given = data.val.batch(torch.arange(1)).x["square"][0, 0]  # the first given sample, upper left
    np.testing.assert_allclose(pixels[:32, :32, 0] / 255, given, atol=1 / 255)


def test_a_logger_changes_no_weight(data, tmp_path) -> None:
    """Pictures are drawn between stages, and leave the random streams alone."""
    plain = fit("jmvae_two_stage", data, out=tmp_path / "plain", **SMALL)
    pytest.importorskip("tensorboard")
    logged = fit("jmvae_two_stage", data, out=tmp_path / "logged", logger="tensorboard", **SMALL)
    assert equal(plain.model, logged.model) and plain.identity == logged.identity


class StandIn:
    """What `wandb` offers to the logger."""

    def __init__(self) -> None:
        self.rows, self.finished = [], False
        self.errors = SimpleNamespace(Error=type("Error", (Exception,), {}))
        self.Image = lambda pixels: pixels

    def init(self, **options):
        self.options = options
        return self

    def log(self, values) -> None:
        self.rows.append(values)

    def finish(self) -> None:
        self.finished = True


def test_wandb_gets_figures_and_pictures_and_is_finished(data, tmp_path, monkeypatch) -> None:
    wandb = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    fit("jmvae_two_stage", data, out=tmp_path / "run", logger="wandb", **SMALL)
    assert wandb.options == {"project": "polymodal", "name": "run", "dir": str(tmp_path / "run")}
    losses = [row["joint/val_loss"] for row in wandb.rows if "joint/val_loss" in row]
    assert len(losses) == 2 and wandb.finished
    pictures = {name: v for row in wandb.rows for name, v in row.items() if "given" in name}
    assert pictures.keys() == PICTURES
    assert all(v.dtype == np.uint8 and v.ndim == 3 for v in pictures.values())


def test_wandb_without_a_login_is_one_sentence(data, tmp_path, monkeypatch) -> None:
    wandb = StandIn()

    def init(**options):
        raise wandb.errors.Error("No API key configured.\nMore lines")

    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(ValueError, match=r"did not start: No API key configured\. Run wandb login"):
        fit("jmvae_two_stage", data, out=tmp_path / "run", logger="wandb", **SMALL)


def test_wandb_itself_writes_offline(data, tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed (pip install 'polymodal[track]')")
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit("jmvae_two_stage", data, out=tmp_path / "run", logger="wandb", **SMALL)
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert list(kept.glob("run-*.wandb"))
    assert len(list(kept.glob("files/media/images/**/*.png"))) == len(PICTURES)


@pytest.mark.parametrize(
    ("logger", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_logger_whose_package_is_missing_is_told(
    data, monkeypatch, tmp_path, logger, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"^training\.logger={logger} needs a package: pip inst"):
        fit("jmvae_two_stage", data, out=tmp_path / "run", logger=logger, **SMALL)
