"""Linear canonical correlation analysis (CCA) of two or more embeddings, and how many directions to
keep.

S_a and S_b are the covariances (divided by N - 1) of a and b, S_ab their cross-covariance. The
singular values of

    T = R_a^(-1/2) S_ab R_b^(-1/2),    R = S + r v I,

are the canonical correlations. The ridge r is relative: v is the mean variance, tr(S) / d, so that
no value depends on the scale of an embedding. (Deep CCA has v = 1. Of networks as they are
initialised S is then far below r I, and training stands still until they have grown.) T is formed
as L_a^-1 S_ab L_b^-T with Cholesky factors L L^T = R: that is T up to a rotation on either side,
with the same singular values, and its gradient needs only triangular solves.

Everything is computed in float64, whatever the input: covariances square the condition number, so
that float32 whitening fails on ordinary embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import solve_triangular


def double(x: Tensor) -> Tensor:
    """`x` in float64, on the CPU where the device has no float64."""
    return x.to("cpu" if x.device.type == "mps" else x.device, torch.float64)


def factor(x: Tensor, rows: int, ridge: float) -> Tensor:
    """L with L L^T = S + ridge tr(S) / d I, S = x^T x / (rows - 1), for centred x (N, d)."""
    d = x.shape[-1]
    covariance = x.mT @ x / (rows - 1)
    variance = covariance.diagonal().mean().clamp(min=torch.finfo(x.dtype).tiny)
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    lower, info = torch.linalg.cholesky_ex(covariance + ridge * variance * identity)
    if not bool((info == 0) & torch.isfinite(lower).all()):
        if not torch.isfinite(x).all():
            raise ValueError(
                "Embeddings must be finite, got NaN or infinite values: look at the network or its"
                " input."
            )
        raise ValueError(
            f"Embeddings need a covariance of full rank, got {rows} rows of dimension {d} whose"
            f" covariance, its diagonal raised by {ridge} of its mean, is singular: use a larger"
            " ridge (1e-3 is usual), more rows, or fewer dimensions."
        )
    return lower


def whitened(x: Tensor, y: Tensor, rows: int, left: Tensor, right: Tensor) -> Tensor:
    """L_a^-1 S_ab L_b^-T (d_a, d_b) of centred x and y: T up to rotations."""
    half = solve_triangular(left, x.mT @ y / (rows - 1), upper=False)
    return solve_triangular(right, half.mT, upper=False).mT


class Pair(NamedTuple):
    """Means of two embeddings, Cholesky factors of their ridged covariances, and T up to
    rotations.
    """

    mean_a: Tensor
    mean_b: Tensor
    left: Tensor
    right: Tensor
    cross: Tensor


def pair(a: Tensor, b: Tensor, ridge: float) -> Pair:
    """`Pair` of a (N, d_a) and b (N, d_b), in float64 and differentiable."""
    if a.dim() != 2 or b.dim() != 2 or len(a) != len(b) or len(a) < 2:
        raise ValueError(
            "Correlation needs two embeddings (N, d_a) and (N, d_b) of the same N >= 2 rows, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    x, y, rows = double(a), double(b), len(a)
    mean_a, mean_b = x.mean(0), y.mean(0)
    x, y = x - mean_a, y - mean_b
    left, right = factor(x, rows, ridge), factor(y, rows, ridge)
    return Pair(mean_a, mean_b, left, right, whitened(x, y, rows, left, right))


def _checked_shapes(embeddings: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes (B, d_m). Raises ValueError for fewer than two modalities or several B."""
    shapes = {m: tuple(h.shape) for m, h in embeddings.items()}
    if (
        len(shapes) < 2
        or any(len(s) != 2 for s in shapes.values())
        or len({s[0] for s in shapes.values()}) != 1
    ):
        raise ValueError(
            "Expected embeddings (B, d_m) of at least two modalities, with the same B, got"
            f" {shapes}."
        )
    return shapes


