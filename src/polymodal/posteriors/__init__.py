"""q(z | x_S) for the non-empty subset S that a batch holds: Batch -> Distribution."""

from polymodal.posteriors.any_pattern import AnyPattern
from polymodal.posteriors.concatenated import Concatenated
from polymodal.posteriors.diffusion import JointWithDiffusion
from polymodal.posteriors.joint import JointWithSurrogates, SampledProduct
from polymodal.posteriors.likelihoods import (
    EmbeddingLikelihood,
    JointWithLikelihoods,
    SampledLikelihoods,
)
from polymodal.posteriors.masks import masks, observed
from polymodal.posteriors.patterns import JointEncoderPosterior, remember_patterns
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import POOLINGS
from polymodal.posteriors.posterior import Embeddings, Posterior
from polymodal.posteriors.private import SharedPrivate

__all__ = [
    "POOLINGS",
    "AnyPattern",
    "Concatenated",
    "EmbeddingLikelihood",
    "Embeddings",
    "JointEncoderPosterior",
    "JointWithDiffusion",
    "JointWithLikelihoods",
    "JointWithSurrogates",
    "PooledExperts",
    "Posterior",
    "SampledLikelihoods",
    "SampledProduct",
    "SharedPrivate",
    "masks",
    "observed",
    "remember_patterns",
]
