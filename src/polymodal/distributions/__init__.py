"""Distributions of latents and of values: experts, mixtures, products, divergences, p(x|z)."""

from polymodal.distributions.divergences import detach, divergence
from polymodal.distributions.entries import given_observed, observed_log_prob
from polymodal.distributions.likelihoods import LIKELIHOODS, likelihood_of
from polymodal.distributions.mixture import Joint, Mixture, Proposal, choose
from polymodal.distributions.normal import DiagLaplace, DiagNormal, Point, product
from polymodal.distributions.products import LikelihoodProduct, Product, SampledPosterior
from polymodal.distributions.sampled import Sampled, report_of, weighable
from polymodal.distributions.stratified import stratified
from polymodal.distributions.sums import sum_of

__all__ = [
    "LIKELIHOODS",
    "DiagLaplace",
    "DiagNormal",
    "Joint",
    "LikelihoodProduct",
    "Mixture",
    "Point",
    "Product",
    "Proposal",
    "Sampled",
    "SampledPosterior",
    "choose",
    "detach",
    "divergence",
    "given_observed",
    "likelihood_of",
    "observed_log_prob",
    "product",
    "report_of",
    "stratified",
    "sum_of",
    "weighable",
]
