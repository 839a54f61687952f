"""The sampler of diffusion models that needs only a denoiser: joint samples, and any blocks given
the others.

A point x (N, d) has blocks (in polymodal: the modalities' latents), and noise of standard deviation
sigma (N, M), one for each block, is added to x0 to give x0 + sigma eps. The denoiser returns E[x0 |
x]. This folder works in these coordinates; the variance-preserving process of Song et al. (2021b,
on SDEs; 2021a is DDIM) is the same one, y = alpha x with alpha = 1 / sqrt(1 + sigma^2), and so one
denoiser serves every solver. A block that is seen has sigma 0; a block that is left out has the
highest sigma.

Each estimate calls the denoiser once, for all items and whatever subset of blocks each of them has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from polymodal.checks import Depth, Size, SizeOrZero, check_name
from polymodal.diffusion.conditioning import (
    AGAINST,
    CONDITIONINGS,
    Conditioning,
    Denoise,
    EnergyGradient,
    Inpainting,
    Unconditional,
)
from polymodal.diffusion.noise_levels import process_of
from polymodal.diffusion.solvers import SOLVERS, SingleStep, Solver
from polymodal.sampling.diagnostics import CountedCalls, ParticleReport, SamplerReport

T = TypeVar("T")


class DiffusionSampler(Protocol):
    """Draws the unseen blocks of a task with a denoiser."""

    @property
    def has_exact_conditionals(self) -> bool:
        """Whether draws given seen blocks follow the density of a denoiser trained with masks."""

    @property
    def needs_energies(self) -> bool:
        """Whether a call needs `energy_gradient`."""

    def __call__(
        self, denoise: Denoise, task: Inpainting, energy_gradient: EnergyGradient | None = None, /
    ) -> tuple[Tensor, SamplerReport]:
        """x (N, d) with the seen blocks as they came, and a report."""


@dataclass(frozen=True)
class Diffusion:
    """`sampler(denoise, task) -> (x (N, d), ParticleReport)`: draws of the unseen blocks given the
    seen ones.

    Args:
        conditioning: how the seen blocks take part, a key of `CONDITIONINGS`.
            "masks": they are shown clean, sigma 0, to a denoiser that was trained with such masks
            (Bounoua et al. 2024).
            "guidance": the same, extrapolated from the estimate without the seen blocks: D +
            (weight - 1) (D - D_without), both from one call. `against` says what D_without leaves
            out: "unseen": the seen blocks (Ho and Salimans 2021); "alone": every other block, for
            each unseen block: joint samples are guided as well. With `rescale` the guided estimate
            of an item's unseen blocks is made no longer than the one without guidance (after Lin et
            al. 2024, who match deviations): else large weights drive some draws out of the data's
            range. None: only for "alone".
            "replacement": they are shown with fresh noise of the level of the rest, to any
            denoiser. Biased, however many the steps: the draws are not conditional ones (see
            docs/derivations/conditionings.md).
            "repaint": replacement, and every step taken `repeats` times, noise added in between
            (Lugmayr et al. 2022).
            "energy": replacement, and `weight` times the energies' gradient added to the score
            (Wesego and Rooshenas 2024, SBM-VAE-C).
            "clean": the released code of the same authors: alpha z + sigma z for alpha z + sigma
            eps. For reproduction.
        solver: a key of `SOLVERS`. "dpm": DPM-Solver++(2M) (Lu et al. 2022); "heun": Karras et al.
            (2022), algorithm 1, two calls a step; "ddim": Song et al. (2021a), with `eta` = 1 the
            ancestral sampler; "pc": the predictor-corrector of the variance-preserving process
            `VP(*vp)`, with `corrector` Langevin steps of signal-to-noise ratio `snr`; "langevin":
            annealed Langevin dynamics (Song and Ermon 2019), `langevin_steps` steps of size
            `step_size` times the variance of the noise at each level.
        steps: of the solver.
        low, high, rho: of `karras_levels`; "pc" has its own levels, from t = 1 to `end`.
        weight: of the guidance or of the energy.
        against, rescale: see "guidance".
        repeats: of "repaint".

    Returns of a call: x with the seen blocks as they came, and `ParticleReport` with the number of
    calls of the denoiser. Raises ValueError for unknown names, numbers out of range, or a
    conditioning that the solver cannot have.
    """

    conditioning: str = "masks"
    solver: str = "dpm"
    steps: Size = 30
    low: float = 0.005
    high: float = 80.0
    rho: float = 7.0
    eta: float = 0.0
    weight: float = 2.0
    against: str = "unseen"
    rescale: bool | None = None
    repeats: Depth = 10
    corrector: SizeOrZero = 1
    snr: float = 0.16
    vp: Sequence[float] = (0.1, 20.0)
    end: float = 1e-3
    langevin_steps: Size = 20
    step_size: float = 1.0

    def __post_init__(self) -> None:
        self._check_names()
        self._check_counts()
        self._check_numbers()
        self._check_combinations()

    @property
    def has_exact_conditionals(self) -> bool:
        return self.conditioning == "masks"

    @property
    def needs_energies(self) -> bool:
        return self.conditioning == "energy"

    @torch.no_grad()
    def __call__(
        self, denoise: Denoise, task: Inpainting, energy_gradient: EnergyGradient | None = None
    ) -> tuple[Tensor, ParticleReport]:
        network = CountedCalls(task.within(denoise))
        conditioning = self._conditioning(task, energy_gradient)
        solver = self._solver(conditioning.repeats)
        x = solver(partial(conditioning, network, task), task)
        return task.put(x), ParticleReport(len(task.value), network.calls, network.rows)

    def _conditioning(
        self, task: Inpainting, energy_gradient: EnergyGradient | None
    ) -> Conditioning:
        options = vars(self) | {"energy_gradient": energy_gradient}
        conditioning = _made(CONDITIONINGS[self.conditioning], options)
        return conditioning if conditioning.changes(task) else Unconditional()

    def _solver(self, repeats: int) -> Solver:
        return _made(SOLVERS[self.solver], vars(self) | {"repeats": repeats})

    def _check_names(self) -> None:
        choices = (
            ("conditioning", self.conditioning, CONDITIONINGS),
            ("solver", self.solver, SOLVERS),
            ("against", self.against, AGAINST),
        )
        for option, name, names in choices:
            check_name(name, names, option)

    def _check_counts(self) -> None:
        counts = min(self.steps, self.repeats, self.langevin_steps) >= 1 and self.corrector >= 0
        if not counts or not 0 < self.low < self.high < math.inf:
            raise ValueError(
                "A diffusion sampler needs steps, repeats and langevin_steps of at least 1,"
                f" corrector of at least 0 and 0 < low < high, got {self.steps}, {self.repeats},"
                f" {self.langevin_steps}, {self.corrector}, {self.low} and {self.high}."
            )

    def _check_numbers(self) -> None:
        process_of(self.vp)
        if not 0 <= self.eta <= 1 or not 0 < self.end < 1 or not self.snr > 0:
            raise ValueError(
                f"A diffusion sampler needs 0 <= eta <= 1, 0 < end < 1 and snr > 0, got {self.eta},"
                f" {self.end} and {self.snr}."
            )
        if not 0 < self.step_size < 2:
            raise ValueError(
                "Langevin steps of 2 times the noise's variance and more diverge: step_size must be"
                f" in (0, 2), got {self.step_size}."
            )
        if not 0 < self.rho < math.inf or not math.isfinite(self.weight + self.snr):
            raise ValueError(
                f"A diffusion sampler needs rho > 0, weight and snr, all finite, got {self.rho},"
                f" {self.weight} and {self.snr}."
            )

    def _check_combinations(self) -> None:
        if self.solver == "pc" and self.steps <= max(self.vp):
            raise ValueError(
                f"The predictor-corrector divides beta, up to {max(self.vp):g}, by its steps: take"
                f" more than {self.steps}."
            )
        guided = self.against != "unseen" or self.rescale is not None
        if guided and self.conditioning != "guidance":
            raise ValueError(
                f"against={self.against} and rescale={self.rescale} belong to guidance: take"
                f" conditioning=guidance, not {self.conditioning}, or leave them out."
            )
        if self.conditioning == "repaint" and not issubclass(SOLVERS[self.solver], SingleStep):
            raise ValueError(
                "Steps taken again and again need a solver of single steps: with"
                f" conditioning=repaint take solver=ddim or heun, not {self.solver}."
            )


def _made(kind: type[T], options: Mapping[str, Any]) -> T:
    """The value of this kind, with those of the options that are its fields."""
    own: Any = fields(kind)  # type: ignore[arg-type]
    return kind(**{f.name: options[f.name] for f in own if f.name in options})
