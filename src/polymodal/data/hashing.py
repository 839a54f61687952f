"""Hashes of tensors: of the weights of a model, or the samples of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors by name, such as the weights of a model."""
    return hashlib.sha256(packed(tensors)).hexdigest()


def packed(tensors: Mapping[str, Tensor], words: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file of copies on the CPU, which share no memory."""
    state = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    return safetensors.torch.save(state, words)
