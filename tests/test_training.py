"""Training: one seed one run, exact freezing, averages, clipping, schedules, early stop, errors,
two processes.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import polymodal
from polymodal.batch import Batch
from polymodal.data import Dataset, Splits
from polymodal.methods import METHODS
from polymodal.methods.builder import Builder
from polymodal.methods.joint import product_figures
from polymodal.methods.method import method as as_method
from polymodal.model import Loss, Method, MultimodalVAE, Stage, Step
from polymodal.settings.schema import StageSettings, TrainingSettings
from polymodal.training import session
from polymodal.training.advice import warn_of_collapse, warn_of_product
from polymodal.training.fit import fit
from polymodal.training.keywords import settings_of
from polymodal.training.optimizer import Rate
from polymodal.training.prepare import prepared
from polymodal.training.processes import add_up
from polymodal.training.stage_trainer import StageTrainer
from toys import MODALITIES, equal, keep_joint, toy, toy_data

QUIET = {"progress": False, "batch": 32, "device": "cpu"}


@pytest.fixture(autouse=True)
def _toy_is_a_method(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", toy)


def plain_method() -> Method:
    """One stage whose loss has no noise: squared distance of a linear map of a to b."""
    torch.manual_seed(0)
    method = toy(plain=True)
    method.model.extra = nn.Linear(3, 2)
    return Method(method.model, [Stage("line", line_loss, ["extra"])])


def line_loss(model: MultimodalVAE, batch: Batch, progress: float) -> Loss:
    value = (model.extra(batch.x["a"]) - batch.x["b"]).square().sum(-1)
    return Loss(value, {"squares": value})


def weights(method: Method) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in method.model.extra.parameters()])


def trained(data=None, **settings) -> torch.Tensor:
    method = plain_method()
    fit(method, data or toy_data(), **QUIET | settings)
    return weights(method)


def test_one_seed_is_one_run_and_the_callers_stream_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    one = fit("toy", toy_data(), epochs=2, seed=3, **QUIET)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(7)
    assert equal(one.model, fit("toy", toy_data(), epochs=2, seed=3, **QUIET).model)
    assert not equal(one.model, fit("toy", toy_data(), epochs=2, seed=4, **QUIET).model)
    assert not one.model.training


def test_a_stage_changes_what_it_trains_and_nothing_else() -> None:
    one = fit(
        "toy", toy_data(), training={"stages": {"surrogates": {"epochs": 0}}}, epochs=3, **QUIET
    ).model
    both = fit(
        "toy", toy_data(), training={"stages": {"surrogates": {"epochs": 3}}}, epochs=3, **QUIET
    ).model
    theirs = both.state_dict()
    changed = {k for k, v in one.state_dict().items() if not torch.equal(v, theirs[k])}
    experts = {f"posterior.experts.{k}" for k in both.posterior.experts.state_dict()}
    assert any("running_mean" in k for k in experts) and any("num_batches" in k for k in experts)
    assert changed == experts
    flags = [p.requires_grad for p in both.parameters()]
    assert flags == [p.requires_grad for p in toy().model.parameters()]


def test_frozen_parts_that_a_loss_runs_stay_as_they_are() -> None:
    method = toy()
    posterior, stage = method.model.posterior, method.stages[1]

    def loss(model: MultimodalVAE, batch: Batch, progress: float) -> Loss:
        return stage.loss(model, stage.prepare(model, batch), progress)

    unprepared = replace(stage, prepare=None, finish=None, loss=loss)
    before = {k: v.clone() for k, v in method.model.state_dict().items()}
    fit(Method(method.model, [unprepared]), toy_data(), epochs=2, **QUIET)
    changed = {k for k, v in method.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"posterior.experts.{k}" for k in posterior.experts.state_dict()}


def test_prepare_keeps_tables_that_stay_and_replaces_or_drops_the_others() -> None:
    index = torch.tensor([1, 0, 1, 2, 2])
    present = {"a": torch.tensor([True, True, False, True, True])}
    tables = {"a": torch.randn(3, 3), "b": torch.randn(5, 2)}
    data = Dataset(MODALITIES, tables, {"a": index}, present)
    model = toy().model

    def changed(change: Callable[[Batch], Batch]) -> Dataset:
        return prepared(Stage("s", line_loss, [], lambda _, batch: change(batch)), model, data, 2)

    kept = changed(lambda b: Batch(b.x, b.present, b.label, {"k": b.x["b"] * 2}))
    assert (
        kept.tables["a"] is tables["a"] and kept.tables["b"] is tables["b"]
    )  # absent values are no change
    assert torch.equal(kept.index["a"], index) and torch.equal(kept.kept["k"], tables["b"] * 2)

    new = changed(lambda b: Batch({"a": b.x["a"][:, :1] + 1}, b.present))
    assert list(new.tables) == ["a"] and [m.name for m in new.modalities] == ["a"] and len(new) == 5
    expected = torch.where(present["a"][:, None], tables["a"][index][:, :1] + 1, 0.0)
    torch.testing.assert_close(new.tables["a"], expected)

    # Only the last of three batches is changed.
    late = changed(lambda b: Batch({"b": b.x["b"] if len(b) == 2 else b.x["b"] + 1}))
    torch.testing.assert_close(late.tables["b"], torch.cat([tables["b"][:4], tables["b"][4:] + 1]))


def test_prepare_runs_once_and_frozen_parts_are_in_evaluation_mode() -> None:
    method, calls = toy(), []

    def counting(model: MultimodalVAE, batch: Batch) -> Batch:
        calls.append(model.training)
        return keep_joint(model, batch)

    counted = replace(method.stages[1], prepare=counting)
    run = fit(Method(method.model, [counted]), toy_data(), epochs=4, **QUIET)
    assert (
        calls == [False] * 4
    )  # three batches of training data and one of validation data, whatever the epochs
    assert run.info["stages"]["surrogates"]["figures"]["held_out"] == 32
    q = method.model.posterior.joint(toy_data().train.batch(torch.arange(96)))
    torch.testing.assert_close(method.model.posterior.mean, q.loc.mean(0))


def test_finish_is_in_the_log_and_in_the_run() -> None:
    run = fit("toy", toy_data(), epochs=2, **QUIET)
    outcome = run.info["stages"]["surrogates"]
    assert outcome["finish"] == ["posterior.mean"]
    assert outcome["figures"]["mean"] == run.model.posterior.mean.tolist()
    assert run.history["largest"].dropna().tolist() == [run.model.posterior.mean.abs().max().item()]
    assert list(run.history["stage"]) == ["joint"] * 2 + ["surrogates"] * 3


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "amsgrad", "rmsprop", "sgd"])
def test_every_optimizer_descends(optimizer: str) -> None:
    run = fit(plain_method(), toy_data(), optimizer=optimizer, lr=0.01, epochs=15, **QUIET)
    losses = run.history["val_loss"]
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_clipping_bounds_the_step() -> None:
    start = weights(plain_method())
    step = {"optimizer": "sgd", "lr": 1.0, "max_steps": 1}
    free = (trained(**step) - start).norm()
    assert free > 0.5
    for clip in (0.3, 1e-3):
        torch.testing.assert_close(
            (trained(clip=clip, **step) - start).norm(), torch.tensor(clip), rtol=1e-3, atol=0
        )
    torch.testing.assert_close(trained(clip=2 * free.item(), **step), trained(**step))


def test_the_average_is_the_recursion_over_the_weights() -> None:
    average = weights(plain_method())
    for step in range(1, 5):  # the weights after each step are those of a run that stops there
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * trained(epochs=2, max_steps=step, lr=0.1)
    torch.testing.assert_close(trained(epochs=2, max_steps=4, lr=0.1, ema=0.3), average)
    assert (average - trained(epochs=2, max_steps=4, lr=0.1)).abs().max() > 1e-2


def test_schedules() -> None:
    cosine = Rate(StageSettings(lr=2.0, schedule="cosine", warmup=4), 14)
    assert [cosine(s) for s in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert cosine(9) == pytest.approx(1.0) and cosine(14) == pytest.approx(0.0)
    assert all(cosine(s) > cosine(s + 1) for s in range(4, 14))
    plateau = Rate(StageSettings(lr=1.0, schedule="plateau", plateau=1, factor=0.5), 100)
    rates = []
    for value in (3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0):
        plateau.evaluated(value)
        rates.append(plateau(0))
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    run = fit(plain_method(), toy_data(), epochs=4, schedule="cosine", lr=0.1, **QUIET)
    steps = [
        0.05 * (1 + math.cos(math.pi * s / 12)) for s in (2, 5, 8, 11)
    ]  # the last step of each epoch of three
    assert run.history["lr"].tolist() == pytest.approx(steps)


def test_the_plateau_follows_the_validation_loss() -> None:
    history = fit(
        plain_method(),
        toy_data(),
        epochs=12,
        schedule="plateau",
        plateau=0,
        factor=0.5,
        lr=2.0,
        **QUIET,
    ).history
    losses, rate, rates = history["val_loss"].tolist(), 2.0, []
    for i, loss in enumerate(losses):
        rates.append(rate)
        rate *= 0.5 if i and loss >= min(losses[:i]) else 1.0
    assert history["lr"].tolist() == rates and 2.0 > rates[-1] > 2.0 * 0.5**11


def test_validation_is_of_the_validation_data() -> None:
    data = toy_data()
    far = Dataset(MODALITIES, {m: torch.full_like(x, 50.0) for m, x in data.val.tables.items()})
    method = plain_method()
    run = fit(method, replace(data, val=far), epochs=2, **QUIET)
    expected = (
        (method.model.extra(far.tables["a"]) - far.tables["b"]).square().sum(-1).mean().item()
    )
    last = run.history.iloc[-1]
    assert (
        last["val_loss"] == pytest.approx(expected, rel=1e-5)
        and last["val_loss"] > 100 * last["train_loss"]
    )
    whole = fit(plain_method(), toy_data(), epochs=1, lr=1e-12, **QUIET).history.iloc[0]
    train = toy_data().train.tables
    expected = (plain_method().model.extra(train["a"]) - train["b"]).square().sum(-1).mean().item()
    assert whole["train_loss"] == pytest.approx(expected, rel=1e-5) == whole["train_squares"]


def test_early_stop_gives_back_the_best_weights() -> None:
    data = toy_data()
    other = toy_data(
        seed=1
    )  # another relation: what helps on the training data soon hurts on these
    mixed = {m: torch.cat([data.val.tables[m], other.val.tables[m][:8]]) for m in data.val.tables}
    data = replace(data, val=Dataset(MODALITIES, mixed))
    settings = {"lr": 0.05, "epochs": 60, "optimizer": "sgd"} | QUIET
    method = plain_method()
    run = fit(method, data, patience=3, **settings)
    losses = run.history["val_loss"]
    best = int(losses.argmin()) + 1
    assert len(losses) == best + 3 < 60 and losses.iloc[-1] > losses.min()
    assert run.info["stages"]["line"]["best_epoch"] == best
    assert torch.equal(weights(method), trained(data, **settings | {"epochs": best}))


def test_accumulated_batches_are_one_large_batch() -> None:
    one = {
        "epochs": 3,
        "optimizer": "sgd",
        "lr": 0.01,
    }  # which, unlike Adam, sees the scale of a gradient
    torch.testing.assert_close(trained(batch=8, accumulate=4, **one), trained(batch=32, **one))


def test_short_last_batches_are_left_out_unless_alone() -> None:
    seen = []
    method = plain_method()

    def loss(model: MultimodalVAE, batch: Batch, progress: float) -> Loss:
        seen.append((len(batch), progress))
        return line_loss(model, batch, progress)

    spy = replace(method.stages[0], loss=loss)
    fit(Method(method.model, [spy]), toy_data(n=70, held_out=40), epochs=2, **QUIET)
    assert seen == [
        (32, 0.0),
        (32, 0.0),
        (20, 1.0),
        (20, 1.0),
        (32, 0.5),
        (32, 0.5),
        (20, 1.0),
        (20, 1.0),
    ]
    seen.clear()
    fit(Method(method.model, [spy]), toy_data(n=5, held_out=1), epochs=1, **QUIET)
    assert seen == [(5, 0.0), (1, 1.0)]


def test_budget_and_rare_validation() -> None:
    run = fit(plain_method(), toy_data(), epochs=9, max_steps=14, eval_every=3, **QUIET)
    assert run.history["step"].tolist() == [3, 6, 9, 12, 14]
    assert run.history["val_loss"].notna().tolist() == [False, False, True, False, True]


def test_mixed_precision_is_near_full_precision() -> None:
    half, full = (
        fit(plain_method(), toy_data(), epochs=9, lr=0.01, precision=p, **QUIET).history["val_loss"]
        for p in ("bf16-mixed", "32-true")
    )
    assert (
        half.tolist() == pytest.approx(full.tolist(), rel=0.05) and half.tolist() != full.tolist()
    )
    assert half.is_monotonic_decreasing


def test_a_loss_that_is_not_finite_is_told_in_one_sentence() -> None:
    data = toy_data()
    tables = {m: x.clone() for m, x in data.train.tables.items()}
    tables["b"][[7, 40], 1] = float("inf")
    broken = replace(data, train=Dataset(MODALITIES, tables))
    says = (
        r"^Stage 'line' stopped at step \d \(epoch 1\): squares became infinite or NaN in the rows"
        r" (7|40)[^.]* of the "
    )
    method = plain_method()
    with pytest.raises(
        ValueError,
        match=says + r"data; try a smaller training\.lr \(now 0\.001\) or training\.clip=1",
    ):
        fit(method, broken, **QUIET)
    assert weights(method).isfinite().all()  # it stopped before the step
    with pytest.raises(
        ValueError, match=r"^Stage 'line' stopped in the validation of epoch 1: .* row"
    ):
        fit(plain_method(), replace(data, val=broken.train), **QUIET)
    root = plain_method()  # a finite loss whose gradient is not: the root of zero

    def loss(model: MultimodalVAE, batch: Batch, progress: float) -> Loss:
        return Loss((model.extra(batch.x["a"]) * 0).abs().sum(-1).sqrt(), {})

    with pytest.raises(ValueError, match=r"at step 1 .*: the gradient became infinite or NaN; try"):
        fit(Method(root.model, [Stage("root", loss, ["extra"])]), data, **QUIET)


def test_losses_are_looked_at_in_groups_on_devices_that_run_ahead(monkeypatch) -> None:
    """As on a GPU: the bad step is found later, and still named; no checkpoint is taken of what it
    spoilt.
    """
    init = StageTrainer.__init__

    def ahead(self, *args) -> None:
        init(self, *args)
        self.look_every = 20

    monkeypatch.setattr(StageTrainer, "__init__", ahead)
    data = toy_data()
    tables = {m: x.clone() for m, x in data.train.tables.items()}
    tables["b"][7, 1] = float("inf")
    with pytest.raises(
        ValueError,
        match=r"at step [123] \(epoch 1\): squares became infinite or NaN in the rows 7 of",
    ):
        fit(plain_method(), replace(data, train=Dataset(MODALITIES, tables)), **QUIET)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"loss": lambda model, b, p: Loss(b.x["a"].mean(), {})},
            r"must be per sample, of shape \(32,\), got \(\)",
        ),
        (
            {"loss": lambda model, b, p: Loss(b.x["a"].sum(-1), {})},
            "does not depend on the parts that it trains",
        ),
        ({"trains": ["extr"]}, r"trains \['extr'\], but the model has no part 'extr'"),
        ({"trains": ["idle"]}, "without parameters; leave `trains` empty"),
    ],
)
def test_mistaken_stages_are_told(change, says) -> None:
    method = plain_method()
    method.model.idle = nn.Tanh()
    with pytest.raises(ValueError, match=says):
        fit(Method(method.model, [replace(method.stages[0], **change)]), toy_data(), **QUIET)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epoch": 3}, r"^fit has no setting 'epoch'\. Did you mean epochs\?$"),
        ({"latnt": 3}, r"^fit has no setting 'latnt'\. Did you mean latent\?$"),
        (
            {"stages": {"jont": {}}},
            r"no setting training\.stages\.jont\. Did you mean training\.stages\.joint\?$",
        ),
        ({"reuse": {"jont": "x"}}, r"no stage to reuse 'jont'\. Did you mean joint\?$"),
        ({"reuse": {"joint": "no/run"}}, "^no/run is no run directory"),
        (
            {"modalities": {"c": {"weight": 2}}},
            r"^There is no setting modalities\.c\. There are: a, b\.$",
        ),
        ({"device": "cuda"}, r"^training\.device=cuda cannot be used"),
        ({"device": "cup"}, r"^training\.device must be one of auto, cpu, cuda, mps, got 'cup'"),
    ],
)
def test_mistaken_settings_are_told(settings, says) -> None:
    with pytest.raises(ValueError, match=says):
        fit("toy", toy_data(), **QUIET | settings)
    with pytest.raises(ValueError, match=r"no method or recipe 'toi'\. Did you mean toy\?"):
        fit("toi", toy_data())
    with pytest.raises(ValueError, match=r"^There is no data"):
        fit("toy")


def test_a_recipe_is_given_by_its_name_or_file(tmp_path) -> None:
    """A name that a method and a recipe share is the method's, with the settings of no recipe."""
    (tmp_path / "mine.yaml").write_text("base: shapes-jnf\nmethod: {latent: 3}\n")
    for name, latent in (("shapes-jnf", 2), (str(tmp_path / "mine.yaml"), 3)):
        settings = settings_of(name, None, {"epochs": 4})
        assert (settings.method.name, settings.method.options["latent"]) == ("jnf", latent)
        assert (settings.data.name, settings.training.epochs) == ("shapes", 4)
    for name in ("jmvae-two-stage", "jmvae_two_stage"):
        settings = settings_of(name, None, {})
        assert settings.method.name == "jmvae_two_stage"
        assert settings.training == TrainingSettings() and settings.data.name is None
    with pytest.raises(ValueError, match=r"method or recipe 'shapes-jn'\. Did you mean shapes-jnf"):
        settings_of("shapes-jn", None, {})
    with pytest.raises(ValueError, match=r"^This recipe compares shapes-jmvae-two-stage, "):
        settings_of("shapes", None, {})


