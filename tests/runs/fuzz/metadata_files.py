"""Changed metadata files: a plan, or one clear error that names what is wrong."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.runs.fuzz.frame import Subject
from tests.runs.fuzz.job_files import VALUES, change, damaged

from shardsynth import Job
from shardsynth.planning.preflight import checked_plan

#: What stands in the place of an option of a column, beside ``VALUES``.
MORE: tuple[Any, ...] = (
    "id", "numerical", "categorical", "datetime", "boolean", "unknown", "email", "%Y", "%", "(a|b){4000}", "[0-9]{5}", "(", "Int8",
)  # fmt: skip
_OPTIONS = ("sdtype", "regex_format", "datetime_format", "range_min", "computer_representation", "pii")


@dataclass(frozen=True)
class Prepared:
    """The folder, and metadata as plain data."""

    folder: Path
    metadata: dict[str, Any]


def prepare(folder: Path) -> Prepared:
    """A table with a column of every sdtype, and its metadata."""
    rows = {
        "key": [f"{i:05d}" for i in range(60)],
        "a": list(range(60)),
        "b": ["x", "y"] * 30,
        "d": [f"2020-01-{1 + i % 28:02d}" for i in range(60)],
        "e": [True, False] * 30,
        "mail": ["a@example.org"] * 60,
    }
    pq.write_table(pa.table(rows), folder / "s.parquet")
    columns = {
        "key": {"sdtype": "id", "regex_format": "[0-9]{5}"},
        "a": {"sdtype": "numerical", "computer_representation": "Int64", "range_min": 0, "range_max": 99},
        "b": {"sdtype": "categorical", "range_values": ["x", "y"]},
        "d": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
        "e": {"sdtype": "boolean"},
        "mail": {"sdtype": "email", "pii": True},
    }
    table = {"primary_key": "key", "columns": columns}
    return Prepared(folder, {"tables": {"t": table}, "relationships": [], "METADATA_SPEC_VERSION": "V2"})


def attempt(prepared: Prepared, random: Random) -> str:
    """Change one to three things in the metadata; plan a job with them."""
    metadata = copy.deepcopy(prepared.metadata)
    columns = metadata["tables"]["t"]["columns"]
    for _ in range(random.choice((1, 1, 2, 3))):
        if random.random() < 0.5:
            columns[random.choice(sorted(columns))][random.choice(_OPTIONS)] = random.choice(VALUES + MORE)
        else:
            change(random.choice((columns, metadata["tables"]["t"], metadata)), random)
            break
    text = json.dumps(metadata).encode("utf-8")
    if random.random() < 0.2:
        text = damaged(text, random)
    (prepared.folder / "m.json").write_bytes(text)
    job = {
        "input": str(prepared.folder / "s.parquet"),
        "output": str(prepared.folder / "run"),
        "metadata": str(prepared.folder / "m.json"),
        "models": {"gaussian_copula": {}},
    }
    checked_plan(Job.parse(job)).to_json()
    return "planned"


SUBJECT = Subject("metadata", prepare, attempt)
