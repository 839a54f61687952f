"""Stages that two methods have in common: equal values are shared, nothing else is, and what is
shared computes the same.
"""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polymodal.batch import Batch, Modality
from polymodal.checks import Group
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.experiments.sharing import common_stages, is_trained_once, same_stage
from polymodal.methods import METHODS, Builder
from polymodal.methods import method as as_method
from polymodal.methods.embeddings import EMBEDDERS
from polymodal.methods.jnf import jnf
from polymodal.methods.score import sbm
from polymodal.model import Loss, Method, Stage, Step
from polymodal.networks.flows import FLOWS
from polymodal.networks.heads import HEADS
from polymodal.posteriors.pooling import POOLINGS
from polymodal.priors import PRIORS
from polymodal.runs.state import plain_state
from polymodal.sampling.registry import SAMPLERS
from polymodal.settings.schema import TrainingSettings
from test_methods import MODALITIES, SMALL, batch, build
from toys import joint_loss, keep_joint, surrogate_loss, toy

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
OTHERS: dict[str, list[Any]] = {
    "warmup": [0.25],
    "dropout": [0.25],
    "rho": [0.1],
    "alpha": [0.25],
    "tail_variance": [1.2],
    "epsilon": [1.0],
    "num_directions": [1],
    "impartial": ["pcgrad"],
    "rescale": ["dimension"],
    "fitted_prior": ["mixture"],
    "lead": ["b"],
    "target": ["a"],
    "flow.hidden": [[8]],
    "denoiser": [{"width": 8}],
    "training_masks": [{"joint": 0.1}],
    "sampler": [{"rho": 5.0}, {"jitter": 0.25}],
    "max_scale": [5.0],
    "features": [{"a": 3}],
    "product": ["likelihoods"],
    "hide": [0.25],
}
UNSHARED = ("vae", "cvae", "mmvm", "meme", "sbm", "coordinated")  # no draw that decoders share
NOT_CHANGED = {
    ("sbm", "fitted_prior"),
    ("sbm", "decoder_noise"),  # beside posterior=point only
    ("miwae", "mechanism"),  # of data with holes only, see below
    *((name, "impartial") for name in UNSHARED),
}


def same(ours: Method, theirs: Method, k: int = 0) -> bool:
    """Whether the k-th stages are the same."""
    return same_stage(ours.stages[k], ours, theirs.stages[k], theirs)


def single(model: nn.Module | None = None, **changes: Any) -> Method:
    """One stage, which says what it was built from."""
    stage = Stage(
        "joint",
        Step(joint_loss, weight=0.5),
        ["posterior.joint"],
        Step(keep_joint),
        built_from={"latent": 2},
    )
    return Method(model or toy().model, [replace(stage, **changes)])


def test_equal_steps_options_parts_and_shapes_are_shared() -> None:
    assert same(single(), single())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"loss": Step(joint_loss, weight=1.0)},
        {"loss": Step(joint_loss)},
        {"loss": Step(surrogate_loss, weight=0.5)},
        {"trains": ["posterior.joint", "decoders"]},
        {"trains": ["posterior.experts"]},
        {"prepare": None},
        {"prepare": Step(keep_joint, embed=True)},
        {"finish": Step(keep_joint)},
        {"built_from": {"latent": 3}},
        {"built_from": {"latent": 2, "hidden": 8}},
        {"built_from": None},
    ],
    ids=str,
)
def test_any_difference_is_not_shared(change: dict) -> None:
    assert not same(single(), single(**change)) and not same(single(**change), single())


def test_parts_of_other_shapes_are_not_shared() -> None:
    assert not same(single(), single(toy(latent=3).model))
    assert not same(single(), single(toy(plain=True).model))  # without batch norm


def test_options_that_cannot_be_compared_are_not_shared() -> None:
    weights = [Step(joint_loss, weight=np.full(3, value)) for value in (1.0, 1.0)]
    assert not same(single(loss=weights[0]), single(loss=weights[1]))