def test_a_keyword_of_the_training_and_of_the_method_is_refused() -> None:
    settings = {"epochs": 0, "latent": 2, **QUIET}
    says = (
        r"^'warmup' is a setting of the training and an option of jmvae: write"
        r" training=\{'warmup': \.\.\.\} or method=\{'warmup': \.\.\.\}\.$"
    )
    for method in ("jmvae", {"method": {"name": "jmvae"}}):
        with pytest.raises(ValueError, match=says):
            fit(method, toy_data(), warmup=1, **settings)
    both = fit("jmvae", toy_data(), training={"warmup": 7}, method={"warmup": 0.25}, **settings)
    assert both.settings["training"]["warmup"] == 7
    assert both.settings["method"]["warmup"] == 0.25 and both.settings["method"]["latent"] == 2
    assert fit("mopoe", toy_data(), warmup=7, **settings).settings["training"]["warmup"] == 7


def test_the_section_of_the_method_holds_options_only() -> None:
    with pytest.raises(ValueError, match=r"leave 'name' out of method=\{\.\.\.\}"):
        fit("jmvae", toy_data(), method={"name": "jnf"})
    with pytest.raises(ValueError, match=r"leave method=\{\.\.\.\} out"):
        fit(plain_method(), toy_data(), method={"latent": 3})
    with pytest.raises(ValueError, match=r"no setting method\.latnt\. Did you mean"):
        fit("jmvae", toy_data(), method={"latnt": 3})


