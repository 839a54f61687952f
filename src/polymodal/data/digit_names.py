"""MNIST, SVHN and the names of their digits."""

from __future__ import annotations

from dataclasses import replace

import torch

from polymodal.batch import END, UNKNOWN, Modality
from polymodal.checks import Depth, FilePath
from polymodal.data.dataset import Dataset
from polymodal.data.digits import mnist_svhn
from polymodal.data.splits import Splits
from polymodal.data.words import ids_of

NAMES = "zero one two three four five six seven eight nine".split()
LENGTH = 8  # characters
# The authors' 71 characters without their second "-" and their end of line; <end> and <unk> make
# it as many again.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"\\/|_@#$%^&*~`+=<>()[]{} "
TEXT = Modality(
    "text", (LENGTH,), "tokens", kind="text", vocabulary=(END, UNKNOWN, *sorted(ALPHABET))
)


def mnist_svhn_text(
    *,
    path: FilePath | None = None,
    matchings: Depth = 5,
    val: float | None = None,
    fresh: bool = False,
    seed: int = 0,
) -> Splits:
    """MNIST and SVHN digits of equal label, and the English name of the digit (Sutter et al. 2020,
    2021).

    The name begins at a random one of 8 places, spaces before it, such that at least one place
    follows it, as in the authors' code. There a text is drawn anew each time, and the spaces after
    the name count in its log-density; here a pair of digits keeps its text, which ends after the
    name. Other options are those of `mnist_svhn`.
    """
    splits = mnist_svhn(path=path, matchings=matchings, val=val, fresh=fresh, seed=seed)
    texts = [[" " * k + name for k in range(LENGTH - len(name))] for name in NAMES]
    table = ids_of([text for same in texts for text in same], TEXT)
    counts = torch.tensor([len(same) for same in texts])
    first = counts.cumsum(0) - counts

    def named(part: str, data: Dataset) -> Dataset:
        generator = torch.Generator().manual_seed(3 * seed + len(part))
        digit = torch.tensor([int(c) for c in data.classes])[data.label]
        start = torch.rand(len(data), generator=generator) * counts[digit]
        return replace(
            data,
            modalities=[*data.modalities, TEXT],
            tables={**data.tables, "text": table},
            index={**data.index, "text": first[digit] + start.long()},
        )

    return splits.map(named)
