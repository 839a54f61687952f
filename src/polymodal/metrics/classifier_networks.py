"""Networks that classify the values of a modality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from polymodal.batch import Modality
from polymodal.checks import check_name, check_names
from polymodal.data.rows import gather
from polymodal.metrics.labels import LabelledValues
from polymodal.networks.layers import relu
from polymodal.networks.text import Words

FEW = 256  # different values of a modality up to which `Nearest` classifies them
WIDE = 48  # image sizes from which `compact` begins with a stride


class Classifier(nn.Module):
    """Logits for (B, *shape); `features` is all but the last layer: (B, `width`).

    Args:
        features: a network.
        width: number of features.
        outputs: number of classes, or of attributes.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _block(a: int, b: int, kernel: int, padding: int = 0, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, stride, padding), nn.BatchNorm2d(b), relu()]


def _pooled_block(a: int, b: int, kernel: int, padding: int, stride: int = 1) -> list[nn.Module]:
    """A block with pooling before its ReLU: the same numbers and gradients, from a quarter of the
    ReLU's work.
    """
    *layers, last = _block(a, b, kernel, padding, stride)
    return [*layers, nn.MaxPool2d(2), last]


def _channels_last(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _hidden_layer(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.5))


def compact(shape: tuple[int, ...], outputs: int) -> Classifier:
    """Five 3x3 convolutions with pooling for images, one hidden layer for anything else; 512
    features.
    """
    if len(shape) != 3 or min(shape[1:]) < 16:
        return Classifier(_hidden_layer(math.prod(shape)), 512, outputs)
    wide = min(shape[1:]) >= WIDE
    net = _pooled_block(shape[0], 32, 5, 2, 2) if wide else _pooled_block(shape[0], 32, 3, 1)
    net += [*_block(32, 64, 3, 1), *_pooled_block(64, 64, 3, 1)]
    net += [*_block(64, 128, 3, 1), *_pooled_block(128, 128, 3, 1), nn.Flatten()]
    trunk = nn.Sequential(*net)
    _channels_last(trunk)
    with torch.no_grad():
        size = trunk.eval()(torch.zeros(1, *shape)).shape[1]
    trunk.extend([nn.Linear(size, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.5)])
    return Classifier(trunk, 512, outputs)


