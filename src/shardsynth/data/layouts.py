"""Dates that a column writes as text or as whole numbers: the one conversion each way.

Detection, ranges of the metadata, coding, conditions, constraints, differential privacy and writing all use it. A
layout is kept as text: a strftime format, as SDV's ``datetime_format`` has it, or a JSON object where that format does
not say all. The JSON form is learned from the values (``learn_layout``) and is no part of SDV's metadata.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from shardsynth.data.columns import Column
from shardsynth.data.number_layout import NumberLayout

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]

#: Key of a column's options that holds its learned layout; SDV does not know it.
LAYOUT = "layout"
#: SDV's and pandas' word for ISO 8601 text of any precision.
ISO = "ISO8601"
#: Nanoseconds of each unit of an axis.
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DAY = "%Y-%m-%d"
_ISO_FORMS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_SHAPES = {
    "%Y": r"\d{4}",
    "%m": r"\d\d",
    "%d": r"\d\d",
    "%H": r"\d\d",
    "%M": r"\d\d",
    "%S": r"\d\d",
}
_NAT = np.iinfo(np.int64).min
#: First year that %y can mean where the column has a pivot; without one it is 1969, as in POSIX.
PIVOT = 1936
_CENTURY_DAYS = 36_525
_ZONE_TEXT = r"(Z|[+-]\d\d:?\d\d)$"
_FRACTION, _ZONE = "\x01", "\x02"  # no text of a date has them


@dataclass(frozen=True)
class DateLayout:
    """Instants as text or whole numbers.

    Attributes:
        form: strftime format, with ``%-d`` and the like for numbers without leading zeros; or ``ISO8601``.
        unit: Unit of the axis, counted from 1970: ``ns``, ``us``, ``ms`` or ``s``.
        fraction: Digits that ``%f`` writes; None: six. -1: as many as are needed.
        case: ``upper`` or ``lower``, for names of months and AM/PM; empty: as strftime writes them.
        zones: Texts of the UTC offset, each with its weight in every month, 12 whole numbers. Empty: ``+0000``.
        partial: Formats of dates of which less is known, the shortest first. On the axis such a date lies a few units
            before the start of its year, month or day: so it has a place of its own.
        pivot: Whether two-digit years begin with ``PIVOT``.
        specials: Texts that are no dates, each with its place on the axis.
        lenient: Whether any other text is missing; else it is an error.
        bare: Thousandths of the dates that are written without their time of day.
        clock: Minutes of the day at which such a date lies on the axis: one of them for each day.
    """

    form: str
    unit: str = "ns"
    fraction: int | None = None
    case: str = ""
    zones: tuple[tuple[str, tuple[int, ...]], ...] = ()
    partial: tuple[str, ...] = ()
    pivot: bool = False
    specials: tuple[tuple[str, int], ...] = ()
    lenient: bool = False
    bare: int = 0
    clock: tuple[int, ...] = ()

    #: NumPy dtype of the axis.
    dtype = np.dtype(np.int64)
    #: What the values are, for an error.
    what = "date"

    @property
    def nanoseconds(self) -> int:
        """Nanoseconds of one unit."""
        return UNITS[self.unit]

    @property
    def zoned(self) -> bool:
        """Whether the text has a UTC offset."""
        return "%z" in self.form.lower()

    @property
    def text(self) -> str:
        """The layout as text: its format alone, where that says all."""
        defaults = asdict(DateLayout(self.form))
        more = {key: value for key, value in asdict(self).items() if value != defaults[key]}
        return json.dumps({"date": self.form, **more}) if more else self.form

    @property
    def rounded_by(self) -> float:
        """By how much the date that is written can lie beside a count, in units."""
        if self.bare:
            return 86_400.0 * (UNITS["s"] // self.nanoseconds)
        return 0.5 * self._step if self.partial else 0.0

    def read(self, texts: Texts) -> tuple[Integers, Mask]:
        """Texts [n], no None, as counts of the unit, int64[n], and bool[n]: which are dates of this layout."""
        counts, good = self._whole(texts)
        if self.partial:
            counts, good = self._read_partial(texts, counts, good)
        if self.bare:
            days = DateLayout(_DAY, self.unit, partial=(_DAY,))._read_partial(texts, counts, np.zeros_like(good))
            minute = 60 * (UNITS["s"] // self.nanoseconds)
            places = np.array(self.clock, np.int64)[_mixed(days[0]) % np.uint64(len(self.clock))] * minute
            counts, good = np.where(days[1], days[0] + 1 + places, counts), good | days[1]
        for special, place in self.specials:
            same = texts == special
            counts[same], good[same] = place, True
        return counts, good

    def write(self, counts: Integers) -> list[str]:
        """Inverse of ``read``, for counts [n]: what lies between two dates that the layout can write is rounded."""
        texts = self._written(self._rounded(counts) if self.partial else counts, self._python)
        for place, form in enumerate(self.partial):
            coarse = self._is_partial(counts, place)
            if coarse.any():
                written = self._written(counts[coarse] + self._before(place), form)
                for index, text in zip(np.flatnonzero(coarse).tolist(), written):
                    texts[index] = text
        if self.bare:
            without = (_mixed(counts) % np.uint64(1_000) < self.bare) & ~self.apart(counts)
            for index, text in zip(np.flatnonzero(without).tolist(), self._written(counts[without], _DAY)):
                texts[index] = text
        for special, place in self.specials:
            for index in np.flatnonzero(counts == place).tolist():
                texts[index] = special
        return texts

    def apart(self, counts: Integers) -> Mask:
        """bool[n]: counts that must keep a place of their own, since no whole date has them."""
        found = np.zeros(len(counts), np.bool_)
        for place in range(len(self.partial)):
            found |= self._is_partial(counts, place)
        return found | np.isin(counts, [place for _, place in self.specials])

    def instant(self, written: str) -> int:
        """A date that a user wrote, as a count: in this layout, or as ISO text.

        Raises:
            ValueError: It is neither.
        """
        import pandas as pd

        counts, good = self.read(np.array([written], dtype=object))
        if good[0]:
            return int(counts[0])
        stamp = pd.Timestamp(written)
        if stamp.tzinfo is not None:
            stamp = stamp.tz_convert("UTC").tz_localize(None)
        return int(stamp.to_datetime64().astype(f"datetime64[{self.unit}]").astype(np.int64))

    @property
    def _python(self) -> str:
        return _ISO_FORMS[-1] if self.form == ISO else self.form

    def _whole(self, texts: Texts) -> tuple[Integers, Mask]:
        """Dates of ``form``."""
        import pandas as pd

        plain = self._python.replace("%-", "%").replace("%#", "%")
        series = pd.Series(texts, dtype=object)
        parsed = pd.to_datetime(series, format=plain, errors="coerce", utc=self.zoned)
        nanoseconds = parsed.to_numpy(dtype="datetime64[ns]").view(np.int64).copy()
        good = nanoseconds != _NAT
        counts = np.where(good, nanoseconds // self.nanoseconds, 0)
        if self.unit != "ns":  # what 64-bit nanoseconds cannot hold
            for index in np.flatnonzero(~good).tolist():
                count = _far(str(texts[index]), plain, self.unit)
                if count is not None:
                    counts[index], good[index] = count, True
        if self.pivot and "%y" in plain:
            late = good & (counts >= self._count(f"{PIVOT + 100}-01-01"))
            counts[late] -= _CENTURY_DAYS * 86_400 * (UNITS["s"] // self.nanoseconds)
        return counts, good

    def _read_partial(self, texts: Texts, counts: Integers, good: Mask) -> tuple[Integers, Mask]:
        for place, form in enumerate(self.partial):
            shape = re.compile(re.sub(r"%[a-zA-Z]", lambda m: _SHAPES[m[0]], re.sub(r"([.])", r"\\\1", form)))
            fits = np.array([shape.fullmatch(str(text)) is not None for text in texts], np.bool_)
            if not fits.any():
                continue
            found, dates = DateLayout(form, self.unit)._whole(texts[fits])
            where = np.flatnonzero(fits)[dates]
            counts[where], good[where] = found[dates] - self._before(place), True
        return counts, good

    def _before(self, place: int) -> int:
        """How many units a partial date lies before the start of its period: the shortest date first."""
        return len(self.partial) - place

    def _is_partial(self, counts: Integers, place: int) -> Mask:
        step = "Y" if "%m" not in self.partial[place] else "M" if "%d" not in self.partial[place] else "D"
        if "%H" in self.partial[place]:
            step = "m"
        instants = (counts + self._before(place)).astype(f"datetime64[{self.unit}]")
        return np.asarray(instants == instants.astype(f"datetime64[{step}]"), np.bool_)

    def _rounded(self, counts: Integers) -> Integers:
        """Counts rounded to the finest part that ``form`` writes."""
        return np.asarray((counts + self._step // 2) // self._step * self._step, np.int64)

    @property
    def _step(self) -> int:
        """Units of the finest part that ``form`` writes."""
        form = self._python
        seconds = 1 if "%S" in form else 60 if "%M" in form else 3600 if re.search("%-?[HI]", form) else 86_400
        return seconds * (UNITS["s"] // self.nanoseconds)

    def _written(self, counts: Integers, form: str) -> list[str]:
        offsets = self._offsets(counts)
        local = counts
        if offsets is not None:
            minutes = np.array([_minutes(text) for text, _ in self.zones], np.int64)
            local = counts + minutes[offsets] * 60 * (UNITS["s"] // self.nanoseconds)
            form = re.sub("%z", _ZONE, form, flags=re.IGNORECASE)
        if self.fraction is not None:
            form = form.replace("%f", _FRACTION)
        texts = _strftime(local, self.unit, form.replace("%#", "%-"), zoned="%z" in form.lower())
        if self.fraction is not None:
            parts = (local % (UNITS["s"] // self.nanoseconds)) * self.nanoseconds
            texts = [t.replace(_FRACTION, _fraction(part, self.fraction)) for t, part in zip(texts, parts.tolist())]
        if self.case:
            texts = [text.upper() if self.case == "upper" else text.lower() for text in texts]
        if offsets is not None:
            texts = [text.replace(_ZONE, self.zones[zone][0]) for text, zone in zip(texts, offsets.tolist())]
        return texts

    def _offsets(self, counts: Integers) -> Integers | None:
        """Number of the offset of each instant: by the shares of its month, and always the same for an instant."""
        if not self.zones or not self.zoned:
            return None
        if len(self.zones) == 1:
            return np.zeros(len(counts), np.int64)
        months = counts.astype(f"datetime64[{self.unit}]").astype("datetime64[M]").astype(np.int64) % 12
        weights = np.array([weight for _, weight in self.zones], np.float64)[:, months]
        below = np.cumsum(weights / np.maximum(weights.sum(axis=0), 1e-300), axis=0)
        drawn = _mixed(counts).astype(np.float64) / 2.0**24
        return np.asarray(np.minimum((drawn >= below).sum(axis=0), len(self.zones) - 1), np.int64)

    def _count(self, day: str) -> int:
        return int(np.array([day], "datetime64[D]").astype(f"datetime64[{self.unit}]").astype(np.int64)[0])


def _mixed(counts: Integers) -> npt.NDArray[np.uint64]:
    """24 bits for each count, as good as random, and always the same for it (the mixer of SplitMix64)."""
    mixed = np.ascontiguousarray(counts, np.int64).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(mixed >> np.uint64(40), np.uint64)


#: How a column of text or whole numbers writes the values of its axis.
Layout = Union[DateLayout, NumberLayout]


@lru_cache(maxsize=512)
def layout_from(text: str) -> Layout:
    """The layout that ``text`` of a layout means; a strftime format alone is a layout of dates.

    Raises:
        ValueError: It is neither.
    """
    if not text.startswith("{"):
        return DateLayout(text, "ms", partial=_ISO_FORMS[:-1]) if text == ISO else DateLayout(text)
    try:
        data = json.loads(text)
        return NumberLayout.from_json(data["number"]) if "number" in data else _date_layout(data)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise ValueError("is no layout of dates or numbers") from None


def _date_layout(data: dict[str, Any]) -> DateLayout:
    form = str(data.pop("date"))
    for key in ("zones", "specials"):
        data[key] = tuple((str(name), tuple(v) if isinstance(v, list) else int(v)) for name, v in data.get(key, ()))
    more = {"partial": tuple(data.get("partial", ())), "clock": tuple(map(int, data.get("clock", ())))}
    layout = DateLayout(form, **{**data, **more})
    if bool(layout.bare) != bool(layout.clock) or not 0 <= layout.bare <= 1_000:
        raise ValueError("dates without a time of a layout")
    if layout.unit not in UNITS or layout.case not in ("", "upper", "lower"):
        raise ValueError("unit or case of a layout of dates")
    for offset, weights in layout.zones:
        if zone_of(offset) != offset or any(not isinstance(w, int) or w < 0 for w in weights) or len(weights) % 12:
            raise ValueError("offsets of a layout of dates")
    if not all(set(re.findall("%.", part)) <= set(_SHAPES) for part in layout.partial):
        raise ValueError("less precise dates of a layout")
    return layout


def width_of(form: str) -> int:
    """Digits of a date that a format writes in digits alone; 0 for any other format."""
    sizes = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3, "f": 6}
    letters = re.fullmatch(r"(?:%([YmdHMSyjf]))+", form) and re.findall("%(.)", form)
    return sum(sizes[letter] for letter in letters) if letters else 0


def layout_of(column: Column) -> str | None:
    """The layout of a column, as text: the learned one, else SDV's ``datetime_format``; None without one."""
    layout = column.options.get(LAYOUT) or column.options.get("datetime_format")
    return None if layout is None else str(layout)


