"""Several tables on a real Slurm, through a bad day: the bytes of a run on one machine, whatever happened."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from tests.site.slurm.chaos import play_round
from tests.site.slurm.runs import outcome, shardsynth
from tests.tables.cohort import METADATA, cohort, write_cohort

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 100_000))


@pytest.fixture(scope="module")
def cohort_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, cohort(120), 2)
    return folder


def write_job(path: Path, data: Path, output: Path) -> Path:
    job = {
        "tables": {name: str(data / name) for name in METADATA["tables"]},
        "output": str(output),
        "metadata": str(data / "metadata.json"),
        "models": {"autoregressive": {"max_epochs": 2, "embedding": 8, "hidden": 8}},
        "sample": {"rows": 600, "rows_per_shard": 300},
        "cluster": {"rows_per_task": 1000, "pack": 8},
    }
    path.write_text(yaml.safe_dump(job))
    return path


def test_several_tables_end_in_the_undisturbed_bytes(idle, cohort_shards, tmp_path):
    print(f"CHAOS_SEED={SEED}")
    shardsynth("run", write_job(tmp_path / "here.yaml", cohort_shards, tmp_path / "here"), "--here")
    undisturbed = outcome(tmp_path / "here")
    assert len(undisturbed) > 10
    job = write_job(tmp_path / "job.yaml", cohort_shards, tmp_path / "run")
    play_round(idle, job, tmp_path / "run", undisturbed, SEED, 3)
    assert "all done" in shardsynth("status", tmp_path / "run", "--verify")
