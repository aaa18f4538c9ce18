"""Survival curves on their grid -> the points of steps and bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardsynth.report.text import short_number


@dataclass(frozen=True)
class SurvivalPlot:
    """One model's curve over the real ones, in the drawing's own units.

    Attributes:
        real: Points of the real curve's steps.
        band: Points of the polygon of its interval.
        synthetic: Points of the synthetic curve's steps.
        holdout: Points of the holdout's, or empty.
        ticks: (x, text) of the time axis.
        summary: The figures in words.
        time: Name of the time column.
    """

    real: str
    band: str
    synthetic: str
    holdout: str
    ticks: tuple[tuple[float, str], ...]
    summary: str
    time: str


def survival_plot(figures: Mapping[str, Any], width: float, height: float) -> SurvivalPlot | None:
    """Curves scaled into a box of ``width`` x ``height``; None where there are none."""
    curves, grid = figures.get("curves") or {}, figures.get("grid") or []
    if len(grid) < 2 or not {"real", "synthetic"} <= set(curves):
        return None
    scale = width / grid[-1]

    def steps(values: Sequence[float | None]) -> list[tuple[float, float]]:
        points: list[tuple[float, float]] = []
        for at, value in zip(grid, values):
            if value is None:
                break
            if points:
                points.append((at * scale, points[-1][1]))
            points.append((at * scale, (1 - value) * height))
        return points

    low, high = (steps(curves["real"][key]) for key in ("low", "high"))
    step = next(s for k in range(-12, 16) for s in (10.0**k, 2 * 10.0**k, 5 * 10.0**k) if grid[-1] / s <= 6)
    ticks = tuple((k * step * scale, short_number(k * step, step)) for k in range(int(grid[-1] / step + 1e-9) + 1))
    holdout = steps(curves["holdout"]["survival"]) if "holdout" in curves else []
    return SurvivalPlot(
        real=_points(steps(curves["real"]["survival"])),
        band=_points([*high, *low[::-1]]),
        synthetic=_points(steps(curves["synthetic"]["survival"])),
        holdout=_points(holdout),
        ticks=ticks,
        summary=_summary(figures),
        time=str(figures.get("time", "")),
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _summary(figures: Mapping[str, Any]) -> str:
    def told(value: Any) -> str:
        return "p not known" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"

    parts = [f"log-rank against real rows {told(figures.get('logrank_p'))}"]
    if figures.get("largest_gap") is not None:
        parts.append(f"largest gap {figures['largest_gap']:.3f}")
    held = figures.get("holdout") or {}
    if held:
        gap = "" if held.get("largest_gap") is None else f", gap {held['largest_gap']:.3f}"
        parts.append(f"holdout {told(held.get('logrank_p'))}{gap}")
    return "; ".join(parts)
