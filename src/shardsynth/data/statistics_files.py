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
import pyarrow.compute as pc

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
_SAS_DATES = (
    r"(DATE|DDMMYY[BCDNPS]?|MMDDYY[BCDNPS]?|YYMMDD[BCDNPS]?|YYMM[CDNPS]?|MMYY[CDNPS]?|MONYY|YYMON|MONNAME|MONTH|YEAR|"
    r"YYQR?[CDNPSZ]?|QTRR?|DAY|DOWNAME|WEEKDAY|WEEK[UVW]?|E8601DA|B8601DA|IS8601DA|JULIAN|JULDAY|PDJULG|PDJULI|"
    r"WEEKDAT[EX]|WORDDAT[EX]|NLDATE\w*|EURDF(DE|DD|DN|DWN|MN|MY|WDX|WKX))\d*(\.\d*)?$"
)
_SPSS_INSTANTS, _SPSS_CLOCKS = r"DATETIME|YMDHMS", r"D?TIME|MTIME"
_SAS_INSTANTS = (
    r"(DATETIME|DT(DATE|MONYY|WKDATX|YEAR|YYQC)|DATEAMPM|MDYAMPM|[EB]8601(DT|DN|DX|DZ|LX)|IS8601DT|NLDATM\w*)"
    r"\d*(\.\d*)?$"
)
_SAS_CLOCKS = r"(TIME|TIMEAMPM|HHMM|HOUR|MMSS|TOD|[EB]8601T[MXZ]|IS8601TM|NLTIM\w*)\d*(\.\d*)?$"


_STORED = {"int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "float": pa.float32()}


@dataclass
class _Seen:
    """What a first reading finds in a column.

    Attributes:
        whole: Whether all numbers are whole, and exact in 64 bits.
        days: Whether all dates are whole days.
        kinds: Tags of missing values.
        codes: Rows of each labelled code.
    """

    whole: bool = True
    days: bool = True
    kinds: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)


