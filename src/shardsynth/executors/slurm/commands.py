"""Calls of Slurm's commands, in a clean environment. This module knows nothing of plans or tasks."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from shardsynth.errors import InputError
from shardsynth.executors.slurm.reasons import Reason, reason_of

#: Variables of the login shell that a job gets: no conda, no PYTHONPATH, no tokens, but what `module` needs.
_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "SLURM_CONF", "MODULEPATH", "MODULESHOME")
_PREFIXES = ("LC_", "LMOD_", "MODULES_", "BASH_FUNC_ml", "BASH_FUNC_module", "BASH_FUNC__module", "SHARDSYNTH_")
#: What to do about an error of Slurm that holds these words.
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
    ("no cluster", "`sacctmgr show cluster` lists them; unset SLURM_CLUSTERS, or name another one"),
    ("invalid feature", "`sinfo -o '%P %f'` shows the nodes' features; set `constraint:`"),
    ("permission denied", "the partition or account is not open to you"),
)


#: The cluster that commands ask by `-M`; "" for the one of this machine.
_CLUSTER: ContextVar[str] = ContextVar("cluster", default="")
#: Seconds after which a line says what is waited for.
SILENT_SECONDS = 3.0
_FRESH_SECONDS = 60
_WITH_CLUSTER = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct")


class SlurmError(InputError):
    """Slurm is not there, or refuses; the message has Slurm's own words and what to do."""


class SlurmSilentError(SlurmError):
    """A command did not answer in time. That says nothing about what it was asked."""


def clean_environment() -> dict[str, str]:
    """The environment that jobs get, the same from a login shell, a notebook or inside another job."""
    environment = {k: v for k, v in os.environ.items() if k in _NAMES or k.startswith(_PREFIXES)}
    environment.setdefault("PATH", "/usr/bin:/bin")
    return environment


@contextlib.contextmanager
def on_cluster(name: str) -> Iterator[None]:
    """Let the commands within ask another cluster of the site; "" is the one of this machine."""
    token = _CLUSTER.set(name)
    try:
        yield
    finally:
        _CLUSTER.reset(token)


def asked_cluster() -> str:
    """The other cluster that commands ask now; "" for the one of this machine."""
    return _CLUSTER.get()


def local_cluster() -> str:
    """Name of this machine's cluster; SlurmError if its controller does not answer."""
    with on_cluster(""):
        return read_config().get("ClusterName", "")


def read_config() -> dict[str, str]:
    """The controller's configuration, asked for once a minute at most; SlurmError if it does not answer."""
    return _config(*freshness())


def freshness() -> tuple[object, ...]:
    """Changes with the cluster that is asked, and every minute: what Slurm said holds as long as it does not."""
    return os.environ.get("SLURM_CONF", ""), _CLUSTER.get(), int(time.monotonic() / _FRESH_SECONDS)


@functools.lru_cache(maxsize=4)
def _config(*fresh: object) -> dict[str, str]:
    words = (line.partition("=") for line in call("scontrol", "show", "config").splitlines())
    return {key.strip(): value.strip() for key, equals, value in words if equals}


def require_command(name: str) -> None:
    """Raise SlurmError if this machine has no such command: waiting for an answer would not help."""
    if shutil.which(name) is None:
        raise SlurmError(f"{name}: not found; run this on a machine of the cluster, or load its Slurm module")


