"""Training rows become arrays, in memory or in mapped files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Rows that are coded, or read, at a time.
PIECE_ROWS = 65_536


def pieces(
    batches: Iterable[pa.RecordBatch | pa.Table], rows: int
) -> Iterator[tuple[slice, pa.RecordBatch | pa.Table]]:
    """Pieces of at most ``PIECE_ROWS`` rows; each with the slice of row numbers that it has.

    Args:
        batches: The rows.
        rows: Number of all rows.

    Raises:
        ValueError: The batches hold another number of rows.
    """
    done = 0
    for batch in batches:
        for first in range(0, batch.num_rows, PIECE_ROWS):
            piece = batch.slice(first, PIECE_ROWS)
            if done + piece.num_rows > rows:
                raise ValueError(f"more than {rows} training rows")
            yield slice(done, done + piece.num_rows), piece
            done += piece.num_rows
    if done != rows:
        raise ValueError(f"{done} training rows, {rows} expected")


def new_array(scratch: Path | None, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros: mapped from a new file ``.<name>.tmp`` in the folder ``scratch``, or in memory without one."""
    if scratch is None or 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(scratch / f".{name}.tmp", dtype, "w+", shape=shape)
