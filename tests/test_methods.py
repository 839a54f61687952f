"""Every method under the same laws, on the same small data."""

import inspect

import pytest
import torch
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.data.dataset import Dataset, Splits
from polymodal.distributions.divergences import divergence
from polymodal.distributions.normal import DiagNormal
from polymodal.methods import METHODS
from polymodal.methods.extras import EXTRAS
from polymodal.networks.heads import normal_head
from polymodal.posteriors.pooling import powerset
from polymodal.runs.run import Run, load
from polymodal.training.fit import fit

MODALITIES = [
    Modality("a", (3,)),
    Modality("b", (4,), "bernoulli"),
    Modality("c", (1, 5, 5), link="sigmoid", weight=2.0),
]
NAMES, SIZE = ["a", "b", "c"], 12
SMALL = {"hidden": 16, "private": 2, "pseudo": 5, "k": 3, "flow_hidden": (16,), "ridge": 1e-2}
SMALL |= {"denoiser_options": {"width": 16, "depth": 1}}
QUIET = {"mfm": {"discrepancy": 0.0}}  # without the term whose noise a whole batch shares
JOINT = ("jmvae", "jmvae_two_stage", "telbo", "m2vae", "jnf", "jnf_dcca", "jnf_score")


def batch(holes: bool = False, seed: int = 0, size: int = SIZE) -> Batch:
    torch.manual_seed(seed)
    x = {
        "a": torch.randn(size, 3),
        "b": torch.randint(0, 2, (size, 4)).float(),
        "c": torch.rand(size, 1, 5, 5),
    }
    present = {"a": torch.arange(size) % 3 != 0, "b": torch.arange(size) % 3 != 1} if holes else {}
    return Batch(x, present, torch.arange(size) % 10)


def build(name: str, modalities=MODALITIES, **options):
    torch.manual_seed(1)
    known = inspect.signature(METHODS[name]).parameters
    small = {k: v for k, v in SMALL.items() if k in known}
    if name in ("jnf_dcca", "jnf_score"):
        small["size"] = 3
    return METHODS[name](modalities, latent=2, **(small | options))


def targets(name: str) -> list[str]:
    """What a method generates: all, but a CVAE its target alone."""
    return ["c"] if name == "cvae" else NAMES


def prepared(stage, data: Batch) -> Batch:
    if stage.prepare is None:
        return data
    torch.manual_seed(11)  # as the trainer does: what is kept is drawn once
    with torch.no_grad():
        return stage.prepare(data)


@pytest.fixture(params=sorted(METHODS))
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("holes", [False, True])
def test_losses_and_gradients_are_finite_and_losses_per_sample(name: str, holes: bool) -> None:
    method = build(name)
    for stage in method.stages:
        loss = stage.loss(prepared(stage, batch(holes)), 1.0)
        assert loss.value.shape == (SIZE,) and torch.isfinite(loss.value).all()
        assert loss.terms and all(t.shape == (SIZE,) for t in loss.terms.values())
        if loss.value.requires_grad:
            loss.value.sum().backward()
        for key, p in method.model.named_parameters():
            assert p.grad is None or torch.isfinite(p.grad).all(), f"{stage.name}: {key}"


def test_gradients_reach_exactly_what_a_stage_trains(name: str) -> None:
    method = build(name)
    for stage in method.stages:
        trained = {id(p) for part in stage.trains for p in part.parameters() if p.requires_grad}
        parameters = dict(method.model.named_parameters())
        for p in parameters.values():
            p.grad = None
        if not trained:
            continue
        data = prepared(stage, batch(holes=True))
        stage.loss(data, 1.0).value.mean().backward()
        reached = {
            n for n, p in parameters.items() if p.grad is not None and p.grad.abs().sum() > 0
        }
        meant = {n for n, p in parameters.items() if id(p) in trained}
        # TELBO's and M2VAE's decoders take part in the second stage's loss but are held by the
        # trainer.
        held = (
            {n for n in parameters if n.startswith("decoders")}
            if name in ("telbo", "m2vae")
            else set()
        )
        assert reached - held <= meant
        # An absent stand-in only acts where its modality is missing: c never is here.
        quiet = {n for n in meant - reached if not n.endswith("absent.c")}
        dead = {n for n in quiet if parameters[n].grad is None}
        assert not dead, f"{stage.name}: no gradient reaches {sorted(dead)}"


