"""REDCap exports with their dictionary, workbooks of several sheets, cBioPortal's lines above the header."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from shardsynth.cli import app
from shardsynth.data.codebook import Codebook
from shardsynth.data.importer import import_redcap, import_sheets, import_table
from shardsynth.errors import InputError, ShardError

DICTIONARY = """\
"Variable / Field Name","Form Name","Section Header","Field Type","Field Label","Choices, Calculations, OR Slider Labels",\
"Field Note","Text Validation Type OR Show Slider Number"
record_id,baseline,,text,Record ID,,,
sex,baseline,,radio,"<b>Sex</b> at birth","1, Male | 2, Female | 9, Not told, or unknown",,
race,baseline,,checkbox,Race,"1, White | 2, Black | -9, Other",,
consent,baseline,,yesno,Consent given?,,,
dose,medication,,text,"Dose, mg",,,number
started,medication,,text,Started on,,,date_ymd
"""


def export(rows: int = 12, *, repeats: bool = True) -> str:
    lines = [
        "record_id,redcap_repeat_instrument,redcap_repeat_instance,sex,race___1,race___2,race____9,consent,"
        "baseline_complete,dose,started,medication_complete"
    ]
    for k in range(rows):
        lines.append(f"{k + 1},,,{9 if k == 0 else 1 + k % 2},{k % 2},0,0,1,2,,,")
        for m in range(k % 3 if repeats else 0):
            lines.append(f"{k + 1},medication,{m + 1},,,,,,,{m + 0.5},2024-05-{m + 1:02d},2")
    return "\n".join(lines) + "\n"


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    (tmp_path / "dictionary.csv").write_text(DICTIONARY)
    return tmp_path / "dictionary.csv"


def test_repeating_instruments_are_tables(tmp_path: Path, dictionary: Path) -> None:
    (tmp_path / "export.csv").write_text(export())
    assert import_redcap(tmp_path / "export.csv", dictionary, tmp_path / "data") == [
        ("records", 12),
        ("medication", 12),
    ]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["medication", "records"]
    records, medication = (pq.read_table(tmp_path / "data" / name) for name in ("records", "medication"))
    assert records.column_names == [
        *("record_id", "sex", "race___1", "race___2", "race____9", "consent", "baseline_complete")
    ]
    assert medication.column_names == ["record_id", "redcap_repeat_instance", "dose", "started", "medication_complete"]
    assert records["sex"].null_count == 0 and medication["dose"].null_count == 0
    assert medication["started"].type == pa.date32()
    books = {name: Codebook.of(records.schema.field(name)) for name in records.column_names}
    assert books["sex"].label == "Sex at birth"
    assert books["sex"].value_labels == {"1": "Male", "2": "Female"}, "one record has 9: no label of it"
    assert books["race___1"].label == "Race: White" and books["race____9"].label == "Race: Other"
    assert books["race___1"].value_labels == {"0": "Unchecked", "1": "Checked"}
    assert books["consent"].value_labels == {"1": "Yes", "0": "No"}
    assert books["baseline_complete"].value_labels["2"] == "Complete"


def test_a_project_without_repeats_is_one_table(tmp_path: Path, dictionary: Path) -> None:
    (tmp_path / "export.csv").write_text(export(repeats=False))
    arguments = ["import", str(tmp_path / "export.csv"), "--dictionary", str(dictionary), "-o", str(tmp_path / "data")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and f"12 rows in {tmp_path / 'data'}" in done.output
    assert pq.read_table(tmp_path / "data")["sex"].to_pylist()[:3] == [9, 2, 1]


def test_what_is_no_raw_export_is_refused(tmp_path: Path, dictionary: Path) -> None:
    (tmp_path / "labels.csv").write_text("Record ID,Sex at birth\n1,Male\n")
    with pytest.raises(ShardError, match="0 of 2 columns are fields of the dictionary: export the data raw"):
        import_redcap(tmp_path / "labels.csv", dictionary, tmp_path / "data")
    with pytest.raises(ShardError, match="is no data dictionary of REDCap: it lacks the columns Choices"):
        import_redcap(tmp_path / "labels.csv", tmp_path / "labels.csv", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_every_sheet_is_a_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    patients, visits = book.active, book.create_sheet("visits")
    patients.title = "patients"
    patients.append(["id", "sex"])
    visits.append(["id", "hb"])
    for k in range(5):
        patients.append([k, "f"])
        visits.append([k, k / 2])
    book.create_sheet("empty")
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="has 3 sheets: say which of .* by --sheet, or take each .*--all-sheets"):
        import_table(tmp_path / "a.xlsx", tmp_path / "data")
    done = CliRunner().invoke(app, ["import", str(tmp_path / "a.xlsx"), "--all-sheets", "-o", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["patients", "visits"]
    assert pq.read_table(tmp_path / "data" / "visits").to_pydict() == {"id": list(range(5)), "hb": [0, 0.5, 1, 1.5, 2]}
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="--all-sheets is for"):
        import_sheets(tmp_path / "a.csv", tmp_path / "b")


def test_title_rows_of_a_sheet_are_left_out(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["A study"], [], ["by us"], ["id", "hb"], [1, 2.5]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(ShardError, match="has 2 cells where the header has 1; .* --skip-rows 3"):
        import_table(tmp_path / "a.xlsx", tmp_path / "data")
    (shard,) = import_table(tmp_path / "a.xlsx", tmp_path / "data", skip_rows=3)
    assert pq.read_table(shard).to_pylist() == [{"id": 1, "hb": 2.5}]


def test_cbioportal_says_labels_and_types(tmp_path: Path) -> None:
    (tmp_path / "data_clinical_patient.txt").write_text(
        "#Patient Identifier\tAge at Diagnosis\tGrade\n#Identifier\tAge\tGrade of the tumour\n#STRING\tNUMBER\tSTRING\n"
        "#1\t1\t1\nPATIENT_ID\tAGE\tGRADE\n" + "".join(f"{k}\t{50 + k}\t{k % 3}\n" for k in range(20))
    )
    (shard,) = import_table(tmp_path / "data_clinical_patient.txt", tmp_path / "data")
    schema = pq.read_schema(shard)
    assert schema.types == [pa.string(), pa.int64(), pa.string()]
    assert [Codebook.of(field).label for field in schema] == ["Patient Identifier", "Age at Diagnosis", "Grade"]
    (shard,) = import_table(tmp_path / "data_clinical_patient.txt", tmp_path / "b", types={"GRADE": "int8"})
    assert pq.read_schema(shard).field("GRADE").type == pa.int8()
