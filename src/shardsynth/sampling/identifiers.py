"""Identifiers and personal data, made from the global row number: unique without coordination, never a real value.

A *generator* is a JSON object. ``learn`` makes it when a model is fitted, and ``make`` makes values with it. Row r gets
the same value, whatever task, chunk or attempt makes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.values import decoded, kind_of
from shardsynth.errors import InputError, MetadataError, ModelError
from shardsynth.sampling import patterns
from shardsynth.sampling.formats import Format, learn_format
from shardsynth.sampling.personal import faker_name, make_pool_values
from shardsynth.sampling.personal_values import Kind, values_of_rows
from shardsynth.summaries.rows import hash_rows

#: Capacity of a generator whose strings can grow.
UNBOUNDED = 2**62
_SAMPLED = 10_000
#: Share of distinct values from which a column is taken for one without repeats.
_HARDLY_REPEAT = 0.98
#: Most values of a dictionary index of 8 or 16 bits.
_SMALL_INDEX = 1 << 16
#: Numbers per value of the sample that begin with an unused digit, so that these alone are made.
_ROOM = 1_000
#: Largest value of a type from which numbers can start above those of the input.
_ROOMY = 2**31 - 1


def learn(column: Column, sample_values: pa.Array, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Generator of a column of role ``id`` or ``pii``.

    Ids follow ``regex_format`` of the metadata, else the format of the sample (see ``formats``): such strings become
    longer when no more are left. Whole numbers count from 1, or from above the largest of the input; but large ones
    that all have the same number of digits are followed by scrambled numbers of so many digits. These begin with a
    digit that none of the sample begins with, if there is one. Personal values come from Faker. The share of missing
    values is that of the sample.

    Args:
        column: The column; its options are SDV's (``regex_format``).
        sample_values: A sample of its values.
        options: ``seed`` (int: chooses the scrambling and Faker's stream), ``unique`` (bool: a key; no missing
            values), ``locales`` (list of str or str: Faker's), ``rows_per_value`` (int: rows that share one id),
            ``counts`` ((int, int): distinct values and values of the whole input; default: those of the sample),
            ``persons`` (uint64[n]: hashes of the persons of the values; a format is then learned from one of each),
            ``largest`` (int[k], increasing: the largest numbers of the whole input, above which counting starts).

    Raises:
        MetadataError: A ``regex_format`` is not valid or cannot be enumerated, Faker does not know the PII sdtype, or
            the type cannot hold the values.
    """
    options = options or {}
    digest = hashlib.blake2b(f"{options.get('seed', 0)}:{column.name}".encode(), digest_size=8).digest()
    values = decoded(sample_values)
    unique = bool(options.get("unique", False))
    generator: dict[str, Any] = {
        "key": int.from_bytes(digest, "little"),
        "missing": 0.0 if unique or not len(values) else values.null_count / len(values),
        "repeat": max(1, int(options.get("rows_per_value", 1))),
    }
    regex = column.options.get("regex_format")
    if regex is not None:
        generator.update(_from_regex(column, str(regex)))
    elif column.role == "pii" and column.sdtype != "unknown":
        locales = options.get("locales") or ["en_US"]
        locales = [locales] if isinstance(locales, str) else list(locales)
        generator.update({"kind": "pii", "function": faker_name(column, locales), "locales": locales, "unique": unique})
        generator["numbering"] = [1, 1] if unique else _numbering(values, options.get("counts"))
    elif kind_of(column.type) == "text":
        own = _one_of_each(values, options.get("persons"))
        texts = pc.unique(own.drop_null()).cast(pa.string()).to_pylist()[:_SAMPLED]
        pii_format = Format("sdv-pii-[0-9a-z]{5}", "sdv-pii-", "[0-9a-z]", 5, "") if column.role == "pii" else None
        generator.update({"kind": "string", **(pii_format or learn_format(texts)).__dict__})
    else:
        generator.update(_learn_number(column, values))
        if generator["kind"] == "count" and options.get("largest") is not None:
            generator["start"] = _above(options["largest"], generator["limit"])
    _fit_index(column, generator, unique)
    return generator


def _one_of_each(values: pa.Array, persons: np.ndarray[Any, np.dtype[np.uint64]] | None) -> pa.Array:
    """The first value of each person, so that a letter that many values share is shared by many persons."""
    if persons is None:
        return values
    present = np.flatnonzero(np.asarray(values.is_valid().to_numpy(zero_copy_only=False), np.bool_))
    return values.take(pa.array(present[np.sort(np.unique(persons[present], return_index=True)[1])]))


