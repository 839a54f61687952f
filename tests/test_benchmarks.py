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
