"""The script of slurm/README.md with submitit's own executors on this machine; on a Slurm: tests/site/slurm."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.here import run_here
from tests.tables import mixed_table, write_shards
from tests.tools import ROOT

from shardsynth import Job


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    data = write_shards(mixed_table(200), tmp_path_factory.mktemp("data") / "d", 2)
    return lambda output: Job.parse(
        {
            "input": str(data),
            "output": str(output),
            "models": {"gaussian_copula": {}},
            "sample": {"rows": 300, "rows_per_shard": 100},
        }
    )


def parts(root):
    return {path.name: path.read_bytes() for path in (root / "samples").rglob("part-*.parquet")}


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_submitits_own_executors_commit_the_same_bytes(job, tmp_path, cluster):
    code = re.search(r"```python\n(.*?)```", (ROOT / "slurm" / "README.md").read_text(), re.S)[1]
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "job.yaml").write_text(job(tmp_path / "run").to_yaml())
    done = subprocess.run(
        [sys.executable, "mine.py", "job.yaml", cluster],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run_here(job(tmp_path / "here"))
    assert len(parts(tmp_path / "run")) == 3 and parts(tmp_path / "run") == parts(tmp_path / "here")
