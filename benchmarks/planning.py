"""Seconds and memory of plan, status, resume and pack for 10^3 to 10^7 output parts.

Planning, and status and resume of a run of which nothing is done, go to 10^7 parts. `resume` of a run that is not begun
stands for what it does before the first task starts: find what is missing, and what may start. A finished run has a file
for each part and two commit records (sample, score), which are fabricated here: to 10^5 parts whole, with right checksums,
for resume and pack, which open them; to 10^6 parts as links to one file, for `status`, which reads nothing but names.

Every figure is of a process of its own, its imports included. Bars: 10^7 parts are planned in 10 s and 500 MB; `status`
of 10^6 finished parts takes 3 s and 300 MB; from one row to the next nothing grows more than tenfold, beyond what a
process takes to start (half a second and 20 MB are noise). Growth is judged by seconds of CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))

import shardsynth as ss
from shardsynth.planning.tasks import PartTasks

#: Finished runs, with links and with whole files.
MOST_LINKED, MOST_WHOLE = 10**6, 10**5
#: Most links to one file: ext4 allows 65,000.
_LINKS = 30_000
CONTENT = b"not a part"
_CHILD = """
import os, sys, time
started = time.perf_counter()
sys.path.insert(0, {benchmarks!r})
sys.stdout = open(os.devnull, "w")
{code}
from results import peak_mib
print(time.perf_counter() - started, time.process_time(), peak_mib(), file=sys.stderr)
"""
_PLAN = "from shardsynth.api import Job, plan_job\nplan_job(Job.load(sys.argv[1]))"
_BEGIN = """
from shardsynth.api import Run
from shardsynth.run.integrity import tasks_to_do
from shardsynth.run.schedule import Schedule
run = Run(sys.argv[1])
assert Schedule.of(run.plan, tasks_to_do(run.plan, run.dir, print)).next(1).stage == "profile"
"""
_COMMAND = (
    "sys.argv = ['shardsynth', {command!r}, sys.argv[1]]\nfrom shardsynth.cli import app\napp(standalone_mode=False)"
)


def measured(code: str, *arguments: object) -> tuple[float, float, float]:
    """Seconds, seconds of CPU, and peak memory in MB, of Python code in a process of its own."""
    text = _CHILD.format(benchmarks=str(Path(__file__).parent), code=code)
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, cpu, mib = done.stderr.split()[-3:]
    return float(seconds), float(cpu), float(mib) * 2**20 / 1e6


def finish(root: Path, *, whole: bool) -> None:
    """Fabricate the commit records of every task, and the parts, of a run that was planned; ``whole``: with content."""
    run = ss.Run(root)
    digest = hashlib.sha256(CONTENT).hexdigest()
    (root / "samples" / "m").mkdir(parents=True)
    (root / "metrics").mkdir()
    (root / "metrics" / "m.json").write_text(json.dumps({"quality": {"score": 1.0}}))
    for stage, tasks in run.plan.tasks.items():
        for index in range(len(tasks)):
            path = run.dir.record(stage, index)
            if index % 1000 == 0:
                path.parent.mkdir(parents=True)
            part = run.dir.part("m", index)
            if not whole:
                if index % _LINKS == 0:
                    _write(source := root / f"{stage}{index}", CONTENT)
                os.link(source, path)
                if stage == "sample":
                    os.link(source, part)
                continue
            output = {"path": f"samples/m/{part.name}", "temporary": f".{part.name}.x.tmp", "size": len(CONTENT)}
            outputs = [{**output, "sha256": digest}] if stage == "sample" else []
            if outputs:
                _write(part, CONTENT)
            text = {"stage": stage, "index": index, "rows": 1, "outputs": outputs, "seconds": 0.1}
            _write(path, json.dumps(text).encode())


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(handle, content)
    os.close(handle)


def judged(found: dict[str, list[tuple[int, float, float, float]]]) -> int:
    """Record the table; 0 if every bar holds."""
    lines = [f"{'':28} {'parts':>12} {'seconds':>9} {'of CPU':>9} {'MB':>6}"]
    grows = []
    for what, rows in found.items():
        start = [min(row[place] for row in rows) for place in (2, 3)]
        for before, after in zip([rows[0], *rows], rows):
            lines.append(f"{what:28} {after[0]:>12,} {after[1]:>9.2f} {after[2]:>9.2f} {after[3]:>6.0f}")
            more = [(each[2] - start[0], each[3] - start[1]) for each in (before, after)]
            if any(now > 12 * max(then, least) for then, now, least in zip(*more, (0.5, 20))):
                grows.append(f"{what} of {after[0]:,} parts")
    last = {what: {row[0]: row for row in rows} for what, rows in found.items()}
    _, plan_seconds, _, plan_mb = last["plan"][10**7]
    _, status_seconds, _, status_mb = last["status, all done"][MOST_LINKED]
    lines += [
        "",
        f"planning 10^7 parts: {plan_seconds:.1f} s, {plan_mb:.0f} MB (bars: 10 s, 500 MB)",
        f"status of {MOST_LINKED:,} finished parts: {status_seconds:.1f} s, {status_mb:.0f} MB (bars: 3 s, 300 MB)",
        f"grow faster than the parts: {', '.join(grows) or 'none'}",
    ]
    record("planning", lines)
    return int(plan_seconds > 10 or plan_mb > 500 or status_seconds > 3 or status_mb > 300 or bool(grows))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ss-planning-") as temporary:
        folder = Path(temporary)
        found: dict[str, list[tuple[int, float, float, float]]] = {}
        pq.write_table(pa.table({"a": range(1000), "b": ["x", "y"] * 500}), folder / "shard.parquet")

        def note(what: str, parts: int, figures: tuple[float, float, float]) -> None:
            found.setdefault(what, []).append((parts, *figures))
            print(
                f"{what:28} {parts:>12,} {figures[0]:8.2f} s {figures[1]:8.2f} s of CPU {figures[2]:8.0f} MB",
                flush=True,
            )

        for parts in (10**3, 10**4, 10**5, 10**6, 10**7):
            root, job = folder / f"run{parts}", folder / f"job{parts}.yaml"
            sample = {"rows": parts, "rows_per_shard": 1}
            models = {"m": {"model": "gaussian_copula"}}
            job.write_text(
                json.dumps(
                    {"input": str(folder / "shard.parquet"), "output": str(root), "models": models, "sample": sample}
                )
            )
            note("plan", parts, measured(_PLAN, job))
            assert isinstance(ss.Run(root).plan.tasks["sample"].blocks[0], PartTasks)
            note("status, nothing done", parts, measured(_COMMAND.format(command="status"), root))
            note("resume, nothing done", parts, measured(_BEGIN, root))
            if parts <= MOST_LINKED:
                started = time.monotonic()
                finish(root, whole=parts <= MOST_WHOLE)
                print(f"(fabricated in {time.monotonic() - started:.0f} s)", flush=True)
                note("status, all done", parts, measured(_COMMAND.format(command="status"), root))
            if parts <= MOST_WHOLE:
                note("resume, all done", parts, measured(_COMMAND.format(command="resume"), root))
                note("pack", parts, measured(_COMMAND.format(command="pack"), root))
        return judged(found)  # before the temporary folder is deleted, which takes minutes


if __name__ == "__main__":
    sys.exit(main())