def _strftime(counts: Integers, unit: str, form: str, *, zoned: bool) -> list[str]:
    import pandas as pd

    stamps = counts.astype(f"datetime64[{unit}]")
    if unit == "ns":
        # Without a zone, %z writes nothing, which does not parse.
        return list(pd.DatetimeIndex(stamps, tz="UTC" if zoned else None).strftime(form))
    zone = dt.timezone.utc if zoned else None
    first, last = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")
    moments = np.clip(stamps.astype("datetime64[us]"), first, last).tolist()
    return [moment.replace(tzinfo=zone).strftime(form) for moment in moments]


def _fraction(nanoseconds: int, digits: int) -> str:
    whole = f"{nanoseconds:09d}"
    return whole[:digits] if digits >= 0 else whole.rstrip("0") or "0"


def _minutes(offset: str) -> int:
    if offset == "Z":
        return 0
    sign = -1 if offset[0] == "-" else 1
    digits = offset[1:].replace(":", "")
    return sign * (int(digits[:2]) * 60 + int(digits[2:]))


def _far(text: str, form: str, unit: str) -> int | None:
    """A date as a count, also where 64-bit nanoseconds cannot hold it; None where it does not follow the format."""
    try:
        moment = dt.datetime.strptime(text, form)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is not None:
        moment = (moment - (moment.utcoffset() or dt.timedelta())).replace(tzinfo=None)
    return int(np.array([moment], "datetime64[us]").astype(f"datetime64[{unit}]").astype(np.int64)[0])


def zone_of(text: str) -> str | None:
    """The UTC offset at the end of a date in text; None without one."""
    found = re.search(_ZONE_TEXT, text)
    return found[1] if found else None
