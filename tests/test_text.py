"""Text: its density, its networks, its words in and out, and the data sets that have it."""

import csv
import itertools
import json
import logging
import math
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from polymodal.batch import END, UNKNOWN, Batch, Modality
from polymodal.cli import main as cli
from polymodal.data import Dataset, Splits, ids_of, load_data, texts_of, vocabulary_of
from polymodal.data.kinds import KINDS, kind_of
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.distributions.tokens import TokenSequence
from polymodal.metrics.classifier_networks import classifier_of
from polymodal.networks.architectures import network_of
from polymodal.networks.layers import FromGrid
from polymodal.report.page import write_report

digit_names = import_module("polymodal.data.digit_names")
WORDS = (END, UNKNOWN, "a", "red", "blue", "bird")
CAPTION = Modality("caption", (5,), "tokens", kind="text", vocabulary=WORDS)


# The density.


def every_text(length, words):
    """All texts of at most this many words, as ids with zeros after the end."""
    for ids in itertools.product(range(words), repeat=length):
        if all(b == 0 for a, b in itertools.pairwise(ids) if a == 0):
            yield ids


def test_the_probabilities_of_all_texts_add_up_to_1(double) -> None:
    p = TokenSequence(torch.randn(2, 3, 4))
    texts = torch.tensor(list(every_text(3, 4))).double()
    assert len(texts) == 1 + 3 + 9 + 27
    total = p.log_prob(texts[:, None]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(2).double(), rtol=1e-12, atol=0)


def test_a_text_has_the_log_probability_of_its_words_and_its_end(double) -> None:
    logits = torch.randn(2, 1, 5, 6)
    x = torch.tensor([[2.0, 3, 5, 0, 0]])
    logs = logits.log_softmax(-1)[:, 0]
    expected = logs[:, 0, 2] + logs[:, 1, 3] + logs[:, 2, 5] + logs[:, 3, 0]
    torch.testing.assert_close(TokenSequence(logits).log_prob(x)[:, 0], expected)
    full = torch.tensor([[2.0, 3, 5, 2, 2]])  # no place for an end
    expected = logs[:, range(5), [2, 3, 5, 2, 2]].sum(-1)
    torch.testing.assert_close(TokenSequence(logits).log_prob(full)[:, 0], expected)


def test_drawn_texts_have_their_probabilities(double) -> None:
    p = TokenSequence(torch.randn(1, 2, 3))
    draws = p.sample((40_000,))[:, 0]
    for text in every_text(2, 3):
        share = (draws == torch.tensor(text)).all(-1).double().mean()
        probability = p.log_prob(torch.tensor([text]).double()).exp().item()
        assert abs(share - probability) < 4 * math.sqrt(probability / 40_000)


def test_the_mean_is_the_most_probable_word_of_each_place_up_to_the_end() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, [0, 1, 2, 3], [2, 1, 0, 2]] = 1
    assert TokenSequence(logits).mean.tolist() == [[2, 1, 0, 0]]


def test_a_likelihood_of_words_needs_words() -> None:
    with pytest.raises(ValueError, match=r"'tokens' of 'x' needs a vocabulary and a shape \(L,\)"):
        likelihood_of(Modality("x", (5,), "tokens"))
    for words in (("a", "b", "c"), WORDS[:2], (*WORDS, "a")):
        with pytest.raises(ValueError, match="vocabulary of 'x' must be '<end>', '<unk>' and at"):
            Modality("x", (5,), "tokens", vocabulary=words)


# Words in and out.


def test_words_are_read_and_written() -> None:
    ids = ids_of(["A red-blue bird!", "a green bird", "", "a a a a a a"], CAPTION)
    assert ids.tolist() == [[2, 3, 4, 5, 0], [2, 1, 5, 0, 0], [0] * 5, [2] * 5]
    assert texts_of(ids, CAPTION) == ["a red blue bird", "a <unk> bird", "", "a a a a a"]
    assert torch.equal(ids_of(texts_of(ids, CAPTION), CAPTION), ids)


