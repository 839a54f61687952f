"""Measures one task with polymodal, in the process that this starts; JSON on stdout.

    python benchmarks/speed.py train_jnf

Training is timed through `polymodal.fit`, with everything that a user pays for. README.md describes
what each task times.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from common import (
    FAMILIES,
    PAIR,
    SHAPES,
    TRIPLE,
    Times,
    arguments,
    images,
    now,
    peak_mb,
    rate,
    report,
    seconds,
    since,
)
from torch import Tensor, nn

TASKS = [
    "import",
    "train_jnf",
    "train_jnf_dcca",
    "train_jmvae",
    "bare",
    "sample",
    "joint_likelihood",
    "conditional_likelihood",
    "precision",
    "memory",
    *FAMILIES,
]

START = now()
ARGS = arguments(__doc__.splitlines()[0], TASKS)

from polymodal import fit  # noqa: E402
from polymodal.batch import Batch, Modality  # noqa: E402
from polymodal.checks import keep_heap  # noqa: E402
from polymodal.data import Dataset, Splits  # noqa: E402
from polymodal.metrics.decoding import Decoding  # noqa: E402
from polymodal.metrics.likelihood import (  # noqa: E402
    importance_log_likelihood,
    monte_carlo_log_likelihood,
)
from polymodal.runs.run import Run  # noqa: E402
from polymodal.training.stage_trainer import StageTrainer  # noqa: E402

# The flows of MultiVae.
FLOW = {"hidden": [128] * ARGS.hidden_layers, "conditional": False}


def modalities(names: tuple[str, ...]) -> list[Modality]:
    """Laplace likelihoods of scale 1 around a sigmoid, rescaled by size: MultiVae's settings."""
    sizes = {m: torch.Size(SHAPES[m]).numel() for m in names}
    largest = max(sizes.values())
    return [
        Modality(m, SHAPES[m], "laplace", weight=largest / sizes[m], link="sigmoid") for m in names
    ]


def splits(names: tuple[str, ...], n: int) -> Splits:
    """Training data, and little for validation, since MultiVae trains without (deep CCA needs 33
    samples).
    """
    tables = images(n, names, ARGS.seed)
    # In memory as `load_data` lays images.
    tables = {m: x.contiguous(memory_format=torch.channels_last) for m, x in tables.items()}
    data = Dataset(modalities(names), tables)
    few = data.take(torch.arange(40))
    return Splits(data, few, few)


class Clock:
    """The time of each epoch of each stage, validation included."""

    def __init__(self) -> None:
        self.times: dict[str, list[Times]] = {}
        self.run_epoch = StageTrainer.run_epoch

    def __enter__(self) -> Clock:
        def timed(trainer: StageTrainer, *arguments: Any) -> dict[str, Any]:
            start = now()
            row = self.run_epoch(trainer, *arguments)
            self.times.setdefault(trainer.stage.name, []).append(since(start))
            return row

        StageTrainer.run_epoch = timed
        return self

    def __exit__(self, *_: object) -> None:
        StageTrainer.run_epoch = self.run_epoch


def train(
    method: str,
    names: tuple[str, ...],
    epochs: int,
    samples: int = 0,
    chunk: int | None = None,
    **options: Any,
) -> tuple[Run, dict[str, list[Times]]]:
    """The finished run, and the times of its epochs.

    Args:
        samples: to train on; 0: as many as are timed.
        chunk: samples of a batch that are taken at once; None: all.
    """
    size = chunk or ARGS.batch
    training = {
        "epochs": epochs,
        "batch": size,
        "accumulate": ARGS.batch // size,
        "lr": 1e-3,
        "progress": False,
    }
    data = splits(names, samples or ARGS.train)
    with Clock() as clock:
        run = fit(method, data, seed=ARGS.seed, training=training, latent=ARGS.latent, **options)
    return run, clock.times


def trained_jnf(names: tuple[str, ...], epochs: int) -> Run:
    """A run whose speed of training is not measured, on half of the samples."""
    return train("jnf", names, epochs, ARGS.train // 2, flow=FLOW)[0]


def rates(times: dict[str, list[Times]]) -> dict:
    """Samples a second in each stage; the first epoch does not count."""
    return {stage: rate(ARGS.train, epochs[1:]) for stage, epochs in times.items()}


def train_jnf() -> dict:
    return rates(train("jnf", PAIR, ARGS.epochs + 1, flow=FLOW)[1])


def train_jnf_dcca() -> dict:
    embedding = {"embedding_size": 16, "num_directions": 9}
    return rates(train("jnf_dcca", PAIR, ARGS.epochs + 1, flow=FLOW, embedding=embedding)[1])


def train_jmvae() -> dict:
    return rates(train("jmvae", PAIR, ARGS.epochs + 1)[1])


def family(task: str) -> dict:
    """Training of one of FAMILIES."""
    f = FAMILIES[task]
    samples = int(ARGS.train * f.share)
    _, times = train(f.method, f.names, ARGS.epochs + 1, samples, f.chunk, **f.options)
    return {"all": rate(samples, times["all"][1:])}


class BareNetworks(nn.Module):
    """The networks of JNF's first stage, without the rest of the library."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.read = self.mlp(784, 512, latent)
        self.look = nn.Sequential(
            *self.down(3, 32),
            *self.down(32, 64),
            *self.down(64, 128),
            nn.Conv2d(128, latent, 4),
            nn.Flatten(),
        )
        self.mix = self.mlp(2 * latent, 512, 2 * latent)
        self.write = nn.Sequential(self.mlp(latent, 512, 784), nn.Sigmoid())
        self.draw = nn.Sequential(
            nn.ConvTranspose2d(latent, 128, 4),
            *self.up(128, 64),
            *self.up(64, 32),
            *self.up(32, 3),
            nn.Sigmoid(),
        )

    @staticmethod
    def mlp(a: int, b: int, c: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(a, b), nn.ReLU(inplace=True), nn.Linear(b, c))

    @staticmethod
    def down(a: int, b: int) -> tuple[nn.Module, nn.Module]:
        return nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(inplace=True)

    @staticmethod
    def up(a: int, b: int) -> tuple[nn.Module, nn.Module]:
        return nn.ReLU(inplace=True), nn.ConvTranspose2d(a, b, 4, 2, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The summed absolute error of a reconstruction."""
        mean, log_variance = self.mix(torch.cat([self.read(x), self.look(y)], 1)).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return (self.write(z) - x).abs().sum() + (self.draw(z[:, :, None, None]) - y).abs().sum()


def bare() -> dict:
    """Only the networks of JNF's first stage, channels-last: forward, summed absolute error,
    backward, Adam's step.
    """
    networks = BareNetworks(ARGS.latent).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3, fused=True)
    data = images(ARGS.train, PAIR, ARGS.seed)
    image = data["svhn"].contiguous(memory_format=torch.channels_last)
    flat = data["mnist"].flatten(1).split(ARGS.batch)
    parts = list(zip(flat, image.split(ARGS.batch), strict=True))

    def epoch() -> None:
        for x, y in parts:
            loss = networks(x, y)
            optimizer.zero_grad()
            (loss / len(x)).backward()
            optimizer.step()

    keep_heap()
    return {"joint": rate(ARGS.train, seconds(epoch, ARGS.epochs))}


