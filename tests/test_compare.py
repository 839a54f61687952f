"""Comparisons: settings laid over recipes, and equal stages trained once."""

import pytest

from polymodal.experiments import plan as compare


def test_a_comparison_lays_itself_over_its_recipes_and_shares_equal_stages(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    recipes = "[shapes-jmvae, shapes-telbo, shapes-jnf, shapes-jnf-dcca]"
    stages = "{embeddings: {epochs: 7}, surrogates: {lr: 2e-3}}"
    mine.write_text(
        f"compare: {recipes}\nseeds: [1, 4]\ndata: {{n: 600}}\ntraining: {{stages: {stages}}}\n"
    )
    plan = compare.make_plan(str(mine), tmp_path / "out", ["training.batch=48"])
    runs = {(r.label, r.seed): r for r in plan.runs}
    assert list(runs) == [(m, s) for s in (1, 4) for m in ("jmvae", "telbo", "jnf", "jnf-dcca")]
    assert len(plan.data.train) == 378 and all(r.settings.training.batch == 48 for r in plan.runs)
    assert runs["jnf-dcca", 1].settings.training.stage("embeddings").epochs == 7
    assert "embeddings" not in runs["jnf", 1].settings.training.stages
    # JMVAE's one stage trains with the surrogates' consensus: nobody else's; TELBO's surrogates
    # have another loss.
    for seed in (1, 4):
        assert not runs["jmvae", seed].reuse and not runs["telbo", seed].reuse
        for label in ("jnf", "jnf-dcca"):
            assert runs[label, seed].reuse == {"joint": tmp_path / "out" / f"telbo-seed{seed}"}


def test_options_in_a_comparison_are_for_the_methods_that_have_them(tmp_path) -> None:
    options = ["data.n=600", "method.embedding.num_directions=3", "method.hidden=32"]
    plan = compare.make_plan("shapes", tmp_path, options)
    embeddings = {run.label: run.settings.method.options.get("embedding", {}) for run in plan.runs}
    chosen = {label: options.get("num_directions") for label, options in embeddings.items()}
    assert chosen == {"jmvae-two-stage": None, "jnf": None, "jnf-dcca": 3}
    assert {run.settings.method.options["hidden"] for run in plan.runs} == {32}
    with pytest.raises(ValueError, match=r"Did you mean method\.embedding\?"):
        compare.make_plan("shapes", tmp_path, ["method.embeding.num_directions=3"])


def test_stages_of_other_settings_are_not_shared(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("base: shapes-jnf-dcca\ndata: {n: 600}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntraining: {stages: {surrogates: {lr: 1e-3}}}\n")
    (tmp_path / "c.yaml").write_text("base: a.yaml\nmethod: {embedding: {num_directions: 3}}\n")
    (tmp_path / "d.yaml").write_text("base: a.yaml\nmethod: {hidden: 64}\n")
    (tmp_path / "e.yaml").write_text("base: a.yaml\ntraining: {stages: {joint: {epochs: 9}}}\n")
    (tmp_path / "f.yaml").write_text("base: shapes-jmvae\ndata: {n: 600}\n")
    (tmp_path / "g.yaml").write_text("base: f.yaml\nmethod: {alpha: 1.0}\n")
    (tmp_path / "all.yaml").write_text(
        "compare: [a.yaml, b.yaml, c.yaml, d.yaml, e.yaml, f.yaml, g.yaml]\n"
    )
    plan = compare.make_plan(str(tmp_path / "all.yaml"), tmp_path)
    assert [sorted(run.reuse) for run in plan.runs] == [
        [],
        ["embeddings", "joint"],
        ["embeddings", "joint"],
        [],
        [],
        [],
        [],
    ]


# Settings that vary.


def test_a_recipe_is_varied_over_an_option_and_shares_what_the_option_does_not_touch(
    tmp_path,
) -> None:
    vary = ["data.n=600", "vary={method.embedding.num_directions: [1, 3], training.seed: [1]}"]
    with pytest.raises(ValueError, match=r"There is no setting training\.seed"):
        compare.make_plan("shapes-jnf-dcca", tmp_path, vary)
    plan = compare.make_plan(
        "shapes-jnf-dcca", tmp_path, ["data.n=600", "vary.method.embedding.num_directions=[1,3,2]"]
    )
    first = tmp_path / "jnf-dcca-num_directions=1-seed0"
    assert plan.compares and [run.directory.name for run in plan.runs] == [
        f"jnf-dcca-num_directions={k}-seed0" for k in (1, 3, 2)
    ]
    options = [run.settings.method.options["embedding"]["num_directions"] for run in plan.runs]
    assert options == [1, 3, 2] and not any(run.settings.vary for run in plan.runs)
    assert [dict(run.reuse) for run in plan.runs] == [
        {},
        {"joint": first, "embeddings": first},
        {"joint": first, "embeddings": first},
    ]


def test_a_comparison_is_varied_where_its_recipes_have_the_option(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    vary = "{method.flow.transforms: [0, 2], training.stages.embeddings.lr: [1e-3, 1e-2]}"
    recipes = "[shapes-jmvae-two-stage, shapes-jnf, shapes-jnf-dcca]"
    mine.write_text(f"compare: {recipes}\ndata: {{n: 600}}\nvary: {vary}\n")
    runs = {run.label: run for run in compare.make_plan(str(mine), tmp_path).runs}
    rates = ("lr=0.001", "lr=0.01")
    assert list(runs) == ["jmvae-two-stage", "jnf-transforms=0", "jnf-transforms=2"] + [
        f"jnf-dcca-transforms={k}-{rate}" for k in (0, 2) for rate in rates
    ]
    # Surrogates differ in their flows, embeddings in their rate, the joint stage in nothing.
    shared = {label: sorted(run.reuse) for label, run in runs.items()}
    assert shared.pop("jmvae-two-stage") == []
    assert shared.pop("jnf-dcca-transforms=2-lr=0.001") == ["embeddings", "joint"]
    assert shared.pop("jnf-dcca-transforms=2-lr=0.01") == ["embeddings", "joint"]
    assert set(map(tuple, shared.values())) == {("joint",)}
    chosen = runs["jnf-dcca-transforms=0-lr=0.01"].settings
    assert chosen.training.stage("embeddings").lr == 1e-2
    assert chosen.method.options["flow"]["transforms"] == 0


def test_a_varied_setting_of_all_stages_wins_over_theirs(tmp_path) -> None:
    options = ["data.n=600", "vary={training.lr: [0.1, 0.2]}"]
    plan = compare.make_plan("shapes-jnf-dcca", tmp_path, options)
    for run, lr in zip(plan.runs, (0.1, 0.2), strict=True):
        assert run.label == f"jnf-dcca-lr={lr}" and not run.reuse
        assert {run.settings.training.stage(stage).lr for stage in run.stages} == {lr}


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("{method.embeding.num_directions: [2]}", r"Did you mean method\.embedding\?"),
        ("{method.embedding.num_direction: [2]}", r"Did you mean .*num_directions\?"),
        ("{training.stages.embedings.lr: [1]}", r"Did you mean training\.stages\.embeddings\?"),
        ("{methd.latent: [2]}", r"got methd\.latent\. Did you mean method\?"),
        ("{data.n: [100, 200]}", r"by their path, such as method\.latent; got data\.n"),
        ("{method.name: [jnf, jnf-dcca]}", r"got method\.name"),
        ("{method.latent: 5}", r"lists values by setting.*got method\.latent: 5"),
        ("{method.latent: []}", r"got method\.latent: \[\]"),
        ("{method.latent: [2, 2]}", r"lists 2 twice for method\.latent"),
        ("{method.latent: [2, x]}", r"method\.latent must be .*'x'"),
        ("{method.flow.transforms: [-1, 1]}", r"transforms must be .*-1"),
        ("{method.latent: [2, '2 ']}", r"two runs of the name jnf-dcca-latent=2"),
        (
            "{method.latent: [1, 2, 3, 4, 5, 6, 7, 8], training.epochs: [1, 2, 3, 4, 5, 6, 7]}",
            r"makes 56 combinations of values, and at most 50",
        ),
    ],
)
def test_what_cannot_vary_is_refused_before_training(vary: str, words: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=words):
        compare.make_plan("shapes-jnf-dcca", tmp_path, ["data.n=600", f"vary={vary}"])


def test_a_comparison_of_comparisons_and_a_missing_run_are_refused(tmp_path) -> None:
    (tmp_path / "all.yaml").write_text("compare: [shapes, shapes-jnf]\ndata: {n: 600}\n")
    with pytest.raises(ValueError, match="takes recipes of one run"):
        compare.make_plan(str(tmp_path / "all.yaml"), tmp_path)
    nowhere = {"joint": tmp_path / "nowhere"}
    with pytest.raises(ValueError, match=r"'joint' is to be taken from .*nowhere, which is no run"):
        compare.make_plan("shapes-jnf", tmp_path, ["data.n=600"], reuse=nowhere)


def test_a_comparison_takes_a_stage_of_a_run_for_all_that_have_it(tmp_path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "run.json").touch()
    small, given = ["data.n=600"], {"joint": source}
    plan = compare.make_plan("shapes", tmp_path / "out", small, seed=0, reuse=given)
    assert {run.label: run.reuse["joint"] for run in plan.runs} == {
        "jmvae-two-stage": source,
        "jnf": tmp_path / "out" / "jmvae-two-stage-seed0",
        "jnf-dcca": tmp_path / "out" / "jmvae-two-stage-seed0",
    }
    with pytest.raises(ValueError, match="the comparison has 2; give --seed"):
        compare.make_plan("shapes", tmp_path / "out", [*small, "seeds=[0,1]"], reuse=given)
    with pytest.raises(ValueError, match="There is no stage to reuse 'joined'"):
        compare.make_plan("shapes", tmp_path / "out", small, seed=0, reuse={"joined": source})


def test_batches_that_are_too_small_for_deep_cca_are_refused_before_the_first_stage(
    tmp_path,
) -> None:
    """16 and 16 dimensions need 33 rows: of training, of validation, and with both modalities."""
    few = ["training.stages.embeddings.batch=32"]
    missing = ["data.missing={pattern: unpaired}"]
    for options, words in (
        (["data.n=300"], "those of the validation data have at most 21 "),
        (few, "those of the training data have at most 32 .*embeddings.batch=32"),
        (
            ["data.n=900", "training.stages.embeddings.batch=40"],  # 63 rows in two equal parts
            "those of the validation data have at most 31 ",
        ),
        (missing, "those of the training data have at most 0 "),
    ):
        with pytest.raises(ValueError, match=f"'embeddings' needs .* at least 33 rows.*{words}"):
            compare.make_plan("shapes-jnf-dcca", tmp_path, options)
    small = ["data.n=300", "method.embedding.embedding_size=10"]
    for options in (small, [*few, "method.embedding.kind=contrastive"]):
        assert compare.make_plan("shapes-jnf-dcca", tmp_path, options).runs
    for epochs in (0, 1):  # nothing is trained in 0 epochs
        options = ["data.n=300", f"training.stages.embeddings.epochs={epochs}"]
        if epochs:
            with pytest.raises(ValueError, match="at least 33 rows"):
                compare.make_plan("shapes-jnf-dcca", tmp_path, options)
        else:
            assert compare.make_plan("shapes-jnf-dcca", tmp_path, options).runs
