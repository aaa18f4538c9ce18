"""Plain numbers and dates of a batch of texts, recognised by their bytes: many times faster than by patterns.

It says nothing of a batch that holds anything else; ``text_types`` then looks at it by patterns. Where it says
something, the patterns say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.text_types import Guess, is_far

Bytes = npt.NDArray[np.uint8]

_HEAD = 64
_DIGIT, _DASH, _POINT, _OTHER = 1, 2, 4, 8
_CLASSES = np.full(256, _OTHER, np.uint8)
_CLASSES[ord("0") : ord("9") + 1] = _DIGIT
_CLASSES[ord("-")] = _DASH
_CLASSES[ord(".")] = _POINT
#: Places of the digits and of the other signs of a date, and of a date with a time.
_DATE, _TIME = "9999-99-99", "9999-99-99 99:99:99"
_SIGNS = set("0123456789.-: T")
#: Longer texts of digits may not fit 64 bits.
_MOST_DIGITS = 18


def plain_texts(texts: pa.Array, nulls: Iterable[str] = ()) -> tuple[Guess, pa.Array] | None:
    """The guess for a batch, and its values in the guess's type; None where it is no plain batch.

    Plain are integers and decimal numbers without spaces, leading zeros or exponents, dates ``2024-05-31`` and times
    ``2024-05-31 23:59:59``.

    Args:
        texts: String array.
        nulls: Texts that mean missing.
    """
    if not pa.types.is_string(texts.type) or texts.null_count == len(texts):
        return None
    if texts.null_count:  # most columns of text are known by their first rows
        head = texts.slice(0, _HEAD).drop_null()
        if len(head) and _family(*_bytes(head)) is None:
            return None
    starts, ends, data = _bytes(texts.drop_null() if texts.null_count else texts)
    if len(starts) > _HEAD and _family(starts[:_HEAD], ends[:_HEAD], data) is None:
        return None
    family = _family(starts, ends, data)
    if family is None:
        return None
    absent = [text for text in nulls if set(text) <= _SIGNS]
    if absent:
        found = pc.is_in(texts, value_set=pa.array(absent, pa.string()))
        if pc.any(found).as_py():
            return plain_texts(pc.if_else(found, pa.scalar(None, pa.string()), texts))
    guess = Guess(family)
    try:
        values = texts.cast(guess.type if family != "timestamp" else pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    if family in ("date", "timestamp"):
        ends = pc.min_max(values)
        # Never as Python's dates, which have no year 0: 0000-01-01 is one to Arrow.
        stamps = pa.chunked_array([pa.array([ends[end]], values.type) for end in ("min", "max")]).cast(
            pa.timestamp("us")
        )
        if pc.min(pc.year(stamps)).as_py() < 1:
            return None
        guess = Guess(family, 0, is_far(stamps))
    return guess, values.cast(guess.type)


def _bytes(texts: pa.Array) -> tuple[Any, Any, Bytes]:
    """First places and ends of texts without nulls in their bytes, and these."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return places[:-1], places[1:], np.frombuffer(data or b"", np.uint8)


def _family(starts: Any, ends: Any, data: Bytes) -> str | None:
    lengths = ends - starts
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == 0:
        return None
    used = data[starts[0] : ends[-1]]
    classes = int(np.bitwise_or.reduce(_CLASSES[used]))
    if shortest == longest and longest in (len(_DATE), len(_TIME)) and classes & _DASH and not classes & _POINT:
        form = _DATE if longest == len(_DATE) else _TIME
        return ("date" if form is _DATE else "timestamp") if _has_form(used.reshape(-1, longest), form) else None
    if classes & _OTHER or longest > _MOST_DIGITS:
        return None
    # What is left is digits, dashes and points: whether they are numbers is seen when they are parsed.
    first = data[starts]
    if classes & _DASH:
        begin = starts + (first == ord("-"))
        if (begin == ends).any():
            return None
        first = data[begin]
    else:
        begin = starts
    zero = np.flatnonzero(first == ord("0"))
    follow = begin[zero] + 1
    follow = follow[follow < ends[zero]]
    if (data[follow] != ord(".")).any() or (longest == 1 and classes & _POINT):
        return None
    if classes & _POINT:
        alone = np.flatnonzero(lengths == 1)
        return None if (data[starts[alone]] == ord(".")).any() else "float"
    return "int"


def _has_form(rows: Bytes, form: str) -> bool:
    for place, sign in enumerate(form):
        column = rows[:, place]
        if sign == "9":
            good = ((column - ord("0")) <= 9).all()  # unsigned: what is below "0" wraps around
        elif sign == " ":
            good = ((column == ord(" ")) | (column == ord("T"))).all()
        else:
            good = (column == ord(sign)).all()
        if not good:
            return False
    return True