def test_given_texts_are_files_or_texts(tmp_path, caplog) -> None:
    kind = KINDS["text"]
    (tmp_path / "two.txt").write_text("a red bird\nA blue bird.\n")
    np.save(tmp_path / "two.npy", np.array(["a red bird", "A blue bird."]))
    expected = [[2.0, 3, 5, 0, 0], [2, 4, 5, 0, 0]]
    for file in ("two.txt", "two.npy"):
        assert kind.read(tmp_path / file, CAPTION).tolist() == expected
    with caplog.at_level(logging.WARNING, "polymodal"):
        assert kind.read(type(tmp_path)("a red bird"), CAPTION).tolist() == expected[:1]
        assert not caplog.records
        assert kind.read(type(tmp_path)("a small bird"), CAPTION).tolist() == [[2, 1, 5, 0, 0]]
    (said,) = caplog.messages
    assert said == (
        "Words of 'caption' that are not among the 4 of the vocabulary are read as <unk>: 'small'."
    )
    (tmp_path / "no.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        kind.read(tmp_path / "no.txt", CAPTION)
    with pytest.raises(ValueError, match="There is no file"):
        kind.read(tmp_path / "none.txt", CAPTION)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"'caption' is read from \.txt .*, got the file .*a\.csv"):
        kind.read(tmp_path / "a.csv", CAPTION)


def test_ids_that_are_no_words_are_refused() -> None:
    kind = kind_of(CAPTION)
    for x, words in (
        ([[2.0, 6, 0, 0, 0]], "1 values that are not ids 0 to 5 of its words"),
        ([[2.0, 0.5, 0, 0, 0]], "1 values that are not ids 0 to 5 of its words"),
        ([[2.0, 0, 3, 0, 4]], "2 values after the end"),
    ):
        with pytest.raises(ValueError, match=words):
            kind.check(torch.tensor(x), CAPTION, "x")


def test_a_file_with_an_array_of_words_is_text(tmp_path) -> None:
    texts = np.array(["a red bird", "a blue bird", "two birds"] * 10)
    np.savez(tmp_path / "mine.npz", caption=texts, number=np.arange(30.0))
    data = load_data(tmp_path / "mine.npz")
    caption = data.modalities[0]
    assert caption.vocabulary == vocabulary_of(texts) and caption.kind == "text"
    assert (caption.shape, caption.likelihood, kind_of(caption).name) == ((4,), "tokens", "text")
    batch = data.train.batch(torch.arange(len(data.train)))
    assert texts_of(batch.x["caption"], caption) == texts[batch.x["number"][:, 0].long()].tolist()


def test_texts_are_shown_as_letters() -> None:
    shown = KINDS["text"].show(ids_of(["a red bird", "a red bird", ""], CAPTION), CAPTION)
    assert torch.equal(shown[0], shown[1]) and shown[2].unique().numel() == 1
    assert shown[0].min() < 0.5 < shown[0].max()


# Networks.


@pytest.mark.parametrize("length", [1, 5, 8, 32, 100, 128])
def test_sentences_end_in_a_grid_of_4_by_4(length: int) -> None:
    m = Modality("x", (length,), "tokens", kind="text", vocabulary=WORDS)
    network = network_of(m, "sentence-conv")
    encoder = network.encoder(m.shape, 7)
    (grid,) = (layer for layer in encoder.modules() if isinstance(layer, FromGrid))
    seen = []
    grid.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    ids = torch.full((2, length), 2.0)
    ids[1, -1] = 3
    first, other = encoder(ids)
    assert seen == [(2, 128, 4, 4)] and not torch.equal(first, other)  # the last word is read


