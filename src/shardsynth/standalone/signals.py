"""Being asked to stop, by a pre-emption, a time limit, `scancel` or a person.

USR2 (`sbatch --signal`) and SIGTERM (pre-emption, `scancel`) mean the same. The first one is noted and every later one
is ignored: Slurm and Apptainer both forward it, and the second would kill the process while it saves. The running task
has ``GRACE_SECONDS`` to finish or to save. A long task calls `asked()` now and then, saves and raises `Saved`.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from shardsynth.errors import Saved

GRACE_SECONDS = 20
# A handler may interrupt itself, or the main thread while that holds a lock. So it takes no lock, not even an Event's.
_asked: list[int] = []
_overdue: list[str] = []


def asked() -> bool:
    """Whether this process was asked to stop."""
    return bool(_asked)


def asked_by() -> int | None:
    """Number of the signal that asked this process to stop; None if none did."""
    return _asked[0] if _asked else None


def check(*_: object) -> None:
    """Raise ``Saved`` if this process was asked to stop. For work that has nothing to save and starts again."""
    if asked():
        raise Saved("asked to stop before there was anything to save: it will start again")


def refuse_overdue() -> None:
    """Raise ``Saved`` again if the grace is over: a library may have caught the first one and gone on with less."""
    if _overdue:
        raise Saved(_overdue[0])


def install(grace: float = GRACE_SECONDS, last_words: Callable[[], None] = lambda: None) -> None:
    """Handle USR2 and SIGTERM in this process; call it in the main thread, before heavy imports.

    Args:
        grace: Seconds that the running task has to finish or to save.
        last_words: Called in a thread just before the process is ended because the grace is long over.
    """

    def on_stop(number: int, frame: FrameType | None) -> None:
        if asked():
            return
        _asked.append(number)
        for name in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(name, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, grace)
        # Python cannot raise inside a call into C that does not return. So end the process: a kill loses nothing.
        _thread.start_new_thread(_leave_after, (grace + 3, last_words))

    def on_alarm(number: int, frame: FrameType | None) -> None:
        _overdue.append(f"asked to stop, and the task in hand was not done after {grace:.0f} s: it will start again")
        refuse_overdue()

    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, on_stop)


def _leave_after(seconds: float, last_words: Callable[[], None]) -> None:
    time.sleep(seconds)
    try:
        last_words()
    finally:
        os._exit(Saved.exit_code)


def note() -> None:
    """Only note USR2 and SIGTERM, for ``asked()``: for a process that waits for others to save."""
    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, lambda number, frame: _asked.append(number))


def ignore() -> None:
    """Ignore USR2 and SIGTERM, also in processes that are started from now on."""
    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)


def uninstall() -> None:
    """Undo ``install``: the signals end this process again."""
    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, signal.SIG_DFL)


def follow_parent() -> None:
    """Ask this process to stop when its parent has ended, for whatever reason: nobody reads its answers then."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: workers end first; the exit code is 128 + number."""

    def leave(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) == signal.SIG_DFL:  # under nohup, SIGHUP is ignored
            signal.signal(name, leave)
