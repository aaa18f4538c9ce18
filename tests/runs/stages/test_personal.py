"""Personal data and secrets: what was planted in the input is looked for in everything that a run leaves."""

from __future__ import annotations

import json
import secrets
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.here import run_here
from tests.tables import write_shards
from tests.tables.patients import (
    HOSPITALS,
    SECRET_CATEGORY,
    SECRET_MAXIMUM,
    job,
    key_file,
    patients,
)

from shardsynth import Run, plan_job
from shardsynth.errors import MetadataError, RunError
from shardsynth.run.pack import MAY_LEAVE
from shardsynth.sampling.pseudonyms import pseudonym
from shardsynth.stages.task import TaskRunner


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


def test_planted_secrets_are_in_nothing_that_leaves_with_default_settings(folder):
    """A category seen once, a maximum seen once, a person's own words, names, addresses: the page included."""
    run = run_here(job(folder, models={"gaussian_copula": {}, "tvae": {"epochs": 1}}, anonymize={"name": "name"}))
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
    first = run_here(job(folder, **asked), "sample")
    second = run_here(
        job(folder, output=str(tmp_path / "two"), seed=9, cluster={"rows_per_task": 600}, **asked), "sample"
    )
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
        job(folder, output=str(tmp_path / "three"), pseudonymize={"hospital": key_file(folder / "other")}), "sample"
    )
    assert not set(made(other)["hospital"].to_pylist()) & wanted


def test_a_key_that_changes_within_a_run_is_noticed(folder):
    file = key_file(folder / "key")
    run = run_here(job(folder, pseudonymize={"hospital": file}), "profile_merge")
    key_file(folder / "key")
    with pytest.raises(RunError, match="key file of pseudonymize changed"):
        TaskRunner(run.dir.root).run_task("count", 0)


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
    run = run_here(job(folder, **asked, sample={"rows": 900, "rows_per_shard": 200}), "sample")
    rows = made(run)
    assert rows.schema.equals(run.plan.schema)
    assert len(set(zip(rows["patient"].to_pylist(), rows["visit"].to_pylist()))) == 900
    assert set(rows["visit"].to_pylist()) == {1, 2, 3, 4}

    both["primary_key"] = ["visit", "age"]
    described["visit"] = {"sdtype": "numerical"}
    (folder / "m.json").write_text(json.dumps({"tables": {"table": both}, "METADATA_SPEC_VERSION": "V2"}))
    with pytest.raises(MetadataError, match="all its columns are learned, so rows would repeat"):
        plan_job(job(folder, **asked, output=str(folder / "other")))
