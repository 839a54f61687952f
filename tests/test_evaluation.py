"""`evaluate`: which rows there are, that they repeat, that what is shared is shared; `Table` and
`combine`.
"""

import json
import math
from dataclasses import replace
from io import StringIO

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributions import Distribution

import polymodal
from polymodal.batch import Batch, Modality
from polymodal.cli.catalog import entries
from polymodal.data import Dataset, LinearGaussian, Splits
from polymodal.distributions.likelihoods import IsotropicNormal
from polymodal.distributions.mixture import Mixture
from polymodal.distributions.normal import DiagNormal
from polymodal.distributions.products import Product
from polymodal.metrics import METRICS, Classifiers, UnavailableError, metric, once, others, powerset
from polymodal.metrics.classifier_networks import Classifier
from polymodal.metrics.classifier_training import LabelClassifier
from polymodal.metrics.evaluate import chosen_subsets, evaluate
from polymodal.metrics.frechet import frechet_distance
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.table import COLUMNS, Table, combine, shown
from polymodal.model import Method, MultimodalVAE
from polymodal.networks.named import Named
from polymodal.posteriors import Posterior
from polymodal.priors import StandardNormal
from polymodal.runs.run import Run
from polymodal.sampling import HMC

LAW = LinearGaussian.draw(dims={"a": 3, "b": 2, "c": 2}, latent=2, noise=0.6, seed=4)
NAMES = ["a", "b", "c"]


pytestmark = pytest.mark.usefixtures("double")


class Linear(nn.Module):
    """p(x_m|z) of the law; counts the latents it decodes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.calls, self.drop = name, 0, nn.Dropout(0.5)

    def forward(self, z: Tensor) -> IsotropicNormal:
        self.calls += z[..., 0].numel()
        mean = self.drop(z @ LAW.loading[self.name].T + LAW.bias[self.name])
        return IsotropicNormal(mean, LAW.noise[self.name], 1)


class ExactPosterior(Posterior):
    """Exact normal experts; all three: the exact posterior; two: a product of experts, drawn by
    HMC.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, ...]] = []

    def forward(self, batch: Batch) -> Distribution:
        self.calls.append(tuple(batch.x))
        if len(batch.x) != 2:
            return LAW.posterior(batch)
        experts = [LAW.posterior(Batch({m: x})) for m, x in batch.x.items()]
        start = [DiagNormal(q.mean, q.variance.sqrt()) for q in experts]
        product = Product(experts, StandardNormal(2)(), HMC(warmup=10, draws=5))
        product.start = lambda: Mixture(start)
        return product


def a_run(seed: int = 7) -> Run:
    model = MultimodalVAE(
        StandardNormal(2), {m: Linear(m) for m in NAMES}, ExactPosterior(), LAW.modalities
    )
    return Run(
        model.eval(),
        Method(model, []),
        LAW.modalities,
        {"method": {"name": "exact"}},
        {"seed": seed},
    )


def splits(n: int = 60) -> Splits:
    """Samples of the law, labelled by the sign of the first value of `a`."""

    def part(k: int) -> Dataset:
        x = LAW.sample(n, torch.Generator().manual_seed(k)).x
        return Dataset(LAW.modalities, dict(x), label=(x["a"][:, 0] > 0).long())

    return Splits(part(0), part(1), part(2), "law")


