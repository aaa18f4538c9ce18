"""The scripts of attacks/: each tries to break one promise, with harmless means."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.tools import ROOT

ATTACKS = sorted(path.name for path in (ROOT / "attacks").glob("*.py"))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_promise_holds(name):
    done = subprocess.run(
        [sys.executable, str(ROOT / "attacks" / name)], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["held"]), done.stdout + done.stderr
