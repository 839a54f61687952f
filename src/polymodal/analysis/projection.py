"""Directions of embeddings in order of their correlation: fitted in closed form, and applied inside
a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polymodal.analysis.cca import (
    MultisetCCA,
    checked,
    choose_dim,
    double,
    linear_cca,
    multiset_cca,
    noise_floor,
)


class Projection(nn.Module):
    """h -> (h - mean) @ matrix with all but the first `used` columns zero: the most correlated
    directions of h.

    The output keeps the shape of h, so that a network that reads it need not know how many
    directions are used. `mean`, `matrix` (of all directions) and `kept` are buffers, saved with the
    model. A new projection changes nothing: mean 0, matrix I, all kept.

    Args:
        d: dimension of h.
        used: how many directions are used; None: `kept`.

    >>> projection = Projection(3)
    >>> projection.set_(torch.zeros(3), 2 * torch.eye(3), kept=2)
    >>> projection(torch.ones(1, 3)), projection.used
    (tensor([[2., 2., 0.]]), 2)
    """

    mean: Tensor
    matrix: Tensor
    kept: Tensor

    def __init__(self, d: int, used: int | None = None) -> None:
        super().__init__()
        self.chosen = used
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("matrix", torch.eye(d))
        self.register_buffer("kept", torch.tensor(d))

    @property
    def used(self) -> int:
        """How many directions are used."""
        return int(self.kept) if self.chosen is None else self.chosen

    def forward(self, h: Tensor) -> Tensor:
        """h (..., d) -> (..., d)."""
        used = self.kept if self.chosen is None else self.chosen
        leading = torch.arange(len(self.mean), device=self.matrix.device) < used
        return (h - self.mean) @ (self.matrix * leading)

    @torch.no_grad()
    def set_(self, mean: Tensor, matrix: Tensor, kept: int) -> None:
        """Copies `mean` (d,), `matrix` (d, d) and `kept` into the buffers.

        Raises:
            ValueError: if a shape does not fit or `kept` is not in 1 .. d. Nothing is changed then.
        """
        self._check(mean, matrix, kept)
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
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
    ridge: float = 1e-6,
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
        ridge: r >= 0, as in `linear_cca`.
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
