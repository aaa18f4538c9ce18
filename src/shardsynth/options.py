"""How options are declared, parsed and described: those of the job file and of every model family.

Options are a frozen pydantic model. Each field says an option's type, range, default and, in one sentence, what it is;
errors and the tables of docs/ are made of that.
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


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError  # without words: what is wanted follows from the field
    return value


def or_empty(value: Any) -> Any:
    """A key without a value in YAML is an empty mapping."""
    return {} if value is None else value


# A text beside a type says what is wanted, where the type does not.
#: A whole number, also as 300.0 or "300".
Whole = Annotated[int, BeforeValidator(_no_truth)]
#: A finite number, also as text: YAML reads 1e-4 as such.
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0.0, le=1.0)]
#: Widths of layers, whole numbers from 1.
Widths = Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], "a list of widths such as [256, 256]"]
#: Any text; a number is taken as text.
Text = Annotated[str, BeforeValidator(str)]


class Options(BaseModel):
    """Options of a model, of a part of one, or of a job: frozen, every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def checked(cls: type[Parsed], where: str, given: Mapping[str, Any], at: str = ": ") -> Parsed:
        """Options from plain data.

        Args:
            where: What errors call the model: its family.
            given: Option -> value.
            at: What stands between the family and the option in errors.

        Raises:
            JobError: One or more options are unknown or impossible: which, what was found, what is wanted, and the
                nearest valid key.
        """
        try:
            return cls.model_validate(dict(given))
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


def keys(*models: type[BaseModel]) -> dict[str, FieldInfo]:
    """Options of the models, by the names that a job file gives them; first those that a model's file holds."""
    found = {info.alias or name: info for model in models for name, info in model.model_fields.items()}
    return dict(sorted(found.items(), key=lambda item: bool(item[1].exclude)))


def unknown(key: object, valid: Collection[str]) -> str:
    """What to say of an unknown option."""
    hint = did_you_mean(key, valid, 0.6) or f"; valid: {', '.join(valid)}"
    return f"no option is called {key!r}{hint}"


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def wanted(info: FieldInfo) -> str:
    """What an option takes, in words, such as ``a whole number from 0 to 1000``."""
    kind, marks = _unwrapped(info.annotation, info.metadata)
    said = next((mark for mark in marks if isinstance(mark, str)), _KINDS.get(kind, "anything"))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    ends = {end: f"{getattr(mark, end):.15g}" for mark in marks for end in ("ge", "gt", "le") if hasattr(mark, end)}
    if "le" in ends:
        return f"{said} from {ends['ge']} to {ends['le']}"
    if "gt" in ends:
        return f"{said}, more than {ends['gt']}"
    return f"{said}, {'not below' if ends['ge'] == '0' else 'at least'} {ends['ge']}" if ends else said


def table(*models: type[BaseModel]) -> str:
    """The models' options as a Markdown table, by the names that a job file gives them."""
    lines = ["| option | default | values | what it is |", "|---|---|---|---|"]
    for key, info in keys(*models).items():
        made = info.get_default(call_default_factory=True)
        none = made is None or made in ({}, "") or isinstance(made, BaseModel)
        default = "" if none else f"`{made if isinstance(made, str) else json.dumps(made)}`"
        lines.append(f"| `{key}` | {default} | {wanted(info)} | {info.description} |")
    return "\n".join(lines) + "\n"


def _explain(model: type[BaseModel], error: Any, at: str) -> str:
    """One of pydantic's errors as: option, what was found, what is wanted, the nearest valid option."""
    owner, info, path = model, None, []
    for part in error["loc"]:
        if isinstance(part, int) and info is not None and get_origin(_unwrapped(info.annotation)[0]) is tuple:
            break  # which of the widths
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
    found = value if type(value) in (int, float) else f"{type(value).__name__} {value!r:.40}"
    return f"{start}: wanted {text}, found {'nothing' if value is None else found}"


def _inside(annotation: Any) -> list[Any]:
    """A type and those that it is made of."""
    return [annotation, *(inner for part in get_args(annotation) for inner in _inside(part))]


def _unwrapped(annotation: Any, metadata: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
    """A type without None and what is annotated, and the annotations."""
    marks = list(metadata)
    while type(None) in get_args(annotation) or get_origin(annotation) is Annotated:
        if get_origin(annotation) is Annotated:
            marks += annotation.__metadata__
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation, marks
