"""The rest of a run that a site's limits keep from being queued at once: it follows by itself.

All arrays are written at once, cut small: scripts, lists of elements, lines of the ledger. ``follow.sh`` submits what
fits, in order. Each element calls it as it ends, and so does a small job, the follower, if none is left to do so; see
`follow_script`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from shardsynth.errors import JobError
from shardsynth.executors.slurm import commands as slurm
from shardsynth.executors.slurm.clusters import where_the_run_is
from shardsynth.executors.slurm.commands import SlurmError
from shardsynth.executors.slurm.follow_script import ON_CLUSTER, follow_script
from shardsynth.executors.slurm.ledger import Ledger, Submitted
from shardsynth.executors.slurm.limits import SubmitLimits
from shardsynth.executors.slurm.packing import Array
from shardsynth.executors.slurm.script import options
from shardsynth.executors.slurm.site import Site
from shardsynth.executors.slurm.times import minutes
from shardsynth.job import Resources
from shardsynth.standalone.files import write_atomic
from shardsynth.standalone.regular import read_regular

#: An array has at most this share of the elements that may be queued.
_SHARE = 10
_PATIENCE_SECONDS = 900
#: Minutes of the follower: it takes seconds, and waits some minutes for a controller that is away.
_FOLLOWER_MINUTES = 10


@dataclass(frozen=True)
class Waiting:
    """An array that is written and not submitted yet.

    Attributes:
        name: Its name.
        group: Number of its stage and model in this submission.
        after: What it waits for: ``group:N`` of this submission, ``name:NAME``, or a job, as sbatch
            writes it: ``afterok:12``.
        key: Number of its account, QOS and partition: arrays of one key are under the same limits.
        elements: How many elements it has.
    """

    name: str
    group: int
    after: list[str]
    key: int
    elements: int


def cut(array: Array, most: int) -> list[Array]:
    """An array as several, so small that one is soon submitted where ``most`` elements may be queued."""
    size = max(1, most // _SHARE)
    pieces = [array.elements[first : first + size] for first in range(0, len(array.elements), size)]
    return [
        Array(array.stage, array.model, piece, array.seconds * len(piece) / len(array.elements), array.cpus)
        for piece in pieces
    ]


def is_needed(limits: SubmitLimits, wanted: list[tuple[Resources, int]]) -> bool:
    """Whether these elements are too many to be queued at once, so that some of them have to follow.

    Args:
        limits: The site's limits.
        wanted: Resources of every array, and its elements.

    Raises:
        JobError: The limits leave no room for a run that submits itself piece by piece.
    """
    if not limits.exceeded_by(wanted):
        return False
    for asked, _ in wanted:
        smallest = min(limits.of(asked), key=lambda limit: limit.most)
        tightest = limits.tightest(asked)
        if smallest.most < 2:
            raise JobError(
                f"{smallest.name} is {smallest.most}: a run needs two places in the queue, one for an element and one "
                "for the job that submits the next; `run --here` inside one job does all of it"
            )
        if tightest.left < 1:
            raise JobError(
                f"{tightest.name} is {tightest.most}, and so many are queued: wait until some of your jobs are done"
            )
    return True


def follower_options(asked: Resources, site: Site) -> list[str]:
    """Options of sbatch for the follower, which needs next to nothing.

    Args:
        asked: Resources of the run's last stage: it goes to their account, QOS and partition.
        site: The site.
    """
    short = asked.time is not None and minutes(asked.time) < _FOLLOWER_MINUTES
    small = asked.model_copy(
        update={
            "cpus": None,
            "gpus": None,
            "gres": None,
            "mem_gb": None if asked.mem_gb is None else min(asked.mem_gb, 0.1),
            "time": asked.time if short else str(_FOLLOWER_MINUTES),
            "options": {name: value for name, value in asked.options.items() if name != "exclusive"},
        }
    )
    return [option for option in options(small, 1, site.mail) if not option.startswith("--signal")]


def write_rest(ledger: Ledger, waiting: Iterable[Waiting], follower: list[str]) -> None:
    """Write down what is to be submitted, in order, and the scripts that do it; the run's lock must be held.

    Args:
        ledger: The run's ledger.
        waiting: The arrays. Their scripts are written.
        follower: Options of sbatch for the follower.
    """
    prefix = ledger.prefix()
    write_atomic(ledger.folder / "follow.sh", follow_script(slurm.clean_environment(), prefix), 0o600)
    header = [f"--job-name={prefix}follow", *follower, "--requeue", "--open-mode=append"]
    text = "#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in header)
    text += f"trap '' TERM\nexec bash {shlex.quote(str(ledger.folder / 'follow.sh'))} follower\n"
    write_atomic(ledger.folder / "follow.sbatch", text, 0o600)
    forget(ledger)
    lines = []
    for one in waiting:
        needs = [word[len("group:") :] for word in one.after if word.startswith("group:")]
        jobs = [word for word in one.after if not word.startswith("group:")]
        lines.append(f"{one.name} {one.group} {_words(needs)} {one.key} {one.elements} {_words(jobs)}\n")
    write_atomic(ledger.folder / "rest", "".join(lines), 0o600)


def _words(words: list[str]) -> str:
    return ",".join(words) or "-"


def forget(ledger: Ledger) -> None:
    """Submit no more of the rest; the run's lock must be held."""
    for name in ("rest", "sent", "ended", "refused"):
        with contextlib.suppress(FileNotFoundError):
            (ledger.folder / name).unlink()


