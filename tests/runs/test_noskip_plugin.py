from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tools import ROOT

SUITE = """
import pytest
def test_passes(): pass
def test_skips(): pytest.skip("no such tool")
@pytest.mark.skipif(True, reason="no shared data")
def test_is_marked(): pass
def test_wants_a_gpu(): pytest.skip("needs a GPU")
@pytest.mark.xfail
def test_is_expected_to_fail(): assert False
"""


def run_suite(folder: Path, switch: str, workers: int) -> tuple[int, str]:
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "test_module.py").write_text("import pytest; pytest.importorskip('no_such_module')")
    command = [sys.executable, "-m", "pytest", "-p", "tests.noskip_plugin", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["-n", str(workers)]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--continue-on-collection-errors", str(folder)],
        cwd=ROOT,
        env={**os.environ, "SHARDSYNTH_NO_SKIP": switch},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("switch", "workers", "code", "summary"),
    [
        ("", 0, 0, "1 passed, 4 skipped, 1 xfailed"),
        ("1", 0, 1, "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"),
        ("1", 1, 1, "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"),
    ],
)
def test_a_skip_is_a_failure_only_under_the_switch(tmp_path, switch, workers, code, summary):
    found, last = run_suite(tmp_path, switch, workers)
    assert (found, summary in last) == (code, True), last
