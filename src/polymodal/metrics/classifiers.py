"""Classifiers that read the label from a value: one for each modality, trained once on the data
set's values and kept in a cache.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset, Splits, gather
from polymodal.data.readers.files import atomic, cache_folder
from polymodal.metrics.likelihood import autocast
from polymodal.rng import own_random_state, seed_all

log = logging.getLogger("polymodal")

VERSION = "2"  # of this file: classifiers of another version are trained again
BATCH, STEPS, EPOCHS, RATE, DECAY, SHIFT = 256, 250, 1, 3e-3, 1e-2, 2

CPU = torch.device("cpu")

Part = tuple[Tensor, Tensor, Tensor]  # a table of values, rows of it, and their labels


class Classifier(nn.Module):
    """Logits for (B, *shape); `features` is all but the last layer.

    Args:
        features: (B, *shape) -> (B, width).
        width: number of features.
        outputs: number of classes, or of attributes.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _block(a: int, b: int, kernel: int, padding: int = 0, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, stride, padding), nn.BatchNorm2d(b), nn.ReLU()]


def _dense(a: int, b: int) -> list[nn.Module]:
    return [nn.Linear(a, b), nn.BatchNorm1d(b), nn.Dropout(0.5)]


def compact(shape: tuple[int, ...], outputs: int) -> Classifier:
    """Five 3x3 convolutions with pooling for images, one hidden layer for anything else; 512
    features.
    """
    if len(shape) != 3 or min(shape[1:]) < 16:
        net: list[nn.Module] = [
            nn.Flatten(),
            nn.Linear(math.prod(shape), 512),
            nn.ReLU(),
            nn.Dropout(0.5),
        ]
        return Classifier(nn.Sequential(*net), 512, outputs)
    wide = min(shape[1:]) >= 48
    net = [
        *_block(shape[0], 32, 5 if wide else 3, 2 if wide else 1, 2 if wide else 1),
        nn.MaxPool2d(2),
    ]
    net += [*_block(32, 64, 3, 1), *_block(64, 64, 3, 1), nn.MaxPool2d(2)]
    net += [*_block(64, 128, 3, 1), *_block(128, 128, 3, 1), nn.MaxPool2d(2), nn.Flatten()]
    trunk = nn.Sequential(*net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        size = trunk.eval()(torch.zeros(1, *shape)).shape[1]
    trunk.extend([nn.Linear(size, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.5)])
    return Classifier(trunk, 512, outputs)


def table8(shape: tuple[int, ...], outputs: int) -> Classifier:
    """Senellart et al. (2023), Table 8, for 28x28 grey and 32x32 colour images; `compact` for
    others.
    """
    conv = [*_block(shape[0], 32, 4), *_block(32, 64, 4)] if len(shape) == 3 else []
    if shape == (1, 28, 28):
        net = nn.Sequential(*conv, nn.Flatten(), nn.Linear(30976, 512), nn.Dropout(0.5))
    elif shape == (3, 32, 32):
        net = nn.Sequential(
            *conv, *_block(64, 128, 4), nn.Flatten(), *_dense(67712, 1024), *_dense(1024, 512)
        )
    else:
        return compact(shape, outputs)
    return Classifier(net.to(memory_format=torch.channels_last), 512, outputs)  # type: ignore[call-overload]


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
    """Logits by the nearest training value of each class; the values are the features. Exact for
    data with few different values.

    A network trained on sharp drawings misclassifies the blurred ones that decoders give; the
    nearest drawing does not depend on the blur.
    """

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.features, self.head = nn.Flatten(), _Distances(values.flatten(1), labels)

    @staticmethod
    def of(part: Part, few: int = 256) -> Nearest | None:
        """A classifier by all different values of `part`, if they are at most `few`, occur 4 times
        on average, and have one label each; else None.
        """
        table, rows, labels = part
        if labels.dim() > 1 or len(table[rows[: 4 * few]].flatten(1).unique(dim=0)) > few:
            return None
        values, kind = table[rows].flatten(1).unique(dim=0, return_inverse=True)
        owner = torch.zeros(len(values), dtype=torch.long).scatter_(0, kind, labels)
        if len(values) > min(few, len(rows) / 4) or not torch.equal(owner[kind], labels):
            return None
        return Nearest(gather(values, torch.arange(len(values))), owner)


NETWORKS: dict[str, Callable[[tuple[int, ...], int], Classifier]] = {
    "compact": compact,
    "table8": table8,
}


def _usual(shape: tuple[int, ...]) -> str:
    """The network by shape: the paper's for 28x28 grey images, `compact` for others.

    On the blurred means that decoders give, `compact` takes many digits for ones. The paper's
    network for 32x32 colour images has 70 million weights, too many for a CPU.
    """
    return "table8" if shape == (1, 28, 28) else "compact"


@dataclass(frozen=True)
class LabelClassifier:
    """Features and label of a value; see `Classifiers`.

    Args:
        net: the classifier, or None if the values are the labels themselves (attributes in [0,
            1]).
        several: whether labels are vectors of attributes rather than classes.
        accuracy: on the test part: of samples, or of attributes.
        size: number of different values in that part.
    """

    net: Classifier | Nearest | None
    several: bool
    accuracy: float
    size: int = 0

    @torch.no_grad()
    def __call__(self, x: Tensor, precision: str | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, F) and labels of x (B, *shape): (B,) classes or (B, A) attributes 0, 1."""
        if self.net is None:
            return x, (x > 0.5).long()
        with autocast(precision, x.device):
            features = self.net.features(_laid(x.to(self.net.head.weight.dtype)))
            logits = self.net.head(features)
        return features.float(), (logits > 0).long() if self.several else logits.argmax(-1)

    def to(self, device: torch.device | str) -> LabelClassifier:
        return self if self.net is None else replace(self, net=self.net.to(device))


@dataclass(frozen=True)
class TrainingOptions:
    """How classifiers are trained.

    Args:
        network: "compact", or "table8" for the paper's; None: `Nearest` if a modality has few
            different values, the paper's for 28x28 grey images, else "compact".
        steps: number of optimiser steps; None: 250 or one epoch, whichever is more.
        precision: "bf16" trains in bfloat16.
        device: where they are trained.

    Raises:
        ValueError: for an unknown network.
    """

    network: str | None = None
    steps: int | None = None
    precision: str | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.network is not None and self.network not in NETWORKS:
            names = ", ".join(NETWORKS)
            raise ValueError(f"network must be one of {names}, got {self.network!r}.")


@dataclass(frozen=True)
class Classifiers:
    """A `LabelClassifier` for every modality.

    The labels are `Dataset.label`; without it, the data's only modality of attributes (a bernoulli
    vector), whose values are then their own labels.

    Args:
        by_modality: the classifier of each modality.
    """

    by_modality: Mapping[str, LabelClassifier]

    def classifier_of(self, target: str) -> LabelClassifier:
        """The classifier of a modality. Raises ValueError if there is none."""
        if target not in self.by_modality:
            raise ValueError(
                f"There is no classifier for {target!r}, only for {list(self.by_modality)}; give"
                " `classifiers`, or a data set with labels."
            )
        return self.by_modality[target]

    @property
    def accuracy(self) -> dict[str, float]:
        """The accuracy of each on the test part, which bounds the coherence that can be seen."""
        return {m: classifier.accuracy for m, classifier in self.by_modality.items()}

    def to(self, device: torch.device | str) -> Classifiers:
        """All of them on `device`."""
        return Classifiers({m: c.to(device) for m, c in self.by_modality.items()})

    @classmethod
    def fit_or_load(
        cls,
        splits: Splits,
        training: TrainingOptions | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Classifiers:
        """The classifiers of a data set: read from the cache, or trained on each different value of
        the training part.

        AdamW, one cycle up to a rate of 3e-3, batches of 256. "compact" sees images shifted by up
        to 2 pixels. Validation takes place after every fifth of the steps; the weights with the
        best accuracy are kept, and training stops at a perfect one. Seeded: the same data gives the
        same classifiers. Give the whole data set, not a limited one.

        Args:
            training: network, steps, precision, device.
            cache: the folder where they are kept; default "classifiers" in the user's cache
                directory.
            progress: called with a line on each classifier that is trained, and its accuracy.

        Raises:
            ValueError: for data without labels.
        """
        attributes = attributes_of(splits.train)
        if splits.train.label is None and attributes is None:
            raise ValueError(
                f"The data set {splits.name!r} has no labels, so generated values cannot be judged;"
                " give `label` to the Dataset, or leave out the metrics that need it."
            )
        trainer = _Trainer(
            training or TrainingOptions(),
            cache_folder() / "classifiers" if cache is None else Path(cache),
            Path(splits.name).stem,
            progress or log.info,
        )
        classifiers: dict[str, LabelClassifier] = {}
        for m in splits.modalities:
            if m.name == attributes:
                classifiers[m.name] = LabelClassifier(None, True, 1.0)
                continue
            parts = [distinct(part, m.name) for part in (splits.train, splits.val, splits.test)]
            with own_random_state(trainer.options.device):
                classifiers[m.name] = trainer.classifier(m, parts)
        return cls(classifiers)


def attributes_of(data: Dataset) -> str | None:
    """The modality that serves as labels where the data has none: its only bernoulli vector."""
    vectors = [m.name for m in data.modalities if m.likelihood == "bernoulli" and len(m.shape) == 1]
    return vectors[0] if data.label is None and len(vectors) == 1 else None


def labels_of(data: Dataset, rows: Tensor | None = None) -> Tensor:
    """(N,) classes or (N, A) attributes of the samples `rows`, by default all. Raises ValueError if
    there are none.
    """
    rows = torch.arange(len(data), device=data.device) if rows is None else rows
    if data.label is not None:
        return data.label[rows]
    attributes = attributes_of(data)
    if attributes is None:
        raise ValueError(
            "The data has no labels; give `label` to the Dataset, or leave out the metrics that"
            " need it."
        )
    return (gather(data.tables[attributes], data.rows_of(attributes, rows)) > 0.5).long()


def distinct(data: Dataset, name: str) -> Part:
    """The table of a modality, its rows (n,) that samples hold, each once, and their labels."""
    samples = data.is_present(name).nonzero().squeeze(1)
    rows, place = data.rows_of(name, samples).unique(return_inverse=True)
    holder = torch.empty_like(rows).scatter_(0, place, samples)  # a sample that holds the row
    return data.tables[name], rows, labels_of(data, holder)


def _laid(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _key(m: Modality, parts: list[Part], network: str, steps: int | None) -> str:
    """A digest of everything that the weights depend on."""
    digest = hashlib.sha256(f"{VERSION} {m.name} {m.shape} {network} {steps}".encode())
    for table, rows, labels in parts:
        values = table[rows].permute(0, 2, 3, 1) if table.dim() == 4 else table[rows]
        for part in (values, labels):
            digest.update(part.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Trainer:
    """Trains classifiers, or reads them from files of `folder` whose names begin with `name`."""

    options: TrainingOptions
    folder: Path
    name: str
    tell: Callable[[str], None]

    def classifier(self, m: Modality, parts: list[Part]) -> LabelClassifier:
        """The classifier of a modality, from its training, validation and test values."""
        device, precision = self.options.device, self.options.precision
        labels = torch.cat([part[2] for part in parts])
        several, size = labels.dim() == 2, len(parts[2][1])
        nearest = Nearest.of(parts[0]) if self.options.network is None else None
        if nearest is not None:
            accuracy = _accuracy(nearest.to(device), parts[2], device, precision)
            return LabelClassifier(nearest.eval(), False, accuracy, size)
        outputs = labels.shape[1] if several else int(labels.max()) + 1
        net, accuracy = self._network(m, parts, outputs)
        return LabelClassifier(net.eval().requires_grad_(False), several, accuracy, size)

    def _network(self, m: Modality, parts: list[Part], outputs: int) -> tuple[Classifier, float]:
        """A network with its test accuracy: read from the file, or trained and written."""
        network = self.options.network or _usual(m.shape)
        seed_all(CPU, "classifier", m.name)
        net = NETWORKS[network](m.shape, outputs)
        key = _key(m, parts, network, self.options.steps)
        file = self.folder / f"{self.name}-{m.name}-{key}.safetensors"
        accuracy = _read(file, net)
        if accuracy is None:
            accuracy = self._trained(m, net.to(self.options.device), parts, network)
            _write(file, net, accuracy)
        return net.to(self.options.device), accuracy

    def _trained(self, m: Modality, net: Classifier, parts: list[Part], network: str) -> float:
        """The test accuracy of a network after training it."""
        train, val, test = parts
        sizes = len(train[1]), len(test[1])
        self.tell(f"Training the classifier of {m.name} on {sizes[0]} different values, once.")
        _train(net, train, val, self.options, SHIFT if network == "compact" else 0)
        accuracy = _accuracy(net, test, self.options.device, self.options.precision)
        self.tell(
            f"The classifier of {m.name} has test accuracy {accuracy:.3f} on {sizes[1]} different"
            " values."
        )
        return accuracy


def _read(file: Path, net: nn.Module) -> float | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as content:
            net.load_state_dict({k: content.get_tensor(k) for k in content.keys()})
            return float(content.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, OSError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s); the classifier is trained again.", file, error)
        return None


def _write(file: Path, net: nn.Module, accuracy: float) -> None:
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    try:
        with atomic(file) as temporary:
            save_file(state, temporary, {"accuracy": repr(accuracy)})
    except (OSError, SafetensorError) as error:
        message = "%s cannot be written (%s); the classifier will be trained again next time."
        log.warning(message, file, error)


def shifted(x: Tensor, most: int) -> Tensor:
    """Images x (B, C, H, W), each moved by up to `most` pixels either way; borders are repeated."""
    size, _, height, width = x.shape
    i = _moved(size, height, most).to(x.device)
    j = _moved(size, width, most).to(x.device)
    sample = torch.arange(size, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[sample, i[:, :, None], j[:, None, :]].permute(0, 3, 1, 2)


def _moved(size: int, n: int, most: int) -> Tensor:
    """The pixels 0..n-1 moved by a random number up to `most`, for each of `size` images."""
    return (torch.arange(n) + torch.randint(-most, most + 1, (size, 1))).clamp(0, n - 1)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.dim() == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def _order(n: int, size: int, steps: int) -> Iterator[Tensor]:
    """`steps` batches of `size` rows out of n, from one permutation after the other."""
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(n)])
        yield rows[:size]
        rows = rows[size:]


def _train(net: Classifier, train: Part, val: Part, options: TrainingOptions, shift: int) -> None:
    """Trains a network; it ends with the weights that have the best validation accuracy."""
    rows = train[1]
    steps = options.steps or max(STEPS, math.ceil(EPOCHS * len(rows) / BATCH))
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.2
    )
    seed_all(options.device, "classifier", "steps")
    best, weights, every = -1.0, net.state_dict(), math.ceil(steps / 5)
    for step, pick in enumerate(_order(len(rows), min(BATCH, len(rows)), steps), 1):
        optimizer.zero_grad()
        _batch_loss(net.train(), train, pick.to(rows.device), options, shift).backward()
        optimizer.step()
        schedule.step()
        if step % every and step < steps:
            continue
        accuracy = _accuracy(net, val, options.device, options.precision)
        if accuracy >= best:
            best, weights = accuracy, {k: v.clone() for k, v in net.state_dict().items()}
        if accuracy == 1:
            break
    net.load_state_dict(weights)


def _batch_loss(
    net: Classifier, part: Part, pick: Tensor, options: TrainingOptions, shift: int
) -> Tensor:
    """The mean loss of the values `pick` of a part, images moved by up to `shift` pixels."""
    table, rows, labels = part
    x = gather(table, rows[pick]).to(options.device)
    if shift and x.dim() == 4 and x.shape[-1] >= 16:
        x = shifted(x, shift)
    with autocast(options.precision, options.device):
        logits = net(_laid(x))
    return _loss(logits.float(), labels[pick].to(options.device))


@torch.no_grad()
def _accuracy(
    net: Classifier | Nearest, part: Part, device: torch.device, precision: str | None
) -> float:
    """The share of values, or of attributes, whose label a network finds."""
    table, rows, labels = part
    classifier, right = LabelClassifier(net.eval(), labels.dim() == 2, 0.0), 0.0
    for pick in torch.arange(len(rows)).split(500):
        shown = classifier(gather(table, rows[pick]).to(device), precision)[1]
        agrees = (shown.to(labels.device) == labels[pick]).double()
        right += float(agrees.mean()) * len(pick)
    return right / len(rows)
