"""Slurm's own commands, called with a clean environment; nothing here knows of plans or tasks."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from shardsynth.errors import InputError
from shardsynth.executors.slurm.ranges import parse_ranges

#: What a job sees of the login shell: no conda, no PYTHONPATH, no tokens. Modules must keep working.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "SLURM_CONF", "MODULEPATH", "MODULESHOME")
_KEPT_PREFIXES = ("LC_", "LMOD_", "BASH_FUNC_ml", "BASH_FUNC_module", "SHARDSYNTH_")
_ADVICE = (
    (
        "invalid partition",
        "`sinfo` lists the partitions; set `partition:` in the job's cluster section or the site file",
    ),
    ("invalid account", "`sacctmgr show assoc user=$USER` lists your accounts; set `account:`"),
    ("invalid qos", "`sacctmgr show qos` lists them; set `qos:`"),
    ("job array specification", "the site's MaxArraySize is smaller than thought: set `limits: {max_array_size: …}`"),
    (
        "violates accounting/qos policy",
        "you are over a limit (jobs, CPUs, time or memory): a larger `cluster.pack`, or wait",
    ),
    (
        "requested node configuration",
        "no node has that many CPUs, that much memory or that GPU; `sinfo -o '%P %c %m %G'`",
    ),
    ("time limit", "`sinfo -o '%P %l'` shows the partitions' limits; set `time:`"),
    ("unable to contact slurm controller", "is the controller up? `scontrol ping`"),
    ("invalid feature", "`sinfo -o '%P %f'` shows the nodes' features; set `constraint:`"),
    ("permission denied", "the partition or account is not open to you"),
)


class SlurmError(InputError):
    """Slurm is not there, or refuses; carries its words and what to do."""


def clean_environment() -> dict[str, str]:
    """The environment that jobs get, the same from a login shell, a notebook or inside another job."""
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    kept["PATH"] = kept.get("PATH", "/usr/bin:/bin")
    return kept


def call(*arguments: str, timeout: float = 120, text: str = "") -> str:
    """Run one of Slurm's commands, with ``text`` as its standard input; its output.

    Raises:
        SlurmError: It is absent, does not answer or refuses.
    """
    if shutil.which(arguments[0]) is None:
        raise SlurmError(f"{arguments[0]}: not found; run this on a machine of the cluster, or load its Slurm module")
    try:
        done = subprocess.run(
            arguments,
            env=clean_environment(),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{arguments[0]}: no answer within {timeout:.0f} s; is the controller up? `scontrol ping`"
        ) from None
    if done.returncode != 0:
        words = (
            " ".join(line.split("error:", 1)[-1].strip() for line in done.stderr.strip().splitlines()) or "no message"
        )
        advice = next((text for key, text in _ADVICE if key in words.lower()), "")
        raise SlurmError(f"{arguments[0]}: {words}" + (f": {advice}" if advice else ""))
    return done.stdout


def answers() -> bool:
    """Whether a Slurm controller answers here."""
    if shutil.which("scontrol") is None:
        return False
    try:
        return "is UP" in call("scontrol", "ping", timeout=10)
    except SlurmError:
        return False


@dataclass(frozen=True)
class Limits:
    """What the site allows.

    Attributes:
        array_size: Elements of one array (MaxArraySize caps the index).
        jobs: Elements that may be queued at once, all arrays together.
        reason: The limit that ``jobs`` comes from.
        preempts: Whether jobs may be pre-empted.
    """

    array_size: int = 1001
    jobs: int = 10_000
    reason: str = "MaxJobCount"
    preempts: bool = True


def read_limits() -> Limits:
    """MaxArraySize and MaxJobCount of the controller, MaxSubmitJobs of the user's associations, less what is queued."""
    config = {}
    for line in call("scontrol", "show", "config").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            config[key.strip()] = value.strip()
    array_size = int(config.get("MaxArraySize", "1001"))
    jobs, reason = int(config.get("MaxJobCount", "10000")) - 1, "MaxJobCount"
    for limit in _submit_limits():
        if limit < jobs:
            jobs, reason = limit, "MaxSubmitJobs"
    queued = len(call("squeue", "--noheader", "--me", "--array", "--format=%i").split())
    return Limits(array_size, max(0, jobs - queued), reason, not config.get("PreemptType", "").endswith("none"))


def _submit_limits() -> list[int]:
    try:
        text = call(
            "sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={_user()}", "format=MaxSubmit,GrpSubmit"
        )
    except SlurmError:  # no accounting: no such limit
        return []
    return [int(word) for line in text.splitlines() for word in line.split("|") if word.isdigit()]


def _user() -> str:
    import getpass

    return getpass.getuser()


def submit_script(script: Path, output: str) -> int:
    """Hand a batch script to Slurm; the job's number."""
    text = call("sbatch", "--parsable", f"--output={output}", str(script))
    return int(text.strip().splitlines()[-1].split(";")[0])


