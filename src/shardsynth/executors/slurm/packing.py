"""Which tasks go into one array element, and which elements into one array.

An element is a range of one group's tasks: clusters are bad at jobs of a second. ``auto`` aims at about twenty minutes
an element. It makes them a few times as long where they then fit in the queue all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

from shardsynth.errors import JobError
from shardsynth.executors.slurm.limits import Limits
from shardsynth.models.families import NATIVE
from shardsynth.planning.plan import Plan, Task, by_group
from shardsynth.run.committed import task_rows
from shardsynth.run.schedule import Group

#: Length of an element that ``auto`` aims at.
TARGET_SECONDS = 1200.0
#: ``auto`` makes no more elements: each leaves a log, and scheduler and file system are shared.
MOST_ELEMENTS = 2000
#: So many times as long ``auto`` makes elements, at most, to have them all queued at once.
_MOST_LONGER = 3
#: Rows a second of one thread, rather too low. Only the packing and the printed estimate depend on these rates.
_NATIVE_RATES = {"profile": 200_000, "count": 100_000, "sample": 400_000, "score": 200_000}
_NATIVE_RATES.update({"partition": 300_000, "gather": 200_000})  # of several tables
_STOCK_SAMPLE_RATE = 15_000
_FIXED_SECONDS = {"gather_merge": 60, "profile_merge": 60, "count_merge": 60, "fit": 120, "merge": 60, "report": 60}
_TRAINING_SECONDS = 3600
_STARTING_SECONDS = 3.0

Pack = Union[int, str]
#: What the candidates of models with ``replicas`` are called where a stage is named: they come before ``fit``.
REPLICAS = "replicas"


@dataclass(frozen=True)
class Array:
    """One Slurm array.

    Attributes:
        stage: Its stage.
        model: Its model, or "".
        elements: Task numbers of each element.
        seconds: Estimated CPU-seconds of all elements, as they are billed.
        cpus: CPUs that an element is billed.
    """

    stage: str
    model: str
    elements: tuple[tuple[int, ...], ...]
    seconds: float
    cpus: int = 1

    @property
    def group(self) -> Group:
        """Stage and model: all tasks of a group wait for the same groups."""
        return (self.stage, self.model)


def shown_group(stage: str, model: str) -> Group:
    """Stage and model as a user reads them: the candidates of a model are a stage of their own."""
    name, slash, _ = model.partition("/")
    return (REPLICAS if slash else stage, name)


def pack_elements(plan: Plan, tasks: Iterable[Task], pack: Pack, size: int) -> list[tuple[int, ...]]:
    """Tasks of one stage packed into at most ``size`` elements; JobError if ``pack`` makes more."""
    tasks = list(tasks)

    def packed(pack: Pack) -> list[tuple[int, ...]]:
        return [element for array in make_arrays(plan, tasks, pack, Limits()) for element in array.elements]

    elements = packed(pack)
    if len(elements) <= size:
        return elements
    fitting = -(-len(tasks) // max(1, size - len({task.group for task in tasks}) + 1))
    if pack != "auto":
        raise JobError(
            f"cluster.pack: {pack} makes {len(elements):,} array elements, and one array has room for {size:,}; "
            f"`--set cluster.pack={fitting}` fits, so does `auto`"
        )
    return packed(fitting)


@dataclass
class Throttle:
    """Keeps the elements of a group that work at once to a number, where the group is cut into several arrays.

    Slurm's own throttle holds within one array. So an array waits for an earlier one of its group.

    Attributes:
        most: Elements at work at once; None for all.
        before: What was submitted of each group, in order: the elements of an array, and the dependency on it.
    """

    most: int | None
    before: dict[Group, list[tuple[int, str]]] = field(default_factory=dict)

    def after(self, array: Array) -> list[str]:
        """The dependency with which an array is submitted, if it needs one."""
        before = self.before.get(array.group, [])
        if self.most is None or not before:
            return []
        side_by_side = max(1, self.most // max(elements for elements, _ in before))
        return [before[-side_by_side][1]] if len(before) >= side_by_side else []

    def submitted(self, array: Array, dependency: str) -> None:
        """Note the dependency on an array that was submitted."""
        self.before.setdefault(array.group, []).append((len(array.elements), dependency))


def task_seconds(plan: Plan, task: Task) -> float:
    """Rough estimate of the seconds that a task takes on its threads."""
    stock = task.model and plan.job.models[task.model].engine == "sdv"
    if task.stage == "fit" and (stock or NATIVE[plan.job.models[task.model].model].trains):
        return float(_TRAINING_SECONDS)
    if task.stage in _FIXED_SECONDS:
        return float(_FIXED_SECONDS[task.stage])
    rate = _STOCK_SAMPLE_RATE if stock and task.stage == "sample" else _NATIVE_RATES[task.stage]
    return 0.1 + task_rows(plan, task) / rate


def make_arrays(
    plan: Plan,
    tasks: Iterable[Task],
    pack: Pack,
    limits: Limits,
    cpus: Callable[[str, str], tuple[int, int]] = lambda stage, model: (1, 1),
    room: int = MOST_ELEMENTS,
) -> list[Array]:
    """Pack tasks into elements and elements into arrays, groups in order.

    Args:
        plan: The plan.
        tasks: Tasks to submit, stages in order.
        pack: Tasks of one element, or ``auto``.
        limits: What the site allows.
        cpus: CPUs that an element of a stage and model may use, and those that it is billed; at least those of a task.
        room: Elements that may be queued now.
    """
    groups = by_group(tasks)
    packs = {group: _pack_of(plan, members, pack, cpus(*group)[0]) for group, members in groups.items()}
    if pack == "auto":
        packs = _fewer_elements(groups, packs, room)
    arrays = []
    for (stage, model), members in groups.items():
        size = packs[stage, model]
        elements = [tuple(t.index for t in members[i : i + size]) for i in range(0, len(members), size)]
        threads = members[0].threads
        cost = {task.index: task_seconds(plan, task) for task in members}
        used, billed = cpus(stage, model)
        used, billed = max(used, threads), max(used, threads, billed)
        for first in range(0, len(elements), limits.array_size):
            members_of_array = tuple(elements[first : first + limits.array_size])
            seconds = 0.0
            for element in members_of_array:
                at_once = min(max(1, used // threads), len(element))
                seconds += (_STARTING_SECONDS + sum(cost[index] for index in element) / at_once) * billed
            arrays.append(Array(stage, model, members_of_array, seconds, billed))
    return arrays


def _pack_of(plan: Plan, members: Sequence[Task], pack: Pack, cpus: int) -> int:
    """Tasks of one element of a group."""
    if pack != "auto":
        return int(pack)
    mean = sum(task_seconds(plan, task) for task in members) / len(members)
    at_once = max(1, cpus // members[0].threads)
    return max(1, int(TARGET_SECONDS * at_once / mean))


def _fewer_elements(groups: Mapping[Group, Sequence[Task]], packs: dict[Group, int], room: int) -> dict[Group, int]:
    """Larger packs where all elements then fit in the queue, up to a few times as large; else the rest follows."""
    for limit, most in ((room, _MOST_LONGER), (MOST_ELEMENTS, None)):
        if len(groups) <= limit < _elements(groups, packs):
            fitting = fitting_pack(groups, packs, limit)
            longest = {group: min(max(size, fitting), len(groups[group])) for group, size in packs.items()}
            if most is None or all(size <= most * packs[group] for group, size in longest.items()):
                return {group: max(size, fitting) for group, size in packs.items()}
    return packs


def _elements(groups: Mapping[Group, Sequence[Task]], packs: dict[Group, int]) -> int:
    """Elements of all groups."""
    return sum(-(-len(members) // packs[group]) for group, members in groups.items())


def fitting_pack(groups: Mapping[Group, Sequence[Task]], packs: dict[Group, int], limit: int) -> int:
    """The smallest least pack of all groups with which there are at most ``limit`` elements.

    Args:
        groups: Tasks by group; at most ``limit`` groups.
        packs: Tasks of one element, by group: a larger number here stays.
        limit: Most elements.
    """
    low, high = 1, max(len(members) for members in groups.values())
    while low < high:
        middle = (low + high) // 2
        if _elements(groups, {group: max(size, middle) for group, size in packs.items()}) <= limit:
            high = middle
        else:
            low = middle + 1
    return low
