"""Every range of an array divides the tasks of a stage: none is left out, none is done twice."""

from __future__ import annotations

import random

import pytest

from shardsynth.errors import RunError
from shardsynth.executors.slurm.ranges import parse_ranges
from shardsynth.executors.slurm.shares import ArrayElement, read_share, share_number


@pytest.mark.parametrize("array", ["0-9", "1-10", "90-99", "5", "3,7", "3,7%1", "0-9:3", "1-99:2%4", "0,3,7,9", "2,12"])
def test_the_elements_of_any_array_have_one_share_each(tmp_path, array) -> None:
    numbers = parse_ranges(array)
    elements = [ArrayElement.parse(f"12:{n}:{len(numbers)}:{min(numbers)}:{max(numbers)}") for n in numbers]
    random.Random(0).shuffle(elements)
    shares = [share_number(tmp_path, "sample", element) for element in elements]
    assert sorted(share for share, _ in shares) == list(range(len(numbers)))
    assert {total for _, total in shares} == {len(numbers)}
    assert [share_number(tmp_path, "sample", element) for element in elements] == shares, "queued again"


def test_a_range_without_gaps_writes_no_file(tmp_path) -> None:
    assert share_number(tmp_path, "sample", ArrayElement("12", 7, 5, 5, 9)) == (2, 5)
    assert share_number(tmp_path, "sample", ArrayElement.parse("::::")) == (0, 1)
    assert not list(tmp_path.iterdir())


def test_nothing_is_lost_where_slurm_uses_a_job_number_again(tmp_path) -> None:
    for number in (3, 7):
        share_number(tmp_path, "sample", ArrayElement("12", number, 2, 3, 7))
    assert share_number(tmp_path, "sample", ArrayElement("12", 4, 2, 4, 9)) == (0, 1)


@pytest.mark.parametrize("text", ["3/2", "2/2", "a/b", "1", "-1/2"])
def test_a_share_that_does_not_exist_is_refused(text) -> None:
    with pytest.raises(RunError, match="wanted I/N"):
        read_share(text)


@pytest.mark.parametrize("text", ["12:3", "12:a:1:0:0", "../x:0:2:0:5"])
def test_an_array_that_is_none_is_refused(text) -> None:
    with pytest.raises(RunError, match="JOB:NUMBER:COUNT:FIRST:LAST"):
        ArrayElement.parse(text)
