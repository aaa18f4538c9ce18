from __future__ import annotations

from shardsynth.executors.slurm.accounting import with_peaks
from shardsynth.executors.slurm.causes import cause_of
from shardsynth.executors.slurm.commands import Element


def test_what_only_the_accounting_believes_alive_is_lost():
    """A controller that crashed before it saved its state forgets jobs; their entries in the accounting stay for ever."""
    states = ("RUNNING", "PENDING", "COMPLETED", "FAILED")
    accounting = {(7, n): Element(7, n, state, peak_bytes=n) for n, state in enumerate(states)}
    found = with_peaks({(7, 1): Element(7, 1, "PENDING")}, accounting)
    assert [found[7, n].state for n in range(4)] == ["LOST", "PENDING", "COMPLETED", "FAILED"]
    assert found[7, 1].peak_bytes == 1
    cause = cause_of(found[7, 0], {})
    assert cause is not None and cause.kind == "lost"
    assert cause_of(found[7, 1], {}) is None


def test_what_slurm_holds_after_a_failed_launch_is_stuck_and_what_a_person_holds_is_not():
    assert Element(7, 0, "PENDING", "launch failed requeued held").stuck
    assert Element(7, 0, "PENDING", "DependencyNeverSatisfied").stuck
    for reason in ("JobHeldUser", "JobHeldAdmin", "Dependency", "Resources", "BeginTime"):
        assert not Element(7, 0, "PENDING", reason).stuck
    assert cause_of(Element(7, 0, "PENDING", "launch failed requeued held"), {}).kind == "held"
