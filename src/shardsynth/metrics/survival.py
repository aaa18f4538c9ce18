"""Survival: Kaplan-Meier curves of real and synthetic rows on a grid of round times, and the log-rank test.

The curves of real rows are told on the grid only, in steps of a few rows, and only as long as enough of them are at
risk: no single death can be read off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.values import decoded

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_POINTS = 50
_Z = 1.959964


def survival(
    time: str,
    event: str,
    value: Any,
    tables: Mapping[str, pa.Table],
    min_count: int,
) -> dict[str, Any]:
    """Survival figures in the form of ``metrics/<model>.json``; empty where there are too few rows.

    Args:
        time: Column of follow-up times, a number.
        event: Column that says whether the event happened: true, 1 or ``value``; else the row is censored.
        value: The event's value where the column is text.
        tables: ``real``, ``synthetic`` and perhaps ``holdout`` rows.
        min_count: Fewest real rows at risk where a curve is told, and its step.
    """
    known = {name: _followed(table, time, event, value) for name, table in tables.items()}
    known = {name: found for name, found in known.items() if len(found[0]) >= max(20, 2 * min_count)}
    if not {"real", "synthetic"} <= set(known):
        return {}
    grid = _grid(known["real"][0])
    curves: dict[str, Any] = {}
    for name, (times, happened) in known.items():
        curves[name] = _curve(times, happened, grid, min_count if name != "synthetic" else 1)
    made = _first(known["synthetic"], len(known["real"][0]))
    found: dict[str, Any] = {
        "time": time,
        "event": event,
        "grid": grid.tolist(),
        "curves": curves,
        "rows": {name: len(times) for name, (times, _) in known.items()},
        "logrank_p": _logrank(known["real"], made),
        "largest_gap": _gap(curves["real"], curves["synthetic"]),
    }
    if "holdout" in known:
        rows = len(known["holdout"][0])
        found["holdout"] = {
            "logrank_p": _logrank(known["real"], known["holdout"]),
            "largest_gap": _gap(curves["real"], curves["holdout"]),
            "rows": rows,
        }
        found["at_holdout_rows"] = {"logrank_p": _logrank(known["real"], _first(known["synthetic"], rows))}
    return found


def _followed(table: pa.Table, time: str, event: str, value: Any) -> tuple[Floats, Mask]:
    """Times and whether the event happened, of the rows that have both."""
    times = decoded(table[time]).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    status = decoded(table[event])
    absent = np.asarray(status.is_null().to_numpy(zero_copy_only=False), np.bool_)
    if value is not None:
        texts = status.cast(pa.string())
        happened = np.asarray(pc.fill_null(pc.equal(texts, str(value)), False).to_numpy(zero_copy_only=False), np.bool_)
    else:
        numbers = status.cast(pa.int8()) if pa.types.is_boolean(status.type) else status
        happened = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) > 0
    usable = ~absent & np.isfinite(times) & (np.nan_to_num(times, nan=-1.0) >= 0)
    return times[usable], happened[usable]


def _first(found: tuple[Floats, Mask], rows: int) -> tuple[Floats, Mask]:
    return found[0][:rows], found[1][:rows]


def _grid(times: Floats) -> Floats:
    """Round times from 0 to about the 95th percentile of the real ones."""
    end = float(np.quantile(times, 0.95)) or 1.0
    rough = end / _POINTS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return np.round(np.arange(math.floor(end / step) + 1) * step, 12)


def kaplan_meier(times: Floats, happened: Mask, grid: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Kaplan and Meier's (1958) estimate, Greenwood's standard error and the rows at risk, at each time of the grid."""
    moments = np.unique(times[happened])
    at_risk = len(times) - np.searchsorted(np.sort(times), moments, side="left")
    deaths = np.unique(times[happened], return_counts=True)[1]
    factor = np.cumprod(1.0 - deaths / np.maximum(at_risk, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.cumsum(np.where(at_risk > deaths, deaths / (at_risk * (at_risk - deaths)), 0.0))
    place = np.searchsorted(moments, grid, side="right")
    alive = np.concatenate([[1.0], factor])[place]
    error = alive * np.sqrt(np.concatenate([[0.0], spread])[place])
    return alive, error, len(times) - np.searchsorted(np.sort(times), grid, side="left")


def _curve(times: Floats, happened: Mask, grid: Floats, least: int) -> dict[str, list[float | None]]:
    alive, error, at_risk = kaplan_meier(times, happened, grid)
    step = max(0.005, least / len(times)) if least > 1 else 0.0005

    def told(values: Floats) -> list[float | None]:
        rounded = np.clip(np.round(values / step) * step, 0.0, 1.0)
        return [round(float(v), 6) if n >= max(least, 1) else None for v, n in zip(rounded, at_risk)]

    return {"survival": told(alive), "low": told(alive - _Z * error), "high": told(alive + _Z * error)}


def _gap(first: dict[str, list[float | None]], second: dict[str, list[float | None]]) -> float | None:
    pairs = [(a, b) for a, b in zip(first["survival"], second["survival"]) if a is not None and b is not None]
    return round(max(abs(a - b) for a, b in pairs), 6) if pairs else None


def _logrank(first: tuple[Floats, Mask], second: tuple[Floats, Mask]) -> float | None:
    from scipy.stats import CensoredData, logrank

    sides = [CensoredData.right_censored(times, ~happened) for times, happened in (first, second)]
    if not (first[1].any() and second[1].any()):
        return None
    p = float(logrank(*sides).pvalue)
    return p if math.isfinite(p) else None