def checked(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Embeddings, and a mask for each. Raises ValueError where shapes do not fit."""
    shapes = _checked_shapes(embeddings)
    masks = {
        m: present.get(m, torch.ones(len(h), dtype=torch.bool, device=h.device))
        for m, h in embeddings.items()
    }
    for m, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != shapes[m][:1]:
            raise ValueError(
                f"present[{m!r}] must be bool of shape {shapes[m][:1]}, got {mask.dtype} of shape"
                f" {tuple(mask.shape)}."
            )
    return dict(embeddings), masks


class CCA(NamedTuple):
    """Linear CCA: canonical variates (a - mean_a) @ A and (b - mean_b) @ B, and their
    correlations.
    """

    mean_a: Tensor
    mean_b: Tensor
    A: Tensor
    B: Tensor
    correlations: Tensor


class MultisetCCA(NamedTuple):
    """CCA of several modalities: variates (h_m - means[m]) @ matrices[m], and their mean pairwise
    correlations.
    """

    means: dict[str, Tensor]
    matrices: dict[str, Tensor]
    correlations: Tensor


@torch.no_grad()
def linear_cca(a: Tensor, b: Tensor, ridge: float = 1e-6) -> CCA:
    """Linear CCA in closed form: the directions along which two embeddings are most correlated.

    From the singular value decomposition T = U diag(rho) V^T (see the module): A = R_a^(-1/2) U, B
    = R_b^(-1/2) V. So A^T R_a A = I: variates are uncorrelated with unit variance (less a share r v
    |A_k|^2 for the ridge), and variate k of `a` has correlation rho_k
    with variate k of `b` and none with the others.

    Args:
        a: (N, d_a).
        b: (N, d_b).
        ridge: r >= 0, a share of the mean variance.

    Returns:
        `CCA`, in float64: mean_a (d_a,), mean_b (d_b,), A (d_a, k), B (d_b, k), correlations (k,)
        from the largest, k = min(d_a, d_b).

    Raises:
        ValueError: as `correlations`.

    >>> a = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> b = a[:, :2].exp()
    >>> cca = linear_cca(a, b, ridge=0.0)
    >>> u, v = (a - cca.mean_a) @ cca.A, (b - cca.mean_b) @ cca.B
    >>> correlations = [torch.corrcoef(torch.stack([u[:, k], v[:, k]]))[0, 1] for k in range(2)]
    >>> torch.allclose(torch.stack(correlations), cca.correlations)
    True
    """
    mean_a, mean_b, left, right, cross = pair(a, b, ridge)
    u, values, vh = torch.linalg.svd(cross, full_matrices=False)
    directions = (
        solve_triangular(left.mT, u, upper=True),
        solve_triangular(right.mT, vh.mT, upper=True),
    )
    return CCA(mean_a, mean_b, *directions, values)


@torch.no_grad()
def multiset_cca(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor] = {}, ridge: float = 1e-6
) -> MultisetCCA:
    """Linear CCA of any number of modalities (generalised CCA, MAXVAR: Kettenring, 1971), in closed
    form.

    Whiten each modality by W_m = R_m^(-1/2) and take the eigenvectors (v_1, ..., v_M) of
    the covariance of all whitened modalities side by side, largest eigenvalue first: each is the
    direction whose M variates are best explained by one common variable. Within a modality these
    blocks v_m are not orthogonal; orthogonalising them from the first on (Q_m of V_m = Q_m R_m,
    diag R_m >= 0) keeps the span of the leading ones and makes W_m Q_m a rotation of the whitened
    modality. Of two modalities this is `linear_cca`.

    The correlation of direction k is the mean over pairs i < j of (W_i Q_i)_k^T S_ij (W_j Q_j)_k.
    They come in the order of the eigenvalues and so need not quite descend; what only two of M
    modalities share counts for one pair in M (M - 1) / 2. Under masks a modality's moments come
    from the rows where it is present, a pair's from those where both are.

    Args:
        embeddings: each (N, d_m).
        present: each (N,) bool; no key: present in every row.
        ridge: r >= 0, a share of the mean variance.

    Returns:
        `MultisetCCA`, in float64: means[m] (d_m,), matrices[m] (d_m, k), correlations (k,), k =
        min_m d_m.

    Raises:
        ValueError: for shapes or masks that do not fit, if two modalities share fewer than 2 rows,
            or as `correlations`.

    >>> h = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    >>> multiset_cca({"a": h, "b": h * 3, "c": h.flip(1)}, ridge=0.0).correlations.float()
    tensor([1., 1.])
    """
    embeddings, present = checked(embeddings, present)
    rows = _shared_rows(present)
    means = {m: double(h[present[m]]).mean(0) for m, h in embeddings.items()}
    centred = {
        m: torch.where(present[m].to(means[m].device)[:, None], double(h) - means[m], 0.0)
        for m, h in embeddings.items()
    }
    factors = {m: factor(x, rows[m, m], ridge) for m, x in centred.items()}
    cross = {
        (i, j): whitened(centred[i], centred[j], rows[i, j], factors[i], factors[j])
        for i, j in combinations(embeddings, 2)
    }
    blocks = _maxvar({m: len(r) for m, r in factors.items()}, cross)
    spectrum = torch.stack(
        [(blocks[i] * (t @ blocks[j])).sum(0) for (i, j), t in cross.items()]
    ).mean(0)
    return MultisetCCA(
        means,
        {m: solve_triangular(factors[m].mT, q, upper=True) for m, q in blocks.items()},
        spectrum,
    )


def _shared_rows(present: Mapping[str, Tensor]) -> dict[tuple[str, str], int]:
    """How many rows every two modalities share. Raises ValueError for fewer than 2."""
    rows = {(i, j): int((present[i] & present[j]).sum()) for i in present for j in present}
    if min(rows.values()) < 2:
        raise ValueError(
            f"Every two modalities need at least 2 rows where both are present, got {rows}."
        )
    return rows


def _maxvar(dims: Mapping[str, int], cross: Mapping[tuple[str, str], Tensor]) -> dict[str, Tensor]:
    """Q_m (d_m, k) of `multiset_cca`. The identity blocks of the covariance move no eigenvector and
    are left out.
    """
    ends = dict(zip(dims, torch.tensor(list(dims.values())).cumsum(0).tolist(), strict=True))
    at = {m: slice(ends[m] - d, ends[m]) for m, d in dims.items()}
    whole = next(iter(cross.values())).new_zeros(sum(dims.values()), sum(dims.values()))
    for (i, j), t in cross.items():
        whole[at[i], at[j]], whole[at[j], at[i]] = t, t.mT
    leading = torch.linalg.eigh(whole).eigenvectors.flip(-1)[:, : min(dims.values())]
    rotations = {}
    for m in dims:
        q, r = torch.linalg.qr(leading[at[m]])
        rotations[m] = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    return rotations


def noise_floor(rows: int, d_a: int = 1, d_b: int = 1) -> float:
    """A bound that the largest correlation between two *independent* embeddings exceeds once in a
    hundred samples.

    The upper edge of the canonical correlations of independent samples (Wachter, 1980) plus
    1/sqrt(N):

        sqrt(p (1 - q)) + sqrt(q (1 - p)) + 1/sqrt(N),    p = d_a/N, q = d_b/N.

    For directions fixed beforehand, as when correlations are measured on held-out rows, d_a = d_b =
    1: 3/sqrt(N).

    Args:
        rows: N >= 1.
        d_a: dimensions the directions were chosen from, on these same rows.
        d_b: the same of the other embedding.

    >>> round(noise_floor(10_000), 3), round(noise_floor(10_000, 16, 16), 3)
    (0.03, 0.09)
    """
    p, q = d_a / rows, d_b / rows
    if p + q >= 1:
        return 1.0
    return min(1.0, math.sqrt(p * (1 - q)) + math.sqrt(q * (1 - p)) + 1 / math.sqrt(rows))


def choose_dim(spectrum: Tensor, floor: float = 0.0) -> int:
    """How many leading directions to keep: those before the spectrum falls to the noise.

    Let height be what a correlation has above the floor (0 below it, and 0 after the last one). A
    *fall* is a direction after which no height exceeds a fifth of its own; the directions up to the
    deepest fall are kept. There always is one, at the last direction above the floor. So a plateau
    is kept and a tail far beneath it is not, even a significant one; a spectrum that declines
    smoothly is kept down to the floor; and a large first gap does not cut unless what follows is
    next to nothing. If all directions are noise, one is kept.

    Args:
        spectrum: (k,), k >= 1, correlations by direction, best measured on held-out data.
        floor: what noise reaches, as from `noise_floor`.

    Returns:
        In 1 .. k.

    Raises:
        ValueError: for an empty spectrum, or one that is not finite or not one-dimensional.

    >>> choose_dim(torch.tensor([0.89, 0.85, 0.8, 0.74, 0.08, 0.05]), floor=0.03)
    4
    >>> choose_dim(torch.tensor([0.95, 0.5, 0.45, 0.4]), floor=0.03)
    4
    """
    if spectrum.dim() != 1 or not len(spectrum) or not torch.isfinite(spectrum).all():
        raise ValueError(f"Expected a spectrum (k,) of k >= 1 finite correlations, got {spectrum}.")
    height = (double(spectrum) - floor).clamp(min=0)
    later = torch.cat([height[1:].flip(0).cummax(0).values.flip(0), height.new_zeros(1)])
    depth = torch.where(later <= height / 5, height - later, 0.0)
    return int(depth.argmax()) + 1
