"""Training of classifiers, and the cache in which they are kept."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from polymodal.batch import Modality, escaped
from polymodal.checks import check_memory
from polymodal.checks.files import write
from polymodal.data.hashing import packed
from polymodal.metrics.classifier_networks import (
    NETWORKS,
    Classifier,
    Nearest,
    classifier_of,
    default_network,
    folded,
)
from polymodal.metrics.decoding import Precision, autocast
from polymodal.metrics.labels import LabelledValues
from polymodal.networks.augment import shifted
from polymodal.rng import seed_all

log = logging.getLogger("polymodal")

VERSION = "2"  # of what this module computes: classifiers of another version are trained anew
BATCH, STEPS, EPOCHS, RATE, DECAY = 256, 250, 1, 3e-3, 1e-2
COPIES = 5  # of the weights, in memory: gradients, two averages, the best so far
CHECKS = 5  # validations in the course of the training
SHIFT, SMALLEST_SHIFTED = 2, 16  # pixels; images of at least that size are shifted


@dataclass(frozen=True)
class ClassifierTraining:
    """How classifiers are trained.

    Args:
        network: "compact", or "senellart-cnn", that of the paper; None: `Nearest` where a modality
            has few different values, the paper's for 28x28 grey images, else "compact".
        steps: number of steps; None: 250 or one epoch, whichever is more.
        device: the device on which they are trained.

    Raises ValueError for an unknown network.
    """

    network: str | None = None
    steps: int | None = None
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.network is not None and self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}.")


@dataclass(frozen=True)
class LabelClassifier:
    """Gives the label that a value shows, and the features from which it is read.

    Args:
        net: the classifier, or None where the values are the labels themselves (attributes in [0,
            1]).
        several: whether labels are vectors of attributes rather than classes.
        accuracy: on the test part: the share of samples, or of attributes.
        size: number of different values in the test part.
    """

    net: Classifier | Nearest | None
    several: bool
    accuracy: float
    size: int = 0

    @torch.no_grad()
    def __call__(self, x: Tensor, precision: Precision | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, F) of x (B, *shape), and its labels: (B,) classes or (B, A) attributes 0 and
        1.
        """
        if self.net is None:
            return x, (x > 0.5).long()
        with autocast(precision, x.device):
            features = self.net.features(_channels_last(x.to(self.net.head.weight.dtype)))
            logits = self.net.head(features)
        return features.float(), (logits > 0).long() if self.several else logits.argmax(-1)

    def to(self, device: torch.device | str) -> LabelClassifier:
        return self if self.net is None else replace(self, net=self.net.to(device))

    def folded(self) -> LabelClassifier:
        """The same classifier for many values, see `classifier_networks.folded`."""
        return replace(self, net=folded(self.net)) if isinstance(self.net, Classifier) else self


@dataclass(frozen=True)
class ClassifierCache:
    """The folder in which the classifiers of a data set are kept.

    Args:
        folder: it is made if it does not exist.
        name: the data set's name, or the path of its file.
        progress: is called with a line for each network that is trained; None: the log.
    """

    folder: Path
    name: str
    progress: Callable[[str], None] | None = None

    def tell(self, line: str) -> None:
        (self.progress or log.info)(line)

    def file(
        self, m: Modality, parts: Sequence[LabelledValues], network: str, steps: int | None
    ) -> Path:
        """The file of a modality's classifier, named by all that its weights depend on."""
        digest = hashlib.sha256(f"{VERSION} {m.name} {m.shape} {network} {steps}".encode())
        for table, rows, labels in parts:
            values = table[rows].permute(0, 2, 3, 1) if table.dim() == 4 else table[rows]
            for tensor in (values, labels):
                digest.update(tensor.contiguous().cpu().numpy().tobytes())
        key = digest.hexdigest()[:16]
        return self.folder / f"{escaped(Path(self.name).stem)}-{escaped(m.name)}-{key}.safetensors"


def fit_or_read(
    m: Modality,
    parts: Sequence[LabelledValues],
    training: ClassifierTraining,
    cache: ClassifierCache,
) -> LabelClassifier:
    """The classifier of modality m, read from the cache or trained.

    Args:
        parts: the different values of the training, validation and test part.
    """
    train, _, test = parts
    device, several, size = torch.device(training.device), train.labels.dim() == 2, len(test.rows)
    nearest = None if training.network or m.vocabulary else Nearest.of(train)
    if nearest is not None:
        accuracy = accuracy_of(nearest.to(device), test, device)
        return LabelClassifier(nearest.eval(), False, accuracy, size)
    training = replace(training, network=training.network or default_network(m.shape))
    net, accuracy = _read_or_trained(m, parts, training, cache)
    net = net.to(device).eval().requires_grad_(False)
    return LabelClassifier(net, several, accuracy, size)


