"""JNF and JNF-DCCA: surrogates with normalising flows, whose products are drawn by a sampler.

Equations and appendices without another source are those of Senellart et al. 2023 (hal-04207134).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import nn

from polymodal.checks import Count
from polymodal.methods.builder import Builder
from polymodal.methods.common import EMBEDDING, HIDDEN
from polymodal.methods.embeddings import embedding_stage, make_embeddings
from polymodal.methods.joint import flow_stage, joint_stage
from polymodal.methods.likelihoods import direction_stage, likelihood_stage, with_likelihoods
from polymodal.methods.method import method
from polymodal.methods.settings import EmbeddingSettings, FlowSettings, SamplerSettings
from polymodal.model import Method
from polymodal.posteriors import JointWithSurrogates, SampledProduct

FLOW, SAMPLER = FlowSettings(), SamplerSettings()
SHARED = 16  # directions of the surrogates' features that likelihoods describe


@method(hidden=HIDDEN)
def jnf(
    builder: Builder,
    *,
    flow: FlowSettings = FLOW,
    sampler: SamplerSettings = SAMPLER,
    product: Literal["experts", "likelihoods"] = "experts",
    aggregate: Count = 20,
) -> Method:
    """JNF (Algorithm 1): the joint ELBO, then surrogates with flows; subsets have their product.

    Args:
        flow: see `polymodal.methods.settings.FlowSettings`.
        sampler: how subsets of two and more are drawn, see
            `polymodal.methods.settings.SamplerSettings`.
        product: the posterior given several modalities. "experts" (the paper, eq. (12)):
            prod_m q(z | x_m) / p(z)^(n-1); "likelihoods": see `jnf_dcca`, of the 16 directions that
            the features of the surrogates share by CCA in closed form.
        aggregate: for product=likelihoods: how many normals a(z) is a mixture of.
    """
    prior, stages = builder.prior(), [joint_stage(builder), flow_stage(builder, flow)]
    experts = partial(builder.flow_experts, flow)
    if product == "experts":
        posterior = partial(JointWithSurrogates, combine=SampledProduct(prior, sampler.make()))
        return Method(builder.with_surrogates(prior, experts, posterior), stages)
    make = partial(with_likelihoods, builder, sampler, aggregate, SHARED, shares=True)
    model = builder.with_surrogates(prior, experts, make)
    return Method(model, [*stages, direction_stage(), likelihood_stage(aggregate)])


@method(hidden=HIDDEN, min_modalities=2)
def jnf_dcca(
    builder: Builder,
    *,
    flow: FlowSettings = FLOW,
    embedding: EmbeddingSettings = EMBEDDING,
    sampler: SamplerSettings = SAMPLER,
    product: Literal["experts", "likelihoods"] = "experts",
    aggregate: Count = 20,
) -> Method:
    """JNF-DCCA (Algorithm 1, eqs. (10) and (13)): JNF on embeddings g_m(x_m) of the information
    that the modalities share.

    Args:
        embedding: see `polymodal.methods.settings.EmbeddingSettings`.
        product: the posterior given several modalities. "experts" (the paper, eq. (13)):
            prod_m q(z | g_m) / p(z)^(n-1); "likelihoods": a(z) prod_m p(g_m | z) with learned
            likelihoods of the embeddings and the aggregate posterior a, which stays near the data
            for any number of modalities and latent dimensions.
        aggregate: for product=likelihoods: how many normals a(z) is a mixture of.
        flow, sampler: see `jnf`.
    """
    size, prior = embedding.embedding_size, builder.prior()

    def experts() -> dict[str, nn.Module]:
        return builder.flow_experts(flow, make_embeddings(builder, embedding), size)

    shared = embedding_stage(builder, embedding, part="embed")
    stages = [joint_stage(builder), shared, flow_stage(builder, flow, embedding)]
    if product == "experts":
        combine = SampledProduct(prior, sampler.make())
        posterior = partial(JointWithSurrogates, combine=combine, embedding_size=size)
        return Method(builder.with_surrogates(prior, experts, posterior), stages)
    make = partial(with_likelihoods, builder, sampler, aggregate, size)
    model = builder.with_surrogates(prior, experts, make)
    return Method(model, [*stages, likelihood_stage(aggregate)])
