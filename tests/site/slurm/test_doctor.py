from __future__ import annotations

import yaml
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

from shardsynth.executors.slurm import probe
from shardsynth.executors.slurm.doctor import check_all


def test_doctor_finds_what_a_site_lacks_by_running_a_job(idle, tmp_path):
    said = shardsynth("doctor", "--folder", tmp_path, "--image", "/nowhere.sif", code=1)
    for line in (
        "ok   accounting: sacct answers",
        "ok   controller: answers",
        "ok   limits: arrays of 101,",
        "FAIL image: no image at /nowhere.sif; `containers/build.sh` makes one",
    ):
        assert line in said
    said = shardsynth("doctor", "--folder", tmp_path, code=1)
    for line in (
        "ran on n",
        "ok   shared folder: written here and read there",
        "ok   shardsynth there: ",
        "ok   clock: ",
        "ok   requeue: squeue and scontrol are there",
        "ok   pre-emption: in gpu with a grace, of which only job steps are told",
    ):
        assert line in said
    assert "FAIL CPU binding: 1 asked, " in said and said.count("FAIL") == 1, "this cluster does not bind its tasks"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert idle.command("squeue", "-h") == ""


def test_doctor_on_a_folder_that_is_not_there_and_a_partition_that_is_not_there(cluster, tmp_path):
    assert "FAIL shared folder: cannot be written here" in shardsynth("doctor", "--folder", "/proc/here", code=1)
    site = tmp_path / "site.yaml"
    site.write_text("defaults: {partition: bigmem}\n")
    said = shardsynth("doctor", "--folder", tmp_path, "--site", site, code=1)
    assert "FAIL sbatch: " in said and "`sinfo` lists the partitions" in said


def test_doctor_says_why_its_job_waits_and_names_a_python_that_is_not_there(idle, tmp_path, monkeypatch):
    site = tmp_path / "site.yaml"
    site.write_text("python: /nowhere/python\n")
    (failed,) = [check for check in check_all(tmp_path, str(site), None) if not check.ok]
    assert failed.fix.startswith("/nowhere/python is not there; install it where the nodes see it")
    idle.command("sbatch", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "sleep 300")
    wait_until("a busy site", lambda: set(idle.node_states().values()) == {"alloc"}, 30)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 8)
    lines = []
    (waits,) = [check for check in check_all(tmp_path, None, None, say_waiting=lines.append) if not check.ok]
    assert str(waits).startswith("wait job ") and "nothing is wrong so far" in waits.fix
    assert any("all nodes that fit are busy (Resources)" in line for line in lines)


def test_a_drafted_profile_is_used_by_name(cluster, make_job, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    said = shardsynth("doctor", "--write-profile", "here")
    path = tmp_path / "config" / "shardsynth" / "sites" / "here.yaml"
    assert str(path) in said
    data = yaml.safe_load(path.read_text())
    assert data["defaults"]["partition"] == "cpu" and data["limits"]["max_array_size"] == 101
    assert "is there already" in shardsynth("doctor", "--write-profile", "here", code=2)
    data["stages"] = {"fit": {"partition": "gpu", "gpus": "a100:1", "time": "0-01:00:00"}}
    data["setup"] = ["export MARK=1"]
    path.write_text(yaml.safe_dump(data))
    monkeypatch.setenv("SHARDSYNTH_SITE", "here")
    text = shardsynth("submit", make_job(tmp_path / "run"), "--dry-run")
    assert text.count("#SBATCH --partition=cpu") == 8 and text.count("#SBATCH --partition=gpu") == 1
    assert text.count("#SBATCH --gres=gpu:a100:1") == 1 and text.count("#SBATCH --time=0-01:00:00") == 1
    assert text.count("\nexport MARK=1\n") == 9
    assert not (tmp_path / "run").exists()
