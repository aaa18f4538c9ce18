"""From text to Arrow types: guess the type of a whole column, convert it, and name the first row that does not fit."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardsynth.errors import InputError, did_you_mean

#: Texts that mean "missing" unless the user gives others: those of Arrow, pandas and R, and Excel's error cells.
NULL_TEXTS = (
    *("NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "NaN", "nan", "-NaN", "-nan", "1.#QNAN", "-1.#IND", "NULL", "null"),
    *("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"),
)
#: How SAS and Stata write a missing number or date. Text columns keep it.
_POINT = "."

#: Layout of days as Excel counts them, and the day of its 0.
EXCEL_DAYS, _EXCEL_ZERO = "%excel", -25_569

_INTEGER = r"(?:0|[1-9]\d*)"  # a leading zero is part of a code ("00123"), not of a number
_EXPONENT = r"[eE][+-]?\d+"
_DATE = r"(?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})-\d\d-\d\d"
_CLOCK = r"[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_ZONE = r"(?:Z|[+-]\d\d:?\d\d)"
_PATTERNS = {
    "bool": r"^(?i:true|false)$",
    "int": rf"^-?{_INTEGER}$",
    "float": rf"^(?:-?{_INTEGER}|[+-]?(?:{_INTEGER}\.\d*|\.\d+)(?:{_EXPONENT})?"
    rf"|[+-]?{_INTEGER}[eE][+-]\d+|(?i:[+-]?inf(?:inity)?))$",  # 1E10 is a code
    "time": r"^(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?$",
    "date": rf"^{_DATE}$",
    "timestamp": rf"^{_DATE}(?:{_CLOCK})?$",
    "zoned": rf"^{_DATE}{_CLOCK}{_ZONE}$",
}
_WIDER = {frozenset(("int", "float")): "float", frozenset(("date", "timestamp")): "timestamp"}
_NS_YEARS = (1678, 2261)  # first and last year that a 64-bit count of nanoseconds can hold completely


@dataclass(frozen=True)
class Guess:
    """The narrowest family of types that all texts of a column can be read as.

    ``join`` is commutative, associative and idempotent, so the order of the batches does not matter.

    Attributes:
        family: ``null`` (no text so far), a key of ``_PATTERNS``, or ``string``.
        digits: Most digits of the fraction of a second among timestamps.
        far: Whether a date or timestamp is outside the years that nanoseconds can hold.
    """

    family: str = "null"
    digits: int = 0
    far: bool = False

    def join(self, other: Guess) -> Guess:
        """The narrowest guess that covers both."""
        families = {self.family, other.family} - {"null"}
        if len(families) < 2:
            family = families.pop() if families else "null"
        else:
            family = _WIDER.get(frozenset(families), "string")
        if family not in ("timestamp", "zoned", "time"):
            return Guess(family, 0, family == "date" and (self.far or other.far))
        return Guess(family, max(self.digits, other.digits), self.far or other.far)

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of this guess; a string where any other type would lose digits."""
        if self.family in ("timestamp", "zoned"):
            if self.digits > 6 and self.far:
                return pa.string()
            unit = "ms" if self.digits <= 3 else "us" if self.digits <= 6 else "ns"
            return pa.timestamp(unit, "UTC" if self.family == "zoned" else None)
        if self.family == "time":
            return pa.time32("ms") if self.digits <= 3 else pa.time64("us")
        plain = {"null": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "date": pa.date32()}
        return plain.get(self.family, pa.string())


def guess(texts: pa.Array, nulls: Iterable[str]) -> Guess:
    """Guess for one batch.

    Args:
        texts: String array; its nulls are missing values.
        nulls: Texts that mean missing, besides the empty one.
    """
    return guess_trimmed(trimmed(texts, nulls))


def guess_trimmed(texts: pa.Array) -> Guess:
    """Guess for one batch that ``trimmed`` gave."""
    values = pc.drop_null(texts)
    if len(values.slice(0, 256).unique()) <= 16:  # few texts, each often: each is looked at once
        values = values.unique()
    points = len(values)
    values = values.filter(pc.not_equal(values, _POINT))
    points -= len(values)
    if len(values) == 0:
        return Guess()
    for family, pattern in _PATTERNS.items():
        head = values.slice(0, 64)
        if all(pc.all(pc.match_substring_regex(part, pattern)).as_py() for part in (head, values)):
            return _checked(family, values) if not points or family != "bool" else Guess("string")
    return Guess("string")


def guess_moment(texts: pa.Array) -> Guess:
    """Guess for texts of a format that has numbers of its own: dates, instants and times of day, else text."""
    found = guess_trimmed(trimmed(texts, ()))
    return found if found.family in ("null", "date", "timestamp", "zoned", "time") else Guess("string")


