"""Every method under the same laws, on the same small data."""

import pytest
import torch
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.methods import METHODS
from polymodal.posteriors import powerset

MODALITIES = [
    Modality("a", (3,)),
    Modality("b", (4,), "bernoulli"),
    Modality("c", (1, 5, 5), link="sigmoid", weight=2.0),
]
NAMES, SIZE = ["a", "b", "c"], 12


def batch(holes: bool = False, seed: int = 0, size: int = SIZE) -> Batch:
    torch.manual_seed(seed)
    x = {"a": torch.randn(size, 3), "b": torch.randint(0, 2, (size, 4)).float(), "c": torch.rand(size, 1, 5, 5)}
    present = {"a": torch.arange(size) % 3 != 0, "b": torch.arange(size) % 3 != 1} if holes else {}
    return Batch(x, present)


def build(name: str, modalities=MODALITIES, **options):
    torch.manual_seed(1)
    if name == "jnf_dcca":
        options = {"size": 3, "ridge": 1e-2, **options}
    if name.startswith("jnf"):
        options = {"flow_hidden": (16,), **options}
    return METHODS[name](modalities, latent=2, hidden=16, **options)


def prepared(stage, data: Batch) -> Batch:
    if stage.prepare is None:
        return data
    with torch.no_grad():
        return stage.prepare(data)


@pytest.fixture(params=sorted(METHODS))
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("holes", [False, True])
def test_losses_are_finite_and_per_sample(name: str, holes: bool) -> None:
    for stage in build(name).stages:
        loss = stage.loss(prepared(stage, batch(holes)), 1.0)
        assert loss.value.shape == (SIZE,) and torch.isfinite(loss.value).all()
        assert loss.terms and all(t.shape == (SIZE,) for t in loss.terms.values())


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
        reached = {n for n, p in parameters.items() if p.grad is not None and p.grad.abs().sum() > 0}
        meant = {n for n, p in parameters.items() if id(p) in trained}
        # TELBO's and M2VAE's decoders take part in the second stage's loss but are held by the trainer.
        held = {n for n in parameters if n.startswith("decoders")} if name in ("telbo", "m2vae") else set()
        assert reached - held <= meant
        # An absent stand-in only acts where its modality is missing: c never is here.
        quiet = {n for n in meant - reached if n != "posterior.joint.absent.c"}
        dead = {n for n in quiet if parameters[n].grad is None}
        assert not dead, f"{stage.name}: no gradient reaches {sorted(dead)}"


def test_generates_from_every_subset_and_from_none(name: str) -> None:
    model, data = build(name).model.eval(), batch(size=3)
    for given in powerset(NAMES):
        out = model.generate(data.only(given), n=2)
        assert {m.name: (2, 3, *m.shape) for m in MODALITIES} == {k: tuple(v.shape) for k, v in out.items()}
        assert all(torch.isfinite(v).all() for v in out.values())
        assert isinstance(model.posterior(data.only(given)), Distribution)
    assert model.generate(n=5, targets=["b"])["b"].shape == (5, 1, 4)
    draws = model.generate(data.only(["a"]), n=4, mean=False)["b"]
    assert set(draws.unique().tolist()) <= {0.0, 1.0}


def test_absent_values_never_move_a_loss(name: str) -> None:
    method, data = build(name), batch(holes=True)
    for junk in (1e6, float("nan"), float("inf")):
        x = {m: v.clone() for m, v in data.x.items()}
        for m, here in data.present.items():
            x[m][~here] = junk
        other = Batch(x, data.present)
        for stage in method.stages:
            values = []
            for one in (data, other):
                one = prepared(stage, one)
                torch.manual_seed(5)
                values.append(stage.loss(one, 1.0).value)
            assert torch.equal(*values)


def test_wholly_absent_is_the_same_as_not_given(name: str) -> None:
    """A batch without a key and one whose mask is False throughout are the same information."""
    model, data = build(name).model.eval(), batch(size=4)
    masked = Batch(data.x, {"c": torch.zeros(4, dtype=torch.bool)})
    q = model.posterior.joint(masked)
    without = model.posterior.joint(data.only(["a", "b"]))
    torch.testing.assert_close(q.mean, without.mean)


def test_permuting_modalities_permutes_the_result(name: str) -> None:
    """The same weights in another order of modalities: the same losses."""
    method, other = build(name), build(name, MODALITIES[::-1])
    state = method.model.state_dict()
    first = [k for k in state if k.startswith("posterior.joint.mix.0.weight")]
    for key in first:  # the joint encoder's first layer reads the modalities side by side
        blocks = state[key].split(3, dim=1)  # each latent (2) + flag (1) wide
        state[key] = torch.cat(blocks[::-1], dim=1)
    other.model.load_state_dict(state)
    data = batch(holes=True)
    swapped = Batch({m: data.x[m] for m in NAMES[::-1]}, data.present)
    for stage, twin in zip(method.stages, other.stages, strict=True):
        values = []
        for s, d in ((stage, data), (twin, swapped)):
            d = prepared(s, d)
            torch.manual_seed(5)
            values.append(s.loss(d, 1.0).value)
        if name in ("telbo", "m2vae") and stage.name == "surrogates":
            continue  # draws one z per modality, in their order: equal in distribution only
        torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)


def test_state_survives_save_and_load(name: str, tmp_path) -> None:
    from safetensors.torch import load_model, save_model

    method = build(name)
    for stage in method.stages:
        if stage.finish:
            stage.finish([batch(seed=s, size=40) for s in range(3)], [batch(seed=9, size=40)])
    save_model(method.model, str(tmp_path / "m.safetensors"))
    other = build(name).model
    for p in other.parameters():
        torch.nn.init.zeros_(p)
    load_model(other, str(tmp_path / "m.safetensors"))
    for model in (method.model, other):
        torch.manual_seed(3)
        model.out = model.eval().generate(batch(size=3).only(["a"]), n=2)
    assert all(torch.equal(method.model.out[m], other.out[m]) for m in NAMES)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"networks": {"aa": "mlp"}}, "Did you mean 'a'"),
        ({"networks": {"a": "resnet"}}, "no network 'resnet'"),
        ({"networks": {"a": "svhn-conv"}}, "cannot read"),
        ({"latent": 0}, "at least one dimension"),
    ],
)
def test_bad_options_are_said_in_a_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        METHODS["jnf"](MODALITIES, **{"latent": 2, **options})


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
        torch.testing.assert_close(method.model.posterior.spectrum.double(), torch.tensor(figures["spectrum"]).double())


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
