"""The array operations of the copula's sampler.

Every operation is exact, or one IEEE rounding per element: its result is the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Adding 1.5 * 2^52 leaves the nearest integer in the low bits of a float64's mantissa: a conversion in two vector
# instructions, where ``astype`` takes a slow scalar one per element.
_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.int64))


class Arrays:
    """The operations. A result may be overwritten by the next call of the same method, which uses the same memory."""

    def __init__(self) -> None:
        self._scratch: dict[tuple[Any, ...], NDArray[Any]] = {}

    def batch_rows(self, latents: int) -> int:
        """Rows per batch at which the scratch memory fits the CPU's cache."""
        return max(256, min(16_384, (1 << 19) // max(latents, 1) // 256 * 256))

    def upload(self, values: NDArray[Any]) -> NDArray[Any]:
        """A table in the memory in which it is looked up."""
        return np.ascontiguousarray(values)

    def latents(
        self,
        factor: NDArray[np.float64],
        levels: NDArray[np.float64],
        lanes: NDArray[np.uint16],
        fixed: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """``factor @ [levels[lanes], fixed]'``, float64 [d, n]: exact."""
        index = self._buffer("lanes", lanes.shape, np.intp)
        np.copyto(index, lanes)
        deviates = self.look_up(levels, index)
        if fixed is not None:
            deviates = np.concatenate([deviates, fixed], axis=1)
        return np.dot(factor, deviates.T, out=self._buffer("latents", (len(factor), len(lanes)), np.float64))

    def in_groups(self, values: NDArray[Any], size: int, use: str = "groups") -> NDArray[Any]:
        """Rows [n, m] in groups: [ceil(n / size), m, size]; the last group ends in zeros."""
        n, m = values.shape
        groups = self._buffer(use, (-(-n // size), m, size), np.intp if values.dtype.kind == "u" else values.dtype)
        whole = n // size
        np.copyto(groups[:whole], values[: whole * size].reshape(whole, size, m).transpose(0, 2, 1))
        if n % size:
            groups[whole] = 0
            groups[whole, :, : n % size] = values[whole * size :].T
        return groups

    def deviates(self, levels: NDArray[np.float64], lanes: NDArray[np.uint16], size: int) -> NDArray[np.float64]:
        """``levels[lanes]`` in groups of rows, float64 [groups, m, size]."""
        index = self.in_groups(lanes, size, "lanes")
        return np.take(levels, index, out=self._buffer("deviates", index.shape, np.float64), mode="clip")

    def sum_of_products(
        self,
        left: NDArray[np.float64],
        right: NDArray[np.float64],
        other_left: NDArray[np.float64],
        other_right: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """``left @ right + other_left @ other_right`` of groups [g, m, size], as float64 [d, g size]."""
        groups, _, size = right.shape
        shape = (groups, len(left), size)
        product = np.matmul(left, right, out=self._buffer("product", shape, np.float64))
        other = np.matmul(other_left, other_right, out=self._buffer("other", shape, np.float64))
        result = self._buffer("latents", (len(left), groups, size), np.float64)
        np.add(product, other, out=result.transpose(1, 0, 2))
        return result.reshape(len(left), groups * size)

    def uniform(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """``(words + 1/2) / 2^32``, float64 [n]: exact."""
        out = self._buffer("uniform", words.shape, np.float64)
        np.multiply(words, 2.0**-32, out=out)
        return np.asarray(np.add(out, 2.0**-33, out=out))

    def nearest(self, values: NDArray[np.float64], offset: int = 0) -> NDArray[np.int64]:
        """Nearest integers plus ``offset``, int64 in the shape of ``values``."""
        rounded = self._buffer("nearest", values.shape, np.float64)
        np.add(values, _MAGIC, out=rounded)
        index = rounded.view(np.int64)
        return np.subtract(index, _MAGIC_BITS - offset, out=index)

    def add(self, left: NDArray[Any], right: Any) -> NDArray[Any]:
        """Sum; may overwrite ``left``."""
        return np.asarray(np.add(left, right, out=left))

    def multiply(self, left: NDArray[Any], right: Any) -> NDArray[Any]:
        """Product; may overwrite ``left``."""
        return np.asarray(np.multiply(left, right, out=left))

    def divide(self, left: NDArray[Any], right: float) -> NDArray[Any]:
        """Quotient; may overwrite ``left``."""
        return np.asarray(np.divide(left, right, out=left))

    def round(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Nearest integers, ties to even, as float64; may overwrite ``values``."""
        return np.rint(values, out=values)

    def integers(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Whole float64 as int64."""
        return values.astype(np.int64)

    def above(self, values: NDArray[np.float64], cuts: Any) -> NDArray[np.bool_]:
        """``values > cuts``: bool."""
        return np.asarray(values > cuts)

    def search(self, cuts: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of cuts below each value: int64."""
        return np.searchsorted(cuts, values)

    def look_up(self, table: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        """``table[index]``, with the index clipped to the table."""
        return np.take(table, index, out=self._buffer("look_up", index.shape, table.dtype), mode="clip")

    def look_up_into(self, target: NDArray[Any], table: NDArray[Any], index: NDArray[np.int64]) -> None:
        """``target[:] = table[index]`` in the host's memory."""
        np.take(table, index, out=target, mode="clip")

    def store(self, target: NDArray[Any], values: NDArray[Any]) -> None:
        """``target[:] = values`` in the host's memory, in the target's dtype."""
        np.copyto(target, values, casting="unsafe")

    def _buffer(self, use: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        key = (use, shape, dtype)
        if key not in self._scratch:
            self._scratch[key] = np.empty(shape, dtype)
        return self._scratch[key]
