from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cluster import Cluster, missing_programs, wait_until

# The cluster tests take minutes and belong to work that is still going on: SHARDSYNTH_SLURM=1 runs them.
collect_ignore_glob = [] if os.environ.get("SHARDSYNTH_SLURM") else ["test_*.py"]

SHARDSYNTH = [sys.executable, "-m", "shardsynth.cli"]


def _needs_slurm():
    absent = missing_programs()
    if absent:
        pytest.skip(f"no Slurm to start here: {', '.join(absent)} absent (.ci/run installs them)")
    if os.geteuid() != 0:
        pytest.skip("the cluster's daemons start as root only")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running cluster of this test session; SLURM_CONF points at it, so that Python code finds it, too."""
    _needs_slurm()
    started = time.monotonic()
    cluster = Cluster(tmp_path_factory.mktemp("slurm")).start()
    print(f"the cluster started in {time.monotonic() - started:.1f} s")
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH", "OMP_NUM_THREADS")}
    os.environ.update({"SLURM_CONF": str(cluster.conf), "PATH": cluster.environment["PATH"], "OMP_NUM_THREADS": "1"})
    yield cluster
    cluster.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


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


def shardsynth(*arguments, code=0, **options):
    """The command line in a process of its own, as a login shell would call it."""
    done = subprocess.run(
        [*SHARDSYNTH, *(str(a) for a in arguments)],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def outcome(root):
    """Checksums of what may leave the house and must not depend on who ran it."""
    root = Path(root)
    files = [p for name in ("samples", "models") for p in (root / name).rglob("*") if p.is_file()]
    wanted = [p for p in files if p.suffix in (".parquet", ".safetensors") or p.name == "model.json"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}


@pytest.fixture(scope="session")
def undisturbed(make_job, tmp_path_factory):
    """The same job through `run` on this machine: what every Slurm run must equal."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    shardsynth("run", make_job(root), "--here")
    return outcome(root)


def wait_for_run(root, seconds=120):
    """Wait for a submitted run, as a notebook would."""
    import shardsynth as ss

    return ss.Run(root).wait(seconds)
