"""The status as text and as JSON, from figures as large as a run's may be."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from shardsynth.executors.slurm.causes import Cause
from shardsynth.executors.slurm.estimate import estimate_lines
from shardsynth.executors.slurm.packing import Array
from shardsynth.executors.slurm.site import Site
from shardsynth.executors.status import RunStatus, StageStatus
from shardsynth.executors.status_json import status_record
from shardsynth.executors.watch import status_lines
from shardsynth.job import STAGES, Cluster, Resources
from shardsynth.planning.plan import Task
from shardsynth.run.rundir import RunDir

PLAN = SimpleNamespace(tasks={stage: [Task(stage, index, "tvae") for index in range(4)] for stage in STAGES})


def status(submitted, **counts):
    return RunStatus(submitted, {stage: StageStatus(**counts) for stage in STAGES})


LARGEST = {
    "tasks": 100_000, "done": 99_999, "running": 99_999, "pending": 100_000, "failed": 99_999, "requeued": 12_345,
    "rows": 10**12, "seconds": 1e9, "rows_per_second": 999_999_999.0, "eta_seconds": 359_999.0,
}  # fmt: skip


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("counts", [LARGEST, {**LARGEST, "rows": 999_999, "rows_per_second": 999_999.4}, {"tasks": 1}])
def test_the_table_fits_80_columns_and_its_columns_stand_apart(tmp_path, submitted, counts):
    lines = status_lines(RunDir(tmp_path), PLAN, status(submitted, **counts))
    table = lines[: 1 + len(STAGES)]
    assert max(map(len, table)) <= 80
    if "done" in counts:
        words = [line.replace(" M", "M").replace(" h ", "h").split() for line in table[1:]]
        assert {len(row) for row in words} == {8 if submitted else 4}, "no two columns touch"


def test_requeued_elements_stand_below_the_table(tmp_path):
    told = status(True, tasks=4, done=1, pending=3)
    told.stages["sample"].requeued = 3
    assert "requeued by Slurm: sample 3" in status_lines(RunDir(tmp_path), PLAN, told)


def test_json_says_what_the_text_says(tmp_path):
    told = status(True, tasks=4, done=1, failed=2)
    told.causes = {("sample", index): Cause("oom", "out of memory: ask for more") for index in (1, 2)}
    told.errors = {("score", 0): "its own words"}
    record = json.loads(json.dumps(status_record(RunDir(tmp_path), PLAN, told)))
    assert record["submitted"] and not record["done"] and not record["live"]
    assert record["stages"]["sample"] | {"tasks": 4, "done": 1} == record["stages"]["sample"]
    first, second = record["failures"]
    assert (first["stage"], first["model"], first["tasks"], first["kind"]) == ("sample", "tvae", [1, 2], "oom")
    assert "resume RUN --set cluster.stages.sample.mem_gb=N" in first["reason"]
    assert (second["stage"], second["tasks"], second["kind"], second["reason"]) == ("score", [0], "", "its own words")


def test_the_table_before_submit_fits_80_columns():
    job = SimpleNamespace(cluster=Cluster(), sample=SimpleNamespace(rows_per_shard=10**5))
    shards = [SimpleNamespace(size=10**15)]
    tasks = {stage: [Task(stage, 0, "tvae", parts=(0, 100_000))] for stage in STAGES}
    plan = SimpleNamespace(
        job=job, shards=shards, input_rows=10**10, rows=10**10, part_size=10**5, tables=None, tasks=tasks
    )
    arrays = [Array(stage, "tvae", ((0,),), 3.6e8) for stage in STAGES]
    lines = estimate_lines(plan, arrays, Site(defaults=Resources(gpus=1)))
    assert len(lines) == 1 + len(STAGES) and max(map(len, lines)) <= 80, "\n".join(lines)
