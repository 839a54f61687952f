"""Patterns of missing modalities: their rates, what they depend on and what not, and that no sample
is left empty.
"""

import json
import math

import pytest
import torch

from polymodal.batch import Modality
from polymodal.data import Dataset, Splits, by_label, load_data, mar, mcar, remove_values, unpaired
from polymodal.settings.resolve import resolve

N = 40_000
NAMES = ("a", "b", "c")
CLASSES = 4


def made(n=N, seed=0, present=None, label=True):
    """Three modalities of five normal values; the label is one of four and independent of them."""
    generator = torch.Generator().manual_seed(seed)
    tables = {m: torch.randn(n, 5, generator=generator) for m in NAMES}
    labels = torch.randint(0, CLASSES, (n,), generator=generator) if label else None
    return Dataset([Modality(m, (5,)) for m in NAMES], tables, present=present or {}, label=labels)


def absent(data):
    return {m: ~data.present[m] for m in data.names}


def close(share, rate, n):
    """Within four standard errors of a share of n draws."""
    return abs(float(share) - rate) <= 4 * math.sqrt(max(rate * (1 - rate), 1e-9) / n)


def rescued(rates):
    """The share missing of each when a sample that would lose all keeps one."""
    return {m: r - math.prod(rates.values()) / len(rates) for m, r in rates.items()}


