"""Scripts for PBS and Grid Engine: they are clean, and run as a person runs them, with the scheduler's variables set."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.site.slurm.runs import outcome, shardsynth, write_job, write_small_shards
from tests.tools import assert_shellcheck

CLUSTER = {"pack": 30, "defaults": {"mem_gb": 2, "time": "1:00:00", "partition": "workq"}}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Writes a job over small shards; keys are given as in YAML."""
    folder = tmp_path_factory.mktemp("qsub")
    (folder / "shards").mkdir()
    shards = write_small_shards(folder / "shards")

    def make(output, **changes):
        return write_job(folder / f"{output.name}.yaml", shards, output, **changes)

    return make


def element(script, **variables):
    """Run a script as its scheduler would start it; its exit code and what it said."""
    done = subprocess.run(
        ["bash", str(script)], env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_scripts_make_what_run_makes_and_keep_what_waits_from_starting(job, tmp_path):
    root = tmp_path / "a 'b' $(touch pwned)"
    for scheduler in ("pbs", "sge"):
        shardsynth("sbatch", job(root, cluster=CLUSTER), "--scheduler", scheduler, "-o", tmp_path / scheduler)
    code, said = element(tmp_path / "sge" / "report.sge", JOB_ID="1", SGE_TASK_ID="undefined")
    assert code == 100 and "needs merge 0" in said
    shardsynth("resume", root, "--here")
    made = outcome(root)
    samples = root / "samples" / "gaussian_copula"
    for path in samples.glob("part-*.parquet"):
        path.unlink()
    for number in ("1", "5"):  # qsub -t 1-8:4: Grid Engine tells the range and its step
        numbers = {"SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "8", "SGE_TASK_STEPSIZE": "4", "SGE_TASK_ID": number}
        code, said = element(tmp_path / "sge" / "sample-gaussian_copula.sge", JOB_ID="2", **numbers)
        assert code == 0 and said.count("committed") == 15, said
    assert outcome(root) == made
    (samples / "part-00007.parquet").unlink()
    code, said = element(tmp_path / "pbs" / "sample-gaussian_copula.pbs", PBS_JOBID="3.host")
    assert code == 0 and outcome(root) == made and not list(tmp_path.rglob("pwned")), said


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("scheduler", ["pbs", "sge"])
def test_the_scripts_are_clean(job, tmp_path, scheduler):
    root = tmp_path / "a 'b' $(touch pwned)"
    shardsynth("sbatch", job(root, cluster={**CLUSTER, "pack": 1}), "--scheduler", scheduler, "-o", tmp_path / "out")
    assert_shellcheck(*(tmp_path / "out").iterdir())
    array = {"pbs": "#PBS -J 0-29", "sge": "#$ -t 1-30"}[scheduler]
    text = (tmp_path / "out" / f"sample-gaussian_copula.{scheduler}").read_text()
    assert array in text and "workq" in text
    said = shardsynth(
        "sbatch", job(root, cluster=CLUSTER), "--scheduler", scheduler, "--set", "cluster.defaults.qos=high", code=2
    )
    assert "cluster: qos: Slurm's own" in said
    said = shardsynth("sbatch", job(root, cluster=CLUSTER), "--scheduler", "lsf", code=2)
    assert "--scheduler lsf: wanted slurm, pbs or sge" in said
