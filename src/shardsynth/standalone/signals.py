"""Being asked to stop: what a pre-emption, a time limit, `scancel` or a person sends to a task on a cluster.

USR2 (`sbatch --signal`) and SIGTERM (pre-emption, `scancel`) mean the same: the first one is noted, every later one is
ignored, since Slurm and Apptainer both forward it and the second would kill the process while it saves. The task in
hand has ``GRACE_SECONDS`` to finish or to save; a long task asks `asked()` now and then and raises `Saved`.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from types import FrameType

from shardsynth.errors import Saved

GRACE_SECONDS = 20
# A handler may interrupt itself, and whatever the main thread holds: it takes no lock, not even an Event's.
_asked: list[int] = []
_overdue: list[str] = []


def asked() -> bool:
    """Whether this process was asked to stop."""
    return bool(_asked)


def check(*_: object) -> None:
    """Raise ``Saved`` if this process was asked to stop: for what is started again from its beginning."""
    if asked():
        raise Saved("asked to stop before there was anything to save: it will start again")


def refuse_overdue() -> None:
    """Raise ``Saved`` once the time to finish is over: a library may have swallowed it, and gone on with less."""
    if _overdue:
        raise Saved(_overdue[0])


def install(grace: float = GRACE_SECONDS) -> None:
    """Handle USR2 and SIGTERM in this process; call it in the main thread, before anything heavy."""

    def on_stop(number: int, frame: FrameType | None) -> None:
        if asked():
            return
        _asked.append(number)
        for name in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(name, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, grace)
        # A call into C that does not come back would hold the exception up; the commit protocol allows any kill.
        _thread.start_new_thread(_leave_after, (grace + 3,))

    def on_alarm(number: int, frame: FrameType | None) -> None:
        _overdue.append(f"asked to stop, and the task in hand was not done after {grace:.0f} s: it will start again")
        refuse_overdue()

    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, on_stop)


def _leave_after(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(Saved.exit_code)


def uninstall() -> None:
    """Let the signals end this process again, as they did before ``install``."""
    for name in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(name, signal.SIG_DFL)


def follow_parent() -> None:
    """Ask this process to stop when its parent has ended, however that went: nobody would take its answers."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def interrupt_on_signals() -> None:
    """Have the first SIGTERM or SIGHUP end this process as Ctrl-C does, its workers in order, with 128 + its number."""

    def leave(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) == signal.SIG_DFL:  # under nohup, SIGHUP is ignored
            signal.signal(name, leave)
