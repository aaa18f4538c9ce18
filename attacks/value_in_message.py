"""Claim: no message of any command shows a cell of the table, unless `--show-values` is given.

A table with planted values is imported, planned, run, sampled and completed in ways that fail; standard output and
standard error of each command are searched for the planted values.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.verdict import verdict

os.environ.setdefault("SHARDSYNTH_KEY", f"{tempfile.gettempdir()}/shardsynth attack key")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from shardsynth.cli import main

NAME, NUMBER, DAY = "Zaphod-Q7", 918273645, "1907-03-05"
#: What no text may hold; each is in a single row of the table.
PLANTED = (NAME, str(NUMBER), f"{NUMBER:,}", "918273645.0", DAY, "05.03.1907", "9.18274e+08", "9.18273645e")

CLASS = '''
from sdv.cag import SingleTableProgrammableConstraint


class Telling(SingleTableProgrammableConstraint):
    """Its errors quote the table, in the step that it is named after."""

    def transform(self, data):
        if "{step}" == "transform":
            raise ValueError(f"cannot take {{data['name'].max()}} {{data['n'].max()}}")
        return data

    def get_updated_metadata(self, metadata):
        return metadata

    def reverse_transform(self, transformed_data):
        if "{step}" == "reverse":
            raise ValueError("Zaphod-Q7 918273645")
        return transformed_data

    def is_valid(self, synthetic_data):
        if "{step}" == "valid":
            raise KeyError(f"{{synthetic_data['name'].max()}} {{synthetic_data['n'].max()}}")
        return synthetic_data["n"] > -1
'''


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and all output of a command, run in this process."""
    told, before = io.StringIO(), sys.argv
    sys.argv = ["shardsynth", *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    return code, told.getvalue()


def _table() -> pa.Table:
    rng = np.random.default_rng(0)
    rows = 400
    names = rng.choice(["anna", "bert", "carl"], rows).tolist()
    days = [f"20{y:02d}-01-{d:02d}" for y, d in zip(rng.integers(10, 20, rows), rng.integers(1, 28, rows))]
    numbers = rng.integers(0, 50, rows).tolist()
    names[7], numbers[7], days[7] = NAME, NUMBER, DAY
    return pa.table({"name": names, "n": numbers, "m": rng.integers(51, 99, rows), "day": days})


def _metadata(path: Path, **changes: dict[str, Any]) -> Path:
    columns = {
        "name": {"sdtype": "categorical"},
        "n": {"sdtype": "numerical"},
        "m": {"sdtype": "numerical"},
        "day": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
    }
    columns = {name: {**column, **changes.get(name, {})} for name, column in columns.items()}
    table = {"columns": columns, "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1"}
    path.write_text(json.dumps(table))
    return path


def attack(folder: Path) -> list[str]:
    """Commands whose output shows a planted value; empty if the promise held."""
    broken: list[str] = []
    table = _table()
    data = folder / "data"
    data.mkdir()
    pq.write_table(table, data / "s.parquet")
    number = 0

    def check(what: str, *arguments: object, fails: bool = True) -> str:
        code, told = command(*arguments)
        for value in PLANTED:
            if value in told:
                broken.append(f"{what}: shows {value!r}: {told.strip().splitlines()[-1][:200]}")
                break
        if fails and code not in (1, 2):
            broken.append(f"{what}: exit code {code}")
        return told

    def job(**changes: Any) -> Path:
        nonlocal number
        number += 1
        content = {
            "input": str(data),
            "output": str(folder / f"run {number}"),
            "metadata": str(folder / "metadata.json"),
            "models": {"gaussian_copula": {}},
            "sample": {"rows": 20},
            "rare": {"min_count": 1, "as": "keep"},
            "extremes": "keep",
            "cluster": {"workers": 1},
            **changes,
        }
        path = folder / f"job {number}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    metadata = _metadata(folder / "metadata.json")
    csv = folder / "t.csv"
    csv.write_text("name,n,day\n" + "".join(f"{r['name']},{r['n']},{r['day']}\n" for r in table.to_pylist()))
    for types in ("name=int8", "n=int8", "n=date32", "day=int64", "day=timestamp[s, %d.%m.%Y]"):
        check(f"import {types}", "import", csv, "-o", folder / "imported", "--type", types)
    check("init", "init", data, "-o", folder / "new.yaml", fails=False)
    for where in (f"name == '{NAME[:-1]}'", f"name in ['{NAME.lower()}']", f"n == {NUMBER - 1}", f"n > {NUMBER + 1}"):
        check(f"run where {where}", "run", job(sample={"rows": 20, "conditions": [{"where": where, "rows": 5}]}))
    for name, change in {
        "n": {"range_min": 0, "range_max": 50},
        "name": {"range_values": ["anna", "bert", "carl"]},
        "day": {"datetime_format": "%d.%m.%Y"},
        "m": {"sdtype": "datetime", "datetime_format": "%Y%m%d"},
    }.items():
        other = _metadata(folder / f"metadata {name}.json", **{name: change})
        check(f"metadata of {name}", "run", job(metadata=str(other)), fails=name in ("day", "m"))
    inequality = {"low_column_name": "n", "high_column_name": "m"}
    broken_by_data = {
        "Inequality": inequality,
        "Range": {"low_column_name": "n", "middle_column_name": "m", "high_column_name": "n"},
        "FixedIncrements": {"column_name": "n", "increment_value": 7},
        "OneHotEncoding": {"column_names": ["n", "m"]},
    }
    for class_name, parameters in broken_by_data.items():
        check(class_name, "run", job(constraints=[{"class_name": class_name, "parameters": parameters}]))
    for step in ("transform", "reverse", "valid"):
        own = folder / f"{step}.py"
        own.write_text(CLASS.format(step=step))
        check(f"own class, {step}", "run", job(constraints=[{"class_name": f"{own}:Telling", "parameters": {}}]))
    check("survival", "run", job(evaluate={"survival": {"duration": "m", "event": "name", "value": "nobody"}}))
    check("balance", "run", job(sample={"rows": 20, "balance": "day"}))
    whole = job()
    check("run", "run", whole, fails=False)
    model = folder / f"run {number}" / "models" / "gaussian_copula"
    for where in (
        f"name == '{NAME[:-1]}'",
        "name == 'x'",
        f"n == {NUMBER + 9}",
        "n > 918_273_646",
        "day > '2030-01-01'",
    ):
        told = check(f"sample where {where}", "sample", model, "--rows", 5, "-o", folder / "out", "--where", where)
        if "--show-values" not in told:
            broken.append(f"sample where {where}: does not say how to see values: {told[:100]}")
    known = folder / "known.parquet"
    pq.write_table(pa.table({"name": [f"{NAME}", "nobody", "anna"], "n": pa.array([NUMBER, 3, 4], pa.int64())}), known)
    remaining = ("sample", model, "--remaining-columns", known, "-o", folder / "completed")
    check("completed rows", *remaining, fails=False)
    pq.write_table(pa.table({"name": [f"{NAME}"], "n": [str(NUMBER)]}), known)
    check("completed rows of another type", *remaining[:-1], folder / "other")
    check("report", "report", folder / f"run {number}", fails=False)
    check("compare", "report", "--compare", folder / f"run {number}", metadata, "-o", folder / "compared")
    where = ("--where", f"name == '{NAME[:-1]}'")
    code, told = command("sample", model, "--rows", 5, "-o", folder / "out", *where, "--show-values")
    if code != 2 or NAME not in told:
        broken.append("--show-values shows nothing")
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
