from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from shardsynth.job import FAMILIES, Job
from shardsynth.models.native import NATIVE
from shardsynth.pipeline.demo import demo_job

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.yaml"))


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


def test_options_are_ones_that_the_engine_knows():
    single_table = pytest.importorskip("sdv.single_table")
    synthesizers = {
        "gaussian_copula": single_table.GaussianCopulaSynthesizer,
        "copulagan": single_table.CopulaGANSynthesizer,
        "ctgan": single_table.CTGANSynthesizer,
        "tvae": single_table.TVAESynthesizer,
    }
    for path in JOBS:
        for model in Job.load(path).models.values():
            if model.engine == "native":
                NATIVE[model.model].check(model.options)
                continue
            assert set(model.options) <= set(inspect.signature(synthesizers[model.model]).parameters), path.name


def test_every_family_has_a_native_engine():
    assert set(NATIVE) == set(FAMILIES)
