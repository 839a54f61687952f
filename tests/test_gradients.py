"""Combined gradients of modalities: the law of each rule, on gradients whose result is known."""

import pytest
import torch

from polymodal.methods.gradients import RULES, cagrad, combined, gradnorm, rule_of


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


def test_gradnorm_gives_every_task_the_same_length() -> None:
    g = torch.tensor([[30.0, 0.0], [0.0, 0.1]])
    torch.testing.assert_close(gradnorm(g), torch.tensor([15.05, 15.05]))


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="no rule 'pc'"):
        rule_of("pc")
