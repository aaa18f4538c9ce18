"""Personal data and secrets: what was planted in the input is looked for in everything that a run leaves."""

from __future__ import annotations

import json
import secrets
import struct
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.tables import write_shards

from shardsynth import Job, Run, plan_job, run_job
from shardsynth.api import MAY_LEAVE
from shardsynth.errors import InputError, JobError, MetadataError, RunError
from shardsynth.pipeline.tasks import Worker
from shardsynth.sampling import identifiers
from shardsynth.sampling.personal import BLOCK
from shardsynth.sampling.pseudonyms import pseudonym

HOSPITALS = [f"Klinikum {place}" for place in ("Rotenfels", "Blaustein", "Gruenwald", "Weissach", "Schwarzach")]
NAMES = [f"Ottokar{n:04d} Wundersam" for n in range(600)]
SECRET_MAXIMUM = 98765.4321
SECRET_CATEGORY = "Morbus-Geheimnis"
SECRET_NOTE = "saw patient Zacharias Quittenbaum of Hintertupfing in tears"


def patients(rows: int = 600) -> pa.Table:
    rng = np.random.default_rng(0)
    value = np.round(rng.gamma(2, 50, rows), 1)
    value[7] = SECRET_MAXIMUM
    disease = rng.choice(["AML", "MDS", "CML"], rows).astype(object)
    disease[11] = SECRET_CATEGORY
    notes = [f"visit {n} went well, patient {n} feels {n % 7} of 7 today" for n in range(rows)]
    notes[13] = SECRET_NOTE
    place = rng.choice(5, rows)
    return pa.table(
        {
            "name": NAMES[:rows],
            "mail": [f"ottokar.{n}@wundersam.example" for n in range(rows)],
            "hospital": pa.array([HOSPITALS[p] for p in place]).dictionary_encode(),
            "site": pa.array(place + 770_000_123),
            "disease": disease.tolist(),
            "value": value,
            "notes": notes,
        }
    )


def job(folder: Path, **changes) -> Job:
    plain = {
        "input": str(folder / "shards"),
        "output": str(folder / "run"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 800, "rows_per_shard": 400},
        "evaluate": {"holdout": 0},
        "cluster": {"rows_per_task": 200},
    }
    return Job.parse({**plain, **changes})


def run_here(asked: Job, stages=("profile", "profile_merge", "count", "count_merge", "fit", "sample")) -> Run:
    run = plan_job(asked)
    worker = Worker(run.dir.root)
    for stage in stages:
        for index in range(len(run.plan.tasks[stage])):
            worker.run_task(stage, index)
    return run


def made(run: Run, model: str = "gaussian_copula") -> pa.Table:
    return pa.concat_tables([pq.read_table(run.dir.part(model, n)) for n in range(run.plan.n_parts)])


def contents(root: Path, names=("",)) -> list[tuple[Path, bytes]]:
    """Every file, Parquet decoded to text as well."""
    found = []
    for name in names:
        for path in sorted((root / name).rglob("*")):
            if path.is_file():
                found.append((path, path.read_bytes()))
                if path.suffix == ".parquet":
                    found.append((path, json.dumps(pq.read_table(path).to_pylist(), default=str).encode()))
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    write_shards(patients(), tmp_path / "shards", 3)
    return tmp_path


def key_file(path: Path, key: bytes | None = None) -> str:
    path.write_bytes(secrets.token_bytes(32) if key is None else key)
    path.chmod(0o600)
    return str(path)


