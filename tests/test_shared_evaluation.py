"""An evaluation that processes share ends with the table of one process, whoever is killed."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import polymodal
from polymodal.metrics import sharing
from polymodal.metrics.sharing import FOLDER, Processes, SharedRows, one_at_a_time
from polymodal.metrics.table import Table

UNITS = [(), ("a",), ("b",), ("a", "b")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr(sharing, "WAIT", 0.01)


def shared(folder: Path, rank: int = 0, count: int = 2, key: str = "k") -> SharedRows:
    return SharedRows(folder, key, Processes(rank, count, 1))


def test_every_place_is_measured_once_and_all_see_all_rows(tmp_path) -> None:
    computed: list[tuple] = []
    found: dict[int, list] = {}

    def run(rank: int) -> None:
        def rows(given):
            computed.append(given)
            time.sleep(0.05)
            return [{"given": "+".join(given), "value": 0.1 + len(given)}] * (given != ("b",))

        work = {given: lambda given=given: rows(given) for given in UNITS}
        found[rank] = shared(tmp_path, rank, 3).measured(work)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(computed) == sorted(UNITS), "once each"
    assert found[0] == found[1] == found[2]
    assert [row["given"] for row in found[0]] == ["", "a", "a+b"], "in the order of the work"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_a_killed_process_had_measured_is_kept_and_the_rest_is_done(tmp_path) -> None:
    def killed():
        raise KeyboardInterrupt

    first = {UNITS[0]: lambda: [{"value": 1 / 3}], UNITS[1]: killed}
    with pytest.raises(KeyboardInterrupt):
        shared(tmp_path, count=1).measured(first)
    again = {UNITS[0]: killed, UNITS[1]: lambda: [{"value": float("nan")}]}
    rows = shared(tmp_path, count=1).measured(again)
    assert rows[0]["value"] == 1 / 3 and rows[1]["value"] != rows[1]["value"]
    with pytest.raises(KeyboardInterrupt):
        shared(tmp_path, count=1, key="other").measured(again)


def test_one_process_is_the_rule_and_torchrun_says_who_is_who(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert Processes.of_torchrun() == Processes(0, 1, 0)
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    found = Processes.of_torchrun()
    assert (found.rank, found.count, found.is_first) == (1, 2, False)
    with one_at_a_time(found, tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    with one_at_a_time(Processes(), tmp_path / "none"):
        assert not (tmp_path / "none").exists()


MEASURES = "joint_log_likelihood,conditional_log_likelihood,coherence,precision,kid,probe"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A short run with a sampler for both modalities, evaluated by one process."""
    folder = tmp_path_factory.mktemp("shared")
    sections = {"data": {"name": "shapes", "n": 200}, "method": {"name": "jmvae", "latent": 2}}
    polymodal.fit(sections, epochs=1, progress=False, out=folder / "run")
    return folder / "run"


def evaluated(run: Path, processes: int) -> Table:
    """The table that the command writes."""
    (run / "metrics.json").unlink(missing_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*(launcher if processes > 1 else []), "-m", "polymodal", "evaluate", str(run)]
    command += ["--metrics", MEASURES, "--limit", "30"]
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("target | given") == 1, "one table is printed"
    return Table.from_records(json.loads((run / "metrics.json").read_text())["table"])


def test_two_processes_of_torchrun_end_with_the_same_bits_as_one(run: Path) -> None:
    one, two = evaluated(run, 1), evaluated(run, 2)
    pd.testing.assert_frame_equal(one.frame, two.frame, check_exact=True)
    assert len(one.frame) > 15
    assert not [path for path in run.iterdir() if path.name.startswith(FOLDER)]