@pytest.mark.parametrize("name", ["sentence-conv", "text-conv", "mlp"])
def test_encoders_read_words_and_not_the_size_of_their_ids(name: str) -> None:
    """With equal vectors for all words but one, only that word changes what is read."""
    torch.manual_seed(0)
    encoder = network_of(CAPTION, name).encoder(CAPTION.shape, 7)
    with torch.no_grad():
        encoder[0].table.weight[2:5] = encoder[0].table.weight[2]
        a, b, c = encoder(torch.tensor([[2.0, 3, 2, 0, 0], [4, 4, 4, 0, 0], [2, 5, 2, 0, 0]]))
    assert torch.equal(a, b) and not torch.allclose(a, c)


def test_networks_of_text_do_not_read_numbers() -> None:
    with pytest.raises(ValueError, match="'sentence-conv' reads text, and the likelihood of 'x'"):
        network_of(Modality("x", (32,)), "sentence-conv")
    with pytest.raises(ValueError, match="'sentence-conv' cannot read modality 'x'"):
        network_of(Modality("x", (129,), "tokens", vocabulary=WORDS), "sentence-conv")


def test_a_classifier_of_texts_finds_a_word() -> None:
    torch.manual_seed(0)
    net = classifier_of(CAPTION, "compact", 2)
    ids = torch.randint(2, 6, (128, 5)).float()
    label = (ids == 3).any(1).long()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(ids), label).backward()
        optimizer.step()
    assert (net.eval()(ids).argmax(1) == label).float().mean() > 0.98


