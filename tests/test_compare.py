"""Comparisons: settings laid over recipes, and equal stages trained once, but none that only look
equal.
"""

import inspect
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.experiments import plan as compare
from polymodal.experiments.sharing import same_stage
from polymodal.methods import METHODS
from polymodal.methods.embeddings import EMBEDDERS
from polymodal.methods.gradients import rule_of
from polymodal.methods.jnf import jnf
from polymodal.methods.score import sbm
from polymodal.model import Method, Stage
from polymodal.networks.flows import FLOWS
from polymodal.networks.heads import HEADS
from polymodal.posteriors.pooling import POOLINGS
from polymodal.priors import PRIORS
from polymodal.runs.state import plain_state
from polymodal.sampling.registry import SAMPLERS
from test_methods import MODALITIES, batch, build

WORDS = [
    *POOLINGS,
    *PRIORS,
    *HEADS,
    *EMBEDDERS,
    *SAMPLERS,
    *DIFFUSIONS,
    *FLOWS,
    "elbo",
    "iwae",
    "dreg",
    "marginals",
    "mean",
    "kl",
    "wasserstein",
]
OTHERS = {
    "warmup": [0.25],
    "dropout": [0.25],
    "rho": [0.1],
    "alpha": [0.25],
    "tail_variance": [1.2],
    "epsilon": [1.0],
    "kept": [1],
    "impartial": ["pcgrad"],
    "rescale": ["dimension"],
    "fitted_prior": ["mixture"],
    "lead": ["b"],
    "target": ["a"],
    "flow_hidden": [[8]],
    "denoiser_options": [{"width": 8}],
    "patterns": [{"joint": 0.1}],
    "latent": [],
    "sampler_options": [{"rho": 5.0}, {"jitter": 0.25}],
    "max_scale": [5.0],
}


