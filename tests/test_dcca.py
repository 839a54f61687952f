"""Canonical correlation: closed forms on data whose sample correlations are known exactly."""

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import block_diag, eigh
from torch import distributed, nn

from polymodal.analysis.cca import choose_dim, linear_cca, multiset_cca, noise_floor
from polymodal.analysis.dcca import contrastive, correlation, correlations, total_correlation
from polymodal.analysis.projection import Projection, fit_projections

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def paired(rho, n=200, d_a=None, d_b=None, mix=True, seed=0):
    """a (n, d_a) and b (n, d_b) whose sample canonical correlations are exactly `rho` and zeros,
    means not zero.
    """
    k, d_a, d_b = len(rho), d_a or len(rho), d_b or len(rho)
    columns = torch.cat([torch.ones(n, 1, dtype=F64), normal(n, d_a + d_b, seed=seed)], 1)
    q = torch.linalg.qr(columns).Q[:, 1:] * math.sqrt(n - 1)  # sample mean 0, sample covariance I
    rho = torch.tensor(rho, dtype=F64)
    a, b = q[:, :d_a], q[:, d_a:].clone()
    b[:, :k] = rho * a[:, :k] + (1 - rho**2).sqrt() * b[:, :k]
    if mix:
        a, b = a @ normal(d_a, d_a, seed=seed + 1) + 3, b @ normal(d_b, d_b, seed=seed + 2) - 2
    return a, b


# --------------------------------------------------------------------------- correlation of two


