"""The benchmarks run, and write what they promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def test_polymodal_alone(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--quick", "--threads", "1", "--only", "train_jnf", "bare"]
    given = ["--out", str(tmp_path), "--train", "64", "--batch", "32", "--peer-python", ""]
    done = subprocess.run(command + given, capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "speed.json").read_text())
    (line,) = found["table"]
    rates = [
        found["results"]["polymodal"][task][0]["joint"]["median"] for task in ("train_jnf", "bare")
    ]
    assert line["ratio"] == rates[0] / rates[1] > 0
    assert f"| {line['name']} |" in (tmp_path / "speed.md").read_text()


def test_exactness_of_scores(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN.parent / "score.py"), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "score.json").read_text())
    assert set(found["learned"]) == set(found["exact"])
    assert "(f) twisted, 32 particles" in (tmp_path / "score.md").read_text()
    assert (tmp_path / "score.png").stat().st_size


def test_the_page_on_filling_in_has_the_figures_of_the_runs() -> None:
    """Its tables are those that the recorded runs give, and in no run is filling in worse than the
    columns' means and modes.
    """
    sys.path.insert(0, str(RUN.parent))
    import impute

    runs = json.loads(impute.RESULTS.read_text())["runs"]
    assert impute.tables(runs) in (RUN.parents[1] / "docs" / "impute.md").read_text()
    for run in runs:
        ours, marginal = (run["imputers"][name] for name in ("polymodal", "marginal"))
        assert ours["rmse"] < marginal["rmse"], (run["table"], run["seed"], run["mechanism"])
        assert ours["error_rate"] < marginal["error_rate"]
        for alike in ("rmse_levels", "rmse_between"):
            assert ours.get(alike, 0) < marginal.get(alike, 1)
            lost = f"{alike}_lost"  # one of the two modalities, from a fifth of the rows
            assert ours.get(lost, 0) < 1.01 * marginal.get(lost, 1)


def test_the_page_on_missing_data_has_the_figures_of_the_runs() -> None:
    """In every run the model of the mechanism has at most a third of the bias of the model without,
    on wine, whose mechanism is another, if it knows the direction; where nothing depends on values
    its errors are at most 3 % larger.
    """
    sys.path.insert(0, str(RUN.parent))
    import not_at_random

    runs = json.loads(not_at_random.RESULTS.read_text())["runs"]
    assert not_at_random.table_of(runs) in (RUN.parents[1] / "docs" / "missing.md").read_text()
    for run in runs:
        why = "high_missing" if run["data"] == "wine" else "self_masking"
        ours, plain = (run["imputers"][f"miwae, {m}"] for m in (why, "ignorable"))
        if run["data"] == "toy-mcar":
            assert ours["rmse"] < 1.03 * plain["rmse"]
        else:
            assert abs(ours["bias"]) < abs(plain["bias"]) / 3 and ours["rmse"] < plain["rmse"]
