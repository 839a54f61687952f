"""`polymodal list`, `show` and `doctor`: names, recipes, and the state of this machine."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polymodal.cli.catalog import KINDS, entries
from polymodal.cli.console import say

# The imports inside functions need torch, `polymodal list` does not.

EXTRAS = {
    "tensorboard": "track",
    "wandb": "track",
    "torchvision": "image",
    "torch_fidelity": "image",
    "gradio": "app",
}
FROM_DATA = (
    "Modalities and networks that are not named follow from the kind and the shape of the data:"
    " --data fills them in, and so does polymodal train RECIPE --dry-run."
)
FREE = 2.0  # GB of disk space that a run should find
DOWNLOADED = "downloaded when first used"


# Lists.


def print_list(kind: str | None, console: Console) -> None:
    """Names and one line for each, of one kind or of all. Raises ValueError for an unknown kind."""
    if kind is None:
        for each in KINDS:
            console.print(_list(each))
            console.print()
        return
    from polymodal.checks import check_name

    check_name(kind, KINDS, "list of")
    console.print(_list(kind))


def _list(kind: str) -> Table:
    """The entries of a kind. `Text` keeps square brackets, which rich takes for markup in str."""
    table = Table(title=kind, title_justify="left", box=None, show_header=False)
    table.padding = (0, 2, 0, 0)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, about in entries(kind).items():
        shown = name.replace("_", "-") if kind == "methods" else name
        table.add_row(Text(shown), Text(about))
    return table


# Recipes.


def print_recipe(recipe: str, data: str | None, console: Console) -> None:
    """The recipe with its settings filled in, and the description of its method.

    Args:
        recipe: a name or a file.
        data: a file, or the folder of the named data sets; then the modalities and networks are
            filled in, too. None: the data are not read.

    Raises ValueError for an unknown recipe.
    """
    from polymodal.checks.yaml_text import write
    from polymodal.settings.recipes import load_recipe
    from polymodal.settings.resolve import resolve, to_dict

    settings = resolve(load_recipe(recipe))
    if settings.compare or settings.vary:
        _print_comparison(recipe, settings, console)
        return
    if data is None:
        say(console, f"{write(to_dict(settings))}# {FROM_DATA}")
    else:
        say(console, write(_filled_in(recipe, data)), end="")
    say(console, _comment(_about_method(settings.method.name)), end="")


def _filled_in(recipe: str, data: str) -> dict[str, Any]:
    """The settings with the fields and the network of every modality of the data."""
    from polymodal.experiments.plan import make_plan
    from polymodal.settings.resolve import to_dict

    (run,) = make_plan(recipe, Path("run"), data=data).runs
    return to_dict(run.settings)


def _print_comparison(recipe: str, settings: Any, console: Console) -> None:
    from polymodal.checks.yaml_text import write
    from polymodal.experiments.plan import label_runs
    from polymodal.settings.recipes import load_recipe

    over = "A comparison. Its settings win over each recipe's" if settings.compare else "Varied"
    say(console, f"# {settings.about}\n# {over}:")
    say(console, write(load_recipe(recipe)), end="")
    for label, name in label_runs(settings.compare).items() if settings.compare else ():
        say(console, f"# {label}: polymodal show {name}")


def _about_method(name: str | None) -> str:
    from polymodal.methods import METHODS

    return "" if name is None else inspect.getdoc(METHODS[name]) or ""


def _comment(text: str) -> str:
    """Lines of text as a comment of YAML."""
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


# The doctor.


class Finding(NamedTuple):
    """One line of the doctor's; `good` None: neither good nor bad."""

    what: str
    good: bool | None
    state: str
    advice: str = ""


def print_findings(data: str | None, console: Console) -> None:
    """One line for each thing that matters on this machine: ok or missing, and what to do."""
    for finding in _findings(data):
        line = Text.assemble(_mark(finding.good), f" {finding.what}: {finding.state}")
        if finding.advice:
            line.append(f" -> {finding.advice}")
        console.print(line, soft_wrap=True)


def _mark(good: bool | None) -> Text:
    if good is None:
        return Text("       ")
    return Text("ok     ", style="green") if good else Text("missing", style="red")


def _findings(data: str | None) -> Iterator[Finding]:
    yield from _versions()
    yield from _devices()
    yield from _extras()
    yield from _data(data)
    yield from _disk(Path.cwd())


