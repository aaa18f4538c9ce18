"""Training rows in compact codes: in memory, or in mapped files where all rows are trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.models.ctgan.codes import DeepCoding
from shardsynth.models.training.mapped import PIECE_ROWS, new_array, pieces


@dataclass(frozen=True)
class DeepTable:
    """Training rows in codes.

    Attributes:
        codes: int8 or int16 [n, s], position within each one-hot span.
        places: float32[n, c], place within the mode of each numeric column, 0 where missing.
        scratch: Folder of the files that the arrays are mapped from; None in memory.
    """

    codes: NDArray[Any]
    places: NDArray[np.float32]
    scratch: Path | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A new array of zeros, in memory or in a mapped file as the table."""
        return new_array(self.scratch, name, shape, dtype)

    def blocks(self) -> Iterable[NDArray[Any]]:
        """All bytes of the table, some rows at a time."""
        for first in range(0, len(self), PIECE_ROWS):
            yield np.ascontiguousarray(self.codes[first : first + PIECE_ROWS])
            yield np.ascontiguousarray(self.places[first : first + PIECE_ROWS])


def encode_rows(
    coding: DeepCoding,
    coder: TableCoder,
    batches: Iterable[pa.RecordBatch | pa.Table],
    rows: int,
    seed: int,
    scratch: Path | None = None,
) -> DeepTable:
    """Code the training rows, in memory that does not grow with them if there is a ``scratch`` folder.

    Args:
        coding: The columns.
        coder: What the columns were coded with.
        batches: The rows, with the coder's columns.
        rows: Number of all rows.
        seed: For modes, and for categories in place of protected ones.
        scratch: Folder for the files that are mapped; None: the table is in memory.

    Raises:
        ValueError: The batches hold another number of rows.
    """
    rng = np.random.default_rng([seed, 5])
    widest = max(column.size for column in coding.columns)
    codes = new_array(scratch, "codes", (rows, len(coding.columns)), np.int8 if widest <= 127 else np.int16)
    places = new_array(scratch, "places", (rows, len(coding.layout.tanh)), np.float32)
    for numbers, piece in pieces(batches, rows):
        encoded = coder.encode(piece)
        axis = 0
        for number, column in enumerate(coding.columns):
            i = coder.index[column.name]
            codes[numbers, number], inside = column.encode(coder.columns[i], encoded.codes[i], encoded.axis[i], rng)
            if inside is not None:
                places[numbers, axis] = inside
                axis += 1
    return DeepTable(codes, places, scratch)
