"""What a column is by its counts: a person's name, an identifier, a reference, a code. SDV goes by its name alone.

Names are a hint, counts decide: a column called ``test_id`` with two values is a list of codes; a column without the
word is an identifier if hardly a value repeats. Nothing personal is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.column_names import Said, said_by, words_of
from shardsynth.data.columns import COMMON_ROWS, role_of_sdtype
from shardsynth.data.personal import is_free_text
from shardsynth.data.personal_content import numbers_of_persons, personal_kind
from shardsynth.data.values import kind_of

if TYPE_CHECKING:
    from shardsynth.data.tallies import TableTallies

#: A list of at most so many values, each on ``COMMON_ROWS`` rows on average, is a short list, whatever its name.
_SHORT = 9
#: A list of codes has at most so many values, each on at least ``_CODE_ROWS`` rows on average.
_LISTED, _CODE_ROWS = 1_000, 10
#: SDV's sdtypes of places: lists of them are learned, where most rows share a place with others.
_PLACES = {"administrative_unit", "state_abbr", "city", "country_code", "postcode"}
_LEARNED = ("categorical", "ordinal", "numerical", "boolean")


@dataclass(frozen=True)
class Finding:
    """What the counts say of a column, against SDV's guess.

    Attributes:
        sdtype: What it is.
        reason: Why, without a value of the data.
        person: Whether it holds persons' data.
    """

    sdtype: str
    reason: str
    person: bool = False


@dataclass(frozen=True)
class Counted:
    """Counts of one column.

    Attributes:
        name: The column's.
        type: Its Arrow type.
        sdtype: SDV's guess.
        distinct: Distinct values, of all rows or (where these were too many to count) of the sample.
        rows: Rows with a value, of the same rows.
        common: Share of these rows whose value stands on at least ``COMMON_ROWS`` rows.
        sample: Values of the sample, without nulls.
        said: What its name says.
    """

    name: str
    type: pa.DataType
    sdtype: str
    distinct: int
    rows: int
    common: float
    sample: pa.ChunkedArray
    said: Said

    @cached_property
    def values(self) -> pa.Array:
        """Distinct values of the sample: text, or numbers as float64."""
        distinct = pc.unique(self.sample)
        return distinct.cast(pa.string()) if self.is_text else distinct.cast(pa.float64(), safe=False)

    @property
    def is_text(self) -> bool:
        """Whether its values are text."""
        return kind_of(self.type) == "text"

    @property
    def mean(self) -> float:
        """Rows per value."""
        return self.rows / max(self.distinct, 1)

    @property
    def is_short_list(self) -> bool:
        """Whether it is a list of a few values that many rows share."""
        return self.distinct <= _SHORT and self.mean >= COMMON_ROWS

    @property
    def is_code_list(self) -> bool:
        """Whether it is a list of codes: few, and each on many rows. A name that says nothing wants fewer of them."""
        if self.is_short_list:
            return True
        most, rows = (_LISTED, _CODE_ROWS) if self.said.code else (50, 20)
        is_other = self.said.number in ("person", "visit") or words_of(self.name) == ["id"]
        return not is_other and self.distinct <= most and self.mean >= rows and self.common >= 0.5


def findings(
    described: Mapping[str, Mapping[str, Any]], sample: pa.Table, profile: TableTallies, schema: pa.Schema
) -> dict[str, Finding]:
    """Columns that are something else than SDV guessed, or that hold persons, by name.

    Args:
        described: SDV's metadata of each column.
        sample: Uniform row sample, dictionaries decoded.
        profile: Exact counts over all training rows.
        schema: The shards' schema.
    """
    counted = [_counted(field, str(described[field.name]["sdtype"]), sample, profile) for field in schema]
    columns = [column for column in counted if column is not None]
    found: dict[str, Finding] = {}
    for column in columns:
        finding = _finding(column)
        if finding is not None:
            found[column.name] = finding
    _add_references(found, columns)
    _add_codes(found, columns, sample)
    return found


def person_finding(
    name: str, type_: pa.DataType, sdtype: str, sample: pa.Table, profile: TableTallies
) -> Finding | None:
    """The finding that a column holds persons, though it is to be learned; None for every other column."""
    column = _counted(pa.field(name, type_), sdtype, sample, profile)
    if column is None or sdtype not in _LEARNED:
        return None
    finding = _person(column)
    return finding if finding is not None and finding.person else None


def _counted(field: pa.Field, sdtype: str, sample: pa.Table, profile: TableTallies) -> Counted | None:
    """Counts of a column of text or whole numbers; None for others and without values."""
    tally = profile[field.name]
    kind = kind_of(field.type)
    present = sample[field.name].drop_null()
    if kind == "float":
        present = present.filter(pc.is_finite(present))
    if not tally.present or not len(present) or kind not in ("text", "integer", "float"):
        return None
    if kind == "float" and not _whole(present):
        return None
    counts = tally.value_counts()
    numbers = counts[1] if counts is not None else present.combine_chunks().value_counts().field("counts").to_numpy()
    rows = int(numbers.sum())
    common = float(numbers[numbers >= COMMON_ROWS].sum()) / max(rows, 1)
    return Counted(field.name, field.type, sdtype, len(numbers), rows, common, present, said_by(field.name))


def _whole(present: pa.ChunkedArray) -> bool:
    numbers = present.cast(pa.float64())  # Arrow has no kernel for halffloat
    return bool(pc.all(pc.equal(numbers, pc.floor(numbers))).as_py())


def _finding(column: Counted) -> Finding | None:
    person = _person(column)
    if person is not None:
        return person
    if column.sdtype in _PLACES and column.is_text | (kind_of(column.type) == "integer"):
        if column.is_short_list or (column.mean >= COMMON_ROWS and column.common >= 0.5):
            return Finding("categorical", _list_of(column, "places"))
        return None
    if column.sdtype == "id" or (
        role_of_sdtype(column.sdtype) == "pii" and column.is_short_list and column.sdtype != "unknown"
    ):
        if column.distinct < column.rows and column.is_code_list:
            # by its content it may be a person's all the same: one e-mail address on many rows
            return _person(replace(column, sdtype="categorical")) or Finding("categorical", _list_of(column, "values"))
        return None
    if column.sdtype == "categorical" and column.is_text and column.common < 0.1 and column.rows >= 20:
        if is_free_text(column.sample):
            return Finding("unknown", "long or wordy text that hardly repeats: made up, never learned", person=True)
        return Finding(
            "id",
            f"{column.distinct:,} values on {column.rows:,} rows, nearly all on fewer than {COMMON_ROWS}: none could "
            "be learned, so they are made from the row number",
        )
    return None


def _list_of(column: Counted, what: str) -> str:
    return f"a list of {column.distinct:,} {what} on {column.rows:,} rows: learned as categories"


def _person(column: Counted) -> Finding | None:
    """The finding that a column holds persons' names, addresses or numbers."""
    said, distinct = column.said, column.distinct
    if column.is_text and column.sdtype in ("categorical", "id", "unknown"):
        content = personal_kind(column.sample)
        if content is not None and not (content[0] == "phone_number" and said.number):
            return Finding(content[0], content[1], person=True)
    if (
        said.function
        and column.is_text
        and not column.is_short_list
        and column.sdtype in ("categorical", "id", "unknown")
    ):
        return Finding(
            said.function, f"its name says that it is a person's {said.function.replace('_', ' ')}", person=True
        )
    if said.function == "phone_number" and not column.is_text and distinct > _SHORT:
        return Finding("id", "its name says that it is a telephone number", person=True)
    if said.number in ("person", "visit") and column.sdtype in (*_LEARNED, "id") and not _is_count(column):
        return Finding("id", "its name and counts say that it numbers persons or their stays", person=True)
    if not column.is_text and column.sdtype == "numerical" and distinct >= 10:
        texts = [str(int(value)) for value in pc.unique(column.sample).to_pylist()[:2_000]]
        if len(set(map(len, texts))) == 1 and len(texts[0]) >= 9:
            number = numbers_of_persons(texts)
            if number:
                return Finding("id", f"its values are {number}, by their form", person=True)
    return None


