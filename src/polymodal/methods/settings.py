"""Groups of settings that several methods share, each checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import ConfigDict

from polymodal.checks import (
    BelowOne,
    CountOrZero,
    DepthOrZero,
    Group,
    NonNegative,
    Positive,
    Size,
)
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.networks.flows import Flow
from polymodal.sampling import SAMPLERS, make_sampler


class FlowSettings(Group):
    """Normalising flows of surrogates: arguments of `polymodal.networks.flows.Flow`.

    Defaults are those of Senellart et al. (2023): 2 MADE blocks of 3 x 128, without a bound on the
    tails, without which many products of two flows have no finite integral.
    """

    kind: Literal["maf", "coupling", "spline"] = "maf"
    transforms: DepthOrZero = 2
    hidden: Annotated[tuple[Size, ...], MinLen(1)] = (128, 128, 128)
    conditional: bool = True
    max_scale: Positive = 1000.0
    tail_variance: Positive | None = None

    def make(self, dim: int, features: int) -> Flow:
        """A flow in `dim` dimensions that reads `features` numbers."""
        return Flow(dim, features, **dict(self))


class EmbeddingSettings(Group):
    """Embeddings g_m(x_m) of the information that modalities share.

    Args:
        kind: how g_m is trained: "dcca" (deep CCA), "contrastive" or "cca" (linear).
        embedding_size: dimensions of g_m (Senellart et al. 2023: 16).
        num_directions: how many of the most correlated directions are used (the paper: 9); null:
            chosen from the spectrum on validation data (`polymodal.analysis.cca.choose_dim`).
        ridge: share of the mean variance that is added to the diagonals of the covariances that
            "dcca" (null: 1e-3) and "cca" (null: 1e-4) invert.
        augment: random shifts of images, in pixels, while "dcca" or "contrastive" train.
        dropout: share of g_m's inputs that are set to 0 while "dcca" or "contrastive" train.
    """

    kind: Literal["dcca", "contrastive", "cca"] = "dcca"
    embedding_size: Size = 16
    num_directions: Size | None = None
    ridge: NonNegative | None = None
    augment: CountOrZero = 0
    dropout: BelowOne = 0.0

    def model_post_init(self, context: Any) -> None:
        if self.num_directions is not None and self.num_directions > self.embedding_size:
            raise ValueError(
                f"num_directions={self.num_directions} of an embedding is above its"
                f" embedding_size={self.embedding_size}; take at most that many, or null."
            )
        if self.kind == "cca" and (self.augment or self.dropout):
            raise ValueError(
                "augment and dropout act while an embedding is trained, and kind=cca has a closed"
                " form: leave them out, or take kind=dcca or contrastive."
            )


class SamplerSettings(Group):
    """A sampler of products of experts by name, with its own options.

    Args:
        name: a key of `polymodal.sampling.SAMPLERS`.
        further options: of the sampler, such as draws=100.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "hmc"

    def model_post_init(self, context: Any) -> None:
        self.make()

    @property
    def registry(self) -> Mapping[str, Callable[..., Any]]:
        return SAMPLERS

    def make(self) -> Any:
        """The sampler. Raises ValueError for an unknown name or option, with the nearest."""
        return make_sampler(self.name, self.registry, **(self.model_extra or {}))


class DiffusionSettings(SamplerSettings):
    """A sampler of diffusion priors by name, with its own options.

    Args:
        name: a key of `polymodal.diffusion.DIFFUSIONS`.
        further options: of the sampler, such as steps=50.
    """

    name: str = "diffusion"

    @property
    def registry(self) -> Mapping[str, Callable[..., Any]]:
        return DIFFUSIONS


class PriorSettings(Group):
    """A prior that is trained with the model.

    Args:
        name: a key of `polymodal.priors.PRIORS`.
        expert: whether it is one more expert of the posterior.
        learn_scale: whether a normal or Laplace prior learns its scales.
    """

    name: str = "normal"
    expert: bool = False
    learn_scale: bool = False
