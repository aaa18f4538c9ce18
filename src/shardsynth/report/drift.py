"""How far shards differ from the whole table, drawn as a strip of cells per column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardsynth.summaries.drift import MOST_GROUPS

#: Columns that are shown: those that drift most.
MOST_STRIPS = 15
#: Distance at which a cell is fully dark.
_FULL = 0.25


@dataclass(frozen=True)
class DriftCell:
    """One group of shards in a strip: place and width in SVG units, opacity from 0 to 1, and its tooltip."""

    x: float
    width: float
    opacity: float
    text: str


@dataclass(frozen=True)
class Strip:
    """One column.

    Attributes:
        name: Its name.
        cells: One per group of shards whose distance is known.
        largest: The largest total variation distance, as text.
        where: Number of the group that has it.
        chance: Distance that chance alone gives, as text.
    """

    name: str
    cells: tuple[DriftCell, ...]
    largest: str
    where: int
    chance: str


@dataclass(frozen=True)
class Drift:
    """The strips of the columns that drift most.

    Attributes:
        strips: Worst first.
        groups: Number of groups.
        joined: Whether a group is several shards.
    """

    strips: tuple[Strip, ...]
    groups: int
    joined: bool


def drift_strips(distances: Mapping[str, Any], width: float) -> Drift | None:
    """Strips of the columns that drift most.

    Args:
        distances: ``ShardHistograms.distances`` of the real rows.
        width: Width of a strip in SVG units.

    Returns:
        None where there are fewer than two groups of shards.
    """
    groups, columns = distances.get("groups") or [], distances.get("columns") or {}
    if len(groups) < 2 or not columns:
        return None
    worst = sorted(columns.items(), key=lambda item: -item[1]["excess"])[:MOST_STRIPS]
    strips = []
    for name, column in worst:
        cells = _cells(column["distance"], groups, width)
        largest, place = max((d, k) for k, d in enumerate(column["distance"]) if d is not None)
        strips.append(Strip(name, cells, f"{largest:.3f}", groups[place], f"{column['chance']:.3f}"))
    return Drift(tuple(strips), len(groups), len(groups) >= MOST_GROUPS)


def _cells(distances: list[float | None], groups: list[int], width: float) -> tuple[DriftCell, ...]:
    step = width / len(groups)
    return tuple(
        DriftCell(
            x=round(k * step, 2),
            width=round(step, 2),
            opacity=round(min(1.0, distance / _FULL), 3),
            text=f"{groups[k]}: {distance:.3f}",
        )
        for k, distance in enumerate(distances)
        if distance is not None
    )