def moments(values: pa.Array, type_: pa.DataType) -> pa.Array:
    """Values in the type that ``guess_moment`` found for all of them."""
    return values if values.type == type_ else convert(values, TargetType(type_), ())


def _checked(family: str, values: pa.Array) -> Guess:
    """The guess for values that match the pattern of ``family``: ``string`` where they cannot be read as that."""
    try:
        if family in ("bool", "int", "date"):
            parsed = _parse(values, Guess(family).type, None)
            return Guess(family, 0, family == "date" and is_far(parsed.cast(pa.timestamp("us"))))
        if family == "float":
            _parse(values, pa.float64(), None)
            # An integer that int64 cannot hold is a code: as a float it would lose digits.
            values.filter(pc.match_substring_regex(values, r"^-?\d{19,}$")).cast(pa.int64())
            return Guess("float")
        if family == "time":
            dot = pc.find_substring(values, ".")
            digits = pc.if_else(pc.less(dot, 0), 0, pc.subtract(pc.subtract(pc.binary_length(values), dot), 1))
            return Guess(family, pc.max(digits).as_py())
        bare = pc.replace_substring_regex(values, f"{_ZONE}$", "") if family == "zoned" else values
        dot = pc.find_substring(bare, ".")
        digits = pc.if_else(pc.less(dot, 0), 0, pc.subtract(pc.subtract(pc.binary_length(bare), dot), 1))
        without_fraction = pc.replace_substring_regex(values, r"\.\d+", "")
        parsed = without_fraction.cast(pa.timestamp("us", "UTC" if family == "zoned" else None))
        return Guess(family, pc.max(digits).as_py(), is_far(parsed))
    except pa.ArrowInvalid:
        return Guess("string")


def is_far(stamps: pa.Array) -> bool:
    """Whether a timestamp is outside the years that a 64-bit count of nanoseconds can hold completely."""
    years = pc.min_max(pc.year(stamps)).as_py()
    return bool(years["min"] < _NS_YEARS[0] or years["max"] > _NS_YEARS[1])


@dataclass(frozen=True)
class TargetType:
    """The type that a column is converted to.

    Attributes:
        type: The Arrow type.
        layout: strptime format of dates and timestamps that are not in ISO 8601, or ``%excel``, days as Excel counts
            them; None for ISO 8601.
    """

    type: pa.DataType
    layout: str | None = None

    def __str__(self) -> str:
        """The type as a user writes it for ``parse_type``."""
        return f"{self.type} {self.layout}" if self.layout else str(self.type)


