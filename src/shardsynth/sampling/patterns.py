"""Strings of a regular expression by number: a scrambled bijection from 0, 1, 2 ... to distinct matching strings.

The parser of the standard library reads the expression. It is expanded into *shapes*: sequences of positions of a fixed
length, each position with its alphabet. Within a shape, the number is split into two halves and mixed by a four-round
Feistel network over mixed radices (L += F(R) mod A, R += F(L) mod B). That is a bijection of 0 .. A*B-1 for any F. So
neighbouring numbers do not look alike, and no table is needed.
"""

from __future__ import annotations

import math
import re
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if sys.version_info >= (3, 11):
    from re import _constants, _parser  # type: ignore[attr-defined]
else:
    import sre_constants as _constants
    import sre_parse as _parser

Words = npt.NDArray[np.uint64]

#: The most repeats that ``*``, ``+`` and ``{n,}`` stand for.
LONGEST_REPEAT = 16
_MOST_SHAPES = 1_024
_LONGEST = 4_096
#: Largest radix of one Feistel half.
_HALF = 2**31
_ROUNDS = 4
_WORD = string.ascii_letters + string.digits + "_"
_ANY = string.digits + string.ascii_letters
_CATEGORIES = {
    _constants.CATEGORY_DIGIT: string.digits,
    _constants.CATEGORY_NOT_DIGIT: string.ascii_letters,
    _constants.CATEGORY_WORD: _WORD,
    _constants.CATEGORY_NOT_WORD: "-./ ",
    _constants.CATEGORY_SPACE: " ",
    _constants.CATEGORY_NOT_SPACE: _ANY,
}
_PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "


class PatternError(ValueError):
    """The expression is not valid, or a part of it cannot be enumerated; the message says which part."""


@dataclass(frozen=True)
class Shape:
    """Strings of one length: an alphabet per position.

    Attributes:
        positions: The alphabet of each position.
        left: Positions whose digits are the left half of the number.
        right: Positions of the right half.
        free: Positions for which the halves have no room; filled by a hash of both halves.
        radices: Product of the radices of ``left`` and of ``right``.
    """

    positions: tuple[str, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    free: tuple[int, ...]
    radices: tuple[int, int]

    @property
    def size(self) -> int:
        """How many distinct strings the shape has numbers for."""
        return self.radices[0] * self.radices[1]


@lru_cache(maxsize=256)
def shapes(regex: str) -> tuple[Shape, ...]:
    r"""Shapes of an expression, largest first; no two of them share a string.

    Supported are literals, classes, ``\d \w \s``, ``.`` (letters and digits), groups, alternation and repeats. Repeats
    without an upper bound end at ``LONGEST_REPEAT``.

    Raises:
        PatternError: The expression is not valid, or has look-arounds, back-references or too many alternatives.
    """
    try:
        parsed = _parser.parse(regex)
    except re.error as error:
        raise PatternError(f"not a valid regular expression ({error})") from None
    candidates = sorted({_shape(positions) for positions in _sequence(parsed)}, key=lambda s: (-s.size, s.positions))
    by_length: dict[int, list[Shape]] = {}
    for shape in candidates:
        same_length = by_length.setdefault(len(shape.positions), [])
        if all(_disjoint(shape.positions, other.positions) for other in same_length):
            same_length.append(shape)
    return tuple(sorted(chain.from_iterable(by_length.values()), key=lambda s: (-s.size, s.positions)))


def _shape(positions: tuple[str, ...]) -> Shape:
    halves: tuple[list[int], list[int]] = ([], [])
    radices = [1, 1]
    free = []
    for place in sorted(range(len(positions)), key=lambda i: (-len(positions[i]), -i)):
        radix = len(positions[place])
        side = 0 if radices[0] <= radices[1] else 1
        if radices[side] * radix > _HALF:
            side = 1 - side
        if radices[side] * radix > _HALF:
            free.append(place)
        else:
            halves[side].append(place)
            radices[side] *= radix
    return Shape(positions, tuple(halves[0]), tuple(halves[1]), tuple(free), (radices[0], radices[1]))


def _disjoint(a: Sequence[str], b: Sequence[str]) -> bool:
    return any(not set(x) & set(y) for x, y in zip(a, b))


def _sequence(nodes: Iterable[tuple[Any, Any]]) -> list[tuple[str, ...]]:
    """Every sequence of alphabets that a parsed pattern can stand for."""
    sequences: list[tuple[str, ...]] = [()]
    for node in nodes:
        options = _alternatives(*node)
        if len(sequences) * len(options) > _MOST_SHAPES:
            raise PatternError(f"more than {_MOST_SHAPES} alternatives of different length or kind")
        sequences = [head + tail for head, tail in product(sequences, options)]
        if any(len(positions) > _LONGEST for positions in sequences):
            raise PatternError(f"strings of more than {_LONGEST} characters")
    return sequences


def _alternatives(kind: Any, value: Any) -> list[tuple[str, ...]]:
    if kind is _constants.LITERAL:
        return [(chr(value),)]
    if kind is _constants.NOT_LITERAL:
        return [(_without(chr(value)),)]
    if kind is _constants.ANY:
        return [(_ANY,)]
    if kind is _constants.IN:
        return [(_alphabet(value),)]
    if kind is _constants.AT and value in (_constants.AT_BEGINNING, _constants.AT_END, *_string_ends()):
        return [()]
    if kind is _constants.SUBPATTERN:
        return _sequence(value[-1])
    if kind is _constants.BRANCH:
        return [option for branch in value[1] for option in _sequence(branch)]
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, getattr(_constants, "POSSESSIVE_REPEAT", None)):
        low, high, inner = value
        options = _sequence(inner)
        if high == _constants.MAXREPEAT:  # so many repeats that the alternatives stay few
            high = max(low, LONGEST_REPEAT if len(options) == 1 else int(math.log(64, len(options))))
        if high > _LONGEST:
            raise PatternError(f"a repeat of more than {_LONGEST} times")
        if len(options) == 1:
            return [options[0] * times for times in range(low, high + 1)]
        return [option for times in range(low, high + 1) for option in _sequence(list(inner) * times)]
    raise PatternError(f"{str(kind).lower()} cannot be enumerated")


