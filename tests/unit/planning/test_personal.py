"""Personal data and secrets: what was planted in the input is looked for in everything that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.here import run_here
from tests.tables import write_shards
from tests.tables.patients import (
    job,
    key_file,
    patients,
)

from shardsynth import Job, plan_job
from shardsynth.errors import InputError, JobError, MetadataError


@pytest.fixture
def folder(tmp_path) -> Path:
    write_shards(patients(), tmp_path / "shards", 3)
    return tmp_path


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


def test_free_text_is_not_learned_without_being_told(folder):
    described = {name: {"sdtype": "categorical"} for name in ("disease", "notes", "hospital")}
    described |= {"name": {"sdtype": "name"}, "mail": {"sdtype": "email"}}
    described |= {name: {"sdtype": "numerical"} for name in ("site", "value")}
    metadata = {"tables": {"table": {"columns": described}}, "METADATA_SPEC_VERSION": "V2"}
    (folder / "m.json").write_text(json.dumps(metadata))
    with pytest.raises(MetadataError, match="'notes' is 'categorical' in the metadata, but holds free text"):
        run_here(job(folder, metadata=str(folder / "m.json")), "profile_merge")
    run_here(
        job(folder, output=str(folder / "run2"), metadata=str(folder / "m.json"), free_text=["notes"]), "profile_merge"
    )


@pytest.mark.parametrize("visits", [1, 6])
def test_a_complete_column_of_which_each_value_is_one_persons_is_refused(visits: int) -> None:
    from shardsynth.planning.personal import refuse_all_rare
    from shardsynth.summaries.profile import Profile, ProfileOptions

    people = np.repeat(np.arange(30, dtype=np.uint64), visits)
    table = pa.table({"room": [f"room {p // (1 if visits > 1 else 6)}" for p in people.tolist()]})
    profile = Profile.empty(table.schema, ProfileOptions(total_rows=len(people)))
    profile.update(table.to_batches()[0], 0)
    metadata = {"tables": {"table": {"columns": {"room": {"sdtype": "categorical"}}}}}
    job = Job.parse({"input": "x", "output": "y", "models": ["gaussian_copula"], "person": "p"})
    refuse_all_rare(metadata, profile, job)  # by rows, each room has six
    if visits == 1:
        refuse_all_rare(metadata, profile, job, people)
        return
    with pytest.raises(MetadataError, match="each of its 30 values is of fewer than 5 persons"):
        refuse_all_rare(metadata, profile, job, people)
