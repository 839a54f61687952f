"""Every method under the same laws, on the same small data."""

import inspect

import pytest
import torch
from torch.distributions import Distribution

from fixed_noise import FixedNoise
from polymodal.batch import Batch, Modality
from polymodal.checks import Group
from polymodal.data.dataset import Dataset
from polymodal.data.splits import Splits
from polymodal.distributions.divergences import divergence
from polymodal.distributions.normal import DiagNormal
from polymodal.methods import METHODS
from polymodal.methods.extras import EXTRAS
from polymodal.methods.joint import joint_elbo, surrogate_kl
from polymodal.networks.heads import normal_head
from polymodal.posteriors import JointWithSurrogates
from polymodal.posteriors.pooling import powerset
from polymodal.priors import FittedPrior
from polymodal.runs.run import Run, load
from polymodal.sampling import HMC
from polymodal.training.fit import fit

MODALITIES = [
    Modality("a", (3,)),
    Modality("b", (4,), "bernoulli"),
    Modality("c", (1, 5, 5), link="sigmoid", weight=2.0),
]
NAMES, SIZE = ["a", "b", "c"], 12
SMALL = {
    "hidden": 16,
    "private": 2,
    "pseudo_inputs": 5,
    "k": 3,
    "flow": {"hidden": [16]},
    "embedding": {"embedding_size": 3, "ridge": 1e-2},
    "denoiser": {"width": 16, "depth": 1},
}
QUIET = {"discrepancy": 0.0, "contrast": 0.0}  # without terms that couple the samples of a batch
ROLES = {"target": "c", "lead": "a"}


def batch(holes: bool = False, seed: int = 0, size: int = SIZE) -> Batch:
    torch.manual_seed(seed)
    x = {
        "a": torch.randn(size, 3),
        "b": torch.randint(0, 2, (size, 4)).float(),
        "c": torch.rand(size, 1, 5, 5),
    }
    present = {"a": torch.arange(size) % 3 != 0, "b": torch.arange(size) % 3 != 1} if holes else {}
    return Batch(x, present, torch.arange(size) % 10)


def having(name: str, options: dict) -> dict:
    """Those of the options that the method has."""
    return {k: v for k, v in options.items() if k in inspect.signature(METHODS[name]).parameters}


def build(name: str, modalities=MODALITIES, **options):
    torch.manual_seed(1)
    return METHODS[name](modalities, latent=2, **(having(name, SMALL) | options))


def prepared(stage, model, data: Batch) -> Batch:
    if stage.prepare is None:
        return data
    torch.manual_seed(11)  # as the trainer does: what is kept is drawn once
    with torch.no_grad():
        return stage.prepare(model, data)


def loss_of(method, stage, data: Batch, seed: int = 5, progress: float = 1.0) -> torch.Tensor:
    """The stage's loss of each sample, on prepared data."""
    data = prepared(stage, method.model, data)
    torch.manual_seed(seed)
    return stage.loss(method.model, data, progress).value


@pytest.fixture(params=sorted(METHODS))
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("holes", [False, True])
def test_losses_and_gradients_are_finite_and_losses_per_sample(name: str, holes: bool) -> None:
    method = build(name)
    for stage in method.stages:
        loss = stage.loss(method.model, prepared(stage, method.model, batch(holes)), 1.0)
        assert loss.value.shape == (SIZE,) and torch.isfinite(loss.value).all()
        assert loss.terms and all(t.shape == (SIZE,) for t in loss.terms.values())
        if loss.value.requires_grad:
            loss.value.sum().backward()
        for key, p in method.model.named_parameters():
            assert p.grad is None or torch.isfinite(p.grad).all(), f"{stage.name}: {key}"


def test_gradients_reach_exactly_what_a_stage_trains(name: str) -> None:
    method = build(name)
    parameters, earlier = dict(method.model.named_parameters()), set()
    for stage in method.stages:
        modules = stage.modules(method.model)
        trained = {id(p) for part in modules for p in part.parameters() if p.requires_grad}
        for p in parameters.values():
            p.grad = None
        if not trained:
            continue
        loss_of(method, stage, batch(holes=True)).mean().backward()
        reached = {
            n for n, p in parameters.items() if p.grad is not None and p.grad.abs().sum() > 0
        }
        meant = {n for n, p in parameters.items() if id(p) in trained}
        # A loss may pass through what an earlier stage trained: the trainer holds that.
        assert reached <= meant | earlier
        earlier |= meant
        # The embedding of a missing modality only acts where that is missing: c never is.
        quiet = {n for n in meant - reached if not n.endswith("absent.c")}
        dead = {n for n in quiet if parameters[n].grad is None}
        assert not dead, f"{stage.name}: no gradient reaches {sorted(dead)}"


