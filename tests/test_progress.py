"""What training shows: one line that a person can read."""

import io
import math

import pytest
import torch
from rich.console import Console

from polymodal.batch import Modality
from polymodal.data import Dataset
from polymodal.training import progress
from polymodal.training.epoch_line import Scale, epoch_line, scales_of
from polymodal.training.fit import fit
from polymodal.training.progress import Reporter
from toys import toy, toy_data

QUICK = {"device": "cpu", "batch": 32, "epochs": 2}


def log_p(x: torch.Tensor, mean: torch.Tensor, scale: float) -> float:
    """Mean over samples (N, D) of the normal log-density."""
    return float(torch.distributions.Normal(mean, scale).log_prob(x).sum(1).mean())


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_explained_share_is_that_of_the_squared_errors(scale) -> None:
    torch.manual_seed(0)
    x = torch.randn(800, 5) * 2 + 1
    data = Dataset([Modality("a", (5,), scale=scale)], {"a": x})
    fitted = scales_of(data)["a"]
    whole = fitted.explained(log_p(x, x, scale))
    nothing = fitted.explained(log_p(x, x.mean(0), scale))
    half = fitted.explained(log_p(x, x.mean(0) + (x - x.mean(0)) * (1 - math.sqrt(0.5)), scale))
    assert whole == pytest.approx(1, abs=1e-4)
    assert nothing == pytest.approx(0, abs=2e-3)
    assert half == pytest.approx(0.5, abs=2e-3)


def test_nats_are_those_of_values_that_were_observed() -> None:
    x = torch.randint(0, 2, (400, 6)).float()
    x[:, 0] = float("nan")
    present = torch.arange(400) % 4 != 0
    data = Dataset([Modality("a", (6,), "bernoulli")], {"a": x}, present={"a": present})
    scale = scales_of(data)["a"]
    assert scale == Scale(pytest.approx(0.75 * 5))  # of 6 entries, in 3 of 4 samples
    line = epoch_line({"train_loss": 1.0, "train_log_p_a": -0.5 * 0.75 * 5}, {"a": scale})
    assert line == "a -0.5 nats per value; loss 1"


def test_the_line_prefers_validation_and_leaves_long_lists_to_the_log() -> None:
    logs = {f"m{k}": -4.0 for k in range(8)}
    row = {f"{part}_log_p_{m}": v for part in ("train", "val") for m, v in logs.items()}
    row |= {"train_loss": 1234.5, "val_loss": 30.0, "val_kl": 2.0, "lr": 1e-3}
    line = epoch_line(row, {m: Scale(8) for m in logs})
    names = ", ".join(f"m{k} -0.5" for k in range(4))
    assert line == (f"{names} (4 more in log.csv) nats per value; kl 2; loss 30 (training 1234)")


def test_a_loss_of_one_term_is_said_once() -> None:
    row = {"train_loss": -2.0, "train_correlation": 2.0, "val_loss": -1.5, "val_correlation": 1.5}
    assert epoch_line(row, {}) == "correlation 1.5 (training 2)"
    row = {"train_loss": 3.0, "train_kl": 2.0}
    assert epoch_line(row, {}) == "kl 2; loss 3"


def test_a_stage_that_may_stop_early_says_at_most() -> None:
    text = io.StringIO()
    reporter = Reporter(console=Console(file=text, width=200))
    reporter.stage("all", 10, 0, {}, stops_early=True)
    reporter.epoch({"epoch": 1, "step": 1, "seconds": 0.0, "train_loss": 1.0}, 10, False)
    assert text.getvalue() == "all epoch 1/10, at most 0 s left: loss 1\n"


def test_a_long_stage_is_no_flood(monkeypatch) -> None:
    """1,000 epochs of 30 s each: about 20 lines, and the last one."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = io.StringIO()
    reporter = Reporter(console=Console(file=text, width=200))
    reporter.stage("joint", 1000, 0, {})
    for epoch in range(1, 1001):
        now[0] += 30
        row = {"epoch": epoch, "step": epoch, "seconds": now[0], "train_loss": 1.0}
        reporter.epoch(row, 1000, epoch == 1000)
    lines = text.getvalue().splitlines()
    assert 15 <= len(lines) <= 22
    assert lines[0] == "joint epoch 1/1000, 8 h 19 min left: loss 1"
    assert lines[-1] == "joint epoch 1000/1000, took 8 h 20 min: loss 1"


def test_progress_is_plain_lines_and_can_be_silenced(capsys) -> None:
    fit(toy(), toy_data(), **QUICK)
    lines = capsys.readouterr().err.splitlines()
    starts = ["joint epoch 1/2, 0 s left: a ", "joint epoch 2/2, took 0 s: a ", "surrogates epoch"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts
    assert " % explained; kl " in lines[1] and "(training " in lines[1]
    fit(toy(), toy_data(), progress=False, **QUICK)
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_terminal_is_one_line_for_each_stage() -> None:
    text = io.StringIO()
    with Reporter(console=Console(file=text, force_terminal=True, width=100)) as reporter:
        reporter.stage("joint", 10, 0, {"a": Scale(10)})
        reporter.step(5)
        row = {"epoch": 1, "step": 10, "seconds": 1.0, "train_loss": 3.25, "train_log_p_a": -5.0}
        reporter.epoch(row, 1, True)
    assert "joint 1/1" in text.getvalue()
    assert "1 s a -0.5 nats per value; loss 3.25" in text.getvalue()
