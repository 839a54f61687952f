"""`polymodal generate`: generated samples in files, beside those that were given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.checks import check_name
from polymodal.cli.console import say
from polymodal.data.kinds import kind_of
from polymodal.data.kinds.named_values import value_of_words
from polymodal.model import MultimodalVAE
from polymodal.report.generated import ARRAYS, generated_files
from polymodal.runs.files import check_output, write_output
from polymodal.runs.run import load
from polymodal.sampling import make_sampler

Modalities = Mapping[str, Modality]


@dataclass(frozen=True)
class Request:
    """What is to be generated.

    Args:
        given: the files of the given modalities, or names of entries; none: joint samples.
        targets: names of modalities; none: all that are not given.
        n: draws for each given sample.
        seed: of the noise.
        sampler: the name of a sampler; None: the run's.
        covariates: {modality: the category of its covariate for which it is decoded}; see
            `MultimodalVAE.generate`.
    """

    given: Mapping[str, str]
    targets: Sequence[str]
    n: int
    seed: int
    sampler: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)


def generate_files(run_dir: Path, request: Request, out: Path, console: Console) -> None:
    """Writes OUT/generated.npz, x[m] of shape (n, B, *shape_m), and pictures of the modalities that
    can be seen.

    Raises ValueError, before anything is written, for names the model does not know and files that
    do not fit.
    """
    check_output(out / ARRAYS)
    run = load(run_dir)
    use_sampler(run.model, request.sampler)
    modalities = {m.name: m for m in run.modalities}
    _check_names([*request.given, *request.targets], modalities)
    batch, notes = _read(request.given, modalities, run.info.get("usual", {}))
    for note in notes:
        say(console, note)
    others = [m for m in run.model.decoders if m not in request.given]
    targets = list(request.targets) or others or list(run.model.decoders)
    x, report = run.model.sample(batch, request.n, targets, request.seed, request.covariates)
    contents = generated_files(x, batch, modalities)
    for name, content in contents.items():
        write_output(out / name, content)
    say(console, f"Wrote {', '.join(contents)} into {out}: {_shapes(x)}.")
    if report is not None and (warning := report.warning()):
        say(console, f"Warning: {warning}")


def _shapes(x: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{m} {tuple(v.shape)}" for m, v in x.items())


def use_sampler(model: MultimodalVAE, name: str | None) -> None:
    """Draws subsets with the sampler `name`; None leaves the model as it is.

    Raises ValueError for a sampler that cannot draw this model's subsets, with the nearest, or a
    model whose subsets are all drawn in closed form.
    """
    if name is None:
        return
    samplers = model.posterior.samplers
    if not samplers:
        raise ValueError("This run's subsets are drawn in closed form; leave --sampler out.")
    model.sampler = make_sampler(name, samplers)


def _check_names(names: Sequence[str], modalities: Modalities) -> None:
    for name in names:
        check_name(name, modalities, "modality", " in the run")


def _read(
    given: Mapping[str, str], modalities: Modalities, usual: Mapping[str, Sequence[float]]
) -> tuple[Batch | None, list[str]]:
    """The given samples, None if there are none, and sentences on values that were given by name.

    Named values are one sample, or the same for every sample of the files.
    """
    if not given:
        return None, []
    named = {m: text for m, text in given.items() if _is_named(text, modalities[m])}
    by_name = {m: value_of_words(t, modalities[m], usual.get(m)) for m, t in named.items()}
    files = {m: Path(text) for m, text in given.items() if m not in named}
    x = {m: kind_of(modalities[m]).read(file, modalities[m]) for m, file in files.items()}
    if len({len(v) for v in x.values()}) > 1:
        counts = ", ".join(f"{m} {len(v)}" for m, v in x.items())
        raise ValueError(f"The given files must hold the same number of samples, got {counts}.")
    size = len(next(iter(x.values()))) if x else 1
    x |= {m: value.expand(size, -1) for m, (value, _) in by_name.items()}
    return Batch({m: x[m] for m in given}), [note for _, note in by_name.values()]


def _is_named(text: str, modality: Modality) -> bool:
    """Whether a text is words for the entries of a modality and no file."""
    is_file = Path(text).suffix in (".npy", ".npz") or os.path.exists(text)
    return modality.names is not None and not is_file
