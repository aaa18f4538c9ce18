"""The small job of `shardsynth doctor`: what it saw on its node, or why it did not start or did not answer."""

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

from shardsynth._version import __version__
from shardsynth.errors import RunError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.causes import cause_of
from shardsynth.executors.slurm.commands import Element, SlurmError
from shardsynth.executors.slurm.container import WRONG_IMAGE, Container, Mount
from shardsynth.executors.slurm.reasons import reason_of
from shardsynth.executors.slurm.script import check_path, options, start_lines
from shardsynth.executors.slurm.setup_lines import SETUP_FAILED, setup_lines
from shardsynth.executors.slurm.shell_options import shell_variables, with_shell
from shardsynth.executors.slurm.sick_nodes import MOST_NODES, NOT_WRITABLE, without_nodes
from shardsynth.executors.slurm.site import Site
from shardsynth.job import Cluster, Resources
from shardsynth.standalone.image import identify

#: How long the job may take to start, and then to answer.
PROBE_SECONDS = 180
#: Its name in the queue, and the minutes that it asks for: short jobs start sooner.
NAME = "shardsynth-doctor"
_MINUTES = "5"
#: Looks at the queue without the job, before it counts as ended: a network file system may show the answer late.
_LOOKS = 6
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
        waits: Whether it is not known yet: what it needs has not started.
        sick: The node that cannot write the folder, if that is what it found.
    """

    name: str
    ok: bool
    result: str
    fix: str = ""
    waits: bool = False
    sick: str = ""

    def __str__(self) -> str:
        """The check as one line."""
        mark = "ok  " if self.ok else "wait" if self.waits else "FAIL"
        return f"{mark} {self.name}: {self.result}" + (f": {self.fix}" if not self.ok else "")


def try_a_job(folder: Path, site: Site, image: Path | None, say: Callable[[str], Any]) -> list[Check]:
    """Submit one small job, and check what it saw on its node; where that node cannot write, one on another node.

    Args:
        folder: A folder that login and compute nodes should share.
        site: The site.
        image: Apptainer image to try; None for Python on the host.
        say: Called with a line each time the reason changes for which the job waits.
    """
    site, _ = with_shell(site, Cluster(), shell_variables())
    checks: list[Check] = []
    sick: list[str] = []
    while True:
        found = _try_once(folder, site, without_nodes(site.defaults, sick), image, say)
        node = found[0].sick
        checks += found
        if not node or node in sick or len(sick) >= MOST_NODES:
            return checks
        sick.append(node)
        say(f"tried again without {node}")


def _try_once(folder: Path, site: Site, asked: Resources, image: Path | None, say: Callable[[str], Any]) -> list[Check]:
    probe = folder.absolute() / f".{NAME}-{os.getpid()}"
    try:
        check_path(probe, "--folder")
        probe.mkdir(parents=True)
    except (OSError, RunError) as error:
        return [Check("shared folder", False, f"cannot be written here: {error}", "give another one: --folder")]
    gpus = bool(asked.gpus or asked.gres)
    job = 0
    try:
        token = os.urandom(8).hex()
        (probe / "from-login").write_text(token)
        (probe / "probe.py").write_text(_PROBE)
        script = probe / "probe.sbatch"
        script.write_text(_script(probe, site, asked.model_copy(update={"time": _MINUTES}), image))
        try:
            job = slurm.submit_script(script)
        except SlurmError as error:
            return [Check("sbatch", False, str(error), "a site file can say more: `--write-profile NAME`")]
        answer = _answer(probe, job, "Apptainer" if image else site.python or sys.executable, say)
        if isinstance(answer, Check):
            return [answer]
        checks = _checks_of(answer, token, job, gpus=gpus)
        return checks if image is None else [*checks, _start_of_image(answer, site)]
    finally:
        if job:
            with contextlib.suppress(SlurmError):
                slurm.cancel([str(job)])
        shutil.rmtree(probe, ignore_errors=True)


def _script(probe: Path, site: Site, asked: Resources, image: Path | None) -> str:
    header = [f"--job-name={NAME}", "--output=/dev/null", "--no-requeue", *options(asked, 1)]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {line}" for line in header),
        f"probe={shlex.quote(str(probe))}",
        f'[ -w "$probe" ] || exit {NOT_WRITABLE}',
        'exec >>"$probe/log" 2>&1',
        'for tool in squeue scontrol; do command -v "$tool" >/dev/null || echo "$tool" >>"$probe/lacks"; done',
        *setup_lines(site.setup),
        *_start_lines(site, image, probe, gpus=bool(asked.gpus or asked.gres)),
        "started=$(date +%s.%N)",
        '"${python[@]}" "$probe/probe.py" "$probe" "$started"',
    ]
    return "\n".join(lines) + "\n"


def _start_lines(site: Site, image: Path | None, folder: Path, *, gpus: bool) -> list[str]:
    """Lines that start the probe's Python exactly as a task's, in the image or on the host."""
    if image is None:
        return start_lines(site, None)
    mounts = (Mount(os.path.realpath(folder), str(folder), writable=True),)
    container = Container(site.apptainer, identify(image), mounts, gpus, site.unpack, tuple(site.apptainer_options))
    return start_lines(site, container)


def _answer(probe: Path, job: int, python: str, say: Callable[[str], Any]) -> dict[str, Any] | Check:
    """What the job writes, or a check that says why there is nothing."""
    end = time.monotonic() + PROBE_SECONDS
    element: Element | None = None
    told, looks, started = "", 0, False
    while time.monotonic() < end:
        if (probe / "answer").exists():
            answer: dict[str, Any] = json.loads((probe / "answer").read_text())
            answer["written"] = (probe / "answer").stat().st_mtime
            answer["tools"] = (probe / "lacks").read_text().split() if (probe / "lacks").exists() else []
            _let_end(job)
            return answer
        found = next((one for _, one in slurm.at_controller(NAME) if one.job == job), None)
        element = found or element
        if found is not None and found.state == "PENDING":
            why = _why(found.reason)
            if why != told:
                say(f"job {job} waits: {why}")
                told = why
        elif found is not None and found.state in slurm.RUNNING:
            end = end if started else time.monotonic() + PROBE_SECONDS
            started = True
        else:
            looks += 1
            if looks >= _LOOKS:
                return _ended(probe, job, element, python)
        time.sleep(0.5)
    if started:
        fix = "its node or the folder is very slow: another `--folder`, or another partition in a site file (--site)"
        return Check(
            f"job {job}", False, f"runs on {element.node if element else '?'}, no answer in {PROBE_SECONDS} s", fix
        )
    reason = reason_of(element.reason) if element else None
    if reason is not None and reason.never:
        return Check(f"job {job}", False, str(reason), "name another partition, account or QOS in a site file (--site)")
    fix = "nothing is wrong so far: try again later, or name a partition with a shorter queue in a site file (--site)"
    return Check(f"job {job}", False, f"still waits after {PROBE_SECONDS} s: {told or 'not listed'}", fix, waits=True)


def _why(reason: str) -> str:
    """Slurm's reason to wait, in words."""
    words = {"Priority": "jobs of others are before it", "Resources": "all nodes that fit are busy"}
    known = reason_of(reason)
    if known is not None:
        return f"{known.words} ({reason})"
    return f"{words[reason]} ({reason})" if reason in words else reason if reason not in ("", "None") else "its turn"


