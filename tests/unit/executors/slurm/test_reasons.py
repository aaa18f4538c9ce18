from __future__ import annotations

import pytest

from shardsynth.executors.slurm.reasons import reason_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("QOSMaxWallDurationPerJobLimit", "will not start: the QOS allows less `time` than it asks for"),
        ("AssocMaxWallDurationPerJobLimit", "will not start: the account allows less `time`"),
        ("PartitionTimeLimit", "will not start: the partition allows less `time`"),
        ("QOSMaxCpuPerJobLimit", "will not start: the QOS allows fewer CPUs a job"),
        ("QOSMaxGRESPerJob", "will not start: the QOS allows fewer GPUs a job"),
        ("QOSMinGRES", "will not start: the QOS is for larger jobs"),
        ("QOSMaxCpuMinutesPerJobLimit", "will not start: the QOS allows less time with so many CPUs"),
        ("ReservationDeleted", "will not start: its reservation is over"),
        ("(DependencyNeverSatisfied)", "will not start: an element that it needs failed"),
        ("launch failed requeued held", "will not start: Slurm failed to launch it"),
        ("Reservation", "waits: its reservation has not begun"),
        ("PartitionDown", "waits: its partition is down (PartitionDown)"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", "waits: the nodes that it needs are down, drained or reserved"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved", "waits: the nodes that it needs are down, drained"),
        ("AssocGrpCPUMinutesLimit", "waits: the account has used up its time budget"),
        ("QOSMaxJobsPerUserLimit", "waits: your jobs use as much as the QOS allows"),
        ("QOSMaxCpuPerUserLimit", "waits: your jobs use as much as the QOS allows"),
        ("AssocGrpCpuLimit", "waits: all jobs of the account together use as much as they may"),
        ("JobHeldUser", "waits: it is held; `scontrol release`"),
        ("SomethingNew", "waits: SomethingNew"),
    ],
)
def test_slurms_reason_in_words_and_whether_the_element_ever_starts(text, words):
    assert str(reason_of(text)).startswith(words)


@pytest.mark.parametrize("text", ["None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", ""])
def test_of_an_element_that_waits_for_its_turn_there_is_nothing_to_say(text):
    assert reason_of(text) is None