def test_a_stage_of_another_run_can_be_taken(tmp_path) -> None:
    settings = {"epochs": 2, "training": {"stages": {"surrogates": {"epochs": 1}}}, **QUIET}
    one = fit("toy", toy_data(), out=tmp_path / "one", **settings)
    for source in (one, tmp_path / "one"):
        other = fit("toy", toy_data(), reuse={"joint": source, "surrogates": source}, **settings)
        assert equal(one.model, other.model)  # what `finish` wrote included
        assert [s["status"] for s in other.info["stages"].values()] == ["reused", "reused"]
    longer = settings | {"training": {"stages": {"surrogates": {"epochs": 2}}}}
    both = fit("toy", toy_data(), reuse={"joint": one}, **longer)
    assert equal(both.model, fit("toy", toy_data(), **longer).model)
    for change, says in (
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"latent": 3}, "latent: 2 there, 3 now"),
        ({"lr": 0.1}, r"training\.stages\.joint\.lr: 0\.001 there, 0\.1 now"),
        ({"modalities": {"a": {"weight": 2.0}}}, r"modalities\.a\.weight: 1\.0 there, 2\.0 now"),
    ):
        with pytest.raises(ValueError, match=rf"^Stage 'joint' cannot be taken from .* \(.*{says}"):
            fit("toy", toy_data(), reuse={"joint": one}, **settings | change)
    with pytest.raises(ValueError, match=r"samples\.train: 96 there, 64 now"):
        fit("toy", toy_data(n=64), reuse={"joint": one}, **settings)


