"""The command: what a user types, sees and gets; a mistake is one sentence and exit status 2."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from polymodal.batch import END, UNKNOWN, Modality
from polymodal.checks.yaml_text import read_mapping
from polymodal.cli import catalog as cli_catalog
from polymodal.cli import main as cli
from polymodal.data import Dataset, Splits
from polymodal.data.digit_names import TEXT
from polymodal.data.digits import BALANCE
from polymodal.experiments import plan as compare
from polymodal.metrics import classifier_training, classifiers
from polymodal.sampling import ParticleReport
from polymodal.settings.recipes import load_recipe, recipes
from polymodal.settings.resolve import resolve

TINY = [
    "data.n=160",
    "training.epochs=1",
    "training.batch=32",
    "method.hidden=16",
    "networks.square=mlp-small",
    "networks.circle=mlp-small",
    "training.progress=false",
    "evaluation.samples=8",
]
SMALL_FLOW = ["method.flow.hidden=[8]"]
FEW = [
    "training.stages.embeddings.epochs=1",
    "training.stages.embeddings.batch=50",
    "method.embedding.embedding_size=4",
]


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    status = cli.run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence with which the command refuses."""
    status, _, err = said(capsys, *arguments)
    assert status == 2, err
    assert (
        len(err.splitlines()) == 1 and err.rstrip().endswith((".", "?")) and "Traceback" not in err
    ), err
    return err.strip()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained run of JNF-DCCA on shapes."""
    out = tmp_path_factory.mktemp("runs") / "dcca"
    assert (
        cli.run(
            ["train", "shapes-jnf-dcca", *TINY, *SMALL_FLOW, *FEW, "--out", str(out), "--seed", "3"]
        )
        == 0
    )
    return out


# What there is


def test_help_and_list_import_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "scipy", "matplotlib", "lightning_fabric", "pandas", "sklearn"}
    code = (
        "import sys; from polymodal.cli.main import run; run({!r}); print({!r} & set(sys.modules))"
    )
    for arguments in (["train", "--help"], ["list"]):
        command = [sys.executable, "-c", code.format(arguments, heavy)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "command", ["list", "show", "doctor", "train", "evaluate", "generate", "report"]
)
def test_every_command_has_help_with_an_example(command: str, capsys) -> None:
    status, out, _ = said(capsys, command, "--help")
    example = re.search(rf"Example: polymodal {command}\b.*", out)
    assert status == 0 and example
    for option in re.findall(r"--[a-z-]+", example[0]):
        assert option in out.replace(example[0], "")


def test_the_version_is_said(capsys) -> None:
    assert said(capsys, "--version")[:2] == (0, f"polymodal {polymodal.__version__}\n")


def test_lists_hold_what_the_registries_hold() -> None:
    from polymodal.data import DATASETS
    from polymodal.diffusion import DIFFUSIONS
    from polymodal.methods import METHODS
    from polymodal.metrics import METRICS
    from polymodal.networks.architectures import NETWORKS
    from polymodal.posteriors import POOLINGS
    from polymodal.sampling import SAMPLERS

    tables = {
        "methods": METHODS,
        "datasets": DATASETS,
        "metrics": METRICS,
        "networks": NETWORKS,
        "samplers": {**SAMPLERS, **DIFFUSIONS},
        "poolings": POOLINGS,
    }
    for kind, table in tables.items():
        listed = cli_catalog.entries(kind)
        assert sorted(listed) == sorted(table)
        assert all(listed.values()), kind
    assert cli_catalog.names("samplers") == [*SAMPLERS, *DIFFUSIONS]
    assert list(cli_catalog.entries("recipes")) == recipes()
    assert all(cli_catalog.entries("recipes").values())


def test_list_shows_one_kind_or_all(capsys) -> None:
    samplers = said(capsys, "list", "samplers")[1]
    assert "smc" in samplers and "twisted" in samplers and "jnf-dcca" not in samplers
    everything = said(capsys, "list")[1]
    words = ("jnf-dcca", "mnist-svhn", "coherence", "celeba-conv", "smc")
    assert all(word in everything for word in words)
    assert "Did you mean methods?" in refused(capsys, "list", "metod")


@pytest.mark.parametrize("kind", cli_catalog.KINDS)
def test_a_list_shows_every_description_whole(kind: str, capsys) -> None:
    """Also what stands in square brackets, which rich takes for markup."""
    listed = "".join(said(capsys, "list", kind)[1].split())
    for about in cli_catalog.entries(kind).values():
        assert "".join(about.split()) in listed


def test_the_help_of_sampler_lists_every_sampler(capsys) -> None:
    for command in ("generate", "evaluate"):
        words = re.findall(r"[a-z]+", said(capsys, command, "--help")[1])
        assert set(cli_catalog.names("samplers")) <= set(words)


def test_show_says_every_setting_and_what_the_method_is(capsys) -> None:
    _, out, _ = said(capsys, "show", "mnist-svhn-jnf-dcca")
    body = "\n".join(line for line in out.splitlines() if not line.startswith("#"))
    assert resolve(read_mapping(body, "shown")) == resolve(load_recipe("mnist-svhn-jnf-dcca"))
    assert "# JNF-DCCA (" in out and "polymodal train RECIPE --dry-run" in out
    assert "polymodal show shapes-jnf-dcca" in said(capsys, "show", "shapes")[1]


def test_show_fills_in_modalities_and_networks_from_the_data(capsys, tmp_path) -> None:
    np.savez(tmp_path / "pairs.npz", a=np.random.rand(40, 3), b=np.eye(2)[np.arange(40) % 2])
    _, out, _ = said(capsys, "show", "jmvae", "--data", tmp_path / "pairs.npz")
    settings = read_mapping(out, "shown")
    assert settings["networks"] == {"a": "mlp", "b": "mlp"}
    assert settings["modalities"]["b"]["likelihood"] == "bernoulli"


def test_the_doctor_finds_data_and_says_what_to_do(capsys, tmp_path) -> None:
    for file in (
        "svhn/svhn_test_first10000.npz",
        "mnist/train-images-idx3-ubyte.gz",
    ):  # of MNIST one file of four
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    _, out, _ = said(capsys, "doctor", "--data", tmp_path)
    names = ("set svhn", "set mnist", "celeba", "torch:")
    line = {name: next(x for x in out.splitlines() if name in x) for name in names}
    assert line["set svhn"].startswith("ok") and str(tmp_path) in line["set svhn"]
    assert (
        line["set mnist"].startswith("missing")
        and "1 of 4 files found -> downloaded" in line["set mnist"]
    )
    assert line["celeba"].startswith("missing") and "img_align_celeba.zip" in line["celeba"]
    assert line["torch:"].startswith("ok")
    assert "missing data folder" in said(capsys, "doctor", "--data", tmp_path / "none")[1]


# Recipes


def modalities_of(name: str | None) -> list[Modality]:
    grey = lambda m, weight=1.0: Modality(m, (1, 28, 28), link="sigmoid", weight=weight)
    svhn = Modality("svhn", (3, 32, 32), link="sigmoid")
    return {
        "shapes": [Modality(m, (1, 32, 32), link="sigmoid") for m in ("square", "circle")],
        "mnist-svhn": [grey("mnist", BALANCE), svhn],
        "mnist-fashion": [grey("mnist"), grey("fashion")],
        "mnist-svhn-fashion": [grey("mnist", BALANCE), svhn, grey("fashion", BALANCE)],
        "polymnist": [
            Modality(f"m{k}", (3, 28, 28), "laplace", scale=0.75, link="sigmoid") for k in range(5)
        ],
        "celeba": [
            Modality("image", (3, 64, 64), link="sigmoid"),
            Modality("attributes", (40,), "bernoulli"),
        ],
        "cub": [
            Modality("image", (3, 64, 64), link="sigmoid"),
            Modality("caption", (32,), "tokens", kind="text", vocabulary=(END, UNKNOWN, "bird")),
        ],
        "mnist-svhn-text": [grey("mnist", BALANCE), svhn, TEXT],
        "mnist-audio": [grey("mnist"), replace(grey("audio"), shape=(1, 32, 32), kind="audio")],
        "vocalisations": [Modality("call", (1, 32, 32)), Modality("neurons", (60,), "poisson")],
        "celebamask": [
            Modality("image", (3, 128, 128), link="sigmoid"),
            Modality("mask", (1, 128, 128), "bernoulli", kind="mask"),
            Modality("attributes", (18,), "bernoulli"),
        ],
        None: [Modality("a", (5,)), Modality("b", (7,), "bernoulli")],
    }[name]


def small_splits(settings, modalities, data=None) -> Splits:
    modalities = modalities_of(settings.name)
    index = {m.name: torch.arange(100) % 4 for m in modalities}
    part = Dataset(modalities, {m.name: torch.rand(4, *m.shape) for m in modalities}, index)
    return Splits(part, part, part)


@pytest.mark.parametrize("recipe", recipes())
def test_every_recipe_resolves_and_builds_its_methods(recipe: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(compare, "load_splits", small_splits)
    plan = compare.make_plan(recipe, tmp_path)
    settings = resolve(load_recipe(recipe))
    assert plan.compares == bool(settings.compare or settings.vary)
    assert len(plan.runs) >= (2 if plan.compares else 1)
    assert all(min(run.parameters.values()) > 0 for run in plan.runs)
    # In a comparison the joint encoder and the decoders are trained once for each seed.
    # (JMVAE's one stage of the same name trains the surrogates as well.)
    joint = [run for run in plan.runs if "joint" in run.stages and len(run.stages) > 1]
    trained = [run for run in joint if "joint" not in run.reuse]
    assert len(trained) == len({run.seed for run in joint})


PAPER = {
    "shapes": (15, 128, 2, None),
    "mnist-svhn": (100, 128, 20, 9),
    "mnist-svhn-fashion": (100, 128, 20, 16),
    "celeba": (30, 256, 64, 40),
    "mnist-fashion": (100, 128, 20, 9),
}


@pytest.mark.parametrize("data", PAPER)
def test_recipes_have_the_papers_settings(data: str) -> None:
    epochs, batch, latent, kept = PAPER[data]
    for method in ("jmvae-two-stage", "telbo", "m2vae", "jnf", "jnf-dcca"):
        settings = resolve(load_recipe(f"{data}-{method}"))
        assert settings.data.name == data and settings.method.name == method.replace("-", "_")
        assert settings.method.options["latent"] == latent
        joint = settings.training.stage("joint")
        assert (joint.epochs, joint.batch, joint.lr, joint.patience) == (epochs, batch, 1e-3, 0)
        assert settings.training.stage("surrogates").lr == (1e-4 if method == "jnf-dcca" else 1e-3)
    one = resolve(load_recipe(f"{data}-jmvae"))
    assert (one.training.epochs, one.method.options["alpha"], one.method.options["warmup"]) == (
        2 * epochs,
        0.1,
        0.5,
    )
    dcca, stage = settings.method.options, settings.training.stage("embeddings")
    embedding = dcca["embedding"]
    assert embedding["num_directions"] == kept and embedding["ridge"] == 1e-3
    assert embedding["embedding_size"] == (40 if data == "celeba" else 16)
    assert (stage.epochs, stage.batch, stage.lr, stage.optimizer) == (100, 800, 1e-3, "rmsprop")
    assert (stage.weight_decay, stage.patience) == (1e-5, 10)


def test_a_recipe_is_laid_over_its_base(tmp_path) -> None:
    (tmp_path / "low.yaml").write_text("base: shapes-jnf-dcca\ntraining: {epochs: 3}\n")
    (tmp_path / "high.yaml").write_text("base: low.yaml\nmethod: {latent: 5}\n")
    settings = resolve(load_recipe(tmp_path / "high.yaml"))
    assert (settings.training.epochs, settings.method.options["latent"], settings.data.name) == (
        3,
        5,
        "shapes",
    )
    (tmp_path / "low.yaml").write_text("base: high.yaml\n")
    with pytest.raises(ValueError, match="its own base"):
        load_recipe(tmp_path / "high.yaml")


def test_what_is_said_on_the_command_line_holds_for_every_stage(monkeypatch, tmp_path) -> None:
    """A stage's own setting in a recipe gives way to the user's, unless the user names the stage
    too.
    """
    monkeypatch.setattr(compare, "load_splits", small_splits)
    given = ["training.epochs=2", "training.stages.surrogates.epochs=3"]
    for recipe in ("shapes", "mnist-svhn"):
        for run in compare.make_plan(recipe, tmp_path, given).runs:
            epochs = {s: run.settings.training.stage(s).epochs for s in run.stages}
            assert epochs == {s: 3 if s == "surrogates" else 2 for s in run.stages}


def test_a_method_is_its_own_recipe_for_own_data() -> None:
    recipe = load_recipe("mmvae-plus")
    assert (
        recipe["method"] == {"name": "mmvae_plus"}
        and recipe["training"] == load_recipe("jnf")["training"]
    )
    assert "mmvae-plus" in recipe["about"] and "JNF" not in recipe["about"]


# Training to report


def test_a_run_says_how_it_was_made(run_dir: Path) -> None:
    info = json.loads((run_dir / "run.json").read_text())
    assert (
        info["status"] == "finished" and info["seed"] == 3 and info["settings"]["data"]["n"] == 160
    )
    assert list(info["stages"]) == ["joint", "embeddings", "surrogates"]


def test_a_finished_run_is_not_trained_again(run_dir: Path, capsys) -> None:
    before = (run_dir / "model.safetensors").stat().st_mtime_ns
    command = ["train", "shapes-jnf-dcca", *TINY, *SMALL_FLOW, *FEW, "--out", run_dir, "--seed", 3]
    status, out, err = said(capsys, *command)
    assert status == 0 and (run_dir / "model.safetensors").stat().st_mtime_ns == before
    assert f"polymodal evaluate {run_dir}" in out and not err


def test_a_dry_run_says_what_would_be_trained_and_trains_nothing(capsys, tmp_path) -> None:
    out = tmp_path / "nothing"
    change = ["data.n=160", "training.epochs=3", "training.batch=32"]
    status, text, _ = said(capsys, "train", "shapes-jnf", *change, "--out", out, "--dry-run")
    assert status == 0 and not out.exists()
    assert "networks:\n  square: mlp\n  circle: mlp\n" in text and "kind: image" in text
    assert "101 train, 11 val, 48 test" in text and "Nothing was trained." in text
    model = polymodal.METHODS["jnf"](modalities_of("shapes"), latent=2).model
    assert f"{sum(p.numel() for p in model.decoders.parameters()):,}" in text
    assert re.search(r"surrogates +3 +32 +9 ", text)  # the shorter last batch is left out


def test_evaluate_writes_metrics_and_prints_direction_n_and_errors(run_dir: Path, capsys) -> None:
    status, out, _ = said(
        capsys, "evaluate", run_dir, "--metrics", "joint_log_likelihood", "--limit", "20"
    )
    rows = json.loads((run_dir / "metrics.json").read_text())["table"]
    (row,) = [r for r in rows if r["metric"] == "joint_log_likelihood"]
    assert status == 0 and row["n"] == 20 and row["seed"] == 3
    assert (
        "higher is better" in out
        and "20" in out
        and f"{row['value']:.1f}"[:5] in out
        and "±" in out
    )
    assert "Did you mean probe?" in refused(capsys, "evaluate", run_dir, "--metrics", "prob")
    again = ["--metrics", "joint_log_likelihood", "--limit", "5", "--sampler", "mala"]
    assert "closed form" not in said(capsys, "evaluate", run_dir, *again)[2]
    rows = json.loads((run_dir / "metrics.json").read_text())["table"]
    assert "sampler MALA(" in next(r for r in rows if r["n"] == 5)["evaluation"]


def test_evaluate_takes_the_networks_of_classifiers(
    run_dir: Path, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(classifier_training, "STEPS", 1)
    monkeypatch.setattr(classifiers, "cache_folder", lambda: tmp_path)
    ask = ["evaluate", run_dir, "--metrics", "classifier_accuracy", "--limit", "5", "--classifier"]
    status, _, err = said(capsys, *ask, "square=compact")
    assert status == 0 and re.search(r"classifier of square \(compact, [\d,]+ weights\)", err)
    for chosen, words in (
        ("sqare=compact", "Did you mean evaluation.classifiers.square?"),
        ("square=compct", "Did you mean compact?"),
        ("square=senellart-cnn", "is for values of shape (1, 28, 28) or (3, 32, 32), and 'square'"),
        ("square", "NAME=NETWORK"),
    ):
        assert words in refused(capsys, *ask, chosen)


def test_classifiers_of_a_recipe_are_checked_before_training(tmp_path) -> None:
    options = ["data.n=100", "evaluation.classifiers={square: senellart-cnn}"]
    with pytest.raises(ValueError, match=r"leave square out of evaluation\.classifiers"):
        compare.make_plan("shapes-jnf", tmp_path, options)
    options[1] = "evaluation.classifiers={circle: compact}"
    plan = compare.make_plan("shapes-jnf", tmp_path, options)
    assert plan.settings.evaluation.classifiers == {"circle": "compact"}


def test_evaluate_measures_the_subsets_asked_for(run_dir: Path, capsys) -> None:
    ask = [
        "evaluate",
        run_dir,
        "--metrics",
        "conditional_log_likelihood",
        "--limit",
        "5",
        "--subsets",
    ]
    assert said(capsys, *ask, "circle, square+circle")[0] == 0
    rows = json.loads((run_dir / "metrics.json").read_text())["table"]
    found = {(r["target"], r["given"]) for r in rows if r["metric"] == "conditional_log_likelihood"}
    assert found == {("square", "circle")}
    assert "Did you mean circle?" in refused(capsys, *ask, "cirle")


def test_generate_gives_what_the_model_gives_with_that_seed(
    run_dir: Path, capsys, tmp_path
) -> None:
    pictures = (torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).byte()
    np.save(tmp_path / "squares.npy", pictures.numpy())
    out = tmp_path / "out"
    status, text, _ = said(
        capsys,
        "generate",
        run_dir,
        "--given",
        f"square={tmp_path / 'squares.npy'}",
        "--n",
        4,
        "--seed",
        5,
        "--out",
        out,
    )
    assert status == 0 and "circle (4, 3, 1, 32, 32)" in text
    found = np.load(out / "generated.npz")
    assert found.files == ["circle"]
    torch.manual_seed(5)
    batch = polymodal.Batch({"square": pictures[:, None].float() / 255})
    expected = polymodal.load(run_dir).model.generate(batch, 4, ["circle"])["circle"]
    assert np.array_equal(found["circle"], expected.numpy())
    width, height = Image.open(out / "circle.png").size
    assert (width, height) == (
        3 * (3 * 32 + 2 * 2),
        3 * (5 * 32 + 4 * 2 + 6),
    )  # three given; four rows of draws below


def test_generate_reads_images_and_draws_joint_samples(run_dir: Path, capsys, tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(x).save(tmp_path / "square.png")
    np.savez(tmp_path / "square.npz", square=x.mean(-1)[None] / 255, other=np.zeros(3))
    for name in ("square.png", "square.npz"):
        given = ["--given", f"square={tmp_path / name}"]
        assert said(capsys, "generate", run_dir, *given, "--out", tmp_path / name[-3:])[0] == 0
    one, other = (np.load(tmp_path / k / "generated.npz")["circle"] for k in ("png", "npz"))
    assert np.allclose(one, other, atol=1e-4) and one.shape == (8, 1, 1, 32, 32)
    want = ["--want", "square", "--want", "circle"]
    status, text, _ = said(capsys, "generate", run_dir, *want, "--out", tmp_path / "joint")
    assert status == 0 and "square (8, 1, 1, 32, 32), circle (8, 1, 1, 32, 32)" in text


def test_generate_draws_with_any_sampler_and_prints_its_warning(
    capsys, monkeypatch, tmp_path
) -> None:
    """Of a method whose sampler has no chains: its report has no R-hat and no acceptance."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "pairs.npz", a=rng.normal(size=(60, 3)), b=rng.normal(size=(60, 2)))
    np.save(tmp_path / "a.npy", rng.normal(size=(2, 3)))
    out, small = tmp_path / "run", ["training.epochs=1", "training.progress=false"]
    small += ["method.denoiser.width=16", "method.denoiser.depth=1"]
    command = ["train", "sbm", *small, "method.latent=2", "networks.a=linear"]
    status, _, err = said(capsys, *command, "--data", tmp_path / "pairs.npz", "--out", out)
    assert status == 0, err
    monkeypatch.setattr(ParticleReport, "warning", lambda report: f"{report.items} items [/] bad.")
    given = ["--given", f"a={tmp_path / 'a.npy'}", "--n", "3", "--out", tmp_path / "files"]
    for sampler in (["--sampler", "twisted"], []):
        status, text, err = said(capsys, "generate", out, *given, *sampler)
        assert status == 0 and "Warning: 6 items [/] bad." in text, err
    assert "twisted" in refused(capsys, "generate", out, *given, "--sampler", "hmc")