def call(*arguments: str, timeout: float = 120, text: str = "") -> str:
    """Run one of Slurm's commands.

    Args:
        *arguments: The command and its arguments.
        timeout: Seconds to wait for its end.
        text: Its standard input.

    Returns:
        Its standard output.

    Raises:
        SlurmError: The command is absent, does not answer or refuses.
    """
    require_command(arguments[0])
    if _CLUSTER.get() and arguments[0] in _WITH_CLUSTER:
        arguments = (arguments[0], "-M", _CLUSTER.get(), *arguments[1:])
    with subprocess.Popen(
        arguments,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, errors = _communicate(process, text, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SlurmSilentError(
                f"{arguments[0]}: no answer within {timeout:.0f} s; {_why_silent(arguments[0])}"
            ) from None
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        lines = errors.strip().splitlines()
        message = " ".join(line.split("error:", 1)[-1].strip() for line in lines) or "no message"
        advice = next((advice for words, advice in _ADVICE if words in message.lower()), "")
        raise SlurmError(f"{arguments[0]}: {message}" + (f": {advice}" if advice else ""))
    return output


def _communicate(process: subprocess.Popen[str], text: str, timeout: float) -> tuple[str, str]:
    """What a command prints; says once on standard error that it is waited for."""
    program = str(process.args[0] if isinstance(process.args, (list, tuple)) else process.args)
    try:
        return process.communicate(text, timeout=min(SILENT_SECONDS, timeout))
    except subprocess.TimeoutExpired:
        if timeout <= SILENT_SECONDS:
            raise
    if program not in _said_to_wait:
        _said_to_wait.add(program)
        print(f"waiting for {program}, up to {timeout:.0f} s: {_why_silent(program)}", file=sys.stderr, flush=True)
    return process.communicate(timeout=timeout - SILENT_SECONDS)


_said_to_wait: set[str] = set()


def _why_silent(program: str) -> str:
    if program in ("sacct", "sacctmgr"):
        return "Slurm's accounting (slurmdbd) is slow"
    return "Slurm's controller is slow; `scontrol ping`"


def answers() -> bool:
    """Whether a Slurm controller answers here."""
    if shutil.which("scontrol") is None:
        return False
    try:
        return "is UP" in call("scontrol", "ping", timeout=10)
    except SlurmError:
        return False


def submit_script(script: Path, output: Path | None = None) -> int:
    """Submit a batch script.

    Args:
        script: The script.
        output: Its log; None: where the script says.

    Returns:
        The job's number.

    Raises:
        SlurmError: Slurm refuses.
    """
    log = [] if output is None else [f"--output={output}"]
    text = call("sbatch", "--parsable", *log, str(script))
    return int(text.strip().splitlines()[-1].split(";")[0])


@dataclass(frozen=True)
class Element:
    """One array element, as the controller or the accounting knows it.

    Attributes:
        job: Number of its array.
        number: Its number in the array; -1 for a job without an array.
        state: Slurm's state, one word.
        reason: Why it waits.
        exit_code: Exit code of its script.
        killed_by: Number of the signal that ended it, or 0.
        restarts: How often Slurm started it again.
        peak_bytes: Most memory that the accounting measured, or 0.
        node: Name of the node on which it ran.
        comment: What its batch script noted at the controller.
        name: Its job's name.
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
    comment: str = ""
    name: str = ""

    @property
    def stuck(self) -> bool:
        """Whether it will never start: a dependency failed, Slurm holds it, or it asks for more than it may have."""
        reason = self.why_it_waits
        return reason is not None and reason.never

    @property
    def why_it_waits(self) -> Reason | None:
        """Why it waits, where that is more than its turn."""
        return reason_of(self.reason) if self.state == "PENDING" else None


#: Elements by job number and number in the array.
Known = dict[tuple[int, int], Element]
#: States of elements that have not ended.
WAITING = frozenset(["PENDING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "CONFIGURING"])
RUNNING = frozenset(["RUNNING", "COMPLETING"])


def at_controller(name_prefix: str) -> list[tuple[str, Element]]:
    """Elements of the user's jobs whose name starts with a prefix; of ended ones only those of the last minutes.

    Args:
        name_prefix: Start of the jobs' names.

    Returns:
        Pairs of job name and element. (Slurm forgets an ended job after ``MinJobAge``.)

    Raises:
        SlurmError: Slurm does not answer.
    """
    fields = (
        "ArrayJobID:|,ArrayTaskID:|,State:|,Reason:80|,NodeList:200|,RestartCnt:|,exit_code:|,Name:200|,Comment:80|"
    )
    text = call("squeue", "--noheader", "--me", "--array", "--states=all", f"--Format={fields}")
    elements = []
    for line in text.splitlines():
        job, number, state, reason, node, restarts, status, name, comment = map(str.strip, line.split("|")[:9])
        if name.startswith(name_prefix):
            code, by_signal = exit_status(status)
            element = Element(
                int(job),
                _number(number),
                state.split()[0],
                reason,
                exit_code=code,
                killed_by=by_signal,
                restarts=max(0, _number(restarts)),
                node=node,
                comment=comment,
                name=name,
            )
            elements.append((name, element))
    return elements


def exit_status(text: str) -> tuple[int, int]:
    """Exit code, and number of the signal, of an element as squeue or sacct prints them.

    Args:
        text: ``28:0`` or ``0:9`` (sacct; squeue of Slurm 24.11), or one number coded as by wait(2) (squeue of 22.05).

    Returns:
        The code and the signal, 0 where there is none.
    """
    code, colon, by_signal = text.strip().partition(":")
    if colon:
        return max(0, _number(code)), max(0, _number(by_signal))
    wait_status = max(0, _number(code))
    return (0, wait_status & 127) if wait_status & 127 else (wait_status >> 8, 0)


def _number(text: str) -> int:
    """A number that Slurm printed; -1 for anything else."""
    return int(text) if text.isdigit() else -1


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs or elements (``12``, ``12_3``); SlurmError if Slurm refuses."""
    names = list(jobs)
    for first in range(0, len(names), 500):  # the length of a command line is limited
        call("scancel", *names[first : first + 500])
