"""Rows of the native Gaussian copula, at disk speed.

A row is a pure function of (model file, seed, global row number): the same bytes for any task count, batch size,
thread count, CPU generation and device (``tables`` says why). Rows under conditions are, too; there the
arithmetic that is not exact is elementwise IEEE without library functions (``sampling.elementary``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from shardsynth.models.copula.arrays import arrays_for
from shardsynth.models.copula.columns import Plan, finished, make_plan
from shardsynth.models.copula.kernel import Kernel
from shardsynth.sampling.streams import stream_key

if TYPE_CHECKING:
    from shardsynth.models.copula.conditions import Prepared
    from shardsynth.sampling.conditions import Conditions


from shardsynth.models.copula.parameters import CopulaParameters


@dataclass(frozen=True)
class GaussianCopula(CopulaParameters):
    """A fitted copula that can be drawn; what it consists of stands in ``CopulaParameters``."""

    def draw(
        self,
        seed: int,
        first_row: int,
        n: int,
        conditions: Conditions | Prepared | None = None,
        *,
        device: str | None = None,
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the endless table that ``seed`` names.

        Args:
            seed: Any integer.
            first_row: Global number of the first row, from 0.
            n: Rows; 100,000 at a time is fast.
            conditions: Draw from the distribution given these; ``prepare`` them once when drawing repeatedly.
            device: None for NumPy; ``cpu`` or ``cuda`` for torch. The same rows from each.

        Returns:
            A batch whose schema equals ``schema``, metadata included.

        Raises:
            ConditionError: The conditions cannot be met.
        """
        plan, kernel = self._sampler(device) if conditions is None else self.prepare(conditions).sampler(device)
        outputs = kernel.draw(stream_key(seed, self.name), first_row, n)
        drawn = finished(plan, outputs, n)
        arrays = [self.array(i, drawn, first_row, n) for i in range(len(self.columns))]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def prepare(self, conditions: Conditions | Prepared) -> Prepared:
        """Conditions in terms of this model: cheap to draw under, and they count their proposals.

        Raises:
            ConditionError: They cannot be met; names the nearest that can.
        """
        from shardsynth.models.copula.conditions import Prepared

        return conditions if isinstance(conditions, Prepared) else Prepared.of(self, conditions)

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Rows with what they lack drawn given what they have; see ``completion.complete``."""
        from shardsynth.models.copula.completion import complete

        return complete(self, rows, seed, first_row)

    @cached_property
    def _samplers(self) -> dict[str | None, tuple[Plan, Kernel]]:
        return {}

    def _sampler(self, device: str | None) -> tuple[Plan, Kernel]:
        """Plan and kernel without conditions; made at the first draw on a device, then kept."""
        if device not in self._samplers:
            plan = make_plan(self.columns, self.latents, self.cuts, self.relations, self.forms)
            kernel = Kernel(self.factor.astype(np.int64), self.levels, plan.channels, arrays_for(device))
            self._samplers[device] = plan, kernel
        return self._samplers[device]