def test_generates_from_every_subset_and_from_none(name: str) -> None:
    model, data = build(name).model.eval(), batch(size=3)
    shapes = {m.name: m.shape for m in MODALITIES if m.name in model.decoders}
    for given in powerset(NAMES):
        out = model.generate(data.only(given), n=2)
        assert {m: (2, 3, *shape) for m, shape in shapes.items()} == {
            k: tuple(v.shape) for k, v in out.items()
        }
        assert all(torch.isfinite(v).all() for v in out.values())
        assert isinstance(model.posterior(data.only(given)), Distribution)
    one = list(model.decoders)[-1]
    assert model.generate(n=5, targets=[one])[one].shape == (5, 1, *shapes[one])
    if "b" in model.decoders:
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
            assert torch.equal(*(loss_of(method, stage, one) for one in (data, other)))


def test_an_absent_modality_adds_nothing_to_a_loss(name: str) -> None:
    """A mask that is False throughout and a modality that is not there at all are the same loss in
    the mean.
    """
    method, n = build(name, **having(name, QUIET)), 400
    data = repeated(batch(size=6), n)
    none = torch.zeros(len(data), dtype=torch.bool)
    for stage in method.stages:
        pair = (Batch(data.x, {"c": none}, data.label), data.only(["a", "b"]))
        agree(*(loss_of(method, stage, one, seed=3).detach().reshape(6, n) for one in pair))


def patterns() -> dict[str, torch.Tensor]:
    """Masks of seven samples: every non-empty subset of a, b, c once."""
    subsets = powerset(NAMES)
    return {m: torch.tensor([m in s for s in subsets]) for m in NAMES}


def trained_on(method, data: Batch) -> None:
    """Has the joint encoder, if there is one, remember the patterns of `data`."""
    for stage in method.stages:
        if stage.name == "joint":
            stage.finish(method.model, [data], [data])


def fitted(model) -> None:
    """Has every prior that is fitted after training take its place."""
    for module in model.modules():
        if isinstance(module, FittedPrior):
            module.ready.fill_(True)


@pytest.mark.parametrize("seen", ["complete", "two patterns"])
def test_a_mask_means_the_same_as_a_key_that_is_absent(name: str, seen: str) -> None:
    """Row by row and with the same noise, a batch with masks gives what `only` gives."""
    method, data = build(name), batch(size=7)
    both = Batch(data.x, {"c": torch.arange(7) < 4})
    trained_on(method, data if seen == "complete" else both)
    model, present = method.model.eval(), patterns()
    fitted(model)
    if "hmc" in model.posterior.samplers:  # otherwise the hardest sample of a batch sets the steps
        model.sampler = HMC(warmup=4, draws=6, leapfrog=3, trajectory=None)
    with FixedNoise():
        masked = model.latents(Batch(data.x, present), n=3)
        for row, subset in enumerate(powerset(NAMES)):
            alone = model.latents(data.only(subset), n=3)
            torch.testing.assert_close(masked[:, row], alone[:, row], atol=1e-6, rtol=1e-6)


def test_the_joint_encoder_answers_for_the_patterns_of_training_only() -> None:
    method, data = build("jmvae"), batch(size=4)
    model = method.model.eval()
    trained_on(method, Batch(data.x, {"c": torch.tensor([True, True, False, False])}))
    assert bool(model.posterior.is_trained(data).all())
    pair = data.only(["a", "b"])
    torch.testing.assert_close(model.posterior(pair).mean, model.posterior.joint(pair).mean)
    other = data.only(["a", "c"])
    torch.testing.assert_close(model.posterior(other).mean, model.posterior.surrogate(other).mean)
    assert not torch.allclose(model.posterior(other).mean, model.posterior.joint(other).mean)