def _numbering(values: pa.Array, counts: tuple[int, int] | None) -> list[int]:
    """Numbering of personal values (``personal_values.values_of_rows``) by which as many differ as in the input.

    Values that hardly repeat go on for as many rows as are made. Fewer go round.

    Args:
        values: Those of the sample.
        counts: Distinct values and values of the whole input, where they were counted.
    """
    present = values.drop_null()
    distinct, rows = counts or (pc.count_distinct(present).as_py(), len(present))
    if not rows or distinct >= _HARDLY_REPEAT * rows:
        return [1, 1]
    return [distinct, rows] if distinct > 0.5 * rows else [max(1, distinct)]


def _fit_index(column: Column, generator: dict[str, Any], unique: bool) -> None:
    """Keep the values within what the index of a dictionary column holds: a key ends there, others go round."""
    if not pa.types.is_dictionary(column.type):
        return
    holds = int(np.iinfo(column.type.index_type.to_pandas_dtype()).max) + 1
    if holds > _SMALL_INDEX:
        return
    if unique:
        generator["holds"] = holds
    elif "numbering" in generator:
        numbering = generator["numbering"]
        generator["numbering"] = [min(holds, numbering[0])] if len(numbering) == 1 else [holds]
    else:
        generator["cycle"] = min(holds, capacity(generator))


