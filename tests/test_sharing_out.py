"""Comparisons and searches that processes share, that survive failures, and their answers."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest

from polymodal import load
from polymodal.cli.compare import _space
from polymodal.cli.main import run as command
from polymodal.experiments import trials, work
from polymodal.experiments.plan import make_plan
from polymodal.metrics.table import Table
from polymodal.report.answer import answer
from polymodal.report.written import latex, markdown
from polymodal.runs.lock import locked

SMALL = "data: {name: linear_gaussian, n: 200}\ntraining: {epochs: 2, progress: false}\n"
QUICK = "evaluation: {metrics: [joint_log_likelihood], limit: 40, samples: 5}\n"


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    files = []
    for name in ("jnf", "jmvae_two_stage", "mvae"):
        file = tmp_path / f"{name.replace('_', '-')}.yaml"
        file.write_text(f"{SMALL}{QUICK}method: {{name: {name}, latent: 2}}\n")
        files.append(str(file))
    return files


@pytest.fixture(autouse=True)
def _no_page(monkeypatch) -> None:
    """In this process comparisons write no page: test_report.py tests it."""
    monkeypatch.setattr("polymodal.report.page.write_report", lambda *args, **options: None)


def compared(recipes: list[str], out: Path, seeds: str = "1") -> list[str]:
    quick = [f"evaluation.{k}" for k in ("metrics=[joint_log_likelihood]", "limit=40", "samples=5")]
    return ["compare", *recipes, "--out", str(out), "--seeds", seeds, *quick]


def figures(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "table.csv")[["method", "metric", "value", "se", "seed"]]


# Comparisons.


def test_two_processes_share_the_runs_and_end_with_one_table(recipes, tmp_path) -> None:
    assert command(compared(recipes, tmp_path / "one")) == 0
    call = [sys.executable, "-m", "polymodal", *compared(recipes, tmp_path / "two", "1")]
    done = subprocess.run([*call, "--processes", "2"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(figures(tmp_path / "two"), figures(tmp_path / "one"))
    for name in ("table.md", "table.tex"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert (tmp_path / "two" / "report.html").is_file()
    # Each epoch of each run was trained by one of them.
    for log in (tmp_path / "two").glob("*/log.csv"):
        steps = pd.read_csv(log).dropna(subset="epoch")
        assert len(steps) and not steps.duplicated(["stage", "epoch"]).any()
    assert "By joint log likelihood (" in done.stdout


SBATCH = """#!/bin/bash
# A cluster of one machine; `ended` is there when the job has ended.
(SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_LOCALID=0 \\
  SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here bash "$1"
  touch "$(dirname "$0")/ended") > /dev/null 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do [[ "$1" == --unbuffered ]] || shift; shift; done
