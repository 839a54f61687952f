"""MNIST, SVHN and Fashion-MNIST matched by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import Depth, FilePath
from polymodal.data.dataset import Dataset
from polymodal.data.readers.digits import Part, idx_digits, svhn_digits
from polymodal.data.splits import Splits

# log p(x) of a 28 x 28 image counts as much as that of a 3 x 32 x 32 one (Wu & Goodman 2018; Shi et
# al. 2019).
BALANCE = 3 * 32 * 32 / (28 * 28)

TRIES = 100  # exchanges of entries that look for a matching without repeats


def match(
    labels: Sequence[Tensor],
    generator: torch.Generator,
    times: int = 5,
    per_label: int = 10_000,
    fresh: bool = False,
) -> list[Tensor]:
    """Random matchings of samples with one label: rows[k] (P,) of data set k, such that all
    labels[k][rows[k]] are equal.

    For each label, the first n samples of every data set, where n is the smallest count and at most
    `per_label`, are permuted `times` times, so that each occurs in exactly `times` tuples, with as
    many different samples of each other data set where there are enough; the tuples are then
    shuffled (Shi et al. 2019; Senellart et al. 2023, section 5.2). With `fresh`,
    the samples that take part are drawn anew: of the N with a label, each occurs in times n / N
    tuples, rounded down or up, so that all of a larger data set are used if times n >= N.

    Raises ValueError if the data sets have no label in common.

    >>> labels = [torch.tensor([0, 1, 1]), torch.tensor([1, 0])]
    >>> a, b = match(labels, torch.Generator().manual_seed(0), times=1)
    >>> sorted(zip(a.tolist(), b.tolist()))
    [(0, 1), (1, 0)]
    """
    tuples: list[list[Tensor]] = []
    for value in labels[0].unique():
        same = [(label == value).nonzero().squeeze(1) for label in labels]
        if n := min(per_label, *map(len, same)):
            pools = same if fresh else [samples[:n] for samples in same]
            tuples.append(_paired(pools, times * n, generator))
    if not tuples:
        raise ValueError("The data sets have no label in common, so nothing can be matched.")
    matched = [torch.cat(r) for r in zip(*tuples, strict=True)]
    order = torch.randperm(len(matched[0]), generator=generator)
    return [r[order] for r in matched]


def _paired(pools: Sequence[Tensor], count: int, generator: torch.Generator) -> list[Tensor]:
    """`count` entries of each pool, in random order, with as few repeated pairs as there can be."""
    first, *others = [_permuted(pool, count, generator) for pool in pools]
    return [first, *(_without_repeats(first, other, generator) for other in others)]


def _without_repeats(first: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """`other` with some entries exchanged, so that no pair (first, other) occurs twice, as far as
    that is possible.
    """
    for _ in range(TRIES):
        pairs = first * (int(other.max()) + 1) + other
        order = pairs.argsort(stable=True)
        repeats = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
        if not len(repeats):
            break
        partners = torch.randperm(len(other), generator=generator)[: len(repeats)]
        places = torch.cat([repeats, partners]).unique()
        moved = places[torch.randperm(len(places), generator=generator)]
        other = other.index_copy(0, places, other[moved])
    return other


def _permuted(pool: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` entries of `pool`: random permutations of it, one after the other."""
    rounds = -(-count // len(pool))
    drawn = [pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)]
    return torch.cat(drawn)[:count]


def hold_out(parts: Mapping[str, Part], share: float) -> dict[str, Part]:
    """The parts with the last `share` of the training images as "val": contiguous, since neighbours
    in SVHN are digits of one house.
    """
    images, labels = parts["train"]
    keep = len(images) - round(share * len(images))
    return {
        "train": (images[:keep], labels[:keep]),
        "val": (images[keep:], labels[keep:]),
        "test": parts["test"],
    }


