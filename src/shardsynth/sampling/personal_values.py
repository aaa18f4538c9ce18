"""Faker's values by number: different numbers give different values, so that a column has as many as it wants.

Faker makes one pool per column. A value is a pool's value that the number changes in a way that its kind allows: digits
are replaced by the scrambled number, an address gets it before its @, the first and the last part of names are paired
anew. So the values need no table, and any range of numbers gives the same ones.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.sampling import patterns
from shardsynth.sampling.personal import POOL, faker_of, text_of

Integers = npt.NDArray[np.int64]
Maker = Callable[[int, int], pa.Array]

#: Most values of a cycle that are kept in memory and mixed; a longer one goes round in order.
MIXED = 65_536
#: Digits that the number replaces at least, where a pool has values with so many.
_ENOUGH_DIGITS = 6
_DIGITS = frozenset("0123456789")
_MULTIPLIERS = 64
_MOST_LAYOUTS = 64
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Kind:
    """What Faker makes for a column.

    Attributes:
        function: Faker's function.
        locales: Faker's locales; the pool takes from each in turn.
        key: Chooses the stream.
        form: ``text``, ``integer`` or ``float``.
        digits: Most digits of an integer, most decimals of a float.
    """

    function: str
    locales: tuple[str, ...]
    key: int
    form: str = "text"
    digits: int = 6


def values_by_number(kind: Kind, first: int, n: int) -> pa.Array:
    """The values number ``first`` to ``first + n - 1``, as ``pa.string()``, ``pa.int64()`` or ``pa.float64()``.

    Text is distinct for all numbers, an integer for 10^(digits - 1) and a float for 10^digits of them.
    """
    if not n:
        return pa.array([], {"text": pa.string(), "integer": pa.int64(), "float": pa.float64()}[kind.form])
    values = _maker(kind)(first, n)
    return values if kind.form == "text" else values.cast(pa.int64() if kind.form == "integer" else pa.float64())


def values_of_rows(kind: Kind, numbering: Sequence[int], first: int, n: int) -> pa.Array:
    """The values of the rows ``first`` to ``first + n - 1``.

    Args:
        kind: What Faker makes.
        numbering: ``[d]``: d values go round, each once in d rows. ``[d, r]``: each r rows have d new values.
        first: Number of the first row.
        n: Rows.
    """
    rows = np.arange(first, first + n, dtype=np.int64)
    if len(numbering) == 2:
        # Exact also for the largest row numbers: Python's integers at the start, small ones from there on.
        distinct, per = numbering
        start, rest = divmod(first * distinct, per)
        numbers = (rest + np.arange(n, dtype=np.int64) * distinct) // per
        values = values_by_number(kind, start, int(numbers[-1]) + 1 if n else 0)
        return values if distinct == per else values.take(pa.array(numbers))
    (size,) = numbering
    if size <= MIXED:
        return _cycle(kind, size).take(pa.array(_mixed_round(rows, size, kind.key)))
    places = rows % size
    low, high = (int(places.min()), int(places.max()) + 1) if n else (0, 0)
    if high - low <= n:
        return values_by_number(kind, low, high - low).take(pa.array(places - low))
    turn = int(np.flatnonzero(places == 0)[0])  # the round ends among these rows
    return pa.concat_arrays([values_by_number(kind, int(places[0]), turn), values_by_number(kind, 0, n - turn)])


@lru_cache(maxsize=64)
def _cycle(kind: Kind, size: int) -> pa.Array:
    return values_by_number(kind, 0, size)


def _mixed_round(rows: Integers, size: int, key: int) -> Integers:
    """Places in a cycle of ``size`` values: each once in every round of ``size`` rows, in another order each time."""
    rounds, places = rows // size, rows % size
    factors = np.array(_coprime(size), np.uint64)
    words = patterns.mixed(rounds.astype(np.uint64), key + 17)
    factor = factors[(words >> np.uint64(40)) % np.uint64(len(factors))]
    shift = patterns.mixed(rounds.astype(np.uint64), key + 18) >> np.uint64(40)
    mixed: Integers = ((places.astype(np.uint64) * factor + shift) % np.uint64(size)).astype(np.int64)
    return mixed


@lru_cache(maxsize=256)
def _coprime(size: int) -> tuple[int, ...]:
    """Factors by which a cycle of ``size`` can be stepped through, spread over it."""
    if size < 3:
        return (1,)
    step = max(1, size // _MULTIPLIERS)
    return tuple(f for f in range(1, size, step) if math.gcd(f, size) == 1) or (1,)


@lru_cache(maxsize=64)
def _maker(kind: Kind) -> Maker:
    """How values of a kind are made, from the pool's look."""
    pool = _pool(kind)
    if kind.form != "text":
        return _Numbered(pool, kind.key, keep_first=True, decimals=kind.form == "float").make
    if all("@" in value for value in pool):
        return _Addressed(pool, kind.key).make
    if all(_DATE.fullmatch(value) for value in pool):
        return _Dated(pool, kind.key).make
    for least, mode in ((4, _Numbered), (1, _Housed)):
        with_digits = [value for value in pool if sum(c in _DIGITS for c in value) >= least]
        if len(with_digits) >= 0.9 * len(pool):
            return mode(with_digits, kind.key).make
    paired = [value for value in pool if " " in value.strip()]
    if len(paired) >= 0.5 * len(pool):
        heads, tails = zip(*(value.strip().rsplit(" ", 1) for value in paired))
        return _Paired(sorted(set(heads)), sorted(set(tails)), " ", kind.key).make
    plain = [value for value in pool if "-" not in value] or ["x"]
    return _Single(plain, kind.key).make


