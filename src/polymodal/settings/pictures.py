"""The method and the training that are recommended for data with pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.data import Splits, kind_of
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.networks.images import is_image
from polymodal.settings.cost import epoch_seconds
from polymodal.settings.recommendation import Recommendation

MINUTES = 25  # of training on two CPU cores, at most, by an estimate
EPOCHS, EPOCHS_ON_GPU = 60, 200  # at most
LATENTS = ((500, 16), (5000, 32))  # samples up to which a latent has that size
LATENT = 64  # of more samples
SMALL, BATCHES = 5000, (32, 128)  # samples up to which batches are the smaller ones
TWICE = ("jnf", "jmvae_two_stage", "miwae")  # every sample is encoded twice
HIDE = 0.9  # share of the samples of which the encoder also reads a part
MIXED = "pictures beside other values: one encoder reads whatever a sample has"


def for_pictures(splits: Splits, method: str, reason: str) -> Recommendation:
    """The recommendation for data with pictures.

    Networks and epochs are those that a CPU bears, or, with a GPU, those of the kinds and many
    epochs. Pictures with tables, or of which samples lack some, take one encoder for every
    pattern, with one draw of the latent for each sample, since more draws are more pictures to
    decode; it learns from whole samples what a part of them says (`consensus`). Tables and texts
    have weights, since a picture has thousands of nats.

    Args:
        method, reason: for complete data of pictures and texts.
    """
    modalities, count = splits.modalities, len(splits.train)
    options: dict[str, Any] = {"latent": _latent(count), "hidden": 256}
    if _is_mixed(splits):
        method, reason = "miwae", MIXED
        options |= {"k": 1, "objective": "elbo", "hide": HIDE, "consensus": 1.0}
    on_gpu = torch.cuda.is_available()
    networks, weights = {} if on_gpu else _quick(modalities), _weights(modalities)
    training: dict[str, Any] = {
        "epochs": EPOCHS_ON_GPU,
        "batch": BATCHES[count > SMALL],
        "lr": 2e-3,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "schedule": "cosine",
        "warmup": 100,
        "clip": 5.0,
        "patience": 10,
    }
    if on_gpu:
        words = f"at most {EPOCHS_ON_GPU} epochs on a GPU; it stops at the best weights"
        return Recommendation(method, reason, options, training, words, networks, weights)
    seconds = epoch_seconds(modalities, networks, count, 1 + (method in TWICE))
    training |= _bounded(seconds, max(1, count // training["batch"]))
    words = _words(seconds, training)
    return Recommendation(method, reason, options, training, words, networks, weights)


def _is_mixed(splits: Splits) -> bool:
    """Whether there are tables, holes, or samples that lack a modality."""
    train = splits.train
    lacks = not all(bool(train.is_present(m).all()) for m in train.names)
    return lacks or any(m.kind == "table" or m.holes for m in splits.modalities)


def _latent(samples: int) -> int:
    return next((size for most, size in LATENTS if samples <= most), LATENT)


def _quick(modalities: Sequence[Modality]) -> dict[str, str]:
    """Networks that take a tenth of the time of those of the kinds, for pictures and sentences."""
    networks = {}
    for m in modalities:
        if kind_of(m).visual and is_image(m.shape):
            networks[m.name] = "image-conv"
        elif likelihood_of(m).words and kind_of(m).network(m) == "sentence-conv":
            networks[m.name] = "text-conv"
    return networks


def _weights(modalities: Sequence[Modality]) -> dict[str, float]:
    """Of what is no picture: the root of how many times as many values the largest picture has."""
    most = max(math.prod(m.shape) for m in modalities if kind_of(m).visual)
    sizes = {m.name: math.prod(m.shape) for m in modalities if not kind_of(m).visual}
    return {name: float(max(1, round(math.sqrt(most / size)))) for name, size in sizes.items()}


def _bounded(seconds: float, steps: int) -> dict[str, int]:
    """Epochs that fit into MINUTES; if not even one does, so many steps of it."""
    epochs = int(60 * MINUTES / seconds)
    if epochs:
        return {"epochs": min(EPOCHS, epochs)}
    return {"epochs": 1, "max_steps": max(1, int(steps * 60 * MINUTES / seconds))}


def _words(seconds: float, training: Mapping[str, Any]) -> str:
    """How long the training is, and how to have it longer."""
    epochs = training["epochs"]
    if "max_steps" in training:
        return (
            f"about {MINUTES} minutes on two cores by an estimate, less than one epoch; a GPU, or a"
            " smaller size of the pictures, trains more"
        )
    minutes = max(1, round(epochs * seconds / 60))
    return (
        f"at most about {minutes} min on two free cores by an estimate ({seconds:.0f} s an epoch);"
        " it stops at the best weights; more epochs train longer"
    )
