"""Whole runs over tables with everything that Parquet and Arrow can hold: the schema comes back, whatever stands in it."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.here import run_here

from shardsynth import Job, Run, plan_job
from shardsynth.commands.init import write_job
from shardsynth.errors import JobError, MetadataError, RunError
from shardsynth.stages.task import TaskRunner

ROWS = 120


def in_this_process(data: Path, output: Path, **changes) -> Run:
    """A run without worker processes."""
    plain = {"input": str(data), "output": str(output), "models": {"gaussian_copula": {}}, "sample": {"rows": 60}}
    return run_here(Job.parse({**plain, **changes}))


def run_table(table: pa.Table, folder: Path, **changes) -> pa.Table:
    """The synthetic table, after its schema was compared."""
    (folder / "d").mkdir(parents=True)
    pq.write_table(table, folder / "d" / "0.parquet")
    found = in_this_process(folder / "d", folder / "r", **changes).samples("gaussian_copula").to_table()
    wanted = pq.read_schema(folder / "d" / "0.parquet")
    assert found.schema.equals(wanted) and not found.schema.metadata  # data of the real file
    found.validate(full=True)
    return found


def every_number() -> dict[str, pa.Array]:
    """Each type of numbers, dates and times over its whole range."""
    rng = np.random.default_rng(0)
    columns: dict[str, pa.Array] = {}
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        ends = np.iinfo(dtype)
        columns[dtype] = pa.array(rng.integers(ends.min, ends.max, ROWS, dtype=dtype, endpoint=True))
    for dtype in ("float16", "float32", "float64"):
        values = rng.standard_normal(ROWS).astype(dtype)
        info = np.finfo(dtype)
        values[:5] = [np.nan, -0.0, info.smallest_subnormal, info.max, info.min]
        columns[dtype] = pa.array(values)
        columns[f"{dtype} whole range"] = pa.array((rng.uniform(-1, 1, ROWS) * float(info.max)).astype(dtype))
    days = rng.integers(-(2**31), 2**31 - 1, ROWS)
    columns["date32"] = pa.array(days.astype(np.int32)).view(pa.date32())
    columns["date64"] = pa.array(rng.integers(-700_000, 2_900_000, ROWS) * 86_400_000).view(pa.date64())
    for unit in ("ms", "us", "ns"):
        counts = rng.integers(-(2**63) + 1, 2**63 - 1, ROWS)
        columns[f"timestamp {unit}"] = pa.array(counts).view(pa.timestamp(unit, "Asia/Kolkata"))
    columns["time32"] = pa.array(rng.integers(0, 86_400_000, ROWS).astype(np.int32)).view(pa.time32("ms"))
    columns["time64"] = pa.array(rng.integers(0, 86_400 * 10**9, ROWS)).view(pa.time64("ns"))
    columns["duration"] = pa.array(rng.integers(-(10**9), 10**9, ROWS)).view(pa.duration("us"))
    return columns


def every_category() -> dict[str, pa.Array]:
    """Text in all its forms, dictionaries of all sorts, what is constant or missing."""
    codes = [0, 2, None] * (ROWS // 3)
    columns = {
        "large_string": pa.array(["a", "b", None] * 40, pa.large_string()),
        "string_view": pa.array(["a", "b", None] * 40, pa.string_view()),
        "boolean": pa.array([True, False, None] * 40),
        "null": pa.nulls(ROWS),
        "dictionary of nothing": pa.DictionaryArray.from_arrays(pa.nulls(ROWS, pa.int8()), pa.array([], pa.string())),
    }
    for index in (pa.int8(), pa.int64(), pa.uint16()):
        values = pa.array(["x", "unused", "y"])
        columns[f"dictionary {index}"] = pa.DictionaryArray.from_arrays(pa.array(codes, index), values, ordered=True)
    for values in (
        pa.array([10, 20, 30]),
        pa.array([1.5, np.nan, 3.0]),
        pa.array([dt.date(2020, 1, n) for n in (1, 2, 3)]),
    ):
        name = f"dictionary of {values.type}"
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), values)
    return columns


@pytest.mark.parametrize("columns", [every_number, every_category])
def test_every_type_comes_back(tmp_path, columns):
    arrays = columns()
    fields = [pa.field(name, array.type, metadata={"k": name}) for name, array in arrays.items()]
    run_table(pa.table(list(arrays.values()), schema=pa.schema(fields)), tmp_path)


def test_decimals_of_spark_keep_their_size(tmp_path):
    rng = np.random.default_rng(0)
    cents = [Decimal(int(n)).scaleb(-2) for n in rng.integers(5_000, 90_000, ROWS)]
    table = pa.table(
        {
            "number": pa.array(cents, pa.decimal128(38, 18)),
            "category": pa.array([Decimal("0.1"), Decimal("12.7"), Decimal("-99.3"), None] * 30, pa.decimal128(38, 18)),
            "huge": pa.array([n * 10**33 for n in cents], pa.decimal128(38, 0)),
            "full": pa.array([Decimal("9" * 76), Decimal(1), Decimal(2)] * 40, pa.decimal256(76, 0)),
            "z": rng.standard_normal(ROWS),
        }
    )
    found = run_table(table, tmp_path, rare={"as": "keep", "min_count": 1})
    numbers = found["number"].to_pylist()
    assert min(numbers) > 0 and 500 < max(numbers) < 2 * max(cents)
    assert all(n == n.quantize(Decimal("0.01")) for n in numbers)
    assert set(found["category"].to_pylist()) == {Decimal("0.1"), Decimal("12.7"), Decimal("-99.3"), None}
    assert max(found["huge"].to_pylist()) > 5 * 10**35
    assert set(found["full"].to_pylist()) <= set(table["full"].to_pylist())


def test_metadata_that_changed_is_another_run(tmp_path):
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"a": [1, 2, 3, 4] * 10, "z": list(range(40))}), tmp_path / "d" / "0.parquet")
    list(write_job(str(tmp_path / "d"), tmp_path / "job.yaml", str(tmp_path / "r")))
    job = Job.load(tmp_path / "job.yaml")
    run = plan_job(job)
    metadata = tmp_path / "job.metadata.json"
    changed = json.loads(metadata.read_text())
    changed["tables"]["table"]["columns"]["a"]["sdtype"] = "categorical"
    metadata.write_text(json.dumps(changed))
    with pytest.raises(RunError, match="other metadata"):
        plan_job(job)
    worker = TaskRunner(run.dir.root)
    worker.run_task("profile", 0)
    with pytest.raises(MetadataError, match="the metadata changed since the run was planned"):
        worker.run_task("profile_merge", 0)


def test_a_run_inside_its_input_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "d" / "0.parquet")
    plain = {"input": str(tmp_path / "d"), "output": str(tmp_path / "d" / "run"), "models": "gaussian_copula"}
    with pytest.raises(JobError, match="lies inside the input folder"):
        plan_job(Job.parse(plain))
    assert not (tmp_path / "d" / "run").exists()
    plan_job(Job.parse({**plain, "output": str(tmp_path / "d" / "_run")}))  # readers of shards pass over it


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"rows": 10**18}, r"sample.rows: 1,000,000,000,000,000,000 rows a model would take about [\d,.]+ EB"),
        ({"rows": 10**8, "rows_per_shard": 1}, "would be 100,000,000 parts in all, wanted at most 10,000,000"),
    ],
)
def test_a_job_of_more_rows_than_any_disk_holds_is_refused(tmp_path, sample, message):
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "d" / "0.parquet")
    job = {"input": str(tmp_path / "d"), "output": str(tmp_path / "run"), "models": "gaussian_copula", "sample": sample}
    with pytest.raises(JobError, match=message):
        plan_job(Job.parse(job))
    assert not (tmp_path / "run").exists()


def test_types_that_are_read_as_plainer_ones_come_back(tmp_path: Path) -> None:
    ids = pa.array([n.to_bytes(16, "big") for n in range(2**100, 2**100 + ROWS)], pa.binary(16))
    table = pa.table(
        {
            "id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
            "kind": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"a"', '"b"', None] * (ROWS // 3))),
            "cost": pa.array([Decimal(n * n).scaleb(-2) for n in range(ROWS)], pa.decimal64(18, 2)),
            "dose": pa.array([Decimal(n % 7).scaleb(-1) for n in range(ROWS)], pa.decimal32(7, 1)),
        }
    )
    made = run_table(table, tmp_path)
    assert len(set(made["id"].to_pylist())) == 60
    assert set(made["kind"].to_pylist()) <= {'"a"', '"b"', None}
    assert min(made["cost"].to_pylist()) >= 0 and max(made["cost"].to_pylist()) <= 2 * Decimal(ROWS * ROWS).scaleb(-2)
