"""A run of more than 10^5 tasks: what a person waits for, and what it leaves on a shared file system."""

from __future__ import annotations

import os
import re
import time

from tests.site.slurm.runs import commit_all, shardsynth

import shardsynth as ss

PARTS = 50_000


def seconds_of(*arguments):
    """CPU seconds of a command, which other work on this machine does not lengthen; the wall clock is printed."""
    started, before = time.perf_counter(), os.times()
    said = shardsynth(*arguments)
    after = os.times()
    took = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{arguments[0]}: {time.perf_counter() - started:.1f} s, of which {took:.1f} s CPU")
    return took, said


def test_a_hundred_thousand_committed_tasks(idle, make_job, tmp_path):
    root = tmp_path / "run"
    job = make_job(root, sample={"rows": 20 * PARTS, "rows_per_shard": 20}, cluster={"pack": "auto"})
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        _, said = seconds_of("submit", job, "--yes")
        elements = sum(int(n) for n in re.findall(r"tasks in (\d+) elements", said))
        print(f"{2 * PARTS:,} tasks in {elements} elements")
        files = sum(len(names) for _, _, names in os.walk(root))
        assert files + elements < 5000, "every element leaves one log"
        run = ss.Run(root)
        commit_all(run)
        missing = list(range(777, PARTS, 500))
        for index in missing:
            run.dir.record("sample", index).unlink()

        took, _ = seconds_of("status", root)
        assert took < 3
        took, said = seconds_of("resume", root)
        assert took < 10 and re.search(rf"nothing to submit: {len(missing)} tasks", said)
        shardsynth("cancel", root)
        took, said = seconds_of("resume", root)
        assert took < 10 and re.search(rf"sample gaussian_copula: {len(missing)} tasks in \d+ elements", said)
        assert "profile" not in said and "fit" not in said
    finally:
        shardsynth("cancel", root)
        idle.command("scontrol", "update", "partition=cpu", "state=up")
