from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools import ROOT

from shardsynth.commands.demo import demo_job
from shardsynth.job import FAMILIES, Job
from shardsynth.models.families import NATIVE

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_file_is_a_job_and_runs_on_the_demo_shards(path):
    job = Job.load(path)
    assert job.input == "runs/demo-data"
    assert job.output.startswith("runs/")


def test_each_family_has_a_job_of_its_own():
    assert {path.stem for path in JOBS} == {*FAMILIES, "demo", "all_models"}
    for family in FAMILIES:
        assert [model.model for model in Job.load(f"{JOBS[0].parent}/{family}.yaml").models.values()] == [family]
    assert {model.model for model in Job.load(f"{JOBS[0].parent}/all_models.yaml").models.values()} == set(FAMILIES)


def test_the_demo_job_is_the_demo():
    written = Job.load(JOBS[0].parent / "demo.yaml")
    assert written == demo_job(Path(str(written.input)), Path(written.output))


def test_every_family_has_a_native_engine():
    assert set(NATIVE) == set(FAMILIES)
