"""The stages that fit a diffusion prior to the latents of a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.checks import call
from polymodal.diffusion import fitting
from polymodal.diffusion.denoisers import Denoiser, denoising_score_matching
from polymodal.diffusion.energies import PairEnergies, noise_contrastive_loss
from polymodal.diffusion.fitting import whole
from polymodal.diffusion.masking import TrainingMasks
from polymodal.diffusion.prior import DiffusionPrior
from polymodal.diffusion.sampler import DiffusionSampler
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.priors import FittedPrior

Options = Mapping[str, Any]

LATENT_BLOCK = "_z"  # the name of a latent that belongs to no modality


def diffusion_prior(
    sizes: Mapping[str, int],
    denoiser: Options | None = None,
    sampler: DiffusionSampler | None = None,
    training_masks: TrainingMasks = TrainingMasks(),
    encode_means: bool = False,
) -> DiffusionPrior:
    """A `DiffusionPrior` on blocks of `sizes`, with pairwise energies if the sampler needs them."""
    network = call(Denoiser, denoiser or {}, "denoiser", list(sizes.values()))
    needs_energies = sampler is not None and sampler.needs_energies
    energies = PairEnergies(list(sizes.values())) if needs_energies else None
    return DiffusionPrior(sizes, network, sampler, energies, training_masks, encode_means)


def fitted_prior_at(model: MultimodalVAE, path: str) -> FittedPrior:
    """The `FittedPrior` over a `DiffusionPrior` that is the model's part `path`."""
    prior: Any = model.get_submodule(path)
    return prior


def diffusion_stages(
    prior: Any,
    encode: Callable[[MultimodalVAE, Batch], dict[str, Tensor]],
    *,
    name: str = "prior",
    path: str = "prior",
    epsilon: float | None = None,
    reference: str = "normal",
) -> list[Stage]:
    """The stages that fit a `DiffusionPrior`: its whitening in closed form, then pairwise energies
    if it has them, then the denoiser.

    Args:
        encode: (model, batch) -> {block: z_m (B, d_m)}.
        name: of the denoiser's stage; that of the whitening is "frame", or <name>_frame for another
            name than "prior".
        path: of the `FittedPrior` over `prior` in the model.
        epsilon, reference: see `polymodal.diffusion.fitting.reduced`; None: every block is
            standardised and kept whole.
    """
    loss = Step(denoising_loss, path=path, training_masks=prior.training_masks)
    latents = Step(raw_latents, encode=encode, path=path)
    whitened = Step(whitened_latents, encode=encode, path=path)
    fit = Step(fit_whitening, path=path, epsilon=epsilon, reference=reference)
    before = "frame" if name == "prior" else f"{name}_frame"
    stages = [Stage(before, loss, [], latents, fit)]
    if prior.energies is not None:
        contrast = Step(energy_loss, path=path, training_masks=prior.training_masks)
        stages.append(Stage("energies", contrast, [f"{path}.fitted.energies"], whitened))
    trains = [f"{path}.fitted.denoiser"]
    stages.append(Stage(name, loss, trains, whitened, Step(switch_on, path=path)))
    return stages


def raw_latents(model: MultimodalVAE, batch: Batch, encode: Any, path: str) -> Batch:
    """z_m in place of x_m."""
    z = encode(model, batch)
    return Batch(z, {m: v for m, v in batch.present.items() if m in z}, batch.label)


def whitened_latents(model: MultimodalVAE, batch: Batch, encode: Any, path: str) -> Batch:
    """The latents in the whitened coordinates, 0 where these are not modelled."""
    whitening = fitted_prior_at(model, path).fitted.whitening
    latents = raw_latents(model, batch, encode, path)
    y = whitening(whole(latents, whitening)[0]) * whitening.modelled
    blocks = dict(zip(whitening.sizes, y.split(list(whitening.sizes.values()), -1), strict=True))
    x = {m: v for m, v in blocks.items() if m in latents.x}
    return Batch(x, latents.present, latents.label)


def denoising_loss(
    model: MultimodalVAE, batch: Batch, progress: float, path: str, training_masks: TrainingMasks
) -> Loss:
    """Denoising score matching, `polymodal.diffusion.denoisers.denoising_score_matching`."""
    prior = fitted_prior_at(model, path).fitted
    y, present = whole(batch, prior.whitening)
    sigma, counted = training_masks(y, present)
    value = denoising_score_matching(prior.denoiser, y, sigma, counted, prior.whitening.modelled)
    return Loss(value, {"matching": value})


def energy_loss(
    model: MultimodalVAE, batch: Batch, progress: float, path: str, training_masks: TrainingMasks
) -> Loss:
    """The pairwise energies, by noise-contrastive estimation."""
    prior = fitted_prior_at(model, path).fitted
    y, present = whole(batch, prior.whitening)
    value = noise_contrastive_loss(
        prior.energies, y, present, training_masks, prior.whitening.modelled
    )
    return Loss(value, {"contrast": value})


def fit_whitening(
    model: MultimodalVAE,
    train: Iterable[Batch],
    val: Iterable[Batch],
    path: str,
    epsilon: float | None,
    reference: str,
) -> dict[str, Any]:
    """Sets the whitening from the latents: `polymodal.diffusion.fitting.fit_whitening`."""
    whitening = fitted_prior_at(model, path).fitted.whitening
    return fitting.fit_whitening(whitening, epsilon, reference, train, val)


@torch.no_grad()
def switch_on(
    model: MultimodalVAE, train: Iterable[Batch], val: Iterable[Batch], path: str
) -> dict[str, Any]:
    """From now on the fitted prior takes the place of its base."""
    fitted_prior_at(model, path).ready.fill_(True)
    return {}
