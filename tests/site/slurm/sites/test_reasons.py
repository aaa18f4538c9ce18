"""Elements that wait for something other than their turn: `status` says for what, and whether it ever comes."""

from __future__ import annotations

import re
import time

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.errors import TaskError


@pytest.fixture
def said_of(idle, make_job, tmp_path):
    """Submits a job with these resources; its status once it holds the words wanted."""

    def submit(name, words, **asked):
        root = tmp_path / name
        shardsynth("submit", make_job(root, cluster={"defaults": asked}))
        return wait_until(words, lambda: words in (said := shardsynth("status", root)) and said, 20, 0.5)

    return submit


def test_status_says_why_an_element_waits_and_whether_it_ever_starts(idle, said_of, tmp_path):
    for words in (
        ("add", "qos", "short"),
        ("modify", "qos", "short", "set", "MaxWall=1"),
        ("modify", "user", "root", "set", "qos+=short"),
    ):
        idle.command("sacctmgr", "-i", *words, check=False)
    said = said_of("wall", "will not start", qos="short", time="10")
    assert "profile 0-3: will not start: the QOS allows less `time` than it asks for (QOSMaxWall" in said
    assert "what is queued cannot start: shardsynth resume" in said
    started = time.monotonic()
    with pytest.raises(TaskError, match="will not start: the QOS allows less `time`"):
        ss.Run(tmp_path / "wall").wait(200)
    assert time.monotonic() - started < 60
    assert re.search(r"cancelled: \d+ elements", shardsynth("resume", tmp_path / "wall"))
    idle.command(
        "scontrol", "create", "reservation", "reservationname=course", "starttime=now+1hour", "duration=10",
        "users=root", "nodes=n1",
    )  # fmt: skip
    idle.command("scontrol", "update", "partition=urgent", "state=down")
    try:
        said = said_of("reserved", "its reservation has not begun", options={"reservation": "course"})
        assert "will not start" not in said and "Slurm holds some of them" in said
        said_of("down", "profile 0-3: waits: its partition is down (PartitionDown)", partition="urgent")
    finally:
        idle.command("scontrol", "update", "partition=urgent", "state=up")
        idle.command("scancel", "--user=root")
        wait_until("nothing in the reservation", lambda: not idle.command("squeue", "-h"), 30)
        idle.command("scontrol", "delete", "reservationname=course")
