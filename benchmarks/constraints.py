"""What constraints cost: rows a second with each of SDV's five classes, and with all, against none.

usage: python benchmarks/constraints.py [--rows N] [FOLDER]        (default: 10^6 rows, ../shared/data/mds)

Two tables: a generated one, most of whose columns are constrained; and the folder's, with columns on which the classes
hold (ordered years, three ordered counts, a dose in steps of 25, three treatment arms). Native Gaussian copula, one
process, one thread: draw and write Parquet, best of three in turns. Every row of the last is then judged by SDV's own
``is_valid``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.standalone.cpus import limit_threads

limit_threads(1)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from results import record  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.tables.constrained import CONSTRAINTS, METADATA, constrained_table  # noqa: E402

from shardsynth import Job, plan_job  # noqa: E402
from shardsynth.data.detection import detect  # noqa: E402
from shardsynth.data.writer import PartWriter  # noqa: E402
from shardsynth.sources.sources import open_source  # noqa: E402
from shardsynth.stages.constraints import PartChecker  # noqa: E402
from shardsynth.stages.task import TaskRunner  # noqa: E402
from shardsynth.summaries.profile import Profile  # noqa: E402

ROUNDS = 3
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


@dataclass
class Case:
    """A model fitted under some constraints, and what was measured of it."""

    names: list[str]
    root: Path
    runner: TaskRunner
    source: Any
    speed: float = 0.0
    kept: float = 1.0
    broken: int = 0


def fitted(root: Path, constraints: list[dict[str, Any]]) -> Case:
    """A native copula of ``table.parquet`` under the constraints."""
    names = [one["class_name"] for one in constraints]
    job = Job.parse(
        {
            "input": str(root / "table.parquet"),
            "output": str(root / f"run-{'-'.join(names)}"),
            "metadata": str(root / "metadata.json"),
            "models": {"gaussian_copula": {}},
            "constraints": constraints,
        }
    )
    run = plan_job(job)
    runner = TaskRunner(run.dir.root)
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        for index in range(len(run.plan.tasks[stage])):
            runner.run_task(stage, index)
    source = open_source(run.dir.model("gaussian_copula"), seed=0, name="gaussian_copula", chunk_rows=50_000)
    list(source.batches(range(100_000)))
    source.acceptance()
    return Case(names, run.dir.root, runner, source)


def draw(case: Case, rows: int) -> None:
    """Draw and write the rows; the best of the calls counts."""
    (case.root / "rows.parquet").unlink(missing_ok=True)
    started = time.perf_counter()
    with PartWriter(case.root / "rows.parquet", case.runner.plan.schema) as writer:
        for batch in case.source.batches(range(rows)):
            writer.write(batch)
        writer.close()
    case.speed = max(case.speed, rows / (time.perf_counter() - started))
    counted = case.source.acceptance()
    case.kept = counted["kept"] / counted["drawn"] if counted else 1.0


def judge(case: Case) -> None:
    """Count, by SDV's own ``is_valid``, the written rows that violate a constraint."""
    if case.names:
        checker, row = PartChecker(case.runner.artifacts), 0
        for batch in pq.ParquetFile(case.root / "rows.parquet").iter_batches():
            checker.update(batch, row)
            row += batch.num_rows
        case.broken = sum(count for count, _ in checker.violations)


def compared(
    title: str, table: pa.Table, metadata: dict[str, Any], declared: list[dict[str, Any]], rows: int
) -> list[str]:
    """One table's part of the result."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        pq.write_table(table, root / "table.parquet")
        (root / "metadata.json").write_text(json.dumps(metadata))
        cases = [fitted(root, chosen) for chosen in ([], *([one] for one in declared), declared)]
        for _ in range(ROUNDS):  # in turns: the machine's speed drifts
            for case in cases:
                draw(case, rows)
        for case in cases:
            judge(case)
    lines = [f"{title}: {table.num_rows:,} rows x {table.num_columns} columns; {rows:,} rows drawn", ""]
    lines.append(
        f"{'constraints':<20} {'rows/s':>10} {'seconds, of none':>17} {'rows kept':>10} {'violations (SDV)':>17}"
    )
    for case in cases:
        label = "none" if not case.names else case.names[0] if len(case.names) == 1 else "all five"
        times = cases[0].speed / case.speed
        broken = f"{case.broken:,}" if case.names else ""
        lines.append(f"{label:<20} {case.speed:>10,.0f} {times:>17.2f} {case.kept:>10.4f} {broken:>17}")
    return [*lines, ""]


def main() -> None:
    arguments = sys.argv[1:]
    rows = 1_000_000
    if "--rows" in arguments:
        place = arguments.index("--rows")
        rows = int(float(arguments[place + 1]))
        del arguments[place : place + 2]
    folder = arguments[0] if arguments else "../shared/data/mds"
    lines = compared("generated", constrained_table(20_000), METADATA, CONSTRAINTS, rows)
    if sorted(Path(folder).glob("*.parquet")):
        table = extended(folder)
        metadata = metadata_of(table)
        columns = metadata["tables"]["table"]["columns"]
        for name in ("low", "middle", "high", "dose"):
            columns[name] = {"sdtype": "numerical"}
        declared = [{"class_name": name, "parameters": CLASSES[name]} for name in CLASSES]
        lines += compared(Path(folder).name, table, metadata, declared, rows)
    record("constraints", lines[:-1])


if __name__ == "__main__":
    main()
