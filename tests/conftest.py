from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

#: One cluster for all folders whose tests need a Slurm.
pytest_plugins = ["tests.slurm.fixtures"]

# A busy machine is no failure: what a test may take in all is said elsewhere.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


def _folder(name: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"../shared/data/{name} is absent")
    return folder


@pytest.fixture(scope="session")
def adult_dir() -> Path:
    """Four real shards, 32,561 x 15."""
    return _folder("adult")


@pytest.fixture(scope="session")
def mds_dir() -> Path:
    """Three real shards, 2,957 x 68."""
    return _folder("mds")
