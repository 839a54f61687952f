"""Series: what is read of a table of steps, and that convolutions over time learn from it."""

import numpy as np
import pandas as pd
import pytest
import torch

import polymodal
from polymodal.batch import Modality
from polymodal.data import load_data
from polymodal.data.kinds import KINDS
from polymodal.networks.architectures import NETWORKS

N, L = 60, 20


def waves(folder, change=lambda table: table):
    """Sensors of people, in a table of steps and a table of people."""
    rng = np.random.default_rng(0)
    speed = rng.uniform(1, 3, N)
    time = np.arange(L) * 0.5
    x = np.stack([np.sin(speed[:, None] * time), rng.normal(size=(N, L))], 1).round(4)
    table = pd.DataFrame(
        {
            "who": np.repeat([f"p{k}" for k in range(N)], L),
            "second": np.tile(time, N),
            "x": x[:, 0].ravel(),
            "y": x[:, 1].ravel(),
        }
    ).sample(frac=1, random_state=0)
    change(table).to_csv(folder / "sensors.csv", index=False)
    pd.DataFrame({"who": [f"p{k}" for k in range(N)], "speed": speed}).to_csv(
        folder / "people.csv", index=False
    )
    (folder / "d.yaml").write_text(
        "data: {file: people.csv, key: who, modalities: {body: {columns: [speed]}, walk: {source:"
        " series, file: sensors.csv, time: second, columns: [x, y]}}}"
    )
    return x.astype(np.float32), speed


def read(folder):
    """All values of the series, by the speed of their people."""
    parts = load_data(folder / "d.yaml").parts.values()
    values = torch.cat([p.tables["walk"][p.rows_of("walk")] for p in parts])
    return values, torch.cat([p.tables["body"][p.rows_of("body")] for p in parts])[:, 0]


def test_steps_stand_in_order_whatever_the_order_of_the_rows(tmp_path) -> None:
    x, speed = waves(tmp_path)
    walk = load_data(tmp_path / "d.yaml").modalities[1]
    assert (walk.kind, walk.shape, walk.scale, walk.holes) == ("series", (2, L), None, False)
    values, speeds = read(tmp_path)
    order = [int(np.abs(speed - s).argmin()) for s in speeds.tolist()]
    torch.testing.assert_close(values, torch.from_numpy(x[order]))


def test_what_was_not_measured_is_a_hole(tmp_path) -> None:
    def remove(table):
        table.loc[(table["who"] == "p3") & (table["second"] == 1.0), "y"] = np.nan
        return table[~((table["who"] == "p4") & (table["second"] == 2.5))]

    waves(tmp_path, remove)
    values, _ = read(tmp_path)
    assert load_data(tmp_path / "d.yaml").modalities[1].holes or values.isnan().any()
    assert values.isnan().sum() == 3 and values[:, 1, 2].isnan().sum() == 1
    assert values[:, :, 5].isnan().sum() == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.assign(second=t["second"] + np.arange(len(t)) * 1e-3), "equal steps of time"),
        (lambda t: pd.concat([t, t.head(1)]), "twice at one time, in line 2 and line 1202; keep"),
        (
            lambda t: t.assign(second="soon"),
            "must hold numbers or dates, got 'soon'",
        ),
        (lambda t: t.assign(who=t["who"].where(t["who"] != "p1")), "no key or no time in line"),
        (lambda t: t.drop(columns="y"), "no column 'y'"),
    ],
)
def test_tables_that_are_no_series_are_told(tmp_path, change, sentence) -> None:
    waves(tmp_path, change)
    with pytest.raises(ValueError, match=f"(?s)^[^\n]*{sentence}[^\n]*$"):
        load_data(tmp_path / "d.yaml")


@pytest.mark.parametrize("length", [8, 9, 15, 16, 50])
def test_networks_give_and_read_any_length(length) -> None:
    network = NETWORKS["series-conv"]
    assert network.decoder(3, (2, length))(torch.randn(4, 3)).shape == (4, 2, length)
    assert network.encoder((2, length), 5)(torch.randn(4, 2, length)).shape == (4, 5)
    assert not network.fits((2, 7)) and not network.fits((16,))
    assert KINDS["series"].network(Modality("x", (2, 7), kind="series")) == "mlp"


def test_waves_are_generated_from_their_speed(tmp_path) -> None:
    """The error is below half of that of the mean wave."""
    rng = np.random.default_rng(0)
    speed = rng.uniform(1, 2, size=(400, 1))
    wave = np.sin(speed * np.linspace(0, 4, 30))[:, None] + 0.05 * rng.normal(size=(400, 1, 30))
    data = load_data({"wave": wave, "speed": speed}, modalities={"wave": {"kind": "series"}})
    assert data.modalities[0].shape == (1, 30)
    torch.manual_seed(0)
    options = {"latent": 2, "batch": 32, "lr": 3e-3, "progress": False}
    run = polymodal.fit("mvtcae", data, epochs=12, **options)
    given = data.test.batch(torch.arange(len(data.test)))
    made = run.model.generate(given.only(["speed"]), n=20)["wave"].mean(0)
    truth = given.x["wave"]
    error = (made - truth).square().mean() / (truth - truth.mean(0)).square().mean()
    assert error < 0.25
