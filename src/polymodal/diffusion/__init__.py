"""Diffusion models of latents: denoisers, samplers, energies, log-densities, and the prior that is
built on them.
"""

from polymodal.diffusion.conditioning import Inpainting
from polymodal.diffusion.denoisers import Denoiser
from polymodal.diffusion.masking import TrainingMasks
from polymodal.diffusion.prior import DiffusionPrior
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.diffusion.sampler import Diffusion, DiffusionSampler
from polymodal.diffusion.twisted import Twisted
from polymodal.diffusion.whitening import LatentWhitening

__all__ = [
    "DIFFUSIONS",
    "Denoiser",
    "Diffusion",
    "DiffusionPrior",
    "DiffusionSampler",
    "Inpainting",
    "LatentWhitening",
    "TrainingMasks",
    "Twisted",
]
