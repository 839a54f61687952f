"""JNF and JNF-DCCA: surrogates with normalising flows, whose products are drawn by a sampler.

Equations and appendices without another source are those of Senellart et al. 2023 (hal-04207134).
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from polymodal.checks import Count
from polymodal.methods.builder import Builder
from polymodal.methods.common import EMBEDDING, HIDDEN
from polymodal.methods.embeddings import embedding_stage, make_embeddings
from polymodal.methods.joint import joint_stage, product_figures, surrogate_stage
from polymodal.methods.likelihoods import likelihood_stage
from polymodal.methods.method import method
from polymodal.methods.settings import EmbeddingSettings, FlowSettings, SamplerSettings
from polymodal.model import Method, Stage, Step
from polymodal.posteriors import (
    JointWithLikelihoods,
    SampledLikelihoods,
    SampledProduct,
)
from polymodal.priors import NormalMixture

FLOW, SAMPLER = FlowSettings(), SamplerSettings()


@method(hidden=HIDDEN)
def jnf(
    builder: Builder, *, flow: FlowSettings = FLOW, sampler: SamplerSettings = SAMPLER
) -> Method:
    """JNF (Algorithm 1): the joint ELBO, then surrogates with flows; subsets have their product.

    Args:
        flow: see `polymodal.methods.settings.FlowSettings`.
        sampler: how subsets of two and more are drawn, see
            `polymodal.methods.settings.SamplerSettings`.
    """
    prior = builder.prior()
    combine = SampledProduct(prior, sampler.make())
    model = builder.with_surrogates(prior, lambda: builder.flow_experts(flow), combine)
    return Method(model, [joint_stage(builder), _surrogates(builder, flow)])


def _surrogates(
    builder: Builder, flow: FlowSettings, embed: bool = False, multiplied: bool = True
) -> Stage:
    """The stage of surrogates with flows, which are multiplied over the prior or not."""
    figures = Step(product_figures, tail_variance=flow.tail_variance)
    return surrogate_stage(builder.names, embed, figures if multiplied else None)


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
    size = embedding.embedding_size

    def experts() -> dict[str, nn.Module]:
        return builder.flow_experts(flow, make_embeddings(builder, embedding), size)

    shared = embedding_stage(builder, embedding, part="embed")
    last = _surrogates(builder, flow, embed=True, multiplied=product == "experts")
    stages = [joint_stage(builder), shared, last]
    prior = builder.prior()
    if product == "experts":
        combine = SampledProduct(prior, sampler.make())
        return Method(builder.with_surrogates(prior, experts, combine, size), stages)
    combine = SampledLikelihoods(NormalMixture(builder.latent, aggregate), sampler.make())
    model = builder.with_surrogates(prior, experts, combine, size, JointWithLikelihoods)
    return Method(model, [*stages, likelihood_stage(aggregate)])
