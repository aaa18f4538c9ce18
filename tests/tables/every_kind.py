"""Tables of every kind of column, and every way to cut and merge them."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

SCHEMA = pa.schema(
    [
        ("int8", pa.int8()),
        ("uint64", pa.uint64()),
        ("int64", pa.int64()),
        ("float", pa.float64()),
        ("float32", pa.float32()),
        ("half", pa.float16()),
        ("decimal", pa.decimal128(10, 2)),
        ("wide decimal", pa.decimal128(30, 2)),
        ("stamp", pa.timestamp("us", "Europe/Berlin")),
        ("date", pa.date32()),
        ("time", pa.time64("us")),
        ("lapse", pa.duration("s")),
        ("flag", pa.bool_()),
        ("text", pa.string()),
        ("large", pa.large_string()),
        ("bytes", pa.binary()),
        ("view", pa.string_view()),
        ("word", pa.dictionary(pa.int8(), pa.string())),
        ("number word", pa.dictionary(pa.int16(), pa.int64())),
        ("gone", pa.float64()),
        ("gone word", pa.dictionary(pa.int8(), pa.string())),
        ("nothing", pa.null()),
        ("constant", pa.int16()),
    ]
)


def table(rows: int, seed: int) -> pa.Table:
    """A table of ``SCHEMA`` with nulls and NaN."""
    rng = np.random.default_rng(seed)
    cents = rng.integers(-500, 500, rows)

    def some(values: list) -> list:
        return [None if gone else v for v, gone in zip(values, rng.random(rows) < 0.2)]

    def pick(values: list) -> list:
        return [values[k] for k in rng.integers(0, len(values), rows)]

    columns = {
        "int8": some(rng.integers(-100, 100, rows).tolist()),
        "uint64": some([2**64 - 100 + 7 * int(k) for k in rng.integers(0, 9, rows)]),
        "int64": some((rng.integers(-9, 9, rows) * 10**17).tolist()),
        "float": some(np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)).tolist()),
        "float32": np.where(rng.random(rows) < 0.3, np.nan, np.round(rng.normal(size=rows), 1)).tolist(),
        "half": some(rng.integers(0, 4, rows).astype(np.float16).tolist()),
        "decimal": some([decimal.Decimal(int(c)) / 100 for c in cents]),
        "wide decimal": some([decimal.Decimal(int(c)) for c in cents]),
        "stamp": some((cents * 1_000_000).tolist()),
        "date": some(cents.tolist()),
        "time": some((abs(cents) * 60_000_000).tolist()),
        "lapse": some(cents.tolist()),
        "flag": some((cents > 0).tolist()),
        "text": some(pick(["", "a", "ä", "long text", "\U0001f9ec"])),
        "large": some([str(c) for c in cents]),
        "bytes": some(pick([b"", b"\xff\x00", b"x"])),
        "view": some(pick(["p", "q"])),
        "word": some(pick(["red", "green", "blue"])),
        "number word": some(pick([1, 2, 3])),
        "gone": [None] * rows,
        "gone word": [None] * rows,
        "nothing": [None] * rows,
        "constant": [7] * rows,
    }
    arrays = []
    for field in SCHEMA:
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        array = pa.array(columns[field.name], pa.float64() if pa.types.is_float16(plain) else plain).cast(plain)
        if pa.types.is_dictionary(field.type):
            coded = array.dictionary_encode()
            array = pa.DictionaryArray.from_arrays(coded.indices.cast(field.type.index_type), coded.dictionary)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def redictionaried(batch: pa.RecordBatch, seed: int) -> pa.RecordBatch:
    """The same rows with another dictionary: other order, an entry that no row uses."""
    arrays = []
    for field, array in zip(batch.schema, batch.columns):
        if pa.types.is_dictionary(field.type) and pa.types.is_string(field.type.value_type):
            words = ["unused", "blue", "red", "green", "other"]
            np.random.default_rng(seed).shuffle(words)
            place = {w: k for k, w in enumerate(words)}
            codes = [None if v is None else place[v] for v in array.to_pylist()]
            array = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(words))  # noqa: PLW2901
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def splits(rows: int) -> st.SearchStrategy[list[list[int]]]:
    """Parts of batches: row numbers at which batches start, per part; some batches are empty."""
    cut = st.lists(st.integers(0, rows), max_size=6).map(sorted)
    return cut.flatmap(lambda c: st.tuples(st.just([0, *c, rows]), st.integers(1, 4))).map(_parts)


def _parts(drawn: tuple[list[int], int]) -> list[list[tuple[int, int]]]:
    edges, n = drawn
    batches = list(zip(edges[:-1], edges[1:]))
    return [batches[k::n] for k in range(n)]


def batches_of(rows: pa.Table, part: list[tuple[int, int]], seed: int) -> list[tuple[int, pa.RecordBatch]]:
    """(first row, batch) of one part, each batch with a dictionary of its own."""
    found = []
    for first, last in part:
        whole = rows.slice(first, last - first).combine_chunks()
        batch = whole.to_batches()[0] if last > first else pa.RecordBatch.from_pylist([], schema=rows.schema)
        found.append((first, redictionaried(batch, seed + first)))
    return found
