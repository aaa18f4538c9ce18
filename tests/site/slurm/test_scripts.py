"""Batch scripts for those who submit by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import outcome, shardsynth
from tests.tools import ROOT, assert_shellcheck

import shardsynth as ss

SLURM = ROOT / "slurm"


def test_plain_scripts_do_the_same_as_submit(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "the 'run' $(touch pwned)"
    said = shardsynth("sbatch", make_job(root), cwd=tmp_path)
    assert "9 scripts in" in said
    folder = root / "private" / "sbatch"
    done = subprocess.run(
        ["bash", str(folder / "submit.sh")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 9, done.stderr
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 150, 0.5)
    assert outcome(root) == undisturbed, [p.read_text() for p in folder.glob("*.log")]

    parts = sorted((root / "samples" / "gaussian_copula").glob("part-*.parquet"))
    for path in (parts[3], parts[17]):
        path.unlink()
    environment = {**os.environ, "SHARDSYNTH_PYTHON": sys.executable}
    command = ["sbatch", "--array=0-2", f"--output={tmp_path}/%a.log", str(SLURM / "stage.sbatch"), str(root), "sample"]
    subprocess.run(command, cwd=SLURM.parent, env=environment, check=True, capture_output=True)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.5)
    assert outcome(root) == undisturbed
    logs = [path.read_text() for path in tmp_path.glob("?.log")]
    assert [log.count("committed") for log in logs] == [10, 10, 10]
    assert not list(tmp_path.rglob("pwned")) and not (SLURM.parent / "pwned").exists(), "the path was executed"


@pytest.mark.needs("shellcheck")
def test_plain_scripts_for_a_hostile_path_are_clean(cluster, make_job, tmp_path):
    root = tmp_path / "the 'run' $(touch pwned)"
    shardsynth("sbatch", make_job(root), cwd=tmp_path)
    folder = root / "private" / "sbatch"
    assert_shellcheck(*folder.glob("*.sbatch"), folder / "submit.sh")


def test_the_scripts_under_slurm_do_all_stages_of_a_run(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "run"
    shardsynth("sbatch", make_job(root), cwd=tmp_path)
    environment = {**os.environ, "SHARDSYNTH_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(SLURM / "submit.sh"), str(root)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 9, done.stderr
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 300, 0.5)
    assert outcome(root) == undisturbed, [p.read_text() for p in tmp_path.glob("*.log")]
    logs = {path.name.split("-")[1] for path in tmp_path.glob("shardsynth-*.log")}
    assert logs == {path.name for path in (root / "tasks").iterdir()}, "logs are named for their stages"


def test_status_and_cancel_know_the_elements_of_plain_scripts(idle, make_job, tmp_path):
    root = tmp_path / "run"
    long = {"rows": 40_000 * 1000, "rows_per_shard": 40_000, "tasks": 1000}
    shardsynth("sbatch", make_job(root, sample=long, cluster={"pack": 1000}), cwd=tmp_path)
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    try:
        subprocess.run(["bash", str(root / "private/sbatch/submit.sh")], cwd=tmp_path, check=True, capture_output=True)
        said = shardsynth("status", root)
        assert "elements of plain scripts that wait: profile 1, profile_merge 1" in said
        assert "Slurm holds some of them" in said
    finally:
        idle.command("scontrol", "update", "partition=cpu", "state=up")
    wait_until("a part", lambda: list((root / "samples").rglob("part-*.parquet")), 90, 0.2)
    assert ss.Run(root).status()["sample"]["running"] > 900
    assert "cancelled" in shardsynth("cancel", root)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60, 0.3)
    assert "cancelled" in shardsynth("status", root)
