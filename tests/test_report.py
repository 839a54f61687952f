"""The report: one page that needs nothing else, says what is better and how sure that is, compares
like with like.
"""

import base64
import io
import math
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from polymodal.analysis.traversals import Attribution
from polymodal.batch import Batch, Modality
from polymodal.cli import main as cli
from polymodal.data import Dataset, Splits
from polymodal.data.kinds import mosaic
from polymodal.distributions import Sampled
from polymodal.distributions.normal import DiagNormal
from polymodal.methods import METHODS
from polymodal.metrics import attribute_latents
from polymodal.metrics.evaluate import evaluate
from polymodal.metrics.table import Table, combine
from polymodal.priors import StandardNormal
from polymodal.report.comparison import label_of
from polymodal.report.curves import figure_of, sweep_of
from polymodal.report.diagnostics import samplers
from polymodal.report.page import _synergy, write_report
from polymodal.report.pictures import (
    Picture,
    Scenes,
    _has_plane,
    _reduction,
    chosen,
    merged,
    pixels,
)
from polymodal.report.tables import results, rows_of, synergy, terminal_table
from polymodal.report.traversals import _bars, _picture, top_dimensions
from polymodal.runs.run import Run, load
from polymodal.sampling import ChainReport, ParticleReport
from polymodal.training.fit import fit
from test_cli import FEW, TINY

