"""Deep canonical correlation analysis: the information that modalities share.

Deep CCA (Andrew et al., 2013) trains one network g_m per modality to make the embeddings h_m =
g_m(x_m) as correlated as possible: `total_correlation` is that objective for any number of
modalities, as JNF-DCCA uses it (Senellart et al., 2023, section 2.3), and `contrastive` another one
with the same aim. Once trained, `fit_projections` rotates the embeddings so that their dimensions
come in order of correlation and says how many are worth keeping (their appendix B keeps 9 of 16 on
MNIST-SVHN, where ten classes leave nine directions); `Projection` applies that inside a model.

The matrix T of these formulas, its closed forms and its numerics are those of
`polymodal.analysis.cca`. (Section 2.3 and appendix B print T with exponents +1/2, and its nuclear
norm as Tr(T^T T)^(1/2): slips for -1/2 and tr((T^T T)^(1/2)).)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from polymodal.analysis.cca import (
    CCA,
    MultisetCCA,
    checked,
    choose_dim,
    double,
    linear_cca,
    multiset_cca,
    noise_floor,
    pair,
)

__all__ = [
    "CCA",
    "MultisetCCA",
    "Projection",
    "choose_dim",
    "contrastive",
    "correlation",
    "correlations",
    "fit_projections",
    "linear_cca",
    "multiset_cca",
    "noise_floor",
    "total_correlation",
]


def correlations(a: Tensor, b: Tensor, ridge: float = 1e-3) -> Tensor:
    """Canonical correlations of two embeddings, the singular values of T (see `cca`), largest
    first.

    Their gradient is U diag(g) V^T and so holds no 1/(s_i^2 - s_j^2): it stays finite at repeated
    and at vanishing values, where it is one of the subgradients of their sum.

    Args:
        a: (N, d_a).
        b: (N, d_b), row n paired with row n of `a`.
        ridge: r >= 0, added to both covariances' diagonals. Above 0 it pulls every value down.

    Returns:
        (min(d_a, d_b),), in the dtype of `a` (float32 if that is a half precision), in [0, 1].

    Raises:
        ValueError: if shapes do not pair, if values are not finite, or if S + r I is singular.

    >>> a = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> correlations(a, a.flip(0) * 5 + 2, ridge=0.0)
    tensor([1.])
    """
    return _back(torch.linalg.svdvals(pair(a, b, ridge).t), a)


def _back(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, torch.promote_types(like.dtype, torch.float32))


def correlation(a: Tensor, b: Tensor, ridge: float = 1e-3, top: int | None = None) -> Tensor:
    """Total canonical correlation of two embeddings, tr((T^T T)^(1/2)): the nuclear norm of T (see
    `cca`).

    Section 2.3 of Senellart et al. (2023), F(X_1, X_2). To be maximised. With N <= d_a + d_b rows
    some directions correlate perfectly whatever the embeddings hold, so batches must be far larger
    (800 rows for 16 dimensions there).

    Args:
        a: (N, d_a).
        b: (N, d_b), row n paired with row n of `a`.
        ridge: r >= 0, as in `correlations`.
        top: how many of the largest correlations to sum; None: all of them.

    Returns:
        Scalar in [0, min(d_a, d_b)], in the dtype that `correlations` has.

    Raises:
        ValueError: as `correlations`, and if `top` is not in 1 .. min(d_a, d_b).

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> round(correlation(a, a @ torch.tensor([[2.0, 1.0], [0.0, 3.0]]), ridge=0.0).item(), 6)
    2.0
    """
    values = torch.linalg.svdvals(pair(a, b, ridge).t)
    if top is not None and not 1 <= top <= len(values):
        raise ValueError(
            f"`top` must be in 1 .. {len(values)}, the number of correlations, or None, got {top}."
        )
    return _back(values[:top].sum(), a)


class _Gather(torch.autograd.Function):
    """Rows of all ranks, in order of rank; backward gives each rank the sum over ranks of its rows'
    gradients.

    (`torch.distributed.nn.functional.all_gather` does the same, but is deprecated.)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ranks = range(distributed.get_world_size())
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in ranks]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(distributed.get_world_size())[distributed.get_rank()]


