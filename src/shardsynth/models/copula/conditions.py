"""Rows of a copula under conditions, by rejection of proposals for the conditioned latents, not of rows.

The conditions are boxes of a few latents (``boxes``). These latents x are drawn exactly by ``sampling.tilting``, and
all others given them: z = F e + B x. x lies on the fixed-point grid, so that the product stays exact. The rest is
elementwise IEEE arithmetic without library functions (``sampling.elementary``). So rows under conditions, too, are the
same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import ConditionError
from shardsynth.models.copula.block_kernel import kernel_of
from shardsynth.models.copula.boxes import END, Alternative, Compiler, InexpressibleError, joined, open_ends
from shardsynth.models.copula.class_rows import GroupedKernel, Remembered, of_group, target_latent
from shardsynth.models.copula.columns import DrawPlan, make_draw_plan, uneven_latents
from shardsynth.models.copula.factor import Factor, total
from shardsynth.models.copula.kernel import Kernel
from shardsynth.models.copula.tables import Integers, check_exact, odd
from shardsynth.sampling.conditions import Conditions
from shardsynth.sampling.elementary import exp, interval
from shardsynth.sampling.streams import random_words, uniforms
from shardsynth.sampling.tilting import Boxes, TiltedSampler

if TYPE_CHECKING:
    from shardsynth.models.copula.parameters import CopulaParameters

Floats = NDArray[np.float64]

_MOST_ATTEMPTS = 5_000
_ROWS_AT_ONCE = 4_096


class CopulaConditions:
    """Conditions compiled for one copula.

    Attributes:
        conditions: The conditions before they were compiled.
        proposals: Proposals made so far for the conditioned latents.
        accepted: Rows made so far.
    """

    def __init__(
        self,
        model: CopulaParameters,
        conditions: Conditions,
        compiled: Sequence[Compiler],
        boxes: Sequence[Alternative],
    ) -> None:
        self.conditions = conditions
        self.proposals = 0
        self.accepted = 0
        self._model, self._compiled = model, compiled
        self._sampler: tuple[DrawPlan, Kernel | GroupedKernel] | None = None
        used = {latent for box in boxes for latent in box.ranges}
        ends = {latent: [box.ranges.get(latent, (-END, END)) for box in boxes] for latent in used}
        # The most restricted latent first: then the fewest proposals are rejected.
        self._latents = sorted(used, key=lambda latent: (_mass(ends[latent]), latent))
        if self._latents:
            low, high = (np.array([[e[i] for e in ends[x]] for x in self._latents]).T for i in (0, 1))
            self._low, self._high = low, high
            box_weights = np.array([box.weight for box in boxes])
            self._tilted = TiltedSampler(
                model.correlation[np.ix_(self._latents, self._latents)],
                Boxes(open_ends(low), open_ends(high), box_weights),
            )

    @classmethod
    def of(cls, model: CopulaParameters, conditions: Conditions) -> CopulaConditions:
        """Compile conditions for a copula.

        Raises:
            ConditionError: They cannot be met; the message names what can be met instead.
        """
        if not model.groups:
            compiler = Compiler(model)
            return cls(model, conditions, [compiler], compiler.boxes(conditions))
        latent = target_latent(model)
        edges = [-END, *model.cuts[latent].tolist(), END]
        compilers, boxes, refused = [], [], []
        of_target = Conditions(tuple(conditions.on(model.schema.names[model.target])))
        for group in model.groups:
            own = of_group(model, group)
            compilers.append(Compiler(own))
            within = joined([Alternative({latent: (edges[k], edges[k + 1])}) for k in group.segments])
            try:
                found = compilers[-1].boxes(conditions)
            except ConditionError as error:
                # Rows of this group must not be left out in silence, unless the target's conditions do so.
                if isinstance(error, InexpressibleError) and _both(Compiler(own).boxes(of_target), within):
                    raise
                refused.append(error)
                continue
            boxes += _both(found, within)
        if not boxes:
            raise refused[0] if refused else ConditionError(f"{conditions}: contradictory")
        return cls(model, conditions, compilers, boxes)

    @property
    def probability(self) -> float | None:
        """Estimated probability of the conditions under the model; None before the first row."""
        if not self._latents:
            return 1.0
        if not self.proposals:
            return None
        return float(np.exp(self._tilted.log_envelope)) * self.accepted / self.proposals

    def acceptance(self) -> dict[str, int]:
        """Number of proposals and of accepted rows since the last call."""
        counts = {"proposals": self.proposals, "accepted": self.accepted}
        self.proposals = self.accepted = 0
        return counts

    def sampler(self) -> tuple[DrawPlan, Kernel | GroupedKernel]:
        """Draw plan and kernel of the rows under these conditions."""
        if self._sampler is None:
            model = self._model
            factor: Factor = model.mixing
            fixed: Remembered | None = None
            if self._latents:
                factor, fixed = factor.given(self._latents), Remembered(self._draw_fixed)
                check_exact(factor.whole, max(int(model.levels.max()), END))
            uneven = uneven_latents(model.latents, [c.columns for c in self._compiled])
            plans = [
                make_draw_plan(c.columns, model.latents, c.cuts, model.relations, model.forms, uneven)
                for c in self._compiled
            ]
            plans = [plan.with_rules(model.rules, model.columns, self._latents) for plan in plans]
            one = len(plans) == 1
            kernels = [
                kernel_of(
                    factor,
                    model.levels,
                    plan.channels,
                    fixed=None if fixed is None else fixed.draw if one else fixed,
                )
                for plan in plans
            ]
            if one:
                self._sampler = plans[0], kernels[0]
            else:
                grouped = GroupedKernel(plans[0], kernels, model.groups, target_latent(model), fixed)
                self._sampler = plans[0], grouped
        return self._sampler

    def _draw_fixed(self, key: tuple[int, int], first_row: int, n: int) -> Integers:
        """The conditioned latents of rows, int64[n, c], odd units of 2^-22: each row's first accepted proposal."""
        out = np.empty((n, len(self._latents)), np.int64)
        for start in range(0, n, _ROWS_AT_ONCE):
            self._draw_some(key, first_row + start, out[start : start + _ROWS_AT_ONCE])
        return out

    def _draw_some(self, key: tuple[int, int], first_row: int, out: Integers) -> None:
        """Fill ``out``. Attempt t of a row takes its words from layer t + 1 of the stream, however rows are split."""
        waiting = np.arange(len(out))
        for attempt in range(_MOST_ATTEMPTS):
            start, stop = int(waiting[0]), int(waiting[-1]) + 1
            words = random_words(key, first_row + start, stop - start, self._tilted.uniforms, layer=attempt + 1)
            points, accepted, box = self._tilted.propose(uniforms(words[waiting - start]))
            points = np.clip(odd(points), self._low[box] + 1, self._high[box] - 1)
            out[waiting[accepted]] = points[accepted]
            self.proposals += len(waiting)
            waiting = waiting[~accepted]
            if not len(waiting):
                self.accepted += len(out)
                return
        raise ConditionError(
            f"{self.conditions.said}: too improbable to sample ({_MOST_ATTEMPTS} proposals for one row); "
            "relax one of them"
        )


def _both(boxes: Sequence[Alternative], others: Sequence[Alternative]) -> list[Alternative]:
    """The intersections of two unions of boxes."""
    return [box for x, y in product(boxes, others) if (box := x.and_(y)) is not None]


def _mass(ends: Sequence[tuple[int, int]]) -> float:
    """Probability of a union of intervals of one latent, overlaps counted once."""
    unique = sorted(set(ends))
    low = np.array([a for a, _ in unique])
    high = np.array([b for _, b in unique])
    return min(1.0, total(exp(interval(open_ends(low), open_ends(high)).log_probability)))
