"""What `import` sees in a text table: its header, its types, and what is odd about a column."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardsynth.data.column_looks import ColumnLook, look_lines
from shardsynth.data.importer import import_table
from shardsynth.errors import ShardError

CBIO = ["#Patient Identifier\tAge", "#Identifier of the patient\tYears", "#STRING\tNUMBER", "#1\t1", "PATIENT_ID\tAGE"]


def imported(folder: Path, name: str, lines: list[str], **options) -> tuple[pa.Table, str]:
    (folder / name).write_text("\n".join(lines) + "\n")
    looks: list[ColumnLook] = []
    paths = import_table(folder / name, folder / "out", looks=looks, **options)
    return pq.read_table(paths[0]), "\n".join(look_lines(looks))


def test_what_stands_above_the_header(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    table, _ = imported(tmp_path / "a", "patient.txt", [*CBIO, "P-1\t50", "P-2\t61"])
    assert table.to_pydict() == {"PATIENT_ID": ["P-1", "P-2"], "AGE": [50, 61]}
    (tmp_path / "b").mkdir()
    table, _ = imported(tmp_path / "b", "a.csv", ["sep=;", "id;age", "001;50"])
    assert table.to_pydict() == {"id": ["001"], "age": [50]}
    (tmp_path / "c").mkdir()
    table, _ = imported(tmp_path / "c", "a.tsv", ["##fileformat=X", "#CHROM\tPOS", "1\t7"])
    assert table.to_pydict() == {"#CHROM": [1], "POS": [7]}
    (tmp_path / "d").mkdir()
    lines = ["Report of ward 7", "", "id,age,sex", *(f"{n},50,F" for n in range(9))]
    with pytest.raises(ShardError, match="first row has 1 fields and those below have 3.*--skip-rows 2"):
        imported(tmp_path / "d", "a.csv", lines)
    table, _ = imported(tmp_path / "d", "a.csv", lines, skip_rows=2)
    assert table.column_names == ["id", "age", "sex"]


def test_a_line_per_column_says_what_is_odd_and_shows_no_value(tmp_path: Path) -> None:
    rows = [
        f"{n},{'.' if n % 10 == 0 else n / 7:},{'hemolyzed' if n % 10 == 0 else n},{'<0.50' if n % 4 == 0 else n / 8:},"
        f"{1 + n % 28}/{1 + n % 12}/2020,{n % 3 or ''},{n % 24:02d}:30,1E{n % 9}"
        for n in range(200)
    ]
    table, said = imported(tmp_path, "a.csv", ["id,crp,potassium,psa,seen,stage,at,code", *rows])
    assert table.schema.field("at").type == pa.time32("ms")
    assert table.schema.field("code").type == pa.string(), "1E5 is a code, not 100,000"
    for line in (
        r"crp        double                      10.0% are a lone point: missing",
        r"potassium  string                      90% numbers, 10% like 'a': if these mean missing, name them by --null",
        r"psa        string                      numbers as text, 25% like '<9.99': init will take them for numbers",
        r"seen       string                      dates as text, %d/%m/%Y: init will take them for dates",
        r"stage      int64       33.5% missing",
    ):
        assert line in said
    assert "hemolyzed" not in said


def test_a_number_that_its_decimal_type_cannot_hold_is_an_error(tmp_path: Path) -> None:
    table, _ = imported(tmp_path, "a.csv", ["n", "0.300"], types={"n": "decimal128(38,38)"})
    assert table["n"].to_pylist() == [Decimal("0.3")]
    with pytest.raises(ShardError, match="column 'n', row 2"):
        imported(tmp_path / "out", "b.csv", ["n", "0.5", "300"], types={"n": "decimal128(38,38)"})


def test_formulas_that_nothing_has_calculated_are_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["id", "bmi"])
    for row in range(2, 9):
        book.active.append([row, f"=A{row}/2"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ShardError, match="column 'bmi' holds formulas that no program has calculated"):
        import_table(tmp_path / "a.xlsx", tmp_path / "out")