def test_generates_from_every_subset_and_from_none(name: str) -> None:
    model, data = build(name).model.eval(), batch(size=3)
    shapes = {m.name: m.shape for m in MODALITIES if m.name in targets(name)}
    for given in powerset(NAMES):
        out = model.generate(data.only(given), n=2)
        assert {m: (2, 3, *shape) for m, shape in shapes.items()} == {
            k: tuple(v.shape) for k, v in out.items()
        }
        assert all(torch.isfinite(v).all() for v in out.values())
        assert isinstance(model.posterior(data.only(given)), Distribution)
    one = targets(name)[-1]
    assert model.generate(n=5, targets=[one])[one].shape == (5, 1, *shapes[one])
    if name != "cvae":
        draws = model.generate(data.only(["a"]), n=4, mean=False)["b"]
        assert set(draws.unique().tolist()) <= {0.0, 1.0}


def test_absent_values_never_move_a_loss(name: str) -> None:
    method, data = build(name), batch(holes=True)
    for junk in (1e6, float("nan"), float("inf")):
        x = {m: v.clone() for m, v in data.x.items()}
        for m, here in data.present.items():
            x[m][~here] = junk
        other = Batch(x, data.present, data.label)
        for stage in method.stages:
            values = []
            for one in (data, other):
                one = prepared(stage, one)
                torch.manual_seed(5)
                values.append(stage.loss(one, 1.0).value)
            assert torch.equal(*values)


def test_an_absent_modality_adds_nothing_to_a_loss(name: str) -> None:
    """A mask that is False throughout and a modality that is not there at all are the same loss in
    the mean.
    """
    if name in ("jnf_dcca", "jnf_score", "cvae", "vcca"):
        pytest.skip("deep CCA needs all networks; a CVAE its target, VCCA its lead")
    method, n = build(name, **QUIET.get(name, {})), 400
    data = repeated(batch(size=6), n)
    none = torch.zeros(len(data), dtype=torch.bool)
    for stage in method.stages:
        seen = []
        for one in (Batch(data.x, {"c": none}, data.label), data.only(["a", "b"])):
            torch.manual_seed(3)
            seen.append(stage.loss(prepared(stage, one), 1.0).value.detach().reshape(6, n))
        agree(*seen)


def test_wholly_absent_is_the_same_as_not_given(name: str) -> None:
    """A batch without a key and one whose mask is False throughout are the same information."""
    model, data = build(name).model.eval(), batch(size=4)
    masked = Batch(data.x, {"c": torch.zeros(4, dtype=torch.bool)})
    posterior = model.posterior.joint if name in JOINT else model.posterior
    torch.testing.assert_close(posterior(masked).mean, posterior(data.only(["a", "b"])).mean)


def test_what_is_not_observed_at_all_has_the_prior(name: str) -> None:
    if name in ("jnf", "jnf_dcca", "mfm"):
        pytest.skip("a sampled product starts its chains there; MFM's encoder has no randomness")
    model, data = build(name).model.eval(), batch(size=3)
    here = torch.tensor([True, False, True])
    q = model.posterior(Batch({m: data.x[m] for m in ["a", "b"]}, {"a": here, "b": here}))
    alone = model.posterior(Batch({m: data.x[m][[0, 2]] for m in ["a", "b"]}))
    torch.testing.assert_close(q.mean[[0, 2]], alone.mean)
    torch.testing.assert_close(q.mean[1], model.prior().mean)


def repeated(data: Batch, n: int) -> Batch:
    again = lambda d: {k: v.repeat_interleave(n, 0) for k, v in d.items()}
    return Batch(again(data.x), again(data.present), data.label.repeat_interleave(n))