def test_a_comparison_lays_itself_over_its_recipes_and_shares_equal_stages(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    recipes = "[shapes-jmvae, shapes-telbo, shapes-jnf, shapes-jnf-dcca]"
    stages = "{embeddings: {epochs: 7}, surrogates: {lr: 2e-3}}"
    mine.write_text(
        f"compare: {recipes}\nseeds: [1, 4]\ndata: {{n: 100}}\ntraining: {{stages: {stages}}}\n"
    )
    plan = compare.make_plan(str(mine), tmp_path / "out", ["training.batch=16"])
    runs = {(r.label, r.seed): r for r in plan.runs}
    assert list(runs) == [(m, s) for s in (1, 4) for m in ("jmvae", "telbo", "jnf", "jnf-dcca")]
    assert len(plan.data.train) == 63 and all(r.settings.training.batch == 16 for r in plan.runs)
    assert runs["jnf-dcca", 1].settings.training.stage("embeddings").epochs == 7
    assert "embeddings" not in runs["jnf", 1].settings.training.stages
    # JMVAE's one stage trains with the surrogates' consensus: nobody else's; TELBO's surrogates
    # have another loss.
    for seed in (1, 4):
        assert not runs["jmvae", seed].reuse and not runs["telbo", seed].reuse
        for label in ("jnf", "jnf-dcca"):
            assert runs[label, seed].reuse == {"joint": tmp_path / "out" / f"telbo-seed{seed}"}


def test_options_in_a_comparison_are_for_the_methods_that_have_them(tmp_path) -> None:
    options = ["data.n=100", "method.kept=3", "method.hidden=32"]
    plan = compare.make_plan("shapes", tmp_path, options)
    kept = {run.label: run.settings.method.options.get("kept") for run in plan.runs}
    assert kept == {"jmvae-two-stage": None, "jnf": None, "jnf-dcca": 3}
    assert {run.settings.method.options["hidden"] for run in plan.runs} == {32}
    with pytest.raises(ValueError, match=r"Did you mean method\.kept\?"):
        compare.make_plan("shapes", tmp_path, ["method.kep=3"])


def test_stages_of_other_settings_are_not_shared(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("base: shapes-jnf-dcca\ndata: {n: 100}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntraining: {stages: {surrogates: {lr: 1e-3}}}\n")
    (tmp_path / "c.yaml").write_text("base: a.yaml\nmethod: {kept: 3}\n")
    (tmp_path / "d.yaml").write_text("base: a.yaml\nmethod: {hidden: 64}\n")
    (tmp_path / "e.yaml").write_text("base: a.yaml\ntraining: {stages: {joint: {epochs: 9}}}\n")
    (tmp_path / "f.yaml").write_text("base: shapes-jmvae\ndata: {n: 100}\n")
    (tmp_path / "g.yaml").write_text("base: f.yaml\nmethod: {alpha: 1.0}\n")
    (tmp_path / "all.yaml").write_text(
        "compare: [a.yaml, b.yaml, c.yaml, d.yaml, e.yaml, f.yaml, g.yaml]\n"
    )
    plan = compare.make_plan(str(tmp_path / "all.yaml"), tmp_path)
    assert [sorted(run.reuse) for run in plan.runs] == [
        [],
        ["embeddings", "joint"],
        ["joint"],
        [],
        [],
        [],
        [],
    ]


def test_a_stage_is_the_same_if_its_loss_and_what_it_trains_are() -> None:
    def stage(alpha: float, trains: list) -> Stage:
        first = trains[0]
        return Stage("joint", lambda batch, _: alpha * first(batch), trains)

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    model.gradient_copies, model.weights = None, {"a": 1.0}
    method = Method(model, [])
    same = lambda a, b: same_stage(a, method, b, method)
    assert same(stage(0.1, [model]), stage(0.1, [model]))
    assert not same(stage(0.1, [model]), stage(1.0, [model]))
    assert not same(stage(0.1, [model]), stage(0.1, [model[0]]))
    assert not same(stage(0.1, [model]), Stage("joint", lambda batch, _: batch, [model]))
    other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    plain, heavy = {"a": 1.0}, {"a": 2.0}
    for rule, weights, alike in (
        (None, plain, True),
        (rule_of("pcgrad"), plain, False),
        (None, heavy, False),
    ):
        other.gradient_copies, other.weights = rule, weights
        assert (
            same_stage(stage(0.1, [model]), method, stage(0.1, [other]), Method(other, [])) == alike
        )


def test_a_stage_that_a_later_one_trains_further_is_not_shared() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    first, second, third = (Stage(f"{k}", lambda batch, _: batch, [model[k % 2]]) for k in range(3))
    assert compare._left_alone(first, Method(model, [first, second]))
    assert not compare._left_alone(first, Method(model, [first, second, third]))


def changed(name: str) -> Iterator[tuple[str, Method]]:
    """The method once for each other value of each of its options that it can bear, at least one
    for each option.
    """
    for key, option in inspect.signature(METHODS[name]).parameters.items():
        if key in ("modalities", "networks"):
            continue
        said, found = option.default, 0
        kind = (
            [not said]
            if isinstance(said, bool)
            else [2 * said + 1]
            if isinstance(said, int | float)
            else WORDS
        )
        for value in OTHERS.get(key, kind):
            with suppress(ValueError):  # the method has no such value
                other = build(name, **{key: value})
                found += value != said
                yield f"{key}={value}", other
        assert found or key == "latent" or (name, key) == ("sbm", "fitted_prior"), key


def computed(method: Method) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The first stage's losses, and their gradients by all that it trains, under one seed."""
    stage, data = method.stages[0], batch(holes=True)
    method.model.zero_grad()
    torch.manual_seed(3)
    loss = stage.loss(data, 0.5).value
    loss.sum().backward()
    trained = {
        id(p)
        for part in stage.trains
        for p in part.parameters()
        if p.requires_grad and p.grad is not None
    }
    return loss, {n: p.grad.clone() for n, p in method.model.named_parameters() if id(p) in trained}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_stages_that_are_taken_for_equal_compute_the_same(name: str) -> None:
    """With the same parameters and random numbers, losses and gradients are equal to the last
    digit.
    """
    one, shared = build(name), []
    for label, other in changed(name):
        a, b = one.stages[0], other.stages[0]
        if a.prepare is None and same_stage(a, one, b, other):
            shared.append(label)
            theirs = plain_state(b.trains, other.model)
            for key, (_, value) in plain_state(a.trains, one.model).items():
                theirs[key][1].copy_(value)
            (loss, grads), (found, others) = computed(one), computed(other)
            assert torch.equal(loss, found), label
            assert len(grads) == len(others) and all(
                map(torch.equal, grads.values(), others.values())
            ), label
    want = {
        "sbm": "epsilon=1.0",
        "jnf": "tail_variance=1.2",
        "jnf_dcca": "embedder=cca",
        "mopoe": "fitted_prior=mixture",
    }
    assert name not in want or want[name] in shared  # something is shared


class Scaled(nn.Module):
    """A part with an option in an attribute, open or hidden, in a buffer, and in what is learned."""

    def __init__(
        self, open: float = 1.0, hidden: float = 1.0, held: float = 1.0, learned: bool = True
    ) -> None:
        super().__init__()
        self.open, self._hidden = open, np.full(2, hidden)
        self.register_buffer("held", torch.tensor(held))
        self.weight = nn.Parameter(torch.ones(2), learned)


class Losses:
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def loss(self, batch, progress):
        return self.beta * batch


def of_my_own(part: dict | None = None, **options: float) -> Method:
    """A stage that holds options in every place where they can be."""
    o = {
        "default": 1.0,
        "named": 1.0,
        "bound": 1.0,
        "module": 1.0,
        "array": 1.0,
        "step": 1.0,
    } | options
    model = nn.Module()
    model.part, model.gradient_copies, model.weights = Scaled(**part or {}), None, {}
    bound, module, array = (
        Losses(o["bound"]).loss,
        nn.HuberLoss(delta=o["module"]),
        np.full(3, o["array"]),
    )
    step = o["step"]

    def again(batch):
        return again(batch)

    def loss(batch, progress, a=o["default"], *, b=o["named"]):
        return bound(batch, progress) + module(batch, a) + array.sum() * b + again(batch) + never

    if "never" in o:
        never = 0
    return Method(model, [Stage("all", loss, [model], None, lambda train, val: {"step": step})])


def test_every_place_where_an_option_can_be_is_looked_at() -> None:
    same = lambda a, b: same_stage(a.stages[0], a, b.stages[0], b)
    assert same(of_my_own(), of_my_own())
    for option in ("default", "named", "bound", "module", "array", "step"):
        assert not same(of_my_own(), of_my_own(**{option: 2.0})), option
    for change in ({"open": 2.0}, {"hidden": 2.0}, {"held": 2.0}, {"learned": False}):
        assert not same(of_my_own(), of_my_own(change)), change


def test_a_reduced_prior_shares_the_autoencoders_and_other_autoencoders_are_not_shared() -> None:
    """What decides is hidden in a function that the loss holds, and in the class of a part without
    parameters.
    """
    whole, reduced = (sbm(MODALITIES, latent=2, epsilon=e) for e in (None, 1.0))
    same = lambda a, b: same_stage(a.stages[0], a, b.stages[0], b)
    assert same(whole, reduced)
    for options in ({"posterior": "point"}, {"beta": 0.5}, {"smooth": 0.5}):
        assert not same(whole, sbm(MODALITIES, latent=2, **options))
    poolings = [build("pooled", pooling=p) for p in ("product", "mixture", "geometric")]
    assert not any(same(a, b) for a in poolings for b in poolings if a is not b)
    assert same(jnf(MODALITIES, latent=2), jnf(MODALITIES, latent=2, tail_variance=1.2))
    assert same(build("jnf"), build("jnf_score")) and same(build("jnf_score"), build("jnf"))
    for name, options in (
        ("mopoe", {}),
        ("jmvae_two_stage", {}),
        ("cvae", {}),
        ("pooled", {"prior": "flow"}),
    ):
        assert same(
            build(name, **options), build(name, fitted_prior="mixture", **options)
        )  # fitted afterwards
