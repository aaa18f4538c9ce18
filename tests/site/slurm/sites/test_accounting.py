"""An accounting that is slow, and one that remembers other jobs under the numbers of ours."""

from __future__ import annotations

import os
import shutil
import signal

from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.executors.slurm import accounting


def test_numbers_that_are_used_again_are_not_ours_and_a_slow_accounting_is_not_an_absent_one(
    idle, make_job, tmp_path, monkeypatch, capsys
):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    shardsynth("cancel", root)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 30)
    run = ss.Run(root)
    first = min(int(job.job_id.partition("_")[0]) for job in run.jobs)
    idle.stop_controller(orderly=True)
    shutil.rmtree(idle.folder / "state")
    (idle.folder / "state").mkdir()
    with idle.conf.open("a") as file:
        file.write(f"FirstJobId={first}\n")
    idle.start_controller()
    wait_until("the nodes", lambda: set(idle.node_states().values()) == {"idle"}, 60, 0.3)
    failing = ("sbatch", "--parsable", "-a", "0-1", "-o", "/dev/null", "--wrap", "exit 3")
    assert int(idle.command(*failing)) == first
    state = ("sacct", "-n", "-X", "-j", str(first), "-o", "State%20", "-P")
    wait_until("its record", lambda: "FAILED" in idle.command(*state), 60, 0.3)
    said = shardsynth("status", root)
    assert "exit code 3" not in said and "nothing is queued: shardsynth resume" in said

    monkeypatch.setattr(accounting, "PATIENCE_SECONDS", 5.0)
    slurmdbd = idle._pids()["slurmdbd"]
    os.kill(slurmdbd, signal.SIGSTOP)
    try:
        lines = "\n".join(run.status_lines())
    finally:
        os.kill(slurmdbd, signal.SIGCONT)
    assert "the accounting does not answer now (sacct: no answer within 5 s" in lines and "no accounting" not in lines
    assert capsys.readouterr().err.count("waiting for sacct, up to 5 s: Slurm's accounting (slurmdbd) is slow") == 1
    assert "does not answer" not in "\n".join(run.status_lines())