@pytest.mark.parametrize(
    "name, stage, options",
    [
        ("mopoe", "all", {}),
        ("jmvae_two_stage", "surrogates", {}),
        ("cvae", "all", {}),
        ("pooled", "all", {"prior": {"name": "flow"}}),
    ],
)
def test_a_prior_can_be_fitted_to_a_run_that_was_trained_without_one(
    name: str, stage: str, options: dict
) -> None:
    settings = {"epochs": 2, "latent": 2, **QUIET, **options}
    one = fit(name, toy_data(), **settings)
    mine = dict.fromkeys(one.info["stages"], one)
    later = fit(name, toy_data(), fitted_prior="mixture", components=2, reuse=mine, **settings)
    found, prior = one.model.state_dict(), later.model.prior
    for key, value in later.model.state_dict().items():
        if not key.startswith(("prior.fitted", "prior.ready")):
            assert torch.equal(value, found[re.sub("^prior.base.", "prior.", key)]), key
    origin = torch.zeros(prior.base().event_shape)
    assert prior.ready and prior().log_prob(origin) != prior.base().log_prob(origin)
    assert (
        later.info["stages"][stage]["status"] == "reused"
        and later.info["stages"]["prior"]["status"] == "trained"
    )
    back = fit(
        name,
        toy_data(),
        reuse={"joint" if "joint" in one.info["stages"] else stage: later},
        **settings,
    )
    assert equal(back.model, one.model)


