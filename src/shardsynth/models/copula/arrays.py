"""The array operations of the copula's sampler, in NumPy and in torch: the same integers and floats from both.

Every operation is exact, or one IEEE rounding per element, so that only the speed depends on library and device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Adding 1.5 * 2^52 leaves the nearest integer in the low bits of a float64's mantissa: a conversion in two vector
# instructions, where ``astype`` takes a slow scalar one per element.
_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.int64))


class Arrays(Protocol):
    """What the sampler asks of an array library. Results may be overwritten by the next call of the same method."""

    def batch_rows(self, latents: int) -> int:
        """Rows that it likes to have at once."""

    def upload(self, values: NDArray[Any]) -> Any:
        """A table, where the look-ups happen."""

    def latents(self, factor: Any, levels: Any, lanes: NDArray[np.uint16], fixed: NDArray[np.float64] | None) -> Any:
        """``factor @ [levels[lanes], fixed]'``, float64 [d, n]: exact."""

    def uniform(self, words: NDArray[np.uint32]) -> Any:
        """``(words + 1/2) / 2^32``, float64 [n]: exact."""

    def nearest(self, values: Any, offset: int = 0) -> Any:
        """Nearest integers plus ``offset``, int64 in the shape of ``values``."""

    def add(self, left: Any, right: Any) -> Any:
        """Sum; may overwrite ``left``."""

    def multiply(self, left: Any, right: Any) -> Any:
        """Product; may overwrite ``left``."""

    def divide(self, left: Any, right: float) -> Any:
        """Quotient; may overwrite ``left``."""

    def round(self, values: Any) -> Any:
        """Nearest integers, ties to even, as float64; may overwrite ``values``."""

    def integers(self, values: Any) -> Any:
        """Whole float64 as int64."""

    def above(self, values: Any, cuts: Any) -> Any:
        """``values > cuts``: bool."""

    def search(self, cuts: Any, values: Any) -> Any:
        """Number of cuts below each value: int64."""

    def look_up(self, table: Any, index: Any) -> Any:
        """``table[index]``, the index held inside the table."""

    def look_up_into(self, target: NDArray[Any], table: Any, index: Any) -> None:
        """``target[:] = table[index]`` in the host's memory."""

    def store(self, target: NDArray[Any], values: Any) -> None:
        """``target[:] = values`` in the host's memory, in the target's dtype."""


class NumpyArrays:
    """NumPy on the CPU. Scratch memory is kept, so that a batch stays in the cache."""

    def __init__(self) -> None:
        self._scratch: dict[tuple[Any, ...], NDArray[Any]] = {}

    def batch_rows(self, latents: int) -> int:
        return max(256, min(16_384, (1 << 19) // max(latents, 1) // 256 * 256))

    def upload(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(values)

    def latents(
        self,
        factor: NDArray[np.float64],
        levels: NDArray[np.float64],
        lanes: NDArray[np.uint16],
        fixed: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        index = self._buffer("lanes", lanes.shape, np.intp)
        np.copyto(index, lanes)
        deviates = self.look_up(levels, index)
        if fixed is not None:
            deviates = np.concatenate([deviates, fixed], axis=1)
        return np.dot(factor, deviates.T, out=self._buffer("latents", (len(factor), len(lanes)), np.float64))

    def uniform(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        out = self._buffer("uniform", words.shape, np.float64)
        np.multiply(words, 2.0**-32, out=out)
        return np.asarray(np.add(out, 2.0**-33, out=out))

    def nearest(self, values: NDArray[np.float64], offset: int = 0) -> NDArray[np.int64]:
        rounded = self._buffer("nearest", values.shape, np.float64)
        np.add(values, _MAGIC, out=rounded)
        index = rounded.view(np.int64)
        return np.subtract(index, _MAGIC_BITS - offset, out=index)

    def add(self, left: NDArray[Any], right: Any) -> NDArray[Any]:
        return np.asarray(np.add(left, right, out=left))

    def multiply(self, left: NDArray[Any], right: Any) -> NDArray[Any]:
        return np.asarray(np.multiply(left, right, out=left))

    def divide(self, left: NDArray[Any], right: float) -> NDArray[Any]:
        return np.asarray(np.divide(left, right, out=left))

    def round(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.rint(values, out=values)

    def integers(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        return values.astype(np.int64)

    def above(self, values: NDArray[np.float64], cuts: Any) -> NDArray[np.bool_]:
        return np.asarray(values > cuts)

    def search(self, cuts: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.searchsorted(cuts, values)

    def look_up(self, table: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
        return np.take(table, index, out=self._buffer("look_up", index.shape, table.dtype), mode="clip")

    def look_up_into(self, target: NDArray[Any], table: NDArray[Any], index: NDArray[np.int64]) -> None:
        np.take(table, index, out=target, mode="clip")

    def store(self, target: NDArray[Any], values: NDArray[Any]) -> None:
        np.copyto(target, values, casting="unsafe")

    def _buffer(self, use: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        key = (use, shape, dtype)
        if key not in self._scratch:
            self._scratch[key] = np.empty(shape, dtype)
        return self._scratch[key]


class TorchArrays:
    """Torch on a device: random words are made by NumPy and moved there, values come back.

    Args:
        device: ``cpu``, or a CUDA device.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)

    def batch_rows(self, latents: int) -> int:
        most = 1 << (25 if self._device.type == "cuda" else 18)
        return max(256, min(1 << 18, most // max(latents, 1) // 256 * 256))

    def upload(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

    def latents(self, factor: Any, levels: Any, lanes: NDArray[np.uint16], fixed: NDArray[np.float64] | None) -> Any:
        deviates = levels[self.upload(lanes.astype(np.int32)).long()]
        if fixed is not None:
            deviates = self._torch.cat([deviates, self.upload(fixed)], dim=1)
        return factor @ deviates.T

    def uniform(self, words: NDArray[np.uint32]) -> Any:
        return self.upload(words.astype(np.float64)) * 2.0**-32 + 2.0**-33

    def nearest(self, values: Any, offset: int = 0) -> Any:
        return (values + _MAGIC).view(self._torch.int64) - (_MAGIC_BITS - offset)

    def add(self, left: Any, right: Any) -> Any:
        return left + right

    def multiply(self, left: Any, right: Any) -> Any:
        return left * right

    def divide(self, left: Any, right: float) -> Any:
        # A tensor, not a number: torch may turn division by a number into multiplication by its rounded inverse.
        return left / self._torch.full_like(left, right)

    def round(self, values: Any) -> Any:
        return self._torch.round(values)

    def integers(self, values: Any) -> Any:
        return values.to(self._torch.int64)

    def above(self, values: Any, cuts: Any) -> Any:
        return values > cuts

    def search(self, cuts: Any, values: Any) -> Any:
        return self._torch.searchsorted(cuts, values.contiguous())

    def look_up(self, table: Any, index: Any) -> Any:
        return table[index.clamp(0, len(table) - 1)]

    def look_up_into(self, target: NDArray[Any], table: Any, index: Any) -> None:
        target[:] = self.look_up(table, index).cpu().numpy()

    def store(self, target: NDArray[Any], values: Any) -> None:
        np.copyto(target, values.cpu().numpy(), casting="unsafe")


def arrays_for(device: str | None) -> Arrays:
    """NumPy for None (or ``numpy``), torch for a device name."""
    return NumpyArrays() if device in (None, "numpy") else TorchArrays(str(device))
