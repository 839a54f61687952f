"""Combined gradients of modalities: the law of each rule, on gradients whose result is known."""

import pytest
import torch
from torch import distributed

from polymodal.analysis.gathering import gathered
from polymodal.methods.gradients import RULES, cagrad, combined, gradnorm, rule_of
from polymodal.objectives import mmd


def test_copies_add_up_without_conflict_and_backward_reaches_the_rule() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    seen = []

    def rule(grads: list[torch.Tensor]) -> torch.Tensor:
        seen.append([g.clone() for g in grads])
        return sum(grads)

    a, b = combined(z, 2, rule)
    (a.square().sum() + 3 * b.sum()).backward()
    torch.testing.assert_close(z.grad, 2 * z.detach() + 3)
    torch.testing.assert_close(seen[0][0], 2 * z.detach())


@pytest.mark.parametrize("name", RULES)
def test_rules_keep_a_common_direction_and_the_sums_norm(name: str) -> None:
    torch.manual_seed(0)
    g = torch.randn(5, 2, dtype=torch.float64)
    made = rule_of(name)([g, g, g])
    torch.testing.assert_close(made, 3 * g, rtol=1e-3, atol=1e-3)
    grads = [torch.randn(5, 2, dtype=torch.float64) for _ in range(3)]
    made = rule_of(name)(grads)
    torch.testing.assert_close(made.norm(), sum(grads).norm())


@pytest.mark.parametrize("name", ["pcgrad", "mgda", "imtl_g", "cagrad"])
def test_two_tasks_in_conflict_both_gain(name: str) -> None:
    """g1 = (10, 0), g2 = (-1, 1): their sum lowers no loss of the second task; the rules'
    directions do not harm it.
    """
    g1, g2 = torch.tensor([[10.0, 0.0]]), torch.tensor([[-1.0, 1.0]])
    assert (g1 + g2).flatten() @ g2.flatten() < 0
    made = rule_of(name)([g1, g2]).flatten()
    assert made @ g2.flatten() > (g1 + g2).flatten() @ g2.flatten() + 1
    if name != "cagrad":  # which stays within a ball round the mean gradient
        assert made @ g2.flatten() > -1e-5 and made @ g1.flatten() > -1e-5


def test_mgda_is_the_shortest_vector_of_the_hull() -> None:
    g1, g2 = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    made = RULES["mgda"](torch.stack([g1, g2]))
    w = float(g2 @ (g2 - g1) / (g1 - g2).square().sum())
    torch.testing.assert_close(made, w * g1 + (1 - w) * g2, atol=1e-2, rtol=1e-2)


def test_cagrad_solves_its_problem() -> None:
    """No direction within the ball gives the worst task a larger gain."""
    torch.manual_seed(1)
    jacobian = torch.randn(3, 2, dtype=torch.float64)
    mean, c = jacobian.mean(0), 0.5
    made = cagrad(jacobian, c)
    assert (made - mean).norm() <= c * mean.norm() * 1.001
    angle = torch.linspace(0, 6.2832, 20_000, dtype=torch.float64)
    circle = mean + c * mean.norm() * torch.stack([angle.cos(), angle.sin()], -1)
    best = (circle @ jacobian.T).amin(-1).max()
    torch.testing.assert_close((jacobian @ made).min(), best, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1e4])
@pytest.mark.parametrize("name", ["mgda", "imtl_g", "cagrad", "gradnorm"])
def test_the_direction_does_not_depend_on_the_size_of_the_gradients(name: str, size: float) -> None:
    """Losses are means over a batch, of one value or of thousands."""
    jacobian = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made, scaled = RULES[name](jacobian), RULES[name](size * jacobian) / size
    torch.testing.assert_close(scaled, made, rtol=1e-3, atol=1e-3)


def test_gradnorm_gives_every_task_the_same_length() -> None:
    g = torch.tensor([[30.0, 0.0], [0.0, 0.1]])
    torch.testing.assert_close(gradnorm(g), torch.tensor([15.05, 15.05]))


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="no rule 'pc'"):
        rule_of("pc")


def _half(rank: int, where: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{where}/rendezvous", rank=rank, world_size=2
    )
    rows, out = slice(4 * rank, 4 * rank + 4), {}
    for name in ("cagrad", "gradnorm"):
        out[name] = rule_of(name)([g[rows] for g in gradients()])
    z = samples()[0][rows].requires_grad_()
    value = mmd(gathered(z), gathered(samples()[1][rows]))
    (gradient,) = torch.autograd.grad(value, z)
    out["mmd"] = value.detach(), gradient / 2  # as data parallelism averages
    torch.save(out, f"{where}/{rank}.pt")
    distributed.destroy_process_group()


def gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(3)]


def samples() -> torch.Tensor:
    return torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_rules_and_the_discrepancy_of_two_processes_are_those_of_one(tmp_path) -> None:
    """Neither is a mean over samples: the halves of a batch by themselves would give others."""
    torch.multiprocessing.spawn(_half, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name in ("cagrad", "gradnorm"):
        whole, halves = rule_of(name)(gradients()), torch.cat([part[name] for part in parts])
        torch.testing.assert_close(halves, whole, atol=1e-7, rtol=0)
        assert (rule_of(name)([g[:4] for g in gradients()]) - whole[:4]).abs().max() > 0.01
    z = samples()[0].requires_grad_()
    value = mmd(z, samples()[1])
    (gradient,) = torch.autograd.grad(value, z)
    for part in parts:
        torch.testing.assert_close(part["mmd"][0], value.detach())
    torch.testing.assert_close(torch.cat([part["mmd"][1] for part in parts]), gradient)