def test_a_models_own_parameter_is_trained_with_a_prior_to_come_too() -> None:
    def raised(
        model: MultimodalVAE, batch: Batch, progress: float, first: Callable[..., Loss]
    ) -> Loss:
        loss = first(model, batch, progress)
        return Loss(loss.value + model.tau, loss.terms)

    @as_method
    def own(builder: Builder) -> Method:
        made = METHODS["mopoe"](builder.modalities, latent=builder.latent)
        made.model.tau = nn.Parameter(torch.zeros(()))
        return Method(made.model, [Stage("all", Step(raised, first=made.stages[0].loss), [""])])

    try:
        runs = [
            fit("own", toy_data(), epochs=1, fitted_prior=kind, **QUIET)
            for kind in (None, "mixture")
        ]
        assert runs[0].model.tau != 0 and torch.equal(runs[0].model.tau, runs[1].model.tau)
    finally:
        del METHODS["own"]


def test_a_run_says_which_options_a_stage_was_made_with_elsewhere(capsys) -> None:
    one = fit("mopoe", toy_data(), epochs=1, latent=2, **QUIET)
    capsys.readouterr()
    other = fit(
        "mopoe",
        toy_data(),
        epochs=1,
        latent=2,
        beta=2.0,
        reuse={"all": one},
        **QUIET | {"progress": True},
    )
    assert other.info["stages"]["all"]["different_options"] == {"beta": [1.0, 2.0]}
    assert "all: taken from another run (beta: 1.0 there, 2.0 now)" in capsys.readouterr().err