def agree(one: torch.Tensor, other: torch.Tensor) -> None:
    """(items, draws) each: the same means, within 5 standard errors and rounding."""
    n = one.shape[1]
    error = (one.var(1) / n + other.var(1) / n).sqrt()
    assert ((one.mean(1) - other.mean(1)).abs() <= 5 * error + 1e-3).all()


def test_permuting_modalities_permutes_the_result(name: str) -> None:
    """The same weights in another order of modalities: the same losses, in the mean over draws."""
    given = {"cvae": {"target": "c"}, "vcca": {"lead": "a"}, **QUIET}.get(name, {})
    method, other = build(name, **given), build(name, MODALITIES[::-1], **given)
    other.model.load_state_dict(turned(method.model))
    n = 300
    data = repeated(batch(holes=True, size=6), n)
    swapped = Batch({m: data.x[m] for m in NAMES[::-1]}, data.present, data.label)
    for stage, twin in zip(method.stages, other.stages, strict=True):
        values = []
        for s, d in ((stage, data), (twin, swapped)):
            d = prepared(s, d)
            torch.manual_seed(5)
            values.append(s.loss(d, 1.0).value.detach())
        if name in JOINT[:-1] and not (name in ("telbo", "m2vae") and stage.name == "surrogates"):
            torch.testing.assert_close(
                *values, atol=1e-4, rtol=1e-4
            )  # one z is drawn, whatever the order
        else:
            agree(*(v.reshape(6, n) for v in values))


def turned(model) -> dict[str, torch.Tensor]:
    """The state for modalities in reverse order: a joint encoder's first layer reads them side by
    side.
    """
    state = model.state_dict()
    for key in [k for k in state if k.endswith("mix.0.weight")]:
        state[key] = torch.cat(
            state[key].split(3, dim=1)[::-1], dim=1
        )  # each latent (2) + flag (1) wide
    return {k: torch.cat(v.split(2)[::-1]) if k == "columns" else v for k, v in state.items()}


def test_state_survives_save_and_load(name: str, tmp_path) -> None:
    from safetensors.torch import load_model, save_model

    method = build(name)
    for stage in method.stages:
        if stage.finish:
            train = [prepared(stage, batch(seed=s, size=40)) for s in range(3)]
            stage.finish(train, [prepared(stage, batch(seed=9, size=40))])
    save_model(method.model, str(tmp_path / "m.safetensors"))
    other = build(name).model
    for p in other.parameters():
        torch.nn.init.zeros_(p)
    load_model(other, str(tmp_path / "m.safetensors"))
    for model in (method.model, other):
        torch.manual_seed(3)
        model.out = model.eval().generate(batch(size=3).only(["a"]), n=2)
    assert all(torch.equal(method.model.out[m], other.out[m]) for m in targets(name))


def gradient(method) -> torch.Tensor:
    """Of the first stage's loss, all parameters side by side."""
    stage = method.stages[0]
    torch.manual_seed(5)
    stage.loss(prepared(stage, batch()), 1.0).value.sum().backward()
    return torch.cat([p.grad.flatten() for p in method.model.parameters() if p.grad is not None])


def test_every_method_can_combine_gradients_impartially(name: str) -> None:
    """Gradients that have no latent in common never conflict; those that have one are combined."""
    apart = name in ("cvae", "vae", "meme", "mmvm", "coordinated")
    plain = gradient(build(name))
    impartial = gradient(build(name, impartial="pcgrad" if apart else "cagrad"))
    assert (
        torch.isfinite(impartial).all()
        and torch.allclose(plain, impartial, rtol=1e-4, atol=1e-5) == apart
    )


