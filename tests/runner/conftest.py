"""The run of a tiny profile."""

from collections.abc import Callable

import pytest

from lskd_nb.runner.run import run_profile


@pytest.fixture(scope="session")
def run_tiny() -> Callable:
    def make(tmp_path, say=lambda line: None, **options):
        return run_profile("tiny", tmp_path, tmp_path / "run", say=say, **options)

    return make
