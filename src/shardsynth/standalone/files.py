"""The one door through which small files are written: temporary beside the target, flushed, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardsynth.errors import SpaceError

_SEQUENCE = itertools.count()
#: In containers, whose processes are all numbered from 1, host and process number do not tell two attempts apart.
_PROCESS = secrets.token_hex(4)


def attempt_name() -> str:
    """Text that no other attempt at any task has: job, restart, host, process, chance and a count within it."""
    job = os.environ.get("SLURM_JOB_ID", "0")
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:40]
    return f"{job}-{restart}-{host}-{os.getpid()}-{_PROCESS}-{next(_SEQUENCE)}"


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that this attempt alone uses; readers ignore it."""
    return path.with_name(f".{path.name}.{attempt_name()}.tmp")


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file that a library wrote."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a small file so that readers see the old one or the new one, whole."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = temporary_beside(path)
    with no_space_is_clear(path, len(data)):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    sync_folder(path.parent)


def create_once(path: Path, content: bytes) -> bool:
    """Create a file whole and flushed, or leave the one that is there; True when this call created it."""
    temporary = temporary_beside(path)
    with no_space_is_clear(path, len(content)):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            return _create_exclusively(path, content)  # a file system without hard links
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    sync_folder(path.parent)
    return True


def _create_exclusively(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, atomically, keys in the order given."""
    write_atomic(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Checksum of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def no_space_is_clear(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk or quota into a SpaceError that says how much was needed and how much there is."""
    advice = "nothing committed is lost: make room and run `shardsynth resume`"
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if advice in str(error) or not (number or isinstance(error, SpaceError)):
            raise
        reason = f"{path}: {_NO_SPACE[number]}" if number else str(error)
    else:
        return
    wanted = f"about {human_bytes(needed)} were needed, " if needed else ""
    raise SpaceError(f"{reason}: {wanted}{human_bytes(disk_of(path).free)} are free; {advice}")


_NO_SPACE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}


def _error_number(error: Exception) -> int:
    """Which of ``_NO_SPACE`` an error tells, 0 for none: safetensors, and what is written in Rust, only in words."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(said.group(1)) if said else None
    return number if number in _NO_SPACE else 0


def disk_of(folder: Path) -> Any:
    """Size and free bytes (``total``, ``free``) of the disk that a folder lies on, or will."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder)


def human_bytes(count: float) -> str:
    """Bytes as people write them."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} EB"
