"""One exception per thing that a user can fix. Each class has the exit code of the command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


class ShardsynthError(Exception):
    """Base of every error that is reported in one line, without a traceback."""

    exit_code = 1


class InputError(ShardsynthError):
    """The user's input is wrong. The message says which one, what was found, what was wanted and what to do."""

    exit_code = 2


class JobError(InputError):
    """The job file, or an option that overrides it, is wrong."""


class MissingLibrary(JobError):
    """A library that a model needs is not installed on this machine."""


class ShardError(InputError):
    """An input shard cannot be read, or does not agree with the others."""


class MetadataError(InputError):
    """The SDV metadata does not fit the shards."""


class ModelError(InputError):
    """A model folder or pickle cannot be used."""


class ConditionError(InputError):
    """A condition cannot be met by the model."""


class RunError(InputError):
    """The run directory is not what the command needs."""


class TaskError(ShardsynthError):
    """A task failed. The message names the task and its log."""


class MergeError(ShardsynthError):
    """Parts of a summary or of the output do not fit together. The message says which part, and why."""


class SpaceError(ShardsynthError):
    """The disk or the quota is full. The message says how much was needed, where that is known."""


class Saved(ShardsynthError):
    """The task was asked to stop and saved its state: run it again."""

    exit_code = 75


#: Set to 1, messages quote values of the table. `--show-values` sets it for a command and the processes that it starts.
SHOW_VALUES = "SHARDSYNTH_SHOW_VALUES"


def values_shown() -> bool:
    """Whether messages may quote values of the table: only where the user asked for it."""
    return os.environ.get(SHOW_VALUES) == "1"


def cell(value: object, *, shown: bool = False) -> str:
    """A value of the table, for a message: the one door by which a value gets into a text that a user sees.

    Args:
        value: From the table, or learned from it.
        shown: The caller was asked to show it.

    Returns:
        The value quoted, or how to see it.
    """
    return repr(value) if shown or values_shown() else "(--show-values quotes it)"


def cells(hint: str) -> str:
    """A hint that is made of values of the table, to end a message with; what shows it where it is hidden."""
    return hint if values_shown() or not hint else "; --show-values names what is near"


def of_library(error: BaseException) -> str:
    """The error of another library, for a message: its class; its text can quote values, and is shown if these are."""
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {first or 'no message'}" if values_shown() else type(error).__name__


def did_you_mean(word: object, words: Iterable[str], cutoff: float = 0.5) -> str:
    """``; did you mean 'x'?`` for the nearest of the words, to end a message with.

    Args:
        word: What was found; a key of a job file need not be text.
        words: What would have been right.
        cutoff: How alike two words must be, 0 to 1 (difflib's ratio); words that differ in case alone always are.

    Returns:
        The hint, or empty text where no word is near.
    """
    text, known = str(word), list(words)
    close = difflib.get_close_matches(text, known, 1, cutoff) or [w for w in known if w.lower() == text.lower()]
    return f"; did you mean {close[0]!r}?" if close else ""


def no_folder_there(path: Path) -> str:
    """Error message for a path that cannot be a folder: it, or a folder above it, is a file or a broken link."""
    obstacle = next((p for p in (path, *path.parents) if (p.exists() or p.is_symlink()) and not p.is_dir()), path)
    kind = "a broken link" if obstacle.is_symlink() and not obstacle.exists() else "a file"
    return f"{obstacle}: is {kind}, and a folder is wanted there; name another path, or move it away"
