"""A controller that is away for a while: unknown is not "nothing is queued"."""

from __future__ import annotations

import os
import subprocess
import threading
import time

from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import SHARDSYNTH, shardsynth

import shardsynth as ss
from shardsynth.errors import TaskError
from shardsynth.run.committed import recorded

#: Seconds; squeue tries for 9 s.
LONGER_THAN_TWO_LOOKS = 20


def test_waiting_goes_on_while_the_controller_is_away(idle, make_job, tmp_path, capsys):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    run = ss.Run(root)
    watching = subprocess.Popen(
        [*SHARDSYNTH, "watch", str(root), "--every", "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    waiting = threading.Thread(target=_wait, args=[run, (why := [])])
    waiting.start()
    idle.stop_controller(orderly=True)
    try:
        said = shardsynth("status", root)
        assert "Slurm does not answer" in said and "whether Slurm runs any of them is not known" in said
        assert "nothing is queued" not in said
        time.sleep(LONGER_THAN_TWO_LOOKS)
        assert waiting.is_alive() and watching.poll() is None
    finally:
        idle.start_controller()  # in this thread: the daemons end with the thread that started them
    wait_until("what was queued goes on", lambda: recorded(run.dir, run.plan)["profile_merge"], 90)
    shardsynth("cancel", root)
    waiting.join()
    said, _ = watching.communicate(timeout=60)
    assert watching.returncode == 1 and "is not known" in said and "tasks are left and nothing is queued" in said
    assert "cancelled" in why[0]
    told = capsys.readouterr().err
    assert "waiting, jobs may run on" in told and "Slurm answers again" in told


def _wait(run, why):
    try:
        run.wait(280)
    except TaskError as error:
        why.append(str(error))


def test_a_machine_without_slurm_does_not_wait_for_ever(idle, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    shardsynth("cancel", root)
    no_slurm = {**os.environ, "PATH": str(tmp_path)}
    said = shardsynth("watch", root, code=2, env=no_slurm)
    assert "squeue: not found; run this on a machine of the cluster" in said
