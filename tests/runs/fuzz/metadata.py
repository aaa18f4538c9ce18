"""Changed SDV metadata: a plan, or one clear error, and never a cell of the table in it."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.runs.fuzz.frame import Subject, Wrong
from tests.runs.fuzz.job_files import places_of

from shardsynth.errors import ShardsynthError
from shardsynth.job import Job
from shardsynth.planning.preflight import checked_plan

#: Values of single rows that no message may hold.
PLANTED = ("Zaphod-Q7", "918273645", "1907-03-05")
VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 2**63, 10**400, 0.5, 1e308, "", "a", "id", "numerical", "categorical", "boolean", "datetime",
    "ordinal", "unknown", "pii", "email", "ssn", "first_name", "seed_instance", "binary", "os.system", "%", "%Y", "%d.%m.%Y",
    "%Y%m%d", "[0-9]{3}", "(a|b){900}", "(", "[a-z]{1000000}", "name", "n", "nobody", "V1", "V2", "SINGLE_TABLE_V1",
    "MULTI_TABLE_V1", "x" * 50_000, [], {}, [0], ["name"], ["name", "n"], ["a", "b", "a"], {"a": 1}, [[1]], ["Zaphod-Q7"],
)  # fmt: skip
KEYS = ("sdtype", "pii", "regex_format", "datetime_format", "computer_representation", "order", "order_by",
        "range_min", "range_max", "range_values", "primary_key", "sequence_key", "alternate_keys", "relationships",
        "columns", "tables", "METADATA_SPEC_VERSION", "fields", "extra")  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """The table's folder, its metadata in two forms, and the file in which each changed one is written."""

    data: Path
    forms: tuple[dict[str, Any], ...]
    file: Path


def prepare(folder: Path) -> Prepared:
    """A small table with planted values."""
    rows = 60
    table = pa.table(
        {
            "key": [f"K-{i:05d}" for i in range(rows)],
            "name": ["Zaphod-Q7", *(["anna", "bert", "carl"][i % 3] for i in range(rows - 1))],
            "n": pa.array([918273645, *(i % 20 for i in range(rows - 1))], pa.int64()),
            "x": [i * 0.25 for i in range(rows)],
            "flag": [i % 2 == 0 for i in range(rows)],
            "day": ["1907-03-05", *(f"2015-01-{1 + i % 28:02d}" for i in range(rows - 1))],
            "at": pa.array([1_500_000_000 + i * 3600 for i in range(rows)], pa.timestamp("s")),
        }
    )
    data = folder / "data"
    data.mkdir()
    pq.write_table(table, data / "s.parquet")
    columns: dict[str, dict[str, Any]] = {
        "key": {"sdtype": "id", "regex_format": "K-[0-9]{5}"},
        "name": {"sdtype": "categorical"},
        "n": {"sdtype": "numerical", "range_min": 0, "range_max": 10**9},
        "x": {"sdtype": "numerical"},
        "flag": {"sdtype": "boolean"},
        "day": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
        "at": {"sdtype": "datetime"},
    }
    single = {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "primary_key": "key", "columns": columns}
    several = {
        "METADATA_SPEC_VERSION": "V1",
        "relationships": [],
        "tables": {"t": {"primary_key": "key", "columns": columns}},
    }
    return Prepared(data, (single, several), folder / "metadata.json")


def attempt(prepared: Prepared, random: Random) -> str:
    """Change one to three things, and plan a job with what came of it."""
    metadata = copy.deepcopy(random.choice(prepared.forms))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        _change(metadata, random)
    text = json.dumps(metadata)
    if random.random() < 0.15:
        place = random.randrange(len(text))
        text = random.choice(
            (text[:place], text + text, "[" * 100_000, "null", f"[{text}]", text[:place] + "\\" + text[place:])
        )
    prepared.file.write_text(text)
    job: dict[str, Any] = {
        "input": str(prepared.data),
        "output": str(prepared.file.parent / "run"),
        "metadata": str(prepared.file),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 10},
        "rare": {"min_count": 1, "as": "keep"},
    }
    if random.random() < 0.3:
        job["privacy"] = {"epsilon": 5, "delta": 1e-5}
    try:
        checked_plan(Job.parse(job))
    except ShardsynthError as error:
        own = json.dumps(metadata)
        for value in PLANTED:
            if value in str(error) and value not in own:
                raise Wrong(f"shows {value!r}: {error}") from None
        raise
    return "a plan"


def _change(metadata: dict[str, Any], random: Random) -> None:
    places = places_of(metadata)
    if not places:
        return
    holder, key = random.choice(places)
    kind = random.choice(("value", "value", "value", "delete", "add", "add", "rename"))
    if kind == "value":
        holder[key] = random.choice(VALUES)
    elif kind == "delete":
        del holder[key]
    elif kind == "add" and isinstance(holder, dict):
        holder[random.choice(KEYS)] = random.choice(VALUES)
    elif isinstance(holder, dict):
        holder[random.choice((*KEYS, f"{key}s"))] = holder.pop(key)


SUBJECT = Subject("metadata", prepare, attempt)
