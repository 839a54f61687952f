"""Bad inputs, generated: each case carries what must happen, and a judge says what is wrong.

A case is refused in one sentence, or gives a value that it names. Every door of the package has
families of cases, functions of a `random.Random`, so that a seed gives the same cases again.

    python tests/bad_inputs.py --n 2000 --seed 1 --command 200
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import inspect
import io
import json
import math
import os
import random
import re
import resource
import shutil
import string
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from polymodal import evaluate, fit, load, load_data
from polymodal.batch import Batch, Modality
from polymodal.checks import Group
from polymodal.cli import main as cli
from polymodal.data import Dataset, Splits, kind_of
from polymodal.experiments.plan import make_plan
from polymodal.methods import METHODS
from polymodal.runs.run import Run
from polymodal.settings import load_recipe, resolve

SECONDS, GB = 20, 2.0  # that a case may take
LIBRARIES = "torch|numpy|pydantic|pydantic_core|omegaconf|PIL|zipfile|pandas|safetensors|np"
FOREIGN = re.compile(
    rf"\b({LIBRARIES})\.|\b(torch|numpy|pydantic|omegaconf|PIL|zipfile)\b|\byaml\.[a-z]"
    r"|Traceback|\b[A-Z]\w*(Error|Exception)\b|allow_pickle|\bdtype|\bndarray|<class|0x[0-9a-f]{6}"
)


# What must happen.


class Refused:
    """The value of a case that must be refused."""


@dataclass(frozen=True)
class OrRefused:
    """The value of a case that is read as if nothing were wrong, or refused."""

    value: Any


def nothing(folder: Path) -> None:
    """The preparation of a case that needs no files."""


@dataclass(frozen=True)
class Case:
    """One input.

    Args:
        door: by which it comes in.
        what: the input, in words.
        act: gives it to the package, in a folder of its own; returns what was read of it.
        value: what must be read; `Refused`: one sentence, and no value.
        prepare: writes the files of the case into its folder.
        command: the same as arguments of the command, which then ends with 2, or else with 0.
    """

    door: str
    what: str
    act: Callable[[Path], Any]
    value: Any = Refused
    prepare: Callable[[Path], object] = nothing
    command: Callable[[Path], list[str]] | None = None


def same(got: Any, value: Any) -> bool:
    """Whether two values are equal: arrays within float32's rounding, types of numbers included."""
    if isinstance(value, Mapping):
        return list(got) == list(value) and all(same(got[k], value[k]) for k in value)
    if isinstance(value, np.ndarray | torch.Tensor):
        ours, theirs = np.asarray(got, "f8"), np.asarray(value, "f8")
        return ours.shape == theirs.shape and np.allclose(ours, theirs, 1e-6, 1e-6, True)
    return type(got) is type(value) and got == value


def fault_of_sentence(text: str) -> str:
    """What is wrong with the text of a refusal; "" if it is one sentence in plain words."""
    if not text or "\n" in text or len(text) > 1000:
        return f"not one sentence: {text[:500]!r}"
    if not text.endswith((".", "?")):
        return f"no end: {text!r}"
    found = FOREIGN.search(text)
    return f"names {found[0]!r}: {text}" if found else ""


def peak() -> float:
    """The most memory that this process and its children have taken, GB."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) / 2**20


def children_seconds() -> float:
    """The time that processors have spent on commands."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def judge(case: Case, folder: Path) -> str:
    """What is wrong with the answer to a case; "" if nothing is."""
    case.prepare(folder)
    start, before = time.perf_counter(), peak()
    fault = _answer(case, folder)
    seconds, more = time.perf_counter() - start, peak() - before
    if seconds > SECONDS:
        return f"took {seconds:.0f} s"
    return f"took {more:.1f} GB" if more > GB else fault


def _answer(case: Case, folder: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = case.act(folder)
    except ValueError as error:
        if case.value is not Refused and not isinstance(case.value, OrRefused):
            return f"refused: {error}"
        plain = type(error) is ValueError or type(error).__module__.startswith("polymodal.")
        return fault_of_sentence(str(error)) if plain else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:400]}"
    if case.value is Refused:
        return f"accepted: {str(got)[:200]!r}"
    value = case.value.value if isinstance(case.value, OrRefused) else case.value
    return "" if same(got, value) else f"read as {str(got)[:300]}, not {str(value)[:300]}"


