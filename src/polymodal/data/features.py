"""Features of a frozen encoder: computed once, and turned back into samples by retrieval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from polymodal.checks import Count, FilePath, checked, shown
from polymodal.checks.files import atomic, disk_errors
from polymodal.data.readers.archives import read_arrays

AT_A_TIME = 4096  # vectors whose similarities are computed at once


def encode(
    encoder: Callable[[Any], Any],
    values: Any,
    *,
    batch: int = 64,
    cache: FilePath | None = None,
) -> np.ndarray:
    """The features (N, d), float32, that an encoder gives N values.

    Args:
        encoder: `encoder(some)`, of a slice of `values`, gives an array or tensor (n, d). A
            `torch.nn.Module` is put into evaluation mode, and runs without gradients.
        values: N of them: an array, a tensor, or a list such as of texts.
        batch: how many the encoder gets at a time.
        cache: an .npz file in which the features are kept. They are computed again if the values
            or the weights of a module are others; of other encoders, take another file for
            another encoder.

    Raises ValueError in one sentence for features that are no finite vectors, one for each value.

    >>> encode(lambda x: x * 2, np.ones((3, 2), np.float32)).shape
    (3, 2)
    """
    mark = _mark(encoder, values)
    if cache is not None and (kept := _kept(Path(cache), mark)) is not None:
        return kept
    found = np.concatenate(list(_encoded(encoder, values, batch)))
    if len(found) != len(values) or not np.isfinite(found).all():
        raise ValueError(
            f"The encoder must give one vector of finite numbers for each of {len(values)} values,"
            f" got an array of shape {found.shape}, {int((~np.isfinite(found)).sum())} of its"
            " numbers not finite."
        )
    if cache is not None:
        _keep(Path(cache), found, mark)
    return found


def _encoded(encoder: Callable[[Any], Any], values: Any, batch: int) -> Iterator[np.ndarray]:
    """The features of some values at a time."""
    if not len(values):
        raise ValueError("There are no values to encode; give one or more.")
    if isinstance(encoder, nn.Module):
        encoder.eval()
    for start in range(0, len(values), batch):
        with torch.no_grad():
            some = encoder(values[start : start + batch])
        x = some.detach().cpu().numpy() if isinstance(some, Tensor) else np.asarray(some)
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            raise ValueError(
                f"The encoder must give vectors (n, d) of real numbers, got shape {x.shape}; make"
                " one vector of each value, for example by a mean."
            )
        yield x.astype(np.float32)


def _mark(encoder: Any, values: Any) -> str:
    """In what features differ: the values, and the weights of a module."""
    told = hashlib.sha256()
    if isinstance(encoder, nn.Module):
        for name, weight in encoder.state_dict().items():
            told.update(name.encode() + _bytes(weight))
    told.update(_bytes(values))
    return told.hexdigest()


def _bytes(values: Any) -> bytes:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    array = np.asarray(values)
    about = f"{array.dtype} {array.shape}".encode()
    return about + (repr(list(values)).encode() if array.dtype == object else array.tobytes())


def _kept(cache: Path, mark: str) -> np.ndarray | None:
    """The features in a file, if they are of these values."""
    if not cache.is_file():
        return None
    arrays = read_arrays(cache)
    if not {"features", "mark"} <= arrays.keys():
        held = shown(sorted(arrays))
        raise ValueError(f"{cache} is no cache of features, it holds {held}; name another file.")
    return arrays["features"] if str(arrays["mark"]) == mark else None


def _keep(cache: Path, found: np.ndarray, mark: str) -> None:
    with disk_errors(cache, "written"), atomic(cache) as beside, open(beside, "wb") as file:
        np.savez(file, features=found, mark=np.array(mark))


@checked
def nearest(x: Tensor, table: Tensor, k: Count = 1) -> Tensor:
    """The places (..., k) of the rows of a table (N, d) that are most similar to vectors (..., d)
    by the cosine, the most similar first: the training samples that stand for generated features.

    Raises ValueError for vectors of another size, and k above N.

    >>> nearest(torch.tensor([[2.0, 0.1]]), torch.eye(2)).tolist()
    [[0]]
    """
    if x.shape[-1:] != table.shape[1:] or k > len(table):
        raise ValueError(
            f"Vectors (..., {table.shape[-1]}) are looked up in a table of {len(table)} rows, k of"
            f" them, got vectors of shape {tuple(x.shape)} and k={k}."
        )
    rows, flat = normalize(table.float(), dim=1), normalize(x.float().flatten(0, -2), dim=1)
    found: Sequence[Tensor] = [(some @ rows.T).topk(k).indices for some in flat.split(AT_A_TIME)]
    return torch.cat(list(found)).reshape(*x.shape[:-1], k)
