"""`MultimodalVAE`: p(z) prod_m p(x_m|z) with a posterior for every subset."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from polymodal.batch import AVERAGE, Batch, Modality, batch_of, has_holes, is_observed
from polymodal.checks import Count, check_memory, check_name, checked, typed
from polymodal.data.kinds import kind_of
from polymodal.distributions import (
    given_observed,
    likelihood_of,
    observed_log_prob,
    report_of,
    sum_of,
)
from polymodal.networks.named import Named
from polymodal.posteriors import Posterior
from polymodal.sampling import SamplerReport

LAYER = 512  # values of a layer of a decoder
P = TypeVar("P", bound=Posterior)
Given = Batch | Mapping[str, Any] | None  # a batch, its values by modality, or nothing


class Draws(NamedTuple):
    """Latents z (n, B, D), and the report of the sampler that drew them (None: closed form)."""

    z: Tensor
    report: SamplerReport | None


class MultimodalVAE(nn.Module, Generic[P]):
    """p(z) prod_m p(x_m | z), and q(z | x_S) for every non-empty subset S of the modalities.

    Args:
        prior: () -> p(z), batch_shape () and event_shape (D,).
        decoders: decoders[m](z (..., B, D)) -> p(x_m|z) of batch_shape (..., B).
        posterior: Batch -> q(z|x_S), for the subset that the batch holds.
        modalities: the modalities, in order.
        mechanisms: mechanisms[m], why entries of a modality are missing, see
            `polymodal.networks.mechanisms`; of the others that is not modelled.
    """

    prior: nn.Module
    posterior: P
    decoders: Named

    def __init__(
        self,
        prior: nn.Module,
        decoders: Mapping[str, nn.Module],
        posterior: P,
        modalities: Sequence[Modality],
        mechanisms: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.prior, self.decoders, self.posterior = prior, Named(decoders), posterior
        self.mechanisms = Named(mechanisms)
        self.modalities = tuple(modalities)
        self.weights = {m.name: m.weight for m in modalities}
        self.gradient_copies: Callable[[Tensor, int], Sequence[Tensor]] | None = None

    @property
    def sampler(self) -> Any:
        """The sampler of subsets; None if all of them are drawn in closed form. It can be set,
        which raises ValueError if there is none.
        """
        return self.posterior.sampler

    @sampler.setter
    def sampler(self, sampler: Any) -> None:
        self.posterior.sampler = sampler

    def copies(self, z: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """z for each decoder of `names`.

        The gradients that flow back through the copies are added, or combined by `gradient_copies`
        if that is set: (z, count) -> count tensors equal to z (`polymodal.methods.gradients`).
        """
        wanted = set(names)
        ordered = [m for m in self.decoders if m in wanted]
        needs_gradient = torch.is_grad_enabled() and z.requires_grad
        if self.gradient_copies is None or len(ordered) < 2 or not needs_gradient:
            return dict.fromkeys(ordered, z)
        return dict(zip(ordered, self.gradient_copies(z, len(ordered)), strict=True))

    def log_likelihoods(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """log p(x_m|z), each (..., B), nats, unweighted, for the modalities of the batch; 0 where a
        modality is absent.
        """
        copies = self.copies(z, batch.x)
        return {m: batch.where(m, self.log_p(m, batch, v)) for m, v in copies.items()}

    def log_p(self, m: str, batch: Batch, z: Tensor) -> Tensor:
        """log p(x_m|z), (..., B), nats, of the observed entries of modality m, as if it were
        present in every sample.
        """
        return self.log_p_under(m, batch, self.decoded(m, z, batch.covariates))

    def decoded(self, m: str, z: Tensor, covariates: Mapping[str, Tensor] | None = None) -> Any:
        """p(x_m|z), with the covariate of the samples if there are `covariates` of modality m, as
        in `Batch`.
        """
        places = (covariates or {}).get(m)
        return self.decoders[m](z) if places is None else self.decoders[m](z, places)

    def log_p_under(self, m: str, batch: Batch, p: Any) -> Tensor:
        """`log_p` under decoded p(x_m|z); with the log-probability of which entries are missing, if
        that is modelled.
        """
        x = batch.x[m]
        log = observed_log_prob(p, x) if batch.has_holes(m) else p.log_prob(x)
        if m not in self.mechanisms:
            return log
        return log + self.mechanisms[m].log_prob(p, x, batch.hidden.get(m))

    def predictive(self, m: str, batch: Batch, p: Any) -> Any:
        """A decoded p(x_m | z), batch_shape (..., B), for entries that were not observed: of
        counts, by the library size of what was observed of the sample, if something was; by why
        they are missing, if that is modelled.
        """
        if m in self.mechanisms:
            return self.mechanisms[m].given(p, batch.x.get(m), batch.hidden.get(m))
        if m not in batch.x:
            return p
        present = batch.mask([m]).view(-1, *[1] * (batch.x[m].dim() - 1))
        return given_observed(p, torch.where(present, batch.x[m], torch.nan))

    def log_likelihood(self, batch: Batch, z: Tensor, weighted: bool = False) -> Tensor:
        """sum_m log p(x_m|z) over the modalities of the batch, (..., B), nats; `weighted`: times
        each modality's weight.
        """
        logs = self.log_likelihoods(batch, z)
        return sum_of(self.weights[m] * v if weighted else v for m, v in logs.items())

    @torch.no_grad()
    @checked
    def draw(self, batch: Given = None, n: Count = 1) -> Draws:
        """n draws z ~ q(z|x_S), (n, B, D), with the sampler's report; without a batch z ~ p(z),
        (n, 1, D).

        Raises ValueError as `generate`.
        """
        if batch is None:
            p = self.prior()
            return Draws(_finite(p.sample((n,)), "latents").unsqueeze(1), report_of(p))
        q = self.posterior(self.readable(batch_of(batch)))
        return Draws(_finite(q.sample((n,)), "latents"), report_of(q))

    def latents(self, batch: Given = None, n: int = 1) -> Tensor:
        """The latents of `draw`."""
        return self.draw(batch, n).z

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        targets: Iterable[str] | None = None,
        mean: bool = True,
        covariates: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Every target modality for latents z (n, B, D), each (n, B, *shape_m).

        Args:
            targets: names of modalities; None: all.
            mean: the mean of p(x_m|z); False: a draw from it.
            covariates: places of categories, as in `Batch`; None: they are averaged.
        """
        decoded = {m: self.decoded(m, z, covariates) for m in self._targets(targets)}
        return {
            m: _finite(p.mean if mean else p.sample(), f"values of {m!r}")
            for m, p in decoded.items()
        }

    def generate(
        self,
        batch: Given = None,
        n: int = 1,
        targets: Iterable[str] | None = None,
        mean: bool = True,
        covariates: Mapping[str, str] | None = None,
    ) -> dict[str, Tensor]:
        """Every target modality, n times, given any subset of the modalities.

        Args:
            batch: the given values, of any non-empty subset, a `Batch` or its x; None: joint
                samples, z ~ p(z), B = 1.
            n: draws of z for each sample.
            targets: names of modalities; None: all.
            mean: the mean of p(x_m|z), as the papers show; False: a draw from it.
            covariates: {modality: the category of its covariate for which it is decoded, or
                "average"}; of others each sample's own, and the average where that is not known.
                The latent is that of the sample's own category.

        Returns: x[m] of shape (n, B, *shape_m).
        Raises: ValueError for a target, a given modality or a category that the model does not
            know, a wrong shape, and given or generated values that are NaN, infinite or none of the
            modality's.

        >>> # model.generate(batch.only(["svhn"]), n=8, targets=["mnist"])["mnist"]
        >>> # -> (8, B, 1, 28, 28)
        """
        wanted, batch = self._targets(targets), None if batch is None else batch_of(batch)
        self.check_draws(batch, n, wanted)
        z = self.latents(batch, n)
        return self.decode(z, wanted, mean, self.places(batch, covariates, z.shape[1]))

    def places(
        self, batch: Batch | None, covariates: Mapping[str, str] | None, size: int
    ) -> dict[str, Tensor]:
        """The places (B,) of the categories for which samples are decoded: their own, but of the
        modalities `covariates` that of the category, or -1 for the average.

        Args:
            size: B.

        Raises ValueError for a modality without a covariate, and an unknown category.
        """
        found = dict(batch.covariates) if batch is not None else {}
        known = {m.name: m.covariate for m in self.modalities if m.covariate is not None}
        for m, word in typed(dict[str, str], covariates or {}, "covariates").items():
            check_name(m, known, "modality with a covariate")
            check_name(word, [AVERAGE, *known[m].categories], f"category of {known[m].column!r}")
            found[m] = torch.full((size,), known[m].places([word])[0])
        return found

    @checked
    def check_draws(self, batch: Batch | None, n: Count, targets: Iterable[str]) -> None:
        """Raises ValueError if n draws of the targets for each sample need more memory than there
        is.
        """
        sizes = {m.name: decoded_size(m) for m in self.modalities}
        values = LAYER + sum(sizes[m] for m in targets)
        samples = 1 if batch is None else len(batch)
        check_memory(4.0 * n * samples * values, f"Generating with n={n:,} needs", "lower n")

    def _targets(self, targets: Iterable[str] | None) -> list[str]:
        names = list(typed(Sequence[str] | None, targets, "targets") or self.decoders)
        if unknown := [m for m in names if m not in self.decoders]:
            raise ValueError(f"The model generates {list(self.decoders)}, not {unknown}.")
        return names

    def readable(self, batch: Batch) -> Batch:
        """The batch as the model's networks read it: bytes that are shares divided by 255, all
        numbers in the precision of its parameters.
        """
        modalities = {m.name: m for m in self.modalities}
        if not len(batch):
            raise ValueError("The given batch holds no sample; give at least one.")
        for m, x in batch.x.items():
            if m not in modalities:
                raise ValueError(f"The model knows the modalities {list(modalities)}, not {m!r}.")
            if tuple(x.shape[1:]) != modalities[m].shape:
                sizes = ", ".join(map(str, modalities[m].shape))
                raise ValueError(f"{m!r} must have shape (B, {sizes}), got {tuple(x.shape)}.")
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        read = {m: _read(modalities[m], batch).to(dtype) for m in batch.x}
        holes = frozenset(m for m, v in read.items() if has_holes(v))
        observed = {m: is_observed(read[m]) & batch.mask([m]) for m in holes}
        present = {**batch.present, **{m: v for m, v in observed.items() if not v.all()}}
        told = {m: v for m, v in batch.covariates.items() if _is_told(modalities.get(m), v)}
        return Batch(read, present, batch.label, batch.kept, holes, batch.hidden, told)

    def sample(
        self,
        batch: Batch | None,
        n: int,
        targets: Sequence[str],
        seed: int,
        covariates: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Tensor], SamplerReport | None]:
        """The values of `generate` with the noise of a seed, and the sampler's report; torch's
        random stream stays as it is.
        """
        self.check_draws(batch, n, targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            z, report = self.draw(batch, n)
            places = self.places(batch, covariates, z.shape[1])
            return self.decode(z, targets, covariates=places), report


def _is_told(modality: Modality | None, places: Tensor) -> bool:
    """Whether the networks of a modality are told these places of categories.

    Raises ValueError for places that its covariate does not have.
    """
    if modality is None or modality.covariate is None:
        return False
    count = len(modality.covariate.categories)
    if len(places) and int(places.max()) >= count:
        raise ValueError(
            f"covariates[{modality.name!r}] must be places from 0 to {count - 1}, or -1, got"
            f" {int(places.max())}; Covariate.places gives them."
        )
    return True


def _read(modality: Modality, batch: Batch) -> Tensor:
    """The values of a modality as floats. Raises ValueError for those that it cannot have."""
    kind, m = kind_of(modality), modality.name
    values = kind.floats(batch.x[m], modality, f"{m!r}")
    kind.check(values, modality, f"The given {m!r}", present=batch.present.get(m, 1))
    return values


def decoded_size(modality: Modality) -> int:
    """How many numbers a decoder gives for one value."""
    return math.prod(likelihood_of(modality).output_shape(modality))


def _finite(values: Tensor, what: str) -> Tensor:
    """`values`. Raises ValueError if some are NaN or infinite."""
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"The model gives {what} that are NaN or infinite: its weights are damaged, or the"
            " given values are far from those that it was trained on; train it again, or check"
            " them."
        )
    return values