def _is_count(column: Counted) -> bool:
    """Whether a column that is named by persons or visits counts them, lists them or tells them in words."""
    if column.said.number == "person" and column.is_text and _numbered(column):
        return False  # numbers of a few persons are still theirs
    if column.distinct <= 2 or (column.is_short_list and column.sdtype != "id"):
        return True
    if column.said.number == "visit" and column.mean >= COMMON_ROWS:
        return True
    if column.is_text:
        return _wordy(column)
    return column.mean >= COMMON_ROWS and bool(pc.min(column.sample).as_py() <= 0)


def _numbered(column: Counted) -> bool:
    """Whether nearly every text has three digits or more."""
    texts = pc.unique(column.sample).to_pylist()[:1_000]
    return bool(sum(sum(c.isdigit() for c in text) >= 3 for text in texts) >= 0.9 * len(texts))


def _wordy(column: Counted) -> bool:
    """Whether text is words, not identifiers: no digit in most values."""
    texts = pc.unique(column.sample).to_pylist()[:1_000]
    return sum(any(c.isdigit() for c in text) for text in texts) < 0.5 * len(texts)


def _add_references(found: dict[str, Finding], columns: list[Counted]) -> None:
    """Columns that repeat the values of a key, such as a mother's number."""
    keys = [c for c in columns if _is_key(c, found)]
    for column in columns:
        finding = found.get(column.name)
        if (finding is not None and finding.sdtype == "id") or column.sdtype == "id" and finding is None:
            continue
        if column.is_short_list or (column.sdtype not in _LEARNED and column.sdtype != "unknown"):
            continue
        for key in keys:
            if key.name != column.name and _repeats(column, key):
                found[column.name] = Finding(
                    "id",
                    f"it repeats values of {key.name!r}: a reference, no real value of which comes out",
                    person=True,
                )
                break


