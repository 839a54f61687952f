"""Hashes of tensors: of the weights of a model, or the samples of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from polymodal.data.dataset import Dataset
from polymodal.data.rows import in_parts


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors by name, such as the weights of a model."""
    return hashlib.sha256(packed(tensors)).hexdigest()


def digests_of(data: Dataset) -> dict[str, Tensor]:
    """For each modality the sha256 (32,) of the values of all samples, of which a part is in memory
    at a time.
    """
    digests = {}
    for m, table in data.tables.items():
        digest = hashlib.sha256()
        for _, x in in_parts(table, data.rows_of(m).to(table.device)):
            digest.update(x.contiguous().cpu().numpy().tobytes())
        digests[m] = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
    return digests


def packed(tensors: Mapping[str, Tensor], words: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file of copies on the CPU, which share no memory."""
    state = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    return safetensors.torch.save(state, words)
