"""Linear relations among columns, as sparse vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def row_echelon(basis: Floats) -> Floats:
    """Reduced row echelon form with complete pivoting: sparse vectors that span the same space."""
    basis, pivots = basis.copy(), list[int]()
    for row in range(len(basis)):
        rest = np.abs(basis[row:]).copy()
        rest[:, pivots] = 0
        best, column = divmod(int(np.argmax(rest)), rest.shape[1])
        if rest[best, column] == 0:
            return basis[:row]
        basis[[row, row + best]] = basis[[row + best, row]]
        basis[row] /= basis[row, column]
        others = np.arange(len(basis)) != row
        basis[others] -= np.outer(basis[others, column], basis[row])
        pivots.append(column)
    return basis
