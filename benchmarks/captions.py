"""Whether captions that are generated from photographs of birds say what the photographs show.

    polymodal train cub --data FOLDER --out runs/cub
    python benchmarks/captions.py runs/cub/*-seed0 --data FOLDER [--out benchmarks/results]

FOLDER holds the files of CUB. For every test photograph 10 captions are generated, each from a draw of
the latent: the most probable word of each place ("most_probable"), and words that are drawn ("drawn").
Each of the words in COLOURS that a caption says is looked up in the photograph's own captions: the
agreement is the share of these that also say it, averaged over the colours of the generated caption
(0 without a colour) and over the 10. The baseline is the mean agreement with the captions of all other
photographs, and the ceiling the agreement of each photograph's first caption with its other captions.
The standard error is that of the mean difference over photographs. For the way back, photographs are
generated from the first caption of each; `blue_difference` is how much less blue (channel minus mean
of channels, in [0, 1]) they are where that caption says "yellow". Results are written into
results/captions.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import polymodal
from polymodal import Run, Splits
from polymodal.data import load_data, texts_of

COLOURS = (
    "black white brown yellow grey gray red orange blue green tan beige pink purple cream rust gold"
).split()
SHOWN = 8  # captions that the results show
DRAWS = 10  # captions of each photograph


def mentions(texts: Sequence[str]) -> Tensor:
    """Which colours each text says, (n, colours) of 0 and 1."""
    said = [set(text.split()) for text in texts]
    return torch.tensor([[float(c in words) for c in COLOURS] for words in said])


def agreements(generated: Tensor, known: Tensor) -> Tensor:
    """The agreement of caption i with photograph j, (n, n).

    Args:
        generated: `mentions` of captions, (n, colours).
        known: the share of the captions of each photograph that say each colour, (n, colours).
    """
    return generated @ known.T / generated.sum(1, keepdim=True).clamp_min(1)


def figures_of(matrix: Tensor) -> dict[str, float]:
    """Agreement, baseline, and their difference in standard errors."""
    n = len(matrix)
    own = matrix.diagonal()
    others = (matrix.sum(1) - own) / (n - 1)
    difference = own - others
    error = difference.std() / n**0.5
    return {
        "agreement": own.mean().item(),
        "baseline": others.mean().item(),
        "difference_se": error.item(),
        "standard_errors": (difference.mean() / error).item(),
        "n": n,
    }


def captions_of(data: Splits) -> list[list[str]]:
    """The captions of each test photograph, in the order of the photographs."""
    test, caption = data.test, data.modalities[1]
    texts = texts_of(test.tables["caption"], caption)
    by_image: list[list[str]] = [[] for _ in test.tables["image"]]
    for place, row in zip(test.rows_of("image").tolist(), test.rows_of("caption"), strict=True):
        by_image[place].append(texts[row])
    return by_image


def drawn(run: Run, given: Any, mean: bool) -> list[list[str]]:
    """DRAWS captions of each given photograph, the words drawn or the most probable ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = run.model.generate(given, DRAWS, ["caption"], mean)["caption"]
    caption = next(m for m in run.modalities if m.name == "caption")
    return [texts_of(draw, caption) for draw in ids]


def measured(run: Run, data: Splits) -> dict[str, Any]:
    """The figures of a run, and some of its captions."""
    human = captions_of(data)
    batch = data.test.batch(torch.arange(len(human)))  # the first samples are different photographs
    said = torch.stack([mentions(captions).mean(0) for captions in human])
    rest = torch.stack([mentions(captions[1:]).mean(0) for captions in human])
    first = agreements(mentions([c[0] for c in human]), rest)
    figures: dict[str, Any] = {"ceiling": figures_of(first)["agreement"]}
    for name, mean in (("most_probable", True), ("drawn", False)):
        texts = drawn(run, batch.only(["image"]), mean)
        matrix = torch.stack([agreements(mentions(t), said) for t in texts]).mean(0)
        share = torch.stack([mentions(t).amax(1) for t in texts]).mean().item()
        examples = [
            {"generated": text, "first": captions[0]}
            for text, captions in zip(texts[0][:SHOWN], human, strict=False)
        ]
        figures[name] = {**figures_of(matrix), "with_a_colour": share, "shown": examples}
    figures["from_captions"] = _yellow(run, batch, human)
    return figures


def _yellow(run: Run, batch: Any, human: Sequence[Sequence[str]]) -> dict[str, float]:
    """How much less blue photographs from captions with "yellow" are, and its standard error."""
    x, _ = run.model.sample(batch.only(["caption"]), 1, ["image"], 0)
    is_yellow = torch.tensor(["yellow" in captions[0].split() for captions in human])
    result = {}
    for name, images in (("generated", x["image"][0]), ("real", batch.x["image"])):
        blue = images[:, 2].mean((1, 2)) - images.mean((1, 2, 3))
        yellow, other = blue[is_yellow], blue[~is_yellow]
        result[f"{name}_blue_difference"] = (other.mean() - yellow.mean()).item()
        variance = yellow.var() / len(yellow) + other.var() / len(other)
        result[f"{name}_se"] = variance.sqrt().item()
    return result


def row(directory: Path, data: Splits) -> dict[str, Any]:
    """The figures of the run in a directory, and how it was trained."""
    run = polymodal.load(directory)
    stages = run.info["stages"].values()
    return {
        "method": run.method_name,
        "seed": run.seed,
        "networks": run.settings["networks"],
        "options": run.settings["method"],
        "batch": run.settings["training"]["batch"],
        "steps": {name: stage["steps"] for name, stage in run.info["stages"].items()},
        "seconds": round(sum(stage.get("seconds") or 0.0 for stage in stages), 1),
        **measured(run, data),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    data = load_data("cub", path=args.data)
    rows = [row(directory, data) for directory in args.runs]
    result = {"colours": COLOURS, "data": {m: len(p) for m, p in data.parts.items()}, "rows": rows}
    print(json.dumps(rows, indent=1))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "captions.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