def test_what_is_not_observed_at_all_has_the_prior(name: str) -> None:
    model, data = build(name).model.eval(), batch(size=3)
    here = torch.tensor([True, False, True])
    z = model.latents(Batch(data.only(["a", "b"]).x, {"a": here, "b": here}), n=4000)
    prior = model.prior().sample((4000,))
    assert (z[:, 1].mean(0) - prior.mean(0)).abs().max() < 0.12
    assert (z[:, 1].std(0) - prior.std(0)).abs().max() < 0.12


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
    given = having(name, ROLES | QUIET)
    method, other = build(name, **given), build(name, MODALITIES[::-1], **given)
    other.model.load_state_dict(turned(method.model))
    n = 300
    data = repeated(batch(holes=True, size=6), n)
    swapped = Batch({m: data.x[m] for m in NAMES[::-1]}, data.present, data.label)
    for stage, twin in zip(method.stages, other.stages, strict=True):
        pair = ((method, stage, data), (other, twin, swapped))
        values = [loss_of(*one).detach() for one in pair]
        if stage.loss.function in (joint_elbo, surrogate_kl):  # one z is drawn, whatever the order
            torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)
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
    for key in [k for k in state if k.endswith("trained_patterns")]:
        state[key] = state[key].flip(1)
    return {k: torch.cat(v.split(2)[::-1]) if k == "columns" else v for k, v in state.items()}


def test_state_survives_save_and_load(name: str, tmp_path) -> None:
    from safetensors.torch import load_model, save_model

    method = build(name)
    for stage in method.stages:
        if stage.finish:
            train = [prepared(stage, method.model, batch(seed=s, size=40)) for s in range(3)]
            val = [prepared(stage, method.model, batch(seed=9, size=40))]
            stage.finish(method.model, train, val)
    save_model(method.model, str(tmp_path / "m.safetensors"))
    other = build(name).model
    for p in other.parameters():
        torch.nn.init.zeros_(p)
    load_model(other, str(tmp_path / "m.safetensors"))
    for model in (method.model, other):
        torch.manual_seed(3)
        model.out = model.eval().generate(batch(size=3).only(["a"]), n=2)
    assert all(torch.equal(method.model.out[m], other.out[m]) for m in method.model.decoders)


def gradient(method) -> torch.Tensor:
    """Of the first stage's loss, all parameters side by side."""
    stage = method.stages[0]
    loss_of(method, stage, batch()).sum().backward()
    return torch.cat([p.grad.flatten() for p in method.model.parameters() if p.grad is not None])


def test_gradients_that_meet_at_a_latent_are_combined_impartially(name: str) -> None:
    """A method that decodes every modality from its own draw refuses."""
    plain = gradient(build(name))
    try:
        impartial = gradient(build(name, impartial="cagrad"))
    except ValueError as refusal:
        assert "no latent draw is decoded into several modalities" in str(refusal)
        return
    assert torch.isfinite(impartial).all()
    assert not torch.allclose(plain, impartial, rtol=1e-4, atol=1e-5)