def _is_key(column: Counted, found: Mapping[str, Finding]) -> bool:
    """Whether a column numbers things: an id, or text or whole numbers of which none repeats."""
    sdtype = found[column.name].sdtype if column.name in found else column.sdtype
    if sdtype == "id":
        return column.distinct > _SHORT
    unique = column.distinct == column.rows >= 20
    return unique and sdtype in ("categorical", "numerical", "unknown") and kind_of(column.type) != "float"


def _repeats(column: Counted, key: Counted) -> bool:
    """Whether at least half of a column's values are values of a key, and that is no chance."""
    if column.is_text != key.is_text:
        return False
    own, keys = column.values, key.values
    if len(own) < 3:
        return False
    shared = pc.sum(pc.is_in(own, value_set=keys)).as_py() / len(own)
    if shared < 0.5:
        return False
    if column.is_text:
        return True
    low, high = pc.min_max(keys).as_py().values()
    density = len(keys) / max(high - low + 1, 1)  # chance that any whole number of the range is a key
    named = column.said.number in ("person", "id") and not column.said.code
    return bool(density < 0.1 or (named and pc.max(own).as_py() >= 0.5 * high))


def _add_codes(found: dict[str, Finding], columns: list[Counted], sample: pa.Table) -> None:
    """Whole numbers that are codes: by their name, by a label beside them, or by their gaps."""
    labels = [
        c
        for c in columns
        if c.is_text
        and c.distinct >= 3
        and found.get(c.name, Finding(c.sdtype, "")).sdtype in ("categorical", "unknown")
    ]
    for column in columns:
        if column.is_text or column.name in found or column.sdtype != "numerical":
            continue
        reason = _code_reason(column, labels, sample)
        if reason and column.common >= 0.2:
            found[column.name] = Finding("categorical", f"{reason}: learned as categories, no code is invented")
        elif reason:
            found[column.name] = Finding("id", f"{reason}, and nearly all of them are rare: made from the row number")


def _code_reason(column: Counted, labels: list[Counted], sample: pa.Table) -> str:
    if column.distinct < 2:
        return ""
    values = np.sort(np.asarray(column.values.to_numpy(zero_copy_only=False)))
    step = _step(values)
    gaps = (values[-1] - values[0]) / step + 1 >= 2 * len(values)
    if column.said.code and column.distinct < 0.9 * column.rows:
        return "its name says that it is a code"
    if not gaps or len(values) < 3:
        return ""
    for label in labels:
        if _is_label(column, label, sample):
            return f"each value has its own text in {label.name!r}: it is a code"
    digits = {len(str(int(abs(value)))) for value in values}
    listed = bool(column.distinct <= 50 and column.mean >= 20 and values[0] >= 1_000)
    wide = (values[-1] - values[0]) / step + 1 >= 5 * len(values)
    return (
        "a few whole numbers of the same length, with gaps: they are codes"
        if listed and wide and len(digits) == 1
        else ""
    )


def _step(values: npt.NDArray[np.float64]) -> float:
    """Greatest common divisor of the differences of whole numbers."""
    differences = np.diff(values)
    if not len(differences) or differences.max() > 2**53:
        return 1.0
    return float(np.gcd.reduce(differences.astype(np.int64)))


def _is_label(code: Counted, label: Counted, sample: pa.Table) -> bool:
    """Whether nearly every code has one text and nearly every text one code, and the codes repeat."""
    if not 0.8 <= label.distinct / code.distinct <= 1.25 or code.mean < 1.5:
        return False
    pairs = sample.select([code.name, label.name]).drop_null()
    if not pairs.num_rows:
        return False
    together = pairs.group_by([code.name, label.name]).aggregate([]).num_rows
    return bool(together <= 1.05 * max(code.distinct, label.distinct))
