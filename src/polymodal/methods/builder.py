"""`Parts`: the slots that methods fill, built from modalities, a latent size and network names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from polymodal.batch import Batch, Modality
from polymodal.checks import meant
from polymodal.data.kinds import kind_of
from polymodal.distributions.normal import DiagNormal
from polymodal.methods.options import check
from polymodal.model import MultimodalVAE
from polymodal.networks.architectures import Network, network_of
from polymodal.networks.flows import Flow
from polymodal.networks.heads import HEADS
from polymodal.networks.layers import mlp
from polymodal.networks.modules import Decoder, Expert, JointEncoder
from polymodal.objectives import Loss, elbo
from polymodal.posteriors.concatenated import Concatenated
from polymodal.posteriors.joint import JointWithSurrogates
from polymodal.posteriors.masks import Combine
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import POOLINGS
from polymodal.posteriors.private import SharedPrivate
from polymodal.priors import PRIORS, JointPrior, StandardNormal


class Parts:
    """Prior, encoders, decoders and experts for these modalities, with a latent of `latent`
    dimensions.

    Args:
        modalities: at least one, with distinct names.
        latent: D.
        networks: a name of `polymodal.networks.architectures.NETWORKS` for some modalities; the
            others' are chosen by shape.
        hidden: width of the joint encoder's hidden layer (Table 4: 512); 0: none, and 512 for
            experts on embeddings.

    Raises ValueError for no or doubled modalities, sizes out of range, or networks for unknown
    modalities.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent: int,
        networks: Mapping[str, str] | None = None,
        hidden: int = 512,
    ) -> None:
        check(latent=latent, hidden=hidden)
        self.modalities, self.latent, self.hidden = tuple(modalities), latent, hidden
        names = [m.name for m in self.modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"A method needs at least one modality and distinct names, got {names}."
            )
        for m in networks or {}:
            if m not in names:
                raise ValueError(
                    f"networks names the modality {m!r}, which the data does not have;"
                    f" {meant(m, names)}"
                )
        self.networks: dict[str, Network] = {
            m.name: network_of(m, (networks or {}).get(m.name) or kind_of(m).network(m))
            for m in self.modalities
        }

    def prior(self) -> StandardNormal:
        return StandardNormal(self.latent)

    def encoder(self, m: Modality, out: int) -> nn.Module:
        return self.networks[m.name].encoder(m.shape, out)

    def decoders(self, private: int = 0) -> dict[str, nn.Module]:
        """Decoders of z, or of [u, w_m] with z = [u, w_1, ..., w_M], u of `latent` dimensions and
        w_m of `private`.
        """
        if not private:
            return {m.name: Decoder(m, self.latent, self.networks[m.name]) for m in self.modalities}
        starts = {m.name: self.latent + i * private for i, m in enumerate(self.modalities)}
        reads = {
            m: [*range(self.latent), *range(start, start + private)] for m, start in starts.items()
        }
        size = self.latent + private
        return {
            m.name: Decoder(m, size, self.networks[m.name], reads[m.name]) for m in self.modalities
        }

    def apart(self, family: str = "normal") -> MultimodalVAE:
        """Independent autoencoders on concatenated latents z = [z_1, ..., z_M], each of `latent`
        dimensions.
        """
        size, prior = self.latent, JointPrior([self.prior() for _ in self.modalities])
        decoders = {
            m.name: Decoder(m, size, self.networks[m.name], range(i * size, (i + 1) * size))
            for i, m in enumerate(self.modalities)
        }
        return MultimodalVAE(
            prior, decoders, Concatenated(self.experts(family), prior), self.modalities
        )

    def joint(self, names: Sequence[str] | None = None) -> JointEncoder:
        """The joint encoder of `names` (None: all)."""
        encoders = {
            m.name: self.encoder(m, self.latent)
            for m in self.modalities
            if names is None or m.name in names
        }
        return JointEncoder(encoders, self.latent, self.hidden, self.latent)

    def experts(self, family: str = "normal", dim: int | None = None) -> dict[str, nn.Module]:
        """Experts q(z|x_m) of `dim` dimensions (None: `latent`), the last layer doubled for a head
        of HEADS.
        """
        check_family(family)
        size = self.latent if dim is None else dim
        return {m.name: Expert(self.encoder(m, 2 * size), HEADS[family]()) for m in self.modalities}

    def mixture(
        self,
        pooling: str,
        posterior: str = "normal",
        prior: str = "normal",
        *,
        prior_expert: bool = False,
        learn_prior: bool = False,
    ) -> tuple[nn.Module, PooledExperts]:
        """The prior and the posterior of this pooling.

        Args:
            pooling: a key of `polymodal.posteriors.pooling.POOLINGS`.
            posterior: "normal", "laplace", or "flow": normal experts pooled in the base coordinates
                of a shared flow.
            prior: a key of `polymodal.priors.PRIORS`.
            prior_expert: whether it is one more expert.
            learn_prior: whether a normal or Laplace prior learns its scales.

        Raises ValueError for an unknown name or a combination without meaning.
        """
        check_pooling(pooling, posterior, prior, prior_expert, learn_prior)
        how, size = POOLINGS[pooling], self.latent
        p = PRIORS[prior](size, True) if learn_prior else PRIORS[prior](size)  # type: ignore[call-arg]
        flow = (
            Flow(size, 2 * size, "coupling", 4, (128, 128), conditional=False)
            if posterior == "flow"
            else None
        )
        experts = self.experts("normal" if flow else posterior)
        return p, PooledExperts(
            experts, how.family, p, prior_expert=prior_expert, rule=how.rule, flow=flow
        )

    def pooled(
        self, pooling: str, posterior: str = "normal", prior: str = "normal", **options: bool
    ) -> MultimodalVAE:
        """A model with the prior and posterior that `mixture` makes of the same arguments."""
        p, q = self.mixture(pooling, posterior, prior, **options)
        return MultimodalVAE(p, self.decoders(), q, self.modalities)

    def with_private(
        self,
        shared: Callable[[nn.Module], Any],
        private: int,
        family: str = "normal",
        auxiliary: bool = False,
    ) -> MultimodalVAE:
        """z = [u, w_1, ..., w_M]: `shared(p(u))` makes u's posterior, q(w_m|x_m) are experts of
        `private` dimensions.

        Args:
            auxiliary: whether there are learned priors r_m(w_m) from which foreign private latents
                are drawn (MMVAE+).
        """
        if private < 1:
            raise ValueError(f"Private latents need at least one dimension, got private={private}.")
        check_family(family)
        of, names = (
            PRIORS["normal" if family == "point" else family],
            [m.name for m in self.modalities],
        )
        p = JointPrior([of(self.latent), *(of(private) for _ in names)])
        aside = {m: of(private, True) for m in names} if auxiliary else None  # type: ignore[call-arg]
        posterior = SharedPrivate(shared(p.parts[0]), self.experts(family, private), p, aside)
        return MultimodalVAE(p, self.decoders(private), posterior, self.modalities)

    def flow_experts(
        self, embeddings: Mapping[str, nn.Module] | None = None, size: int = 0, **flow
    ) -> dict[str, nn.Module]:
        """Experts with flows on x_m, or on embeddings[m](x_m) of `size` through an MLP (Table 4)."""
        out = 2 * self.latent
        if embeddings is None:
            return {
                m.name: Expert(self.encoder(m, out), Flow(self.latent, out, **flow))
                for m in self.modalities
            }
        net = lambda: mlp([size, *[self.hidden or 512] * 3, out])
        return {
            m: Expert(net(), Flow(self.latent, out, **flow), embed)
            for m, embed in embeddings.items()
        }

    def model(
        self, prior: nn.Module, experts: Callable[[], Mapping[str, nn.Module]], combine: Combine
    ) -> MultimodalVAE:
        """Joint encoder, decoders and surrogates, made in this order: one seed gives one first
        stage to all.
        """
        joint, decoders = self.joint(), self.decoders()
        return MultimodalVAE(
            prior, decoders, JointWithSurrogates(joint, experts(), combine), self.modalities
        )


