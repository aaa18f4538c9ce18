"""Training rows on their way into arrays, which lie in memory or in files that are mapped into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Rows that are coded, or read, at a time, whatever batches they come in.
PIECE_ROWS = 65_536


def pieces(
    batches: Iterable[pa.RecordBatch | pa.Table], rows: int
) -> Iterator[tuple[slice, pa.RecordBatch | pa.Table]]:
    """Places in the arrays and the rows that belong there, at most ``PIECE_ROWS`` at a time.

    Raises:
        ValueError: The batches hold another number of rows than ``rows``.
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
    """An array of zeros, mapped from a new file ``.<name>.tmp`` of the folder ``scratch`` if there is one."""
    if scratch is None or 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(scratch / f".{name}.tmp", dtype, "w+", shape=shape)
