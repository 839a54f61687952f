"""Samplers of diffusion models that know a denoiser and nothing else: joint samples, and any blocks
given the others.

A point x (N, d) has blocks (in polymodal: the modalities' latents), and noise of standard deviation
sigma (N, M), one for each block, is added to x0 to give x0 + sigma eps. The denoiser returns E[x0 |
x]. Everything here lives in these coordinates; the variance-preserving process of Song et al.
(2021) is the same one, y = alpha x with alpha = 1 / sqrt(1 + sigma^2), and so one denoiser serves
every sampler. A block that is known has sigma 0; one of which nothing is known may be left at the
highest sigma.

Every step calls the denoiser once, for all items and whatever subset of blocks each of them has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polymodal.diffusion.conditioning import (
    AGAINST,
    CONDITIONINGS,
    Denoise,
    Inpainting,
    Pull,
    spread,
)
from polymodal.diffusion.noise_levels import VP, karras_levels, process_of
from polymodal.diffusion.solvers import SOLVERS, Guess, _heun, _multistep
from polymodal.sampling.diagnostics import ParticleReport


@dataclass(frozen=True)
class Diffusion:
    """`sampler(denoise, task) -> (x (N, d), Calls)`: draws of the unknown blocks given those that
    are seen.

    Args:
        conditioning: how what is seen takes part.
            "masks": it is shown clean, sigma 0, to a denoiser that was trained with such masks
            (Bounoua et al. 2024). "guidance": the same, away from what the denoiser says without
            it: D + (weight - 1) (D - D_without), parts of one call. `against` says what goes
            without: "unseen": the unseen blocks, together, without the seen (Ho and Salimans 2021);
            "alone": each unseen block without any other: joint samples are guided as well. With
            `rescale` the guided guess of an item's unseen blocks is made no longer than the one
            without guidance (after Lin et al. 2024, who match deviations): else large weights drive
            some draws out of the data's range. None: for "alone". "replacement": it is shown with
            fresh noise of the level of the rest, to any denoiser. Biased, however many the steps:
            the draws are not conditional ones (see docs/methods/score.md). "repaint": replacement,
            and every step taken `repeats` times, noise added in between (Lugmayr et al. 2022).
            "energy": replacement, and `pull` times `weight` added to the score (Wesego and
            Rooshenas 2024, -C). "clean": what their released code does: alpha z + sigma z for alpha
            z + sigma eps. For reproduction.
        solver: "dpm": DPM-Solver++(2M) (Lu et al. 2022); "heun": Karras et al. (2022), algorithm 1,
            two calls a step; "ddim": Song et al. (2021), with `eta` = 1 the ancestral sampler;
            "pc": the predictor-corrector of the variance-preserving process `VP(*vp)`, with
            `corrector` Langevin steps of signal-to-noise `snr`.
        steps: of the solver.
        low, high, rho: of `ladder`; "pc" has its own levels, from t = 1 to `end`.
        weight: of the guidance or of the energy. against, rescale: see "guidance".
        repeats: of "repaint".

    Returns of a call: x with the seen blocks as they were given, and `ParticleReport`, how often
    the denoiser was called. Raises ValueError for unknown names, or a conditioning that the solver
    cannot have.
    """

    conditioning: str = "masks"
    solver: str = "dpm"
    steps: int = 30
    low: float = 0.005
    high: float = 80.0
    rho: float = 7.0
    eta: float = 0.0
    weight: float = 2.0
    against: str = "unseen"
    rescale: bool | None = None
    repeats: int = 10
    corrector: int = 1
    snr: float = 0.16
    vp: Sequence[float] = (0.1, 20.0)
    end: float = 1e-3

    def __post_init__(self) -> None:
        for what, known in (
            ("conditioning", CONDITIONINGS),
            ("solver", SOLVERS),
            ("against", AGAINST),
        ):
            if (name := getattr(self, what)) not in known:
                raise ValueError(f"There is no {what} {name!r}; there are {', '.join(known)}.")
        if (
            self.steps < 1
            or self.repeats < 1
            or self.corrector < 0
            or not 0 < self.low < self.high < math.inf
        ):
            raise ValueError(
                "A diffusion sampler needs steps and repeats of at least 1, corrector of at least"
                f" 0 and 0 < low < high, got {self.steps}, {self.repeats}, {self.corrector},"
                f" {self.low} and {self.high}."
            )
        process_of(self.vp)
        if not 0 <= self.eta <= 1 or not 0 < self.end < 1 or not self.snr > 0:
            raise ValueError(
                f"A diffusion sampler needs 0 <= eta <= 1, 0 < end < 1 and snr > 0, got {self.eta},"
                f" {self.end} and {self.snr}."
            )
        if not 0 < self.rho < math.inf or not math.isfinite(self.weight + self.snr):
            raise ValueError(
                f"A diffusion sampler needs rho > 0, weight and snr, all finite, got {self.rho},"
                f" {self.weight} and {self.snr}."
            )
        if self.solver == "pc" and self.steps <= max(self.vp):
            raise ValueError(
                f"The predictor-corrector divides beta, up to {max(self.vp):g}, by its steps: take"
                f" more than {self.steps}."
            )
        if (
            self.against != "unseen" or self.rescale is not None
        ) and self.conditioning != "guidance":
            raise ValueError(
                f"against={self.against} and rescale={self.rescale} belong to guidance: take"
                f" conditioning=guidance, not {self.conditioning}, or leave them out."
            )
        if self.conditioning == "repaint" and self.solver in ("dpm", "pc"):
            raise ValueError(
                "Steps taken again and again need a solver of single steps: with"
                f" conditioning=repaint take solver=ddim or heun, not {self.solver}."
            )

    @property
    def process(self) -> VP:
        return process_of(self.vp)

    @torch.no_grad()
    def __call__(
        self, denoise: Denoise, task: Inpainting, pull: Pull | None = None
    ) -> tuple[Tensor, ParticleReport]:
        if self.conditioning == "energy" and pull is None:
            raise ValueError(
                "conditioning=energy needs the energies' gradient `pull`, which this model has not"
                " learned."
            )
        calls = ParticleReport(len(task.value))
        guess = self._guess(calls.counted(task.within(denoise)), task, pull)
        if self.solver == "pc":
            x = self._predict_correct(guess, task)
        else:
            levels = karras_levels(self.steps, self.low, min(self.high, task.high), self.rho)
            x = task.noise() * math.sqrt(1 + levels[0] ** 2)
            x = (
                _multistep(guess, x, levels)
                if self.solver == "dpm"
                else self._single(guess, task, x, levels)
            )
        return task.put(x), calls

    def _guess(self, denoise: Denoise, task: Inpainting, pull: Pull | None) -> Guess:
        """E[x0 | x, what is seen] at one level of noise, by the conditioning."""
        if self.conditioning == "guidance" and (task.seen.any() or self.against == "alone"):
            return lambda x, s: self._guided(denoise, task, x, s)
        if not task.seen.any():
            return lambda x, s: denoise(x, task.levels(s, s))
        shown: dict[str, Callable[[float], Tensor]] = {
            "replacement": lambda s: task.value + s * task.noise(),
            "clean": lambda s: task.value + s * task.value,
        }
        show = shown.get(self.conditioning, shown["replacement"])
        if self.conditioning == "masks":
            return lambda x, s: denoise(task.put(x), task.levels(s, 0.0))
        if self.conditioning == "energy" and pull is not None:
            return lambda x, s: self._pulled(denoise, task, pull, task.put(x, show(s)), s)
        return lambda x, s: denoise(task.put(x, show(s)), task.levels(s, s))

    def _guided(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        n, blocks = task.seen.shape
        single = ~torch.eye(blocks, dtype=torch.bool, device=x.device).unsqueeze(1)
        hidden = task.seen.unsqueeze(0) if self.against == "unseen" else single.expand(-1, n, -1)
        x, levels, covered = task.put(x), task.levels(s, 0.0), spread(hidden, task.sizes)
        blank = math.sqrt(1 + task.high**2) * torch.stack([task.noise() for _ in hidden])
        points = torch.cat([x.unsqueeze(0), torch.where(covered, blank, x)])
        sigma = torch.cat([levels.unsqueeze(0), torch.where(hidden, task.high, levels)])
        given, *apart = denoise(points.flatten(0, 1), sigma.flatten(0, 1)).view(points.shape)
        without = torch.where(covered, 0, torch.stack(apart)).sum(0)
        guided = without + self.weight * (given - without)
        if not (self.against == "alone" if self.rescale is None else self.rescale):
            return guided
        size, most = (
            torch.where(task.known, 0, v).norm(dim=-1, keepdim=True) for v in (guided, given)
        )
        return guided * (most / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp(max=1)

    def _pulled(
        self, denoise: Denoise, task: Inpainting, pull: Pull, x: Tensor, s: float
    ) -> Tensor:
        with torch.enable_grad():
            gradient = pull(x, task.seen, s)
        gradient = gradient if task.active is None else gradient * task.active
        return denoise(x, task.levels(s, s)) + self.weight * s * s * gradient

    def _single(self, guess: Guess, task: Inpainting, x: Tensor, levels: Sequence[float]) -> Tensor:
        """Solvers that know one level and the next; each step `repeats` times where asked."""
        repeats = self.repeats if self.conditioning == "repaint" and bool(task.seen.any()) else 1
        for s, to in pairwise(levels):
            for again in reversed(range(repeats)):
                x = (
                    _heun(guess, x, s, to)
                    if self.solver == "heun"
                    else self._ddim(guess, task, x, s, to)
                )
                if again:  # back to level s: Lugmayr et al. (2022), algorithm 1, line 8
                    x = x + math.sqrt(s * s - to * to) * task.noise()
        return x

    def _ddim(self, guess: Guess, task: Inpainting, x: Tensor, s: float, to: float) -> Tensor:
        """Song et al. (2021b), eq. (12), in these coordinates: eta = 1 is the exact reverse of a
        Gaussian step.
        """
        clean = guess(x, s)
        up = self.eta * to / s * math.sqrt(s * s - to * to)
        down = math.sqrt(to * to - up * up)
        x = clean + down / s * (x - clean)
        return x + up * task.noise() if up else x

    def _predict_correct(self, guess: Guess, task: Inpainting) -> Tensor:
        """Song et al. (2021), algorithm 1, for the variance-preserving process; y = alpha x. Joint
        samples correct before they predict, conditional ones after, as Wesego and Rooshenas (2024)
        have it.
        """
        joint = not task.seen.any()
        times = [1 - i * (1 - self.end) / max(1, self.steps - 1) for i in range(self.steps)]
        y = mean = task.noise()
        for t in times:
            if joint:
                y, mean = self._correct(guess, task, y, mean, t)
            beta = self.process.beta(t) / self.steps
            mean = y + 0.5 * beta * y + beta * self._score(guess, y, t)
            y = mean + math.sqrt(beta) * task.noise()
            if not joint:
                y, mean = self._correct(guess, task, y, mean, t)
        return mean / self.process.alpha(times[-1])

    def _score(self, guess: Guess, y: Tensor, t: float) -> Tensor:
        """grad log p_t(y) = (alpha E[x0 | y] - y) / (1 - alpha^2)."""
        alpha = self.process.alpha(t)
        return (alpha * guess(y / alpha, self.process.sigma(t)) - y) / (1 - alpha * alpha)

    def _correct(
        self, guess: Guess, task: Inpainting, y: Tensor, mean: Tensor, t: float
    ) -> tuple[Tensor, Tensor]:
        """Langevin steps of size 2 a (snr |noise| / |score|)^2, norms as means over the items."""
        a = 1 - self.process.beta(t) / self.steps
        for _ in range(self.corrector):
            score, noise = self._score(guess, y, t), task.noise()
            norms = [torch.where(task.known, 0, v).norm(dim=-1).mean() for v in (noise, score)]
            size = 2 * a * (self.snr * norms[0] / norms[1]) ** 2
            mean = y + size * score
            y = mean + (2 * size).sqrt() * noise
        return y, mean
