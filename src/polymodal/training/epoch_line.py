"""The losses of an epoch in words: how much of each modality is explained, then the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather

ROWS, VALUES = 1000, 2**22  # of a modality that are looked at, at most (but 16 rows at least)
MOST, FEW = 4, 2  # figures of modalities in a line; others where there are more
LOG = "log_p_"


@dataclass(frozen=True)
class Scale:
    """What turns log p(x_m|z), a mean over samples in nats, into a figure that a person can read.

    Args:
        values: observed values of a sample, on average; 0 if the modality is never present.
        scale: the fixed standard deviation of a normal likelihood; None: another likelihood.
        variance: of the values, over samples.
    """

    values: float
    scale: float | None = None
    variance: float = 0.0

    def explained(self, log: float) -> float | None:
        """The share of the variance that the means of p(x_m|z) explain, where log p says it."""
        if self.scale is None or not self.variance:
            return None
        constant = math.log(self.scale * math.sqrt(2 * math.pi))
        squared_error = -2 * self.scale**2 * (log / self.values + constant)
        return 1 - squared_error / self.variance


def scales_of(data: Dataset) -> dict[str, Scale]:
    """The scale of each modality of `data`."""
    return {m.name: _scale(data, m) for m in data.modalities}


def _scale(data: Dataset, m: Modality) -> Scale:
    present = data.is_present(m.name)
    most = min(ROWS, max(16, VALUES // math.prod(m.shape)))
    rows = data.rows_of(m.name, present.nonzero().squeeze(1)[:most])
    if not len(rows):
        return Scale(0.0)
    x = gather(data.tables[m.name], rows).flatten(1)
    is_whole = not x.isnan().any()
    observed = float((~x.isnan()).float().mean())
    values = float(present.float().mean()) * observed * math.prod(m.shape)
    if m.likelihood == "normal" and m.scale and not m.spread and is_whole and len(rows) > 1:
        return Scale(values, m.scale, float(x.var(0).mean()))
    return Scale(values)


def epoch_line(row: Mapping[str, Any], scales: Mapping[str, Scale]) -> str:
    """The losses of an epoch, on the validation data if the row has them.

    Args:
        row: of log.csv.
        scales: from `scales_of`.

    >>> row = {"train_loss": 12.0, "train_log_p_a": -5.0, "train_kl": 2.5}
    >>> epoch_line(row, {"a": Scale(10)})
    'a -0.5 nats per value; kl 2.5; loss 12'
    """
    part = "val_" if "val_loss" in row else "train_"
    terms = {k.removeprefix(part): v for k, v in row.items() if k.startswith(part)}
    if name := _only_name(terms):
        return _with_training(row, name, terms[name])
    loss = _with_training(row, "loss", terms.pop("loss")) if "loss" in terms else ""
    logs = {k.removeprefix(LOG): terms.pop(k) for k in list(terms) if k.startswith(LOG)}
    others = _listed([f"{k.replace('_', ' ')} {_number(v)}" for k, v in terms.items()], FEW)
    return "; ".join(text for text in [*_modalities(logs, scales), others, loss] if text)


def _only_name(terms: Mapping[str, float]) -> str | None:
    """The name of the only term, if the loss is that term or its negative."""
    names = [k for k in terms if k != "loss" and not k.startswith(LOG)]
    if len(terms) == 2 and len(names) == 1 and "loss" in terms:
        loss, term = abs(terms["loss"]), abs(terms[names[0]])
        return names[0] if math.isclose(loss, term, rel_tol=1e-6) else None
    return None


def _with_training(row: Mapping[str, Any], name: str, value: float) -> str:
    """A figure, and that of the training samples where the first is of the validation data."""
    before = row.get(f"train_{name}")
    beside = f" (training {_number(before)})" if before not in (None, value) else ""
    return f"{name.replace('_', ' ')} {_number(value)}{beside}"


def _modalities(logs: Mapping[str, float], scales: Mapping[str, Scale]) -> list[str]:
    """What is said of the modalities: explained shares, then nats per value."""
    shares, nats = [], []
    for m, log in logs.items():
        scale = scales.get(m, Scale(0.0))
        if not scale.values:
            continue
        share = scale.explained(log)
        if share is None:
            nats.append(f"{m} {_number(log / scale.values)}")
        else:
            shares.append(f"{m} {100 * share:.0f} %")
    explained = f"{_listed(shares)} explained" if shares else ""
    return [explained, f"{_listed(nats)} nats per value" if nats else ""]


def _listed(items: list[str], shown: int = MOST) -> str:
    """All items if there are at most `MOST`, else the first `shown`, and how many are left out."""
    if len(items) <= MOST:
        return ", ".join(items)
    return f"{', '.join(items[:shown])} ({len(items) - shown} more in log.csv)"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