def check_family(name: str, known: Iterable[str] = HEADS) -> None:
    """Raises ValueError for what is no family of experts, or none of those that are `known` here."""
    if name not in list(known):
        raise ValueError(f"There is no posterior {name!r} here; {meant(name, known)}")


def check_pooling(
    pooling: str, posterior: str, prior: str, prior_expert: bool, learn_prior: bool
) -> None:
    """Raises ValueError for unknown names, and says why where a combination has no meaning."""
    for what, name, known in (
        ("pooling", pooling, POOLINGS),
        ("posterior", posterior, ("normal", "laplace", "flow")),
        ("prior", prior, PRIORS),
    ):
        if name not in known:
            raise ValueError(f"There is no {what} {name!r}; {meant(name, known)}")
    if posterior == "laplace" and (POOLINGS[pooling].normal or prior_expert):
        raise ValueError(
            f"Pooling {pooling!r}{' with the prior as an expert' if prior_expert else ''}"
            " multiplies or averages normal densities, and a product of Laplace experts has no"
            " closed form: take pooling=mixture, or posterior=normal."
        )
    if prior_expert and (prior != "normal" or posterior == "flow"):
        raise ValueError(
            "The prior can be an expert in a product of normal experts only if it is normal itself:"
            " take prior=normal and posterior=normal, or prior_expert=false."
        )
    if learn_prior and prior not in ("normal", "laplace"):
        raise ValueError(
            f"The prior {prior!r} is learned already; learn_prior is for normal and laplace ones."
        )


def rise(progress: float, warmup: float) -> float:
    """The factor of a warm-up: linearly from 0 to 1 over the share `warmup` of a stage."""
    return min(1.0, progress / warmup) if warmup else 1.0


def joint_elbo(model: MultimodalVAE, batch: Batch, kl: float = 1.0, consensus: float = 0.0) -> Loss:
    """L(q(z|X); 1, kl, consensus): the joint encoder's ELBO, with the surrogates' consensus where
    asked.
    """
    return elbo(model, batch, model.posterior.joint(batch), kl=kl, consensus=consensus)


def keep_joint(
    model: MultimodalVAE, batch: Batch, embeddings: Mapping[str, nn.Module] | None = None
) -> Batch:
    """What frozen parts say of a batch: the joint posterior's location and scale; embeddings in
    place of x, if any.
    """
    q = model.posterior.joint(batch)
    x = batch.x if embeddings is None else {m: embeddings[m](x) for m, x in batch.x.items()}
    return Batch(x, batch.present, batch.label, {"loc": q.loc, "scale": q.scale})


def surrogate_kl(model: MultimodalVAE, batch: Batch) -> Loss:
    """L(0, 0, 1) on a batch that `keep_joint` made: sum_m KL(q(z|X) || q_m), eqs. (4) and (9)."""
    experts = {m: model.posterior.experts[m].given(x) for m, x in batch.x.items()}
    q = DiagNormal(batch.kept["loc"], batch.kept["scale"])
    return elbo(model, batch, q, likelihood=0, kl=0, consensus=1, experts=experts)
