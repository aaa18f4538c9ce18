"""Peak memory of each stage at 10^6 and 10^7 Adult-like rows: it must not grow with the rows.

usage: python benchmarks/memory.py [--deep] [ROWS ...]      (default: 1e6 1e7)

`--deep`: 50 columns (20 of them numbers), and one epoch of a TVAE and of a CTGAN on all rows. Bar: 6 GB at 10^7 rows.

Each stage's tasks run in a process of their own, one after the other; its peak resident set is what the kernel says.
The table: per stage, the peak at each size and the ratio of the last to the first. Bar: 1.3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results import record

from shardsynth.api import plan_job
from shardsynth.job import STAGES, Job, parse_rows

ROWS_PER_SHARD = 1_000_000
_CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from shardsynth.standalone.cpus import limit_threads
limit_threads(1)
from shardsynth.stages.task import TaskRunner
runner = TaskRunner(Path(sys.argv[1]))
for task in runner.plan.tasks[sys.argv[2]]:
    runner.run_task(task.stage, task.index)
from results import peak_mib
print(json.dumps(peak_mib()))
"""


def write_adult_like(folder: Path, rows: int, make: Callable[[int, int], pa.Table] | None = None) -> None:
    """Shards with Adult's types and about its marginals: six numbers, eight categories, a class, some missing."""
    folder.mkdir(parents=True)
    for shard, first in enumerate(range(0, rows, ROWS_PER_SHARD)):
        pq.write_table(
            (make or adult_like)(min(ROWS_PER_SHARD, rows - first), shard), folder / f"part-{shard:05d}.parquet"
        )


def adult_like(rows: int, seed: int) -> pa.Table:
    """One shard's table, 15 columns."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal(rows)

    def category(name: str, levels: int, missing: float = 0.0) -> pa.Array:
        weights = 1 / np.arange(1, levels + 1) ** 1.5
        noisy = (latent + rng.standard_normal(rows)) / np.sqrt(2)
        edges = np.quantile(noisy[:10_000], np.cumsum(weights / weights.sum())[:-1])
        codes = np.searchsorted(edges, noisy).astype(np.int8)
        names = pa.array([f"{name}-{i:02d}" for i in range(levels)])
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=rng.random(rows) < missing), names)

    gain = np.where(rng.random(rows) < 0.92, 0, rng.integers(100, 99_999, rows))
    loss = np.where(rng.random(rows) < 0.95, 0, rng.integers(100, 4_356, rows))
    return pa.table(
        {
            "age": pa.array(np.clip(38 + 13 * latent, 17, 90).astype(np.int8)),
            "workclass": category("workclass", 8, 0.06),
            "fnlwgt": pa.array(np.exp(12 + 0.5 * rng.standard_normal(rows)).astype(np.int32)),
            "education": category("education", 16),
            "education-num": pa.array(rng.integers(1, 17, rows).astype(np.int8)),
            "marital-status": category("marital", 7),
            "occupation": category("occupation", 14, 0.06),
            "relationship": category("relationship", 6),
            "race": category("race", 5),
            "sex": category("sex", 2),
            "capital-gain": pa.array(gain.astype(np.int32)),
            "capital-loss": pa.array(loss.astype(np.int16)),
            "hours-per-week": pa.array(np.clip(40 + 12 * rng.standard_normal(rows), 1, 99).astype(np.int8)),
            "native-country": category("country", 41, 0.02),
            "income": category("income", 2),
        }
    )


def wide(rows: int, seed: int) -> pa.Table:
    """One shard's table, 50 columns: four of Adult's side by side, cut to 20 numbers and 30 categories."""
    copies = [adult_like(rows, seed + 1000 * copy) for copy in range(4)]
    columns = {f"{name}.{i}": table[name] for i, table in enumerate(copies) for name in table.column_names}
    numbers = [name for name in columns if not pa.types.is_dictionary(columns[name].type)][:20]
    categories = [name for name in columns if pa.types.is_dictionary(columns[name].type)][:30]
    return pa.table({name: columns[name] for name in numbers + categories})


def measure(rows: int, folder: Path, deep: bool) -> dict[str, tuple[float, float]]:
    """Peak MiB and seconds per stage."""
    write_adult_like(folder / "data", rows, wide if deep else adult_like)
    job = {"input": str(folder / "data"), "output": str(folder / "run"), "models": {"gaussian_copula": {}}}
    if deep:
        models = {"tvae": {"epochs": 1}, "ctgan": {"epochs": 1}}
        job |= {"models": models, "fit": {"rows": "all"}, "sample": {"rows": 100_000}}
    plan_job(Job.parse(job))
    found = {}
    for stage in STAGES:
        started = time.perf_counter()
        command = [sys.executable, "-c", _CHILD, str(folder / "run"), stage, str(Path(__file__).parent)]
        out = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        found[stage] = (json.loads(out.stdout.splitlines()[-1]), time.perf_counter() - started)
    return found


def main() -> None:
    """Measure, print the table, record it."""
    deep = "--deep" in sys.argv[1:]
    sizes = [parse_rows(text) for text in sys.argv[1:] if text != "--deep"] or [1_000_000, 10_000_000]
    measured = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            measured[rows] = measure(rows, Path(folder), deep)
    lines = ["stage           " + "".join(f"{f'{rows:,} rows':>28}" for rows in sizes) + "     ratio"]
    for stage in STAGES:
        cells = "".join(f"{measured[r][stage][0]:>14.0f} MiB {measured[r][stage][1]:>7.1f} s" for r in sizes)
        lines.append(f"{stage:<16}{cells}  {measured[sizes[-1]][stage][0] / measured[sizes[0]][stage][0]:>8.2f}")
    record("memory_deep" if deep else "memory", lines)


if __name__ == "__main__":
    main()
