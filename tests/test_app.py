"""The service behind the app, without a page: what was given comes back as given, draws are those
of the model, nothing depends on a hole, and mistakes are told in one sentence.
"""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from polymodal.app import Service, server
from polymodal.app.answer import agreement, sampler_text, texts_agree
from polymodal.app.components import picture_of, uploaded
from polymodal.app.download import KEPT, keep
from polymodal.app.html import answer_html, answer_status, error_html, sample_html, walk_html
from polymodal.app.inputs import MAX_MB, MOST_FIELDS, Input
from polymodal.batch import Batch, Modality
from polymodal.cli import main as cli
from polymodal.data import Dataset, Splits, load_data
from polymodal.distributions import report_of
from polymodal.sampling import ParticleReport
from polymodal.training.fit import fit

CITIES = ("Lyon", "Oslo", "Turin")
ATTRIBUTES = ("Smiling", "Male", "Young")


def people(rows: int = 60) -> str:
    """A table with holes: numbers, counts, a switch, words and dates."""
    r = np.random.default_rng(0)
    lines = ["age,smoker,city,children,visit"]
    for i in range(rows):
        age = r.normal(50, 10)
        cells = [f"{age:.1f}", "yes" if age > 50 else "no", CITIES[i % 3], str(r.poisson(9))]
        cells.append(f"2024-0{1 + i % 9}-1{i % 9}")
        lines.append(",".join("" if r.random() < 0.15 else cell for cell in cells))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of shapes and of a table."""
    out = tmp_path_factory.mktemp("app")
    (out / "people.csv").write_text(people())
    shapes = load_data("shapes", n=60)
    fit("jnf", shapes, latent=2, epochs=1, out=out / "shapes", progress=False)
    fit("miwae", str(out / "people.csv"), latent=2, epochs=3, out=out / "people", progress=False)
    return out


@pytest.fixture(scope="module")
def shapes(folder: Path) -> Service:
    return Service(polymodal.load(folder / "shapes"), load_data("shapes", n=60))


@pytest.fixture(scope="module")
def table(folder: Path) -> Service:
    return Service.open(folder / "people")


@pytest.fixture(scope="module")
def mixed() -> Service:
    """Named attributes, classes, text and a vector, of a model without holes."""
    g = torch.Generator().manual_seed(0)
    n = 48
    place = torch.randint(3, (n,), generator=g)
    modalities = (
        Modality("attributes", (3,), "bernoulli", names=ATTRIBUTES),
        Modality("kind", (3,), "categorical", names=CITIES),
        Modality(
            "words", (3,), "tokens", kind="text", vocabulary=("<end>", "<unk>", "red", "blue")
        ),
        Modality("numbers", (2,)),
    )
    tables = {
        "attributes": (torch.rand(n, 3, generator=g) < torch.tensor([0.9, 0.4, 0.6])).float(),
        "kind": torch.eye(3)[place],
        "words": torch.stack([2 + (place > 0).long(), 0 * place, 0 * place], 1).float(),
        "numbers": torch.randn(n, 2, generator=g),
    }
    whole = Dataset(modalities, tables)
    parts = (whole.take(torch.arange(*ends)) for ends in ((0, 32), (32, 40), (40, 48)))
    splits = Splits(*parts, "mixed")
    run = fit("jnf", splits, latent=2, epochs=1, networks={"words": "mlp"}, progress=False)
    return Service(run, splits)


def picture(n: int = 32) -> np.ndarray:
    pixels = np.zeros((n, n), np.uint8)
    pixels[n // 4 : -n // 4, n // 4 : -n // 4] = 200
    return pixels


# What was given.


def test_it_says_what_can_be_given(shapes: Service, table: Service, mixed: Service) -> None:
    assert {m: i.form for m, i in shapes.inputs.items()} == {
        "square": "picture",
        "circle": "picture",
    }
    (row,) = table.inputs.values()
    assert row.form == "cells"
    assert {f.name: [w for _, w in f.choices] for f in row.fields} == {
        "age": [],
        "smoker": ["no", "yes"],
        "city": list(CITIES),
        "children": [],
        "visit": [],
    }
    forms = {m: i.form for m, i in mixed.inputs.items()}
    assert forms == {"attributes": "cells", "kind": "cells", "words": "text", "numbers": "cells"}
    (classes,) = mixed.inputs["kind"].fields
    assert [word for _, word in classes.choices] == list(CITIES)
    assert mixed.inputs["attributes"].fields[0].choices == (("no", "0"), ("yes", "1"))


@pytest.mark.parametrize(
    ("modality", "form"),
    [
        (Modality("x", (3, 8, 8), link="sigmoid"), "picture"),
        (Modality("x", (4, 8, 8), link="sigmoid"), "file"),
        (Modality("x", (1, 8, 8), "poisson"), "file"),
        (Modality("x", (1, 32, 32), kind="audio", link="sigmoid"), "file"),
        (Modality("x", (2, 9), kind="series"), "file"),
        (Modality("x", (MOST_FIELDS + 1,)), "file"),
        (Modality("x", (MOST_FIELDS,)), "cells"),
    ],
)
def test_the_form_follows_from_the_kind(modality: Modality, form: str) -> None:
    assert Input(modality).form == form


def test_a_picture_comes_back_as_it_was_given(shapes: Service, tmp_path: Path) -> None:
    pixels = picture()
    want = torch.from_numpy(pixels)[None, None] / 255
    file = tmp_path / "mine.png"
    Image.fromarray(pixels).save(file)
    content = file.read_bytes()
    for raw in (pixels, np.repeat(pixels[..., None], 3, 2), file, str(file), content):
        batch, notes = shapes.given({"square": raw})
        torch.testing.assert_close(batch.x["square"], want, atol=1e-6, rtol=0)
        assert notes == []


def test_a_picture_of_another_size_is_scaled_and_that_is_said(shapes: Service) -> None:
    batch, (note,) = shapes.given({"square": picture(64)})
    assert note == "square: the picture of 64 × 64 pixels was scaled to 32 × 32."
    error = (batch.x["square"][0, 0] - torch.from_numpy(picture()) / 255).abs().mean()
    assert error < 0.03
    wide = np.zeros((32, 64), np.uint8)
    wide[:, 16:48] = picture()
    batch, (note,) = shapes.given({"square": wide})
    assert "64 × 32 pixels was cut in the middle and" in note
    assert torch.equal(batch.x["square"][0, 0], torch.from_numpy(picture()) / 255)


def test_cells_come_back_as_they_were_given(table: Service) -> None:
    given = {"age": "41.5", "city": "Oslo", "visit": "2024-03-05"}
    answer = table.draw({"table": given}, 5, 1)
    cells = {c.column: c for c in answer.rows["table"].cells}
    assert {c: cells[c].value for c in given} == given
    assert {c for c, cell in cells.items() if cell.is_given} == set(given)
    place = {c.name: k for k, c in enumerate(table.inputs["table"].modality.columns)}
    draws = answer.draws["table"]
    assert (draws[..., place["age"]] == 41.5).all()
    assert (draws[..., place["city"]] == CITIES.index("Oslo")).all()
    assert len(draws[..., place["children"]].unique()) > 1  # not given, and drawn


def test_test_samples_can_be_given(shapes: Service, table: Service, mixed: Service) -> None:
    for service in (shapes, table, mixed):
        sample = service.sample(2)
        batch, _ = service.given(sample.raw)
        assert batch is not None and set(batch.x) == set(sample.x)
        for m, x in sample.x.items():
            torch.testing.assert_close(batch.x[m], x, atol=2e-6, rtol=2e-6, equal_nan=True)


def test_attributes_without_a_word_are_as_usual_where_holes_are_unknown(mixed: Service) -> None:
    batch, (note,) = mixed.given({"attributes": {"Male": "1"}})
    assert batch.x["attributes"].tolist() == [[1.0, 1.0, 1.0]]
    assert note == (
        "attributes: Male 1; the other 2 have their most frequent value in the training data, 1"
        " for Smiling, Young."
    )
    batch, _ = mixed.given({"kind": {"kind": "Turin"}, "words": "Blue!"})
    assert batch.x["kind"].tolist() == [[0.0, 0.0, 1.0]]
    assert batch.x["words"].tolist() == [[3.0, 0.0, 0.0]]


@pytest.mark.parametrize("nothing", [{}, {"table": None}, {"table": {}}, {"table": {"age": " "}}])
def test_nothing_is_nothing(table: Service, nothing: dict) -> None:
    assert table.given(nothing) == (None, [])


# Draws.


def test_draws_are_those_of_the_model_with_that_seed(shapes: Service, mixed: Service) -> None:
    for service, raw in (
        (shapes, {"square": picture()}),
        (shapes, {}),
        (mixed, {"words": "red", "numbers": {"numbers[0]": 1, "numbers[1]": "-2"}}),
    ):
        answer = service.draw(raw, 6, 3)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            want = service.model.generate(answer.batch, 6, list(answer.draws))
        assert answer.draws.keys() == want.keys() == set(service.inputs) - set(raw)
        assert all(torch.equal(answer.draws[m], x) for m, x in want.items())


def test_an_answer_is_a_function_of_what_is_given_and_the_seed(table: Service) -> None:
    raw = {"table": {"age": "41.5"}}
    state = torch.random.get_rng_state()
    one, other = (table.draw(raw, 4, 7) for _ in range(2))
    assert torch.equal(one.draws["table"], other.draws["table"]) and one.rows == other.rows
    assert table.draw(raw, 4, 8).rows != one.rows
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_depends_on_a_hole(table: Service) -> None:
    """Whatever stands in cells that are not given."""
    answer = table.draw({"table": {"age": "41.5", "city": ""}}, 4, 7)
    x = torch.tensor([[41.5, 1.0, 2.0, 3.0, 19_000.0]])
    observed = torch.tensor([[True, False, False, False, False]])
    batch = Batch({"table": x}, {"table": observed})
    want, _ = table.model.sample(batch, 4, ["table"], 7)
    assert torch.equal(answer.draws["table"][..., 1:], want["table"][..., 1:])


def test_a_row_has_intervals_and_probabilities(table: Service) -> None:
    row = table.draw({"table": {"age": "41.5"}}, 4, 7).rows["table"]
    cells = {c.column: c for c in row.cells}
    low, value, high = (float(v) for v in (cells["children"].low, *_of(cells["children"])))
    assert low <= value <= high
    assert cells["city"].value in CITIES and 1 / 3 <= cells["city"].probability <= 1
    assert cells["visit"].low < cells["visit"].value < cells["visit"].high
    assert "90%" in row.text and "may not hold" in row.text


def _of(cell):
    return cell.value, cell.high


def test_the_intervals_of_a_run_that_was_evaluated_are_those_that_hold(folder: Path) -> None:
    service = Service.open(folder / "people")
    raw = {"table": {"age": "41.5"}}
    before = {c.column: c for c in service.draw(raw).rows["table"].cells}
    polymodal.evaluate_imputation(service.run, service.data, save=False)
    service.calibration = polymodal.imputation.calibrate(service.run, service.data)
    row = service.draw(raw).rows["table"]
    after = {c.column: c for c in row.cells}
    assert "may not hold" not in row.text
    factor = service.calibration.factor("entries", "table", "children").factors[2]
    assert factor != 1 and before["children"].high != after["children"].high


def test_classes_and_attributes_have_probabilities(mixed: Service) -> None:
    answer = mixed.draw({"numbers": {"numbers[0]": "0", "numbers[1]": "0"}}, 5)
    classes = answer.rows["kind"].cells
    assert [c.column for c in classes] == list(CITIES)
    assert sum(c.probability for c in classes) == pytest.approx(1)
    mean = answer.draws["attributes"].mean((0, 1)).tolist()
    for cell, share in zip(answer.rows["attributes"].cells, mean, strict=True):
        assert cell.value == ("yes" if share > 0.5 else "no")
        assert cell.probability == pytest.approx(max(share, 1 - share))
    assert answer.sure["words"].startswith(("1 of", "2 of", "3 of", "4 of", "5 of", "The 5"))


def test_a_sampler_says_how_it_went(mixed: Service) -> None:
    raw = {"words": "red", "numbers": {"numbers[0]": "0", "numbers[1]": "0"}}
    answer = mixed.draw(raw, 8, 2)
    q = mixed.model.posterior(mixed.model.readable(answer.batch))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        q.sample((8,))
    report = report_of(q)
    assert answer.sampler == sampler_text("HMC", report)
    assert f"acceptance {report.summary()['acceptance']:.3g}" in answer.sampler
    assert "R-hat" in answer.sampler or report.rhat is None
    assert answer.warning == report.warning()
    assert mixed.draw({"words": "red"}, 2).sampler == ""  # in closed form


def test_a_sampler_that_went_badly_is_told(mixed: Service, monkeypatch) -> None:
    report, sample = ParticleReport(items=1, ess=torch.ones(1)), mixed.model.sample
    monkeypatch.setattr(mixed.model, "sample", lambda *given: (sample(*given)[0], report))
    answer = mixed.draw({"words": "red"}, 2)
    assert answer.warning == report.warning() is not None
    assert f'<p class="warning">{report.warning()}</p>' in answer_html(mixed, answer)


def test_agreement_is_1_for_equal_draws_and_0_for_draws_of_nothing() -> None:
    torch.manual_seed(0)
    joint = torch.randn(2000, 5) * torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5])
    assert agreement(joint[:1].expand(8, 5), joint.var(0)) == 1
    assert agreement(joint[:1000], joint[1000:].var(0)) < 0.1
    half = agreement(joint[:1000] / 2**0.5, joint.var(0))
    assert half == pytest.approx(0.5, abs=0.06)
    assert texts_agree(["a", "b"]) == "The 2 draws all differ."


def test_more_that_is_given_agrees_more(shapes: Service) -> None:
    """The variance of draws given a picture is less than that of joint draws."""
    answer = shapes.draw({"square": picture()}, 8)
    assert answer.sure.keys() == {"circle"} and "agree by" in answer.sure["circle"]
    assert shapes.draw({}, 8).sure == {}


def test_everything_given_leaves_nothing_to_draw(shapes: Service) -> None:
    answer = shapes.draw({"square": picture(), "circle": picture()})
    assert answer.draws == {} and answer.given == ["square", "circle"]
    assert "leave something out" in answer_status(answer, 8, 0)
    with pytest.raises(ValueError, match="Nothing was drawn"):
        shapes.files(answer)


def test_the_download_is_what_generate_writes(shapes: Service, table: Service) -> None:
    answer = shapes.draw({"square": picture()}, 3)
    with zipfile.ZipFile(io.BytesIO(shapes.files(answer))) as archive:
        assert set(archive.namelist()) == {"generated.npz", "circle.png"}
        x = np.load(io.BytesIO(archive.read("generated.npz")))
        assert np.array_equal(x["circle"], answer.draws["circle"].numpy())
    answer = table.draw({"table": {"city": "Oslo"}}, 3)
    with zipfile.ZipFile(io.BytesIO(table.files(answer))) as archive:
        assert {"table.csv", "table.filled.csv"} < set(archive.namelist())
        lines = archive.read("table.filled.csv").decode().splitlines()
        assert lines[0] == "column,value,lower,upper,probability,given"
        assert lines[3] == "city,Oslo,,,,yes" and len(lines) == 6


# The latent and the test samples.


def test_only_the_last_answers_are_kept_for_download(tmp_path: Path) -> None:
    kept = [keep(tmp_path, bytes([k])) for k in range(KEPT + 3)]
    assert len(set(kept)) == KEPT + 3 and {path.name for path in kept} == {"generated.zip"}
    left = {path.read_bytes()[0] for path in tmp_path.rglob("*.zip")}
    assert left == set(range(3, KEPT + 3)) and len(list(tmp_path.iterdir())) == KEPT


def test_a_walk_moves_one_dimension_and_leaves_the_others(shapes: Service) -> None:
    raw = {"square": picture()}
    walk = shapes.walk(raw, 1, 5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        z = shapes.model.latents(shapes.given(raw)[0], 1)[0, 0]
    path = z.expand(len(walk.values), 2).clone()
    path[:, 1] = walk.values
    want = shapes.model.decode(path[:, None])["circle"][:, 0]
    torch.testing.assert_close(walk.x["circle"], want)
    assert torch.equal(walk.values, walk.values.sort().values)
    assert shapes.moved(1) == walk.text and walk.text.startswith("square 0.")


def test_test_samples_are_those_of_the_data(shapes: Service) -> None:
    sample = shapes.sample(4)
    batch = shapes.data.test.batch(torch.tensor([4]))
    assert torch.equal(sample.x["square"], batch.x["square"])
    assert sample.text == f"Test sample 4 of 18, class {int(batch.label[0])}."


def test_without_data_there_is_nothing_to_browse(folder: Path, tmp_path: Path) -> None:
    assert Service.open(folder / "people").missing == ""
    service = Service.open(folder / "shapes")  # trained on data that its settings do not name
    assert service.data is None and service.missing.startswith("Test samples cannot be read: ")
    with pytest.raises(ValueError, match="cannot be read"):
        service.sample(0)
    with pytest.raises(ValueError, match="There is no file"):
        Service.open(folder / "shapes", str(tmp_path / "no.npz"))
    other = np.full((20, 8, 8), 9, np.uint8)
    np.savez(tmp_path / "other.npz", square=other, circle=other)
    with pytest.raises(ValueError, match="The run's modalities are"):
        Service.open(folder / "shapes", str(tmp_path / "other.npz"))


# Mistakes.

BAD = [
    ({"squar": 1}, "There is no modality 'squar' in the run. Did you mean square?"),
    ({"square": np.zeros((4, 4))}, "must be a picture"),
    ({"square": np.zeros((4, 4, 2), np.uint8)}, "must be a picture"),
    ({"square": np.zeros((0, 4), np.uint8)}, "must be a picture"),
    ({"square": np.zeros((2500, 2500), np.uint8)}, "at most 5 MB"),
    ({"square": b"no picture"}, "cannot be read, since it is no picture"),
    ({"square": "no/such/file.png"}, "There is no file no/such/file.png."),
]
BAD_CELLS = [
    ({"agee": "3"}, "There is no column 'agee' of 'table'. Did you mean age?"),
    ({"age": "old"}, "'age' must be a number, got 'old'."),
    ({"age": "2024-01-05"}, "'age' must be a number, got '2024-01-05'."),
    ({"age": "inf"}, "'age' must be a number, got 'inf'."),
    ({"children": "-1"}, "'children' must be a whole number from 0, got '-1'."),
    ({"city": "Osl"}, "There is no category 'Osl' of 'city'. Did you mean Oslo?"),
    ({"visit": "yesterday"}, "'visit' must be a date such as 2024-06-26, got 'yesterday'."),
    ("Oslo", "'table' must be a mapping such as {column: value}, got 'Oslo'."),
]


@pytest.mark.parametrize(("raw", "sentence"), BAD)
def test_bad_pictures_are_told_in_one_sentence(shapes: Service, raw: dict, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        shapes.draw(raw)
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("row", "sentence"), BAD_CELLS)
def test_bad_cells_are_told_in_one_sentence(table: Service, row: dict, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        table.draw({"table": row})
    assert str(error.value) == sentence


def test_a_port_that_is_taken_is_named(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=rf"^Port {port} of 127\.0\.0\.1 is taken .*--port"):
            server.check_port("127.0.0.1", port)
        monkeypatch.setattr(server, "PORTS", range(port, port + 1))
        with pytest.raises(ValueError, match=rf"taken; name a free one, .*--port {port + 1}\.$"):
            server.check_port("127.0.0.1", None)
    server.check_port("127.0.0.1", port)
    server.check_port("127.0.0.1", None)
    with pytest.raises(ValueError, match=r"cannot listen on 203\.0\.113\.1 \(.*--port or --host"):
        server.check_port("203.0.113.1", 7860)


def test_other_mistakes(shapes: Service, mixed: Service, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"0" * int(MAX_MB * 1e6 + 1))
    for act, words in (
        (lambda: shapes.draw({"square": large}), "at most 5 MB"),
        (lambda: shapes.draw({}, 33), "At most 32 draws"),
        (lambda: shapes.draw({}, 0), "n must be a whole number of at least 1"),
        (lambda: shapes.draw({}, 1, -1), "seed"),
        (lambda: shapes.walk({}, 2), "dimensions 0 to 1, got 2"),
        (lambda: shapes.sample(18), "0 to 17, got 18"),
        (lambda: mixed.draw({"words": "red " * 5000}), "at most 10,000 letters"),
        (lambda: mixed.draw({"numbers": {"numbers[0]": "1"}}), "needs all 2 values"),
        (lambda: mixed.draw({"kind": {"kind": "Rome"}}), "There is no class 'Rome'"),
        (lambda: picture_of("data:image/png;base64,?"), "must be a PNG file"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            act()
        assert "\n" not in str(error.value)


# The page, as far as it is text; the command.


def test_the_page_shows_every_value(shapes: Service, table: Service, mixed: Service) -> None:
    page = answer_html(shapes, shapes.draw({"square": picture()}, 5))
    assert page.count("<img ") == 6 and page.count('src="data:image/png;base64,') == 6
    page = answer_html(table, table.draw({"table": {"age": "41.5"}}, 3))
    assert page.count('<tr class="given">') == 1 and "41.5" in page and "3 draws of the row" in page
    page = answer_html(mixed, mixed.draw({}, 3))
    assert page.count("<li>") == 3
    assert walk_html(shapes, shapes.walk({}, 0)).count("<img ") == 2 * 9
    assert sample_html(shapes, shapes.sample(0)).count("<img ") == 2


def test_words_of_a_user_are_no_code() -> None:
    page = error_html("<script>alert(1)</script> ${alert(1)} {{alert}}")
    assert "<script" not in page and "${" not in page and "{{" not in page


def test_neither_the_package_nor_the_command_imports_gradio() -> None:
    code = (
        "import sys, polymodal, polymodal.cli.main, polymodal.app.server;"
        " polymodal.cli.main.run(['--version']); print('gradio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_without_gradio_the_command_says_how_to_install_it(
    folder: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert cli.run(["app", str(folder / "shapes")]) == cli.USER_ERROR
    assert capsys.readouterr().err == f"{server.NEEDED}\n"
    assert "pip install 'polymodal[app]'" in server.NEEDED


def test_the_process_connects_to_no_other_machine() -> None:
    """But to itself: the address of documentation, RFC 5737, is refused before it is asked."""
    code = (
        "import socket\nfrom polymodal.app.server import stay_here\nstay_here()\n"
        "with socket.create_server(('127.0.0.1', 0)) as s:\n"
        "    socket.create_connection(s.getsockname()).close()\n"
        "for act in (lambda: socket.create_connection(('203.0.113.1', 9), 1),\n"
        "            lambda: socket.getaddrinfo('example.org', 80)):\n"
        "    try: act()\n    except PermissionError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"The app connects to no other machine, and {place} is one."
        for place in ("203.0.113.1", "example.org")
    ]
    assert socket.getaddrinfo("127.0.0.1", 80)


def test_a_picture_that_was_not_uploaded_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "mine.png").write_bytes(b"")
    (tmp_path / "private.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    mine = str(folder / "mine.png")
    assert uploaded(SimpleNamespace(path=mine), str(folder)) == mine
    assert uploaded(None, str(folder)) is None
    assert uploaded(SimpleNamespace(path=None), str(folder)) is None
    for path in (tmp_path / "private.png", folder / ".." / "private.png", folder / "link.png"):
        with pytest.raises(ValueError, match="takes no paths"):
            uploaded(SimpleNamespace(path=str(path)), str(folder))


def test_a_file_that_expands_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    m = Modality("x", (MOST_FIELDS + 1,))
    for rows, refused in ((100, False), (250_000, True)):
        np.savez_compressed(tmp_path / "x.npz", x=np.zeros((rows, *m.shape), np.float32))
        assert (tmp_path / "x.npz").stat().st_size < MAX_MB * 1e6
        if refused:
            with pytest.raises(ValueError, match=r"^x\.npz expands to 6\d MB, and at most 50 MB"):
                Input(m).read(tmp_path / "x.npz")
        else:
            assert Input(m).read(tmp_path / "x.npz").x.shape == (1, *m.shape)
