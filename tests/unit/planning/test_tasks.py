"""Tasks as ranges: the same tasks as one object each, in plans of both versions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.data.shards import Dataset, Shard
from shardsynth.job import Job
from shardsynth.planning.plan import ChosenTasks, PartTasks, Plan, StageTasks, Task, make_plan, part_tasks, split_range
from shardsynth.planning.tasks import tasks_from_json, tasks_to_json

counts = st.tuples(st.integers(1, 40), st.none() | st.integers(1, 50))


def single(stage: str, ranges: Sequence[tuple[int, int | None]]) -> list[Task]:
    """Each task as an object, as plans of version 1 list them."""
    found: list[Task] = []
    for number, (parts, tasks) in enumerate(ranges):
        for edges in split_range(parts, tasks or parts):
            found.append(Task(stage, len(found), f"m{number}", parts=edges))
    return found


def ranges_of(stage: str, ranges: Sequence[tuple[int, int | None]]) -> StageTasks:
    blocks: list[PartTasks] = []
    for number, (parts, tasks) in enumerate(ranges):
        blocks.append(part_tasks(stage, f"m{number}", sum(map(len, blocks)), parts, tasks))
    return StageTasks(blocks)


@given(st.lists(counts, min_size=1, max_size=4))
def test_a_range_holds_the_tasks_that_were_listed_one_by_one(ranges):
    listed, found = single("sample", ranges), ranges_of("sample", ranges)
    assert list(found) == listed == [found[place] for place in range(len(found))] and len(found) == len(listed)
    for block in found.blocks:
        assert block.edges().tolist() == [block.task(0).parts[0], *(block.task(i).parts[1] for i in range(len(block)))]
    assert [(group, list(numbers)) for group, numbers in found.groups()] == [
        (("sample", f"m{number}"), [task.index for task in listed if task.model == f"m{number}"])
        for number in range(len(ranges))
    ]


@given(st.lists(counts, min_size=1, max_size=4))
def test_a_plan_that_lists_every_task_is_read_as_ranges(ranges):
    listed, found = single("score", ranges), ranges_of("score", ranges)
    assert tasks_from_json("score", tasks_to_json(listed)) == found == tasks_from_json("score", tasks_to_json(found))
    assert len(tasks_to_json(found)) == len(ranges)


@given(st.lists(counts, min_size=1, max_size=3), st.data())
def test_chosen_tasks_are_a_list(ranges, data):
    stage = ranges_of("sample", ranges)
    merges = StageTasks([Task("merge", 0, "m0")])
    some = sorted(data.draw(st.sets(st.integers(0, len(stage) - 1))))
    chosen = ChosenTasks([(stage, np.array(some, dtype=np.int64)), (merges, [0])])
    as_list = [*(stage[i] for i in some), merges[0]]
    assert list(chosen) == as_list and len(chosen) == len(as_list) and chosen[-1] == as_list[-1]
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(as_list)), st.integers(0, len(as_list)))))
    assert list(chosen[first:last]) == as_list[first:last]
    assert list(chosen.of("sample")) == as_list[:-1] and chosen.stages()[-1] == "merge"
    with pytest.raises(IndexError):
        chosen[len(as_list)]


def test_ten_million_parts_are_planned_at_once():
    job = Job.parse(
        {"input": "x", "output": "y", "models": ["tvae", "ctgan"], "sample": {"rows": 5_000_000, "rows_per_shard": 1}}
    )
    plan = make_plan(job, Dataset((Shard("/s", 1, 1, (10,)),), pa.schema([("a", pa.int8())])), 2)
    again = Plan.from_json(plan.to_json())
    assert again == plan and len(again.tasks["sample"]) == 10_000_000
    assert plan.tasks["sample"][9_999_999] == Task("sample", 9_999_999, "ctgan", parts=(4_999_999, 5_000_000))
