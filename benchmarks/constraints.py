"""What constraints cost: rows a second with each of SDV's five classes, and with all, against none.

usage: python benchmarks/constraints.py [--rows N] [FOLDER]        (default: 10^6 rows, ../shared/data/mds)

The table is the folder's, with columns on which the classes hold (two ordered pairs of blood counts, a dose in steps of
25, three treatment arms). Native Gaussian copula, one process, one thread: draw and write Parquet. Every row that was
written is then judged by SDV's own ``is_valid``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shardsynth.pipeline.threads import limit_threads

limit_threads(1)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from results import record  # noqa: E402

from shardsynth import Job, plan_job  # noqa: E402
from shardsynth.data.metadata import detect  # noqa: E402
from shardsynth.data.writer import PartWriter  # noqa: E402
from shardsynth.pipeline.constraint_checks import Judge  # noqa: E402
from shardsynth.pipeline.sources import open_source  # noqa: E402
from shardsynth.pipeline.tasks import Worker  # noqa: E402
from shardsynth.summaries.profile import Profile  # noqa: E402

CLASSES: dict[str, dict[str, Any]] = {
    "Inequality": {"low_column_name": "LFS_YEARS", "high_column_name": "OS_YEARS"},
    "Range": {
        "low_column_name": "low",
        "middle_column_name": "middle",
        "high_column_name": "high",
        "strict_boundaries": False,
    },
    "FixedCombinations": {"column_names": ["WHO_2016", "MDS_TYPE", "complex"]},
    "FixedIncrements": {"column_name": "dose", "increment_value": 25},
    "OneHotEncoding": {"column_names": ["arm_a", "arm_b", "arm_c"]},
}


def extended(folder: str) -> pa.Table:
    """The table with the columns that the classes need, and LFS never after OS."""
    table = pa.concat_tables([pq.read_table(p) for p in sorted(Path(folder).glob("*.parquet"))]).unify_dictionaries()
    rng = np.random.default_rng(0)
    n = table.num_rows
    first, last = (table[name].to_pandas() for name in ("LFS_YEARS", "OS_YEARS"))
    place = table.schema.get_field_index("LFS_YEARS")
    table = table.set_column(place, "LFS_YEARS", pa.array(np.minimum(first, last.fillna(np.inf)), from_pandas=True))
    counts = np.sort(rng.gamma(2, 3, (n, 3)).round(1), axis=1)
    gaps = rng.random((n, 3)) < 0.1
    for i, name in enumerate(("low", "middle", "high")):
        table = table.append_column(name, pa.array(counts[:, i], mask=gaps[:, i]))
    table = table.append_column("dose", pa.array((25 * rng.integers(0, 20, n)).astype(np.int16)))
    arm = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    for i, name in enumerate(("arm_a", "arm_b", "arm_c")):
        table = table.append_column(name, pa.array((arm == i).astype(np.int8)))
    return table


def metadata_of(table: pa.Table) -> dict[str, Any]:
    profile = Profile.empty(table.schema)
    row = 0
    for batch in table.to_batches():
        profile.update(batch, row)
        row += batch.num_rows
    return detect(profile.cut().sample, profile, table.schema)


def measured(table: Path, metadata: Path, names: list[str], rows: int, root: Path) -> tuple[float, float, int]:
    """Rows a second, share of drawn rows that are kept, violations by SDV."""
    job = Job.parse(
        {
            "input": str(table),
            "output": str(root),
            "metadata": str(metadata),
            "models": {"gaussian_copula": {}},
            "constraints": [{"class_name": name, "parameters": CLASSES[name]} for name in names],
        }
    )
    run = plan_job(job)
    worker = Worker(run.dir.root)
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        for index in range(len(run.plan.tasks[stage])):
            worker.run_task(stage, index)
    source = open_source(run.dir.model("gaussian_copula"), seed=0, name="gaussian_copula", chunk_rows=50_000)
    path = root / "rows.parquet"
    list(source.batches(range(1000)))
    source.acceptance()
    started = time.perf_counter()
    with PartWriter(path, run.plan.schema) as writer:
        for batch in source.batches(range(rows)):
            writer.write(batch)
        writer.close()
    seconds = time.perf_counter() - started
    counted = source.acceptance() or {"drawn": 1, "kept": 1}
    broken = 0
    if names:
        judge, row = Judge(worker), 0
        for batch in pq.ParquetFile(path).iter_batches():
            judge.update(batch, row)
            row += batch.num_rows
        broken = sum(count for count, _ in judge.found)
    path.unlink()
    return rows / seconds, counted["kept"] / counted["drawn"], broken


def main() -> None:
    arguments = sys.argv[1:]
    rows = 1_000_000
    if "--rows" in arguments:
        place = arguments.index("--rows")
        rows = int(float(arguments[place + 1]))
        del arguments[place : place + 2]
    folder = arguments[0] if arguments else "../shared/data/mds"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        table = extended(folder)
        pq.write_table(table, root / "table.parquet")
        metadata = metadata_of(table)
        columns = metadata["tables"]["table"]["columns"]
        for name in ("low", "middle", "high", "dose"):
            columns[name] = {"sdtype": "numerical"}
        (root / "metadata.json").write_text(json.dumps(metadata))
        lines = [
            f"{table.num_rows:,} rows x {table.num_columns} columns of {Path(folder).name}; {rows:,} rows drawn",
            "",
        ]
        lines.append(f"{'constraints':<20} {'rows/s':>10} {'of none':>8} {'rows kept':>10} {'violations (SDV)':>17}")
        plain = 0.0
        for number, names in enumerate([[], *([name] for name in CLASSES), list(CLASSES)]):
            speed, kept, broken = measured(
                root / "table.parquet", root / "metadata.json", names, rows, root / f"run{number}"
            )
            plain = plain or speed
            label = "none" if not names else names[0] if len(names) == 1 else "all five"
            lines.append(
                f"{label:<20} {speed:>10,.0f} {speed / plain:>8.2f} {kept:>10.4f} {broken if names else '':>17}"
            )
        record("constraints", lines)


if __name__ == "__main__":
    main()
