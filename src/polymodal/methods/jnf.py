"""JNF and JNF-DCCA: surrogates with normalising flows, products drawn by a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from polymodal.batch import Modality
from polymodal.methods.builder import Parts
from polymodal.methods.embeddings import embedders, embedding_stage
from polymodal.methods.joint import Networks, _surrogate_stage, joint_stage
from polymodal.model import Method, MultimodalVAE
from polymodal.posteriors.joint import SampledProduct
from polymodal.sampling.registry import make_sampler


def _with_flows(
    parts: Parts,
    sampler: str,
    options: Mapping[str, Any] | None,
    embedded: Callable[[], Mapping[str, nn.Module] | None] = lambda: None,
    size: int = 0,
    **flow: Any,
) -> MultimodalVAE:
    """Surrogates with flows, on x_m or on embeddings of `size`; products of them over the prior are
    sampled.
    """
    prior = parts.prior()
    combine = SampledProduct(prior, make_sampler(sampler, **(options or {})))
    return parts.model(prior, lambda: parts.flow_experts(embedded(), size, **flow), combine)


def jnf(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    flow: str = "maf",
    transforms: int = 2,
    flow_hidden: Sequence[int] = (128, 128, 128),
    conditional: bool = True,
    max_scale: float = 1000.0,
    tail_variance: float | None = None,
    sampler: str = "hmc",
    sampler_options: Mapping[str, Any] | None = None,
) -> Method:
    """JNF (Senellart et al. 2023, Algorithm 1): the joint ELBO, then surrogates with flows;
    between, their product.

    Args:
        flow, transforms, flow_hidden, conditional, max_scale, tail_variance: see
            `polymodal.networks.flows.Flow`; the paper: 2 MADE of 3 x 128, without a bound
            `tail_variance`, without which many products of two have no finite integral.
        sampler: how subsets of two and more are drawn, a key of `polymodal.sampling.SAMPLERS`.
        sampler_options: its settings, such as {"draws": 100}.
    """
    model = _with_flows(
        Parts(modalities, latent, networks, hidden),
        sampler,
        sampler_options,
        kind=flow,
        transforms=transforms,
        hidden=flow_hidden,
        conditional=conditional,
        max_scale=max_scale,
        tail_variance=tail_variance,
    )
    return Method(model, [joint_stage(model), _surrogate_stage(model)])


def jnf_dcca(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    flow: str = "maf",
    transforms: int = 2,
    flow_hidden: Sequence[int] = (128, 128, 128),
    conditional: bool = True,
    max_scale: float = 1000.0,
    tail_variance: float | None = None,
    sampler: str = "hmc",
    sampler_options: Mapping[str, Any] | None = None,
    embedder: str = "dcca",
    size: int = 16,
    kept: int | None = None,
    ridge: float = 1e-3,
    augment: int = 0,
    dropout: float = 0.0,
) -> Method:
    """JNF-DCCA (Senellart et al. 2023, Algorithm 1, eqs. (10) and (13)): JNF on embeddings g_m(x_m)
    of what is shared.

    Args:
        embedder: how g_m is trained: "dcca", "contrastive" or "cca"; `ridge`: r of the whitening.
        size: dimensions of g_m (the paper: 16), of which the `kept` most correlated are used (the
            paper: 9; None: chosen from the spectrum on validation data by
            `polymodal.analysis.dcca.choose_dim`).
        augment, dropout: random shifts of images, in pixels, and of g_m's input, while it is
            trained.
        The others: see `jnf`.
    """
    parts = Parts(modalities, latent, networks, hidden)
    model = _with_flows(
        parts,
        sampler,
        sampler_options,
        lambda: embedders(parts, size, embedder, augment, dropout),
        size,
        kind=flow,
        transforms=transforms,
        hidden=flow_hidden,
        conditional=conditional,
        max_scale=max_scale,
        tail_variance=tail_variance,
    )
    embeddings = {m: expert.embed for m, expert in model.posterior.experts.items()}
    model.posterior.register_buffer("spectrum", torch.zeros(size))
    shared = embedding_stage(embeddings, model.posterior, embedder, kept, ridge)
    return Method(model, [joint_stage(model), shared, _surrogate_stage(model, embeddings)])
