"""Several of SDV's Inequality and Range on the same columns: a model sees roots and gaps.

Two columns may lie below the same third one (a date of relapse and a date of death before the last visit), which no
chain expresses. In each row a column has a *floor*: the largest present value among the columns that must lie below it.
The model sees the gap above the floor or, where there is no floor, the value itself. Gaps are never negative, so
whatever a model draws is restored in order. No missing value is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.sampling.constraints.compared import ComparedColumns, numbers, read_numbers
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, Replacement, missing_of

#: A pair of columns (by place), lower and upper, and whether they must differ.
Edge = tuple[int, int, bool]


@dataclass(frozen=True)
class PartialOrderStep:
    """Columns in a partial order.

    Attributes:
        declarations: SDV's declarations.
        constrained: The columns; each comes after those that must lie below it.
        edges: What must lie below what, by place in ``constrained``.
        gaps: By column, the name of its gap; "" where no row has a floor for it.
        roots: By column, the name of its value where it has no floor; "" where each row that has the column has one.
    """

    declarations: tuple[dict[str, Any], ...]
    constrained: tuple[ConstrainedColumn, ...]
    edges: tuple[Edge, ...]
    gaps: tuple[str, ...]
    roots: tuple[str, ...]

    @property
    def declared(self) -> dict[str, Any]:
        """See ``Step``: the first one."""
        return self.declarations[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(c.column.name for c in self.constrained)

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``: all but the columns that never have a floor."""
        return tuple(name for name, gap in zip(self.columns, self.gaps) if gap)

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``: the columns that never have a floor."""
        return tuple(name for name, gap in zip(self.columns, self.gaps) if not gap)

    @cached_property
    def _compared(self) -> ComparedColumns:
        return ComparedColumns(self.constrained)

    @cached_property
    def _below(self) -> list[list[tuple[int, bool]]]:
        """By column: the places of the columns that must lie below it, and whether they must differ."""
        return [[(low, strict) for low, high, strict in self.edges if high == i] for i in range(len(self.constrained))]

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        number = pa.int64() if self._compared.whole else pa.float64()
        names = [name for gap, root in zip(self.gaps, self.roots) for name in ((root, gap) if gap else ()) if name]
        return tuple(Replacement(pa.field(name, number), {"sdtype": "numerical"}) for name in names)

    def _floor(
        self, i: int, values: Sequence[NDArray[Any]], missing: Sequence[Mask]
    ) -> tuple[NDArray[Any], Mask, Mask]:
        """Floor of column i, which rows have one, and in which the value must lie above it."""
        floor = np.zeros_like(values[0])
        has_floor = np.zeros(len(floor), np.bool_)
        above = np.zeros(len(floor), np.bool_)
        for low, strict in self._below[i]:
            present = ~missing[low]
            higher = present & (~has_floor | (values[low] > floor))
            equal = present & has_floor & (values[low] == floor)
            above = np.where(higher, strict, above | (equal & strict))
            floor = np.where(higher, values[low], floor)
            has_floor |= present
        return floor, has_floor, above

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        read = [self._compared.values(i, arrays[name]) for i, name in enumerate(self.columns)]
        values, missing = [v for v, _ in read], [m for _, m in read]
        replacements: dict[str, pa.Array] = {}
        for i, (gap_name, root_name) in enumerate(zip(self.gaps, self.roots)):
            if not gap_name:
                continue
            floor, has_floor, _ = self._floor(i, values, missing)
            gap = np.where(has_floor & ~missing[i], values[i] - floor, 0)
            if self._compared.digits is not None and not self._compared.whole:
                gap = np.round(gap, self._compared.digits)
            replacements[gap_name] = numbers(gap, missing[i] | ~has_floor)
            if root_name:
                replacements[root_name] = numbers(values[i], missing[i] | has_floor)
        return replacements

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        restored: dict[str, pa.Array] = {}
        values: list[NDArray[Any]] = []
        missing: list[Mask] = []
        broken = np.zeros(n, np.bool_)
        whole = self._compared.whole
        for i, (name, gap_name, root_name) in enumerate(zip(self.columns, self.gaps, self.roots)):
            if not gap_name:
                value, absent = self._compared.values(i, arrays[name])
                values.append(value)
                missing.append(absent)
                continue
            floor, has_floor, above = self._floor(i, values, missing)
            gap, no_gap = read_numbers(arrays[gap_name], whole)
            least = floor + above if whole else floor
            value = np.maximum(floor + gap, least)
            absent = no_gap | ~has_floor
            if root_name:  # a model may draw a root where there is a floor: then it is moved up to it
                root, no_root = read_numbers(arrays[root_name], whole)
                value = np.where(has_floor & no_gap, np.maximum(root, least), np.where(has_floor, value, root))
                absent = np.where(has_floor, no_gap & no_root, no_root)
            written, _ = self._compared.put(restored, i, value, absent, np.where(has_floor, floor, value))
            broken |= has_floor & ~absent & ((written < floor) | (above & (written <= floor)))
            values.append(written)
            missing.append(absent)
        return restored, broken

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``."""
        read = [self._compared.values(i, arrays[name]) for i, name in enumerate(self.columns)]
        valid = np.ones(n, np.bool_)
        for low, high, strict in self.edges:
            in_order = read[high][0] > read[low][0] if strict else read[high][0] >= read[low][0]
            valid &= in_order | read[high][1] | read[low][1]
        return valid

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "partial_order",
            "declarations": list(self.declarations),
            "held": [c.to_json() for c in self.constrained],
            "edges": [list(edge) for edge in self.edges],
            "gaps": list(self.gaps),
            "roots": list(self.roots),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> PartialOrderStep:
        """Inverse of ``to_json``."""
        return cls(
            tuple(data["declarations"]),
            tuple(ConstrainedColumn.from_json(c, schema) for c in data["held"]),
            tuple((int(low), int(high), bool(strict)) for low, high, strict in data["edges"]),
            tuple(data["gaps"]),
            tuple(data["roots"]),
        )


