"""Objects in files of R, ``.rds`` and ``.RData``: the format of R's ``serialize``, read without R.

Source: R Internals, section "Serialization Formats" (https://cran.r-project.org/doc/manuals/r-release/R-ints.html).
Vectors of numbers come as NumPy arrays with their bits, so R's missing values and 64-bit integers stay what they are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

#: A vector of texts, None where missing; numbers; a list.
Value = Union[Sequence[Optional[str]], npt.NDArray[Any], Sequence["RObject"], None]

_NULL, _GLOBAL, _EMPTY, _BASE, _MISSING, _UNBOUND, _BASE_SPACE = 254, 253, 242, 241, 251, 252, 250
_CONSTANTS = {_NULL, _GLOBAL, _EMPTY, _BASE, _MISSING, _UNBOUND, _BASE_SPACE}
_SYMBOL, _PAIRS, _CLOSURE, _ENVIRONMENT, _PROMISE, _CALL = 1, 2, 3, 4, 5, 6
_SPECIAL, _BUILTIN, _TEXT, _LOGICAL, _INTEGER, _REAL, _COMPLEX, _TEXTS = 7, 8, 9, 10, 13, 14, 15, 16
_LIST, _EXPRESSION, _POINTER, _WEAK, _RAW, _S4 = 19, 20, 22, 23, 24, 25
_REFERENCE, _NAMESPACE, _PACKAGE, _PERSISTENT, _CALL_ATTR, _PAIRS_ATTR, _ALTREP = 255, 249, 247, 248, 240, 239, 238
_NUMBERS = {_LOGICAL: ">i4", _INTEGER: ">i4", _REAL: ">f8", _COMPLEX: ">c16", _RAW: "u1"}
_MOST_NUMBERS = 500_000_000  # of a sequence, which takes no place in the file
#: What R writes for a missing integer or truth value.
NA_INTEGER = -(2**31)
#: Low half of the bits of R's NA among doubles.
NA_BITS = 1954
#: Seconds of the units of R's ``difftime``.
SECONDS = {"secs": 1, "mins": 60, "hours": 3_600, "days": 86_400, "weeks": 604_800}


class RFormatError(Exception):
    """The bytes are no object of R's ``serialize``, or one of a kind that is not read."""


@dataclass
class RObject:
    """An object.

    Attributes:
        kind: ``logical``, ``integer``, ``double``, ``character``, ``list``, ``pairlist``, ``symbol``, ``null``, or any
            other, which has no value.
        value: Its values; of a pairlist, their objects.
        attributes: By name.
        names: Of a pairlist.
    """

    kind: str
    value: Value = None
    attributes: dict[str, RObject] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def texts(self, name: str) -> list[str | None]:
        """An attribute that is a vector of texts; empty where it is not there."""
        found = self.attributes.get(name)
        return list(found.value) if found is not None and found.kind == "character" else []  # type: ignore[arg-type]


