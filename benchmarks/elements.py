"""What an array element costs beyond its work, and 500 of them on four nodes with MaxArraySize 101.

An element with one task and one with 101 run one after the other on one node of a real Slurm; the time between the ends of elements
holds scheduling, batch script, Python's start, imports, the task and the end of the job. Imports and the task itself
are measured beside it and taken off. Needs root and Debian's Slurm packages (slurm/README.md).

The same is measured beside it with an older build, of which a copy is unpacked: bb7a604, which wrote plain sbatch scripts
(BEFORE=... names another commit, BEFORE= none).

Bars: under 3 s an element beyond imports, and at most 0.5 s more than before; under 0.1 s for each further task; 500
elements handed to Slurm in under 5 s; 500 of 500 elements done.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import record

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.site.slurm.cluster import Cluster, leave_without_slurm, running, wait_until
from tests.site.slurm.runs import shardsynth, write_job, write_small_shards

ELEMENTS, FURTHER = 8, 100
BEFORE = os.environ.get("BEFORE", "bb7a604")


def import_seconds() -> float:
    """Python with all that a sampling task imports, the best of three."""
    code = "import pyarrow.parquet, shardsynth.run.artifacts, shardsynth.stages.count, shardsynth.models.copula.model"
    found = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        found.append(time.perf_counter() - started)
    return min(found)


def older_build(folder: Path) -> dict[str, str]:
    """Environment in which `shardsynth`, here and in the elements, is the build before; empty where there is none."""
    if not BEFORE:
        return {}
    source = folder / "before"
    source.mkdir()
    command = ["git", "archive", BEFORE, "src"]
    archive = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, check=False)
    if archive.returncode:
        print(f"not measured beside {BEFORE}: {archive.stderr.decode().strip()}")
        return {}
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    site = folder / "before.yaml"
    site.write_text(f"setup: [export PYTHONPATH={source}/src]\n")
    return {"PYTHONPATH": f"{source}/src", "SHARDSYNTH_SITE": str(site)}


def sampling(
    cluster: Cluster,
    folder: Path,
    shards: Path,
    name: str,
    parts: int,
    build: dict[str, str] | None = None,
    **options: object,
) -> Path:
    """Run a job to the end of its sampling; its folder."""
    root = folder / name
    environment = {**os.environ, **(build or {})}
    job = write_job(
        folder / f"{name}.yaml", shards, root, sample={"rows": 20 * parts, "rows_per_shard": 20}, cluster=options
    )
    said = shardsynth("submit", job, "--yes", env=environment)
    print(re.search(r"job \d+: sample.*", said)[0], flush=True)
    wait_until("all samples", lambda: len(list((root / "tasks" / "sample").rglob("*.json"))) == parts, 900, 0.2)
    shardsynth("cancel", root, env=environment)
    cluster.reset()
    return root


def ends(root: Path) -> list[tuple[float, float]]:
    """When each sampling task ended, and its seconds, in order."""
    records = [json.loads(path.read_text()) for path in (root / "tasks" / "sample").rglob("*.json")]
    return sorted((one["finished"], one["seconds"]) for one in records)


def seconds_of_an_element(root: Path) -> float:
    """From the end of one element to that of the next."""
    times = ends(root)
    return (times[-1][0] - times[0][0]) / (len(times) - 1)


def seconds_to_submit(root: Path) -> float:
    """From the first line on a sampling array in the run's ledger to the last one's number."""
    lines = [json.loads(line) for line in (root / "private" / "slurm" / "jobs.jsonl").read_text().splitlines()]
    times = [line["at"] for line in lines if line["name"].endswith("-sample")]
    return max(times) - min(times)


def main() -> None:
    leave_without_slurm()
    many = int(os.environ.get("ELEMENTS", "500"))
    with tempfile.TemporaryDirectory(prefix="ss-elements-") as name:
        folder = Path(name)
        (folder / "shards").mkdir()
        shards = write_small_shards(folder / "shards")
        with running(folder / "slurm") as cluster:
            one_node = {"defaults": {"options": {"nodelist": "n1"}}}
            single = sampling(cluster, folder, shards, "single", ELEMENTS, pack=1, **one_node)
            older = older_build(folder)
            before = sampling(cluster, folder, shards, "older", ELEMENTS, older, pack=1, **one_node) if older else None
            packed = sampling(cluster, folder, shards, "packed", FURTHER + 1, pack=FURTHER + 1, **one_node)
            started = time.monotonic()
            spread = sampling(cluster, folder, shards, "spread", many, pack=1)
            seconds = time.monotonic() - started
            arrays = len(list((spread / "private" / "slurm").glob("*-sample.elements")))
        times = ends(single)
        element = seconds_of_an_element(single)
        dearer = element - seconds_of_an_element(before) if before else 0.0
        submitted = seconds_to_submit(spread)
        work = sum(task for _, task in times[1:]) / (len(times) - 1)
        imports = import_seconds()
        inside = ends(packed)
        further = (inside[-1][0] - inside[0][0]) / FURTHER
        done = len(ends(spread))
    lines = [
        f"one element of one task, end to end             {element:8.2f} s   bar: under 3 s beyond imports",
        f"  more than with {BEFORE or 'nothing'}, in the same minutes     {dearer:12.2f} s   bar: at most 0.5 s",
        f"  the task itself (its commit record)           {work:8.2f} s",
        f"  Python and imports, measured alone            {imports:8.2f} s   (a task imports what it needs, not all)",
        f"each further task in an element, its work too   {further:8.3f} s   bar: under 0.1 s",
        f"{many} elements handed to Slurm                     {submitted:8.2f} s   bar: under 5 s",
        f"{many} elements in {arrays} arrays on 4 nodes (2 CPUs): {done} done in {seconds:.0f} s, the stages before included",
    ]
    record("elements", lines)
    good = element - work < 3 and dearer <= 0.5 and further < 0.1 and submitted < 5 and done == many
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