def judge_command(case: Case, folder: Path) -> str:
    """The same through the installed command."""
    assert case.command is not None
    case.prepare(folder)
    start, before = children_seconds(), peak()
    done = subprocess.run(
        [Path(sys.executable).with_name("polymodal"), *case.command(folder)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )
    seconds, more = children_seconds() - start, peak() - before
    if seconds > SECONDS or more > GB:
        return f"took {seconds:.0f} s, {more:.1f} GB more"
    return fault_of_command(case, done.returncode, done.stderr)


def fault_of_command(case: Case, status: int, errors: str) -> str:
    """What is wrong with the end of a command."""
    if isinstance(case.value, OrRefused) and status == 0:
        return ""
    if case.value is not Refused and not isinstance(case.value, OrRefused):
        return "" if status == 0 else f"ended with {status}: {errors[-500:]}"
    return fault_of_sentence(errors.strip()) if status == 2 else f"{status}: {errors[-500:]}"


# The world in which the cases happen.


@dataclass(frozen=True)
class World:
    """A small finished run with results, and its data."""

    directory: Path
    run: Run
    data: Splits


def make_world(folder: Path) -> World:
    """Trains the run."""
    small = {"latent": 2, "hidden": 4, "epochs": 1, "progress": False}
    data = load_data("shapes", n=60)
    out = folder / "run"
    recipe = {"data": {"name": "shapes", "n": 60}, "method": {"name": "jmvae"}}
    run = fit(recipe, out=out, **small)
    evaluate(run, data, metrics=["joint_log_likelihood"], samples=3, limit=5)
    return World(out, run, data)


Family = Callable[[random.Random, World], Case]
FAMILIES: dict[str, list[Family]] = {}


def family(door: str, times: int = 1) -> Callable[[Family], Family]:
    """Enters a family of cases, `times` as often as others of its door."""

    def enter(make: Family) -> Family:
        FAMILIES.setdefault(door, []).extend([make] * times)
        return make

    return enter


def cases(n: int, seed: int, world: World) -> Iterator[Case]:
    """n different cases, door by door in turn."""
    rng, seen = random.Random(seed), set()
    doors = sorted(FAMILIES)
    tries = 0
    while len(seen) < n and tries < 50 * n:
        door = doors[tries % len(doors)]
        tries += 1
        case = rng.choice(FAMILIES[door])(rng, world)
        case = replace(case, door=door)
        if (door, case.what) not in seen:
            seen.add((door, case.what))
            yield case


def one(rng: random.Random, *choices: Any) -> Any:
    return rng.choice(choices)


def word(rng: random.Random, letters: str = string.ascii_lowercase, most: int = 9) -> str:
    return "".join(rng.choices(letters, k=rng.randint(3, most)))


# Overrides.

WHOLE = {k: 0 for k in ("epochs", "patience", "warmup", "plateau", "max_steps")} | {
    k: 1 for k in ("batch", "accumulate", "eval_every")
}
SHARES = ("factor", "ema")
POSITIVE = ("lr", "memory_gb")
REAL = ("weight_decay", "clip", "checkpoint_minutes", *POSITIVE)
WORDS = ("optimizer", "schedule", "precision", "device", "logger")
FLAGS = ("compile", "deterministic", "progress")
NO_NUMBERS = (
    "abc [1] {a:1} {} [] true '5' .nan .inf -.inf 1e400 -1 -1e3 1e30 1_000 0x10 5x 1,5 1..2 --1 é"
    " 10000000000000000000000 ${x} 1/2 five [null] 2024-01-01 1e+ %"
).split()


def override(text: str, value: Any = Refused, read: Callable[[Any], Any] = str) -> Case:
    """A change to a recipe; `read` takes the value from the settings."""

    def act(folder: Path) -> Any:
        return read(resolve(load_recipe("shapes-jmvae"), [text]))

    def command(folder: Path) -> list[str]:
        small = ["data.n=60", "method.hidden=4"]
        return ["train", "shapes-jmvae", *small, text, "--out", str(folder / "out"), "--dry-run"]

    is_plain = "\0" not in text and text.isprintable() and not text.startswith("-")
    return Case("overrides", repr(text[:200]), act, value, command=command if is_plain else None)


@family("overrides", 3)
def wrong_number(rng: random.Random, world: World) -> Case:
    key = rng.choice([*WHOLE, *SHARES, *REAL])
    bad = [*NO_NUMBERS, word(rng), f"[{rng.randint(0, 9)}]", f"-{rng.randint(1, 999)}.5"]
    bad += [str(rng.randint(10**20, 10**40)), f"{rng.uniform(2, 9):.3f}e{rng.randint(16, 300)}"]
    if key in WHOLE:
        bad += [f"{rng.uniform(0.01, 50):.2f}5", f"{rng.randint(1, 9)}e-{rng.randint(1, 99)}"]
        bad += ["null", "", str(WHOLE[key] - 1)]
    if key in (*SHARES, *POSITIVE):
        bad += [f"1e-{rng.randint(20, 320)}"]
    if key in SHARES:
        bad += ["null", str(rng.randint(1, 10**6)), f"{rng.uniform(1, 9):.4f}"]
    stage = one(rng, "", "", "stages.joint.") if key not in REAL[-3:] else ""
    return override(f"training.{stage}{key}={rng.choice(bad)}")


@family("overrides", 2)
def right_number(rng: random.Random, world: World) -> Case:
    key = rng.choice([*WHOLE, *SHARES, *REAL])
    k = rng.randint(1, 10**6)
    if key in WHOLE:
        text = one(rng, f"{k}", f"{k}.0", f"{k}.0e0", f"+{k}", f" {k} ", f"000{k}")
        return override(f"training.{key}={text}", k, lambda s: getattr(s.training, key))
    x = round(rng.uniform(0.001, 0.999), 4)
    text = one(rng, repr(x), f"{x * 1000:.1f}e-3", f"+{x}", repr(x)[1:])
    value = float(text)
    return override(f"training.{key}={text}", value, lambda s: getattr(s.training, key))


@family("overrides")
def wrong_word_or_flag(rng: random.Random, world: World) -> Case:
    key = rng.choice([*WORDS, *FLAGS])
    bad = [word(rng), "3", "[adam]", "{a: 1}", "[]", ".nan", "yess", "ADAM ", "adan", "-1", "2.5"]
    bad += ["''"] if key in WORDS else ["yes", "1", "0", "on", "null", "'true'"]
    return override(f"training.{key}={rng.choice(bad)}")


@family("overrides", 2)
def misspelt(rng: random.Random, world: World) -> Case:
    names = {
        "training.": [*WHOLE, *SHARES, *REAL, *WORDS, *FLAGS, "stages"],
        "training.stages.joint.": [*WHOLE, *SHARES],
        "data.": ["name", "path", "limit", "missing", "seed"],
        "method.": list(inspect.signature(METHODS["jmvae"]).parameters),
        "evaluation.": ["metrics", "subsets", "limit", "samples", "batch", "precision"],
        "": ["training", "data", "method", "evaluation", "networks", "modalities", "seeds"],
    }
    section = rng.choice(list(names))
    key = rng.choice(names[section])
    place = rng.randrange(len(key))
    letter = rng.choice(string.ascii_letters + "_é1")
    changed = one(rng, key[:place] + key[place + 1 :], key[:place] + letter + key[place:])
    changed = one(rng, changed, key.upper(), key + letter, f"{key}.x" if section else changed)
    if changed in names[section] or not changed or changed == "n":
        changed += "zz"
    if changed.endswith(".x") and key in ("stages", "missing", "networks"):
        changed = changed.removesuffix(".x") + "q"
    return override(f"{section}{changed}={rng.randint(1, 9)}")


@family("overrides")
def wrong_section(rng: random.Random, world: World) -> Case:
    section = one(rng, "training", "method", "data", "evaluation", "modalities", "networks")
    texts = [f"{section}={one(rng, '5', 'true', '[a]', 'x', '[]', '.nan', repr(word(rng)))}"]
    texts += ["compare=jnf", "seeds=3", "seeds=[a]", "seeds=[-1]", "seeds=[1.5]", "about=[1]"]
    texts += ["training.stages=3", "training.stages.joint=3", "evaluation.metrics={a: 1}"]
    texts += ["evaluation.subsets=3", "evaluation.samples=x", "evaluation.batch=0", "compare={}"]
    texts += [f"seeds=[{rng.randint(2**32, 2**80)}]", f"data.limit={one(rng, '0', '-1', 'x')}"]
    texts += [f"modalities.square.{one(rng, 'scale=0', 'shape=[3]', 'weight=x', 'kind=3')}"]
    texts += [f"evaluation.metrics=[{word(rng)}]", f"method.name={word(rng)}", "method.name=3"]
    texts += [f"data.n={one(rng, 'x', '-1', '1.5', '1e30', '[]', 'null')}", "data.name=[a]"]
    return override(rng.choice(texts))


@family("overrides")
def no_override(rng: random.Random, world: World) -> Case:
    key = "training.epochs"
    depth = rng.randint(51, 3000)
    texts = [key, f"{key}={{", f"{key}=[", f'{key}="', f"{key}='", f"{key}=a: b: c", f"={key}"]
    texts += [f"{key}=!!python/name:os.system", f"{key}=!x 5", f"{key}=*a", f"{key}=&a", "=", "."]
    texts += [f"training..epochs={rng.randint(1, 9)}", f".{key}=1", f"{key}.=1", "training.=1"]
    texts += [f"{key}={'[' * depth}{']' * depth}", f"{key}={'{a: ' * depth}", f"{key}=@5"]
    texts += [f"{'a.' * rng.randint(13, 4000)}b=1", f"{key}=%5", f"{key}=`5`", f"{key}=5: 6"]
    texts += [f"{key}={'9' * rng.randint(400, 9000)}", f"{key}={chr(rng.randint(1, 8))}5"]
    texts += [f"{word(rng)}{rng.choice('!?#/')}{word(rng)}", f"{key}=\ud800", f"{key}=5]"]
    return override(rng.choice(texts))


def wrong_for(rng: random.Random, default: Any) -> str:
    """YAML text that no option with this default takes."""
    if isinstance(default, bool):
        return one(rng, "3", "abc", "[true]", "{a: 1}", "0.5")
    if isinstance(default, int | float):
        return one(
            rng, "abc", "[1, x]", "{zz: x}", "true", ".nan", ".inf", "1e300", f"-{word(rng)}"
        )
    if isinstance(default, str):
        return one(rng, "3", "[1]", "{zz: 1}", "true", "2.5")
    return one(rng, "{zzz: 1}", "{1: {2: 3}}", "{hiden: 3}")


def is_typed(default: Any) -> bool:
    """Whether values are checked by the type of a default."""
    return isinstance(default, int | float | str | Group)


@family("overrides", 2)
def wrong_option(rng: random.Random, world: World) -> Case:
    """Options of all methods, by their defaults."""
    method = rng.choice(sorted(METHODS))
    skip = ("modalities", "networks")
    parameters = inspect.signature(METHODS[method]).parameters
    defaults = {k: p.default for k, p in parameters.items() if k not in skip}
    key = rng.choice([k for k, v in defaults.items() if is_typed(v)])
    text = f"method.{key}={wrong_for(rng, defaults[key])}"

    def act(folder: Path) -> Any:
        return resolve({"method": {"name": method}}, [text]).method

    return Case("overrides", f"{method} {text}", act)


@family("overrides")
def too_large(rng: random.Random, world: World) -> Case:
    """Sizes that need more memory than the run may take."""
    k = rng.randint(10**5, 10**6)
    method = one(rng, "jmvae", "mvae", "jnf", "mopoe", "jnf_dcca", "sbm")
    texts = [f"method.latent={k}", f"data.n={k * 10**5}", f"method.latent={k * 10**8}"]
    if "hidden" in inspect.signature(METHODS[method]).parameters:
        texts += [f"method.hidden={k}"]
    text = rng.choice(texts)

    def act(folder: Path) -> Any:
        small = ["data.n=60", "training.memory_gb=0.2", text]
        (folder / "r.yaml").write_text(f"data: {{name: shapes}}\nmethod: {{name: {method}}}\n")
        return make_plan(str(folder / "r.yaml"), folder / "out", small)

    return Case("overrides", f"{method} {text}", act)


# Recipes.

TEXT = "about: é\nmethod: {name: jnf}\ntraining:\n  epochs: 7\n"


def recipe(content: bytes, what: str, value: Any = Refused, name: str = "r.yaml") -> Case:
    def act(folder: Path) -> Any:
        settings = resolve(load_recipe(folder / name))
        return settings.about, settings.training.epochs

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(content)

    def command(folder: Path) -> list[str]:
        return ["show", str(folder / name)]

    return Case("recipes", what, act, value, prepare, command)


@family("recipes", 2)
def right_recipe(rng: random.Random, world: World) -> Case:
    k, said = rng.randint(0, 10**6), rng.choice(["é", "${oc.env:HOME}", "a: b", "[x]", "数", "5"])
    quoted = json.dumps(said, ensure_ascii=one(rng, True, False))
    texts = [f"about: {quoted}\nmethod: {{name: jnf}}\ntraining:\n  epochs: {k}\n"]
    texts += [f'{{"about": {quoted}, "method": {{"name": "jnf"}}, "training": {{"epochs": {k}}}}}']
    texts += [f"---\n# comment\nabout: {quoted}\nbase: jnf\n\ntraining: {{epochs: {k}.0}} # x\n"]
    texts += [f"x: 1\nabout: {quoted}\ntraining: {{epochs: {k}}}".removeprefix("x: 1\n")]
    text = rng.choice(texts)
    ends = one(rng, "\n", "\r\n")
    mark = one(rng, b"", b"\xef\xbb\xbf")
    what = f"{text!r}, ends {ends!r}, mark {mark!r}"
    return recipe(mark + text.replace("\n", ends).encode(), what, (said, k))


@family("recipes", 2)
def wrong_bytes(rng: random.Random, world: World) -> Case:
    kind = one(rng, "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "junk", "gz", "control")
    if kind == "junk":
        return recipe(rng.randbytes(size := rng.randint(40, 400)), f"{size} bytes of junk")
    if kind == "gz":
        return recipe(zlib.compress((TEXT * rng.randint(1, 9)).encode()), f"zlib {rng.random()}")
    if kind == "control":
        char = chr(rng.choice([0, 1, 7, 8, 11, 12, 27, 127]))
        place = rng.randrange(len(TEXT))
        return recipe((TEXT[:place] + char + TEXT[place:]).encode(), f"{char!r} at {place}")
    text = TEXT + f"# {word(rng)} é\n"
    return recipe(text.encode(kind), f"{kind} {text!r}")


@family("recipes", 3)
def wrong_text(rng: random.Random, world: World) -> Case:
    k, name = rng.randint(1, 99), word(rng)
    texts = ["3", "abc", "[1, 2]", "- a\n- b", "null", "", "~", "2.5", '"x"', "true", "# only"]
    texts += ["method: {name: jnf", "method: [", f"training:\n\tepochs: {k}", f"a{k}: b: c"]
    texts += [f"{name}: {k}", f"training: {{{name}: {k}}}", f"method: {{name: {name}}}"]
    texts += [f"about: x\nabout: y{k}", f"training: {{epochs: {k}, epochs: 2}}", f"a: *{name}"]
    texts += [f"about: !!python/object/apply:os.system [{name}]", f"about: !{name} x"]
    texts += ["about: !!binary aGk=", "about: !!set {a, b}", "about: !!omap [a: 1]", "? [1]\n: 2"]
    texts += [f"base: {name}", "base: [jnf]", f"base: {k}", "base: r.yaml", f"base: {name}.yaml"]
    texts += [f"compare: {name}", f"compare: [{k}]", "seeds: [a]", f"training: [{k}]", "1: 2"]
    texts += [
        "a: 1\n---\nb: 2",
        f"training: {{<<: {{epochs: {k}}}}}",
        f"training: {{lr: {k}e{k}0}}",
    ]
    texts += ["[" * rng.randint(60, 20_000), "{a: " * rng.randint(60, 3000), "x" * 2**19]
    texts += [f"about: {k}", f"data: {{name: {name}}}", f"data: {{name: shapes, {name}: {k}}}"]
    texts += [
        f"evaluation: {{metrics: [{name}]}}",
        f"training: {{device: {name}}}",
        "? {a: b}\n: c",
    ]
    text = rng.choice(texts)
    return recipe(text.encode(), repr(text[:200]) + f" of {len(text)}")


@family("recipes")
def no_file(rng: random.Random, world: World) -> Case:
    kind = one(rng, "folder", "pipe", "device", "missing", "huge", "loop", "long", "bomb")
    case = recipe(b"", f"{kind} {rng.randint(0, 3)}")
    if kind == "bomb":
        lines = ["a0: &a0 [x, x]"] + [
            f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * rng.randint(8, 12))}]" for i in range(1, 9)
        ]
        return recipe("\n".join(lines).encode(), f"aliases {rng.random()}")
    if kind == "long":
        name = word(rng) * 60 + ".yaml"
        return Case("recipes", name, lambda folder: load_recipe(folder / name))
    return replace(case, prepare=lambda folder: special(folder / "r.yaml", kind))


