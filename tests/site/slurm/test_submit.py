from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml
from tests.site.slurm.cluster import MAX_ARRAY_SIZE, wait_until
from tests.site.slurm.runs import outcome, shardsynth
from tests.tools import assert_shellcheck

import shardsynth as ss
from shardsynth.errors import TaskError
from shardsynth.executors.status import read_status
from shardsynth.job import Job


def test_submit_makes_the_same_bytes_as_run_in_a_path_that_is_hostile(
    idle, make_job, undisturbed, tmp_path, monkeypatch
):
    """By the Python API, from a notebook that itself runs inside a job and in an environment full of traps."""
    root = tmp_path / "a 'b' \"c\" $(touch pwned) `id`; *"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    monkeypatch.setenv("SBATCH_OUTPUT", "/nowhere/%j")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    run = ss.submit(Job.load(make_job(root)))
    status = run.status()
    assert status["report"]["pending"] == 1 and status["sample"]["tasks"] == 30
    run.cancel()
    with pytest.raises(TaskError, match="cancelled"):
        run.wait(240)
    said = shardsynth("submit", make_job(root))
    assert re.search(r"sample gaussian_copula: 30 tasks in 6 elements", said)
    assert outcome(run.wait(600).dir.root) == undisturbed
    status = run.status()
    assert {**status["sample"], "seconds": 0} == {
        "tasks": 30, "done": 30, "rows": 3000, "seconds": 0, "running": 0, "pending": 0, "failed": 0
    }  # fmt: skip
    assert run.samples("gaussian_copula").to_table().num_rows == 3000
    assert run.quality("gaussian_copula").score > 0.8
    assert "all done" in shardsynth("status", root)
    assert "all done" in shardsynth("resume", root)
    assert not list(tmp_path.rglob("pwned")), "the path was executed"
    names = idle.command("sacct", "-X", "-n", "-P", "-S", "now-1hour", "--format=JobName,Comment,AdminComment")
    assert "shardsynth-" in names and "touch" not in names
    assert not re.search(r"\bage\b", names), "a column's name"


def test_more_elements_than_one_array_holds(idle, make_job, tmp_path):
    """120 elements on four nodes with MaxArraySize 101; the login process is gone."""
    root = tmp_path / "run"
    job = make_job(root, sample={"rows": 2400, "rows_per_shard": 20}, cluster={"pack": 1})
    said = shardsynth("submit", job, "--yes")
    sizes = [int(n) for n in re.findall(r"sample gaussian_copula: \d+ tasks in (\d+) elements", said)]
    assert sum(sizes) == 120 and max(sizes) <= MAX_ARRAY_SIZE
    run = ss.Run(root)
    started = time.monotonic()
    wait_until("120 sampled parts", lambda: read_status(run.dir, run.plan).stages["sample"].done == 120, 200, 1)
    print(f"120 elements done in {time.monotonic() - started:.0f} s")
    run.cancel()
    parts = sorted(p.name for p in (root / "samples" / "gaussian_copula").glob("part-*.parquet"))
    assert parts == [f"part-{i:05d}.parquet" for i in range(120)]


@pytest.mark.parametrize("folder", ["line\nbreak", "per%cent", "back\\slash", "bell\a"])
def test_paths_that_slurm_would_misread_are_refused_before_anything_is_written(cluster, make_job, tmp_path, folder):
    said = shardsynth("submit", make_job(tmp_path / folder), code=2)
    assert "choose another `output:`" in said
    assert list(tmp_path.iterdir()) == []


def test_bad_sites_are_clear_errors_before_anything_is_submitted(cluster, make_job, tmp_path):
    def refused(**cluster_options):
        said = shardsynth("submit", make_job(tmp_path / "run", cluster=cluster_options), code=2)
        assert len(said.strip().splitlines()) <= 12
        return said

    said = refused(defaults={"partition": "bigmem"})
    assert "'bigmem' is not among those that Slurm lists (cpu, gpu, urgent): sbatch decides" in said
    assert "invalid partition specified: bigmem" in said and "set `partition:`" in said
    assert "no image at /nowhere.sif" in refused(container="/nowhere.sif")
    assert "not Slurm's notation" in refused(defaults={"time": "4 hours"})
    assert "no site file at" in refused(profile="atlantis")
    assert "not safe in a batch script" in refused(defaults={"account": "a b"})
    assert "`sacctmgr show assoc user=$USER` lists your accounts" in refused(defaults={"account": "nobody"})
    assert "no node has that many CPUs" in refused(stages={"report": {"cpus": 64}})
    assert "no node has that many CPUs" in refused(stages={"fit": {"gpus": "h100:1"}})
    assert "set `constraint:`" in refused(stages={"score": {"constraint": "icelake"}})
    assert "lists them; set `qos:`" in refused(defaults={"qos": "gold"})
    assert not (tmp_path / "run").exists()
    assert cluster.command("squeue", "-h") == ""


