"""benchmarks/papers: published figures, claims, rows, and the page that is written from them."""

from __future__ import annotations

import ast
import doctest
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from polymodal.metrics import METRICS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from papers import claims, figures, write  # noqa: E402

CONTENT = figures.published()
TABLES = figures.paper_tables(CONTENT)
CLAIMS = {claim.id: claim for claim in claims.claims()}


# Published figures, claims and rows.


def test_published_figures_name_what_there_is() -> None:
    assert len({table.id for table in TABLES}) == len(TABLES) > 20
    for entry, table in zip(CONTENT["tables"], TABLES, strict=True):
        assert table.protocol in CONTENT["protocols"] and table.source in CONTENT["sources"]
        assert {figures.split(q)[0] for q in table.quantities} <= set(METRICS)
        assert (
            {model for model, _ in table.figures} == set(entry["values"]) <= set(CONTENT["models"])
        )
        assert all(len(row) == len(table.quantities) for row in entry["values"].values())
    assert set(CONTENT["labels"].values()) <= set(CONTENT["models"])


def test_published_figures_are_read_with_their_errors_and_slips() -> None:
    found = figures.by_quantity(TABLES)
    one = found["mnist-svhn", "jnf-dcca", "coherence svhn->mnist"]
    assert (one.value, one.printed) == (0.792, "0.792")
    assert one.se == pytest.approx(0.003 / 5**0.5)
    # Table 6's exchanged heads: an SVHN image has about -2848 nats, a digit of MNIST -741.
    image = found["mnist-svhn", "jmvae", "conditional_log_likelihood mnist->svhn"]
    assert (image.value, image.printed) == (-2848.0, "-2848.0 ± 0.7")
    of_faces = {
        figures.by_quantity([t])["celeba", "jmvae-two-stage", q].value
        for t in TABLES
        for q in ("conditional_log_likelihood attributes->image",)
        if ("jmvae-two-stage", q) in t.figures
    }
    assert of_faces == {-11490.0}  # table 2 as read here and table 7 agree


def test_claims_can_be_decided_and_the_papers_own_figures_decide_them() -> None:
    assert len(CLAIMS) == len(claims.claims())
    printed = figures.by_quantity(TABLES)
    found = {name: claims.in_print(claim, printed) for name, claim in CLAIMS.items()}
    right = ("dcca-best-svhn-to-mnist", "synergy", "dcca-no-difference-celeba", "lowest-fid-celeba")
    for name in right:
        assert found[name] == claims.HOLDS
    assert found["best-trimodal"] == claims.PARTLY  # seven of nine
    assert found["mnist-from-svhn-is-harder"] == claims.PARTLY  # not for MMVAE with k = 1
    assert found["dcca-improves-trimodal"] == claims.OPEN  # one of nine differs by .001
    elsewhere = {name for name, c in CLAIMS.items() if c.data in ("shapes", "mnist-fashion")}
    without = {"more-flows-more-coherent", "likelihoods-rise-polymnist", "quality-with-more-given"}
    without |= {"reduction-helps", "reduction-quality", *elsewhere}
    assert {name for name, verdict in found.items() if verdict == claims.UNKNOWN} == without


@cache
def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_row_has_a_verdict_with_evidence_that_exists() -> None:
    entries = write.rows()
    assert [entry["row"] for entry in entries] == list(range(1, 117))
    claimed = {claim.row for claim in CLAIMS.values()}
    for entry in entries:
        row, verdict = entry["row"], entry["verdict"]
        assert set(entry) == {"row", "where", "claim", "verdict", "evidence", "words"}, row
        assert verdict in (*claims.VERDICTS, claims.COMPUTED), row
        assert entry["words"].endswith(".") and "/work" not in entry["words"], row
        assert row in claimed if verdict == claims.COMPUTED else True, row
        if verdict in (claims.HOLDS, claims.FAILS, claims.PARTLY):
            assert entry["evidence"], row
        for evidence in entry["evidence"]:
            path, _, function = evidence.partition("::")
            assert (ROOT / path).is_file(), (row, evidence)
            assert not function or function in functions_of(ROOT / path), (row, evidence)


def test_the_page_is_what_the_command_writes() -> None:
    """`python benchmarks/papers/write.py` writes it."""
    assert write.PAGE.read_text() == write.page()


@pytest.mark.parametrize("module", [claims, figures, write])
def test_the_examples_of_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


# Our figures.


def run_of(label: str, seed: int, data: str = "mnist-svhn", **values: float) -> dict[str, Any]:
    """A run whose rows are `values` by metric__given__target, of 100 items each."""
    rows = []
    for key, value in values.items():
        metric, given, target = key.split("__")
        row = {"metric": metric, "given": given.replace("_", "+"), "target": target, "data": data}
        rows.append({**row, "value": value, "se": 0.01, "n": 100})
    return {"label": label, "seed": seed, "epochs": {"joint": 40}, "commit": "a" * 40, "rows": rows}