def test_numbers_of_numpy_are_numbers() -> None:
    one = fit("jmvae", toy_data(), epochs=1, latent=np.int64(2), alpha=np.float64(0.5), **QUIET)
    assert one.settings["method"]["latent"] == 2 and one.settings["method"]["alpha"] == 0.5


def test_a_stage_that_was_trained_further_is_not_taken() -> None:
    def again(modalities, *, latent=2, networks=None) -> Method:
        method = toy(modalities, latent=latent)
        return Method(method.model, [method.stages[0], replace(method.stages[0], name="again")])

    METHODS["again"] = again
    try:
        run = fit("again", toy_data(), epochs=1, **QUIET)
        with pytest.raises(ValueError, match="its stage 'again' trained it further"):
            fit("again", toy_data(), epochs=1, reuse={"joint": run}, **QUIET)
    finally:
        del METHODS["again"]


def test_compile_and_deterministic_are_passed_on_and_undone(monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(
        torch,
        "compile",
        lambda f: compiled.append(torch.are_deterministic_algorithms_enabled()) or f,
    )
    trained(epochs=1, compile=True, deterministic=True)
    trained(epochs=1)
    assert compiled == [True] and not torch.are_deterministic_algorithms_enabled()


def test_parameters_out_of_reach_are_left_alone_when_gradients_are_added_up(monkeypatch) -> None:
    """Two processes' sum, with the sum replaced by doubling: reached parameters double, others stay
    untouched.
    """
    method = plain_method()
    method.model.idle = nn.Linear(2, 2)
    parameters = [*method.model.extra.parameters(), *method.model.idle.parameters()]
    batch = toy_data().train.batch(torch.arange(4))
    line_loss(method.model, batch, 1.0).value.mean().backward()
    before = [None if p.grad is None else p.grad.clone() for p in parameters]
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    sums = add_up(parameters, torch.tensor([1.5, 2.0], dtype=torch.float64))
    assert sums.tolist() == [3.0, 4.0] and before[2:] == [None, None]
    for p, grad in zip(parameters, before, strict=True):
        assert (p.grad is None) if grad is None else torch.equal(p.grad, 2 * grad)


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from toys import toy, toy_data
from polymodal.methods import METHODS
from polymodal.training.advice import warn_of_collapse
from polymodal.training.fit import fit
METHODS["toy"] = toy
data = toy_data().map(lambda part, each: each.stream())  # each process reads its share ahead
fit("toy", data, out=sys.argv[2], plain=True, epochs=3, batch=32, accumulate=2, clip=5.0,
    ema=0.5, device="cpu", progress=False, stages={"surrogates": {"accumulate": 1}})
"""


def test_two_processes_train_as_one(tmp_path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    here = str(Path(__file__).parent)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    arguments = [str(tmp_path / "worker.py"), here, str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    settings = {
        "plain": True,
        "accumulate": 2,
        "clip": 5.0,
        "ema": 0.5,
        "stages": {"surrogates": {"accumulate": 1}},
    }
    one = fit("toy", toy_data(), epochs=3, **QUIET | settings)
    two = polymodal.load(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "finished"
    columns = [c for c in one.history.columns if c.startswith(("train", "val", "grad"))]
    assert len(columns) > 10
    for column in columns:
        assert two.history[column].tolist() == pytest.approx(
            one.history[column].tolist(), rel=1e-4, nan_ok=True
        ), column
    theirs = two.model.state_dict()
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5)


def spread(size: float) -> Splits:
    """Samples of a latent of one dimension, each number with the standard deviation `size`."""
    data = polymodal.load_data("linear_gaussian", n=300)
    tables = {m: size * x / x.std(0) for m, x in data.train.tables.items()}
    part = replace(data.train, tables=tables)
    return Splits(part, part, part, "spread")


@pytest.mark.parametrize(
    ("size", "scale", "warns"), [(1, 1, 0), (200, 1, 1), (0.01, 1, 1), (200, 100, 0)]
)
def test_a_scale_that_does_not_suit_the_data_is_told_once(
    size: float, scale: float, warns: int, caplog
) -> None:
    data = spread(size)
    names = [m.name for m in data.modalities]
    modalities = {m: {"scale": float(scale)} for m in names}
    fit("mvtcae", data, modalities=modalities, latent=1, epochs=1, lr=1e-5, progress=False)
    said = [r.getMessage() for r in caplog.records if "standard deviation" in r.getMessage()]
    assert len(said) == warns * len(names)
    assert all(
        f"modalities.{m}.scale={size:.2g}" in text for m, text in zip(names, said, strict=False)
    )


@pytest.mark.parametrize(("beta", "warns"), [(1000.0, True), (0.1, False)])
def test_a_latent_that_says_nothing_is_told_at_the_end_of_the_stage(
    beta: float, warns: bool, caplog
) -> None:
    data = polymodal.load_data("linear_gaussian", n=600)
    run = fit("vae", data, latent=1, epochs=20, batch=32, lr=1e-2, beta=beta, progress=False)
    last = run.history.iloc[-1]
    said = [r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()]
    assert (last["val_kl"] < 0.1) == warns and len(said) == warns
    assert all("method.beta" in text and "scale" in text for text in said)


def test_a_small_divergence_between_posteriors_is_no_collapse(caplog) -> None:
    warn_of_collapse("surrogates", {"val_kl_a": 0.01, "val_kl_b": 0.0, "val_loss": 0.02})
    warn_of_collapse("autoencoders", {"val_kl": 0.0, "val_loss": 3.0})  # deterministic encoders
    assert not caplog.records
    warn_of_collapse("surrogates", {"val_kl_prior_a": 0.01})
    assert "val_kl_prior_a 0.01" in caplog.text


# Products of surrogates that cannot be normalised.

TURN = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.5], [0.3, 1.0, 2.0], [2.0, 0.1, 1.0]])).Q


def posteriors(variance: float) -> list[Batch]:
    """Joint posteriors whose draws have the variances 1, .5 and `variance` along turned axes."""
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    spread = torch.tensor([1.0, 0.5, variance]).sub(0.1).sqrt()  # 0.1 is the posteriors' own
    kept = {"loc": 5 + x / x.std(0) * spread @ TURN.T, "scale": torch.full((20_000, 3), 0.1**0.5)}
    whole = Batch({"a": torch.zeros(20_000, 1)}, kept=kept)
    return [whole.rows(slice(0, 7000)), whole.rows(slice(7000, 20_000))]


@pytest.mark.parametrize(
    ("variance", "count", "complete", "tail", "says"),
    [
        (1.55, 4, True, None, "= 1.5, .* n = 3 .* has no finite integral"),  # three are multiplied
        (1.45, 4, True, None, None),
        (1.4, 4, False, None, "= 1.33, .* n = 4 .* has no finite integral"),
        (1.4, 4, False, 1.2, "held near the data only by method.flow.tail_variance=1.2"),
        (1.4, 4, False, 1.5, "has no finite integral"),
        (2.1, 2, False, None, "= 2, .* n = 2 "),
        (3.5, 2, True, None, None),  # nothing is multiplied: the joint encoder answers for both
    ],
)
def test_a_product_without_a_finite_integral_is_warned_of(
    variance: float, count: int, complete: bool, tail: float | None, says: str | None, caplog
) -> None:
    patterns = torch.ones(1, count, dtype=torch.bool)
    patterns[0, 0] = complete
    posterior = SimpleNamespace(experts=range(count), trained_patterns=patterns, over_prior=True)
    figures = product_figures(SimpleNamespace(posterior=posterior), posteriors(variance), [], tail)
    assert figures["largest_variance"] == pytest.approx(variance, abs=0.02)
    warn_of_product("surrogates", figures)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (says is not None)
    if says is not None:
        assert re.search(rf"'surrogates': .*{says}.*method\.product=likelihoods", said[0])
        n, limited = figures["most_experts"], "no finite integral" in said[0]
        assert limited == said[0].endswith(f"tail_variance below {n / (n - 1):.3g}.")


def test_the_figures_of_the_product_are_kept_and_looked_at_when_surrogates_end(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(session, "warn_of_product", lambda *given: seen.append(given))
    data = polymodal.load_data("linear_gaussian", n=200)
    options = {"latent": 2, "flow": {"hidden": [4], "tail_variance": 1.3}, "epochs": 1, **QUIET}
    run = fit("jnf", data, **options)
    figures = run.info["stages"]["surrogates"]["figures"]
    assert seen[-1] == ("surrogates", figures)
    assert figures["tail_variance"] == 1.3 and figures["most_experts"] == len(data.modalities) - 1
    with torch.no_grad():
        q = run.model.posterior.joint(data.train.batch(torch.arange(len(data.train))))
        z = q.sample((200,)).flatten(0, 1)
    assert figures["largest_variance"] == pytest.approx(
        float(torch.linalg.eigvalsh(z.T.cov())[-1]), rel=0.05
    )
    likely = fit("jnf", data, product="likelihoods", **options)
    assert likely.info["stages"]["surrogates"]["figures"]["most_experts"] == 0
