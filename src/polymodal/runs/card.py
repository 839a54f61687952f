"""The model card of a run: what it was trained on, what was measured, how it is loaded."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from polymodal.data.kinds import kind_of
from polymodal.metrics.table import Table, markdown_row
from polymodal.runs.run import Run

SHOWN = ("polymodal", "torch", "python")  # versions


def model_card(run: Run, repo: str, data_licence: str | None = None) -> str:
    """The card in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        repo: under which the run will be found, "owner/name".
        data_licence: of the training data, such as "cc-by-4.0"; None: the card says that none was
            stated.
    """
    header = {
        "library_name": "polymodal",
        "tags": ["multimodal", "variational-autoencoder", run.method_name],
    }
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {repo}",
        "A multimodal generative autoencoder: it generates every modality given any subset of the"
        f" others. It was trained by the method `{run.method_name}` of polymodal.",
        _loading(run, repo),
        _data(run.info, data_licence),
        _modalities(run),
        _stages(run.info),
        _measured(run),
    ]
    return "\n\n".join(sections) + "\n"


def _loading(run: Run, repo: str) -> str:
    custom = ", method=your_method" if run.method_name == "custom" else ""
    return f"""## Load it

```python
import polymodal                                          # pip install "polymodal[hub]"
run = polymodal.from_pretrained("{repo}"{custom})
samples = run.model.generate(n=4)                         # or generate(batch, n=4), given some
```

The repository holds `run.json`, `model.safetensors`, `log.csv` and, if it was measured,
`metrics.json`: no code is run."""


def _data(info: Mapping[str, Any], licence: str | None) -> str:
    data = info["data"]
    counts = ", ".join(f"{data[part]} {part}" for part in ("train", "val", "test"))
    stated = _text(licence) if licence else "not stated by those who published the run"
    return (
        f"## Trained on\n\n`{_text(data['name'])}` (samples: {counts}). Licence of the data:"
        f" {stated}. The settings are in `run.json`."
    )


def _modalities(run: Run) -> str:
    rows = [
        [_text(m.name), " x ".join(map(str, m.shape)), kind_of(m).name, m.likelihood]
        for m in run.modalities
    ]
    return "## Modalities\n\n" + _table(["name", "shape", "kind", "likelihood"], rows)


def _stages(info: Mapping[str, Any]) -> str:
    rows = [
        [f"`{_text(name)}`", str(stage.get("epochs", "–")), str(stage.get("steps", "–"))]
        for name, stage in info["stages"].items()
    ]
    versions = ", ".join(f"{k} {info['versions'][k]}" for k in SHOWN if k in info["versions"])
    made = f"Seed {info['seed']}; {versions}."
    return f"## Training\n\n{_table(['stage', 'epochs', 'steps'], rows)}\n\n{made}"


def _measured(run: Run) -> str:
    rows = run.metrics.get("table")
    if not rows:
        return "## Measured\n\nNothing was measured before this run was published."
    return f"## Measured\n\n{Table.from_records(rows).to_markdown()}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(map(markdown_row, lines))


def _text(words: str) -> str:
    """Words that stay words on one line of Markdown."""
    escaped = html.escape(" ".join(words.split()), quote=False)
    return escaped.replace("|", "&#124;").replace("`", "'")
