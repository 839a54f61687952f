"""Generated bad inputs of every door are refused in one sentence, or read as what they are."""

from dataclasses import replace

import pytest

import bad_inputs
from bad_inputs import FAMILIES, Case, Refused, World, cases, fault_of_sentence, judge, make_world

N, SEED = 300, 7


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"))
    bad_inputs.RUN_OF["world"] = made.directory
    return made


@pytest.mark.parametrize("door", sorted(FAMILIES))
def test_inputs_of_a_door_are_refused_or_read(door, world, tmp_path) -> None:
    faults = {}
    for k, case in enumerate(case for case in cases(N, SEED, world) if case.door == door):
        (tmp_path / str(k)).mkdir()
        if fault := judge(case, tmp_path / str(k)):
            faults[case.what] = fault
    assert k > N / len(FAMILIES) / 2
    assert not faults


def test_the_same_seed_gives_the_same_cases(world) -> None:
    said = [[case.what for case in cases(60, seed, world)] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2] and len(set(said[0])) > 50


def test_the_judge_sees_what_is_wrong(world, tmp_path) -> None:
    def failing(error: Exception) -> Case:
        def act(folder):
            raise error

        return Case("none", "x", act)

    assert not judge(failing(ValueError("It must be a word, got 3.")), tmp_path)
    for text in ("two\nlines.", "no end", "a torch.Tensor is wrong.", "see numpy.load.", ""):
        assert judge(failing(ValueError(text)), tmp_path), text
    assert "TypeError" in judge(failing(TypeError("It is wrong.")), tmp_path)
    assert "Unicode" in judge(failing(UnicodeDecodeError("utf-8", b"", 0, 1, "x")), tmp_path)
    read = Case("none", "x", lambda folder: 3)
    assert "accepted" in judge(read, tmp_path)
    assert not judge(replace(read, value=3), tmp_path)
    for value in (4, 3.0, True, "3"):
        assert "read as" in judge(replace(read, value=value), tmp_path)
    assert "refused" in judge(replace(failing(ValueError("No.")), value=3), tmp_path)
    assert read.value is Refused and fault_of_sentence("It is damaged.") == ""
