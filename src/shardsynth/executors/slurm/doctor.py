"""Tries out whether a Slurm site has what a run needs: one line per check, with what to do if it fails."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shardsynth._version import __version__
from shardsynth.errors import JobError, RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.container import Container, Mount
from shardsynth.executors.slurm.limits import read_limits
from shardsynth.executors.slurm.script import check_path, options, start_lines
from shardsynth.executors.slurm.setup_lines import setup_lines
from shardsynth.executors.slurm.shell_options import shell_variables, with_shell
from shardsynth.executors.slurm.site import Site, load_site, sites_folder
from shardsynth.job import Cluster, Resources
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import identify

#: How long the job of the checks may take to start and to answer.
PROBE_SECONDS = 180
#: A mounted image starts Python in a fraction of a second; an image that is unpacked first takes five seconds or more.
SLOW_START_SECONDS = 2.0
_PROBE = """\
import json, os, platform, subprocess, sys, time
begun = time.time()
folder = sys.argv[1]
try:
    with open(os.path.join(folder, "from-login")) as file:
        token = file.read()
except OSError as error:
    token = "unreadable: " + error.strerror
try:
    import shardsynth
    version = shardsynth.__version__
except ImportError as error:
    version = "missing: " + str(error)
try:
    gpus = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout.splitlines()
except (OSError, subprocess.SubprocessError):
    gpus = []
answer = {
    "token": token, "version": version, "python": platform.python_version(), "time": time.time(), "gpus": gpus,
    "begun": begun, "cpus": len(os.sched_getaffinity(0)), "asked": int(os.environ.get("SLURM_CPUS_PER_TASK", "1")),
    "node": os.environ.get("SLURMD_NODENAME", platform.node()),
    "start": float(sys.argv[2]), "shared": os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize,
}
with open(os.path.join(folder, ".answer"), "w") as file:
    json.dump(answer, file)
os.rename(os.path.join(folder, ".answer"), os.path.join(folder, "answer"))
"""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: What was checked.
        ok: Whether it is as it should be.
        result: What the check saw.
        fix: What to do if it is not ok.
    """

    name: str
    ok: bool
    result: str
    fix: str = ""

    def __str__(self) -> str:
        """The check as one line."""
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.result}" + (f": {self.fix}" if not self.ok else "")