def test_a_users_own_method_is_never_shared_by_accident() -> None:
    assert not same(toy(), toy())  # `built_from` is missing

    def loss(model: nn.Module, batch: Batch, progress: float) -> Loss:
        return joint_loss(model, batch, progress)

    assert not same(single(loss=loss), single(loss=lambda *arguments: loss(*arguments)))

    @as_method
    def own(builder: Builder, *, beta: float = 1.0) -> Method:
        def hidden(model: nn.Module, batch: Batch, progress: float) -> Loss:
            return Loss(beta * joint_loss(model, batch, progress).value, {})

        made = METHODS["mopoe"](builder.modalities, latent=builder.latent)
        return Method(made.model, [Stage("all", hidden, [""])])

    try:
        assert not same(own(MODALITIES), own(MODALITIES, beta=2.0))
        assert not same(own(MODALITIES), own(MODALITIES))  # each has a function of its own
    finally:
        del METHODS["own"]


def test_leading_stages_are_shared_up_to_the_first_that_differs() -> None:
    training = TrainingSettings()
    longer = TrainingSettings(stages={"joint": {"epochs": 3}})
    later = TrainingSettings(stages={"surrogates": {"epochs": 3}})
    ours, theirs = build("jmvae_two_stage"), build("jmvae_two_stage")
    assert common_stages((ours, theirs), (training, training)) == ["joint", "surrogates"]
    assert common_stages((ours, theirs), (training, later)) == ["joint"]
    assert common_stages((ours, theirs), (training, longer)) == []
    assert common_stages((ours, build("telbo")), (training, training)) == ["joint"]
    assert common_stages((ours, build("mopoe")), (training, training)) == []


def test_a_stage_that_a_later_one_trains_further_is_not_shared() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    first, second, third = (Stage(f"{k}", joint_loss, [str(k % 2)]) for k in range(3))
    assert is_trained_once(first, Method(model, [first, second]))
    assert not is_trained_once(first, Method(model, [first, second, third]))


def alternatives(key: str, default: Any) -> list[Any]:
    """Other values of an option, most of which a method may refuse."""
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int | float):
        return [2 * default + 1]
    return WORDS


def changes(key: str, default: Any) -> Iterator[dict[str, Any]]:
    """Options with another value of `key`: of a group, with another value of each of its fields."""
    for value in OTHERS.get(key, []):
        small = SMALL.get(key, {})
        yield {key: {**small, **value} if isinstance(value, dict) else value}
    if not isinstance(default, Group):
        if key not in OTHERS:
            yield from ({key: value} for value in alternatives(key, default))
        return
    for field, value in default:
        others = OTHERS.get(f"{key}.{field}") or OTHERS.get(field) or alternatives(field, value)
        yield from ({key: {**SMALL.get(key, {}), field: other}} for other in others)


def changed(name: str) -> Iterator[tuple[str, Method]]:
    """The method once for each other value of each of its options that it can bear, at least one
    for each option.
    """
    for key, option in inspect.signature(METHODS[name]).parameters.items():
        if key in ("modalities", "networks", "latent"):
            continue
        count = 0
        for change in changes(key, option.default):
            with suppress(ValueError):  # the method has no such value
                other = build(name, **change)
                count += change[key] != option.default
                yield str(change), other
        assert count or (name, key) in NOT_CHANGED, key


def computed(method: Method) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The first stage's losses, and their gradients by all that it trains, under one seed."""
    stage, data = method.stages[0], batch(holes=True)
    method.model.zero_grad()
    torch.manual_seed(3)
    loss = stage.loss(method.model, data, 0.5).value
    loss.sum().backward()
    parts = stage.modules(method.model)
    trained = {id(p) for part in parts for p in part.parameters() if p.grad is not None}
    return loss, {n: p.grad.clone() for n, p in method.model.named_parameters() if id(p) in trained}


def copy_first_stage(ours: Method, theirs: Method) -> None:
    """Gives `theirs` the state that the first stage of `ours` trains."""
    target = plain_state(theirs.stages[0].modules(theirs.model), theirs)
    for key, (_, value) in plain_state(ours.stages[0].modules(ours.model), ours).items():
        target[key][1].copy_(value)


