"""Arrays of different lengths as one array and its offsets, as a model file holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Arrays of different lengths, joined: array i is ``values[starts[i]:starts[i + 1]]``.

    Attributes:
        values: [n], all arrays, one after the other.
        starts: int64[k + 1], where each of the k arrays starts, then n.
    """

    values: NDArray[Any]
    starts: Integers

    @classmethod
    def of(cls, arrays: list[NDArray[Any]], dtype: Any) -> Ragged:
        """Join one-dimensional arrays, as ``dtype``."""
        starts = np.concatenate([[0], np.cumsum([len(a) for a in arrays])]).astype(np.int64)
        return cls(np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype), starts)

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.values[self.starts[index] : self.starts[index + 1]]