def check_all(
    folder: Path, site_name: str | None, image: Path | None, *, say: Callable[[Check], Any] = lambda check: None
) -> list[Check]:
    """Do every check, the quick ones first. Those that need a job come last, and are left out if none can run.

    Args:
        folder: A folder that login and compute nodes should share.
        site_name: Name or path of the site file; None for the default.
        image: Apptainer image to try; None for Python on the host.
        say: Called with each check when it is done.

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
    if image is not None and not note(_image(image)):
        return checks
    for check in _in_a_job(folder, site, image):
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


def _image(path: Path) -> Check:
    try:
        image = identify(path)
    except JobError as error:
        return Check("image", False, str(error).replace("cluster.container: ", ""), "the command's --image")
    labels = f"shardsynth {image['version']}, {image['device']}, torch {image['torch']}, build {image['build']}"
    return Check("image", True, f"{path}: {labels}")


def _start_lines(site: Site, image: Path | None, folder: Path, *, gpus: bool) -> list[str]:
    """Lines that start the probe's Python exactly as a task's, in the image or on the host."""
    if image is None:
        return start_lines(site, None)
    mounts = (Mount(os.path.realpath(folder), str(folder), writable=True),)
    container = Container(site.apptainer, identify(image), mounts, gpus, site.unpack, tuple(site.apptainer_options))
    return start_lines(site, container)


def _in_a_job(folder: Path, site: Site, image: Path | None) -> list[Check]:
    """Submit one small job, and check what it saw on its node."""
    probe = folder.absolute() / f".shardsynth-doctor-{os.getpid()}"
    try:
        check_path(probe, "--folder")
        probe.mkdir(parents=True)
    except (OSError, RunError) as error:
        return [Check("shared folder", False, f"cannot be written here: {error}", "give another one: --folder")]
    job = 0
    try:
        token = os.urandom(8).hex()
        (probe / "from-login").write_text(token)
        (probe / "probe.py").write_text(_PROBE)
        site, _ = with_shell(site, Cluster(), shell_variables())
        asked = site.defaults
        lines = options(asked, 1)
        start = _start_lines(site, image, probe, gpus=bool(asked.gpus or asked.gres))
        command = [
            "started=$(date +%s.%N)",
            f'"${{python[@]}}" {shlex.quote(str(probe / "probe.py"))} {shlex.quote(str(probe))} "$started" 2>&1',
        ]
        header = "".join(f"#SBATCH {line}\n" for line in ["--job-name=shardsynth-doctor", *lines])
        script = probe / "probe.sbatch"
        script.write_text("\n".join([f"#!/bin/bash\n{header}", *setup_lines(site.setup), *start, *command, ""]))
        try:
            job = slurm.submit_script(script, probe / "log")
        except SlurmError as error:
            return [Check("sbatch", False, str(error), "a site file can say more: `--write-profile NAME`")]
        answer = _answer(probe, job)
        if isinstance(answer, str):
            fix = (
                "see above"
                if "shardsynth: " in answer
                else "is the folder shared, is Python there on the nodes? --folder"
            )
            return [Check(f"job {job}", False, answer, fix)]
        checks = _checks_of(answer, token, job, gpus=bool(asked.gpus or asked.gres))
        return checks if image is None else [*checks, _start_of_image(answer, site)]
    finally:
        if job:
            with contextlib.suppress(SlurmError):
                slurm.cancel([str(job)])
        shutil.rmtree(probe, ignore_errors=True)


def _answer(probe: Path, job: int) -> dict[str, Any] | str:
    """Wait for what the job writes; a text that says why there is nothing."""
    end = time.monotonic() + PROBE_SECONDS
    looks_without_job = 0
    while time.monotonic() < end:
        if (probe / "answer").exists():
            answer: dict[str, Any] = json.loads((probe / "answer").read_text())
            answer["written"] = (probe / "answer").stat().st_mtime
            _let_end(job)
            return answer
        queued = slurm.call("squeue", "--noheader", "--me", "--format=%A").split()
        looks_without_job = looks_without_job + 1 if str(job) not in queued else 0
        if looks_without_job > 5:  # a network file system may show the answer late
            log = (probe / "log").read_text(errors="replace").strip().splitlines() if (probe / "log").exists() else []
            return f"ended without an answer: {log[-1] if log else 'and left no log: its node cannot write there'}"
        time.sleep(0.5)
    return f"did not start within {PROBE_SECONDS} s"


def _let_end(job: int) -> None:
    """Wait some seconds for the job to end and to clean up, before it is cancelled."""
    for _ in range(20):
        if str(job) not in slurm.call("squeue", "--noheader", "--me", "--format=%A").split():
            return
        time.sleep(0.25)


def _checks_of(answer: dict[str, Any], token: str, job: int, *, gpus: bool) -> list[Check]:
    """Checks of what the job wrote."""
    node = answer["node"]
    drift = abs(answer["time"] - answer["written"])
    checks = [
        Check(f"job {job}", True, f"ran on {node}"),
        Check(
            "shared folder",
            answer["token"] == token,
            "written here and read there, and back" if answer["token"] == token else f"{node}: {answer['token']}",
            "choose a folder on a shared file system: --folder",
        ),
        Check(
            "shardsynth there",
            answer["version"] == __version__,
            f"{answer['version']}, Python {answer['python']}",
            f"here it is {__version__}; `setup:` in the site file can load it",
        ),
        Check(
            "CPU binding",
            answer["cpus"] == answer["asked"],
            f"{answer['asked']} asked, {answer['cpus']} usable",
            "the site does not bind tasks; thread counts are held to what was asked all the same",
        ),
        Check("clock", drift < 5, f"{drift:.1f} s apart", f"the clock of {node} is off: tell the site"),
    ]
    if gpus:
        count = len(answer["gpus"])
        checks.append(Check("GPUs", count > 0, f"{count} seen by a task", "a driver, or `--nv`, is missing"))
    return checks


def _start_of_image(answer: dict[str, Any], site: Site) -> Check:
    """How long the image took to start: on a node that cannot mount it, every start unpacks it."""
    seconds = answer["begun"] - answer["start"]
    result = f"{seconds:.1f} s from Apptainer to Python" + (f", unpacked under {site.unpack}" if site.unpack else "")
    fix = (
        f"{answer['node']} cannot mount images (no /dev/fuse, no setuid Apptainer), so every element unpacks it; "
        "`unpack: /a/local/folder` in the site file keeps one unpacked copy per node"
    )
    return Check("image's start", seconds < SLOW_START_SECONDS, result, fix)


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
