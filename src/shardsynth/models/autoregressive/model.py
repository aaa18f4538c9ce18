"""Rows of an autoregressive model: without conditions, under them, and completed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from shardsynth.models.autoregressive.completion import complete
from shardsynth.models.autoregressive.conditions import Prepared
from shardsynth.models.autoregressive.parameters import AutoregressiveParameters
from shardsynth.models.autoregressive.sampler import Drawing, in_blocks, lanes_of, places
from shardsynth.models.base import PreparedConditions
from shardsynth.models.columns.exact import with_exact_integers
from shardsynth.sampling.conditions import Conditions
from shardsynth.sampling.streams import stream_key


@dataclass(frozen=True)
class AutoregressiveModel(AutoregressiveParameters):
    """A trained model that can be drawn; what it consists of stands in ``AutoregressiveParameters``."""

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the endless table that ``seed`` names.

        Args:
            seed: Any integer.
            first_row: Global number of the first row, from 0.
            n: Number of rows; calls of 32,768 and more are the fastest per row.
            conditions: Draw from the distribution given these; ``prepare`` them once for repeated calls.

        Returns:
            A batch whose schema equals ``schema``, metadata included.

        Raises:
            ConditionError: The conditions cannot be met.
        """
        key = stream_key(seed, self.name)
        prepared = None if conditions is None else self.prepare(conditions)
        if prepared is not None:
            codes, lanes = prepared.codes(key, first_row, n, self.threads)
            writer = prepared.writer
        else:
            if not self.coding.columns:
                return self.assembled({}, first_row, n)
            writer, drawing = self.writer, self.drawing

            def make(block: int) -> list[Any]:
                block_lanes = lanes_of(key, block, len(self.coding.columns))
                return [drawing.block(block_lanes), block_lanes.places]

            codes, lanes = in_blocks(first_row, n, self.threads, make)
        arrays = writer.arrays(codes, lambda column: places(lanes[column]))
        batch = self.assembled(arrays, first_row, n)
        return batch if prepared is None else with_exact_integers(batch, prepared.conditions)

    def prepare(self, conditions: Conditions | PreparedConditions) -> Prepared:
        """Conditions in terms of this model, for repeated calls of ``draw``; they count their proposals.

        Raises:
            ConditionError: The conditions cannot be met; the error says what is possible instead.
        """
        if isinstance(conditions, Prepared):
            return conditions
        return Prepared.of(self, conditions if isinstance(conditions, Conditions) else conditions.conditions)

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Rows with their missing values filled in, given the values that they have; see ``completion.complete``."""
        return complete(self, rows, seed, first_row)

    @cached_property
    def drawing(self) -> Drawing:
        """Draws rows without conditions."""
        weights = self.balance_weights
        return Drawing(
            self.sampler, self.order, calibrated=not weights, balance_weights=weights, together=self.together
        )
