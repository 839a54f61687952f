"""Devices, precision and processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from polymodal.runs.checkpointer import Checkpointer
from polymodal.settings.schema import TrainingSettings


def _machine(training: TrainingSettings, precision: str) -> Any:
    """Lightning Fabric: the device, the precision, and, under torchrun, the processes."""
    from lightning.fabric import Fabric  # here, since importing it takes seconds

    world = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if world > 1 else 1
    try:
        fabric = Fabric(
            accelerator=training.device,
            devices=local,
            num_nodes=world // local,
            precision=precision,  # type: ignore[arg-type]
            strategy="ddp" if world > 1 else "auto",
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"training.device={training.device} cannot be used: {' '.join(str(error).split())}"
        ) from None
    fabric.launch()
    return fabric


def _loggers(training: TrainingSettings, keeper: Checkpointer) -> list[Any]:
    """Loggers besides log.csv. Raises ValueError if the package is missing."""
    if training.logger is None or keeper.target is None:
        return []
    try:
        if training.logger == "tensorboard":
            from lightning.fabric.loggers import TensorBoardLogger

            return [TensorBoardLogger(str(keeper.target), name="", version="")]
        from lightning.pytorch.loggers import WandbLogger

        return [WandbLogger(project="polymodal", save_dir=str(keeper.target))]
    except ImportError:
        raise ValueError(
            f"training.logger={training.logger} needs a package: pip install 'polymodal[track]'."
        ) from None


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch uses deterministic kernels alone, where there are such."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