def special(path: Path, kind: str) -> None:
    """Something that is no ordinary file."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(20 * 10**9)


# Names of modalities.

GOOD_WORDS = (
    "train forward keys type to values items get pop self x z training state_dict parameters"
    " modules device dtype half float double register_buffer __class__ __dict__ _modules weight"
    " bias numpy nan 数字 é ß ☃ 😀 a.b a/b .. . a:b [red] [/] {} %s None null true 1 -1 --n con"
    " file *.npy a|b a;b `x` $HOME ~ \\ ' \" <b> & # @ ! ? a%20b prior decoders posterior joint"
    " experts classes tables index present kept x_present modalities latent hidden networks clear"
)
GOOD_NAMES = [*GOOD_WORDS.split(), "a b", "two  spaces", "数 字", "A" * 200, "é" * 30]


@family("names", 2)
def right_name(rng: random.Random, world: World) -> Case:
    """Trained and generated under this name."""
    letters = "abcxyzäöüßéλЖ中文字한글ـअ0123456789_.-:/[]{}()<>$&*!?;'\"|~^%#@"
    name = one(rng, rng.choice(GOOD_NAMES), rng.choice(GOOD_NAMES), word(rng, letters))
    method = one(rng, "jmvae", "mvae", "mopoe", "mmvae", "jnf")
    names = [name, "other"]
    modalities = [Modality(n, (2,)) for n in names]
    part = Dataset(modalities, {n: torch.randn(20, 2) for n in names})

    def act(folder: Path) -> Any:
        small = {"latent": 2, "epochs": 0, "progress": False}
        fit(method, Splits(part, part, part), out=folder / "run", **small)
        x = load(folder / "run").model.generate({name: torch.zeros(3, 2)}, n=2)
        return {k: tuple(v.shape) for k, v in x.items()}

    value = {n: (2, 3, 2) for n in names}
    return Case("names", f"{method} {name!r}", act, value)


@family("names", 2)
def right_name_in_archive(rng: random.Random, world: World) -> Case:
    bad = ("_present", "train_", "label")
    names = [n for n in GOOD_NAMES if not any(b in n for b in bad)]
    chosen = rng.sample(names, 2)
    file = "d.npz"

    def prepare(folder: Path) -> None:
        write_archive(folder / file, {n: npy(np.arange(60.0).reshape(30, 2)) for n in chosen})

    def act(folder: Path) -> Any:
        return [m.name for m in load_data(folder / file).modalities]

    def command(folder: Path) -> list[str]:
        small = ["method.latent=2", "method.hidden=4", "--dry-run", "--out", str(folder / "out")]
        return ["train", "jmvae", "--data", str(folder / file), *small]

    return Case("names", f"archive {chosen}", act, chosen, prepare, command)


@family("names", 2)
def wrong_name(rng: random.Random, world: World) -> Case:
    inner = rng.choice("\n\t\r\0\x1b\u2028\u200b\ud800+,=\x7f\u202e")
    w = word(rng)
    bad = ["", " ", f" {w}", f"{w} ", w + inner + w, inner + w, w * 80, "數" * rng.randint(70, 200)]
    bad += [3, None, 2.5, True, (w,), [w], b"abc", {w: 1}, object, "\u00a0" + w]
    name = rng.choice(bad)
    return Case("names", repr(name)[:200], lambda folder: Modality(name, (3,)))


@family("names")
def wrong_name_asked_for(rng: random.Random, world: World) -> Case:
    name = one(rng, word(rng), "Square", "squar", "square ", "", "[red]", "\n", "square+circl")
    option = one(rng, "--want", "--given", "--subsets")
    name = "squar" if option == "--subsets" and name.strip() == "square" else name
    options = {"--want": name, "--given": f"{name}=x.npy", "--subsets": name or ","}

    def command(folder: Path) -> list[str]:
        words = ["evaluate", str(world.directory), "--limit", "3"]
        if option != "--subsets":
            words = ["generate", str(world.directory), "--out", str(folder / "g")]
        return [*words, option, options[option]]

    return in_command("names", f"{option} {name!r}", command)


def in_command(
    door: str, what: str, command: Callable[[Path], list[str]], value: Any = Refused
) -> Case:
    """A case of the command line."""

    def act(folder: Path) -> Any:
        out, err, here = io.StringIO(), io.StringIO(), os.getcwd()
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = cli.run(command(folder))
        finally:
            os.chdir(here)
        left = [p.name for p in folder.iterdir() if p.name in ("g", "out", "report.html", "runs")]
        if status == 2:
            raise ValueError(err.getvalue().strip() + (f" LEFT Error {left}" if left else ""))
        return status

    return Case(door, what, act, value, command=command)


# Archives.


def npy(x: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, x, version, allow_pickle=True)
    return out.getvalue()


def header(shape: str, dtype: str = "'<f8'", fortran: str = "False") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write_archive(
    file: Path, members: Mapping[str, bytes], method: int = 0, twice: str = ""
) -> None:
    with zipfile.ZipFile(file, "w", method) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
        if twice:
            out.writestr(twice, next(iter(members.values())))


def archive(
    what: str,
    write: Callable[[Path], object],
    value: Any = Refused,
    name: str = "d.npz",
    read: Callable[[Splits], Any] = repr,
    **options: Any,
) -> Case:
    def act(folder: Path) -> Any:
        return read(load_data(folder / name, **options))

    def command(folder: Path) -> list[str]:
        small = ["method.latent=2", "method.hidden=4", "--dry-run", "--out", str(folder / "out")]
        small += [f"data.{k}={v}" for k, v in options.items()]
        return ["train", "jmvae", "--data", str(folder / name), *small]

    def prepare(folder: Path) -> None:
        write(folder / name)

    return Case("archives", what, act, value, prepare, command)


def first_part(splits: Splits) -> dict[str, np.ndarray]:
    """The training values."""
    batch = splits.train.batch(torch.arange(len(splits.train)))
    return {m: x.numpy() for m, x in batch.x.items()}


@family("archives", 4)
def right_archive(rng: random.Random, world: World) -> Case:
    kind = rng.choice("f2 f4 f8 g i1 i2 i4 i8 u1 u2 u4 u8 ?".split())
    order = rng.choice("<>=")
    shape = one(rng, (30,), (30, 3), (30, 1), (31, 2, 2), (30, 4, 4, 3), (30, 5, 4, 4))
    entropy = rng.randint(0, 2**32)
    numbers = np.random.default_rng(entropy)
    low = -100 if kind[0] in "fgi" else 0
    x = numbers.integers(low, 2 if kind == "?" else 120, shape).astype(kind)
    x = x / 8 if kind[0] in "fg" else x
    x = x.astype(np.dtype(kind).newbyteorder(order))
    x = np.asfortranarray(x) if rng.random() < 0.3 else x
    method = one(rng, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    version = one(rng, (1, 0), (2, 0))
    parts = {f"{p}_{m}": x for p in ("train", "val", "test") for m in ("a", "b")}

    def write(file: Path) -> None:
        write_archive(file, {k: npy(v, version) for k, v in parts.items()}, method)

    value = x.astype("f4")
    if value.ndim == 1:
        value = value[:, None]
    if kind == "u1" and x.ndim == 3:
        value = value[:, None]
    if kind == "u1" and x.ndim > 2:
        value = value / 255
    if x.ndim == 4 and x.shape[-1] in (1, 3, 4):
        value = np.moveaxis(value, -1, 1)
    what = f"{order}{kind} {shape} {method} {version} {entropy}"
    return archive(what, write, {"a": value, "b": value}, read=first_part)


@family("archives")
def right_masks(rng: random.Random, world: World) -> Case:
    numbers = np.random.default_rng(entropy := rng.randint(0, 2**32))
    mask = numbers.integers(0, 2, 30)
    mask[:2] = 0, 1
    kind = rng.choice("f2 f4 >f8 i1 >i4 u1 u8 ?".split())
    x = numbers.standard_normal((30, 2))
    by_nan = rng.random() < 0.5
    hole = np.where(mask[:, None] == 1, x, np.nan).astype("f2" if by_nan else "f8")
    members = {f"{p}_b": x for p in ("train", "val", "test")}
    members |= {f"{p}_a": hole for p in ("train", "val", "test")}
    if not by_nan:
        members |= {f"{p}_a_present": mask.astype(kind) for p in ("train", "val", "test")}

    def write(file: Path) -> None:
        write_archive(file, {k: npy(v) for k, v in members.items()})

    value = {"a": mask == 1}
    what = f"mask {kind} {by_nan} {entropy}"
    return archive(
        what,
        write,
        value,
        read=lambda s: {k: v.numpy() for k, v in s.train.present.items()},
    )


ROWS = np.arange(60.0).reshape(30, 2)


@family("archives", 5)
def wrong_member(rng: random.Random, world: World) -> Case:
    n = rng.randint(1, 29)
    big = rng.randint(10**9, 10**30)
    odd = ROWS.copy()
    odd[rng.randrange(30), rng.randrange(2)] = one(rng, np.nan, np.inf, -np.inf)
    choices: dict[str, dict[str, bytes]] = {
        f"text {n}": {"b": b"hello" * n},
        "empty": {"b": b""},
        f"objects {n}": {"b": npy(np.array([None] * n + [1]))},
        f"records {n}": {"b": npy(np.zeros(30, [("x", "f4", n)]))},
        f"words {n}": {"b": npy(np.full((30, n), "a" * n))},
        f"bytes {n}": {"b": npy(np.full(30, b"a" * n))},
        f"complex {n}": {"b": npy(np.ones((30, n)) + 1j)},
        f"dates {n}": {"b": npy(np.zeros((30, n), one(rng, "M8[s]", "m8[D]")))},
        f"void {n}": {"b": npy(np.zeros(30, f"V{n}"))},
        "no axis": {"b": npy(np.ones(()))},
        "no rows": {"b": npy(np.ones((0, n)))},
        f"no columns {n}": {"b": npy(np.ones((30, 0)))},
        f"rows {n}": {"b": npy(ROWS[:n])},
        f"more rows {n}": {"b": npy(np.ones((30 + n, 2)))},
        f"not finite {n}": {"b": npy(odd)},
        f"overflow {n}": {"b": npy(ROWS * 1e300)},
        f"header {big}": {"b": header(f"({big},)")},
        f"header {big} rows": {"b": header(f"(30, {big})") + bytes(n)},
        f"negative {n}": {"b": header(f"(-{n}, 2)")},
        f"more than is there {n}": {"b": header(f"({30 + n}, 2)") + ROWS.tobytes()},
        f"less than is there {n}": {"b": header(f"(30, {1})") + ROWS.tobytes()},
        f"nested {n}": {"b": header("(" * n * 200 + ")" * n * 200)},
        f"code {n}": {"b": header("(3,)", "'O'") + b"cos\nsystem\n" * n},
        f"type {n}": {"b": header("(30,)", one(rng, "'<f3'", "'x'", "3", "None", "[]", "''"))},
        f"order {n}": {"b": header("(30, 2)", fortran=one(rng, "3", "None", "'a'")) + bytes(480)},
        f"version {n}": {"b": b"\x93NUMPY" + bytes([n + 3, 0]) + npy(ROWS)[8:]},
        f"long header {n}": {"b": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(n * 10**5)},
        f"large {n}": {"b": header(f"(30, {10**7 + n})")},
        f"float mask {n}": {"a_present": npy(np.full(30, n / 30))},
        f"mask of {n + 1}": {"a_present": npy(np.full(30, n + 1))},
        f"mask {n} rows": {"a_present": npy(np.ones(n))},
        f"mask of columns {n}": {"a_present": npy(np.ones((30, n)))},
        f"mask of words {n}": {"a_present": npy(np.full(30, "yes"))},
        "mask of nan": {"a_present": npy(np.full(30, np.nan))},
        "mask of none": {"a_present": npy(np.zeros(30))},
        f"mask {word(rng)}": {f"{word(rng)}_present": npy(np.ones(30))},
        "mask of capitals": {"A_present": npy(np.ones(30))},
        "label twice": {"label": npy(np.ones(30)), "labels": npy(np.ones(30))},
        f"labels {n}": {"label": npy(np.ones(n))},
        f"labels {n} columns": {"labels": npy(np.ones((30, n)))},
        f"labels {n} halves": {"label": npy(np.arange(30) + n / 30 + 1e-3)},
        f"labels not finite {n}": {"label": npy(np.where(np.arange(30) == n, np.nan, 1))},
        f"labels of objects {n}": {"label": npy(np.array([None] * 30))},
        f"no train part {n}": {"val_a": npy(ROWS)},
        "part of another modality": {"train_a": npy(ROWS), "test_b": npy(ROWS)},
        f"name {n}": {one(rng, " b", "b ", "b+c", "b,c", "b=c", "b\nc", "b" * 300): npy(ROWS)},
    }
    what = rng.choice(list(choices))
    members = choices[what]
    alone = any(k.startswith(("val_", "train_")) for k in members) and "no" not in what
    members = members if alone else {"a": npy(ROWS), **members}
    method = one(rng, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return archive(what, lambda file: write_archive(file, members, method))


@family("archives", 4)
def wrong_archive(rng: random.Random, world: World) -> Case:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", one(rng, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)) as file:
        file.writestr("a.npy", npy(np.random.default_rng(rng.randint(0, 9)).random((30, 20))))
    whole = out.getvalue()
    kind = one(rng, "cut", "cut", "flip", "flip", "twice", "special", "other", "none", "beside")
    if kind == "cut":
        k = rng.randint(0, len(whole) - 23)
        return archive(f"cut at {k} of {len(whole)}", lambda p: p.write_bytes(whole[:k]))
    if kind == "flip":  # in the values, of which the archive has a checksum
        k, bit = rng.randint(400, len(whole) - 250), 1 << rng.randint(0, 7)
        changed = whole[:k] + bytes([whole[k] ^ bit]) + whole[k + 1 :]
        return archive(f"bit {bit} at {k} of {len(whole)}", lambda p: p.write_bytes(changed))
    if kind == "twice":
        twice = one(rng, "a.npy", "a", "b.npy")
        members = {"a": npy(ROWS), "b": npy(ROWS)}
        return archive(f"{twice} twice", lambda p: write_archive(p, members, 0, twice))
    if kind == "special":
        which = one(rng, "folder", "pipe", "device", "loop", "missing", "huge")
        return archive(which, lambda p: special(p, which))
    if kind == "none":
        members = one(rng, {}, {"label": npy(ROWS[:, 0])}, {"a": npy(ROWS[: rng.randint(1, 2)])})
        return archive(f"too little {list(members)}", lambda p: write_archive(p, members))
    if kind == "beside":
        junk, name = (
            rng.randbytes(rng.randint(1, 99)),
            one(rng, "readme.txt", "x/", "b.csv", "b.npy"),
        )
        extra = {"a": npy(ROWS)}

        def write(file: Path) -> None:
            write_archive(file, extra)
            with zipfile.ZipFile(file, "a") as more:
                more.writestr(name, junk)

        return archive(f"{name} beside {len(junk)}", write)
    starts = [
        b"",
        b"PK",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x89HDF\r\n\x1a\n",
        b"\x80\x04K\x01.",
        b"a,b\n",
    ]
    start, size = rng.choice(starts), rng.randint(0, 300)
    junk = start + rng.randbytes(size)
    name = one(rng, "d.npz", "d.npz", "d.npy", "d.csv", "d.pkl", "d.NPZ", "d")
    return archive(f"{name} {start!r} and {size}", lambda p: p.write_bytes(junk), name=name)


@family("archives", 2)
def values_of_likelihoods(rng: random.Random, world: World) -> Case:
    """Values that a likelihood admits, or not."""
    numbers = np.random.default_rng(entropy := rng.randint(0, 2**32))
    rows = numbers.integers(0, 900, (30, 3)).astype("f8")
    likelihood = one(rng, "poisson", "negative_binomial", "bernoulli", "categorical", "sigmoid")
    if likelihood in ("bernoulli", "sigmoid"):
        rows = rows / 900
    elif likelihood == "categorical":
        rows = np.eye(3)[numbers.integers(0, 3, 30)]
    bad = rng.random() < 0.6
    if bad:
        wrong = one(rng, -1.0, 0.5, -0.5, np.nan, np.inf, 1e30 if "s" not in likelihood else 1.5)
        wrong = wrong + 1.5 if wrong == 0.5 and likelihood in ("bernoulli", "sigmoid") else wrong
        wrong = 1.5 if wrong == 1e30 else wrong
        rows[rng.randrange(30)] = wrong
    field = "link" if likelihood == "sigmoid" else "likelihood"
    members = {f"{p}_{m}": npy(rows) for p in ("train", "val", "test") for m in ("a", "b")}
    case = archive(
        f"{likelihood} {bad} {entropy}",
        lambda p: write_archive(p, members),
        Refused if bad else {"a": rows, "b": rows},
        read=first_part,
        modalities={m: {field: likelihood} for m in ("a", "b")},
    )
    return replace(case, command=None)


@family("archives")
def published_files(rng: random.Random, world: World) -> Case:
    """Files of CelebA that are not as they were published."""
    n = rng.randint(1, 5)
    names = [f"{k}.jpg" for k in range(n)]
    table = f"{n}\nA B\n" + "".join(f"{name} 1 -1\n" for name in names)
    parts = "".join(f"{name} {min(k, 2)}\n" for k, name in enumerate(names))
    texts = ["", "x\n", parts.replace("0", "a"), parts.replace(" 0", " -1"), parts + "y 2\n"]
    texts += [parts.replace(" 0", f" {10 ** rng.randint(9, 30)}"), "\0" * n, parts.replace(" ", "")]
    texts += [parts.replace(" 0", " 0 0"), "\n".join(reversed(parts.splitlines())) + " 0\n"]
    changed = rng.choice(texts)
    in_table = rng.random() < 0.4
    image = one(rng, b"", b"x" * n, world.directory.joinpath("run.json").read_bytes())

    def prepare(folder: Path) -> None:
        (folder / "img_align_celeba").mkdir()
        for name in names:
            (folder / "img_align_celeba" / name).write_bytes(image)
        attributes = changed if in_table else table
        (folder / "list_attr_celeba.txt").write_text(attributes)
        (folder / "list_eval_partition.txt").write_text(parts if in_table else changed)

    def act(folder: Path) -> Any:
        return load_data("celeba", path=folder)

    return Case("archives", f"celeba {in_table} {changed!r} {n}", act, prepare=prepare)


# Pictures.


def picture(what: str, write: Callable[[Path], object], value: Any, name: str, grey: bool) -> Case:
    modality = Modality("square", (1 if grey else 3, 32, 32), link="sigmoid")

    def act(folder: Path) -> Any:
        return kind_of(modality).read(folder / name, modality)[0]

    def command(folder: Path) -> list[str]:
        given = f"square={folder / name}"
        return ["generate", str(RUN_OF["world"]), "--given", given, "--out", "g", "--n", "2"]

    return Case("pictures", what, act, value, lambda f: write(f / name), command if grey else None)


RUN_OF: dict[str, Path] = {}


def pixels(rng: random.Random, mode: str, size: int = 32) -> tuple[Image.Image, np.ndarray]:
    """A picture and its shares (C, H, W)."""
    numbers = np.random.default_rng(rng.randint(0, 2**32))
    if mode == "I;16":
        x = numbers.integers(0, 2**16, (size, size)).astype("u2")
        return Image.fromarray(x), x[None] / 65535
    if mode == "F":
        x = numbers.random((size, size)).astype("f4")
        return Image.fromarray(x), x[None]
    if mode == "1":
        x = numbers.integers(0, 2, (size, size)).astype(bool)
        return Image.fromarray(x), x[None].astype("f8")
    x = numbers.integers(0, 256, (size, size, 3) if mode in ("RGB", "P") else (size, size), "u1")
    image = Image.fromarray(x)
    if mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=rng.randint(2, 256))
        x = np.asarray(image.convert("RGB"))
    return image, (np.moveaxis(x, -1, 0) if x.ndim == 3 else x[None]) / 255


@family("pictures", 3)
def right_picture(rng: random.Random, world: World) -> Case:
    mode = one(rng, "L", "RGB", "P", "I;16", "F", "1")
    suffixes = {
        "I;16": ".png .tiff .tif",
        "F": ".tiff .tif",
        "P": ".png .gif .bmp .tif",
        "1": ".png .bmp .tif",
    }
    suffix = rng.choice(suffixes.get(mode, ".png .bmp .tif .ppm .webp .PNG").split())
    image, value = pixels(rng, mode)
    options = {"lossless": True} if suffix == ".webp" else {}
    if suffix == ".tif":
        options = {"compression": one(rng, "raw", "tiff_lzw", "tiff_adobe_deflate")}
    grey = len(value) == 1 and rng.random() < 0.7
    if not grey and len(value) == 1:
        value = np.concatenate([value] * 3)
    return picture(
        f"{mode} {suffix} {options} {rng.random()}",
        lambda p: image.save(p, **options),
        value,
        f"p{suffix}",
        grey,
    )


@family("pictures", 2)
def wrong_picture(rng: random.Random, world: World) -> Case:
    kind = one(
        rng, "RGBA", "LA", "PA", "transparent", "frames", "I", "F", "size", "size", "La", "lab"
    )
    grey, suffix, options = rng.random() < 0.7, ".png", {}
    image, _ = pixels(rng, "L")
    if kind in ("RGBA", "LA", "La", "PA"):
        alpha = pixels(rng, "L")[0]
        image = image.convert("RGB" if kind == "RGBA" else "L")
        image.putalpha(alpha)
        suffix = one(rng, ".png", ".webp", ".tif") if kind == "RGBA" else ".png"
    elif kind == "transparent":
        suffix = one(rng, ".png", ".gif")
        image, options = image.convert("P"), {"transparency": image.getpixel((3, 4))}
    elif kind == "frames":
        suffix = one(rng, ".gif", ".tif", ".png", ".webp")
        more = [pixels(rng, "L")[0] for _ in range(rng.randint(1, 3))]
        options = {"save_all": True, "append_images": more}
    elif kind == "I":
        suffix, image = ".tif", image.convert("I")
    elif kind == "lab":
        suffix, image = ".tif", image.convert("RGB").convert("LAB")
    elif kind == "F":
        x = np.full((32, 32), 0.5, "f4")
        x[3, 4] = one(rng, np.nan, np.inf, 1 + rng.random(), -rng.random())
        suffix, image = ".tif", Image.fromarray(x)
    else:
        size = rng.choice([1, 2, 31, 33, 64, rng.randint(34, 99)])
        suffix, image = one(rng, ".png", ".bmp", ".tif"), pixels(rng, one(rng, "L", "RGB"), size)[0]
    return picture(
        f"{kind} {suffix} {image.size} {rng.random()}",
        lambda p: image.save(p, **options),
        Refused,
        f"p{suffix}",
        grey,
    )


@family("pictures", 3)
def damaged_picture(rng: random.Random, world: World) -> Case:
    suffix = one(rng, "png", "bmp", "gif", "tiff", "webp", "ppm", "jpeg")
    image, _ = pixels(rng, one(rng, "L", "RGB"))
    out = io.BytesIO()
    image.save(out, suffix)
    whole = out.getvalue()
    kind = one(rng, "cut", "cut", "junk", "size", "special", "text", "flip")
    name = f"p.{suffix}"
    if kind == "cut":
        k = rng.randint(0, int(0.8 * len(whole)))
        return picture(
            f"{suffix} cut at {k}", lambda p: p.write_bytes(whole[:k]), Refused, name, True
        )
    if kind == "junk":
        k = rng.randint(2, 12)
        junk = whole[:k] + rng.randbytes(size := rng.randint(0, 500))
        return picture(
            f"{suffix} {k}, junk {size}", lambda p: p.write_bytes(junk), Refused, name, True
        )
    if kind == "special":
        which = one(rng, "folder", "pipe", "device", "loop", "missing", "huge")
        return picture(f"{which} {suffix}", lambda p: special(p, which), Refused, name, True)
    if kind == "text":
        texts = [
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%PDF-1.4\n",
            b"%!PS-Adobe\n",
            b"P9\n",
        ]
        text = rng.choice(texts) + word(rng).encode()
        return picture(f"{text!r}", lambda p: p.write_bytes(text), Refused, name, True)
    if kind == "flip" and suffix == "png":  # every block of which has a checksum
        k, bit = rng.randint(0, len(whole) - 13), 1 << rng.randint(0, 7)
        changed = whole[:k] + bytes([whole[k] ^ bit]) + whole[k + 1 :]
        out = io.BytesIO(whole)
        value = OrRefused(np.asarray(Image.open(out).convert("L"), "f8")[None] / 255)
        value = value if image.mode == "L" else Refused
        return picture(f"bit {bit} at {k}", lambda p: p.write_bytes(changed), value, name, True)
    width, height = one(rng, (60_000, 60_000), (2**31 - 1, 2**31 - 1), (10**5, 501), (0, 5))
    forged = bytearray(_png(width, height))
    return picture(f"{width} x {height}", lambda p: p.write_bytes(forged), Refused, "p.png", True)


def _png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "png")
    forged = bytearray(out.getvalue())
    forged[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    forged[29:33] = zlib.crc32(forged[12:29]).to_bytes(4, "big")
    return bytes(forged)


@family("pictures", 2)
def given_array(rng: random.Random, world: World) -> Case:
    """Samples that are given in arrays."""
    numbers = np.random.default_rng(entropy := rng.randint(0, 2**32))
    x = numbers.random((32, 32))
    kind = one(
        rng, "right", "right", "bytes", "infinite", "range", "shape", "name", "objects", "empty"
    )
    value: Any = Refused
    if kind == "right":
        order = rng.choice(["<f8", ">f8", "<f4", ">f4", "<f2", "g"])
        x = x.astype(order)
        value = x.astype("f4")[None]
        x = x[None] if rng.random() < 0.5 else x
        kind += order
    elif kind == "bytes":
        x = (x * 255).astype("u1")
        value = x[None] / 255
    elif kind == "infinite":
        x[3, 4] = one(rng, np.inf, -np.inf)
    elif kind == "range":
        x[3, 4] = one(rng, 1.5, -0.5, 255, 1e30)
    elif kind == "shape":
        x = numbers.random(one(rng, (31, 32), (32,), (2, 2, 32, 32), (0, 32, 32), ()))
    elif kind == "objects":
        x = np.array([None, x], object)
    elif kind == "empty":
        x = x[:0]
    suffix = one(rng, ".npy", ".npz")

    def write(file: Path) -> None:
        content = npy(x)
        name = "circle" if kind == "name" else one(rng, "square", "arr_0")
        write_archive(file, {name: content}) if suffix == ".npz" else file.write_bytes(content)

    if kind == "name" and suffix == ".npy":
        value = x.astype("f4")[None]
    return picture(f"{kind} {suffix} {x.shape} {entropy}", write, value, f"p{suffix}", True)


# Labels.


def labelled(label: Any, what: str, value: Any = Refused) -> Case:
    def act(folder: Path) -> Any:
        table = torch.zeros(5, 2)
        part = Dataset([Modality("a", (2,))], {"a": table}, label=label)
        return [part.classes[k] for k in part.label.tolist()]

    return Case("labels", what[:300], act, value)


@family("labels", 3)
def right_labels(rng: random.Random, world: World) -> Case:
    kind = one(
        rng, "int", "huge", "words", "array", "tensor", "floats", "bools", "bytes", "objects"
    )
    numbers = [rng.randint(-(2**62), 2**62) for _ in range(5)]
    if kind == "huge":
        values = [
            one(rng, 2**63 + k, -(2**63) - k, 2**64 - 1 - k, 10**25 + k, k - 3) for k in range(5)
        ]
        return labelled(values, f"{values}", values)
    if kind == "words":
        values = [
            one(rng, word(rng), "é", "", " ", "1", "nan", "数", "a\nb", "None") for _ in range(5)
        ]
        given = one(rng, values, np.array(values), np.array(values, object), tuple(values))
        return labelled(given, f"{type(given).__name__} {values}", values)
    if kind == "array":
        dtype = np.dtype(rng.choice("i1 i2 >i4 i8 >i8 u1 >u2 u4 u8 >u8".split()))
        info = np.iinfo(dtype)
        values = [rng.randint(info.min, info.max) for _ in range(5)]
        return labelled(np.array(values, dtype), f"{dtype} {values}", values)
    if kind == "tensor":
        dtype = rng.choice([torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
        info = torch.iinfo(dtype)
        values = [rng.randint(info.min, info.max) for _ in range(5)]
        return labelled(torch.tensor(values, dtype=dtype), f"{dtype} {values}", values)
    if kind == "floats":
        values = [rng.randint(-(2**10), 2**10) for _ in range(5)]
        dtype = rng.choice(["f2", "f4", ">f8", "f8", "g"])
        return labelled(np.array(values, dtype), f"{dtype} {values}", values)
    if kind == "bools":
        values = [rng.random() < 0.5 for _ in range(5)]
        given = one(rng, values, np.array(values), torch.tensor(values))
        return labelled(given, f"{type(given).__name__} {values}", [int(v) for v in values])
    if kind == "bytes":
        values = [word(rng) for _ in range(5)]
        return labelled(np.array([v.encode() for v in values]), f"bytes {values}", values)
    given = np.array(numbers, object) if kind == "objects" else numbers
    return labelled(given, f"{kind} {numbers}", numbers)


@family("labels", 3)
def wrong_labels(rng: random.Random, world: World) -> Case:
    k, w = rng.randint(0, 99), word(rng)
    choices = [
        [k + 0.5, 1, 2, 3, 4],
        [float("nan"), k, 2, 3, 4],
        [float("inf"), k, 2, 3, 4],
        [None, w, "a", "b", "c"],
        [None, k, 1, 2, 3],
        [w, k, "a", "b", "c"],
        [k, w, 1.0, 2, 3],
        [w, True, "a", "b", "c"],
        np.array([w, k, "a", "b", "c"], object),
        [[k], [1], [2], [3], [4]],
        [[k], [1, 2], [2], [3], [4]],
        [k] * rng.choice([0, 1, 4, 6, 9]),
        [w] * rng.choice([0, 1, 4, 6]),
        np.full(5, k) + 1j,
        np.full((5, 1), k),
        np.full((5, k), w),
        np.full(5, k, "M8[D]"),
        np.full(5, k, "m8[s]"),
        np.zeros(5, [("x", "i4")]),
        torch.full((5,), k + 0.25),
        torch.full((5, 2), k),
        torch.tensor(k),
        k,
        w,
        {w: k},
        {1, 2, 3, 4, k + 5},
        object(),
        [{}, k, 1, 2, 3],
        [[], [], [], [], []],
        [Path(w)] * 5,
        np.array([k + 0.5] * 5, "f2"),
        np.array([np.nan] * 5, one(rng, "f2", "f4", "f8")),
    ]
    place = rng.randrange(len(choices))
    return labelled(choices[place], f"{place} {k} {w}")


@family("labels")
def labels_of_parts(rng: random.Random, world: World) -> Case:
    k, w = rng.randint(-99, 99), word(rng)
    mixed = rng.random() < 0.5
    modalities, tables = [Modality("a", (1,))], {"a": torch.zeros(2, 1)}
    labels = [[k, 10**12], [k - 1, k], [w, "x"] if mixed else [k, k + 1]]

    def act(folder: Path) -> Any:
        parts = [Dataset(modalities, tables, label=label) for label in labels]
        splits = Splits(*parts)
        return [
            [p.classes[i] for i in p.label.tolist()]
            for p in (splits.train, splits.val, splits.test)
        ]

    return Case("labels", f"parts {labels}", act, Refused if mixed else labels)


@family("labels")
def labels_in_archive(rng: random.Random, world: World) -> Case:
    dtype = rng.choice("i1 >i4 i8 u8 f4 f8 ? U3 S3 <U9".split())
    numbers = np.random.default_rng(entropy := rng.randint(0, 2**32))
    label = numbers.integers(-90, 90, 20) if dtype[-1] not in "?8" else numbers.integers(0, 2, 20)
    if dtype == "u8":
        label = label.astype("u8") + np.uint64(2**64 - 5)
    label = label.astype(dtype)
    members = {f"train_{k}": npy(v) for k, v in {"a": ROWS[:20], "label": label}.items()}
    members |= {k.replace("train", p): v for p in ("val", "test") for k, v in members.items()}
    value = [v.decode() if isinstance(v, bytes) else v for v in label.tolist()]
    value = value if set("US") & set(dtype) else [int(v) for v in value]
    case = archive(
        f"labels {dtype} {entropy}",
        lambda p: write_archive(p, members),
        value,
        read=lambda s: [s.train.classes[k] for k in s.train.label.tolist()],
    )
    return replace(case, door="labels")


# Files of runs.


def damage(what: str, change: Callable[[Path], object], world: World, value: Any = Refused) -> Case:
    """A copy of the run, changed, and loaded."""

    def prepare(folder: Path) -> None:
        shutil.copytree(world.directory, folder / "run")
        change(folder / "run")

    def act(folder: Path) -> Any:
        run = load(folder / "run")
        return len(run.model.state_dict()), len(run.history), len(run.metrics.get("table", []))

    def command(folder: Path) -> list[str]:
        return ["generate", str(folder / "run"), "--out", str(folder / "g"), "--n", "2"]

    return Case("runs", what[:300], act, value, prepare, command)


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in nested mappings and lists."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key)


def wrong_value(rng: random.Random, old: Any) -> Any:
    """A value of another type."""
    wrong = [object, math.nan, math.inf, [[]], {"zz": {}}, [None], -(10**30), 1e999]
    if not isinstance(old, str):
        wrong += [word(rng), ""]
    if not isinstance(old, bool):
        wrong += [True]
    if not isinstance(old, int | float) or isinstance(old, bool):
        wrong += [3, -2.5]
    return rng.choice(wrong[1:])


FREE = ("about", "evaluation", "compare", "seeds", "progress", "logger", "checkpoint_minutes")
FREE += ("device", "path", "figures", "finish", "from", "commit", "command", "started")


@family("runs", 4)
def changed_key(rng: random.Random, world: World) -> Case:
    name = one(rng, "run.json", "run.json", "metrics.json")
    value = json.loads((world.directory / name).read_text())
    paths = [p for p in leaves(value) if not set(p) & {*FREE, "reason", "table"} or p[0] == "table"]
    paths = [p for p in paths if not set(p) & {"reason", "evaluation", "versions"}]
    path = rng.choice(paths)
    kind = one(rng, "remove", "wrong", "wrong", "add")
    old = value
    for key in path:
        old = old[key]
    new = wrong_value(rng, old)
    fields = ("epochs", "steps", "seconds", "best_epoch", "best_val_loss")
    optional = path[0] == "stages" and (len(path) > 2 or old is None) and path[-1] in fields
    if kind == "remove" and (optional or path[0] == "table"):
        kind = "wrong"
    if kind == "remove" and path == ("rows",):
        new, kind = "x", "wrong"
    if kind == "add" and (path[0] in ("table", "stages") or name == "metrics.json"):
        kind = "wrong"
    if path == ("stages",) and new == {"zz": {}}:
        new = 3
    if path == ("table",) and new is True:
        new = 3

    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        if kind == "remove":
            inner.pop(path[-1])
        elif kind == "add":
            content[f"{path[0]}x"] = 1
        else:
            inner[path[-1]] = new

    what = f"{name} {kind} {'.'.join(map(str, path))} {new!r}"
    return damage(what, lambda run: change_json(run / name, change), world)


NAMES = ("run.json", "model.safetensors", "last.ckpt", "log.csv", "metrics.json")


@family("runs", 3)
def replaced_file(rng: random.Random, world: World) -> Case:
    name = rng.choice(NAMES)
    kind = one(rng, "cut", "cut", "junk", "empty", "special", "other", "deep", "text", "code")
    whole = (world.directory / name).read_bytes()
    if kind == "cut":
        k = rng.randint(0, len(whole) - 2 - 60 * (name == "log.csv"))
        return damage(f"{name} cut at {k}", lambda run: (run / name).write_bytes(whole[:k]), world)
    if kind == "special":
        which = one(rng, "folder", "pipe", "device", "huge")

        def change(run: Path) -> None:
            (run / name).unlink()
            special(run / name, which)

        return damage(f"{name} {which}", change, world)
    if kind == "code":
        code = f"{word(rng)}{one(rng, '.pkl', '.pt', '.pth', '.bin', '.joblib', '.PICKLE')}"
        return damage(code, lambda run: (run / code).write_bytes(b"x"), world)
    others = [n for n in NAMES if n != name]
    other = rng.choice(others)
    depth = rng.randint(60, 10**5)
    text = one(rng, b"[]", b"3", b"null", b"{}", "{}".encode("utf-16"), b'"x"', b'{"seed": NaN}')
    contents = {
        "junk": (rng.randbytes(size := rng.randint(1, 999)), f"junk {size}"),
        "empty": (b"", "empty"),
        "other": ((world.directory / other).read_bytes(), f"{other} as"),
        "deep": (b"[" * depth + b"]" * depth, f"{depth} brackets"),
        "text": (text, f"{text!r}"),
    }
    content, said = contents[kind]
    return damage(f"{said} {name}", lambda run: (run / name).write_bytes(content), world)


@family("runs", 2)
def changed_byte(rng: random.Random, world: World) -> Case:
    name = rng.choice(NAMES)
    whole = (world.directory / name).read_bytes()
    most = len(whole)
    if name in ("model.safetensors", "last.ckpt"):
        most = 8 + int.from_bytes(whole[:8], "little")
    k, byte = rng.randrange(most), rng.randrange(256)
    changed = whole[:k] + bytes([byte]) + whole[k + 1 :]
    run = world.run
    value = len(run.model.state_dict()), len(run.history), len(run.metrics["table"])
    write = f"{name} byte {k} is {byte}"
    return damage(write, lambda r: (r / name).write_bytes(changed), world, OrRefused(value))


@family("runs", 2)
def changed_weights(rng: random.Random, world: World) -> Case:
    state = load_file(world.directory / "model.safetensors")
    with safe_open(world.directory / "model.safetensors", "pt") as file:
        words = file.metadata()
    name = rng.choice([k for k, v in state.items() if v.numel()])
    kind = one(rng, "nan", "inf", "double", "half", "long", "shape", "missing", "extra", "identity")
    x = state[name]
    if kind in ("nan", "inf"):
        x = x.clone()
        x.view(-1)[rng.randrange(x.numel())] = float(kind)
        state[name] = x
    elif kind in ("double", "half", "long"):
        state[name] = getattr(x, kind)()
    elif kind == "shape":
        state[name] = torch.zeros(*x.shape, 2) if rng.random() < 0.5 else x.flatten()[:-1].clone()
    elif kind == "missing":
        state.pop(name)
    elif kind == "extra":
        state[word(rng)] = torch.zeros(3)
    else:
        words = one(rng, None, {"identity": word(rng)}, {"identity": ""}, {"x": "y"})
    what = f"weights {kind} {name} {words if kind == 'identity' else ''}"

    def change(run: Path) -> None:
        save_file(state, run / "model.safetensors", words)

    return damage(what, change, world)


@family("runs", 2)
def changed_checkpoint(rng: random.Random, world: World) -> Case:
    """A checkpoint whose words were changed, from which training resumes."""
    tensors = load_file(world.directory / "last.ckpt")
    with safe_open(world.directory / "last.ckpt", "pt") as file:
        words = dict(file.metadata())
    progress = json.loads(words["progress"])
    name = rng.choice(sorted(tensors))
    w, k = word(rng), rng.randint(1, 10**6)
    choices: dict[str, Callable[[], object]] = {
        f"rows {k + 9}": lambda: progress.update(rows=k + 9),
        f"rows -{k}": lambda: progress.update(rows=-k),
        f"rows {w}": lambda: progress.update(rows=w),
        "no rows": lambda: progress.pop("rows"),
        f"stage {w}": lambda: progress["stages"].update({w: {"status": "trained"}}),
        f"stages {w}": lambda: progress.update(stages=w),
        f"status {w}": lambda: progress["stages"]["joint"].update(status=w),
        f"epochs {w}": lambda: progress["stages"]["joint"].update(epochs=w),
        f"trainer {w}": lambda: progress.update(stages={}, trainer=one(rng, w, k, [w], {w: k})),
        f"tensor {w}": lambda: progress.update(stages={}, trainer={"tensor": w}),
        f"items {w}": lambda: progress.update(stages={}, trainer={"items": [[w, k]]}),
        f"pairs {w}": lambda: progress.update(stages={}, trainer={"items": [[w], [k]]}),
        f"epoch {w}": lambda: progress.update(stages={}, trainer={"items": [["epoch", w]]}),
        f"word {w}": lambda: progress.update({w: k}),
        f"missing {name}": lambda: tensors.pop(name),
        f"nan {name}": lambda: tensors.update({name: tensors[name].double() * math.nan}),
        f"double {name}": lambda: tensors.update({name: tensors[name].double()}),
        f"identity {w}": lambda: words.update(identity=w),
        "no words": lambda: words.pop("identity"),
    }
    what = rng.choice(sorted(choices))
    choices[what]()

    def prepare(folder: Path) -> None:
        shutil.copytree(world.directory, folder / "run")
        unfinished = {"status": "training", "rows": None}
        change_json(folder / "run" / "run.json", lambda info: info.update(unfinished))
        kept = words | {"progress": json.dumps(progress)}
        save_file(tensors, folder / "run" / "last.ckpt", kept)

    def act(folder: Path) -> Any:
        return fit(world.run.settings, world.data, out=folder / "run")

    return Case("runs", f"checkpoint {what}", act, prepare=prepare)


@family("runs", 2)
def changed_log(rng: random.Random, world: World) -> Case:
    with open(world.directory / "log.csv", newline="") as file:
        rows = list(csv.reader(file))
    row = rng.randrange(1, len(rows))
    column = rng.choice([k for k, c in enumerate(rows[0]) if c != "stage"])
    kind = one(rng, "cell", "cell", "short", "long", "gone", "run", "header")
    if kind == "cell":
        cell = one(rng, "nan", "inf", "-inf", "abc", "1e999", "1,2", "é", "[1]", "--1", word(rng))
        rows[row][column] = cell
        kind = f"{rows[0][column]} {cell}"
    elif kind == "short":
        rows[row].pop()
    elif kind == "long":
        rows[row].append("3")
    elif kind == "gone":
        rows = rows[:row]
    elif kind == "run":
        rows[row][rows[0].index("run")] = word(rng)
    else:
        rows[0][rows[0].index("run")] = word(rng)

    def change(run: Path) -> None:
        with open(run / "log.csv", "w", newline="") as out:
            csv.writer(out).writerows(rows)

    return damage(f"log {kind} in row {row}", change, world)


@family("runs", 2)
def changed_results(rng: random.Random, world: World) -> Case:
    """Results of which less is known, measured again and reported."""
    row = rng.randrange(len(world.run.metrics["table"]))
    key = one(rng, "reason", "evaluation", "table", "unfinished", "asked", "unfinished+table")
    wrong = one(rng, None, 3, word(rng), [], {"a": 1}, True)
    removed = rng.random() < 0.5 and "unfinished" not in key

    def change(content: dict[str, Any]) -> None:
        place = content["table"][row] if key in ("reason", "evaluation") else content
        for name in key.split("+"):
            if removed or name == "table":
                place.pop(name, None)
            else:
                place[name] = wrong

    def prepare(folder: Path) -> None:
        shutil.copytree(world.directory, folder / "run")
        change_json(folder / "run" / "metrics.json", change)

    def act(folder: Path) -> Any:
        run = load(folder / "run")
        evaluate(run, world.data, metrics=["joint_log_likelihood"], samples=3, limit=5)
        return len(load(folder / "run").metrics["table"])

    def command(folder: Path) -> list[str]:
        return ["report", str(folder / "run"), "--out", str(folder / "page.html")]

    what = f"metrics.json {key} {'gone' if removed else repr(wrong)}"
    value = OrRefused(len(world.run.metrics["table"]))
    return Case("runs", what, act, value, prepare, command)


# Arguments.

NOT_WHOLE = ["5", 1.5, [1], {}, math.nan, math.inf, -1, 10**30, object(), b"5", 1 + 0j, (), True]
NOT_TEXT = [3, 1.5, [], [1], {}, object(), b"x", True, ("a",), math.nan]
NOT_MAPPING = [3, "x", [1], True, 1.5, object(), b"x", ("a",)]
NO_PATH = [3, 1.5, [], ["a"], {}, object(), True, "", "\0", "a\0b"]


@family("arguments", 3)
def wrong_argument(rng: random.Random, world: World) -> Case:
    data, run, k, w = world.data, world.run, rng.randint(1, 10**6), word(rng)
    small = {"latent": 2, "hidden": 4, "epochs": 0, "progress": False}
    whole = [*NOT_WHOLE, w, -k, k + 0.5, f"{k}"]
    x = {"square": torch.zeros(2, 1, 32, 32)}
    image = torch.zeros(2, 1, 32, 32)

    strange = [image[:, :, :5], image[:0], image * math.nan, image + 2, "x", None, [[1], [1, 2]]]
    strange += [image + 1j]

    def of_square(value: Any) -> dict[str, Any]:
        return {"square": value}

    def fitting(**options: Any) -> Any:
        return fit("jmvae", data, **{**small, **options})

    calls: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "fit(epochs=)": (lambda v: fitting(epochs=v), whole),
        "fit(batch=)": (lambda v: fitting(batch=v), [*whole, 0]),
        "fit(latent=)": (lambda v: fitting(latent=v), [*whole, 0, None]),
        "fit(hidden=)": (lambda v: fitting(hidden=v), [*whole, 0, None]),
        "fit(seed=)": (lambda v: fitting(seed=v), [*whole, None, 2**32]),
        "fit(lr=)": (lambda v: fitting(lr=v), ["1", 0, -1.0, None, math.nan, [1], 1e-320, 1e30]),
        "fit(out=)": (lambda v: fitting(out=v), NO_PATH),
        "fit(data=)": (
            lambda v: fit("jmvae", v, **small),
            [3, [], {}, w, object(), 1.5, True, data.train],
        ),
        "fit(method)": (lambda v: fit(v, data), [3, None, w, [], 1.5, {w: 1}, b"jnf", ["jnf"], ""]),
        "fit(reuse=)": (
            lambda v: fitting(reuse=v),
            [3, "x", [1], {w: "x"}, {"joint": 3}, {"joint": w}],
        ),
        "fit(training=)": (lambda v: fitting(training=v), [*NOT_MAPPING, {w: 1}, {"epochs": w}]),
        "fit(method=)": (lambda v: fitting(method=v), [*NOT_MAPPING, {w: 1}, {"latent": w}]),
        "fit(networks=)": (lambda v: fitting(networks=v), [*NOT_MAPPING, {w: w}, {"square": w}]),
        "fit(modalities=)": (
            lambda v: fitting(modalities=v),
            [*NOT_MAPPING, {w: {}}, {"square": {w: 1}}],
        ),
        "fit(evaluation=)": (
            lambda v: fitting(evaluation=v),
            [*NOT_MAPPING, {w: 1}, {"metrics": [w]}],
        ),
        "fit(keyword)": (lambda v: fitting(**{v: 1}), [w, "latnt", "epoch", f"{w}s", "é"]),
        "fit(device=)": (lambda v: fitting(device=v), [w, 3, "", "tpu", ["cpu"], None]),
        "generate(n=)": (lambda v: run.model.generate(x, n=v), [*whole, 0, None, 10**12]),
        "generate()": (
            lambda v: run.model.generate(v),
            [3, "x", [1], {}, {w: image}, {3: image}, object(), *map(of_square, strange)],
        ),
        "generate(targets=)": (
            lambda v: run.model.generate(x, targets=v),
            [3, [w], [3], w, 1.5, [None], [[]]],
        ),
        "draw(n=)": (lambda v: run.model.draw(x, v), [*whole, 0]),
        "evaluate(metrics=)": (
            lambda v: evaluate(run, data, v, save=False),
            [3, [], [w], w, "", [3], {}, 1.5, True, ["joint_log_likelihood", w], [None]],
        ),
        "evaluate(subsets=)": (
            lambda v: evaluate(run, data, ["joint_log_likelihood"], v, save=False),
            [3, [], [w], w, "", [[]], [3], {}, [[3]], True, "square+" + w, ["square", ""], [None]],
        ),
        "evaluate(limit=)": (
            lambda v: evaluate(run, data, ["joint_log_likelihood"], limit=v, save=False),
            [*whole, 0],
        ),
        "evaluate(samples=)": (
            lambda v: evaluate(run, data, ["joint_log_likelihood"], samples=v, save=False),
            [*whole, 0, None],
        ),
        "evaluate(batch=)": (
            lambda v: evaluate(run, data, ["joint_log_likelihood"], batch=v, save=False),
            [*whole, 0, None],
        ),
        "evaluate(seed=)": (
            lambda v: evaluate(run, data, ["joint_log_likelihood"], seed=v, save=False),
            ["5", 1.5, [1], {}, math.nan, None, w, 10**30],
        ),
        "evaluate(option)": (
            lambda v: evaluate(run, data, save=False, **{v: 1}),
            [w, "sample", "sampler"],
        ),
        "evaluate(run)": (lambda v: evaluate(v, data), [3, None, w, run.model]),
        "evaluate(data)": (lambda v: evaluate(run, v, save=False), [3, None, w, [], {}, "shapes"]),
        "load()": (load, [*NO_PATH, None, w, Path(w)]),
        "load_data()": (load_data, [*NO_PATH, None, w, Path(w), "shape", f"{w}.npz"]),
        "load_data(n=)": (lambda v: load_data("shapes", n=v), [*whole, 0, None]),
        "load_data(limit=)": (lambda v: load_data("shapes", n=60, limit=v), [*whole, 0]),
        "load_data(seed=)": (lambda v: load_data("shapes", n=60, seed=v), [*whole, None, 2**32]),
        "load_data(option)": (lambda v: load_data("shapes", **{v: 1}), [w, "N", "limits", "seeds"]),
        "load_data(path=)": (lambda v: load_data("mnist-svhn", path=v), [*NO_PATH[:-3], w]),
        "load_data(missing=)": (
            lambda v: load_data("shapes", n=60, missing=v),
            [*NOT_MAPPING, {}, [], w, {"pattern": w}, {"pattern": "mcar"}, {"rate": 0.5}]
            + [
                {"pattern": "mcar", "rate": r}
                for r in (2, -1, "x", None, math.nan, [1], {w: 0.5}, 1)
            ]
            + [{"pattern": "mar", "rate": 0.5, "driver": w}, {"pattern": "mcar", "rate": 0.5, w: 1}]
            + [{"pattern": "mar", "rate": 0.5, "slope": s} for s in (math.inf, "x", None, [])]
            + [{"pattern": "label", "rate": {w: 0.5}}, {"pattern": "unpaired", w: 3}],
        ),
        "load_data(modalities=)": (
            lambda v: load_data("shapes", n=60, modalities=v),
            [*NOT_MAPPING, {w: {}}, {"square": {w: 1}}, {"square": 3}, {"square": {"scale": w}}]
            + [{"square": {"likelihood": w}}, {"square": {"link": w}}, {"square": {"kind": w}}]
            + [{"square": {"scale": s}} for s in (0, -1, math.nan, 1e300, None, [1])],
        ),
        "Run.save()": (run.save, [*NO_PATH, None]),
    }
    name = rng.choice(list(calls))
    call, values = calls[name]
    place = rng.randrange(len(values))
    said = f"{name} {place} {re.sub(' at 0x.*', '', repr(values[place]))[:120]}"
    return Case("arguments", said, lambda folder: inside(folder, call, values[place]))


def inside(folder: Path, call: Callable[[Any], Any], value: Any) -> Any:
    here = os.getcwd()
    os.chdir(folder)
    try:
        return call(value)
    finally:
        os.chdir(here)


@family("arguments")
def right_argument(rng: random.Random, world: World) -> Case:
    k = rng.randint(1, 4)
    kind = one(rng, "n", "dtype", "settings", "array", "order")
    run = world.run
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(rng.randint(0, 999)))
    mean = run.model.generate({"square": x}, n=1, targets=["circle"])["circle"]
    given = one(
        rng, float(k), np.int64(k), torch.tensor(k), np.array(k), np.float64(k), np.uint8(k)
    )
    if kind == "n":
        return Case(
            "arguments",
            f"generate(n={given!r})",
            lambda folder: run.model.generate({"square": x}, n=given)["circle"].shape[0],
            k,
        )
    if kind == "settings":
        return Case(
            "arguments",
            f"resolve epochs {given!r}",
            lambda folder: resolve({"training": {"epochs": given}}).training.epochs,
            k,
        )
    types = ["f2", ">f4", "f8", ">f8", "g"]
    dtype = rng.choice(types)
    array = (
        np.asfortranarray(x.numpy().astype(dtype)) if kind == "order" else x.numpy().astype(dtype)
    )
    exact = array.astype("f4")

    def act(folder: Path) -> Any:
        return Batch({"square": array}).x["square"].float()

    return Case("arguments", f"Batch {dtype} {kind} {mean.sum():.6f}", act, exact)


@family("arguments", 2)
def tables(rng: random.Random, world: World) -> Case:
    """Values and masks in a `Dataset` or a `Batch`."""
    numbers = np.random.default_rng(entropy := rng.randint(0, 2**32))
    x = numbers.integers(0, 100, (6, 3))
    dtype = rng.choice("f2 f4 f8 g >f4 >f8 i1 >i2 i4 >i8 u1 >u2 u4 u8 ?".split())
    whole = x.astype(dtype)
    right = whole.astype("f4")
    mask = numbers.integers(0, 2, 6)
    mask[0] = 1
    wrong: dict[str, tuple[Any, Any]] = {
        "complex": (x + 1j, {}),
        "words": (x.astype(str), {}),
        "objects": (np.full((6, 3), None), {}),
        "dates": (x.astype("M8[s]"), {}),
        "records": (np.zeros(6, [("a", "f4", 3)]), {}),
        "lists": ([[1], [1, 2]], {}),
        "none": (None, {}),
        "word": ("abc", {}),
        "function": (len, {}),
        "sparse": (torch.eye(3).to_sparse(), {}),
        "shape": (x[:, :2], {}),
        "axes": (x[0], {}),
        "scalar": (3.0, {}),
        "mask of nothing": (x, {"b": mask}),
        "mask of a name": (x, {"A": mask}),
        "mask of twos": (x, {"a": mask + 1}),
        "mask of halves": (x, {"a": mask / 2 + 0.1}),
        "short mask": (x, {"a": mask[:-1]}),
        "wide mask": (x, {"a": mask[:, None]}),
        "mask of words": (x, {"a": mask.astype(str)}),
        "mask of nan": (x, {"a": np.full(6, np.nan)}),
        "no mapping": (x, mask),
        "none mask": (x, {"a": None}),
    }
    is_right = rng.random() < 0.4
    name = "right" if is_right else rng.choice(list(wrong))
    values, present = (whole, {"a": mask}) if is_right else wrong[name]
    tensor = is_right and dtype not in ("g", "u2", "u4", "u8") and ">" not in dtype
    values = torch.from_numpy(values) if tensor and rng.random() < 0.5 else values
    in_batch = rng.random() < 0.5 and name not in ("shape", "axes")

    def act(folder: Path) -> Any:
        if in_batch:
            return Batch({"a": values}, present).x["a"].float()
        part = Dataset([Modality("a", (3,))], {"a": values}, present=present)
        return part.batch(torch.arange(6)).x["a"]

    what = f"{'Batch' if in_batch else 'Dataset'} {name} {dtype if is_right else ''} {entropy}"
    expected = np.where(mask[:, None] == 1, right, 0) if is_right else Refused
    return Case("arguments", what, act, expected)


@family("arguments")
def rows_and_parts(rng: random.Random, world: World) -> Case:
    """Rows of tables, and parts of data sets."""
    rows = [rng.randrange(6) for _ in range(4)]
    modality, table = Modality("a", (1,)), np.arange(6.0)[:, None]
    dtype = rng.choice("i1 >i2 i4 i8 u1 >u4 u8".split())
    right = [rows, tuple(rows), np.array(rows, dtype), torch.tensor(rows)]
    right += [torch.tensor(rows, dtype=torch.int32)]
    wrong = [[*rows, 6], [-1, *rows], [0.5, *rows], np.array(rows) + 0.5, torch.tensor(rows) / 2]
    wrong += [["a"], "abc", 3, None, [rows], torch.tensor([rows]), [2**70], [], {0: 1}.values]
    is_right = rng.random() < 0.5
    place = rng.randrange(len(right if is_right else wrong))
    given = (right if is_right else wrong)[place]

    def act(folder: Path) -> Any:
        part = Dataset([modality], {"a": table}, {"a": given})
        return part.batch(torch.arange(len(part))).x["a"]

    if rng.random() < 0.3:
        part = Dataset([modality], {"a": table})
        other = Dataset([Modality("b", (1,))], {"b": table})
        bad = one(rng, 3, None, word(rng), [part], other, world.data)
        parts = [part, part, bad]
        rng.shuffle(parts)
        said = f"Splits {[type(p).__name__ for p in parts]} {bad is other}"
        return Case("arguments", said, lambda folder: Splits(*parts))
    what = f"index {'right' if is_right else 'wrong'} {place} {dtype} {rows}"
    return Case("arguments", what, act, table[rows] if is_right else Refused)


@family("arguments")
def fields_of_modalities(rng: random.Random, world: World) -> Case:
    w = word(rng)
    bad = {
        "shape": [
            "12",
            (),
            (0,),
            (-1,),
            (2.5,),
            (10**6, 10**6),
            3,
            None,
            [w],
            (math.nan,),
            {},
            (True,),
        ],
        "likelihood": [3, None, [], True],
        "weight": [0, -1, "2", None, math.nan, math.inf, 1e300, 1e-300, [1], True],
        "scale": [0, -1, "2", None, math.nan, math.inf, 1e300, 1e-300, {}, True],
        "link": [3, None, [], {}],
        "kind": [3, [], {}, True],
    }
    field = rng.choice(list(bad))
    value = rng.choice(bad[field])
    return Case(
        "arguments",
        f"Modality({field}={value!r})",
        lambda f: Modality("a", **{"shape": (3,), field: value}),
    )


# Commands.


@family("commands", 2)
def wrong_option_of_a_command(rng: random.Random, world: World) -> Case:
    run, w, k = str(world.directory), word(rng), rng.randint(1, 999)
    whole = [w, "1.5", "", f"-{k}", str(rng.randint(2**64, 10**30)), "nan", "1e3", f"{k}x", "0x5"]
    train = ["train", "shapes-jmvae", "data.n=60", "--dry-run"]
    generate = ["generate", run, "--out", "g"]
    lines = [
        [*train, "--seed", rng.choice(whole)],
        [*train, "--device", one(rng, w, "", "tpu", "CUDA:0")],
        [*train, "--out", ""],
        [*train, "--data", one(rng, "", w, f"{w}.npz", "/dev/null")],
        [*train[:-1], "--reuse", one(rng, w, f"{w}={w}", "=", f"joint={w}", "joint=")],
        [*train, f"--{w}", str(k)],
        [*train, w],
        [*train, f"{w}={k}"],
        ["train", one(rng, w, "", f"{w}.yaml", "shapes-jnff", "/", "..", "[red]")],
        ["train"],
        ["evaluate"],
        ["evaluate", one(rng, w, "", "/dev/null", ".", "[/]", "x" * 300)],
        ["evaluate", run, run],
        ["evaluate", run, "--limit", rng.choice([*whole, "0"])],
        ["evaluate", run, "--metrics", one(rng, w, "", ",", f"joint_log_likelihood,{w}", "[red]")],
        ["evaluate", run, "--subsets", one(rng, w, "", ",", f"square+{w}", "+", "all,all")],
        ["evaluate", run, "--sampler", one(rng, w, "", "hmcc", "hmc")],
        ["evaluate", run, "--data", one(rng, "", w, f"{w}.npz")],
        [*generate, "--n", rng.choice([*whole, "0", str(10**9)])],
        [*generate, "--seed", rng.choice(whole)],
        [*generate, "--want", one(rng, w, "", "squares")],
        [*generate, "--given", one(rng, w, "", "=", f"square={w}.png", f"{w}={w}", "square=")],
        [*generate, "--given", "square=.", "--given", "square=."],
        [*generate, "--sampler", one(rng, w, "smc", "")],
        ["generate", run],
        ["generate", run, "--out", ""],
        ["generate", one(rng, w, ".", "", "/"), "--out", "g"],
        ["report"],
        ["report", one(rng, w, ".", "")],
        [
            "report",
            run,
            "--out",
            one(rng, "", f"{run}/run.json", f"{run}/model.safetensors", "/dev/null"),
        ],
        ["report", run, "--data", one(rng, "", w)],
        ["report", run, run],
        ["list", w],
        ["list", "methods", w],
        ["show", one(rng, w, "", f"{w}.yaml")],
        ["show"],
        ["show", "shapes-jnf", "--data", f"{w}.npz"],
        ["doctor", "--data", ""],
        ["doctor", w],
        [w],
        [f"--{w}"],
    ]
    line = rng.choice(lines)
    said = " ".join(a.replace(run, "RUN") for a in line)
    return in_command("commands", said, lambda folder: line)


# The command line of this file.


def check_all(n: int, seed: int, commands: int) -> int:
    """Judges n cases in this process and some through the command; prints the failures."""
    counts, failures = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        world = make_world(Path(place))
        RUN_OF["world"] = world.directory
        chosen = list(cases(n, seed, world))
        possible = [case for case in chosen if case.command]
        through = random.Random(seed).sample(possible, min(commands, len(possible)))
        work = [(judge, case) for case in chosen] + [(judge_command, case) for case in through]
        for k, (judged, case) in enumerate(work):
            folder = Path(place) / str(k)
            folder.mkdir()
            fault = judged(case, folder)
            shutil.rmtree(folder)
            way = "command" if judged is judge_command else "in process"
            counts[way, case.door, bool(fault)] += 1
            if fault:
                failures.append(fault)
                print(f"FAILED {way}, {case.door}: {case.what}\n    {fault}", flush=True)
    for way, door in sorted({key[:2] for key in counts}):
        right, wrong = counts[way, door, False], counts[way, door, True]
        print(f"{way:10} {door:10} {right:5} right {wrong:5} wrong")
    print(
        f"{sum(counts.values())} cases, seed {seed}, {len(failures)} failures, peak {peak():.2f} GB"
    )
    return len(failures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Generated bad inputs.")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(bool(check_all(given.n, given.seed, given.command)))
