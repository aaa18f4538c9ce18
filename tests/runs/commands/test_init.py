"""`init`: what it proposes and flags, and old configurations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from tests.tables import write_shards
from typer.testing import CliRunner

from shardsynth import Job, plan_job
from shardsynth.cli import app
from shardsynth.commands.init import write_job
from shardsynth.commands.old_config import read_old
from shardsynth.errors import JobError


def related(rows: int = 800) -> pa.Table:
    rng = np.random.default_rng(0)
    one, other = rng.random(rows) < 0.2, rng.random(rows) < 0.15
    ward = rng.choice(["Ulm", "Kiel", "Lyon", "Metz"], rows)
    return pa.table(
        {
            "either": (one | other).astype(np.int8),
            "one": one.astype(np.int8),
            "other": other.astype(np.int8),
            "ward": ward,
            "wing": np.array(["DE", "DE", "FR", "BE"])[[["Ulm", "Kiel", "Lyon", "Metz"].index(c) for c in ward]],
            "notes": [f"patient {n} said {n * 7 % 13} words about the weather" for n in range(rows)],
        }
    )


def test_relations_are_proposed_commented_out_and_valid_once_they_are_not(tmp_path):
    data = write_shards(related(), tmp_path / "d", 3)
    said = list(write_job(str(data), tmp_path / "job.yaml", None))
    assert any(line == "on all rows: either = one or other" for line in said)
    assert any("'notes': free text" in line for line in said)
    text = (tmp_path / "job.yaml").read_text()
    assert "constraints" not in yaml.safe_load(text)
    head, _, comments = text.partition("# # Relations")
    uncommented = head + "".join(line[2:] + "\n" for line in ("# # Relations" + comments).splitlines())
    declared = Job.parse(yaml.safe_load(uncommented)).constraints
    columns = [set(one.parameters["column_names"]) for one in declared]
    assert {"either", "one", "other"} in columns and {"ward", "wing"} in columns
    assert "(seen on" in comments


def test_column_names_that_are_no_names_make_a_job_all_the_same(tmp_path):
    names = ["a\"b'c", "new\nline", "null\0and\x85next", "../up", "<script>alert(1)</script> 😀", "  "]
    data = write_shards(related().rename_columns(names), tmp_path / "d", 1)
    said = list(write_job(str(data), tmp_path / "job.yaml", str(tmp_path / "run")))
    assert not any("\n" in line or "\0" in line for line in said)
    run = plan_job(Job.load(tmp_path / "job.yaml"))
    assert run.plan.schema.names == names
    head, _, comments = (tmp_path / "job.yaml").read_text(encoding="utf-8").partition("# # Relations")
    uncommented = head + "".join(line[2:] + "\n" for line in ("# # Relations" + comments).split("\n"))
    declared = [set(one.parameters["column_names"]) for one in Job.parse(yaml.safe_load(uncommented)).constraints]
    assert set(names[:3]) in declared and {names[3], names[4]} in declared


def test_a_relation_that_one_row_of_the_shards_breaks_is_not_proposed(tmp_path):
    table = related()
    wing = table["wing"].to_pylist()
    wing[700] = "FR" if wing[700] == "DE" else "DE"
    data = write_shards(table.set_column(4, "wing", [wing]), tmp_path / "d", 3)
    list(write_job(str(data), tmp_path / "job.yaml", None))
    assert '"wing"' not in (tmp_path / "job.yaml").read_text()


def config(folder: Path, **changes) -> Path:
    block = {
        "data_path": "patients.xlsx",
        "primary_key": "ID",
        "regex_primary_key": "P-[0-9]{6}",
        "epochs": 7,
        "batch_size": 100,
        "num_rows": 500,
        "Anonymization": {
            "active": True,
            "name_of_the_fields": ["patient", "mail"],
            "category_of_the_fields": ["name", "email"],
        },
        "field_distributions": {"age": "gaussian", "dose": "gamma"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"models": {"active": "CopulaGAN", "CopulaGAN": {**block, **changes}}}))
    return path


def test_an_old_configuration_becomes_a_job_of_its_excel_table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "ID": [f"X{n}" for n in range(60)],
            "patient": [f"Ottokar {n}" for n in range(60)],
            "mail": [f"o{n}@example.org" for n in range(60)],
            "age": rng.integers(20, 90, 60),
            "dose": rng.gamma(2, 3, 60).round(2),
        }
    )
    frame.to_excel(tmp_path / "patients.xlsx", index=False)
    arguments = ["init", "--from-config", str(config(tmp_path)), "-o", str(tmp_path / "job.yaml")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    job = Job.load(tmp_path / "job.yaml")
    model = job.models["copulagan"]
    assert model.options == {
        "epochs": 7,
        "batch_size": 100,
        "numerical_distributions": {"age": "norm", "dose": "gamma"},
    }
    assert job.sample.rows == 500 and job.anonymize == {"patient": "name", "mail": "email"}
    (table,) = json.loads(Path(job.metadata).read_text())["tables"].values()
    assert table["primary_key"] == "ID"
    assert table["columns"]["ID"] == {"sdtype": "id", "regex_format": "P-[0-9]{6}"}
    assert sorted(p.name for p in Path(job.input).iterdir()) == ["part-00000.parquet"]


def test_the_first_of_several_sheets_and_numeric_distributions_only(tmp_path):
    frame = pd.DataFrame({"ID": [f"P-{n:06d}" for n in range(60)], "patient": ["x"] * 60, "mail": ["y"] * 60})
    frame["sex"], frame["dose"] = np.random.default_rng(0).choice(["f", "m"], 60), np.linspace(1, 9, 60)
    with pd.ExcelWriter(tmp_path / "patients.xlsx") as book:
        frame.to_excel(book, sheet_name="Data", index=False)
        frame.head(2).to_excel(book, sheet_name="Legend", index=False)
    kinds = {"active": True, "name_of_the_fields": ["patient", "mail"], "category_of_the_fields": ["name", ["email"]]}
    changed = config(tmp_path, Anonymization=kinds, field_distributions={"sex": "gaussian", "dose": "gamma"})
    arguments = ["init", "--from-config", str(changed), "-o", str(tmp_path / "job.yaml")]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "has 2 sheets: the first, 'Data', is taken" in result.output
    assert "column 'sex' is 'categorical': its distribution is left out" in result.output
    assert CliRunner().invoke(app, [*arguments, "--force"], catch_exceptions=False).exit_code == 0
    wrong = str(config(tmp_path, data_path=str(tmp_path / "patients.xlsx"), primary_key="Id"))
    again = CliRunner().invoke(app, ["init", "--from-config", wrong, "-o", str(tmp_path / "other.yaml")])
    assert again.exit_code != 0 and not (tmp_path / "other.data").exists()
    job = Job.load(tmp_path / "job.yaml")
    assert job.models["copulagan"].options["numerical_distributions"] == {"dose": "gamma"}
    assert job.anonymize == {"patient": "name", "mail": "email"}
    plan_job(Job.parse({**job.to_dict(), "output": str(tmp_path / "run")}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"data_path": None}, "data_path is missing"),
        ({"field_distributions": {"age": "gama"}}, "did you mean 'gamma'"),
        (
            {"Anonymization": {"active": True, "name_of_the_fields": ["a", "b"], "category_of_the_fields": "name"}},
            "2 fields are named, but 1",
        ),
        ({"Anonymization": {"activ": True}}, "did you mean 'active'"),
    ],
)
def test_a_setting_that_cannot_be_kept_is_an_error(tmp_path, changes, words):
    with pytest.raises(JobError, match=words):
        read_old(config(tmp_path, **changes))


def test_anonymization_that_is_switched_off_is_off(tmp_path):
    off = {"active": False, "name_of_the_fields": ["patient"], "category_of_the_fields": ["name"]}
    assert read_old(config(tmp_path, Anonymization=off)).anonymize == {}


def test_a_person_is_no_measurement_and_no_matched_set(tmp_path):
    """A participant's number without repeats says that each row is a person; an id that repeats seldom is none."""
    rng = np.random.default_rng(3)
    table = pa.table(
        {
            "PID": rng.permutation(np.arange(100_034, 100_034 + 7 * 800, 7)),
            "case.id": [f"K{n // 4:05d}" for n in range(800)],
            "titre": [f"{x:.3f} U" for x in rng.gamma(2, 2, 800)],
            "Birth.outcome": rng.choice(["live birth", "stillbirth"], 800),
            "clinic_name": rng.choice([f"clinic {k}" for k in range(40)], 800),
        }
    )
    said = list(write_job(str(write_shards(table, tmp_path / "d", 2)), tmp_path / "job.yaml", None))
    assert "person" not in yaml.safe_load((tmp_path / "job.yaml").read_text())
    assert not any("Birth.outcome" in line or "clinic_name" in line for line in said)

    without = table.drop_columns(["PID", "case.id"])
    said = list(write_job(str(write_shards(without, tmp_path / "e", 2)), tmp_path / "two.yaml", None))
    assert "person" not in yaml.safe_load((tmp_path / "two.yaml").read_text())


