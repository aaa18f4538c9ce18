"""A run that an older version began goes on under this one: its plan, commit records, model folders and script.

``old_run.tar.xz`` was made by version 0.1.0 at commit bb7a604: 120 generated rows in two shards, a model of every
native family, fitted and not sampled, the script that it wrote for the stage ``sample``, and the checksums of the
parts that it made later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shardsynth import Run, load_model

FAMILIES = ("autoregressive", "copulagan", "ctgan", "gaussian_copula", "tvae")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old run where this machine has it: paths in plan and job changed, the shards as old as the plan says."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(Path(__file__).with_name("old_run.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    for name in ("plan.json", "job.yaml"):
        path = folder / "run" / name
        path.write_text(path.read_text().replace("/old/", f"{folder}/"))
    for shard in json.loads((folder / "run" / "plan.json").read_text())["shards"]:
        os.utime(shard["path"], ns=(shard["mtime_ns"], shard["mtime_ns"]))
    return folder


@pytest.fixture(scope="module")
def script(old: Path) -> subprocess.CompletedProcess[str]:
    """The old script for ``sample``, as the only element of its array."""
    tools = old / "tools"
    tools.mkdir()
    python = tools / "python3"  # not a link: that would leave the virtual environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    element = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_CPUS_PER_TASK": "1"}
    environment = {**os.environ, **element, "PATH": f"{tools}:{os.environ['PATH']}"}
    command = ["bash", str(old / "sample.sbatch"), str(old / "run")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_its_script_runs(old: Path, script: subprocess.CompletedProcess[str]) -> None:
    assert script.returncode == 0, script.stdout + script.stderr
    status = Run(old / "run").status()
    assert status["fit"]["done"] == status["fit"]["tasks"] == 5
    assert status["sample"]["done"] == status["sample"]["tasks"] == 10


def test_it_is_resumed_to_its_end(old: Path, script: subprocess.CompletedProcess[str]) -> None:
    run = Run(old / "run").resume()
    assert all(stage["done"] == stage["tasks"] for stage in run.status().values())
    assert run.report.exists()
    expected = json.loads((old / "expected.json").read_text())
    assert sorted(expected) == list(FAMILIES)
    # the copula's rows are the same bytes on any machine; those of the other families on the same kind of machine
    made = [part["sha256"] for part in run.samples("gaussian_copula").manifest["parts"]]
    assert made == expected["gaussian_copula"]
    for name in FAMILIES:
        assert 0 < run.quality(name).score <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_its_models_load(old: Path, script: subprocess.CompletedProcess[str], name: str) -> None:
    table = load_model(old / "run" / "models" / name).sample(90)
    parts = [pq.read_table(path) for path in sorted((old / "run" / "samples" / name).glob("part-*.parquet"))]
    assert table.num_rows == sum(part.num_rows for part in parts) == 90
    assert table.schema.equals(parts[0].schema)
    assert table.slice(0, 50).to_pylist() == parts[0].to_pylist()