def _is_distributed() -> bool:
    """Whether several processes train together."""
    running = distributed.is_available() and distributed.is_initialized()
    return running and distributed.get_world_size() > 1


def _gathered(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Embeddings and full masks of the global batch, and where this process's rows start in it.

    They are gathered only where gradients are needed: in validation every rank has all of the data
    already. In distributed training every rank must come with the same modalities and shapes. Each
    then computes the same global value, and the mean over ranks that data parallelism takes of the
    gradients is the gradient of one process with the whole batch.
    """
    embeddings, present = checked(embeddings, present)
    if not (_is_distributed() and torch.is_grad_enabled()):
        return embeddings, present, 0
    names = sorted(embeddings)  # the collectives must run in the same order everywhere
    start = distributed.get_rank() * len(embeddings[names[0]])
    masks = _Gather.apply(torch.stack([present[m] for m in names], 1).to(torch.uint8)).bool()
    every = {m: _Gather.apply(embeddings[m]) for m in names}
    return every, dict(zip(names, masks.unbind(1), strict=True)), start


def total_correlation(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor] = {}, ridge: float = 1e-3
) -> Tensor:
    """Sum over pairs i < j of modalities of `correlation(h_i, h_j)`, the objective of deep CCA. To
    be maximised.

    Section 2.3 of Senellart et al. (2023): sum_{i<j} F(g_i(X_i), g_j(X_j)). (Not the total
    correlation of information theory.) Each pair is measured on the rows where both are present. A
    pair with d_i + d_j such rows or fewer correlates perfectly in some directions whatever it
    holds; it has no gradient of use and contributes 0.

    In distributed training the embeddings of all ranks are gathered first, so that several
    processes give the value and the gradient of one; each must hold the same modalities and the
    same number of rows.

    Args:
        embeddings: h_m = g_m(x_m), each (B, d_m).
        present: each (B,) bool; no key: present in every row. Values in absent rows have no
            effect.
        ridge: r >= 0, as in `correlations`.

    Returns:
        Scalar, in [0, sum_{i<j} min(d_i, d_j)].

    Raises:
        ValueError: for one modality, for shapes or masks that do not fit, if every pair has too few
            rows, or as `correlations`.

    >>> h = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> round(total_correlation({"a": h, "b": h + 1, "c": -h}, ridge=0.0).item(), 4)
    6.0
    """
    embeddings, present, _ = _gathered(embeddings, present)
    parts, short = [], ""
    for i, j in combinations(embeddings, 2):
        both = present[i] & present[j]
        rows, needed = int(both.sum()), embeddings[i].shape[1] + embeddings[j].shape[1]
        if rows > needed:
            parts.append(correlation(embeddings[i][both], embeddings[j][both], ridge))
        else:
            short = f"{i!r} and {j!r} have {rows} rows in common and {needed} dimensions together"
    if not parts:
        raise ValueError(
            "Correlation needs more rows than a pair of modalities has dimensions together, which"
            f" no pair has ({short}): use a larger batch (dropping an incomplete last one) or"
            " smaller embeddings."
        )
    return torch.stack(parts).sum()


def contrastive(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor] = {}, temperature: float = 0.07
) -> Tensor:
    """InfoNCE over all pairs of modalities: another way to learn what they share. Per sample, in
    nats; to be minimised.

    Contrastive multiview coding on the full graph (Tian et al., 2020), with s_nk = cos(h_i,n,
    h_j,k) / temperature:

        L_n = sum_{i<j} 1/2 [ -log softmax_k(s_nk)[n] - log softmax_k(s_kn)[n] ]

    Of two modalities, log B - E[L] is a lower bound on the mutual information of x_i and x_j (van
    den Oord et al., 2018); embeddings without information give log B. A pair counts only where both
    are present, and has its candidates only there; elsewhere it contributes 0. In distributed
    training the candidates are those of all ranks, as in `total_correlation`.

    Args:
        embeddings: h_m = g_m(x_m), each (B, d), of the same d.
        present: each (B,) bool; no key: present in every row. Values in absent rows have no
            effect.
        temperature: > 0.

    Returns:
        (B,), >= 0.

    Raises:
        ValueError: for one modality, for shapes or masks that do not fit, or a temperature that is
            not positive.

    >>> contrastive({"a": torch.eye(4), "b": torch.ones(4, 4)})  # "b" is constant: log 4 each
    tensor([1.3863, 1.3863, 1.3863, 1.3863])
    """
    rows = len(next(iter(embeddings.values()), ()))
    embeddings, present, start = _gathered(embeddings, present)
    dims = {m: h.shape[1] for m, h in embeddings.items()}
    if len(set(dims.values())) != 1 or not temperature > 0:
        raise ValueError(
            f"Expected embeddings of one dimension and a temperature > 0, got {dims} and"
            f" {temperature}."
        )
    parts = []
    for i, j in combinations(embeddings, 2):
        both = present[i] & present[j]
        loss = _info_nce(embeddings[i][both], embeddings[j][both], temperature)
        parts.append(torch.zeros_like(both, dtype=loss.dtype).masked_scatter(both, loss))
    return torch.stack(parts).sum(0)[start : start + rows]


def _info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE of a (N, d) and b (N, d) in both directions, (N,) nats."""
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT / temperature
    return (logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()


class Projection(nn.Module):
    """h -> (h - mean) @ matrix with all but the first `kept` columns zero: the most correlated
    directions of h.

    The output keeps the shape of h, so that a network that reads it need not know how many
    directions were kept. All three are buffers, saved with the model. A new projection changes
    nothing: mean 0, matrix I, all kept.

    Args:
        d: dimension of h.

    >>> projection = Projection(3)
    >>> projection.set_(torch.zeros(3), 2 * torch.eye(3), kept=2)
    >>> projection(torch.ones(1, 3)), int(projection.kept)
    (tensor([[2., 2., 0.]]), 2)
    """

    mean: Tensor
    matrix: Tensor
    kept: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("matrix", torch.eye(d))
        self.register_buffer("kept", torch.tensor(d))

    def forward(self, h: Tensor) -> Tensor:
        """h (..., d) -> (..., d)."""
        return (h - self.mean) @ self.matrix

    @torch.no_grad()
    def set_(self, mean: Tensor, matrix: Tensor, kept: int) -> None:
        """Copies `mean` (d,) and the first `kept` columns of `matrix` (d, d) into the buffers.

        Raises:
            ValueError: if a shape does not fit or `kept` is not in 1 .. d. Nothing is changed then.
        """
        self._check(mean, matrix, kept)
        self.mean.copy_(mean)
        self.matrix.copy_(matrix * (torch.arange(len(mean), device=matrix.device) < kept))
        self.kept.fill_(kept)

    def _check(self, mean: Tensor, matrix: Tensor, kept: int) -> None:
        d = len(self.mean)
        if mean.shape != (d,) or matrix.shape != (d, d) or not 1 <= kept <= d:
            raise ValueError(
                f"Expected mean ({d},), matrix ({d}, {d}) and kept in 1 .. {d}, "
                f"got {tuple(mean.shape)}, {tuple(matrix.shape)} and {kept}."
            )


@torch.no_grad()
def fit_projections(
    embeddings: Mapping[str, Tensor],
    num_directions: int | None = None,
    held_out: Mapping[str, Tensor] | None = None,
    ridge: float = 1e-4,
    present: Mapping[str, Tensor] = {},
    held_out_present: Mapping[str, Tensor] = {},
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, int]:
    """Directions of each embedding in order of correlation, how correlated each is, and how many to
    keep.

    Of two modalities `linear_cca` on the rows where both are present, of more `multiset_cca`. The
    last step of training g_m in JNF-DCCA (Senellart et al., 2023, appendix B; of three modalities
    the paper keeps all dimensions).

    Args:
        embeddings: each (N, d_m).
        num_directions: how many to keep; None: `choose_dim` of the spectrum above its
            `noise_floor`.
        held_out: each (N', d_m), on which to measure the spectrum: the mean over pairs of the
            correlation of their k-th variates. None: that of the training rows, which is too high,
            the more so where networks were trained on them.
        ridge: r >= 0.
        present: each (N,) bool; no key: present in every row.
        held_out_present: the same for `held_out`.

    Returns:
        {m: (mean (d_m,), matrix (d_m, d_m))} for `Projection.set_` (columns beyond k = min_m d_m
        are zero), the spectrum (k,), and how many to keep, all in float64.

    Raises:
        ValueError: for `num_directions` not in 1 .. k, if `held_out` has other modalities or
            dimensions, if two modalities share fewer than 2 rows, or as `linear_cca`.

    >>> h = torch.randn(2, 1000, 4, generator=torch.Generator().manual_seed(0))
    >>> a, b = h[0], torch.cat([h[0, :, :2] + 0.1 * h[1, :, :2], h[1, :, 2:]], dim=1)
    >>> projections, spectrum, kept = fit_projections({"a": a, "b": b})  # two directions are shared
    >>> kept
    2
    """
    embeddings, present = checked(embeddings, present)
    fitted = _fit(embeddings, present, ridge)
    spectrum, dims = fitted.correlations, {m: h.shape[1] for m, h in embeddings.items()}
    if num_directions is not None and not 1 <= num_directions <= len(spectrum):
        raise ValueError(
            f"`num_directions` must be in 1 .. {len(spectrum)}, the smallest embedding's dimension,"
            f" got {num_directions}."
        )
    chosen_from = dims
    if held_out is not None:
        held_out, present = _checked_held_out(held_out, held_out_present, dims)
        spectrum, chosen_from = _measured(fitted, held_out, present), dict.fromkeys(dims, 1)
    if num_directions is None:
        num_directions = choose_dim(spectrum, _mean_floor(present, chosen_from))
    projections = {}
    for m, matrix in fitted.matrices.items():
        projections[m] = fitted.means[m], F.pad(matrix, (0, dims[m] - len(spectrum)))
    return {m: projections[m] for m in dims}, spectrum, num_directions


def _checked_held_out(
    held_out: Mapping[str, Tensor], present: Mapping[str, Tensor], dims: dict[str, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Held-out embeddings and their masks. Raises ValueError for other dimensions than `dims`."""
    held_out_dims = {m: h.shape[-1] for m, h in held_out.items()}
    if held_out_dims != dims:
        raise ValueError(
            f"Held-out embeddings must have the dimensions {dims}, got {held_out_dims}."
        )
    return checked(held_out, present)


def _mean_floor(present: dict[str, Tensor], dims: dict[str, int]) -> float:
    """The mean over pairs of modalities of `noise_floor`, with directions chosen from `dims`."""
    floors = []
    for i, j in combinations(dims, 2):
        rows = int((present[i] & present[j]).sum())
        floors.append(noise_floor(rows, dims[i], dims[j]))
    return sum(floors) / len(floors)


def _fit(embeddings: dict[str, Tensor], present: dict[str, Tensor], ridge: float) -> MultisetCCA:
    if len(embeddings) > 2:
        return multiset_cca(embeddings, present, ridge)
    (i, a), (j, b) = embeddings.items()
    both = present[i] & present[j]
    pair_cca = linear_cca(a[both], b[both], ridge)
    means, matrices = {i: pair_cca.mean_a, j: pair_cca.mean_b}, {i: pair_cca.A, j: pair_cca.B}
    return MultisetCCA(means, matrices, pair_cca.correlations)


def _measured(
    fitted: MultisetCCA, embeddings: dict[str, Tensor], present: dict[str, Tensor]
) -> Tensor:
    """Mean over pairs of the correlation of their k-th variates, (k,)."""
    values = []
    for i, j in combinations(embeddings, 2):
        both = present[i] & present[j]
        if both.sum() < 2:
            raise ValueError(
                f"Held-out {i!r} and {j!r} need at least 2 rows where both are present, got fewer."
            )
        u, v = (
            (double(embeddings[m][both]) - fitted.means[m]) @ fitted.matrices[m] for m in (i, j)
        )
        values.append(_column_correlations(u, v))
    return torch.stack(values).mean(0)


def _column_correlations(u: Tensor, v: Tensor) -> Tensor:
    """The correlation of the k-th columns of u and v (N, K), (K,); 0 where a column is constant."""
    u, v = u - u.mean(0), v - v.mean(0)
    # the bound makes it 0, not 0/0, for a dead dimension
    scale = (u.square().sum(0) * v.square().sum(0)).sqrt().clamp(min=1e-300)
    return (u * v).sum(0) / scale
