"""From a file of SPSS, Stata or SAS to a synthetic one: labels, formats, codes for missing, dates."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.here import run_here

from shardsynth import Job
from shardsynth.commands.export_table import _WRITERS, export_table
from shardsynth.data.codebook import Codebook, sdtype_of_labels
from shardsynth.data.column_looks import ColumnLook, look_lines
from shardsynth.data.importer import import_table
from shardsynth.data.statistics_files import _moment_of
from shardsynth.errors import ModelError, ShardError

pyreadstat = pytest.importorskip("pyreadstat")
ROWS = 300


def clinic() -> pd.DataFrame:
    random = np.random.default_rng(0)
    days = [dt.date(1950, 1, 1) + dt.timedelta(days=int(d)) for d in random.integers(0, 20_000, ROWS)]
    return pd.DataFrame(
        {
            "sex": random.choice([1.0, 2.0, -9.0], ROWS, p=[0.5, 0.45, 0.05]),
            "weight": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(70, 9, ROWS).round(1)),
            "born": days,
            "seen": pd.to_datetime(pd.Series(days)).astype("datetime64[ns]") + pd.Timedelta(hours=9, minutes=5),
            "site": random.choice(["north", "south"], ROWS),
            "site9": np.where(np.arange(ROWS) < 2, 9.0, 1.0),
        }
    )


LABELS = {"sex": {1: "male", 2: "female", -9: "not told"}, "site9": {1: "common", 9: "of two patients"}}


def write_sav(path: Path) -> None:
    pyreadstat.write_sav(
        clinic(),
        str(path),
        column_labels=["Sex of the patient", None, "Date of birth", None, None, None],
        variable_value_labels=LABELS,
        missing_ranges={"sex": [-9], "weight": [{"lo": 900, "hi": 999}]},
        variable_measure={"sex": "nominal", "weight": "scale"},
        variable_format={"weight": "F5.1", "born": "EDATE10"},
    )


def test_a_sav_file_comes_back_as_one(tmp_path: Path) -> None:
    write_sav(tmp_path / "a.sav")
    (shard,) = import_table(tmp_path / "a.sav", tmp_path / "data")
    table = pq.read_table(shard)
    assert table.schema.types[:4] == [pa.int64(), pa.float64(), pa.date32(), pa.timestamp("us")]
    assert table["born"].to_pylist() == clinic()["born"].tolist()
    sex = Codebook.of(table.schema.field("sex"))
    assert sex == Codebook(
        "Sex of the patient", {"1": "male", "2": "female", "-9": "not told"}, "F8.2", "nominal", [-9.0], "", "sav", 8
    )
    assert Codebook.of(table.schema.field("site9")).value_labels == {"1": "common"}, "no label of two rows"
    plain = {"models": {"gaussian_copula": {}}, "sample": {"rows": 200}, "extremes": "clip"}
    job = Job.parse({"input": str(tmp_path / "data"), "output": str(tmp_path / "run"), **plain})
    run_here(job, "merge")
    out, dictionary, readme = export_table(tmp_path / "run", "gaussian_copula", tmp_path / "out.sav")
    assert (
        "sex,int64,Sex of the patient,1 = male; 2 = female; -9 = not told,-9.0,nominal,F8.2" in dictionary.read_text()
    )
    assert readme.read_text().startswith(
        "out.sav: 200 synthetic rows, drawn by shardsynth from the model 'gaussian_copula'."
    )
    real, real_meta = pyreadstat.read_sav(str(tmp_path / "a.sav"), user_missing=True)
    made, meta = pyreadstat.read_sav(str(out), user_missing=True)
    assert list(made.columns) == list(real.columns) and list(made.dtypes) == list(real.dtypes)
    assert meta.column_names_to_labels == real_meta.column_names_to_labels
    assert meta.variable_value_labels["sex"] == real_meta.variable_value_labels["sex"]
    assert meta.missing_ranges == real_meta.missing_ranges
    assert meta.variable_measure["sex"] == "nominal"
    assert meta.original_variable_types["born"] == "EDATE10" and meta.original_variable_types["weight"] == "F5.1"
    assert set(made["sex"]) <= {1.0, 2.0, -9.0}
    assert made["born"].min() >= dt.date(1950, 1, 1) and made["born"].max() <= max(real["born"])
    assert abs(made["weight"].isna().mean() - 0.1) < 0.06


def test_kinds_of_missing_values_of_stata(tmp_path: Path) -> None:
    values = [1, 2, "a", None, "b", 3] * 20
    frame = pd.DataFrame(
        {"x": pd.Series(values, dtype=object), "day": [dt.date(2020, 1, 1 + k % 28) for k in range(120)]}
    )
    pyreadstat.write_dta(frame, str(tmp_path / "a.dta"), missing_user_values={"x": ["a", "b"]})
    (shard,) = import_table(tmp_path / "a.dta", tmp_path / "data")
    table = pq.read_table(shard)
    assert table["x"].to_pylist()[:6] == [1, 2, None, None, None, 3]
    assert table["x_missing"].to_pylist()[:6] == [None, None, ".a", None, ".b", None]
    assert Codebook.of(table.schema.field("x_missing")).kinds_of == "x"
    assert table["day"].to_pylist() == frame["day"].tolist()
    codebook = {field.name: Codebook.of(field) for field in table.schema}
    _WRITERS[".dta"](table, codebook, tmp_path / "b.dta")
    back, _ = pyreadstat.read_dta(str(tmp_path / "b.dta"), user_missing=True)
    assert list(back.columns) == ["x", "day"]
    assert back["x"].tolist()[:3] == [1, 2, "a"] and back["x"].tolist()[4:6] == ["b", 3]
    assert back["day"].tolist() == frame["day"].tolist()


@pytest.mark.parametrize(
    ("book", "values", "sdtype"),
    [
        (Codebook(value_labels={"1": "a", "2": "b"}), [1, 2], "categorical"),
        (Codebook(value_labels={"1": "a", "2": "b"}, measure="ordinal"), [1.0, 2.0, 3.0], "ordinal"),
        (Codebook(value_labels={"1": "a"}, measure="scale"), [1, 2], None),
        (Codebook(value_labels={"-9": "not told"}, missing=[-9.0]), [-9, 50, 51], None),
        (Codebook(), [1, 2], None),
    ],
)
def test_labels_say_what_is_a_category(book: Codebook, values: list, sdtype: str | None) -> None:
    assert sdtype_of_labels(book, values) == sdtype


def test_times_do_not_wrap_at_a_day(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [3_600.0, 90_000.0, np.nan]})
    pyreadstat.write_sav(frame, str(tmp_path / "a.sav"), variable_format={"t": "TIME8"})
    (shard,) = import_table(tmp_path / "a.sav", tmp_path / "data")
    assert pq.read_table(shard)["t"].to_pylist() == [dt.timedelta(hours=1), dt.timedelta(hours=25), None]


@pytest.mark.parametrize("version", [5, 8])
def test_sas_transport_files(tmp_path: Path, version: int) -> None:
    frame = pd.DataFrame(
        {"AGE": [0.0, 50.0, np.nan], "DAY": [dt.date(2020, 1, 1), None, dt.date(1955, 5, 5)], "ARM": ["A", "", "B"]}
    )
    pyreadstat.write_xport(
        frame, str(tmp_path / "a.xpt"), file_format_version=version, column_labels=["Age", None, None]
    )
    (shard,) = import_table(tmp_path / "a.xpt", tmp_path / "data")
    table = pq.read_table(shard)
    assert table.to_pydict() == {"AGE": [0, 50, None], "DAY": frame["DAY"].tolist(), "ARM": ["A", None, "B"]}
    assert Codebook.of(table.schema.field("AGE")).label == "Age"


def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    codebook = {"n": Codebook()}
    for kind, table, why in (
        (".sav", pa.table({"n": [2**53 + 1]}), "more than 15 digits"),
        (".xlsx", pa.table({"n": [dt.date(1850, 1, 1)]}), "no dates before 1900"),
        (".xlsx", pa.table({"n": ["a\x01"]}), "control characters"),
        (".dta", pa.table({"n" * 40: [1]}), "names of 32 letters, digits and _"),
        (".xpt", pa.table({"n": [1e-80]}), "no number below 5.4e-79"),
        (".xpt", pa.table({"n": ["a", None]}), "loses blank rows"),
        (".sav", pa.table({"n": pa.array([decimal.Decimal("0.1234567890123456789")])}), "more than 15 digits"),
    ):
        names = dict.fromkeys(table.column_names, codebook["n"])
        with pytest.raises(ModelError, match=why):
            _WRITERS[kind](table, names, tmp_path / f"a{kind}")
    assert not list(tmp_path.iterdir())


def test_widths_display_and_labels_of_texts_come_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"s": ["a", "bb", "-"] * 20, "n": [1.5, 2.5, 3.5] * 20})
    frame.loc[59, "s"] = "a text of more places"
    pyreadstat.write_sav(
        frame,
        str(tmp_path / "a.sav"),
        variable_display_width={"s": 30, "n": 12},
        variable_value_labels={"s": {"a": "first"}},
        missing_ranges={"s": ["-"], "n": [3.5]},
    )
    (shard,) = import_table(tmp_path / "a.sav", tmp_path / "data")
    table = pq.read_table(shard).slice(0, 30)
    _WRITERS[".sav"](table, {field.name: Codebook.of(field) for field in table.schema}, tmp_path / "b.sav")
    real, meta = pyreadstat.read_sav(str(tmp_path / "a.sav"), user_missing=True)
    made, made_meta = pyreadstat.read_sav(str(tmp_path / "b.sav"), user_missing=True)
    assert made["s"].tolist() == real["s"].tolist()[:30]
    for name in ("variable_storage_width", "variable_display_width", "original_variable_types", "missing_ranges"):
        assert getattr(made_meta, name) == getattr(meta, name), name
    assert made_meta.variable_value_labels == meta.variable_value_labels


def test_stata_keeps_numbers_of_few_bytes_and_labels_of_kinds_of_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "x": pd.Series([1.5, "a", None, 2.5] * 30, dtype=object),
            "c": pd.Series([1, 2, "b", None] * 30, dtype=object),
            "n": pd.Series([1, 2, 3, 4] * 30, dtype="int32"),
        }
    )
    labels = {"c": {1: "one", 2: "two", "b": "not asked"}}
    pyreadstat.write_dta(
        frame, str(tmp_path / "a.dta"), missing_user_values={"x": ["a"], "c": ["b"]}, variable_value_labels=labels
    )
    (shard,) = import_table(tmp_path / "a.dta", tmp_path / "data")
    table = pq.read_table(shard)
    assert table.schema.field("n").type == pa.int32() and table.schema.field("x").type == pa.float64()
    _WRITERS[".dta"](table, {field.name: Codebook.of(field) for field in table.schema}, tmp_path / "b.dta")
    made, meta = pyreadstat.read_dta(str(tmp_path / "b.dta"), user_missing=True)
    real, real_meta = pyreadstat.read_dta(str(tmp_path / "a.dta"), user_missing=True)
    assert meta.variable_value_labels == labels == real_meta.variable_value_labels
    assert meta.missing_user_values == {"x": ["a"], "c": ["b"]}
    assert meta.readstat_variable_types == real_meta.readstat_variable_types
    assert made["x"].tolist()[:2] == [1.5, "a"] and made["x"].isna().tolist() == real["x"].isna().tolist()


def test_the_largest_numbers_of_32_bits_are_no_missing_values_of_stata(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array([2**31 - 1, -(2**31)], pa.int32())})
    _WRITERS[".dta"](table, {"n": Codebook()}, tmp_path / "a.dta")
    assert pyreadstat.read_dta(str(tmp_path / "a.dta"))[0]["n"].tolist() == [2**31 - 1, -(2**31)]


@pytest.mark.parametrize(
    ("kind", "form", "moment"),
    [
        (".sav", "DTIME10", "clock"),
        (".sav", "DATETIME20", "instant"),
        (".sav", "MOYR8", "date"),
        (".sas7bdat", "MMYY7", "date"),
        (".sas7bdat", "DATETIME19", "instant"),
        (".sas7bdat", "DTDATE9", "instant"),
        (".sas7bdat", "E8601TM", "clock"),
        (".sas7bdat", "DAYS", ""),
        (".dta", "%tC", ""),
        (".dta", "%tc", "instant"),
        (".dta", "%tdD_m_Y", "date"),
        (".dta", "%tm", ""),
    ],
)
def test_a_display_format_says_what_is_a_date(kind: str, form: str, moment: str) -> None:
    assert _moment_of(kind, form) == moment


@pytest.mark.parametrize("kind", [".sav", ".dta", ".xpt", ".rds"])
def test_instants_of_all_years_are_written(tmp_path: Path, kind: str) -> None:
    moments = [dt.datetime(9999, 12, 31, 23, 59, 59), dt.datetime(1600, 1, 1, 12), None, dt.datetime(2024, 5, 31, 8)]
    table = pa.table({"N": pa.array(moments, pa.timestamp("us"))})
    _WRITERS[kind](table, {"N": Codebook()}, tmp_path / f"a{kind}")
    (shard,) = import_table(tmp_path / f"a{kind}", tmp_path / "data")
    back = pq.read_table(shard)["N"].to_pylist()
    assert [moment and moment.replace(tzinfo=None) for moment in back] == moments


def test_a_text_that_begins_as_a_formula_is_a_text(tmp_path: Path) -> None:
    _WRITERS[".xlsx"](pa.table({"n": ["=1+1", "b"]}), {"n": Codebook()}, tmp_path / "a.xlsx")
    (shard,) = import_table(tmp_path / "a.xlsx", tmp_path / "data")
    assert pq.read_table(shard)["n"].to_pylist() == ["=1+1", "b"]


def test_transport_files_have_the_version_that_their_names_need(tmp_path: Path) -> None:
    for names, version in ((("AGE", "ARM"), b"LIBRARY HEADER"), (("age_at_visit", "ARM"), b"LIBV8")):
        table = pa.table(dict(zip(names, ([1.0, 2.0], ["a", "b"]))))
        _WRITERS[".xpt"](table, dict.fromkeys(names, Codebook()), tmp_path / "a.xpt")
        assert version in (tmp_path / "a.xpt").read_bytes()[:80]
        back = pyreadstat.read_xport(str(tmp_path / "a.xpt"))[0]
        assert list(back.columns) == list(names) and back.iloc[:, 1].tolist() == ["a", "b"]


def test_import_says_what_the_file_says_of_its_columns(tmp_path: Path) -> None:
    write_sav(tmp_path / "a.sav")
    looks: list[ColumnLook] = []
    import_table(tmp_path / "a.sav", tmp_path / "data", looks=looks)
    lines = list(look_lines(looks))
    assert lines[0].split(maxsplit=2)[:2] == ["sex", "int64"]
    assert lines[0].endswith("'Sex of the patient', 3 codes with labels, 1 codes or ranges that mean missing")
    missing = clinic()["weight"].isna().mean()
    assert f"{missing:.1%} missing" in lines[1] and lines[1].endswith("1 codes or ranges that mean missing")
    assert lines[2].endswith("'Date of birth'") and lines[4].split() == ["site", "string"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.sav").write_bytes(b"$FL2 nothing more")
    with pytest.raises(ShardError, match="a.sav: is no whole .sav file"):
        import_table(tmp_path / "a.sav", tmp_path / "data")