def check_script(text: str) -> None:
    """Ask Slurm whether it would take a batch script (`sbatch --test-only`), also where it would only let it wait.

    Raises:
        SlurmError: It would not: no such partition or account, no node that large, over a limit.
    """
    for pause in (2.0, 4.0, 6.0, 0.0):
        try:
            call("sbatch", "--test-only", text=text)
            return
        except SlurmError as error:
            if not pause or "requested node configuration" not in str(error).lower():
                raise
        time.sleep(pause)  # a controller that was just started knows no node yet


@dataclass(frozen=True)
class Element:
    """One array element as the controller or the accounting knows it.

    Attributes:
        job: Number of its array.
        number: Its number in the array; -1 for a job without an array.
        state: Slurm's state, one word.
        reason: Why it waits.
        exit_code: Its own exit code.
        killed_by: Signal that ended it, or 0.
        restarts: Earlier starts of it.
        peak_bytes: Highest memory seen by the accounting, or 0.
        node: Where it ran.
    """

    job: int
    number: int
    state: str
    reason: str = ""
    exit_code: int = 0
    killed_by: int = 0
    restarts: int = 0
    peak_bytes: int = 0
    node: str = ""

    @property
    def stuck(self) -> bool:
        """Whether it waits for what will never come: a failed dependency, or a release after a failed launch."""
        return self.state == "PENDING" and any(word in self.reason for word in _STUCK_REASONS)


_STUCK_REASONS = ("DependencyNeverSatisfied", "held")  # not JobHeldUser: somebody held that on purpose
Known = dict[tuple[int, int], Element]
#: Neither over nor about to start again elsewhere.
WAITING = frozenset(["PENDING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "CONFIGURING"])
RUNNING = frozenset(["RUNNING", "COMPLETING"])


def at_controller(name_prefix: str) -> list[tuple[str, Element]]:
    """Job name and element of everything whose name starts so: pending, running, or over for minutes (MinJobAge)."""
    wanted = "ArrayJobID:|,ArrayTaskID:|,State:|,Reason:40|,NodeList:200|,RestartCnt:|,exit_code:|,Name:200|"
    text = call("squeue", "--noheader", "--me", "--array", "--states=all", f"--Format={wanted}")
    found = []
    for line in text.splitlines():
        job, number, state, reason, node, restarts, status, name = (word.strip() for word in line.split("|")[:8])
        if name.startswith(name_prefix):
            waited = int(status) if status.isdigit() else 0  # as of wait(2)
            by_signal = waited & 127
            element = Element(
                int(job),
                _number(number),
                state.split()[0],
                reason,
                exit_code=0 if by_signal else waited >> 8,
                killed_by=by_signal,
                restarts=max(0, _number(restarts)),
                node=node,
            )
            found.append((name, element))
    return found


def with_peaks(controller: Known, accounting: Known) -> Known:
    """Both together: the controller knows first, the accounting longer, and alone the memory that was used.

    What waits or runs by the accounting but is unknown to the controller was lost with the controller's state.
    """
    alive = WAITING | RUNNING
    found = {key: replace(e, state="LOST") if e.state in alive else e for key, e in accounting.items()}
    for key, element in controller.items():
        found[key] = _with_peak(element, accounting[key].peak_bytes) if key in accounting else element
    return found


def _number(text: str) -> int:
    return int(text) if text.isdigit() else -1


def in_accounting(jobs: Iterable[int]) -> Known:
    """What the accounting knows of the elements of these arrays; one sacct call.

    Raises:
        SlurmError: There is no accounting.
    """
    wanted = ",".join(str(job) for job in sorted(set(jobs)))
    if not wanted:
        return {}
    text = call(
        "sacct", "--noheader", "--parsable2", "--duplicates", f"--jobs={wanted}",
        "--format=JobID,State,ExitCode,MaxRSS,NodeList",
    )  # fmt: skip
    found: Known = {}
    for line in text.splitlines():
        name, state, code, peak, node = line.split("|")
        name, dot, _ = name.partition(".")
        job, _, number = name.partition("_")
        if not job.isdigit():
            continue
        numbers = parse_ranges(number.strip("[]")) if number else [-1]
        for one in numbers:
            before = found.get((int(job), one))
            if dot:  # a step: the memory it used
                if before is not None:
                    found[int(job), one] = _with_peak(before, _bytes(peak))
                continue
            status, _, by_signal = code.partition(":")
            found[int(job), one] = Element(
                int(job),
                one,
                state.split()[0] if state else "UNKNOWN",
                exit_code=int(status or 0),
                killed_by=int(by_signal or 0),
                restarts=before.restarts + 1 if before else 0,
                node=node,
            )
    return found


def _with_peak(element: Element, peak: int) -> Element:
    return replace(element, peak_bytes=max(element.peak_bytes, peak))


def _bytes(text: str) -> int:
    units = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
    if not text:
        return 0
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(float(text))


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs or elements (``12``, ``12_3``)."""
    wanted = list(jobs)
    for first in range(0, len(wanted), 500):
        call("scancel", *wanted[first : first + 500])
