"""g_m: embeddings of the information that modalities share, for the surrogates of JNF-DCCA.
EMBEDDERS names the ways to train them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.analysis.dcca import Projection, contrastive, fit_projections, total_correlation
from polymodal.batch import Batch, Modality
from polymodal.methods.builder import Builder
from polymodal.methods.settings import EmbeddingSettings
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.networks.augment import RandomShift

Values = dict[str, Tensor]  # of each modality


def _dcca(h: Values, present: Mapping[str, Tensor], ridge: float) -> Loss:
    """Minus the sum of pairwise total correlations, a number of the whole batch, for every
    sample.
    """
    total = total_correlation(h, present, ridge=ridge)
    size = len(next(iter(h.values())))
    return Loss(-total.expand(size), {"correlation": total.detach().expand(size)})


def _contrastive(h: Values, present: Mapping[str, Tensor], ridge: float) -> Loss:
    value = contrastive(h, present)
    return Loss(value, {"info_nce": value.detach()})


# How g_m is trained: a loss of the embeddings, or None for linear CCA in closed form.
EMBEDDERS: dict[str, Callable[[Values, Mapping[str, Tensor], float], Loss] | None] = {
    "dcca": _dcca,  # Senellart et al. 2023, section 2.3
    "contrastive": _contrastive,  # contrastive multiview coding, Tian et al. 2020
    "cca": None,
}


def make_embeddings(builder: Builder, settings: EmbeddingSettings) -> dict[str, nn.Module]:
    """g_m for every modality, each (B, *shape_m) -> (B, embedding_size): its encoder (or one linear
    map), then a `Projection`.
    """

    def network(m: Modality) -> nn.Module:
        size = settings.embedding_size
        if EMBEDDERS[settings.kind] is None:
            return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(m.shape), size))
        shift, dropout = RandomShift(settings.augment), nn.Dropout(settings.dropout)
        return nn.Sequential(shift, dropout, builder.encoder(m, size))

    return {
        m.name: nn.Sequential(network(m), Projection(settings.embedding_size))
        for m in builder.modalities
    }


def embedding_stage(names: Sequence[str], settings: EmbeddingSettings, part: str = "") -> Stage:
    """Trains g_m, then turns every g_m to its most correlated directions and uses the leading ones.

    The closing step is linear CCA (multiset CCA of three modalities and more) of the embeddings;
    the spectrum is measured on validation samples and written into `posterior.spectrum`.

    Args:
        names: of the modalities.
        part: the part of an expert that is its embedding; "": the expert itself.
    """
    learned = EMBEDDERS[settings.kind] is not None
    path = ".".join(["posterior.experts.{}", *filter(None, [part]), "0"])
    trains = [path.format(m) for m in names] if learned else []
    loss = Step(embedding_loss, kind=settings.kind, ridge=settings.ridge)
    directions = settings.num_directions
    finish = Step(turn_embeddings, learned=learned, num_directions=directions)
    return Stage("embeddings", loss, trains, finish=finish)


def _networks(model: MultimodalVAE) -> Mapping[str, nn.Module]:
    embeddings = model.posterior.embeddings
    if embeddings is None:
        raise ValueError("This model has no embeddings to train.")
    return embeddings.networks


def embedding_loss(
    model: MultimodalVAE, batch: Batch, progress: float, kind: str, ridge: float
) -> Loss:
    """The loss of EMBEDDERS[kind] on the embeddings of a batch."""
    objective = EMBEDDERS[kind]
    if objective is None:
        raise ValueError(f"The embedding {kind!r} has a closed form and no loss.")
    networks = _networks(model)
    return objective({m: networks[m](x) for m, x in batch.x.items()}, batch.present, ridge)


@torch.no_grad()
def turn_embeddings(
    model: Any,
    train: Iterable[Batch],
    val: Iterable[Batch],
    learned: bool,
    num_directions: int | None,
) -> dict[str, Any]:
    """Turns g_m to its most correlated directions: CCA of embeddings, or (not `learned`) of x."""
    networks: Mapping[str, Any] = _networks(model)
    raw = {m: g[0] if learned else nn.Flatten() for m, g in networks.items()}
    h, present = _collect(raw, train)
    held_out, held_out_present = _collect(raw, val)
    projections, correlations, used = fit_projections(
        h, num_directions, held_out, present=present, held_out_present=held_out_present
    )
    for m, g in networks.items():
        mean, matrix = projections[m]
        if not learned:
            mean, matrix = _set_linear(g[0][1], mean, matrix)
        g[1].set_(mean, matrix, used)
    spectrum = model.posterior.spectrum
    size = len(spectrum)
    spectrum.copy_(nn.functional.pad(correlations, (0, size))[:size])
    return {"spectrum": correlations[:size].tolist(), "num_directions": used}


def _set_linear(layer: nn.Linear, mean: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Puts the leading directions into a linear layer; the projection that is then left to do."""
    size = layer.out_features
    layer.weight.copy_(matrix[:, :size].T)
    layer.bias.copy_(-(mean @ matrix[:, :size]))
    return torch.zeros(size), torch.eye(size)


def _collect(
    networks: Mapping[str, nn.Module], batches: Iterable[Batch]
) -> tuple[Values, dict[str, Tensor]]:
    """networks[m](x_m) of all samples, and which are present, each (N, ...)."""
    values: dict[str, list[Tensor]] = {m: [] for m in networks}
    present: dict[str, list[Tensor]] = {m: [] for m in networks}
    for batch in batches:
        for m, network in networks.items():
            values[m].append(network(batch.x[m]))
            present[m].append(batch.mask([m]))
    return (
        {m: torch.cat(v) for m, v in values.items()},
        {m: torch.cat(v) for m, v in present.items()},
    )
