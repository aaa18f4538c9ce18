"""Fixtures of the tests that need a Slurm: one cluster per session, whichever folder asks first (tests/conftest.py).

`cluster` is running; `idle` is the same one with all nodes up and nothing queued; `make_job` writes job files over
small shards; `undisturbed` is what `shardsynth run` makes of the default one, which every Slurm run must equal.
"""

from __future__ import annotations

import time

import pytest
from tests.site.slurm.cluster import Cluster
from tests.site.slurm.runs import outcome, shardsynth, write_job, write_small_shards
from tests.tools import require


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory):
    """The one cluster of this test session; tests ask for `cluster`."""
    require("slurm")
    started = time.monotonic()
    cluster = Cluster(tmp_path_factory.mktemp("slurm")).start()
    print(f"the cluster started in {time.monotonic() - started:.1f} s")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def module_bare_cluster(tmp_path_factory):
    """One node of two CPUs that binds its tasks, no accounting, and a controller that soon forgets what ended."""
    require("slurm")
    cluster = Cluster(
        tmp_path_factory.mktemp("bare"), accounting=False, task_plugin="task/affinity", nodes=1, cpus=2, min_job_age=4
    ).start()
    yield cluster
    cluster.stop()


def speak_to(cluster, monkeypatch):
    """Point SLURM_CONF at a cluster, so that Python code of the test finds it, too; the cluster."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    return cluster


@pytest.fixture
def bare_cluster(module_bare_cluster, monkeypatch):
    """The cluster without accounting; the test's SLURM_CONF points at it."""
    yield speak_to(module_bare_cluster, monkeypatch)
    module_bare_cluster.reset()


@pytest.fixture
def cluster(session_cluster, monkeypatch):
    """A running cluster; the test's SLURM_CONF points at it, so that Python code finds it, too."""
    return speak_to(session_cluster, monkeypatch)


@pytest.fixture
def idle(cluster):
    """The cluster with every node back and nothing queued, before and after."""
    yield cluster
    cluster.reset()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Four small shards of 500 rows: an int, a category, a decimal with missing values."""
    return write_small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def make_job(shards, tmp_path_factory):
    """Writes a job file over the small shards; keys are given as in YAML."""

    def make(output, **changes):
        return write_job(tmp_path_factory.mktemp("job") / "job.yaml", shards, output, **changes)

    return make


@pytest.fixture(scope="session")
def undisturbed(make_job, tmp_path_factory):
    """The same job through `run` on this machine: what every Slurm run must equal."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    shardsynth("run", make_job(root), "--here")
    return outcome(root)