def _versions() -> Iterator[Finding]:
    import torch

    from polymodal import __version__

    yield Finding("polymodal", True, __version__)
    good = sys.version_info >= (3, 11)
    advice = "" if good else "install Python 3.11 or newer"
    yield Finding("Python", good, sys.version.split()[0], advice)
    yield Finding("torch", True, str(torch.__version__))


def _devices() -> Iterator[Finding]:
    import torch

    cores, threads = os.cpu_count(), torch.get_num_threads()
    advice = "" if threads == cores else "OMP_NUM_THREADS sets it"
    yield Finding("threads", True, f"{threads} of {cores} cores", advice)
    if torch.cuda.is_available():
        yield Finding("devices", True, f"{torch.cuda.device_count()} CUDA")
    elif torch.backends.mps.is_available():
        yield Finding("devices", True, "mps")
    else:
        yield Finding("devices", None, "CPU only", "enough for the small recipes")


def _extras() -> Iterator[Finding]:
    for package, extra in EXTRAS.items():
        if importlib.util.find_spec(package) is None:
            advice = f"optional: pip install 'polymodal[{extra}]'"
            yield Finding(package, None, "not installed", advice)
        else:
            yield Finding(package, True, "installed")


def _data(data: str | None) -> Iterator[Finding]:
    from polymodal.data.readers.files import data_folder

    try:
        folder = data_folder(data)
    except ValueError as error:
        yield Finding("data folder", False, str(error))
        return
    if folder.is_dir():
        yield Finding("data folder", True, str(folder))
    else:
        advice = "created by the first download; --data or $POLYMODAL_DATA names another"
        yield Finding("data folder", None, str(folder), advice)
    yield from _digits(folder)
    yield _svhn(folder)
    yield _celeba(folder)
    yield _cub(folder)


def _digits(folder: Path) -> Iterator[Finding]:
    from polymodal.data.readers.digits import IDX, IDX_FOLDERS
    from polymodal.data.readers.files import find

    for name, (_, hashes) in IDX.items():
        files = [find(folder, IDX_FOLDERS[name], stem + ".gz", stem) for stem in hashes]
        yield _located(name, files, DOWNLOADED)


def _svhn(folder: Path) -> Finding:
    from polymodal.data.readers.digits import PACKED_SVHN, SVHN
    from polymodal.data.readers.files import find

    files = [find(folder, ("svhn", "SVHN"), name) for name in SVHN]
    packed = find(folder, ("svhn",), PACKED_SVHN)
    return _located("svhn", _either(files, packed), DOWNLOADED)


def _celeba(folder: Path) -> Finding:
    from polymodal.data.celeba import FOLDERS, PACKED
    from polymodal.data.readers.files import find

    names = ("list_attr_celeba.txt", "list_eval_partition.txt")
    images = find(folder, FOLDERS, "img_align_celeba", "img_align_celeba.zip")
    files = [images, *(find(folder, FOLDERS, name) for name in names)]
    advice = f"put img_align_celeba.zip, {names[0]} and {names[1]} into the data folder"
    return _located("celeba", _either(files, find(folder, FOLDERS, PACKED)), advice)


def _cub(folder: Path) -> Finding:
    from polymodal.data.readers import cub
    from polymodal.data.readers.files import find

    images = find(folder, cub.OFFICIAL_FOLDERS, "images.txt")
    files = [images, find(folder, cub.CAPTION_FOLDERS, cub.CAPTIONS)]
    advice = f"put CUB_200_2011 and {cub.CAPTIONS} into the data folder"
    return _located("cub", _either(files, find(folder, cub.PACKED_FOLDERS, cub.PACKED)), advice)


def _either(files: list[Path | None], packed: Path | None) -> list[Path | None]:
    """The packed file if there is one and the files are not complete."""
    return [packed] if packed and not all(files) else files


def _located(name: str, files: list[Path | None], advice: str) -> Finding:
    present = [file for file in files if file]
    if len(present) == len(files):
        return Finding(f"data set {name}", True, str(present[0].parent))
    state = f"{len(present)} of {len(files)} files found"
    return Finding(f"data set {name}", False, state, advice)


def _disk(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free / 1e9
    advice = "" if free > FREE else "free some, or use --out"
    yield Finding("disk space here", free > FREE, f"{free:.1f} GB free", advice)
    writable = os.access(folder, os.W_OK)
    advice = "" if writable else "permission is denied; use --out elsewhere"
    yield Finding("writing here", writable, str(folder), advice)
