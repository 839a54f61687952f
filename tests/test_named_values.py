"""Entries with names: given as words, written as a table, drawn as words."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import polymodal
from polymodal.batch import Modality
from polymodal.cli.main import run as command
from polymodal.data import ATTRIBUTES
from polymodal.data.kinds import kind_of
from polymodal.data.kinds.named_values import drawn, value_of_words

NAMES = ("red", "round", "soft", "5_o_Clock")
TAGS = Modality("tags", (4,), "bernoulli", names=NAMES)
USUAL = [0.9, 0.2, 0.6, 0.5]


def test_named_entries_are_as_said_and_the_others_as_most_often() -> None:
    value, said = value_of_words("round, -soft", TAGS, USUAL)
    assert value.tolist() == [[1, 1, 0, 0]]
    assert said == (
        "tags: round 1, soft 0; the other 2 have their most frequent value in the training data, 1"
        " for red."
    )
    value, said = value_of_words("5_o_Clock,-*", TAGS, None)
    assert value.tolist() == [[0, 0, 0, 1]] and said.endswith("the other 3 are 0.")


def test_numbers_by_name_and_means_of_the_others() -> None:
    body = Modality("body", (3,), names=("height", "weight", "age"))
    value, said = value_of_words("weight:-1.5,age", body, [0.25, 9.0, 9.0])
    assert value.tolist() == [[0.25, -1.5, 1.0]] and "the other 1 have their mean" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("rond", r"There is no name 'rond' in 'tags'\. Did you mean round\?"),
        ("-Soft", r"There is no name 'Soft' in 'tags'\. Did you mean soft\?"),
        ("red,-red", r"takes names, each once"),
        ("red:much", r"takes names, such as .* got 'red:much'"),
        ("red:nan", r"got 'red:nan'"),
        (" ,", r"takes names, each once"),
    ],
)
def test_words_that_name_no_value_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        value_of_words(words, TAGS, USUAL)
    with pytest.raises(ValueError, match=r"does not keep how frequent .* -\*: all others 0"):
        value_of_words("red", TAGS, None)


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "b", "a"), ("a", "b,", "c"), ("a", "-b", "c"), ("", "b", "c")]
)
def test_names_that_do_not_tell_entries_apart_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"names of modality 'x' must be 3 different words"):
        Modality("x", (3,), names=names)
    with pytest.raises(ValueError, match="one for each entry of a vector"):
        Modality("x", (1, 3), names=("a", "b", "c"))


def test_present_entries_are_drawn_darker_the_more_probable() -> None:
    x = torch.tensor([[0.0, 1.0, 0.4, 0.0], [0.0, 0.6, 0.4, 0.0], [0.1] * 4, [1.0] * 4])
    pictures = drawn(x, TAGS)
    paper = pictures.max()
    ink = (paper - pictures).sum((1, 2, 3))
    assert ink[3] > ink[0] > ink[1] > 0 and ink[2] > 0  # all; one surely; one likely; "(none)"
    assert torch.equal(pictures[0] < paper, pictures[1] < paper)  # the same word


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on tags and vectors, of which most tags are 1."""
    folder = tmp_path_factory.mktemp("named")
    rng = np.random.default_rng(0)
    tags = (rng.random((200, 4)) < np.array(USUAL)).astype(float)
    np.savez(folder / "pairs.npz", tags=tags, body=tags @ rng.normal(size=(4, 3)))
    settings = {"latent": 2, "epochs": 1, "progress": False}
    names = {"tags": {"names": NAMES}}
    data = polymodal.load_data(folder / "pairs.npz", modalities=names)
    polymodal.fit("mvae", data, out=folder / "run", **settings)
    return folder / "run"


def test_generate_takes_and_writes_names(trained: Path, capsys, tmp_path) -> None:
    out = tmp_path / "out"
    words = ["--given", "tags=round,-red", "--want", "tags", "--want", "body", "--n", "2"]
    assert command(["generate", str(trained), *words, "--out", str(out)]) == 0
    assert "tags: round 1, red 0; the other 2 have their most" in capsys.readouterr().out
    run = polymodal.load(trained)
    usual = torch.tensor(run.info["usual"]["tags"])
    assert usual.tolist() == pytest.approx(USUAL, abs=0.12)
    given = torch.tensor([[0.0, 1.0, *(usual[2:] > 0.5)]])
    expected, _ = run.model.sample(polymodal.Batch({"tags": given}), 2, ["tags", "body"], 0)
    with (out / "tags.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head == ["sample", "draw", *NAMES] and [row[:2] for row in rows] == [
        ["0", "0"],
        ["0", "1"],
    ]
    found = torch.tensor([[float(v) for v in row[2:]] for row in rows])
    torch.testing.assert_close(found, expected["tags"][:, 0], atol=1e-5, rtol=1e-5)
    assert (out / "tags.png").is_file() and not (out / "body.csv").exists()


def test_generate_refuses_unknown_names(trained: Path, capsys, tmp_path) -> None:
    for words, sentence in (("tags=rond", "Did you mean round?"), ("body=red", "There is no file")):
        status = command(["generate", str(trained), "--given", words, "--out", str(tmp_path)])
        assert status == 2 and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_word_for_every_entry_is_no_name_of_a_file(trained: Path, capsys, tmp_path) -> None:
    """Longer than any file's name may be."""
    words = ",".join([*NAMES, "x" * 300])
    status = command(["generate", str(trained), "--given", f"tags={words}", "--out", str(tmp_path)])
    assert status == 2 and "There is no name 'xxx" in capsys.readouterr().err


def test_names_are_kept_in_the_run_and_hold_for_files_too(trained: Path, tmp_path) -> None:
    modality = polymodal.load(trained).modalities[0]
    assert modality.names == NAMES and kind_of(modality).name == "vector"
    np.save(tmp_path / "x.npy", np.eye(4)[:3])
    words = ["--given", f"tags={tmp_path / 'x.npy'}", "--out", str(tmp_path / "o")]
    assert command(["generate", str(trained), *words]) == 0


def test_the_attributes_of_celeba_are_words() -> None:
    value, _ = value_of_words(
        "Black_Hair,Eyeglasses,-*", Modality("a", (40,), "bernoulli", names=ATTRIBUTES), None
    )
    assert [ATTRIBUTES[k] for k in value[0].nonzero().flatten()] == ["Black_Hair", "Eyeglasses"]
