"""What a Slurm site must have, checked by doing it: one line per check, with what to do where it fails."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shardsynth.errors import JobError, RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.container import Container, Mount
from shardsynth.executors.slurm.script import check_path, options, start_lines
from shardsynth.executors.slurm.site import Site, load_site, sites_folder
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.image import identify

PROBE_SECONDS = 180
#: A mounted image starts Python in a fraction of a second; one that is unpacked first takes five and more.
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
found = {
    "token": token, "version": version, "python": platform.python_version(), "time": time.time(), "gpus": gpus,
    "begun": begun, "cpus": len(os.sched_getaffinity(0)), "asked": int(os.environ.get("SLURM_CPUS_PER_TASK", "1")),
    "node": os.environ.get("SLURMD_NODENAME", platform.node()),
    "start": float(sys.argv[2]), "shared": os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize,
}
with open(os.path.join(folder, ".answer"), "w") as file:
    json.dump(found, file)
os.rename(os.path.join(folder, ".answer"), os.path.join(folder, "answer"))
"""


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, whether it holds, what was found and what to do."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def __str__(self) -> str:
        """The check as one line."""
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.found}" + (f": {self.fix}" if not self.ok else "")


def check_all(
    folder: Path, site_name: str | None, image: Path | None, *, say: Callable[[Check], Any] = lambda check: None
) -> list[Check]:
    """Every check, the cheap ones first; those that need a job come last and are left out where none can run.

    Args:
        folder: A folder that login and compute nodes should share.
        site_name: Site file to check with.
        image: Apptainer image, or None.
        say: Called with each check as it is done.
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
        limits = slurm.read_limits()
    except SlurmError as error:
        return Check("limits", False, str(error), "give `limits:` in the site file")
    found = f"arrays of {limits.array_size:,}, {limits.jobs:,} more elements ({limits.reason})"
    return Check("limits", limits.jobs > 20, found, "wait until some of your jobs are done")


def _image(path: Path) -> Check:
    try:
        found = identify(path)
    except JobError as error:
        return Check("image", False, str(error).replace("cluster.container: ", ""), "the command's --image")
    told = f"shardsynth {found['version']}, {found['device']}, torch {found['torch']}, build {found['build']}"
    return Check("image", True, f"{path}: {told}")


def _start_lines(site: Site, image: Path | None, place: Path, *, gpus: bool) -> list[str]:
    """How the probe's Python starts: exactly as a task's would, in the image or on the host."""
    if image is None:
        return start_lines(site, None)
    mounts = (Mount(os.path.realpath(place), str(place), writable=True),)
    container = Container(site.apptainer, identify(image), mounts, gpus, site.unpack, tuple(site.apptainer_options))
    return start_lines(site, container)


def _in_a_job(folder: Path, site: Site, image: Path | None) -> list[Check]:
    """Submit one small job and look at what it saw."""
    place = folder.absolute() / f".shardsynth-doctor-{os.getpid()}"
    try:
        check_path(place, "--folder")
        place.mkdir(parents=True)
    except (OSError, RunError) as error:
        return [Check("shared folder", False, f"cannot be written here: {error}", "give another one: --folder")]
    job = 0
    try:
        token = os.urandom(8).hex()
        (place / "from-login").write_text(token)
        (place / "probe.py").write_text(_PROBE)
        asked = site.defaults
        lines = options(asked, 1)
        start = _start_lines(site, image, place, gpus=bool(asked.gpus or asked.gres))
        words = [
            "started=$(date +%s.%N)",
            f'"${{python[@]}}" {_quoted(str(place / "probe.py"))} {_quoted(str(place))}'
            ' "$started" 2>&1 | tee ' + _quoted(str(place / "said")),
        ]
        header = "".join(f"#SBATCH {line}\n" for line in ["--job-name=shardsynth-doctor", *lines])
        script = place / "probe.sbatch"
        script.write_text("\n".join([f"#!/bin/bash\n{header}", *site.setup, *start, *words, ""]))
        try:
            job = slurm.submit_script(script, str(place / "log"))
        except SlurmError as error:
            return [Check("sbatch", False, str(error), "a site file can say more: `--write-profile NAME`")]
        answer = _answer(place, job)
        if isinstance(answer, str):
            fix = (
                "see above"
                if "shardsynth: " in answer
                else "is the folder shared, is Python there on the nodes? --folder"
            )
            return [Check(f"job {job}", False, answer, fix)]
        checks = _judge(answer, token, job, gpus=bool(asked.gpus or asked.gres))
        return checks if image is None else [*checks, _start(answer, site)]
    finally:
        if job:
            with contextlib.suppress(SlurmError):
                slurm.cancel([str(job)])
        shutil.rmtree(place, ignore_errors=True)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def _answer(place: Path, job: int) -> dict[str, Any] | str:
    end = time.monotonic() + PROBE_SECONDS
    gone = 0
    while time.monotonic() < end:
        if (place / "answer").exists():
            found: dict[str, Any] = json.loads((place / "answer").read_text())
            seen = {**found, "seen": time.time(), "written": (place / "answer").stat().st_mtime}
            _let_end(job)
            return seen
        waiting = slurm.call("squeue", "--noheader", "--me", "--format=%A %T %r").splitlines()
        mine = [line for line in waiting if line.split()[0] == str(job)]
        gone = gone + 1 if not mine else 0
        if gone > 5:
            log = (place / "log").read_text(errors="replace").strip().splitlines() if (place / "log").exists() else []
            return f"ended without an answer: {log[-1] if log else 'and left no log: its node cannot write there'}"
        time.sleep(0.5)
    return f"did not start within {PROBE_SECONDS} s"


def _let_end(job: int) -> None:
    """A few seconds for the job to end by itself and to clean up behind itself, before it is cancelled."""
    for _ in range(20):
        if str(job) not in slurm.call("squeue", "--noheader", "--me", "--format=%A").split():
            return
        time.sleep(0.25)


def _judge(answer: dict[str, Any], token: str, job: int, *, gpus: bool) -> list[Check]:
    from shardsynth._version import __version__

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
        seen = len(answer["gpus"])
        checks.append(Check("GPUs", seen > 0, f"{seen} seen by a task", "a driver, or `--nv`, is missing"))
    return checks


def _start(answer: dict[str, Any], site: Site) -> Check:
    """How long the image took to start: where it cannot be mounted, every start unpacks it."""
    seconds = answer["begun"] - answer["start"]
    found = f"{seconds:.1f} s from Apptainer to Python" + (f", unpacked under {site.unpack}" if site.unpack else "")
    fix = (
        f"{answer['node']} cannot mount images (no /dev/fuse, no setuid Apptainer), so every element unpacks it; "
        "`unpack: /a/local/folder` in the site file keeps one unpacked copy per node"
    )
    return Check("image's start", seconds < SLOW_START_SECONDS, found, fix)


def draft_profile(name: str) -> str:
    """Write a site file from what Slurm tells; a line that says where. RunError where there is one already."""
    path = sites_folder() / f"{name}.yaml"
    if not name.replace("-", "").replace("_", "").isalnum():
        raise RunError(f"--write-profile {name!r}: a name of letters, digits, '-' and '_' was wanted")
    if path.exists():
        raise RunError(f"{path}: is there already; change it by hand or remove it")
    partitions = slurm.call("sinfo", "--noheader", "--format=%P %l %c %m %G").splitlines()
    default = next((line.split()[0].rstrip("*") for line in partitions if line.split()[0].endswith("*")), None)
    limits = slurm.read_limits()
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