def test_own_data_are_trained_with_a_recipe_of_the_methods_name(capsys, tmp_path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "pairs.npz", a=rng.normal(size=(80, 5)), b=rng.normal(size=(80, 4)))
    small = ["training.epochs=1", "training.progress=false", "method.hidden=8", "method.latent=2"]
    out = tmp_path / "run"
    status, _, err = said(
        capsys, "train", "jmvae-two-stage", *small, "--data", tmp_path / "pairs.npz", "--out", out
    )
    assert status == 0, err
    assert [m.shape for m in polymodal.load(out).modalities] == [(5,), (4,)]
    assert said(capsys, "report", out, "--out", tmp_path / "page.html")[0] == 0
    assert "--data FILE.npz" in refused(
        capsys, "train", "jmvae-two-stage", *small, "--out", tmp_path / "other"
    )
    assert "closed form" in refused(capsys, "evaluate", out, "--sampler", "smc")


# Mistakes


def test_mistakes_in_what_is_typed(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Did you mean shapes-jnf?" in refused(capsys, "train", "shapes-jnff")
    assert "training.epochs" in refused(capsys, "train", "shapes-jnf", "training.epoch=3")
    assert "key=value" in refused(capsys, "train", "shapes-jnf", "training.epochs", "3")
    assert "square" in refused(capsys, "train", "shapes-jnf", "modalities.sqare.weight=2")
    assert "square" in refused(capsys, "train", "shapes-jnf", "networks.sqare=mlp")
    assert "method.latent" in refused(capsys, "train", "shapes-jnf", "method.laten=3")
    assert "joint" in refused(
        capsys, "train", "shapes-jnf", "training.stages.jont.epochs=1", "data.n=50"
    )
    assert "joint" in refused(
        capsys, "train", "shapes", "training.stages.jont.epochs=1", "data.n=50"
    )
    assert "train" in refused(capsys, "trian", "shapes")
    assert "--limit" in refused(capsys, "evaluate", "x", "--limt", "3")
    assert "polymodal train --help" in refused(capsys, "train")
    assert "STAGE=RUN" in refused(capsys, "train", "shapes-jnf", "--reuse", "joint")
    assert "no run directory" in refused(capsys, "evaluate", tmp_path)
    (tmp_path / "bad.yaml").write_text("training: {epochs: [")
    assert "bad.yaml" in refused(capsys, "train", "bad.yaml")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        (
            {"a": np.ones((30, 2)), "b": np.where(np.eye(30, 2) == 1, np.inf, 1.5)},
            "'b' has 2 values that are infinite",
        ),
        ({"a": np.ones((0, 2)), "b": np.ones((0, 2))}, "at least one sample"),
        (
            {"a": np.ones((30, 2)), "b": np.ones((30, 2)), "b_present": np.zeros(30)},
            "'b' is missing from all",
        ),
        ({"a": np.ones((30, 2)), "b": np.ones((30, 2)), "label": np.zeros(29, int)}, "abels"),
        ({"a": np.ones((30, 2)), "b": np.ones((29, 2))}, "same number of samples"),
        ({"a": np.ones((30, 2)), "b": np.array([["x"]] * 30)}, "numbers"),
    ],
    ids=["infinite", "empty", "missing everywhere", "labels", "lengths", "words"],
)
def test_mistakes_in_own_data(arrays: dict[str, np.ndarray], word: str, capsys, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    out = tmp_path / "run"
    assert word in refused(capsys, "train", "jnf", "--data", tmp_path / "own.npz", "--out", out)
    assert not (out / "run.json").exists()


def test_a_damaged_data_file_is_named(capsys, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", a=np.ones((30, 2)))
    whole = (tmp_path / "own.npz").read_bytes()
    (tmp_path / "own.npz").write_bytes(whole[: len(whole) // 2])
    assert "own.npz is truncated or damaged" in refused(
        capsys, "train", "jnf", "--data", tmp_path / "own.npz"
    )
    assert "none.npz" in refused(capsys, "train", "jnf", "--data", tmp_path / "none.npz")


def test_a_damaged_run_is_named_and_code_is_not_opened(run_dir: Path, capsys, tmp_path) -> None:
    for name, word in (
        ("model.safetensors", "model.safetensors is damaged"),
        ("run.json", "run.json is damaged"),
        ("last.ckpt", "last.ckpt"),
    ):
        copy = tmp_path / name
        copy.mkdir()
        for file in run_dir.iterdir():
            (copy / file.name).write_bytes(file.read_bytes()[: 50 if file.name == name else None])
        for command in ("evaluate", "report"):
            assert word in refused(capsys, command, copy)
    (copy / "metrics.json").write_text('{"table": [{"metric": "coherence"}]}')
    (copy / "last.ckpt").write_bytes((run_dir / "last.ckpt").read_bytes())
    assert "metrics.json is damaged" in refused(
        capsys, "report", copy, "--out", tmp_path / "page.html"
    )
    (copy / "more.pkl").touch()
    assert "more.pkl" in refused(capsys, "generate", copy, "--out", tmp_path / "out")


def test_no_permission_in_the_run_directory(capsys, tmp_path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere but there
        closed = Path("/sys/kernel")
    message = refused(capsys, "train", "shapes-jnf", *TINY, *SMALL_FLOW, "--out", closed / "run")
    assert str(closed) in message and ("permission" in message or "read-only" in message)
    (tmp_path / "file").touch()
    assert "file" in refused(
        capsys, "train", "shapes-jnf", *TINY, *SMALL_FLOW, "--out", tmp_path / "file" / "run"
    )


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.zeros((28, 28)), "(1, 32, 32)"),
        (np.full((32, 32), np.inf), "infinite"),
        (np.full((32, 32), 7.0), "[0, 1]"),
        (np.zeros((0, 32, 32)), "at least one sample"),
    ],
    ids=["shape", "infinite", "range", "empty"],
)
def test_mistakes_in_what_is_given(
    values: np.ndarray, word: str, run_dir: Path, capsys, tmp_path
) -> None:
    np.save(tmp_path / "x.npy", values)
    given = ["--given", f"square={tmp_path / 'x.npy'}"]
    assert word in refused(capsys, "generate", run_dir, *given, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_mistakes_in_names_and_files_that_are_given(run_dir: Path, capsys, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((32, 32)))
    np.save(tmp_path / "two.npy", np.zeros((2, 32, 32)))
    (tmp_path / "no.png").write_text("no image")
    out = ["--out", tmp_path / "o"]
    given = lambda name, file="x.npy": ["--given", f"{name}={tmp_path / file}"]
    assert "Did you mean square?" in refused(capsys, "generate", run_dir, *given("sqare"), *out)
    assert "Did you mean circle?" in refused(capsys, "generate", run_dir, "--want", "cirle", *out)
    assert "none.npy" in refused(capsys, "generate", run_dir, *given("square", "none.npy"), *out)
    assert "no picture" in refused(capsys, "generate", run_dir, *given("square", "no.png"), *out)
    assert "same number" in refused(
        capsys, "generate", run_dir, *given("square"), *given("circle", "two.npy"), *out
    )
    assert "twice" in refused(capsys, "generate", run_dir, *given("square"), *given("square"), *out)
    assert "Did you mean hmc?" in refused(capsys, "generate", run_dir, "--sampler", "hmcc", *out)
    # A sampler of diffusion priors cannot draw products of flows.
    message = refused(capsys, "generate", run_dir, "--sampler", "twisted", *out)
    assert "There are: hmc, mala, smc, importance" in message


def test_a_lack_of_memory_is_said_in_a_sentence_and_a_defect_is_not_hidden(
    capsys, monkeypatch, tmp_path
) -> None:
    from polymodal.training.stage_trainer import StageTrainer

    def failing(error: Exception):
        def run_epoch(*_: object) -> None:
            raise error

        return run_epoch

    command = ["train", "shapes-jnf", *TINY, *SMALL_FLOW, "--out", tmp_path]
    monkeypatch.setattr(
        StageTrainer,
        "run_epoch",
        failing(RuntimeError("DefaultCPUAllocator: can't allocate memory")),
    )
    assert "not enough memory" in refused(capsys, *command)
    monkeypatch.setattr(StageTrainer, "run_epoch", failing(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        cli.run([str(c) for c in command])


def test_control_c_says_that_the_same_command_resumes(capsys, monkeypatch, tmp_path) -> None:
    from polymodal.training.stage_trainer import StageTrainer

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StageTrainer, "run_epoch", interrupted)
    status, _, err = said(capsys, "train", "shapes-jnf", *TINY, *SMALL_FLOW, "--out", tmp_path)
    assert status == 130 and "Run the same command again" in err and len(err.splitlines()) == 1
