"""Sites that limit how many elements a user may have queued: a run ends by itself all the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import outcome, shardsynth
from tests.tools import assert_shellcheck

import shardsynth as ss
from shardsynth.errors import TaskError
from shardsynth.executors.slurm.follow_script import follow_script
from shardsynth.run.committed import recorded
from shardsynth.standalone.locks import this_process

ENDED = 2**22 - 3  # more than any process number here


@pytest.fixture
def limit(idle):
    """Sets MaxSubmitJobsPerUser of a QOS `tight`, which root may use; the function that sets it."""

    def sacctmgr(*words):
        idle.command("sacctmgr", "-i", *words, check=False)

    def takes(elements):
        words = ("--test-only", "--qos=tight", f"--array=0-{elements - 1}", "--wrap=true")
        return subprocess.run(["sbatch", *words], capture_output=True, check=False).returncode == 0

    def set_to(number):
        sacctmgr("add", "qos", "tight")
        sacctmgr("modify", "qos", "tight", "set", f"MaxSubmitJobsPerUser={number}")
        sacctmgr("modify", "user", "root", "set", "qos+=tight")
        wait_until("the limit", lambda: takes(number) and not takes(number + 1))

    return set_to


def submitted(root):
    lines = [json.loads(line) for line in (root / "private/slurm/jobs.jsonl").read_text().splitlines()]
    return [line["job"] for line in lines if "job" in line]


def queued(cluster):
    return cluster.command("squeue", "-h", "--array", "-o", "%j %T").splitlines()


def test_what_a_limit_keeps_out_of_the_queue_follows_by_itself(limit, idle, make_job, undisturbed, tmp_path):
    limit(5)
    root = tmp_path / "it's $HOME"
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        said = shardsynth("submit", make_job(root, cluster={"pack": 5, "defaults": {"qos": "tight"}}))
        assert re.search(r"\d+ elements wait to be submitted, as others end \(QOSMaxSubmitJobPerUserLimit\)", said)
        assert len(queued(idle)) == 5
        assert len(submitted(root)) == 4, "one place is for the job that goes on if no element can"
        status = ss.Run(root).status()
        assert status["report"]["pending"] == 1 and status["sample"]["pending"] == 30
        assert "wait to be submitted, as others end" in shardsynth("status", root)
        assert "nothing to submit" in shardsynth("resume", root)
    finally:
        idle.command("scontrol", "update", "partition=cpu", "state=up")
    most, started = 0, time.monotonic()
    while queue := queued(idle):
        most = max(most, len(queue))
        time.sleep(0.5)
    print(f"{len(submitted(root))} elements under a limit of 5 in {time.monotonic() - started:.0f} s")
    assert most == 5
    run = ss.Run(root).wait(10)
    assert outcome(root) == undisturbed
    assert len(submitted(root)) == 19 and len(set(submitted(root))) == 19
    assert "all done" in shardsynth("status", run.dir.root)
    assert not [p.name for p in (root / "private/slurm").iterdir() if p.name.startswith(("rest", "lock", "sent"))]


def test_the_rest_follows_where_no_element_is_left_and_cancel_ends_it(limit, idle, make_job, tmp_path):
    limit(3)
    root = tmp_path / "run"
    shardsynth("submit", make_job(root, cluster={"pack": 5, "defaults": {"qos": "tight"}}))
    run = ss.Run(root)
    wait_until("sampling", lambda: recorded(run.dir, run.plan)["sample"], 60, 0.2)
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        wait_until("nothing to run", lambda: not [line for line in queued(idle) if not line.endswith("PENDING")], 30)
        jobs = [line.split() for line in idle.command("squeue", "-h", "-o", "%A %j").splitlines()]
        cancelled = [job for job, name in jobs if not name.endswith("-follow")]
        follower = next(job for job, name in jobs if name.endswith("-follow"))
        idle.command("scancel", *cancelled)
        assert 1 <= len(cancelled) <= 2 and "wait to be submitted, as others end" in shardsynth("status", root)
    finally:
        idle.command("scontrol", "update", "partition=cpu", "state=up")
    idle.command("scontrol", "update", f"jobid={follower}", "starttime=now", check=False)
    with pytest.raises(TaskError, match="not submitted, since an element that it needs failed"):
        run.wait(200)
    status = run.status()
    lost = status["sample"]["tasks"] - status["sample"]["done"]
    assert 5 * len(cancelled) - 4 <= lost <= 5 * len(cancelled), "all but the tasks of the cancelled elements"
    assert status["score"]["failed"] == 30
    said = shardsynth("resume", root)
    assert "wait to be submitted, as others end" in said
    assert re.search(
        r"cancelled [1-3] elements of [1-3] jobs, and \d+ arrays that were not submitted", shardsynth("cancel", root)
    )
    wait_until("the end", lambda: not queued(idle), 30)
    assert "nothing is queued: shardsynth resume" in shardsynth("status", root)


@pytest.mark.needs("shellcheck")
def test_the_script_that_follows_is_clean(tmp_path):
    path = tmp_path / "follow.sh"
    environment = {"PATH": "/usr/bin", "BASH_FUNC_ml%%": "() {  echo 'a'\\n}"}
    path.write_text(follow_script(environment, "shardsynth-0-"))
    assert_shellcheck(path)


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, False),
        ({"pid": ENDED}, True),
        ({"pid": ENDED, "where": "this-boot another-container"}, False),
        ({"pid": ENDED, "host": "another"}, False),
        ({"pid": ENDED, "host": "another", "at": 5}, True),
        (None, True),
    ],
)
def test_the_script_that_follows_removes_locks_that_are_stale_for_sure(tmp_path, changes, taken):
    path, lock = tmp_path / "follow.sh", tmp_path / "lock"
    path.write_text(follow_script({"PATH": os.environ["PATH"]}, "shardsynth-0-"))
    if changes is None:  # what a killed process left, where there are no hard links
        lock.write_text("")
        os.utime(lock, (5, 5))
    else:
        lock.write_text(json.dumps({**json.loads(this_process("submit")), **changes}))
    before = lock.read_bytes()
    ended = subprocess.run(
        ["timeout", "-s", "KILL", "30" if taken else "0.6", "bash", str(path)], check=False
    ).returncode
    assert (ended == 0) is taken and lock.exists() is not taken
    if not taken:
        assert lock.read_bytes() == before


def test_the_script_that_follows_starts_a_new_line_after_one_that_was_cut(tmp_path):
    path, ended = tmp_path / "follow.sh", tmp_path / "ended"
    path.write_text(follow_script({"PATH": os.environ["PATH"]}, "shardsynth-0-"))
    ended.write_text("a 0\na")
    for number in ("1", "2"):
        subprocess.run(["bash", str(path), "a", number, "0"], check=True, timeout=30)
    assert ended.read_text() == "a 0\na\na 1\na 2\n"
