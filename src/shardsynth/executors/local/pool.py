"""The local executor: worker processes on this machine, one per CPU. Each imports the libraries once.

The parent and a worker exchange JSON lines over the worker's standard input and output. If a worker dies, only its task
fails. If the parent dies, the workers' input is closed, and they end after their current task.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardsynth.planning.plan import Plan, Task
from shardsynth.run.rundir import RunDir
from shardsynth.run.schedule import Schedule
from shardsynth.standalone.cpus import thread_environment


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        task: The task.
        ok: Whether it is committed.
        rows: Rows that it read or wrote.
        seconds: Seconds that it took.
        error: One line that says why it failed; empty if it did not.
        exit_code: Exit code of the command line if it failed.
    """

    task: Task
    ok: bool
    rows: int = 0
    seconds: float = 0.0
    error: str = ""
    exit_code: int = 1


@dataclass
class _Worker:
    """One worker process and its current task."""

    process: subprocess.Popen[bytes]
    threads: int
    task: Task | None = None
    buffer: bytes = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as a line of JSON."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the worker has died, which `_wait` notices
            self.process.stdin.write(json.dumps(message).encode("utf-8") + b"\n")
            self.process.stdin.flush()


@dataclass
class Pool:
    """Runs tasks in worker processes.

    Attributes:
        run: The run directory.
        plan: The plan.
        slots: CPUs to use.
        debug: Print tracebacks of failed tasks.
        on_start: Called with each task that starts.
        on_progress: Called with a task and the rows that it has done.
        on_end: Called with each outcome.
        tick: Called at least every 0.2 seconds while tasks run.
    """

    run: RunDir
    plan: Plan
    slots: int
    debug: bool = False
    on_start: Callable[[Task], None] = lambda task: None
    on_progress: Callable[[Task, int], None] = lambda task, rows: None
    on_end: Callable[[Outcome], None] = lambda outcome: None
    tick: Callable[[], None] = lambda: None
    _workers: list[_Worker] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def execute(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run tasks as soon as their needs are met; returns one outcome per task that was started."""
        schedule = Schedule.of(self.plan, tasks)
        outcomes: list[Outcome] = []
        try:
            while True:
                self._start_tasks(schedule)
                if not any(worker.task for worker in self._workers):
                    return outcomes
                for outcome in self._wait():
                    schedule.done(outcome.task, ok=outcome.ok)
                    outcomes.append(outcome)
                    self.on_end(outcome)
        finally:
            self.close()

    def _start_tasks(self, schedule: Schedule) -> None:
        """Start tasks until no CPU is free or no task may start."""
        while True:
            busy = sum(min(worker.task.threads, self.slots) for worker in self._workers if worker.task)
            free = self.slots - busy
            # A task that wants more CPUs than there are gets all of them, once nothing else runs.
            task = schedule.next(free if busy else sys.maxsize) if free > 0 else None
            if task is None:
                return
            worker = self._worker_for(task.threads)
            worker.task = task
            self.on_start(task)
            worker.send({"stage": task.stage, "index": task.index})

    def _worker_for(self, threads: int) -> _Worker:
        """An idle worker with this thread count, or a new one: a process cannot change its count after imports."""
        idle = [worker for worker in self._workers if worker.task is None]
        for worker in idle:
            if worker.threads == threads:
                return worker
        if len(self._workers) >= self.slots and idle:
            self._end(idle[0])
        environment = {**os.environ, **thread_environment(threads), "PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "shardsynth.executors.local.worker", str(self.run.root)]
        process = subprocess.Popen(
            command + (["--debug"] if self.debug else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the parent, which then ends its workers
        )
        worker = _Worker(process, threads)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _wait(self) -> list[Outcome]:
        """Wait until at least one task has ended; the outcomes."""
        ended: list[Outcome] = []
        while not ended:
            for key, _ in self._selector.select(timeout=0.2):
                worker: _Worker = key.data
                data = os.read(key.fd, 1 << 16)
                if not data:
                    ended += self._outcome_of_dead(worker)
                    continue
                *lines, worker.buffer = (worker.buffer + data).split(b"\n")
                for line in lines:
                    outcome = self._outcome_of(worker, json.loads(line))
                    if outcome:
                        ended.append(outcome)
            self.tick()
        return ended

    def _outcome_of(self, worker: _Worker, message: dict[str, Any]) -> Outcome | None:
        """How the worker's task ended; None for a message of its progress."""
        task = worker.task
        if task is None:
            return None
        if "progress" in message:
            self.on_progress(task, message["progress"])
            return None
        worker.task = None
        return Outcome(task, **message)

    def _outcome_of_dead(self, worker: _Worker) -> list[Outcome]:
        """The failure of the task that a dead worker had, if it had one."""
        task, worker.task = worker.task, None
        self._end(worker)
        if task is None:
            return []
        code = worker.process.returncode
        reason = f"exit code {code}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            reason = f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return [Outcome(task, False, error=f"its worker process ended: {reason}")]

    def _end(self, worker: _Worker) -> None:
        """Close a worker's input, give it ten seconds to end, then kill it."""
        assert worker.process.stdin is not None and worker.process.stdout is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.process.stdout)
        with contextlib.suppress(OSError):
            worker.process.stdin.close()
        try:
            worker.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.process.stdout.close()
        if worker in self._workers:
            self._workers.remove(worker)

    def close(self) -> None:
        """End every worker. One that still has a task gets SIGTERM first, so that a training can be saved."""
        for worker in self._workers:  # before any wait, so that all of them save at the same time
            if worker.task is not None:
                worker.process.terminate()
        for worker in list(self._workers):
            self._end(worker)
        self._selector.close()