def _ended(probe: Path, job: int, element: Element | None, python: str) -> Check:
    """Why a job ended without an answer: each cause has its own advice."""
    log = (probe / "log").read_text(errors="replace").strip().splitlines() if (probe / "log").exists() else []
    last = log[-1] if log else "it left no log"
    node = element.node if element else "its node"
    code = element.exit_code if element else 0
    name = f"job {job}"
    if element is not None and (code == NOT_WRITABLE or element.killed_by == 53):
        fix = f"choose a folder that all nodes share (--folder); if only {node} lacks it, tell the site, and leave it "
        fix += f"out: `defaults: {{options: {{exclude: {node}}}}}` in the site file"
        return Check(name, False, f"node {node} cannot write {probe.parent}", fix, sick=node)
    advice = {
        SETUP_FAILED: "correct `setup:` in the site file: it must work on a node",
        WRONG_IMAGE: "put the image where every node sees it",
        126: f"{python} cannot be run there; `python:` in the site file names another one",
        127: f"{python} is not there; install it where the nodes see it, or name another by `python:` in the site file",
    }
    cause = cause_of(element, {}) if element else None
    if code in advice:
        return Check(name, False, f"ended on {node} without an answer: {last}", advice[code])
    if cause is not None and cause.kind not in ("task", "input"):
        return Check(name, False, f"ended on {node} without an answer: {last}", cause.advice)
    fix = "see what it said: its Python started, but does not work there" if log else "is the folder shared? --folder"
    return Check(name, False, f"ended on {node} with exit code {code} and without an answer: {last}", fix)


def _let_end(job: int) -> None:
    """Wait some seconds for the job to end and to clean up, before it is cancelled."""
    for _ in range(20):
        if str(job) not in slurm.call("squeue", "--noheader", "--me", "--format=%A").split():
            return
        time.sleep(0.25)


def _tools(lacks: list[str], node: str) -> Check:
    """Whether a node has the commands by which an element is queued again."""
    return Check(
        "requeue",
        not lacks,
        f"no {' and no '.join(lacks)} on {node}" if lacks else "squeue and scontrol are there",
        "an element that is asked to stop saves, but only `resume` goes on with it; `setup:` can add them to PATH",
    )


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
        _tools(answer["tools"], node),
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
