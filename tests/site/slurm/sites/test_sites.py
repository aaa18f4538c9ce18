"""Sites that are set up otherwise: drained, hidden and whole-node partitions, default times, throttles."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth, write_job, write_small_shards

import shardsynth as ss
from shardsynth.run.committed import recorded

USER = 65534


@contextlib.contextmanager
def partition(cluster, name, *options):
    """A partition that is there for the time of a test."""
    cluster.command("scontrol", "create", f"partitionname={name}", "nodes=ALL", *options)
    try:
        yield
    finally:
        cluster.command("scancel", f"--partition={name}")
        wait_until("an empty partition", lambda: not cluster.command("squeue", "-h", f"--partition={name}"), 30)
        cluster.command("scontrol", "delete", f"partitionname={name}")


def scripts(root, stage):
    return [path.read_text() for path in sorted((root / "private/slurm").glob(f"*-{stage}.sbatch"))]


def test_with_all_nodes_drained_a_run_waits(idle, make_job, tmp_path):
    nodes = f"nodename={','.join(idle.nodes)}"
    idle.command("scontrol", "update", nodes, "state=drain", "reason=upgrade")
    try:
        said = shardsynth("submit", make_job(tmp_path / "run"))
        assert "warning: profile: it waits: the nodes that it needs are down, drained or reserved" in said
        assert said.count("job ") == 9
        assert len(idle.command("squeue", "-h").splitlines()) == 9, "what asked is gone"
    finally:
        idle.command("scontrol", "update", nodes, "state=resume")
    run = ss.Run(tmp_path / "run")
    wait_until("the profile", lambda: recorded(run.dir, run.plan)["profile"], 60, 0.3)


def as_user(*arguments, **options):
    """A command as a user who may see no node; this Python may lie where only root can read."""
    keep = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *keep]
    return subprocess.run(
        [*become, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )


@pytest.fixture
def public_folder():
    """A folder of the other user's, below folders that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="shardsynth-"))
    (folder / "shards").mkdir()
    write_small_shards(folder / "shards")
    write_job(folder / "job.yaml", folder / "shards", folder / "run", cluster={"defaults": {"partition": "secret"}})
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)
    yield folder
    shutil.rmtree(folder)


def test_where_nodes_are_private_and_the_partition_is_hidden_sbatch_decides(idle, public_folder):
    conf = idle.conf.read_text()
    idle.command("sacctmgr", "-i", "add", "user", "nobody", "account=lab", check=False)
    idle.conf.write_text(f"PrivateData=nodes\n{conf}\nPartitionName=secret Nodes=ALL Hidden=YES State=DOWN\n")
    idle.command("scontrol", "reconfigure")
    try:
        assert "denied" in as_user("sinfo").stderr
        environment = {**os.environ, "HOME": str(public_folder), "USER": "nobody"}
        command = [sys.executable, "-m", "shardsynth.cli", "submit", public_folder / "job.yaml"]
        done = as_user(*command, cwd=public_folder, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"job \d+: report: 1 tasks", done.stdout)
        assert set(idle.command("squeue", "-h", "--user=nobody", "-o", "%P").split()) == {"secret"}
    finally:
        idle.command("scancel", "--user=nobody")
        wait_until("no job of nobody's", lambda: not idle.command("squeue", "-h", "--user=nobody"), 30)
        idle.conf.write_text(conf)
        idle.command("scontrol", "reconfigure")


def test_the_partitions_own_time_limit_is_asked_for_and_the_element_told_before_it(idle, make_job, tmp_path):
    with partition(idle, "brief", "defaulttime=20", "maxtime=60"):
        shardsynth("submit", make_job(tmp_path / "run", cluster={"defaults": {"partition": "brief"}}))
        for script in scripts(tmp_path / "run", "*"):
            assert "#SBATCH --time=00:20:00\n" in script and "#SBATCH --signal=B:USR2@90\n" in script
        jobs = idle.command("squeue", "-h", "-p", "brief", "-o", "%l").split()
        assert set(jobs) == {"20:00"} and len(jobs) >= 8


def test_a_throttle_holds_within_an_array_and_is_named_where_it_is_asked_for_otherwise(idle, make_job, tmp_path):
    shardsynth("submit", make_job(tmp_path / "run", cluster={"throttle": 2}))
    (script,) = scripts(tmp_path / "run", "sample")
    assert "#SBATCH --array=0-5%2\n" in script
    assert "ArrayTaskThrottle=2" in idle.command("scontrol", "show", "jobs")
    job = make_job(tmp_path / "other", cluster={"defaults": {"options": {"array": "0-9%2"}}})
    assert "`cluster.throttle: 2` lets two of them work at once" in shardsynth("submit", job, code=2)


def test_where_whole_nodes_are_given_an_element_uses_and_is_billed_all_cpus(bare_cluster, make_job, tmp_path):
    """One node of two CPUs."""

    def billed(said):
        return float(re.search(r"^profile_merge .* (\d\.\d\d)", said, re.M)[1])

    shared = billed(shardsynth("submit", make_job(tmp_path / "shared")))
    shardsynth("cancel", tmp_path / "shared")
    with partition(bare_cluster, "whole", "oversubscribe=exclusive"):
        said = shardsynth("submit", make_job(tmp_path / "whole", cluster={"defaults": {"partition": "whole"}}))
        assert (shared, billed(said)) == (0.02, 0.04)
        run = ss.Run(tmp_path / "whole")
        wait_until("the profile", lambda: len(recorded(run.dir, run.plan)["profile"]) == 4, 60, 0.3)
        assert "2 CPUs" in shardsynth("logs", tmp_path / "whole", "profile", 0)


def test_slurm_is_asked_once_per_submit(idle, make_job, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("scontrol", "sacctmgr", "sinfo"):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\nPATH="${{PATH#*:}}" exec {name} "$@"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    shardsynth("submit", make_job(tmp_path / "run", models={"tvae": {"epochs": 1}}))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum(call.startswith("sinfo") for call in calls) == 1, calls
    assert sum(call.startswith("sacctmgr") for call in calls) == 1, calls
    assert sum(call == "scontrol show config" for call in calls) == 1, calls
