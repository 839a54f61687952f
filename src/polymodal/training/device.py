"""Devices, precision and processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from polymodal.settings.schema import TrainingSettings


def make_fabric(training: TrainingSettings, precision: str = "32-true") -> Any:
    """Lightning Fabric: the device, the precision, and, under torchrun, the processes."""
    from lightning_fabric import Fabric  # in the function, since importing it takes seconds

    present = ["auto", "cpu"]
    present += ["cuda"] if torch.cuda.is_available() else []
    present += ["mps"] if torch.backends.mps.is_available() else []
    if training.device not in present:
        raise ValueError(
            f"training.device={training.device} cannot be used on this machine, which has"
            f" {', '.join(present)}."
        )
    processes, local = _processes()
    try:
        fabric = Fabric(
            accelerator=training.device,
            devices=local,
            num_nodes=processes // local,
            precision=precision,  # type: ignore[arg-type]
            strategy="ddp" if processes > 1 else "auto",
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"training.device={training.device} cannot be used: {reason}") from None
    fabric.launch()
    return fabric


def _processes() -> tuple[int, int]:
    """The number of processes, in all and on this machine."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        return 1, 1
    return int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, if `wanted`, torch uses only deterministic kernels where there are any."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
