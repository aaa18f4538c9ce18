"""What the arrays of a model file must be, as data: one small vocabulary of checks, which every family uses.

A file comes from anywhere, and the sampler looks numbers up in its arrays without looking twice. So each array is
named with its dtype, shape, range and order, and is checked once, when the model is loaded. An array that no check
names is refused. To add an array to a model file, add its ``Array`` to those of the family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import ModelError
from shardsynth.models.columns.ragged import Ragged

#: One number for all parts of an array, or one for each.
PerPart = Union[float, Sequence[float], NDArray[Any]]


@dataclass(frozen=True)
class Array:
    """What one array must be. All numbers must be finite.

    Attributes:
        dtype: NumPy's name of the dtype.
        shape: Sizes of a plain array; None: any shape.
        parts: Names of the arrays that are joined in it (see ``Ragged``), such as those of columns; None: a plain one.
        lengths: Length of each part.
        minimum: Least value.
        maximum: Largest value.
        below: Each value is less than this.
        increasing: Whether the values of a part (of a plain array: all) must increase; one for all parts, or for each.
        never_falls: As ``increasing``, but equal neighbours are allowed.
        not_below: Name of an array of the same shape, whose values are not larger.
        whole: Whether floats must be whole numbers; one for all parts, or for each.
        sums_to: Sum of each part that is not empty.
        within: What a sum may be off.
        parity: Remainder of every value when it is divided by 2.
    """

    dtype: str
    shape: tuple[int, ...] | None = None
    parts: Sequence[str] | None = None
    lengths: PerPart | None = None
    minimum: PerPart | None = None
    maximum: PerPart | None = None
    below: PerPart | None = None
    increasing: PerPart = False
    never_falls: PerPart = False
    not_below: str | None = None
    whole: PerPart = False
    sums_to: float | None = None
    within: float = 1e-6
    parity: int | None = None


def starts(key: str) -> str:
    """Name of the array that says where the parts of another array start."""
    return f"{key}.starts"


def check_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, Array]) -> dict[str, Ragged]:
    """Check arrays, in the order in which they are wanted; others are not looked at.

    Args:
        file: Named in errors.
        arrays: By name.
        wanted: By name, what each must be.

    Returns:
        Those with parts.

    Raises:
        ModelError: One is missing, or is not what it must be. The error names file, array, part and what is wrong.
    """
    ragged = {}
    for key, array in wanted.items():
        for name in (key,) if array.parts is None else (key, starts(key)):
            if name not in arrays:
                raise ModelError(f"{file}: has no array {name!r}; the file is damaged: fit or import the model again")
        _Checked(file, key, array, arrays).check()
        if array.parts is not None:
            ragged[key] = Ragged(arrays[key], arrays[starts(key)])
    return ragged


class _Checked:
    """The checks of one array."""

    def __init__(self, file: Path, key: str, wanted: Array, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.file, self.key, self.wanted, self.arrays = file, key, wanted, arrays
        self.values = arrays[key]
        self.starts: NDArray[np.int64] = np.zeros(0, np.int64)

    def check(self) -> None:
        wanted = self.wanted
        self._form(self.key, self.values, wanted.dtype, wanted.shape if wanted.parts is None else (-1,))
        if wanted.parts is not None:
            self._parts(wanted.parts)
        if self.values.dtype.kind == "f":
            self._all(np.isfinite(self.values), "is not finite")
        self._range()
        self._order()
        self._sums()

    def _form(self, name: str, values: NDArray[Any], dtype: str, shape: tuple[int, ...] | None) -> None:
        if values.dtype != np.dtype(dtype):
            raise self._error(name, f"is of dtype {values.dtype}, not {dtype}")
        if shape is None:
            return
        if len(values.shape) != len(shape) or any(n not in (-1, m) for n, m in zip(shape, values.shape)):
            text = ", ".join("any" if n < 0 else str(n) for n in shape)
            raise self._error(name, f"is of shape {list(values.shape)}, not [{text}]")

    def _parts(self, names: Sequence[str]) -> None:
        key, begin = starts(self.key), self.arrays[starts(self.key)]
        self._form(key, begin, "int64", (len(names) + 1,))
        if begin[0] != 0 or begin[-1] != len(self.values) or (begin[1:] < begin[:-1]).any():
            raise self._error(
                key, f"does not cut the {len(self.values)} values of {self.key!r} into {len(names)} parts"
            )
        self.starts = begin
        lengths = self.wanted.lengths
        if lengths is not None:
            wrong = np.diff(begin) != np.broadcast_to(np.asarray(lengths), len(names))
            if wrong.any():
                part = int(np.argmax(wrong))
                found, right = int(np.diff(begin)[part]), int(np.broadcast_to(np.asarray(lengths), len(names))[part])
                raise self._error(key, f"{self._of(part)} has {found} values, not {right}")

    def _range(self) -> None:
        wanted, values = self.wanted, self.values
        if wanted.minimum is not None:
            self._all(values >= self._each(wanted.minimum), "is too small")
        if wanted.maximum is not None:
            self._all(values <= self._each(wanted.maximum), "is too large")
        if wanted.below is not None:
            self._all(values < self._each(wanted.below), "is out of range")
        if wanted.parity is not None:
            self._all(values % 2 == wanted.parity, f"is {'even' if wanted.parity else 'odd'}")
        if np.any(wanted.whole):
            self._all((values == np.rint(values)) | ~self._each(wanted.whole).astype(np.bool_), "is no whole number")

    def _order(self) -> None:
        wanted, values = self.wanted, self.values
        if wanted.not_below is not None:
            other = self.arrays[wanted.not_below]
            if other.shape != values.shape:
                raise self._error(self.key, f"is of shape {list(values.shape)}, {wanted.not_below!r} of another")
            self._all(values >= other, f"is below that of {wanted.not_below!r}")
        if np.any(wanted.increasing):
            self._all(self._rises(values[1:] > values[:-1], wanted.increasing), "is not above the one before it")
        if np.any(wanted.never_falls):
            self._all(self._rises(values[1:] >= values[:-1], wanted.never_falls), "is below the one before it")

    def _rises(self, rises: NDArray[np.bool_], which: PerPart) -> NDArray[np.bool_]:
        """Whether each value may follow the one before it; a part's first value follows none."""
        passes = np.append([True], rises)[: len(self.values)]
        if self.wanted.parts is not None:
            first = self.starts[:-1]
            passes[first[first < len(passes)]] = True
            passes |= ~self._each(which).astype(np.bool_)
        return passes

    def _sums(self) -> None:
        if self.wanted.sums_to is None:
            return
        total = np.append(0.0, np.cumsum(self.values))
        for part, (first, last) in enumerate(zip(self.starts[:-1], self.starts[1:])):
            if first < last and not abs(total[last] - total[first] - self.wanted.sums_to) <= self.wanted.within:
                raise self._error(self.key, f"{self._of(part)} does not sum to {self.wanted.sums_to:g}")

    def _each(self, number: PerPart) -> NDArray[Any]:
        """A number for each value."""
        numbers = np.asarray(number)
        return np.repeat(numbers, np.diff(self.starts)) if numbers.ndim else numbers

    def _all(self, passes: NDArray[np.bool_], why: str) -> None:
        if passes.all():
            return
        place = int(np.argmin(passes.reshape(-1)))
        if self.wanted.parts is None:
            raise self._error(self.key, f"value {place} {why}")
        part = int(np.searchsorted(self.starts, place, side="right")) - 1
        raise self._error(self.key, f"{self._of(part)}: value {place - int(self.starts[part])} {why}")

    def _of(self, part: int) -> str:
        assert self.wanted.parts is not None
        return f"of {self.wanted.parts[part]!r}"

    def _error(self, name: str, what: str) -> ModelError:
        return ModelError(f"{self.file}: array {name!r} {what}; the file is damaged: fit or import the model again")
