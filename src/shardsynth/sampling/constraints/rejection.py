"""Rejection: rows that a model draws are restored, and rows that violate a constraint are drawn again.

A row depends on the model, the seed and its global number, and not on the range of rows that is drawn. Rows are cut
into blocks at fixed places, and each block has a spare stream. The j-th rejected row of a block is replaced by the j-th
accepted row of its spare stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.values import taken
from shardsynth.errors import ModelError
from shardsynth.sampling.constraints.step import Mask
from shardsynth.sampling.constraints.table import TableConstraints
from shardsynth.sampling.identifiers import capacity

#: A spare stream is drawn in pieces of so many rows.
PIECE = 1_024
#: Spare rows that are drawn at most for each rejected row.
TRIES = 1_000
#: Under a test of finished rows: rows of a block, so that no row costs the work of many before it, and of a piece.
TESTED_BLOCK, TESTED_PIECE = 64, 4_096
#: Under a test: spare rows that are drawn in any case, and the smallest share of them that has to pass.
_TESTED_TRIES, _TESTED_SHARE = 300_000, 1e-5

RowTest = Callable[[pa.RecordBatch], Mask]


def piece_rows(generators: Mapping[str, dict[str, Any]], *, tested: bool = False) -> int:
    """Rows of a piece of a spare stream: the identifiers drawn with it are not used, but must not run out."""
    return min([TESTED_PIECE if tested else PIECE, *(capacity(generator) for generator in generators.values())])


class ConstrainedRows:
    """Rows of a table under constraints.

    Args:
        table: The constraints.
        draw: Draws rows of the inner table by their global numbers, as one batch.
        spare: Draws piece ``k`` of the spare stream of a block, in the inner table: ``spare(block, k, rows)``.
        block: Rows of a block.
        piece: Rows of a piece of a spare stream.
        by_number: Columns that do not change when a row is drawn again: ids and personal data, made from its number.
        test: A further test of finished rows, such as a condition on a constrained column.

    Attributes:
        proposed: Rows drawn so far.
        accepted: Those of them that satisfy the constraints and the test.
    """

    def __init__(
        self,
        table: TableConstraints,
        draw: Callable[[range], pa.RecordBatch],
        spare: Callable[[int, int, int], pa.RecordBatch],
        *,
        block: int,
        piece: int = PIECE,
        by_number: frozenset[str] = frozenset(),
        test: RowTest | None = None,
    ) -> None:
        if test is not None:
            block = min(block, TESTED_BLOCK)
        self.table, self.block = table, block
        self._draw, self._spare, self._piece, self._by_number, self._test = draw, spare, piece, by_number, test
        self.proposed = self.accepted = 0

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """The rows, in order, as batches of the table's schema.

        Raises:
            ModelError: The model draws almost no row that satisfies the constraints.
        """
        for number in range(rows.start // self.block, -(-rows.stop // self.block) if rows else 0):
            first = number * self.block
            stop = min(rows.stop, first + self.block)
            batch = self._valid_rows(number, self._draw(range(first, stop)))
            yield batch.slice(max(0, rows.start - first))

    def _valid_rows(self, block: int, inner: pa.RecordBatch) -> pa.RecordBatch:
        """Restored rows of a block, from its first row on; the rejected ones are replaced."""
        batch, valid = self._tested(inner)
        self.proposed += len(valid)
        self.accepted += int(valid.sum())
        rejected = int(len(valid) - valid.sum())
        if not rejected:
            return batch
        spares: list[pa.RecordBatch] = []
        n_spares = tried = 0
        while n_spares < rejected:
            if self._hopeless(tried, n_spares, rejected):
                raise ModelError(
                    f"of {tried} rows drawn again, {n_spares} satisfy the constraints (and conditions): the model "
                    "hardly ever meets them; leave one out, or use another model"
                )
            drawn, drawn_valid = self._tested(self._spare(block, tried // self._piece, self._piece))
            tried += self._piece
            self.proposed += len(drawn_valid)
            self.accepted += int(drawn_valid.sum())
            if drawn_valid.any():
                spares.append(drawn.filter(pa.array(drawn_valid)))
                n_spares += spares[-1].num_rows
        return self._with_spares(batch, valid, spares)

    def _hopeless(self, tried: int, found: int, rejected: int) -> bool:
        if self._test is None:
            return tried >= TRIES * max(rejected, 10)
        return tried >= _TESTED_TRIES and found < _TESTED_SHARE * tried

    def _tested(self, inner: pa.RecordBatch) -> tuple[pa.RecordBatch, Mask]:
        batch, valid = self.table.restore(inner)
        return batch, valid if self._test is None else valid & self._test(batch)

    def _with_spares(self, batch: pa.RecordBatch, valid: Mask, spares: list[pa.RecordBatch]) -> pa.RecordBatch:
        """The batch with its rejected rows replaced by the spare rows, in order."""
        whole = pa.Table.from_batches([batch, *spares]).unify_dictionaries().combine_chunks()
        rows = np.arange(batch.num_rows)
        rows[~valid] = batch.num_rows + np.arange(int((~valid).sum()))
        indices = pa.array(rows)
        arrays: list[Any] = []
        for field, column in zip(batch.schema, whole.columns):
            if field.name in self._by_number:
                arrays.append(batch.column(field.name))
            else:
                chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
                arrays.append(taken(chunk, indices))
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
