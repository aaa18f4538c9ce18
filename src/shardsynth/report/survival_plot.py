"""From survival curves on a grid to the points of their steps and of the band around the real curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardsynth.report.text import short_number


@dataclass(frozen=True)
class SurvivalPlot:
    """The survival curve of one model beside the real ones. Points are ``x,y x,y ...`` in SVG units.

    Attributes:
        real: Steps of the real curve.
        band: Polygon of its 95 % interval.
        synthetic: Steps of the synthetic curve.
        holdout: Steps of the holdout's curve, or empty.
        ticks: Place and text of each mark of the time axis.
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
    """Survival curves in a box.

    Args:
        figures: ``utility.survival`` of a model's metrics.
        width: Width of the box, in SVG units.
        height: Its height.

    Returns:
        None where the model has no survival curves.
    """
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
    """P-values and largest gaps between the curves, in words."""

    def p_text(value: Any) -> str:
        return "p not known" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"

    parts = [f"log-rank against real rows {p_text(figures.get('logrank_p'))}"]
    if figures.get("largest_gap") is not None:
        parts.append(f"largest gap {figures['largest_gap']:.3f}")
    holdout = figures.get("holdout") or {}
    if holdout:
        gap = "" if holdout.get("largest_gap") is None else f", gap {holdout['largest_gap']:.3f}"
        parts.append(f"holdout {p_text(holdout.get('logrank_p'))}{gap}")
    ends = figures.get("other_ends") or {}
    if ends:
        rows = ", ".join(f"{n:,}" for n in ends["rows"])
        parts.append(
            f"{ends['codes']} other codes (on {rows} rows) count as censored, also one that means another end (a "
            "competing event)"
        )
    return "; ".join(parts)
