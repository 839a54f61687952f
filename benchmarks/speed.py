"""One task with polymodal, in the process that this starts; JSON on stdout.

    python benchmarks/speed.py train_jnf

Training is timed through `polymodal.fit`, so that all that a user pays is in it. README.md says
what each task times.
"""

from __future__ import annotations

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
from polymodal.data import Dataset, Splits  # noqa: E402
from polymodal.metrics.likelihood import (
    conditional_log_likelihoods,
    joint_log_likelihoods,
)  # noqa: E402
from polymodal.networks.layers import keep_heap  # noqa: E402
from polymodal.runs.run import Run  # noqa: E402
from polymodal.training.stage_trainer import StageTrainer  # noqa: E402

FLOW = {
    "flow_hidden": [128] * ARGS.hidden_layers,
    "conditional": False,
}  # what MultiVae's flows are


def modalities(names: tuple[str, ...]) -> list[Modality]:
    """Laplace likelihoods of scale 1 round a sigmoid, rescaled by size: MultiVae's settings."""
    largest = max(torch.Size(SHAPES[m]).numel() for m in names)
    weight = lambda m: largest / torch.Size(SHAPES[m]).numel()
    return [Modality(m, SHAPES[m], "laplace", weight=weight(m), link="sigmoid") for m in names]


def splits(names: tuple[str, ...], n: int) -> Splits:
    """Training data, and hardly any for validation, since MultiVae trains without here (deep CCA
    needs 33 samples).
    """
    laid = {
        m: x.contiguous(memory_format=torch.channels_last)
        for m, x in images(n, names, ARGS.seed).items()
    }
    data = Dataset(modalities(names), laid)  # in memory as `load_data` lays images
    few = data.take(torch.arange(40))
    return Splits(data, few, few)


class Clock:
    """The time of each epoch of each stage, validation included."""

    def __init__(self) -> None:
        self.times: dict[str, list[Times]] = {}
        self.run_epoch = StageTrainer.run_epoch

    def __call__(self, trainer: StageTrainer, *given):
        start = now()
        row = self.run_epoch(trainer, *given)
        self.times.setdefault(trainer.stage.name, []).append(since(start))
        return row


def train(
    method: str,
    names: tuple[str, ...],
    epochs: int,
    samples: int = 0,
    chunk: int | None = None,
    **options,
) -> tuple[Run, dict[str, list[Times]]]:
    """The finished run, and the times of its epochs; `samples`: how many to train on, if not what
    is timed.
    """
    clock, size = Clock(), chunk or ARGS.batch
    StageTrainer.run_epoch = lambda trainer, *given: clock(trainer, *given)
    training = {
        "epochs": epochs,
        "batch": size,
        "accumulate": ARGS.batch // size,
        "lr": 1e-3,
        "progress": False,
    }
    run = fit(
        method,
        splits(names, samples or ARGS.train),
        seed=ARGS.seed,
        training=training,
        latent=ARGS.latent,
        **options,
    )
    StageTrainer.run_epoch = clock.run_epoch
    return run, clock.times


def rates(times: dict[str, list[Times]]) -> dict:
    """Samples a second in each stage; the first epoch does not count."""
    return {stage: rate(ARGS.train, found[1:]) for stage, found in times.items()}


def train_jnf() -> dict:
    return rates(train("jnf", PAIR, ARGS.epochs + 1, **FLOW)[1])


def train_jnf_dcca() -> dict:
    options = {"size": 16, "kept": 9}
    return rates(train("jnf_dcca", PAIR, ARGS.epochs + 1, **FLOW, **options)[1])


def train_jmvae() -> dict:
    return rates(train("jmvae", PAIR, ARGS.epochs + 1)[1])


def family(task: str) -> dict:
    """Training of one of FAMILIES."""
    f = FAMILIES[task]
    samples = int(ARGS.train * f.share)
    _, times = train(f.method, f.names, ARGS.epochs + 1, samples, f.chunk, **f.options)
    return {"all": rate(samples, times["all"][1:])}


