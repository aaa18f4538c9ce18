"""Elements as jobs of submitit: their states, results and logs on bad days, and anybody's own executor."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from submitit.core.utils import FailedJobError, UncompletedJobError
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import element_processes, outcome, shardsynth
from tests.tools import ROOT

import shardsynth as ss


def states_of_sacct(cluster, jobs):
    """State of each element by the accounting, by its id."""
    numbers = ",".join({job.job_id.partition("_")[0] for job in jobs})
    text = cluster.command("sacct", "-X", "-n", "-P", "-j", numbers, "-o", "JobID,State")
    return {line.split("|")[0]: line.split("|")[1].split()[0] for line in text.splitlines()}


def test_jobs_have_the_states_results_and_logs_of_their_elements_and_clean_takes_their_files(
    idle, make_job, undisturbed, tmp_path
):
    root = tmp_path / "a 'b' $(touch pwned)"
    run = ss.submit(ss.Job.load(make_job(root)))
    sampling = run.jobs["sample", "gaussian_copula"]
    assert [job.done() for job in sampling] == [False] * 6 and len(run.jobs) == 19
    run.jobs["report"][0].wait()
    run = ss.Run(root)  # as from any later process
    for group in run.jobs.groups:
        for job in run.jobs[group]:
            result = job.result()
            assert (result["stage"], job.exception()) == (group[0], None)
            assert "committed" in job.stdout() and "Traceback" not in job.stderr()
    assert [job.result()["tasks"] for job in sampling] == ["0-4", "5-9", "10-14", "15-19", "20-24", "25-29"]
    states = {job.job_id: job.state for job in run.jobs}
    assert set(states.values()) == {"COMPLETED"}
    wait_until("sacct to agree", lambda: states_of_sacct(idle, run.jobs) == states, 20, 0.5)
    assert outcome(root) == undisturbed
    files = [
        path for path in (root / "private" / "slurm").rglob("*") if path.is_file() and "submission" not in path.name
    ]
    of_run = 3  # id, jobs.jsonl, cluster
    assert len(files) <= 4 * len(run.jobs) + 2 * len(run.jobs.groups) + of_run, sorted(path.name for path in files)
    shardsynth("clean", root)
    assert not (root / "private" / "slurm" / "submitit").exists()
    assert sampling[1].result()["tasks"] == "5-9", "from the commit records"
    assert not list(tmp_path.rglob("pwned"))


def test_a_failed_a_cancelled_and_a_never_started_element_end_with_their_reasons(idle, make_job, tmp_path):
    root = tmp_path / "run"
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        run = ss.submit(ss.Job.load(make_job(root)))
        run.jobs["sample"][3].cancel()  # Slurm keeps no record of it
        waiting = run.jobs["sample"][3]
        wait_until("its end", lambda: waiting.done(force_check=True), 30, 0.5)
        with pytest.raises(UncompletedJobError, match="cancelled"):
            waiting.result()
        assert waiting.state == "CANCELLED" and not run.jobs["sample"][2].done(force_check=True)
        idle.command("scontrol", "shutdown", "slurmctld")
        wait_until("its end", lambda: "is UP" not in idle.command("scontrol", "ping", check=False))
        assert not run.jobs["profile"][0].done(force_check=True), "what the controller does not tell is not an end"
        idle.start_controller()
        os.utime(run.plan.shards[2].path)  # the input changed: the profile fails
    finally:
        idle.command("scontrol", "update", "partition=cpu", "state=up")
    failed = run.jobs["profile"][0]
    with pytest.raises(FailedJobError, match=r"part-2\.parquet.*changed"):
        failed.result()
    assert failed.state == "FAILED" and failed.watcher.elements[failed.job_id].exit_code == 2
    assert "Traceback" not in failed.stderr()
    for job in run.jobs["report"]:
        job.wait()
        assert job.state == "CANCELLED", "what it waited for failed"
    assert idle.command("squeue", "-h") == ""


def test_an_element_that_is_requeued_is_not_done_and_one_that_is_preempted_for_good_is(idle, make_job, tmp_path):
    root = tmp_path / "run"
    held = {"rows": 40_000 * 1000, "rows_per_shard": 40_000, "tasks": 1000}
    stages = {"sample": {"partition": "gpu", "gres": "gpu:a100:1"}}
    run = ss.submit(ss.Job.load(make_job(root, sample=held, cluster={"pack": 1000, "stages": stages})))
    job = run.jobs["sample"][0]
    wait_until("a part", lambda: list((root / "samples").rglob("part-*.parquet")), 90, 0.1)
    idle.command("scancel", "--batch", "--signal=USR2", job.job_id)
    wait_until("the requeue", lambda: "saved: queued again" in (job.stdout() or ""), 60, 0.2)
    assert job.paths.result_pickle.exists() and not job.done(force_check=True)
    idle.start_soon()
    wait_until("the second run", lambda: job.stdout().count(" CPUs of ") == 2, 60, 0.2)
    assert not job.paths.result_pickle.exists(), "the result of the run before"
    idle.command("scontrol", "update", "partition=gpu", "gracetime=0")
    try:
        idle.command("sbatch", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "sleep 1")
        job.wait()
    finally:
        idle.command("scontrol", "update", "partition=gpu", "gracetime=30")
    assert job.state == "PREEMPTED" and not element_processes(root)
    with pytest.raises(UncompletedJobError, match="pre-empted without being queued again"):
        job.result()
    run.cancel()


def own_script(folder):
    """The script of slurm/README.md, as a file."""
    text = (ROOT / "slurm" / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    path = folder / "mine.py"
    path.write_text(code)
    return path


def test_anybodys_own_executor_commits_the_same_bytes(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "run"
    command = [sys.executable, own_script(tmp_path), make_job(root, cluster={"pack": 15}), "slurm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(root) == undisturbed
    asked = ("sacct", "-X", "-n", "-P", "-S", "now-1hour", "--name=submitit", "-o", "JobID,State")
    wait_until("sacct to agree", lambda: len(re.findall("COMPLETED", idle.command(*asked))) >= 11, 20, 0.5)


def test_the_trainings_of_replicas_are_a_stage_of_their_own(idle, make_job, tmp_path):
    options = {"epochs": 4, "batch_size": 50, "compress_dims": [16], "decompress_dims": [16], "replicas": 2}
    changes = {"models": {"mine": {"model": "tvae", **options}}, "sample": {"rows": 200, "rows_per_shard": 100}}
    said = shardsynth(
        "submit", make_job(tmp_path / "run", cluster={"pack": 1, "stages": {"fit": {"cpus": 1}}}, **changes)
    )
    assert re.search(r"job \d+: replicas mine: 2 tasks in 2 elements\njob \d+: fit mine: 1 tasks in 1 elements", said)
    run = ss.Run(tmp_path / "run")
    run.jobs["fit", "mine"][0].wait()
    assert [len(run.jobs[stage, "mine"]) for stage in ("replicas", "fit")] == [2, 1]
    assert [job.result()["tasks"] for job in [*run.jobs["replicas"], *run.jobs["fit"]]] == ["0", "1", "2"]
    run.cancel()
