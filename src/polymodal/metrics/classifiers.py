"""What a generated value shows: a classifier for each modality, trained once on the data set's own
values and kept.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

VERSION = "2"  # of what follows: classifiers of another version are trained anew
BATCH, STEPS, EPOCHS, RATE, DECAY, SHIFT = 256, 250, 1, 3e-3, 1e-2, 2


Part = tuple[Tensor, Tensor, Tensor]  # a table of values, rows of it, and their labels


class Classifier(nn.Module):
    """Logits for (B, *shape); `features` is all but the last layer: (B, `width`).

    Args:
        features: a network.
        width: of what it returns.
        outputs: number of classes, or of attributes.
    """

    def __init__(self, features: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.features, self.head = features, nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _block(a: int, b: int, kernel: int, padding: int = 0, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, stride, padding), nn.BatchNorm2d(b), nn.ReLU()]


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
        dense = lambda a, b: [nn.Linear(a, b), nn.BatchNorm1d(b), nn.Dropout(0.5)]
        net = nn.Sequential(
            *conv, *_block(64, 128, 4), nn.Flatten(), *dense(67712, 1024), *dense(1024, 512)
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
    """Logits by the nearest known value of each class; features are the values. Exact where there
    are few values.

    A network trained on sharp drawings mistakes the softened ones that decoders give; which drawing
    is nearest does not depend on how soft it is.
    """

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.features, self.head = nn.Flatten(), _Distances(values.flatten(1), labels)

    @staticmethod
    def of(part: Part, few: int = 256) -> Nearest | None:
        """One of all different values of `part`, if they are `few`, seen 4 times on average, each
        with one label.
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

    On the blurred means that decoders give, `compact` takes many digits for ones: of 1,000
    reconstructions of MNIST it knew 79 %, the paper's network 87 %. The paper's network for 32x32
    colour images has 70 million weights, minutes an epoch on two cores.
    """
    return "table8" if shape == (1, 28, 28) else "compact"


@dataclass(frozen=True)
class LabelClassifier:
    """Says what a value shows, and in which features; see `Classifiers`.

    Args:
        net: the classifier, or None where the values are the labels themselves (attributes in [0,
            1]).
        several: whether labels are vectors of attributes rather than classes.
        accuracy: on the test part: of samples, or of attributes.
        size: how many different values that part has.
    """

    net: Classifier | Nearest | None
    several: bool
    accuracy: float
    size: int = 0

    @torch.no_grad()
    def __call__(self, x: Tensor, precision: str | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, F) and labels, (B,) classes or (B, A) attributes 0 and 1, of x (B, *shape)."""
        if self.net is None:
            return x, (x > 0.5).long()
        with autocast(precision, x.device):
            features = self.net.features(_laid(x.to(self.net.head.weight.dtype)))
            logits = self.net.head(features)
        return features.float(), (logits > 0).long() if self.several else logits.argmax(-1)

    def to(self, device: torch.device | str) -> LabelClassifier:
        return self if self.net is None else replace(self, net=self.net.to(device))


