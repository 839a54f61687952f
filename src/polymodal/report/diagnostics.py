"""What a report shows of samplers: a table, warnings and histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from polymodal.report import plots
from polymodal.report.pictures import Group, drawn
from polymodal.report.section import Section
from polymodal.sampling import Histogram, SamplerReport

SAMPLED = (
    "Posteriors without a closed form are drawn by a sampler. The table shows medians over the"
    " items; in the histograms the range of good values is green."
)
EMPTY = "–"  # a figure that a sampler does not report


def samplers(reports: Mapping[tuple[str, str], SamplerReport]) -> Section:
    """The table, warnings and histograms of reports[label, given modalities]."""
    if not reports:
        return Section("Sampler diagnostics")
    summaries = {names: report.summary() for names, report in reports.items()}
    columns = list(dict.fromkeys(name for said in summaries.values() for name in said))
    return Section(
        "Sampler diagnostics",
        [SAMPLED],
        _warnings(reports),
        ["method", "given", *(name.replace("_", " ") for name in columns)],
        [[*names, *_figures(said, columns)] for names, said in summaries.items()],
        words=2,
        folded=True,
        groups=_histograms(reports),
    )


def _figures(summary: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [_figure(summary[c]) if c in summary else EMPTY for c in columns]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _warnings(reports: Mapping[tuple[str, str], SamplerReport]) -> list[str]:
    """The warnings, each once for a method, with the subsets to which it applies."""
    subsets: dict[tuple[str, str], list[str]] = {}
    for (label, given), report in reports.items():
        if text := report.warning():
            subsets.setdefault((label, text), []).append(given)
    return [f"{label} given {'; '.join(s)}: {text}" for (label, text), s in subsets.items()]


def _histograms(reports: Mapping[tuple[str, str], SamplerReport]) -> list[Group]:
    groups = []
    for (label, given), report in reports.items():
        if shown := [h for h in report.histograms() if _is_informative(h)]:
            figure = plots.histograms(shown)
            alt = f"Histograms of the sampler's figures, {label} given {given}"
            groups.append(Group([drawn(figure, alt)], f"{label} given {given}"))
    return groups


def _is_informative(histogram: Histogram) -> bool:
    """Whether good values are known, or the values differ between items."""
    bounds = (histogram.low, histogram.high)
    return any(map(math.isfinite, bounds)) or bool(histogram.values.unique().numel() > 1)
