from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.site.browser.chromium import Page, chromium
from tests.tools import require


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    """A tab of a real Chromium."""
    require("chromium")
    with chromium() as page:
        yield page