def test_a_column_of_mostly_rare_categories_is_named(tmp_path):
    """Most of the categories are rare, and would be lost without a word."""
    rng = np.random.default_rng(4)
    words = [f"area {n}" for n in rng.integers(1, 300, 900)]
    begun = [word if rng.random() < 0.6 else "north" if rng.random() < 0.5 else "south" for word in words]
    table = pa.table({"begun": begun, "ward": rng.choice(["A", "B"], 900)})
    said = list(write_job(str(write_shards(table, tmp_path / "d", 2)), tmp_path / "job.yaml", None))
    assert any("'begun'" in line and "fewer than 5 rows" in line for line in said)
    assert not any("'ward'" in line for line in said)


def test_a_table_of_few_persons_is_told_before_it_is_run(tmp_path):
    rng = np.random.default_rng(5)
    table = pa.table({"USUBJID": [f"01-{701 + n % 9}-{1000 + n % 9}" for n in range(240)], "value": rng.random(240)})
    said = list(write_job(str(write_shards(table, tmp_path / "d", 1)), tmp_path / "job.yaml", None))
    assert any(line.startswith("only 9 persons") and "most columns cannot be" in line for line in said)
    assert "701" not in (tmp_path / "job.metadata.json").read_text()


def test_a_table_of_too_few_persons_is_told_that_it_will_be_refused(tmp_path):
    rng = np.random.default_rng(5)
    columns = {"USUBJID": [f"01-{1000 + n % 4}" for n in range(240)], "drug": rng.choice(["A", "B"], 240)}
    said = list(write_job(str(write_shards(pa.table(columns), tmp_path / "d", 1)), tmp_path / "job.yaml", None))
    (line,) = [line for line in said if line.startswith("only 4 persons")]
    assert "`shardsynth run` will refuse this table" in line and "job without `person:`" in line


def test_counts_that_lie_below_each_other_are_numbers_in_order(tmp_path):
    """Visits that were kept and planned, of a few values: as ordered categories they would not keep their order."""
    rng = np.random.default_rng(6)
    planned = rng.integers(1, 7, 800)
    kept = np.maximum(0, planned - np.minimum(rng.poisson(0.6, 800), planned))
    grade = rng.integers(1, 6, 800)
    table = pa.table({"kept": kept, "planned": planned, "grade": grade, "x": rng.normal(size=800)})
    said = list(write_job(str(write_shards(table, tmp_path / "d", 2)), tmp_path / "job.yaml", None))
    assert "on all rows: kept <= planned: kept by the job's constraints" in said
    described = json.loads((tmp_path / "job.metadata.json").read_text())["tables"]["table"]["columns"]
    assert [described[name]["sdtype"] for name in ("kept", "planned", "grade")] == ["numerical", "numerical", "ordinal"]
