"""Submitit's Slurm executor with our batch script, our array path and our jobs."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission

from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.jobs import ElementJob
from shardsynth.executors.slurm.ledger import Ledger
from shardsynth.executors.slurm.script import array_script
from shardsynth.standalone.files import write_atomic


class ShardsynthExecutor(submitit.SlurmExecutor):  # type: ignore[misc]
    """Submits elements of one run, as one array with our batch script.

    What differs from submitit's own executor: the script on the host reads the exit code and requeues, so it works in
    an image; SIGTERM counts as well as USR2; an array of one element is an array; Slurm is called in a clean
    environment; the job's number is written down in the run before anything else happens.

    Its parameters are those of `shardsynth.executors.slurm.script.array_script`.

    Args:
        ledger: The ledger of the run.
    """

    job_class = ElementJob

    def __init__(self, ledger: Ledger) -> None:
        ledger.submitit.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(ledger.submitit)
        self.ledger = ledger

    @classmethod
    def affinity(cls) -> int:
        """1 where there is an sbatch, else -1; submitit would look for srun, which is not needed."""
        return -1 if shutil.which("sbatch") is None else 1

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        """Parameters of ``update_parameters``."""
        return {*inspect.signature(array_script).parameters} - {"elements", "run"}

    def _internal_update_parameters(self, **parameters: Any) -> None:
        unknown = sorted(set(parameters) - self._valid_parameters())
        if unknown:
            raise ValueError(f"no such parameters: {unknown}; parameters: {sorted(self._valid_parameters())}")
        self.parameters.update(parameters)

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        """The batch script; it holds ``command`` in its own words."""
        return array_script(**self.parameters, run=self.ledger.run.root)

    def write(self, delayed_submissions: Sequence[DelayedSubmission]) -> Path:
        """Write all that an array needs, and submit nothing: anybody's `sbatch` of the script is enough.

        The pickles have the array's name. Each element gives its own pickle the job's number that submitit looks for.

        Returns:
            The batch script.
        """
        self.parameters["elements"] = len(delayed_submissions)
        for path, delayed in zip(self._pickles(), delayed_submissions):
            delayed.dump(path)
        script = self.ledger.folder / f"{self.parameters['name']}.sbatch"
        write_atomic(script, self._make_submission_file_text(self._submitit_command_str, script.stem), 0o600)
        return script

    def _pickles(self) -> list[Path]:
        """What the elements do, until the array has a number."""
        return [
            self.folder / f"{self.parameters['name']}_{number}.pkl" for number in range(self.parameters["elements"])
        ]

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[submitit.Job[Any]]:
        """Submit one array; SlurmError if Slurm refuses it."""
        script = self.write(delayed_submissions)
        try:
            number = slurm.submit_script(script)
        except BaseException:
            for path in self._pickles():
                path.unlink(missing_ok=True)
            raise
        self.ledger.append(name=script.stem, job=number)
        jobs = []
        for element, path in enumerate(self._pickles()):
            job = self.job_class(self.folder, f"{number}_{element}")
            with contextlib.suppress(FileNotFoundError):  # the element was faster
                os.replace(path, job.paths.submitted_pickle)
            jobs.append(job)
        with contextlib.suppress(FileExistsError):
            jobs[0].paths.submission_file.symlink_to(os.path.relpath(script, self.folder))
        return jobs
