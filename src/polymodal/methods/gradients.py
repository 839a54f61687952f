"""Impartial optimisation (Javaloy et al. 2022): the modalities' gradients meet at z, and a rule
combines them into one gradient.

A rule takes the gradients of the modalities' losses with respect to z, each of z's shape, and
returns one gradient with the norm of their sum, so that learning rates keep their meaning. RULES
names the rules; some are those of the library torchjd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polymodal.analysis.gathering import gathered, own_rows
from polymodal.checks import check_name

Rule = Callable[[Sequence[Tensor]], Tensor]


class _Combined(torch.autograd.Function):
    """n copies of z whose gradients are combined by a rule on their way back."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, n: int, rule: Rule) -> tuple[Tensor, ...]:
        ctx.rule = rule
        return tuple(z.view_as(z) for _ in range(n))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(grads), None, None


def combined(z: Tensor, n: int, rule: Rule) -> tuple[Tensor, ...]:
    """Copies z n times; the gradient of z is rule(gradients of the copies).

    >>> z = torch.ones(2, requires_grad=True)
    >>> a, b = combined(z, 2, lambda grads: torch.minimum(*grads))
    >>> (3 * a + 5 * b).sum().backward(); z.grad
    tensor([3., 3.])
    """
    return _Combined.apply(z, n, rule)


def cagrad(jacobian: Tensor, c: float = 0.4) -> Tensor:
    """Conflict-averse gradient (Liu et al. 2021): the d within c |g0| of the mean gradient g0 that
    raises the least improved task most; by its dual, min over the simplex of w'g0 + c |g0| |g_w|.

    Args:
        jacobian: (M, N), a gradient in each row.
    """
    from scipy.optimize import minimize

    gram = (jacobian @ jacobian.T).double().cpu().numpy()
    n = len(gram)
    gram = gram / max(gram.trace() / n, 1e-300)  # the solver's tolerances are absolute
    size = float(gram.mean()) ** 0.5  # of the mean gradient

    def dual(w: Any) -> Any:
        return w @ gram.mean(1) + c * size * max(w @ gram @ w, 1e-16) ** 0.5

    simplex = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    box = [(0, 1)] * n
    w = minimize(dual, [1 / n] * n, bounds=box, constraints=simplex, method="SLSQP", tol=1e-9).x
    along = torch.as_tensor(w, dtype=jacobian.dtype, device=jacobian.device) @ jacobian
    mean = jacobian.mean(0)
    return mean + c * mean.norm() * along / along.norm().clamp_min(1e-12)


def gradnorm(jacobian: Tensor) -> Tensor:
    """The sum with every task's gradient scaled to the tasks' mean norm.

    GradNorm (Chen et al. 2018) with equal training rates (exponent 0), for which its weights have a
    closed form.
    """
    norms = jacobian.norm(dim=1, keepdim=True)
    return (jacobian / norms.clamp_min(1e-12) * norms.mean()).sum(0)


def _library(name: str) -> Callable[[Tensor], Tensor]:
    """The rule `name` of torchjd, which is imported only when the rule is used."""

    def aggregate(jacobian: Tensor) -> Tensor:
        from torchjd import aggregation

        return getattr(aggregation, name)()(jacobian)

    return aggregate


RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "pcgrad": _library("PCGrad"),  # Yu et al. 2020
    "mgda": _library("MGDA"),  # Sener and Koltun 2018, upper bound at z
    "imtl_g": _library("IMTLG"),  # Liu et al. 2021
    "cagrad": cagrad,
    "gradnorm": gradnorm,
}


def rule_of(name: str) -> Rule:
    """The rule `name` for gradients of any one shape, rescaled to their sum's norm.

    Raises ValueError for an unknown name.
    """
    check_name(name, RULES, "rule", " for gradients")

    def rule(grads: Sequence[Tensor]) -> Tensor:
        own = torch.stack([g.flatten() for g in grads])
        jacobian = gathered(own.T).T  # of all processes, as of one with the whole batch
        combination = RULES[name](jacobian)
        factor = jacobian.sum(0).norm() / combination.norm().clamp_min(1e-12)
        return own_rows(combination * factor).view_as(grads[0])

    return rule
