"""`MultimodalVAE`: p(z) prod_m p(x_m|z) with a posterior for every subset; `Stage` and `Method`:
how it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.diffusion.prior import DiffusionPosterior, FirstBlock
from polymodal.distributions.product import Product
from polymodal.distributions.sums import sum_of


class MultimodalVAE(nn.Module):
    """p(z) prod_m p(x_m | z), and q(z | x_S) for every non-empty subset S of the modalities.

    Args:
        prior: () -> p(z), batch_shape () and event_shape (D,).
        decoders: decoders[m](z (..., B, D)) -> p(x_m|z) of batch_shape (..., B).
        posterior: Batch -> q(z|x_S), for whatever the batch holds; `.experts[m](x_m)` is q(z|x_m).
        modalities: what each modality is, in order.
    """

    prior: Any
    posterior: Any
    decoders: Any

    def __init__(
        self,
        prior: nn.Module,
        decoders: Mapping[str, nn.Module],
        posterior: nn.Module,
        modalities: Sequence[Modality],
    ) -> None:
        super().__init__()
        self.prior, self.decoders, self.posterior = prior, nn.ModuleDict(decoders), posterior
        self.modalities = tuple(modalities)
        self.weights = {m.name: m.weight for m in modalities}
        self.diagnostics: Any = None
        self.gradient_copies: Callable[[Tensor, int], Sequence[Tensor]] | None = None

    def copies(self, z: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """z for each decoder of `names`.

        What flows back through the copies is added, or combined by `gradient_copies` where that is
        set: (z, count) -> count tensors equal to z (`polymodal.methods.gradients`).
        """
        names = [m for m in self.decoders if m in set(names)]
        if (
            self.gradient_copies is None
            or len(names) < 2
            or not (torch.is_grad_enabled() and z.requires_grad)
        ):
            return dict.fromkeys(names, z)
        return dict(zip(names, self.gradient_copies(z, len(names)), strict=True))

    def log_likelihoods(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """log p(x_m|z), each (..., B), nats, unweighted, for what the batch holds; 0 where it is
        absent.
        """
        logs = {
            m: self.decoders[m](v).log_prob(batch.x[m]) for m, v in self.copies(z, batch.x).items()
        }
        return {
            m: torch.where(batch.present[m], v, 0) if m in batch.present else v
            for m, v in logs.items()
        }

    def log_likelihood(self, batch: Batch, z: Tensor, weighted: bool = False) -> Tensor:
        """sum_m log p(x_m|z) over what the batch holds, (..., B), nats; `weighted`: times each
        modality's weight.
        """
        logs = self.log_likelihoods(batch, z)
        return sum_of(self.weights[m] * v if weighted else v for m, v in logs.items())

    @torch.no_grad()
    def latents(self, batch: Batch | None = None, n: int = 1) -> Tensor:
        """n draws z ~ q(z|x_S), (n, B, D); without a batch z ~ p(z), (n, 1, D).

        `diagnostics` then holds what a sampler reported (`polymodal.sampling.ChainReport` or
        `ParticleReport`), or None.
        """
        if batch is None:
            p = self.prior()
            z = p.sample((n,)).unsqueeze(1)
            self.diagnostics = p.diagnostics if isinstance(p, DiffusionPosterior) else None
            return z
        q = self.posterior(self._check(batch))
        z = q.sample((n,))
        self.diagnostics = (
            q.diagnostics if isinstance(q, Product | DiffusionPosterior | FirstBlock) else None
        )
        return z

    @torch.no_grad()
    def generate(
        self,
        batch: Batch | None = None,
        n: int = 1,
        targets: Iterable[str] | None = None,
        mean: bool = True,
    ) -> dict[str, Tensor]:
        """Every target modality, n times, given any subset of the modalities.

        Args:
            batch: what is given, any non-empty subset; None: joint samples, z ~ p(z), with B = 1.
            n: draws of z for each sample.
            targets: names of modalities; None: all.
            mean: the mean of p(x_m|z), as the papers show; False: a draw from it.

        Returns: x[m] of shape (n, B, *shape_m).
        Raises: ValueError for a target or a given modality that the model does not know, or a wrong
            shape.

        # model.generate(batch.only(["svhn"]), n=8, targets=["mnist"])["mnist"]  -> (8, B, 1, 28,
        # 28)
        >>>
        """
        targets = list(self.decoders) if targets is None else list(targets)
        if unknown := [m for m in targets if m not in self.decoders]:
            raise ValueError(f"The model generates {list(self.decoders)}, not {unknown}.")
        z = self.latents(batch, n)
        p = {m: self.decoders[m](z) for m in targets}
        return {m: d.mean if mean else d.sample() for m, d in p.items()}

    def _check(self, batch: Batch) -> Batch:
        shapes = {m.name: m.shape for m in self.modalities}
        for m, x in batch.x.items():
            if m not in shapes:
                raise ValueError(f"The model knows the modalities {list(shapes)}, not {m!r}.")
            if tuple(x.shape[1:]) != shapes[m]:
                raise ValueError(
                    f"{m!r} must have shape (B, {', '.join(map(str, shapes[m]))}), got"
                    f" {tuple(x.shape)}."
                )
        return batch


@dataclass(frozen=True)
class Stage:
    """One optimisation problem: which loss, over which parts; the rest is frozen.

    Args:
        name: "joint", "surrogates", ...; settings for it stand under training.stages.<name>.
        loss: (batch, progress) -> Loss, per sample, nats; `progress` goes from 0 to 1 over the
            stage (for warm-ups) and is 1 in validation.
        trains: the modules whose parameters are optimised; may be empty if there is a `finish`.
        prepare: Batch -> Batch, what depends on x and frozen parts alone: run once over the data
            and kept. A modality whose tensor it returns unchanged stays where it was; what it puts
            in `kept` is kept.
        finish: (train batches, validation batches) -> figures for the log: a closed-form step after
            the training.
    """

    name: str
    loss: Callable[[Batch, float], Any]
    trains: Sequence[nn.Module]
    prepare: Callable[[Batch], Batch] | None = None
    finish: Callable[[Iterable[Batch], Iterable[Batch]], dict[str, Any]] | None = None


def parts_of(stage: Stage, model: nn.Module) -> list[nn.Module]:
    """What a stage trains, with its parts in place of the model itself, unless the model has
    parameters of its own.
    """
    apart = not [*model.parameters(recurse=False)]
    return [part for p in stage.trains for part in (p.children() if apart and p is model else [p])]


@dataclass(frozen=True)
class Method:
    """A way to train a model: the stages, in turn."""

    model: MultimodalVAE
    stages: Sequence[Stage]
