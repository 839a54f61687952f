"""Distributions of latents and of values: normal experts, mixtures, products, divergences, p(x|z)."""

from polymodal.distributions.divergence import detach, divergence
from polymodal.distributions.likelihoods import LIKELIHOODS, likelihood_of
from polymodal.distributions.mixture import Joint, Mixture, Proposal, choose
from polymodal.distributions.normal import DiagLaplace, DiagNormal, Point, product
from polymodal.distributions.product import Product
from polymodal.distributions.sums import sum_of

__all__ = [
    "DiagLaplace",
    "DiagNormal",
    "Joint",
    "LIKELIHOODS",
    "Mixture",
    "Point",
    "Product",
    "Proposal",
    "choose",
    "detach",
    "divergence",
    "likelihood_of",
    "product",
    "sum_of",
]
