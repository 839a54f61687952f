"""Samplers that need only a log-density, and nothing else of polymodal.

`HMC` for one mode or modes that touch, `SMC` for separate modes (and for normalising constants),
`AIS` for normalising constants without bias,
`MALA` for one gradient a transition, `Importance` for products of learned densities that err far
from the data. Each is a value to call:

>>> import torch
>>> _ = torch.manual_seed(0)
>>> from torch.distributions import Independent, Normal
>>> target = lambda z: -(z - 2).square().sum(-1)  # N(2, 1/2) for 3 items in 2 dimensions
>>> start = Independent(Normal(torch.zeros(3, 2), 3.0), 1)
>>> z, report = HMC()(target, lambda n: start.sample((n,)), start.log_prob, n=100)
>>> z.shape, z.mean().round().item(), report.warning()
(torch.Size([100, 3, 2]), 2.0, None)
"""

from __future__ import annotations

from polymodal.sampling.annealing import AIS, Annealed
from polymodal.sampling.diagnostics import (
    ChainReport,
    Histogram,
    ParticleReport,
    SamplerReport,
    SMCReport,
    ess,
    rhat,
)
from polymodal.sampling.importance import Importance
from polymodal.sampling.kernels import Density, Info, State, hmc, mala
from polymodal.sampling.mcmc import HMC, MALA, Result, run
from polymodal.sampling.registry import SAMPLERS, Sampler, make_sampler
from polymodal.sampling.smc import SMC

__all__ = [
    "AIS",
    "HMC",
    "MALA",
    "SAMPLERS",
    "SMC",
    "Annealed",
    "ChainReport",
    "Density",
    "Histogram",
    "Importance",
    "Info",
    "ParticleReport",
    "Result",
    "SMCReport",
    "Sampler",
    "SamplerReport",
    "State",
    "ess",
    "hmc",
    "make_sampler",
    "mala",
    "rhat",
    "run",
]
