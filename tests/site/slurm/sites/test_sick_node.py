"""A node on which the shared folder is not mounted: it is named and left out, and nothing that waits is cancelled."""

from __future__ import annotations

import pytest
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import shardsynth

import shardsynth as ss
from shardsynth.run.committed import recorded


@pytest.fixture
def sick(idle, tmp_path):
    """The cluster with only n1 at work, where the test's folder is empty."""
    for node in ("n2", "n3", "n4"):
        idle.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    idle.lose_node("n1")
    idle.start_node("n1", without=tmp_path)
    wait_until("n1", lambda: idle.node_states()["n1"] == "idle", 30)
    yield idle
    idle.command("scancel", "--user=root", check=False)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60)
    idle.lose_node("n1")
    idle.start_node("n1")


def test_a_node_without_the_shared_folder_is_left_out_at_once(sick, make_job, tmp_path):
    root, site = tmp_path / "run", tmp_path / "site.yaml"
    site.write_text("defaults: {options: {nodelist: n1}}\n")
    said = shardsynth("doctor", "--folder", tmp_path, "--site", site, code=1)
    assert f"node n1 cannot write {tmp_path}: choose a folder that all nodes share" in said
    assert "tried again without n1" in said
    shardsynth("submit", make_job(root))
    run = ss.Run(root)
    waits = "left out: n1: cannot write"
    wait_until("the element to leave n1", lambda: waits in shardsynth("status", root), 30)
    queued = ("squeue", "-h", "-o", "%x")
    left = sick.command(*queued).splitlines()
    assert len(left) == 9 and left.count("n1") > 1, "what was queued by then leaves it out, and nothing is cancelled"
    for node in ("n2", "n3", "n4"):
        sick.command("scontrol", "update", f"nodename={node}", "state=resume")
    sick.start_soon()
    wait_until("the rest of the run", lambda: recorded(run.dir, run.plan)["profile_merge"], 90)
    shardsynth("cancel", root)
    assert waits in shardsynth("status", root)
    said = shardsynth("resume", root)
    assert f"left out, since they cannot write {root}: n1\n" in said
    assert set(sick.command(*queued).split()) == {"n1"}
