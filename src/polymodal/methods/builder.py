"""`Builder`: the slots that methods fill, from modalities, a latent size and network names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from polymodal.batch import Modality
from polymodal.checks import check_name, check_names
from polymodal.data.kinds import kind_of
from polymodal.distributions import product
from polymodal.methods.settings import FlowSettings
from polymodal.model import MultimodalVAE
from polymodal.networks import HEADS, Decoder, Expert, JointEncoder, Network, mlp, network_of
from polymodal.networks.flows import Flow
from polymodal.posteriors import (
    POOLINGS,
    Concatenated,
    JointWithSurrogates,
    PooledExperts,
    Posterior,
    SharedPrivate,
)
from polymodal.posteriors.pooling import Family, Pooling, Rule
from polymodal.priors import PRIORS, JointPrior, StandardNormal

FLOW_WIDTH = 512  # of the hidden layers on embeddings, where `hidden` is 0


class Builder:
    """Builds priors, encoders, decoders and experts for these modalities.

    Args:
        modalities: at least one, with distinct names.
        latent: D, dimensions of the latent.
        networks: a name of `polymodal.networks.NETWORKS` for some modalities; the others' are
            chosen by the kind of data and its shape.
        hidden: width of the hidden layers that are not part of `networks`: of the joint encoder
            (Senellart et al. 2023, table 4: 512), of the networks on embeddings, and of the
            classifier of `mfm`; 0: no hidden layer, on embeddings FLOW_WIDTH.

        features: sizes of some modalities' features in the joint encoder; the others' are `latent`.

    Raises ValueError for no or duplicate modalities, or networks or features of unknown modalities.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent: int,
        networks: Mapping[str, str] | None = None,
        hidden: int = 512,
        features: Mapping[str, int] | None = None,
    ) -> None:
        self.modalities, self.latent, self.hidden = tuple(modalities), latent, hidden
        self.names = [m.name for m in self.modalities]
        self.chosen = dict(networks or {})
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"A method needs at least one modality and distinct names, got {self.names}."
            )
        check_names(self.chosen, self.names, "networks")
        check_names(features or {}, self.names, "features")
        self.features = dict.fromkeys(self.names, latent) | dict(features or {})
        self.networks: dict[str, Network] = {
            m.name: network_of(m, self.chosen.get(m.name) or kind_of(m).network(m))
            for m in self.modalities
        }

    def values(self) -> dict[str, Any]:
        """The plain values from which every part is built, for `Stage.built_from`."""
        return {
            "modalities": self.modalities,
            "latent": self.latent,
            "networks": self.chosen,
            "hidden": self.hidden,
            "features": self.features,
        }

    def modality(self, name: str) -> Modality:
        """The modality of that name."""
        return self.modalities[self.names.index(name)]

    def prior(self) -> StandardNormal:
        """N(0, I) of `latent` dimensions."""
        return StandardNormal(self.latent)

    def encoder(self, m: Modality, out: int) -> nn.Module:
        """The modality's encoder, (B, *shape) -> (B, out)."""
        return self.networks[m.name].encoder(m.shape, out)

    def decoders(self, private: int = 0) -> dict[str, nn.Module]:
        """Decoders of z, or of [u, w_m] with z = [u, w_1, ..., w_M], u of `latent` dimensions and
        w_m of `private`.
        """
        decoders: dict[str, nn.Module] = {}
        for i, m in enumerate(self.modalities):
            start = self.latent + i * private
            columns = [*range(self.latent), *range(start, start + private)] if private else None
            network = self.networks[m.name]
            decoders[m.name] = Decoder(m, self.latent + private, network, columns)
        return decoders

    def independent(self, family: str = "normal") -> MultimodalVAE[Concatenated]:
        """Independent autoencoders on concatenated latents z = [z_1, ..., z_M], each of `latent`
        dimensions.
        """
        size, prior = self.latent, JointPrior([self.prior() for _ in self.modalities])
        decoders = {}
        for i, m in enumerate(self.modalities):
            columns = range(i * size, (i + 1) * size)
            decoders[m.name] = Decoder(m, size, self.networks[m.name], columns)
        posterior = Concatenated(self.experts(family), prior)
        return MultimodalVAE(prior, decoders, posterior, self.modalities)

    def joint(self, names: Sequence[str] | None = None) -> JointEncoder:
        """The joint encoder of the modalities `names` (None: all)."""
        chosen = [m for m in self.modalities if names is None or m.name in names]
        encoders = {m.name: self.encoder(m, self.features[m.name]) for m in chosen}
        return JointEncoder(encoders, self.features, self.hidden, self.latent)

    def experts(self, family: str = "normal", dim: int | None = None) -> dict[str, nn.Module]:
        """Experts q(z|x_m) of `dim` dimensions (None: `latent`), with a head of HEADS."""
        check_family(family)
        size = self.latent if dim is None else dim
        return {m.name: Expert(self.encoder(m, 2 * size), HEADS[family]()) for m in self.modalities}

    def flow_experts(
        self,
        flow: FlowSettings,
        embeddings: Mapping[str, nn.Module] | None = None,
        embedding_size: int = 0,
    ) -> dict[str, nn.Module]:
        """Experts with flows on x_m, or on embeddings[m](x_m) through an MLP (Senellart et al.
        2023, table 4).
        """
        out = 2 * self.latent
        if embeddings is None:
            return {
                m.name: Expert(self.encoder(m, out), flow.make(self.latent, out))
                for m in self.modalities
            }
        sizes = [embedding_size, *[self.hidden or FLOW_WIDTH] * 3, out]
        return {
            m: Expert(mlp(sizes), flow.make(self.latent, out), embed)
            for m, embed in embeddings.items()
        }

    def pooled(
        self,
        family: Family,
        rule: Rule = product,
        *,
        prior_expert: bool = False,
        posterior: str = "normal",
    ) -> MultimodalVAE[PooledExperts]:
        """A standard normal prior, and experts pooled over a family of subsets by a rule."""
        pooling = Pooling(family, rule, normal=True)
        return self.with_pooling(pooling, posterior, self.prior(), prior_expert)

    def with_pooling(
        self, pooling: Pooling, posterior: str, prior: nn.Module, prior_expert: bool = False
    ) -> MultimodalVAE[PooledExperts]:
        """A model whose experts are pooled.

        Args:
            posterior: "normal", "laplace", or "flow": normal experts pooled in the base coordinates
                of a shared flow.
            prior_expert: whether the prior is one more expert.
        """
        pooling.family(self.names)  # too many subsets are refused before anything is trained
        size = self.latent
        flow = None
        if posterior == "flow":
            flow = Flow(size, 2 * size, "coupling", 4, (128, 128), conditional=False)
        experts = self.experts("normal" if flow else posterior)
        q = PooledExperts(
            experts, pooling.family, prior, prior_expert=prior_expert, rule=pooling.rule, flow=flow
        )
        return MultimodalVAE(prior, self.decoders(), q, self.modalities)

    def with_private(
        self,
        shared: Callable[[nn.Module], Posterior],
        private: int,
        family: str = "normal",
        auxiliary: bool = False,
    ) -> MultimodalVAE[SharedPrivate]:
        """z = [u, w_1, ..., w_M]: `shared(p(u))` makes u's posterior, q(w_m|x_m) are experts of
        `private` dimensions.

        Args:
            auxiliary: whether there are learned priors r_m(w_m) from which foreign private latents
                are drawn (MMVAE+).
        """
        if private < 1:
            raise ValueError(f"Private latents need at least one dimension, got private={private}.")
        check_family(family)
        make: Callable[..., nn.Module] = PRIORS["normal" if family == "point" else family]
        prior = JointPrior([make(self.latent), *(make(private) for _ in self.names)])
        learned = {m: make(private, True) for m in self.names} if auxiliary else None
        q = SharedPrivate(shared(prior.parts[0]), self.experts(family, private), prior, learned)
        return MultimodalVAE(prior, self.decoders(private), q, self.modalities)

    def with_surrogates(
        self,
        prior: nn.Module,
        experts: Callable[[], Mapping[str, nn.Module]],
        posterior: Callable[[nn.Module, Mapping[str, nn.Module]], JointWithSurrogates],
    ) -> MultimodalVAE[JointWithSurrogates]:
        """Joint encoder, decoders, surrogates and the posterior of these, made in this order: one
        seed gives one first stage to all methods with a joint encoder.
        """
        joint, decoders = self.joint(), self.decoders()
        q = posterior(joint, experts())
        return MultimodalVAE(prior, decoders, q, self.modalities)