def matched_splits(
    name: str,
    modalities: Sequence[Modality],
    digits: Sequence[Mapping[str, Part]],
    share: float,
    times: int,
    fresh: bool,
    seed: int,
) -> Splits:
    """Modalities matched by label: modality k has the images of digits[k], of which the last
    `share` of the training part are held out for validation; see `match`.

    Raises ValueError for a share or a number of matchings out of range.
    """
    if not 0 < share < 1 or times < 1:
        raise ValueError(
            f"{name} needs 0 < val < 1 and matchings >= 1, got val {share} and matchings {times}."
        )
    split = [hold_out(parts, share) for parts in digits]

    def part(k: int, which: str) -> Dataset:
        # A generator for each part: the test tuples do not depend on how many are held out for
        # validation.
        labels = [parts[which][1] for parts in split]
        rows = match(labels, torch.Generator().manual_seed(3 * seed + k), times, fresh=fresh)
        images = [parts[which][0] for parts in split]
        return _dataset(modalities, images, rows, labels[0][rows[0]])

    return Splits(part(0, "train"), part(1, "val"), part(2, "test"), name)


def _dataset(
    modalities: Sequence[Modality], images: Sequence[Tensor], rows: Sequence[Tensor], label: Tensor
) -> Dataset:
    """A data set of which sample i has image rows[k][i] of images[k] in modality k."""
    names = [m.name for m in modalities]
    tables = dict(zip(names, images, strict=True))
    return Dataset(modalities, tables, dict(zip(names, rows, strict=True)), label=label)


def _grey(name: str, weight: float) -> Modality:
    return Modality(name, (1, 28, 28), link="sigmoid", weight=weight)


def _svhn(path: FilePath | None, val: float | None) -> tuple[Mapping[str, Part], float]:
    """SVHN's digits, and the share held out for validation."""
    svhn, packed = svhn_digits(path)
    default = 0.1 if packed else 0.04
    return svhn, default if val is None else val


SVHN_IMAGE = Modality("svhn", (3, 32, 32), link="sigmoid")


def mnist_svhn(
    *,
    path: FilePath | None = None,
    matchings: Depth = 5,
    val: float | None = None,
    fresh: bool = False,
    seed: int = 0,
) -> Splits:
    """MNIST and SVHN digits of equal label (Senellart et al. 2023, section 5.2).

    Digits are matched `matchings` times. The likelihoods are the paper's: normals of scale 1 around
    a sigmoid, MNIST's weighted by 3072 / 784. `val` is the share of the training *images* held out
    for validation, so that no image is in two parts: by default 4 % of the official files (about
    the 10,000 pairs of the paper) and 10 % of the packed 10,000 images (see
    `polymodal.data.readers.digits.svhn_digits`). As in the paper, as many images of a digit are
    used as the smaller set has, the same ones in each matching; with `fresh` they are drawn anew,
    so that enough matchings use all of the larger set (see `match`).
    """
    svhn, share = _svhn(path, val)
    modalities = [_grey("mnist", BALANCE), SVHN_IMAGE]
    digits = [idx_digits("mnist", path), svhn]
    return matched_splits("mnist-svhn", modalities, digits, share, matchings, fresh, seed)


def mnist_fashion(
    *,
    path: FilePath | None = None,
    matchings: Depth = 5,
    val: float = 0.04,
    fresh: bool = False,
    seed: int = 0,
) -> Splits:
    """MNIST digits and Fashion-MNIST garments, digit k with class k; see `mnist_svhn`."""
    modalities = [_grey("mnist", 1.0), _grey("fashion", 1.0)]
    digits = [idx_digits("mnist", path), idx_digits("fashion-mnist", path)]
    return matched_splits("mnist-fashion", modalities, digits, val, matchings, fresh, seed)


def mnist_svhn_fashion(
    *,
    path: FilePath | None = None,
    matchings: Depth = 5,
    val: float | None = None,
    fresh: bool = False,
    seed: int = 0,
) -> Splits:
    """MNIST, SVHN and Fashion-MNIST matched by class (Senellart et al. 2023, appendix D.3).

    Options are those of `mnist_svhn`.
    """
    svhn, share = _svhn(path, val)
    modalities = [_grey("mnist", BALANCE), SVHN_IMAGE, _grey("fashion", BALANCE)]
    digits = [idx_digits("mnist", path), svhn, idx_digits("fashion-mnist", path)]
    return matched_splits("mnist-svhn-fashion", modalities, digits, share, matchings, fresh, seed)