def test_every_method_can_weigh_modalities_by_size(name: str) -> None:
    assert {p.name for p in EXTRAS} < set(inspect.signature(METHODS[name]).parameters)
    assert build(name, rescale="dimension").model.weights == {"a": 25 / 3, "b": 25 / 4, "c": 1.0}
    root = build(name, rescale="root").model.weights
    assert root == {"a": (25 / 3) ** 0.5, "b": 2.5, "c": 1.0}
    with pytest.raises(ValueError, match="rescale must be one of dimension, root or null"):
        build(name, rescale="size")


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_a_prior_is_fitted_to_the_aggregate_posterior(name: str, kind: str) -> None:
    if "prior" in [stage.name for stage in build(name).stages]:
        with pytest.raises(ValueError, match="learns a prior on its latents already"):
            build(name, fitted_prior=kind)
        return
    method = build(name, fitted_prior=kind, components=2)
    stage = method.stages[-1]
    assert stage.name == "prior"
    parts = [prepared(stage, method.model, batch(seed=s, size=40)) for s in range(3)]
    before = method.model.prior().sample((5,))
    figures = stage.finish(method.model, parts, parts)
    assert before.shape == method.model.prior().sample((5,)).shape and method.model.prior.ready
    if kind == "mixture":  # a flow is trained by gradients first
        assert figures["log_prior"] > figures["log_prior_before"] - 0.5
    else:
        assert stage.loss(method.model, parts[0], 1.0).value.shape == (40,)
    assert all(x.shape[0] == 4 for x in method.model.generate(n=4).values())
    assert torch.isfinite(loss_of(method, method.stages[0], batch())).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"networks": {"aa": "mlp"}}, "Did you mean networks.a"),
        ({"networks": {"a": "resnet"}}, "no network 'resnet'"),
        ({"networks": {"a": "svhn-conv"}}, "cannot read"),
        ({"latent": 0}, "latent must be a whole number of at least 1, got 0"),
        (
            {"flow": {"tail_variance": "wide"}},
            "flow.tail_variance must be a positive number or null, got 'wide'",
        ),
        ({"sampler": "hmc"}, "sampler must be a mapping"),
        (
            {"sampler": {"name": "hmc", "drws": 3}},
            "There is no setting sampler.drws. Did you mean draws",
        ),
        ({"flow": {"kind": "maff"}}, "Did you mean maf"),
    ],
)
def test_bad_options_are_said_in_a_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        METHODS["jnf"](MODALITIES, **{"latent": 2, **options})


def test_every_option_has_bounds(name: str) -> None:
    """A word that means nothing, a number below all sense, a fraction of a thing: each is refused
    before training.
    """
    METHODS[name](MODALITIES)  # what is refused below is refused for the one option
    for key, option in inspect.signature(METHODS[name]).parameters.items():
        if key not in ("modalities", "networks"):
            for value in wrong(option.default):
                with pytest.raises(ValueError):
                    METHODS[name](MODALITIES, **{key: value})


def wrong(default) -> list:
    """Values that an option with this default must refuse; of a group, for each of its settings."""
    if isinstance(default, Group):
        return [{key: v} for key, value in dict(default).items() for v in wrong(value)]
    if isinstance(default, bool):
        return ["nonsense", 3]
    if isinstance(default, int):
        return [-3, 0.5]
    if isinstance(default, float):
        return [-3.0, float("nan"), "0.5"]
    return ["nonsense", -1]


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


def test_the_number_of_directions_is_chosen_or_given() -> None:
    for number in (None, 2):
        method = build("jnf_dcca", embedding=SMALL["embedding"] | {"num_directions": number})
        stage = method.stages[1]
        train = [batch(seed=s, size=60) for s in range(3)]
        figures = stage.finish(method.model, train, [batch(seed=9, size=60)])
        embeddings = method.model.posterior.embeddings
        used = number or figures["correlated_directions"]
        assert used == embeddings.num_directions
        h = embeddings.networks["a"](batch().x["a"])
        assert (h[:, :used].std(0) > 0).all() and (h[:, used:] == 0).all()
        spectrum = torch.tensor(figures["spectrum"]).double()
        torch.testing.assert_close(embeddings.spectrum.double(), spectrum)


@pytest.mark.parametrize("kind", ["dcca", "contrastive"])
def test_embeddings_are_trained_alike_however_many_directions_are_used(kind: str) -> None:
    data, found = batch(size=60), {}
    for number in (None, 1):
        embedding = SMALL["embedding"] | {"num_directions": number, "kind": kind}
        method = build("jnf_dcca", embedding=embedding)
        loss = method.stages[1].loss(method.model, data, 0.0).value.mean()
        networks = method.model.posterior.embeddings.networks
        weights = [p for g in networks.values() for p in g[0].parameters()]
        found[number] = (loss, *torch.autograd.grad(loss, weights))
    torch.testing.assert_close(found[1], found[None], atol=0, rtol=0)
    assert all((g != 0).any() for g in found[1][1:])


@pytest.mark.parametrize("kind", ["cca", "contrastive"])
def test_other_embeddings_fit_the_slot(kind: str) -> None:
    method = build("jnf_dcca", embedding=SMALL["embedding"] | {"kind": kind})
    stage = method.stages[1]
    data = batch(holes=True, size=40)
    figures = stage.finish(method.model, [data] * 3, [data])
    assert 1 <= figures["correlated_directions"] <= 3
    if kind == "contrastive":
        assert stage.trains and stage.loss(method.model, data, 0.0).value.shape == (40,)
    else:
        assert not stage.trains
    assert torch.isfinite(loss_of(method, method.stages[2], data)).all()


