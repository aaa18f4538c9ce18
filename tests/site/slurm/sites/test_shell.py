"""Shells as people have them: variables of sbatch, and several clusters on one accounting."""

from __future__ import annotations

import os
import re

import pytest
from tests.site.slurm.cluster import Cluster, wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.run.committed import recorded


def test_what_the_job_leaves_open_comes_from_the_variables_of_sbatch(idle, make_job, tmp_path):
    idle.command("sacctmgr", "-i", "add", "account", "grant", "cluster=shardsynth", check=False)
    idle.command("sacctmgr", "-i", "add", "user", "root", "account=grant", "cluster=shardsynth", check=False)
    known = ("scontrol", "show", "assoc_mgr", "users=root", "flags=assoc")
    wait_until("the account", lambda: "grant" in idle.command(*known))
    root = tmp_path / "run"
    job = make_job(root, cluster={"stages": {"fit": {"partition": "gpu"}}})
    shell = {"SBATCH_ACCOUNT": "grant", "SBATCH_PARTITION": "urgent", "SBATCH_TIMELIMIT": "30", "SBATCH_WAIT": "1"}
    said = shardsynth("submit", job, env={**os.environ, **shell})
    names = "SBATCH_ACCOUNT=grant, SBATCH_PARTITION=urgent, SBATCH_TIMELIMIT=30"
    assert f"from the shell, where job and site file say nothing: {names}\n" in said
    assert "in the shell, but not used: SBATCH_WAIT (the script says that itself)\n" in said
    asked = idle.command("squeue", "-h", "--array", "-t", "all", "-o", "%j %a %P %l").splitlines()
    ours = f"shardsynth-{(root / 'private' / 'slurm' / 'id').read_text()}-"
    asked = {line.split()[0].rpartition("-")[2]: line.split()[1:] for line in asked if line.startswith(ours)}
    assert asked["sample"] == ["grant", "urgent", "30:00"] and asked["fit"] == ["grant", "gpu", "30:00"]
    shardsynth("cancel", root)
    said = shardsynth("resume", root)  # another shell, another day
    assert f"from the shell, where job and site file say nothing: {names}" in said
    shardsynth("cancel", root)


@pytest.fixture(scope="module")
def other(session_cluster, tmp_path_factory):
    """A second cluster, `other`, on the accounting of the first one."""
    first = session_cluster
    settings = [line for line in first.conf.read_text().splitlines() if line.startswith(("Accounting", "AuthInfo"))]
    for words in (["cluster", "other"], ["account", "lab", "cluster=other"], ["user", "root", "account=lab"]):
        first.command("sacctmgr", "-i", "add", *words, *(["cluster=other"] if words[0] == "user" else []))
    folder = tmp_path_factory.mktemp("other")
    lines = "\n".join(["ClusterName=other", *settings])
    cluster = Cluster(folder, accounting=False, nodes=1, settings=lines).start()
    yield cluster
    cluster.stop()


def test_a_run_on_another_cluster_is_followed_from_here_and_not_submitted_twice(
    idle, other, make_job, tmp_path, monkeypatch
):
    wait_until("its address", lambda: "other" in idle.command("squeue", "-M", "other", check=False), 30)
    root = tmp_path / "run"
    job = make_job(root)
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    said = shardsynth("submit", job)
    assert "sample gaussian_copula: 30 tasks in 6 elements" in said
    assert idle.command("squeue", "-h") == "" and "shardsynth-" in other.command("squeue", "-h", "-o", "%j")
    monkeypatch.delenv("SLURM_CLUSTERS")
    run = ss.Run(root)
    assert run.status()["report"]["pending"] == 1
    assert "nothing to submit" in shardsynth("resume", root)
    monkeypatch.setenv("SLURM_CLUSTERS", "shardsynth")
    assert f"cluster shardsynth: this run has jobs on cluster other; `shardsynth cancel {root}`" in shardsynth(
        "resume", root, code=2
    )
    monkeypatch.setenv("SLURM_CLUSTERS", "other,shardsynth")
    assert "SLURM_CLUSTERS: other,shardsynth names several clusters" in shardsynth("resume", root, code=2)
    monkeypatch.setenv("SLURM_CLUSTERS", "atlantis")
    assert "sacctmgr show cluster" in shardsynth("submit", make_job(tmp_path / "lost"), code=2)
    monkeypatch.delenv("SLURM_CLUSTERS")
    wait_until("its profile", lambda: recorded(run.dir, run.plan)["profile_merge"], 60)
    monkeypatch.setenv("SLURM_CONF", str(other.conf))  # the other login node
    assert run.status()["report"]["pending"] == 1
    monkeypatch.setenv("SLURM_CONF", str(idle.conf))
    said = shardsynth("cancel", root)
    assert re.search(r"cancelled \d+ elements", said)
    wait_until("the end", lambda: other.command("squeue", "-h") == "", 30)
    assert "nothing is queued" in shardsynth("status", root)
