"""The method and the training that are recommended for a data set, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from polymodal.batch import Modality
from polymodal.data import Splits, kind_of
from polymodal.settings.pictures import for_pictures
from polymodal.settings.recommendation import Recommendation

HALF = 0.5
MOSTLY_MISSING = 0.25  # share of values that are missing
SEVERAL = 4  # modalities
STEPS, LONGEST = 4000, 8000  # most steps of a table's training: of few samples, and of many
PASSES, CHECKS = 90, 50  # epochs for which there are more than STEPS; steps between validations
SMALL, BATCHES = 5000, (64, 256)  # samples up to which batches are the smaller ones
ROWS = 20_000  # the same of tables
LATENTS = (4, 20)  # least and largest latent of tables
WIDE = 500  # values of a modality above which many draws of the latent are slow to decode
ROUNDS, ENOUGH, EVERY = 1500, 30, 25  # steps and epochs of vectors' training, steps between checks
UNLIKE = 5  # times that a modality is larger than another, above which it would outweigh it


USUAL = {"epochs": 60, "batch": 128, "lr": 1e-3, "patience": 8}
VECTORS = (None, "vector", "counts")
USUALLY = "the best weights on validation data are kept"


def recommended(splits: Splits) -> Recommendation:
    """The method for a data set, by its kinds of data, the number of modalities, and what is
    missing.

    >>> from polymodal.data import load_data
    >>> recommended(load_data("shapes", n=100)).method
    'jnf'
    """
    if any(kind_of(m).visual for m in splits.modalities):
        return for_pictures(splits, *_by_presence(splits))
    if _is_tabular(splits.modalities):
        return _for_tables(splits)
    method, reason = _by_presence(splits)
    if all(m.kind in VECTORS and len(m.shape) == 1 for m in splits.modalities):
        return _for_vectors(splits, method, reason)
    return Recommendation(method, reason, {}, USUAL, USUALLY)


def _is_tabular(modalities: Sequence[Modality]) -> bool:
    """Whether there is a table, or a modality with holes, and neither texts nor a wide vector,
    whose decoders are too slow for many draws of the latent.
    """
    has_holes = any(m.kind == "table" or m.holes for m in modalities)
    return has_holes and all(m.kind != "text" and math.prod(m.shape) <= WIDE for m in modalities)


def _for_vectors(splits: Splits, method: str, reason: str) -> Recommendation:
    """A number of steps, however few the samples are; of modalities of unlike sizes the smaller
    ones weigh more.
    """
    count = len(splits.train)
    batch = BATCHES[count > SMALL]
    each = max(1, count // batch)
    epochs = max(ENOUGH, math.ceil(ROUNDS / each))
    every = max(1, EVERY // each)
    training = {
        "epochs": epochs,
        "batch": batch,
        "lr": 1e-3,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "patience": 8,
        "eval_every": every,
    }
    sizes = [math.prod(m.shape) for m in splits.modalities]
    options = {}
    if max(sizes) > UNLIKE * min(sizes):
        options = {"rescale": "root"}
        reason += "; small modalities weigh more, large ones do not decide alone"
    because = f"at most {epochs * each:,} steps a stage; {USUALLY}"
    return Recommendation(method, reason, options, training, because)


def _for_tables(splits: Splits) -> Recommendation:
    """MIWAE, trained for a number of steps, however few the samples are, and more of many."""
    count, columns = len(splits.train), sum(math.prod(m.shape) for m in splits.modalities)
    batch = BATCHES[count > ROWS]
    each = max(1, count // batch)
    epochs = math.ceil(min(LONGEST, max(STEPS, PASSES * each)) / each)
    training = {
        "epochs": epochs,
        "batch": batch,
        "lr": 2e-3,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": min(200, STEPS // 10),
        "clip": 5.0,
        "patience": 15,
        "eval_every": max(1, CHECKS // each),
    }
    least, largest = LATENTS
    options = {"latent": min(largest, max(least, columns)), "hidden": 128}
    reason = "tables or entries that are missing: it learns from what each sample has"
    steps = f"at most {epochs * each:,} steps; it stops at the best weights on validation data"
    return Recommendation("miwae", reason, options, training, steps)


def _by_presence(splits: Splits) -> tuple[str, str]:
    """The method and the reason, by the numbers of modalities and of samples that lack some."""
    train = splits.train
    present = torch.stack([train.is_present(m) for m in train.names], 1)
    complete, missing = present.all(1).float().mean().item(), 1 - present.float().mean().item()
    count = len(train.names)
    if count == 1:
        return "vae", "one modality, whose entries share one latent"
    if complete < HALF and count == 2:
        return "meme", f"only {complete:.0%} of the samples have both, and it uses the others"
    if count == 2:
        return "jnf", "two modalities, mostly paired; jnf_dcca is worth a try after"
    if missing > MOSTLY_MISSING:
        return "jmvae_two_stage", f"{count} modalities, {missing:.0%} of the values missing"
    if count <= SEVERAL:
        return "jmvae_two_stage", f"{count} modalities: best from several given"
    return "mvtcae", f"{count} modalities: one product of experts, quick to train"
