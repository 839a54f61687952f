"""The base of distributions that a sampler draws; `report_of` and `weighable`."""

from __future__ import annotations

from torch.distributions import Distribution

from polymodal.distributions.mixture import Joint, Mixture, Proposal
from polymodal.distributions.normal import Point
from polymodal.sampling.diagnostics import SamplerReport


class Sampled(Distribution):
    """A distribution that is drawn by a sampler.

    Attributes:
        report: the sampler's report on the last draw; None before it.
        has_density: whether `log_prob` is normalised, and exact enough for importance weights.
    """

    has_rsample = False
    arg_constraints: dict = {}
    report: SamplerReport | None = None

    @property
    def has_density(self) -> bool:
        return False


def report_of(q: Distribution) -> SamplerReport | None:
    """The report of the sampler that drew q last; None if q is drawn in closed form."""
    if isinstance(q, Sampled):
        return q.report
    if isinstance(q, Proposal):
        return report_of(q.draw)
    parts = q.components if isinstance(q, Mixture) else q.parts if isinstance(q, Joint) else []
    return next((r for r in map(report_of, parts) if r is not None), None)


def weighable(q: Distribution, p: Distribution) -> bool:
    """Whether p / q is a ratio of densities: part by part, both are normalised, and both or neither
    are points.
    """
    if isinstance(q, Joint):
        others = p.parts if isinstance(p, Joint) else [p] * len(q.parts)
        return all(weighable(a, b) for a, b in zip(q.parts, others, strict=True))
    if isinstance(q, Mixture):
        return all(weighable(component, p) for component in q.components)
    if isinstance(q, Sampled) or isinstance(p, Sampled):
        return _has_density(q) and _has_density(p) and not isinstance(q, Point)
    return isinstance(q, Point) == isinstance(p, Point)


def _has_density(q: Distribution) -> bool:
    return q.has_density if isinstance(q, Sampled) else True