def held_out(names: tuple[str, ...], n: int) -> Batch:
    return Batch(images(n, names, ARGS.seed + 1))


def sample() -> dict:
    """z given two of three modalities: one draw for each item, and as many as the chains of one
    call hold.
    """
    model = trained_jnf(TRIPLE, ARGS.warm).model
    given, sampler = held_out(TRIPLE, ARGS.items).only(PAIR), model.sampler
    many = sampler.chains * sampler.draws
    reports: list[Any] = []

    def draw(n: int) -> None:
        reports.append(model.draw(given, n).report)

    times = seconds(lambda: draw(1), ARGS.repeats, warm=False)
    figures = {"draws": rate(ARGS.items, times), "gradients": reports[-1].gradients}
    times = seconds(lambda: draw(many), ARGS.repeats, warm=False)
    chains = reports[-1]
    effective = chains.ess.clamp(max=many).sum().item()
    if ARGS.draws_file:
        z = model.latents(given, many)
        torch.save(z.reshape(sampler.draws, sampler.chains, *z.shape[1:]), ARGS.draws_file)
    return figures | {
        "many": many,
        "draws_many": rate(ARGS.items * many, times),
        "effective": rate(effective, times),
        "acceptance": chains.acceptance.mean().item(),
        "told": chains.summary(),
    }


Likelihood = Callable[[Run, Batch, int, str | None], Tensor]


def joint(run: Run, batch: Batch, k: int, precision: str | None = None) -> Tensor:
    return importance_log_likelihood(run.model, batch, k, decoding=Decoding(precision))


def conditional(run: Run, batch: Batch, k: int, precision: str | None = None) -> Tensor:
    return monte_carlo_log_likelihood(run.model, batch, "svhn", ["mnist"], k, Decoding(precision))


def likelihood(call: Likelihood) -> dict:
    """Points a second, in full and in half precision."""
    run = trained_jnf(PAIR, 1)
    batch, before = held_out(PAIR, ARGS.points), peak_mb()
    figures = {}
    for name, precision in (("points", None), ("bf16", "bf16")):

        def estimate(precision: str | None = precision) -> Tensor:
            return call(run, batch, ARGS.k, precision)

        figures[name] = rate(ARGS.points, seconds(estimate, ARGS.repeats, warm=False))
    return figures | {"added_mb": peak_mb() - before}


def joint_likelihood() -> dict:
    return likelihood(joint)


def conditional_likelihood() -> dict:
    return likelihood(conditional)


def precision() -> dict:
    """By how many nats bfloat16 decoders change the likelihoods of the same latents."""
    run, batch = trained_jnf(PAIR, ARGS.warm), held_out(PAIR, ARGS.points)
    calls: dict[str, Likelihood] = {"joint": joint, "conditional": conditional}
    figures = {name: gap(call, run, batch) for name, call in calls.items()}
    return figures | {"points": ARGS.points}


def gap(call: Likelihood, run: Run, batch: Batch) -> dict[str, float]:
    values = []
    for precision in (None, "bf16"):
        torch.manual_seed(ARGS.seed)
        values.append(call(run, batch, ARGS.k, precision))
    difference = values[1] - values[0]
    return {
        "nats": values[0].mean().item(),
        "mean_gap": difference.mean().item(),
        "max_gap": difference.abs().max().item(),
    }


def memory() -> dict:
    """The memory, MB, that likelihoods with more and more latents add to the process."""
    run, batch = trained_jnf(PAIR, 1), held_out(PAIR, 64)
    added = {}
    for k in (100, 1000, 4000):
        before = peak_mb()
        joint(run, batch, k)
        conditional(run, batch, k)
        added[k] = peak_mb() - before
    return {"added_mb_by_k": added}


def measured(task: str) -> dict:
    """The figures of a task; "import" has none of its own."""
    if task in FAMILIES:
        return family(task)
    return {} if task == "import" else globals()[task]()


if __name__ == "__main__":
    report(START, version=version("polymodal"), **measured(ARGS.task))
