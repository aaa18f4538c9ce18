"""Fixtures of the tests that need a Slurm: one cluster per session, whichever folder asks first (tests/conftest.py).

`cluster` is running; `idle` is the same one with all nodes up and nothing queued; `make_job` writes job files over
small shards; `undisturbed` is what `shardsynth run` makes of the default one, which every Slurm run must equal.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.slurm.cluster import Cluster, missing_programs, wait_until
from tests.slurm.runs import outcome, shardsynth


def _needs_slurm():
    absent = missing_programs()
    if absent:
        pytest.skip(f"no Slurm to start here: {', '.join(absent)} absent (.ci/run installs them)")
    if os.geteuid() != 0:
        pytest.skip("the cluster's daemons start as root only")


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory):
    """The one cluster of this test session; tests ask for `cluster`."""
    _needs_slurm()
    started = time.monotonic()
    cluster = Cluster(tmp_path_factory.mktemp("slurm")).start()
    print(f"the cluster started in {time.monotonic() - started:.1f} s")
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(session_cluster, monkeypatch):
    """A running cluster; the test's SLURM_CONF points at it, so that Python code finds it, too."""
    monkeypatch.setenv("SLURM_CONF", str(session_cluster.conf))
    monkeypatch.setenv("PATH", session_cluster.environment["PATH"])
    return session_cluster


@pytest.fixture
def idle(cluster):
    """The cluster with every node back and nothing queued, before and after."""
    yield cluster
    cluster.command("scancel", "--user=root", check=False)
    for node, state in cluster.node_states().items():
        if state.rstrip("*") in ("down", "drain", "drng", "unk"):
            cluster.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    wait_until("idle nodes", lambda: set(cluster.node_states().values()) == {"idle"}, 60, 0.3)


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Four small shards of 500 rows: an int, a category, a decimal with missing values."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for i in range(4):
        table = pa.table(
            {
                "age": pa.array(rng.integers(20, 90, 500), pa.int8()),
                "sex": pa.array(rng.choice(["F", "M"], 500)).dictionary_encode(),
                "hb": pa.array(rng.normal(10, 2, 500).round(1), mask=rng.random(500) < 0.1),
            }
        )
        pq.write_table(table, folder / f"part-{i}.parquet", row_group_size=250)
    return folder


@pytest.fixture(scope="session")
def make_job(shards, tmp_path_factory):
    """Writes a job file over the small shards; keys are given as in YAML."""

    def make(output, **changes):
        job = {
            "input": str(shards),
            "output": str(output),
            "models": {"gaussian_copula": {}},
            "sample": {"rows": 3000, "rows_per_shard": 100},
            "evaluate": {"holdout": 0.2},
            "cluster": {"rows_per_task": 500, "pack": 5, **changes.pop("cluster", {})},
            **changes,
        }
        path = tmp_path_factory.mktemp("job") / "job.yaml"
        path.write_text(yaml.safe_dump(job))
        return path

    return make


@pytest.fixture(scope="session")
def undisturbed(make_job, tmp_path_factory):
    """The same job through `run` on this machine: what every Slurm run must equal."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    shardsynth("run", make_job(root), "--here")
    return outcome(root)
