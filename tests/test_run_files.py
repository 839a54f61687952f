"""Run directories from outside: each file is typed, bounded, finite and tied to its run; one
process writes at a time; a failing disk leaves the old state or the new one.
"""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import polymodal.checks.files as files
from bad_inputs import special
from polymodal.checks.files import LIMIT, write
from polymodal.cli import main as cli
from polymodal.data.hashing import hash_of
from polymodal.methods import METHODS
from polymodal.runs.files import check_output
from polymodal.runs.info import computed, identity_of
from polymodal.runs.lock import locked
from polymodal.runs.run import Run, load
from polymodal.training.fit import fit
from toys import equal, toy, toy_data

SETTINGS = {"epochs": 2, "batch": 48, "checkpoint_minutes": 0.0, "progress": False}
ROW = {
    "method": "toy",
    "data": "toy",
    "metric": "probe",
    "target": "a",
    "given": "b",
    "value": 0.5,
    "se": 0.25,
    "n": 32,
    "seed": 0,
    "direction": "higher",
    "unit": "",
}


@pytest.fixture(autouse=True)
def _toy_is_a_method(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", toy)


def train(out: Path | None, **changes) -> Run:
    return fit("toy", toy_data(), out=out, **SETTINGS | {"device": "cpu"} | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run with results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", toy)
        run = train(tmp_path_factory.mktemp("whole") / "run")
        run.save_metrics({"table": [ROW]})
        return run.directory


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def refused(work: Callable[[], object], *words: str) -> str:
    """The one sentence with which `work` is refused, quickly."""
    start = time.perf_counter()
    with pytest.raises(ValueError) as error:
        work()
    text = str(error.value)
    assert time.perf_counter() - start < 10
    assert "\n" not in text and text.endswith((".", "?")) and len(text) < 700
    assert all(word in text for word in words), text
    for library in ("torch", "numpy", "pydantic", "zipfile", "Traceback", "Error"):
        assert library not in text.replace(str(Path(__file__).parent), ""), text
    return text


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def forge(run: Path, change: Callable[[dict], object]) -> None:
    """Changes run.json, and gives it and the weights the identity that then fits."""
    change_json(run / "run.json", change)
    info = json.loads((run / "run.json").read_text())
    identity = identity_of(info)
    change_json(run / "run.json", lambda value: value.update(identity=identity))
    weights = load_file(run / "model.safetensors")
    save_file(weights, run / "model.safetensors", {"identity": identity})
    for name in ("last.ckpt", "metrics.json"):
        (run / name).unlink()


# What belongs together.


def test_every_file_carries_the_identity_of_its_run(whole) -> None:
    info = json.loads((whole / "run.json").read_text())
    identity = info["identity"]
    for name in ("model.safetensors", "last.ckpt"):
        with safe_open(whole / name, "pt") as file:
            assert file.metadata()["identity"] == identity
    with open(whole / "log.csv") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {identity}
    results = json.loads((whole / "metrics.json").read_text())
    assert results["identity"] == identity
    assert results["weights"] == hash_of(load(whole).model.state_dict())
    assert "run" not in load(whole).history and load(whole).metrics == {"table": [ROW]}
    assert {"scipy", "scikit-learn", "torchjd", "lightning-fabric"} <= info["versions"].keys()


@pytest.mark.parametrize("name", ["model.safetensors", "last.ckpt", "log.csv", "metrics.json"])
def test_files_of_another_seed_are_refused(name, copy, tmp_path) -> None:
    other = train(tmp_path / "other", seed=1)
    other.save_metrics({"table": [ROW]})
    shutil.copy(other.directory / name, copy / name)
    refused(lambda: load(copy), name)
    if name == "last.ckpt":
        change_json(copy / "run.json", lambda info: info.update(status="training"))
        refused(lambda: train(copy), name, "does not belong to the run")


def test_results_of_other_weights_are_refused_and_not_saved(copy) -> None:
    run = load(copy)
    with torch.no_grad():
        run.model.posterior.mean.fill_(7.0)
    run.save(copy)
    assert not (copy / "metrics.json").exists() and load(copy).metrics == {}
    run.save_metrics({"table": [ROW]})
    stale = (copy / "metrics.json").read_text()
    with torch.no_grad():
        run.model.posterior.mean.fill_(8.0)
    run.save(copy)
    (copy / "metrics.json").write_text(stale)
    refused(lambda: load(copy), "metrics.json", "other weights")


def test_settings_changed_after_the_run_began_are_refused(copy) -> None:
    change_json(copy / "run.json", lambda info: info["settings"]["method"].update(weight=3.0))
    refused(lambda: load(copy), "run.json", "not as it was when the run began")


def test_a_checkpoint_of_a_stage_that_does_not_exist_is_refused(copy) -> None:
    change_json(copy / "run.json", lambda info: info.update(status="training"))
    tensors = load_file(copy / "last.ckpt")
    with safe_open(copy / "last.ckpt", "pt") as file:
        words = file.metadata()
    progress = json.loads(words["progress"])
    outcome = progress["stages"]["joint"]

    def forged(**changes) -> None:
        changed = words | {"progress": json.dumps(progress | changes)}
        save_file(tensors, copy / "last.ckpt", changed)

    forged(stages={f"s{i}": outcome for i in range(99)})
    refused(lambda: train(copy), "last.ckpt", "stage 100 of 2")
    forged(rows=-1)
    refused(lambda: train(copy), "last.ckpt", "rows")
    forged(rows=10**6)
    refused(lambda: train(copy), "log.csv", "rows were expected")
    forged(stages={"joint": outcome}, trainer={"items": [["epoch", 1]]})
    refused(lambda: train(copy), "last.ckpt", "is damaged")
    forged()
    assert train(copy).info["status"] == "finished"


# Weights.


def poisoned(value: float) -> Callable[[dict], None]:
    def change(state: dict) -> None:
        state["posterior.mean"][0] = value

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (poisoned(float("nan")), "NaN or infinite"),
        (poisoned(float("inf")), "NaN or infinite"),
        (lambda s: s.update({k: v.long() for k, v in s.items()}), "another type"),
        (lambda s: s.update({k: v.double() for k, v in s.items()}), "another type"),
        (lambda s: s.update({"posterior.mean": torch.zeros(3)}), "has shape (3,), not (2,)"),
        (lambda s: s.pop("posterior.mean"), "posterior.mean is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(change, word, copy) -> None:
    state = load_file(copy / "model.safetensors")
    with safe_open(copy / "model.safetensors", "pt") as file:
        words = file.metadata()
    change(state)
    save_file(state, copy / "model.safetensors", words)
    refused(lambda: load(copy), "model.safetensors", word)


@pytest.mark.parametrize("latent", [10**9, 10**30])
def test_a_model_that_its_weights_cannot_fill_takes_no_memory(latent, copy) -> None:
    forge(copy, lambda info: info["settings"]["method"].update(latent=latent))
    refused(lambda: load(copy), "model.safetensors", "larger than the file")


# Files that are none, or too large, or damaged.


@pytest.mark.parametrize(
    "name", ["run.json", "model.safetensors", "last.ckpt", "log.csv", "metrics.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder", "huge"])
def test_what_is_no_file_is_not_opened(kind, name, copy) -> None:
    path = copy / name
    path.unlink()
    special(path, kind)
    if kind == "loop" and name in ("last.ckpt", "metrics.json"):
        assert load(copy).metrics.keys() <= {"table"}  # as if it were not there
    else:
        refused(lambda: load(copy), "run" if name == "run.json" else name)


def test_the_limit_of_sizes_can_be_raised(copy, monkeypatch) -> None:
    table = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(table) + " " * 17 * 10**6)
    refused(lambda: load(copy), "metrics.json", "at most 16 MB", LIMIT)
    monkeypatch.setenv(LIMIT, "20")
    assert load(copy).metrics == {"table": [ROW]}


DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = {
    "brackets": DEEP,
    "deep": '{"stages": ' + "[" * 80 + "]" * 80 + "}",
    "list": "[]",
    "utf-16": "{}".encode("utf-16"),
    "latin-1": '{"command": "é"}'.encode("latin-1"),
    "binary": bytes(range(256)),
    "surrogate": '{"command": "\\ud800"}',
    "digits": '{"seed": ' + "9" * 5000 + "}",
    "twice": '{"seed": 1, "seed": 2}',
    "infinity": '{"seed": Infinity}',
    "overflow": '{"seed": 1e999}',
    "nan": '{"seed": NaN}',
}


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "log.csv"])
@pytest.mark.parametrize("text", TEXTS)
def test_texts_that_are_no_json_or_csv(text, name, copy) -> None:
    data = TEXTS[text]
    (copy / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    refused(lambda: load(copy), f"{name} is damaged")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda i: i.pop("seed"), "seed is missing"),
        (lambda i: i.pop("stages"), "stages is missing"),
        (lambda i: i["stages"].pop("joint"), "stages.joint is missing"),
        (lambda i: i["settings"].pop("data"), "began"),
        (lambda i: i.update(rows="x"), "rows must be"),
        (lambda i: i.update(rows=None), "rows is missing"),
        (lambda i: i.update(rowz=3), "rowz. Did you mean rows?"),
        (lambda i: i.update(status="done"), "status must be one of"),
        (lambda i: i["settings"]["training"].update(epochs=-1), "settings.training.epochs"),
        (lambda i: i["stages"]["joint"].update(seconds="long"), "stages.joint.seconds"),
        (lambda i: i["modalities"][0].update(shape="12"), "modalities[0].shape"),
        (lambda i: i["modalities"][0].pop("name"), "no name or no shape"),
        (lambda i: i.update(seed=float("inf")), "not finite"),
    ],
)
def test_keys_of_run_json_are_named(change, word, copy) -> None:
    change_json(copy / "run.json", change)
    refused(lambda: load(copy), "run.json is damaged", word)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["table"][0].pop("unit"), "table[0].unit is missing"),
        (lambda m: m["table"][0].update(value="much"), "table[0].value"),
        (lambda m: m["table"][0].update(n=-1), "table[0].n"),
        (lambda m: m["table"][0].update(reason={"a": 1}), "table[0].reason"),
        (lambda m: m.update(table=3), "table must be a list"),
        (lambda m: m.pop("weights"), "weights is missing"),
    ],
)
def test_keys_of_metrics_json_are_named(change, word, copy) -> None:
    change_json(copy / "metrics.json", change)
    refused(lambda: load(copy), "metrics.json is damaged", word)


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "abc", "1e999", "1,2"])
def test_cells_of_the_log_are_finite_numbers(cell, copy) -> None:
    lines = (copy / "log.csv").read_text().splitlines()
    parts = lines[1].split(",")
    lines[1] = ",".join([*parts[:3], cell, *parts[4:]])
    (copy / "log.csv").write_text("\n".join(lines) + "\n")
    refused(lambda: load(copy), "log.csv is damaged")


