"""One training of `curves.py` with MultiVae, in the process that this starts, with the Python of an
environment that has it.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from curves_common import (
    HIDDEN,
    MAPS,
    METHODS,
    PRIOR,
    TASKS,
    FinishedError,
    Marks,
    Spec,
    key_of,
    test_values,
    write_draws,
)
from torch import Tensor

SPEC = Spec.read()
from peer_networks import PrivateEncoder, decoder, encoder, silence  # noqa: E402, I001
import multivae.models as models  # noqa: E402
from multivae.data.datasets import MultimodalBaseDataset  # noqa: E402
from multivae.models.nn.default_architectures import MultipleHeadJointEncoder  # noqa: E402
from multivae.trainers import (  # noqa: E402
    BaseTrainer,
    BaseTrainerConfig,
    MultistageTrainer,
    MultistageTrainerConfig,
)
from multivae.trainers.base.callbacks import TrainingCallback  # noqa: E402
from pythae.models.normalizing_flows import MAF, MAFConfig  # noqa: E402

TASK, PAIR = TASKS[SPEC.task], METHODS[SPEC.method]
ENDLESS = 10**6  # epochs
PIECE = 250  # test items of which draws are made at once


def model_of(modalities: dict[str, dict[str, Any]], first_stage: int = 0) -> Any:
    """The model with fresh weights; `first_stage`: epochs of the first of two stages."""
    torch.manual_seed(SPEC.seed)
    np.random.seed(SPEC.seed)
    shapes = {m: tuple(x["shape"]) for m, x in modalities.items()}
    latent = TASK.latent - (TASK.private if PAIR.private else 0)
    settings = dict(PAIR.settings)
    if PAIR.private:
        settings["modalities_specific_dim"] = TASK.private
    if PAIR.stages == 2:
        settings["warmup"] = first_stage
    config = getattr(models, f"{PAIR.theirs}Config")(
        n_modalities=len(shapes),
        latent_dim=latent,
        input_dims=shapes,
        decoders_dist={m: x["likelihood"] for m, x in modalities.items()},
        decoder_dist_params={m: {"scale": x["scale"]} for m, x in modalities.items()},
        uses_likelihood_rescaling=True,
        rescale_factors={m: x["weight"] for m, x in modalities.items()},
        **settings,
    )
    if PAIR.private:
        encoders = {m: PrivateEncoder(s, latent, TASK.private) for m, s in shapes.items()}
    else:
        encoders = {m: encoder(s, latent) for m, s in shapes.items()}
    decoders = {m: decoder(s, TASK.latent) for m, s in shapes.items()}
    more: dict[str, Any] = {}
    if PAIR.stages == 2:
        more["joint_encoder"] = MultipleHeadJointEncoder(encoders, config, 512, n_hidden_layers=1)
        flow = MAFConfig((latent,), MAPS, n_hidden_in_made=1, hidden_size=HIDDEN)
        more["flows"] = {m: MAF(flow) for m in shapes}
    made = getattr(models, PAIR.theirs)(config, encoders=encoders, decoders=decoders, **more)
    made.device = "cpu"
    return made


class Clock(TrainingCallback):
    """Tells the marks of every step."""

    def __init__(self, marks: Marks) -> None:
        self.marks, self.trainer = marks, None

    def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
        self.marks.step(self.trainer.model)


def train(model: Any, data: MultimodalBaseDataset, marks: Marks) -> None:
    """The library's trainer until the last mark; the time runs from its construction."""
    trainer, config = (
        (BaseTrainer, BaseTrainerConfig)
        if PAIR.stages == 1
        else (MultistageTrainer, MultistageTrainerConfig)
    )
    clock = Clock(marks)
    with silence(), tempfile.TemporaryDirectory() as folder:
        how = config(
            output_dir=folder,
            num_epochs=ENDLESS,
            per_device_train_batch_size=TASK.batch,
            learning_rate=TASK.lr,
            no_cuda=True,
            seed=SPEC.seed,
            steps_saving=None,
            drop_last=True,
        )
        clock.trainer = trainer(model, data, training_config=how, callbacks=[clock])
        try:
            clock.trainer.train()
        except FinishedError:
            return


@torch.no_grad()
def drawn(model: Any) -> dict[str, Tensor]:
    """One draw for each test item and place, and as many joint samples."""
    values, found = test_values(SPEC), {}
    for given in TASK.subsets():
        targets = [m for m in TASK.networks if m not in given]
        parts = []
        for k in range(0, TASK.items, PIECE):
            some = MultimodalBaseDataset({m: x[k : k + PIECE] for m, x in values.items()})
            parts.append(model.predict(some, cond_mod=list(given), gen_mod=targets))
        found |= {key_of(given, m): torch.cat([p[m] for p in parts]) for m in targets}
    joint = model.decode(model.generate_from_prior(TASK.items))
    return found | {f"{PRIOR}->{m}": joint[m] for m in TASK.networks}


def draws_of(model: Any) -> dict[str, Tensor]:
    """The draws of a copy, with the stream of random numbers left as it was."""
    with torch.random.fork_rng(devices=[]), silence():
        torch.manual_seed(SPEC.seed)
        return drawn(deepcopy(model).eval())


def one_stage(modalities: dict[str, dict[str, Any]], data: MultimodalBaseDataset) -> None:
    def reached(mark: float, model: Any, steps: int) -> None:
        write_draws(SPEC, mark, draws_of(model), [steps])

    made = model_of(modalities)
    train(made, data, Marks(list(SPEC.minutes), reached))


def two_stages(modalities: dict[str, dict[str, Any]], data: MultimodalBaseDataset) -> None:
    """As in `curves_ours.py`."""
    firsts: list[tuple[float, dict[str, Tensor], int]] = []

    def kept(mark: float, model: Any, steps: int) -> None:
        firsts.append((2 * mark, deepcopy(model.state_dict()), steps))

    made = model_of(modalities, first_stage=ENDLESS)
    train(made, data, Marks([m / 2 for m in SPEC.minutes], kept))
    for minutes, state, before in firsts:
        second = model_of(modalities)
        second.load_state_dict(state)

        def reached(mark: float, model: Any, steps: int, before: int = before) -> None:
            write_draws(SPEC, 2 * mark, draws_of(model), [before, steps])

        train(second, data, Marks([minutes / 2], reached))


if __name__ == "__main__":
    import json

    described = json.loads((SPEC.arrays / "modalities.json").read_text())
    arrays = {m: torch.from_numpy(np.load(SPEC.arrays / f"train-{m}.npy")) for m in described}
    tuples = MultimodalBaseDataset(arrays)
    (one_stage if PAIR.stages == 1 else two_stages)(described, tuples)