def check_family(name: str, families: Iterable[str] = HEADS) -> None:
    """Raises ValueError for a name that is no family of experts, or not one of `families`."""
    check_name(name, families, "posterior")


def learned_prior(name: str, size: int, learn_scale: bool) -> nn.Module:
    """The prior of PRIORS; `learn_scale`: a normal or Laplace prior learns its scales.

    Raises ValueError for an unknown name, or scales that do not exist.
    """
    check_name(name, PRIORS, "prior")
    if not learn_scale:
        return PRIORS[name](size)
    if name not in ("normal", "laplace"):
        raise ValueError(
            f"The prior {name!r} is learned already; learn_scale is for normal and laplace ones."
        )
    make: Callable[..., nn.Module] = PRIORS[name]
    return make(size, True)


def pooling_of(
    name: str, posterior: str, prior: str, prior_expert: bool, objective: str = "elbo"
) -> Pooling:
    """The pooling of POOLINGS. Raises ValueError for unknown names, and says why a combination has
    no meaning.
    """
    check_name(name, POOLINGS, "pooling")
    check_family(posterior, ("normal", "laplace", "flow"))
    if posterior == "laplace" and (POOLINGS[name].normal or prior_expert):
        also = " with the prior as an expert" if prior_expert else ""
        raise ValueError(
            f"Pooling {name!r}{also} multiplies or averages normal densities, and a product of"
            " Laplace experts has no closed form: take pooling=mixture, or posterior=normal."
        )
    if prior_expert and (prior != "normal" or posterior == "flow"):
        raise ValueError(
            "The prior can be an expert in a product of normal experts only if it is normal itself:"
            " take prior.name=normal and posterior=normal, or prior.expert=false."
        )
    if posterior == "flow" and objective == "dreg":
        raise ValueError(
            "objective=dreg needs normal or Laplace experts, not posterior=flow: take"
            " objective=iwae, or posterior=normal."
        )
    return POOLINGS[name]
