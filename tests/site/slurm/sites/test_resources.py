"""What a run asks Slurm for: CPUs of a fit that do not depend on the login node."""

from __future__ import annotations

import json
import os
import re

import pytest
from tests.site.slurm.cluster import Cluster, wait_until
from tests.site.slurm.fixtures import speak_to
from tests.site.slurm.runs import shardsynth
from tests.tools import require

import shardsynth as ss
from shardsynth.executors.slurm.efficiency import efficiency_lines
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.submit import plan_for_slurm, submit_job, submit_missing
from shardsynth.job import Job
from shardsynth.run.rundir import RunDir


@pytest.fixture(scope="module")
def module_large_cluster(tmp_path_factory):
    """Two nodes of eight CPUs; partition `narrow` gives two of a node's."""
    require("slurm")
    cluster = Cluster(
        tmp_path_factory.mktemp("large"),
        nodes=2,
        cpus=8,
        settings="SlurmdParameters=config_overrides",
        partitions="PartitionName=narrow Nodes=n1 MaxCPUsPerNode=2",
    ).start()
    yield cluster
    cluster.stop()


@pytest.fixture
def large_cluster(module_large_cluster, monkeypatch):
    """The test's SLURM_CONF points at it."""
    yield speak_to(module_large_cluster, monkeypatch)
    module_large_cluster.reset()


def cpus_asked_for_fits(said):
    """CPUs that each fit of a dry run asks for, models in order."""
    scripts = [script for script in said.split("#!/bin/bash")[1:] if "-fit\n" in script]
    return [int(re.search(r"--cpus-per-task=(\d+)", script)[1]) for script in scripts]  # models by name


def test_the_cpus_of_a_fit_are_the_same_from_every_login_node(large_cluster, make_job, tmp_path):
    models = {"tvae": {"epochs": 1}, "ctgan": {"epochs": 1}, "gaussian_copula": {}}
    job = make_job(tmp_path / "run", models=models)
    said = shardsynth("submit", job, "--dry-run")
    assert cpus_asked_for_fits(said) == [4, 1, 4], "the stated default"
    one_cpu = {min(os.sched_getaffinity(0))}
    small = shardsynth("submit", job, "--dry-run", preexec_fn=lambda: os.sched_setaffinity(0, one_cpu))
    assert cpus_asked_for_fits(small) == [4, 1, 4]


def test_the_first_that_says_the_cpus_of_a_fit_counts(large_cluster, make_job, tmp_path):
    site = tmp_path / "site.yaml"

    def cpus(site_text="{}", **cluster):
        site.write_text(site_text)
        models = {"a": {"model": "tvae"}, "b": {"model": "gaussian_copula"}}
        job = Job.load(make_job(tmp_path / "run", models=models, cluster={"profile": str(site), **cluster}))
        return [task.threads for task in plan_for_slurm(job).tasks["fit"]]

    assert cpus() == [4, 1]
    assert cpus(defaults={"partition": "narrow"}) == [2, 1], "a node gives the partition two CPUs"
    assert cpus(defaults={"partition": "cpu,narrow"}) == [2, 1], "it may start in either"
    assert cpus(site_text="defaults: {cpus: 3}") == [3, 1]
    assert cpus(site_text="{defaults: {cpus: 3}, stages: {fit: {cpus: 5}}}") == [5, 1]
    assert cpus(site_text="stages: {fit: {cpus: 5}}", defaults={"cpus": 6}) == [6, 1]
    assert cpus(defaults={"cpus": 6}, stages={"fit": {"cpus": 7}}) == [7, 7], "as in a local run"
    assert cpus(stages={"fit": {"cpus": 7}}, models={"a": {"fit": {"cpus": 8}}}) == [8, 7]


def asked(root):
    """Memory that every array of a run asked for, by stage, oldest first."""
    found = {}
    for array in Ledger(ss.Run(root).dir).read():
        found.setdefault(array.stage, []).append(array.asked.get("mem_gb"))
    return found


