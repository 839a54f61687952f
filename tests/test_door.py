"""What comes from outside passes one door: text, overrides, arguments, sizes and places. What does
not pass is told in one sentence, before anything is trained.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polymodal.checks import (
    Count,
    FilePath,
    Positive,
    Seed,
    Size,
    check_memory,
    checked,
    plain,
    typed,
)
from polymodal.checks.yaml_text import read, write
from polymodal.cli import main as cli
from polymodal.data import load_data
from polymodal.experiments.plan import make_plan
from polymodal.experiments.work import train
from polymodal.methods import FlowSettings
from polymodal.model import Stage
from polymodal.settings import TrainingSettings, load_recipe, resolve, to_dict
from polymodal.settings.merge import merge, parse_overrides
from polymodal.training.fit import fit
from polymodal.training.stage_trainer import StageTrainer
from toys import toy, toy_data

FOREIGN = re.compile(r"\b(torch|numpy|pydantic|omegaconf|PIL|zipfile)\b|\byaml\.[a-z]", re.I)


def is_one_sentence(text: str) -> bool:
    return 0 < len(text) < 1000 and "\n" not in text and not FOREIGN.search(text)


def refused(action: Any) -> str:
    with pytest.raises(ValueError) as error:
        action()
    assert is_one_sentence(str(error.value)), str(error.value)
    return str(error.value)


# Text.

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(max_size=20)
    | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    text = write(value)
    try:
        text.encode()
        given = read(text, "It")
    except UnicodeEncodeError:
        return
    except ValueError as error:  # some characters are written as escapes that no text may have
        assert is_one_sentence(str(error))
        return
    assert given == value


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="{}[]:,&*!|>-#'\" \n\tabc019.", max_size=30))
def test_any_text_is_read_or_is_one_sentence(text: str) -> None:
    try:
        read(text, "It")
    except ValueError as error:
        assert is_one_sentence(str(error))


def test_text_is_words_unless_it_is_a_number_true_false_or_null() -> None:
    text = "{a: 1e-3, b: yes, c: on, 3: x, null: ~, d: 010, e: '5', f: '${x}', g: -.5}"
    assert read(text, "It") == {
        "a": 1e-3,
        "b": "yes",
        "c": "on",
        "3": "x",
        "null": None,
        "d": 10,
        "e": "5",
        "f": "${x}",
        "g": -0.5,
    }
    assert read("a: &x {b: 1}\nc: *x", "It") == {"a": {"b": 1}, "c": {"b": 1}}


ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "has the key 'a' twice, in line 2"),
        (ALIASES, "holds more than 20,000 values"),
        ("a: &a [*a]", "nested more than 50 deep"),
        ("[" * 10_000, "nested more than 50 deep"),
        ("{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ("a: !!python/object/apply:os.getcwd []", "tags are not read"),
        ("a: !!binary aGk=", "tags are not read"),
        ("? [1, 2]\n: 3", "has a key that is no word"),
        ("x" * 2**18 + "x", "more than 262,144 characters"),
        (f"a: {'9' * 5000}", "a number of hundreds of digits"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_text_is_read_within_bounds(text: str, says: str) -> None:
    assert says in refused(lambda: read(text, "It"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"3", "must be a mapping"),
        (b"", "must be a mapping"),
        ("about: ä".encode("latin-1"), "UTF-8"),
        ("about: x".encode("utf-16"), "UTF-8"),
        (b"about: \x00", "not allowed"),
        (b"# " + b"x" * 2**18, "more than 262,144 characters"),
        (b"base: mine.yaml", "its own base"),
        (b"base: ../here/mine.yaml", "its own base"),
        (b"training: 3", "training must be a mapping"),
        (b"training: {stages: {joint: 3}}", "training.stages.joint must be a mapping"),
        (b"data: [1]", "data must be a mapping"),
        (b"compare: jnf", "compare must be a list"),
        (b"compare: [jnf]\nmethod: [1]", "method must be a mapping"),
        (b'about: "\\0"', "whole characters"),
        (b'about: "\\ud800"', "whole characters"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_one_sentence(content: bytes, says: str, tmp_path) -> None:
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / "mine.yaml"
    file.write_bytes(content)
    assert says in refused(lambda: make_plan(str(file), tmp_path / "out", ["training.epochs=1"]))


def test_a_recipe_is_a_regular_file_and_reads_no_environment(tmp_path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe.yaml", "folder.yaml"):
        assert "give a file" in refused(lambda name=name: load_recipe(tmp_path / name))
    monkeypatch.setenv("SECRET", "hidden")
    (tmp_path / "mine.yaml").write_text('about: "${oc.env:SECRET}"')
    assert resolve(load_recipe(tmp_path / "mine.yaml")).about == "${oc.env:SECRET}"


# Overrides and settings.


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["", "training.", "method.", "data.", "modalities.a.", "evaluation."]),
    st.sampled_from(["lr", "epochs", "latent", "name", "seed", "stages", "subsets"])
    | st.text(max_size=10),
    st.text(max_size=15)
    | st.sampled_from(["1e400", "-1", "[]", "{}", "null", "1e30", ".nan", "'x'", "true", "1.5"]),
)
@example(section="modalities.a.", key="\0", value="")
def test_any_override_resolves_or_is_one_sentence(section: str, key: str, value: str) -> None:
    try:
        resolved = resolve({"method": {"name": "jmvae"}}, [f"{section}{key}={value}"])
    except ValueError as error:
        assert is_one_sentence(str(error)), str(error)
    else:
        assert resolve(to_dict(resolved)) == resolved


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["training", "data", "method", "about", "x"]), VALUES))
def test_any_recipe_resolves_or_is_one_sentence(recipe: dict[str, Any]) -> None:
    try:
        resolve(recipe)
    except ValueError as error:
        assert is_one_sentence(str(error)), str(error)


def test_layers_win_key_by_key_and_stay_as_they_were() -> None:
    low, high = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": None}, "d": {"e": 4}}
    assert merge(low, high) == {"a": {"b": 1, "c": None}, "d": {"e": 4}}
    assert merge(high, low) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert low == {"a": {"b": 1, "c": 2}, "d": 3}
    given = ["modalities={'a.b': {weight: 2}}", "a.b=x=y", "training.lr=1e-3", "a.c="]
    assert parse_overrides(given) == {
        "modalities": {"a.b": {"weight": 2}},
        "a": {"b": "x=y", "c": None},
        "training": {"lr": 1e-3},
    }
    for bad in ("=3", "a..b=3", ".=3", " =3", "a", ".".join("a" * 20) + "=1"):
        assert "key=value" in refused(lambda bad=bad: parse_overrides([bad]))


@pytest.mark.parametrize(
    "override",
    [
        "training.warmup=1e30",
        "training.accumulate=1e30",
        "training.epochs=1e10",
        "training.batch=1e30",
        "training.lr=1e-320",
        "training.lr=1e300",
        "training.checkpoint_minutes=-1",
        "training.device=tpu",
        "training.memory_gb=0",
        "method.latent=1e30",
        "method.hidden=1e9",
        "method.flow.hidden=[]",
        "method.flow.hidden=[-1]",
        "method.flow.transforms=1e9",
        "method.sampler.draws=1e12",
        "data.limit=0",
        "data.n=-1",
        "data.name=''",
        "evaluation.metrics=[abc]",
        "evaluation.metrics=[]",
        "evaluation.nosuch=1",
        "evaluation.samples=abc",
        "evaluation.batch=0",
        "evaluation.cache=/tmp/elsewhere",
        "seeds=[-1]",
        "seeds=[1.5]",
    ],
)
def test_settings_without_meaning_are_refused_when_they_are_read(override: str) -> None:
    recipe = {"method": {"name": "jnf"}, "data": {"name": "shapes"}}
    says = refused(lambda: resolve(recipe, [override]))
    assert override.partition("=")[0].split("[")[0].split(".")[-1] in says or "abc" in says


def test_a_named_data_set_is_not_hidden_by_a_folder_of_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shapes").mkdir()
    assert "data.nn" in refused(lambda: resolve({"data": {"name": "shapes", "nn": 3}}))


def test_groups_are_taken_as_they_are_and_sections_as_far_as_they_are_set() -> None:
    flow = FlowSettings(kind="coupling", conditional=False, hidden=(4,))
    run = fit(
        "jnf",
        toy_data(),
        training=TrainingSettings(batch=16),
        flow=flow,
        epochs=1,
        latent=2,
        progress=False,
    )
    assert run.settings["method"]["flow"] == plain(flow)
    assert (run.settings["training"]["batch"], run.settings["training"]["epochs"]) == (16, 1)


# Arguments.


def test_arguments_pass_the_door_of_settings(tmp_path) -> None:
    @checked
    def function(n: Count, name: FilePath | None = None, table: Any = None, *more: int) -> Any:
        return n, name, table

    assert function(3.0, tmp_path) == (3, str(tmp_path), None)
    table = torch.ones(2)
    assert function(np.int64(3), table=table)[2] is table
    assert "n must be" in refused(lambda: function("3"))
    assert "name must name a file" in refused(lambda: function(1, name=""))
    for hint, value in ((Seed, -1), (Seed, 2**32), (Size, 10**7), (Count, 10**10)):
        refused(lambda hint=hint, value=value: typed(hint, value, "n"))
    for value in (1e-320, 1e-30, 1e30, float("inf"), float("nan"), 10**400, 10**5000):
        refused(lambda value=value: typed(Positive, value, "lr"))
    nested: list[Any] = []
    nested.append(nested)
    assert "nested" in refused(lambda: typed(list, nested, "x"))


def test_fit_and_generate_check_their_arguments(tmp_path) -> None:
    options = {"epochs": 0, "latent": 2, "progress": False}
    for mistake in (
        {"seed": 1.5},
        {"seed": -1},
        {"seed": "1"},
        {"out": ""},
        {"out": 3},
        {"evaluation": {"metrics": ["abc"]}},
        {"evaluation": {"subsets": ["a+c"]}},
    ):
        refused(lambda mistake=mistake: fit("jmvae", toy_data(), **options, **mistake))
    refused(lambda: fit("jmvae", 3, **options))
    refused(lambda: fit(3, toy_data(), **options))
    refused(lambda: fit({"method": 3}, toy_data(), **options))
    model = fit("jmvae", toy_data(), **options).model
    for n in (0, -1, 1.5, "2", 10**23, 10**9):
        refused(lambda n=n: model.generate(n=n))


# Memory.


@pytest.mark.parametrize(
    ("options", "lower"),
    [
        ({"latent": 900_000, "hidden": 900_000}, r"method\.(latent|hidden)=900000"),
        ({"batch": 10**9, "k": 10**6}, r"method\.k=1000000"),
    ],
)
def test_a_run_that_cannot_fit_into_memory_is_refused_before_it_is_made(options, lower) -> None:
    method = "mmvae" if "k" in options else "jmvae"
    says = refused(lambda: fit(method, toy_data(), progress=False, **options))
    assert "GB of memory" in says and re.search(lower, says) and "training.memory_gb" in says


def test_the_limit_of_memory_is_a_setting_and_weights_do_not_depend_on_it() -> None:
    options = {"latent": 2, "epochs": 0, "progress": False, "hidden": 20_000}
    says = refused(lambda: fit("jmvae", toy_data(), memory_gb=0.001, **options))
    assert "of which there are 0.001 GB" in says and "lower method.hidden=20000" in says
    small = options | {"hidden": 0, "memory_gb": 1e-6, "batch": 4000}
    assert "lower training.batch=4000" in refused(lambda: fit("jmvae", toy_data(4000), **small))
    one, other = (fit("jmvae", toy_data(), **options).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_large_weights_are_counted_without_values_and_made_with_the_same_ones(monkeypatch) -> None:
    from polymodal.training import memory

    def weights() -> dict[str, torch.Tensor]:
        run = fit("jnf", toy_data(), latent=2, hidden=8, epochs=0, progress=False)
        return run.model.state_dict()

    before = weights()
    monkeypatch.setattr(memory, "SMALL", 100)
    after = weights()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_data_sets_and_draws_of_any_number_are_measured_first() -> None:
    for name in ("shapes", "linear_gaussian"):
        assert "data.n" in refused(lambda name=name: load_data(name, n=10**9))
    with pytest.raises(ValueError, match=r"^It needs about 3 GB of memory, .* 2 GB; lower n\.$"):
        check_memory(3e9, "It needs", "lower n", most=2e9)


# Before the first step of a comparison.


def comparison(tmp_path: Path, text: str = "") -> str:
    (tmp_path / "both.yaml").write_text(f"compare: [shapes-jmvae, shapes-jnf-dcca]\n{text}")
    return str(tmp_path / "both.yaml")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("evaluation.metrics=[abc]", "There is no metric 'abc'"),
        ("evaluation.subsets=[square+cirle]", "There is no modality 'cirle'"),
        ("method.embedding.embedding_size=0", "embedding_size"),
        ("networks.circle=resnet", "There is no network 'resnet'"),
        ("training.stages.jont.epochs=1", "training.stages.jont"),
        ("training.memory_gb=1e-6", "training.memory_gb"),
    ],
)
def test_every_run_of_a_comparison_is_checked_before_the_first(override, says, tmp_path) -> None:
    recipe = comparison(tmp_path)
    small = ["data.n=60", "method.hidden=4", override]
    assert says in refused(lambda: make_plan(recipe, tmp_path / "out", small))


ONE = ["method.embedding={embedding_size: 1, num_directions: 1}"]  # of 4 rows for validation


def test_places_of_all_runs_are_looked_at_before_the_first(tmp_path) -> None:
    small = ["data.n=60", "training.epochs=1", "training.progress=false", "method.hidden=4", *ONE]
    plan = make_plan(comparison(tmp_path), tmp_path / "out", small)
    last = plan.runs[-1].directory
    last.parent.mkdir()
    last.write_text("a file")
    assert "is a file" in refused(lambda: train(plan))
    last.unlink()
    fit("jmvae", toy_data(), out=last, epochs=1, latent=2, progress=False)
    assert "different settings" in refused(lambda: train(plan))
    assert [path.name for path in last.parent.iterdir()] == [last.name]


def test_a_setting_for_all_stages_says_which_own_settings_it_replaces(tmp_path) -> None:
    recipe = comparison(tmp_path)
    plan = make_plan(recipe, tmp_path, ["data.n=60", "training.batch=32", *ONE])
    assert [run.settings.training.stage("embeddings").batch for run in plan.runs] == [32, 32]
    (note,) = plan.notes
    assert note == (
        "training.batch=32 holds for every stage, and replaces embeddings.batch=800;"
        " training.stages.embeddings.batch=800 keeps it."
    )
    kept = ["training.batch=32", "training.stages.embeddings.batch=800", "data.n=60", *ONE]
    plan = make_plan(recipe, tmp_path, kept)
    assert plan.runs[1].settings.training.stage("embeddings").batch == 800 and not plan.notes


def test_stages_and_reuse_are_checked_in_a_dry_run(tmp_path) -> None:
    small = ["data.n=60", "method.hidden=4"]
    wrong = [*small, "training.stages.jont.epochs=1"]
    assert "jont" in refused(lambda: make_plan("shapes-jnf", tmp_path, wrong))
    reuse = {"jont": tmp_path}
    assert "jont" in refused(lambda: make_plan("shapes-jnf", tmp_path, small, reuse=reuse))


# Progress.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 1}, [0, 0.25, 0.5, 0.75]),
        ({"epochs": 100, "max_steps": 8}, [0] * 4 + [0.5] * 4),
        ({"epochs": 2}, [0] * 4 + [0.5] * 4),
    ],
)
def test_progress_reaches_its_end_in_the_epochs_that_are_trained(options, expected) -> None:
    seen: list[float] = []

    def loss(model: Any, batch: Any, progress: float) -> Any:
        if model.training or torch.is_grad_enabled():
            seen.append(progress)
        return toy(data.modalities).stages[0].loss(model, batch, progress)

    data = toy_data(64)
    method = toy(data.modalities)
    first = method.stages[0]
    stage = Stage(first.name, loss, first.trains)
    size = len(data.train) // 4
    fit(replace(method, stages=[stage]), data, batch=size, progress=False, **options)
    assert seen == pytest.approx(expected)


# The command line.


def said(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "shapes-jnf", "--out", ""],
        ["train", "shapes-jnf", "--data", ""],
        ["train", "shapes-jnf", "--seed", "-1"],
        ["train", "shapes-jnf", "--seed", str(2**40)],
        ["train", "shapes-jnf", "--device", "tpu"],
        ["train", "shapes-jnf", "--device", ""],
        ["train", ""],
        ["train", "shapes-jnf", "training.epochs={"],
        ["train", "shapes-jnf", "evaluation.metrics=[abc]"],
        ["train", "shapes-jnf", "data.n=1e12"],
        ["evaluate", ""],
        ["evaluate", "x", "--limit", "0"],
        ["generate", "x", "--out", "g", "--n", str(10**23)],
        ["generate", "x", "--out", ""],
        ["report", "x", "--out", ""],
        ["list", "nothing"],
    ],
)
def test_arguments_are_refused_in_one_sentence(arguments, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = said(capsys, *arguments)
    assert status == 2 and not out and is_one_sentence(err.strip()), err
    option = next((a for a in reversed(arguments) if a.startswith("--")), "")
    assert option in err or f"training.{option[2:]}" in err, err  # not another fault
    assert not list(tmp_path.iterdir())


def test_words_are_printed_as_they_are_and_no_metric_is_a_mistake(capsys, tmp_path) -> None:
    place = tmp_path / "x[" / "]y[bold]"
    small = ["data.n=60", "training.epochs=1", "method.hidden=4", "training.progress=false"]
    status, out, _ = said(capsys, "train", "shapes-jmvae", *small, "--out", place)
    assert status == 0 and f"Wrote the run into {place}." in out
    status, out, _ = said(capsys, "train", "shapes-jmvae", *small, "--out", place, "--dry-run")
    assert status == 0 and str(place) in out.replace("\n", "")
    for option in ("--metrics", "--subsets"):
        status, _, err = said(capsys, "evaluate", place, option, ",")
        assert status == 2 and "must name at least one" in err and is_one_sentence(err.strip())


def test_a_lack_of_memory_names_the_largest_setting(capsys, monkeypatch, tmp_path) -> None:
    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(StageTrainer, "run_epoch", failing)
    small = ["data.n=60", "method.hidden=300", "training.batch=16", "--out", tmp_path / "run"]
    status, _, err = said(capsys, "train", "shapes-jmvae", *small)
    assert status == 2 and "method.hidden=300" in err
