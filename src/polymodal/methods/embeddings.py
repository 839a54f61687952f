"""g_m: embeddings of the information that modalities share, for the surrogates of JNF-DCCA.
EMBEDDERS names the ways to train them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.analysis.dcca import contrastive, total_correlation
from polymodal.analysis.projection import Projection, fit_projections
from polymodal.batch import Batch, Modality
from polymodal.methods.builder import Builder
from polymodal.methods.settings import EmbeddingSettings
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.networks.augment import Dropout, RandomShift
from polymodal.networks.covariates import ValuesOnly

Values = dict[str, Tensor]  # of each modality
LOSS_RIDGE, CCA_RIDGE = 1e-3, 1e-4  # of deep CCA while it trains, and of CCA in closed form


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

    Raises ValueError for more directions than linear CCA can have.
    """
    fewest = min(math.prod(m.shape) for m in builder.modalities)
    closed = EMBEDDERS[settings.kind] is None
    if closed and settings.num_directions is not None and settings.num_directions > fewest:
        raise ValueError(
            f"embedding.num_directions={settings.num_directions} with kind={settings.kind}"
            f" must be at most {fewest}, the number of values of the smallest modality, or null."
        )

    def network(m: Modality) -> nn.Module:
        size = settings.embedding_size
        values = None if m.covariate is None else ValuesOnly(m.shape[0])
        if closed:
            _check_numbers(m, settings.kind)
            return nn.Sequential(values or nn.Flatten(), nn.Linear(math.prod(m.shape), size))
        shift = RandomShift(settings.augment)
        dropout = Dropout(0.0 if m.vocabulary else settings.dropout)  # a scaled id is another word
        layers = [shift, dropout, builder.encoder(m, size)]
        return nn.Sequential(*layers) if values is None else nn.Sequential(values, *layers)

    return {
        m.name: nn.Sequential(
            network(m), Projection(settings.embedding_size, settings.num_directions)
        )
        for m in builder.modalities
    }


def _check_numbers(m: Modality, kind: str) -> None:
    """Raises ValueError for text, of whose ids no linear map has a meaning."""
    if m.vocabulary:
        raise ValueError(
            f"embedding.kind={kind} reads numbers, and {m.name!r} is text; take"
            " embedding.kind=dcca."
        )


def embedding_stage(builder: Builder, settings: EmbeddingSettings, part: str = "") -> Stage:
    """Trains g_m, then rotates every g_m to its most correlated directions and uses the leading
    ones.

    The closing step is linear CCA (multiset CCA of three modalities and more) of the embeddings;
    the spectrum is measured on validation samples and written into `posterior.spectrum`. All
    directions are kept, so that the stage is the same for every `num_directions`.

    Args:
        part: the part of an expert that is its embedding; "": the expert itself.
    """
    learned = EMBEDDERS[settings.kind] is not None
    path = ".".join(["posterior.experts.{}", *filter(None, [part]), "0"])
    trains = [path.format(m) for m in builder.names] if learned else []
    ridge = LOSS_RIDGE if settings.ridge is None else settings.ridge
    loss = Step(embedding_loss, kind=settings.kind, ridge=ridge)
    closing = CCA_RIDGE if learned or settings.ridge is None else settings.ridge
    finish = Step(rotate_embeddings, learned=learned, ridge=closing)
    options = {k: v for k, v in settings if k != "num_directions"}
    built_from = {**builder.values(), "embedding": options}
    couples = settings.kind == "dcca"  # see `total_correlation`
    return Stage(
        "embeddings",
        loss,
        trains,
        finish=finish,
        built_from=built_from,
        min_pairs=2 * settings.embedding_size + 1 if couples else 0,
    )


def _networks(model: MultimodalVAE) -> Mapping[str, nn.Module]:
    embeddings = model.posterior.embeddings
    if embeddings is None:
        raise ValueError("This model has no embeddings to train.")
    return embeddings.networks


def embedding_loss(
    model: MultimodalVAE, batch: Batch, progress: float, kind: str, ridge: float
) -> Loss:
    """The loss of EMBEDDERS[kind] on the embeddings of a batch, of all their directions."""
    objective = EMBEDDERS[kind]
    if objective is None:
        raise ValueError(f"The embedding {kind!r} has a closed form and no loss.")
    networks: Mapping[str, Any] = _networks(model)  # each ends in a projection to those in use
    h = {m: networks[m][0](batch.inputs(m)) for m in batch.x}
    return objective(h, batch.present, ridge)


@torch.no_grad()
def rotate_embeddings(
    model: Any,
    train: Iterable[Batch],
    val: Iterable[Batch],
    learned: bool,
    ridge: float,
) -> dict[str, Any]:
    """Rotates g_m to its most correlated directions: CCA of embeddings, or (not `learned`) of x.

    Returns the spectrum, and how many directions are correlated above the noise: those that are
    used where num_directions is null.
    """
    networks: Mapping[str, Any] = _networks(model)
    raw = {m: g[0] if learned else g[0][0] for m, g in networks.items()}
    linear = {} if learned else {m: g[0][1] for m, g in networks.items()}
    projections = {m: g[1] for m, g in networks.items()}
    return fit_directions(raw, linear, projections, model, (train, val), ridge)


def fit_directions(
    raw: Mapping[str, nn.Module],
    linear: Mapping[str, nn.Linear],
    projections: Mapping[str, Projection],
    model: Any,
    data: tuple[Iterable[Batch], Iterable[Batch]],
    ridge: float,
) -> dict[str, Any]:
    """CCA of raw[m](x_m) on training batches, into the projections, or where they are too many
    numbers into the linear layers before them; the validation batches' correlations go into
    `posterior.spectrum`.

    Returns the spectrum, and how many directions are correlated above the noise.
    """
    (h, present), (held_out, held_out_present) = (_collect(raw, batches) for batches in data)
    found, correlations, shared = fit_projections(
        h, None, held_out, ridge, present, held_out_present
    )
    spectrum = model.posterior.spectrum
    size = len(spectrum)
    shared = min(shared, size)
    for m, projection in projections.items():
        mean, matrix = found[m]
        if m in linear:
            mean, matrix = _set_linear(linear[m], mean, matrix)
        projection.set_(mean, matrix, shared)
    spectrum.copy_(nn.functional.pad(correlations, (0, size))[:size])
    return {"spectrum": correlations[:size].tolist(), "correlated_directions": shared}


def _set_linear(layer: nn.Linear, mean: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Puts the leading directions into a linear layer, with zeros where there are fewer than its
    outputs; the projection that is then left to do.
    """
    size = layer.out_features
    leading = nn.functional.pad(matrix, (0, size))[:, :size]
    layer.weight.copy_(leading.T)
    layer.bias.copy_(-(mean @ leading))
    return torch.zeros(size), torch.eye(size)


def _collect(
    networks: Mapping[str, nn.Module], batches: Iterable[Batch]
) -> tuple[Values, dict[str, Tensor]]:
    """networks[m](x_m) of all samples, and which are present, each (N, ...)."""
    values: dict[str, list[Tensor]] = {m: [] for m in networks}
    present: dict[str, list[Tensor]] = {m: [] for m in networks}
    for batch in batches:
        for m, network in networks.items():
            values[m].append(network(batch.inputs(m)))
            present[m].append(batch.mask([m]))
    return (
        {m: torch.cat(v) for m, v in values.items()},
        {m: torch.cat(v) for m, v in present.items()},
    )
