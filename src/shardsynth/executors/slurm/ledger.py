"""What was submitted to Slurm for a run: an append-only file, so that any shell can go on with the run days later.

Each array has two lines in ``private/slurm/jobs.jsonl``: one before `sbatch`, with its name and the resources that it
asks for, and one after it with the job's number. A name without a number was being submitted when the login process
died; Slurm may know a job of that name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.executors.slurm.accounting import JobName
from shardsynth.executors.slurm.commands import Element, Known
from shardsynth.executors.slurm.element import by_hand_folder, elements_file, submitit_folder
from shardsynth.executors.slurm.ranges import parse_ranges
from shardsynth.run.documents import SubmittedLine, checked
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import create_once
from shardsynth.standalone.locks import Holder, holder_of, is_gone, remove_lock, this_process
from shardsynth.standalone.regular import open_to_append, read_regular

LOCK_WAIT_SECONDS = 120
_ID = re.compile("[0-9a-f]{8}")
#: Where an entry starts in a line, behind what was cut short.
_START = re.compile(rb'(?<=.)(?={"name")')
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LOCK_STALE_SECONDS = 900


@dataclass(frozen=True)
class Submitted:
    """One array that was submitted to Slurm.

    Attributes:
        name: Its job name, unique in the run.
        stage: Its stage.
        model: Its model, or "".
        asked: Resources that it asked for: mem_gb, time, cpus.
        job: The job's number; None if it is not submitted yet, or the login process died before it knew the number.
        elements: Task numbers of each element.
        dropped: Whether it will not be submitted, since an element that it needs failed.
        known_as: What its number is checked against: a controller that lost its state uses numbers again.
    """

    name: str
    stage: str
    model: str
    asked: dict[str, Any]
    job: int | None
    elements: list[list[int]]
    dropped: bool = False
    known_as: JobName = JobName("shardsynth-")

    def element(self, known: Known, number: int) -> Element | None:
        """What Slurm knows of an element; None for one of another job that has this number now."""
        found = known.get((self.job or 0, number))
        return found if found is not None and self.known_as.fits(found.name, "") else None


def known_as(arrays: Iterable[Submitted]) -> dict[int, JobName]:
    """Number of each array, and what it is checked against; of several with one number, the last one's."""
    return {array.job: array.known_as for array in arrays if array.job is not None}


