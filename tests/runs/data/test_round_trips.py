"""From a file of each kind through a model to a file of that kind: labels, formats and codes are those of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from tests.here import run_here

from shardsynth import Job
from shardsynth.commands.export_table import _WRITERS, export_table
from shardsynth.commands.init import write_job
from shardsynth.data.codebook import Codebook
from shardsynth.data.importer import import_table

pyreadstat = pytest.importorskip("pyreadstat")
ROWS = 1_500
LABELS = {"sex": {1: "male", 2: "female", 9: "not told"}}
COLUMN_LABELS = ["Sex of the patient", "Weight, kg", None, None, "Ward", None]


def clinic() -> pd.DataFrame:
    """Weights of women are missing more often; 999 means that the scale was broken."""
    random = np.random.default_rng(3)
    sex = random.choice([1.0, 2.0, 9.0], ROWS, p=[0.5, 0.44, 0.06])
    weight = random.normal(80 - 12 * (sex == 2), 9).round(1)
    weight[random.random(ROWS) < np.where(sex == 2, 0.3, 0.03)] = np.nan
    weight[random.random(ROWS) < 0.08] = 999
    days = np.datetime64("2015-01-01") + random.integers(0, 3_000, ROWS).astype("timedelta64[D]")
    return pd.DataFrame(
        {
            "sex": sex,
            "weight": weight,
            "seen": pd.Series(days.tolist(), dtype=object),
            "made": pd.Series(days.astype("datetime64[ns]") + np.timedelta64(9, "h")),
            "ward": random.choice(["north", "south", ""], ROWS, p=[0.5, 0.4, 0.1]),
            "visits": random.integers(1, 6, ROWS).astype("int32"),
        }
    )


def write(path: Path) -> None:
    """A file of the reference library."""
    frame, kind = clinic(), path.suffix
    if kind in (".sav", ".zsav"):
        pyreadstat.write_sav(
            frame,
            str(path),
            column_labels=COLUMN_LABELS,
            variable_value_labels=LABELS,
            missing_ranges={"sex": [9], "weight": [{"lo": 900, "hi": 999}]},
            variable_measure={"sex": "nominal", "weight": "scale"},
            variable_format={"weight": "F6.1", "seen": "EDATE10"},
            compress=kind == ".zsav",
        )
    elif kind == ".dta":
        frame["sex"] = frame["sex"].astype("int32")
        tagged = frame["weight"].astype(object)
        frame["weight"] = tagged.where(frame["weight"] != 999, "b")
        pyreadstat.write_dta(
            frame,
            str(path),
            column_labels=COLUMN_LABELS,
            variable_value_labels=LABELS,
            missing_user_values={"weight": ["b"]},
            variable_format={"weight": "%9.1f"},
        )
    elif kind == ".xpt":
        frame.columns = [name.upper() for name in frame.columns]
        pyreadstat.write_xport(frame, str(path), file_format_version=5, column_labels=COLUMN_LABELS)
    else:
        plain = pa.Table.from_pandas(frame.replace({"ward": {"": None}}), preserve_index=False)
        if kind == ".rds":
            ward = pa.array(plain["ward"].to_pylist()).dictionary_encode()
            levels = pa.DictionaryArray.from_arrays(pa.array(ward.indices), ward.dictionary, ordered=True)
            plain = plain.set_column(4, "ward", levels)
        if kind == ".xlsx":
            book = openpyxl.Workbook()
            book.active.append(plain.column_names)
            for row in plain.to_pylist():
                book.active.append(list(row.values()))
            book.save(path)
        elif kind == ".feather":
            pyarrow.feather.write_feather(plain, str(path))
        else:
            book = {name: Codebook(label or "") for name, label in zip(plain.column_names, COLUMN_LABELS)}
            _WRITERS[kind](plain, book, path)


def read(path: Path) -> tuple[pd.DataFrame, Any]:
    """By the reference reader."""
    kind = path.suffix
    if kind in (".sav", ".zsav"):
        return pyreadstat.read_sav(str(path), user_missing=True)
    if kind == ".dta":
        return pyreadstat.read_dta(str(path), user_missing=True)
    if kind == ".xpt":
        return pyreadstat.read_xport(str(path))
    if kind == ".xlsx":
        return pd.read_excel(path), None
    if kind == ".feather":
        return pd.read_feather(path), None
    if kind == ".csv":
        return pd.read_csv(path), None
    (shard,) = import_table(path, path.parent / f"read {path.stem}")
    return pq.read_table(shard).to_pandas(), None


@pytest.mark.parametrize("kind", [".sav", ".zsav", ".dta", ".xpt", ".rds", ".xlsx", ".feather", ".csv"])
def test_a_file_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"real{kind}"
    write(source)
    import_table(source, tmp_path / "data")
    list(write_job(str(tmp_path / "data"), tmp_path / "job.yaml", str(tmp_path / "run")))
    job = Job.parse(
        {
            **{"input": str(tmp_path / "data"), "output": str(tmp_path / "run"), "models": {"gaussian_copula": {}}},
            **{"metadata": str(tmp_path / "job.metadata.json"), "sample": {"rows": ROWS}, "evaluate": {}},
        }
    )
    run_here(job, "merge")
    out, *_ = export_table(tmp_path / "run", "gaussian_copula", tmp_path / f"made{kind}")
    (real, real_meta), (made, meta) = read(source), read(out)
    assert list(made.columns) == list(real.columns) and len(made) == ROWS
    assert list(made.dtypes.astype(str)) == list(real.dtypes.astype(str))
    sex, weight, seen, made_at, ward, visits = real.columns
    if meta is not None:
        for said in (
            *("column_names_to_labels", "variable_value_labels", "original_variable_types", "readstat_variable_types"),
            *("variable_measure", "variable_storage_width", "missing_ranges", "missing_user_values"),
        ):
            assert getattr(meta, said) == getattr(real_meta, said), said
    assert abs((made[sex] == 2).mean() - 0.44) < 0.05 and set(made[sex]) <= {1, 2, 9}
    broken = "b" if kind == ".dta" else 999
    assert abs((made[weight] == broken).mean() - (real[weight] == broken).mean()) < 0.03
    absent = made[weight].isna()
    assert abs(absent.mean() - real[weight].isna().mean()) < 0.05
    assert absent[made[sex] == 2].mean() > 2 * absent[made[sex] == 1].mean()
    plain = pd.to_numeric(made[weight][~absent & (made[weight] != broken)])
    assert plain.between(30, 130).all() and abs(plain.mean() - 75.5) < 3
    for name in (seen, made_at):
        days = pd.to_datetime(made[name].dropna())
        assert days.between("2014-06-01", "2024-01-01").all() and days.nunique() > 300
    assert (pd.to_datetime(made[made_at].dropna()).dt.hour == 9).all()
    assert set(made[ward].dropna()) == set(real[ward].dropna())
    assert set(made[visits]) == {1, 2, 3, 4, 5}
    if kind == ".rds":
        assert made[ward].cat.ordered and list(made[ward].cat.categories) == list(real[ward].cat.categories)