class RReader:
    """Reads one serialized object.

    Args:
        read: Gives so many bytes of the unpacked file, or fewer at its end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._references: list[RObject] = []

    def object(self) -> RObject:
        """The object.

        Raises:
            RFormatError: The bytes are no object, or are cut short.
        """
        if self._bytes(2) != b"X\n":
            raise RFormatError("it is not in R's binary format: save it again with saveRDS() or save()")
        version, _, _ = self._integer(), self._integer(), self._integer()
        if version not in (2, 3):
            raise RFormatError(f"it has version {version} of R's format, and 2 and 3 are known")
        if version == 3:
            self._bytes(self._integer())
        return self._item()

    def _bytes(self, count: int) -> bytes:
        if count < 0:
            raise RFormatError("it is damaged")
        found = self._source(count)
        if len(found) != count:
            raise RFormatError("it is cut short")
        return found

    def _integer(self) -> int:
        return int(struct.unpack(">i", self._bytes(4))[0])

    def _length(self) -> int:
        length = self._integer()
        if length == -1:
            length = (self._integer() << 32) + (self._integer() & 0xFFFFFFFF)
        if length < 0:
            raise RFormatError("it is damaged")
        return length

    def _item(self) -> RObject:
        flags = self._integer()
        kind, has_attributes, has_tag = flags & 0xFF, bool(flags & 0x200), bool(flags & 0x400)
        if kind in _CONSTANTS:
            return RObject("null" if kind == _NULL else "environment")
        if kind == _REFERENCE:
            place = (flags >> 8) or self._integer()
            if not 1 <= place <= len(self._references):
                raise RFormatError("it is damaged")
            return self._references[place - 1]
        if kind in (_PAIRS, _CALL, _CLOSURE, _PROMISE, _CALL_ATTR, _PAIRS_ATTR):
            return self._pairs(kind, has_attributes, has_tag)
        if kind == _SYMBOL:
            self._references.append(RObject("symbol", [self._text()]))
            return self._references[-1]
        if kind == _TEXT:
            return RObject("text", [self._characters(flags)])
        if kind in (_NAMESPACE, _PACKAGE, _PERSISTENT):
            self._integer()
            for _ in range(self._integer()):
                self._text()
            self._references.append(RObject("environment"))
            return self._references[-1]
        if kind == _ENVIRONMENT:
            self._integer()
            self._references.append(RObject("environment"))
            place = len(self._references) - 1
            for _ in range(4):
                self._item()
            return self._references[place]
        if kind == _ALTREP:
            return self._alternative()
        found = self._vector(kind)
        if has_attributes:
            found.attributes = self._attributes()
        return found

    def _vector(self, kind: int) -> RObject:
        names = {_LOGICAL: "logical", _INTEGER: "integer", _REAL: "double", _COMPLEX: "complex", _RAW: "raw"}
        if kind in _NUMBERS:
            dtype = np.dtype(_NUMBERS[kind])
            values = np.frombuffer(self._bytes(self._length() * dtype.itemsize), dtype)
            return RObject(names[kind], values.astype(dtype.newbyteorder("=")))
        if kind == _TEXTS:
            return RObject("character", [self._text() for _ in range(self._length())])
        if kind in (_LIST, _EXPRESSION):
            return RObject("list", [self._item() for _ in range(self._length())])
        if kind in (_SPECIAL, _BUILTIN):
            self._bytes(self._integer())
            return RObject("function")
        if kind == _POINTER:
            place = len(self._references)
            self._references.append(RObject("pointer"))
            self._item(), self._item()
            return self._references[place]
        if kind in (_S4, _WEAK):
            found = RObject("S4")
            if kind == _WEAK:
                self._references.append(found)
            return found
        raise RFormatError(f"it holds an object of R's type {kind}, which is not read: save the data frame alone")

    def _pairs(self, kind: int, has_attributes: bool, has_tag: bool) -> RObject:
        """A pairlist, or a call, function or promise, which have its form."""
        listed: list[RObject] = []
        found = RObject("pairlist" if kind in (_PAIRS, _PAIRS_ATTR) else "call", listed)
        while True:
            attributes = self._attributes() if has_attributes or kind in (_CALL_ATTR, _PAIRS_ATTR) else {}
            found.attributes.update(attributes)
            tag = self._item() if has_tag else None
            found.names.append(str(tag.value[0]) if tag is not None and isinstance(tag.value, list) else "")
            listed.append(self._item())
            flags = self._integer()
            if flags & 0xFF not in (_PAIRS, _PAIRS_ATTR) or kind not in (_PAIRS, _PAIRS_ATTR):
                if flags & 0xFF != _NULL:
                    self._after(flags)
                return found
            has_attributes, has_tag = bool(flags & 0x200), bool(flags & 0x400)

    def _after(self, flags: int) -> None:
        """Read past an item whose flags were read already."""
        source, first = self._source, struct.pack(">i", flags)

        def again(count: int) -> bytes:
            nonlocal first
            head, first = first[:count], first[count:]
            return head + (source(count - len(head)) if len(head) < count else b"")

        self._source = again
        self._item()
        self._source = source

    def _attributes(self) -> dict[str, RObject]:
        pairs = self._item()
        if pairs.kind != "pairlist":
            return {}
        return dict(zip(pairs.names, pairs.value))  # type: ignore[arg-type]

    def _text(self) -> str | None:
        flags = self._integer()
        if flags & 0xFF != _TEXT:
            raise RFormatError("it is damaged")
        return self._characters(flags)

    def _characters(self, flags: int) -> str | None:
        length = self._integer()
        if length == -1:
            return None
        latin = flags >> 12 & 4
        return self._bytes(length).decode("latin-1" if latin else "utf-8", "replace")

    def _alternative(self) -> RObject:
        """A vector that R holds in another form: a sequence, numbers not yet texts, or a wrapped vector."""
        info, state, attributes = self._item(), self._item(), self._attributes()
        first = info.value[0] if isinstance(info.value, list) and info.value else None
        name = str(first.value[0]) if isinstance(first, RObject) and isinstance(first.value, list) else ""
        inner = state.value[0] if state.kind in ("pairlist", "list") and isinstance(state.value, list) else None
        if name in ("compact_intseq", "compact_realseq") and isinstance(state.value, np.ndarray):
            length, start, step = state.value.tolist()
            if not 0 <= length <= _MOST_NUMBERS:
                raise RFormatError("it is damaged")
            kind = "integer" if name == "compact_intseq" else "double"
            values = start + step * np.arange(int(length))
            return RObject(kind, values.astype(np.int32 if kind == "integer" else np.float64), attributes)
        if name == "deferred_string" and isinstance(inner, RObject):
            return RObject("character", _as_texts(inner), attributes)
        if name.startswith("wrap_") and isinstance(inner, RObject):
            return RObject(inner.kind, inner.value, {**inner.attributes, **attributes})
        raise RFormatError("it holds a vector of a kind that is not read: save the data frame alone")


def _as_texts(numbers: RObject) -> list[str | None]:
    """Numbers as R writes them."""
    if not isinstance(numbers.value, np.ndarray):
        raise RFormatError("it is damaged")
    if numbers.kind == "integer":
        return [None if n == NA_INTEGER else str(n) for n in numbers.value.tolist()]
    return [None if np.isnan(n) else f"{n:.15g}" for n in numbers.value.tolist()]
