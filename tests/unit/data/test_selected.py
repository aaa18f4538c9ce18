"""What import says of odd text tables, and columns that are left out or made flat."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from shardsynth.data.column_looks import ColumnLook
from shardsynth.data.importer import import_table
from shardsynth.data.shards import open_shards
from shardsynth.errors import InputError, ShardError


def read(folder: Path, text: str, **options) -> pa.Table:
    (folder / "a.csv").write_text(text)
    return pq.read_table(import_table(folder / "a.csv", folder / "data", **options)[0])


def looks(folder: Path, text: str) -> dict[str, str]:
    found: list[ColumnLook] = []
    read(folder, text, looks=found)
    return {look.name: look.odd for look in found}


def test_empty_columns_at_the_end_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b,,\n1,x,,\n2,,,\n").to_pydict() == {"a": [1, 2], "b": ["x", None]}


def test_a_value_in_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="column 3 of 3 has no name"):
        read(tmp_path, "a,b,\n1,x,\n2,y,z\n")


def test_columns_are_left_out_by_name(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b,c\n1,2,3\n", leave_out=["b"]).column_names == ["a", "c"]
    with pytest.raises(InputError, match="--leave-out: there is no column 'ages'; did you mean 'age'"):
        (tmp_path / "data").rename(tmp_path / "old")
        read(tmp_path, "age,b\n1,2\n", leave_out=["ages"])


@pytest.mark.parametrize("sign", ["~", "^", ":", " "])
def test_a_file_of_one_column_names_the_delimiter_that_reads_it(tmp_path: Path, sign: str) -> None:
    text = "".join(sign.join(row) + "\n" for row in (["id", "hb"], ["1", "2.5"], ["2", "3.5"]))
    with pytest.raises(ShardError, match="every row has 2 fields with another delimiter: --delimiter"):
        read(tmp_path, text)
    assert read(tmp_path, text, delimiter=sign).to_pydict() == {"id": [1, 2], "hb": [2.5, 3.5]}


def test_one_column_of_times_is_one_column(tmp_path: Path) -> None:
    assert read(tmp_path, "seen\n2024-01-01 10:00:00\n2024-01-02 10:00:00\n").num_columns == 1


def test_a_note_below_the_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="row 2 .* has 1 fields where the header has 2: is it a note below the table"):
        read(tmp_path, "a,b\n1,2\nTotal\n")


def test_days_of_excel_are_named_and_read(tmp_path: Path) -> None:
    text = "visit_date,zip\n" + "".join(f"{45_000 + k},{45_000 + k}\n" for k in range(40))
    odd = looks(tmp_path, text)
    assert odd["visit_date"].endswith("--type 'visit_date=date32 %excel'") and not odd["zip"]
    (tmp_path / "data").rename(tmp_path / "old")
    table = read(tmp_path, text, types={"visit_date": "date32 %excel"})
    assert table["visit_date"][0].as_py() == dt.date(2023, 3, 15)


def test_spellings_of_one_category_are_counted(tmp_path: Path) -> None:
    odd = looks(tmp_path, "sex,name\n" + "".join(f"{s},P{k}\n" for k, s in enumerate(["male", "Male", "female"] * 20)))
    assert odd == {"sex": "2 values differ only in capitals or spaces: unite them before the import", "name": ""}


def test_structs_become_columns_and_lists_are_left_out(tmp_path: Path) -> None:
    nested = {"a": [1, 2], "list": [[1], [2]], "s": [{"x": 1, "t": {"y": "p"}}, {"x": 2, "t": None}]}
    pq.write_table(pa.table(nested), tmp_path / "a.parquet")
    with pytest.raises(ShardError, match=r"'list' \(.*'s' \(.*import DATA -o NEW --unnest, with --leave-out COLUMN"):
        open_shards(str(tmp_path / "a.parquet"))
    with pytest.raises(ShardError, match="leave them out: --leave-out 'list'"):
        import_table(tmp_path / "a.parquet", tmp_path / "data", unnest=True)
    (shard,) = import_table(tmp_path / "a.parquet", tmp_path / "data", unnest=True, leave_out=["list"])
    assert pq.read_table(shard).to_pydict() == {"a": [1, 2], "s.x": [1, 2], "s.t.y": ["p", None]}
    assert open_shards(str(tmp_path / "data")).rows == 2


def test_a_table_of_rows_without_columns_is_refused(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]}).select([])
    feather.write_feather(table, tmp_path / "t.feather")
    with pytest.raises(ShardError, match="the table has no column"):
        import_table(tmp_path / "t.feather", tmp_path / "data")
