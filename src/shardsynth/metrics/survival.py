"""Survival: Kaplan-Meier curves of real and synthetic rows on a grid of round times, and the log-rank test.

Curves of real rows are given on the grid only, rounded to steps of a few rows, and only where enough rows are at risk.
So no single death can be read from them.
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
from shardsynth.metrics.intervals import Z95
from shardsynth.metrics.persons import persons_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_POINTS = 50
_MOST_ENDS = 20


def survival(
    time: str,
    event: str,
    value: Any,
    tables: Mapping[str, pa.Table],
    min_count: int,
) -> dict[str, Any]:
    """Survival figures in the form of ``metrics/<model>.json``.

    Args:
        time: Column of follow-up times, a number.
        event: Column that says whether the event happened. Without ``value``: true, or a number above 0. Other rows are
            censored.
        value: The value of ``event`` that means that it happened, for example if the column is text.
        tables: ``real``, ``synthetic`` and perhaps ``holdout`` rows.
        min_count: Fewest real rows at risk where a curve is given. Its steps are at least so many rows high. Of a
            table that knows its persons: persons.

    Returns:
        ``grid``, ``curves`` (by table: ``survival``, ``low`` and ``high`` on the grid, None where too few rows are at
        risk), ``rows`` by table, ``logrank_p``, ``largest_gap``; the same comparisons for ``holdout`` and
        ``at_holdout_rows``; ``other_ends`` where rows end in several other ways. Empty if
        the real or the synthetic table has too few rows.
    """
    sides: dict[str, tuple[Floats, Mask]] = {}
    people: dict[str, npt.NDArray[np.uint64]] = {}
    for name, table in tables.items():
        usable, times, happened = _follow_up(table, time, event, value)
        sides[name] = (times, happened)
        if (persons := persons_of(table)) is not None:
            people[name] = persons[usable]
    sides = {name: side for name, side in sides.items() if len(side[0]) >= max(20, 2 * min_count)}
    if not {"real", "synthetic"} <= set(sides):
        return {}
    grid = _grid(sides["real"][0])
    curves: dict[str, Any] = {}
    for name, (times, happened) in sides.items():
        curves[name] = _curve(times, happened, grid, min_count if name != "synthetic" else 1, people.get(name))
    synthetic = _first(sides["synthetic"], len(sides["real"][0]))
    figures: dict[str, Any] = {
        "time": time,
        "event": event,
        "grid": grid.tolist(),
        "curves": curves,
        "rows": {name: len(times) for name, (times, _) in sides.items()},
        "logrank_p": _logrank(sides["real"], synthetic),
        "largest_gap": _gap(curves["real"], curves["synthetic"]),
    }
    ends = _other_ends(tables["real"], event, value, min_count)
    if ends is not None:
        figures["other_ends"] = ends
    if "holdout" in sides:
        rows = len(sides["holdout"][0])
        figures["holdout"] = {
            "logrank_p": _logrank(sides["real"], sides["holdout"]),
            "largest_gap": _gap(curves["real"], curves["holdout"]),
            "rows": rows,
        }
        figures["at_holdout_rows"] = {"logrank_p": _logrank(sides["real"], _first(sides["synthetic"], rows))}
    return figures


def _follow_up(table: pa.Table, time: str, event: str, value: Any) -> tuple[Mask, Floats, Mask]:
    """bool[rows], which rows have both time and event; of these the times, and whether the event happened."""
    times = decoded(table[time]).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    status = decoded(table[event])
    absent = np.asarray(status.is_null().to_numpy(zero_copy_only=False), np.bool_)
    if value is not None:
        texts = event_codes(status)
        happened = np.asarray(pc.fill_null(pc.equal(texts, str(value)), False).to_numpy(zero_copy_only=False), np.bool_)
    else:
        numbers = status.cast(pa.int8()) if pa.types.is_boolean(status.type) else status
        happened = numbers.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) > 0
    usable = ~absent & np.isfinite(times) & (np.nan_to_num(times, nan=-1.0) >= 0)
    return usable, times[usable], happened[usable]


def event_codes(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Values of an event column as ``evaluate.survival.value`` names them: text, ``true``, ``2``; NaN is missing."""
    plain = decoded(array)
    if pa.types.is_decimal(plain.type):
        plain = plain.cast(pa.float64())
    if pa.types.is_floating(plain.type):
        plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    return plain.cast(pa.string())


def _other_ends(table: pa.Table, event: str, value: Any, min_count: int) -> dict[str, Any] | None:
    """Codes other than the event's where there are several: one can be censoring, the others are competing events.

    Returns:
        ``codes``, their number, and ``rows``, those of each, of codes with at least ``min_count`` rows; None where
        there are fewer than two.
    """
    if value is None:
        return None
    counts = event_codes(table[event]).drop_null().value_counts()
    rows = [entry["counts"] for entry in counts.to_pylist() if entry["values"] != str(value)]
    if not 2 <= len(rows) <= _MOST_ENDS:
        return None
    return {"codes": len(rows), "rows": sorted((n for n in rows if n >= min_count), reverse=True)}


def _first(side: tuple[Floats, Mask], rows: int) -> tuple[Floats, Mask]:
    return side[0][:rows], side[1][:rows]


def _grid(times: Floats) -> Floats:
    """Round times from 0 to about the 95th percentile of the real ones."""
    end = float(np.quantile(times, 0.95)) or 1.0
    rough = end / _POINTS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return np.round(np.arange(math.floor(end / step) + 1) * step, 12)


def kaplan_meier(times: Floats, happened: Mask, grid: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Kaplan and Meier's (1958) estimate, with Greenwood's (1926) standard error.

    ``scipy.stats.ecdf`` gives the same estimate, but another last bit. Then a value in the middle between two steps of
    the written curve would be rounded to the other step, and figures would differ from those of older runs.

    Args:
        times: float64[n], follow-up times.
        happened: bool[n], whether the event happened at that time; else the row is censored then.
        grid: float64[g], times at which to evaluate.

    Returns:
        Survival float64[g], its standard error float64[g], and the rows at risk int64[g].
    """
    event_times, deaths = np.unique(times[happened], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), event_times, side="left")
    factor = np.cumprod(1.0 - deaths / np.maximum(at_risk, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(np.where(at_risk > deaths, deaths / (at_risk * (at_risk - deaths)), 0.0))
    place = np.searchsorted(event_times, grid, side="right")
    alive = np.concatenate([[1.0], factor])[place]
    error = alive * np.sqrt(np.concatenate([[0.0], greenwood])[place])
    return alive, error, len(times) - np.searchsorted(np.sort(times), grid, side="left")


def _curve(
    times: Floats, happened: Mask, grid: Floats, min_count: int, persons: npt.NDArray[np.uint64] | None = None
) -> dict[str, list[float | None]]:
    alive, error, at_risk = kaplan_meier(times, happened, grid)
    independent = len(times)
    if persons is not None:  # a person is at risk until the last of her times
        last = np.zeros(len(np.unique(persons)))
        np.maximum.at(last, np.unique(persons, return_inverse=True)[1], times)
        at_risk = len(last) - np.searchsorted(np.sort(last), grid, side="left")
        independent = len(last)
    step = max(0.005, min_count / independent) if min_count > 1 else 0.0005

    def coarse(values: Floats) -> list[float | None]:
        rounded = np.clip(np.round(values / step) * step, 0.0, 1.0)
        return [round(float(v), 6) if n >= max(min_count, 1) else None for v, n in zip(rounded, at_risk)]

    return {"survival": coarse(alive), "low": coarse(alive - Z95 * error), "high": coarse(alive + Z95 * error)}


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
