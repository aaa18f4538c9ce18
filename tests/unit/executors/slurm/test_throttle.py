from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.errors import JobError
from shardsynth.executors.slurm.packing import Array, Throttle
from shardsynth.executors.slurm.script import options
from shardsynth.job import Resources


def array(elements, model="m"):
    return Array("sample", model, tuple((i,) for i in range(elements)), 1.0)


@given(
    most=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=12).map(lambda sizes: sorted(sizes, reverse=True)),
)
def test_no_more_elements_of_a_group_than_the_throttle_can_work_at_once(most, sizes):
    """Arrays of a group are cut equal, but for the last one; each has Slurm's own throttle within."""
    throttle = Throttle(most)
    before = []
    for number, size in enumerate(sizes):
        before += throttle.after(array(size))
        throttle.submitted(array(size), f"afterany:{number}")
    assert len(set(before)) == len(before), "chains of arrays, each one after the other"
    chains = len(sizes) - len(before)
    assert chains * min(most, sizes[0]) <= most


def test_without_a_throttle_and_between_models_nothing_waits():
    free, tight = Throttle(None), Throttle(1)
    for throttle in (free, tight):
        throttle.submitted(array(1), "afterany:1")
    assert free.after(array(1)) == []
    assert tight.after(array(1)) == ["afterany:1"]
    assert tight.after(array(1, "other")) == []


def test_an_array_range_in_the_options_names_the_throttle():
    with pytest.raises(JobError, match=r"cluster\.throttle: 2"):
        options(Resources(options={"array": "0-9%2"}), 1)
