"""Pictures show the values they were given: every pixel in its place, every bar of its height."""

import base64
import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

from polymodal.data.kinds import mosaic
from polymodal.report import planes, plots
from polymodal.report.pictures import pixels
from polymodal.sampling import Histogram


def test_an_image_on_the_page_keeps_its_pixels() -> None:
    image = mosaic([torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)], gap_after=1)
    picture = pixels(image, "words")
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data))))
    assert np.array_equal(back, image)
    assert picture.pixels and (picture.height, picture.width) == (2 * len(image), 2 * len(image[0]))
    wide = np.zeros((8, 400, 3), np.uint8)
    assert (pixels(wide, "words").width, pixels(wide, "words", beside=2).width) == (800, 400)


def test_loss_curves_have_a_panel_for_each_stage_and_skip_what_is_not_there() -> None:
    losses = {1: {"train_loss": 8.0, "val_loss": 8.0}, 2: {"train_loss": 7.0, "val_loss": None}}
    rows = [{"stage": s, "epoch": epoch} | loss for s in "ab" for epoch, loss in losses.items()]
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
    low, high = figure.axes[0].get_ylim()
    assert low == 0 and high > 0.8, "the bars of a later method are not cut"


def test_the_spectrum_marks_the_directions_that_are_used() -> None:
    figure = plots.spectrum(torch.tensor([0.9, 0.5, 0.1]), num_directions=2)
    heights = [p.get_height() for p in figure.axes[0].patches]
    colours = [p.get_facecolor() for p in figure.axes[0].patches]
    assert heights == pytest.approx([0.9, 0.5, 0.1]) and colours[0] == colours[1] != colours[2]


def test_embeddings_are_shown_by_label_whatever_their_dimension() -> None:
    label = torch.arange(40) % 2
    for d in (1, 2, 5):
        figure = plots.embedded({"a": torch.randn(40, d), "b": torch.randn(40, d)}, label)
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
        drawn = figure.axes[0].patches if d == 1 else figure.axes[0].collections
        assert len(drawn) == (80 if d == 1 else 2)


def test_histograms_have_a_panel_for_each_figure_and_show_the_good_range() -> None:
    share = torch.rand(50)
    bad = torch.cat([torch.full((49,), 1.01), torch.tensor([9.0])])  # one item far from the others
    shown = [
        Histogram("acceptance", share, 0.6, 0.95),
        Histogram("R-hat", bad, high=1.05),
        Histogram("ess", torch.full((50,), math.nan), low=5.0),
        Histogram("calls", torch.full((50,), 30.0)),
    ]
    panels = plots.histograms(shown).axes
    assert [axes.get_xlabel() for axes in panels] == [h.title for h in shown]
    for axes, has_band in zip(panels, (True, True, False, False), strict=True):
        bars = [p for p in axes.patches if p.get_facecolor() == to_rgba(plots.FIRST)]
        bands = [p for p in axes.patches if p.get_facecolor() != to_rgba(plots.FIRST)]
        assert len(bands) == has_band
        assert sum(bar.get_height() for bar in bars) == (0 if axes is panels[2] else 50)
    band = panels[0].patches[-1]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.6, 0.95))
    assert panels[1].get_xlim()[1] > 1.05  # the end of the good range is seen
    good = panels[1].patches[-1]
    assert good.get_x() == pytest.approx(panels[1].get_xlim()[0])  # unbounded: from the edge


def test_spectra_have_a_line_and_a_bar_for_each_modality() -> None:
    values, kept = {"a": [2.0, 0.5, 0.0], "b": [1.0, 0.1]}, {"a": 2, "b": 0}
    left, right = plots.spectra(values, kept).axes
    assert [line.get_label() for line in left.lines if not line.get_label().startswith("_")] == [
        "a",
        "b",
    ]
    assert [p.get_height() for p in right.patches] == [3, 2, 2, 0]
    assert len(plots.spectra(values, kept, torch.tensor([0.9, 0.1]), 1).axes) == 3


def test_extent_measures_what_is_bright() -> None:
    image = torch.zeros(2, 1, 10, 10)
    image[0, 0, 2:5, 4:9] = 1  # 3 high, 5 wide
    assert planes.extent(image).tolist() == pytest.approx([0.5, 0.0])


def test_points_of_class_one_are_blue_and_large_ones_strong() -> None:
    colours = planes.point_colours(3, torch.tensor([0, 1, 1]), torch.tensor([1.0, 1.0, 0.3]))
    red, blue, pale = colours[:, :3]
    assert red[0] > red[2] and blue[2] > blue[0] and pale.sum() > blue.sum()


def test_contours_enclose_their_share_of_the_mass() -> None:
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    z = 4 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    plane = planes.Plane("a", z, normal.log_prob, torch.rand(2, 1, 8, 8))
    figure = planes.latent_plane([plane], torch.rand(1, 8, 8), torch.arange(2000) % 2)
    axes = figure.subfigs[0].axes[0]
    lines = [c for c in axes.collections if type(c).__name__ == "QuadContourSet"][-1]
    # Of a standard normal, the disc of radius sqrt(-2 log(1 - share)) holds that share; densities
    # run from low to high.
    radii = [float(np.linalg.norm(path.vertices, axis=1).mean()) for path in lines.get_paths()]
    expected = [np.sqrt(-2 * np.log(1 - share)) for share in (0.9, 0.6, 0.3)]
    assert radii == pytest.approx(expected, rel=0.03)
