from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from shardsynth.api import Run, plan_job
from shardsynth.errors import JobError
from shardsynth.job import Job


def job(tmp_path, **cluster):
    if not (tmp_path / "shard.parquet").exists():
        pq.write_table(pa.table({"a": list(range(20))}), tmp_path / "shard.parquet")
    (tmp_path / "m.json").write_text(
        json.dumps(
            {
                "METADATA_SPEC_VERSION": "V1",
                "tables": {"t": {"columns": {"a": {"sdtype": "numerical"}}}},
                "relationships": [],
            }
        )
    )
    return Job.parse(
        {
            "input": str(tmp_path / "shard.parquet"),
            "output": str(tmp_path / "run"),
            "metadata": str(tmp_path / "m.json"),
            "models": {"tvae": {}},
            "cluster": {"workers": 2, **cluster},
        }
    )


def test_a_change_is_kept_in_the_run_and_nothing_else_of_it_changes(tmp_path):
    run = plan_job(job(tmp_path, defaults={"partition": "cpu"}))
    before = run.dir.read_plan()
    assert run.change(["cluster.stages.sample.mem_gb=16", "cluster.defaults.account=lab"]) == [
        "cluster.defaults.account: not set -> lab",
        "cluster.stages.sample.mem_gb: not set -> 16.0",
    ]
    after = Run(run.dir.root)
    assert after.job.cluster.stages["sample"].mem_gb == 16
    assert after.job.cluster.defaults.partition == "cpu"
    assert after.plan.tasks == run.plan.tasks
    now = run.dir.read_plan()
    assert {key for key in now if now[key] != before[key]} == {"job"}
    assert yaml.safe_load(run.dir.job_file.read_text())["cluster"] == now["job"]["cluster"]
    assert after.change(["cluster.stages.sample.mem_gb=16"]) == []


def test_a_job_that_is_planned_again_brings_its_own_cluster_section(tmp_path):
    plan_job(job(tmp_path, stages={"sample": {"mem_gb": 4}}))
    again = plan_job(job(tmp_path, stages={"sample": {"mem_gb": 8}}, rows_per_task=1000))
    assert again.job.cluster.stages["sample"].mem_gb == 8
    assert again.job.cluster.rows_per_task == 2_000_000, "the tasks were cut by it"


def test_a_training_keeps_its_threads(tmp_path):
    run = plan_job(job(tmp_path))
    lines = run.change(["cluster.stages.fit.cpus=8"])
    assert lines[-1] == "a training keeps the threads of its plan, on which the model's bytes depend"
    assert [task.threads for task in Run(run.dir.root).plan.tasks["fit"]] == [2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sample.rows=5",
            "--set sample.rows: a run that exists can only change keys of `cluster`; every other key was",
        ),
        ("seed=5", "--set seed: a run that exists can only change keys of `cluster`"),
        ("access=group", "--set access: a run that exists can only change keys of `cluster`"),
        ("cluster.rows_per_task=5", "rows_per_task: has cut the tasks of this run already"),
        ("cluster=5", "--set cluster: names no key of it"),
        ("cluster.stages.sampel.mem_gb=5", "no stage is called 'sampel'.*sample"),
        ("cluster.stages.sample.mem=5", "unknown key 'cluster.stages.sample.mem'"),
        ("cluster.stages.sample.mem_gb", "wanted KEY=VALUE"),
    ],
)
def test_what_cannot_be_changed_is_one_clear_error(tmp_path, override, message):
    run = plan_job(job(tmp_path))
    with pytest.raises(JobError, match=message):
        run.change([override])


def test_a_run_of_an_older_version_whose_job_would_be_refused_now_can_change_too(tmp_path):
    run = plan_job(job(tmp_path))
    data = run.dir.read_plan()
    data["job"]["evaluate"]["group"] = "a"
    run.dir.plan_file.write_text(json.dumps(data))
    assert Run(run.dir.root).change(["cluster.defaults.account=lab"]) == ["cluster.defaults.account: not set -> lab"]
    assert Run(run.dir.root).job.cluster.defaults.account == "lab"
