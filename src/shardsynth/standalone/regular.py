"""Regular files only: a read from a FIFO, a device or a socket can wait for ever, so these are refused by name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shardsynth.errors import InputError

_KINDS = {
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def refuse_special(path: Path | str) -> None:
    """InputError for a FIFO, a device or a socket, also at the end of a link; what is not there passes."""
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return
    if kind is not None:
        raise InputError(
            f"{path}: is {kind}, and a file is wanted there; copy its content into a file, or move it away"
        )


def open_to_append(path: Path) -> int:
    """Handle of a regular file that is opened for appending; it is made if need be, for this user alone.

    Raises:
        InputError: It is a FIFO, a device or a socket.
        OSError: It is a folder or a link, or cannot be written.
    """
    refuse_special(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def read_regular(path: Path) -> bytes:
    """Content of a file.

    Raises:
        InputError: It is a FIFO, a device or a socket.
        OSError: It is not there, is a folder, or cannot be read.
    """
    refuse_special(path)
    return path.read_bytes()
