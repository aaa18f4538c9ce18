"""Grids of histograms: round edges on a linear, logarithmic or calendar axis.

The edges are round numbers or dates and never taken from the data, so that an edge on the page says nothing about a
single row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.report.text import decimals, number, short_number

Floats = npt.NDArray[np.float64]

_MOST_TICKS = 6
#: Widest range of a linear grid: float64 cannot add up wider slots.
_WIDEST = 1e307
#: Edges within one power of ten, from many to few.
_DECADES = (
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0,),
)
#: Widths of a slot of time: in seconds up to a week, then in months.
_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86400, 2 * 86400, 7 * 86400)
_MONTHS = (1, 3, 6, 12, 24, 60, 120, 240, 600, 1200)
#: A tick stands at every so many slots.
_TICK_STEPS = (1, 2, 3, 4, 5, 6, 10, 12, 20, 24, 50, 60, 100, 120, 240, 500, 1200)


@dataclass(frozen=True)
class Grid:
    """Slots of a histogram, left to right.

    Attributes:
        edges: float64[slots + 1], increasing. Where possible values are a unit apart, an edge is half a unit below
            its label.
        starts: Label of each edge, ``slots + 1`` of them.
        lasts: Label of the last possible value of each slot; empty where any value is possible.
        single: Whether every slot holds one value only.
        ticks: (position in slots, short label) pairs for the axis.
    """

    edges: Floats
    starts: tuple[str, ...]
    lasts: tuple[str, ...]
    single: bool
    ticks: tuple[tuple[float, str], ...]

    @property
    def slots(self) -> int:
        """Number of slots."""
        return len(self.edges) - 1

    def label(self, first: int, stop: int, *, below: bool = False, above: bool = False) -> str:
        """Label of the slots ``first`` to ``stop`` (exclusive), open below or above."""
        if below and above:
            return "any value"
        if below:
            return f"less than {self.starts[stop]}"
        if above:
            return f"{self.starts[first]} or more"
        start = self.starts[first]
        if not self.lasts:
            return f"{start} to {self.starts[stop]}"
        return start if start == self.lasts[stop - 1] else f"{start} to {self.lasts[stop - 1]}"


def nice(step: float) -> float:
    """Smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * power >= step * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def _ticks(
    ordinals: npt.NDArray[np.int64], labels: list[str], offset: float, steps: Iterable[int] = ()
) -> tuple[tuple[float, str], ...]:
    """At most six ticks, at multiples of the first of ``steps``, or else of ``_TICK_STEPS``, that has so few.

    Args:
        ordinals: Number of each edge, counted from the axis' zero.
        labels: Label of each edge.
        offset: Added to the place of each tick, in slots.
        steps: Steps that are tried first.
    """
    for step in (*steps, *_TICK_STEPS, *(10**power for power in range(4, 18))):
        places = [i for i, ordinal in enumerate(ordinals) if ordinal % step == 0]
        if len(places) <= _MOST_TICKS:
            break
    return tuple((i + offset, labels[i]) for i in places or [0])


def linear_grid(
    low: float, high: float, slots: int, unit: float | None, origin: float = 0.0, least_step: float = 0.0
) -> Grid:
    """At most about ``slots`` equal slots from ``low`` to ``high``.

    Args:
        low: Smallest value that must be inside.
        high: Largest value that must be inside.
        slots: Number of slots to aim at.
        unit: Distance of neighbouring possible values, None where any value is possible.
        origin: One of the possible values (with ``unit``).
        least_step: Least width of a slot, a multiple of ``unit``.
    """
    span = max(high - low, 0.0)
    if span > _WIDEST:  # what lies outside is counted in the open bars at the ends
        return linear_grid(max(low, -_WIDEST / 2), min(high, _WIDEST / 2), slots, unit, origin, least_step)
    if unit:
        origin = origin % unit
        raw = max((span + unit) / slots, least_step) / unit
        step = unit * max(1.0, float(math.ceil(nice(raw) - 1e-9)) if raw > 1 else 1.0)
    else:
        origin = 0.0
        step = nice(span / slots) if span > 0 else nice(max(abs(low) * 1e-3, 1e-9))
    slack = 1e-6 if unit else 0.0  # a possible value may be below its edge by a rounding error
    first = math.floor((low - origin) / step + slack)
    last = max(math.floor((high - origin) / step + slack) + 1, first + 1)
    ordinals = np.arange(first, last + 1, dtype=np.int64)
    marks = origin + ordinals * step
    precision = step if not unit else min(step, unit)
    if origin:
        precision = min(precision, 10.0 ** -decimals(origin))
    single = bool(unit) and step == unit
    names_last = bool(unit) and (single or (float(unit or 0).is_integer() and step <= 1000 * (unit or 0)))
    label_step = precision if names_last else step
    starts = [number(float(mark), label_step) for mark in marks]
    lasts = [number(float(mark - (unit or 0.0)), label_step) for mark in marks[1:]] if names_last else []
    edges = np.asarray(marks - (unit / 2 if unit else 0.0), dtype=np.float64)
    places = ordinals[:-1] if single else ordinals
    ticks = _ticks(
        places, [_tick_text(float(mark), step) for mark in marks], 0.5 if single else 0.0, _round_steps(step)
    )
    return Grid(edges, tuple(starts), tuple(lasts), single, ticks)


