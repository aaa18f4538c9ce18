"""Conditions, right and damaged: rows that pass are those that a test of each row alone finds, or it is refused."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from tests.runs.fuzz.frame import Subject, Wrong
from tests.tables.copula import native

from shardsynth.errors import ConditionError
from shardsynth.models.copula.model import GaussianCopula
from shardsynth.sampling.conditions import parse_conditions
from shardsynth.sampling.constraints.conditions import meets

ROWS = 400
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Columns, and values that they are compared with, most of them in the table.
VALUES: dict[str, list[Any]] = {
    "age": [20, 35, 35.5, 60, -1, 10**20, 1e300],
    "dose (mg)": [0.5, 1, 2.25, 7.5, -3],
    "sex": ["f", "m", "x", "#", 'q"', "it's", ""],
    "in": [0, 1, 2],
    "a`b": ["yes", "no", "\\", "and # or"],
    "seen": [dt.date(2015, 1, 1), dt.date(2016, 6, 30), 2015, 20150101],
    "year": [2015, 2016, "2015"],
}
#: What damaged text gets more of.
PIECES = ("#", " # and", "(", ")", "not ", "or", "==", "`", '"', "'", "\\", "\n", ";", "_column_0_", "and", "1e999", "\0",
          "[", "]", ",", "null", "é", "lambda", "{", "=", "0x1", "isnull(", ":=", "if", "\ud800")  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """The table, also row by row, and a model of it."""

    table: pa.RecordBatch
    rows: list[dict[str, Any]]
    model: GaussianCopula


def prepare(folder: Path) -> Prepared:
    """A table with odd names, missing values and dates, and its copula."""
    rng = np.random.default_rng(5)
    start = dt.date(2015, 1, 1)

    def some(values: Any) -> list[Any]:
        return [None if gone else v for v, gone in zip(values, rng.random(ROWS) < 0.1)]

    table = pa.table(
        {
            "age": pa.array(some(rng.integers(18, 90, ROWS).tolist()), pa.int16()),
            "dose (mg)": pa.array((rng.integers(1, 40, ROWS) * 0.25).tolist(), pa.float64()),
            "sex": pa.array(some(rng.choice(["f", "m", "#", "it's"], ROWS).tolist())),
            "in": pa.array(rng.integers(0, 2, ROWS).tolist(), pa.int8()),
            "a`b": pa.array(rng.choice(["yes", "no", "and # or"], ROWS).tolist()).dictionary_encode(),
            "seen": pa.array(some([start + dt.timedelta(int(k)) for k in rng.integers(0, 900, ROWS)]), pa.date32()),
            "year": pa.array(rng.integers(2014, 2018, ROWS).tolist(), pa.int32()),
        }
    ).combine_chunks()
    return Prepared(table.to_batches()[0], table.to_pylist(), native(table))


@dataclass(frozen=True)
class Written:
    """A test as a tree: its text in some spelling, and what it says of one row."""

    column: str
    symbol: str
    values: tuple[Any, ...]
    negated: bool = False

    def holds(self, row: dict[str, Any]) -> bool:
        value = row[self.column]
        if self.symbol in ("isnull", "notnull"):
            return ((value is None) == (self.symbol == "isnull")) != self.negated
        if value is None:
            return False
        if isinstance(value, int):  # a number may be written as text
            return Written(self.column, self.symbol, tuple(map(float, self.values)), self.negated)._passes(value)
        return self._passes(value)

    def _passes(self, value: Any) -> bool:
        if self.symbol in ("in", "not in"):
            found = any(_equal(value, other) for other in self.values)
            return (found == (self.symbol == "in")) != self.negated
        return COMPARE[self.symbol](value, self.values[0]) != self.negated


def _equal(left: Any, right: Any) -> bool:
    return isinstance(left, str) == isinstance(right, str) and left == right


def attempt(prepared: Prepared, random: Random) -> str:
    """Write tests as text; damage the text of some; compare the rows that pass."""
    tests = [_test(random) for _ in range(random.choice((1, 1, 2, 3)))]
    text = " and ".join(_text(test, random) for test in tests)
    if random.random() < 0.4:
        return _damaged(text, random)
    conditions = parse_conditions(text)
    if parse_conditions(str(conditions)) != conditions:
        raise Wrong(f"{text!r} reads back as {conditions}")
    passed = meets(conditions.tests, prepared.table)
    expected = np.array([all(test.holds(row) for test in tests) for row in prepared.rows])
    if not np.array_equal(passed, expected):
        raise Wrong(f"{text!r}: {int(passed.sum())} rows pass, not {int(expected.sum())}")
    if random.random() < 0.25:
        drawn = prepared.model.draw(random.randrange(100), 0, 40, conditions).to_pylist()
        if not all(test.holds(row) for row in drawn for test in tests):
            raise Wrong(f"{text!r}: a drawn row does not meet it")
        return "right rows, drawn"
    return "right rows"


def _damaged(text: str, random: Random) -> str:
    """A text with characters that are too many or too few: what is accepted is read to its end."""
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(text) + 1)
        kind = random.choice(("insert", "insert", "cut", "end", "deep"))
        if kind == "insert":
            text = text[:place] + random.choice(PIECES) + text[place:]
        elif kind == "cut":
            text = text[:place] + text[place + random.choice((1, 1, 5, 50)) :]
        elif kind == "end":
            text += random.choice(PIECES)
        elif len(text) < 1000:
            depth = random.choice((3, 60, 20_000))
            text = random.choice(("(" * depth + text + ")" * depth, "not " * depth + text, "[" * depth + text))
    conditions = parse_conditions(text)
    said = str(conditions)
    if parse_conditions(said) != conditions:
        raise Wrong(f"{text!r} reads back as {said}")
    for more in (" §", " #", " x", ' ""', ")"):  # nothing after the end is left out
        try:
            parse_conditions(text + more)
        except ConditionError:
            continue
        raise Wrong(f"{text + more!r} is accepted")
    if _letters(text) != _letters(said):
        raise Wrong(f"{text!r} was read as {said}")
    return "damaged, and another condition"


def _letters(text: str) -> set[str]:
    """Digits of a text: no number of it was left out."""
    return {c for c in text if c.isdigit() and c in "123456789"}


def _test(random: Random) -> Written:
    column = random.choice(sorted(VALUES))
    symbol = random.choice((*COMPARE, "in", "not in", "isnull", "notnull"))
    if column in ("sex", "a`b") and symbol in ("<", "<=", ">", ">="):
        symbol = "=="
    values = tuple(
        random.choice(VALUES[column]) for _ in range(random.choice((1, 2, 3)) if "in" in symbol.split() else 1)
    )
    return Written(column, symbol, values, random.random() < 0.2)


def _text(test: Written, random: Random) -> str:
    column = test.column
    if not column.isidentifier() or column == "in" or random.random() < 0.2:
        column = f"`{column.replace('`', '``')}`"
    values = [_value(value, random) for value in test.values]
    if test.symbol in ("isnull", "notnull"):
        text = f"{test.symbol}({column})"
    elif test.symbol in ("in", "not in"):
        opening, closing = random.choice(("[]", "()", "{}"))
        text = f"{column} {test.symbol} {opening}{', '.join(values)}{random.choice(('', ','))}{closing}"
    elif random.random() < 0.3:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(test.symbol, test.symbol)
        text = f"{values[0]}{mirrored} {column}"
    else:
        text = f"{column}{random.choice((' ', ''))}{test.symbol}{random.choice((' ', ''))}{values[0]}"
    if test.negated:
        text = random.choice((f"not {text}", f"not ({text})"))
    return random.choice((text, text, f"({text})"))


def _value(value: Any, random: Random) -> str:
    if isinstance(value, dt.date):
        return f'"{value.isoformat()}"'
    return f"{value:,}".replace(",", "_") if isinstance(value, int) and random.random() < 0.1 else repr(value)


SUBJECT = Subject("conditions", prepare, attempt)