def test_one_modality_and_one_sample_are_enough(name: str) -> None:
    try:
        method = build(name, MODALITIES[:1], rescale="dimension")
    except ValueError as refusal:
        assert "needs at least 2 modalities, got 1" in str(refusal)
        return
    data = batch(size=1).only(["a"])
    for stage in method.stages:
        loss = loss_of(method, stage, data)
        assert loss.shape == (1,) and torch.isfinite(loss).all()
    assert method.model.eval().generate(data)["a"].shape == (1, 1, 3)
    assert method.model.generate()["a"].shape == (1, 1, 3)


@pytest.mark.parametrize("moved", NAMES)
def test_every_modality_moves_the_loss(name: str, moved: str) -> None:
    """None is dropped: the first stage's loss sees a change of each of them, its last one too."""
    method, data = build(name, **having(name, {"hide": 0.0})), batch()
    stage, values = method.stages[0], []
    for x in (data.x, {**data.x, moved: 1 - data.x[moved] + 0.5 * (moved == "a")}):
        values.append(loss_of(method, stage, Batch(x, {}, data.label)))
    assert (values[0] != values[1]).all()


def test_a_loss_is_that_of_its_sample_alone(name: str) -> None:
    """A mean and no sum: more samples in the batch leave each one's loss where it was, in the mean
    over draws.
    """
    method, n = build(name, **having(name, QUIET)), 300
    stage, data = method.stages[0], batch(size=6)
    seen = []
    for size in (3, 6):
        part = Batch({m: x[:size] for m, x in data.x.items()}, {}, data.label[:size])
        seen.append(loss_of(method, stage, repeated(part, n), seed=3).detach().reshape(size, n)[:3])
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
        parts = stage.modules(run.model)
        ours = {id(p) for part in parts for p in part.parameters() if p.requires_grad}
        names = {k for k, p in run.model.named_parameters() if id(p) in ours}
        assert names & set(moved) or not names, f"nothing of stage {stage.name} moved"
    back = load(tmp_path / "run")
    for model in (run.model, back.model):
        torch.manual_seed(3)
        model.out = model.generate(batch(size=3).only(["a"]), n=2)
    assert all(torch.equal(run.model.out[m], back.model.out[m]) for m in run.model.decoders)


def trained(name: str, splits: Splits, epochs: int, out=None) -> Run:
    options = {"latent": 2, "epochs": epochs, "batch": 32} | having(name, SMALL)
    return fit(name, splits, out=out, progress=False, **options)


def test_a_variance_thrown_out_of_bounds_is_finite_and_comes_back() -> None:
    """Beyond e^+-20 nothing overflows, yet the divergence's gradient still points home."""
    h = torch.tensor([[0.0, 0.0, 60.0, -60.0]], requires_grad=True)
    q = normal_head(h)
    torch.testing.assert_close(q.variance, torch.tensor([[20.0, -20.0]]).exp())
    divergence(q, DiagNormal(torch.zeros(2), torch.ones(2)), q.loc).sum().backward()
    assert h.grad[0, 2] > 0 > h.grad[0, 3] and torch.isfinite(h.grad).all()


def test_linear_embeddings_take_modalities_of_fewer_values_than_directions() -> None:
    """a has 3 values, b 4 and g_m 6 outputs: those beyond a's directions are 0. With 2 outputs, no
    more than 2 directions are chosen, however many are correlated.
    """
    x = torch.randn(400, 3)
    both = Batch({"a": x, "b": torch.cat([x, torch.randn(400, 1)], 1)})
    for size, most in ((6, 3), (2, 2)):
        embedding = {"kind": "cca", "embedding_size": size}
        method = build("jnf_dcca", MODALITIES[:2], embedding=embedding)
        figures = method.stages[1].finish(method.model, [both], [both])
        assert figures["correlated_directions"] == most
        networks = method.model.posterior.embeddings.networks
        a, b = (networks[m](both.x[m])[:, :most] for m in "ab")
        assert (networks["a"](x)[:, most:] == 0).all()
        for k in range(most):
            assert torch.corrcoef(torch.stack([a[:, k], b[:, k]]))[0, 1] > 0.999


