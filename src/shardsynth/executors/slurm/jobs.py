"""A run's array elements as jobs of submitit, from any process and at any time.

Their states come from squeue, from sacct and from the run's commit records. Submitit's own jobs ask sacct alone: they
never end for an element that was cancelled while it waited, or pre-empted for good, or at a site without accounting;
and they take the result of a run of the element before for that of this one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import submitit
from submitit.core.core import InfoWatcher
from submitit.core.logger import get_logger
from submitit.core.utils import DelayedSubmission, UncompletedJobError

from shardsynth.errors import RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.accounting import NoAccountingError, in_accounting, with_peaks
from shardsynth.executors.slurm.causes import cause_of
from shardsynth.executors.slurm.clusters import where_the_run_is
from shardsynth.executors.slurm.commands import Known, SlurmError
from shardsynth.executors.slurm.ledger import Ledger, Submitted, known_as
from shardsynth.executors.slurm.packing import shown_group
from shardsynth.executors.slurm.pickled import Element, RunElement
from shardsynth.executors.slurm.ranges import format_ranges
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Group
from shardsynth.standalone.regular import read_regular

#: Between two calls of squeue while a job is waited for.
_PAUSE_SECONDS = 2.0
_UNKNOWN = "UNKNOWN"


class ElementWatcher(InfoWatcher):  # type: ignore[misc]
    """What Slurm and the commit records know of the elements of one run: one squeue, and a sacct only where needed.

    Args:
        run: The run directory, absolute.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(delay_s=30)
        self.ledger = Ledger(RunDir(run))
        self.elements: dict[str, slurm.Element] = {}

    def update(self) -> None:
        """Ask for all elements of the run. Where the controller does not answer, what was known stays."""
        self._num_calls += 1
        self._last_status_check = time.time()
        wanted = {_key(job_id) for job_id in self._registered}
        try:
            with where_the_run_is(self.ledger):
                controller, accounting = self._ask(wanted)
        except SlurmError as error:
            get_logger().warning(f"{error}; states are those of before")
            return
        arrays = {array.job: array for array in self.ledger.read()}
        known = with_peaks(controller, accounting)
        at_controller, anywhere = ({job for job, _ in elements} for elements in (controller, known))
        for job, number in wanted:
            element = known.get((job, number))
            if element is None or element.state == "LOST":
                if self.committed(arrays.get(job), number):
                    element = slurm.Element(job, number, "COMPLETED")
                elif job in at_controller or (element is None and job in anywhere):
                    # Of an element that was cancelled while it waited, Slurm keeps no record; its array is known.
                    element = slurm.Element(job, number, "CANCELLED")
                elif element is None:
                    element = slurm.Element(job, number, "LOST")
            self.elements[f"{job}_{number}"] = element
        for job_id in self._registered:
            if job_id in self.elements:
                element = self.elements[job_id]
                self._info_dict[job_id] = {
                    "JobID": job_id,
                    "State": element.state,
                    "Reason": element.reason,
                    "ExitCode": f"{element.exit_code}:{element.killed_by}",
                    "NodeList": element.node,
                }

    def _ask(self, wanted: set[tuple[int, int]]) -> tuple[Known, Known]:
        """What the controller knows, and what the accounting knows of arrays that the controller does not know whole.

        Raises:
            SlurmError: The controller does not answer.
        """
        controller = {(e.job, e.number): e for _, e in slurm.at_controller(self.ledger.prefix())}
        unknown = wanted - set(controller)
        names = known_as(self.ledger.read())
        accounting: Known = {}
        with contextlib.suppress(NoAccountingError):
            accounting = in_accounting({job: names[job] for job, _ in unknown if job in names})
        return controller, accounting

    def committed(self, array: Submitted | None, number: int) -> bool:
        """Whether all tasks of an element are committed."""
        if array is None or not 0 <= number < len(array.elements):
            return False
        run = self.ledger.run
        return all(run.last_record(array.stage, index) is not None for index in array.elements[number])

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Slurm's state of an element, one word; ``UNKNOWN`` until the controller has answered once."""
        return str(self.get_info(job_id, mode=mode).get("State", _UNKNOWN))

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether an element has ended, or will never start."""
        state = self.get_state(job_id, mode)
        element = self.elements.get(job_id)
        return state not in slurm.WAITING | slurm.RUNNING | {_UNKNOWN} or (element is not None and element.stuck)


def _key(job_id: str) -> tuple[int, int]:
    job, _, number = job_id.partition("_")
    return int(job), int(number or -1)


@functools.lru_cache(maxsize=64)
def watcher_of(run: Path) -> ElementWatcher:
    """The one watcher of a run."""
    return ElementWatcher(run)


class _PlainUnpickler(pickle.Unpickler):
    """Opens a pickle of plain data, or of what an element is asked to do: it runs no code that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = {
            f"{kind.__module__}.{kind.__qualname__}": kind for kind in (DelayedSubmission, Element, RunElement)
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it holds more than plain data ({module}.{name})")
        return known[f"{module}.{name}"]


def load_plain(path: Path) -> Any:
    """The content of one of submitit's pickles in a run directory; RunError if it would run code.

    A run directory may be somebody else's: submitit itself would run whatever lies there.
    """
    try:
        return _PlainUnpickler(io.BytesIO(read_regular(path))).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError) as error:
        raise RunError(f"{path}: not opened: {error}") from None