def sorted_edges(pairs: Sequence[tuple[str, str, bool]]) -> tuple[list[str], tuple[Edge, ...]] | None:
    """Columns, each after those that must lie below it, and the pairs by place; None if they go in a circle.

    Args:
        pairs: Lower column, upper column, whether they must differ.
    """
    waiting = list(dict.fromkeys(name for low, high, _ in pairs for name in (low, high)))
    names: list[str] = []
    while waiting:
        ready = [name for name in waiting if all(low in names for low, high, _ in pairs if high == name)]
        if not ready:
            return None
        names += ready
        waiting = [name for name in waiting if name not in ready]
    strict: dict[tuple[int, int], bool] = {}
    for low, high, differ in pairs:
        edge = names.index(low), names.index(high)
        strict[edge] = strict.get(edge, False) or differ
    return names, tuple((low, high, differ) for (low, high), differ in sorted(strict.items()))


def between(edges: Sequence[Edge]) -> list[Edge]:
    """Pairs that follow from others, which say nothing of a row without the column between them; not strict."""
    below: dict[int, set[int]] = {}
    for low, high, _ in sorted(edges, key=lambda edge: edge[1]):  # each column comes after those below it
        below.setdefault(high, set()).update({low}, below.get(low, set()))
    direct = {(low, high) for low, high, _ in edges}
    pairs = ((low, high) for high, lows in below.items() for low in lows)
    return [(low, high, False) for low, high in sorted(pairs) if (low, high) not in direct]


def has_roots(names: Sequence[str], edges: Sequence[Edge], arrays: Arrays) -> list[bool]:
    """By column: whether some row has it, but none of the columns that must lie below it."""
    missing = [missing_of(arrays[name]) for name in names]
    answers = []
    for i in range(len(names)):
        alone = ~missing[i]
        for low in (low for low, high, _ in edges if high == i):
            alone &= missing[low]
        answers.append(bool(alone.any()))
    return answers
