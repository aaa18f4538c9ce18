"""What submitit pickles for an element, and runs on its node: tasks of one stage, by their numbers.

The pickle is tiny: a path, a stage and a range. The same callable is submitted by `shardsynth submit` and by anybody's
own `submitit.AutoExecutor`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from shardsynth.errors import InputError, Saved, ShardsynthError, SpaceError, TaskError
from shardsynth.executors.slurm.element import NO_SPACE, failure_file, run_indices
from shardsynth.executors.slurm.ranges import parse_ranges
from shardsynth.standalone import signals
from shardsynth.standalone.files import read_json

#: Our batch script sets it to the element's id: it reads the exit code, and requeues the element on 75.
ELEMENT = "SHARDSYNTH_ELEMENT"
_MOST_ERRORS = 5


@dataclass(frozen=True)
class Element:
    """Tasks that one array element runs.

    Attributes:
        run: The run directory, absolute.
        stage: The stage.
        tasks: Numbers of the tasks, such as ``0-9,12``.
    """

    run: str
    stage: str
    tasks: str


class RunElement:
    """Runs an element, for any executor of submitit; ``run_element`` is the one instance."""

    def __call__(self, element: Element) -> dict[str, Any]:
        """Run the tasks of an element that are not committed.

        Args:
            element: The element.

        Returns:
            ``stage``, ``tasks`` (their numbers, such as ``0-9,12``) and ``seconds``.

        Raises:
            InputError: The input is wrong.
            SpaceError: The disk or the quota is full.
            Saved: It was asked to stop, and what was finished is committed.
            TaskError: A task failed.
        """
        if _in_our_script():
            _run_in_our_script(element)
        executor = os.environ.get("SUBMITIT_EXECUTOR", "")
        on_stop = signal.getsignal(signal.SIGUSR2)
        if executor in ("slurm", "local"):
            _remove_result()
            if threading.current_thread() is threading.main_thread():
                signals.install()
        started = time.monotonic()
        code = run_indices(Path(element.run), element.stage, parse_ranges(element.tasks))
        if executor in ("slurm", "local"):
            if code == Saved.exit_code and signals.asked_by() == signal.SIGUSR2 and callable(on_stop):
                on_stop(signal.SIGUSR2, None)  # submitit's own: it calls `checkpoint`, and queues the element again
            signals.ignore()
        if code:
            raise _error(element, code)
        return _result(element, started)

    def checkpoint(self, element: Element) -> Any:
        """What submitit queues again after it asked the element to stop: the same; what is committed stays."""
        if _in_our_script():  # submitit had the signal before this callable did
            os._exit(Saved.exit_code)
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, element)


run_element = RunElement()


def _in_our_script() -> bool:
    number = f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return os.environ.get(ELEMENT) == number


def _run_in_our_script(element: Element) -> NoReturn:
    """Run an element, write its result for submitit, and end the process with the exit code for the batch script."""

    def last_words() -> None:
        _write_result("error", f"{element.stage} {element.tasks}: asked to stop, and killed after a long wait")

    signals.install(last_words=last_words)
    started = time.monotonic()
    try:
        code = run_indices(Path(element.run), element.stage, parse_ranges(element.tasks))
        error = str(_error(element, code)) if code else ""
    except ShardsynthError as caught:
        print(f"shardsynth: {caught}", file=sys.stderr, flush=True)
        code, error = caught.exit_code, str(caught)
    if code:
        _write_result("error", error)
    else:
        _write_result("success", _result(element, started))
    # Do not wait for threads of libraries: everything is flushed and committed by now.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _result(element: Element, started: float) -> dict[str, Any]:
    seconds = round(time.monotonic() - started, 3)
    return {"stage": element.stage, "tasks": element.tasks, "seconds": seconds}


def _error(element: Element, code: int) -> ShardsynthError:
    """The error of an element that ended with an exit code: its tasks' own words."""
    lines = []
    for index in parse_ranges(element.tasks):
        with contextlib.suppress(OSError, ValueError):
            failure = read_json(failure_file(Path(element.run), element.stage, index))
            lines.append(f"{element.stage} {index}: {failure['error']}")
    if code == Saved.exit_code:
        return Saved(f"{element.stage} {element.tasks}: asked to stop, and saved; it goes on when it starts again")
    kind = {InputError.exit_code: InputError, NO_SPACE: SpaceError}.get(code, TaskError)
    if len(lines) > _MOST_ERRORS:
        lines[_MOST_ERRORS:] = [f"and {len(lines) - _MOST_ERRORS} more"]
    return kind("\n".join(lines) or f"{element.stage} {element.tasks}: failed with exit code {code}; see the log")


def _write_result(outcome: str, value: Any) -> None:
    """Write an element's result where submitit looks for it; what is committed counts, even where that fails."""
    from submitit.core import job_environment, utils

    try:
        path = job_environment.JobEnvironment().paths.result_pickle
        with utils.temporary_save_path(path) as temporary:
            utils.cloudpickle_dump((outcome, value), temporary)
    except (OSError, AssertionError) as error:
        print(f"submitit's result could not be written: {error}", file=sys.stderr)


def _remove_result() -> None:
    """Remove the result of a run of this element before: submitit would take it for the outcome of this one."""
    from submitit.core import job_environment

    paths = job_environment.JobEnvironment().paths
    for path in (paths.result_pickle, paths.result_pickle.with_suffix(".pkl.save_tmp")):
        path.unlink(missing_ok=True)
