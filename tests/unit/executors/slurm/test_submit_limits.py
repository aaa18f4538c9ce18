from __future__ import annotations

from shardsynth.executors.slurm.limits import (
    Accounting,
    Association,
    Limits,
    Qos,
    Queue,
    SubmitLimit,
    SubmitLimits,
)
from shardsynth.executors.slurm.partitions import Partition
from shardsynth.job import Resources

SITE = SubmitLimits(
    Accounting(
        (
            Association("lab", "me", "", "", 20, None, "normal"),
            Association("lab", "me", "", "gpu", 7, None, "normal", "1-00:00:00"),
            Association("lab", "", "hospital", "", None, 30, ""),
            Association("hospital", "", "", "", None, 25, ""),
        ),
        {"normal": Qos("normal", 15), "long": Qos("long", None, 12, None, "2-00:00:00"), "few": Qos("few", 4)},
        "lab",
    ),
    Queue({("lab", "normal", "cpu"): 6, ("lab", "normal", "busy"): 3}),
    {"busy": "few"},
    "cpu",
)


def names(**asked):
    return {limit.name: limit.left for limit in SITE.of(Resources(**asked))}


def test_user_accounts_above_qos_and_partition_each_have_their_limits_less_what_is_queued():
    assert names() == {
        "MaxJobCount": 9999,
        "MaxSubmitJobs of user me in account lab": 11,
        "GrpSubmitJobs of account lab": 21,
        "GrpSubmitJobs of account hospital": 16,
        "MaxSubmitJobsPerUser of QOS normal": 6,
    }
    assert names(qos="long")["MaxSubmitJobsPerAccount of QOS long"] == 12
    assert "MaxSubmitJobsPerUser of QOS normal" not in names(qos="long")
    assert names(partition="busy")["MaxSubmitJobsPerUser of QOS few"] == 1, "the QOS of the partition"
    assert names(partition="gpu")["MaxSubmitJobs of user me in account lab"] == 0, "an association of the partition"
    assert SITE.tightest(Resources()).left == 6


def test_stages_of_one_run_may_be_under_different_limits():
    cpu, busy = Resources(), Resources(partition="busy")
    assert SITE.exceeded_by([(cpu, 6)]) is None
    assert SITE.exceeded_by([(cpu, 4), (cpu, 3)]).name == "MaxSubmitJobsPerUser of QOS normal"
    assert SITE.exceeded_by([(cpu, 3), (busy, 2)]).name == "MaxSubmitJobsPerUser of QOS few"
    assert SITE.exceeded_by([(cpu, 3), (busy, 1)]) is None
    assert SITE.lowered(9).exceeded_by([(cpu, 1)]).name == "the site file's max_submit_jobs"


def test_without_accounting_only_the_controller_has_a_limit():
    assert SubmitLimits().of(Resources(account="x", qos="y")) == (SubmitLimit("MaxJobCount", 9999, 9999),)


def test_the_time_limit_of_a_job_that_asks_for_none_is_the_least_of_partition_account_and_qos():
    cpu = Partition("cpu", default=True, default_time="01:00:00", max_time="7-00:00:00")
    limits = Limits(submit=SITE, partitions={"cpu": cpu, "gpu": Partition("gpu"), "busy": Partition("busy")})
    assert limits.time_of(Resources()) == "01:00:00"
    assert limits.time_of(Resources(partition="gpu")) == "1-00:00:00"
    assert limits.time_of(Resources(partition="busy", qos="long")) == "2-00:00:00"
    assert limits.time_of(Resources(partition="busy")) is None
