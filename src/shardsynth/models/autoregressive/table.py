"""Training rows in codes and in random order: in memory, or in a mapped file where all rows are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.models.autoregressive.codes import Coding
from shardsynth.models.training.mapped import PIECE_ROWS, new_array, pieces

#: Codes int8 or int16 [rows, columns].
Table = NDArray[Any]


def encode_rows(
    coding: Coding,
    coder: TableCoder,
    batches: Iterable[pa.RecordBatch | pa.Table],
    rows: int,
    seed: int,
    scratch: Path | None = None,
    *,
    alone: bool = False,
    persons: NDArray[np.uint64] | None = None,
) -> Table:
    """Code the training rows: one byte per row and column, two if any column has more than 127 codes.

    Args:
        coding: The columns.
        coder: What the columns were coded with.
        batches: The rows, with the coder's columns.
        rows: Number of all rows.
        seed: For the order, and for codes in place of protected categories.
        scratch: Folder for a file that is mapped, so that the codes need not fit into memory.
        alone: Whether a row's codes may depend on no other row. Then protected categories get the most frequent code.
        persons: uint64[rows], hashes of the rows' persons: then the rows of a person lie side by side.

    Returns:
        int8 or int16 [rows, columns], in random order.

    Raises:
        ValueError: The batches hold another number of rows.
    """
    table = new_array(
        scratch, "codes", (rows, len(coding.columns)), np.int8 if max(coding.sizes, default=0) <= 127 else np.int16
    )
    place = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).argsort().numpy()
    if persons is not None:
        place = np.argsort(np.lexsort((place, persons)))
    for part, (numbers, piece) in enumerate(pieces(batches, rows)):
        table[place[numbers]] = coding.encode(coder, piece, None if alone else seed, part)
    return table


def held_out_rows(persons: NDArray[np.uint64], rows: int) -> int:
    """Number of rows of the first persons, in the order of ``encode_rows``, that have at least ``rows`` together."""
    ordered = np.sort(persons)
    last = min(max(rows, 1), len(ordered)) - 1
    return int(np.searchsorted(ordered, ordered[last], side="right"))


def blocks(table: Table) -> Iterator[bytes]:
    """All bytes of the table, some rows at a time."""
    for first in range(0, len(table), PIECE_ROWS):
        yield np.ascontiguousarray(table[first : first + PIECE_ROWS]).tobytes()
