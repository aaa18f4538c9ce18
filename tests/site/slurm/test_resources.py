"""What a run asks Slurm for: CPUs of a fit that do not depend on the login node."""

from __future__ import annotations

import os
import re

import pytest
from tests.site.slurm.cluster import Cluster
from tests.site.slurm.runs import shardsynth
from tests.tools import require

from shardsynth.executors.slurm.submit import plan_for_slurm
from shardsynth.job import Job


@pytest.fixture(scope="module")
def module_large_cluster(tmp_path_factory):
    """Two nodes of eight CPUs; partition `narrow` gives two of a node's."""
    require("slurm")
    cluster = Cluster(
        tmp_path_factory.mktemp("large"),
        nodes=2,
        cpus=8,
        settings="SlurmdParameters=config_overrides",
        partitions="PartitionName=narrow Nodes=n1 MaxCPUsPerNode=2",
    ).start()
    yield cluster
    cluster.stop()


@pytest.fixture
def large_cluster(module_large_cluster, monkeypatch):
    """The test's SLURM_CONF points at it."""
    monkeypatch.setenv("SLURM_CONF", str(module_large_cluster.conf))
    monkeypatch.setenv("PATH", module_large_cluster.environment["PATH"])
    yield module_large_cluster
    module_large_cluster.reset()


def cpus_asked_for_fits(said):
    """CPUs that each fit of a dry run asks for, models in order."""
    scripts = [script for script in said.split("#!/bin/bash")[1:] if "-fit\n" in script]
    return [int(re.search(r"--cpus-per-task=(\d+)", script)[1]) for script in scripts]  # models by name


def test_the_cpus_of_a_fit_are_the_same_from_every_login_node(large_cluster, make_job, tmp_path):
    models = {"tvae": {"epochs": 1}, "ctgan": {"epochs": 1}, "gaussian_copula": {}}
    job = make_job(tmp_path / "run", models=models)
    said = shardsynth("submit", job, "--dry-run")
    assert cpus_asked_for_fits(said) == [4, 1, 4], "the stated default"
    one_cpu = {min(os.sched_getaffinity(0))}
    small = shardsynth("submit", job, "--dry-run", preexec_fn=lambda: os.sched_setaffinity(0, one_cpu))
    assert cpus_asked_for_fits(small) == [4, 1, 4]


def test_the_first_that_says_the_cpus_of_a_fit_counts(large_cluster, make_job, tmp_path):
    site = tmp_path / "site.yaml"

    def cpus(site_text="{}", **cluster):
        site.write_text(site_text)
        models = {"a": {"model": "tvae"}, "b": {"model": "gaussian_copula"}}
        job = Job.load(make_job(tmp_path / "run", models=models, cluster={"profile": str(site), **cluster}))
        return [task.threads for task in plan_for_slurm(job).tasks["fit"]]

    assert cpus() == [4, 1]
    assert cpus(defaults={"partition": "narrow"}) == [2, 1], "a node gives the partition two CPUs"
    assert cpus(defaults={"partition": "cpu,narrow"}) == [2, 1], "it may start in either"
    assert cpus(site_text="defaults: {cpus: 3}") == [3, 1]
    assert cpus(site_text="{defaults: {cpus: 3}, stages: {fit: {cpus: 5}}}") == [5, 1]
    assert cpus(site_text="stages: {fit: {cpus: 5}}", defaults={"cpus": 6}) == [6, 1]
    assert cpus(defaults={"cpus": 6}, stages={"fit": {"cpus": 7}}) == [7, 7], "as in a local run"
    assert cpus(stages={"fit": {"cpus": 7}}, models={"a": {"fit": {"cpus": 8}}}) == [8, 7]
