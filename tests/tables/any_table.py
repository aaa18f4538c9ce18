"""Random tables of every type, missing pattern, size and number of values, as hypothesis draws them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

_EPOCH = datetime.datetime(1970, 1, 1)
Values = Callable[[np.random.Generator, int], list[Any]]


def _integers(low: int, high: int) -> Values:
    def make(generator: np.random.Generator, size: int) -> list[Any]:
        return [int(x) for x in generator.integers(low, high, size, endpoint=True)]

    return make


def _floats(digits: int | None, scale: float) -> Values:
    def make(generator: np.random.Generator, size: int) -> list[Any]:
        drawn = generator.normal(0, scale, size)
        return [float(x) for x in (drawn if digits is None else np.round(drawn, digits) + 0.0)]

    return make


def _texts(form: str) -> Values:
    return lambda generator, size: [form.format(x) for x in generator.integers(0, 10**6, size).tolist()]


def _instants(seconds: int) -> Values:
    def make(generator: np.random.Generator, size: int) -> list[Any]:
        return [_EPOCH + datetime.timedelta(seconds=int(x)) for x in generator.integers(-seconds, seconds, size)]

    return make


def _texts_of_instants(layout: str) -> Values:
    make = _instants(10**9)
    return lambda generator, size: [x.strftime(layout) for x in make(generator, size)]


#: Name -> the Arrow type, and what makes distinct values of it.
KINDS: dict[str, tuple[pa.DataType, Values]] = {
    "int8": (pa.int8(), _integers(-128, 127)),
    "int16": (pa.int16(), _integers(-300, 300)),
    "int32": (pa.int32(), _integers(0, 10**6)),
    "int64": (pa.int64(), _integers(-(2**63), 2**63 - 1)),
    "long key": (pa.int64(), _integers(10**17, 9 * 10**17)),
    "uint8": (pa.uint8(), _integers(0, 255)),
    "uint64": (pa.uint64(), _integers(0, 2**63 - 1)),
    "bool": (pa.bool_(), lambda generator, size: [bool(x) for x in generator.integers(0, 2, size)]),
    "float": (pa.float64(), _floats(None, 1.0)),
    "huge": (pa.float64(), _floats(None, 1e300)),
    "tiny": (pa.float64(), _floats(None, 1e-300)),
    "one digit": (pa.float64(), _floats(1, 1.0)),
    "float32": (pa.float32(), _floats(2, 10.0)),
    "half": (pa.float16(), lambda generator, size: [np.float16(x) for x in generator.normal(0, 1, size)]),
    "decimal": (
        pa.decimal128(12, 2),
        lambda g, size: [Decimal(int(x)) / 100 for x in g.integers(-(10**6), 10**6, size)],
    ),
    "text": (pa.string(), _texts("value {}")),
    "code": (pa.string(), _texts("P-{:06d}")),
    "digits": (pa.string(), _texts("{}")),
    "mail": (pa.string(), _texts("p{}@example.org")),
    "large text": (pa.large_string(), _texts("ä{}")),
    "empty text": (pa.string(), lambda generator, size: ["", " ", "NA", "null", "x"][:size]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), _texts("k{}")),
    "ordered": (pa.dictionary(pa.int32(), pa.string(), ordered=True), _texts("o{}")),
    "date": (pa.date32(), lambda g, size: [x.date() for x in _instants(10**9)(g, size)]),
    "date64": (pa.date64(), lambda g, size: [x.date() for x in _instants(10**9)(g, size)]),
    "seconds": (pa.timestamp("s"), _instants(10**9)),
    "milliseconds": (pa.timestamp("ms"), _instants(10**7)),
    "microseconds": (pa.timestamp("us", tz="Europe/Berlin"), _instants(10**9)),
    "nanoseconds": (pa.timestamp("ns"), _instants(10**9)),
    "time": (pa.time32("s"), lambda g, size: [x.time() for x in _instants(86_000)(g, size)]),
    "time64": (pa.time64("us"), lambda g, size: [x.time() for x in _instants(86_000)(g, size)]),
    "duration": (pa.duration("s"), lambda g, size: [x - _EPOCH for x in _instants(10**6)(g, size)]),
    "text date": (pa.string(), _texts_of_instants("%d.%m.%Y")),
    "text time": (pa.string(), _texts_of_instants("%Y-%m-%dT%H:%M:%SZ")),
    "number date": (pa.int64(), lambda g, size: [int(x.strftime("%Y%m%d")) for x in _instants(10**9)(g, size)]),
}
#: How many distinct values a column has, as a function of the rows.
COUNTS: dict[str, Callable[[int], int]] = {
    "constant": lambda rows: 1,
    "two": lambda rows: 2,
    "few": lambda rows: 7,
    "many": lambda rows: max(1, rows // 3),
    "as many as rows": lambda rows: rows,
}
MISSING = (
    "none",
    "all",
    "one",
    "all but one",
    "all but six",
    "half",
    "98 %",
    "2 %",
    "as the column before",
    "first rows",
)
NAMES = ("class", "is", "a b", "a#b", "x.y", "Größe", "`q`", "id", "date", "0", "e-mail", "A", "sum_", "None", "%", "'")


@dataclass(frozen=True)
class ColumnPlan:
    """What a column of a random table is."""

    kind: str
    count: str
    missing: str
    skewed: bool
    like_before: bool


@dataclass(frozen=True)
class TablePlan:
    """What a random table is: ``table()`` makes it."""

    rows: int
    columns: tuple[ColumnPlan, ...]
    seed: int
    shards: int = 1

    def table(self) -> pa.Table:
        """The table."""
        generator = np.random.default_rng(self.seed)
        arrays: list[pa.Array] = []
        index = np.zeros(self.rows, np.int64)
        absent = np.zeros(self.rows, np.bool_)
        for plan in self.columns:
            kind, make = KINDS[plan.kind]
            values = list(dict.fromkeys(make(generator, max(1, COUNTS[plan.count](self.rows)))))
            if pa.types.is_dictionary(kind):
                values = values[: 100 if kind.index_type == pa.int8() else None]
            uniform = generator.random(self.rows)
            if not plan.like_before:
                index = (uniform**4 if plan.skewed else uniform) * 10**9
            place = np.argsort(np.argsort(index)) if plan.count == "as many as rows" else index * len(values) / 10**9
            absent = _absent(plan.missing, self.rows, absent, generator)
            codes = np.minimum(place.astype(np.int64), len(values) - 1)
            cells = [None if gone else values[k] for k, gone in zip(codes.tolist(), absent)]
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            array = pa.array(cells, plain)
            if pa.types.is_dictionary(kind):
                coded = array.dictionary_encode()
                array = pa.DictionaryArray.from_arrays(
                    coded.indices.cast(kind.index_type), coded.dictionary, ordered=kind.ordered
                )
            arrays.append(array)
        names = [NAMES[(self.seed + k) % len(NAMES)] + ("" if k < len(NAMES) else str(k)) for k in range(len(arrays))]
        return pa.table(arrays, names)


def _absent(pattern: str, rows: int, before: Any, generator: np.random.Generator) -> Any:
    uniform = generator.random(rows)
    order = np.argsort(uniform)
    absent = np.zeros(rows, np.bool_)
    if pattern == "as the column before":
        return before
    share = {"all": 1.0, "half": 0.5, "98 %": 0.98, "2 %": 0.02}.get(pattern)
    if share is not None:
        return uniform < share
    if pattern == "first rows":
        absent[: rows // 2] = True
    if pattern == "one":
        absent[order[:1]] = True
    if pattern.startswith("all but"):
        absent[order[1 if pattern.endswith("one") else 6 :]] = True
    return absent


_COLUMNS = st.builds(
    ColumnPlan,
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(sorted(COUNTS)),
    st.sampled_from(MISSING),
    st.booleans(),
    st.integers(0, 3).map(lambda x: x == 0),
)
_ROWS = st.one_of(st.sampled_from((0, 1, 2, 5, 10, 20, 21, 60)), st.integers(0, 400), st.integers(0, 2_000))
PLANS = st.builds(
    TablePlan, _ROWS, st.lists(_COLUMNS, min_size=1, max_size=8).map(tuple), st.integers(0, 2**16), st.integers(1, 3)
)
