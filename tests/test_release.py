"""The files of a release agree with one another; `.ci/release.py` builds and installs it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import polymodal

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_citation_has_what_the_format_requires(citation) -> None:
    """Citation File Format 1.2.0: four keys are required; an author is a person or an entity."""
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["message"] and citation["title"] == PROJECT["name"]
    everyone = citation["authors"] + [a for r in citation["references"] for a in r["authors"]]
    for author in everyone:
        assert set(author) in ({"name"}, {"family-names", "given-names"})
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_one_version_one_licence(citation) -> None:
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:300]
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] in sections
    assert (Path(polymodal.__file__).parent / "py.typed").exists()
