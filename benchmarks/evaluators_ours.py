"""One task of `evaluators.py` with polymodal, in the process that this starts; JSON on stdout."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

import torch
from evaluators_common import (
    GIVEN,
    HIDDEN,
    LATENT,
    MAPS,
    NETWORKS,
    SCALE,
    SHAPES,
    TARGET,
    TASKS,
    K,
    Spec,
    classifiers_of,
    items_of,
    subsets,
    timed,
)
from torch import Tensor, nn

import polymodal
from polymodal.batch import Modality
from polymodal.data import Dataset, Splits
from polymodal.metrics.classifier_networks import Classifier
from polymodal.metrics.classifier_training import LabelClassifier
from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.evaluate import evaluate

State = Mapping[str, Tensor]
FLOW = {"transforms": MAPS, "hidden": [HIDDEN], "conditional": False}


def splits_of(spec: Spec) -> Splits:
    values, labels = items_of(spec, "test")
    name = TASKS[spec.task].data
    shapes, scale = SHAPES[name], SCALE[name]
    modalities = [Modality(m, s, "laplace", scale=scale, link="sigmoid") for m, s in shapes.items()]
    tables = {m: x.contiguous(memory_format=torch.channels_last) for m, x in values.items()}
    data = Dataset(modalities, tables, label=labels)
    few = data.first(40)
    return Splits(few, few, data)


def run_of(spec: Spec, splits: Splits) -> polymodal.Run:
    """A run with the weights of the peer's model; without its flows, whose layout differs."""
    task = TASKS[spec.task]
    options = {"flow": FLOW} if task.ours == "jnf" else {}
    run = polymodal.fit(
        task.ours,
        splits,
        training={"epochs": 0, "progress": False},
        networks=NETWORKS[task.data],
        method={"latent": LATENT[task.data], **options},
    )
    state = torch.load(spec.weights)
    with torch.no_grad():
        for m in SHAPES[task.data]:
            set_decoder(run.model.decoders[m].net, below(state, f"decoders.{m}.net."))
            set_encoder(run.model.posterior.experts[m].net, below(state, f"encoders.{m}."), True)
        if task.ours == "jnf":
            set_joint(run.model.posterior.joint, below(state, "joint_encoder."))
    return run


def below(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def linear_of_grid(weight: Tensor) -> Tensor:
    """The weight (out, C, H, W) of a convolution that reads a whole map, for a linear layer that
    reads it channels-last.
    """
    return weight.permute(0, 2, 3, 1).flatten(1)


def set_encoder(net: nn.Module, state: State, log_variance: bool) -> None:
    """Our encoder with a peer's weights; `log_variance`: it has both halves of the output."""
    heads = ["mean", "log_variance"] if log_variance else ["mean"]
    weight = torch.cat([state[f"{head}.weight"] for head in heads])
    layers = [x for x in net.modules() if isinstance(x, nn.Conv2d | nn.Linear)]
    layers[-1].weight.copy_(linear_of_grid(weight) if weight.dim() == 4 else weight)
    layers[-1].bias.copy_(torch.cat([state[f"{head}.bias"] for head in heads]))
    copy(layers[:-1], below(state, "trunk."))


def set_decoder(net: nn.Module, state: State) -> None:
    kinds = nn.Linear | nn.ConvTranspose2d
    layers, first = [x for x in net.modules() if isinstance(x, kinds)], next(iter(state.values()))
    if len(layers) == 2:
        return copy(layers, state)
    if first.dim() == 4:  # (D, C, H, W) of a transposed convolution of a 1x1 map
        weight, bias = first.permute(2, 3, 1, 0), state["0.bias"].expand(4, 4, -1)
    else:  # (C H W, D) of a linear layer
        weight = first.unflatten(0, (-1, 4, 4)).permute(1, 2, 0, 3)
        bias = state["0.bias"].unflatten(0, (-1, 4, 4)).permute(1, 2, 0)
    layers[0].weight.copy_(weight.flatten(0, 2))
    layers[0].bias.copy_(bias.flatten())
    copy(layers[1:], {k: v for k, v in state.items() if not k.startswith("0.")})


def set_joint(joint: nn.Module, state: State) -> None:
    """Without weights of the flags that say which modalities are present."""
    for m, encoder in joint.encoders.items():
        set_encoder(encoder, below(state, f"encoders.{m}."), False)
    first, last = joint.mix[0], joint.mix[-1]
    parts = state["enc.0.0.weight"].chunk(len(joint.encoders), 1)
    flag = torch.zeros(len(parts[0]), 1)
    first.weight.copy_(torch.cat([x for part in parts for x in (part, flag)], 1))
    first.bias.copy_(state["enc.0.0.bias"])
    last.weight.copy_(torch.cat([state["fc1.weight"], state["fc2.weight"]]))
    last.bias.copy_(torch.cat([state["fc1.bias"], state["fc2.bias"]]))


def copy(layers: list[nn.Module], state: State) -> None:
    """The weights and biases of `state`, in order."""
    values = iter(state.values())
    for layer in layers:
        layer.weight.copy_(next(values))
        layer.bias.copy_(next(values))


def classifiers(spec: Spec) -> Classifiers:
    found = {}
    for m, net in classifiers_of(spec).items():
        whole = Classifier(net[0], net[1].in_features, net[1].out_features)
        whole.head = net[1]
        found[m] = LabelClassifier(whole.eval(), False, 1.0)
    return Classifiers(found)


@torch.no_grad()
def check_weights(run: polymodal.Run, spec: Spec) -> None:
    """Raises AssertionError if the networks do not compute what the peer's do."""
    values = items_of(spec, "test")[0]
    for m, (at, log_variance, image) in torch.load(spec.check).items():
        loc, raw = run.model.posterior.experts[m].net(values[m][: len(at)]).chunk(2, -1)
        torch.testing.assert_close((loc, raw), (at, log_variance), rtol=1e-4, atol=1e-4)
        decoded = run.model.decoders[m](at).mean
        torch.testing.assert_close(decoded, image, rtol=1e-4, atol=1e-4)


def main() -> None:
    spec = Spec.read()
    task, splits = TASKS[spec.task], splits_of(spec)
    run, names = run_of(spec, splits), list(SHAPES[task.data])
    check_weights(run, spec)
    torch.manual_seed(spec.seed)
    how = {
        "joint": {"metrics": ["joint_log_likelihood"]},
        "conditional": {"metrics": ["conditional_log_likelihood"], "subsets": [[GIVEN]]},
        "coherence": {"metrics": ["coherence_macro"], "subsets": subsets(names)},
    }[task.quantity]
    nets = classifiers(spec) if task.quantity == "coherence" else None

    def call() -> float:
        seed = int(torch.randint(2**31, ()))  # of the draws: another in each call
        table = evaluate(
            run, splits.test, classifiers=nets, save=False, samples=K, seed=seed, **how
        )
        rows = [
            r for r in table.records() if task.quantity != "conditional" or r["target"] == TARGET
        ]
        by_size: dict[int, list[float]] = {}
        for row in rows:
            by_size.setdefault(row["given"].count("+"), []).append(row["value"])
        return mean(mean(values) for values in by_size.values())

    timed(spec, call)


if __name__ == "__main__":
    main()