SHARED = {  # of some methods, a change that leaves the first stage as it is
    "sbm": "{'epsilon': 1.0}",
    "jnf": "{'flow': {'hidden': [16], 'tail_variance': 1.2}}",
    "jnf_dcca": "{'embedding': {'embedding_size': 3, 'ridge': 0.01, 'kind': 'cca'}}",
    "mopoe": "{'fitted_prior': 'mixture'}",
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_stages_that_are_taken_for_equal_compute_the_same(name: str) -> None:
    """With the same parameters and random numbers, losses and gradients are equal to the last
    digit.
    """
    ours, shared = build(name), []
    for label, theirs in changed(name):
        if ours.stages[0].prepare is not None or not same(ours, theirs):
            continue
        shared.append(label)
        copy_first_stage(ours, theirs)
        (loss, grads), (their_loss, their_grads) = computed(ours), computed(theirs)
        assert torch.equal(loss, their_loss), label
        assert len(grads) == len(their_grads), label
        assert all(map(torch.equal, grads.values(), their_grads.values())), label
    assert name not in SHARED or SHARED[name] in shared


def test_weights_and_likelihoods_of_modalities_are_compared() -> None:
    for change in ({"weight": 3.0}, {"likelihood": "laplace"}, {"scale": 0.5}):
        others = [replace(MODALITIES[0], **change), *MODALITIES[1:]]
        for name in ("jnf", "mopoe", "sbm"):
            assert not same(build(name), build(name, others))


def test_a_reduced_prior_shares_the_autoencoders_and_other_autoencoders_are_not_shared() -> None:
    whole, reduced = (sbm(MODALITIES, latent=2, epsilon=e) for e in (None, 1.0))
    assert same(whole, reduced)
    for options in (
        {"posterior": "point"},
        {"beta": 0.5},
        {"posterior": "point", "decoder_noise": 0.5},
    ):
        assert not same(whole, sbm(MODALITIES, latent=2, **options))


def test_other_mechanisms_of_holes_are_not_shared() -> None:
    holes = [Modality("v", (3,), scale=None, holes=True), *MODALITIES]
    kinds = ("ignorable", "self_masking", "high_missing", "low_missing")
    built = [METHODS["miwae"](holes, latent=2, mechanism=kind) for kind in kinds]
    assert not any(same(a, b) for a in built for b in built if a is not b)
    assert same(built[1], METHODS["miwae"](holes, latent=2, mechanism=kinds[1]))


def test_other_poolings_are_not_shared() -> None:
    poolings = [build("pooled", pooling=p) for p in ("product", "mixture", "geometric")]
    assert not any(same(a, b) for a in poolings for b in poolings if a is not b)


def test_the_joint_stage_is_shared_across_surrogates() -> None:
    flow = {"tail_variance": 1.2}
    assert same(jnf(MODALITIES, latent=2), jnf(MODALITIES, latent=2, flow=flow))
    assert same(build("jnf"), build("jnf_score")) and same(build("jnf_score"), build("jnf"))


def test_embeddings_are_shared_across_flows_and_numbers_of_directions_and_nothing_else() -> None:
    size = SMALL["embedding"]
    ours = build("jnf_dcca", embedding=size)
    flows = build("jnf_dcca", embedding=size | {"num_directions": 1}, flow={"transforms": 0})
    assert same(ours, flows, 1) and not same(ours, flows, 2)
    for change in ({"ridge": 0.1}, {"dropout": 0.5}, {"augment": 1}, {"embedding_size": 2}):
        assert not same(ours, build("jnf_dcca", embedding=size | change), 1)
    others = [replace(MODALITIES[0], weight=3.0), *MODALITIES[1:]]
    assert not same(ours, build("jnf_dcca", others, embedding=size), 1)


@pytest.mark.parametrize("name", ["mopoe", "jmvae_two_stage", "cvae", "pooled"])
def test_a_prior_fitted_afterwards_leaves_the_stages_before_as_they_are(name: str) -> None:
    options = {"prior": {"name": "flow"}} if name == "pooled" else {}
    assert same(build(name, **options), build(name, fitted_prior="mixture", **options))
