"""An error that nobody expected names a damaged file among those that the task reads; no others are looked at."""

from __future__ import annotations

import errno

import pyarrow as pa
import pytest

from shardsynth.data.shards import Dataset, Shard
from shardsynth.errors import RunError
from shardsynth.job import Job
from shardsynth.planning.plan import make_plan
from shardsynth.run.artifacts import Artifacts
from shardsynth.run.integrity import damage_is_named
from shardsynth.run.rundir import RunDir

PLAN = make_plan(
    Job.parse(
        {
            "input": "x",
            "output": "y",
            "models": {"gaussian_copula": {}, "tvae": {}},
            "sample": {"rows": 6, "rows_per_shard": 1, "tasks": 3},
        }
    ),
    Dataset((Shard("/s0", 1, 1, (10,)),), pa.schema([pa.field("a", pa.int8())])),
    2,
)


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.fixture
def run(tmp_path) -> RunDir:
    """All that comes before the scores is committed."""
    run = RunDir(tmp_path / "run")
    run.create()
    for task in PLAN.all_tasks():
        if task.stage in ("profile", "profile_merge", "count", "count_merge", "fit", "sample"):
            with run.attempt(task.stage, task.index) as attempt:
                attempt.output(run.root / "out" / f"{task.stage}-{task.index}").write_text("x")
                attempt.commit()
    return run


@pytest.fixture
def looked(monkeypatch) -> list[tuple[str, int]]:
    """Stage and number of the records that are read."""
    tasks: list[tuple[str, int]] = []
    read = RunDir.last_record

    def last_record(self, stage, index):
        tasks.append((stage, index))
        return read(self, stage, index)

    monkeypatch.setattr(RunDir, "last_record", last_record)
    return tasks


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), MemoryError(), OutOfMemoryError()]
)
def test_nothing_is_looked_at_where_the_disk_or_the_memory_is_full(tmp_path, looked, error):
    run = RunDir(tmp_path)
    with pytest.raises(type(error)) as caught, damage_is_named(PLAN, run, PLAN.tasks["score"][0]):
        raise error
    assert caught.value is error and not looked


@pytest.mark.parametrize(
    ("stage", "index", "read"),
    [
        ("sample", 1, [("profile_merge", 0), ("count_merge", 0), ("fit", 0)]),
        ("score", 1, [("profile_merge", 0), ("count_merge", 0), ("fit", 0), ("sample", 1)]),
        ("score", 4, [("profile_merge", 0), ("count_merge", 0), ("fit", 1), ("sample", 4)]),
        ("count_merge", 0, [("profile_merge", 0), ("count", 0)]),
        ("report", 0, [("profile_merge", 0), ("count_merge", 0), ("fit", 0), ("fit", 1), ("merge", 0), ("merge", 1)]),
    ],
)
def test_only_what_the_task_reads_is_looked_at(run, looked, stage, index, read):
    with pytest.raises(ZeroDivisionError), damage_is_named(PLAN, run, PLAN.tasks[stage][index]):
        raise ZeroDivisionError
    assert looked == read
    for of, other in read:
        if of != "merge":
            (run.root / "out" / f"{of}-{other}").write_text("y")
            message = f"{of}-{other}: damaged.*--verify` makes it again"
            with pytest.raises(RunError, match=message), damage_is_named(PLAN, run, PLAN.tasks[stage][index]):
                raise ZeroDivisionError
            (run.root / "out" / f"{of}-{other}").write_text("x")


@pytest.mark.parametrize("text", ["", "[]", '{"all": 3}'])
def test_damaged_ranges_of_any_part_are_named(tmp_path, text):
    run = RunDir(tmp_path / "run")
    run.write_plan("", PLAN.to_json())
    path = run.ranges_file(PLAN.tasks["sample"][0])
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(RunError, match=r"0.json: damaged: not the ranges of columns.*--verify` makes it again"):
        Artifacts(run.root).synthetic_ranges("gaussian_copula")
