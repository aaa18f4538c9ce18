"""A controller that is away for a while: unknown is not "nothing is queued"."""

from __future__ import annotations

import threading
import time

from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import outcome, shardsynth

from shardsynth import Run
from shardsynth.executors.status import read_status

SECONDS_AWAY = 25


def test_waiting_goes_on_while_the_controller_is_away(idle, make_job, undisturbed, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    run = Run(root)
    wait_until("the first task is committed", lambda: read_status(run.dir, run.plan).stages["profile"].done, 90)
    idle.stop_controller()
    status = read_status(run.dir, run.plan)
    assert not status.answered and not status.live
    assert any("is not known" in line for line in run.status_lines())

    def come_back() -> None:
        time.sleep(SECONDS_AWAY)
        idle.start_controller()

    back = threading.Thread(target=come_back)
    back.start()
    try:
        run.wait(280)
    finally:
        back.join()
    assert outcome(root) == undisturbed