def same(one: Run, other: Run) -> bool:
    """Whether two runs are equal in all that a table or a picture would show."""
    told = [[r.info["settings"], r.seed, list(r.modalities), r.metrics] for r in (one, other)]
    return told[0] == told[1] and equal(one.model, other.model)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["run.json", "metrics.json", "log.csv", "model.safetensors", "last.ckpt"]),
    at=st.floats(0, 1, exclude_max=True),
    new=st.binary(max_size=3),
    cut=st.integers(0, 5),
)
def test_a_file_with_some_other_bytes_is_read_as_before_or_refused(
    whole, tmp_path_factory, name, at, new, cut
) -> None:
    copy = tmp_path_factory.mktemp("mutated") / "run"
    shutil.copytree(whole, copy)
    data = (copy / name).read_bytes()
    i = int(at * len(data))
    (copy / name).write_bytes(data[:i] + new + data[i + cut :])
    try:
        run = load(copy)
    except ValueError as error:
        assert "\n" not in str(error) and name.split(".")[0] in str(error)
    else:
        sound = load(whole)
        assert computed(run.info) == computed(sound.info)  # what determines the numbers
        assert list(run.modalities) == list(sound.modalities)
    shutil.rmtree(copy.parent)


# One writer.


def test_one_process_writes_at_a_time(copy, tmp_path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from polymodal.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    (tmp_path / "empty").mkdir()
    for directory in (copy, tmp_path / "empty"):
        command = [sys.executable, "-c", code, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            run = load(copy)
            words = ("Another process writes into", str(directory))
            run.directory = directory
            refused(lambda run=run: run.save_metrics({}), *words)
            refused(lambda run=run, d=directory: run.save(d), *words)
            if directory != copy:
                refused(lambda d=directory: train(d), *words)
            other.kill()
        with locked(directory):  # the lock of a killed process is free
            pass
        assert not (directory / ".lock").exists()


def test_a_run_that_began_in_the_meantime_is_not_written_over(tmp_path, monkeypatch) -> None:
    """Two processes find an empty directory; the other has ended when this one begins to write."""
    from polymodal.runs.checkpointer import Checkpointer

    real = Checkpointer.begin

    def late(self, model) -> None:
        monkeypatch.setattr(Checkpointer, "begin", real)
        train(tmp_path / "run", seed=1)
        real(self, model)

    monkeypatch.setattr(Checkpointer, "begin", late)
    refused(lambda: train(tmp_path / "run"), "already contains a run")
    assert load(tmp_path / "run").seed == 1


def test_results_that_another_process_wrote_are_kept(copy) -> None:
    one, other = load(copy), load(copy)
    with one.writing():
        one.save_metrics({**one.metrics, "mine": 1})
    with other.writing():
        other.save_metrics({**other.metrics, "yours": 2})
    assert load(copy).metrics == {"table": [ROW], "mine": 1, "yours": 2}


def test_what_killed_writers_left_is_removed(copy, tmp_path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [copy / f".{name}.{dead.pid}.tmp" for name in ("run.json", "metrics.json")]
    mine = [copy / ".notes.tmp", copy / f".notes.{dead.pid}.tmp"]
    for path in (*left, *mine):
        path.touch()
    load(copy).save_metrics({})
    load(copy).save(copy)
    assert not any(path.exists() for path in left) and all(path.exists() for path in mine)
    page = tmp_path / "page.html"
    beside = [tmp_path / f".page.html.{pid}.tmp" for pid in (dead.pid, os.getppid())]
    for path in beside:
        path.touch()
    write(page, b"new")
    assert [path.exists() for path in beside] == [False, True]


def test_an_interruption_in_a_write_leaves_nothing(tmp_path, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


# Outputs.


@pytest.mark.parametrize("name", ["run.json", "model.safetensors", "last.ckpt", "log.csv"])
def test_no_part_of_a_run_is_written_over(name, copy, tmp_path, capsys) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    (tmp_path / "link.html").symlink_to(copy / name)
    (tmp_path / "folder").symlink_to(copy)
    for out in (copy / name, tmp_path / "link.html", tmp_path / "folder" / name):
        refused(lambda out=out: check_output(out), "part of a run")
        assert cli.run(["report", str(copy), "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert before == {path.name: path.read_bytes() for path in copy.iterdir()}


def test_outputs_are_new_or_regular_files_and_links_are_followed(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for out in (
        tmp_path / "fifo",
        tmp_path / "loop",
        tmp_path / "zero",
        tmp_path,
        Path("/dev/null"),
    ):
        refused(lambda out=out: check_output(out), "is no regular file")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "page.html")
    assert check_output(tmp_path / "link") == (tmp_path / "there" / "page.html").resolve()
    assert check_output(tmp_path / "new" / "page.html").parent.name == "new"


# A failing disk.


class Faulty:
    """Makes the k-th call of any function of the file system fail; calls are counted."""

    def __init__(self, patch: pytest.MonkeyPatch, fails: int, number: int) -> None:
        self.calls, self.fails, self.number = 0, fails, number
        for name in ("fsync", "replace", "mkdir", "open"):
            patch.setattr(os, name, self.of(getattr(os, name)))
        patch.setattr(files, "open", self.of(open, self.file), raising=False)
        patch.setattr("polymodal.runs.log.open", self.of(open, self.file), raising=False)

    def of(self, real: Callable, then: Callable = lambda value: value) -> Callable:
        def call(*args, **kwargs):
            self.count()
            return then(real(*args, **kwargs))

        return call

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.fails:
            raise OSError(self.number, os.strerror(self.number))

    def file(self, file):
        """The file, whose writing of half of the data may fail too."""
        real = file.write

        def writing(data):
            if self.calls + 1 == self.fails:
                real(data[: len(data) // 2])
            self.count()
            return real(data)

        class Slow:
            def __getattr__(self, name):
                return writing if name == "write" else getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

        return Slow()


def counted(work: Callable[[], object]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        faulty = Faulty(patch, 0, 0)
        work()
    return faulty.calls


NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES)


def failing(work: Callable[[], object], at: int) -> bool:
    """Whether the work, with the failure `at`, ends in one sentence; else it has not seen it."""
    with pytest.MonkeyPatch.context() as patch:
        Faulty(patch, at, NUMBERS[at % 3])
        try:
            work()
        except ValueError as error:
            assert "\n" not in str(error) and str(error).endswith(".")
            return True
    return False


def test_training_on_a_failing_disk_can_be_resumed(tmp_path, monkeypatch) -> None:
    def short(out: Path) -> Run:
        return train(out, epochs=1, checkpoint_minutes=10.0)

    sound = short(tmp_path / "sound")
    calls, step = counted(lambda: short(tmp_path / "counted")), 7
    assert calls > 60
    told = 0
    for at in range(1, calls + 1, step):
        out = tmp_path / str(at)
        told += failing(lambda out=out: short(out), at)
        run = short(out)
        assert equal(run.model, sound.model)
        assert sorted(p.name for p in out.iterdir()) == sorted(
            p.name for p in sound.directory.iterdir()
        )
    assert told >= calls / step * 0.8


def test_results_and_outputs_on_a_failing_disk_are_the_old_or_the_new(copy, tmp_path) -> None:
    run, page = load(copy), tmp_path / "page.html"
    write(page, b"old")
    for work, path in (
        (lambda: run.save_metrics({"table": [ROW], "new": 1}), copy / "metrics.json"),
        (lambda: write(page, b"new"), page),
    ):
        old = path.read_bytes()
        for at in range(1, counted(work) + 1):
            new = path.read_bytes()
            path.write_bytes(old)
            told = failing(work, at)
            assert path.read_bytes() in (old, new) and (told or path.read_bytes() == new)
            assert not list(path.parent.glob(".*.tmp")) and not (copy / ".lock").exists()
            path.write_bytes(new)
        assert new != old


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_end_is_an_interruption(name: str, tmp_path, monkeypatch) -> None:
    """One sentence, and nothing is left behind."""
    out, said = tmp_path / "run", tmp_path / "said"
    command = "polymodal train shapes-jnf data.n=2000 training.epochs=300 method.hidden=8"
    command += f" training.progress=false training.checkpoint_minutes=0 --out {out}"
    monkeypatch.setattr(sys, "argv", command.split())
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = open(2, "w", closefd=False)
        try:
            cli.main()
        except SystemExit as ended:
            sys.stderr.flush()
            os._exit(ended.code)
        os._exit(99)
    while not (out / "last.ckpt").exists():
        time.sleep(0.05)
    os.kill(child, getattr(signal, name))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert "Run the same command again" in said.read_text()
    assert len(said.read_text().splitlines()) == 1
    names = {p.name for p in out.iterdir()}
    assert names <= {"run.json", "last.ckpt", "log.csv", "model.safetensors"}


def test_a_terminal_that_closes_does_not_end_what_nohup_started(monkeypatch) -> None:
    monkeypatch.setattr(cli, "run", lambda: 0)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for first, then in (
            (signal.SIG_IGN, signal.SIG_IGN),
            (signal.SIG_DFL, signal.default_int_handler),
        ):
            signal.signal(signal.SIGHUP, first)
            with pytest.raises(SystemExit):
                cli.main()
            assert signal.getsignal(signal.SIGHUP) == then
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_path_in_a_run_is_not_written_to(copy, monkeypatch) -> None:
    """The folder of the classifiers is an argument of the user's call, never of a loaded run."""
    from polymodal.cli import train as command
    from polymodal.cli.console import standard_output

    change_json(
        copy / "run.json", lambda info: info["settings"]["evaluation"].update(cache="/nowhere")
    )
    asked = {}
    monkeypatch.setattr("polymodal.report.comparison.data_of", lambda *_: toy_data())
    monkeypatch.setattr(
        command, "_measure", lambda run, data, options, *_: asked.update(options=options)
    )
    command.evaluate_runs([copy], {}, None, None, standard_output())
    assert "cache" not in asked["options"]


def test_a_run_named_twice_is_refused_before_it_is_measured(copy, monkeypatch, capsys) -> None:
    def measured(*_, **__):
        raise AssertionError("it was measured")

    monkeypatch.setattr("polymodal.cli.train._measure", measured)
    for command in (["evaluate"], ["report", "--out", str(copy.parent / "page.html")]):
        assert cli.run([command[0], str(copy), str(copy), *command[1:]]) == 2
        assert "twice" in capsys.readouterr().err


def test_nothing_is_downloaded_into_a_folder_that_a_run_names(tmp_path) -> None:
    from polymodal.report.comparison import data_of

    section = {"name": "mnist-svhn", "path": str(tmp_path)}
    refused(lambda: data_of({"data": section, "modalities": {}}), "nothing is downloaded", "--data")
    assert not list(tmp_path.iterdir())
