"""What can be measured of a trained model: `METRICS`, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.coherence import joint_coherence, kappa, macro, plain, unanimity
from polymodal.metrics.frechet import frechet_with_error
from polymodal.metrics.likelihood import conditional_log_likelihood, joint_log_likelihood
from polymodal.metrics.measurement import Given, Measurement, share
from polymodal.sampling.diagnostics import ACCEPTANCE, RHAT

__all__ = [
    "METRICS",
    "Classifiers",
    "Measurement",
    "Metric",
    "conditional_log_likelihood",
    "frechet_with_error",
    "joint_coherence",
    "joint_log_likelihood",
    "macro",
    "plain",
]

Value = tuple[float, float, int]  # value, standard error over the samples, number of samples


@dataclass(frozen=True)
class Metric:
    """One thing to measure.

    Args:
        compute: (measurement, given, target) -> value, standard error, n; None where it means
            nothing.
        direction: "higher" or "lower" is better; "none".
        unit: of the value.
        over: for what it is computed: "pairs" (a target and a subset without it; the whole set with
            each target), "others" (a target and a subset without it), "every" (a target and a
            subset), "subsets", "targets", "once".
        labels: whether it needs the data's labels.
        default: whether it is measured where no metrics are named.
    """

    compute: Callable[[Measurement, Given, str], Value | None]
    direction: str
    unit: str
    over: str
    labels: bool = False
    default: bool = True

    def places(self, names: Sequence[str], subsets: Sequence[Given]) -> Iterator[tuple[Given, str]]:
        """What it is computed for: (given, target), of the modalities `names` and the subsets asked
        for.
        """
        if self.over == "once":
            yield (), "+".join(names)
        elif self.over == "targets":
            yield from (((), m) for m in names)
        elif self.over == "subsets":
            yield from ((s, "z") for s in subsets)
        else:
            within = lambda s: (
                self.over == "every" or (self.over == "pairs" and len(s) == len(names))
            )
            yield from ((s, m) for s in subsets for m in names if m not in s or within(s))


def every_subset(names: Sequence[str]) -> list[Given]:
    """All non-empty subsets, small ones first.

    >>> every_subset(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]


def _coherence(m: Measurement, given: Given, target: str) -> Value:
    right, _ = m.right(given, target)
    return *plain(right), len(right)


def _coherence_macro(m: Measurement, given: Given, target: str) -> Value | None:
    right, labels = m.right(given, target)
    return (*macro(right, labels), len(right)) if labels.dim() == 1 else None


def _joint_labels(m: Measurement) -> dict[str, Tensor] | None:
    """What each modality's classifier sees in joint samples; None with fewer than two."""
    names = (
        []
        if m.classifiers is None
        else [name for name in m.classifiers.judges if name in m.model.decoders]
    )
    return {name: m.seen((), name)[1] for name in names} if len(names) > 1 else None


def _joint_coherence(m: Measurement, given: Given, target: str) -> Value | None:
    found = _joint_labels(m)
    return None if found is None else (*plain(right := unanimity(found)), len(right))


def _joint_kappa(m: Measurement, given: Given, target: str) -> Value | None:
    found = _joint_labels(m)
    if found is None or any(labels.dim() > 1 for labels in found.values()):
        return None
    return *kappa(found), len(next(iter(found.values())))


def _frechet(m: Measurement, given: Given, target: str) -> Value | None:
    both = m.features(given, target)
    return None if both is None else (*frechet_with_error(*both), len(both[1]))


def _fid(m: Measurement, given: Given, target: str) -> Value | None:
    both = m.features(given, target, "inception")
    return None if both is None else (*frechet_with_error(*both), len(both[1]))


def _joint_log_likelihood(m: Measurement, given: Given, target: str) -> Value | None:
    value = m.joint()
    return None if value is None else (*plain(value), len(value))


def _conditional_log_likelihood(m: Measurement, given: Given, target: str) -> Value:
    value = m.conditional(given, target)
    return *plain(value), len(value)


def _synergy(m: Measurement, given: Given, target: str) -> Value | None:
    value = m.marginal(given, target)
    return None if value is None else (*plain(value), len(value))


