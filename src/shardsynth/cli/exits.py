"""How the process ends: one clear line per error, and its exit code.

2 for the user's mistakes, 1 for failures, 75 for a task that was asked to stop and saved, 128 plus its number for a
signal. With ``--debug`` the error itself is raised; with ``--show-values`` messages quote values of the table.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardsynth.errors import SHOW_VALUES, ShardsynthError, no_folder_there

#: Errors of a path that the user named.
_PATH_ERRORS = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_PATH_NUMBERS = (errno.ENAMETOOLONG, errno.ELOOP)
#: Exit codes after SIGINT, SIGHUP and SIGTERM.
_STOPPED = (130, 129, 143)
_RESUME = "; what is committed stays, `shardsynth resume` does the rest"
#: How to continue a command that was stopped.
_AFTER_STOP = {
    **dict.fromkeys(("run", "resume", "demo", "task"), _RESUME),
    "sample": "; what is committed stays, the same command goes on where it was",
}
_MISSING_PATH = ("no such file", "no job file", "no run here", "Read-only file system")


def exit_on_error(command: Callable[[], Any]) -> None:
    """Call a command; an error that it raises ends the process with one line on standard error."""
    if "--show-values" in sys.argv:
        os.environ[SHOW_VALUES] = "1"  # for the processes that it starts, too
    try:
        command()
    except ShardsynthError as error:
        if "--debug" in sys.argv:
            raise
        print(f"shardsynth: {error}{_image_hint(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns Ctrl-C into an exit and prints nothing
        code = stop.code if isinstance(stop, SystemExit) else 130
        if code not in _STOPPED:
            raise
        print(f"shardsynth: stopped{_AFTER_STOP.get(''.join(sys.argv[1:2]), '')}", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        print(f"shardsynth: {_reason(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, _PATH_ERRORS) or error.errno in _PATH_NUMBERS else 1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        # The message is left out: it may hold values of the data.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        print(f"shardsynth: unexpected {where}: a bug; --debug shows the traceback", file=sys.stderr)
        sys.exit(1)


def _reason(error: OSError) -> str:
    """The paths of an error of the operating system, and what is wrong with them."""
    if isinstance(error, (NotADirectoryError, FileExistsError)) and not os.path.isdir(error.filename or "."):
        return no_folder_there(Path(os.fsdecode(error.filename)))
    # The second name is the target of a rename or a link.
    names = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{names or type(error).__name__}: {error.strerror or error}"


def _image_hint(message: str) -> str:
    """Why a path is most often missing inside a container; empty outside of one, and for other messages."""
    if "APPTAINER_CONTAINER" not in os.environ or not any(words in message for words in _MISSING_PATH):
        return ""
    return " (an image sees only what is bound: apptainer run --mount type=bind,src=FOLDER,dst=FOLDER ...)"