class StatisticsFile:
    """A file of a statistics program; the protocol is ``foreign.ForeignTable``."""

    is_text = False

    def __init__(self, path: Path, catalog: Path | None = None) -> None:
        self._path, self._kind = path, path.suffix.lower()
        # pyreadstat tells the codes for missing only where it is asked to keep them.
        self._options: dict[str, Any] = {"user_missing": True} if self._kind in (".sav", ".zsav") else {}
        self._catalog = {} if catalog is None else _catalog_labels(catalog)
        self._meta = self._read(metadataonly=True, **self._options)[1]
        self._names = list(self._meta.column_names)
        if not self._names:
            raise ShardError(f"{path}: the file has no columns")
        self._texts = {n for n in self._names if self._meta.readstat_variable_types.get(n) == "string"}
        self._moments = {name: _moment_of(self._kind, self._format(name)) for name in self._names}
        self._seen = {name: _Seen() for name in self._names}
        for columns, kinds in self._chunks(set(self._names) - self._texts):
            for name in self._names:
                self._look(name, columns[name])
                self._seen[name].kinds |= set(kinds.get(name, {}).values())
        self.left_out = 0
        self.fields = pa.schema(list(self._fields()))

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of columns in the types of ``fields``."""
        for columns, kinds in self._chunks({name for name, seen in self._seen.items() if seen.kinds}):
            arrays = []
            for name in self._names:
                arrays.append(self._array(name, columns[name]))
                if self._seen[name].kinds:
                    found = kinds.get(name, {})
                    listed = [found.get(row) for row in range(len(columns[name]))]
                    arrays.append(pa.array(listed, pa.string()).dictionary_encode())
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

    def _chunks(self, tagged: set[str]) -> Iterator[tuple[dict[str, pa.Array], dict[str, dict[int, str]]]]:
        """Columns of some rows, numbers as float64; and by column and row the kinds of missing values.

        Args:
            tagged: Columns whose kinds of missing values are wanted.
        """
        size = max(1_000, _BATCH_CELLS // len(self._names))
        start = 0
        while True:
            part = {} if self._kind == ".por" else {"row_offset": start, "row_limit": size}
            data = self._read(**part, **self._options)[0]
            columns = {name: self._column(name, data.pop(name)) for name in self._names if name in data}
            rows = len(columns[self._names[0]]) if columns else 0
            kinds: dict[str, dict[int, str]] = {}
            if self._kind in (".dta", ".sas7bdat"):
                wanted = [name for name in self._names if name in tagged and columns[name].null_count]
                kinds = self._kinds(columns, wanted, part) if rows and wanted else {}
            if rows or not start:
                yield columns, kinds
            start += rows
            if rows < size or self._kind == ".por":
                return

    def _kinds(
        self, columns: dict[str, pa.Array], wanted: list[str], part: dict[str, int]
    ) -> dict[str, dict[int, str]]:
        tagged = self._read(**part, user_missing=True, usecols=wanted)[0]
        kinds = {}
        for name in wanted:
            # Where the plain reading has no number, only a letter means something.
            absent = np.flatnonzero(columns[name].is_null().to_numpy(zero_copy_only=False)).tolist()
            values = tagged[name]
            found = {row: f".{values[row]}" for row in absent if isinstance(values[row], str) and values[row]}
            if found:
                kinds[name] = found
        return kinds

    def _column(self, name: str, values: list[Any]) -> pa.Array:
        if name not in self._texts:
            try:
                return pa.array(values, pa.float64())
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                raise ShardError(f"{self._path}: column {name!r} has texts, but is a column of numbers") from None
        texts = pa.array(values, pa.string())
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)

    def _format(self, name: str) -> str:
        return str(self._meta.original_variable_types.get(name) or "")

    def _labels(self, name: str) -> dict[Any, str]:
        if self._catalog:
            form = self._format(name).rstrip("0123456789.") or self._format(name)
            return self._catalog.get(form.upper(), {})
        return dict(self._meta.variable_value_labels.get(name) or {})

    def _look(self, name: str, values: pa.Array) -> None:
        seen = self._seen[name]
        if self._labels(name):
            counts = values.drop_null().value_counts()
            for value, rows in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist()):
                seen.codes[_code(value)] += rows
        if name not in self._texts:
            numbers = values.drop_null().to_numpy(zero_copy_only=False)
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
                width=int((getattr(self._meta, "variable_display_width", {}) or {}).get(name) or 0)
                if self._kind in (".sav", ".zsav")
                else 0,
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
        if name in self._texts:
            return pa.string()
        if moment == "date":
            return pa.date32() if seen.days else pa.timestamp("us")
        if moment == "instant":
            return pa.timestamp("us")
        if moment == "clock":
            return pa.duration("ms")
        stored = _STORED.get(str(self._meta.readstat_variable_types.get(name))) if self._kind == ".dta" else None
        return stored or (pa.int64() if seen.whole else pa.float64())

    def _array(self, name: str, values: pa.Array) -> pa.Array:
        type_ = self._type(name)
        if name in self._texts:
            return values
        if pa.types.is_integer(type_) or pa.types.is_floating(type_):
            return values.cast(type_)
        absent = values.is_null().to_numpy(zero_copy_only=False)
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
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


def _catalog_labels(path: Path) -> dict[str, dict[Any, str]]:
    """Value labels of a catalog of SAS, by the name of their format."""
    try:
        import pyreadstat
    except ImportError:
        raise InputError(f"{path}: reading SAS needs pyreadstat: pip install pyreadstat") from None
    try:
        found = pyreadstat.read_sas7bcat(str(path))[1].value_labels
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError, OSError):
        raise ShardError(f"{path}: is no whole .sas7bcat file, or is damaged") from None
    return {name.upper(): dict(labels) for name, labels in found.items()}


def _moment_of(kind: str, form: str) -> str:
    """What a display format says that numbers are: ``date``, ``instant``, ``clock``, or nothing."""
    if kind == ".dta":
        if "%tC" in form:  # it counts leap seconds: left a number
            return ""
        return "date" if match(r"%-?(td|d(?!\w))", form) else "instant" if match(r"%-?tc", form) else ""
    form = form.upper()
    spss = kind in (".sav", ".zsav", ".por")
    if match(_SPSS_INSTANTS if spss else _SAS_INSTANTS, form):
        return "instant"
    if match(_SPSS_DATES if spss else _SAS_DATES, form):
        return "date"
    return "clock" if match(_SPSS_CLOCKS if spss else _SAS_CLOCKS, form) else ""


def _code(value: Any) -> str:
    """A code as text: 1, not 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _missing(item: Any) -> Any:
    """A missing code of SPSS: a single value, or a range."""
    if isinstance(item, dict) and item.get("lo") == item.get("hi"):
        return item["lo"]
    return item