exec "$@"
"""


def test_slurm_jobs_work_at_the_runs_and_the_command_that_submits_them_trains_nothing(
    recipes, tmp_path, monkeypatch, capfd
) -> None:
    for name, text in {"sbatch": SBATCH, "srun": SRUN}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("polymodal.cli.train.train_plan", lambda *_: pytest.fail("trains"))
    out = tmp_path / "out"
    words = [*compared(recipes[1:], out), "--jobs", "1", "--slurm=mem=16GB", "--slurm", "time=90"]
    monkeypatch.setattr(sys, "argv", ["polymodal", *words])
    assert command(words) == 0
    assert "share the runs: 7." in capfd.readouterr().out
    until = time.monotonic() + 200
    while not (tmp_path / "ended").exists() and time.monotonic() < until:
        time.sleep(0.1)
    script = next((out / "slurm").glob("*.sh")).read_text()
    assert "#SBATCH --mem=16GB\n" in script and "#SBATCH --time=90\n" in script
    assert set(figures(out)["method"]) == {"jmvae-two-stage", "mvae"}
    assert pickle.loads((out / "slurm" / "7_0_result.pkl").read_bytes()) == ("success", None)


def test_slurm_options_are_refused_in_one_sentence(recipes, tmp_path, monkeypatch, capsys) -> None:
    words = compared(recipes, tmp_path / "out")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command([*words, "--jobs", "2"]) == 2
    assert "No SLURM job was submitted: Could not detect" in capsys.readouterr().err
    assert command([*words, "--slurm", "mem=16GB"]) == 2
    assert "say how many by --jobs" in capsys.readouterr().err
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    assert command([*words, "--jobs", "2", "--slurm", "memory=16GB"]) == 2
    assert "Unavailable parameter(s): ['memory']" in capsys.readouterr().err
    assert not (tmp_path / "out" / "recipe.yaml").exists()  # the words may be corrected


def test_a_run_that_fails_takes_only_those_with_it_that_need_its_stages(
    recipes, tmp_path, monkeypatch, capsys
) -> None:
    fit = work.fit

    def failing(settings: Any, *args: Any, out: Path, **kwargs: Any) -> Any:
        if out.name == "jnf-seed1":
            raise RuntimeError("the loss is not finite")
        return fit(settings, *args, out=out, **kwargs)

    monkeypatch.setattr(work, "fit", failing)
    assert command(compared(recipes, tmp_path / "out", "2")) == 2
    sentence = capsys.readouterr().err.strip()
    assert sentence.splitlines()[-1].startswith(
        "2 of 6 runs failed, jnf-seed1: the loss is not fin"
    )
    assert "jmvae-two-stage-seed1: its stage joint comes from jnf-seed1, which failed" in sentence
    assert set(figures(tmp_path / "out")["seed"].astype(str)) == {"0,1", "0"}
    monkeypatch.setattr(work, "fit", fit)
    assert command(compared(recipes, tmp_path / "out", "2")) == 0
    assert set(figures(tmp_path / "out")["seed"].astype(str)) == {"0,1"}


def test_a_run_that_another_process_writes_is_waited_for(recipes, tmp_path, monkeypatch) -> None:
    plan = make_plan(recipes[2], tmp_path / "a")
    plan = type(plan)(
        [*plan.runs, *make_plan(recipes[0], tmp_path / "b").runs], plan.data, plan.settings
    )
    (tmp_path / "a").mkdir()
    other = locked(tmp_path / "a")
    other.__enter__()
    order: list[str] = []

    def wait(seconds: float) -> None:
        order.append("wait")
        other.__exit__(None, None, None)

    monkeypatch.setattr(work, "time", SimpleNamespace(sleep=wait))
    outcome = work.train(plan, after=lambda planned, run: order.append(planned.directory.name))
    assert order == ["b", "wait", "a"] and list(outcome.runs) == [tmp_path / "a", tmp_path / "b"]


def test_a_comparison_is_not_mixed_with_another(recipes, tmp_path, capsys) -> None:
    assert command(compared(recipes[:2], tmp_path / "out")) == 0
    assert command(compared(recipes, tmp_path / "out", "2")) == 2
    assert "has another comparison" in capsys.readouterr().err
    wrong = ["compare", recipes[0], "jnff", "--out", str(tmp_path / "y")]
    assert command(wrong) == 2 and not list((tmp_path / "y").iterdir())
    assert "jnff" in capsys.readouterr().err
    assert command(["compare", recipes[0], "--out", str(tmp_path / "x")]) == 2
    assert "two recipes or more" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# Results.


def test_results_of_any_size_are_read(recipes, tmp_path) -> None:
    assert command(["train", recipes[2], "--out", str(tmp_path / "run")]) == 0
    assert command(["evaluate", str(tmp_path / "run")]) == 0
    file = tmp_path / "run" / "metrics.json"
    content = json.loads(file.read_text())
    content["table"][0] |= {"value": 7.9e-16, "se": 2.8e-32}  # what rounding leaves of 0
    file.write_text(json.dumps(content))
    row = load(tmp_path / "run").metrics["table"][0]
    assert (row["value"], row["se"]) == (7.9e-16, 2.8e-32)


def table_of(metric: str = "coherence", **figures: tuple[float, float]) -> Table:
    rows = [
        {
            "method": m.replace("_", "-"),
            "data": "d",
            "metric": metric,
            "target": "a_1",
            "given": "b",
        }
        | {"value": value, "se": se, "se_seeds": math.nan, "seeds": 1, "n": 50, "seed": "0"}
        | {"direction": "higher", "unit": "share", "reason": "", "evaluation": ""}
        for m, (value, se) in figures.items()
    ]
    return Table.from_records(rows)


def test_the_answer_names_the_best_what_ties_with_it_and_what_is_worse() -> None:
    table = table_of(jnf=(0.5, 0.03), jnf_dcca=(0.7, 0.03), mvae=(0.62, 0.03), jmvae=(0.6, 0.01))
    # Two standard errors of the difference: .085 to MVAE, .063 to JMVAE.
    words = answer(table)
    assert words.startswith("By coherence (seed 0, share) jnf-dcca (0.700 ± 0.030) is best;")
    assert "within two standard errors of it: mvae (0.620" in words
    assert words.endswith("worse: jmvae (0.600 ± 0.010), jnf (0.500 ± 0.030).")
    with pytest.raises(ValueError, match="coherence"):
        answer(table, "coherense")
    # Stages that are shared give equal likelihoods: then coherence decides.
    equal = table_of("joint_log_likelihood", jnf=(-9.0, 0.1), jnf_dcca=(-9.0, 0.1))
    both = Table.from_records([*equal.records(), *table.records()])
    first, then = answer(both).split(". ")
    assert first.startswith("By joint log likelihood (seed 0, share) all are within two")
    assert then.startswith("By coherence (seed 0, share) jnf-dcca")


def test_tables_show_the_best_in_bold_and_print_in_latex() -> None:
    table = table_of(jnf=(0.5, 0.03), jnf_dcca=(0.7, 0.03), mvae=(0.66, 0.03))
    lines = markdown(table).splitlines()
    assert lines[0].startswith("| metric | target, given | direction | jnf | jnf-dcca | mvae |")
    assert "| 0.500 ± 0.030 | **0.700 ± 0.030** | **0.660 ± 0.030** |" in lines[2]
    text = latex(table)
    assert r"a\_1 $\mid$ b" in text and r"\textbf{0.700 $\pm$ 0.030}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 and {row.count("&") for row in rows} == {8}


# Sweeps.


def test_a_sweep_is_a_comparison_of_values(recipes, tmp_path) -> None:
    words = ["sweep", recipes[2], "method.latent=1,2", "--out", str(tmp_path / "out")]
    assert command(words) == 0
    assert set(figures(tmp_path / "out")["method"]) == {"mvae-latent=1", "mvae-latent=2"}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("training.lr=1e-2..1e-4", "low < high"),
        ("training.lr=1e-4..1e-2", "is a range; give --trials"),
        ("method.latent=2", "several values"),
        ("method.latent", "key=value"),
    ],
)
def test_settings_of_a_sweep_that_cannot_be(word, says, recipes, tmp_path, capsys) -> None:
    assert command(["sweep", recipes[2], word, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_lists_and_ranges_are_told_from_values() -> None:
    words = ["a.b=[1, 2],[3]", "c=8..64", "d={x: 1, y: 2}", "e=maf,spline", "f=[1,2]"]
    space, changes = _space(words)
    assert space == {"a.b": [[1, 2], [3]], "c": (8, 64), "e": ["maf", "spline"]}
    assert changes == ["d={x: 1, y: 2}", "f=[1,2]"]


def searched(recipe: str, out: Path, count: int) -> trials.Search:
    space = {"method.latent": [1, 2], "training.lr": (1e-4, 1e-2)}
    return trials.Search(recipe, out, space, count)


def test_a_search_takes_up_the_trial_that_a_process_left_and_ends_with_so_many(
    recipes, tmp_path
) -> None:
    given = searched(recipes[2], tmp_path / "out", 4)
    left = trials._study(given).ask()  # its process was killed before it chose or trained anything
    study = trials.search(given, lambda line: None)
    done = study.get_trials()
    assert [t.number for t in done] == [0, 1, 2, 3] and left.number == 0
    assert {t.state for t in done} == {optuna.trial.TrialState.COMPLETE}
    for trial in done:
        latent, lr = trial.params["method.latent"], trial.params["training.lr"]
        info = json.loads((tmp_path / "out" / f"trial-{trial.number}" / "run.json").read_text())
        assert info["settings"]["method"]["latent"] == json.loads(latent)
        assert info["settings"]["training"]["lr"] == lr and 1e-4 <= lr <= 1e-2
    best = max(done, key=lambda t: t.value)
    text = trials.summary(study)
    assert f"the best of 4 trials is trial {best.number}," in text
    assert text.splitlines()[4].startswith(f"| {best.number} |")  # first below the header
    assert trials.search(given, lambda line: pytest.fail(line)) is not None  # nothing is left


def test_a_search_passes_by_the_trial_of_another_process(recipes, tmp_path) -> None:
    given = searched(recipes[2], tmp_path / "out", 2)
    trials._study(given).ask()
    with trials._hold(given, 0):
        study = trials.search(given, lambda line: None)
    states = [t.state.name for t in study.get_trials()]
    assert states == ["RUNNING", "COMPLETE"]


def test_two_processes_do_not_try_the_same_values(recipes, tmp_path) -> None:
    given = searched(recipes[2], tmp_path / "out", 6)
    studies, rates = [trials._study(given) for _ in range(2)], set()
    with ExitStack() as held:
        for study in studies * 3:
            trial = trials._next(given, study, held)
            rates.add(trials._suggest(trial, "training.lr", (1e-4, 1e-2)))
    assert len(rates) == 6


def test_a_trial_that_fails_is_kept_as_failed(recipes, tmp_path) -> None:
    space = {"method.latent": [2], "training.lr": (1e-4, 1e-2), "method.k": [-1]}
    lines: list[str] = []
    given = trials.Search(recipes[2], tmp_path / "out", space, 1)
    study = trials.search(given, lines.append)
    assert [t.state.name for t in study.get_trials()] == ["FAIL"]
    assert "method.k" in lines[-1] and "method.k must" in trials.summary(study)
    other = trials.Search(recipes[2], tmp_path / "out", space, 1, "coherence")
    with pytest.raises(ValueError, match="is a search by joint_log_likelihood, not by coherence"):
        trials.search(other, lines.append)
