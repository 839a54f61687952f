"""Run directories: killed at any moment a run resumes bit for bit, nothing is half written, no file
runs code.
"""

import errno
import json
import os
import pickle
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import polymodal.checks.files as files
import polymodal.runs.checkpointer
import polymodal.runs.log as log
from polymodal.data import Splits
from polymodal.methods import METHODS
from polymodal.model import Method
from polymodal.runs.checkpointer import Checkpointer
from polymodal.runs.run import Run, load
from polymodal.runs.tensors import load_checkpoint, load_into, opened
from polymodal.training.fit import fit
from polymodal.training.stage_trainer import StageTrainer
from toys import equal, toy, toy_data

SETTINGS = {
    "epochs": 3,
    "batch": 48,
    "lr": 0.5,
    "ema": 0.9,
    "patience": 2,
    "schedule": "plateau",
    "plateau": 0,
    "warmup": 3,
    "optimizer": "amsgrad",
    "checkpoint_minutes": 0.0,
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _toy_is_a_method(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", toy)


def train(out: Path | None, **settings) -> Run:
    return fit("toy", toy_data(), out=out, **SETTINGS | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """The run that nothing interrupts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", toy)
        return train(tmp_path_factory.mktemp("whole") / "run")


def columns(run: Run) -> list[str]:
    """The log without the clock."""
    text = (run.directory / "log.csv").read_text()
    clock = text.splitlines()[0].split(",").index("seconds")
    return [
        ",".join(part for i, part in enumerate(line.split(",")) if i != clock)
        for line in text.splitlines()
    ]


def in_child(work, after: float | None = None) -> bool:
    """Whether `work`, in a process of its own, ended before it was killed (`after` seconds, or by
    itself).
    """
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


def is_whole(out: Path) -> None:
    """Whatever is there can be read."""
    if not (out / "run.json").exists():
        assert not (out / "last.ckpt").exists() and not (out / "model.safetensors").exists()
        return
    info = json.loads((out / "run.json").read_text())
    assert info["status"] in ("training", "finished")
    if (out / "last.ckpt").exists():
        load_checkpoint(out / "last.ckpt", info["identity"], toy().model)
    if (out / "model.safetensors").exists():
        with opened(out / "model.safetensors", info["identity"]) as file:
            load_into(toy().model, file, out / "model.safetensors")


def test_killed_at_random_moments_a_run_resumes_bit_for_bit(whole, tmp_path) -> None:
    start = time.perf_counter()
    assert in_child(lambda: train(tmp_path / "timed"))
    length = time.perf_counter() - start
    draw, kills, out = random.Random(0), 0, tmp_path / "run"
    for _ in range(6):
        kills += not in_child(lambda: train(out), after=draw.uniform(0.05, 0.6) * length)
        is_whole(out)
    run = train(out)
    assert kills >= 1
    assert equal(run.model, whole.model) and columns(run) == columns(whole)
    assert not list(out.glob("*.tmp")) or run.info["status"] == "finished"


# The run writes after every one of its twelve steps. "append": between a stage's last step and its
# last epoch's end.
MOMENTS = {
    "replace": (1, 2, 5, 11, 13, 17),
    "fsync": (1, 4, 30),
    "open": (1, 3, 20),
    "append": (3, 6),
}


@pytest.mark.parametrize("call", MOMENTS)
def test_killed_while_it_writes_nothing_is_half_there(call, whole, tmp_path, monkeypatch) -> None:
    where = {"replace": [os], "fsync": [os], "open": [files, log], "append": [log.Log]}[call]
    real = open if call == "open" else getattr(where[0], call)
    resumed = 0
    for moment in MOMENTS[call]:
        out, left = tmp_path / str(moment), [moment]

        def deadly(*args, left=left, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                if call == "open" and "w" in str(args[1:2]):  # half of what was to be written
                    real(*args).write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        def work(out=out) -> None:
            with monkeypatch.context() as patch:
                for place in where:
                    patch.setattr(place, call, deadly, raising=False)
                train(out)

        assert not in_child(work)
        is_whole(out)
        resumed += (out / "last.ckpt").exists()
        run = train(out)
        assert equal(run.model, whole.model) and columns(run) == columns(whole)
    assert resumed >= len(MOMENTS[call]) - 2


def test_a_finished_run_is_returned_and_a_loaded_one_is_the_same(whole) -> None:
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in whole.directory.iterdir()}
    for run in (
        train(whole.directory),
        load(whole.directory),
        train(whole.directory, progress=False, logger="wandb"),
    ):
        assert equal(run.model, whole.model) and not run.model.training
        assert run.history.equals(whole.history) and run.settings == whole.settings
        assert run.info["stages"] == whole.info["stages"] and list(run.modalities) == list(
            whole.modalities
        )
    assert before == {
        p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in whole.directory.iterdir()
    }
    assert sorted(before) == ["last.ckpt", "log.csv", "model.safetensors", "run.json"]
    assert whole.info["versions"]["torch"] == torch.__version__ and whole.seed == 0
    state = torch.random.get_rng_state()
    load(whole.directory)
    assert torch.equal(state, torch.random.get_rng_state())


def draws(run: Run) -> torch.Tensor:
    """Latents of the test data under one seed."""
    torch.manual_seed(0)
    return run.model.latents(toy_data().test.batch(torch.arange(8)), 3)


def test_a_run_without_a_directory_can_be_saved(whole, tmp_path) -> None:
    run = train(None)
    run.metrics = {"coherence": [0.5, 0.75]}
    run.save(tmp_path / "new" / "run")
    back = load(tmp_path / "new" / "run")
    assert equal(back.model, whole.model) and torch.equal(draws(back), draws(whole))
    assert back.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert back.metrics == run.metrics and back.info == run.info
    assert equal(train(tmp_path / "new" / "run").model, whole.model)  # it is finished
    run.save_metrics({"coherence": [1.0]})
    assert load(run.directory).metrics == {"coherence": [1.0]}


def test_a_loaded_run_can_be_saved_elsewhere_and_again(whole, tmp_path) -> None:
    run = load(whole.directory)
    run.save(tmp_path / "copy")
    assert run.directory == whole.directory  # metrics still go there
    copy = load(tmp_path / "copy")
    assert torch.equal(draws(copy), draws(whole)) and copy.history.equals(whole.history)
    with torch.no_grad():
        copy.model.posterior.mean.fill_(7.0)
    copy.save(copy.directory)
    assert load(tmp_path / "copy").model.posterior.mean.tolist() == [7.0, 7.0]
    assert sorted(p.name for p in copy.directory.iterdir()) == [
        "log.csv",
        "model.safetensors",
        "run.json",
    ]


def test_a_custom_method_can_be_saved(tmp_path) -> None:
    run = fit(toy(), toy_data(), **SETTINGS | {"epochs": 1})
    run.save(tmp_path / "run")
    assert equal(load(tmp_path / "run", toy()).model, run.model)


def test_saving_overwrites_nothing(whole, tmp_path) -> None:
    run = train(tmp_path / "other", epochs=1)
    before = (whole.directory / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"already contains a run; .* nothing is overwritten"):
        run.save(whole.directory)
    assert (whole.directory / "model.safetensors").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "log.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"contains a log\.csv but no run\.json"):
        run.save(tmp_path / "mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; give a directory"):
        run.save(tmp_path / "file")


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_an_interrupted_save_leaves_no_run(call, whole, tmp_path, monkeypatch) -> None:
    real, calls = getattr(os, call), []
    monkeypatch.setattr(os, call, lambda *args: calls.append(args) or real(*args))
    whole.save(tmp_path / "counted")
    for moment in range(1, len(calls) + 1):
        left = [moment]

        def failing(*args, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            with pytest.raises(ValueError, match="no space left on the disk"):
                whole.save(tmp_path / str(moment))
        is_whole(tmp_path / str(moment))
        if not (tmp_path / str(moment) / "run.json").exists():
            whole.save(tmp_path / str(moment))
            assert equal(load(tmp_path / str(moment)).model, whole.model)


def incomplete(n: int = 96) -> Splits:
    """Data in which every third sample lacks a."""
    present = {"a": torch.arange(n) % 3 != 0}
    return replace(toy_data(n), train=replace(toy_data(n).train, present=present))


def patterns(run: Run) -> set[tuple[bool, ...]]:
    return set(map(tuple, run.model.posterior.trained_patterns.tolist()))


JOINT = {"epochs": 1, "latent": 2, "progress": False, "device": "cpu", "hidden": 8}


@pytest.mark.parametrize("name", ["jmvae", "jmvae_two_stage"])
def test_trained_patterns_are_kept(name, tmp_path, monkeypatch) -> None:
    expected = {(True, True), (False, True), (False, False)}  # the last fills the table
    run = fit(name, incomplete(), out=tmp_path / "run", **JOINT)
    assert patterns(run) == expected != patterns(fit(name, toy_data(), **JOINT))
    assert run.info["stages"]["joint"]["figures"] == {"patterns": 2}
    assert patterns(load(run.directory)) == expected
    taken = fit(name, incomplete(), reuse=dict.fromkeys(run.info["stages"], run), **JOINT)
    assert patterns(taken) == expected
    assert taken.info["stages"]["joint"]["figures"] == {"patterns": 2}
    taken.save(tmp_path / "saved")
    assert patterns(load(tmp_path / "saved")) == expected


def test_trained_patterns_are_kept_when_a_run_is_resumed(tmp_path, monkeypatch) -> None:
    real = StageTrainer.run_epoch

    def interrupted(self, *args):
        if self.stage.name == "surrogates":
            raise KeyboardInterrupt
        return real(self, *args)

    def run() -> Run:
        return fit("jmvae_two_stage", incomplete(), out=tmp_path / "run", **JOINT)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert patterns(run()) == {(True, True), (False, True), (False, False)}


def test_metrics_are_kept(tmp_path) -> None:
    run = train(tmp_path / "run", epochs=1)
    assert load(run.directory).metrics == {}
    run.save_metrics({"coherence": [0.5, 0.75]})
    assert load(run.directory).metrics == run.metrics == {"coherence": [0.5, 0.75]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 0.2}, r"training\.lr: 0\.5 there, 0\.2 now"),
        ({"latent": 3}, r"method\.latent: 2 there, 3 now"),
        ({"seed": 4}, "seed: 0 there, 4 now"),
    ],
)
def test_other_settings_are_refused(change, says, whole) -> None:
    expected = rf"already contains a run with different settings \({says}\); give another --out"
    with pytest.raises(ValueError, match=expected):
        train(whole.directory, **change)
    with pytest.raises(ValueError, match=r"samples\.train: 96 there, 40 now"):
        fit("toy", toy_data(n=40), out=whole.directory, **SETTINGS)


def test_files_of_something_else_are_not_overwritten(tmp_path) -> None:
    (tmp_path / "log.csv").write_text("mine")
    with pytest.raises(
        ValueError, match=r"contains a log\.csv but no run\.json; .* nothing is overwritten"
    ):
        train(tmp_path)
    assert (tmp_path / "log.csv").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file; give a directory"):
        train(tmp_path / "file")


def test_mistakes_leave_no_directory(tmp_path) -> None:
    for mistake in (
        {"networks": {"c": "mlp"}, "method": None},
        {"stages": {"jont": {}}},
        {"reuse": {"joint": "no"}},
    ):
        given = {k: v for k, v in mistake.items() if k != "method"}
        with pytest.raises(ValueError):
            fit(
                "jmvae" if "networks" in mistake else "toy",
                toy_data(),
                out=tmp_path / "run",
                **SETTINGS | given,
            )
        assert not (tmp_path / "run").exists()


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "name", ["encoders.pkl", "model.PT", "deep/inside/x.bin", "last.ckpt", "zip last.ckpt"]
)
def test_no_file_in_a_run_directory_runs_code(name, tmp_path) -> None:
    run = train(tmp_path / "run", epochs=1)
    witness, planted = tmp_path / "witness", run.directory / name.removeprefix("zip ")
    planted.parent.mkdir(parents=True, exist_ok=True)
    if name.startswith("zip"):
        torch.save({"model": Touch(witness)}, planted)
    else:
        planted.write_bytes(pickle.dumps({"model": Touch(witness)}, protocol=2))
    with pytest.raises(ValueError, match=r"run code|is damaged") as error:
        load(run.directory)
    assert str(error.value).count("\n") == 0
    info = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps(info | {"status": "training"}))
    with pytest.raises(ValueError, match=r"run code|is damaged"):
        train(run.directory, epochs=1)
    assert not witness.exists()
    with open(planted, "rb") as file:  # the plant is live: unguarded reading does run it
        torch.load(file, weights_only=False) if name.startswith("zip") else pickle.load(file)
    assert witness.exists()


@pytest.mark.parametrize("name", ["run.json", "model.safetensors", "last.ckpt", "log.csv"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_damaged_files_are_told(name, keep, tmp_path) -> None:
    run = train(tmp_path / "run", epochs=1)
    data = (run.directory / name).read_bytes()
    (run.directory / name).write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=f"{name} is damaged") as error:
        load(run.directory)
    assert "\n" not in str(error.value)


def test_missing_and_unfinished_runs_are_told(whole, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"is no run directory; give one with a run\.json"):
        load(tmp_path)
    run = train(tmp_path / "run", epochs=1)
    (run.directory / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"There is no file .*model\.safetensors"):
        load(run.directory)
    info = json.loads((run.directory / "run.json").read_text())
    (run.directory / "run.json").write_text(json.dumps(info | {"status": "training"}))
    with pytest.raises(
        ValueError, match="is not finished; finish training first; the same command resumes it"
    ):
        load(run.directory)
    with pytest.raises(ValueError, match="does not fit the model"):
        load(whole.directory, toy(latent=3))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "input/output"),
    ],
)
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_what_the_disk_says_is_told_and_the_old_file_stays(
    number, says, call, tmp_path, monkeypatch
) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ValueError, match=f"^{path} cannot be written: .*{says}.*\\.$"):
        files.write(path, b"new and longer")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("writes", [6, 13, 14, 15])
def test_a_full_disk_in_mid_run_leaves_a_run_that_can_be_resumed(
    writes, whole, tmp_path, monkeypatch
) -> None:
    real, left = os.fsync, [writes]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ValueError,
            match=r"(last\.ckpt|log\.csv) cannot be written: there is no space left on the disk",
        ):
            train(tmp_path / "run")
    is_whole(tmp_path / "run")
    run = train(tmp_path / "run")
    assert equal(run.model, whole.model) and columns(run) == columns(whole)


def test_a_method_of_ones_own_is_loaded_into_the_same_method(tmp_path) -> None:
    torch.manual_seed(1)
    run = fit(toy(), toy_data(), out=tmp_path / "run", **SETTINGS | {"epochs": 1})
    with pytest.raises(
        ValueError,
        match=r"was trained with a custom Method; pass it as load\(run_dir, method=\.\.\.\)",
    ):
        load(tmp_path / "run")
    assert equal(load(tmp_path / "run", toy()).model, run.model)
    assert isinstance(
        fit(toy(), toy_data(), out=tmp_path / "run", **SETTINGS | {"epochs": 1}).method, Method
    )


def test_checkpoints_take_a_tenth_of_the_time(tmp_path, monkeypatch) -> None:
    now, saves = [0.0], []
    monkeypatch.setattr(polymodal.runs.checkpointer.time, "monotonic", lambda: now[0])

    def save(*_: object) -> None:
        saves.append(now[0])
        now[0] += 2

    monkeypatch.setattr(polymodal.runs.checkpointer, "save_checkpoint", save)
    info = {
        "settings": {"data": {}, "training": {}},
        "seed": 0,
        "data": {},
        "modalities": [],
        "versions": {},
        "stages": {},
    }
    with Checkpointer(tmp_path / "run", info) as checkpointer:
        checkpointer.begin(torch.nn.Linear(1, 1))
        for _ in range(50):
            now[0] += 1
            checkpointer.save_if_due(dict)
        assert saves == [1.0, 21.0, 41.0]  # writing takes 2 s, so 18 s lie between
        now[0] = 1000.0
        checkpointer.save_if_due(dict, 2000.0)
        assert len(saves) == 3


def test_the_log_takes_new_columns_and_loses_torn_lines(tmp_path) -> None:
    course = log.Log(tmp_path / "log.csv")
    course.append({"stage": "one", "x": 0.1})
    course.append({"stage": "one", "y": 2})
    course.append({"stage": "one", "x": 1e-9})
    with open(tmp_path / "log.csv", "a") as file:
        file.write("one,0.")  # killed in mid-line
    again = log.Log(tmp_path / "log.csv", log.Log.read(tmp_path / "log.csv", 2))
    again.append({"stage": "two", "x": 0.3})
    assert (tmp_path / "log.csv").read_text().split() == [
        "run,stage,x,y",
        ",one,0.1,",
        ",one,,2",
        ",two,0.3,",
    ]
    assert again.frame()["x"].tolist()[::2] == [0.1, 0.3]
