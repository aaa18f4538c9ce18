"""Deletes what a run no longer needs, or all that derives from real rows; it says what is still there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from shardsynth.errors import TaskError
from shardsynth.planning.plan import Plan
from shardsynth.run.integrity import check_before, check_done
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.access import readable_by_group
from shardsynth.standalone.files import human_bytes, write_json


def clean(plan: Plan, run: RunDir, *, private: bool) -> list[str]:
    """Delete leftovers of dead attempts and merged intermediates; ``private``: all that derives from real rows.

    Every output is checked first. Links are deleted, what they point to is not.

    Raises:
        RunError: The run is not done, or an output is damaged: nothing was deleted.
        TaskError: Not all of it could be deleted; the message names what is still there.
    """
    run.refuse_of_another()
    check_done(plan, run)
    if not run.closed:
        check_before(plan, run, "cleaned")
    if private:
        with readable_by_group(plan.job.access == "group"):
            write_json(run.root / "closed.json", {"private": "deleted"})
        gone = [run.private]
    else:
        names = ("partition", "gathered", "profile", "counts", "scores", "submitit", "slurm/submitit")
        gone = [run.private / name for name in names]
    freed, left = 0, []
    for link in (run.private / "slurm" / "submitit").glob("*_submission.sh"):
        if link.is_symlink():  # to the run's own script of the array, which stays
            link.unlink()
    for folder in gone:
        more, kept = delete_folder(folder)
        freed += more
        left += kept
    beside = run.root.parent.glob(".part-*.tmp") if run.parts_beside else ()
    for path in [*run.root.rglob(".*.tmp"), *beside]:
        with contextlib.suppress(OSError):
            freed += path.lstat().st_size
            path.unlink()
    if left:
        raise TaskError("\n".join([f"{human_bytes(freed)} freed; still there:", *left]))
    return [f"{human_bytes(freed)} freed"]


def delete_folder(folder: Path) -> tuple[int, list[str]]:
    """Delete a folder and all in it. Links are deleted, and what they point to is not.

    Args:
        folder: The folder; it need not exist.

    Returns:
        Bytes that were freed, and a line for each thing that is still there: a file that could not be deleted, or what
        a link pointed to.
    """
    if folder.is_symlink():
        return _delete_link(folder)
    freed, left = 0, []
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0, []
    except OSError as error:
        return 0, [f"{folder}: could not be read: {error.strerror}"]
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) or entry.is_symlink():
            more, kept = delete_folder(path)
            freed += more
            left += kept
            continue
        try:
            size = entry.stat(follow_symlinks=False).st_size
            path.unlink()
            freed += size
        except OSError as error:
            left.append(f"{path}: could not be deleted: {error.strerror}")
    try:
        folder.rmdir()
    except OSError as error:
        if not left:
            left.append(f"{folder}: could not be deleted: {error.strerror}")
    return freed, left


def _delete_link(path: Path) -> tuple[int, list[str]]:
    target = path.resolve()
    try:
        path.unlink()
    except OSError as error:
        return 0, [f"{path}: could not be deleted: {error.strerror}"]
    gone = f"{path}: was a link, and is gone; what it pointed to is still there: {target}"
    return 0, [gone] if target.exists() else []