@dataclass(frozen=True)
class Ledger:
    """The arrays that were submitted for one run."""

    run: RunDir

    @property
    def folder(self) -> Path:
        """The folder of all that Slurm's arrays need and write: scripts, lists of elements, logs."""
        return self.run.private / "slurm"

    @property
    def submitit(self) -> Path:
        """The folder of submitit's files: what each element is to do, its result, its logs."""
        return submitit_folder(self.run.root)

    @property
    def path(self) -> Path:
        """The append-only file, one JSON object a line."""
        return self.folder / "jobs.jsonl"

    @property
    def exists(self) -> bool:
        """Whether the run was ever submitted to Slurm."""
        return os.path.exists(self.path)  # false for a reader of another's run, to whom the folder is closed

    @property
    def by_hand(self) -> bool:
        """Whether plain scripts were written for the run, or an element of one has started."""
        written = not self.exists and os.path.exists(self.folder / "id")
        return written or os.path.exists(by_hand_folder(self.run.root))

    def prefix(self) -> str:
        """The start of every job name of this run, made at the first call: it says nothing of path or content."""
        path = self.folder / "id"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            create_once(path, secrets.token_hex(4).encode("ascii"))
        found = read_regular(path).decode("ascii", errors="replace").strip()
        if not _ID.fullmatch(found):
            raise RunError(f"{path}: damaged: wanted 8 hexadecimal digits; without it no job of this run is known")
        return f"shardsynth-{found}-"

    def append(self, **line: Any) -> None:
        """Add a line with the time of now; it is flushed before this returns."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(open_to_append(self.path), "wb") as file:
            start = "" if self._ends_whole() else "\n"  # a line before was cut short by a kill
            file.write((start + json.dumps({**line, "at": round(time.time(), 3)}) + "\n").encode("ascii"))
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Submitted]:
        """Every array, oldest first."""
        entries: dict[str, dict[str, Any]] = {}
        if not self.exists:
            return []
        for number, line in enumerate(self._lines(), 1):
            try:
                found = _entries(line)
            except ValueError as error:
                raise RunError(
                    f"{self.path}: line {number} is damaged ({error}); restore the file, or cancel what is queued, "
                    "move the file away, and `shardsynth resume` submits what is missing again"
                ) from None
            for entry in found:
                entries.setdefault(entry["name"], {}).update(entry)
        return [
            Submitted(
                name,
                e["stage"],
                e["model"],
                e["asked"],
                e.get("job"),
                self._elements(name),
                e.get("dropped", False),
                JobName(name, e.get("at", 0.0)),
            )
            for name, e in entries.items()
            if "stage" in e
        ]

    def _lines(self) -> list[bytes]:
        if os.path.isdir(self.path):
            raise RunError(f"{self.path}: damaged: a folder, and a file is wanted; move it away")
        return read_regular(self.path).splitlines()

    def _ends_whole(self) -> bool:
        content = read_regular(self.path)
        return not content or content.endswith(b"\n")

    def element_logs(self, stage: str, index: int) -> list[Path]:
        """Logs of the latest element that had a task and wrote any; none where no element did."""
        for array in reversed(self.read()):
            if array.stage == stage and array.job is not None:
                for number, indices in enumerate(array.elements):
                    if index in indices and (logs := self.logs_of(array.job, number)):
                        return logs
        return []

    def logs_of(self, job: int, number: int) -> list[Path]:
        """The logs of an element that are there and not empty: standard output, then standard error."""
        names = [self.submitit / f"{job}_{number}_0_log.out", self.submitit / f"{job}_{number}_0_log.err"]
        names.append(self.folder / "logs" / f"{job}_{number}.log")  # of a job from before submitit
        return [path for path in names if path.exists() and path.stat().st_size]

    def _elements(self, name: str) -> list[list[int]]:
        try:
            path = elements_file(self.run.root, name)
            lines = read_regular(path).decode("ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except IsADirectoryError:
            raise RunError(f"{path}: damaged: a folder, and a file is wanted; cancel, then resume") from None
        try:
            return [parse_ranges(line.partition(" ")[2]) for line in lines]
        except ValueError:
            raise RunError(
                f"{path}: damaged: wanted a line of task numbers for each element; `shardsynth cancel`, move it away, "
                "then `shardsynth resume`"
            ) from None

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the run's lock: one process submits at a time. A lock of a dead process is removed.

        Raises:
            RunError: Another process holds the lock for more than two minutes.
        """
        path = self.folder / "lock"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        end = time.monotonic() + LOCK_WAIT_SECONDS
        mine = this_process("submit")
        while not create_once(path, mine):
            holder = holder_of(path)
            if holder is not None and _is_dead(holder):
                remove_lock(path, holder.content)
                continue
            if time.monotonic() > end:
                raise RunError(
                    f"{self.run.root}: another process is submitting this run: {holder or 'unknown'}; wait for it; if "
                    f"that process is gone, remove {path}"
                )
            time.sleep(0.2)
        try:
            yield
        finally:
            remove_lock(path, mine)


def _entries(line: bytes) -> list[dict[str, Any]]:
    """What a line says; ValueError where it is damaged.

    One that a kill cut short says nothing, and what another process wrote behind it counts.
    """
    try:
        return [checked(line, SubmittedLine)]
    except ValueError:
        pieces = _START.split(line)
        if len(pieces) > 1:
            return [entry for piece in pieces for entry in _entries(piece)]
        if line.endswith(b"}") and not _is_cut(line):
            raise
        return []


def _is_cut(line: bytes) -> bool:
    """Whether a text or a brace is open at the end of a line."""
    rest = _TEXT.sub(b"", line)
    return b'"' in rest or rest.count(b"{") > rest.count(b"}")


def _is_dead(holder: Holder) -> bool:
    """Whether a lock can be removed: its process has ended, or it is older than any submission takes."""
    return time.time() - holder.at > _LOCK_STALE_SECONDS or is_gone(holder)
