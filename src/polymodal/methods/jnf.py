"""JNF and JNF-DCCA: surrogates with normalising flows, whose products are drawn by a sampler.

Equations and appendices without another source are those of Senellart et al. 2023 (hal-04207134).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from polymodal.methods.builder import Builder
from polymodal.methods.common import EMBEDDING, HIDDEN
from polymodal.methods.embeddings import embedding_stage, make_embeddings
from polymodal.methods.joint import Surrogates, joint_stage, surrogate_stage
from polymodal.methods.method import method
from polymodal.methods.settings import EmbeddingSettings, FlowSettings, SamplerSettings
from polymodal.model import Method
from polymodal.posteriors import SampledProduct

FLOW, SAMPLER = FlowSettings(), SamplerSettings()


def _with_flows(
    builder: Builder,
    flow: FlowSettings,
    sampler: SamplerSettings,
    embed: Callable[[], Mapping[str, nn.Module] | None] = lambda: None,
    embedding_size: int = 0,
) -> Surrogates:
    """Surrogates with flows, on x_m or on embeddings; their products over the prior are sampled."""
    prior = builder.prior()

    def experts() -> dict[str, nn.Module]:
        return builder.flow_experts(flow, embed(), embedding_size)

    combine = SampledProduct(prior, sampler.make())
    return builder.with_surrogates(prior, experts, combine, embedding_size)


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
    model = _with_flows(builder, flow, sampler)
    return Method(model, [joint_stage(builder), surrogate_stage(builder.names)])


@method(hidden=HIDDEN, min_modalities=2)
def jnf_dcca(
    builder: Builder,
    *,
    flow: FlowSettings = FLOW,
    embedding: EmbeddingSettings = EMBEDDING,
    sampler: SamplerSettings = SAMPLER,
) -> Method:
    """JNF-DCCA (Algorithm 1, eqs. (10) and (13)): JNF on embeddings g_m(x_m) of the information
    that the modalities share.

    Args:
        embedding: see `polymodal.methods.settings.EmbeddingSettings`.
        flow, sampler: see `jnf`.
    """
    size = embedding.embedding_size
    model = _with_flows(builder, flow, sampler, lambda: make_embeddings(builder, embedding), size)
    shared = embedding_stage(builder.names, embedding, part="embed")
    stages = [joint_stage(builder), shared, surrogate_stage(builder.names, embed=True)]
    return Method(model, stages)
