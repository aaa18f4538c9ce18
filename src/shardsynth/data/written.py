"""Dates, times and durations as a user writes them, as counts of the unit of a column, without rounding."""

from __future__ import annotations

import datetime as dt
import re
from fractions import Fraction
from typing import Any

import pyarrow as pa

from shardsynth.data.values import datetime_unit

_PER_SECOND: dict[str, Fraction] = {
    "D": Fraction(1, 86_400),
    "s": Fraction(1),
    "ms": Fraction(10**3),
    "us": Fraction(10**6),
}
_PER_SECOND["ns"] = Fraction(10**9)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d{1,9})?))?")


def written_units(value: Any, type_: pa.DataType) -> Fraction:
    """A value that a user wrote as a count of the unit of a column of dates, instants, times or durations.

    Args:
        value: ISO text, or a value of ``datetime``; a number for durations. Text without a zone is in the column's.
        type_: The column's Arrow type, no dictionary.

    Returns:
        The exact count, which may lie between two values of the column.

    Raises:
        ValueError, TypeError: It is no such value.
    """
    if pa.types.is_duration(type_):
        if isinstance(value, dt.timedelta):
            return Fraction(value // dt.timedelta(microseconds=1), 10**6) * _PER_SECOND[type_.unit]
        if isinstance(value, (str, dt.date, dt.time)):
            raise TypeError("a duration is a number")
        return Fraction(value)
    if pa.types.is_time(type_):
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            raise ValueError("no time such as 12:30:00")
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return (hours * 3600 + minutes * 60 + seconds) * _PER_SECOND[type_.unit]
    moment = moment_of(value, type_.tz if pa.types.is_timestamp(type_) else None)
    if moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    since = moment.to_pydatetime(warn=False) - dt.datetime(1970, 1, 1)
    seconds_since = since.days * 86_400 + since.seconds + Fraction(since.microseconds, 10**6)
    exact: Fraction = seconds_since + Fraction(moment.nanosecond, 10**9)
    return exact * _PER_SECOND[datetime_unit(type_)]


def moment_of(value: Any, zone: str | None) -> Any:
    """An instant that a user wrote, as a ``pandas.Timestamp``; without a zone of its own it is in the given one.

    Of an hour that the clocks of the zone show twice, the first one is meant; one that they skip is the instant at
    which they skip it.

    Raises:
        ValueError: It is no instant.
    """
    import pandas as pd

    moment = pd.Timestamp(str(value)) if re.search(r"\d", str(value)) else pd.NaT  # pandas also takes "now"
    if pd.isna(moment):
        raise ValueError("no instant")
    if zone is None:
        return moment
    if moment.tzinfo is not None:
        return moment.tz_convert(zone)
    return moment.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
