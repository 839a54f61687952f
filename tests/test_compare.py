"""Comparisons: settings laid over recipes, and equal stages trained once, but none that only look equal."""

import inspect
from collections.abc import Iterator

import pytest
import torch

from polymodal import compare
from polymodal.gradients import rule_of
from polymodal.methods import METHODS
from polymodal.methods.joint import jnf
from polymodal.methods.score import sbm
from polymodal.model import Method, Stage
from polymodal.networks import HEADS
from polymodal.pooling import POOLINGS
from polymodal.priors import PRIORS
from test_methods import MODALITIES, batch, build

WORDS = [*POOLINGS, *PRIORS, *HEADS, "flow", "elbo", "iwae", "dreg", "cca", "contrastive", "coupling", "marginals"]


def test_a_comparison_lays_itself_over_its_recipes_and_shares_equal_stages(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    recipes = "[shapes-jmvae, shapes-telbo, shapes-jnf, shapes-jnf-dcca]"
    stages = "{embeddings: {epochs: 7}, surrogates: {lr: 2e-3}}"
    mine.write_text(f"compare: {recipes}\nseeds: [1, 4]\ndata: {{n: 100}}\ntraining: {{stages: {stages}}}\n")
    plan = compare.make_plan(str(mine), tmp_path / "out", ["training.batch=16"])
    runs = {(r.label, r.seed): r for r in plan.runs}
    assert list(runs) == [(m, s) for s in (1, 4) for m in ("jmvae", "telbo", "jnf", "jnf-dcca")]
    assert len(plan.data.train) == 63 and all(r.settings.training.batch == 16 for r in plan.runs)
    assert runs["jnf-dcca", 1].settings.training.stage("embeddings").epochs == 7
    assert "embeddings" not in runs["jnf", 1].settings.training.stages
    # JMVAE's one stage trains with the surrogates' consensus: nobody else's; TELBO's surrogates have another loss.
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
    (tmp_path / "all.yaml").write_text("compare: [a.yaml, b.yaml, c.yaml, d.yaml, e.yaml, f.yaml, g.yaml]\n")
    plan = compare.make_plan(str(tmp_path / "all.yaml"), tmp_path)
    assert [sorted(run.reuse) for run in plan.runs] == [[], ["embeddings", "joint"], ["joint"], [], [], [], []]


def test_a_stage_is_the_same_if_its_loss_and_what_it_trains_are() -> None:
    def stage(alpha: float, trains: list) -> Stage:
        return Stage("joint", lambda batch, _: alpha * model(batch), trains)

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    model.impartial, model.weights = None, {"a": 1.0}
    method = Method(model, [])
    same = lambda a, b: compare._same(a, method, b, method)
    assert same(stage(0.1, [model]), stage(0.1, [model]))
    assert not same(stage(0.1, [model]), stage(1.0, [model]))
    assert not same(stage(0.1, [model]), stage(0.1, [model[0]]))
    assert not same(stage(0.1, [model]), Stage("joint", lambda batch, _: batch, [model]))
    other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    plain, heavy = {"a": 1.0}, {"a": 2.0}
    for rule, weights, alike in ((None, plain, True), (rule_of("pcgrad"), plain, False), (None, heavy, False)):
        other.impartial, other.weights = rule, weights
        assert compare._same(stage(0.1, [model]), method, stage(0.1, [other]), Method(other, [])) == alike


def test_a_stage_that_a_later_one_trains_further_is_not_shared() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    first, second, third = (Stage(f"{k}", lambda batch, _: batch, [model[k % 2]]) for k in range(3))
    assert compare._left_alone(first, Method(model, [first, second]))
    assert not compare._left_alone(first, Method(model, [first, second, third]))


def changed(name: str) -> Iterator[tuple[str, Method]]:
    """The method once for each other value of each of its options that it can bear."""
    for key, option in inspect.signature(METHODS[name]).parameters.items():
        said = option.default
        others = [not said] if isinstance(said, bool) else [2 * said + 1] if isinstance(said, int | float) else []
        if key == "latent":  # other shapes
            continue
        for value in [w for w in WORDS if w != said] if isinstance(said, str) else others:
            try:
                yield f"{key}={value}", build(name, **{key: value})
            except (ValueError, RuntimeError):  # the method has no such value
                continue


@pytest.mark.parametrize("name", sorted(METHODS))
def test_stages_that_are_taken_for_equal_compute_the_same(name: str) -> None:
    """With the same parameters and random numbers the losses of one batch are equal to the last digit."""
    one = build(name)
    shared = {}
    for label, other in changed(name):
        a, b = one.stages[0], other.stages[0]
        if a.prepare is None and compare._same(a, one, b, other):
            own = compare.state_of(b.trains, other.model)
            for key, value in compare.state_of(a.trains, one.model).items():
                own[key].copy_(value)
            losses = []
            for method in (one, other):
                data = batch(holes=True)
                torch.manual_seed(3)
                losses.append(method.stages[0].loss(data, 0.5).value)
            shared[label] = losses
    for label, losses in shared.items():
        assert torch.equal(*losses), label
    want = {"sbm": "reference=marginals", "jnf": "flow=coupling", "jnf_dcca": "embedder=cca"}
    assert name not in want or want[name] in shared  # something is shared


def test_a_reduced_prior_shares_the_autoencoders_and_other_autoencoders_are_not_shared() -> None:
    """What decides is hidden in a function that the loss holds, and in the class of a part without parameters."""
    whole, reduced = (sbm(MODALITIES, latent=2, epsilon=e) for e in (None, 1.0))
    same = lambda a, b: compare._same(a.stages[0], a, b.stages[0], b)
    assert same(whole, reduced)
    for options in ({"posterior": "point"}, {"beta": 0.5}, {"smooth": 0.5}):
        assert not same(whole, sbm(MODALITIES, latent=2, **options))
    poolings = [build("pooled", pooling=p) for p in ("product", "mixture", "geometric")]
    assert not any(same(a, b) for a in poolings for b in poolings if a is not b)
    assert same(jnf(MODALITIES, latent=2), jnf(MODALITIES, latent=2, widest=1.2))
    for name in ("mopoe", "jmvae_two_stage"):  # what a prior is fitted to afterwards
        assert same(build(name), build(name, fitted_prior="mixture"))