def submit_what_fits(ledger: Ledger) -> None:
    """Submit of the rest what the limits allow now; the run's lock must be free. Nothing to do is no error."""
    if not waiting_names(ledger):
        return
    with where_the_run_is(ledger), contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["bash", str(ledger.folder / "follow.sh")],
            env={**os.environ, ON_CLUSTER: slurm.asked_cluster()},
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            check=False,
            capture_output=True,
        )


def check_begun(ledger: Ledger, elements: bool) -> None:
    """Take the rest back where nothing of the run is queued that would submit it.

    Args:
        ledger: The run's ledger.
        elements: Whether elements of the run are queued.

    Raises:
        SlurmError: Nothing is; it has Slurm's words.
    """
    if elements or not waiting_names(ledger) or follower_is_queued(ledger):
        return
    words = refusal(ledger)
    with ledger.exclusively():
        forget(ledger)
    raise SlurmError(
        f"sbatch: {words}: nothing was submitted; `shardsynth resume {ledger.run.root}` once some of your jobs are done"
    )


def waiting_names(ledger: Ledger) -> list[str]:
    """Names of the arrays that are not submitted yet, in order."""
    try:
        lines = read_regular(ledger.folder / "rest").decode("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, PermissionError):
        return []
    return [line.partition(" ")[0] for line in lines]


def waiting_tasks(ledger: Ledger, arrays: Iterable[Submitted]) -> set[tuple[str, int]]:
    """Stage and number of the tasks that are not submitted yet, of these arrays of the run."""
    names = set(waiting_names(ledger))
    return {(a.stage, index) for a in arrays if a.name in names for element in a.elements for index in element}


def rest_line(ledger: Ledger) -> str:
    """What is not submitted yet, and why, as a line for the user; "" if all is."""
    names = set(waiting_names(ledger))
    if not names:
        return ""
    elements = sum(len(array.elements) for array in ledger.read() if array.name in names)
    words = refusal(ledger)
    why = f" ({words})" if words else ""
    return f"{elements} elements wait to be submitted, as others end{why}"


def refusal(ledger: Ledger) -> str:
    """Slurm's words when it last refused an array of the rest; "" if it did not."""
    try:
        text = read_regular(ledger.folder / "refused").decode("utf-8", errors="replace")
    except (FileNotFoundError, PermissionError):
        return ""
    words = " ".join(text.replace("sbatch: error:", " ").split())
    return words.partition(" ")[0] if words.partition(" ")[0].endswith("Limit") else words


def is_of_limits(words: str) -> bool:
    """Whether a refusal passes by itself: a limit on queued elements, or a controller that is busy."""
    return ("Submit" in words and "Limit" in words) or "temporarily" in words


def follower_is_queued(ledger: Ledger) -> bool:
    """Whether the follower waits or runs; SlurmError if Slurm does not answer."""
    name = f"{ledger.prefix()}follow"
    with where_the_run_is(ledger):
        return name in slurm.call("squeue", "--noheader", "--me", f"--name={name}", "--format=%j").split()
