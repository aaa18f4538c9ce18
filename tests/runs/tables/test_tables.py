"""Whole runs of several tables: they fit together as the real ones do, the same in any number of tasks."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from tests.here import run_here
from tests.tables.cohort import METADATA, cohort, write_cohort
from typer.testing import CliRunner

from shardsynth import Job, Run, run_job
from shardsynth.cli import app
from shardsynth.errors import InputError, JobError, ModelError

TABLES = tuple(METADATA["tables"])
QUICK = {"max_epochs": 2, "embedding": 8, "hidden": 8}


def job(data: Path, output: Path, **changes: object) -> Job:
    return Job.parse(
        {
            "tables": {name: str(data / name) for name in TABLES},
            "output": str(output),
            "metadata": str(data / "metadata.json"),
            "models": {"autoregressive": QUICK},
            "sample": {"rows": 1500, "rows_per_shard": 900},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, cohort(), 2)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run through the command line, from `init` on; its folder."""
    folder = tmp_path_factory.mktemp("made")
    runner = CliRunner()
    shards = [str(data / name) for name in TABLES]
    said = runner.invoke(app, ["init", *shards, "-o", str(folder / "job.yaml"), "--run", str(folder / "run")])
    assert said.exit_code == 0, said.output
    assert "relationship visits.patient -> patients.patient: all its values are keys there" in said.output
    assert "order of visits: seen: a date or time" in said.output
    assert "   └─ labs (" in said.output
    (folder / "said.txt").write_text(said.output)
    settings = [f"models.autoregressive.{key}={value}" for key, value in QUICK.items()]
    settings += ["sample.rows=1500", "sample.rows_per_shard=900", "cluster.workers=1"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    ran = runner.invoke(app, ["run", str(folder / "job.yaml"), *arguments])
    assert ran.exit_code == 0, ran.output
    return folder / "run"


def parts(run: Path, table: str) -> list[Path]:
    return sorted((run / "samples" / "autoregressive" / table).glob("part-*.parquet"))


def test_what_init_guessed_is_what_the_cohort_is(made: Path) -> None:
    metadata = json.loads((made.parent / "job.metadata.json").read_text())
    assert metadata["relationships"] == METADATA["relationships"]
    for name, table in METADATA["tables"].items():
        for key in ("primary_key", "sequence_index"):
            assert metadata["tables"][name].get(key) == table.get(key)
    assert set(yaml.safe_load((made.parent / "job.yaml").read_text())["tables"]) == set(TABLES)


def test_every_part_has_the_schema_of_the_input(data: Path, made: Path) -> None:
    for table in TABLES:
        real = pq.read_schema(data / table / "0.parquet")
        assert len(parts(made, table)) == len(parts(made, "patients")) > 1
        for path in parts(made, table):
            assert pq.read_schema(path).equals(real, check_metadata=True)


def test_a_part_joins_with_the_parts_of_its_number_alone(made: Path) -> None:
    keys: dict[str, list[pa.Array]] = {"patients": [], "visits": []}
    for number in range(len(parts(made, "patients"))):
        patients, visits, labs = (pq.read_table(parts(made, table)[number]) for table in TABLES)
        assert pc.all(pc.is_in(visits["patient"], value_set=patients["patient"].combine_chunks())).as_py()
        assert pc.all(pc.is_in(labs["visit"], value_set=visits["visit"].combine_chunks())).as_py()
        keys["patients"].append(patients["patient"].combine_chunks())
        keys["visits"].append(visits["visit"].combine_chunks())
    for own in keys.values():
        every = pa.concat_arrays(own)
        assert every.null_count == 0 and len(every.unique()) == len(every)
    assert sum(len(own) for own in keys["patients"]) == 1500


def test_what_holds_in_every_real_family_holds_in_every_synthetic_one(made: Path) -> None:
    visits = pa.concat_tables(pq.read_table(path) for path in parts(made, "visits")).to_pandas()
    for _, own in visits.groupby("patient"):
        seen = own["seen"].to_numpy()
        assert (seen[1:] >= seen[:-1]).all()
        assert own["site"].nunique() == 1
    known = visits.dropna(subset=["left"])
    assert (known["left"] >= known["seen"]).all()
    assert visits["seen"].notna().all() and visits["site"].notna().all()
    counts = visits.groupby("patient").size()
    assert len(counts) < 1500 and counts.max() > 1


def sums(run: Path) -> dict[str, str]:
    found = {}
    for path in [*(run / "samples").rglob("part-*.parquet"), *(run / "models").rglob("model.*")]:
        found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_any_sharding_and_any_number_of_tasks_gives_the_same_bytes(data: Path, made: Path, tmp_path: Path) -> None:
    tables = {name: pa.concat_tables(pq.read_table(p) for p in sorted((data / name).iterdir())) for name in TABLES}
    again = tmp_path / "cohort"
    write_cohort(again, tables, 5)
    (again / "metadata.json").write_text((made.parent / "job.metadata.json").read_text())
    sample = {"rows": 1500, "rows_per_shard": 900, "tasks": 3}
    other = job(again, tmp_path / "run", sample=sample, cluster={"rows_per_task": 60})
    run = run_here(other, last="sample")
    assert len(run.plan.tasks["partition"]) > 6 and len(run.plan.tasks["sample"]) == 3
    first = sums(made)
    assert len(first) > 15
    assert sums(tmp_path / "run") == first


def test_the_figures_say_that_the_tables_fit(made: Path) -> None:
    figures = Run(made).metrics("autoregressive")
    for found in figures["integrity"].values():
        assert (found["orphans"], found["repeated"], found["steps_back"]) == (0, 0, 0)
    assert figures["integrity"]["visits"]["steps"] > 100
    assert 0.4 < figures["c2st"]["auc"] <= 1.0 and figures["c2st"]["real_halves"]["auc"] < 0.75
    page = (made / "report" / "index.html").read_text()
    assert "└─ labs (" in page and 'href="visits/index.html"' in page
    for table in TABLES:
        assert (made / "report" / table / "index.html").exists()
        own = json.loads((made / "metrics" / "autoregressive" / f"{table}.json").read_text())
        assert own["rows"]["synthetic"] == sum(pq.read_metadata(path).num_rows for path in parts(made, table))
        manifest = json.loads((made / "samples" / "autoregressive" / table / "_manifest.json").read_text())
        assert manifest["rows"] == own["rows"]["synthetic"] and manifest["subjects"] == 1500


def test_a_lost_part_is_made_again(made: Path) -> None:
    victim = parts(made, "labs")[1]
    before = victim.read_bytes()
    victim.unlink()
    again = CliRunner().invoke(app, ["resume", str(made)])
    assert again.exit_code == 0, again.output
    assert victim.read_bytes() == before


def test_the_other_commands_know_several_tables(made: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    before = (made / "report" / "index.html").read_bytes()
    for arguments in (["report", str(made)], ["status", str(made), "--verify"], ["clean", str(made)]):
        said = runner.invoke(app, arguments)
        assert said.exit_code == 0, said.output
    assert (made / "report" / "index.html").read_bytes() == before
    assert not (made / "private" / "gathered").exists()
    packed = runner.invoke(app, ["pack", str(made), "-o", str(tmp_path / "out.tar.gz")])
    assert packed.exit_code == 0, packed.output
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        names = archive.getnames()
    assert not any("private" in name or name.endswith("plan.json") for name in names)
    assert sum(name.endswith(".parquet") and "/samples/" in name for name in names) == 3 * len(parts(made, "labs"))
    assert "all done" in runner.invoke(app, ["status", str(made)]).output


def test_rows_in_time_of_one_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 7, 80)
    table = pa.table(
        {
            "person": np.repeat(np.arange(80), counts),
            "day": np.concatenate([np.cumsum(rng.integers(0, 30, n)) for n in counts]),
            "arm": np.repeat(rng.choice(["a", "b"], 80), counts),
            "dose": rng.integers(1, 4, int(counts.sum())),
        }
    ).take(pa.array(rng.permutation(int(counts.sum()))))
    (tmp_path / "doses").mkdir()
    pq.write_table(table, tmp_path / "doses" / "0.parquet")
    arguments = ["init", str(tmp_path / "doses"), "--sequence-key", "person", "-o", str(tmp_path / "job.yaml")]
    said = CliRunner().invoke(app, [*arguments, "--run", str(tmp_path / "run")])
    assert said.exit_code == 0, said.output
    loaded = Job.load(tmp_path / "job.yaml", [f"models.autoregressive.{k}={v}" for k, v in QUICK.items()])
    run = run_here(loaded)
    assert run.plan.rows == 80
    (path,) = sorted((tmp_path / "run" / "samples" / "autoregressive" / "doses").glob("part-*.parquet"))
    made = pq.read_table(path)
    assert made.schema.equals(table.schema)
    for _, own in made.to_pandas().groupby("person", sort=False):
        assert (np.diff(own["day"]) >= 0).all() and own["arm"].nunique() == 1
    assert len(made["person"].unique()) == 80


def wards_and_tests(data: Path) -> None:
    """Two lists beside the cohort: its wards, with one that nobody was in, and many tests, of which labs have two."""
    wards = pa.table({"ward": ["A", "B", "C", "D"], "text": ["ward a", "ward b", "ward c", "ward d"]})
    tests = pa.table({"test": ["hb", "wbc", *(f"t{n}" for n in range(300))], "unit": ["g/dl"] * 302})
    for name, table in (("wards", wards), ("tests", tests)):
        (data / name).mkdir(parents=True)
        pq.write_table(table.slice(0, 2), data / name / "0.parquet")
        pq.write_table(table.slice(2), data / name / "1.parquet")


def test_lists_are_copied_and_what_names_them_is_there(tmp_path: Path) -> None:
    data = tmp_path / "d"
    write_cohort(data, cohort(120), 2)
    wards_and_tests(data)
    runner, names = CliRunner(), [*TABLES, "wards", "tests"]
    arguments = [
        "init",
        *(str(data / n) for n in names),
        "-o",
        str(tmp_path / "job.yaml"),
        "--run",
        str(tmp_path / "r"),
    ]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert "wards is a list that visits.ward names: it is copied (`copy: true`)" in said.output
    assert "tests is a list that labs.test names" in said.output
    assert "wards (4 rows): copied, named by visits.ward" in said.output
    assert [n for n, e in yaml.safe_load((tmp_path / "job.yaml").read_text())["tables"].items() if e.get("copy")] == [
        "wards",
        "tests",
    ]
    loaded = Job.load(tmp_path / "job.yaml", [f"models.autoregressive.{k}={v}" for k, v in QUICK.items()])
    run = run_here(loaded)
    for name in ("wards", "tests"):
        made = run.samples("autoregressive", name).to_table()
        assert made.equals(pa.concat_tables(pq.read_table(data / name / f"{k}.parquet") for k in range(2)))
    visits, labs = (run.samples("autoregressive", name).to_table() for name in ("visits", "labs"))
    assert set(visits["ward"].to_pylist()) <= {"A", "B", "C"} and set(labs["test"].to_pylist()) <= {"hb", "wbc"}
    published = json.loads((tmp_path / "r" / "metadata.json").read_text())
    assert set(published["tables"]) == set(names) and len(published["relationships"]) == 4
    # A value that the list lacks is an error.
    pq.write_table(pa.table({"ward": ["A", "B"], "text": ["a", "b"]}), data / "wards" / "0.parquet")
    (data / "wards" / "1.parquet").unlink()
    again = Job.load(tmp_path / "job.yaml", [f"output={tmp_path / 'again'}"])
    with pytest.raises(
        InputError, match=r"table visits: \d+ rows have a 'ward' that is not in wards; complete the list"
    ):
        run_here(again, last="gather_merge")


def test_orphans_are_an_error_or_dropped(data: Path, tmp_path: Path) -> None:
    tables = cohort(60)
    tables["labs"] = tables["labs"].slice(0, 50).set_column(0, "visit", pa.array([7, None] + [1001] * 48, pa.int32()))
    write_cohort(tmp_path / "d", tables, 1)
    with pytest.raises(
        InputError, match=r"table labs: 1 rows have a 'visit' that is not in visits or leads to no subject, and 1 have"
    ):
        run_here(job(tmp_path / "d", tmp_path / "refused"), last="gather_merge")
    entries = {name: {"input": str(tmp_path / "d" / name), "orphans": "drop"} for name in TABLES}
    run_here(job(tmp_path / "d", tmp_path / "run", tables=entries), last="gather_merge")
    found = json.loads((tmp_path / "run" / "private" / "summary" / "tables.json").read_text())
    assert found["left_out"]["labs"] == {"unnamed": 1, "unknown": 1}
    assert sum(found["counts"]["labs"]) == 48


def test_rows_that_name_no_owner_keep_their_rate(tmp_path: Path) -> None:
    tables = cohort(200)
    labs = tables["labs"]
    own = labs["visit"].to_pylist()
    nameless = [None if place % 5 == 0 else visit for place, visit in enumerate(own)]
    tables["labs"] = labs.set_column(0, "visit", pa.array(nameless, pa.int32()))
    write_cohort(tmp_path / "d", tables, 1)
    sample = {"rows": 3000, "rows_per_shard": 900}
    run = run_here(job(tmp_path / "d", tmp_path / "run", sample=sample), last="merge")
    made = [pq.read_table(path) for path in parts(tmp_path / "run", "labs")]
    shares = [part["visit"].null_count / len(part) for part in made]
    assert len(made) > 2 and all(0.15 < share < 0.25 for share in shares)
    assert sum(len(part) for part in made) == run.samples("autoregressive", "labs").rows
    assert abs(pa.concat_tables(made)["value"].null_count / sum(map(len, made))) == 0
    visits = pa.concat_tables(pq.read_table(path) for path in parts(tmp_path / "run", "visits"))
    assert len(visits["visit"].unique()) == len(visits)
    assert run.metrics("autoregressive")["integrity"]["labs"]["orphans"] == 0
    # The same rows, however the work is cut.
    cut = {**sample, "rows_per_shard": 900, "tasks": 2}
    run_here(job(tmp_path / "d", tmp_path / "again", sample=cut, cluster={"rows_per_task": 99}), last="sample")
    assert sums(tmp_path / "again") == sums(tmp_path / "run")


def test_a_key_that_repeats_is_an_error(tmp_path: Path) -> None:
    tables = cohort(30)
    tables["patients"] = pa.concat_tables([tables["patients"], tables["patients"].slice(0, 2)])
    write_cohort(tmp_path / "d", tables, 1)
    with pytest.raises(
        InputError, match=r"table patients: the primary_key 'patient' repeats, or is missing, on 2 rows"
    ):
        run_here(job(tmp_path / "d", tmp_path / "run"), last="gather_merge")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"models": {"gaussian_copula": {}}}, "gaussian_copula .* cannot be used with `tables:` so far"),
        ({"models": {"autoregressive": {"replicas": 2}}}, r"models.autoregressive.replicas: cannot be used"),
        ({"constraints": [{"class_name": "Inequality"}]}, "constraints: cannot be used with `tables:` so far"),
        ({"sample": {"conditions": [{"where": "sex == 'F'", "share": 1}]}}, "sample.conditions: cannot be used"),
        ({"person": "patient"}, "person: leave it out"),
        ({"metadata": None}, "tables: need `metadata`"),
        ({"privacy": {"epsilon": 1.0}}, "privacy: cannot be used with `tables:` so far"),
        ({"models": {"ctgan": {"engine": "sdv"}}}, "ctgan .engine sdv. cannot be used with `tables:` so far"),
        ({"evaluate": {"target": "age"}}, "evaluate.target: cannot be used with `tables:` so far"),
        ({"pseudonymize": {"patient": "id"}}, "pseudonymize: cannot be used with `tables:` so far"),
        ({"sample": {"rows": 5, "coalesce_mb": 100}}, "sample.coalesce_mb: cannot be used with `tables:` so far"),
        ({"learn_personal": ["wrad"]}, "learn_personal: no table has a column 'wrad'; did you mean 'ward'"),
        ({"input": "somewhere"}, "input and tables exclude each other"),
    ],
)
def test_what_several_tables_cannot_have_yet_is_said_at_once(
    data: Path, tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    with pytest.raises(JobError, match=why):
        run_job(job(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_model_makes_more_subjects_as_often_as_it_is_asked(made: Path, tmp_path: Path) -> None:
    model, output = str(made / "models" / "autoregressive"), tmp_path / "more"
    runner = CliRunner()
    arguments = ["sample", model, "-o", str(output), "--rows", "1300", "--rows-per-shard", "900", "--continue"]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert "subjects 1,500 to 2,800 of the model's stream" in said.output
    keys: dict[str, set[int]] = {}
    for table, schema in ((t, pq.read_schema(parts(made, t)[0])) for t in TABLES):
        files = sorted((output / table).glob("part-*.parquet"))
        assert len(files) > 1 and all(pq.read_schema(path).equals(schema, check_metadata=True) for path in files)
        manifest = json.loads((output / table / "_manifest.json").read_text())
        assert manifest["subjects"] == 1300 and manifest["first_subject"] == 1500
        for path, entry in zip(files, manifest["parts"]):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        own = pa.concat_tables(pq.read_table(path) for path in files)
        assert len(own) == manifest["rows"]
        if table != "labs":
            keys[table] = set(own[table[:-1]].to_pylist())
    before = {p for path in parts(made, "patients") for p in pq.read_table(path)["patient"].to_pylist()}
    assert len(keys["patients"]) == 1300 and not keys["patients"] & before
    # Stopped after some parts, the same command goes on; asked again, it is refused.
    sums = {path: path.read_bytes() for path in output.rglob("part-*.parquet")}
    (output / "visits" / "part-00001.parquet").unlink()
    (output / "visits" / "_manifest.json").unlink()
    assert runner.invoke(app, arguments).exit_code == 0
    assert {path: path.read_bytes() for path in output.rglob("part-*.parquet")} == sums
    again = runner.invoke(app, arguments)
    assert "exist already" in str(again.exception)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (["--where", "sex == 'F'"], "--where: a model of several tables does not take it so far"),
        (["--balance", "sex"], "--balance: a model of several tables"),
        (["--temperature", "0.5"], "--temperature: a model of several tables"),
        (["--submit"], "--submit: a model of several tables is sampled here"),
    ],
)
def test_what_cannot_be_asked_of_such_a_model_is_said(made: Path, tmp_path: Path, option: list[str], why: str) -> None:
    model = str(made / "models" / "autoregressive")
    said = CliRunner().invoke(app, ["sample", model, "-o", str(tmp_path / "x"), "--rows", "5", *option])
    assert why in str(said.exception)
    assert not (tmp_path / "x").exists()


def test_such_a_model_is_not_exported(made: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["export", str(made / "models" / "autoregressive"), str(tmp_path / "x.pkl")])
    assert "a model of several tables cannot be exported: SDV's HMA" in str(said.exception)


def test_other_commands_say_that_the_model_is_of_several_tables(made: Path) -> None:
    from shardsynth import load_model

    with pytest.raises(ModelError, match="of several tables"):
        load_model(made / "models" / "autoregressive").sample(3)
