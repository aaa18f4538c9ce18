"""Batch scripts for those who submit by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from tests.site.slurm.cluster import MAX_ARRAY_SIZE, wait_until
from tests.site.slurm.runs import outcome, shardsynth
from tests.tools import ROOT, assert_shellcheck

import shardsynth as ss

SLURM = ROOT / "slurm"


def test_plain_scripts_do_the_same_as_submit(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "the 'run' $(touch pwned)"
    said = shardsynth("sbatch", make_job(root), cwd=tmp_path)
    assert "9 scripts in" in said
    folder = root / "private" / "sbatch"
    done = subprocess.run(
        ["bash", str(folder / "submit.sh")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 9, done.stderr
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 150, 0.5)
    assert outcome(root) == undisturbed, [p.read_text() for p in folder.glob("*.log")]

    parts = sorted((root / "samples" / "gaussian_copula").glob("part-*.parquet"))
    for path in (parts[3], parts[17]):
        path.unlink()
    environment = {**os.environ, "SHARDSYNTH_PYTHON": sys.executable}
    command = [
        "sbatch",
        "--array=4,9%1",
        f"--output={tmp_path}/%a.log",
        str(SLURM / "stage.sbatch"),
        str(root),
        "sample",
    ]
    subprocess.run(command, cwd=SLURM.parent, env=environment, check=True, capture_output=True)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.5)
    assert outcome(root) == undisturbed
    logs = [path.read_text() for path in tmp_path.glob("?.log")]
    assert [log.count("committed") for log in logs] == [15, 15]
    assert not list(tmp_path.rglob("pwned")) and not (SLURM.parent / "pwned").exists(), "the path was executed"


def test_models_have_arrays_of_their_own_and_candidates_come_before_the_fit(idle, make_job, tmp_path):
    root = tmp_path / "run"
    models = {"tvae": {"epochs": 1, "replicas": 2}, "gaussian_copula": {}}
    asked = {"models": {"tvae": {"fit": {"mem_gb": 2}}, "gaussian_copula": {"sample": {"time": "5"}}}}
    job = make_job(
        root, models=models, sample={"rows": 400, "rows_per_shard": 100}, cluster={"pack": 2, "throttle": 3, **asked}
    )
    shardsynth("sbatch", job, cwd=tmp_path)
    folder = root / "private" / "sbatch"
    done = subprocess.run(["bash", str(folder / "submit.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    queued = idle.command("squeue", "-h", "--format=%j %m %l", "--states=all").splitlines()
    asked = {line.partition("-")[2].partition("-")[2] for line in queued}  # without the start and the run's id
    assert {"replicas-tvae 2G UNLIMITED", "fit-tvae 2G UNLIMITED"} <= asked
    assert "%3\n" in (folder / "sample-tvae.sbatch").read_text()
    assert any(line.startswith("sample-gaussian_copula") and line.endswith(" 5:00") for line in asked)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 200, 0.5)
    logs = {path.name.rpartition("-")[0]: path.read_text() for path in folder.glob("*.log")}
    assert "all done" in shardsynth("status", root), logs
    assert "fit 1: committed" in logs["replicas-tvae"] and "fit 2: committed" in logs["replicas-tvae"]
    assert "fit 3: committed" in logs["fit-tvae"] and "fit 1" not in logs["fit-tvae"]


def test_what_slurms_limits_do_not_allow_is_submitted_with_fewer_elements(idle, make_job, tmp_path):
    root = tmp_path / "run"
    job = make_job(root, sample={"rows": 2400, "rows_per_shard": 20}, cluster={"pack": 1})
    shardsynth("sbatch", job, cwd=tmp_path)
    submit = ["bash", str(root / "private" / "sbatch" / "submit.sh")]

    def submitted():
        done = subprocess.run(submit, capture_output=True, text=True, check=False)
        names = idle.command("squeue", "-h", "--array", "--format=%j").split()
        jobs = [name.partition("-")[2].partition("-")[2] for name in names]  # without the start and the run's id
        idle.command("scancel", "--user=root")
        return done, jobs

    done, jobs = submitted()
    assert done.returncode == 0 and jobs.count("sample-gaussian_copula") == MAX_ARRAY_SIZE, done.stderr
    try:
        _set_most_jobs(idle, 20)
        done, jobs = submitted()
        assert done.returncode == 0 and len(set(jobs)) == 9 and len(jobs) <= 20, done.stderr
        assert "again, with at most" in done.stderr
        _set_most_jobs(idle, 5)
        done, jobs = submitted()
        assert done.returncode == 1 and "nothing is queued" in done.stderr and jobs == []
    finally:
        _set_most_jobs(idle, -1)


def _set_most_jobs(cluster, number):
    """Set the user's MaxSubmitJobs, and wait until the controller knows it and nothing is queued."""
    cluster.command("sacctmgr", "-i", "modify", "user", "root", "set", f"maxsubmitjobs={number}")
    wanted = set() if number < 0 else {str(number)}
    show = ("scontrol", "show", "assoc_mgr", "users=root", "flags=assoc")
    wait_until("the limit", lambda: set(re.findall(r"MaxSubmitJobs=(\d+)", cluster.command(*show))) == wanted)
    wait_until("an empty queue", lambda: cluster.command("squeue", "-h") == "")


@pytest.mark.needs("shellcheck")
def test_plain_scripts_for_a_hostile_path_are_clean(cluster, make_job, tmp_path):
    root = tmp_path / "the 'run' $(touch pwned)"
    shardsynth("sbatch", make_job(root), cwd=tmp_path)
    folder = root / "private" / "sbatch"
    assert_shellcheck(*folder.glob("*.sbatch"), folder / "submit.sh")


def test_the_scripts_under_slurm_do_all_stages_of_a_run(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "run"
    shardsynth("sbatch", make_job(root), cwd=tmp_path)
    environment = {**os.environ, "SHARDSYNTH_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(SLURM / "submit.sh"), str(root)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 9, done.stderr
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 300, 0.5)
    assert outcome(root) == undisturbed, [p.read_text() for p in tmp_path.glob("*.log")]
    logs = {path.name.split("-")[1] for path in tmp_path.glob("shardsynth-*.log")}
    assert logs == {path.name for path in (root / "tasks").iterdir()}, "logs are named for their stages"


def test_status_and_cancel_know_the_elements_of_plain_scripts(idle, make_job, tmp_path):
    root = tmp_path / "run"
    long = {"rows": 40_000 * 1000, "rows_per_shard": 40_000, "tasks": 1000}
    shardsynth("sbatch", make_job(root, sample=long, cluster={"pack": 1000}), cwd=tmp_path)
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        subprocess.run(["bash", str(root / "private/sbatch/submit.sh")], cwd=tmp_path, check=True, capture_output=True)
        said = shardsynth("status", root)
        assert "9 elements of plain scripts wait: profile to report" in said
        assert "Slurm holds some of them" in said
    finally:
        idle.command("scontrol", "update", "partition=cpu", "state=up")
    wait_until("a part", lambda: list((root / "samples").rglob("part-*.parquet")), 90, 0.2)
    assert ss.Run(root).status()["sample"]["running"] > 900
    assert "cancelled" in shardsynth("cancel", root)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.3)
    assert "cancelled" in shardsynth("status", root)