def _probe(m: Measurement, given: Given, target: str) -> Value | None:
    right = m.probed(given)
    return None if right is None else (*plain(right), len(right))


def _classifier_accuracy(m: Measurement, given: Given, target: str) -> Value | None:
    judge = None if m.classifiers is None else m.classifiers.judges.get(target)
    if judge is None or judge.net is None:
        return None
    binomial = judge.accuracy * (1 - judge.accuracy) / max(judge.size - 1, 1)
    return judge.accuracy, math.nan if judge.several else math.sqrt(binomial), judge.size


def _report(
    name: str, low: float = -math.inf, high: float = math.inf
) -> Callable[..., Value | None]:
    """The mean of what the sampler reports under `name`; with bounds, the share of samples within
    them.
    """

    def compute(m: Measurement, given: Given, target: str) -> Value | None:
        values = m.reported(given, name)
        if values is None:
            return None
        values = (
            values[values.isfinite()] if low == -high == -math.inf else share(values, low, high)
        )
        return (*plain(values), len(values)) if len(values) else None

    return compute


METRICS: dict[str, Metric] = {
    "coherence": Metric(
        _coherence, "higher", "share", "pairs", labels=True
    ),  # Share of generated values that show the label of what was given.
    "coherence_macro": Metric(
        _coherence_macro, "higher", "share", "pairs", labels=True
    ),  # The same, as a mean over the classes, each counting the same.
    "joint_coherence": Metric(
        _joint_coherence, "higher", "share", "once", labels=True
    ),  # Share of joint samples from the prior with one label in all modalities.
    "joint_kappa": Metric(
        _joint_kappa, "higher", "kappa", "once", labels=True
    ),  # The same beyond chance: agreement of pairs, against that of modalities apart.
    "frechet": Metric(
        _frechet, "lower", "squared distance", "pairs", labels=True
    ),  # Frechet distance of real and generated values, in the classifier's features.
    "joint_frechet": Metric(
        _frechet, "lower", "squared distance", "targets", labels=True
    ),  # The same for joint samples from the prior.
    "fid": Metric(
        _fid, "lower", "squared distance", "pairs", default=False
    ),  # The same in Inception features; needs the extra `image`.
    "joint_log_likelihood": Metric(
        _joint_log_likelihood, "higher", "nats", "once"
    ),  # log p(x) by importance sampling.
    "conditional_log_likelihood": Metric(
        _conditional_log_likelihood, "higher", "nats", "others"
    ),  # log p(x_i | x_S) of what the model generates, by Monte Carlo.
    "synergy": Metric(
        _synergy, "higher", "nats", "every", default=False
    ),  # log p(x_m) by importance sampling from q(z | x_S), for every S: what S knows of x_m.
    "probe": Metric(
        _probe, "higher", "share", "subsets", labels=True
    ),  # Accuracy of a linear classifier on the latents' means.
    "mcmc_acceptance": Metric(
        _report("acceptance"), "none", "probability", "subsets"
    ),  # Mean acceptance of the sampler, where one was used.
    "mcmc_acceptance_ok": Metric(
        _report("acceptance", *ACCEPTANCE), "higher", "share", "subsets"
    ),  # Share of samples whose chains accept .6 to .95.
    "mcmc_divergent": Metric(
        _report("divergent"), "lower", "trajectories", "subsets"
    ),  # Diverging trajectories per sample.
    "mcmc_rhat_ok": Metric(
        _report("rhat", high=math.nextafter(RHAT, 0)), "higher", "share", "subsets"
    ),  # Share of samples with R-hat below 1.05.
    "mcmc_ess": Metric(
        _report("ess"), "higher", "draws", "subsets"
    ),  # Effective sample size, mean over the samples.
    "network_calls": Metric(
        _report("calls_per_draw"), "none", "calls", "subsets"
    ),  # Of a diffusion's network, for each draw.
    "classifier_accuracy": Metric(
        _classifier_accuracy, "none", "share", "targets", labels=True
    ),  # Of the classifier on real test values: what coherence can be measured up to.
}
