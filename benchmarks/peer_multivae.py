"""One task with MultiVae 1.0.3 (github.com/AgatheSenellart/MultiVae), in the process that this
starts; JSON on stdout.

    python peer_multivae.py train_jnf    # with the Python of an environment that has multivae

The networks are those of Table 4 of Senellart et al. (2023), as in `speed.py`; all else is the
library's own: its trainer, its sampler with its settings, its likelihoods. See README.md for what
each task times.
"""

from __future__ import annotations

import logging
import tempfile

import torch
from common import (
    FAMILIES,
    PAIR,
    SHAPES,
    TRIPLE,
    arguments,
    images,
    now,
    peak_mb,
    rate,
    report,
    seconds,
    since,
)

TASKS = [
    "import",
    "train_jnf",
    "train_jmvae",
    "sample",
    "joint_likelihood",
    "conditional_likelihood",
    *FAMILIES,
]


START = now()
ARGS = arguments(__doc__.splitlines()[0], TASKS)
from peer_networks import decoder, encoder, silence  # noqa: E402, I001
import multivae.models as models  # noqa: E402
from multivae.data.datasets import MultimodalBaseDataset  # noqa: E402
from multivae.metrics import LikelihoodsEvaluator, LikelihoodsEvaluatorConfig  # noqa: E402
from multivae.models.nn.default_architectures import MultipleHeadJointEncoder  # noqa: E402
from multivae.trainers import (  # noqa: E402
    BaseTrainer,
    BaseTrainerConfig,
    MultistageTrainer,
    MultistageTrainerConfig,
)
from multivae.trainers.base.callbacks import TrainingCallback  # noqa: E402
from pythae.models.normalizing_flows import MAF, MAFConfig  # noqa: E402

L = ARGS.latent


def model(name: str, names: tuple[str, ...], first_stage: int = 1, settings: dict | None = None):
    """A model of the library with fresh weights; `settings`: of a class without a joint encoder."""
    encoders = {m: encoder(SHAPES[m], L) for m in names}
    shared = {
        "n_modalities": len(names),
        "latent_dim": L,
        "input_dims": {m: SHAPES[m] for m in names},
        "decoders_dist": {m: "laplace" for m in names},
        "uses_likelihood_rescaling": True,
    }
    decoders = {m: decoder(SHAPES[m], L) for m in names}
    if settings is not None:
        config = getattr(models, f"{name}Config")(**shared, **settings)
        made = getattr(models, name)(config, encoders=encoders, decoders=decoders)
        made.device = "cpu"
        return made
    config = getattr(models, f"{name}Config")(**shared, warmup=first_stage)
    given = {
        "joint_encoder": MultipleHeadJointEncoder(
            encoders, config, hidden_dim=512, n_hidden_layers=1
        )
    }
    if name == "JNF":
        flow = MAFConfig(
            input_dim=(L,), n_made_blocks=2, n_hidden_in_made=ARGS.hidden_layers, hidden_size=128
        )
        given["flows"] = {m: MAF(flow) for m in names}
    made = getattr(models, name)(config, encoders=encoders, decoders=decoders, **given)
    made.device = "cpu"
    return made


class Clock(TrainingCallback):
    """The time of each epoch, from its first batch to its line in the log."""

    def __init__(self) -> None:
        self.begun, self.times = now(), []

    def on_epoch_begin(self, training_config, **kwargs):
        self.begun = now()

    def on_log(self, training_config, logs, **kwargs):
        self.times.append(since(self.begun))


def train(
    name: str, names: tuple[str, ...], each: int, samples: int = 0, settings: dict | None = None
):
    """The trained model and the seconds of every epoch; `each` epochs a stage."""
    stages = 2 if name == "JNF" else 1
    trainer, config = (
        (MultistageTrainer, MultistageTrainerConfig)
        if stages == 2
        else (BaseTrainer, BaseTrainerConfig)
    )
    clock, data = Clock(), MultimodalBaseDataset(images(samples or ARGS.train, names, ARGS.seed))
    with silence(), tempfile.TemporaryDirectory() as folder:
        how = config(
            output_dir=folder,
            num_epochs=each * stages,
            per_device_train_batch_size=ARGS.batch,
            learning_rate=1e-3,
            no_cuda=True,
            seed=ARGS.seed,
            steps_saving=None,
        )
        made = trainer(
            model(name, names, each, settings), data, training_config=how, callbacks=[clock]
        )
        made.train()
    return made._best_model.eval(), clock.times


