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
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.standalone.files import create_once, parsed_json
from shardsynth.standalone.regular import read_regular


def this_process(what: str = "") -> bytes:
    """What a lock of this process says: host, process, time, and where its process number counts."""
    said = {"host": socket.gethostname(), "pid": os.getpid(), "at": round(time.time(), 3)}
    return json.dumps({**said, "where": _where(), "what": what}).encode("ascii")


def holder_of(path: Path) -> dict[str, Any] | None:
    """What a lock says; None if it was given back meanwhile.

    Raises:
        RunError: It is damaged.
    """
    try:
        holder = parsed_json(read_regular(path))
    except FileNotFoundError:
        return None
    except (ValueError, IsADirectoryError):
        holder = None
    whole = (
        isinstance(holder, dict)
        and isinstance(holder.get("host"), str)
        and isinstance(holder.get("pid"), int)
        and isinstance(holder.get("at"), (int, float))
    )
    if not whole:
        raise RunError(f"{path}: a damaged lock; remove it if no other command writes there")
    found: dict[str, Any] = holder
    return found


def is_gone(holder: dict[str, Any]) -> bool:
    """Whether the process of a lock has ended for sure: it is of this machine and counts as this process does."""
    if holder["host"] != socket.gethostname() or holder.get("where", _where()) != _where():
        return False
    if not 0 < holder["pid"] < 2**31:
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


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
    try:
        while not create_once(path, this_process(what)):
            holder = holder_of(path)
            if holder is None:
                continue
            if not is_gone(holder):
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["at"]))
                raise RunError(
                    f"{target}: `shardsynth {str(holder.get('what', what))[:40]}` writes it already: process "
                    f"{holder['pid']} on {holder['host'][:100]} since {since}; wait for it, or name another output; if "
                    f"that process is gone, remove {path}"
                )
            _remove(path)
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise
    try:
        yield
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _where() -> str:
    """Names the boot of this machine and the container in which process numbers count."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{boot} {namespace}"
