"""Tasks in the image under a real Slurm, submitted from a host that needs neither torch nor SDV, or nothing at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.site.container.images import outcome, shardsynth
from tests.site.slurm.cluster import wait_until
from tests.tools import ROOT, assert_shellcheck

import shardsynth as ss
from shardsynth.standalone.image import identify

COPULA = {"gaussian_copula": {}}


@pytest.fixture(scope="module")
def site(image, tmp_path_factory):
    """A site file; with SHARDSYNTH_TEST_IMAGE it mounts this checkout's code."""
    path = tmp_path_factory.mktemp("site") / "site.yaml"
    path.write_text(yaml.safe_dump({"binds": image.binds}))
    return path


@pytest.fixture
def job_in_image(image, site, make_job):
    def make(output, *, container=None, cluster=None, **changes):
        inside = {"container": str(container or image.path), "profile": str(site), **(cluster or {})}
        return make_job(output, cluster=inside, **changes)

    return make


def wait_for(slurm, root, seconds=400):
    """Until nothing of the run is queued; its status."""
    wait_until("the end of the run", lambda: slurm.command("squeue", "-h") == "", seconds, 0.5)
    return shardsynth("status", root, env=slurm.environment)


def test_the_demo_through_slurm_in_the_image_gives_the_bytes_of_a_run_without_it(
    idle, image, job_in_image, uncontained, tmp_path
):
    root = tmp_path / "a run, 'quoted' $(touch pwned)"
    scratch = tmp_path / "scratch of the nodes"
    scratch.mkdir()
    made = scratch.stat().st_mtime_ns
    shardsynth("submit", job_in_image(root), "--yes", cwd=tmp_path, env={**idle.environment, "TMPDIR": str(scratch)})
    assert "all done" in wait_for(idle, root)
    assert outcome(root) == uncontained
    assert not list(tmp_path.rglob("pwned"))
    found = identify(image.path)
    planned = json.loads((root / "plan.json").read_text())["image"]
    assert planned == found and len(planned["sha256"]) == 64
    told = {key: found[key] for key in ("path", "sha256", "build")}
    records = [json.loads(path.read_text()) for path in (root / "tasks").rglob("*.json")]
    assert len(records) >= 9 and all(record["image"] == told for record in records)
    assert ss.Run(root).samples("ctgan").manifest["images"] == [{**told, "tasks": 3}]
    assert scratch.stat().st_mtime_ns > made, "no element used the scratch folder"
    assert not list(scratch.iterdir()), "a scratch folder was left"


def test_a_pre_empted_training_is_queued_again_and_goes_on(idle, job_in_image, tmp_path):
    """The batch script, on the host, hears of the grace and queues it again: there is no scontrol in the image."""
    models = {"ctgan": {"epochs": 1000, "generator_dim": [32], "discriminator_dim": [32], "device": "cpu"}}
    fit = {"fit": {"cpus": 1, "partition": "gpu", "gres": "gpu:a100:1"}}
    root = tmp_path / "run"
    shardsynth("submit", job_in_image(root, models=models, cluster={"stages": fit}), env=idle.environment)
    log = root / "private" / "logs" / "fit" / "0" / "0.log"
    wait_until("the training", lambda: log.exists() and "positions" in log.read_text(), 200, 0.1)
    time.sleep(3)
    idle.command("sbatch", "--parsable", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "sleep 1")
    assert "all done" in wait_for(idle, root)
    assert "saved: queued again" in _log(root, "fit") and "started again by Slurm (restart 1)" in _log(root, "fit")
    assert re.search("resumed|goes on at", log.read_text()), log.read_text()
    alone = tmp_path / "alone"
    shardsynth("run", job_in_image(alone, models=models), "--here")
    assert outcome(root) == outcome(alone)


def _log(root, stage):
    from shardsynth.executors.slurm.ledger import Ledger
    from shardsynth.run.rundir import RunDir

    return "".join(path.read_text(errors="replace") for path in Ledger(RunDir(root)).element_logs(stage, 0))


def test_an_image_that_changed_stops_the_tasks_and_a_resume_takes_the_new_one(idle, image, job_in_image, tmp_path):
    link = tmp_path / "image.sif"
    link.symlink_to(image.path)
    root = tmp_path / "run"
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    shardsynth("submit", job_in_image(root, container=link, models=COPULA), env=idle.environment)
    other = tmp_path / "other.sif"
    other.write_bytes(b"another image")
    link.unlink()
    link.symlink_to(other)
    idle.command("scontrol", "update", "partition=cpu", "state=up")
    wait_for_words(idle, root, f"{link} changed since the run was submitted: `shardsynth resume` goes on with it")
    link.unlink()
    assert f"no image at {link}" in shardsynth("resume", root, code=2, env=idle.environment)
    shardsynth("resume", root, "--image", image.path, env=idle.environment)
    assert "all done" in wait_for(idle, root)


def wait_for_words(slurm, root, words):
    """Until the status says them: the accounting lags some seconds."""
    wait_for(slurm, root)
    wait_until(words, lambda: words in shardsynth("status", root, env=slurm.environment), 30, 1)


