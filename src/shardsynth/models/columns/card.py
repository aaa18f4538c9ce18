"""What ``model.json`` must hold: the schema of what all native families share; each family adds its own part.

Unknown keys are refused, texts and lists have a largest size, and each kind of relation and generator is named. What a
key refers to (a column, a category) is checked by ``references``.
"""

# ruff: noqa: UP007, UP045
from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardsynth.errors import ModelError
from shardsynth.models.columns.formulas import PARTS
from shardsynth.standalone.regular import refuse_special

Parsed = TypeVar("Parsed", bound="Card")

#: Largest length of a name, and of any other text (a regular expression, a category, a note).
_NAME, _TEXT = 10_000, 1_000_000
#: Most values that a generator repeats in a cycle: they are made at once.
MOST_IN_A_CYCLE = 1 << 24

#: Largest size of a JSON file of a model; as Python objects it takes twenty times as much memory at worst.
MOST_CARD_BYTES = 64 << 20

Name = Annotated[str, Field(max_length=_NAME)]
Text = Annotated[str, Field(max_length=_TEXT)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Scalar = Union[bool, int, float, Text]


class Card(BaseModel):
    """Base of all schemas: strict types, finite numbers, no unknown key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class MarginalCard(Card):
    """See ``fitted.Marginal``; its arrays are in the other file."""

    kind: Literal["category", "axis"]
    p_missing: Share
    ends: Annotated[Optional[list[float]], Field(min_length=2, max_length=2)] = None


class PrecisionCard(Card):
    """See ``data.values.Precision``."""

    kind: Literal["integer", "decimal", "float"]
    origin: Int64
    unit: Annotated[int, Field(ge=1, lt=2**63)]
    digits: Annotated[int, Field(ge=0, le=40)]


class TransformCard(Card):
    """See ``transform.Transform``."""

    name: Literal["log", "logit"]
    base: float
    top: float = 1.0


class DistributionCard(Card):
    """SDV's ``{"distribution": name, "learned_parameters": {...}}``; empty where a column has none."""

    distribution: Name = ""
    learned_parameters: dict[Name, Union[None, float, int, Text, list[Union[float, Text]]]] = {}
    transform: TransformCard = TransformCard(name="log", base=0.0)


class ColumnCard(Card):
    """See ``fitted.FittedColumn``."""

    name: Name
    role: Literal["category", "number", "datetime", "id", "pii", "empty"]
    treatment: Literal["latent", "relation", "constant", "empty", "id", "pii"]
    marginal: Optional[MarginalCard]
    precision: Optional[PrecisionCard]
    emit_nan: bool
    distribution: DistributionCard


class OperandCard(Card):
    """See ``operands.Operand`` and ``operands.Amount``."""

    name: Name
    values: Optional[list[Scalar]]
    nanoseconds: Count = 0
    layout: Optional[Name] = None


class FunctionCard(Card):
    """See ``relations.FunctionRelation``."""

    kind: Literal["function"]
    parent: OperandCard
    derived: OperandCard
    parent_points: Optional[list[float]]
    derived_points: Optional[list[float]]
    table: Annotated[list[Annotated[int, Field(ge=-2)]], Field(min_length=1)]
    support: Count


class _Several(Card):
    parents_: Annotated[list[OperandCard], Field(min_length=1)]
    derived: OperandCard
    support: Count


class FlagCard(_Several):
    """See ``relations.FlagRelation``."""

    kind: Literal["flag"]
    ones: list[Int64]
    zeros: list[Int64]
    operation: Literal["or", "and"]
    missing: Literal["any", "known"]


class SumCard(_Several):
    """See ``relations.SumRelation``."""

    kind: Literal["sum"]
    tolerance: float
    precision: PrecisionCard
    missing: Literal["any", "zero"]


class LinearCard(_Several):
    """See ``formulas.LinearRelation``."""

    kind: Literal["linear"]
    tolerance: float
    precision: PrecisionCard
    factors: list[float]
    offset: float
    rounding: Literal["near", "down", "up"]


class PowerCard(_Several):
    """See ``formulas.PowerRelation``."""

    kind: Literal["power"]
    tolerance: float
    precision: PrecisionCard
    powers: list[Annotated[int, Field(ge=-64, le=64)]]
    factor: float


class PartCard(Card):
    """See ``formulas.DatePartRelation``."""

    kind: Literal["part"]
    parent: OperandCard
    derived: OperandCard
    part: Literal[PARTS]  # type: ignore[valid-type]
    offset: Int64
    support: Count


class StepCard(Card):
    """See ``formulas.StepRelation``."""

    kind: Literal["step"]
    parent: OperandCard
    derived: OperandCard
    cuts: list[float]
    codes: list[Count]
    support: Count


RelationCard = Annotated[
    Union[FunctionCard, FlagCard, SumCard, LinearCard, PowerCard, PartCard, StepCard], Field(discriminator="kind")
]


class _Generator(Card):
    key: Annotated[int, Field(ge=0, lt=2**64)]
    missing: Share
    repeat: Annotated[int, Field(ge=1, lt=2**63)]
    # what may be left out is never null
    holds: Annotated[int, Field(ge=1, lt=2**63)] = 1
    cycle: Annotated[int, Field(ge=1, le=MOST_IN_A_CYCLE)] = 1


class StringCard(_Generator):
    """Strings of a regular expression; the expressions of longer ones where it was learned."""

    kind: Literal["string"]
    regex: Text
    head: Text = ""
    grown: Literal["[0-9]", "[A-Z]", "[a-z]", "[0-9a-z]"] = "[0-9]"
    length: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    tail: Text = ""


class NumberCard(_Generator):
    """Whole numbers of a regular expression."""

    kind: Literal["number"]
    regex: Text


class CountCard(_Generator):
    """Whole numbers one after the other."""

    kind: Literal["count"]
    start: Int64
    limit: Annotated[int, Field(ge=-(2**63), lt=2**64)]


class PersonalCard(_Generator):
    """Faker's values."""

    kind: Literal["pii"]
    function: Name
    locales: Annotated[list[Name], Field(min_length=1, max_length=100)]
    unique: bool
    numbering: Annotated[Optional[list[Annotated[int, Field(ge=1, lt=2**53)]]], Field(min_length=1, max_length=2)] = (
        None
    )


GeneratorCard = Annotated[Union[StringCard, NumberCard, CountCard, PersonalCard], Field(discriminator="kind")]


class ModelCard(Card):
    """What every family's ``model.json`` holds."""

    format: Annotated[int, Field(ge=1)]
    engine: Literal["native"]
    name: Name
    schema_: Annotated[str, Field(alias="schema")]
    columns: list[ColumnCard]
    generators: dict[Name, GeneratorCard]
    formats: dict[Name, Annotated[str, Field(max_length=20_000)]]
    notes: list[Text]


def read_model_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model, of limited size.

    Raises:
        ModelError: The file is too large, or holds no JSON object.
        OSError: It cannot be read.
    """
    refuse_special(path)
    if path.stat().st_size > MOST_CARD_BYTES:
        raise ModelError(f"{path}: has more than {MOST_CARD_BYTES >> 20} MiB; no model writes so much")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: is not JSON; the file is damaged: fit or import the model again") from None
    if not isinstance(card, dict):
        raise ModelError(f"{path}: is no JSON object; the file is damaged: fit or import the model again")
    return card


class ProvenanceCard(Card):
    """``run.json`` beside a model: where it comes from. All keys may be missing."""

    name: Name = ""
    seed: int = 0
    chunk_rows: Annotated[int, Field(ge=1, lt=2**63)] = 1
    rows: Count = 0
    privacy: dict[Name, Any] = {}


#: What pydantic says of Python's objects, which a file does not hold.
_OF_PYTHON = re.compile(r" or (an )?(instance of \w+|object to extract fields from)")


def parsed(schema: type[Parsed], file: Path, data: Mapping[str, Any]) -> Parsed:
    """Check plain data from a file against a schema.

    Raises:
        ModelError: Names file, key and what is wrong; no value is shown.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        item = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in item["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = _OF_PYTHON.sub("", item["msg"].splitlines()[0])[:200].replace("Input should", "should")
        raise ModelError(f"{file}: {place}: {message}{more}; the file is damaged: fit or import it again") from None
    except RecursionError:
        raise ModelError(f"{file}: is nested too deeply; the file is damaged: fit or import it again") from None
