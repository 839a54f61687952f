"""Loggers in addition to log.csv: TensorBoard, and Weights & Biases. They get every row of the log,
and pictures of draws at the end of each stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset
from polymodal.data.kinds import kind_of, mosaic
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all
from polymodal.settings.schema import TrainingSettings

GIVEN, DRAWS = 6, 3  # samples given in a picture, and draws below each


class Logger(Protocol):
    """What takes the figures and pictures of a run."""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...
    def picture(self, name: str, pixels: np.ndarray, step: int) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Writes event files into `directory`/tensorboard, for `tensorboard --logdir`."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(directory / "tensorboard"))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Writes figures by name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Writes a picture (H, W, 3), uint8."""
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        self.writer.close()


class WandB:
    """A run of the project "polymodal" with the name of the run directory; WANDB_MODE=offline
    keeps it in `directory`/wandb.
    """

    def __init__(self, directory: Path) -> None:
        import wandb

        self.wandb: Any = wandb
        try:
            self.run: Any = wandb.init(project="polymodal", name=directory.name, dir=str(directory))
        except wandb.errors.Error as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise ValueError(
                f"training.logger=wandb did not start: {reason}. Run wandb login, or set"
                " WANDB_MODE=offline."
            ) from None

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Sends figures by name."""
        self.run.log({**values, "step": step})

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Sends a picture (H, W, 3), uint8."""
        self.run.log({name: self.wandb.Image(pixels), "step": step})

    def close(self) -> None:
        """Sends what is left."""
        self.run.finish()


LOGGERS: dict[str, Callable[[Path], Logger]] = {"tensorboard": TensorBoard, "wandb": WandB}


@contextmanager
def open_loggers(training: TrainingSettings, directory: Path | None) -> Iterator[list[Logger]]:
    """The loggers that the settings name, which write into `directory`; none without one.

    Raises ValueError if the package of the logger is missing.
    """
    if training.logger is None or directory is None:
        yield []
        return
    try:
        logger = LOGGERS[training.logger](directory)
    except ImportError:
        raise ValueError(
            f"training.logger={training.logger} needs a package: pip install 'polymodal[track]'."
        ) from None
    try:
        yield [logger]
    finally:
        logger.close()


def log_draws(
    loggers: Sequence[Logger], stage: str, model: MultimodalVAE, data: Dataset, step: int
) -> None:
    """Gives the loggers pictures of what the model draws at the end of a stage: given everything,
    each single modality, and nothing. The random state is left as it was.

    Args:
        data: validation samples.
    """
    if not loggers:
        return
    everywhere = torch.stack([data.is_present(m) for m in data.names]).all(0)
    device = next(model.parameters()).device
    batch = data.batch(everywhere.nonzero().squeeze(1)[:GIVEN]).to(device)
    with own_random_state(device):
        for given in ([], *([m] for m in data.names), data.names):
            seed_all(device, 0, stage, "pictures", *given)
            pixels = _draws(model, batch, given)
            if pixels is not None:
                name = "+".join(given) if given else "nothing"
                for logger in loggers:
                    logger.picture(f"{stage}/given {name}", pixels, step)


def _draws(model: MultimodalVAE, batch: Batch, given: Sequence[str]) -> np.ndarray | None:
    """The given values, and draws of every modality below each; None where the model has no
    answer.
    """
    if given and not len(batch):
        return None
    try:
        if given:
            drawn = model.generate(batch.only(given), n=DRAWS)
        else:  # joint samples (GIVEN, 1, ...), side by side
            drawn = {m: x.transpose(0, 1) for m, x in model.generate(n=GIVEN).items()}
    except ValueError:  # such as a part that a later stage trains
        return None
    modalities = {m.name: m for m in model.modalities}
    rows = [(m, batch.x[m]) for m in given]
    rows += [(m, draw) for m, draws in drawn.items() for draw in draws]
    shown = [_shown(modalities[m], x, batch) for m, x in rows]
    return mosaic(shown, gap_after=len(given))


def _shown(modality: Any, x: torch.Tensor, batch: Batch) -> torch.Tensor:
    kind, known = kind_of(modality), batch.x.get(modality.name)
    span = kind.span(x if known is None or not len(known) else known, modality)
    return kind.show(x, modality, span)
