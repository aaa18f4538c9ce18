"""Files of SPSS, Stata and SAS, read in batches by pyreadstat, and corrected where its plain call is wrong.

Dates, times and kinds of missing values are made here from the numbers of the file: pyreadstat lets times wrap at 24
hours, and gives arbitrary numbers for a plain missing value after a tagged one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from re import match
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.codebook import Codebook
from shardsynth.data.columns import COMMON_ROWS
from shardsynth.errors import InputError, ShardError

#: Ending -> function of pyreadstat.
READERS = {
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".por": "read_por",
    ".dta": "read_dta",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}
_BATCH_CELLS = 1 << 20
_MOST_LABELS = 10_000
#: Seconds from 14 October 1582, days from 1960, to 1970.
_SPSS_SECONDS, _DAYS_1960 = 12_219_379_200, 3_653
_SPSS_DATES = r"(A|E|J|S)?DATE\d|MOYR|QYR|WKYR"
_SAS_DATES = r"(DATE|DDMMYY|MMDDYY|YYMMDD|YYMM|MONYY|YYMON|E8601DA|B8601DA|IS8601DA|JULIAN|WEEKDATE|WORDDATE|EURDFDE)"
_CLOCKS = r"(D?TIME|MTIME|HHMM|MMSS|TOD|E8601TM|B8601TM|IS8601TM)(?!.*DT)"


@dataclass
class _Seen:
    """What a first reading finds in a column.

    Attributes:
        whole: Whether all numbers are whole, and exact in 64 bits.
        days: Whether all dates are whole days.
        kinds: Tags of missing values.
        codes: Rows of each labelled code.
        numbers: Whether the column holds numbers.
    """

    whole: bool = True
    days: bool = True
    kinds: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)
    numbers: bool = True


class StatisticsFile:
    """A file of a statistics program; the protocol is ``foreign.ForeignTable``."""

    is_text = False

    def __init__(self, path: Path) -> None:
        self._path, self._kind = path, path.suffix.lower()
        # pyreadstat tells the codes for missing only where it is asked to keep them.
        self._codes: dict[str, Any] = {"user_missing": True} if self._kind in (".sav", ".zsav") else {}
        self._meta = self._read(metadataonly=True, **self._codes)[1]
        self._names = list(self._meta.column_names)
        if not self._names:
            raise ShardError(f"{path}: the file has no columns")
        self._moments = {name: _moment_of(self._kind, self._format(name)) for name in self._names}
        self._seen = {name: _Seen() for name in self._names}
        for data, tags in self._chunks():
            for name in self._names:
                self._look(name, data[name], tags.get(name, {}))
        self.left_out = 0
        self.fields = pa.schema(list(self._fields()))

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        for data, tags in self._chunks():
            arrays = []
            for name in self._names:
                arrays.append(self._array(name, data[name]))
                if self._seen[name].kinds:
                    found = tags.get(name, {})
                    kinds = [found.get(row) for row in range(len(data[name]))]
                    arrays.append(pa.array(kinds, pa.string()).dictionary_encode())
            yield arrays

    def _read(self, **options: Any) -> tuple[dict[str, list[Any]], Any]:
        try:
            import pyreadstat
        except ImportError:
            raise InputError(
                f"{self._path}: reading SPSS, Stata and SAS needs pyreadstat: pip install pyreadstat"
            ) from None
        read = getattr(pyreadstat, READERS[self._kind])
        try:
            data, meta = read(str(self._path), output_format="dict", disable_datetime_conversion=True, **options)
        except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError, OSError, MemoryError):
            raise ShardError(f"{self._path}: is no whole {self._kind} file, or is damaged or encrypted") from None
        return data, meta

    def _chunks(self) -> Iterator[tuple[dict[str, list[Any]], dict[str, dict[int, str]]]]:
        """Columns of some rows, with None for missing; and by column and row the tags of missing values."""
        size = max(1_000, _BATCH_CELLS // len(self._names))
        start = 0
        while True:
            part = {} if self._kind == ".por" else {"row_offset": start, "row_limit": size}
            data = self._read(**part, **self._codes)[0]
            tags: dict[str, dict[int, str]] = {}
            rows = len(next(iter(data.values()))) if data else 0
            if rows and self._kind in (".dta", ".sas7bdat"):
                tagged = self._read(**part, user_missing=True)[0]
                for name in self._names:
                    # Where the plain reading has no number, only a letter means something.
                    pairs = enumerate(zip(data[name], tagged[name]))
                    found = {
                        i: f".{tag}" for i, (value, tag) in pairs if value is None and isinstance(tag, str) and tag
                    }
                    if found:
                        tags[name] = found
            if rows or not start:
                yield data, tags
            start += rows
            if rows < size or self._kind == ".por":
                return

    def _format(self, name: str) -> str:
        return str(self._meta.original_variable_types.get(name) or "")

    def _labels(self, name: str) -> dict[Any, str]:
        return dict(self._meta.variable_value_labels.get(name) or {})

    def _look(self, name: str, values: list[Any], tags: dict[int, str]) -> None:
        seen = self._seen[name]
        seen.kinds |= set(tags.values())
        present = [value for value in values if value is not None and value != ""]
        if self._labels(name):
            seen.codes.update(_code(value) for value in present)
        if any(isinstance(value, str) for value in present):
            seen.numbers = False
        elif present:
            numbers = np.array(present, np.float64)
            seen.whole &= bool((numbers == np.rint(numbers)).all() and (np.abs(numbers) <= 2.0**53).all())
            unit = 86_400 if self._kind in (".sav", ".zsav", ".por") else 1
            seen.days &= bool((numbers % unit == 0).all())

    def _fields(self) -> Iterator[pa.Field]:
        missing = {**getattr(self._meta, "missing_ranges", {})}
        for name in self._names:
            seen, labels = self._seen[name], self._labels(name)
            kept = {_code(code): text for code, text in labels.items()}
            rare = [code for code in kept if 0 < seen.codes[code] < COMMON_ROWS]
            self.left_out += len(rare)
            measure = str((getattr(self._meta, "variable_measure", {}) or {}).get(name) or "")
            codebook = Codebook(
                label=str(self._meta.column_names_to_labels.get(name) or ""),
                value_labels={code: text for code, text in list(kept.items())[:_MOST_LABELS] if code not in rare},
                format=self._format(name),
                measure="" if measure == "unknown" else measure,
                missing=[_missing(item) for item in missing.get(name, [])],
                source=self._kind[1:],
            )
            yield codebook.on(pa.field(name, self._type(name)))
            if seen.kinds:
                kinds = f"{name}_missing"
                if kinds in self._names:
                    raise ShardError(f"{self._path}: {kinds!r} is a column, and would hold the kinds of missing values")
                yield Codebook(kinds_of=name, source=self._kind[1:]).on(
                    pa.field(kinds, pa.dictionary(pa.int32(), pa.string()))
                )

    def _type(self, name: str) -> pa.DataType:
        seen, moment = self._seen[name], self._moments[name]
        is_text = str(self._meta.readstat_variable_types.get(name)) == "string"
        if is_text or not seen.numbers:
            return pa.string()
        if moment == "date":
            return pa.date32() if seen.days else pa.timestamp("us")
        if moment == "instant":
            return pa.timestamp("us")
        if moment == "clock":
            return pa.duration("ms")
        return pa.int64() if seen.whole else pa.float64()

    def _array(self, name: str, values: list[Any]) -> pa.Array:
        type_ = self._type(name)
        if type_ == pa.string():
            return pa.array([None if value in (None, "") else str(value) for value in values], type_)
        absent = np.array([value is None for value in values], np.bool_)
        numbers = np.array([0.0 if value is None else float(value) for value in values], np.float64)
        if type_ in (pa.int64(), pa.float64()):
            return pa.array(numbers.astype(type_.to_pandas_dtype()), type_, mask=absent)
        if type_ == pa.duration("ms"):
            return pa.array(np.rint(numbers * 1_000).astype(np.int64), mask=absent).cast(type_)
        seconds = self._seconds(numbers, self._moments[name])
        if type_ == pa.date32():
            return pa.array(np.rint(seconds / 86_400).astype(np.int32), mask=absent).cast(type_)
        return pa.array(np.rint(seconds * 1e6).astype(np.int64), mask=absent).cast(type_)

    def _seconds(self, numbers: np.ndarray[Any, Any], moment: str) -> np.ndarray[Any, Any]:
        """Seconds since 1970 of dates and instants of the file."""
        if self._kind in (".sav", ".zsav", ".por"):
            return np.asarray(numbers - _SPSS_SECONDS)
        if moment == "date":
            return np.asarray((numbers - _DAYS_1960) * 86_400.0)
        return np.asarray(numbers / (1_000.0 if self._kind == ".dta" else 1.0) - _DAYS_1960 * 86_400.0)


def _moment_of(kind: str, form: str) -> str:
    """What a display format says that numbers are: ``date``, ``instant``, ``clock``, or nothing."""
    if kind == ".dta":
        if "%tC" in form:  # it counts leap seconds: left a number
            return ""
        return "date" if match(r"%-?(td|d(?!\w))", form) else "instant" if match(r"%-?tc", form) else ""
    form = form.upper()
    if match(r"(E8601|B8601|IS8601)?(DATETIME|DT)|YMDHMS|DATEAMPM|MDYAMPM", form):
        return "instant"
    if match(_SPSS_DATES if kind in (".sav", ".zsav", ".por") else _SAS_DATES, form):
        return "date"
    return "clock" if match(_CLOCKS, form) else ""


def _code(value: Any) -> str:
    """A code as text: 1, not 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _missing(item: Any) -> Any:
    """A missing code of SPSS: a single value, or a range."""
    if isinstance(item, dict) and item.get("lo") == item.get("hi"):
        return item["lo"]
    return item