def learn_all(
    table: pa.Table,
    columns: Iterable[Column],
    keys: Collection[str],
    *,
    seed: int,
    locales: Any = None,
    composite: Collection[str] = (),
    counts: Mapping[str, tuple[int, int]] | None = None,
    persons: np.ndarray[Any, np.dtype[np.uint64]] | None = None,
    largest: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Generators of all columns of role ``id`` or ``pii``, by name.

    Of the columns of a composite key, the one with the most values never repeats a value: so the key never repeats. The
    others repeat as many values as the sample has of them.

    Args:
        table: A sample of the rows.
        columns: The table's columns.
        keys: Columns whose values never repeat.
        seed: The job's seed.
        locales: Faker's locales.
        composite: Columns of a composite key.
        counts: Distinct values and values of columns in the whole input, where they were counted.
        persons: uint64[rows], hashes of the persons of the rows, where they are known.
        largest: By column of whole numbers, the largest ones of the whole input, increasing. The columns of a composite
            key count from 1 all the same: some of them are numbers within another one.
    """
    settings = {"seed": seed, "locales": locales, "persons": persons}
    generated = [column for column in columns if column.role in ("id", "pii")]
    generators = {}
    for column in generated:
        own: dict[str, Any] = {"unique": column.name in {*keys, *composite}, "counts": (counts or {}).get(column.name)}
        if column.name not in composite:
            own["largest"] = (largest or {}).get(column.name)
        generators[column.name] = learn(column, table[column.name], {**settings, **own})
    parts = [column for column in generated if column.name in composite]
    if parts:
        distinct = {column.name: pc.count_distinct(decoded(table[column.name])).as_py() for column in parts}
        widest = max(parts, key=lambda column: (capacity(generators[column.name]), distinct[column.name]))
        for column in parts:
            if column is not widest and column.name not in keys:
                generator = generators[column.name]
                size = max(1, min(distinct[column.name], capacity(generator)))
                generator.update({"numbering": [size]} if "numbering" in generator else {"cycle": size})
    return generators


def _from_regex(column: Column, regex: str) -> dict[str, Any]:
    try:
        shapes = patterns.shapes(regex)
    except patterns.PatternError as error:
        raise MetadataError(f"column {column.name!r}: regex_format {regex!r}: {error}") from None
    number = kind_of(column.type) != "text"
    if number and not makes_numbers(shapes, column.value_type):
        raise MetadataError(
            f"column {column.name!r} of type {column.type}: regex_format {regex!r} must make whole numbers of at "
            f"most {_most_digits(column.value_type)} digits without leading zeros"
        )
    if number:
        (only,) = shapes if len(shapes) == 1 else (None,)
        if only is not None and len(only.positions) > 1 and "0" in only.positions[0]:
            if only.positions[0] == "0":
                raise MetadataError(
                    f"column {column.name!r} of type {column.type}: every number of regex_format {regex!r} begins with "
                    "0, which an integer cannot hold; write the shards with text"
                )
            first = only.positions[0].replace("0", "")
            regex = "".join(f"[{alphabet}]" for alphabet in (first, *only.positions[1:]))
    return {"kind": "number" if number else "string", "regex": regex}


def makes_numbers(shapes: Sequence[patterns.Shape], kind: pa.DataType) -> bool:
    """Whether the strings of these shapes are whole numbers of the type, without leading zeros where lengths differ."""
    digits = all(c in "0123456789" for shape in shapes for c in "".join(shape.positions))
    zeros = len(shapes) > 1 and any("0" in shape.positions[0] for shape in shapes if shape.positions)
    longest = max(len(shape.positions) for shape in shapes)
    return digits and not zeros and all(shape.positions for shape in shapes) and longest <= _most_digits(kind)


def _most_digits(kind: pa.DataType) -> int:
    """The largest d such that the type can hold every whole number of d digits."""
    if pa.types.is_integer(kind):
        return len(str(int(np.iinfo(kind.to_pandas_dtype()).max))) - 1
    return {16: 3, 32: 7, 64: 15}[kind.bit_width]


def _learn_number(column: Column, values: pa.Array) -> dict[str, Any]:
    if kind_of(column.type) not in ("integer", "float"):
        raise MetadataError(
            f"column {column.name!r} of type {column.type} cannot be of sdtype {column.sdtype!r}; "
            "give the column another sdtype in the metadata"
        )
    limit = 10 ** _most_digits(column.value_type)
    if pa.types.is_integer(column.value_type):
        limit = int(np.iinfo(column.value_type.to_pandas_dtype()).max)
    present = pc.unique(values.drop_null()).cast(pa.float64(), safe=False).to_numpy()
    if len(present) >= 2 and present.min() >= 1000:
        digits = len(str(int(present.max())))
        spread = present.max() - present.min() > 20 * len(present)
        if spread and len(str(int(present.min()))) == digits and digits <= _most_digits(column.value_type):
            used = {str(int(value))[0] for value in present.tolist()}
            unused = "".join(digit for digit in "123456789" if digit not in used)
            if not unused or len(unused) * 10 ** (digits - 1) < _ROOM * len(present):
                unused = "1-9"
            return {"kind": "number", "regex": f"[{unused}][0-9]{{{digits - 1}}}"}
    return {"kind": "count", "start": 1, "limit": limit}


def _above(largest: Sequence[int], limit: int) -> int:
    """A round number above all numbers of the input, of which it tells the first digit; 1 where the type is small.

    Of the first digits, only that of the least of ``largest`` counts, which no single row decides. Where the largest of
    all is beyond, it is the next power of ten.
    """
    if limit < _ROOMY or not len(largest) or largest[-1] < 1:
        return 1
    unit = 10 ** (len(str(max(int(largest[0]), 1))) - 1)
    start = (int(largest[0]) // unit + 1) * unit
    if start < int(largest[-1]):
        start = 10 ** len(str(int(largest[-1])))
    return int(start) + 1 if start <= limit // 2 else 1


def capacity(generator: dict[str, Any]) -> int:
    """How many rows a generator can make. A value repeats only by its ``rows_per_value`` or its ``cycle``."""
    if "holds" in generator:
        whole = {key: value for key, value in generator.items() if key != "holds"}
        return min(int(generator["holds"]), capacity(whole))
    if "cycle" in generator:
        return UNBOUNDED
    repeat = int(generator["repeat"])
    if generator["kind"] == "count":
        return (int(generator["limit"]) - int(generator["start"]) + 1) * repeat
    if generator["kind"] == "pii" or "grown" in generator:
        return UNBOUNDED
    return min(UNBOUNDED, patterns.count(generator["regex"]) * repeat)


def check_capacity(generator: dict[str, Any], rows: int, column: Column | str) -> None:
    """Check, before any task starts, that a generator can make so many rows.

    Raises:
        InputError: It cannot; names the column, both numbers and what to do.
    """
    available = capacity(generator)
    if rows <= available:
        return
    name = column.name if isinstance(column, Column) else column
    if "holds" in generator:
        raise InputError(
            f"column {name!r}: it is a key, and the index of its dictionary type holds {available} values, but {rows} "
            "rows are to be made; ask for fewer rows, or write the shards without a dictionary"
        )
    if generator["kind"] == "count":
        raise InputError(
            f"column {name!r}: its type holds {available} distinct numbers, but {rows} rows are to be made; "
            "ask for fewer rows, or write the shards with a wider integer type"
        )
    raise InputError(
        f"column {name!r}: its format {generator['regex']!r} has {available} distinct strings, but {rows} rows are to "
        "be made; give the column a regex_format with more (such as one more digit) in the metadata"
    )


def make(generator: dict[str, Any], type: pa.DataType, first_row: int, n: int) -> pa.Array:
    """Values of the rows ``first_row`` to ``first_row + n - 1``, as an Arrow array of exactly ``type``.

    Args:
        generator: From ``learn``.
        type: Arrow type of the column.
        first_row: Global number of the first row.
        n: Rows.

    Raises:
        ModelError: The generator has too few values, or a dictionary's index type is too narrow for one batch.
    """
    if first_row + n > capacity(generator):
        raise ModelError(
            f"an identifier's generator has {capacity(generator)} values; row {first_row + n} was asked for"
        )
    if "cycle" in generator and "numbering" not in generator:
        size = int(generator["cycle"])
        plain = type.value_type if pa.types.is_dictionary(type) else type
        cycle = make({key: value for key, value in generator.items() if key != "cycle"}, plain, 0, size)
        places = pa.array(np.arange(first_row, first_row + n, dtype=np.int64) % size)
        return _finished(cycle.take(places), generator, type, first_row, n)
    if generator["kind"] == "pii":
        return make_pii(generator, type, int(generator["key"]), first_row, n)
    repeat = int(generator["repeat"])
    start, stop = first_row // repeat, -(-(first_row + n) // repeat)
    plain = type.value_type if pa.types.is_dictionary(type) else type
    if generator["kind"] == "count":
        values = pa.array(np.arange(start, stop, dtype=np.int64) + int(generator["start"])).cast(plain)
    else:
        values = _strings(generator, start, stop - start)
        values = values.cast(pa.int64()).cast(plain) if generator["kind"] == "number" else values.cast(plain)
    if repeat > 1:
        values = values.take(pa.array(np.arange(first_row, first_row + n) // repeat - start))
    return _finished(values, generator, type, first_row, n)


def _strings(generator: dict[str, Any], first: int, n: int) -> pa.Array:
    """Strings of the format; when it has no more, strings that are one, two ... characters longer."""
    key = int(generator["key"])
    if "grown" not in generator:
        return patterns.strings(generator["regex"], key, first, n)
    layout = Format(*(generator[name] for name in ("regex", "head", "grown", "length", "tail")))
    pieces, longer, regex = [], 0, layout.regex
    while n:
        size = patterns.count(regex)
        if first < size:
            pieces.append(patterns.strings(regex, key, first, min(n, size - first)))
            n -= len(pieces[-1])
            first = size
        first -= size
        longer += 1
        regex = layout.longer(longer)
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())


def make_pii(generator: dict[str, Any], type: pa.DataType, key: int, first_row: int, n: int) -> pa.Array:
    """Faker's values of rows, drawn from pools of ``personal.BLOCK`` rows that start at multiples of it.

    A generator with a ``numbering`` gives as many distinct values as it says. One without was learned before there were
    numberings: ``unique``, it writes the scrambled row number into each value (before the @ of an address).

    Args:
        generator: From ``learn``, of kind ``pii``.
        type: Arrow type of the column.
        key: Chooses Faker's stream; any split of the rows gives the same values for one key.
        first_row: Global number of the first row.
        n: Rows.
    """
    plain = type.value_type if pa.types.is_dictionary(type) else type
    locales = tuple(generator["locales"])
    if "numbering" in generator:
        numbering = [generator["cycle"]] if "cycle" in generator else generator["numbering"]
        values = values_of_rows(_value_kind(generator["function"], locales, key, plain), numbering, first_row, n)
        return _finished(values.cast(plain), {**generator, "key": key}, type, first_row, n)
    numbers = patterns.strings("[0-9a-z]{7}", key, first_row, n) if generator.get("unique") else None
    values = make_pool_values(generator["function"], locales, key, first_row, n, kind_of(plain) == "text", numbers)
    return _finished(values.cast(plain, safe=False), {**generator, "key": key}, type, first_row, n)


def _value_kind(function: str, locales: tuple[str, ...], key: int, plain: pa.DataType) -> Kind:
    form = {"text": "text", "integer": "integer"}.get(kind_of(plain), "float")
    digits = _most_digits(plain) if form == "integer" else 3 if plain in (pa.float16(), pa.float32()) else 6
    return Kind(function, locales, key, form, digits)


def _finished(values: pa.Array, generator: dict[str, Any], type: pa.DataType, first_row: int, n: int) -> pa.Array:
    share = float(generator["missing"])
    if share > 0:
        bound = math.ceil(share * 2.0**64)
        absent = hash_rows(int(generator["key"]), "missing", first_row, n) <= np.uint64(min(bound, 2**64 - 1))
        values = pc.if_else(pa.array(absent), pa.scalar(None, values.type), values)
    if not pa.types.is_dictionary(type):
        return values
    encoded = values.dictionary_encode()
    if len(encoded.dictionary) - 1 > np.iinfo(type.index_type.to_pandas_dtype()).max:
        raise ModelError(
            f"an identifier of type {type} has {len(encoded.dictionary)} distinct values in one batch, more than its "
            "index type holds; write the shards with a plain string column, or smaller chunks (sample.chunk_rows)"
        )
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(type.index_type), encoded.dictionary, ordered=type.ordered
    )
