"""The quick status: tasks by the names of their records, and parts by theirs."""

from __future__ import annotations

import pyarrow as pa
import pytest

from shardsynth.data.shards import Dataset, Shard
from shardsynth.job import Job
from shardsynth.planning.plan import make_plan
from shardsynth.run.committed import recorded
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import temporary_beside, tidy_away

JOB = {"input": "x", "output": "y", "models": {"gaussian_copula": {}, "tvae": {}}}
PLAN = make_plan(
    Job.parse({**JOB, "sample": {"rows": 6, "rows_per_shard": 1, "tasks": 3}}),
    Dataset((Shard("/s0", 1, 1, (10,)),), pa.schema([pa.field("a", pa.int8())])),
    2,
)


@pytest.fixture
def run(tmp_path) -> RunDir:
    """All rows are made: six tasks, of two parts each."""
    run = RunDir(tmp_path / "run")
    run.create()
    for task in PLAN.tasks["sample"]:
        with run.attempt("sample", task.index) as attempt:
            for part in range(*task.parts):
                attempt.output(run.part(task.model, part)).write_text("x")
            attempt.commit()
    return run


def sampled(run: RunDir) -> list[int]:
    return list(recorded(run, PLAN)["sample"])


def test_a_part_in_whose_place_something_else_is_does_not_count(run):
    assert sampled(run) == [0, 1, 2, 3, 4, 5]
    tidy_away(run.part("gaussian_copula", 2))
    run.part("tvae", 0).rename(run.samples("tvae") / "part-00000.parquet.bak")
    assert sampled(run) == [0, 2, 4, 5]


def test_a_part_that_is_being_written_again_does_not_count(run):
    run.part("tvae", 3).unlink()
    temporary_beside(run.part("tvae", 3)).write_text("half")
    assert sampled(run) == [0, 1, 2, 3, 5]


def test_a_part_that_a_kill_left_beside_its_record_counts(run):
    (output,) = [each for each in run.last_record("sample", 4)["outputs"] if each["path"].endswith("3.parquet")]
    run.part("tvae", 3).rename(run.samples("tvae") / output["temporary"])
    assert sampled(run) == [0, 1, 2, 3, 4, 5]
    assert run.committed("sample", 4) is not None and run.part("tvae", 3).exists()


def test_a_record_that_was_set_aside_or_copied_does_not_count(run):
    for name in ("1.json", "4.json"):
        record = run.record("sample", 0).with_name(name)
        record.rename(record.with_name(f"{name[0]}.old.json"))
    run.withdraw("sample", 2)
    run.record("sample", 5).rename(run.record("sample", 5, 1))  # a second generation
    assert sampled(run) == [0, 3, 5]