def save(folder: Path, name: str, *runs: dict[str, Any]) -> None:
    entry = {"name": name, "differs": "few epochs", "machine": "2 cores", "runs": list(runs)}
    (folder / f"{name}.json").write_text(json.dumps(entry))


def ours(folder: Path) -> dict[str, figures.Figures]:
    return figures.measured(figures.setups(folder), CONTENT["labels"])


def test_figures_are_means_over_seeds_with_their_standard_error(tmp_path: Path) -> None:
    for seed, value in enumerate((0.6, 0.7, 0.8)):
        jnf = run_of("mnist-svhn-jnf_dcca", seed, coherence__svhn__mnist=value)
        accuracy = {"classifier_accuracy____mnist": 0.985}
        others = [run_of(label, seed, **accuracy) for label in ("jnf", "jmvae-alpha=0.1")]
        save(tmp_path, f"own-seed{seed}", jnf, *others)
    (found,) = ours(tmp_path).values()
    one = found["mnist-svhn", "jnf-dcca", "coherence svhn->mnist"]
    assert (one.value, one.of) == (pytest.approx(0.7), "3 seeds")
    assert one.se == pytest.approx(0.1 / 3**0.5) and one.error == one.se
    accuracy = found["mnist-svhn", "classifiers", "classifier_accuracy ->mnist"]
    assert accuracy.value == pytest.approx(0.985) and accuracy.error == pytest.approx(0.01)


def test_means_by_the_number_given_are_those_of_other_targets(tmp_path: Path) -> None:
    values = {"m0__m1": 0.2, "m1__m0": 0.4, "m0_m1__m2": 0.9, "m0_m1__m0": 0.1}
    run = run_of("jnf", 0, "polymnist", **{f"coherence__{k}": v for k, v in values.items()})
    save(tmp_path, "own-seed0", run)
    (found,) = ours(tmp_path).values()
    one = found["polymnist", "jnf", "coherence 1->others"]
    assert (one.value, one.se, one.of) == (pytest.approx(0.3), 0.01, "100 items")
    assert found["polymnist", "jnf", "coherence 2->others"].value == pytest.approx(0.9)
    assert found["polymnist", "jnf", "coherence m0+m1->m2"].value == pytest.approx(0.9)


def test_two_numbers_for_one_quantity_and_seed_are_refused(tmp_path: Path) -> None:
    runs = [run_of("jnf", 0, coherence__svhn__mnist=value) for value in (0.6, 0.7)]
    save(tmp_path, "own-seed0", *runs)
    with pytest.raises(ValueError, match="duplicate result"):
        ours(tmp_path)


def test_our_figures_stand_beside_the_published_ones_and_decide_claims(tmp_path: Path) -> None:
    """Also those of two set-ups together; a distance stands in for FID."""
    values = {"coherence__svhn__mnist": 0.6, "frechet__svhn__mnist": 20.0}
    save(tmp_path, "first-seed0", run_of("jnf", 0, **values))
    better = run_of("jnf-dcca", 0, coherence__svhn__mnist=0.7, frechet__svhn__mnist=20.0)
    save(tmp_path, "second-seed0", better)
    save(tmp_path, "third-seed0", run_of("new", 0, coherence__svhn__mnist=0.5))
    text = write.page(tmp_path)
    assert "| coherence, mnist given svhn | JNF | 0.579 | 0.600 | 0.010 | 100 items | a |" in text
    assert "| FID, mnist given svhn | JNF-DCCA | 10.3 | distance 20.000 | 0.010 |" in text
    assert "| b | few epochs | 2 cores | `second-seed0.json` |" in text
    assert "| b | jnf-dcca | 0 | joint 40 | 0 | aaaaaaa |" in text
    assert (
        "| mnist-svhn: coherence, mnist given svhn | new | 0.500 | 0.010 | 100 items | c |" in text
    )
    row = "| 81 | Embeddings by DCCA raise the coherence from SVHN to MNIST over that of JNF."
    assert f"{row} | sections 5.5 and 6 | holds | **holds** | a, b |" in text
    claim = CLAIMS["dcca-improves-mnist-svhn"]
    save(tmp_path, "second-seed0", run_of("jnf-dcca", 0, coherence__svhn__mnist=0.62))
    assert claims.in_ours(claim, ours(tmp_path)) == (claims.OPEN, ["first", "second"])
    save(tmp_path, "second-seed0", run_of("jnf-dcca", 0, coherence__svhn__mnist=0.5))
    assert claims.in_ours(claim, ours(tmp_path))[0] == claims.FAILS
    assert any(line.startswith("Row 81 says 'partly'") for line in write.reminders(tmp_path))
