"""The memory that a run takes, estimated before its first step.

The estimate counts weights, gradients, the optimiser's averages and the values of one batch. It is
meant to refuse what is too large by orders of magnitude, not to be exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.checks import check_memory
from polymodal.model import Method, decoded_size
from polymodal.runs.run import build
from polymodal.runs.tensors import Budget
from polymodal.settings.resolve import to_dict
from polymodal.settings.schema import Settings, StageSettings

SMALL = 2**25  # weights that are made without a look at the memory
COPIES = 5  # of the weights: gradients, the optimiser's averages, those that are kept
POSITIONS = 16  # of an image, at least, at which a convolution has a value


def built(settings: Settings, modalities: Sequence[Modality], samples: int) -> Method:
    """The method that settings name, with weights from torch's global random stream.

    Args:
        samples: for training.

    Raises ValueError, before it takes the memory, for a run that needs more than there is.
    """
    before = torch.get_rng_state()
    try:
        with Budget(SMALL, _TooLargeError()):
            method = build(to_dict(settings), modalities)
    except _TooLargeError:
        torch.set_rng_state(before)
        with torch.device("meta"):
            check_run(settings, build(to_dict(settings), modalities), samples)
        torch.set_rng_state(before)
        method = build(to_dict(settings), modalities)
    return method


def check_run(settings: Settings, method: Method, samples: int) -> None:
    """Raises ValueError if a stage of the run needs more memory than there is, or than
    training.memory_gb.

    Args:
        samples: for training.
    """
    most = settings.training.memory_gb
    model = sum(p.numel() * p.element_size() for p in method.model.parameters())
    for stage in method.stages:
        chosen = settings.training.stage(stage.name)
        draws = int(settings.method.options.get("k", 1))
        batch = draws * _of_batch(method, chosen, samples)
        check_memory(
            COPIES * model + batch,
            f"Stage {stage.name!r} needs",
            f"lower {largest(settings, samples)}, or raise training.memory_gb",
            None if most is None else 1e9 * most,
        )


def _of_batch(method: Method, settings: StageSettings, samples: int) -> int:
    """Bytes of the values of one batch and of the layers that it passes, with their gradients."""
    values = sum(decoded_size(m) for m in method.model.modalities)
    weights = [p.shape for p in method.model.parameters() if p.dim() > 1]
    layers = sum(shape[0] * (POSITIONS if len(shape) > 2 else 1) for shape in weights)
    return 8 * min(settings.batch, samples) * (values + layers)


def largest(settings: Settings, samples: int) -> str:
    """The size that is the largest whole number, of the method's options or the samples of a batch,
    as an override writes it.
    """
    batch = settings.training.batch
    sizes = [(f"training.batch={batch}", min(batch, samples))]
    sizes += [(f"{k}={v}", v) for k, v in _numbers(to_dict(settings)["method"], "method")]
    return max(sizes, key=lambda size: size[1])[0]


@contextmanager
def explained(settings: Settings, samples: int) -> Iterator[None]:
    """Inside, a lack of memory is raised as ValueError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        raise ValueError(
            f"There is not enough memory to train; lower {largest(settings, samples)}, data.limit"
            " or training.batch."
        ) from None


def _numbers(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """The whole numbers in nested settings, with their paths."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int):
        yield path, value


class _TooLargeError(Exception):
    """More memory was asked for than was allowed."""
