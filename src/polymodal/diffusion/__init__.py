"""Diffusion models of latents: denoisers, samplers, energies, log-densities, and the prior built on them."""

from polymodal.diffusion.conditioning import Task
from polymodal.diffusion.denoisers import Denoiser
from polymodal.diffusion.masking import Patterns
from polymodal.diffusion.prior import ScorePrior
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.diffusion.sampler import Diffusion
from polymodal.diffusion.twisted import Twisted
from polymodal.diffusion.whitening import Frame

__all__ = ["DIFFUSIONS", "Denoiser", "Diffusion", "Frame", "Patterns", "ScorePrior", "Task", "Twisted"]