class ElementJob(submitit.SlurmJob[Any]):  # type: ignore[misc]
    """One array element of a run: state, result, wait, cancel, stdout, stderr, as of any job of submitit.

    Args:
        folder: Folder of submitit's files, ``private/slurm/submitit`` of the run.
        job_id: The element, such as ``12_3``.
        tasks: For submitit; an element has one.
    """

    def __init__(self, folder: Path | str, job_id: str, tasks: Sequence[int] = (0,)) -> None:
        self.watcher = watcher_of(Path(folder).absolute().parents[2])
        super().__init__(folder=folder, job_id=job_id, tasks=tasks)

    def done(self, force_check: bool = False) -> bool:
        """Whether the element has ended, or will never start; one that waits to run again has not."""
        written = self.paths.result_pickle.exists()
        due = time.time() - self.watcher._last_status_check > _PAUSE_SECONDS
        return self.watcher.is_done(self.job_id, "force" if force_check or (written and due) else "standard")

    def cancel(self, check: bool = True) -> None:
        """Cancel the element; SlurmError if Slurm refuses and ``check`` is true."""
        try:
            with where_the_run_is(self.watcher.ledger):
                slurm.cancel([self.job_id])
        except SlurmError:
            if check:
                raise

    def submission(self) -> DelayedSubmission:
        """What the element was asked to do."""
        return load_plain(self.paths.submitted_pickle)

    def _get_outcome_and_result(self) -> tuple[str, Any]:
        """The result that the element wrote, or what its commit records say; else UncompletedJobError, with a cause."""
        path = self.paths.result_pickle
        with contextlib.suppress(OSError):  # a network file system looks again
            path.parent.chmod(path.parent.stat().st_mode)
        by_itself = self.watcher.get_state(self.job_id, "cache") in ("COMPLETED", "FAILED")
        end = time.monotonic() + (self._results_timeout_s if by_itself else 0)
        while not path.exists():
            records = self._from_records()
            if records is not None:
                return records
            if time.monotonic() >= end:
                return self._raise_cause()
            time.sleep(0.5)  # the file system may be slow
        outcome, result = load_plain(path)
        if outcome == "success" or by_itself:
            return outcome, result
        return self._from_records() or self._raise_cause()

    def _from_records(self) -> tuple[str, Any] | None:
        array, number = self._array(), _key(self.job_id)[1]
        ledger = self.watcher.ledger
        if array is None or not self.watcher.committed(array, number):
            return None
        records = [ledger.run.last_record(array.stage, index) for index in array.elements[number]]
        seconds = sum(record["seconds"] for record in records if record is not None)
        return "success", {
            "stage": array.stage,
            "tasks": format_ranges(array.elements[number]),
            "seconds": round(seconds, 3),
        }

    def _array(self) -> Submitted | None:
        return next((array for array in self.watcher.ledger.read() if array.job == _key(self.job_id)[0]), None)

    def _raise_cause(self) -> tuple[str, Any]:
        element, array = self.watcher.elements.get(self.job_id), self._array()
        cause = cause_of(element, array.asked if array else {}) if element else None
        reason = cause.advice if cause else "it left no result"
        raise UncompletedJobError(f"element {self.job_id}: {reason}\n{self.stderr() or ''}".rstrip())


class Jobs(Sequence[ElementJob]):
    """The elements of a run: the latest one of each task, stages in the order of their submission.

    ``jobs["sample", "tvae"]`` are those of a stage and model, ``jobs["report"]`` those of a stage. The candidates of a
    model with ``replicas`` are ``jobs["replicas", "tvae"]``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        latest: dict[tuple[str, int], tuple[Submitted, int]] = {}
        for array in ledger.read():
            if array.job is not None:
                for number, indices in enumerate(array.elements):
                    latest.update(dict.fromkeys(((array.stage, index) for index in indices), (array, number)))
        elements: dict[tuple[int, int], Group] = {
            (array.job or 0, number): shown_group(array.stage, array.model) for array, number in latest.values()
        }
        self._jobs = [
            (group, ElementJob(ledger.submitit, f"{job}_{number}")) for (job, number), group in sorted(elements.items())
        ]

    @property
    def groups(self) -> list[Group]:
        """The stages and models that have elements."""
        return list(dict.fromkeys(group for group, _ in self._jobs))

    def __len__(self) -> int:
        """How many elements there are."""
        return len(self._jobs)

    def __iter__(self) -> Iterator[ElementJob]:
        """All elements."""
        return iter(job for _, job in self._jobs)

    @overload
    def __getitem__(self, key: int) -> ElementJob: ...

    @overload
    def __getitem__(self, key: slice | str | tuple[str, str]) -> list[ElementJob]: ...

    def __getitem__(self, key: int | slice | str | tuple[str, str]) -> ElementJob | list[ElementJob]:
        """An element by its place, or those of a stage, or of a stage and model; RunError if nothing has that name."""
        if isinstance(key, int):
            return self._jobs[key][1]
        if isinstance(key, slice):
            return [job for _, job in self._jobs[key]]
        found = [job for group, job in self._jobs if group == key or group[0] == key]
        if not found:
            names = ", ".join(repr(group[0] if not group[1] else group) for group in self.groups)
            raise RunError(f"{self.ledger.run.root}: no jobs of {key!r}; jobs: {names or 'none'}")
        return found
