"""Killed, cut short, run twice at once or on a full disk: what is committed stays, and a resume makes the same bytes."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.finished import final_files, small_job
from tests.here import go_on_here, run_here

from shardsynth import Run, plan_job
from shardsynth.errors import InputError, RunError, TaskError
from shardsynth.stages.rewrite import write_run_report
from shardsynth.stages.task import TaskRunner

#: One worker process: for a resume whose subject is what it does, not that it does much at once.
ONE_WORKER = {"rows_per_task": 100, "workers": 1}


@pytest.fixture(scope="module")
def calm(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The small job, undisturbed. To be read only."""
    return run_here(small_job(small_shards, tmp_path_factory.mktemp("calm") / "r"))


def test_a_deleted_part_is_made_again(small_shards, tmp_path):
    run = run_here(small_job(small_shards, tmp_path / "r", cluster=ONE_WORKER))
    before = final_files(run.dir.root)
    run.dir.part("gaussian_copula", 2).unlink()
    with pytest.raises(RunError, match="needs sample 2"):
        TaskRunner(run.dir.root).run_task("score", 2)
    assert "tasks are left" in run.status_lines()[-1]
    run.resume()
    assert final_files(run.dir.root) == before


def test_merge_names_the_part_that_does_not_add_up(small_shards, tmp_path):
    run = run_here(small_job(small_shards, tmp_path / "r", cluster=ONE_WORKER))
    part = run.dir.part("gaussian_copula", 3)
    content = part.read_bytes()
    part.write_bytes(
        content.replace(b"parquet-cpp-arrow", b"parquet-cpp-Arrow")
    )  # still reads, but is not what was made
    run.dir.record("merge", 0).unlink()
    with pytest.raises(TaskError, match=r"part-00003\.parquet: the checksum differs"):
        run.resume()
    part.unlink()
    go_on_here(run)
    assert part.read_bytes() == content


def test_two_resumes_at_once_do_no_harm(calm, small_shards, tmp_path):
    other = plan_job(small_job(small_shards, tmp_path / "twice"))
    command = [sys.executable, "-m", "shardsynth.cli", "resume", str(other.dir.root)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert final_files(other.dir.root) == final_files(calm.dir.root)
    assert not list(other.dir.root.rglob(".*.tmp"))


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def test_killed_at_twenty_random_moments_the_output_is_the_same(calm, small_shards, tmp_path):
    wanted = final_files(calm.dir.root)
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = rounds = 0
    while kills < 20:
        rounds += 1
        run = plan_job(small_job(small_shards, tmp_path / f"r{rounds}"))
        command = [sys.executable, "-m", "shardsynth.cli", "resume", str(run.dir.root)]
        while kills < 20:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=chance.uniform(0.5, 4.0))
                break  # done before the kill
            except subprocess.TimeoutExpired:
                _kill_tree(process)
                kills += 1
        last = subprocess.run(command, capture_output=True, text=True, check=False)
        assert last.returncode == 0, last.stderr
        assert final_files(run.dir.root) == wanted, f"seed {seed}, round {rounds}"
        run.clean()
        assert not list(run.dir.root.rglob(".*.tmp"))


def test_a_failed_task_names_itself_and_its_log_and_the_rest_finishes(small_shards, tmp_path):
    models = {"gaussian_copula": {}, "bad": {"model": "ctgan", "epochs": 1, "generator_dim": [2_000_000_000]}}
    plan = run_here(small_job(small_shards, tmp_path / "r", models=models, cluster=ONE_WORKER), "count_merge")
    with pytest.raises((TaskError, InputError), match=r"task fit 1 \(model bad\)") as caught:
        plan.resume()
    assert "private/logs/fit/0/1.log" in str(caught.value)
    assert "only those" in str(caught.value)
    assert plan.samples("gaussian_copula").rows == 500
    assert any("shardsynth" in line or "Error" in line for line in plan.log_lines("fit", 1))


def test_a_killed_worker_is_one_failed_task_not_the_end(small_shards, tmp_path):
    plan = plan_job(small_job(small_shards, tmp_path / "r"))
    caught: list[BaseException] = []

    def kill_one() -> None:
        me, end = psutil.Process(), time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.2)
            with contextlib.suppress(psutil.Error):  # one that has just ended
                workers = [c for c in me.children() if "shardsynth.executors.local.worker" in " ".join(c.cmdline())]
                busy = [worker for worker in workers if worker.cpu_percent(0.1) > 30]  # an idle one has no task to fail
                if busy:
                    busy[0].kill()
                    return

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        plan.resume()
    except TaskError as error:
        caught.append(error)
    thread.join()
    assert caught and "killed by SIGKILL (out of memory?)" in str(caught[0])
    plan.resume()
    assert plan.samples("gaussian_copula").rows == 500


def test_a_disk_that_fills_up_loses_nothing_committed(calm, small_shards, tmp_path):
    """A file-size limit stands for the full disk: the same error path, without a file system of its own."""
    plan = plan_job(small_job(small_shards, tmp_path / "r"))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from shardsynth.stages.task import TaskRunner; from pathlib import Path\n"
        "w = TaskRunner(Path(sys.argv[1]))\n"
        "for s in ('profile', 'profile_merge', 'count', 'count_merge', 'fit'):\n"
        "    for t in w.plan.tasks[s]: w.run_task(s, t.index)\n"
        "w.run_task('sample', 0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "from shardsynth.errors import SpaceError\n"
        "try:\n    w.run_task('sample', 1)\nexcept SpaceError as e: print('FULL', e)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(plan.dir.root)], capture_output=True, text=True, check=True
    ).stdout
    assert "FULL" in out and "were needed" in out and "nothing committed is lost" in out
    assert plan.dir.part("gaussian_copula", 0).exists()
    go_on_here(plan)
    assert final_files(plan.dir.root) == final_files(calm.dir.root)


def test_clean_keeps_what_counts(calm, tmp_path):
    run = Run(shutil.copytree(calm.dir.root, tmp_path / "r"))
    before = final_files(run.dir.root)
    run.clean()
    assert final_files(run.dir.root) == before and run.status_lines()[-1] == "all done"
    run.clean(private=True)
    assert not run.dir.private.exists() and final_files(run.dir.root) == before
    assert run.status_lines()[-1] == "all done"
    with pytest.raises(RunError, match="the page is drawn from it"):
        write_run_report(run.dir.root)
