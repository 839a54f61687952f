"""Deep canonical correlation analysis: the information that modalities share.

Deep CCA (Andrew et al., 2013) trains one network g_m per modality to make the embeddings h_m =
g_m(x_m) as correlated as possible: `total_correlation` is that objective for any number of
modalities, as JNF-DCCA uses it (Senellart et al., 2023, section 2.3), and `contrastive` another one
with the same aim. Once trained, `polymodal.analysis.projection` rotates the embeddings so that
their dimensions come in order of correlation and says how many are worth keeping (their appendix B
keeps 9 of 16 on MNIST-SVHN, where ten classes leave nine directions).

The matrix T of these formulas, its closed forms and its numerics are those of
`polymodal.analysis.cca`. (Section 2.3 and appendix B print T with exponents +1/2, and its nuclear
norm as Tr(T^T T)^(1/2): slips for -1/2 and tr((T^T T)^(1/2)).)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from polymodal.analysis.cca import checked, pair
from polymodal.analysis.gathering import gathered, is_shared, own_rows


def correlations(a: Tensor, b: Tensor, ridge: float = 1e-3) -> Tensor:
    """Canonical correlations of two embeddings, the singular values of T (see `cca`), largest
    first.

    Their gradient is U diag(g) V^T and so holds no 1/(s_i^2 - s_j^2): it stays finite at repeated
    and at vanishing values, where it is one of the subgradients of their sum.

    Args:
        a: (N, d_a).
        b: (N, d_b), row n paired with row n of `a`.
        ridge: r >= 0; r times its mean is added to each covariance's diagonal. Above 0 it pulls
            every value down.

    Returns:
        (min(d_a, d_b),), in the dtype of `a` (float32 if that is a half precision), in [0, 1].

    Raises:
        ValueError: if shapes do not pair, if values are not finite, or if R is singular.

    >>> a = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> correlations(a, a.flip(0) * 5 + 2, ridge=0.0)
    tensor([1.])
    """
    return _back(torch.linalg.svdvals(pair(a, b, ridge).cross), a)


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
    values = torch.linalg.svdvals(pair(a, b, ridge).cross)
    if top is not None and not 1 <= top <= len(values):
        raise ValueError(
            f"`top` must be in 1 .. {len(values)}, the number of correlations, or None, got {top}."
        )
    return _back(values[:top].sum(), a)


def _gathered(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Embeddings and full masks of the global batch where gradients are needed: in validation every
    process has all of the data already.
    """
    embeddings, present = checked(embeddings, present)
    if not is_shared():
        return embeddings, present
    names = sorted(embeddings)  # the collectives must run in the same order everywhere
    masks = gathered(torch.stack([present[m] for m in names], 1).to(torch.uint8)).bool()
    every = {m: gathered(embeddings[m]) for m in names}
    return every, dict(zip(names, masks.unbind(1), strict=True))


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
    embeddings, present = _gathered(embeddings, present)
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
    embeddings, present = _gathered(embeddings, present)
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
    total = torch.stack(parts).sum(0)
    return own_rows(total) if is_shared() else total


def _info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE of a (N, d) and b (N, d) in both directions, (N,) nats."""
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT / temperature
    return (logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()
