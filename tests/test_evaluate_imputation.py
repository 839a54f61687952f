"""`polymodal evaluate` and `report` on a table with holes: from the command line to the page."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import polymodal
from polymodal.cli import main as cli
from polymodal.imputation import fill
from polymodal.imputation.conformal import calibrated, quantiles_of
from polymodal.imputation.results import FillingTable, calibration_of, calibration_text
from polymodal.report.filling import filling_rows
from polymodal.report.filling_plots import predicted_against_true, reliability, short
from polymodal.runs.run import load

ROWS = 240


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with people.csv and a run on it, evaluated from the command line."""
    folder = tmp_path_factory.mktemp("filling")
    rng = np.random.default_rng(0)
    z = rng.normal(size=ROWS)
    noise = rng.normal(size=(ROWS, 3))
    table = pd.DataFrame(
        {
            "body.weight": 70 + 10 * z + 2 * noise[:, 0],
            "body.dose": np.exp(0.8 * z + 0.2 * noise[:, 1]),
            "life.visits": rng.poisson(np.exp(1 + 0.5 * z)),
            "life.smokes": np.where(z + noise[:, 2] > 0, "yes", "no"),
        }
    )
    table = table.mask(rng.random(table.shape) < 0.1)
    table.to_csv(folder / "people.csv", index=False)
    data = polymodal.load_data(folder / "people.csv")
    torch.manual_seed(0)
    polymodal.fit("miwae", data, latent=2, hidden=16, epochs=15, progress=False, out=folder / "run")
    return folder


def command(folder: Path, *words: str) -> int:
    return cli.run(
        [*words[:1], str(folder / "run"), "--data", str(folder / "people.csv"), *words[1:]]
    )


def test_evaluate_prints_and_keeps_what_filling_in_is_worth(trained: Path, capsys) -> None:
    assert command(trained, "evaluate", "--metrics", "imputation", "--limit", "60") == 0
    printed = capsys.readouterr().out
    for words in ("hidden entries", "whole modality", "ridge", "neighbours", "90 % intervals"):
        assert words in printed, words
    kept = json.loads((trained / "run" / "metrics.json").read_text())
    rows = kept["imputation"]["rows"]
    assert {r["pattern"] for r in rows} == {"entries", "whole"}
    assert {r["by"] for r in rows} == {"model", "marginal", "ridge", "neighbours"}
    assert {r["column"] for r in rows} == {
        "",
        "body.weight",
        "body.dose",
        "life.visits",
        "life.smokes",
    }
    for row in rows:
        numbers = [v for v in row.values() if isinstance(v, float)]
        assert all(map(math.isfinite, numbers))
        is_number = row["type"] in ("real", "positive", "count")
        assert (
            ("rmse" in row) == is_number and ("error_rate" in row) == (row["type"] == "boolean")
        ) or (row["column"] == "")
    run = load(trained / "run")
    assert len(FillingTable.of(run).frame) == len(rows)
    assert "multiplied by" in calibration_text(calibration_of(run))


def test_the_same_call_gives_the_same_figures_and_leaves_others(trained: Path) -> None:
    assert command(trained, "evaluate", "--metrics", "imputation,joint_log_likelihood") == 0
    first = json.loads((trained / "run" / "metrics.json").read_text())
    assert first["table"] and first["imputation"]
    assert command(trained, "evaluate", "--metrics", "imputation") == 0
    again = json.loads((trained / "run" / "metrics.json").read_text())
    assert again == first
    assert command(trained, "evaluate", "--metrics", "joint_log_likelihood") == 0
    assert json.loads((trained / "run" / "metrics.json").read_text())["imputation"]


def test_the_report_shows_numbers_with_names(trained: Path) -> None:
    assert command(trained, "evaluate", "--metrics", "imputation") == 0
    out = trained / "page.html"
    assert command(trained, "report", "--out", str(out)) == 0
    page = out.read_text()
    section = page[page.index(">Filling in</h2>") :]
    section = section[: section.index("<h2", 10)]
    # Intervals and PIT of two modalities and two patterns, probabilities of one, what is missing.
    assert section.count("<img") == 4 + 4 + 2 + 1
    head = re.findall(r"<th[^>]*>([^<]*)</th>", section)
    assert head[:4] == ["what was hidden", "modality", "column", "n"] and "width 90 %" in head
    assert section.count("<tr>") == 1 + 2 * 4
    for words in (
        "hidden entries",
        "whole modality, given the others",
        "PIT" and "A U:",
        "Missing",
    ):
        assert words in section, words


def test_factors_of_a_run_serve_new_rows(trained: Path) -> None:
    assert command(trained, "evaluate", "--metrics", "imputation") == 0
    run = load(trained / "run")
    data = polymodal.load_data(trained / "people.csv").test
    body = next(m for m in run.modalities if m.name == "body")
    filled = fill(run.model, data, ["body"], levels=quantiles_of(0.9))["body"]
    whole = ~data.is_present("body")
    wider = calibrated(filled, calibration_of(run), 0.9, body, whole)
    assert wider.quantiles.shape == (2, len(data), 2) and wider.center is filled.center
    factors = {f.column: f for f in calibration_of(run).factors if f.pattern == "entries"}
    factor, shape = factors["body.weight"].at(0.9)
    if shape.share == 0:
        own = filled.quantiles[2, :, 0] - filled.quantiles[0, :, 0]
        ours = wider.quantiles[1, :, 0] - wider.quantiles[0, :, 0]
        assert torch.allclose((ours / own)[~whole], torch.tensor(factor).float(), rtol=1e-3)
    assert (wider.quantiles[0, :, 1] > 0).all()  # a positive column


def test_runs_without_figures_have_no_section(trained: Path) -> None:
    run = load(trained / "run")
    run.metrics = {}
    assert filling_rows({"a": run}) == ([], []) and calibration_of(run) is None


def test_pictures_have_a_panel_for_each_column_and_names_that_fit() -> None:
    row = {"column": "x" * 80, "type": "positive", "truth": [1.0, 20.0], "center": [1.0, 10.0]}
    row |= {"lower": [0.5, 5.0], "upper": [2.0, 15.0]}
    figure = predicted_against_true([row] * 5)
    assert len(figure.axes) == 5 and figure.axes[0].get_xscale() == "log"
    assert len(figure.axes[0].get_title(loc="left")) == len(short("x" * 80)) < 30
    assert predicted_against_true([row | {"type": "real"}]).axes[0].get_xscale() == "linear"
    shown = reliability([{"column": "c", "probability": [0.9] * 10, "right": [1.0] * 9 + [0.0]}])
    assert len(shown.axes[0].collections) == 1
