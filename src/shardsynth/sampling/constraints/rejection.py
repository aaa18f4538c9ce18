"""Rows that satisfy the constraints: what a model draws, restored, and the rows that fail drawn again.

A row depends on the model, the seed and its global number, never on the range it is asked in: rows are cut into blocks
at fixed places, and the j-th row of a block that fails takes the j-th good row of that block's own spare stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.errors import ModelError
from shardsynth.sampling.constraints.step import Mask
from shardsynth.sampling.constraints.table import TableConstraints

#: Rows of a piece of a spare stream.
PIECE = 1_024
#: Spare rows that are drawn at most for each row that failed.
TRIES = 1_000

Test = Callable[[pa.RecordBatch], Mask]


def piece_rows(generators: Mapping[str, dict[str, Any]]) -> int:
    """Rows of a spare piece: no more than a table's identifiers allow, which are made and then not used."""
    from shardsynth.sampling.identifiers import capacity

    return min([PIECE, *(capacity(generator) for generator in generators.values())])


class ConstrainedRows:
    """Rows of a table under constraints.

    Args:
        table: The constraints.
        draw: Rows of the inner table by their global numbers, as one batch.
        spare: Piece ``k`` of the spare stream of a block, of the inner table: ``spare(block, k, rows)``.
        block: Rows of a block.
        piece: Rows of a spare piece.
        own: Columns that a row keeps when it is drawn again: ids and personal data, made from its number.
        test: A further test of the finished rows, such as a condition on a constrained column.
    """

    def __init__(
        self,
        table: TableConstraints,
        draw: Callable[[range], pa.RecordBatch],
        spare: Callable[[int, int, int], pa.RecordBatch],
        *,
        block: int,
        piece: int = PIECE,
        own: frozenset[str] = frozenset(),
        test: Test | None = None,
    ) -> None:
        self.table, self.block = table, block
        self._draw, self._spare, self._piece, self._own, self._test = draw, spare, piece, own, test
        self.proposed = self.accepted = 0

    def batches(self, rows: range) -> Iterator[pa.RecordBatch]:
        """The rows, in order, in the table's schema.

        Raises:
            ModelError: Hardly any row that the model draws can be accepted.
        """
        for number in range(rows.start // self.block, -(-rows.stop // self.block) if rows else 0):
            first = number * self.block
            stop = min(rows.stop, first + self.block)
            batch = self._settled(number, self._draw(range(first, stop)))
            yield batch.slice(max(0, rows.start - first))

    def _settled(self, block: int, inner: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a block from its start, all of which satisfy the constraints."""
        batch, fine = self._judged(inner)
        self.proposed += len(fine)
        self.accepted += int(fine.sum())
        wanted = int(len(fine) - fine.sum())
        if not wanted:
            return batch
        spares: list[pa.RecordBatch] = []
        held = tried = 0
        while held < wanted:
            if tried >= TRIES * max(wanted, 10):
                raise ModelError(
                    f"of {tried} rows drawn again, {held} satisfy the constraints (and conditions): the model hardly "
                    "ever meets them; leave one out, or use another model"
                )
            extra, good = self._judged(self._spare(block, tried // self._piece, self._piece))
            tried += self._piece
            self.proposed += len(good)
            self.accepted += int(good.sum())
            if good.any():
                spares.append(extra.filter(pa.array(good)))
                held += spares[-1].num_rows
        return self._mended(batch, fine, spares)

    def _judged(self, inner: pa.RecordBatch) -> tuple[pa.RecordBatch, Mask]:
        batch, fine = self.table.restore(inner)
        return batch, fine if self._test is None else fine & self._test(batch)

    def _mended(self, batch: pa.RecordBatch, fine: Mask, spares: list[pa.RecordBatch]) -> pa.RecordBatch:
        """The batch with its failed rows replaced by the spares, in order."""
        whole = pa.Table.from_batches([batch, *spares]).unify_dictionaries().combine_chunks()
        rows = np.arange(batch.num_rows)
        rows[~fine] = batch.num_rows + np.arange(int((~fine).sum()))
        taken = pa.array(rows)
        arrays: list[Any] = []
        for field, column in zip(batch.schema, whole.columns):
            if field.name in self._own:
                arrays.append(batch.column(field.name))
            else:
                chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
                arrays.append(chunk.take(taken))
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
