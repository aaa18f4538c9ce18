"""Tries out whether a Slurm site has what a run needs: one line per check, with what to do if it fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from shardsynth.errors import JobError, RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.commands import SlurmError, SlurmSilentError
from shardsynth.executors.slurm.limits import read_limits
from shardsynth.executors.slurm.preemption import grace_line
from shardsynth.executors.slurm.probe import Check, try_a_job
from shardsynth.executors.slurm.site import load_site, sites_folder
from shardsynth.job import Resources
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import identify


def check_all(
    folder: Path,
    site_name: str | None,
    image: Path | None,
    *,
    say: Callable[[Check], Any] = lambda check: None,
    say_waiting: Callable[[str], Any] = lambda line: None,
) -> list[Check]:
    """Do every check, the quick ones first. Those that need a job come last, and are left out if none can run.

    Args:
        folder: A folder that login and compute nodes should share.
        site_name: Name or path of the site file; None for the default.
        image: Apptainer image to try; None for Python on the host.
        say: Called with each check when it is done.
        say_waiting: Called with a line when the reason changes for which the job of the checks waits.

    Raises:
        JobError: There is no such site file, or it is wrong.
    """
    site = load_site(site_name)
    checks: list[Check] = []

    def note(check: Check) -> bool:
        checks.append(check)
        say(check)
        return check.ok

    for program in ("sbatch", "squeue", "scancel", "scontrol"):
        if not note(_program(program)):
            return checks
    note(_accounting())
    if not note(_controller()):
        return checks
    note(_limits())
    if line := _grace():
        note(Check("pre-emption", True, line))
    if image is not None and not note(_image(image)):
        return checks
    for check in try_a_job(folder, site, image, say_waiting):
        note(check)
    return checks


def _program(name: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, path or "not found", "load the site's Slurm module, or ask where it is")


def _controller() -> Check:
    up = slurm.answers()
    return Check("controller", up, "answers" if up else "does not answer", "`scontrol ping`; is this a login node?")


def _accounting() -> Check:
    fix = "without it, `status` and `resume` work, but cannot say why an element failed"
    try:
        slurm.call("sacct", "--noheader", "--allocations", "--starttime=now", timeout=20)
    except SlurmSilentError as error:
        return Check("accounting", False, f"slow now: {error}", "until it answers, `status` cannot say why some ended")
    except SlurmError as error:
        return Check("accounting", False, str(error), fix)
    return Check("accounting", True, "sacct answers")


def _limits() -> Check:
    try:
        limits = read_limits()
    except SlurmError as error:
        return Check("limits", False, str(error), "give `limits:` in the site file")
    tightest = limits.submit.tightest(Resources())
    result = f"arrays of {limits.array_size:,}, {tightest.left:,} more elements queued ({tightest.name})"
    return Check("limits", tightest.left > 1, result, "wait until some of your jobs are done")


def _grace() -> str:
    try:
        return grace_line()
    except SlurmError:
        return ""


def _image(path: Path) -> Check:
    try:
        image = identify(path)
    except JobError as error:
        return Check("image", False, str(error).replace("cluster.container: ", ""), "the command's --image")
    labels = f"shardsynth {image['version']}, {image['device']}, torch {image['torch']}, build {image['build']}"
    return Check("image", True, f"{path}: {labels}")


def draft_profile(name: str) -> str:
    """Write a site file from what Slurm says about itself.

    Args:
        name: Name of the site: letters, digits, '-' and '_'.

    Returns:
        A line that says where the file is and how to use it.

    Raises:
        RunError: The name is wrong, or there is such a file already.
        SlurmError: Slurm does not answer.
    """
    path = sites_folder() / f"{name}.yaml"
    if not name.replace("-", "").replace("_", "").isalnum():
        raise RunError(f"--write-profile {name!r}: a name of letters, digits, '-' and '_' was wanted")
    if path.exists():
        raise RunError(f"{path}: is there already; change it by hand or remove it")
    partitions = slurm.call("sinfo", "--noheader", "--format=%P %l %c %m %G").splitlines()
    default = next((line.split()[0].rstrip("*") for line in partitions if line.split()[0].endswith("*")), None)
    limits = read_limits()
    data: dict[str, Any] = {"defaults": {"partition": default} if default else {}}
    data["limits"] = {"max_array_size": limits.array_size}
    data["setup"] = []
    if shutil.which("apptainer"):
        data["apptainer"] = shutil.which("apptainer")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            data["apptainer_options"] = ["--unsquash"]
    with contextlib.suppress(SlurmError):
        account = slurm.call("sacctmgr", "--noheader", "--parsable2", "show", "user", os.environ.get("USER", "root"),
                             "format=DefaultAccount").strip()  # fmt: skip
        if account:
            data["defaults"]["account"] = account
    text = "# Drafted by `shardsynth doctor`; partitions here (name, time limit, CPUs, MB, GPUs):\n"
    text += "".join(f"#   {line}\n" for line in partitions)
    text += "# `setup:` holds shell lines that every job runs first, such as `module load apptainer`.\n"
    text += f"# Python here: {sys.executable}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text + yaml.safe_dump(data, sort_keys=False))
    return f"{path}: drafted; use it with `cluster: {{profile: {name}}}` or SHARDSYNTH_SITE={name}"
