"""Conditions on a row, as data: what ``--where`` and ``conditions=`` mean, whatever the model.

    parse_conditions('Gender == "F" and 60 <= AGE < 80 and notnull(WBC)')
    parse_conditions({"Gender": "F", "AGE": {">=": 60, "<": 80}, "WBC": {"null": False}, "TET2": [0, 1]})

A row must pass all tests. A missing value passes no test of a value, also not ``!=`` and ``not in``, as in SQL.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Union

import pyarrow as pa

from shardsynth.data.layouts import layout_from
from shardsynth.errors import ConditionError, cell, values_shown
from shardsynth.sampling.condition_text import WORDS, TextError, Written, is_plain, tests_of

#: What a column can be compared with; dates and times may also be ISO text.
Scalar = Union[str, int, float, bool, Decimal, dt.date, dt.time, dt.timedelta]

#: No float holds it.
_TOO_LARGE = 10**300
_OPERATORS = {"==", "!=", "<", "<=", ">", ">=", "in", "not in", "null"}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "not in", "not in": "in"}


@dataclass(frozen=True)
class Condition:
    """One test of one column.

    Attributes:
        column: Column name.
        operator: ``in``, ``not in``, ``<``, ``<=``, ``>``, ``>=`` or ``null``.
        values: Values to compare with: several for ``in`` and ``not in``, else one. For ``null``: True (is missing) or
            False (is not).
        from_data: Whether the values are not the user's own text, but the table's: messages do not show them.
    """

    column: str
    operator: str
    values: tuple[Scalar, ...]
    from_data: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, column: str, operator: str, value: Any) -> Condition:
        """A test as a user writes it; ``== None`` is a test for missing.

        Raises:
            ConditionError: The operator is unknown, or cannot be used with the value.
        """
        if operator not in _OPERATORS:
            raise ConditionError(f"column {column!r}: operator {operator!r} is not one of {sorted(_OPERATORS)}")
        several = isinstance(value, (list, tuple, set, frozenset))
        if several != (operator in ("in", "not in")):
            expected = "a list of values" if operator in ("in", "not in") else "one value"
            raise ConditionError(f"column {column!r}: {operator} takes {expected}, not {value!r}")
        if several:
            values = tuple(value)
            if not values:
                raise ConditionError(f"column {column!r}: {operator} takes at least one value")
        else:
            values = (value,)
        if operator == "null" or (values == (None,) and operator in ("==", "!=")):
            return cls(column, "null", (bool(value) if operator == "null" else operator == "==",))
        for scalar in values:
            _check(column, scalar)
        return cls(column, {"==": "in", "!=": "not in"}.get(operator, operator), values)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: the dictionary form of this one test."""
        values = [v if isinstance(v, (str, int, float)) else str(v) for v in self.values]
        return {self.column: {self.operator: values if self.operator in ("in", "not in") else values[0]}}

    @property
    def said(self) -> str:
        """As text, for a message."""
        if self.from_data and not values_shown():
            return f"a condition on {self.column!r} {cell(self.values)}"
        return str(self)

    def quoted(self, value: Scalar) -> str:
        """One of its values, for a message: the user's own, or a value of the table."""
        return cell(value, shown=not self.from_data)

    def __str__(self) -> str:
        name = self.column
        if not is_plain(name) or name in WORDS:
            name = f"`{name.replace('`', '``')}`"
        if self.operator == "null":
            return f"{'isnull' if self.values[0] else 'notnull'}({name})"
        if self.operator in ("in", "not in") and len(self.values) == 1:
            return f"{name} {'==' if self.operator == 'in' else '!='} {self.values[0]!r}"
        shown = list(self.values) if self.operator in ("in", "not in") else self.values[0]
        return f"{name} {self.operator} {shown!r}"


