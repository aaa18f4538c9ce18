"""Rows of the native Gaussian copula, at disk speed.

A row is a pure function of (model file, seed, global row number): the same bytes for any task count, batch size,
thread count and CPU generation (``tables`` says why). Rows under conditions are, too; there the
arithmetic that is not exact is elementwise IEEE without library functions (``sampling.elementary``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from shardsynth.models.base import PreparedConditions
from shardsynth.models.copula.columns import Plan, finished, make_plan
from shardsynth.models.copula.completion import complete
from shardsynth.models.copula.conditions import Prepared
from shardsynth.models.copula.kernel import Kernel
from shardsynth.models.copula.parameters import CopulaParameters
from shardsynth.sampling.conditions import Conditions
from shardsynth.sampling.streams import stream_key


@dataclass(frozen=True)
class GaussianCopula(CopulaParameters):
    """A fitted copula that can be drawn; what it consists of stands in ``CopulaParameters``."""

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the endless table that ``seed`` names.

        Args:
            seed: Any integer.
            first_row: Global number of the first row, from 0.
            n: Rows; 100,000 at a time is fast.
            conditions: Draw from the distribution given these; ``prepare`` them once when drawing repeatedly.

        Returns:
            A batch whose schema equals ``schema``, metadata included.

        Raises:
            ConditionError: The conditions cannot be met.
        """
        plan, kernel = self._sampler if conditions is None else self.prepare(conditions).sampler()
        outputs = kernel.draw(stream_key(seed, self.name), first_row, n)
        drawn = finished(plan, outputs, n)
        arrays = [self.array(i, drawn, first_row, n) for i in range(len(self.columns))]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def prepare(self, conditions: Conditions | PreparedConditions) -> Prepared:
        """Conditions in terms of this model: cheap to draw under, and they count their proposals.

        Raises:
            ConditionError: They cannot be met; names the nearest that can.
        """
        if isinstance(conditions, Prepared):
            return conditions
        return Prepared.of(self, conditions if isinstance(conditions, Conditions) else conditions.conditions)

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Rows with what they lack drawn given what they have; see ``completion.complete``."""
        return complete(self, rows, seed, first_row)

    @cached_property
    def _sampler(self) -> tuple[Plan, Kernel]:
        """Plan and kernel without conditions."""
        plan = make_plan(self.columns, self.latents, self.cuts, self.relations, self.forms)
        return plan, Kernel(self.factor.astype(np.int64), self.levels, plan.channels)
