"""g_m: embeddings of what the modalities share, for JNF-DCCA's surrogates. EMBEDDERS names the ways
to train them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.analysis.dcca import Projection, contrastive, fit_projections, total_correlation
from polymodal.batch import Batch, Modality
from polymodal.methods.builder import Parts
from polymodal.model import Stage
from polymodal.networks.augment import RandomShift
from polymodal.objectives import Loss

Embeddings = dict[str, Tensor]


def _dcca(h: Embeddings, present: Mapping[str, Tensor], ridge: float) -> Loss:
    """Minus the sum of pairwise total correlations, a number of the whole batch, for every sample."""
    total = total_correlation(h, present, ridge=ridge)
    size = len(next(iter(h.values())))
    return Loss(-total.expand(size), {"correlation": total.detach().expand(size)})


def _contrastive(h: Embeddings, present: Mapping[str, Tensor], ridge: float) -> Loss:
    value = contrastive(h, present)
    return Loss(value, {"info_nce": value.detach()})


# How g_m is trained: a loss of the embeddings, or None for linear CCA in closed form.
EMBEDDERS: dict[str, Callable[[Embeddings, Mapping[str, Tensor], float], Loss] | None] = {
    "dcca": _dcca,  # Senellart et al. 2023, section 2.3
    "contrastive": _contrastive,  # contrastive multiview coding, Tian et al. 2020
    "cca": None,
}


def embedders(
    parts: Parts, size: int, kind: str, augment: int, dropout: float
) -> dict[str, nn.Module]:
    """g_m for every modality, each (B, *shape_m) -> (B, size): its encoder (or one linear map),
    then a `Projection`.

    Raises ValueError for a `kind` that is not in EMBEDDERS.
    """
    if kind not in EMBEDDERS:
        raise ValueError(f"There is no embedder {kind!r}; there are {list(EMBEDDERS)}.")

    def net(m: Modality) -> nn.Module:
        if EMBEDDERS[kind] is None:
            return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(m.shape), size))
        return nn.Sequential(RandomShift(augment), nn.Dropout(dropout), parts.encoder(m, size))

    return {m.name: nn.Sequential(net(m), Projection(size)) for m in parts.modalities}


def _collect(
    nets: Mapping[str, nn.Module], batches: Iterable[Batch]
) -> tuple[Embeddings, dict[str, Tensor]]:
    """nets[m](x_m) of all samples and which are present, each (N, ...)."""
    found: dict[str, list[Tensor]] = {m: [] for m in nets}
    present: dict[str, list[Tensor]] = {m: [] for m in nets}
    for batch in batches:
        for m, net in nets.items():
            found[m].append(net(batch.x[m]))
            present[m].append(batch.mask([m]))
    return {m: torch.cat(v) for m, v in found.items()}, {
        m: torch.cat(v) for m, v in present.items()
    }


def embedding_stage(
    embeddings: Mapping[str, Any], posterior: Any, kind: str, kept: int | None, ridge: float
) -> Stage:
    """Trains g_m by `kind`, then turns every g_m to its most correlated directions and keeps `kept`
    of them.

    The closing step is linear CCA (three modalities and more: multiset CCA) of the embeddings; the
    spectrum is measured on validation samples and written into `posterior.spectrum`. kept=None:
    `polymodal.analysis.dcca.choose_dim` of it.
    """
    objective: Any = EMBEDDERS[kind]
    loss = lambda batch, _: objective(
        {m: embeddings[m](x) for m, x in batch.x.items()}, batch.present, ridge
    )

    @torch.no_grad()
    def finish(train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, Any]:
        raw = (
            {m: g[0] for m, g in embeddings.items()}
            if objective
            else {m: nn.Flatten() for m in embeddings}
        )
        h, here = _collect(raw, train)
        held, held_here = _collect(raw, val)
        found, correlations, keep = fit_projections(
            h, kept, held, present=here, held_out_present=held_here
        )
        for m, g in embeddings.items():
            mean, matrix = found[m]
            if objective is None:
                size = g[0][1].out_features
                g[0][1].weight.copy_(matrix[:, :size].T)
                g[0][1].bias.copy_(-(mean @ matrix[:, :size]))
                mean, matrix = torch.zeros(size), torch.eye(size)
            g[1].set_(mean, matrix, keep)
        size = len(posterior.spectrum)
        posterior.spectrum.copy_(nn.functional.pad(correlations, (0, size))[:size])
        return {"spectrum": correlations[:size].tolist(), "kept": keep}

    trains = [g[0] for g in embeddings.values()] if objective else []
    return Stage("embeddings", loss, trains, finish=finish)
