"""Fixtures of several test files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


def pytest_configure(config):
    if "benchmark" not in (config.option.markexpr or ""):
        torch.set_num_threads(1)


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests in a browser, unless they are asked for: -m browser."""
    if "browser" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: $POLYMODAL_TEST_DATA, else ../shared/data beside the repository.

    If the folder exists, its tests run, and fail if something in it is wrong; only its absence
    skips them.
    """
    named = os.environ.get("POLYMODAL_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        if named:
            pytest.fail(f"$POLYMODAL_TEST_DATA names {folder}, which is no folder.")
        pytest.skip(
            f"There is no real data at {folder}; set POLYMODAL_TEST_DATA to the folder that"
            " holds it."
        )
    return folder


@pytest.fixture
def double() -> Iterator[None]:
    """Numbers of 64 bits and a fixed random stream, for tests of formulas."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
