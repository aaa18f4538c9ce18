"""Why elements ended, told apart on a real cluster, and what each failure leads to."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from submitit.core.utils import UncompletedJobError
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import element_processes, held_element, shardsynth

import shardsynth as ss
from shardsynth.executors.status import read_status
from shardsynth.run.committed import recorded


def ended(cluster, root):
    wait_until("the end", lambda: cluster.command("squeue", "-h") == "", 150, 0.5)
    return shardsynth("status", root)


def causes(root):
    run = ss.Run(root)
    return {key: cause.kind for key, cause in read_status(run.dir, run.plan).causes.items()}


class Hung:
    """Holds an element's processes stopped once they run, as a file system that does not answer would."""

    def __init__(self, root):
        self.root = root
        self.starts = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._hold)

    def started(self):
        logs = (self.root / "private" / "slurm" / "submitit").glob("*.out")
        return sum(path.read_text().count(" CPUs of ") for path in logs) > self.starts

    def _hold(self):
        while not self.over.wait(0.05):
            for pid in element_processes(self.root) if self.started() else []:
                try:
                    os.kill(pid, signal.SIGSTOP)
                except ProcessLookupError:
                    continue

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def test_out_of_memory_and_out_of_time_are_told_apart_and_retried_with_more(idle, make_job, tmp_path):
    slow, big = tmp_path / "slow", tmp_path / "big"
    shardsynth(
        "submit", make_job(slow, cluster={"stages": {"profile": {"time": "1"}}, "retry": {"time": {"time": "x3"}}})
    )
    # Both are held: an element that ends within a second is over before Slurm looks at its memory.
    with Hung(slow), Hung(big):
        retry = {"oom": {"mem_gb": "x20"}}
        shardsynth("submit", make_job(big, cluster={"stages": {"profile": {"mem_gb": 0.04}}, "retry": retry}))
        wait_until("the end of both", lambda: idle.command("squeue", "-h") == "", 150, 0.5)
    said = shardsynth("status", big)
    assert re.search(r"profile 0-3: out of memory: mem_gb: 0\.04 -> it peaked at \d\.\d+; ask for more", said)
    said = shardsynth("status", slow)
    assert "profile 0-3: out of time: time: 1 was too short; ask for more" in said
    assert {causes(big)["profile", 0], causes(slow)["profile", 0]} == {"oom", "time"}
    assert causes(big)["sample", 3] == "cancelled"  # what waited for it
    job = ss.Run(slow).jobs["profile"][0]
    with pytest.raises(UncompletedJobError, match="out of time"):
        job.result()
    assert job.state == "TIMEOUT"

    shardsynth("resume", big)
    shardsynth("resume", slow)
    shardsynth("cancel", slow)
    scripts = "".join(path.read_text() for path in (big / "private" / "slurm").glob("*.sbatch"))
    assert "#SBATCH --mem=41M\n" in scripts and "#SBATCH --mem=819M\n" in scripts
    scripts = "".join(path.read_text() for path in (slow / "private" / "slurm").glob("*.sbatch"))
    assert "#SBATCH --time=1\n" in scripts and "#SBATCH --time=3\n" in scripts
    run = ss.Run(big)
    wait_until("the profile, with more memory", lambda: len(recorded(run.dir, run.plan)["profile"]) == 4, 60, 0.3)


def test_a_lost_node_is_named_and_what_it_held_runs_elsewhere(idle, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    run = ss.Run(root)
    job, node = wait_until("an element that samples", lambda: held_element(root, "sample"), 120, 0.02)
    idle.command("scontrol", "update", f"jobid={job}", "requeue=0")
    idle.lose_node(node)
    wait_until("the controller to notice", lambda: idle.node_states()[node].startswith("down"), 60, 0.5)
    said = ended(idle, root)
    assert f"its node {node} was lost; `resume` runs it elsewhere" in said
    assert "node" in causes(root).values()
    assert "NODE_FAIL" in {job.state for job in run.jobs if job.done()}
    idle.start_node(node)
    lost = [index for (stage, index), kind in causes(root).items() if kind == "node"]
    said = shardsynth("resume", root)
    assert f"sample gaussian_copula: {30 - len(recorded(run.dir, run.plan)['sample'])} tasks in" in said
    wait_until("the lost tasks", lambda: set(lost) <= set(recorded(run.dir, run.plan)["sample"]), 60, 0.3)


def test_a_killed_task_says_its_signal_and_a_failed_one_its_own_words(idle, make_job, tmp_path):
    root = tmp_path / "run"
    job = make_job(root)
    shardsynth("submit", job)
    wait_until("a task", lambda: element_processes(root), 30, 0.01)
    for pid in element_processes(root):
        os.kill(pid, signal.SIGKILL)
    assert "profile 0-3: killed by signal 9: out of memory?" in ended(idle, root)

    shards = Path(ss.Run(root).plan.shards[0].path).parent
    time.sleep(0.01)
    os.utime(shards / "part-2.parquet")  # an input that changed is not mixed with what was read before
    shardsynth("resume", root)
    said = ended(idle, root)
    assert re.search(r"profile [\d,-]+: .*part-2\.parquet.*changed", said)
    assert "killed by" not in said
    assert "part-2.parquet" in shardsynth("logs", root, "profile", 2)


def test_an_element_that_starts_again_and_again_without_progress_fails_and_says_so(idle, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root, cluster={"max_requeues": 1}))
    with Hung(root) as hung:
        for _ in range(2):
            wait_until("the element", hung.started, 60, 0.05)
            idle.command("scontrol", "requeue", _running(idle))
            wait_until("its end", lambda: not element_processes(root), 30, 0.05)
            hung.starts += 1
            idle.start_soon()
    said = ended(idle, root)
    assert "profile 0-3: started 2 times without finishing one more task; give it more time" in said


def _running(cluster):
    return cluster.command("squeue", "-h", "--states=RUNNING", "-o", "%F_%K").split()[0]


def test_a_stock_fit_has_no_checkpoint_starts_again_and_says_so(idle, make_job, tmp_path):
    root = tmp_path / "run"
    models = {"stock": {"model": "tvae", "engine": "sdv", "epochs": 150, "batch_size": 100}}  # about 20 s, twice
    one = {"stages": {"fit": {"cpus": 1}}}
    shardsynth("submit", make_job(root, models=models, sample={"rows": 200, "rows_per_shard": 100}, cluster=one))
    run = ss.Run(root)
    wait_until(
        "the fit",
        lambda: (
            recorded(run.dir, run.plan)["count_merge"] and "-fit" in idle.command("squeue", "-h", "-t", "R", "-o", "%j")
        ),
        90,
        0.1,
    )
    urgent = idle.command("sbatch", "--parsable", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "true").strip()
    wait_until("the urgent job", lambda: idle.command("squeue", "-h", "-j", urgent, check=False) == "", 60, 0.2)
    assert not recorded(run.dir, run.plan)["fit"], "it was over before it could be pre-empted"
    idle.start_soon()
    wait_until("the fit", lambda: recorded(run.dir, run.plan)["fit"], 90, 0.3)
    said = shardsynth("logs", root, "fit", 0)
    assert "started again by Slurm (restart 1)" in said
    assert "fit 0 (stock engine): has no checkpoint and starts again from the beginning" in said