def test_planted_secrets_are_in_nothing_that_leaves_with_default_settings(folder):
    """A category seen once, a maximum seen once, a person's own words, names, addresses: the page included."""
    run = run_job(job(folder, models={"gaussian_copula": {}, "tvae": {"epochs": 1}}, anonymize={"name": "name"}))
    planted = [SECRET_CATEGORY, "98765.4", "Quittenbaum", "Hintertupfing", "Wundersam"]
    for path, content in contents(run.dir.root, MAY_LEAVE):
        for secret in planted:
            assert secret.encode() not in content, (path, secret)
        for packed in (struct.pack("<d", SECRET_MAXIMUM), struct.pack("<f", SECRET_MAXIMUM)):
            assert packed not in content, path
    with tarfile.open(run.pack()) as archive:  # what leaves is what was searched
        names = [Path(*Path(member.name).parts[1:]) for member in archive.getmembers()]
    searched = {path.relative_to(run.dir.root) for path, _ in contents(run.dir.root, MAY_LEAVE)}
    assert names and set(names) <= searched
    for path, content in contents(run.dir.root, ("tasks",)):  # records of tasks, which hold counts of rows
        assert not any(secret.encode() in content for secret in planted), path
    public = (run.dir.root / "metadata.json").read_bytes()
    assert not any(secret.encode() in public for secret in planted)
    rows = made(run)
    assert rows["value"].to_numpy().max() < 1000 and len(set(rows["mail"].to_pylist())) > 100


def test_pseudonyms_are_stable_and_nothing_of_a_run_holds_a_value_or_the_key(folder, tmp_path):
    key = secrets.token_bytes(32)
    file = key_file(folder / "key", key)
    asked = {"pseudonymize": {"hospital": file, "site": file}, "anonymize": {"name": "name"}}
    first = run_here(job(folder, **asked))
    second = run_here(job(folder, output=str(tmp_path / "two"), seed=9, cluster={"rows_per_task": 600}, **asked))
    wanted = {pseudonym(key, value) for value in HOSPITALS}
    for run in (first, second):
        rows = made(run)
        assert rows.schema.equals(run.plan.schema)
        assert set(rows["hospital"].to_pylist()) == wanted
        assert set(rows["site"].to_pylist()) <= {pseudonym(key, 770_000_123 + n, number=True) for n in range(5)}
        for path, content in contents(run.dir.root):
            assert b"Klinikum" not in content and key not in content and key.hex().encode() not in content, path
    shares = [np.unique(patients()["hospital"].to_pylist(), return_counts=True)[1] / 600]
    shares.append(np.unique(made(first)["hospital"].to_pylist(), return_counts=True)[1] / 800)
    assert np.abs(np.sort(shares[0]) - np.sort(shares[1])).max() < 0.05
    other = run_here(
        job(folder, output=str(tmp_path / "three"), pseudonymize={"hospital": key_file(folder / "other")}),
    )
    assert not set(made(other)["hospital"].to_pylist()) & wanted


def test_a_key_that_changes_within_a_run_is_noticed(folder):
    file = key_file(folder / "key")
    run = run_here(job(folder, pseudonymize={"hospital": file}), ("profile", "profile_merge"))
    key_file(folder / "key")
    with pytest.raises(RunError, match="key file of pseudonymize changed"):
        Worker(run.dir.root).run_task("count", 0)


def test_wrong_options_are_told_before_any_task(folder):
    readable = key_file(folder / "readable")
    Path(readable).chmod(0o644)
    short = key_file(folder / "short", b"secret")
    for changes, words in (
        ({"pseudonymize": {"hospital": readable}}, "can be read by others .mode 0644.*chmod 600"),
        ({"pseudonymize": {"hospital": short}}, "holds 6 bytes, wanted 16"),
        ({"pseudonymize": {"hospital": str(folder / "none")}}, "cannot be read"),
        ({"pseudonymize": {"value": key_file(folder / "key")}}, "of type double cannot hold pseudonyms"),
        ({"anonymize": {"nmae": "name"}}, "did you mean 'name'"),
        ({"anonymize": {"name": "naem"}}, "did you mean"),
        ({"anonymize": {"hospital": "name"}, "pseudonymize": {"hospital": key_file(folder / "key")}}, "choose one"),
    ):
        with pytest.raises((JobError, MetadataError), match=words):
            plan_job(job(folder, **changes))
    assert not (folder / "run").exists()


