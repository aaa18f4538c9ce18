"""The guard of the tier `unit` fails what does not belong there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tools import ROOT

SUITE = """
import subprocess, sys
import pytest, torch
pytestmark = pytest.mark.unit

@pytest.fixture
def started():
    subprocess.run([sys.executable, "-c", ""])

def test_is_quick(): pass
def test_starts_a_process(): subprocess.run([sys.executable, "-c", ""])
def test_has_a_fixture_that_does(started): pass
def test_trains():
    weight = torch.nn.Parameter(torch.zeros(1))
    torch.optim.SGD([weight]).step()
def test_imports_a_package_of_sdv(): import rdt
"""


def test_a_unit_test_that_trains_imports_sdv_or_starts_a_process_fails(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.unit_guard", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-rf", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1].startswith("=") and "4 failed, 1 passed" in done.stdout, done.stdout
    for why in ("started a process", "trained", "imported rdt"):
        assert f"it {why}" in done.stdout
