"""Rows of a CTGAN, CopulaGAN or TVAE, without conditions and under them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardsynth.errors import ConditionError
from shardsynth.models.base import PreparedConditions
from shardsynth.models.columns.exact import with_exact_integers
from shardsynth.models.columns.files import unlearned_array
from shardsynth.models.ctgan.conditions import DeepConditions
from shardsynth.models.ctgan.parameters import DeepParameters
from shardsynth.models.ctgan.sampler import Drawn
from shardsynth.sampling.conditions import Conditions
from shardsynth.sampling.streams import stream_key


@dataclass(frozen=True)
class DeepModel(DeepParameters):
    """A trained model that can be drawn; what it consists of stands in ``DeepParameters``."""

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the endless table that ``seed`` names.

        Args:
            seed: Any integer.
            first_row: Global number of the first row, from 0.
            n: Number of rows; calls of 32,768 and more are the fastest per row.
            conditions: Draw rows that meet these; ``prepare`` them once for repeated calls.

        Returns:
            A batch whose schema equals ``schema``, metadata included.

        Raises:
            ConditionError: The conditions cannot be met.
        """
        prepared = None if conditions is None else self.prepare(conditions)
        if prepared is None:
            drawn = self.sampler.draw(stream_key(seed, self.name), first_row, n, threads=self.threads)
        else:
            drawn = prepared.draw(seed, first_row, n)
        arrays = self._learned(drawn)
        columns = [
            arrays[c.name]
            if c.name in arrays
            else unlearned_array(c, f.type, first_row, n, self.forms, self.generators)
            for c, f in zip(self.coding.table, self.schema)
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return batch if prepared is None else with_exact_integers(batch, prepared.conditions)

    def prepare(self, conditions: Conditions | PreparedConditions) -> DeepConditions:
        """Conditions in terms of this model; a pilot measures what share of the proposals they accept.

        Raises:
            ConditionError: The conditions cannot be met, or too few rows of the pilot met them.
        """
        if isinstance(conditions, DeepConditions):
            return conditions
        return DeepConditions(self, conditions if isinstance(conditions, Conditions) else conditions.conditions)

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Not possible: these networks make whole rows.

        Raises:
            ConditionError: Always.
        """
        raise ConditionError(f"{self.options.family} cannot complete rows; gaussian_copula and autoregressive can")

    def _learned(self, drawn: Drawn) -> dict[str, pa.Array]:
        """Arrow arrays of the learned columns by name; each thread makes one at a time."""

        def array(number: int) -> pa.Array:
            raw, missing = self.raw(drawn, number)
            form = self.forms[self.coding.columns[number].name]
            return form.array(np.ascontiguousarray(form.of_raw(raw)), missing)

        # SDV's networks, in an imported model, also learn columns that are always missing.
        numbers = {c.name: i for i, c in enumerate(self.coding.columns) if c.fit.treatment != "empty"}
        if self.threads <= 1:
            return {name: array(number) for name, number in numbers.items()}
        with ThreadPoolExecutor(self.threads) as pool:
            return dict(zip(numbers, pool.map(array, numbers.values())))