@lru_cache(maxsize=64)
def _pool(kind: Kind) -> tuple[str, ...]:
    """Distinct values of Faker, up to ``POOL``, in the order in which it makes them."""
    values: list[str] = []
    for place, locale in enumerate(kind.locales):
        faker = faker_of(locale)
        name = f"{kind.key}:{kind.function}:{locale}:values"
        faker.seed_instance(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        call = getattr(faker, kind.function)
        made = [call() for _ in range(POOL // len(kind.locales) + (place < POOL % len(kind.locales)))]
        if kind.form == "integer":
            made = [str(abs(int(float(value))))[: kind.digits] for value in made]
        elif kind.form == "float":
            made = [f"{float(value):.{kind.digits}f}" for value in made]
        values += [text_of(value) for value in made]
    return tuple(dict.fromkeys(values))


class _Numbered:
    """Pool values whose digits are replaced by the scrambled number.

    Values of one layout (length, places of their digits) share the number's digits, so they differ; values of two
    layouts differ anyway.
    """

    def __init__(self, pool: Sequence[str], key: int, *, keep_first: bool = False, decimals: bool = False) -> None:
        self._key = key
        places = {value: _replaced(value, keep_first, decimals) for value in pool}
        most = max(len(p) for p in places.values())
        pool = [value for value in pool if len(places[value]) >= min(_ENOUGH_DIGITS, most)]
        layout_of = {value: (len(value), places[value]) for value in pool}
        frequent = {layout for layout, _ in Counter(layout_of.values()).most_common(_MOST_LAYOUTS)}
        self._pool = [value for value in pool if layout_of[value] in frequent]
        layouts: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for number, value in enumerate(self._pool):
            layouts.setdefault(layout_of[value], []).append(number)
        self._layouts = [
            (np.array(members), np.array(p, np.int64), _characters([self._pool[m] for m in members]))
            for (_, p), members in layouts.items()
        ]
        self._grows = not (keep_first or decimals)

    def make(self, first: int, n: int) -> pa.Array:
        numbers = np.arange(first, first + n, dtype=np.int64)
        template = numbers % len(self._pool)
        made = np.empty(n, dtype=object)
        digits: dict[int, npt.NDArray[np.uint8]] = {}
        for members, places, characters in self._layouts:
            place = np.searchsorted(members, template)
            chosen = np.flatnonzero(members[np.minimum(place, len(members) - 1)] == template)
            if not len(chosen):
                continue
            matrix = characters[place[chosen]]
            width = len(places)
            if width not in digits:
                digits[width] = _digits(width, self._key, first, n)
            matrix[:, places] = digits[width][chosen]
            made[chosen] = matrix.view(f"<U{matrix.shape[1]}").ravel()
            if self._grows and first + n > 10**width:
                for row in chosen[numbers[chosen] >= 10**width]:
                    made[row] = f"{made[row]}-{numbers[row] // 10**width}"
        return pa.array(made, pa.string())


def _replaced(value: str, keep_first: bool, decimals: bool) -> tuple[int, ...]:
    """Places of the digits that are replaced: the first digit of a longer run stays where enough others are left."""
    places = [i for i, c in enumerate(value) if c in _DIGITS]
    if decimals:
        return tuple(i for i in places if i > value.find("."))
    if keep_first:
        return tuple(places[1:])
    inner = [i for i in places if (i and value[i - 1] in _DIGITS) or not value[i + 1 : i + 3].isdigit()]
    return tuple(inner if len(inner) >= _ENOUGH_DIGITS else places)


def _characters(values: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Code points of texts of one length, uint32[texts, length]."""
    return np.array(values).astype(f"<U{len(values[0])}").view(np.uint32).reshape(len(values), -1)


def _digits(width: int, key: int, first: int, n: int) -> npt.NDArray[np.uint8]:
    """Decimal digits of scrambled numbers as code points, uint8[n, width]: a bijection below 10^width."""
    if not width:
        return np.zeros((n, 0), np.uint8)
    pieces, size = [], patterns.count(f"[0-9]{{{width}}}")
    while n:
        start = first % size
        count = min(n, size - start)
        pieces.append(patterns.strings(f"[0-9]{{{width}}}", key, start, count))
        first, n = first + count, n - count
    strings = pa.concat_arrays(pieces)
    return np.frombuffer(strings.buffers()[2], np.uint8, len(strings) * width).reshape(-1, width)


class _Housed:
    """Values with a short number, such as streets: it counts on for each of them, mixed in blocks of 1,000."""

    def __init__(self, pool: Sequence[str], key: int) -> None:
        parts = dict.fromkeys(tuple(re.split(r"\d+", value, maxsplit=1)) for value in pool)
        self._before, self._after = (pa.array([part[side] for part in parts], pa.string()) for side in (0, 1))
        self._shift = key

    def make(self, first: int, n: int) -> pa.Array:
        numbers = np.arange(first, first + n, dtype=np.int64)
        template, turn = numbers % len(self._before), numbers // len(self._before)
        shift = (patterns.mixed(template.astype(np.uint64), self._shift) % np.uint64(1000)).astype(np.int64)
        house = turn - turn % 1000 + (turn % 1000 * 619 + shift) % 1000 + 1
        before, after = (part.take(pa.array(template)) for part in (self._before, self._after))
        return pc.binary_join_element_wise(before, pa.array(house).cast(pa.string()), after, "")


class _Dated:
    """Days between the pool's first and last, in a mixed order; more than these repeat."""

    def __init__(self, pool: Sequence[str], key: int) -> None:
        days = np.array(list(pool), "datetime64[D]").astype(np.int64)
        self._start, self._size = int(days.min()), int(days.max() - days.min()) + 1
        self._factor, self._shift = _step(self._size, key)

    def make(self, first: int, n: int) -> pa.Array:
        numbers = np.arange(first, first + n, dtype=np.int64) % self._size
        days = (numbers * self._factor + self._shift) % self._size + self._start
        return pa.array(days.astype(np.int32), pa.int32()).cast(pa.date32()).cast(pa.string())


class _Addressed:
    """Addresses: the number stands before the @, behind a local part that ends in no digit."""

    def __init__(self, pool: Sequence[str], key: int) -> None:
        self._key = key
        parts = [value.split("@", 1) for value in pool]
        self._locals = pa.array([(local.rstrip("0123456789") or "p") for local, _ in parts], pa.string())
        self._domains = pa.array([f"@{domain}" for _, domain in parts], pa.string())

    def make(self, first: int, n: int) -> pa.Array:
        template = pa.array(np.arange(first, first + n, dtype=np.int64) % len(self._locals))
        pieces, start, width = [], 0, 4
        while start < first + n:  # numbers of 4 digits, then of 5, and so on
            low, high = max(first, start), min(first + n, start + 10**width)
            if low < high:
                pieces.append(patterns.strings(f"[0-9]{{{width}}}", self._key + width, low - start, high - low))
            start, width = start + 10**width, width + 1
        numbers = pa.concat_arrays(pieces)
        return pc.binary_join_element_wise(self._locals.take(template), numbers, self._domains.take(template), "")


class _Paired:
    """Two parts paired anew, such as first and last names; more than all pairs get a number."""

    def __init__(self, heads: Sequence[str], tails: Sequence[str], between: str, key: int) -> None:
        self._heads, self._tails = pa.array(heads, pa.string()), pa.array(tails, pa.string())
        self._between, self._pairs = between, len(heads) * len(tails)
        self._factor, self._shift = _step(self._pairs, key)

    def make(self, first: int, n: int) -> pa.Array:
        numbers = np.arange(first, first + n, dtype=np.int64)
        place = (numbers % self._pairs * self._factor + self._shift) % self._pairs
        heads = self._heads.take(pa.array(place % len(self._heads)))
        tails = self._tails.take(pa.array(place // len(self._heads)))
        return _with_rounds(pc.binary_join_element_wise(heads, tails, self._between), numbers // self._pairs)


class _Single:
    """Words as they are; more than there are become pairs with a hyphen, which no word has."""

    def __init__(self, pool: Sequence[str], key: int) -> None:
        self._pool = pa.array(pool, pa.string())
        self._pairs = _Paired(pool, pool, "-", key)
        self._size = len(pool) * (len(pool) + 1)

    def make(self, first: int, n: int) -> pa.Array:
        pieces = []
        while n:
            turn, start = divmod(first, self._size)
            if start < len(self._pool):
                piece = self._pool.slice(start, n)
            else:
                start -= len(self._pool)
                piece = self._pairs.make(start, min(n, self._size - len(self._pool) - start))
            pieces.append(_with_rounds(piece, np.full(len(piece), turn, np.int64)))
            first, n = first + len(piece), n - len(piece)
        return pa.concat_arrays(pieces)


def _step(size: int, key: int) -> tuple[int, int]:
    """Factor and shift of a bijection of ``range(size)``, size at most 2^31: multiply, add, take the rest."""
    factor = int(size * 0.6180339887) | 1
    while math.gcd(factor, size) > 1:
        factor += 2
    return factor % size or 1, key % size


def _with_rounds(values: pa.Array, rounds: Integers) -> pa.Array:
    """Values of a second or later round with its number behind them."""
    if not rounds.any():
        return values
    suffix = pc.if_else(
        pa.array(rounds == 0), "", pc.binary_join_element_wise("", pa.array(rounds + 1).cast(pa.string()), " ")
    )
    return pc.binary_join_element_wise(values, suffix, "")
