"""Small tables for tests: every kind of column that the project promises to keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def mixed_table(rows: int = 400, seed: int = 0) -> pa.Table:
    """Integers, floats, categories, dates, decimals, booleans, an id, nulls, an all-null and a constant column."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal(rows)
    days = (np.datetime64("2010-01-01") + rng.integers(0, 4000, rows).astype("timedelta64[D]")).astype("datetime64[ms]")
    sex = pa.DictionaryArray.from_arrays(pa.array((latent > 0.1).astype(np.int8)), pa.array(["F", "M"]))
    stage = np.array(["I", "II", "III", "IV"])[np.clip((latent + rng.standard_normal(rows)).astype(int) + 1, 0, 3)]
    columns = {
        "patient": pa.array([f"P-{n:06d}" for n in rng.permutation(10 * rows)[:rows]]),
        "age": pa.array(np.clip(60 + 12 * latent, 18, 99).astype(np.int8), mask=rng.random(rows) < 0.05),
        "marker": pa.array(np.exp(latent + rng.standard_normal(rows)), mask=rng.random(rows) < 0.2),
        "dose": pa.array(np.round(rng.gamma(2, 20, rows), 1).astype(np.float32)),
        "sex": sex,
        "stage": pa.array(stage, mask=rng.random(rows) < 0.1),
        "mutated": pa.array((rng.random(rows) < 0.2).astype(np.int8)),
        "smoker": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.1),
        "seen": pa.array(days, pa.timestamp("ms", "Europe/Berlin")),
        "born": pa.array(days.astype("datetime64[D]") - np.timedelta64(20000, "D")),
        "cost": pa.array([None if n < 0 else n for n in np.round(100 + 30 * latent, 2).tolist()]).cast(
            pa.decimal128(9, 2)
        ),
        "empty": pa.nulls(rows, pa.float64()),
        "site": pa.array(["north"] * rows),
    }
    fields = [
        pa.field(name, array.type, metadata={"unit": "mg"} if name == "dose" else None)
        for name, array in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata={"study": "x"}))


def write_shards(table: pa.Table, folder: Path, shards: int) -> Path:
    """Cut a table into shards of nearly equal length."""
    folder.mkdir(parents=True)
    for index in range(shards):
        first, last = table.num_rows * index // shards, table.num_rows * (index + 1) // shards
        pq.write_table(table.slice(first, last - first), folder / f"part-{index:05d}.parquet")
    return folder