def log_grid(low: float, high: float, slots: int, unit: float | None) -> Grid:
    """Slots of roughly equal ratio.

    Args:
        low: Smallest value that must be inside, above 0.
        high: Largest value that must be inside.
        slots: Most slots, unless even whole powers of ten are more.
        unit: Distance of neighbouring possible values, None where any value is possible.
    """
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high)) + 1
    for mantissas in _DECADES:
        marks = np.array([m * 10.0**p for p in range(first, last + 1) for m in mantissas])
        below = int(np.searchsorted(marks, low, side="right")) - 1
        above = int(np.searchsorted(marks, high, side="right"))
        marks = marks[max(below, 0) : above + 1]
        if len(marks) - 1 <= slots:
            break
    if unit:
        marks = np.unique(np.ceil(marks / unit - 1e-9) * unit)
    step = 10.0 ** (math.floor(math.log10(marks[0])) - 1)
    starts = [number(float(mark), step) for mark in marks]
    powers = [i for i, mark in enumerate(marks) if math.isclose(math.log10(mark) % 1, 0, abs_tol=1e-9)]
    if len(powers) < 3:
        powers = [i for i, mark in enumerate(marks) if _leading(float(mark)) in (1, 2, 5)] or [0]
    ticks = tuple((float(i), short_number(float(marks[i]), step)) for i in powers)
    return Grid(marks - (unit / 2 if unit else 0.0), tuple(starts), (), False, ticks)


def _round_steps(step: float) -> list[int]:
    """Multiples of ``step`` that are round numbers: 1, 2 or 5 times a power of ten."""
    return [k for k in range(1, 61) if _leading(k * step) in (1, 2, 5)]


def _tick_text(value: float, step: float) -> str:
    """Text of a tick without zeros at its end: only narrower slots need them."""
    text = short_number(value, step)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _leading(value: float) -> float:
    """First digits of a positive number: its quotient by the power of ten below it, from 1 to under 10."""
    return round(value / 10.0 ** math.floor(math.log10(value) + 1e-9), 6)


def calendar_grid(low: float, high: float, slots: int, unit: str) -> Grid:
    """Slots of equal time, from one second to many years.

    Args:
        low: Smallest value that must be inside, a count of ``unit`` since 1970.
        high: Largest value that must be inside.
        slots: Number of slots to aim at.
        unit: NumPy's name of the unit: ``D``, ``s``, ``ms``, ``us`` or ``ns``.
    """
    per_second = {"D": 1 / 86400, "s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    start, stop = low / per_second, high / per_second
    least_seconds = max((stop - start) / slots, 1e-9)
    for size in _SECONDS:
        if size >= least_seconds and not (unit == "D" and size < 86400):
            first = math.floor(start / size)
            ordinals = np.arange(first, math.floor(stop / size) + 2, dtype=np.int64)
            moments = (ordinals * size).astype("datetime64[s]")
            form: Literal["D", "m", "s"] = "D" if size >= 86400 else ("m" if size >= 60 else "s")
            return _calendar(moments, ordinals, form, per_second)
    millennia = (
        12 * 10**power * factor for power in itertools.count(3) for factor in (1, 2, 5)
    )  # timestamps reach far years
    months = next(size for size in itertools.chain(_MONTHS, millennia) if size * 30.44 * 86400 >= least_seconds)
    first_month = int(np.datetime64(math.floor(start), "s").astype("datetime64[M]").astype(np.int64)) // months
    last_month = int(np.datetime64(math.floor(stop), "s").astype("datetime64[M]").astype(np.int64)) // months
    counts = np.arange(first_month, last_month + 2, dtype=np.int64) * months
    moments = counts.astype("datetime64[M]").astype("datetime64[s]")
    return _calendar(moments, counts, "Y" if months >= 12 else "M", per_second)


def _calendar(
    moments: Any, ordinals: npt.NDArray[np.int64], form: Literal["Y", "M", "D", "m", "s"], per_second: float
) -> Grid:
    """Grid with edges at some moments (datetime64[s]), labelled as ``form`` says."""
    labels = [str(text).replace("T", " ") for text in np.datetime_as_string(moments, unit=form)]
    edges = moments.astype(np.int64).astype(np.float64) * per_second
    if form == "Y":  # ordinals are months, labels are years
        ordinals = ordinals // 12
    ticks = _ticks(ordinals, labels, 0.0)
    if form == "M" and all(label.endswith("-01") for _, label in ticks):
        ticks = tuple((place, label[:-3]) for place, label in ticks)
    return Grid(edges, tuple(labels), (), False, ticks)


def clock_grid(low: float, high: float, slots: int, unit: str) -> Grid:
    """``calendar_grid`` for a time of day, a count of ``unit`` since midnight."""
    grid = calendar_grid(low, high, slots, unit)
    return Grid(
        grid.edges,
        tuple(label[11:] or "00:00" for label in grid.starts),
        (),
        False,
        tuple((place, label[11:] or "00:00") for place, label in grid.ticks),
    )


def time_unit(arrow_type: pa.DataType) -> str:
    """NumPy's name of the unit in which the dates of an Arrow type are counted."""
    if pa.types.is_timestamp(arrow_type):
        return str(arrow_type.unit)
    if pa.types.is_date32(arrow_type):
        return "D"
    return "ms" if pa.types.is_date64(arrow_type) else "ns"  # ns: dates that stand as text in the table