class _WordFeatures(nn.Module):
    """Ids (B, L) -> (B, 128): the largest value of each feature of three neighbouring words (Kim
    2014).
    """

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = Words(words, 64)
        self.layers = nn.Sequential(nn.Conv1d(64, 128, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.words(x).transpose(1, 2)).amax(-1)


def classifier_of(m: Modality, network: str, outputs: int) -> Classifier:
    """The network of that name for a modality; for text one that reads words, whatever the name."""
    if m.vocabulary:
        return Classifier(_WordFeatures(len(m.vocabulary)), 128, outputs)
    return NETWORKS[network](m.shape, outputs)


def _dense(a: int, b: int) -> list[nn.Module]:
    return [nn.Linear(a, b), nn.BatchNorm1d(b), nn.Dropout(0.5)]


def senellart_cnn(shape: tuple[int, ...], outputs: int) -> Classifier:
    """Senellart et al. (2023), Table 8, for 28x28 grey and 32x32 colour images; `compact` for
    others.
    """
    first = [*_block(shape[0], 32, 4), *_block(32, 64, 4)] if len(shape) == 3 else []
    if shape == (1, 28, 28):
        last: list[nn.Module] = [nn.Flatten(), nn.Linear(30976, 512), nn.Dropout(0.5)]
    elif shape == (3, 32, 32):
        last = [*_block(64, 128, 4), nn.Flatten(), *_dense(67712, 1024), *_dense(1024, 512)]
    else:
        return compact(shape, outputs)
    return Classifier(_channels_last(nn.Sequential(*first, *last)), 512, outputs)


def folded(net: Classifier) -> Classifier:
    """The same function as a classifier in evaluation mode, up to rounding, with fewer passes over
    memory: a batch normalisation is part of the weights of the convolution or linear layer before
    it.
    """
    if not isinstance(net.features, nn.Sequential) or net.training:
        return net
    layers: list[nn.Module] = []
    for layer in net.features:
        before = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(before, layer)
        elif isinstance(layer, nn.BatchNorm1d) and isinstance(before, nn.Linear):
            layers[-1] = fuse_linear_bn_eval(before, layer)
        else:
            layers.append(layer)
    with torch.device("meta"):  # a head without values, in whose place that of `net` comes
        whole = Classifier(nn.Sequential(*layers), net.head.in_features, net.head.out_features)
    whole.features, whole.head = _channels_last(whole.features), net.head
    return whole.eval()


class _Distances(nn.Module):
    """(B, F) -> (B, classes): minus the distance to the nearest of each class's `weight` (T, F)."""

    weight: Tensor
    labels: Tensor

    def __init__(self, weight: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor) -> Tensor:
        distance = torch.cdist(x, self.weight)
        logits = distance.new_full((len(x), int(self.labels.max()) + 1), -math.inf)
        return logits.scatter_reduce(1, self.labels.expand(len(x), -1), -distance, "amax")


class Nearest(nn.Module):
    """Logits by the nearest known value of each class; features are the values. Exact for
    modalities with few different values.

    A network that was trained on sharp drawings mistakes the softened ones that decoders give; the
    nearest drawing does not depend on how soft it is.
    """

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.features, self.head = nn.Flatten(), _Distances(values.flatten(1), labels)

    @staticmethod
    def of(data: LabelledValues, few: int = FEW) -> Nearest | None:
        """The classifier by all different values of `data`, if they are at most `few`, occur 4
        times on average, and have one label each; else None.
        """
        table, rows, labels = data
        if labels.dim() > 1 or len(table[rows[: 4 * few]].flatten(1).unique(dim=0)) > few:
            return None
        values, kind = table[rows].flatten(1).unique(dim=0, return_inverse=True)
        label_of_kind = torch.zeros(len(values), dtype=torch.long).scatter_(0, kind, labels)
        several_labels = not torch.equal(label_of_kind[kind], labels)
        if several_labels or len(values) > min(few, len(rows) / 4):
            return None
        return Nearest(gather(values, torch.arange(len(values))), label_of_kind)


NETWORKS: dict[str, Callable[[tuple[int, ...], int], Classifier]] = {
    "compact": compact,
    "senellart-cnn": senellart_cnn,
}


# The shapes that networks were made for; the others take any.
SHAPES = {"senellart-cnn": ((1, 28, 28), (3, 32, 32))}


def check_networks(chosen: Mapping[str, str], modalities: Sequence[Modality]) -> None:
    """Raises ValueError for networks of unknown modalities, unknown networks (with the nearest),
    and networks that were made for other shapes.

    Args:
        chosen: {modality: a key of NETWORKS}.
    """
    shapes = {m.name: m.shape for m in modalities}
    check_names(chosen, shapes, "evaluation.classifiers")
    for name, network in chosen.items():
        check_name(network, NETWORKS, "classifier network", f" for modality {name!r}")
        if shapes[name] not in SHAPES.get(network, (shapes[name],)):
            raise ValueError(
                f"The classifier network {network} is for values of shape"
                f" {' or '.join(map(str, SHAPES[network]))}, and {name!r} has {shapes[name]}; leave"
                f" {name} out of evaluation.classifiers, or take compact."
            )


def default_network(shape: tuple[int, ...]) -> str:
    """The name of the network for a shape: the paper's for 28x28 grey images, else `compact`.

    On the blurred means that decoders give, `compact` takes more digits for ones than the
    paper's network does. The paper's network for 32x32 colour images has 70 million weights, too
    many to train on a CPU.
    """
    return "senellart-cnn" if shape == (1, 28, 28) else "compact"