def test_every_method_can_weigh_modalities_by_size(name: str) -> None:
    assert set(EXTRAS) < set(inspect.signature(METHODS[name]).parameters)
    assert build(name, rescale="dimension").model.weights == {"a": 25 / 3, "b": 25 / 4, "c": 1.0}
    with pytest.raises(ValueError, match="'dimension' or null"):
        build(name, rescale="size")


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_a_prior_is_fitted_to_the_aggregate_posterior(name: str, kind: str) -> None:
    if name == "sbm":
        with pytest.raises(ValueError, match="learns a prior on its latents already"):
            build(name, fitted_prior=kind)
        return
    method = build(name, fitted_prior=kind, components=2)
    stage = method.stages[-1]
    assert stage.name == "prior"
    parts = [prepared(stage, batch(seed=s, size=40)) for s in range(3)]
    before = method.model.prior().sample((5,))
    figures = stage.finish(parts, parts)
    assert before.shape == method.model.prior().sample((5,)).shape and method.model.prior.ready
    if kind == "mixture":  # a flow is trained by gradients first
        assert figures["log_prior"] > figures["log_prior_before"] - 0.5
    else:
        assert stage.loss(parts[0], 1.0).value.shape == (40,)
    assert method.model.generate(n=4)[targets(name)[0]].shape[0] == 4
    first = method.stages[0]
    assert torch.isfinite(first.loss(prepared(first, batch()), 1.0).value).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"networks": {"aa": "mlp"}}, "did you mean 'a'"),
        ({"networks": {"a": "resnet"}}, "no network 'resnet'"),
        ({"networks": {"a": "svhn-conv"}}, "cannot read"),
        ({"latent": 0}, "latent must be a whole number, at least 1; got 0"),
        ({"tail_variance": "wide"}, "tail_variance must be a number, 0 or more; got 'wide'"),
        ({"sampler_options": "hmc"}, "sampler_options must be a mapping"),
    ],
)
def test_bad_options_are_said_in_a_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        METHODS["jnf"](MODALITIES, **{"latent": 2, **options})


def test_every_option_has_bounds(name: str) -> None:
    """A word that means nothing, a number below all sense, a fraction of a thing: each is refused
    before training.
    """
    wrong = {
        str: ["nonsense"],
        float: [-3.0, float("nan"), "0.5"],
        int: [-3, 0.5],
        type(None): ["nonsense", -1],
    }
    METHODS[name](MODALITIES)  # what is refused below is refused for the one option
    for key, option in inspect.signature(METHODS[name]).parameters.items():
        if key not in ("modalities", "networks"):
            for value in wrong.get(type(option.default), []):
                with pytest.raises(ValueError):
                    METHODS[name](MODALITIES, **{key: value})


def test_generate_says_what_it_cannot_read() -> None:
    model, data = build("jnf").model, batch(size=2)
    with pytest.raises(ValueError, match="not \\['d'\\]"):
        model.generate(data, targets=["d"])
    with pytest.raises(ValueError, match="must have shape"):
        model.generate(Batch({"a": torch.zeros(2, 4)}))
    with pytest.raises(ValueError, match="not 'e'"):
        model.generate(Batch({"e": torch.zeros(2, 4)}))
    with pytest.raises(ValueError, match="holds"):
        data.only(["a", "z"])


def test_the_kept_directions_are_chosen_or_given() -> None:
    for kept in (None, 2):
        method = build("jnf_dcca", kept=kept)
        stage = method.stages[1]
        figures = stage.finish([batch(seed=s, size=60) for s in range(3)], [batch(seed=9, size=60)])
        projection = method.model.posterior.experts["a"].embed[1]
        assert figures["kept"] == int(projection.kept) == (kept or figures["kept"])
        h = method.model.posterior.experts["a"].embed(batch().x["a"])
        assert (h[:, : figures["kept"]].std(0) > 0).all() and (h[:, figures["kept"] :] == 0).all()
        torch.testing.assert_close(
            method.model.posterior.spectrum.double(), torch.tensor(figures["spectrum"]).double()
        )


@pytest.mark.parametrize("embedder", ["cca", "contrastive"])
def test_other_embedders_fit_the_slot(embedder: str) -> None:
    method = build("jnf_dcca", embedder=embedder)
    stage = method.stages[1]
    data = batch(holes=True, size=40)
    figures = stage.finish([data] * 3, [data])
    assert 1 <= figures["kept"] <= 3
    if embedder == "contrastive":
        assert stage.trains and stage.loss(data, 0.0).value.shape == (40,)
    else:
        assert not stage.trains
    assert torch.isfinite(method.stages[2].loss(prepared(method.stages[2], data), 1.0).value).all()


