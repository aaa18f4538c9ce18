from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "report")]

from chromium import Page, chromium, find  # noqa: E402


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    """A tab of a real Chromium."""
    if find() is None:
        pytest.skip("no chromium on PATH: the page was not rendered (apt-get install chromium)")
    with chromium() as page:
        yield page