@pytest.mark.parametrize(("d_a", "d_b"), [(3, 3), (5, 3), (4, 6)])
def test_correlations_are_the_known_ones_whatever_the_linear_map(d_a, d_b):
    a, b = paired([0.9, 0.6, 0.3], d_a=d_a, d_b=d_b)
    expected = torch.tensor([0.9, 0.6, 0.3] + [0.0] * (min(d_a, d_b) - 3), dtype=F64)
    torch.testing.assert_close(correlations(a, b, ridge=0.0), expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(correlation(a, b, ridge=0.0), expected.sum(), atol=1e-7, rtol=0)
    torch.testing.assert_close(correlation(a, b, ridge=0.0, top=2).item(), 1.5, atol=1e-9, rtol=0)
    again = correlation(a @ normal(d_a, d_a, seed=7) + 5, b @ normal(d_b, d_b, seed=8), ridge=0.0)
    torch.testing.assert_close(again, expected.sum(), atol=1e-7, rtol=0)


def test_correlations_equal_the_textbook_formula_with_a_ridge():
    a, b = normal(60, 4), normal(60, 3, seed=1)
    b[:, 0] += a[:, 1]
    both = torch.cov(torch.cat([a, b], 1).T)

    def inverse_root(s):
        ridge = 0.05 * s.diagonal().mean()
        values, vectors = torch.linalg.eigh(s + ridge * torch.eye(len(s), dtype=F64))
        return vectors / values.sqrt() @ vectors.T

    t = inverse_root(both[:4, :4]) @ both[:4, 4:] @ inverse_root(both[4:, 4:])
    torch.testing.assert_close(
        correlations(a, b, ridge=0.05), torch.linalg.svdvals(t), atol=1e-12, rtol=0
    )
    scaled = correlations(1e-4 * a, 300 * b, ridge=0.05)
    torch.testing.assert_close(scaled, torch.linalg.svdvals(t), atol=1e-12, rtol=0)
    nothing = correlations(torch.zeros(60, 4), b, ridge=0.05)
    assert (nothing == 0).all()


def test_sample_correlations_converge_to_the_population_ones():
    rho = torch.tensor([0.8, 0.4], dtype=F64)
    a, e = normal(50_000, 2), normal(50_000, 2, seed=1)
    b = rho * a + (1 - rho**2).sqrt() * e
    torch.testing.assert_close(correlations(a, b @ normal(2, 2, seed=2)), rho, atol=0.015, rtol=0)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
def test_ridge_shrinks_white_embeddings_by_one_plus_ridge(ridge):
    a, b = paired([0.9, 0.5], mix=False)
    expected = torch.tensor([0.9, 0.5], dtype=F64) / (1 + ridge)
    torch.testing.assert_close(correlations(a, b, ridge), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("top", [None, 2])
def test_correlation_passes_gradcheck(top):
    a, b = normal(12, 4).requires_grad_(), normal(12, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b, 1e-2, top), (a, b), atol=1e-7)
    assert torch.autograd.gradcheck(lambda a, b: correlations(a, b, 0.0), (a, b), atol=1e-7)


def test_gradient_is_right_at_repeated_and_finite_at_vanishing_correlations():
    a, b = (h.requires_grad_() for h in paired([0.5, 0.5, 0.5], n=20))
    assert torch.autograd.gradcheck(lambda a, b: correlation(a, b, 0.0), (a, b), atol=1e-6)
    t = torch.diag(torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=F64)).requires_grad_()
    u, _, vh = torch.linalg.svd(t)
    assert (
        torch.autograd.grad((u @ vh * t).sum(), t)[0].isnan().any()
    )  # the same norm, written with U and V
    a, b = (h.requires_grad_() for h in paired([0.5, 0.5, 0.0, 0.0]))
    grads = torch.autograd.grad(correlation(a, b, 0.0), (a, b))
    assert all(g.isfinite().all() and g.norm() > 1e-3 for g in grads)
    dead = torch.zeros(50, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.grad(correlation(dead, normal(50, 3)), dead)[0].isfinite().all()


def test_float32_is_computed_in_float64():
    spread = torch.tensor([1.0, 1e-2, 1e-4], dtype=F64)
    rotate = torch.linalg.qr(normal(3, 3)).Q
    a, b = (((h * spread) @ rotate).float() for h in paired([0.9, 0.6, 0.3], mix=False))
    exact = correlation(a.double(), b.double(), ridge=0.0)
    value = correlation(a, b, ridge=0.0)
    assert value.dtype == torch.float32
    assert abs(value.item() - exact.item()) < 1e-6
    assert abs(exact.item() - 1.8) < 0.01  # what rounding the data alone cost
    x, y = a - a.mean(0), b - b.mean(0)
    roots = [torch.linalg.cholesky_ex(h.T @ h / 199).L for h in (x, y)]
    t = torch.linalg.solve_triangular(roots[0], x.T @ y / 199, upper=False)
    t = torch.linalg.solve_triangular(roots[1], t.T, upper=False)
    assert (
        not abs(t.nan_to_num(9.0, 9.0, 9.0).svd().S.sum().item() - 1.8) < 0.1
    )  # float32 whitening fails here


def test_half_precision_and_autocast_lose_only_what_the_embeddings_lost():
    a, b = (h.bfloat16() for h in paired([0.9, 0.6]))
    exact = correlation(a.double(), b.double()).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(correlation(a, b).item() - exact) < 1e-6


def test_gradient_ascent_on_linear_maps_reaches_the_closed_form():
    a, b = paired([0.9, 0.7, 0.4, 0.2], n=300)
    maps = [normal(4, 2, seed=s).requires_grad_() for s in (5, 6)]
    optimiser = torch.optim.LBFGS(
        maps, max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = -total_correlation({"a": a @ maps[0], "b": b @ maps[1]}, ridge=0.0)
        loss.backward()
        return loss

    optimiser.step(closure)
    best = linear_cca(a, b, ridge=0.0).correlations[:2].sum()
    torch.testing.assert_close(-closure().detach(), best, atol=1e-6, rtol=0)


# --------------------------------------------------------------------------- any number, some
# absent


def trio(n=80):
    shared = normal(n, 2)
    return {
        m: torch.cat([shared + normal(n, 2, seed=s), normal(n, 1, seed=s + 10)], 1)
        for s, m in enumerate("abc", 1)
    }


def test_total_correlation_is_the_sum_over_pairs_in_any_order():
    h = trio()
    expected = sum(correlation(h[i], h[j], 1e-2) for i, j in combinations("abc", 2))
    torch.testing.assert_close(total_correlation(h, ridge=1e-2), expected, atol=1e-12, rtol=0)
    back = {m: h[m] for m in "cab"}
    torch.testing.assert_close(total_correlation(back, ridge=1e-2), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("objective", [total_correlation, contrastive])
def test_absent_values_move_nothing(objective):
    h = {m: x.requires_grad_() for m, x in trio().items()}
    present = {"a": torch.arange(80) % 3 != 0, "c": torch.arange(80) < 60}
    value = objective(h, present)
    grads = torch.autograd.grad(value.sum(), list(h.values()))
    holes = {m: x.detach().clone() for m, x in h.items()}
    holes["a"][~present["a"]], holes["c"][~present["c"]] = torch.nan, 1e9
    holes = {m: x.requires_grad_() for m, x in holes.items()}
    again = objective(holes, present)
    torch.testing.assert_close(again, value, atol=0, rtol=0)
    for m, x, y in zip(
        "abc", grads, torch.autograd.grad(again.sum(), list(holes.values())), strict=True
    ):
        torch.testing.assert_close(x, y, atol=0, rtol=0)
        if m in present:
            assert (y[~present[m]] == 0).all()
    assert (objective(h) - value).abs().sum() > 1e-3  # and the masks do matter


def test_each_pair_uses_the_rows_where_both_are_present():
    h, present = trio(), {"a": torch.arange(80) >= 20, "c": torch.arange(80) < 60}
    rows = {"ab": slice(20, 80), "ac": slice(20, 60), "bc": slice(0, 60)}
    expected = sum(correlation(h[i][r], h[j][r]) for (i, j), r in rows.items())
    torch.testing.assert_close(total_correlation(h, present), expected, atol=1e-12, rtol=0)


def test_a_pair_with_too_few_rows_counts_nothing_and_no_pair_is_an_error():
    h = trio()
    few = {"c": torch.arange(80) < 6}  # 6 rows, 3 + 3 dimensions
    torch.testing.assert_close(
        total_correlation(h, few), correlation(h["a"], h["b"]), atol=1e-12, rtol=0
    )
    one_more = total_correlation(h, {"c": torch.arange(80) < 7})
    assert one_more > correlation(h["a"], h["b"]) + 1
    with pytest.raises(ValueError, match="6 rows in common and 6 dimensions"):
        total_correlation({m: x[:6] for m, x in h.items()})


# --------------------------------------------------------------------------- contrastive


@pytest.mark.parametrize(("modalities", "pairs"), [("ab", 1), ("abc", 3)])
def test_contrastive_is_log_b_where_embeddings_say_nothing(modalities, pairs):
    h = {m: torch.full((7, 4), 0.3, dtype=F64) for m in modalities}
    torch.testing.assert_close(
        contrastive(h), torch.full((7,), pairs * math.log(7), dtype=F64), atol=1e-12, rtol=0
    )


def test_contrastive_is_symmetric_cross_entropy_over_cosines():
    a, b = normal(9, 4), normal(9, 4, seed=1)
    logits = torch.cosine_similarity(a[:, None], b[None], dim=-1) / 0.3
    truth = torch.arange(9)
    expected = [F.cross_entropy(x, truth, reduction="none") for x in (logits, logits.T)]
    torch.testing.assert_close(
        contrastive({"a": a, "b": b}, temperature=0.3), sum(expected) / 2, atol=1e-12, rtol=0
    )


def test_contrastive_is_bounded_by_the_mutual_information():
    classes, each = (
        5,
        8,
    )  # one-hot classes as embeddings: I = log 5, and the bound log B - I is reached as t -> 0
    h = torch.eye(classes, dtype=F64).repeat(each, 1)
    excess = [
        contrastive({"a": h, "b": h}, temperature=t) - math.log(classes * each / classes)
        for t in (0.01, 1.0)
    ]
    torch.testing.assert_close(excess[0], torch.zeros(40, dtype=F64), atol=1e-9, rtol=0)
    assert (excess[1] > 0.1).all()


def test_contrastive_looks_for_candidates_among_present_rows_alone():
    h, present = trio(), {"a": torch.arange(80) >= 20, "c": torch.arange(80) < 60}
    rows = {"ab": slice(20, 80), "ac": slice(20, 60), "bc": slice(0, 60)}
    expected = torch.zeros(80, dtype=F64)
    for (i, j), r in rows.items():
        expected[r] += contrastive({i: h[i][r], j: h[j][r]})
    torch.testing.assert_close(contrastive(h, present), expected, atol=1e-12, rtol=0)
    nothing = contrastive({"a": h["a"], "b": h["b"]}, {"a": torch.zeros(80, dtype=torch.bool)})
    assert (nothing == 0).all()


# --------------------------------------------------------------------------- several processes


def linear() -> nn.Linear:
    net = nn.Linear(3, 3, dtype=F64)
    nn.init.eye_(net.weight)
    nn.init.constant_(net.bias, 0.1)
    return net


def _half(rank: int, where: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{where}/rendezvous", rank=rank, world_size=2
    )
    rows = slice(40 * rank, 40 * rank + 40)
    out = {}
    for objective in (total_correlation, contrastive):
        net = linear()
        present = {"a": (torch.arange(80) % 3 != 0)[rows]} if rank == 0 else {}
        value = objective({m: net(x[rows]) for m, x in trio().items()}, present).mean()
        value.backward()
        for grad in (net.weight.grad, net.bias.grad):
            distributed.all_reduce(grad)
        out[objective.__name__] = (
            value.detach(),
            net.weight.grad / 2,
            net.bias.grad / 2,
        )  # as data parallelism averages
    torch.save(out, f"{where}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_value_and_gradient_of_one(tmp_path):
    torch.multiprocessing.spawn(_half, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    present = {"a": (torch.arange(80) % 3 != 0) | (torch.arange(80) >= 40)}
    for objective in (total_correlation, contrastive):
        net = linear()
        value = objective({m: net(x) for m, x in trio().items()}, present).mean()
        value.backward()
        (u, *grads), (v, *_) = (part[objective.__name__] for part in parts)
        torch.testing.assert_close((u + v) / 2, value.detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(grads, [net.weight.grad, net.bias.grad], atol=1e-12, rtol=0)


# --------------------------------------------------------------------------- closed forms


def assert_same_up_to_sign(x, y, atol):
    torch.testing.assert_close(x * (x * y).sum(0).sign(), y, atol=atol, rtol=0)


@pytest.mark.parametrize(("d_a", "d_b"), [(3, 3), (5, 3), (4, 6)])
def test_linear_cca_variates_are_white_and_paired(d_a, d_b):
    a, b = paired([0.9, 0.6, 0.3], d_a=d_a, d_b=d_b)
    found, k = linear_cca(a, b, ridge=0.0), min(d_a, d_b)
    torch.testing.assert_close(
        found.correlations, correlations(a, b, ridge=0.0), atol=1e-12, rtol=0
    )
    variates = torch.cat([(a - found.mean_a) @ found.A, (b - found.mean_b) @ found.B], 1)
    between = torch.diag(found.correlations)
    expected = torch.cat(
        [torch.cat([torch.eye(k), between], 1), torch.cat([between, torch.eye(k)], 1)]
    ).to(F64)
    torch.testing.assert_close(torch.cov(variates.T), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(variates.mean(0), torch.zeros(2 * k, dtype=F64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(("d_a", "d_b"), [(3, 3), (5, 3)])
def test_multiset_cca_of_two_is_linear_cca(d_a, d_b, ridge):
    a, b = paired([0.9, 0.6, 0.3], d_a=d_a, d_b=d_b)
    one, many = linear_cca(a, b, ridge), multiset_cca({"a": a, "b": b}, ridge=ridge)
    torch.testing.assert_close(many.correlations, one.correlations, atol=1e-10, rtol=0)
    ours = torch.cat([many.matrices["a"], many.matrices["b"]])
    assert_same_up_to_sign(ours, torch.cat([one.A, one.B]), atol=1e-9)
    torch.testing.assert_close(many.means, {"a": one.mean_a, "b": one.mean_b}, atol=1e-12, rtol=0)


def test_multiset_cca_solves_the_generalised_eigenproblem_and_stays_white():
    h, dims = trio(), {"a": 3, "b": 3, "c": 2}
    h["c"] = h["c"][:, :2]
    found = multiset_cca(h, ridge=0.0)
    whole = torch.cov(torch.cat(list(h.values()), 1).T).numpy()
    at = [slice(0, 3), slice(3, 6), slice(6, 8)]
    _, vectors = eigh(whole, block_diag(*(whole[s, s] for s in at)))
    leading = torch.tensor(vectors[:, ::-1].copy())
    for s, m in zip(at, dims, strict=True):
        covariance = torch.cov(h[m].T)
        torch.testing.assert_close(
            found.matrices[m].T @ covariance @ found.matrices[m],
            torch.eye(2, dtype=F64),
            atol=1e-10,
            rtol=0,
        )
        first = leading[s, :1] / (leading[s, :1].T @ covariance @ leading[s, :1]).sqrt()
        assert_same_up_to_sign(found.matrices[m][:, :1], first, atol=1e-9)
    variates = torch.stack([(h[m] - found.means[m]) @ found.matrices[m] for m in dims], 1)
    for k in range(2):
        r = torch.corrcoef(variates[:, :, k].T)
        mean = (r[0, 1] + r[0, 2] + r[1, 2]) / 3
        torch.testing.assert_close(found.correlations[k], mean, atol=1e-10, rtol=0)


def test_multiset_cca_permutes_with_its_modalities_and_ignores_absent_values():
    h, present = trio(), {"a": torch.arange(80) % 3 != 0, "c": torch.arange(80) < 60}
    found = multiset_cca(h, present)
    h["a"][~present["a"]] = torch.nan
    again = multiset_cca({m: h[m] for m in "cba"}, present)
    torch.testing.assert_close(again.correlations, found.correlations, atol=1e-10, rtol=0)
    stack = [torch.cat([each.matrices[m] for m in "abc"]) for each in (again, found)]
    assert_same_up_to_sign(*stack, atol=1e-9)
    torch.testing.assert_close(found.means["c"], h["c"][:60].mean(0), atol=1e-12, rtol=0)
    s, matrix = torch.cov(h["c"][:60].T), found.matrices["c"]
    white = matrix.T @ (s + 1e-6 * s.diagonal().mean() * torch.eye(3, dtype=F64)) @ matrix
    torch.testing.assert_close(white, torch.eye(3, dtype=F64), atol=1e-10, rtol=0)


# --------------------------------------------------------------------------- choosing, projecting


@pytest.mark.parametrize(("n", "d_a", "d_b"), [(400, 8, 5), (2000, 16, 16), (400, 1, 1)])
def test_noise_floor_holds_independent_samples_and_little_else(n, d_a, d_b):
    tops = torch.stack(
        [
            correlations(normal(n, d_a, seed=2 * s), normal(n, d_b, seed=2 * s + 1), 0.0)[0]
            for s in range(100)
        ]
    )
    assert (tops > noise_floor(n, d_a, d_b)).sum() <= 3
    assert noise_floor(n, d_a, d_b) < (4 if d_a == 1 else 1.5) * tops.mean()


NINE_OF_SIXTEEN = [
    0.89,
    0.88,
    0.87,
    0.86,
    0.84,
    0.82,
    0.8,
    0.77,
    0.74,
    0.08,
    0.05,
    0.04,
    0.03,
    0.02,
    0.01,
    -0.01,
]


@pytest.mark.parametrize(
    ("spectrum", "floor", "expected"),
    [
        (
            NINE_OF_SIXTEEN,
            0.03,
            9,
        ),
        (
            NINE_OF_SIXTEEN,
            0.0,
            9,
        ),
        ([0.9] * 16, 0.03, 16),  # flat and high: all
        ([0.02] * 16, 0.03, 1),  # all noise: one
        ([0.9], 0.03, 1),
        ([0.01], 0.03, 1),
        ([0.95, 0.5, 0.45, 0.4, 0.35], 0.03, 5),  # a large first gap, but what follows is no noise
        ([0.95, 0.04, 0.02, 0.03, 0.01], 0.03, 1),
        (
            [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.02, 0.01],
            0.03,
            8,
        ),  # smooth: down to the floor
        ([0.9, 0.85, 0.04, 0.8, 0.78, 0.02, 0.0], 0.03, 5),  # a hole in the plateau
        (
            [0.95, 0.35, 0.08, 0.02],
            0.03,
            2,
        ),  # not the largest drop, but the one that reaches the noise
    ],
)
def test_choose_dim(spectrum, floor, expected):
    assert choose_dim(torch.tensor(spectrum), floor) == expected


def test_projection_is_the_identity_until_set_and_then_keeps_the_leading_columns():
    projection, h, mean, matrix = (
        Projection(3).double(),
        normal(2, 5, 3),
        normal(3, seed=1),
        normal(3, 3, seed=2),
    )
    torch.testing.assert_close(projection(h), h, atol=0, rtol=0)
    projection.set_(mean, matrix, 2)
    expected = torch.cat([(h - mean) @ matrix[:, :2], torch.zeros(2, 5, 1, dtype=F64)], -1)
    torch.testing.assert_close(projection(h), expected, atol=1e-14, rtol=0)
    again = Projection(3).double()
    again.load_state_dict(projection.state_dict())
    torch.testing.assert_close(again(h), expected, atol=1e-14, rtol=0)
    assert int(again.kept) == 2 and not list(projection.parameters())
    with pytest.raises(ValueError, match=r"kept in 1 \.\. 3"):
        projection.set_(mean * 0, matrix, 4)
    torch.testing.assert_close(projection(h), expected, atol=1e-14, rtol=0)


def classes(modalities="ab", n=4000, d=16, seed=0):
    """Ten classes, whose nine contrasts are all that the modalities share, behind random maps to d
    dimensions.
    """
    label = torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))
    out = {}
    for s, m in enumerate(modalities, 1):
        centres, mix = normal(10, d, seed=s), normal(d, d, seed=s + 50)
        out[m] = (centres[label] + 0.4 * normal(n, d, seed=100 * s + seed)) @ mix
    return out


@pytest.mark.parametrize("modalities", ["ab", "abc"])
@pytest.mark.parametrize("held", [True, False])
def test_ten_classes_leave_nine_directions(modalities, held):
    h, other = classes(modalities), classes(modalities, seed=1)
    projections, spectrum, kept = fit_projections(h, held_out=other if held else None)
    assert kept == 9 and spectrum.shape == (16,)
    assert spectrum[8] > 0.5 and spectrum[9] < (0.1 if held else 0.2)
    projection = Projection(16).double()
    projection.set_(*projections["a"], kept)
    out = projection(h["a"])
    torch.testing.assert_close(
        torch.cov(out.T), torch.diag((torch.arange(16) < 9).double()), atol=1e-3, rtol=0
    )
    if held:
        variates = [((other[m] - projections[m][0]) @ projections[m][1]).T for m in modalities]
        r = [
            [torch.corrcoef(torch.stack(p))[0, 1] for p in zip(*two, strict=True)]
            for two in combinations(variates, 2)
        ]
        torch.testing.assert_close(spectrum, torch.tensor(r).mean(0), atol=1e-10, rtol=0)


def test_held_out_rows_unmask_directions_that_only_the_training_rows_share():
    h = {m: normal(60, 10, seed=s) for s, m in enumerate("ab")}
    other = {m: normal(2000, 10, seed=s + 5) for s, m in enumerate("ab")}
    _, spectrum, kept = fit_projections(h, held_out=other)
    assert correlations(h["a"], h["b"])[0] > 0.6 and spectrum.abs().max() < 0.1 and kept == 1


def test_the_same_spectrum_is_worth_more_on_held_out_rows():
    a, b = paired([0.3, 0.3, 0.3], n=300, d_a=8, d_b=8)
    h = {"a": a, "b": b}  # 8 dimensions and 300 rows reach .33 by chance, fixed directions .17
    assert fit_projections(h)[2] == 1 and fit_projections(h, held_out=h)[2] == 3
    assert (
        fit_projections({m: x[:6] for m, x in h.items()})[2] == 1
    )  # fewer rows than dimensions: all by chance


def test_a_dead_dimension_correlates_with_nothing():
    a, b = paired([0.9, 0.5])
    a[:, 1] = 7.0
    _, spectrum, kept = fit_projections({"a": a, "b": b}, held_out={"a": a, "b": b})
    assert spectrum[0] > 0.4 and spectrum[1].abs() < 1e-6 and kept == 1


def test_fit_projections_pads_unequal_dimensions_and_takes_masks():
    h = classes(n=500)
    h["b"] = h["b"][:, :12]
    present = {"a": torch.arange(500) % 4 != 0}
    h["a"][~present["a"]] = torch.nan
    projections, spectrum, kept = fit_projections(
        h, num_directions=7, present=present, held_out=h, held_out_present=present
    )
    expected = linear_cca(h["a"][present["a"]], h["b"][present["a"]])
    assert kept == 7 and spectrum.shape == (12,)
    mean, matrix = projections["a"]
    torch.testing.assert_close(
        (mean, matrix[:, :12]), (expected.mean_a, expected.A), atol=1e-12, rtol=0
    )
    assert matrix.shape == (16, 16) and (matrix[:, 12:] == 0).all()
    torch.testing.assert_close(
        spectrum, expected.correlations, atol=1e-3, rtol=0
    )  # the same rows, without the ridge


# --------------------------------------------------------------------------- errors

H = {"a": torch.eye(8)[:, :2], "b": torch.eye(8)[:, 2:4]}
NAN = torch.full((8, 2), torch.nan)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: correlation(H["a"], H["b"][:7]), r"same N >= 2 rows, got \(8, 2\) and \(7, 2\)"),
        (lambda: correlation(H["a"], NAN), "must be finite"),
        (lambda: correlation(torch.ones(8, 2), H["b"], ridge=0.0), "full rank"),
        (lambda: correlation(H["a"], H["b"], top=3), r"`top` must be in 1 \.\. 2"),
        (lambda: correlation(H["a"], H["b"], top=0), r"`top` must be in 1 \.\. 2"),
        (lambda: total_correlation({"a": H["a"]}), "at least two modalities"),
        (lambda: total_correlation(H, {"a": torch.ones(8)}), r"present\['a'\] must be bool"),
        (lambda: total_correlation(H, {"a": torch.ones(7, dtype=torch.bool)}), r"of shape \(7,\)"),
        (lambda: contrastive({"a": H["a"], "b": torch.ones(8, 3)}), "of one dimension"),
        (lambda: contrastive(H, temperature=0.0), "temperature > 0"),
        (lambda: multiset_cca(H, {"a": torch.arange(8) < 1}), "at least 2 rows"),
        (lambda: choose_dim(torch.tensor([])), "k >= 1"),
        (lambda: choose_dim(torch.tensor([0.3, torch.nan])), "finite"),
        (lambda: fit_projections(H, num_directions=3), r"`num_directions` must be in 1 \.\. 2"),
        (lambda: fit_projections(H, held_out={"a": H["a"]}), "must have the dimensions"),
        (
            lambda: fit_projections(H, held_out=H, held_out_present={"a": torch.arange(8) < 1}),
            "at least 2 rows",
        ),
    ],
)
def test_errors_say_what_to_do(call, says):
    with pytest.raises(ValueError, match=says):
        call()
