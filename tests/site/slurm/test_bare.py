"""A site that binds tasks to CPUs, keeps no accounts and forgets what ended after seconds."""

from __future__ import annotations

import json
import re

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.run.committed import recorded

_TWO = pytest.mark.needs("two CPUs")


@_TWO
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_task_has_the_cpus_it_asked_for_and_only_those(bare_cluster, make_job, tmp_path, cpus):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root, cluster={"pack": 100, "defaults": {"cpus": cpus}}))
    run = ss.Run(root)
    wait_until("the profile", lambda: len(recorded(run.dir, run.plan)["profile"]) == 4, 60, 0.1)
    shardsynth("cancel", root)
    assert f"{cpus} CPUs of {cpus} asked for" in shardsynth("logs", root, "profile", 0)
    affinities = [json.loads(p.read_text())["affinity"] for p in (root / "tasks" / "profile").rglob("*.json")]
    assert affinities == [cpus] * 4, "a task's affinity is what was asked for"


@_TWO
def test_doctor_sees_the_binding_and_the_missing_accounting(bare_cluster, tmp_path):
    said = shardsynth("doctor", "--folder", tmp_path, code=1)
    assert "ok   CPU binding: 1 asked, 1 usable" in said
    assert re.search(r"FAIL accounting: .*: without it, `status` and `resume` work, but cannot say why", said)
    assert said.count("FAIL") == 1
    assert list(tmp_path.iterdir()) == []


def test_parents_that_the_controller_has_forgotten_are_not_waited_for(bare_cluster, make_job, tmp_path):
    root = tmp_path / "run"
    shardsynth("submit", make_job(root))
    run = ss.Run(root)
    wait_until("the profile", lambda: recorded(run.dir, run.plan)["profile_merge"], 90, 0.1)
    shardsynth("cancel", root)
    wait_until("the end", lambda: bare_cluster.command("squeue", "-h") == "", 30)
    wait_until("its memory to fade", lambda: bare_cluster.command("squeue", "-h", "-t", "all") == "", 90, 1)
    said = shardsynth("status", root)
    assert "no accounting here: why some elements ended is not known" in said
    assert "nothing is queued: shardsynth resume" in said
    left = 4 - len(recorded(run.dir, run.plan)["count"])  # 0 where the cancelling came late
    said = shardsynth("resume", root)
    assert "profile" not in said and (not left or f"count: {left} tasks in 1 elements" in said)
    wait_until("the counts", lambda: recorded(run.dir, run.plan)["count_merge"], 60, 0.1)
    shardsynth("cancel", root)
