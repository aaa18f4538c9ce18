"""The same bytes however the work is cut and whoever runs it."""

from __future__ import annotations

import shutil

import pytest
from tests.finished import ALL_MODELS, checksums, small_job
from tests.here import go_on_here, run_here
from tests.tables import mixed_table, write_shards

from shardsynth import plan_job


def test_detected_in_the_run_or_by_init_the_same(finished, tmp_path):
    data = write_shards(mixed_table(), tmp_path / "d", 3)
    run = run_here(small_job(data, tmp_path / "r"))
    assert checksums(run)["gaussian_copula"] == checksums(finished)["gaussian_copula"]
    assert (run.dir.root / "metadata.json").read_text() == (finished.dir.root / "metadata.json").read_text()


def test_one_task_or_seven_the_same_bytes(finished, small_shards, tmp_path):
    other = small_job(
        small_shards, tmp_path / "r", models=ALL_MODELS, sample={"rows": 500, "rows_per_shard": 100, "tasks": 1}
    )
    plan = plan_job(other)
    # The deep models promise the same bytes for the same model file: take the fitted ones along.
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        assert plan.plan.tasks[stage] == finished.plan.tasks[stage]
    for name in ("models", "private", "tasks", "metrics"):
        shutil.copytree(finished.dir.root / name, tmp_path / "r" / name, dirs_exist_ok=True)
    for stage in ("sample", "score", "merge", "report"):
        shutil.rmtree(tmp_path / "r" / "tasks" / stage)
    assert checksums(go_on_here(plan)) == checksums(finished)


@pytest.mark.parametrize(("shards", "rows_per_task"), [(1, 10_000), (13, 50)])
def test_one_input_shard_or_thirteen_the_same_bytes(finished, detected, tmp_path, shards, rows_per_task):
    shutil.copy(detected, tmp_path / "metadata.json")
    data = write_shards(mixed_table(), tmp_path / "d", shards)
    run = run_here(small_job(data, tmp_path / "r", cluster={"rows_per_task": rows_per_task}))
    assert checksums(run)["gaussian_copula"] == checksums(finished)["gaussian_copula"]


def test_submitits_executors_run_the_same_plan(finished, small_shards, tmp_path):
    """From the fit on: each element is a process of its own that imports everything anew."""
    for executor in ("submitit", "debug"):
        cluster = {"rows_per_task": 100, "executor": executor}
        run = run_here(small_job(small_shards, tmp_path / executor, cluster=cluster), "count_merge")
        assert checksums(run.resume())["gaussian_copula"] == checksums(finished)["gaussian_copula"]
