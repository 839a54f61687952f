"""Settings: what they resolve to, and that each mistake is told in one sentence with what was
meant.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import field_validator, model_validator

from polymodal.batch import Modality
from polymodal.checks import (
    BelowOne,
    Count,
    CountOrZero,
    Group,
    NonNegative,
    Positive,
    Share,
    call,
    checked_options,
    first_difference,
    typed,
)
from polymodal.checks.yaml_text import read_mapping
from polymodal.data import load_data
from polymodal.methods import METHODS
from polymodal.settings.data import complete, load_splits
from polymodal.settings.recipes import load_recipe, recipes
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import DataSettings, EvaluationSettings, Settings
from polymodal.training.fit import fit
from toys import toy, toy_data


@pytest.mark.parametrize(
    ("given", "overrides", "says"),
    [
        (
            {},
            ["training.epoch=5"],
            r"^There is no setting training\.epoch\. Did you mean training\.epochs\?$",
        ),
        (
            {},
            ["training.stages.joint.epoch=5"],
            r"training\.stages\.joint\.epoch\. Did you mean .*joint\.epochs\?$",
        ),
        ({}, ["trainin.lr=1"], r"^There is no setting trainin\. Did you mean training\?$"),
        ({}, ["training.lr=fast"], r"^training\.lr must be a positive number, got 'fast'\.$"),
        (
            {},
            ["training.epochs=1.5"],
            r"^training\.epochs must be a whole number of at least 0, got 1\.5\.$",
        ),
        ({}, ["training.compile=1"], r"^training\.compile must be true or false, got 1\.$"),
        (
            {},
            ["training.batch=0"],
            r"^training\.batch must be a whole number of at least 1, got 0\.$",
        ),
        (
            {"training": {"stages": {"joint": {"lr": -1}}}},
            [],
            r"^training\.stages\.joint\.lr must be a positive number, got -1\.$",
        ),
        ({}, ["training.optimizer=adm"], r"one of adam, .*sgd, got 'adm'\. Did you mean adam\?$"),
        (
            {},
            ["training.ema=1"],
            r"^training\.ema must be a number of at least 0 and below 1, got 1\.$",
        ),
        ({}, ["training=3"], r"^training must be a mapping"),
        ({}, ["epochs"], r"written key=value, such as training\.epochs=5; got 'epochs'\.$"),
        ({}, ["training.lr={1"], r"^The value of 'training\.lr' is not readable YAML: "),
        (
            {"method": {"name": "jnf-dca"}},
            [],
            r"^There is no method 'jnf-dca'\. Did you mean jnf_dcca\?",
        ),
        (
            {"method": {"name": "jmvae", "latnt": 3}},
            [],
            r"^There is no setting method\.latnt\. Did you mean .*latent\?$",
        ),
        (
            {"method": {"name": "jmvae", "latent": "x"}},
            [],
            r"^method\.latent must be a whole number of at least 1, got 'x'\.$",
        ),
        ({"data": {"name": "shaps"}}, [], r"^There is no file or data set 'shaps'. Did you mean"),
        (
            {"data": {"name": "shapes", "limt": 3}},
            [],
            r"^There is no setting data\.limt\. Did you mean data\.limit\?$",
        ),
        (
            {"modalities": {"a": {"wight": 1}}},
            [],
            r"modalities\.a\.wight\. Did you mean modalities\.a\.weight\?$",
        ),
        (
            {"modalities": {"a": {"weight": "x"}}},
            [],
            r"^modalities\.a\.weight must be a number from 1e-06 to 1e\+06, got 'x'\.$",
        ),
        (
            {},
            ["training.logger=wadb"],
            r"^training\.logger must be one of tensorboard, wandb or null",
        ),
    ],
)
def test_mistakes_are_told_with_what_was_meant(given, overrides, says) -> None:
    with pytest.raises(ValueError, match=says):
        resolve(given, overrides)


class Flow(Group):
    """A group such as methods have, with a validator of a field and one of the whole."""

    kind: Literal["maf", "coupling"] = "maf"
    transforms: Count = 2
    hidden: tuple[Count, ...] = (128, 128)
    tail_variance: Positive | None = None
    conditional: bool = True

    @field_validator("transforms")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"must be even, got {value}.")
        return value

    @model_validator(mode="after")
    def is_possible(self) -> "Flow":
        if self.kind == "coupling" and self.conditional:
            raise ValueError("conditional needs kind=maf.")
        return self


def method(
    modalities: Any,
    *,
    latent: Count = 20,
    flow: Flow = Flow(tail_variance=2.0),
    sizes: Sequence[int] = (1, 2),
    more: Mapping[str, Any] | None = None,
) -> Flow:
    return flow


@pytest.mark.parametrize(
    ("hint", "value", "result"),
    [
        (int, 3.0, 3),
        (int, np.int64(3), 3),
        (float, 3, 3.0),
        (float, torch.tensor(0.5), 0.5),
        (bool, np.bool_(True), True),
        (list[int], (1, 2.0), [1, 2]),
        (list[float], np.ones(2), [1.0, 1.0]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (Sequence[int], [1, 2], [1, 2]),
        (dict[str, float], {"a": 1, 2: 3}, {"a": 1.0, "2": 3.0}),
        (dict[str, float], None, {}),
        (dict[str, float] | None, None, None),
        (int | float, 3, 3),
        (str | list[str], "a", "a"),
        (Flow | None, None, None),
        (Flow, None, Flow()),
        (Flow, {"transforms": 4.0, "hidden": [8]}, Flow(transforms=4, hidden=(8,))),
        (Any, {"a": torch.ones(2)}, {"a": [1.0, 1.0]}),
    ],
)
def test_values_become_typed_where_nothing_is_lost(hint, value, result) -> None:
    converted = typed(hint, value, "x")
    assert converted == result and type(converted) is type(result)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (int, "3", "method.x must be a whole number, got '3'."),
        (int, True, "method.x must be a whole number, got True."),
        (float, "3", "method.x must be a number, got '3'."),
        (bool, 1, "method.x must be true or false, got 1."),
        (str, 3, "method.x must be a word, got 3."),
        (Share, 3, "method.x must be a number from 0 to 1, got 3."),
        (Share, float("nan"), "method.x must be a number from 0 to 1, got nan."),
        (BelowOne, 1.0, "method.x must be a number of at least 0 and below 1, got 1.0."),
        (NonNegative, float("inf"), "method.x must be a number of at least 0, got inf."),
        (Positive | None, 0, "method.x must be a positive number or null, got 0."),
        (CountOrZero, -1, "method.x must be a whole number of at least 0, got -1."),
        (list[int], [1, "a"], "method.x[1] must be a whole number, got 'a'."),
        (list[str], "abc", "method.x must be a list, got 'abc'."),
        (tuple[int, int], [1], "method.x[1] is missing; it must be a whole number."),
        (dict[str, int], {"a": "b"}, "method.x.a must be a whole number, got 'b'."),
        (str | list[str], 3, "method.x must be a word or a list, got 3."),
        (str | list[str], ["a", 3], "method.x[1] must be a word, got 3."),
        (
            Literal["adam", "sgd"] | None,
            "adm",
            "method.x must be one of adam, sgd or null, got 'adm'. Did you mean adam?",
        ),
        (Flow, 3, "method.x must be a mapping such as {key: value}, got 3."),
        (Flow, {"hidden": [0]}, "method.x.hidden[0] must be a whole number of at least 1, got 0."),
        (
            Flow,
            {"tail_varianse": 1},
            "There is no setting method.x.tail_varianse. Did you mean method.x.tail_variance?",
        ),
        (
            Flow | str,
            {"knd": "maf"},
            "There is no setting method.x.knd. Did you mean method.x.kind?",
        ),
        (Flow, {"transforms": 3}, "method.x.transforms must be even, got 3."),
        (Flow, {"kind": "coupling"}, "method.x.conditional needs kind=maf."),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(hint, value, says) -> None:
    with pytest.raises(ValueError) as error:
        typed(hint, value, "method.x")
    assert str(error.value) == says


def test_a_group_is_frozen_and_tells_mistakes_in_one_sentence() -> None:
    for values, says in (
        ({"tail_variance": -1}, "tail_variance must be a positive number or null, got -1."),
        ({"knd": "maf"}, "There is no setting knd. Did you mean kind?"),
        ({"kind": "coupling"}, "conditional needs kind=maf."),
    ):
        with pytest.raises(ValueError) as error:
            Flow(**values)
        assert str(error.value) == says
    with pytest.raises(ValueError, match="frozen"):
        Flow().kind = "coupling"
    assert Flow(hidden=np.array([3, 4])).hidden == (3, 4)


def test_options_hold_groups_as_nested_mappings_completed_by_the_defaults() -> None:
    flow = {
        "kind": "maf",
        "transforms": 2,
        "hidden": [128, 128],
        "tail_variance": 2.0,
        "conditional": True,
    }
    default = {"latent": 20, "flow": flow, "sizes": [1, 2], "more": None}
    checked = lambda **given: checked_options(method, given, "method", ("modalities",))
    assert checked() == default
    assert checked(flow={"transforms": 4}) == default | {"flow": flow | {"transforms": 4}}
    assert checked(flow=Flow())["flow"]["tail_variance"] is None
    assert checked(**default) == default
    assert call(method, {"flow": {"transforms": 4}}, "method", None) == Flow(
        transforms=4, tail_variance=2.0
    )
    with pytest.raises(
        ValueError, match=r"^There is no setting method\.flow\.hiden\. Did you mean "
    ):
        checked(flow={"hiden": [3]})
    with pytest.raises(ValueError, match=r"^There is no setting method\.latnt\. Did you mean "):
        checked(latnt=3)


def test_options_of_methods_are_nested() -> None:
    recipe = {"method": {"name": "jnf", "flow": {"transforms": 3}}}
    settings = resolve(recipe, ["method.flow.tail_variance=1.2", "method.sampler.draws=100"])
    flow, sampler = (to_dict(settings)["method"][group] for group in ("flow", "sampler"))
    assert (flow["kind"], flow["transforms"], flow["tail_variance"]) == ("maf", 3, 1.2)
    assert sampler == {"name": "hmc", "draws": 100}
    for override, says in (
        (
            "method.sampler.draws=x",
            r"^method\.sampler\.draws must be a whole number of at least 1, got 'x'\.$",
        ),
        ("method.sampler.drws=3", r"^There is no setting method\.sampler\.drws\. Did you mean dra"),
        ("method.sampler.name=hcm", r"^There is no sampler 'hcm'\. Did you mean hmc\?$"),
        ("method.flow=maf", r"^method\.flow must be a mapping such as \{key: value\}, got 'maf'"),
    ):
        with pytest.raises(ValueError, match=says):
            resolve(recipe, [override])
    assert resolve(to_dict(settings)) == settings


def test_a_stage_keeps_the_settings_that_it_names_even_if_they_are_defaults() -> None:
    stages = {"joint": {"epochs": 30}, "surrogates": None}
    settings = resolve({"training": {"epochs": 4, "stages": stages}})
    assert to_dict(settings)["training"]["stages"] == {"joint": {"epochs": 30}, "surrogates": {}}
    assert [settings.training.stage(s).epochs for s in stages] == [30, 4]
    assert resolve(to_dict(settings)).training.stage("joint").epochs == 30


def test_sections_hold_the_options_of_functions_beside_their_fields() -> None:
    evaluation = resolve(
        {}, ["evaluation.limit=5", "evaluation.samples=4", "evaluation.subsets=[a+b]"]
    ).evaluation
    assert evaluation == EvaluationSettings(subsets=["a+b"], limit=5, samples=4)
    assert evaluation.options == {"limit": 5, "samples": 4}
    with pytest.raises(
        ValueError, match=r"^evaluation\.subsets must be all or a list or null, got 3\.$"
    ):
        resolve({}, ["evaluation.subsets=3"])


def test_networks_and_fields_of_modalities_are_completed_by_the_data() -> None:
    modalities = [Modality("image", (3, 28, 28), "laplace"), Modality("table", (4,), weight=3.0)]
    given = {"method": {"name": "jmvae"}, "networks": {"table": "linear"}}
    settings = complete(resolve(given), modalities)
    assert settings.networks == {"image": "digit-conv", "table": "linear"}
    assert settings.modalities["image"]["likelihood"] == "laplace"
    assert settings.modalities["table"]["weight"] == 3.0
    assert set(settings.modalities["table"]) >= {"kind", "likelihood", "weight", "scale", "link"}
    assert resolve(to_dict(settings)) == settings
    assert complete(resolve({}), modalities).networks == {}  # those of a custom method are its own


def test_a_run_writes_every_network_and_modality_and_is_resumed_by_them(tmp_path) -> None:
    run = fit("jmvae", toy_data(), out=tmp_path, epochs=1, latent=2, progress=False)
    assert run.settings["networks"] == {"a": "mlp", "b": "mlp"}
    assert run.settings["modalities"]["a"]["kind"] == "vector"
    assert run.settings["modalities"]["b"]["likelihood"] == "normal"
    again = fit(run.settings, toy_data(), out=tmp_path, progress=False)
    assert again.info["started"] == run.info["started"]


def test_data_are_those_of_the_settings_or_given_in_their_place(tmp_path) -> None:
    shapes = DataSettings(name="shapes", n=100, limit=20)
    changes = {"square": {"weight": 2.0}}
    splits = load_splits(shapes, changes)
    assert len(splits.train) == 20 and splits.modalities[0].weight == 2.0
    assert [m.kind for m in splits.modalities] == ["image", "image"]
    own = load_data("shapes", n=60)
    replaced = load_splits(shapes, changes, own)
    assert len(replaced.train) == len(own.train) and replaced.modalities[0].weight == 2.0
    arrays = {"a": np.ones((40, 2), "float32"), "b": np.ones((40, 3), "float32")}
    np.savez(tmp_path / "mine.npz", **arrays)
    mine = tmp_path / "mine.npz"
    for settings, data in (
        (DataSettings(), mine),
        (DataSettings(name="celeba"), str(mine)),
        (DataSettings(path=str(mine)), None),
        (DataSettings(name=str(mine)), None),
    ):
        assert [m.name for m in load_splits(settings, {}, data).modalities] == ["a", "b"]
    assert len(load_splits(shapes, {}, tmp_path).train) == 20  # the folder of the named data sets
    with pytest.raises(ValueError, match=r"^There is no data: set data\.name"):
        load_splits(DataSettings(), {})


def test_overrides_win_stages_inherit_and_defaults_are_written_out(monkeypatch) -> None:
    monkeypatch.setitem(METHODS, "toy_one", toy)
    given = {
        "method": {"name": "toy-one"},
        "training": {"epochs": 4, "stages": {"joint": {"lr": 1e-2}}},
    }
    settings = resolve(
        given, ["training.epochs=7", "training.stages.joint.batch=16", "method.weight=2"]
    )
    joint, other = settings.training.stage("joint"), settings.training.stage("surrogates")
    assert (joint.epochs, joint.lr, joint.batch, other.lr, other.batch) == (7, 1e-2, 16, 1e-3, 128)
    assert settings.method.name == "toy_one"
    assert settings.method.options == {"latent": 2, "plain": False, "weight": 2.0}
    assert given["training"]["epochs"] == 4  # arguments stay as they were
    assert resolve(to_dict(settings)) == settings
    assert resolve(settings, more={"training": {"lr": 0.5}}).training.lr == 0.5
    assert resolve() == Settings()


def test_recipes_by_name_file_or_nearest(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("training: {epochs: 3, lr: 1e-4}\ndata: {name: shapes}\n")
    given = load_recipe(tmp_path / "mine.yaml")
    assert given == {"training": {"epochs": 3, "lr": 1e-4}, "data": {"name": "shapes"}}
    for name in recipes():
        resolve(load_recipe(name))
    with pytest.raises(ValueError, match="There is no recipe 'no-such'"):
        load_recipe("no-such")
    with pytest.raises(ValueError, match=r"There is no file .*other\.yaml"):
        load_recipe(tmp_path / "other.yaml")
    with pytest.raises(ValueError, match=r"x is not readable YAML: .* in line 2, column 4"):
        read_mapping("a: 1\nb: ]", "x")
    with pytest.raises(ValueError, match="must be a mapping"):
        read_mapping("- 1\n- 2", "x")


def test_the_first_difference_is_named() -> None:
    one, other = {"a": 1, "b": {"c": [1], "d": 2}}, {"a": 1, "b": {"c": [2]}}
    assert first_difference(one, one) is None
    assert first_difference(one, other) == ("b.c.0", 1, 2)
    assert first_difference({"b": {"d": 2}}, {"b": {}}) == ("b.d", 2, "nothing")
    assert first_difference({}, {"x": 0}) == ("x", "nothing", 0)
    assert first_difference({}, {"x": None, "y": [], "z": ()}) is None  # settings that came later
    assert first_difference({}, {"x": False}) is None
    assert first_difference({}, {"x": True}) == ("x", "nothing", True)
    assert first_difference({"x": 0}, {"x": None}) == ("x", 0, None)
    assert first_difference({"x": [{"a": 1}]}, {"x": [{"a": 1, "b": None}]}) is None
    assert first_difference({"x": [1]}, {"x": [1, 2]}) == ("x", [1], [1, 2])