@dataclass(frozen=True)
class Classifiers:
    """A `LabelClassifier` for every modality whose values tell the label.

    The labels are `Dataset.label`, or the attributes where there is none but one modality of
    attributes (a bernoulli vector), which then is its own judge.

    Args:
        judges: judges[m].
    """

    judges: Mapping[str, LabelClassifier]

    @property
    def accuracy(self) -> dict[str, float]:
        """Of each on the test part: what coherence can be measured up to."""
        return {m: judge.accuracy for m, judge in self.judges.items()}

    def to(self, device: torch.device | str) -> Classifiers:
        """All of them on `device`."""
        return Classifiers({m: judge.to(device) for m, judge in self.judges.items()})

    @classmethod
    def fit_or_load(
        cls,
        splits: Splits,
        *,
        network: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        device: torch.device | str = "cpu",
        steps: int | None = None,
        precision: str | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Classifiers:
        """Those of a data set: read from the cache, or trained on each different value of the
        training part.

        AdamW, one cycle up to a rate of 3e-3, batches of 256, 250 steps or one epoch, whichever is
        more; "compact" sees images shifted by up to 2 pixels; the weights of the fifth with the
        best validation accuracy are kept, the first that is perfect at once. Seeded: the same data
        gives the same classifiers. Give the whole data set, not a limited one.

        Args:
            network: "compact", or "table8" for the paper's; None: `Nearest` where a modality has
                few different values, the paper's for 28x28 grey images, else "compact".
            cache: the folder where they are kept; default "classifiers" in the user's cache
                directory.
            steps: of training, instead of the above.
            precision: "bf16" trains in bfloat16.
            progress: told in a line what is trained and how it turned out.

        Raises:
            ValueError: for data without labels, or an unknown network.
        """
        if network is not None and network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}.")
        own = attributes_of(splits.train)
        if splits.train.label is None and own is None:
            raise ValueError(
                f"The data set {splits.name!r} has no labels, so nothing can say what a generated"
                " value shows; give `label` to the Dataset, or leave the metrics that need it out."
            )
        folder = cache_folder() / "classifiers" if cache is None else Path(cache)
        judges: dict[str, LabelClassifier] = {}
        for m in splits.modalities:
            if m.name == own:
                judges[m.name] = LabelClassifier(None, True, 1.0)
                continue
            parts = [distinct(part, m.name) for part in (splits.train, splits.val, splits.test)]
            with own_random_state(torch.device(device)):
                judges[m.name] = _cached(
                    m,
                    parts,
                    folder,
                    splits.name,
                    network,
                    torch.device(device),
                    steps,
                    precision,
                    progress,
                )
        return cls(judges)


def attributes_of(data: Dataset) -> str | None:
    """The modality that serves as labels where the data has none: its only bernoulli vector."""
    found = [m.name for m in data.modalities if m.likelihood == "bernoulli" and len(m.shape) == 1]
    return found[0] if data.label is None and len(found) == 1 else None


def labels_of(data: Dataset, rows: Tensor | None = None) -> Tensor:
    """(N,) classes or (N, A) attributes of the samples `rows`, by default all. Raises ValueError if
    there are none.
    """
    rows = torch.arange(len(data), device=data.device) if rows is None else rows
    own = attributes_of(data)
    if data.label is not None:
        return data.label[rows]
    if own is None:
        raise ValueError(
            "The data has no labels; give `label` to the Dataset, or leave the metrics that need it"
            " out."
        )
    at = data.index[own][rows] if own in data.index else rows
    return (gather(data.tables[own], at) > 0.5).long()


