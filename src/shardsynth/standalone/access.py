"""Who may read what a run writes: new folders, and the mode of new files."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def make_folder(folder: Path, mode: int) -> bool:
    """Make a folder, unless it is there; it takes its parent's group and setgid bit, as in a project's folder.

    Args:
        folder: The folder. Parents that are not there are made with the mode that the process's umask gives.
        mode: Its mode, such as 0o700; whatever the umask.

    Returns:
        Whether it was made. One that is there keeps mode, setgid and group.

    Raises:
        FileExistsError: A file is there.
        OSError: It cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=mode & 0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    parent = folder.parent.stat()
    # Without setgid a new folder has the user's own group: another quota, and closed to the members of this one.
    with contextlib.suppress(OSError):  # the user is no member of the parent's group
        if folder.stat().st_gid != parent.st_gid:
            os.chown(folder, -1, parent.st_gid)
            mode |= stat.S_ISGID
    with contextlib.suppress(OSError):  # a file system without modes
        folder.chmod(mode | (parent.st_mode & stat.S_ISGID))
    return True


def close_to_others(folder: Path) -> None:
    """Take all rights on a folder from all but its owner; setgid and group stay. Another's folder is left alone."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            folder.chmod(mode & ~0o077)


@contextlib.contextmanager
def readable_by_group(wanted: bool) -> Iterator[None]:
    """In the block, the folder's group may read new files and folders of this process, whatever its umask.

    Args:
        wanted: Otherwise the block changes nothing.
    """
    if not wanted:
        yield
        return
    before = os.umask(0o027)
    os.umask(before & ~0o050)
    try:
        yield
    finally:
        os.umask(before)
