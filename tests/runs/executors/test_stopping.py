from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tests.processes import heed_signals
from tests.tables import mixed_table, write_shards

from shardsynth import Job, plan_job
from shardsynth.stages.task import TaskRunner


def test_a_library_that_swallows_the_stop_commits_nothing(tmp_path):
    """SDV goes on with a simpler distribution where fitting one fails, for whatever reason."""
    code = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from shardsynth.errors import Saved; from shardsynth.standalone import signals as stopping\n"
        "from shardsynth.run.rundir import RunDir\n"
        "stopping.install(grace=0.5); os.kill(os.getpid(), signal.SIGTERM)\n"
        "with RunDir(Path(sys.argv[1])).attempt('fit', 0) as attempt:\n"
        "    try: signal.pause()\n"
        "    except Exception: print('swallowed')\n"
        "    attempt.output(Path(sys.argv[1]) / 'model').write_text('half')\n"
        "    try: attempt.commit()\n"
        "    except Saved as saved: print(saved)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "swallowed" in said and "it will start again" in said
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("*model*"))


@pytest.mark.needs("two CPUs")
def test_a_hail_of_signals_stops_an_element_of_two_processes_once(tmp_path):
    """Slurm and Apptainer both forward what asks to stop, some of it while the other's is being handled."""
    job = {
        "input": str(write_shards(mixed_table(500, 1), tmp_path / "shards", 2)),
        "output": str(tmp_path / "run"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 40_000_000, "rows_per_shard": 40_000, "tasks": 1000},
    }
    run = plan_job(Job.parse(job))
    worker = TaskRunner(run.dir.root)
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        for index in range(len(run.plan.tasks[stage])):
            assert worker.run_task(stage, index)
    command = [
        sys.executable,
        "-m",
        "shardsynth.executors.slurm.element",
        run.dir.root,
        "--stage",
        "sample",
        "--share",
        "0/1",
    ]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert "committed" in "".join(process.stdout.readline() for _ in range(3))
        for _ in range(2000):
            os.killpg(process.pid, signal.SIGUSR2)
            os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 75, said
        assert "asked to stop" in said


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_run_that_ends_takes_its_training_with_it_and_the_training_is_saved(tmp_path, name):
    """Else its worker would train on for hours, and a second one beside it after `resume`."""
    job = {
        "input": str(write_shards(mixed_table(500, 1), tmp_path / "shards", 1)),
        "output": str(tmp_path / "run"),
        "models": {"ctgan": {"epochs": 100_000, "checkpoint_minutes": 1e-9, "generator_dim": [8], "batch_size": 20}},
        "sample": {"rows": 10},
    }
    run = plan_job(Job.parse(job))
    command = [sys.executable, "-m", "shardsynth.cli", "resume", str(run.dir.root)]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=heed_signals, **options)  # noqa: PLW1509 - no other thread here
    while not list((run.dir.root / "private" / "checkpoints").glob("*.safetensors")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert any("shardsynth.executors.local.worker" in " ".join(worker.cmdline()) for worker in workers)
    process.send_signal(getattr(signal, name))
    try:
        said = process.communicate(timeout=60)[1]
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive
    finally:  # a training that did not stop would slow down every other test
        for left in (process, *workers):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + getattr(signal, name) and "`shardsynth resume` does the rest" in said
    assert "run it again to go on" in (run.dir.root / "private" / "logs" / "fit" / "0" / "0.log").read_text()


def test_an_element_whose_tasks_are_all_committed_succeeds_also_as_its_time_is_up(tmp_path):
    job = {
        "input": str(write_shards(mixed_table(500, 1), tmp_path / "shards", 2)),
        "output": str(tmp_path / "run"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 100},
        "cluster": {"rows_per_task": 250},
    }
    root = plan_job(Job.parse(job)).dir.root
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from shardsynth.standalone import signals\n"
        "from shardsynth.executors.slurm.element import run_tasks\n"
        "signals.install(); os.kill(os.getpid(), signal.SIGUSR2)\n"
        "sys.exit(run_tasks(Path(sys.argv[1]), 'profile', [0, 1], 1))\n"
    )

    def element():
        return subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)

    TaskRunner(root).run_task("profile", 0)
    one_left = element()
    assert one_left.returncode == 75 and "1 of 2 tasks left" in one_left.stdout
    TaskRunner(root).run_task("profile", 1)
    assert element().returncode == 0
