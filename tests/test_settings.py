"""Settings: what they resolve to, and that each mistake is told in one sentence with what was
meant.
"""

import pytest

from polymodal.checks import first_difference
from polymodal.methods import METHODS
from polymodal.settings.recipes import load_recipe, read_yaml, recipes
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import Settings
from toys import toy


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
        ({}, ["training.lr={1"], r"^The settings cannot be read: "),
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
        ({"data": {"name": "shaps"}}, [], r"^There is no data set 'shaps'\. Did you mean shapes\?"),
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
            r"^modalities\.a\.weight must be a number, got 'x'\.$",
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
    with pytest.raises(ValueError, match=r"'x' is not readable YAML: .* in line 2, column 4"):
        read_yaml("a: 1\nb: ]", "x")
    with pytest.raises(ValueError, match="must be a mapping"):
        read_yaml("- 1\n- 2", "x")


def test_the_first_difference_is_named() -> None:
    one, other = {"a": 1, "b": {"c": [1], "d": 2}}, {"a": 1, "b": {"c": [2]}}
    assert first_difference(one, one) is None
    assert first_difference(one, other) == ("b.c", [1], [2])
    assert first_difference({"b": {"d": 2}}, {"b": {}}) == ("b.d", 2, "nothing")
    assert first_difference({}, {"x": 0}) == ("x", "nothing", 0)
