"""Identifiers without coordination: 10^7 rows from 100 tasks, every one distinct, every one of its format.

usage: python benchmarks/identifiers.py [--rows N]        (default: 10^7 rows, 100 parts, each a task of its own)

Four kinds of identifier: of a regular expression that the metadata give, of a format learned from the rows, a scrambled
whole number, and a person's name that is a key. All values of all tasks are then sorted and compared.
"""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from results import record

from shardsynth.data.columns import Column
from shardsynth.sampling import identifiers

TASKS = 100
PRESENT = {
    "regex": pa.array([None], pa.string()),
    "learned": pa.array([f"MRN-{n:06d}-X" for n in range(0, 900_000, 7919)]),
    "number": pa.array(np.arange(100_003, 999_999, 9973)),
    "name": pa.array(["Ottokar Wundersam"]),
}
COLUMNS = {
    "regex": Column("regex", pa.string(), "id", "id", {"regex_format": "(DE|FR)-[0-9]{4}-[A-HJ-NP-Z]{4}"}),
    "learned": Column("learned", pa.string(), "id", "id"),
    "number": Column("number", pa.int64(), "id", "id", {"regex_format": "[1-9][0-9]{8}"}),
    "name": Column("name", pa.string(), "name", "pii"),
}
FORMATS = {
    "regex": r"^(DE|FR)-[0-9]{4}-[A-HJ-NP-Z]{4}$",
    "learned": r"^MRN-[0-9]{6,}-X$",
    "number": r"^[1-9][0-9]{8}$",
    "name": r"-[0-9a-z]{7}$",
}


def made(job: tuple[dict[str, Any], pa.DataType, int, int]) -> tuple[pa.Array, float]:
    """One task's values, and its CPU seconds."""
    started = time.process_time()
    values = identifiers.make(*job)
    return values, time.process_time() - started


def main() -> None:
    rows = int(float(sys.argv[sys.argv.index("--rows") + 1])) if "--rows" in sys.argv else 10_000_000
    edges = [rows * k // TASKS for k in range(TASKS + 1)]
    lines = [f"{rows:,} identifiers from {TASKS} tasks in two processes", ""]
    lines.append(f"{'kind':<10} {'rows/s a core':>14} {'distinct':>12} {'of the format':>14}  first")
    for name, column in COLUMNS.items():
        generator = identifiers.learn(column, PRESENT[name], {"unique": True, "seed": 0})
        identifiers.check_capacity(generator, rows, column)
        jobs = [(generator, column.type, a, b - a) for a, b in zip(edges, edges[1:])]
        with ProcessPoolExecutor(2) as pool:
            parts = list(pool.map(made, jobs))
        values = pa.chunked_array([part for part, _ in parts])
        matching = pc.sum(pc.match_substring_regex(values.cast(pa.string()), FORMATS[name])).as_py()
        distinct = pc.count_distinct(values).as_py()
        assert distinct == matching == rows, (name, distinct, matching)
        assert re.search(FORMATS[name], str(values[0].as_py()))
        speed = rows / sum(seconds for _, seconds in parts)
        lines.append(f"{name:<10} {speed:>14,.0f} {distinct:>12,} {matching:>14,}  {values[0].as_py()}")
    record("identifiers", lines)


if __name__ == "__main__":
    main()