def bare() -> dict:
    """The networks of JNF's first stage alone, channels-last: forward, summed absolute error,
    backward, Adam's step.
    """
    L = ARGS.latent
    conv = lambda a, b: (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(inplace=True))
    up = lambda a, b: (nn.ReLU(inplace=True), nn.ConvTranspose2d(a, b, 4, 2, 1))
    mlp = lambda a, b, c: nn.Sequential(nn.Linear(a, b), nn.ReLU(inplace=True), nn.Linear(b, c))
    read = mlp(784, 512, L)
    look = nn.Sequential(
        *conv(3, 32), *conv(32, 64), *conv(64, 128), nn.Conv2d(128, L, 4), nn.Flatten()
    )
    mix, write = mlp(2 * L, 512, 2 * L), nn.Sequential(mlp(L, 512, 784), nn.Sigmoid())
    draw = nn.Sequential(
        nn.ConvTranspose2d(L, 128, 4), *up(128, 64), *up(64, 32), *up(32, 3), nn.Sigmoid()
    )
    nets = nn.ModuleList([read, look, mix, write, draw]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(nets.parameters(), lr=1e-3, fused=True)
    data = images(ARGS.train, PAIR, ARGS.seed)
    flat, image = (
        data["mnist"].flatten(1),
        data["svhn"].contiguous(memory_format=torch.channels_last),
    )
    parts = [
        (flat[i : i + ARGS.batch], image[i : i + ARGS.batch])
        for i in range(0, ARGS.train, ARGS.batch)
    ]

    def step(x: Tensor, y: Tensor) -> None:
        mean, log_variance = mix(torch.cat([read(x), look(y)], 1)).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        loss = (write(z) - x).abs().sum() + (draw(z[:, :, None, None]) - y).abs().sum()
        optimizer.zero_grad()
        (loss / len(x)).backward()
        optimizer.step()

    keep_heap()
    return {
        "joint": rate(ARGS.train, seconds(lambda: [step(*part) for part in parts], ARGS.epochs))
    }


def held(names: tuple[str, ...], n: int) -> Batch:
    return Batch(images(n, names, ARGS.seed + 1))


def sample() -> dict:
    """z given two of three modalities: one draw for each item, and as many as the chains of one
    call hold.
    """
    run, _ = train("jnf", TRIPLE, ARGS.warm, ARGS.train // 2, **FLOW)
    model, given = run.model, held(TRIPLE, ARGS.items).only(PAIR)
    sampler = model.posterior.combine.sampler
    many = sampler.chains * sampler.draws
    times = seconds(lambda: model.latents(given, 1), ARGS.repeats, warm=False)
    figures = {"draws": rate(ARGS.items, times), "gradients": model.diagnostics.gradients}
    times = seconds(lambda: model.latents(given, many), ARGS.repeats, warm=False)
    told = model.diagnostics
    effective = told.ess.clamp(max=many).sum().item()
    figures |= {
        "many": many,
        "draws_many": rate(ARGS.items * many, times),
        "effective": rate(effective, times),
    }
    if ARGS.draws_file:
        z = model.latents(given, many)
        torch.save(z.reshape(sampler.draws, sampler.chains, *z.shape[1:]), ARGS.draws_file)
    return figures | {"acceptance": told.acceptance.mean().item(), "told": told.summary()}


def joint_likelihood() -> dict:
    run, _ = train("jnf", PAIR, 1, ARGS.train // 2, **FLOW)
    batch, before = held(PAIR, ARGS.points), peak_mb()
    times = seconds(
        lambda: joint_log_likelihoods(run.model, batch, ARGS.k), ARGS.repeats, warm=False
    )
    half = seconds(
        lambda: joint_log_likelihoods(run.model, batch, ARGS.k, precision="bf16"),
        ARGS.repeats,
        warm=False,
    )
    return {
        "points": rate(ARGS.points, times),
        "bf16": rate(ARGS.points, half),
        "added_mb": peak_mb() - before,
    }


def conditional_likelihood() -> dict:
    run, _ = train("jnf", PAIR, 1, ARGS.train // 2, **FLOW)
    batch, before = held(PAIR, ARGS.points), peak_mb()
    call = lambda **k: conditional_log_likelihoods(run.model, batch, "svhn", ["mnist"], ARGS.k, **k)
    times, half = (
        seconds(lambda k=k: call(**k), ARGS.repeats, warm=False)
        for k in ({}, {"precision": "bf16"})
    )
    return {
        "points": rate(ARGS.points, times),
        "bf16": rate(ARGS.points, half),
        "added_mb": peak_mb() - before,
    }


def precision() -> dict:
    """How far bfloat16 decoders move the likelihoods of the same latents, in nats."""
    run, _ = train("jnf", PAIR, ARGS.warm, ARGS.train // 2, **FLOW)
    batch, found = held(PAIR, ARGS.points), {}
    for name, call in (
        ("joint", lambda p: joint_log_likelihoods(run.model, batch, ARGS.k, precision=p)),
        (
            "conditional",
            lambda p: conditional_log_likelihoods(
                run.model, batch, "svhn", ["mnist"], ARGS.k, precision=p
            ),
        ),
    ):
        values = []
        for p in (None, "bf16"):
            torch.manual_seed(ARGS.seed)
            values.append(call(p))
        gap = values[1] - values[0]
        figures = {"nats": values[0].mean(), "mean_gap": gap.mean(), "max_gap": gap.abs().max()}
        found[name] = {k: v.item() for k, v in figures.items()}
    return found | {"points": ARGS.points}


def memory() -> dict:
    """Memory that likelihoods with ever more latents take beyond what the process had, MB."""
    run, _ = train("jnf", PAIR, 1, ARGS.train // 2, **FLOW)
    batch, found = held(PAIR, 64), {}
    for k in (100, 1000, 4000):
        before = peak_mb()
        joint_log_likelihoods(run.model, batch, k)
        conditional_log_likelihoods(run.model, batch, "svhn", ["mnist"], k)
        found[k] = peak_mb() - before
    return {"added_mb_by_k": found}


if __name__ == "__main__":
    from importlib.metadata import version

    figures = (
        family(ARGS.task)
        if ARGS.task in FAMILIES
        else {}
        if ARGS.task == "import"
        else globals()[ARGS.task]()
    )
    report(START, version=version("polymodal"), **figures)
