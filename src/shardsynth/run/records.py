"""Reads commit records: one door that checks them, since a resume trusts what they say."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import contextlib
import os
import re
import stat
import time
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional  # noqa: UP035 - evaluated at run time on Python 3.9

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shardsynth.errors import InputError
from shardsynth.run.documents import checked
from shardsynth.standalone.regular import read_regular

#: A record that cannot be read may still be written, where a file system has no hard links: for so long it stays.
_YOUNG_SECONDS = 60.0
#: Outputs of `shardsynth sample` lie in the folder that holds its run directory.
_BESIDE = re.compile(r"\.\./(part-\d{5,}\.parquet|_manifest\.json)")
#: End of the name of a record that was damaged: it does not count, and is kept to be looked at.
DAMAGED = ".damaged"
#: The same of a record whose output was found changed, or depends on such an output.
WITHDRAWN = ".withdrawn"


class Output(BaseModel):
    """One file of a commit record."""

    model_config = ConfigDict(strict=True)

    path: str
    temporary: str
    size: int = Field(ge=0)
    sha256: str

    @field_validator("path", "temporary")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if _BESIDE.fullmatch(value):
            return value
        if not value or path.is_absolute() or ".." in path.parts or "\0" in value:
            raise ValueError("leaves the run")
        return value

    @field_validator("temporary")
    @classmethod
    def _name(cls, value: str) -> str:
        if "/" in value:
            raise ValueError("is no file name")
        return value


class Part(BaseModel):
    """One part in the record of a sampling task."""

    model_config = ConfigDict(extra="allow", strict=True)

    part: int = Field(ge=0)
    rows: int = Field(ge=0)
    size: int = Field(ge=0)
    sha256: str


class CommitRecord(BaseModel):
    """What every commit record holds, and what readers rely on where a stage adds it; stages add more."""

    model_config = ConfigDict(extra="allow", strict=True)

    stage: str
    index: int = Field(ge=0)
    rows: int = Field(ge=0)
    outputs: List[Output]  # noqa: UP006
    seconds: float = Field(ge=0, strict=False, allow_inf_nan=False)
    cpu_seconds: Optional[float] = Field(None, strict=False, allow_inf_nan=False)  # noqa: UP045
    peak_bytes: Optional[float] = Field(None, strict=False, allow_inf_nan=False)  # noqa: UP045
    parts: List[Part] = []  # noqa: UP006
    acceptance: Any = None
    image: Optional[Dict[str, Any]] = None  # noqa: UP006, UP045


class Damaged:
    """Stands for a record that cannot be trusted."""


def read_record(path: Path, stage: str, index: int) -> dict[str, Any] | Damaged | None:
    """A commit record; None if there is none, ``Damaged`` if it is none of this task's.

    A damaged record gets another name, unless it is so young that somebody may still be writing it.

    Args:
        path: The record.
        stage: Stage of the task.
        index: Number of the task.
    """
    try:
        text = read_regular(path)
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        text = b""
    except (IsADirectoryError, InputError):
        text = b""
    try:
        content = checked(text, CommitRecord)
        if (content["stage"], content["index"]) != (stage, index):
            raise ValueError("the record of another task")
    except ValueError:
        with contextlib.suppress(OSError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime > _YOUNG_SECONDS:
                set_aside(path, DAMAGED)
        return Damaged()
    return content


def set_aside(path: Path, end: str) -> None:
    """Give a record a name under which it does not count; an older one of that name is replaced."""
    os.replace(path, path.with_name(path.name + end))


def was_ever_committed(record: Path) -> bool:
    """Whether there is, or was, any record of a task, damaged ones included; ``record``: its first one."""
    index = record.name.partition(".")[0]
    return any(record.parent.glob(f"{index}.*json*"))