def test_without_sacct_the_controller_still_knows_why_elements_ended(idle, make_job, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    shardsynth("submit", make_job(tmp_path / "run"))
    shardsynth("cancel", tmp_path / "run")
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 30)
    said = shardsynth("status", tmp_path / "run")
    assert "sample 0-29 (gaussian_copula): cancelled" in said


def test_no_slurm_at_all_is_one_line(cluster, make_job, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not found; run this on a machine of the cluster" in shardsynth("submit", make_job(tmp_path / "run"), code=2)


def test_a_node_that_cannot_write_the_run_says_so_with_the_job(idle, make_job, tmp_path):
    root = tmp_path / "run"
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    said = shardsynth("submit", make_job(root))
    assert re.search(r"job \d+: profile", said)
    hidden = root.with_name("elsewhere")
    root.rename(hidden)
    idle.command("scontrol", "update", "partition=cpu", "state=up")
    wait_until("the end of the first array", lambda: idle.command("squeue", "-h") == "", 60)
    shutil.rmtree(root, ignore_errors=True)  # Slurm 24.11 makes the folder of a log that is not there
    hidden.rename(root)
    assert "cannot write the run directory" in shardsynth("status", root)


def scripts_of_a_dry_run(make_job, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(
        "setup: [module load apptainer || true]\ndefaults: {partition: cpu, account: lab}\nmail: me@example.org\n"
    )
    job = make_job(
        tmp_path / "it's $HOME",
        cluster={"profile": str(site), "stages": {"fit": {"time": "1:00:00", "gpus": "a100:1"}}},
    )
    text = shardsynth("submit", job, "--dry-run")
    assert not (tmp_path / "it's $HOME").exists()
    return ["#!/bin/bash" + part.split("\n# sbatch")[0] for part in text.split("#!/bin/bash")[1:]]


def test_dry_run_prints_the_scripts_and_writes_nothing(cluster, make_job, tmp_path):
    scripts = scripts_of_a_dry_run(make_job, tmp_path)
    assert len(scripts) == 9
    assert all("module load apptainer" in script and "--account=lab" in script for script in scripts)
    assert sum("--gres=gpu:a100:1" in script and "--signal=B:USR2@90" in script for script in scripts) == 1


@pytest.mark.needs("shellcheck")
def test_the_scripts_of_a_dry_run_are_clean(cluster, make_job, tmp_path):
    scripts = scripts_of_a_dry_run(make_job, tmp_path)
    paths = [tmp_path / f"{number}.sh" for number in range(len(scripts))]
    for path, script in zip(paths, scripts):
        path.write_text(script)
    assert_shellcheck(*paths)


def test_what_computes_on_a_login_node_is_refused_without_here(cluster, make_job, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    job = make_job(tmp_path / "run")
    assert "looks like a login node" in shardsynth("run", job, code=2)
    assert not (tmp_path / "run").exists()
    ss.plan_job(Job.load(job))
    root = tmp_path / "run"
    said = shardsynth("resume", root, code=2)
    assert "looks like a login node" in said and f"`shardsynth submit {root}/job.yaml` runs the rest on the" in said
    for command in (["task", root, "profile", 0], ["sample", root, "-o", root, "--rows", 9], ["demo", "-o", root]):
        assert "looks like a login node" in shardsynth(*command, code=2), command
    assert "committed" in shardsynth("task", root, "profile", 0, "--here")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert "committed" in shardsynth("task", root, "profile", 1), "a job may compute"


def test_jobs_are_written_down_as_they_are_submitted(idle, make_job, tmp_path):
    shardsynth("submit", make_job(tmp_path / "run"))
    lines = [json.loads(line) for line in Path(tmp_path / "run/private/slurm/jobs.jsonl").read_text().splitlines()]
    assert [("job" in line) for line in lines] == [False, True] * 9
    assert "lock" not in {p.name for p in (tmp_path / "run/private/slurm").iterdir()}


def test_the_mds_table_through_submit_equals_run(idle, mds_dir, tmp_path):
    """A real table of 2,957 rows and 68 columns, all stages, byte for byte."""
    changes = {"input": str(mds_dir), "sample": {"rows": "1x", "rows_per_shard": 1000}}
    for name in ("run", "submit"):
        (tmp_path / f"{name}.yaml").write_text(
            yaml.safe_dump({**changes, "output": str(tmp_path / name), "models": {"gaussian_copula": {}}})
        )
    shardsynth("submit", tmp_path / "submit.yaml")
    shardsynth("run", tmp_path / "run.yaml", "--here")
    run = ss.Run(tmp_path / "submit").wait(1200)
    assert outcome(tmp_path / "submit") == outcome(tmp_path / "run")
    assert run.status()["sample"]["done"] == 3
    assert run.quality("gaussian_copula").score == ss.Run(tmp_path / "run").quality("gaussian_copula").score > 0.9
