"""Runs are pushed to a hub on this machine, and loaded from it, without running code."""

import sys

import pytest
import torch
import yaml

import polymodal
from hub_stand_in import hub
from polymodal.runs.card import model_card

pytest.importorskip("huggingface_hub")
NETWORKS = dict.fromkeys(("square", "circle"), "mlp-small")
SMALL = {
    "networks": NETWORKS,
    "latent": 2,
    "hidden": 8,
    "epochs": 1,
    "progress": False,
    "device": "cpu",
}
REPO = "me/shapes"


@pytest.fixture(scope="module")
def run():
    data = polymodal.load_data("shapes", limit=64)
    run = polymodal.fit("jnf", data, **SMALL)
    polymodal.evaluate(run, data, metrics=["joint_log_likelihood"], samples=4, limit=16)
    return run


@pytest.fixture
def server(monkeypatch):
    with hub() as (made, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield made


def loaded(tmp_path, **options):
    return polymodal.from_pretrained(REPO, cache=tmp_path / "cache", **options)


def test_what_is_pushed_is_loaded_to_the_bit(run, server, tmp_path) -> None:
    address = polymodal.push_to_hub(run, REPO, data_licence="made by a program")
    assert address.endswith(REPO) and run.directory is None
    expected = {"run.json", "model.safetensors", "log.csv", "metrics.json", "README.md"}
    assert server.repos[REPO].keys() == expected
    back = loaded(tmp_path)
    assert back.directory is None and back.metrics == run.metrics
    batch = polymodal.load_data("shapes", limit=64).test.batch(torch.arange(4)).only(["square"])
    draws = []
    for model in (run.model, back.model):
        torch.manual_seed(0)
        draws.append(model.generate(batch, n=3)["circle"])
    assert torch.equal(*draws)
    back.save(tmp_path / "kept")
    assert polymodal.load(tmp_path / "kept").identity == run.identity


@pytest.mark.parametrize(
    "name", ["weights.pkl", "modeling.py", "sub/pytorch_model.bin", ".py", "x.pkl "]
)
def test_files_that_could_run_code_are_not_even_downloaded(run, server, tmp_path, name) -> None:
    polymodal.push_to_hub(run, REPO)
    server.repos[REPO][name] = b"import os; os.abort()"
    with pytest.raises(ValueError, match=f"^me/shapes holds {name!r}, which no run has"):
        loaded(tmp_path)
    assert server.sent == []


def test_a_truncated_download_is_one_sentence(run, server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    polymodal.push_to_hub(run, REPO)
    server.cut = 100
    with pytest.raises(ValueError, match=r"^me/shapes cannot be loaded from the hub: .*\.$"):
        loaded(tmp_path)
    server.cut = 0
    assert loaded(tmp_path).identity == run.identity


def test_weights_that_were_cut_before_they_were_pushed_are_told(run, server, tmp_path) -> None:
    polymodal.push_to_hub(run, REPO)
    server.repos[REPO]["model.safetensors"] = server.repos[REPO]["model.safetensors"][:-100]
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        loaded(tmp_path)


def test_what_is_no_run_and_what_is_not_there_are_told(run, server, tmp_path) -> None:
    with pytest.raises(ValueError, match="there is none, or you may not see it"):
        loaded(tmp_path)
    server.repos[REPO] = {"README.md": b"# nothing"}
    with pytest.raises(ValueError, match=r"^me/shapes is no run: it has no run\.json"):
        loaded(tmp_path)
    for name in ("a b", "a/b/c"):
        with pytest.raises(ValueError, match=rf"^{name} cannot be loaded from the hub: "):
            polymodal.from_pretrained(name)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'polymodal\[hub\]'"):
        polymodal.from_pretrained(REPO)


def test_the_card_says_what_a_reader_needs(run) -> None:
    card = model_card(run, REPO, "CC | BY")
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "polymodal"
    assert 'run = polymodal.from_pretrained("me/shapes")' in body
    assert (
        "`shapes` (samples: 64 train, 64 val, 64 test). Licence of the data: CC &#124; BY" in body
    )
    assert "| square | 1 x 32 x 32 | image | normal |" in body
    assert "joint_log_likelihood" in body and "Seed 0; polymodal" in body
    assert "not stated" in model_card(run, REPO)
    lines = model_card(run, REPO, "CC\n\n# BY").splitlines()
    assert len(lines) == len(card.splitlines()) and "# BY" not in lines
    run.metrics, kept = {}, run.metrics
    assert "Nothing was measured" in model_card(run, REPO)
    run.metrics = kept
