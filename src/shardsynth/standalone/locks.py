"""One writer at a time, by a lock file that is created once: safe on NFS too, where `flock` is not.

A lock says who holds it. One that a killed process left is removed if this machine can tell for sure; else the error
says how to remove it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardsynth.errors import RunError
from shardsynth.standalone.files import create_once, parsed_json, temporary_beside
from shardsynth.standalone.regular import read_regular

#: A lock that is not whole and younger than this is being written.
_WRITTEN_SECONDS = 60.0


def this_process(what: str = "") -> bytes:
    """What a lock of this process says: host, process, time, and where its process number counts."""
    said = {"host": socket.gethostname(), "pid": os.getpid(), "at": round(time.time(), 3)}
    return json.dumps({**said, "where": _where(), "what": what}).encode("ascii")


@dataclass(frozen=True)
class Holder:
    """What a lock says.

    Attributes:
        host: Name of the machine.
        pid: Number of the process.
        at: When it took the lock, in seconds since 1970.
        where: Boot and container in which the number counts; "" if the lock does not say it.
        what: The command; "" if the lock does not say it.
        content: All of the lock.
    """

    host: str
    pid: int
    at: float
    where: str
    what: str
    content: bytes

    def __str__(self) -> str:
        """Process, machine and time, for a message."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        return f"process {self.pid} on {self.host[:100]} since {since}"


def holder_of(path: Path) -> Holder | None:
    """What a lock says; None if it was given back meanwhile, or is being written: look again.

    Raises:
        RunError: It is damaged, for a minute at least: without hard links, a lock that is being written is not whole.
    """
    try:
        content = read_regular(path)
        found = _parsed(content)
        age = 0.0 if found else abs(time.time() - os.stat(path).st_mtime)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        found, age = None, _WRITTEN_SECONDS
    if found is None and age >= _WRITTEN_SECONDS:
        raise RunError(f"{path}: a damaged lock; remove it if no other command writes there")
    return found


def _parsed(content: bytes) -> Holder | None:
    """A lock's content; None where it is not whole."""
    try:
        said = parsed_json(content)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    host, pid, at = said.get("host"), said.get("pid"), said.get("at")
    if not (isinstance(host, str) and isinstance(pid, int) and isinstance(at, (int, float)) and 0 <= at < 2**32):
        return None
    return Holder(host, pid, at, str(said.get("where", "")), str(said.get("what", "")), content)


def is_gone(holder: Holder) -> bool:
    """Whether the process of a lock has ended for sure.

    It is of this machine, and counts as this process does or is of an earlier boot.
    """
    if holder.host != socket.gethostname():
        return False
    here = _where()
    if holder.where and holder.where != here:
        return _is_of_earlier_boot(holder, here)
    if not 0 < holder.pid < 2**31:
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _is_of_earlier_boot(holder: Holder, here: str) -> bool:
    """Whether this machine has started again since; not where its name may be that of another machine, too."""
    before, now = holder.where.partition(" ")[0], here.partition(" ")[0]
    if not before or not now or before == now or holder.host.partition(".")[0] == "localhost":
        return False
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return clock is not None and holder.at < time.time() - time.clock_gettime(clock)


def remove_lock(path: Path, content: bytes) -> None:
    """Remove a lock that still says ``content``; one that another process took meanwhile stays.

    It gets another name before it is compared: of several processes that find the same stale lock, one removes it.
    """
    aside = temporary_beside(path)
    with contextlib.suppress(OSError):
        if read_regular(path) != content:
            return
        os.rename(path, aside)
        found = aside.read_bytes()
        if found != content:
            create_once(path, found)
        aside.unlink()


@contextlib.contextmanager
def sole_writer(target: Path, what: str) -> Iterator[None]:
    """Hold the lock of a file or folder that is written: ``.<name>.lock`` beside it.

    Args:
        target: What is written; the folder that it lies in is made.
        what: The command, for the message.

    Raises:
        RunError: Another process writes it: which, since when, and what to do if it is gone.
    """
    target = target.absolute()
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = this_process(what)
    try:
        while not create_once(path, mine):
            holder = holder_of(path)
            if holder is None:
                time.sleep(0.05)
            elif is_gone(holder):
                remove_lock(path, holder.content)
            else:
                raise RunError(
                    f"{target}: `shardsynth {(holder.what or what)[:40]}` writes it already: {holder}; wait for it, or "
                    f"name another output; if that process is gone, remove {path}"
                )
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise
    try:
        yield
    finally:
        remove_lock(path, mine)


def _where() -> str:
    """Names the boot of this machine and the container in which process numbers count."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{boot} {namespace}"
