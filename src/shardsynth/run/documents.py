"""The one door to the JSON files of a run beside its commit records (``records.py``): each is checked as it is read."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from shardsynth.errors import RunError
from shardsynth.standalone.files import parsed_json
from shardsynth.standalone.regular import read_regular

#: What is done about a damaged file that a task wrote.
MADE_AGAIN = "`shardsynth resume RUN --verify` makes it again"
RESTORE_PLAN = "restore it from a copy, or plan the job anew in another folder"
#: Key of a document that holds the SHA-256 digest of all others.
CHECKSUM = "checksum"


class _Document(BaseModel):
    """Keys that a reader relies on; a file may hold more."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Sampling(_Document):
    asked: Dict[str, Any]
    first_row: int = Field(ge=0)
    trust_pickle: bool = False


class PlanFile(_Document):
    """``plan.json``; ``Plan.from_json`` says what is missing."""

    identity: str
    version: Optional[int] = None
    job: Dict[str, Any] = {}
    shards: List[Dict[str, Any]] = []
    schema_: str = Field("", alias="schema")
    rows: int = Field(0, ge=0)
    chunk_rows: int = Field(1, ge=1)
    tasks: Dict[str, List[Dict[str, Any]]] = {}
    image: Optional[Dict[str, Any]] = None
    notes: List[str] = []
    metadata: Optional[str] = None
    sampling: Optional[_Sampling] = None
    tables: Optional[Dict[str, Any]] = None


class FirstSamplingPlan(_Document):
    """``plan.json`` of the first versions of `shardsynth sample`."""

    asked: Dict[str, Any]
    first_row: int = Field(ge=0)
    trust_pickle: bool


class AnyPlan(RootModel[Union[PlanFile, FirstSamplingPlan]]):
    """A plan, also of the first versions of `shardsynth sample`."""


class _Part(_Document):
    path: str = Field(pattern=r"^[^/]+$")
    rows: int = Field(ge=0)


class Manifest(_Document):
    """``_manifest.json`` of a model's parts."""

    rows: int = Field(ge=0)
    parts: List[_Part]


class _Score(_Document):
    score: Optional[float] = Field(None, strict=False)


class _Quality(_Score):
    holdout: Optional[_Score] = None


class Metrics(_Document):
    """``metrics/<model>.json``."""

    quality: _Quality


class RowEntry(_Document):
    """One file of a model's row ledger."""

    first_row: int = Field(ge=0, lt=2**63)
    rows: int = Field(ge=0, lt=2**63)
    seed: int
    where: Optional[str]
    known: Optional[str] = None


class SubmittedLine(_Document):
    """One line of ``private/slurm/jobs.jsonl``."""

    name: str
    stage: Optional[str] = None
    model: str = ""
    asked: Dict[str, Union[str, int, float, None]] = {}
    job: Optional[int] = Field(None, ge=0)
    at: float = Field(0.0, strict=False)
    dropped: bool = False


class Failure(_Document):
    """What a failed task wrote as its error."""

    stage: str
    index: int
    error: str


class StartedByHand(_Document):
    """What an element of a plain script wrote as it started."""

    stage: str
    tasks: str


Kind = TypeVar("Kind", bound=BaseModel)


def read_document(path: Path, kind: type[BaseModel], remedy: str = MADE_AGAIN) -> dict[str, Any]:
    """A JSON file of a run, as plain data.

    Args:
        path: The file.
        kind: What it has to hold.
        remedy: What the user can do about a damaged one.

    Raises:
        FileNotFoundError: It is not there, and no link is.
        RunError: It is damaged: the message names the file and the place.
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise RunError(f"{path}: damaged: a broken link; {remedy}") from None
        raise
    except IsADirectoryError:
        raise RunError(f"{path}: damaged: a folder, and a file is wanted there; {remedy}") from None
    try:
        return checked(content, kind)
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}; {remedy}") from None


def checked(content: bytes | str, kind: type[BaseModel]) -> dict[str, Any]:
    """Plain data from JSON text; ValueError, without a value of the text, where it is not what it has to be."""
    data = parsed_json(content)
    try:
        kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place or 'the file'}: {first['msg']}") from None
    found: dict[str, Any] = data
    if CHECKSUM in found and found.pop(CHECKSUM) != digest(found):
        raise ValueError("its content is not what its checksum says")
    return found


def digest(data: dict[str, Any]) -> str:
    """SHA-256 digest of plain data, whatever the order of keys and the layout of the file."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def with_checksum(data: dict[str, Any]) -> dict[str, Any]:
    """The data with their digest, which `checked` compares: that of the text, in which every key is text."""
    return {**data, CHECKSUM: digest(json.loads(json.dumps(data)))}