# A run with text.


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run on numbers near -1 or 1 and captions that say which."""
    folder, rng = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    is_red = rng.random(400) < 0.5
    captions = [f"A {'red' if red else 'blue'} bird." for red in is_red]
    number = np.where(is_red, 1.0, -1.0) + 0.1 * rng.normal(size=400)
    np.savez(folder / "birds.npz", number=number, caption=captions, label=is_red.astype(int))
    polymodal.fit(
        "mvtcae",
        folder / "birds.npz",
        latent=2,
        modalities={"number": {"scale": 0.1}},
        networks={"number": "mlp-small", "caption": "mlp-small"},
        epochs=20,
        batch=32,
        lr=3e-3,
        out=folder / "run",
        progress=False,
    )
    return folder / "run"


def test_a_run_keeps_its_words_and_translates(run_dir) -> None:
    info = json.loads((run_dir / "run.json").read_text())
    caption = info["modalities"][1]
    assert set(caption["vocabulary"]) == {END, UNKNOWN, "a", "red", "blue", "bird"}
    assert "vocabulary" not in info["settings"]["modalities"]["caption"]
    run = polymodal.load(run_dir)
    given = Batch({"number": torch.tensor([[1.0], [-1.0]])})
    torch.manual_seed(0)
    ids = run.model.generate(given, 20, ["caption"])["caption"]
    for i, colour in enumerate(("red", "blue")):
        assert texts_of(ids[:, i], run.modalities[1]).count(f"a {colour} bird") >= 18
    back = Batch({"caption": ids_of(["a red bird", "a blue bird"], run.modalities[1])})
    number = run.model.generate(back, 20, ["number"])["number"].mean(0)[:, 0]
    assert number[0] > 0.5 and number[1] < -0.5


def test_generate_writes_captions_and_takes_them(run_dir, tmp_path, capsys) -> None:
    np.save(tmp_path / "number.npy", np.array([[1.0], [-1.0]]))
    out = tmp_path / "out"
    arguments = ["generate", str(run_dir), "--n", "3", "--out", str(out)]
    assert cli.run([*arguments, "--given", f"number={tmp_path / 'number.npy'}"]) == 0
    with open(out / "caption.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = torch.from_numpy(np.load(out / "generated.npz")["caption"])
    assert [(int(r["sample"]), int(r["draw"])) for r in rows] == [
        (i, k) for i in range(2) for k in range(3)
    ]
    assert [r["text"] for r in rows[:3]] == texts_of(
        ids[:, 0], polymodal.load(run_dir).modalities[1]
    )
    assert cli.run([*arguments, "--given", "caption=a red bird"]) == 0
    assert np.load(out / "generated.npz")["number"].mean() > 0.5


def test_a_report_shows_texts(run_dir, tmp_path, monkeypatch) -> None:
    shown = []
    show = lambda kind, x, modality, span=None: (
        shown.append(texts_of(x, modality)) or torch.rand(len(x), 3, 9, 30)
    )
    monkeypatch.setattr(type(KINDS["text"]), "show", show)
    write_report([run_dir], tmp_path / "r.html")
    words = {word for texts in shown for text in texts for word in text.split()}
    assert {"a", "red", "blue", "bird"} <= words


def test_linear_embeddings_of_text_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kind=cca reads numbers, and 'caption' is text"):
        polymodal.METHODS["jnf_dcca"](
            [Modality("a", (6,)), CAPTION],
            latent=2,
            embedding={"kind": "cca", "embedding_size": 2, "num_directions": None},
        )


# Data sets.


def test_the_names_of_digits_begin_at_any_place_that_leaves_one(monkeypatch) -> None:
    label = torch.arange(10).repeat(200)
    grey = Modality("mnist", (1, 1, 1))
    part = Dataset([grey], {"mnist": label[:, None, None, None].float()}, label=label)
    monkeypatch.setattr(digit_names, "mnist_svhn", lambda **_: Splits(part, part, part))
    data = digit_names.mnist_svhn_text()
    batch = data.train.batch(torch.arange(len(label)))
    texts = texts_of(batch.x["text"], data.modalities[1])
    assert [t.strip() for t in texts] == [digit_names.NAMES[i] for i in label]
    starts = {(t.strip(), len(t) - len(t.lstrip())) for t in texts}
    assert starts == {(n, k) for n in digit_names.NAMES for k in range(8 - len(n))}
    assert len(data.modalities[1].vocabulary) == 71
    other = data.test.batch(torch.arange(len(label))).x["text"]
    assert not torch.equal(batch.x["text"], other)  # each part has its own noise


@pytest.fixture
def cub_files(tmp_path):
    """Official files of 20 birds of two classes, in boxes of one grey on black, 12 for training."""
    home = tmp_path / "CUB_200_2011"
    names = ["001.Black_Bird", "002.White_Bird"]
    rows = [(i + 1, names[i % 2], f"Bird_{i:04d}") for i in range(20)]
    for _, name, image in rows:
        (home / "images" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "text_c10" / name).mkdir(parents=True, exist_ok=True)
        i = int(image[-4:])
        pixels = np.zeros((50, 80, 3), np.uint8)
        pixels[10:40, 20:70] = 10 * i
        Image.fromarray(pixels).save(home / "images" / name / f"{image}.jpg", quality=100)
        words = "black" if i % 2 == 0 else "white"
        lines = [f"This bird, number {k} of {i}, is {words}." for k in range(10)]
        (tmp_path / "text_c10" / name / f"{image}.txt").write_text("\n".join([*lines, ""]))
    write = lambda file, lines: (home / file).write_text("\n".join([*lines, ""]))
    write("images.txt", [f"{k} {name}/{image}.jpg" for k, name, image in rows])
    write("classes.txt", [f"{k + 1} {name}" for k, name in enumerate(names)])
    write("image_class_labels.txt", [f"{k} {1 + (k + 1) % 2}" for k, *_ in rows])
    write("bounding_boxes.txt", [f"{k} 20.0 10.0 50.0 30.0" for k, *_ in rows])
    write("train_test_split.txt", [f"{k} {int(k <= 12)}" for k, *_ in rows])
    (home / "attributes").mkdir()
    write("attributes/class_attribute_labels_continuous.txt", ["0 25.0 100", "50 0 12.5"])
    return tmp_path


def number_of(texts):
    """The numbers of the caption and of the bird, which the twin's captions say."""
    return [tuple(int(w) for w in t.split() if w.isdigit()) for t in texts]


