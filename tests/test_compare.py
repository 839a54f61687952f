"""Comparisons: settings laid over recipes, and equal stages trained once."""

import pytest

from polymodal.experiments import plan as compare


def test_a_comparison_lays_itself_over_its_recipes_and_shares_equal_stages(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    recipes = "[shapes-jmvae, shapes-telbo, shapes-jnf, shapes-jnf-dcca]"
    stages = "{embeddings: {epochs: 7}, surrogates: {lr: 2e-3}}"
    mine.write_text(
        f"compare: {recipes}\nseeds: [1, 4]\ndata: {{n: 100}}\ntraining: {{stages: {stages}}}\n"
    )
    plan = compare.make_plan(str(mine), tmp_path / "out", ["training.batch=16"])
    runs = {(r.label, r.seed): r for r in plan.runs}
    assert list(runs) == [(m, s) for s in (1, 4) for m in ("jmvae", "telbo", "jnf", "jnf-dcca")]
    assert len(plan.data.train) == 63 and all(r.settings.training.batch == 16 for r in plan.runs)
    assert runs["jnf-dcca", 1].settings.training.stage("embeddings").epochs == 7
    assert "embeddings" not in runs["jnf", 1].settings.training.stages
    # JMVAE's one stage trains with the surrogates' consensus: nobody else's; TELBO's surrogates
    # have another loss.
    for seed in (1, 4):
        assert not runs["jmvae", seed].reuse and not runs["telbo", seed].reuse
        for label in ("jnf", "jnf-dcca"):
            assert runs[label, seed].reuse == {"joint": tmp_path / "out" / f"telbo-seed{seed}"}


def test_options_in_a_comparison_are_for_the_methods_that_have_them(tmp_path) -> None:
    options = ["data.n=100", "method.embedding.num_directions=3", "method.hidden=32"]
    plan = compare.make_plan("shapes", tmp_path, options)
    embeddings = {run.label: run.settings.method.options.get("embedding", {}) for run in plan.runs}
    chosen = {label: options.get("num_directions") for label, options in embeddings.items()}
    assert chosen == {"jmvae-two-stage": None, "jnf": None, "jnf-dcca": 3}
    assert {run.settings.method.options["hidden"] for run in plan.runs} == {32}
    with pytest.raises(ValueError, match=r"Did you mean method\.embedding\?"):
        compare.make_plan("shapes", tmp_path, ["method.embeding.num_directions=3"])


def test_stages_of_other_settings_are_not_shared(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("base: shapes-jnf-dcca\ndata: {n: 100}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntraining: {stages: {surrogates: {lr: 1e-3}}}\n")
    (tmp_path / "c.yaml").write_text("base: a.yaml\nmethod: {embedding: {num_directions: 3}}\n")
    (tmp_path / "d.yaml").write_text("base: a.yaml\nmethod: {hidden: 64}\n")
    (tmp_path / "e.yaml").write_text("base: a.yaml\ntraining: {stages: {joint: {epochs: 9}}}\n")
    (tmp_path / "f.yaml").write_text("base: shapes-jmvae\ndata: {n: 100}\n")
    (tmp_path / "g.yaml").write_text("base: f.yaml\nmethod: {alpha: 1.0}\n")
    (tmp_path / "all.yaml").write_text(
        "compare: [a.yaml, b.yaml, c.yaml, d.yaml, e.yaml, f.yaml, g.yaml]\n"
    )
    plan = compare.make_plan(str(tmp_path / "all.yaml"), tmp_path)
    assert [sorted(run.reuse) for run in plan.runs] == [
        [],
        ["embeddings", "joint"],
        ["joint"],
        [],
        [],
        [],
        [],
    ]