PATTERNS = [
    lambda data, seed=0: mcar(data, 0.8, seed),
    lambda data, seed=0: mar(data, 0.8, seed, driver="b"),
    lambda data, seed=0: by_label(data, 0.8, seed),
    lambda data, seed=0: by_label(data, {m: [0.0, 0.3, 1.0, 1.0] for m in NAMES}, seed),
    lambda data, seed=0: unpaired(data, seed, paired=0.1),
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_sample_is_left_empty_and_nothing_comes_back(pattern):
    generator = torch.Generator().manual_seed(1)
    had = {m: torch.rand(N, generator=generator) < 0.6 for m in NAMES}
    had["c"] |= ~(had["a"] | had["b"])
    data = made(present=had)
    laid = pattern(data)
    keep = torch.stack([laid.present[m] for m in NAMES], 1)
    assert keep.any(1).all() and not keep.all()
    assert all((laid.present[m] <= had[m]).all() for m in NAMES)
    assert all(torch.equal(laid.tables[m], data.tables[m]) for m in NAMES)
    assert data.present == had and torch.equal(data.present["a"], had["a"])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_functions_of_the_seed_alone(pattern):
    data, before = made(2000), torch.get_rng_state()
    first = torch.stack(list(pattern(data, 1).present.values()))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert torch.equal(first, torch.stack(list(pattern(data, 1).present.values())))
    assert not torch.equal(first, torch.stack(list(pattern(data, 2).present.values())))


def test_nothing_is_missing_at_rate_zero():
    data = made(500)
    tables = {"a": [0.0] * CLASSES}
    laws = (
        mcar(data, 0.0),
        mar(data, 0.0),
        by_label(data, 0.0),
        by_label(data, tables),
        unpaired(data, paired=1),
    )
    for laid in laws:
        assert all(mask.all() for mask in laid.present.values())


def test_mcar_depends_on_nothing():
    rates = {"a": 0.7, "b": 0.5, "c": 0.2}
    data = made()
    gone = absent(mcar(data, rates))
    for m, rate in rescued(rates).items():
        for k in range(CLASSES):
            here = data.label == k
            assert close(gone[m][here].float().mean(), rate, here.sum())
        look = torch.stack([data.tables[o].mean(1) for o in NAMES] + [gone[m].float()])
        assert torch.corrcoef(look)[-1, :-1].abs().max() < 4 / math.sqrt(N)


@pytest.mark.parametrize("slope", [2.0, -1.0, 6.0])
def test_mar_follows_the_logistic_of_its_driver(slope):
    data = made()
    rates = {"a": 0.3, "c": 0.6}
    laid = mar(data, rates, driver="b", slope=slope)
    gone, score = absent(laid), data.tables["b"].double().mean(1)
    score = slope * (score - score.mean()) / score.std()
    assert not gone["b"].any()
    for m, rate in rates.items():
        assert close(gone[m].float().mean(), rate, N)
        # logit P(missing) = a + s: between the ends of s, by counting, with a from the middle.
        low, high = (score < -1) & (score > -1.5), (score > 1) & (score < 1.5)
        logit = lambda here, g=gone[m]: torch.logit(g[here].double().mean())
        gap = score[high].mean() - score[low].mean()
        spread = sum(
            1 / (gone[m][h].double().mean() * (1 - gone[m][h].double().mean()) * h.sum())
            for h in (low, high)
        )
        assert (
            abs(logit(high) - logit(low) - gap) < 4 * spread.sqrt() + 0.02
        )  # the logit is not quite straight there
        others = torch.stack([data.tables["a"].mean(1), data.tables["c"].mean(1), gone[m].float()])
        assert torch.corrcoef(others)[2, :2].abs().max() < 4 / math.sqrt(
            N
        )  # what is taken away plays no part
    both = gone["a"][score.abs() < 0.2].float(), gone["c"][score.abs() < 0.2].float()
    assert abs(torch.corrcoef(torch.stack(both))[0, 1]) < 4 / math.sqrt(
        len(both[0])
    )  # given the driver, independent


def test_mar_reads_only_what_is_there():
    there = torch.rand(N, generator=torch.Generator().manual_seed(5)) < 0.7
    data = made(present={"a": there})
    laid = mar(data, 0.5)  # the first modality is the driver
    gone = absent(laid)
    assert torch.equal(laid.present["a"], there)
    assert not (gone["b"] | gone["c"])[~there].any()
    assert close(gone["b"][there].float().mean(), 0.5, there.sum())
    tables = {**data.tables, "a": torch.where(there[:, None], data.tables["a"], torch.nan)}
    hidden = mar(Dataset(data.modalities, tables, present=data.present), 0.5)
    assert all(torch.equal(hidden.present[m], laid.present[m]) for m in NAMES)


def test_mar_finds_values_through_the_index():
    table = torch.tensor([[0.0], [255.0]]).to(torch.uint8)
    rows = (torch.arange(2000) // 4) % 2  # half of each
    image = Modality("i", (1,), link="sigmoid")
    data = Dataset(
        [image, Modality("x", (1,))], {"i": table, "x": torch.zeros(2000, 1)}, {"i": rows}
    )
    gone = absent(mar(data, 0.5, slope=10.0))["x"]
    assert gone[rows == 1].all() and not gone[rows == 0].any()


@pytest.mark.parametrize("keys", [int, str])
def test_label_rates_are_those_of_the_table(keys):
    data = made()
    table = {keys(0): 0.1, keys(2): 0.5, keys(3): 1.0}
    gone = absent(by_label(data, {"b": table, "c": [0.6, 0.0, 0.2, 0.4]}))
    assert not gone["a"].any()
    for k, b, c in ((0, 0.1, 0.6), (1, 0.0, 0.0), (2, 0.5, 0.2), (3, 1.0, 0.4)):
        here = data.label == k
        assert close(gone["b"][here].float().mean(), b, here.sum())
        assert close(gone["c"][here].float().mean(), c, here.sum())
        both = (gone["b"] & gone["c"])[here].float().mean()
        assert close(both, b * c, here.sum())  # given the label, independent
    all_alike = absent(by_label(data, [0.5] * CLASSES))
    assert all(close(g.float().mean(), 0.5 - 0.5**3 / 3, N) for g in all_alike.values())


@pytest.mark.parametrize(("rate", "slope"), [(0.3, 2.0), ({"b": 0.7}, -1.0)])
def test_one_rate_by_label_is_the_mean_of_a_logistic_of_ranks(rate, slope):
    data = made()
    part = data.take(
        (data.label != 1).nonzero().squeeze(1)
    )  # the ranks of 0, 2 and 3 are 0, 1 and 2
    gone = absent(by_label(part, rate, slope=slope))["b"]
    ranks = torch.tensor([0.0, 0, 1, 2], dtype=torch.float64)[part.label]
    mean = rate if isinstance(rate, float) else rate["b"]
    score = slope * (ranks - ranks.mean()) / ranks.std()
    for shift in torch.linspace(-6, 6, 12001, dtype=torch.float64):
        p = torch.sigmoid(score + shift)
        if p.mean() > mean:
            break
    for k in (0, 2, 3):
        here = part.label == k
        expected = float(p[here][0])
        expected -= expected**3 / 3 if isinstance(rate, float) else 0
        assert (
            abs(gone[here].float().mean() - expected)
            < 4 * math.sqrt(expected * (1 - expected) / here.sum()) + 1e-3
        )
    one_label = data.take((data.label == 1).nonzero().squeeze(1))
    gone = absent(by_label(one_label, {"b": 0.4}))["b"]
    assert close(gone.float().mean(), 0.4, len(one_label))


@pytest.mark.parametrize("paired", [0.0, 0.25])
def test_unpaired_samples_keep_exactly_one(paired):
    laid = unpaired(made(), paired=paired)
    keep = torch.stack([laid.present[m] for m in NAMES], 1)
    number, count = keep.sum(1).unique(return_counts=True)
    found = dict(zip(number.tolist(), count.tolist(), strict=True))
    assert found == ({1: N} if not paired else {1: N - 10_000, 3: 10_000})
    alone = keep[keep.sum(1) == 1].double().mean(0)
    assert all(close(share, 1 / 3, len(keep) * (1 - paired)) for share in alone)
    order = torch.corrcoef(torch.stack([torch.arange(N).double(), keep.all(1).double()]))[0, 1]
    assert not paired or abs(order) < 4 / math.sqrt(N)


def splits():
    return Splits(made(3000, 0), made(2000, 1), made(1000, 2))


def test_training_and_validation_have_the_pattern_and_test_is_complete():
    given = splits()
    laid = remove_values(given, {"pattern": "mcar", "rate": 0.5})
    assert laid.test is given.test and given.train.present == {}
    pair = torch.stack([laid.train.present["a"][:2000].float(), laid.val.present["a"].float()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 4 / math.sqrt(2000)  # draws of their own
    for part in (laid.train, laid.val):
        assert close(absent(part)["b"].float().mean(), 0.5 - 0.5**3 / 3, len(part))
    only = remove_values(given, {"pattern": "unpaired", "parts": "test"})
    assert only.train is given.train and only.val is given.val and not only.test.present["a"].all()
    both = remove_values(given, {"rate": {"a": 0.5}, "parts": ["train", "test"]})
    assert (
        both.val is given.val and not both.test.present["a"].all() and both.test.present["b"].all()
    )


@pytest.mark.parametrize(
    "missing",
    [
        {"pattern": "mcar", "rate": 0.5},
        {"pattern": "mar", "rate": {"circle": 0.5}, "driver": "square", "slope": 3},
        {"pattern": "label", "rate": {"circle": {0: 0.1, 1: 0.9}}, "parts": ["train"]},
        {"pattern": "unpaired", "paired": 0.2},
    ],
)
def test_recipes_say_patterns(missing):
    said = resolve({"data": {"name": "shapes", "n": 200, "missing": missing}}).data
    written = json.loads(json.dumps(said.options))  # as a run keeps it: keys become words
    data = load_data(said.name, **written, seed=1)
    direct = load_data("shapes", n=200, missing=missing, seed=1)
    for m in ("square", "circle"):
        assert torch.equal(data.train.present[m], direct.train.present[m])
    assert data.test.present == {} and not data.train.present["circle"].all()
    assert (data.val.present == {}) == ("parts" in missing)


def test_patterns_draw_from_another_seed_than_samples():
    data = load_data("shapes", n=4000, missing={"pattern": "mcar", "rate": 0.5}).train
    drawn = (
        torch.stack([data.present[m] for m in data.names], 1).flatten()[: len(data)].float()
    )  # in their order
    assert abs(torch.corrcoef(torch.stack([drawn, data.label.float()]))[0, 1]) < 4 / math.sqrt(
        len(data)
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pattern": "mnar", "rate": 0.5}, r"pattern of missing values 'mnar'. Did you mean mar\?"),
        ({"pattern": "mcar"}, "missing.rate is needed"),
        ({"rate": 1.0}, "missing.rate must be a number of at least 0 and below 1.*got 1.0"),
        ({"rate": "half"}, "missing.rate must be a number.*got 'half'"),
        (
            {"rate": {"d": 0.1}},
            r"missing.rate names \['d'\], but the modalities are \['a', 'b', 'c'\]",
        ),
        (
            {"rate": 0.5, "drivr": "a"},
            "no setting missing.drivr",
        ),
        (
            {"pattern": "mar", "rate": 0.5, "drivr": "a"},
            r"no setting missing.drivr. Did you mean missing.driver\?",
        ),
        ({"rate": 0.5, "parts": ["tain"]}, "missing.parts must list some of"),
        ({"rate": 0.5, "parts": 3}, "missing.parts must list some of.*got 3"),
        ({"pattern": "mar", "rate": 0.5, "driver": "d"}, "missing.driver must be one of.*got 'd'"),
        (
            {"pattern": "mar", "rate": 0.5, "slope": math.inf},
            "missing.slope must be a number, got inf",
        ),
        ({"pattern": "mar", "rate": {"a": 0.5}}, "must not include the driver 'a'"),
        ({"pattern": "label", "rate": [0.5]}, "lists 1 rates, but the data has the label 3"),
        (
            {"pattern": "label", "rate": {"x": 0.5}},
            "There is no label 'x'. There are: 0, 1, 2, 3",
        ),
        ({"pattern": "label", "rate": {0: 1.5}}, "rates between 0 and 1"),
        ({"pattern": "label", "rate": "half"}, "needs a rate by label.*got 'half'"),
        ({"pattern": "label", "rate": {"a": 0.5, "d": 0.1}}, r"names \['d'\]"),
        ({"pattern": "label", "rate": 1.0}, "below 1"),
        (
            {"pattern": "unpaired", "paired": 2},
            "missing.paired must be a number from 0 to 1",
        ),
        ({"pattern": "unpaired", "rate": 0.5}, "no setting missing.rate"),
    ],
)
def test_what_bad_patterns_are_told(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        remove_values(splits(), settings)


def test_what_cannot_decide_is_told():
    with pytest.raises(ValueError, match="has none; choose mcar or mar"):
        by_label(made(10, label=False), 0.5)
    flat = Dataset([Modality("a", (2,)), Modality("b", (2,))], {m: torch.ones(4, 2) for m in "ab"})
    with pytest.raises(ValueError, match="All 4 samples have the same mean of 'a'"):
        mar(flat, 0.5)
