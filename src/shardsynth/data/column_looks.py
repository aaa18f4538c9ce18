"""What the columns of a text table look like: a line each for whoever imports it, without a value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.learn_layout import Counted, date_forms, learn_number_layout
from shardsynth.data.text_types import EXCEL_DAYS

#: First rows whose texts are looked at.
_MOST_ROWS = 20_000
_MOST_LINES, _MOST_KINDS = 200, 3
#: Share of numbers from which on the other texts of a column are odd.
_MOSTLY = 0.8
_DAY_NAME = re.compile(r"date|datum|fecha|day|dtc?$|^dob|birth", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+|\d{1,3}([., ]\d{3})+)([.,]\d*)?\s*%?")


@dataclass
class ColumnLook:
    """What a column looks like.

    Attributes:
        name: The column's.
        rows: Its rows.
        missing: Those without a value.
        points: Those with a lone point, which SAS writes for missing.
        texts: Rows of each text, in the first rows.
        type: The type that it gets.
        note: What the file itself says of it.
    """

    name: str
    rows: int = 0
    missing: int = 0
    points: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    type: pa.DataType | None = None
    note: str = ""
    _looked: int = 0

    def update(self, texts: pa.Array) -> None:
        """Look at a batch of texts, trimmed, with nulls for missing; one by one only at the first rows."""
        self.rows += len(texts)
        self.missing += texts.null_count
        self.points += pc.sum(pc.equal(texts, ".")).as_py() or 0
        if self._looked < _MOST_ROWS:
            first = texts.slice(0, _MOST_ROWS - self._looked)
            pairs = first.drop_null().value_counts()
            self.texts.update(dict(zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist())))
            self._looked += len(first)

    @property
    def wants_texts(self) -> bool:
        """Whether ``update`` still looks at texts one by one."""
        return self._looked < _MOST_ROWS

    @property
    def repeats(self) -> bool:
        """Whether a value of the first rows comes twice on average, or more often."""
        return 2 * len(self.texts) <= sum(self.texts.values())

    def count(self, rows: int, missing: int, points: int) -> None:
        """Count a batch whose texts are not looked at."""
        self.rows, self.missing, self.points = self.rows + rows, self.missing + missing, self.points + points

    def of_type(self, type_: pa.DataType) -> ColumnLook:
        """The same column with its type."""
        self.type = type_
        return self

    @property
    def odd(self) -> str:
        """What is odd about it, in words; empty where nothing is."""
        if self.note:
            return self.note
        if not self.texts and self.missing < self.rows:
            return ""
        if self.type is None or not self.texts:
            return "" if self.rows == 0 or self.texts else "no value"
        if not pa.types.is_string(self.type):
            if pa.types.is_integer(self.type) and _DAY_NAME.search(self.name) and self._are_serials:
                return (
                    f"whole numbers, as Excel counts days; if they are dates: --type '{self.name}=date32 {EXCEL_DAYS}'"
                )
            return f"{self.points / self.rows:.1%} are a lone point: missing" if self.points else ""
        counted = Counted.of(list(self.texts), np.array(list(self.texts.values()), np.int64))
        forms = date_forms(counted)
        if forms:
            return f"dates as text, {' or '.join(forms[:2])}: init will take them for dates"
        if learn_number_layout(counted) is not None:
            return f"numbers as text{self._others(of_all=False)}: init will take them for numbers"
        numbers = sum(count for text, count in self.texts.items() if _NUMBER.fullmatch(text))
        share = numbers / sum(self.texts.values())
        spellings = self._spellings
        if spellings:
            return f"{spellings} values differ only in capitals or spaces: unite them before the import"
        if share >= _MOSTLY and not any(re.match(r"0\d", text) for text in self.texts):
            return f"{share:.0%} numbers{self._others(of_all=True)}: if these mean missing, name them by --null"
        return ""

    @property
    def _are_serials(self) -> bool:
        return all(re.fullmatch(r"[1-6]\d{4}", text) for text in self.texts) and len(self.texts) > 1

    @property
    def _spellings(self) -> int:
        """Texts that are as another one but for capitals and spaces, if values repeat."""
        if not self.repeats:
            return 0
        plain = Counter(" ".join(text.casefold().split()) for text in self.texts)
        return sum(count for count in plain.values() if count > 1)

    def _others(self, *, of_all: bool) -> str:
        """The forms of the texts that are no plain numbers."""
        rows: Counter[str] = Counter()
        for text, count in self.texts.items():
            plain = re.fullmatch(r"[+-]?\d+(\.\d*)?", text) if not of_all else _NUMBER.fullmatch(text)
            if plain is None:
                rows[form_of(text)] += count
        total = sum(self.texts.values())
        shown = [f"{count / total:.0%} like {form!r}" for form, count in rows.most_common(_MOST_KINDS)]
        return f", {', '.join(shown)}" if shown else ""


def form_of(text: str) -> str:
    """The form of a text, which may be shown: every digit as 9, every word as ``a``."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "9", text))[:20]


def look_lines(looks: list[ColumnLook]) -> Iterator[str]:
    """A table with a line per column: name, type, missing values, what is odd (every digit shown as 9)."""
    if not looks:
        return
    width = min(max(len(look.name) for look in looks), 30)
    types = [str(look.type) for look in looks]
    wide = min(max(map(len, types)), 20)
    odd = [look for look in looks if look.odd]
    for look, type_ in list(zip(looks, types))[:_MOST_LINES]:
        missing = f"{look.missing / max(look.rows, 1):.1%} missing" if look.missing else ""
        yield f"{look.name:{width}}  {type_:{wide}}  {missing:14}  {look.odd}".rstrip()
    if len(looks) > _MOST_LINES:
        more = [look for look in odd if look in looks[_MOST_LINES:]]
        yield f"and {len(looks) - _MOST_LINES} more columns, {len(more)} of them odd"
