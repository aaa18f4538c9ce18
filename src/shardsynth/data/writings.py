"""What a column's values get on their way into an array beyond their type: local midnights, and levels in order.

Like a layout (``layouts``), it is learned from the values and kept as text among a column's options and a model's
formats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]

_DAY_SECONDS = 86_400
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: Years in which local midnights are looked up.
_YEARS = ("1800-01-01", "2200-01-01")


@dataclass(frozen=True)
class LocalMidnights:
    """Instants that are midnights of a time zone whose offset changes: days as other programs write them.

    Attributes:
        zone: Name of the zone.
        unit: Unit of the instants, counted from 1970 in UTC.
    """

    zone: str
    unit: str

    @property
    def text(self) -> str:
        """As text."""
        return json.dumps({"midnights": self.zone, "unit": self.unit})

    @property
    def rounded_by(self) -> float:
        """By how many units an instant can move."""
        return 13.0 * 3_600 * _UNITS[self.unit]

    def write(self, counts: Integers) -> Integers:
        """Instants int64[n] moved to the nearest local midnight."""
        import pandas as pd

        first, last = (int(np.array([d], "datetime64[D]").astype(np.int64)[0]) for d in _YEARS)
        day = _DAY_SECONDS * _UNITS[self.unit]
        inside = (counts >= first * day) & (counts < last * day)
        if not inside.any():
            return counts
        distinct, places = np.unique(counts[inside], return_inverse=True)
        utc = pd.DatetimeIndex(distinct.astype(f"datetime64[{self.unit}]")).tz_localize("UTC")
        local = utc.tz_convert(self.zone).tz_localize(None).round("D")
        back = local.tz_localize(self.zone, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
        naive = back.tz_convert("UTC").tz_localize(None).to_numpy().astype(f"datetime64[{self.unit}]").astype(np.int64)
        moved = counts.copy()
        moved[inside] = naive[places.reshape(-1)]
        return np.asarray(moved, np.int64)


@dataclass(frozen=True)
class Levels:
    """The levels of an ordered dictionary, in their order, with those that no row has.

    Attributes:
        values: Text of each level.
    """

    values: tuple[str, ...]

    #: No value moves.
    rounded_by = 0.0

    @property
    def text(self) -> str:
        """As text."""
        return json.dumps({"levels": list(self.values)})

    def write(self, array: pa.DictionaryArray) -> pa.DictionaryArray:
        """The array with all levels as its dictionary; values that are none of them come last."""
        type_ = array.type
        levels = pa.array(self.values, type_.value_type)
        more = array.dictionary.filter(pc.invert(pc.is_in(array.dictionary, value_set=levels)))
        levels = pa.concat_arrays([levels, more])
        if len(levels) > np.iinfo(type_.index_type.to_pandas_dtype()).max + 1:
            return array
        place = pc.index_in(array.dictionary, value_set=levels)
        return pa.DictionaryArray.from_arrays(place.take(array.indices).cast(type_.index_type), levels, ordered=True)


#: What values get beyond their type.
Writing = Union[LocalMidnights, Levels]


def writing_from(text: str | None) -> Writing | None:
    """The writing that a text means; None where it is a layout of text, or nothing.

    Raises:
        ValueError: It is damaged.
    """
    if text is None or not text.startswith("{"):
        return None
    data: Any = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("is no object")
    if "levels" in data:
        return Levels(tuple(str(value) for value in data["levels"]))
    if "midnights" in data:
        if data.get("unit") not in _UNITS:
            raise ValueError("unit of local midnights")
        return LocalMidnights(str(data["midnights"]), str(data["unit"]))
    return None


def local_midnights(counts: Integers, type_: pa.DataType) -> LocalMidnights | None:
    """Whether instants are all midnights of the zone of their type, and not all of UTC.

    Args:
        counts: int64[n], distinct instants.
        type_: Their type, a timestamp.
    """
    if not pa.types.is_timestamp(type_) or type_.tz in (None, "UTC") or len(counts) < 2:
        return None
    day = _DAY_SECONDS * _UNITS[type_.unit]
    found = LocalMidnights(type_.tz, type_.unit)
    if not (counts % day).any() or not np.array_equal(found.write(counts), counts):
        return None
    return found if len(np.unique(counts % day)) > 1 else None
