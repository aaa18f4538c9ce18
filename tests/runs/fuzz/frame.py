"""The frame of all fuzz tests: a subject makes tries by number; the frame judges time, memory and kind of error.

A try is a function of the subject's name and the number of the try alone, so that any one can be repeated:

    .venv/bin/python benchmarks/fuzz.py model-files --only 1234
"""

from __future__ import annotations

import contextlib
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from shardsynth.errors import ShardsynthError

#: A try that takes more seconds hangs.
SECONDS = 60
#: Memory, in MiB, that the process may have at most during a try.
MEBIBYTES = 2048
#: Exit codes of an error that a user can understand.
CLEAR = (1, 2)


class Wrong(Exception):
    """A try accepted what is wrong, or gave a wrong result. The message says what."""


class Hang(BaseException):
    """A try took too long. No ``except Exception`` of the product swallows it."""


@dataclass(frozen=True)
class Subject:
    """What is fuzzed.

    Attributes:
        name: In words with dashes; part of the seed of every try.
        prepare: Makes in an empty folder what all tries start from.
        attempt: Makes one try, and returns what came of it in a word or two (for the table of outcomes). It raises
            ``Wrong`` for a wrong result, and lets errors of shardsynth pass: a clear one is a right outcome.
    """

    name: str
    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, Random], str]


@dataclass
class Outcomes:
    """What came of tries.

    Attributes:
        counts: Tries by outcome; refusals by the class of the error.
        findings: Number of the try, and what was wrong.
        peak: Largest memory of the process during a try, MiB.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    peak: float = 0.0


def run(subject: Subject, prepared: Any, numbers: Iterable[int], seen: Callable[[int], None] | None = None) -> Outcomes:
    """Make tries.

    Args:
        subject: What is fuzzed.
        prepared: From its ``prepare``.
        numbers: Of the tries.
        seen: Is told the number of each try before it is made, so that a crash can be laid to it.
    """
    outcomes = Outcomes()
    for number in numbers:
        if seen is not None:
            seen(number)
        _forget_peak()
        try:
            with _limit(SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = subject.attempt(prepared, Random(f"{subject.name} {number}"))
        except ShardsynthError as error:
            outcome = f"refused: {type(error).__name__}"
            if error.exit_code not in CLEAR:
                outcomes.findings.append((number, f"exit code {error.exit_code}: {error}"))
            elif "\n" in str(error) or not str(error):
                outcomes.findings.append((number, f"not one line: {str(error)!r}"))
        except (Wrong, Hang) as error:
            outcome = type(error).__name__
            outcomes.findings.append((number, f"{outcome}: {error}"))
        except Exception as error:
            outcome = "traceback"
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            outcomes.findings.append((number, f"traceback: {type(error).__name__} at {place}: {error!s:.200}"))
        outcomes.counts[outcome] += 1
        peak = _peak()
        outcomes.peak = max(outcomes.peak, peak)
        if peak > MEBIBYTES:
            outcomes.findings.append((number, f"memory: {peak:.0f} MiB"))
    return outcomes


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise ``Hang`` in the main thread after so many seconds."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _forget_peak() -> None:
    """Set the peak of this process's memory to what it has now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> float:
    """Largest memory of this process since ``_forget_peak``, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
