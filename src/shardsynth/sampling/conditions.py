"""Conditions on a row, as data: what ``--where`` and ``conditions=`` mean, whatever the model.

    parse_conditions('Gender == "F" and 60 <= AGE < 80 and notnull(WBC)')
    parse_conditions({"Gender": "F", "AGE": {">=": 60, "<": 80}, "WBC": {"null": False}, "TET2": [0, 1]})

A row must pass all tests. A missing value passes no test of a value, also not ``!=`` and ``not in``, as in SQL.
"""

from __future__ import annotations

import ast
import datetime as dt
import keyword
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Union

from shardsynth.errors import ConditionError

#: What a column can be compared with; dates and times may also be ISO text.
Scalar = Union[str, int, float, bool, Decimal, dt.date, dt.time, dt.timedelta]

_OPERATORS = {"==", "!=", "<", "<=", ">", ">=", "in", "not in", "null"}
_SYMBOLS: dict[type, str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "==",
    ast.IsNot: "!=",
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "not in", "not in": "in"}
_HELP = '; for example: Gender == "F" and 60 <= AGE < 80 and `hours-per-week` in [20, 40] and notnull(WBC)'


_WORDS = ("and", "or", "in", "is", "not", "None", "True", "False")
#: Quoted text; or a column name in backquotes, or one that Python has another use for: `class`, and `in` before `==`.
_NAMES = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`(?P<name>[^`]+)`"""
    rf"""|(?<!\w)(?P<keyword>{"|".join(word for word in keyword.kwlist if word not in _WORDS)})(?!\w)"""
    rf"""|(?<!\w)(?P<word>{"|".join(_WORDS)})(?=\s*(?:[=!]=|[<>]))(?<![=<>] None)(?<![=<>] True)(?<![=<>] False)"""
)


@dataclass(frozen=True)
class Condition:
    """One test of one column.

    Attributes:
        column: Column name.
        operator: ``in``, ``not in``, ``<``, ``<=``, ``>``, ``>=`` or ``null``.
        values: Values to compare with: several for ``in`` and ``not in``, else one. For ``null``: True (is missing) or
            False (is not).
    """

    column: str
    operator: str
    values: tuple[Scalar, ...]

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

    def __str__(self) -> str:
        name = self.column if self.column.isidentifier() else f"`{self.column}`"
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

    def __str__(self) -> str:
        return " and ".join(map(str, self.tests))


def parse_conditions(where: str | Mapping[str, Any] | Iterable[Mapping[str, Any]] | Conditions) -> Conditions:
    """Conditions from any of their forms.

    Args:
        where: A Python expression: comparisons joined by ``and``. (A column name that is not a Python identifier goes
            in `backquotes`.) Or a mapping from columns to a value, a list of values, None for missing, or a mapping
            from operators to values. Or several such mappings. Or conditions.

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
    if not isinstance(value, (str, int, float, bool, Decimal, dt.date, dt.time, dt.timedelta)):
        raise ConditionError(f"column {column!r}: cannot compare with {value!r}")


def _from_text(text: str) -> Conditions:
    names: list[str] = []

    def without_backquotes(match: re.Match[str]) -> str:
        if match.group("text"):
            return match.group("text")
        names.append(match.group("name") or match.group("keyword") or match.group("word"))
        return f"_column_{len(names) - 1}_"

    # Quoted text is matched first, so that a backquote or a keyword inside it is not a name.
    plain = _NAMES.sub(without_backquotes, text)
    try:
        tree = ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        place = f" near character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ConditionError(f"cannot read the condition {text!r}{place}{_HELP}") from None
    return Conditions(tuple(_Reader(text, names).tests(tree)))


class _Reader:
    """Reads tests from a parsed expression. ``names`` are the column names that were in backquotes."""

    def __init__(self, text: str, names: list[str]) -> None:
        self._text = text
        self._names = names

    def tests(self, node: ast.AST) -> list[Condition]:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return [test for part in node.values for test in self.tests(part)]
        if isinstance(node, ast.BoolOp):
            raise self._error("'or' is not supported: for one column write `column in [a, b]`, else sample twice")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return [self._negated(node.operand)]
        if isinstance(node, ast.Call):
            return [self._call(node)]
        if isinstance(node, ast.Compare):
            return self._compare(node)
        raise self._error("expected comparisons joined by 'and'")

    def _negated(self, node: ast.AST) -> Condition:
        inner = self.tests(node)
        if len(inner) != 1:
            raise self._error("'not' goes with a single test")
        (test,) = inner
        if test.operator == "null":
            return Condition(test.column, "null", (not test.values[0],))
        return Condition(test.column, _NEGATED[test.operator], test.values)

    def _call(self, node: ast.Call) -> Condition:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in ("isnull", "notnull") or len(node.args) != 1 or node.keywords:
            raise self._error("the only functions are isnull(column) and notnull(column)")
        return Condition(self._column(node.args[0]), "null", (name == "isnull",))

    def _compare(self, node: ast.Compare) -> list[Condition]:
        parts = [node.left, *node.comparators]
        tests = []
        for left, operator, right in zip(parts, node.ops, parts[1:]):
            symbol = _SYMBOLS[type(operator)]
            if self._is_column(left) and self._is_column(right):
                raise self._error("a column can only be compared with values (text needs quotes)")
            if self._is_column(left):
                tests.append(Condition.of(self._column(left), symbol, self._value(right)))
            elif self._is_column(right) and symbol in _MIRRORED:
                tests.append(Condition.of(self._column(right), _MIRRORED[symbol], self._value(left)))
            else:
                raise self._error("each comparison needs a column name (a name that is no identifier: in backquotes)")
        return tests

    @staticmethod
    def _is_column(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id not in ("null", "nan")

    def _column(self, node: ast.AST) -> str:
        if not isinstance(node, ast.Name):
            raise self._error("expected a column name (one that is no identifier: in backquotes)")
        match = re.fullmatch(r"_column_(\d+)_", node.id)
        return self._names[int(match.group(1))] if match else node.id

    def _value(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):  # null, nan
            return None
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            raise self._error("values are numbers, quoted text, True, False, null, or lists of them") from None

    def _error(self, why: str) -> ConditionError:
        return ConditionError(f"condition {self._text!r}: {why}{_HELP}")