_SYNONYMS = {
    "int": "int64",
    "integer": "int64",
    "str": "string",
    "text": "string",
    "boolean": "bool",
    "date": "date32",
    "datetime": "timestamp[us]",
    "category": "dictionary",
}
_NAMES = (
    *("null", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "double", "decimal128(10,2)"),
    *("string", "large_string", "binary", "dictionary"),
    *("date32", "time32[ms]", "time64[us]", "time64[ns]", "duration[ms]"),
    *("timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def parse_type(text: str) -> TargetType:
    """Read the name of a type.

    Args:
        text: Such as ``int8``, ``timestamp[ms, UTC]``, ``decimal128(10,2)``, ``dictionary`` or ``date32 %d/%m/%Y``.

    Raises:
        InputError: The name is unknown (the message suggests the nearest one), or Parquet has no such type.
    """
    name, percent, rest = text.partition("%")
    name = _SYNONYMS.get(name.strip().lower(), name.strip())
    type_ = _arrow_type(name)
    if type_ is None:
        hint = did_you_mean(name.lower(), _NAMES) or f"; known types: {', '.join(_NAMES)}"
        raise InputError(f"type {text!r} is not an Arrow type{hint}")
    stored = parquet_type(type_)
    if stored != type_:
        advice = f"the nearest is {stored}" if stored is not None else "choose another type"
        raise InputError(f"type {text!r}: Parquet has no {type_}; {advice}")
    if percent and not (pa.types.is_date(type_) or (pa.types.is_timestamp(type_) and type_.tz is None)):
        raise InputError(f"type {text!r}: a % layout goes with a date or a timestamp without a zone, not with {type_}")
    return TargetType(type_, percent + rest if percent else None)


def _arrow_type(name: str) -> pa.DataType | None:
    if name == "dictionary":
        return pa.dictionary(pa.int32(), pa.string())
    decimal = re.fullmatch(r"decimal(128|256)?\((\d+),\s*(\d+)\)", name)
    stamp = re.fullmatch(r"timestamp\[(ms|us|ns),\s*(?:tz=)?([\w/+:-]+)\]", name)
    try:
        if decimal:
            make = pa.decimal256 if decimal[1] == "256" else pa.decimal128
            return make(int(decimal[2]), int(decimal[3]))
        if stamp:
            if not re.fullmatch(r"[+-]\d\d:\d\d", stamp[2]):
                zoneinfo.ZoneInfo(stamp[2])
            return pa.timestamp(stamp[1], stamp[2])
        return pa.type_for_alias(name)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        return None


def parquet_type(type_: pa.DataType) -> pa.DataType | None:
    """The type of a column of ``type_`` after it is written to Parquet and read; None where Parquet cannot hold it."""
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.schema([("column", type_)]).empty_table(), sink)
        return pq.read_schema(pa.BufferReader(sink.getvalue())).field(0).type
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


class Misfit(Exception):
    """A value does not fit the target type; ``row`` is its position in the array."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def convert(values: pa.Array, target: TargetType, nulls: Iterable[str]) -> pa.Array:
    """Convert an array to a type; every value is exact.

    A column of strings keeps its texts as they are. For any other type, spaces around a text are removed first, and a
    text that is empty, a lone point or one of ``nulls`` is missing.

    Args:
        values: Any array; strings are parsed, everything else is cast.
        target: The type of the result.
        nulls: Texts that mean missing, besides the empty one.

    Raises:
        Misfit: A value does not fit; it has the position of the first such value.
    """
    if values.type == target.type:
        return values
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    type_ = target.type.value_type if pa.types.is_dictionary(target.type) else target.type
    parse = is_text and not (pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_binary(type_))
    if parse:
        values = trimmed(values, [_POINT, *nulls])

    def attempt(part: pa.Array) -> pa.Array:
        return _parse(part, type_, target.layout) if parse else part.cast(type_)

    try:
        result = attempt(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        low, high = 0, len(values)
        while high - low > 1:  # all of values[:low] fit, not all of values[:high] do
            middle = (low + high) // 2
            try:
                attempt(values.slice(low, middle - low))
                low = middle
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                high = middle
        raise Misfit(low) from None
    return result.dictionary_encode().cast(target.type) if pa.types.is_dictionary(target.type) else result


def trimmed(texts: pa.Array, nulls: Iterable[str]) -> pa.Array:
    """Texts without spaces around them; empty ones and those in ``nulls`` become null."""
    bare = pc.utf8_trim_whitespace(texts)
    missing = pc.is_in(bare, value_set=pa.array(["", *nulls], bare.type))
    return pc.if_else(missing, pa.scalar(None, bare.type), bare)


def _parse(texts: pa.Array, type_: pa.DataType, layout: str | None) -> pa.Array:
    """Parse trimmed texts; it raises ArrowInvalid where one does not fit."""
    if layout == EXCEL_DAYS:
        days = pc.add(texts.cast(pa.float64()), float(_EXCEL_ZERO))
        return pc.multiply(days, 86_400_000.0).cast(pa.int64(), safe=False).cast(pa.timestamp("ms")).cast(type_)
    if layout:
        stamps = pc.strptime(texts, format=layout, unit="s", error_is_null=True)
        if stamps.null_count > texts.null_count:
            raise pa.ArrowInvalid("does not follow the layout")
        return stamps.cast(type_)
    if pa.types.is_null(type_):
        if texts.null_count < len(texts):
            raise pa.ArrowInvalid("is not missing")
        return pa.nulls(len(texts))
    if pa.types.is_integer(type_):
        try:
            return texts.cast(type_)
        except pa.ArrowInvalid:  # "5.0": pandas writes integers so in a column with missing values
            return texts.cast(pa.decimal128(38, 0)).cast(type_)
    if pa.types.is_floating(type_):
        numbers = texts.cast(type_)
        # Arrow has no is_inf for float16. A number that is infinite although its text is not did not fit.
        infinite = pc.sum(pc.is_inf(numbers.cast(pa.float64()))).as_py() or 0
        if infinite and infinite > (pc.sum(pc.match_substring_regex(texts, "(?i)inf")).as_py() or 0):
            raise pa.ArrowInvalid("is too large")
        return numbers
    if pa.types.is_time(type_):
        day = pc.binary_join_element_wise("1970-01-01", texts, " ")
        return day.cast(pa.timestamp(type_.unit)).cast(type_)
    if pa.types.is_duration(type_):
        return texts.cast(pa.int64()).cast(type_)
    if pa.types.is_decimal(type_):
        # Arrow lets more digits before the point than the type has wrap around.
        whole = pc.extract_regex(texts, r"^[+-]?0*(?P<whole>\d*)(?:\.\d*)?$").field("whole")
        longest = pc.max(pc.binary_length(whole)).as_py() or 0
        if longest > type_.precision - type_.scale:
            raise pa.ArrowInvalid("has more digits than the type")
    return texts.cast(type_)