def distinct(data: Dataset, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Table of modality `name`, the rows of it (n,) that samples hold, each once, and their labels."""
    at = data.index[name] if name in data.index else torch.arange(len(data), device=data.device)
    here = (
        data.present[name].nonzero().squeeze(1)
        if name in data.present
        else torch.arange(len(at), device=at.device)
    )
    rows, back = at[here].unique(return_inverse=True)
    first = torch.empty_like(rows).scatter_(0, back, here)
    return data.tables[name], rows, labels_of(data, first)


def _laid(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _key(m: Modality, parts: list[Part], network: str, steps: int | None) -> str:
    """A digest of all that the weights depend on."""
    digest = hashlib.sha256(f"{VERSION} {m.name} {m.shape} {network} {steps}".encode())
    for table, rows, labels in parts:
        values = table[rows].permute(0, 2, 3, 1) if table.dim() == 4 else table[rows]
        for part in (values, labels):
            digest.update(part.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _cached(
    m: Modality,
    parts: list[Part],
    folder: Path,
    name: str,
    network: str | None,
    device: torch.device,
    steps: int | None,
    precision: str | None,
    progress: Callable[[str], None] | None,
) -> LabelClassifier:
    labels = torch.cat([part[2] for part in parts])
    several = labels.dim() == 2
    if network is None and (nearest := Nearest.of(parts[0])) is not None:
        exact = _accuracy(nearest.to(device), parts[2], device, precision)
        return LabelClassifier(nearest.eval(), False, exact, len(parts[2][1]))
    network = network or _usual(m.shape)
    seed_all(torch.device("cpu"), "classifier", m.name)
    net = NETWORKS[network](m.shape, labels.shape[1] if several else int(labels.max()) + 1)
    file = folder / f"{Path(name).stem}-{m.name}-{_key(m, parts, network, steps)}.safetensors"
    accuracy = _read(file, net)
    if accuracy is None:
        tell = progress or log.info
        tell(f"Training the classifier of {m.name} on {len(parts[0][1])} different values, once.")
        net = net.to(device)
        _train(
            net, parts[0], parts[1], device, steps, precision, SHIFT if network == "compact" else 0
        )
        accuracy = _accuracy(net, parts[2], device, precision)
        tell(
            f"The classifier of {m.name} has test accuracy {accuracy:.3f} on {len(parts[2][1])}"
            " different values."
        )
        _write(file, net, accuracy)
    return LabelClassifier(
        net.to(device).eval().requires_grad_(False), several, accuracy, len(parts[2][1])
    )


def _read(file: Path, net: nn.Module) -> float | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as content:
            net.load_state_dict({k: content.get_tensor(k) for k in content.keys()})
            return float(content.metadata()["accuracy"])
    except (SafetensorError, RuntimeError, OSError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s) and made again.", file, error)
        return None


def _write(file: Path, net: nn.Module, accuracy: float) -> None:
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    try:
        with atomic(file) as temporary:
            save_file(state, temporary, {"accuracy": repr(accuracy)})
    except (
        OSError,
        SafetensorError,
    ) as error:  # then it is trained again next time, and nothing else is lost
        log.warning("%s cannot be written (%s).", file, error)


def shifted(x: Tensor, most: int) -> Tensor:
    """Images x (B, C, H, W) each moved by up to `most` pixels either way, borders repeated."""
    size, _, height, width = x.shape
    move = lambda n: (
        torch.arange(n, device=x.device) + torch.randint(-most, most + 1, (size, 1)).to(x.device)
    )
    i, j = (move(n).clamp(0, n - 1) for n in (height, width))
    sample = torch.arange(size, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[sample, i[:, :, None], j[:, None, :]].permute(0, 3, 1, 2)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.dim() == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def _order(n: int, size: int, steps: int) -> Iterator[Tensor]:
    """`steps` batches of `size` of n rows: one permutation after the other."""
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(n)])
        yield rows[:size]
        rows = rows[size:]


def _train(
    net: Classifier,
    train: Part,
    val: Part,
    device: torch.device,
    steps: int | None,
    precision: str | None,
    shift: int,
) -> None:
    table, rows, labels = train
    size = min(BATCH, len(rows))
    steps = steps or max(STEPS, math.ceil(EPOCHS * len(rows) / BATCH))
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.2
    )
    seed_all(device, "classifier", "steps")
    best, weights, every = -1.0, net.state_dict(), math.ceil(steps / 5)
    for step, pick in enumerate(_order(len(rows), size, steps), 1):
        net.train()
        pick = pick.to(rows.device)
        x = gather(table, rows[pick]).to(device)
        with autocast(precision, device):
            logits = net(
                _laid(shifted(x, shift) if shift and x.dim() == 4 and x.shape[-1] >= 16 else x)
            )
        optimizer.zero_grad()
        _loss(logits.float(), labels[pick].to(device)).backward()
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            accuracy = _accuracy(net, val, device, precision)
            if accuracy >= best:
                best, weights = accuracy, {k: v.clone() for k, v in net.state_dict().items()}
            if accuracy == 1:
                break
    net.load_state_dict(weights)


@torch.no_grad()
def _accuracy(
    net: Classifier | Nearest, part: Part, device: torch.device, precision: str | None
) -> float:
    table, rows, labels = part
    judge, right = LabelClassifier(net.eval(), labels.dim() == 2, 0.0), 0.0
    for pick in torch.arange(len(rows)).split(500):
        x = gather(table, rows[pick]).to(device)
        right += float(
            (judge(x, precision)[1].to(labels.device) == labels[pick]).double().mean()
        ) * len(pick)
    return right / len(rows)


def summary(classifiers: Classifiers) -> dict[str, Any]:
    """What metrics.json says of them."""
    return {m: round(value, 4) for m, value in classifiers.accuracy.items()}