def test_formats_and_faker_types_of_the_metadata_are_checked_before_any_task(folder):
    columns = {name: {"sdtype": "categorical"} for name in ("disease", "hospital")}
    columns |= {name: {"sdtype": "numerical"} for name in ("site", "value")}
    columns |= {"name": {"sdtype": "name"}, "mail": {"sdtype": "email"}, "notes": {"sdtype": "unknown"}}
    for changed, words in (
        ({"name": {"sdtype": "naem", "pii": True}}, "'naem' is neither SDV's nor a function of Faker.* mean 'name'"),
        ({"name": {"sdtype": "id", "regex_format": "P[0-9]{2}"}}, "has 100 distinct strings, but 800 rows"),
        ({"name": {"sdtype": "id", "regex_format": "P[0-9"}}, "not a valid regular expression"),
        ({"value": {"sdtype": "company", "pii": True}}, "makes text|cannot be of sdtype"),
    ):
        table = {"columns": {**columns, **changed}}
        (folder / "m.json").write_text(json.dumps({"tables": {"table": table}, "METADATA_SPEC_VERSION": "V2"}))
        with pytest.raises((InputError, MetadataError), match=words):
            plan_job(job(folder, metadata=str(folder / "m.json")))
    assert not (folder / "run").exists()


@pytest.mark.parametrize("engine", ["native", "sdv"])
def test_rows_are_unique_in_a_composite_key_on_any_tasks(folder, engine):
    table = pa.table(
        {
            "patient": [f"P{n // 4:04d}" for n in range(400)],
            "visit": pa.array([n % 4 + 1 for n in range(400)], pa.int8()),
            "age": np.random.default_rng(0).integers(20, 90, 400),
        }
    )
    data = write_shards(table, folder / "visits", 2)
    described = {"patient": {"sdtype": "id"}, "visit": {"sdtype": "id"}, "age": {"sdtype": "numerical"}}
    both = {"columns": described, "primary_key": ["patient", "visit"]}
    (folder / "m.json").write_text(json.dumps({"tables": {"table": both}, "METADATA_SPEC_VERSION": "V2"}))
    models = {"gaussian_copula": {"engine": engine}}
    asked = {"input": str(data), "metadata": str(folder / "m.json"), "models": models}
    run = run_here(job(folder, **asked, sample={"rows": 900, "rows_per_shard": 200}))
    rows = made(run)
    assert rows.schema.equals(run.plan.schema)
    assert len(set(zip(rows["patient"].to_pylist(), rows["visit"].to_pylist()))) == 900
    assert set(rows["visit"].to_pylist()) == {1, 2, 3, 4}

    both["primary_key"] = ["visit", "age"]
    described["visit"] = {"sdtype": "numerical"}
    (folder / "m.json").write_text(json.dumps({"tables": {"table": both}, "METADATA_SPEC_VERSION": "V2"}))
    with pytest.raises(MetadataError, match="its columns are all learned, so that rows would repeat"):
        plan_job(job(folder, **asked, output=str(folder / "other")))


def test_free_text_is_not_learned_without_being_told(folder):
    described = {name: {"sdtype": "categorical"} for name in ("disease", "notes", "hospital")}
    described |= {"name": {"sdtype": "name"}, "mail": {"sdtype": "email"}}
    described |= {name: {"sdtype": "numerical"} for name in ("site", "value")}
    metadata = {"tables": {"table": {"columns": described}}, "METADATA_SPEC_VERSION": "V2"}
    (folder / "m.json").write_text(json.dumps(metadata))
    stages = ("profile", "profile_merge")
    with pytest.raises(MetadataError, match="'notes' is 'categorical' in the metadata, but holds free text"):
        run_here(job(folder, metadata=str(folder / "m.json")), stages)
    run_here(job(folder, output=str(folder / "run2"), metadata=str(folder / "m.json"), free_text=["notes"]), stages)


@pytest.mark.parametrize("sdtype", ["name", "email", "phone_number", "address", "ssn", "company"])
def test_two_hundred_thousand_a_second_on_one_core(sdtype):
    """CPU seconds, the pools of values made anew, as each block has its own."""
    from shardsynth.data.columns import Column

    generator = identifiers.learn(
        Column("c", pa.string(), sdtype, "pii"), pa.array(["x"]), {"unique": sdtype == "email"}
    )
    identifiers.make(generator, pa.string(), 10**9, 1)
    rates = []
    for attempt in range(3):
        started = time.process_time()
        identifiers.make(generator, pa.string(), attempt * 2 * BLOCK, 2 * BLOCK)
        rates.append(2 * BLOCK / (time.process_time() - started))
    assert max(rates) > 200_000
