"""How many persons have each value of a column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def persons_per_code(codes: NDArray[Any], persons: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """int64[size]: of each code, the persons that have it on some row.

    Args:
        codes: Integers [n], from 0 to ``size`` - 1.
        persons: uint64[n], hashes of the rows' persons.
        size: Number of codes.
    """
    who, person = np.unique(persons, return_inverse=True)
    pairs = np.unique(codes.astype(np.int64) * len(who) + person)
    return np.bincount(pairs // max(len(who), 1), minlength=size).astype(np.int64)