def test_folders_that_a_node_does_not_have_are_named(idle, job_in_image, make_job, demo_shards, tmp_path):
    shards = tmp_path / "shards"
    shutil.copytree(demo_shards, shards)
    root = tmp_path / "run"
    job = job_in_image(root, models=COPULA)
    text = yaml.safe_load(job.read_text())
    text["input"] = str(shards)
    job.write_text(yaml.safe_dump(text))
    idle.command("scontrol", "update", "partition=cpu", "state=down")
    shardsynth("submit", job, env=idle.environment)
    shards.rename(tmp_path / "gone")
    idle.command("scontrol", "update", "partition=cpu", "state=up")
    wait_for_words(idle, root, f"{shards} is not on {idle.host}, and the tasks need it")


def test_gpus_are_there_only_where_they_are_asked_for(cluster, job_in_image, tmp_path):
    stages = {"fit": {"gpus": "a100:1", "partition": "gpu"}}
    job = job_in_image(tmp_path / "it's $HOME", models=COPULA, cluster={"stages": stages})
    text = shardsynth("submit", job, "--dry-run", env=cluster.environment)
    scripts = text.split("#!/bin/bash")[1:]
    assert [("--nv" in script) for script in scripts] == [("--gres=gpu" in script) for script in scripts]
    assert sum("--nv" in script for script in scripts) == 1
    assert all("--containall" in script and "--no-eval" in script for script in scripts)


@pytest.mark.needs("shellcheck")
def test_scripts_that_start_the_image_are_clean(cluster, job_in_image, tmp_path):
    stages = {"fit": {"gpus": "a100:1", "partition": "gpu"}}
    job = job_in_image(tmp_path / "it's $HOME", models=COPULA, cluster={"stages": stages})
    text = shardsynth("submit", job, "--dry-run", env=cluster.environment)
    scripts = text.split("#!/bin/bash")[1:]
    paths = [tmp_path / f"{number}.sh" for number in range(len(scripts))]
    for path, script in zip(paths, scripts):
        path.write_text("#!/bin/bash" + script.split("\n# sbatch")[0])
    assert len(scripts) == 9
    assert_shellcheck(*paths)


def test_nothing_on_the_host_but_apptainer(idle, image, make_job, demo_shards, uncontained, tmp_path):
    """`apptainer run shardsynth.sif sbatch job.yaml > job.sh; sbatch job.sh`."""
    root = tmp_path / "run"
    job = make_job(root, models=COPULA)
    mounts = [(tmp_path, "rw"), (job.parent, "ro"), (demo_shards, "ro"), (image.path.parent, "ro")]
    done = subprocess.run(image.command("sbatch", job, mounts=mounts), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "job.sh").write_text(done.stdout)
    if image.binds:  # the code under test is not the image's own
        pytest.skip("SHARDSYNTH_TEST_IMAGE: plain scripts have no site file to mount this checkout with")
    idle.command("sbatch", "--wait", "-o", str(tmp_path / "job.out"), str(tmp_path / "job.sh"))
    assert "all done" in wait_for(idle, root)
    assert outcome(root) == {key: value for key, value in uncontained.items() if "gaussian_copula" in key}


def test_a_host_with_python_3_9_and_without_torch_submits(idle, job_in_image, uncontained, tmp_path):
    python = old_python()
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", venv], check=True)
    install = [venv / "bin" / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    thin = venv / "bin" / "python"
    absent = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) for name in ('torch', 'sdv', 'sklearn')))"
    subprocess.run([thin, "-c", absent], check=True)
    root = tmp_path / "run"
    shardsynth("submit", job_in_image(root, models=COPULA), python=thin, env=idle.environment)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 400, 0.5)
    assert "all done" in shardsynth("status", root, python=thin, env=idle.environment)
    assert outcome(root) == {key: value for key, value in uncontained.items() if "gaussian_copula" in key}


def old_python() -> str:
    """A Python 3.9, or the oldest that there is below this one's version; this one where there is no other."""
    places = [*Path.home().glob(".pyenv/versions/3.9*/bin/python"), *filter(None, [shutil.which("python3.9")])]
    return str(places[0]) if places else sys.executable


def test_doctor_sees_the_image_and_says_when_it_starts_slowly(idle, image, tmp_path):
    def doctor(**site):
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump({"binds": image.binds, **site}))
        arguments = ["--folder", tmp_path, "--image", image.path, "--site", path]
        # this cluster binds no CPUs, which doctor says, and exits with 1
        return shardsynth("doctor", *arguments, code=1, env=idle.environment)

    said = doctor()
    assert f"ok   image: {image.path}: shardsynth" in said
    assert re.search(r"ok   image's start: 0\.\d s from Apptainer to Python", said)
    unsquashed = doctor(apptainer_options=["--unsquash"])
    seconds = float(re.search(r"image's start: ([\d.]+) s", unsquashed)[1])
    print(f"with --unsquash: {seconds} s")
    assert seconds < 2 or "`unpack: /a/local/folder` in the site file" in unsquashed
    kept = doctor(apptainer_options=["--unsquash"], unpack=str(tmp_path / "node"))
    assert re.search(r"ok   image's start: 0\.\d s from Apptainer to Python, unpacked under", kept)
    assert "no image at" in shardsynth("doctor", "--image", "/nowhere.sif", code=1, env=idle.environment)
    assert os.path.isdir(tmp_path / "node")