@dataclass(frozen=True)
class Conditions:
    """Tests of a row; it must pass all of them."""

    tests: tuple[Condition, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are tested, each once, in the order of their first test."""
        return tuple(dict.fromkeys(test.column for test in self.tests))

    def on(self, column: str) -> tuple[Condition, ...]:
        """The tests of one column."""
        return tuple(test for test in self.tests if test.column == column)

    def to_json(self) -> list[dict[str, Any]]:
        """As a JSON array of one-test objects."""
        return [test.to_json() for test in self.tests]

    @property
    def said(self) -> str:
        """As text, for a message."""
        return said(self.tests)

    def __str__(self) -> str:
        return " and ".join(map(str, self.tests))


def said(tests: Iterable[Condition]) -> str:
    """Tests as text, for a message."""
    return " and ".join(test.said for test in tests)


def parse_conditions(where: str | Mapping[str, Any] | Iterable[Mapping[str, Any]] | Conditions) -> Conditions:
    """Conditions from any of their forms.

    Args:
        where: Text: comparisons joined by ``and`` (``condition_text`` has the grammar; a column name that is not an
            identifier goes in `backquotes`). Or a mapping from columns to a value, a list of values, None for missing,
            or a mapping from operators to values. Or several such mappings. Or conditions.

    Raises:
        ConditionError: It has none of these forms; the message says where.
    """
    if isinstance(where, Conditions):
        return where
    if isinstance(where, str):
        return _from_text(where)
    parts = [where] if isinstance(where, Mapping) else list(where)
    tests = []
    for part in parts:
        if not isinstance(part, Mapping):
            raise ConditionError(f"conditions are text or a mapping from columns to values, not {part!r}")
        for column, test in part.items():
            if isinstance(test, Mapping):
                tests += [Condition.of(str(column), str(operator), value) for operator, value in test.items()]
            else:
                operator = "in" if isinstance(test, (list, tuple, set, frozenset)) else "=="
                tests.append(Condition.of(str(column), operator, test))
    return Conditions(tuple(tests))


def _check(column: str, value: Any) -> None:
    if isinstance(value, float) and math.isnan(value):
        raise ConditionError(f"column {column!r}: NaN equals nothing: use isnull({column})")
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise ConditionError(f"column {column!r}: a number to compare with has at most 300 digits")
    if not isinstance(value, (str, int, float, bool, Decimal, dt.date, dt.time, dt.timedelta)):
        raise ConditionError(f"column {column!r}: cannot compare with {value!r}")


def _from_text(text: str) -> Conditions:
    try:
        written = tests_of(text)
    except TextError as error:
        raise ConditionError(str(error)) from None
    return Conditions(tuple(_negated(test) if test.negated else _plain(test) for test in written))


def _plain(test: Written) -> Condition:
    return Condition.of(test.column, test.operator, test.value)


def _negated(test: Written) -> Condition:
    plain = _plain(test)
    if plain.operator == "null":
        return Condition(plain.column, "null", (not plain.values[0],))
    return Condition(plain.column, _NEGATED[plain.operator], plain.values)


def check_no_number(column: str, values: Iterable[Any], type_: pa.DataType, layout: str | None = None) -> None:
    """Check that dates and times are not compared with numbers, which would count days or seconds since 1970.

    Args:
        column: Its name.
        values: What it is compared with.
        type_: Its Arrow type.
        layout: The format of instants that are held as text or whole numbers. Whole numbers are then compared with
            whole numbers, such as 20240131.

    Raises:
        ConditionError: A value is a number; the message says how to write it.
    """
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    is_time = pa.types.is_time(plain)
    is_date = pa.types.is_date(plain) or pa.types.is_timestamp(plain)
    dates = layout is not None and layout_from(layout).what == "date" and not pa.types.is_integer(plain)
    if not (is_time or is_date or dates):
        return
    for value in values:
        if isinstance(value, (int, float, Decimal)):
            named = column if is_plain(column) else f"`{column}`"
            raise ConditionError(
                f"column {column!r} holds {'times' if is_time else 'dates'}, and {value!r} is a number; "
                f'write it as text, such as {named} >= "{_as_text(value, is_time)}"'
            )


def _as_text(value: Any, is_time: bool) -> str:
    """How a number could have been meant: 2015 as a year, 20240131 as a day."""
    if is_time:
        return "12:30:00"
    digits = str(value)
    if re.fullmatch(r"(1[6-9]|20|21)\d\d", digits):
        return f"{digits}-01-01"
    match = re.fullmatch(r"((?:1[6-9]|20|21)\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])", digits)
    return "-".join(match.groups()) if match else "2015-01-01"