def _read_or_trained(
    m: Modality,
    parts: Sequence[LabelledValues],
    training: ClassifierTraining,
    cache: ClassifierCache,
) -> tuple[Classifier, float]:
    """The network and its test accuracy."""
    train, val, test = parts
    val = val if len(val.rows) else train
    network, device = training.network or "", torch.device(training.device)
    seed_all(torch.device("cpu"), "classifier", m.name)
    net = classifier_of(m, network, _outputs(parts))
    file = cache.file(m, parts, network, training.steps)
    if (accuracy := _read(file, net)) is not None:
        return net, accuracy
    size = sum(p.numel() for p in net.parameters())
    cache.tell(
        f"Training the classifier of {m.name} ({network}, {size:,} weights) on"
        f" {len(train.rows)} different values, once."
    )
    check_memory(
        COPIES * 4 * size,
        f"The classifier {network} of {m.name!r} needs",
        f"leave {m.name} out of evaluation.classifiers, or take compact",
    )
    net = net.to(device)
    train_network(net, train, val, training)
    accuracy = accuracy_of(net, test, device)
    cache.tell(
        f"The classifier of {m.name} has test accuracy {accuracy:.3f} on {len(test.rows)}"
        " different values."
    )
    _write(file, net, accuracy)
    return net, accuracy


def _outputs(parts: Sequence[LabelledValues]) -> int:
    """The number of classes, or of attributes."""
    labels = torch.cat([part.labels for part in parts])
    return labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1


def _read(file: Path, net: nn.Module) -> float | None:
    """Reads the weights, and returns the accuracy; None if there is no file or it is damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as content:
            net.load_state_dict({k: content.get_tensor(k) for k in content.keys()})
            return float(content.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, OSError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s) and is made again.", file, error)
        return None


def _write(file: Path, net: nn.Module, accuracy: float) -> None:
    """Writes the weights and the accuracy; if it fails, the network is trained again next time."""
    try:
        write(file, packed(net.state_dict(), {"accuracy": repr(accuracy)}))
    except ValueError as error:
        log.warning("%s", error)


@dataclass
class _Best:
    """The weights of a network with the best accuracy so far, the last of equals."""

    weights: dict[str, Tensor]
    accuracy: float = -1.0

    def consider(self, net: nn.Module, accuracy: float) -> None:
        if accuracy >= self.accuracy:
            self.accuracy = accuracy
            self.weights = {k: v.clone() for k, v in net.state_dict().items()}


def train_network(
    net: Classifier, train: LabelledValues, val: LabelledValues, training: ClassifierTraining
) -> None:
    """Trains a network, and leaves it with the weights of the best validation accuracy."""
    device, count = torch.device(training.device), len(train.rows)
    steps = training.steps or max(STEPS, math.ceil(EPOCHS * count / BATCH))
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    rise = 0.25 if steps == 5 else 0.2  # OneCycleLR divides by steps * rise - 1
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=rise)
    seed_all(device, "classifier", "steps")
    best = _Best(net.state_dict())
    for step, which in enumerate(_order(count, min(BATCH, count), steps), 1):
        optimizer.zero_grad()
        _loss(net, train, which.to(train.rows.device), training).backward()
        optimizer.step()
        cycle.step()
        if step % math.ceil(steps / CHECKS) == 0 or step == steps:
            best.consider(net, accuracy_of(net, val, device))
            if best.accuracy == 1:
                break
    net.load_state_dict(best.weights)


def _order(n: int, size: int, steps: int) -> Iterator[Tensor]:
    """`steps` batches of `size` of n rows: one permutation after the other."""
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(n)])
        yield rows[:size]
        rows = rows[size:]


def _augmented(x: Tensor, shift: int) -> Tensor:
    """Images of at least SMALLEST_SHIFTED pixels moved by up to `shift` pixels in each direction,
    other values as they are.
    """
    if not shift or x.dim() != 4 or x.shape[-1] < SMALLEST_SHIFTED:
        return x
    return shifted(x, torch.randint(-shift, shift + 1, (2, len(x), 1)).to(x.device))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _loss(
    net: nn.Module, data: LabelledValues, which: Tensor, training: ClassifierTraining
) -> Tensor:
    """The mean cross entropy of the values `which`, in training mode."""
    net.train()
    device, shift = torch.device(training.device), SHIFT if training.network == "compact" else 0
    x = _channels_last(_augmented(data.values(which).to(device), shift))
    labels = data.labels[which].to(device)
    logits = net(x)
    if labels.dim() == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


@torch.no_grad()
def accuracy_of(
    net: Classifier | Nearest,
    data: LabelledValues,
    device: torch.device,
) -> float:
    """The share of values, or of attributes, whose label a network finds; NaN of none."""
    classifier = LabelClassifier(net.eval(), data.labels.dim() == 2, 0.0)
    right = 0.0
    for which in torch.arange(len(data.rows)).split(500):
        _, predicted = classifier(data.values(which).to(device))
        correct = (predicted.to(data.labels.device) == data.labels[which]).double().mean()
        right += float(correct) * len(which)
    return right / len(data.rows) if len(data.rows) else math.nan
