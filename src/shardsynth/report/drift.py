"""Distances of shards from the whole table -> a strip of cells per column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Columns that are shown, those that drift most.
MOST_STRIPS = 15
#: Distance at which a cell is fully dark.
_FULL = 0.25


@dataclass(frozen=True)
class Cell:
    """One group of shards: where it lies, how dark it is, what it says."""

    x: float
    width: float
    opacity: float
    text: str


@dataclass(frozen=True)
class Strip:
    """One column: its cells, and its largest distance, as text."""

    name: str
    cells: tuple[Cell, ...]
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


def drift_strips(found: Mapping[str, Any], width: float) -> Drift | None:
    """The figure, or None with fewer than two groups of shards."""
    from shardsynth.summaries.drift import MOST_GROUPS

    groups, columns = found.get("groups") or [], found.get("columns") or {}
    if len(groups) < 2 or not columns:
        return None
    worst = sorted(columns.items(), key=lambda item: -item[1]["excess"])[:MOST_STRIPS]
    strips = []
    for name, column in worst:
        distances = column["distance"]
        known = [(d, k) for k, d in enumerate(distances) if d is not None]
        largest, where = max(known)
        strips.append(
            Strip(name, _cells(distances, groups, width), f"{largest:.3f}", groups[where], f"{column['chance']:.3f}")
        )
    return Drift(tuple(strips), len(groups), len(groups) >= MOST_GROUPS)


def _cells(distances: list[float | None], groups: list[int], width: float) -> tuple[Cell, ...]:
    step = width / len(groups)
    return tuple(
        Cell(round(k * step, 2), round(step, 2), round(min(1.0, distance / _FULL), 3), f"{groups[k]}: {distance:.3f}")
        for k, distance in enumerate(distances)
        if distance is not None
    )
