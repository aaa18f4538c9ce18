"""Faker's values for personal columns: its functions, and the pools of blocks of rows.

Models that were fitted before values had numbers (``personal_values``) draw from the pools of blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.errors import MetadataError, did_you_mean
from shardsynth.summaries.rows import hash_rows

#: Rows that share a pool; blocks start at multiples of it.
BLOCK = 65_536
#: Values that Faker makes for a block.
POOL = 1_024
#: SDV's sdtypes whose Faker function has another name (a test compares them with RDT's own table).
FUNCTIONS = {"ipv4_address": "ipv4", "ipv6_address": "ipv6", "user_agent_string": "user_agent"}

#: Functions of Faker's providers that make files, lists of many values or code.
_NO_VALUES = frozenset(
    ("binary", "zip", "tar", "image", "csv", "dsv", "psv", "tsv", "fixed_width", "json", "json_bytes", "xml", "enum")
    + ("pyobject", "pystruct", "pydict", "pylist", "pyset", "pytuple", "pyiterable")
)


def faker_name(column: Column, locales: Iterable[str]) -> str:
    """Faker's function for a column's PII sdtype.

    Raises:
        MetadataError: Faker has no such function in one of the locales (the message names the nearest), or its values
            do not fit the column's type.
    """
    function = FUNCTIONS.get(column.sdtype, column.sdtype)
    for locale in locales:
        try:
            check_function(function, locale, text=kind_of(column.type) == "text")
        except NotNumbers:
            raise MetadataError(
                f"column {column.name!r} of type {column.type}: sdtype {column.sdtype!r} makes text; "
                "give the column another sdtype in the metadata"
            ) from None
        except NoFunction as error:
            raise MetadataError(
                f"column {column.name!r}: sdtype {column.sdtype!r} is neither SDV's nor a function of Faker in "
                f"the locale {locale!r}{error.hint}"
            ) from None
        except MetadataError as error:
            raise MetadataError(f"column {column.name!r}: {error}") from None
    return function


class NoFunction(MetadataError):
    """Faker has no such function for values; ``hint`` names the nearest one."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class NotNumbers(MetadataError):
    """A function of Faker makes text."""


def check_function(function: str, locale: str, *, text: bool) -> None:
    """Check that a function of Faker makes values for a column.

    Args:
        function: Its name: one that Faker's providers define, not one that changes Faker or makes files.
        locale: Faker's locale.
        text: Whether any text will do; else its values must be numbers.

    Raises:
        MetadataError: Faker has no such locale, or no such function there, or the function makes text.
    """
    faker = faker_of(locale)
    valid = _functions(locale)
    if function not in valid:
        raise NoFunction(f"Faker has no function {function[:80]!r} for values", did_you_mean(function, valid))
    if not text:
        try:
            make_value = getattr(faker, function)
            for _ in range(20):
                float(make_value())
        except (TypeError, ValueError):
            raise NotNumbers(f"Faker's {function} makes text") from None


@lru_cache(maxsize=64)
def _functions(locale: str) -> frozenset[str]:
    """Names of the functions that Faker's providers define in a locale, less those that make no value of a column."""
    providers = [type(provider) for factory in faker_of(locale).factories for provider in factory.get_providers()]
    names = {name for provider in providers for name in dir(provider) if callable(getattr(provider, name, None))}
    return frozenset(name for name in names - _NO_VALUES if not name.startswith("_"))


def make_pool_values(
    function: str, locales: tuple[str, ...], key: int, first_row: int, n: int, text: bool, numbers: pa.Array | None
) -> pa.Array:
    """Values of n rows. The hash of a row number picks a value from the pool of the row's block.

    Args:
        function: Faker's function.
        locales: Faker's locales; a pool takes from each in turn.
        key: Chooses the stream.
        first_row: Global number of the first row.
        n: Rows.
        text: Whether to make strings; else float64.
        numbers: A distinct string per row, to write into its value, so that the values are distinct; or None.

    Returns:
        ``pa.string()`` or ``pa.float64()`` array of n values.
    """
    picks = hash_rows(key, "pii", first_row, n) >> np.uint64(64 - POOL.bit_length() + 1)
    pieces = []
    for block in range(first_row // BLOCK, (first_row + n - 1) // BLOCK + 1 if n else 0):
        low, high = max(first_row, block * BLOCK), min(first_row + n, (block + 1) * BLOCK)
        head, tail = _pool(function, locales, key, block, text)
        indices = pa.array(picks[low - first_row : high - first_row].astype(np.int32))
        values = head.take(indices)
        if text:
            if numbers is not None:
                values = pc.binary_join_element_wise(values, numbers.slice(low - first_row, high - low), "-")
            values = pc.binary_join_element_wise(values, tail.take(indices), "")
        pieces.append(values)
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string() if text else pa.float64())


@lru_cache(maxsize=256)
def _pool(function: str, locales: tuple[str, ...], key: int, block: int, text: bool) -> tuple[pa.Array, pa.Array]:
    """``POOL`` values of a block. Text comes in two parts: what is before an @, and the @ and what follows."""
    values: list[Any] = []
    for place, locale in enumerate(locales):
        faker = faker_of(locale)
        digest = hashlib.blake2b(f"{key}:{function}:{locale}:{block}".encode(), digest_size=8).digest()
        faker.seed_instance(int.from_bytes(digest, "little"))
        call = getattr(faker, function)
        values += [call() for _ in range(POOL // len(locales) + (place < POOL % len(locales)))]
    if not text:
        floats = pa.array([float(value) for value in values], pa.float64())
        return floats, floats
    strings = [text_of(value) for value in values]
    cut = [value.find("@") % (len(value) + 1) for value in strings]
    heads = pa.array([value[:at] for value, at in zip(strings, cut)], pa.string())
    return heads, pa.array([value[at:] for value, at in zip(strings, cut)], pa.string())


@lru_cache(maxsize=64)
def faker_of(locale: str) -> Any:
    """Faker in a locale; one per process.

    Raises:
        MetadataError: Faker has no such locale.
    """
    from faker import Faker

    try:
        return Faker(locale)
    except (AttributeError, ImportError, TypeError, ValueError):
        raise MetadataError(f"Faker has no locale {locale[:80]!r}") from None


def text_of(value: Any) -> str:
    """A value of Faker as text; some of its functions give lists."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return ", ".join(map(str, value))
    return str(value)
