"""How an element learns that the grace of a pre-emption begins: by a step of its own, or by the site's signal."""

from __future__ import annotations

import sys

import yaml
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

#: A Python whose tasks never end by themselves, and save when they are asked to stop.
_TASK = """#!{python}
import os, signal, time
signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(75))
open({started!r}, "w").close()
time.sleep(600)
"""


def test_a_step_listens_only_where_it_must_and_the_sites_own_signal_is_heard(idle, make_job, tmp_path):
    root, started, python = tmp_path / "run", tmp_path / "started", tmp_path / "python"
    python.write_text(_TASK.format(python=sys.executable, started=str(started)))
    python.chmod(0o755)
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"python": str(python)}))
    on_gpu = {"profile": str(site), "stages": {"profile": {"partition": "gpu"}}}
    job = make_job(root, cluster=on_gpu)

    def log(end):
        return "".join(path.read_text() for path in (root / "private/slurm/submitit").glob(f"*.{end}"))

    def pre_empted():
        wait_until("the task", started.exists, 30)
        started.unlink()
        urgent = ("sbatch", "--parsable", "-p", "urgent", "-N4", "-o", "/dev/null", "--wrap", "sleep 1")
        urgent = idle.command(*urgent).strip()
        wait_until("the urgent job", lambda: idle.command("squeue", "-h", "-j", urgent, check=False) == "", 60)

    said = shardsynth("submit", job, "--dry-run")
    assert said.count("srun --overlap") == 1, "the partition cpu has no grace, gpu has one"
    shardsynth("submit", job)
    wait_until("the step", lambda: "sleep" in idle.command("squeue", "-h", "--steps", "-o", "%j"), 30)
    pre_empted()
    assert log("out").count("saved: queued again") == 1
    assert "kill" not in log("err")

    conf = idle.conf.read_text()
    idle.conf.write_text(conf + "SlurmctldParameters=preempt_send_user_signal\n")
    idle.command("scontrol", "reconfigure")
    try:
        assert "srun --overlap" not in shardsynth("submit", job, "--dry-run")
        shardsynth("cancel", root)
        shardsynth("resume", root)
        pre_empted()
        assert log("out").count("saved: queued again") == 2
    finally:
        idle.conf.write_text(conf)
        idle.command("scontrol", "reconfigure")
        shardsynth("cancel", root)
