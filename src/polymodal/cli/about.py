"""`polymodal list`, `show` and `doctor`: what there is, what a recipe says, whether this machine is
ready.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from polymodal.cli.catalog import KINDS, entries

CHOSEN_BY_DATA = """\
# Networks that are not named: digit-conv for 3 x 28 x 28 images, svhn-conv for 3 x 32 x 32,
# celeba-conv for 3 x 64 x 64, else mlp. polymodal train --dry-run shows them, with all modalities."""
EXTRAS = {
    "tensorboard": "track",
    "wandb": "track",
    "torchvision": "image",
    "torch_fidelity": "image",
}


def print_list(kind: str | None, console: Console) -> None:
    """Names and one line for each, of one kind or of all. Raises ValueError for an unknown kind."""
    if kind is not None and kind not in KINDS:
        from polymodal.checks import suggest

        raise ValueError(
            f"There is no list of {kind!r}.{suggest(kind, KINDS)} There are: {', '.join(KINDS)}."
        )
    for one in KINDS if kind is None else (kind,):
        table = Table(
            title=one, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for name, about in entries(one).items():
            table.add_row(name.replace("_", "-") if one == "methods" else name, about)
        console.print(table)
        if kind is None:
            console.print()


def print_recipe(recipe: str, console: Console) -> None:
    """The recipe with every setting filled in, and what its method is. Raises ValueError for an
    unknown one.
    """
    from omegaconf import OmegaConf

    from polymodal.experiments.plan import label_runs
    from polymodal.methods import METHODS
    from polymodal.settings.recipes import load_recipe
    from polymodal.settings.resolve import resolve, to_dict

    raw = load_recipe(recipe)
    settings = resolve(raw)
    if settings.compare:
        console.print(
            f"# {settings.about}\n# A comparison, laid over each of its recipes:", highlight=False
        )
        console.print(
            OmegaConf.to_yaml(OmegaConf.create(raw)), highlight=False, markup=False, end=""
        )
        for label, name in label_runs(settings.compare).items():
            console.print(f"# {label}: polymodal show {name}", highlight=False, markup=False)
        return
    console.print(
        OmegaConf.to_yaml(OmegaConf.create(to_dict(settings))),
        highlight=False,
        markup=False,
        end="",
    )
    console.print(CHOSEN_BY_DATA, highlight=False, markup=False, soft_wrap=True)
    head = inspect.getdoc(METHODS[settings.method.name]) if settings.method.name else None
    if head:
        console.print(
            "\n".join(f"# {line}".rstrip() for line in head.splitlines()),
            highlight=False,
            markup=False,
        )


class Finding(NamedTuple):
    """One line of the doctor's."""

    what: str
    good: bool | None  # None: neither good nor bad
    found: str
    advice: str = ""


def print_findings(data: str | None, console: Console) -> None:
    """One line for each thing that matters on this machine: ok or missing, and what to do."""
    for what, good, found, advice in _findings(data):
        mark = {True: "[green]ok     [/]", False: "[red]missing[/]", None: "       "}[good]
        console.print(
            f"{mark} {what}: {found}" + (f" -> {advice}" if advice else ""),
            highlight=False,
            soft_wrap=True,
        )


def _findings(data: str | None) -> Iterator[Finding]:
    import torch

    from polymodal import __version__
    from polymodal.data.readers.files import data_folder

    yield Finding("polymodal", True, __version__)
    good = sys.version_info >= (3, 11)
    yield Finding(
        "Python", good, sys.version.split()[0], "" if good else "install Python 3.11 or newer"
    )
    yield Finding("torch", True, str(torch.__version__))
    cores, threads = os.cpu_count(), torch.get_num_threads()
    yield Finding(
        "threads",
        True,
        f"{threads} of {cores} cores",
        "" if threads == cores else "OMP_NUM_THREADS sets it",
    )
    gpu = f"{torch.cuda.device_count()} CUDA" if torch.cuda.is_available() else ""
    gpu = "mps" if not gpu and torch.backends.mps.is_available() else gpu
    yield Finding(
        "devices",
        True if gpu else None,
        gpu or "CPU alone",
        "" if gpu else "the small recipes fit it",
    )
    for package, extra in EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        yield Finding(
            package,
            there or None,
            "installed" if there else "not installed",
            "" if there else f"optional: pip install 'polymodal\\[{extra}]'",
        )
    try:
        folder = data_folder(data)
        yield Finding(
            "data folder",
            folder.is_dir() or None,
            str(folder),
            (
                ""
                if folder.is_dir()
                else "made on the first download; --data or $POLYMODAL_DATA gives another"
            ),
        )
        yield from _data_sets(folder)
    except ValueError as error:
        yield Finding("data folder", False, str(error))
    yield from _room(Path.cwd())


def _data_sets(folder: Path) -> Iterator[Finding]:
    from polymodal.data.celeba import FOLDERS, PACKED
    from polymodal.data.readers.files import IDX, PACKED_SVHN, SVHN, find

    for name, (_, hashes) in IDX.items():
        places = (name, "MNIST/raw" if name == "mnist" else "FashionMNIST/raw")
        files = [find(folder, places, stem + ".gz", stem) for stem in hashes]
        yield _located(name, files, "downloaded when first used")
    svhn = [find(folder, ("svhn", "SVHN"), name) for name in SVHN]
    packed = find(folder, ("svhn",), PACKED_SVHN)
    yield _located(
        "svhn", [packed] if packed and not all(svhn) else svhn, "downloaded when first used"
    )
    packed = find(folder, FOLDERS, PACKED)
    celeba = [
        find(folder, FOLDERS, "img_align_celeba", "img_align_celeba.zip"),
        *(find(folder, FOLDERS, n) for n in ("list_attr_celeba.txt", "list_eval_partition.txt")),
    ]
    yield _located(
        "celeba",
        [packed] if packed and not all(celeba) else celeba,
        "put img_align_celeba.zip, list_attr_celeba.txt and list_eval_partition.txt into the data"
        " folder",
    )


def _located(name: str, files: list[Path | None], advice: str) -> Finding:
    there = [f for f in files if f]
    if len(there) == len(files):
        return Finding(f"data set {name}", True, str(there[0].parent))
    return Finding(f"data set {name}", False, f"{len(there)} of {len(files)} files found", advice)


def _room(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free / 1e9
    yield Finding(
        "disk space here",
        free > 2,
        f"{free:.1f} GB free",
        "" if free > 2 else "free some, or use --out",
    )
    may = os.access(folder, os.W_OK)
    yield Finding(
        "writing here", may, str(folder), "" if may else "permission is denied; use --out elsewhere"
    )
