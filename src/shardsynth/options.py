"""Declare, parse and describe options: those of the job file and of every model family.

Options are a frozen pydantic model. Each field says an option's type, range, default and, in one sentence, what it is;
errors and the tables of docs/ are made from these.
"""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from shardsynth.errors import JobError, did_you_mean

Parsed = TypeVar("Parsed", bound="Options")
_ROWS = re.compile(r"^\d+(\.\d+)?([eE]\+?\d+)?$")


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError  # without a message: the field says what is wanted
    return value


def or_empty(value: Any) -> Any:
    """An empty mapping in place of None: in YAML, a key without a value is None."""
    return {} if value is None else value


# Where a type alone does not say what is wanted, a text beside it does.
#: A whole number, also as 300.0 or "300".
Whole = Annotated[int, BeforeValidator(_no_truth)]
#: A finite number, also as text: YAML reads 1e-4 as text.
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
#: What a native model holds beyond the fifth most extreme values of a column.
Extremes = Literal["tail", "clip", "keep"]
Share = Annotated[Number, Field(ge=0.0, le=1.0)]
#: Widths of layers, whole numbers from 1.
Widths = Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], "a list of widths such as [256, 256]"]
#: Any text; a number is taken as text.
Text = Annotated[str, BeforeValidator(str)]


class Options(BaseModel):
    """Options of a model, of a part of a model, or of a job: frozen, and every key must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def checked(cls: type[Parsed], where: str, values: Mapping[str, Any], at: str = ": ") -> Parsed:
        """Parse options from plain data.

        Args:
            where: Start of each error: the family.
            values: By option, its value.
            at: Text between the family and the option in an error.

        Raises:
            JobError: Options are unknown or out of range. It says which, what was found, what is wanted, and the
                nearest valid option.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = (_explain(cls, item, at) for item in error.errors())
            raise JobError("; ".join(dict.fromkeys(where + problem for problem in problems))) from None


class Rare(Options):
    """What a native model file can hold of rare values."""

    model_config = ConfigDict(populate_by_name=True)

    min_count: int = Field(5, ge=1, description="A category or bin seen on fewer rows is not in a native model file.")
    as_: Literal["other", "drop", "keep"] = Field(
        "drop",
        alias="as",
        description="What rare categories become: their mass goes to `other`, to the rest, or stays.",
    )

    @property
    def least(self) -> int:
        """Rows, or persons, that a category needs."""
        return 1 if self.as_ == "keep" else self.min_count


def parse_rows(value: Any) -> int:
    """Row count from an int or text such as ``1e6`` or ``1_000_000``.

    Raises:
        JobError: The value is not a whole number from 0 to 2^63 - 1.
    """
    if isinstance(value, bool):
        raise JobError("a row count was wanted, a true/false was found")
    text = str(value).replace("_", "").replace(",", "").strip()
    if not _ROWS.match(text) or not float(text) < 2**63 or float(text) != int(float(text)):
        raise JobError(
            f"{str(value)[:40]!r} is not a row count (0 to 2^63 - 1); write a whole number such as 1000000 or 1e6"
        )
    return int(text) if text.isdigit() else int(float(text))


def row_count(value: Any) -> int:
    """`parse_rows` for a validator of pydantic, which adds the key to a ValueError."""
    try:
        return parse_rows(value)
    except JobError as error:
        raise ValueError(str(error)) from None


def keys(*models: type[BaseModel]) -> dict[str, FieldInfo]:
    """Options of the classes by their names in a job file; those that a model's file holds come first."""
    fields = {info.alias or name: info for model in models for name, info in model.model_fields.items()}
    return dict(sorted(fields.items(), key=lambda item: bool(item[1].exclude)))


def unknown(key: object, valid: Collection[str]) -> str:
    """The message for an unknown option."""
    hint = did_you_mean(key, valid, 0.6) or f"; valid: {', '.join(valid)}"
    return f"no option is called {key!r}{hint}"


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def wanted(info: FieldInfo) -> str:
    """What is wanted of an option, in words, such as ``a whole number from 0 to 1000``."""
    kind, marks = _unwrapped(info.annotation, info.metadata)
    kind_text = next((mark for mark in marks if isinstance(mark, str)), _KINDS.get(kind, "anything"))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    ends = {end: f"{getattr(mark, end):.15g}" for mark in marks for end in ("ge", "gt", "le") if hasattr(mark, end)}
    if "le" in ends:
        return f"{kind_text} from {ends['ge']} to {ends['le']}"
    if "gt" in ends:
        return f"{kind_text}, more than {ends['gt']}"
    return f"{kind_text}, {'not below' if ends['ge'] == '0' else 'at least'} {ends['ge']}" if ends else kind_text


def table(*models: type[BaseModel]) -> str:
    """Options of the classes as a Markdown table, by their names in a job file."""
    lines = ["| option | default | values | what it is |", "|---|---|---|---|"]
    for key, info in keys(*models).items():
        value = info.get_default(call_default_factory=True)
        no_default = value is None or value in ({}, "") or isinstance(value, BaseModel)
        default = "" if no_default else f"`{value if isinstance(value, str) else json.dumps(value)}`"
        lines.append(f"| `{key}` | {default} | {wanted(info)} | {info.description} |")
    return "\n".join(lines) + "\n"


def _explain(model: type[BaseModel], error: Any, at: str) -> str:
    """The text of one of pydantic's errors: the option, what is wanted, what was found, the nearest valid option."""
    owner, info, path = model, None, []
    for part in error["loc"]:
        if isinstance(part, int) and info is not None and get_origin(_unwrapped(info.annotation)[0]) is tuple:
            break  # the place in a list of widths: the option's name is enough
        path.append(str(part))
        field = keys(owner).get(str(part))
        info = field or info
        for inner in _inside(field.annotation) if field is not None else ():
            is_class = isinstance(inner, type) and get_origin(inner) is None  # Python 3.9 calls tuple[int] a type
            owner = inner if is_class and issubclass(inner, BaseModel) else owner
    if error["type"] in ("extra_forbidden", "invalid_key"):
        path, message = path[:-1], unknown(path[-1], keys(owner))
        return (at + ".".join(path) if path else "") + f": {message}"
    start = at + ".".join(path) if path else ""
    message = re.sub(r"^Value error, ", "", error["msg"])
    if error["type"] == "value_error" and message:
        return f"{start}: {message}"
    value = error["input"]
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{start} is one of {', '.join(choices)}, not {value!r}{did_you_mean(value, choices)}"
    text = wanted(info) if info is not None else "a mapping of options"
    beyond = error["type"] in ("greater_than_equal", "greater_than")  # the kind is right
    if beyond and info is not None and _unwrapped(info.annotation)[0] in _KINDS:
        text = text.rpartition(", ")[2]
    value_text = value if type(value) in (int, float) else f"{type(value).__name__} {value!r:.40}"
    return f"{start}: wanted {text}, found {'nothing' if value is None else value_text}"


def _inside(annotation: Any) -> list[Any]:
    """A type, and all types that it is made of."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _inside(part))]


def _unwrapped(annotation: Any, metadata: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
    """A type without ``Optional`` and ``Annotated``, and its annotations."""
    marks = list(metadata)
    while type(None) in get_args(annotation) or get_origin(annotation) is Annotated:
        if get_origin(annotation) is Annotated:
            marks += annotation.__metadata__
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation, marks
