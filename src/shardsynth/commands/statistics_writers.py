"""Tables as files of SPSS, Stata and SAS, written by pyreadstat as what they are.

What a format cannot hold is refused, with the column and the reason: pyreadstat itself cuts or changes much of it
without a word (1e-80 is 0 in XPORT, value labels end at 120 bytes in SPSS, Stata reads the largest 32-bit numbers as
missing).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.codebook import Codebook
from shardsynth.data.values import decoded
from shardsynth.errors import InputError, ModelError

if TYPE_CHECKING:
    import pandas as pd

_Books = dict[str, Codebook]
#: Largest whole number that a double holds exactly.
_EXACT = 2**53
#: Largest 32-bit number that Stata does not take for a kind of missing value.
_STATA_MOST = 2_147_483_620
#: Seconds from 14 October 1582, and from 1960, to 1970.
_SPSS_SECONDS, _SECONDS_1960 = 12_219_379_200, 315_619_200
#: Smallest and largest number of SAS transport files.
_SAS_LEAST, _SAS_MOST = 5.4e-79, 7.2e75


@dataclass(frozen=True)
class _Format:
    """What a format has room for.

    Attributes:
        function: Of pyreadstat.
        name: Pattern of a name.
        names: What that is in words.
        label: Characters of a variable label.
        value_label: Bytes of a value label.
        clock: Display format of a duration.
        instant: Display format of an instant.
    """

    function: str
    name: str
    names: str
    label: int
    value_label: int
    clock: str
    instant: str


_SAV = _Format(
    "write_sav",
    r"(?=.{1,64}$)[^\W\d_][\w.$#@]*",
    "64 bytes of letters, digits and ._$#@",
    256,
    120,
    "TIME8",
    "DATETIME20",
)
_DTA = _Format("write_dta", r"[^\W\d]\w{0,31}", "32 letters, digits and _", 80, 32_000, "", "%tc")
_XPT = _Format(
    "write_xport", r"[A-Za-z_][A-Za-z0-9_]{0,31}", "32 of A-Z, a-z, 0-9 and _", 40, 40, "TIME8", "DATETIME20"
)


def write_sav(table: pa.Table, codebook: _Books, path: Path) -> None:
    """Write a file of SPSS, compressed if the ending is ``.zsav``.

    Raises:
        ModelError: It cannot hold a column.
        InputError: pyreadstat is not installed.
    """
    frame, books = _frame(table, codebook, _SAV, path)
    for name in frame.columns:
        if len(name.encode()) > 64:
            raise ModelError(f"column {name!r}: .sav has room for names of {_SAV.names}; rename it, or write .csv")
        _keep_width(frame, name, codebook[name], r"A(\d+)$", "sav")
    _written(
        _SAV,
        frame,
        books,
        path,
        variable_value_labels=_labels(frame, books, _SAV),
        missing_ranges={name: list(book.missing) for name, book in books.items() if book.missing},
        variable_measure={name: book.measure for name, book in books.items() if book.measure},
        variable_display_width={name: book.width for name, book in books.items() if book.width},
        compress=path.suffix.lower() == ".zsav",
    )


def write_dta(table: pa.Table, codebook: _Books, path: Path) -> None:
    """Write a file of Stata 14 or newer; columns of kinds of missing values go back into the columns they are of.

    Raises:
        ModelError: It cannot hold a column.
        InputError: pyreadstat is not installed.
    """
    frame, books = _frame(table, codebook, _DTA, path)
    tags: dict[str, list[str]] = {}
    for field in table.schema:
        of = codebook[field.name].kinds_of
        if of in frame.columns and field.name in frame.columns and not _is_text(frame[of]):
            kinds = frame.pop(field.name)
            books.pop(field.name)
            letters = kinds.where(frame[of].isna()).map(_letter)
            tagged = letters.notna()
            if tagged.any():
                frame[of] = frame[of].astype(object).where(~tagged, letters)
                tags[of] = sorted(set(letters[tagged]))
    labels = {}
    for name, found in _labels(frame, books, _DTA, tags).items():
        if any(not isinstance(code, int) and code not in tags.get(name, ()) for code in found):
            raise ModelError(f"column {name!r}: Stata has value labels of whole numbers only; write .sav")
        labels[name] = found
    _written(_DTA, frame, books, path, variable_value_labels=labels, missing_user_values=tags)


def write_xport(table: pa.Table, codebook: _Books, path: Path) -> None:
    """Write a SAS transport file: of version 5 where its names and texts fit, else of version 8.

    Raises:
        ModelError: It cannot hold a column.
        InputError: pyreadstat is not installed.
    """
    frame, books = _frame(table, codebook, _XPT, path)
    old = all(re.fullmatch(r"[A-Z_][A-Z0-9_]{0,7}", name) for name in frame.columns)
    for name in frame.columns:
        values = frame[name]
        if values.dtype == object:
            longest = max((len(v.encode()) for v in values if isinstance(v, str)), default=0)
            old &= longest <= 200
            _keep_width(frame, name, codebook[name], r"\$(?:CHAR)?(\d+)$", "xpt")
        elif values.dtype.kind in "iuf":
            size = np.abs(values.to_numpy(np.float64))
            if np.any((size > 0) & (size < _SAS_LEAST)) or np.any(size > _SAS_MOST):
                raise ModelError(f"column {name!r}: .xpt has no number below 5.4e-79 or above 7.2e75; write .csv")
    texts = all(_is_text(frame[name]) for name in frame.columns)
    if texts and len(frame) and all(not str(value or "").strip() for value in frame.iloc[-1]):
        raise ModelError(".xpt loses blank rows at the end of a table without numbers; write .csv")
    _written(_XPT, frame, books, path, file_format_version=5 if old else 8)


def _is_text(values: pd.Series) -> bool:
    """Whether a column is written as text."""
    return values.dtype == object and not _is_dates(values)


def _letter(kind: Any) -> str | None:
    """The letter of a kind of missing value, as Stata has it: ``.A`` of SAS is ``a``; ``._`` has none."""
    letter = kind[1:].lower() if isinstance(kind, str) else ""
    return letter if re.fullmatch("[a-z]", letter) else None


def _keep_width(frame: pd.DataFrame, name: str, book: Codebook, pattern: str, source: str) -> None:
    """Let a column of text be as wide as the real one: both formats fill texts with spaces, and readers take them off.

    pyreadstat makes a column as wide as its longest text.
    """
    match = re.match(pattern, book.format)
    if book.source != source or match is None or not len(frame) or not _is_text(frame[name]):
        return
    first = str(frame[name].iloc[0] or "")
    frame.loc[frame.index[0], name] = first + " " * (int(match[1]) - len(first.encode()))


def _written(format_: _Format, frame: pd.DataFrame, books: _Books, path: Path, **options: Any) -> None:
    kind = path.suffix.lower()[1:]
    options["column_labels"] = [books[name].label[: format_.label] or None for name in frame.columns]
    options["variable_format"] = {name: books[name].format for name in frame.columns if books[name].format}
    try:
        import pyreadstat
    except ImportError:
        raise InputError("writing SPSS, Stata and SAS needs pyreadstat: pip install pyreadstat") from None
    try:
        given = {key: value for key, value in options.items() if value not in (None, {})}
        getattr(pyreadstat, format_.function)(frame, str(path), **given)
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError, OverflowError) as error:
        raise ModelError(
            f".{kind}: the format cannot hold the table ({type(error).__name__}); write .csv, or another format"
        ) from None


def _frame(table: pa.Table, codebook: _Books, format_: _Format, path: Path) -> tuple[pd.DataFrame, _Books]:
    """The table in dtypes that pyreadstat writes as what they are, and the codebook of its columns."""
    import pandas as pd

    kind = path.suffix.lower()
    frame = pd.DataFrame({field.name: _column(field, table[field.name], kind) for field in table.schema})
    books = {}
    for field in table.schema:
        if not re.fullmatch(format_.name, field.name):
            raise ModelError(
                f"column {field.name!r}: {kind} has room for names of {format_.names}, the first one a letter; rename "
                "it, or write .csv"
            )
        book = codebook[field.name]
        same = "sav" if kind == ".zsav" else kind[1:]
        own = book.format if book.source.replace("zsav", "sav") == same else ""
        if _is_text(frame[field.name]):
            own = own if kind == ".dta" else ""
        elif not own and (pa.types.is_duration(field.type) or pa.types.is_time(field.type)):
            own = format_.clock
        elif not own and pa.types.is_timestamp(field.type):
            own = format_.instant
        books[field.name] = Codebook(**{**vars(book), "format": own})
    return frame, books


def _column(field: pa.Field, column: pa.ChunkedArray, kind: str) -> Any:
    import pandas as pd

    array, type_ = decoded(column), field.type
    type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_):
        return pd.Series(array.to_pylist(), dtype=object)
    if pa.types.is_boolean(type_):
        return pd.Series(array.cast(pa.int8()).to_pylist(), dtype="Int8").astype("float64")
    if pa.types.is_integer(type_):
        ends = [abs(end) for end in pc.min_max(array).as_py().values() if end is not None]
        if any(end > _EXACT for end in ends):
            raise ModelError(
                f"column {field.name!r}: {kind} holds numbers as doubles, and some have more than 15 digits; write "
                ".csv, or the column as text"
            )
        if kind == ".dta" and type_.bit_width <= 32 and all(end <= _STATA_MOST for end in ends):
            return array.cast(pa.int32()).to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
        return array.to_pandas() if not array.null_count and kind != ".dta" else array.cast(pa.float64()).to_pandas()
    if pa.types.is_floating(type_):
        return array.cast(pa.float64()).to_pandas()
    if pa.types.is_decimal(type_):
        doubles = array.cast(pa.float64())
        if not pc.all(pc.equal(doubles.cast(pa.decimal128(38, type_.scale), safe=False), array)).as_py() and len(array):
            raise ModelError(
                f"column {field.name!r}: {kind} holds numbers as doubles, and some have more than 15 digits; write .csv"
            )
        return doubles.to_pandas()
    if pa.types.is_date(type_):
        return pd.Series(array.cast(pa.date32()).to_pylist(), dtype=object)
    if pa.types.is_timestamp(type_):
        if type_.tz is not None:
            array = pc.local_timestamp(array)
        # Numbers of the format's own unit: pyreadstat itself writes the years 1678 to 2261 only.
        seconds = (
            array.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False).to_pandas() / 1e6
        )
        since = seconds + (_SPSS_SECONDS if kind in (".sav", ".zsav") else _SECONDS_1960)
        return since * 1e3 if kind == ".dta" else since
    if pa.types.is_time(type_) or pa.types.is_duration(type_):
        plain = pa.int32() if type_.bit_width == 32 else pa.int64()
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[type_.unit]
        return array.view(plain).cast(pa.float64()).to_pandas() / per_second
    raise ModelError(f"column {field.name!r} of type {type_}: {kind} has no such type; write .csv")


def _labels(
    frame: pd.DataFrame, books: _Books, format_: _Format, tags: dict[str, list[str]] | None = None
) -> dict[str, dict[Any, str]]:
    """Value labels by column, with the codes in the column's type; those of kinds of missing only where they occur."""
    labels = {}
    for name, book in books.items():
        found: dict[Any, str] = {}
        for code, text in book.value_labels.items():
            if len(text.encode()) > format_.value_label:
                raise ModelError(
                    f"column {name!r}: a value label has more than {format_.value_label} bytes; write .csv"
                )
            if _is_text(frame[name]) and name not in (tags or {}):
                found[code] = text
            elif re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", code):
                found[_number(code)] = text
            elif code.lower() in (tags or {}).get(name, ()):
                found[code.lower()] = text
        if found:
            labels[name] = found
    return labels


def _number(code: str) -> float | int:
    number = float(code)
    return int(number) if number.is_integer() else number


def _is_dates(values: Any) -> bool:
    present = values.dropna()
    return bool(len(present)) and not isinstance(present.iloc[0], (str, float, int, np.number))
