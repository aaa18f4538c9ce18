"""Which of the jobs that the accounting knows under a number is ours."""

from __future__ import annotations

import time

import pytest

from shardsynth.executors.slurm.accounting import JobName
from shardsynth.executors.slurm.commands import Element
from shardsynth.executors.slurm.ledger import Submitted

NOW = 1_800_000_000.0


def printed(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


@pytest.mark.parametrize(
    ("name", "submitted", "ours"),
    [
        ("shardsynth-1-0000-fit", printed(NOW), True),
        ("shardsynth-1-0000-fit", printed(NOW + 9e6), True),  # queued again, much later
        ("shardsynth-1-0000-fit", printed(NOW - 9e6), False),  # before the controller lost its state
        ("shardsynth-1-0000-fit", "Unknown", True),
        ("shardsynth-2-0000-fit", printed(NOW), False),
        ("wrap", printed(NOW), False),
    ],
)
def test_a_job_is_ours_by_its_name_and_not_if_it_is_older(name, submitted, ours):
    assert JobName("shardsynth-1-0000-fit", NOW).fits(name, submitted) is ours


def test_an_array_does_not_take_the_element_of_a_later_one_with_its_number_for_its_own():
    known = {(5, 0): Element(5, 0, "RUNNING", name="shardsynth-1-0007-sample")}
    old = Submitted("shardsynth-1-0000-fit", "fit", "", {}, 5, [[0]], known_as=JobName("shardsynth-1-0000-fit"))
    new = Submitted(
        "shardsynth-1-0007-sample", "sample", "", {}, 5, [[0]], known_as=JobName("shardsynth-1-0007-sample")
    )
    assert old.element(known, 0) is None and new.element(known, 0) is not None
