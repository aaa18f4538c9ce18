"""A made cohort in three tables: patients, their visits, the labs of a visit; some patients have no visit."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

METADATA = {
    "tables": {
        "patients": {
            "primary_key": "patient",
            "columns": {
                "patient": {"sdtype": "id"},
                "sex": {"sdtype": "categorical"},
                "age": {"sdtype": "numerical"},
            },
        },
        "visits": {
            "primary_key": "visit",
            "sequence_index": "seen",
            "columns": {
                "visit": {"sdtype": "id"},
                "patient": {"sdtype": "id"},
                "seen": {"sdtype": "datetime"},
                "left": {"sdtype": "datetime"},
                "ward": {"sdtype": "categorical"},
                "site": {"sdtype": "categorical"},
                "weight": {"sdtype": "numerical"},
            },
        },
        "labs": {
            "columns": {
                "visit": {"sdtype": "id"},
                "test": {"sdtype": "categorical"},
                "value": {"sdtype": "numerical"},
            }
        },
    },
    "relationships": [
        {
            "parent_table_name": "patients",
            "parent_primary_key": "patient",
            "child_table_name": "visits",
            "child_foreign_key": "patient",
        },
        {
            "parent_table_name": "visits",
            "parent_primary_key": "visit",
            "child_table_name": "labs",
            "child_foreign_key": "visit",
        },
    ],
    "METADATA_SPEC_VERSION": "V2",
}


def cohort(patients: int = 150, seed: int = 3) -> dict[str, pa.Table]:
    """The three tables. The site of a patient's visits is one; nobody leaves before the visit; a quarter has none."""
    rng = np.random.default_rng(seed)
    people, visits, labs = [], [], []
    for number in range(patients):
        age = int(rng.integers(20, 90))
        people.append((f"P{number:05d}", str(rng.choice(["F", "M"])), age))
        day, site, weight = date(2020, 1, 1) + timedelta(int(rng.integers(0, 300))), str(rng.choice(["N", "S"])), 70.0
        for _ in range(0 if rng.random() < 0.25 else int(rng.integers(1, 6))):
            day += timedelta(int(rng.integers(0, 90)))
            weight = round(weight + float(rng.normal(0, 1)), 1)
            stay = None if rng.random() < 0.1 else day + timedelta(int(rng.integers(0, 9)))
            visit = 1000 + len(visits)
            visits.append((visit, f"P{number:05d}", day, stay, str(rng.choice(["A", "B", "C"])), site, weight))
            for _ in range(int(rng.integers(0, 4))):
                test = str(rng.choice(["hb", "wbc"]))
                labs.append((visit, test, round(float(rng.normal(12 if test == "hb" else 6, 1)), 1)))
    order = rng.permutation(len(visits))
    return {
        "patients": pa.table(
            {
                "patient": [p[0] for p in people],
                "sex": pa.array([p[1] for p in people]).dictionary_encode(),
                "age": pa.array([p[2] for p in people], pa.int16()),
            }
        ),
        "visits": pa.table(
            {
                "visit": pa.array([visits[i][0] for i in order], pa.int32()),
                "patient": [visits[i][1] for i in order],
                "seen": pa.array([visits[i][2] for i in order], pa.date32()),
                "left": pa.array([visits[i][3] for i in order], pa.date32()),
                "ward": [visits[i][4] for i in order],
                "site": [visits[i][5] for i in order],
                "weight": pa.array([visits[i][6] for i in order], pa.float32()),
            }
        ),
        "labs": pa.table(
            {
                "visit": pa.array([each[0] for each in labs], pa.int32()),
                "test": [each[1] for each in labs],
                "value": [each[2] for each in labs],
            }
        ),
    }


def write_cohort(folder: Path, tables: dict[str, pa.Table], shards: int = 2) -> Path:
    """Write each table in a folder of its own, and the metadata; returns the path of the metadata."""
    for name, table in tables.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        edges = [len(table) * number // shards for number in range(shards + 1)]
        for number, (start, stop) in enumerate(zip(edges, edges[1:])):
            pq.write_table(table.slice(start, stop - start), folder / name / f"{number}.parquet")
    path = folder / "metadata.json"
    path.write_text(json.dumps(METADATA))
    return path