def train_jnf() -> dict:
    each = ARGS.epochs + 1
    _, times = train("JNF", PAIR, each)
    return {
        "joint": rate(ARGS.train, times[1:each]),
        "surrogates": rate(ARGS.train, times[each + 1 :]),
    }


def train_jmvae() -> dict:
    _, times = train("JMVAE", PAIR, ARGS.epochs + 1)
    return {"joint": rate(ARGS.train, times[1:])}


def family(task: str) -> dict:
    """Training of one of FAMILIES."""
    f = FAMILIES[task]
    samples = int(ARGS.train * f.share)
    _, times = train(f.peer, f.names, ARGS.epochs + 1, samples, f.settings)
    return {"all": rate(samples, times[1:])}


def sample() -> dict:
    """z given two of three modalities: one call draws one z for each item, the end of its own
    chain.
    """
    made, _ = train("JNF", TRIPLE, ARGS.warm, ARGS.train // 2)
    held = MultimodalBaseDataset(images(ARGS.items, TRIPLE, ARGS.seed + 1))
    with silence():
        times = seconds(lambda: made.encode(held, cond_mod=list(PAIR)), ARGS.repeats, warm=False)
        figures = {"draws": rate(ARGS.items, times), "gradients": 1100}
        if ARGS.draws_file:
            figures |= chains(made, held)
    return figures


def chains(made, held, transitions: int = 100, count: int = 4, items: int = 32) -> dict:
    """The states of chains of the default length, each made by the library's sampler one transition
    at a time.

    Each call starts where the last one ended: the sampler takes its start from
    `_sample_from_moe_subset`.
    """
    many = {m: x[:items].repeat(count, 1, 1, 1) for m, x in held.data.items()}
    kept = [made._sample_from_moe_subset(list(PAIR), many)]
    for _ in range(transitions):
        made._sample_from_moe_subset = lambda subset, data: kept[-1]
        kept.append(
            made._sample_from_poe_subset(list(PAIR), many, mcmc_steps=1, n_lf=10, eps_lf=0.01)
        )
    del made._sample_from_moe_subset
    states = torch.stack(kept)
    torch.save(states[1:].reshape(transitions, count, -1, L), ARGS.draws_file)
    return {
        "acceptance": (states[1:] != states[:-1]).any(-1).float().mean().item(),
        "transitions": transitions,
    }


def joint_likelihood() -> dict:
    made, _ = train("JNF", PAIR, 1, ARGS.train // 2)
    data = MultimodalBaseDataset(images(ARGS.points, PAIR, ARGS.seed + 1))
    with silence():
        settings = LikelihoodsEvaluatorConfig(num_samples=ARGS.k)
        evaluator = LikelihoodsEvaluator(made, data, eval_config=settings)
        evaluator.logger.setLevel(logging.ERROR)
        before = peak_mb()
        times = seconds(evaluator.joint_nll, ARGS.repeats, warm=False)
    return {"points": rate(ARGS.points, times), "added_mb": peak_mb() - before}


def conditional_likelihood() -> dict:
    made, _ = train("JNF", PAIR, 1, ARGS.train // 2)
    data = MultimodalBaseDataset(images(ARGS.points, PAIR, ARGS.seed + 1))
    with silence():
        before, call = (
            peak_mb(),
            lambda: made.compute_cond_nll(data, ["mnist"], ["svhn"], k_iwae=ARGS.k),
        )
        times = seconds(call, ARGS.repeats, warm=False)
    return {"points": rate(ARGS.points, times), "added_mb": peak_mb() - before}


def measured(task: str) -> dict:
    """The figures of a task; "import" has none of its own."""
    if task in FAMILIES:
        return family(task)
    return {} if task == "import" else globals()[task]()


if __name__ == "__main__":
    from importlib.metadata import version

    report(START, version=version("multivae"), **measured(ARGS.task))