def test_official_birds_are_paired_with_their_captions(cub_files) -> None:
    data = load_data("cub", path=cub_files, attributes=True)
    assert [len(p) for p in data.parts.values()] == [110, 10, 80]
    assert [len(p.tables["image"]) for p in data.parts.values()] == [11, 1, 8]
    for name, part in data.parts.items():
        batch = part.batch(torch.arange(len(part)))
        grey = batch.x["image"].flatten(1)
        bird = (grey.mean(1) * 255 / 10).round().long()
        assert (grey - bird[:, None] * 10 / 255).abs().max() < 0.03  # the box and nothing else
        assert (bird % 2 == batch.label).all()
        assert ((bird >= 12) == (name == "test")).all()
        # Words that occur 4 times in training are known: "black", "white", most numbers.
        texts = texts_of(batch.x["caption"], data.modalities[1])
        assert all(("black", "white")[i % 2] in t for i, t in zip(bird, texts, strict=True))
        expected = torch.tensor([[0, 0.25, 1], [0.5, 0, 0.125]])[batch.label]
        torch.testing.assert_close(batch.x["attributes"], expected)
    batch = data.train.batch(torch.arange(110))
    bird = (batch.x["image"].flatten(1).mean(1) * 255 / 10).round().long()
    said = number_of(texts_of(batch.x["caption"], data.modalities[1]))
    assert len(set(said)) > 100 and all(
        s[-1] == i for s, i in zip(said, bird, strict=True) if len(s) == 2
    )
    assert bird[:11].unique().numel() == 11  # the first samples are different birds


def test_birds_whole_or_cut_and_fewer_captions(cub_files) -> None:
    whole = load_data("cub", path=cub_files, crop=False, captions=2)
    assert len(whole.train) == 22 and len(whole.modalities) == 2
    image = whole.train.batch(torch.arange(1)).x["image"][0]
    assert image[:, :10, :10].max() < 0.05


def test_bad_files_of_birds_are_named(cub_files) -> None:
    home = cub_files / "CUB_200_2011"
    (home / "train_test_split.txt").write_text("1 1\n3 0\n")
    with pytest.raises(ValueError, match=r"train_test_split.txt cannot be read.*not numbered"):
        load_data("cub", path=cub_files)
    (cub_files / "text_c10" / "001.Black_Bird" / "Bird_0000.txt").write_text("\n")
    with pytest.raises(
        ValueError, match=r"Bird_0000.txt cannot be read, since it holds no caption"
    ):
        load_data("cub", path=cub_files)
    (cub_files / "text_c10").rename(cub_files / "elsewhere")
    with pytest.raises(ValueError, match=r"CUB is not in .*; put CUB_200_2011"):
        load_data("cub", path=cub_files)


@pytest.mark.data
def test_packed_birds(real_data) -> None:
    data = load_data("cub", path=real_data)
    assert [len(p) for p in data.parts.values()] == [8370, 930, 8510]
    assert [len(p.tables["image"]) for p in data.parts.values()] == [837, 93, 851]
    caption = data.modalities[1]
    assert len(caption.vocabulary) == 566 and len(data.train.classes) == 31
    batch = data.train.batch(torch.arange(len(data.train)))
    texts = np.array(texts_of(batch.x["caption"], caption))
    yellow, red = (np.array([w in t.split() for t in texts]) for w in ("yellow", "red"))
    blue = batch.x["image"][:, 2].mean((1, 2)) - batch.x["image"].mean((1, 2, 3))
    assert blue[yellow].mean() < blue[~yellow].mean() - 0.02  # captions and images belong together
    assert 0.1 < yellow.mean() < 0.5 and 0.01 < red.mean() < 0.3


@pytest.mark.data
def test_texts_of_real_digits_name_them(real_data) -> None:
    data = load_data("mnist-svhn-text", path=real_data, limit=200)
    for part in data.parts.values():
        batch = part.batch(torch.arange(200))
        texts = texts_of(batch.x["text"], data.modalities[2])
        assert [t.strip() for t in texts] == [digit_names.NAMES[int(i)] for i in batch.label]
