"""Builds wheel and sdist, installs the wheel into an environment that holds nothing but the packages
it asks for, and uses it there, outside the checkout.

    .venv/bin/python .ci/release.py [DIRECTORY]       # default: dist

The packages are links to those of the environment that runs this script, so nothing is downloaded:
a dependency that pyproject.toml does not name is missing there.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {  # in the wheel and, under src/, in the sdist
    "polymodal/py.typed",
    "polymodal/report/report.html.j2",
    *(f"polymodal/{p.relative_to(ROOT / 'src/polymodal')}" for p in ROOT.glob("src/**/*.yaml")),
}
TINY = "data.limit=64 training.epochs=1 method.latent=2 method.hidden=8".split()
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
COMMANDS = [
    ["--version"],
    ["list", "methods"],
    ["show", "jnf"],
    ["train", "shapes-jmvae-two-stage", *TINY, "--out", "run"],
    ["evaluate", "run", "--metrics", "joint_log_likelihood"],
    ["report", "run", "--out", "report.html"],
]


def run(command: list, **options) -> str:
    """The output of a command; prints it and stops if the command fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build(out: Path) -> tuple[Path, Path]:
    """Builds, and returns wheel and sdist."""
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT])
    version = distribution("polymodal").version
    return out / f"polymodal-{version}-py3-none-any.whl", out / f"polymodal-{version}.tar.gz"


def check_contents(wheel: Path, sdist: Path) -> None:
    """Stops if a file that the package reads is missing, or the wheel has files of others."""
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"src/{name}" for name in NEEDED} | {"CITATION.cff", "LICENSE", "tests/toys.py"}
    if missing := (NEEDED - packed) | (wanted - source):
        sys.exit(f"wheel or sdist lacks {sorted(missing)}")
    if foreign := {n for n in packed if not re.match(r"polymodal(-[\d.]+\.dist-info)?/", n)}:
        sys.exit(f"the wheel holds {sorted(foreign)}")


def closure(name: str, extras: frozenset = frozenset(), seen: set | None = None) -> Iterator[str]:
    """The packages that a package needs, and those that they need, without the package itself."""
    seen = set() if seen is None else seen
    for line in distribution(name).requires or ():
        need = Requirement(line)
        wanted = [{"extra": e} for e in extras] or [{"extra": ""}]
        if need.marker is not None and not any(need.marker.evaluate(e) for e in wanted):
            continue
        key = (need.name.lower().replace("_", "-"), frozenset(need.extras))
        if key not in seen:
            seen.add(key)
            yield need.name
            yield from closure(need.name, frozenset(need.extras), seen)


def link(package: Distribution, site: Path) -> None:
    """Links the top-level files and folders of an installed package into `site`."""
    for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        target = Path(str(package.locate_file(top)))
        if target.exists() and not (site / top).exists():
            (site / top).symlink_to(target)


def bare(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel and its dependencies only; returns its `bin`."""
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure("polymodal"):
        link(distribution(name), site)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, wheel])
    return folder / "bin"


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    wheel, sdist = build(out)
    check_contents(wheel, sdist)
    with tempfile.TemporaryDirectory() as place:
        programs = bare(Path(place) / "bare", wheel)
        where = run([programs / "python", "-c", "import polymodal; print(polymodal.__file__)"], cwd=place)
        if not where.startswith(place):
            sys.exit(f"the wheel was not used, but {where}")
        for words in COMMANDS:
            began = time.monotonic()
            run([programs / "polymodal", *words], cwd=place, env=ONE_THREAD)
            print(f"{time.monotonic() - began:5.1f} s  polymodal {' '.join(words)}")
        print(run([programs / "polymodal", "--version"], cwd=place).strip(), "works from", wheel)


if __name__ == "__main__":
    main()