def _string_ends() -> tuple[Any, Any]:
    return _constants.AT_BEGINNING_STRING, _constants.AT_END_STRING


def _alphabet(items: Iterable[tuple[Any, Any]]) -> str:
    characters: dict[str, None] = {}  # an ordered set
    negated = False
    for kind, value in items:
        if kind is _constants.NEGATE:
            negated = True
        elif kind is _constants.LITERAL:
            characters[chr(value)] = None
        elif kind is _constants.RANGE:
            if value[1] - value[0] > 100_000:
                raise PatternError("a class of more than 100,000 characters")
            characters.update(dict.fromkeys(map(chr, range(value[0], value[1] + 1))))
        elif kind is _constants.CATEGORY and value in _CATEGORIES:
            characters.update(dict.fromkeys(_CATEGORIES[value]))
        else:
            raise PatternError(f"{str(value).lower()} in a class cannot be enumerated")
    return _without("".join(characters)) if negated else "".join(characters)


def _without(characters: str) -> str:
    others = "".join(c for c in _PRINTABLE if c not in characters)
    if not others:
        raise PatternError("a class that leaves no printable character")
    return others


def count(regex: str) -> int:
    """How many distinct strings ``strings`` can make from an expression."""
    return sum(shape.size for shape in shapes(regex))


def strings(regex: str, key: int, first: int, n: int) -> pa.Array:
    """The strings number ``first`` to ``first + n - 1`` of an expression.

    Args:
        regex: The expression.
        key: Chooses the scrambling, 64 bits.
        first: Number of the first string; ``first + n`` is at most ``count(regex)``.
        n: How many.

    Returns:
        ``pa.string()`` array of n strings; different numbers give different strings.

    Raises:
        PatternError: See ``shapes``.
        ValueError: The expression has fewer strings.
    """
    pieces = []
    start = 0
    for place, shape in enumerate(shapes(regex)):
        low, high = max(first, start), min(first + n, start + shape.size)
        if low < high:
            pieces.append(_shape_strings(shape, (key + place * 0x632BE59BD9B4E019) % 2**64, low - start, high - low))
        start += shape.size
    if first + n > start:
        raise ValueError(f"the expression has {start} strings; number {first + n - 1} was asked for")
    return pa.concat_arrays(pieces) if pieces else pa.array([], pa.string())


def mixed(words: Words, key: int) -> Words:
    """64-bit words hashed with a key (the finaliser of MurmurHash3), as a new array."""
    with np.errstate(over="ignore"):
        x = (words + np.uint64(key % 2**64)) * np.uint64(0x9E3779B97F4A7C15)
        x ^= x >> np.uint64(33)
        x *= np.uint64(0xFF51AFD7ED558CCD)
        x ^= x >> np.uint64(33)
    return x


def _scrambled(shape: Shape, key: int, first: int, n: int) -> tuple[Words, Words]:
    numbers = np.arange(first, first + n, dtype=np.uint64)
    a, b = (np.uint64(radix) for radix in shape.radices)
    left, right = numbers % a, numbers // a
    for number in range(_ROUNDS):
        left = (left + (mixed(right, key + 2 * number) >> np.uint64(32))) % a
        right = (right + (mixed(left, key + 2 * number + 1) >> np.uint64(32))) % b
    return left, right


def _shape_strings(shape: Shape, key: int, first: int, n: int) -> pa.Array:
    left, right = _scrambled(shape, key, first, n)
    beyond_ascii = any(ord(c) > 127 for alphabet in shape.positions for c in alphabet)
    matrix = np.empty((n, len(shape.positions)), dtype=np.uint32 if beyond_ascii else np.uint8)
    for half, places in ((left, shape.left), (right, shape.right)):
        rest = half.astype(np.uint32)
        for place in places:
            radix = np.uint32(len(shape.positions[place]))
            higher = rest // radix
            matrix[:, place] = _codes(shape.positions[place], matrix.dtype)[rest - higher * radix]
            rest = higher
    for turn, place in enumerate(shape.free):
        digits = mixed(left * np.uint64(_HALF) + right, key + 101 + turn) % np.uint64(len(shape.positions[place]))
        matrix[:, place] = _codes(shape.positions[place], matrix.dtype)[digits]
    if beyond_ascii:
        text = matrix.view(f"<U{matrix.shape[1]}").ravel() if matrix.shape[1] else np.full(n, "")
        return pa.array(text.astype(object), pa.string())
    offsets = np.arange(n + 1, dtype=np.int64) * matrix.shape[1]
    if offsets[-1] >= 2**31:
        half_n = n // 2
        parts = (_shape_strings(shape, key, first, half_n), _shape_strings(shape, key, first + half_n, n - half_n))
        return pa.concat_arrays(parts)
    buffers = [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(matrix.tobytes())]
    return pa.Array.from_buffers(pa.string(), n, buffers)


@lru_cache(maxsize=1024)
def _codes(alphabet: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.array([ord(c) for c in alphabet], dtype=dtype)
