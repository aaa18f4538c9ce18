"""The run directory: its paths, and how a task commits.

A task commits, or it never happened. An attempt writes its outputs under temporary names beside the final ones, flushes
them and then creates the commit record. The first record wins, before any final name changes. The winner, or whoever
reads its record next, gives the outputs their final names. The loser deletes its own files. So two attempts can run at
once. A kill at any moment leaves either no record, or one whose renames can be finished.

A record counts while its outputs exist with the recorded size. If a purge deletes one, the task runs again and commits
as the next generation: ``<index>.1.json``, ``<index>.2.json`` and so on. A damaged record does not count either; it is
kept as ``<name>.damaged``.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardsynth._version import __version__
from shardsynth.errors import RunError, no_folder_there
from shardsynth.planning.plan import Task
from shardsynth.run.documents import RESTORE_PLAN, AnyPlan, PlanFile, read_document, with_checksum
from shardsynth.run.records import WITHDRAWN, Damaged, read_record, set_aside, was_ever_committed
from shardsynth.run.trust import sign_classes
from shardsynth.standalone import signals
from shardsynth.standalone.access import close_to_others, make_folder, readable_by_group
from shardsynth.standalone.cpus import peak_memory
from shardsynth.standalone.files import (
    attempt_name,
    create_once,
    give_final_name,
    sha256_of,
    sync_file,
    sync_folder,
    temporary_beside,
    write_atomic,
)
from shardsynth.standalone.image import for_record

#: A task calls it with the rows that it has done so far.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class RunDir:
    """Paths of one run. Nothing is created before ``create`` or ``write_plan`` is called.

    Attributes:
        root: The run directory.
        parts_beside: Whether synthetic parts lie in the folder that holds the run directory: so does
            `shardsynth sample`, for a single model.
    """

    root: Path
    parts_beside: bool = False

    @classmethod
    def at(cls, folder: Path) -> RunDir:
        """The run directory that a user names: of `shardsynth sample` also by the folder of the parts."""
        inner = folder / "_run"
        beside = not (folder / "plan.json").exists() and (inner / "plan.json").exists()
        return cls(inner if beside else folder)

    @property
    def private(self) -> Path:
        """Folder of all that derives from single real rows; its owner's alone, also under ``access: group``."""
        return self.root / "private"

    @property
    def of_another(self) -> bool:
        """Whether the run is another user's, who lets this one read it: ``private/`` is there and closed."""
        return os.path.exists(self.private) and not os.access(self.private, os.R_OK | os.X_OK)

    def refuse_of_another(self) -> None:
        """RunError where the run is another user's: only its owner can go on with it."""
        if self.of_another:
            raise RunError(f"{self.root}: the run of another user: you may read its status and its samples, no more")

    @property
    def plan_file(self) -> Path:
        """The plan, as JSON."""
        return self.root / "plan.json"

    @property
    def job_file(self) -> Path:
        """The job as it was planned."""
        return self.root / "job.yaml"

    @property
    def closed(self) -> bool:
        """Whether ``private/`` was deleted on purpose: the run cannot be resumed, and no task counts as missing."""
        return (self.root / "closed.json").exists()

    def model(self, name: str) -> Path:
        """Folder of a fitted model that may be given away."""
        return self.root / "models" / name

    def stock_pickle(self, name: str) -> Path:
        """SDV's own synthesizer as a pickle: it was fitted on real rows."""
        return self.private / "models" / name / "synthesizer.pkl"

    def checkpoint(self, name: str, replica: int = -1) -> Path:
        """State of a training: saved every few minutes, and when it is asked to stop."""
        return (
            self.private / "checkpoints" / (f"{name}.safetensors" if replica < 0 else f"{name}.{replica}.safetensors")
        )

    def replica(self, name: str, number: int) -> Path:
        """Folder of one of several trainings of a model; the best one becomes the model."""
        return self.private / "replicas" / name / str(number)

    def losses(self, name: str) -> Path:
        """Losses of a trained model by epoch, as Parquet."""
        return self.root / "metrics" / f"{name}.loss.parquet"

    def samples(self, name: str) -> Path:
        """Folder of a model's synthetic rows."""
        if self.parts_beside:
            return self.root.parent
        return self.root / "samples" / name

    def part(self, name: str, index: int) -> Path:
        """One Parquet file of a model's synthetic rows."""
        return self.samples(name) / f"part-{index:05d}.parquet"

    def metrics(self, name: str) -> Path:
        """All figures of a model, as JSON."""
        return self.root / "metrics" / f"{name}.json"

    def profile_part(self, index: int, name: str) -> Path:
        """Profile of the ``train`` or ``holdout`` rows that one task of pass 1 read."""
        return self.private / "profile" / f"{index}.{name}"

    def count_part(self, index: int, name: str) -> Path:
        """Counts of one task of pass 2 (``train``, ``holdout``, ``inner`` or ``public`` table), or its ``drift``."""
        return self.private / "counts" / f"{index}.{name}"

    def ranges_file(self, task: Task) -> Path:
        """Exact ranges of the columns in the parts of one sampling task. Parquet readers ignore its folder."""
        return self.samples(task.model) / "_ranges" / f"{task.parts[0]}.json"

    def score_part(self, task: Task, name: str) -> Path:
        """Output of a scoring task: counts of ``all`` rows and of the ``head``, and the chosen ``rows``."""
        return self.private / "scores" / task.model / f"{task.parts[0]}.{name}"

    def log(self, stage: str, index: int) -> Path:
        """Log of a task: what its attempts printed."""
        return self.private / "logs" / stage / f"{index // 1000}" / f"{index}.log"

    def record(self, stage: str, index: int, generation: int = 0) -> Path:
        """Commit record of a task; ``generation``: how often its outputs were lost before."""
        suffix = f".{generation}" if generation else ""
        # One string, since joining 10^5 paths with ``/`` takes long.
        return Path(f"{self.root}/tasks/{stage}/{index // 1000}/{index}{suffix}.json")

    def create(self, *, group: bool = False) -> None:
        """Make the folders, with their parent's group and setgid bit; the run's folder, if it is there, stays as it is.

        Args:
            group: Whether the group may read the run's folder if this call makes it (never ``private/``).

        Raises:
            RunError: They cannot be made or written.
        """
        for folder, mode in ((self.root, 0o750 if group else 0o700), (self.private, 0o700)):
            try:
                make_folder(folder, mode)
            except (FileExistsError, NotADirectoryError):
                raise RunError(no_folder_there(folder)) from None
            except OSError as error:
                raise RunError(f"{folder}: cannot be made: {error.strerror}; choose another output") from None
            if not os.access(folder, os.W_OK):
                raise RunError(f"{folder}: cannot be written here (Read-only file system, or not yours)")
        close_to_others(self.private)

    def write_plan(self, job_yaml: str, plan: dict[str, Any]) -> None:
        """Write the job and the plan, unless they are there already.

        Args:
            job_yaml: The job, as YAML.
            plan: The plan, as plain data.

        Raises:
            RunError: The folder holds another run or other files, or cannot be written.
        """
        new = self.root.exists() and not self.plan_file.exists()
        if new and any(not path.name.startswith(".") and path != self.private for path in self.root.iterdir()):
            raise RunError(f"{self.root}: the folder is not empty and holds no run; choose another `output:`")
        group = plan.get("job", {}).get("access") == "group"
        self.create(group=group)
        content = _plan_text(plan).encode("utf-8")
        # A run that an older version planned with `evaluate.group`, or without `extremes`, goes on as it began.
        same = {plan["identity"], plan.get("older_identity"), *plan.get("older_identities", [])}
        with readable_by_group(group):
            if not create_once(self.plan_file, content) and self.read_plan()["identity"] not in same:
                raise RunError(
                    f"{self.root}: the folder holds the run of another job, another input or other metadata; "
                    "choose another `output:`, or remove the folder"
                )
            if not self.job_file.exists():
                write_atomic(self.job_file, job_yaml, 0o640 if group else 0o600)
        constraints = plan.get("job", {}).get("constraints") or []
        sign_classes(self.private, [declared["class_name"] for declared in constraints])

    def read_plan(self, *, old_sampling: bool = False) -> dict[str, Any]:
        """The plan as plain data; ``old_sampling``: also one of the first versions of `shardsynth sample`.

        Raises:
            RunError: There is none, or it is damaged.
        """
        try:
            return read_document(self.plan_file, AnyPlan if old_sampling else PlanFile, RESTORE_PLAN)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.root}: no run here (no plan.json); `shardsynth run JOB` makes one") from None

    def change_plan(self, plan: dict[str, Any]) -> None:
        """Replace the plan, as plain data."""
        write_atomic(self.plan_file, _plan_text(plan))

    def committed(self, stage: str, index: int, *, verify: bool = False) -> dict[str, Any] | None:
        """The latest record of a task if all its outputs are there, else None.

        Args:
            stage: The stage.
            index: Number of the task in the stage.
            verify: Compare checksums of the outputs too, not only sizes.
        """
        _, record = self._latest(stage, index)
        return record if record is not None and self._roll_forward(record, verify) else None

    def last_record(self, stage: str, index: int) -> dict[str, Any] | None:
        """The latest record of a task, even if its outputs were deleted since; None if it never committed."""
        return self._latest(stage, index)[1]

    def _latest(self, stage: str, index: int) -> tuple[int, dict[str, Any] | None]:
        """The highest generation of a task's records, and that record; (-1, None) if there is none."""
        generation: int = -1
        latest: dict[str, Any] | None = None
        while (record := read_record(self.record(stage, index, generation + 1), stage, index)) is not None:
            generation, latest = generation + 1, None if isinstance(record, Damaged) else record
        return generation, latest

    def withdraw(self, stage: str, index: int) -> None:
        """Let a task count as not committed, so that it is done again; its records stay under other names."""
        generation = 0
        while (path := self.record(stage, index, generation)).exists():
            set_aside(path, WITHDRAWN)
            generation += 1

    def was_ever_committed(self, stage: str, index: int) -> bool:
        """Whether a task was committed before, also if its record is damaged now."""
        return was_ever_committed(self.record(stage, index))

    def _roll_forward(self, record: dict[str, Any], verify: bool) -> bool:
        """Give a record's outputs their final names where a kill prevented it; whether all outputs are there."""
        for output in record["outputs"]:
            final = os.path.join(self.root, output["path"])  # plain text: 10^5 of them are looked at on `resume`
            temporary = os.path.join(os.path.dirname(final), output["temporary"])
            with contextlib.suppress(FileNotFoundError):
                if os.stat(temporary).st_size == output["size"]:
                    give_final_name(temporary, final)
            try:
                if os.stat(final).st_size != output["size"]:
                    return False
            except OSError:
                return False
            if verify and sha256_of(Path(final)) != output["sha256"]:
                return False
        return True

    def noise_record(self, stage: str, index: int) -> Path:
        """Copy of the commit record of a task that drew noise for differential privacy."""
        return self.root / "noise" / f"{stage}-{index}.json"

    def drawn_before(self, stage: str, index: int) -> dict[str, Any] | None:
        """The commit record of a task whose noise was drawn before; it is restored if it is damaged or gone.

        Returns:
            The record; None if no noise was drawn.

        Raises:
            RunError: Noise was drawn, and what it was added to is gone or damaged.
        """
        copy = self.noise_record(stage, index)
        record = read_record(copy, stage, index)
        if record is None and not self.was_ever_committed(stage, index):
            return None
        if record is None or isinstance(record, Damaged) or not self._roll_forward(record, verify=True):
            lost = ", ".join(output["path"] for output in record["outputs"]) if isinstance(record, dict) else str(copy)
            raise RunError(
                f"{self.root}: the noise of its differential privacy was drawn once ({stage} {index}), and not all of "
                f"it is there unchanged: {lost}; another draw would spend the budget twice: restore it, or start "
                "another run, which has a budget of its own"
            )
        latest = self.committed(stage, index)
        if latest is not None:
            return latest
        generation, _ = self._latest(stage, index)
        path = self.record(stage, index, generation + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        create_once(path, (json.dumps(with_checksum(record), ensure_ascii=False) + "\n").encode("utf-8"))
        return record

    @contextlib.contextmanager
    def attempt(self, stage: str, index: int) -> Iterator[Attempt]:
        """One attempt at a task; what it has not committed by the end of the block is deleted."""
        attempt = Attempt(self, stage, index)
        try:
            yield attempt
        finally:
            attempt.discard()


def _plan_text(plan: dict[str, Any]) -> str:
    return json.dumps(with_checksum(plan), indent=1, ensure_ascii=False) + "\n"


@dataclass
class Attempt:
    """The outputs of one attempt at a task; they have temporary names until it commits.

    Attributes:
        run: The run directory.
        stage: Stage of the task.
        index: Number of the task in the stage.
        name: A text that no other attempt has.
        started: When the attempt started, in seconds since 1970.
        cpu_started: CPU seconds of this process by then.
    """

    run: RunDir
    stage: str
    index: int
    name: str = field(default_factory=attempt_name)
    started: float = field(default_factory=time.time)
    cpu_started: float = field(default_factory=time.process_time)
    _outputs: dict[str, Path] = field(default_factory=dict)
    _sums: dict[str, str] = field(default_factory=dict)

    def output(self, path: Path) -> Path:
        """The temporary name under which to write an output; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path, self.name)
        self._outputs[os.path.relpath(path, self.run.root)] = temporary
        return temporary

    def write_json(self, path: Path, data: Any) -> None:
        """Write an output as indented JSON."""
        self.output(path).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def checksum(self, path: Path, sha256: str) -> None:
        """Set the SHA-256 of an output, if its writer computed it: the file is not read again for it."""
        self._sums[os.path.relpath(path, self.run.root)] = sha256

    def commit(
        self, rows: int = 0, *, replace: bool = False, only_once: bool = False, **details: Any
    ) -> dict[str, Any]:
        """Flush the outputs, create the commit record and give the outputs their final names.

        Args:
            rows: Rows that the task read or wrote.
            replace: Commit even if the task is committed: these outputs replace the others.
            only_once: The outputs hold noise that may be drawn only once. A copy of the record is kept first, outside
                of the task's records, for ``RunDir.drawn_before``.
            **details: More for the record.

        Returns:
            The record that won: this attempt's, or that of another attempt that was faster.

        Raises:
            Saved: This process was asked to stop, and its time is over.
            SpaceError: The disk or the quota is full.
        """
        signals.refuse_overdue()
        outputs = []
        for relative, temporary in self._outputs.items():
            sync_file(temporary)
            outputs.append(
                {
                    "path": relative,
                    "temporary": temporary.name,
                    "size": temporary.stat().st_size,
                    "sha256": self._sums.get(relative) or sha256_of(temporary),
                }
            )
        for folder in {temporary.parent for temporary in self._outputs.values()}:
            sync_folder(folder)
        record = {
            "stage": self.stage,
            "index": self.index,
            "rows": rows,
            "outputs": outputs,
            "seconds": round(time.time() - self.started, 3),
            "finished": round(time.time(), 3),
            "cpu_seconds": round(time.process_time() - self.cpu_started, 3),
            **peak_memory(),
            "host": socket.gethostname(),
            "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "versions": {"shardsynth": __version__, "python": platform.python_version()},
            **for_record(),
            **details,
        }
        content = (json.dumps(with_checksum(record), ensure_ascii=False) + "\n").encode("utf-8")
        if only_once:
            copy = self.run.noise_record(self.stage, self.index)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not create_once(copy, content):  # another attempt drew noise first: that one counts
                return self.run.drawn_before(self.stage, self.index) or record
        while True:
            generation, latest = self.run._latest(self.stage, self.index)
            if not replace and latest is not None and self.run._roll_forward(latest, verify=False):
                return latest
            path = self.run.record(self.stage, self.index, generation + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            if create_once(path, content):
                self._outputs.clear()
                self.run._roll_forward(record, verify=False)
                return record

    def discard(self) -> None:
        """Delete the outputs that were not committed."""
        for temporary in self._outputs.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._outputs.clear()
