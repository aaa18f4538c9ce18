"""The one door to final names: what is written has a temporary name first, is flushed, then is renamed."""

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
from functools import partial
from pathlib import Path
from typing import IO, Any

from shardsynth.errors import SpaceError
from shardsynth.standalone.regular import read_regular, refuse_special

_SEQUENCE = itertools.count()
#: In containers, whose processes are all numbered from 1, host and process number do not tell two attempts apart.
_PROCESS = secrets.token_hex(4)


def attempt_name() -> str:
    """A text that no other attempt has: job, restart, host, process number, random text, and a count."""
    job = os.environ.get("SLURM_JOB_ID", "0")
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")[:40]
    return f"{job}-{restart}-{host}-{os.getpid()}-{_PROCESS}-{next(_SEQUENCE)}"


def temporary_beside(path: Path, attempt: str | None = None) -> Path:
    """A name in the same folder that only one attempt uses (by default a new one); readers ignore such names."""
    return path.with_name(f".{path.name}.{attempt or attempt_name()}.tmp")


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot flush a folder
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


def give_final_name(temporary: Path | str, path: Path | str) -> None:
    """Rename what is written and flushed; the rename survives a crash. A file that is there is replaced."""
    try:
        os.replace(temporary, path)
    except IsADirectoryError:
        tidy_away(Path(path))
        os.replace(temporary, path)
    sync_folder(Path(path).parent)


def tidy_away(path: Path) -> None:
    """Give what stands where a file has to be a hidden name beside it, which readers pass over; nothing is deleted."""
    os.replace(path, path.with_name(f".{path.name}.{attempt_name()}.damaged"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name; it gets its final name when the block ends well.

    Readers see the old file or the new one, always whole. When the block fails, nothing of the new one is left.

    Args:
        path: The final name. A file there is replaced, and so is an empty folder if the new thing is a folder.

    Yields:
        The temporary name, in the same folder. The block creates the file or the folder.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        (sync_folder if temporary.is_dir() else sync_file)(temporary)
        give_final_name(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise


def write_atomic(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a small file so that readers see the old one or the new one, always whole.

    Raises:
        SpaceError: The disk or the quota is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with no_space_is_clear(path, len(data)), replacing(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)


def create_once(path: Path, content: bytes, mode: int = 0o666) -> bool:
    """Create a file, whole and flushed, or leave the one that is there; True if this call created it.

    Args:
        path: The file.
        content: Its content.
        mode: Its permissions, less the umask.

    Raises:
        SpaceError: The disk or the quota is full.
    """
    temporary = temporary_beside(path)
    with no_space_is_clear(path, len(content)):
        try:
            with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            if os.stat(temporary).st_nlink != 2:  # else it was this call, and NFS lost the first answer
                return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            return _create_exclusively(path, content, mode)  # a file system without hard links
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    sync_folder(path.parent)
    return True


def _create_exclusively(path: Path, content: bytes, mode: int) -> bool:
    try:
        with open(path, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON with `write_atomic`; keys stay in their order."""
    write_atomic(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file, as plain data; ValueError where it is not JSON."""
    return parsed_json(read_regular(path))


def parsed_json(content: bytes | str) -> Any:
    """Plain data from JSON text; ValueError where it is not JSON, or nested too deeply."""
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; the file is read in blocks."""
    digest = hashlib.sha256()
    refuse_special(path)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class HashingReader:
    """A binary file that computes the SHA-256 of what is read from it.

    Args:
        file: The file, open for reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes."""
        block = self._file.read(size)
        self._digest.update(block)
        return block

    def hexdigest(self) -> str:
        """SHA-256 of all that was read, in hexadecimal."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def no_space_is_clear(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the error of a full disk or quota into one that says how much was needed and how much is free.

    Args:
        path: Where the block writes.
        needed: Bytes that it writes, where that is known.

    Raises:
        SpaceError: The disk or the quota is full.
    """
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
    need = f"about {human_bytes(needed)} were needed, " if needed else ""
    raise SpaceError(f"{reason}: {need}{human_bytes(disk_of(path).free)} are free; {advice}")


_NO_SPACE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up"}


def is_no_space(error: Exception) -> bool:
    """Whether an error is that of a full disk or quota, as the system or a library gives it."""
    return bool(_error_number(error))


def _error_number(error: Exception) -> int:
    """Which number of ``_NO_SPACE`` an error has, or 0. Libraries in Rust (safetensors) only write it in the text."""
    in_text = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(in_text.group(1)) if in_text else None
    return number if number in _NO_SPACE else 0


def disk_of(folder: Path) -> Any:
    """Size and free bytes (``total``, ``free``) of the disk of a folder, which need not exist yet."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder)


def human_bytes(count: float) -> str:
    """A number of bytes with a unit of 1000s, such as ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} EB"