def test_one_modality_and_one_sample_are_enough(name: str) -> None:
    if name in ("jnf_dcca", "jnf_score", "cvae"):
        pytest.skip("they need two modalities")
    method = build(name, MODALITIES[:1], rescale="dimension")
    data = batch(size=1).only(["a"])
    for stage in method.stages:
        loss = stage.loss(prepared(stage, data), 1.0).value
        assert loss.shape == (1,) and torch.isfinite(loss).all()
    assert method.model.eval().generate(data)["a"].shape == (1, 1, 3)
    assert method.model.generate()["a"].shape == (1, 1, 3)


@pytest.mark.parametrize("moved", NAMES)
def test_every_modality_moves_the_loss(name: str, moved: str) -> None:
    """None is dropped: the first stage's loss sees a change of each of them, its last one too."""
    method, data = build(name), batch()
    stage, values = method.stages[0], []
    for x in (data.x, {**data.x, moved: 1 - data.x[moved] + 0.5 * (moved == "a")}):
        torch.manual_seed(5)
        values.append(stage.loss(Batch(x, {}, data.label), 1.0).value)
    assert (values[0] != values[1]).all()


def test_a_loss_is_that_of_its_sample_alone(name: str) -> None:
    """A mean and no sum: more samples in the batch leave each one's loss where it was, in the mean
    over draws.
    """
    method, n = build(name, **QUIET.get(name, {})), 300
    stage, data = method.stages[0], batch(size=6)
    if name == "partitioned":
        pytest.skip("its contrast tells a sample from the others of the batch")
    seen = []
    for size in (3, 6):
        part = Batch({m: x[:size] for m, x in data.x.items()}, {}, data.label[:size])
        torch.manual_seed(3)
        seen.append(stage.loss(repeated(part, n), 1.0).value.detach().reshape(size, n)[:3])
    agree(*seen)


def test_a_run_trains_every_stage_and_comes_back(name: str, tmp_path) -> None:
    data = Dataset(MODALITIES, batch(size=64).x, label=torch.arange(64) % 10)
    splits = Splits(data, data.take(torch.arange(32)), data.take(torch.arange(8)))
    run = trained(name, splits, 1, tmp_path / "run")
    start = trained(name, splits, 0).model.state_dict()
    moved = [
        k for k, v in run.model.state_dict().items() if k in start and not torch.equal(v, start[k])
    ]
    for stage in run.method.stages:
        ours = {id(p) for part in stage.trains for p in part.parameters() if p.requires_grad}
        names = {k for k, p in run.model.named_parameters() if id(p) in ours}
        assert names & set(moved) or not names, f"nothing of stage {stage.name} moved"
    back = load(tmp_path / "run")
    for model in (run.model, back.model):
        torch.manual_seed(3)
        model.out = model.generate(batch(size=3).only(["a"]), n=2)
    assert all(torch.equal(run.model.out[m], back.model.out[m]) for m in targets(name))


def trained(name: str, splits: Splits, epochs: int, out=None) -> Run:
    known = inspect.signature(METHODS[name]).parameters
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items() if k in known}
    options |= {"size": 3} if name in ("jnf_dcca", "jnf_score") else {}
    return fit(name, splits, out=out, latent=2, epochs=epochs, batch=32, progress=False, **options)


def test_a_variance_thrown_out_of_bounds_is_finite_and_comes_back() -> None:
    """Beyond e^+-20 nothing overflows, yet the divergence's gradient still points home."""
    h = torch.tensor([[0.0, 0.0, 60.0, -60.0]], requires_grad=True)
    q = normal_head(h)
    torch.testing.assert_close(q.variance, torch.tensor([[20.0, -20.0]]).exp())
    divergence(q, DiagNormal(torch.zeros(2), torch.ones(2)), q.loc).sum().backward()
    assert h.grad[0, 2] > 0 > h.grad[0, 3] and torch.isfinite(h.grad).all()
