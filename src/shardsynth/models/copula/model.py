"""The native Gaussian copula as a model: drawing rows, also under conditions, and completing rows.

A row is a pure function of (model file, seed, global row number): the same bytes for any number of tasks, batch size,
number of threads and CPU generation (``tables`` says why). This holds under conditions too: arithmetic that is not
exact is elementwise IEEE there, without library functions (``sampling.elementary``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from shardsynth.models.base import PreparedConditions
from shardsynth.models.columns.exact import with_exact_integers
from shardsynth.models.copula.block_kernel import kernel_of
from shardsynth.models.copula.class_rows import GroupedKernel, completed_by_group, grouped_sampler
from shardsynth.models.copula.columns import DrawPlan, finished, make_draw_plan
from shardsynth.models.copula.completion import complete
from shardsynth.models.copula.conditions import CopulaConditions
from shardsynth.models.copula.kernel import Kernel
from shardsynth.models.copula.parameters import CopulaParameters
from shardsynth.sampling.conditions import Conditions
from shardsynth.sampling.streams import stream_key


@dataclass(frozen=True)
class GaussianCopula(CopulaParameters):
    """A fitted copula from which rows are drawn; ``CopulaParameters`` describes its data."""

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the endless table that ``seed`` names.

        Args:
            seed: Any integer.
            first_row: Global number of the first row, from 0.
            n: Number of rows; 100,000 at a time is fast.
            conditions: The rows are drawn given these. ``prepare`` them once to draw several times.

        Returns:
            A batch whose schema equals ``schema``, metadata included.

        Raises:
            ConditionError: The conditions cannot be met.
        """
        prepared = None if conditions is None else self.prepare(conditions)
        plan, kernel = self._sampler if prepared is None else prepared.sampler()
        outputs = kernel.draw(stream_key(seed, self.name), first_row, n)
        drawn = finished(plan, outputs, n)
        arrays = [self.array(i, drawn, first_row, n) for i in range(len(self.columns))]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        return batch if prepared is None else with_exact_integers(batch, prepared.conditions)

    def prepare(self, conditions: Conditions | PreparedConditions) -> CopulaConditions:
        """Translate conditions for this model, for use in ``draw``; the result counts its proposals.

        Raises:
            ConditionError: They cannot be met; the message names the nearest value that can.
        """
        if isinstance(conditions, CopulaConditions):
            return conditions
        return CopulaConditions.of(self, conditions if isinstance(conditions, Conditions) else conditions.conditions)

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Complete rows; see ``completion.complete``."""
        if self.groups:
            return completed_by_group(self, rows, seed, first_row, complete)
        return complete(self, rows, seed, first_row)

    @cached_property
    def _sampler(self) -> tuple[DrawPlan, Kernel | GroupedKernel]:
        """Draw plan and kernel without conditions."""
        if self.groups:
            return grouped_sampler(self)
        plan = make_draw_plan(self.columns, self.latents, self.cuts, self.relations, self.forms)
        kernel = kernel_of(self.mixing, self.levels, plan.channels)
        return plan.with_rules(self.rules, self.columns), kernel
