"""Pictures say what they were given: pixels stand where they should, in the colours they should."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from polymodal.report import plots
from polymodal.sampling.diagnostics import ChainReport


def test_an_image_grid_keeps_pixels_square_and_crisp() -> None:
    rows = [torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)]
    figure = plots.image_grid(rows, ["given", "drawn"], "title", scale=3, apart=1)
    back = np.asarray(Image.open(io.BytesIO(plots.png(figure))).convert("RGB"))
    inner = plots.mosaic(rows, apart=1).repeat(3, 0).repeat(3, 1)
    height, width = inner.shape[:2]
    found = back[-6 - height : -6, 90 : 90 + width]
    assert found.shape == inner.shape and np.abs(found.astype(int) - inner).max() <= 1


def test_loss_curves_have_a_panel_for_each_stage_and_skip_what_is_not_there() -> None:
    loss = lambda epoch: {"train_loss": 9.0 - epoch, "val_loss": 8.0 if epoch == 1 else None}
    rows = [{"stage": stage, "epoch": epoch} | loss(epoch) for stage in "ab" for epoch in (1, 2)]
    figure = plots.loss_curves(
        pd.DataFrame([*rows, {"stage": "c", "epoch": None, "train_loss": None}])
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    train, val = figure.axes[0].lines
    assert list(train.get_ydata()) == [8.0, 7.0] and list(val.get_xdata()) == [1.0]


def test_bars_have_the_heights_and_errors_given() -> None:
    figure = plots.bars(
        {"x | y": {"a": (0.4, 0.1), "b": (0.8, float("nan"))}, "y | x": {"b": (0.5, 0.0)}}
    )
    bars = {
        (round(p.get_x() + p.get_width() / 2, 3), p.get_height()) for p in figure.axes[0].patches
    }
    assert bars == {(-0.2, 0.4), (0.2, 0.8), (1.2, 0.5)}


def test_the_spectrum_marks_what_is_kept() -> None:
    figure = plots.spectrum(torch.tensor([0.9, 0.5, 0.1]), kept=2)
    heights = [p.get_height() for p in figure.axes[0].patches]
    colours = [p.get_facecolor() for p in figure.axes[0].patches]
    assert heights == pytest.approx([0.9, 0.5, 0.1]) and colours[0] == colours[1] != colours[2]


def test_embeddings_are_shown_by_label_whatever_their_dimension() -> None:
    label = torch.arange(40) % 2
    for d in (1, 2, 5):
        figure = plots.tsne({"a": torch.randn(40, d), "b": torch.randn(40, d)}, label)
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
        drawn = figure.axes[0].patches if d == 1 else figure.axes[0].collections
        assert len(drawn) == (80 if d == 1 else 2)


def test_sampler_diagnostics_leave_out_what_a_sampler_has_not() -> None:
    one = torch.rand(50)
    said = dict(
        acceptance=one,
        divergent=torch.zeros(50),
        ess=100 * one,
        step_size=one,
        gradients=10,
        transitions=9,
    )
    full = ChainReport(**said, rhat=one + 1)
    assert len(plots.sampler_diagnostics(full).axes) == 3
    assert len(plots.sampler_diagnostics(ChainReport(**said)).axes) == 2
    assert (
        sum(
            p.get_height()
            for p in plots.sampler_diagnostics(full).axes[0].patches
            if p.get_width() < 0.1
        )
        == 50
    )


def test_extent_measures_what_is_bright() -> None:
    image = torch.zeros(2, 1, 10, 10)
    image[0, 0, 2:5, 4:9] = 1  # 3 high, 5 wide
    assert plots.extent(image).tolist() == pytest.approx([0.5, 0.0])


def test_points_of_class_one_are_blue_and_large_ones_strong() -> None:
    colours = plots.point_colours(3, torch.tensor([0, 1, 1]), torch.tensor([1.0, 1.0, 0.3]))
    red, blue, pale = colours[:, :3]
    assert red[0] > red[2] and blue[2] > blue[0] and pale.sum() > blue.sum()


def test_contours_enclose_their_share_of_the_mass() -> None:
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    z = 4 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    plane = plots.Plane("a", z, normal.log_prob, torch.rand(2, 1, 8, 8))
    figure = plots.latent_plane([plane], torch.rand(1, 8, 8), torch.arange(2000) % 2)
    axes = figure.subfigs[0].axes[0]
    lines = [c for c in axes.collections if type(c).__name__ == "QuadContourSet"][-1]
    # Of a standard normal, the disc of radius sqrt(-2 log(1 - share)) holds that share; densities
    # run from low to high.
    radii = [float(np.linalg.norm(path.vertices, axis=1).mean()) for path in lines.get_paths()]
    expected = [np.sqrt(-2 * np.log(1 - share)) for share in (0.9, 0.6, 0.3)]
    assert radii == pytest.approx(expected, rel=0.03)