MEASURED = [
    "evaluation.metrics=[joint_log_likelihood,conditional_log_likelihood]",
    "evaluation.limit=15",
]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two methods and two seeds, as `polymodal train` leaves it."""
    out = tmp_path_factory.mktemp("comparison")
    (out / "own.yaml").write_text(
        "compare: [shapes-jmvae-two-stage, shapes-jnf-dcca]\nseeds: [0, 1]\n"
    )
    assert (
        cli.run(
            ["train", str(out / "own.yaml"), *TINY, *MEASURED, *FEW, "--out", str(out / "runs")]
        )
        == 0
    )
    return out / "runs"


def test_a_comparison_trains_the_first_stage_once_and_leaves_a_table_and_a_page(
    compared: Path,
) -> None:
    names = {p.name for p in compared.iterdir()}
    runs = {f"{m}-seed{s}" for m in ("jmvae-two-stage", "jnf-dcca") for s in (0, 1)}
    assert names == {*runs, "table.md", "table.tex", "table.csv", "report.html"}
    for seed in (0, 1):
        ours, theirs = (load(compared / f"{m}-seed{seed}") for m in ("jnf-dcca", "jmvae-two-stage"))
        assert ours.info["stages"]["joint"]["status"] == "reused"
        a, b = (run.model.posterior.joint.state_dict() for run in (ours, theirs))
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert ours.metrics["table"][0]["n"] == 15
    rows = [line for line in (compared / "table.md").read_text().splitlines() if "|" in line]
    assert "| jmvae-two-stage | jnf-dcca |" in rows[0]
    assert len([row for row in rows if "likelihood |" in row]) == 3  # joint, and each by the other


def test_the_page_needs_nothing_else(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    loads = re.findall(r"""(?:src|href|srcset|action|data)\s*=\s*["']?([^"'\s>]+)""", page)
    assert loads and all(one.startswith(("data:image/png;base64,", "#")) for one in loads)
    assert not re.search(r"<script|<link|<iframe|@import|url\(", page, re.IGNORECASE)
    assert 'name="viewport"' in page and "@media print" in page


def test_every_picture_is_a_picture_and_has_words(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    images = re.findall(r"<img [^>]+>", page)
    assert len(images) >= 8
    for tag in images:
        assert len(re.search(r'alt="([^"]*)"', tag)[1]) > 20
        data = re.search(r"base64,([^\"]+)", tag)[1]
        assert Image.open(io.BytesIO(base64.b64decode(data))).size[0] > 50


def test_the_page_says_what_was_run_and_how_sure_the_figures_are(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", re.sub(r"base64,[^\"]+", "", page))
    for words in (
        "higher is better",
        "jmvae-two-stage",
        "jnf-dcca",
        "circle given square",
        "square given circle",
        "Joint samples",
        "Reconstructions",
        "joint taken from jmvae-two-stage-seed0",
        "nats",
        "0,1",
        "error over seeds",
        "latent plane",
        "on held-out data",
        "hidden: 16",
        "torch 2.",
    ):
        assert words in text, words
    figure = r"-\d+\.\d+ ± \d+\.\d+[ |.\d]*"
    row = (
        r"joint log likelihood\s+square\+circle\s+higher is"
        rf" better\s+{figure}\s+{figure}\s+nats\s+15\s+0,1"
    )
    assert re.search(row, text)


def test_the_shared_first_stage_is_shown_once(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    joint = page[page.index(">Joint samples</h2>") : page.index(">Reconstructions</h2>")]
    assert joint.count("<img") == 1 and "jmvae-two-stage, jnf-dcca" in joint
    given = page[page.index("circle given square</h3>") : page.index("square given circle</h3>")]
    assert given.count("<img") == 2


def test_the_page_is_the_same_for_the_same_runs(compared: Path, tmp_path: Path) -> None:
    runs = [compared / f"jmvae-two-stage-seed{s}" for s in (0, 1)]
    pages = []
    for k, name in enumerate(("a.html", "b/c.html")):
        torch.manual_seed(k)  # the noise is the page's own
        text = write_report(runs, tmp_path / name).read_text()
        pages.append(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", text))
    assert pages[0] == pages[1]


def test_runs_of_other_data_are_not_compared(compared: Path, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "own.npz", a=np.random.rand(60, 3), b=np.random.rand(60, 3))
    small = ["training.epochs=1", "training.progress=false", "method.hidden=8"]
    assert (
        cli.run(
            [
                "train",
                "jmvae",
                *small,
                "--data",
                str(tmp_path / "own.npz"),
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert cli.run(["report", str(compared / "jnf-dcca-seed0"), str(tmp_path / "run")]) == 2
    assert "same data" in capsys.readouterr().err
    with pytest.raises(ValueError, match="at least one run"):
        write_report([], tmp_path / "none.html")


def test_labels_tell_settings_apart_but_not_seeds(compared: Path) -> None:
    runs = [load(compared / f"jnf-dcca-seed{s}") for s in (0, 1)] + [
        load(compared / "jmvae-two-stage-seed0")
    ]
    assert label_of(runs) == ["jnf-dcca", "jnf-dcca", "jmvae-two-stage"]
    runs[1].directory = compared / "larger-seed1"
    settings = runs[1].info["settings"]
    for change, label in (
        ({"networks": {}}, "larger"),
        ({"data": {**settings["data"], "missing": {"pattern": "mcar", "rate": 0.8}}}, "larger"),
        ({"modalities": {"square": {"scale": 0.5}}}, "larger"),
        ({"training": {**settings["training"], "progress": True, "device": "cpu"}}, "jnf-dcca"),
    ):
        runs[1].info = {**runs[1].info, "settings": {**settings, **change}}
        assert label_of(runs) == ["jnf-dcca", label, "jmvae-two-stage"], change


# Every method


def tiny(n: int) -> Dataset:
    """Three vectors that share two numbers, with labels."""
    modalities = [Modality(m, (4,)) for m in "abc"]
    z = torch.randn(n, 2)
    x = {m.name: torch.cat([z, torch.randn(n, 2)], 1) for m in modalities}
    return Dataset(modalities, x, label=(z[:, 0] > 0).long())


TRAINING = {"epochs": 1, "batch": 40, "progress": False}
# Options of the methods that have them: few draws and steps, small networks.
CHAINS = {"sampler": {"draws": 8, "warmup": 4, "chains": 2}, "flow": {"hidden": [8]}}
DIFFUSION = {"sampler": {"steps": 3}, "denoiser": {"width": 16, "depth": 1}}
EMBEDDING = {"embedding": {"embedding_size": 3, "num_directions": 2}}
OPTIONS: dict[str, dict] = {
    "jnf": CHAINS,
    "jnf_dcca": CHAINS | EMBEDDING,
    "jnf_score": DIFFUSION | EMBEDDING,
    "sbm": DIFFUSION,
}


@pytest.fixture(scope="module")
def splits() -> Splits:
    torch.manual_seed(0)
    return Splits(tiny(80), tiny(60), tiny(40), "tiny")


@pytest.fixture(scope="module")
def every_run(splits: Splits) -> dict[str, Run]:
    """A run of every method."""
    networks = dict.fromkeys("abc", "linear")
    settings = {"latent": 2, "training": TRAINING, "networks": networks}
    return {m: fit(m, splits, **settings, **OPTIONS.get(m, {})) for m in METHODS}


def has_sections_of_its_own(name: str, run: Run) -> bool:
    special = run.model.sampler is not None or run.model.posterior.embeddings is not None
    return special or name == "cvae"


@pytest.fixture(scope="module")
def every_page(every_run: dict[str, Run], splits: Splits, tmp_path_factory) -> str:
    """One page on every method with a sampler or embeddings, and on the CVAE, without the data of
    its pictures.
    """
    out = tmp_path_factory.mktemp("page") / "page.html"
    runs = {name: run for name, run in every_run.items() if has_sections_of_its_own(name, run)}
    page = write_report(list(runs.values()), out, data=splits, labels=list(runs))
    return re.sub(r"base64,[^\"]+", "", page.read_text())


def section(page: str, title: str) -> str:
    """The part of a page from a heading to the next one."""
    return page.split(f">{title}</h2>")[1].split("<h2")[0]


def test_every_sampler_has_a_row_for_each_subset_that_it_draws(every_run, every_page) -> None:
    part = section(every_page, "Sampler diagnostics")
    rows = re.findall(r"<tr><td>(\w+)</td><td>([^<]*)</td>", part)
    sampled = {m for m, run in every_run.items() if run.model.sampler is not None}
    assert {m for m, _ in rows} == sampled >= {"jnf", "jnf_dcca", "jnf_score", "sbm"}
    pairs = {"a and b", "a and c", "b and c"}
    given = {m: {g for name, g in rows if name == m} for m in sampled}
    assert given["jnf"] == given["jnf_dcca"] == pairs
    assert given["jnf_score"] == pairs | set("abc")
    assert given["sbm"] == pairs | set("abc") | {"nothing"}


def test_every_method_with_embeddings_shows_them(every_run, every_page) -> None:
    part = section(every_page, "Embeddings of what is shared")
    embedded = {m for m, r in every_run.items() if r.model.posterior.embeddings is not None}
    assert set(re.findall(r"<h3>(\w+)</h3>", part)) == embedded >= {"jnf_dcca", "jnf_score"}
    assert part.count("<img") == 2 * len(embedded)  # the spectrum, and the embeddings


def test_every_method_has_its_traversals(every_run, every_page) -> None:
    part = section(every_page, "Latent traversals")
    shown = {m for m, run in every_run.items() if has_sections_of_its_own(m, run)}
    groups = dict(re.findall(r"<h3>(\w+)</h3>(.*?)(?=<h3>|$)", part, re.DOTALL))
    assert groups.keys() == shown and "as a share of the modality" in part
    for m, group in groups.items():
        size = every_run[m].model.prior().event_shape.numel()
        assert f"Of {size} dimensions" in group
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", group)
        assert captions[0] == "the dimensions that move most" and len(captions) > 1
        decoded = every_run[m].model.decoders
        assert all(re.findall(r"(\w+) \d\.\d\d", c) == list(decoded) for c in captions[1:])
    assert "Of 4 dimensions 0 move several modalities" in groups["cvae"], "it decodes only c"


def test_traversals_show_the_shares_and_the_moved_dimensions(splits) -> None:
    """Bars are of the most moving dimensions first; a dimension that moves nothing has no
    picture.
    """
    model = METHODS["dmvae"](splits.modalities, latent=2, private=1).model.eval()
    run = SimpleNamespace(model=model)
    found = attribute_latents(model, splits.test)
    rising = Attribution(
        {m: torch.arange(5.0) + k for k, m in enumerate("abc")}, found.errors, found.z, found.values
    )
    bars = _bars(rising).axes[0]
    assert [p.get_height() for p in bars.patches] == [4, 3, 2, 1, 0, 5, 4, 3, 2, 1, 6, 5, 4, 3, 2]
    assert [t.get_text() for t in bars.get_xticklabels()] == ["z4", "z3", "z2", "z1", "z0"]
    scenes = Scenes({"dmvae": run}, splits)
    for d in (1, 3):
        z = found.z[:1].repeat(9, 1)
        z[:, d] = found.values[:, d]
        x = model.decode(z.unsqueeze(1))
        rows = [scenes.show(m, v[:, 0]) for m, v in x.items()]
        assert _picture(run, d, found, scenes).data == pixels(mosaic(rows), "").data
    silent = Attribution(
        {"a": torch.tensor([0.1, 0.0, 0.3]), "b": torch.zeros(3)}, {}, found.z, found.values
    )
    assert top_dimensions(silent) == [2, 0]


def test_every_method_generates_what_it_can(every_run, splits, every_page) -> None:
    part = section(every_page, "Generated given a subset")
    c_given_ab = part.split("c given a and b</h3>")[1]
    a_given_b = part.split("a given b</h3>")[1].split("<h3")[0]
    assert "cvae" in c_given_ab and "cvae" not in a_given_b  # a CVAE generates one modality
    pictures = Scenes(every_run, splits).reconstructed().pictures
    shown = [name for picture in pictures for name in picture.caption.split(", ")]
    assert sorted(shown) == sorted(every_run)


@pytest.mark.parametrize(
    "report",
    [
        ParticleReport(60, 90, 5400),  # a diffusion
        ParticleReport(60, 90, 5400, torch.ones(60), torch.ones(60), torch.zeros(60)),  # twisted
        ParticleReport(60, 1, 6000, torch.ones(60), advice="take more."),  # importance
        ChainReport(*torch.full((4, 60), 0.1), gradients=9, transitions=9),  # SMC
        ChainReport(*torch.full((4, 60), 0.1), gradients=9, transitions=9, rhat=torch.ones(60)),
    ],
    ids=["diffusion", "twisted", "importance", "smc", "hmc"],
)
def test_every_report_of_a_sampler_has_a_row_its_warning_and_its_histograms(report) -> None:
    made = samplers({("m", "a and b"): report})
    (row,) = made.rows
    assert row[:2] == ["m", "a and b"] and len(row) == len(made.head)
    assert row[made.head.index("items")] == "60"
    warning = report.warning()
    assert list(made.warnings) == ([f"m given a and b: {warning}"] if warning else [])
    shown = any(h.low > -math.inf or h.high < math.inf for h in report.histograms())
    assert len(made.groups) == shown


def test_a_new_report_shows_its_own_figures() -> None:
    class Tempered(ParticleReport):
        def summary(self) -> dict[str, float]:
            return {"items": 4, "final_temperature": 0.25}

    made = samplers({("m", "a"): Tempered(4), ("n", "a"): ParticleReport(4, 9, 800)})
    first, second = (dict(zip(made.head, row, strict=True)) for row in made.rows)
    assert first["final temperature"] == "0.25" and second["final temperature"] == "–"
    assert second["points per item"] == "200"


def test_a_warning_is_shown_once_with_the_subsets_to_which_it_applies() -> None:
    poor = ParticleReport(60, 90, 5400, torch.ones(60))
    good = ParticleReport(60, 90, 5400, torch.full((60,), 64.0))
    reports = {("m", "a"): poor, ("m", "b"): good, ("m", "c"): poor, ("n", "a"): poor}
    warnings = samplers(reports).warnings
    assert [warning.split(":")[0] for warning in warnings] == ["m given a; c", "n given a"]


# Tables and labels


def table(**columns: list) -> Table:
    base = {
        "data": "d",
        "metric": "coherence",
        "target": "a",
        "given": "b+c",
        "n": 100,
        "direction": "higher",
    }
    return Table(
        pd.DataFrame(
            {**columns, **{k: v for k, v in base.items() if k not in columns}, "unit": "share"}
        )
    )


def test_rows_gather_methods_and_seeds_and_mark_what_is_not_worse() -> None:
    values = [0.70, 0.72, 0.705, 0.735, 0.5, 0.5]
    found = combine([table(method=list("xxyyzz"), value=values, se=[0.01] * 6, seed=[0, 1] * 3)])
    (row,) = rows_of(found)
    assert (row.quantity, row.direction, row.n, row.seeds) == (
        "a | b, c",
        "higher is better",
        "100",
        "0,1",
    )
    assert {m: c.best for m, c in row.cells.items()} == {"x": True, "y": True, "z": False}
    assert row.cells["x"].value == pytest.approx(0.71) and row.cells["x"].se_seeds == pytest.approx(
        0.01
    )
    assert str(row.cells["z"]) == "0.500 ± 0.010"
    lower = table(
        method=["x", "y"], value=[3.0, 2.0], se=[0.1, 0.1], seed=[0, 0], direction="lower"
    )
    assert {m: c.best for m, c in rows_of(combine([lower]))[0].cells.items()} == {
        "x": False,
        "y": True,
    }
    none = table(method=["x", "y"], value=[3.0, 2.0], se=[0.1, 0.1], seed=[0, 0], direction="none")
    assert not any(c.best for c in rows_of(combine([none]))[0].cells.values())


def test_figures_that_are_not_defined_are_never_the_best() -> None:
    odd = table(
        method=["x", "y", "z"],
        value=[math.nan, 0.2, 0.1],
        se=[math.nan, 0.01, math.nan],
        seed=[0, 0, 0],
    )
    cells = rows_of(combine([odd]))[0].cells
    assert str(cells["x"]) == "not defined" and [c.best for c in cells.values()] == [
        False,
        True,
        False,
    ]
    assert terminal_table(combine([odd])).row_count == 1


def test_synergy_has_a_row_for_each_subset_and_a_column_for_each_modality() -> None:
    given, target = ["a", "b", "a+b"], ["a", "b"]
    places = [(g, t) for g in given for t in target] * 2  # two methods; the last figure is missing
    columns = {"given": [g for g, _ in places][:-1], "target": [t for _, t in places][:-1]}
    measured = table(
        method=["x"] * 6 + ["y"] * 5,
        value=[float(-k) for k in range(11)],
        se=[0.5] * 11,
        seed=[0] * 11,
        metric="synergy",
        **columns,
    )
    both = Table(
        pd.concat([measured.frame, table(method=["x"], value=[0.1], se=[0.1], seed=[0]).frame])
    )
    found = combine([both])
    head, rows = synergy(found)
    assert head == ["method", "given", "log p(a)", "log p(b)"]
    assert [row[:2] for row in rows] == [[m, g] for m in "xy" for g in ("a", "b", "a, b")]
    assert rows[1][2:] == ["-2.00 ± 0.50", "-3.00 ± 0.50"] and rows[5][2:] == ["-10.00 ± 0.50", ""]
    assert not _synergy(found).is_empty and list(_synergy(found).rows) == rows
    assert _synergy(None).is_empty
    assert _synergy(combine([table(method=["x"], value=[1.0], se=[0.1], seed=[0])])).is_empty
    other = Table(pd.concat([both.frame, both.frame.assign(data="e")]))
    assert {row[0] for row in synergy(combine([other]))[1]} == {
        f"{m} ({d})" for m in "xy" for d in "de"
    }


def test_equal_pictures_are_shown_once() -> None:
    x, y = (Picture(data, "words", 1, 1) for data in "xy")
    shown = merged({"a": x, "b": y, "c": x})
    assert [(p.data, p.caption) for p in shown] == [("x", "a, c"), ("y", "b")]
    assert [p.caption for p in merged({"a": x})] == [""]


def test_chosen_samples_are_whole_and_take_the_labels_in_turn() -> None:
    label = torch.tensor([0, 0, 0, 2, 1, 1, 2, 0])
    present = torch.tensor([False, True, True, True, True, True, True, True])
    data = Dataset(
        [Modality("a", (1,))], {"a": torch.zeros(8, 1)}, present={"a": present}, label=label
    )
    assert chosen(data, 5).tolist() == [1, 4, 3, 2, 5]
    assert chosen(Dataset([Modality("a", (1,))], {"a": torch.zeros(8, 1)}), 3).tolist() == [0, 1, 2]


def test_the_report_says_that_score_ratio_matching_found_nothing() -> None:
    figures = {"spectra": {"a": [0.0, 0.0]}, "kept": {"a": 0}, "bound": 0.0, "trace": 0.0}
    figures |= {"found": 0, "gain": -0.012, "gain_error": 0.034}
    group = _reduction("sbm", figures, None)
    assert "found nothing" in group.text and "-0.012 ± 0.034 nats" in group.text and group.pictures


def test_the_latent_plane_leaves_out_what_has_no_density_or_does_not_decode() -> None:
    prior = StandardNormal(2)
    given = Batch({"a": torch.zeros(3, 1)})

    def model(posterior, target: str = "b"):
        return SimpleNamespace(prior=prior, posterior=posterior, decoders={target: None})

    def normal(batch: Batch) -> DiagNormal:
        return DiagNormal(torch.zeros(3, 2), torch.ones(3, 2))

    def undrawn(batch: Batch) -> Sampled:
        return Sampled(torch.Size([3]), torch.Size([2]), validate_args=False)

    assert _has_plane(model(normal), given, "b")
    assert not _has_plane(model(undrawn), given, "b"), "a posterior without a density"
    assert not _has_plane(model(normal, "a"), given, "b"), "a CVAE of another target"
    prior = StandardNormal(3)
    assert not _has_plane(model(normal), given, "b")


def test_quantities_of_several_data_sets_are_told_apart() -> None:
    one, other = (table(value=[v], method=["m"], se=[0.1], seed=[0]) for v in (0.5, 0.9))
    both = Table(pd.concat([one.frame, other.frame.assign(data="e")], ignore_index=True))
    rows = rows_of(combine([both]))
    assert [(row.quantity, row.cells["m"].value) for row in rows] == [
        ("a | b, c (d)", 0.5),
        ("a | b, c (e)", 0.9),
    ]


# Runs that differ in one number.


def test_runs_that_differ_in_one_number_have_their_results_drawn_against_it(
    splits: Splits, tmp_path
) -> None:
    """Each method is a line through its values in their order; a single run is level."""
    settings = {"latent": 2, "training": TRAINING, "networks": dict.fromkeys("abc", "linear")}
    runs = {f"jmvae-alpha={a}": fit("jmvae", splits, alpha=a, **settings) for a in (1.0, 0.1)}
    runs["two"] = fit("jmvae_two_stage", splits, **settings)
    for run in runs.values():
        evaluate(run, splits, ["joint_log_likelihood"], limit=8, samples=2)
    page = write_report(list(runs.values()), tmp_path / "r.html", data=splits, labels=list(runs))
    assert "By method.alpha</h3>" in page.read_text()
    sweep = sweep_of(runs)
    assert sweep.path == "method.alpha" and sweep.values["jmvae-two-stage"] == {"two": None}
    rows = rows_of(results(list(runs.values()), list(runs)))
    line, *_, level = figure_of(rows, sweep).axes[0].lines
    values = {k: cell.value for k, cell in rows[0].cells.items()}
    assert list(line.get_xdata()) == [0.1, 1.0]
    assert list(line.get_ydata()) == [values["jmvae-alpha=0.1"], values["jmvae-alpha=1.0"]]
    assert list(level.get_ydata()) == [values["two"]] * 2


def test_runs_that_differ_in_more_than_one_number_are_not_drawn_against_it(
    every_run: dict[str, Run], splits: Splits
) -> None:
    assert sweep_of({k: every_run[k] for k in ("jnf", "mopoe")}) is None
    other = replace(every_run["mopoe"], info=deepcopy(every_run["mopoe"].info))
    other.info["settings"]["method"]["latent"] = 3
    both = {"a": every_run["mopoe"], "b": other}
    assert sweep_of(both).values == {"mopoe": {"a": 2, "b": 3}}
    other.info["settings"]["method"]["beta"] = 3.0
    assert sweep_of(both) is None  # two settings