def test_the_ridge_of_linear_embeddings_is_the_users() -> None:
    """Of one value each, of variance v: its variate has the variance v / (v + r v)."""
    x = 3 * torch.randn(4000, 1)
    pair = [Modality("a", (1,)), Modality("b", (1,))]
    both = Batch({"a": x, "b": x})
    found = {}
    for ridge in (None, 1.0):
        embedding = {"kind": "cca", "embedding_size": 1, "ridge": ridge, "num_directions": 1}
        method = build("jnf_dcca", pair, embedding=embedding)
        method.stages[1].finish(method.model, [both], [both])
        g = method.model.posterior.embeddings.networks["a"]
        found[ridge] = float(g(x).detach().std())
    assert found[None] == pytest.approx(1, abs=1e-3)
    assert found[1.0] == pytest.approx(0.5**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jnf_dcca", {"embedding": {"embedding_size": 4, "num_directions": 5}}, "at most"),
        (
            "jnf_dcca",
            {"embedding": {"kind": "cca", "embedding_size": 8, "num_directions": 4}},
            "at most 3, the number of values of the smallest modality",
        ),
        ("jnf_dcca", {"embedding": {"kind": "cca", "dropout": 0.1}}, "kind=cca has a closed form"),
        ("sbm", {"decoder_noise": 0.1}, "posterior=point"),
        ("sbm", {"decoder_noise": 0.1, "posterior": "laplace"}, "posterior=point"),
        ("sbm", {"impartial": "cagrad"}, "no latent draw is decoded into several modalities"),
        ("vae", {"impartial": "cagrad"}, "impartial has no effect on vae"),
        ("pooled", {"posterior": "flow", "objective": "dreg"}, "take objective=iwae"),
        (
            "pooled",
            {"posterior": "laplace", "pooling": "mixture", "prior": {"expert": True}},
            "pooling=mixture, or posterior=normal",
        ),
        (
            "pooled",
            {"prior": {"name": "laplace", "expert": True}},
            "take prior.name=normal and posterior=normal, or prior.expert=false",
        ),
        ("jnf", {"flow": {"kind": "spline", "max_scale": 5}}, "kind='spline'"),
    ],
)
def test_options_that_would_do_nothing_or_fail_later_are_refused(
    name: str, options: dict, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        METHODS[name](MODALITIES, **options)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("posterior", ["normal", "flow"])
def test_learned_weights_of_a_mixture_are_seen_whatever_holds_it(
    posterior: str, holes: bool
) -> None:
    """Hoelder's mixture through a flow, and where modalities may be absent: the ELBO is refused,
    every component is a stratum, and the density is that of the components.
    """
    data = batch()
    if holes:
        data = Batch(data.x, {m: torch.arange(SIZE) % 4 != i for i, m in enumerate("abc")})
    method = build("pooled", pooling="hoelder", posterior=posterior)
    with pytest.raises(ValueError, match="objective=elbo cannot learn these mixture weights"):
        loss_of(method, method.stages[0], data)
    strata, weights = method.model.posterior.strata(data)
    assert len(strata) == weights.shape[1] >= 6 and weights.requires_grad
    torch.testing.assert_close(weights.sum(-1), torch.ones(SIZE))
    q, z = method.model.posterior(data), strata[0].rsample()
    logs = torch.stack([c.log_prob(z) for c in q.components], -1)
    torch.testing.assert_close(q.log_prob(z), (logs.exp() * q.weights).sum(-1).log())


def test_masks_follow_the_experts_that_a_posterior_has() -> None:
    """Of b there is no expert: its mask is none of the product's."""
    seen = []

    def combine(q: list, present: list | None) -> Distribution:
        seen.append((len(q), present))
        return q[0]

    data = batch(holes=True)
    method = build("jmvae_two_stage")
    experts = {m: method.model.posterior.experts[m] for m in "ac"}
    JointWithSurrogates(method.model.posterior.joint, experts, combine).surrogate(data)
    ((count, present),) = seen
    assert count == len(present) == 2 and present[0].equal(data.present["a"])
    assert present[1].all()
