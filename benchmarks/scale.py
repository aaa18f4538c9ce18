"""What a person waits for with a run of 10^5 committed tasks, on a real Slurm; and what it leaves on a shared file system.

A job of 50,000 sampling and 50,000 scoring tasks is submitted to a partition that is down, its commit records are
fabricated, and a hundred of them taken away again. Needs root and Debian's Slurm packages (slurm/README.md).

Bars: `status` under 3 s; `resume` decides in under 10 s; fewer than 5,000 files besides parts and records.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.site.slurm.cluster import leave_without_slurm, running
from tests.site.slurm.runs import commit_all, shardsynth, write_job, write_small_shards

import shardsynth as ss

PARTS = 50_000


def main() -> None:
    leave_without_slurm()
    lines, said = [], ""

    def timed(title: str, *arguments: object) -> float:
        nonlocal said
        started, before = time.perf_counter(), os.times()
        said = shardsynth(*arguments)
        wall, after = time.perf_counter() - started, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        lines.append(f"{title:<58} {wall:6.1f} s, {cpu:.1f} s of CPU")
        return wall

    with tempfile.TemporaryDirectory(prefix="ss-scale-") as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        shards = write_small_shards(folder / "shards")
        with running(folder / "slurm") as cluster:
            cluster.command("scontrol", "update", "partition=cpu", "state=down")
            root = folder / "run"
            sample = {"rows": 20 * PARTS, "rows_per_shard": 20}
            job = write_job(folder / "job.yaml", shards, root, sample=sample, cluster={"pack": "auto"})
            timed("submit", "submit", job, "--yes")
            elements = sum(int(n) for n in re.findall(r"tasks in (\d+) elements", said))
            files = sum(len(names) for _, _, names in os.walk(root)) + elements
            run = ss.Run(root)
            commit_all(run)
            missing = range(777, PARTS, 500)
            for index in missing:
                run.dir.record("sample", index).unlink()
            status = timed("status", "status", root)
            waits = timed("resume, all queued", "resume", root)
            shardsynth("cancel", root)
            resume = timed(f"resume, {len(missing)} tasks missing, submitted again", "resume", root)
            shardsynth("cancel", root)
    total = sum(len(tasks) for tasks in run.plan.tasks.values())
    lines.append(
        f"{total:,} tasks in {elements} elements; {files} files, one log per element counted, besides parts and records"
    )
    record("scale", lines)
    sys.exit(0 if status < 3 and max(waits, resume) < 10 and files < 5000 else 1)


if __name__ == "__main__":
    main()