def test_what_resume_and_submit_set_is_kept_in_the_run(large_cluster, make_job, tmp_path):
    root, sample = tmp_path / "run", "cluster.stages.sample.mem_gb"
    cluster = {"pack": 100, "defaults": {"partition": "cpu"}, "stages": {"sample": {"mem_gb": 1}}}
    job = make_job(root, cluster=cluster)

    def said(function, *arguments):
        lines = []
        function(*arguments, say=lines.append)
        return "\n".join(lines)

    large_cluster.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        said(submit_job, Job.load(job))
        ss.Run(root).cancel()
        assert f"{sample}: 1.0 -> 2.0" in said(submit_job, Job.load(job, [f"{sample}=2"]))
        ss.Run(root).cancel()
        assert "->" not in said(submit_missing, RunDir(root), ss.Run(root).plan)
        # Slurm 24.11 looks for a node that is large enough only while the partition is up.
        large_cluster.command("scontrol", "hold", *set(large_cluster.command("squeue", "-h", "-o", "%F").split()))
        large_cluster.command("scontrol", "update", "partition=cpu", "state=up")
        refused = shardsynth("resume", root, "--set", f"{sample}=999", code=2)
        large_cluster.command("scontrol", "update", "partition=cpu", "state=down")
        assert "memory" in refused.lower() and ss.Run(root).job.cluster.stages["sample"].mem_gb == 2, "not kept"
        raised = shardsynth("resume", root, "--set", f"{sample}=3")
        assert f"{sample}: 2.0 -> 3.0" in raised and "queued or running already keeps what it asked for" in raised
        ss.Run(root).cancel()
        said(submit_missing, RunDir(root), ss.Run(root).plan)
        assert asked(root)["sample"] == [1, 2, 2, 3]
        scripts = list((root / "private" / "slurm").glob("*.sbatch"))
        assert all("--partition=cpu\n" in script.read_text() for script in scripts), "also of a later `resume`"
    finally:
        large_cluster.command("scontrol", "update", "partition=cpu", "state=up")


def test_status_and_watch_for_narrow_terminals_logs_and_scripts(large_cluster, make_job, tmp_path):
    root = tmp_path / ("a_long_name" * 8) / "run"
    submit_job(Job.load(make_job(root, cluster={"pack": 100})))
    table = shardsynth("status", root).splitlines()[:10]
    assert table[-1].startswith("report") and max(map(len, table)) <= 80
    (record,) = map(json.loads, shardsynth("status", root, "--json").splitlines())
    assert record["submitted"] and record["stages"]["sample"]["tasks"] == 30 and record["run"] == str(root)
    ss.Run(root).cancel()
    last = json.loads(shardsynth("watch", root, "--json", "--every", 1, code=1).splitlines()[-1])
    assert not last["done"] and not last["live"]
    assert {failure["kind"] for failure in last["failures"]} == {"cancelled"}
    said = shardsynth("watch", root, "--every", 1, code=1, env={**os.environ, "COLUMNS": "80"})
    assert f": shardsynth resume {root}\n" in said, "a line of a log is not broken"


def test_efficiency_says_what_was_used_of_what_was_asked_for(large_cluster, make_job, tmp_path, monkeypatch):
    root = tmp_path / "run"
    profile = {"cpus": 8, "mem_gb": 3, "time": "2:00:00"}
    submit_job(Job.load(make_job(root, cluster={"pack": 100, "stages": {"profile": profile}})))
    (array,) = (array for array in Ledger(ss.Run(root).dir).read() if array.stage == "profile")
    state = ("sacct", "-n", "-X", "-P", "-j", str(array.job), "--format=State")
    wait_until("the profile", lambda: large_cluster.command(*state).strip() == "COMPLETED", 90, 0.5)
    ss.Run(root).cancel()
    said = shardsynth("efficiency", root)
    assert re.search(r"^profile +1 +\d\.\d of 8 +\d\.\d of 3\.0 +0:\d\d:\d\d of 2:00:00$", said, re.MULTILINE)
    assert "from Slurm's accounting" in said
    better = r"^    profile: \{cpus: [1-7], mem_gb: [\d.]+, time: \"0:10:00\"\}$"
    assert re.search(better, said, re.MULTILINE)
    assert max(map(len, said.splitlines()[:2])) <= 80

    run = ss.Run(root)
    with monkeypatch.context() as bare:
        bare.setenv("PATH", str(tmp_path))
        said = "\n".join(efficiency_lines(run.dir, run.plan))
    assert re.search(r"^profile +1 +\d\.\d of 8 +\d\.\d of 3\.0 +0:\d\d:\d\d of 2:00:00$", said, re.MULTILINE)
    assert "from the run's own records, without starts, failures and waiting: no accounting (sacct: not found" in said
    assert re.search(better, said, re.MULTILINE)
