"""Hamiltonian and Langevin kernels, state -> (state, info), that leave a density invariant; chains
are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from polymodal.sampling import metric

LogProb = Callable[[Tensor], Tensor]
DIVERGENCE = 1000.0


class State(NamedTuple):
    """The state of chains: z (..., B, D), log_prob (..., B) in nats, and its gradient by z, grad
    (..., B, D).
    """

    z: Tensor
    log_prob: Tensor
    grad: Tensor


class Info(NamedTuple):
    """The outcome of a transition, each (..., B) except the step.

    acceptance: the probability with which the proposal was taken; divergent: energy error above
    1000 nats or not finite; energy: that error, the Hamiltonian's rise over the trajectory, nats;
    step_size: (B,), as used.
    """

    acceptance: Tensor
    divergent: Tensor
    energy: Tensor
    step_size: Tensor


S = TypeVar("S", bound=Any)  # a State, or an extension of it that `evaluate` returns
Kernel = Callable[[State], tuple[State, Info]]


def check_values(value: Tensor, z: Tensor) -> Tensor:
    """`value`; ValueError where it is not one number for each draw of z (..., D)."""
    if value.shape != z.shape[:-1]:
        raise ValueError(
            f"log_prob of z {tuple(z.shape)} must have shape {tuple(z.shape[:-1])}, one value for"
            f" each draw, got {tuple(value.shape)}."
        )
    return value


class Density:
    """A log-density evaluated with its gradient, one call at a time; `calls` counts them.

    Where the log-density is not finite it counts as -inf, and its gradient as 0: proposals there
    are rejected.

    Of 4 chains, 3 items and 2 dimensions:

    >>> state = Density(lambda z: -z.square().sum(-1) / 2)(torch.ones(4, 3, 2))
    >>> state.log_prob.shape, state.grad[0, 0]
    (torch.Size([4, 3]), tensor([-1., -1.]))
    """

    def __init__(self, log_prob: LogProb) -> None:
        self.log_prob, self.calls = log_prob, 0

    def __call__(self, z: Tensor) -> State:
        self.calls += 1
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = check_values(self.log_prob(z), z)
            if not value.requires_grad:
                raise ValueError(
                    "log_prob must depend on z differentiably, which nothing does under"
                    " torch.inference_mode; take torch.no_grad there."
                )
            (grad,) = torch.autograd.grad(value.sum(), z)
        value = torch.where(value.isfinite(), value, -math.inf).detach()
        return State(z.detach(), value, torch.nan_to_num(grad, nan=0.0, posinf=0.0, neginf=0.0))


def leapfrog(
    evaluate: Callable[[Tensor], S],
    state: S,
    momentum: Tensor,
    step: Tensor,
    steps: int,
    factor: Tensor | None = None,
) -> tuple[S, Tensor]:
    """`steps` leapfrog steps of the Hamiltonian -log p(A u) + |momentum|^2 / 2: Neal (2011), eqs.
    (5.18) to (5.20).

    Args:
        evaluate: z -> state; see `Density`.
        state: where the trajectory starts; its gradient is used, not computed again.
        momentum: (..., B, D), conjugate to u = A^-1 z.
        step: broadcasts against the momentum: (B, 1) for a step size per item.
        factor: A, see `metric.forward`.

    Returns: the last state and momentum. From there, with the momentum negated, the same steps lead
        back.
    """
    momentum = momentum + step / 2 * metric.backward(factor, state.grad)
    for left in reversed(range(steps)):
        state = evaluate(state.z + step * metric.forward(factor, momentum))
        momentum = momentum + (step if left else step / 2) * metric.backward(factor, state.grad)
    return state, momentum


def transition(
    evaluate: Callable[[Tensor], S],
    state: S,
    step_size: Tensor,
    steps: int,
    factor: Tensor | None = None,
) -> tuple[S, Info]:
    """One Metropolis-adjusted trajectory of `steps` steps of `step_size` (B,) from a fresh
    momentum.
    """
    momentum = torch.randn_like(state.z)
    proposal, end = leapfrog(evaluate, state, momentum, step_size.unsqueeze(-1), steps, factor)
    energy = state.log_prob - proposal.log_prob + (end.square() - momentum.square()).sum(-1) / 2
    log_ratio = torch.where(energy.isnan(), -math.inf, -energy)
    accepted = torch.rand_like(log_ratio).log() < log_ratio

    def keep(new: Tensor, old: Tensor) -> Tensor:
        mask = accepted if new.dim() == accepted.dim() else accepted.unsqueeze(-1)
        return torch.where(mask, new, old)

    info = Info(log_ratio.clamp(max=0).exp(), ~(energy < DIVERGENCE), energy, step_size)
    return type(state)(*map(keep, proposal, state)), info


def jittered(steps: int, jitter: float) -> tuple[int, float]:
    """A number of steps, and a factor on their size, so that the length is uniform on (1 -+ jitter)
    times the nominal.

    A fixed length resonates: where it is half a period of one direction, HMC only mirrors that
    direction.
    """
    if not jitter:
        return steps, 1.0
    length = steps * (1 + jitter * (2 * torch.rand(()).item() - 1))
    count = max(1, round(length))
    return count, length / count


def hmc(
    log_prob: LogProb,
    step_size: float | Tensor,
    leapfrog: int,
    *,
    factor: Tensor | None = None,
    jitter: float = 0.5,
) -> Kernel:
    """A Hamiltonian Monte Carlo kernel on independent chains: state -> (state, info). Neal (2011),
    section 5.3.

    Args:
        log_prob: (..., B, D) -> (..., B), unnormalised, nats; called with z requiring gradients.
        step_size: one, or one for each item, (B,).
        leapfrog: mean number of steps, each one call of `log_prob`.
        factor: A of the metric A A^T, (B, D, D) or its diagonal (B, D).
        jitter: trajectory lengths are uniform on (1 -+ jitter) * leapfrog * step_size, drawn anew
            at every call.

    Raises: ValueError for fewer than one step, or a jitter outside [0, 1).

    >>> log_prob = lambda z: -z.square().sum(-1) / 2
    >>> state = Density(log_prob)(torch.zeros(4, 3, 2))
    >>> state, info = hmc(log_prob, 0.5, leapfrog=3)(state)
    >>> info.acceptance.shape, info.divergent.any()
    (torch.Size([4, 3]), tensor(False))
    """
    if leapfrog < 1 or not 0 <= jitter < 1:
        raise ValueError(
            f"hmc takes leapfrog >= 1 and 0 <= jitter < 1, got leapfrog={leapfrog},"
            f" jitter={jitter}."
        )
    evaluate = Density(log_prob)

    def kernel(state: State) -> tuple[State, Info]:
        steps, stretch = jittered(leapfrog, jitter)
        step = torch.as_tensor(step_size, dtype=state.z.dtype, device=state.z.device) * stretch
        return transition(evaluate, state, step.expand(state.z.shape[-2]), steps, factor)

    return kernel


def mala(log_prob: LogProb, step_size: float | Tensor, *, factor: Tensor | None = None) -> Kernel:
    """The Metropolis-adjusted Langevin kernel, z' = z + step^2 / 2 A A^T grad + step A noise: one
    call of `log_prob`.

    That is a single leapfrog step (Neal 2011, section 5.5.2). Arguments as for `hmc`.
    """
    return hmc(log_prob, step_size, 1, factor=factor, jitter=0.0)