def fixed_classifiers() -> Classifiers:
    """Classifiers with fixed random weights: it matters only that their labels repeat."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = lambda d: (
            Classifier(nn.Sequential(nn.Linear(d, 6), nn.Tanh()), 6, 2).eval().requires_grad_(False)
        )
        return Classifiers(
            {m.name: LabelClassifier(net(m.shape[0]), False, 0.9) for m in LAW.modalities}
        )


QUICK = dict(samples=4, classifiers=fixed_classifiers())


def figures(table: Table, metric: str) -> dict[tuple[str, str], float]:
    rows = table.frame[table.frame["metric"] == metric]
    return {(row.target, row.given): row.value for row in rows.itertuples()}


def test_every_metric_has_its_rows() -> None:
    data = splits()
    table = evaluate(a_run(), data, **QUICK)
    assert list(table.frame.columns) == list(COLUMNS)
    of_some_methods = {"network_calls", "shared_probe", "private_probe"}
    defaults = {k for k, m in METRICS.items() if m.default}
    assert set(table.frame["metric"]) == defaults - of_some_methods
    subsets = ["+".join(s) for s in powerset(NAMES)]
    crossed = {(m, s) for s in subsets for m in NAMES if m not in s.split("+")}
    both = crossed | {(m, "a+b+c") for m in NAMES}
    assert figures(table, "conditional_log_likelihood").keys() == crossed
    assert figures(table, "coherence").keys() == figures(table, "frechet").keys() == both
    assert (
        figures(table, "joint_log_likelihood").keys()
        == figures(table, "joint_coherence").keys()
        == {("a+b+c", "")}
    )
    assert figures(table, "joint_frechet").keys() == {(m, "") for m in NAMES}
    assert figures(table, "probe").keys() == {("z", s) for s in subsets}
    assert figures(table, "sampler_acceptance").keys() == {("z", "a+b"), ("z", "a+c"), ("z", "b+c")}
    frame = table.frame[table.frame["metric"] != "classifier_accuracy"]
    assert figures(table, "classifier_accuracy") == {(m, ""): 0.9 for m in NAMES}
    assert (frame["n"] == 60).all() and frame["value"].notna().all() and (frame["se"] >= 0).all()
    assert (
        set(frame["seed"]) == {7}
        and set(frame["method"]) == {"exact"}
        and set(frame["data"]) == {"law"}
    )
    # The joint likelihood of an exact posterior is the evidence; the probe reads the sign of what
    # `a` tells.
    x = data.test.batch(torch.arange(60))
    assert figures(table, "joint_log_likelihood")["a+b+c", ""] == pytest.approx(
        LAW.log_evidence(x).mean().item()
    )
    assert figures(table, "probe")["z", "a"] > 0.75


def test_the_numbers_repeat_and_do_not_depend_on_what_else_is_asked() -> None:
    data, state = splits(), torch.get_rng_state()
    first, second = (evaluate(a_run(), data, **QUICK) for _ in range(2))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert torch.equal(torch.get_rng_state(), state), "the user's random stream is left alone"
    other = evaluate(a_run(), data, seed=1, **QUICK)
    assert figures(other, "coherence") != figures(first, "coherence")
    for name in (
        "frechet",
        "conditional_log_likelihood",
        "probe",
        "joint_coherence",
        "sampler_ess",
    ):
        alone = evaluate(a_run(), data, metrics=[name], **QUICK)
        assert figures(alone, name) == figures(first, name)
    fewer = evaluate(a_run(), data, subsets=["a+b"], **QUICK)
    for name, found in (
        ("coherence", figures(first, "coherence")),
        ("sampler_ess", figures(first, "sampler_ess")),
    ):
        assert figures(fewer, name) == {k: v for k, v in found.items() if k[1] == "a+b"}


def test_another_batch_size_changes_noise_alone() -> None:
    data = splits(400)
    metrics = [
        "conditional_log_likelihood",
        "joint_log_likelihood",
        "frechet",
        "coherence",
        "joint_frechet",
    ]
    small, large = (
        evaluate(
            a_run(),
            data,
            metrics,
            ["a", "b+c"],
            batch=b,
            samples=200,
            classifiers=fixed_classifiers(),
        )
        for b in (64, 256)
    )
    for one, other in zip(small.frame.itertuples(), large.frame.itertuples(), strict=True):
        assert abs(one.value - other.value) <= 3 * one.se, one
    exact = ("a+b+c", "")
    assert figures(small, "joint_log_likelihood")[exact] == pytest.approx(
        figures(large, "joint_log_likelihood")[exact]
    )


def test_latents_are_drawn_once_for_all_metrics_and_targets() -> None:
    run = a_run()
    names = ["coherence", "coherence_macro", "frechet", "sampler_ess"]
    evaluate(run, splits(), names, ["a", "b+c"], **QUICK)
    assert run.model.posterior.calls == [("a",), ("b", "c")]
    assert {m: run.model.decoders[m].calls for m in NAMES} == {
        "a": 60,
        "b": 60,
        "c": 60,
    }, "decoded once each"


def test_results_are_saved_and_what_was_measured_before_stays(tmp_path) -> None:
    run, data = a_run(), splits()
    run.directory = tmp_path
    evaluate(run, data, ["coherence", "probe"], ["a"], **QUICK)
    table = evaluate(run, data, ["coherence"], ["a", "b"], limit=30, **QUICK)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    kept = Table.from_records(saved["table"])
    assert figures(kept, "coherence") == figures(table, "coherence")
    assert figures(kept, "probe").keys() == {("z", "a")}
    assert set(table.frame["n"]) == {30} and "unfinished" not in saved
    how = {row["metric"]: row["evaluation"] for row in saved["table"]}
    assert how["probe"] != how["coherence"] and "samples 4" in how["probe"], "each row says how"
    evaluate(run, data, ["coherence"], ["b"], **QUICK)
    again = Table.from_records(run.metrics["table"])
    assert figures(again, "coherence").keys() == figures(table, "coherence").keys()
    assert set(again.frame[again.frame["given"] == "b"]["n"]) == {60}, "the other subset stays"
    saved = json.loads((tmp_path / "metrics.json").read_text())
    evaluate(run, data, ["probe"], ["b"], save=False, **QUICK)
    assert json.loads((tmp_path / "metrics.json").read_text()) == saved


def test_missing_samples_are_left_out() -> None:
    data = splits()
    present = torch.arange(60) % 3 > 0
    test = Dataset(
        data.test.modalities, data.test.tables, present={"a": present}, label=data.test.label
    )
    metrics = ["coherence", "frechet", "conditional_log_likelihood", "joint_log_likelihood"]
    run = a_run()
    run.model.posterior = LawPosterior()
    table = evaluate(run, Splits(data.train, data.val, test, "law"), metrics, ["a", "b"], **QUICK)
    n = {(r.metric, r.target, r.given): r.n for r in table.frame.itertuples()}
    assert n["coherence", "b", "a"] == 40 and n["coherence", "a", "b"] == 60
    assert (
        n["conditional_log_likelihood", "a", "b"] == 40 == n["conditional_log_likelihood", "b", "a"]
    )
    assert n["conditional_log_likelihood", "c", "b"] == 60 == n["joint_log_likelihood", "a+b+c", ""]
    assert run.model.posterior.masked == [("a", "b", "c")], (
        "a subset that is observed is encoded as such"
    )
    exact = LAW.log_evidence(test.batch(torch.arange(60))).mean().item()
    assert figures(table, "joint_log_likelihood")["a+b+c", ""] == pytest.approx(exact)


class LawPosterior(Posterior):
    """Exact for every subset; `masked` says which subsets came with a mask of what is present."""

    def __init__(self) -> None:
        super().__init__()
        self.masked: list[tuple[str, ...]] = []

    def forward(self, batch: Batch) -> Distribution:
        self.masked += [tuple(batch.x)] if batch.present else []
        return LAW.posterior(batch)


def test_features_of_real_values_are_those_of_the_samples() -> None:
    """Values that several samples share are looked at once, and stand for each of them."""
    data = splits().test
    index = {m: torch.tensor([5, 2, 5, 9, 2, 0]) for m in NAMES}
    present = {"b": torch.arange(6) != 3}
    shared = Dataset(data.modalities, data.tables, index, present, torch.arange(6))
    classifiers = fixed_classifiers()
    measurement = Measurement(a_run().model, shared, classifiers=classifiers)
    real = measurement.real_features("b", "classifier", lambda x: classifiers["b"](x)[0])
    fake = measurement.classify(("a",), "b")[0]
    wanted = fixed_classifiers()["b"](data.tables["b"][[5, 2, 5, 2, 0]])[0]
    torch.testing.assert_close(real, wanted)
    distance, _, n = METRICS["frechet"].compute(measurement, ("a",), "b")
    assert distance == pytest.approx(frechet_distance(wanted, fake)) and n == 6
    assert len(fake) == 6


def test_the_model_is_evaluated_in_evaluation_mode_and_left_as_it_was() -> None:
    run = a_run()
    run.model.train()
    run.model.decoders["a"].eval()
    modes = [m.training for m in run.model.modules()]
    found = evaluate(run, splits(), ["joint_log_likelihood"], **QUICK)
    assert [m.training for m in run.model.modules()] == modes
    run.model.eval()
    pd.testing.assert_frame_equal(
        found.frame, evaluate(run, splits(), ["joint_log_likelihood"], **QUICK).frame
    )


def test_unknown_names_are_answered_with_the_nearest() -> None:
    run, data = a_run(), splits()
    for given, said in (
        ({"metrics": ["coherense"]}, "Did you mean coherence"),
        ({"metrics": ["zzz"]}, "There are: coherence, coherence_macro, "),
        ({"subsets": ["a+bb"]}, "'bb' of the subset 'a\\+bb'. Did you mean b"),
        ({"subsets": [[]]}, "at least one modality"),
        ({"limit": 0}, "limit must be a whole number of at least 1"),
        ({"sample": 3}, "no setting sample. Did you mean samples"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"precision": "fp8"}, "precision must be .*bf16"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate(run, data, **{**QUICK, **given})
    with pytest.raises(ValueError, match="give the data it was trained on"):
        evaluate(run, Dataset([Modality("x", (2,))], {"x": torch.zeros(4, 2)}))
    with pytest.raises(ValueError, match="coherence needs classifiers"):
        evaluate(run, data.test, ["coherence"])


def test_data_without_labels_is_measured_by_what_needs_none() -> None:
    data = splits()
    bare = Dataset(data.test.modalities, data.test.tables)
    table = evaluate(a_run(), Splits(bare, bare, bare, "bare"), subsets=["a"], samples=2)
    assert set(table.frame["metric"]) == {"joint_log_likelihood", "conditional_log_likelihood"}
    only = evaluate(a_run(), bare, subsets=[["a"]], samples=2)
    assert set(only.frame["data"]) == {"data"} and len(only.frame) == len(table.frame)
    with pytest.raises(ValueError, match="has no labels"):
        evaluate(a_run(), Splits(bare, bare, bare, "bare"), ["coherence"], subsets=["a"])


def test_subsets_and_metrics_may_be_written_in_several_ways() -> None:
    run, data = a_run(), splits()
    one = evaluate(run, data, "joint-log-likelihood", "a", **QUICK)
    assert set(one.frame["metric"]) == {"joint_log_likelihood"}
    given = lambda subsets: set(evaluate(run, data, ["coherence"], subsets, **QUICK).frame["given"])
    assert given(["b+a", ("c",), ["a", "b"]]) == {"a+b", "c"} and given("c") == {"c"}


def test_a_metric_of_ones_own_is_measured_and_described() -> None:
    @metric(places=once, direction="lower", unit="value", default=False)
    def largest(measurement, given, target):
        """The largest latent of joint samples.

        More on it.
        """
        z = measurement.latents(given)
        return z.abs().max().item(), math.nan, len(z)

    try:
        table = polymodal.evaluate(a_run(), splits(), ["largest"], **QUICK)
        (row,) = table.records()
        assert row["value"] > 1 and row["target"] == "a+b+c" and row["direction"] == "lower"
        assert METRICS["largest"].description == "The largest latent of joint samples."
    finally:
        del METRICS["largest"]


def test_the_catalog_reads_what_is_registered() -> None:
    described = entries("metrics")
    assert described == {name: METRICS[name].description for name in sorted(METRICS)}
    assert all(described.values())


def test_network_calls_of_a_diffusion_are_measured() -> None:
    torch.set_default_dtype(torch.float32)
    data = polymodal.load_data("shapes", n=120)
    run = polymodal.fit("sbm", data, latent=2, epochs=1, progress=False)
    table = polymodal.evaluate(run, data, ["network_calls"], limit=5)
    assert figures(table, "network_calls").keys() == {("z", "square"), ("z", "circle")}


def test_a_posterior_without_a_density_for_some_samples_has_no_joint_likelihood() -> None:
    """Not the mean over the batches that happen to have one."""
    data = splits()
    run = a_run()
    first = data.test.take(torch.arange(4))
    assert figures(
        evaluate(run, first, ["joint_log_likelihood"], samples=2), "joint_log_likelihood"
    )

    class Half(ExactPosterior):
        def forward(self, batch: Batch) -> Distribution:
            exact = bool((batch.x["a"] == data.test.tables["a"][:2]).all())
            return LAW.posterior(batch) if exact else super().forward(batch.only(["a", "b"]))

    run.model.posterior = Half()
    table = evaluate(run, first, ["joint_log_likelihood"], samples=2, batch=2)
    (row,) = table.records()
    assert row["value"] is None and "normalised density" in row["reason"]


def test_polymodal_offers_the_function_whatever_was_imported() -> None:
    assert callable(polymodal.evaluate)
    table = polymodal.evaluate(a_run(), splits(), ["joint_log_likelihood"], **QUICK)
    assert len(table.frame) == 1


def test_what_cannot_be_computed_is_an_empty_row_with_its_reason() -> None:
    """No sample has a pair; one modality is nowhere; all labels are one class; one sample."""
    data = splits()
    first = torch.arange(60) < 30
    halves = {"a": first, "b": ~first}
    unpaired = replace(data.test, present=halves)
    absent = replace(data.test, present={"b": torch.zeros(60, dtype=torch.bool)})
    one_class = replace(data.train, label=torch.zeros(60, dtype=torch.long))
    single = replace(data.test, present={"b": torch.arange(60) < 1})
    names = ["coherence", "coherence_macro", "frechet", "probe", "conditional_log_likelihood"]
    run = a_run()
    run.model.posterior = LawPosterior()
    for train, test, empty in (
        (data.train, unpaired, {("conditional_log_likelihood", "b", "a")}),
        (data.train, absent, {("coherence", "a", "b"), ("frechet", "b", "a"), ("probe", "z", "b")}),
        (one_class, data.test, {("probe", "z", "a"), ("probe", "z", "b")}),
        (data.train, single, {("frechet", "b", "a"), ("frechet", "a", "b")}),
    ):
        parts = Splits(train, train, test, "law")
        table = evaluate(run, parts, names, ["a", "b"], save=False, **QUICK)
        rows = {(r["metric"], r["target"], r["given"]): r for r in table.records()}
        for place in empty:
            assert rows[place]["value"] is None and rows[place]["n"] == 0, place
            assert rows[place]["reason"].endswith("."), place
        full = [r for r in rows.values() if r["value"] is not None]
        assert full and all(r["reason"] == "" for r in full)
        assert "Not defined: " in table.to_markdown() and "not defined" in table.to_markdown()


def test_a_metric_fails_alone_but_a_bug_is_not_hidden(monkeypatch) -> None:
    @metric(places=others, direction="lower", unit="value", default=False)
    def odd(measurement, given, target):
        "Fails in three ways."
        if target == "a":
            raise UnavailableError("There is none.")
        if target == "b":
            return math.inf, 1.0, 3
        return 1.0, 0.1, 3

    try:
        records = evaluate(a_run(), splits(), ["odd", "probe"], ["a", "b", "c"], **QUICK).records()
        said = {(r["target"], r["given"]): (r["value"], r["reason"]) for r in records}
        assert said["a", "b"] == (None, "There is none.")
        assert said["b", "a"] == (None, "The result is not a finite number.")
        assert said["c", "a"] == (1.0, "") and said["z", "a"][1] == ""
        monkeypatch.setattr(METRICS["odd"].compute, "__code__", (lambda m, g, t: 1 / 0).__code__)
        with pytest.raises(ZeroDivisionError):
            evaluate(a_run(), splits(), ["odd"], ["a"], **QUICK)
    finally:
        del METRICS["odd"]


def test_an_interrupted_evaluation_resumes_to_the_same_bits(tmp_path, monkeypatch) -> None:
    data, said = splits(), []
    whole = evaluate(a_run(), data, **QUICK)

    def stop(line: str) -> None:
        said.append(line)
        if len(said) == 9:
            raise KeyboardInterrupt

    run = a_run()
    run.directory = tmp_path
    evaluate(run, data, limit=30, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, data, progress=stop, **QUICK)
    left = json.loads((tmp_path / "metrics.json").read_text())
    assert left["unfinished"] and {30, 60} <= {row["n"] for row in left["table"]}
    other = a_run()
    other.metrics = left
    evaluate(other, data, ["probe"], ["a"], seed=5, **QUICK)
    assert "unfinished" not in other.metrics, "another evaluation does not take its rows"
    again = a_run()
    again.directory, again.metrics = tmp_path, left
    lines: list[str] = []
    resumed = evaluate(again, data, progress=lines.append, **QUICK)
    pd.testing.assert_frame_equal(
        resumed.frame.drop(columns="evaluation"), whole.frame.drop(columns="evaluation")
    )
    assert "unfinished" not in json.loads((tmp_path / "metrics.json").read_text())
    assert len(lines) < 23 and said[0] not in lines, "what is finished is not measured again"


@pytest.mark.parametrize("change", ["data", "weights", "samples"])
def test_only_the_same_evaluation_is_resumed(change: str, tmp_path) -> None:
    run, data = a_run(), splits()
    run.model.register_parameter("weight", nn.Parameter(torch.zeros(1)))

    def stop(line: str) -> None:
        if "(3 of" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(run, data, ["probe"], progress=stop, **QUICK)
    assert len(run.metrics["table"]) == 2
    options = dict(QUICK)
    if change == "data":
        data.test.tables["a"][0] += 1
    elif change == "weights":
        run.model.weight.data += 1
    else:
        options["samples"] = 5
    lines: list[str] = []
    evaluate(run, data, ["probe"], progress=lines.append, **options)
    assert "(1 of" in lines[0]


def test_progress_says_how_much_there_is_and_how_long_it_takes() -> None:
    lines: list[str] = []
    evaluate(a_run(), splits(), ["probe"], ["a", "b"], progress=lines.append, **QUICK)
    assert lines[0] == "Measuring probe of z given a (1 of 2)."
    assert lines[1].startswith("Measuring probe of z given b (2 of 2, ") and "left" in lines[1]


def test_of_many_modalities_the_usual_subsets_are_measured_by_default() -> None:
    few, many = list("abcd"), list("abcdefg")
    assert chosen_subsets(None, few) == powerset(few) == chosen_subsets("all", few)
    usual = chosen_subsets(None, many)
    assert len(usual) == 15 and len(chosen_subsets("all", many)) == 127
    assert sorted(map(len, usual)) == [1] * 7 + [6] * 7 + [7]
    with pytest.raises(ValueError, match=r"20 modalities have 2\^20 - 1 = 1,048,575 subsets"):
        chosen_subsets("all", [f"m{i}" for i in range(20)])


def test_a_conditional_model_has_no_joint_likelihood() -> None:
    """Of a model that generates only one modality log p(x) of all would be log p(x_target | x)."""
    run = a_run()
    kept = {m: d for m, d in run.model.decoders.items() if m != "a"}
    run.model.decoders = Named(kept)
    table = evaluate(run, splits(), ["joint_log_likelihood"], **QUICK)
    assert not len(table.frame)


# ------------------------------------------------------------
# tables


def rows(value: float, se: float, seed: int, metric: str = "coherence", n: int = 100) -> dict:
    what = {"method": "jnf", "data": "d", "metric": metric, "target": "b", "given": "a"}
    return what | {
        "value": value,
        "se": se,
        "n": n,
        "seed": seed,
        "direction": "higher",
        "unit": "share",
    }


def test_combine_averages_over_seeds() -> None:
    tables = [
        Table.from_records([rows(v, se, s), rows(1.0, 0.5, s, "other")])
        for s, (v, se) in enumerate([(0.5, 0.03), (0.6, 0.04), (0.9, 0.05)])
    ]
    first, second = combine(tables).records()
    assert (
        first["value"] == pytest.approx(2 / 3) and first["seeds"] == 3 and first["seed"] == "0,1,2"
    )
    deviation = math.sqrt(sum((v - 2 / 3) ** 2 for v in (0.5, 0.6, 0.9)) / 2)
    assert first["se_seeds"] == pytest.approx(deviation / math.sqrt(3))
    assert first["se"] == pytest.approx(math.sqrt((0.03**2 + 0.04**2 + 0.05**2) / 3))
    assert (
        second["metric"] == "other"
        and second["se_seeds"] == 0.0
        and second["se"] == pytest.approx(0.5)
    )
    alone = combine(tables[:1]).records()[0]
    assert alone["se_seeds"] is None and alone["value"] == 0.5 and alone["n"] == 100
    with pytest.raises(ValueError, match="duplicate result: coherence of jnf, seed 0"):
        combine([tables[0], tables[0]])
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_seeds_without_a_value_are_left_out_of_the_mean() -> None:
    bad = rows(math.nan, math.nan, 1) | {"reason": "No sample has b."}
    good = rows(0.5, 0.03, 0) | {"reason": ""}
    (row,) = combine([Table.from_records([good]), Table.from_records([bad])]).records()
    assert row["value"] == 0.5 and row["seed"] == "0" and row["reason"] == ""
    (row,) = combine([Table.from_records([bad])]).records()
    assert row["value"] is None and row["reason"] == "No sample has b."


def test_tables_survive_json_and_are_written_with_their_errors() -> None:
    table = Table.from_records([rows(0.71234, 0.0123, 0), rows(0.5, math.nan, 1)])
    pd.testing.assert_frame_equal(
        Table.from_records(json.loads(table.to_json())).frame, table.frame
    )
    markdown = table.to_markdown().splitlines()
    assert markdown[2] == "| jnf | d | coherence ↑ | b \\| a | 0.712 ± 0.012 | share | 100 | 0 |"
    assert "| 0.500 |" in markdown[3]
    console = Console(width=140, file=StringIO())
    table.print(console)
    assert "0.712 ± 0.012" in console.file.getvalue()
    assert Table.from_records([]).records() == []


@pytest.mark.parametrize(
    ("value", "errors", "text"),
    [
        (0.5, (0.25,), "0.50 ± 0.25"),
        (-2846.213, (12.3, 0.9), "-2846.21 ± 12.30 | 0.90"),
        (3.0, (math.nan,), "3.000"),
        (1.0, (0.0,), "1.000"),
        (1234.5, (150.0,), "1234 ± 150"),
        (math.nan, (math.nan,), "not defined"),
    ],
)
def test_figures_show_two_digits_of_their_error(
    value: float, errors: tuple[float, ...], text: str
) -> None:
    assert shown(value, *errors) == text
