"""What a statistics program says of a column beside its values: kept in the metadata of its Arrow field.

| key | value |
|---|---|
| ``shardsynth.label`` | the label of the variable |
| ``shardsynth.value_labels`` | JSON object: text of a code to its label |
| ``shardsynth.format`` | the display format, as the program writes it: ``F8.2``, ``DATE9``, ``%td`` |
| ``shardsynth.width`` | columns that SPSS shows it in |
| ``shardsynth.measure`` | ``nominal``, ``ordinal`` or ``scale`` |
| ``shardsynth.missing`` | JSON list of the codes that mean missing: numbers, texts, or ``{"lo": , "hi": }`` |
| ``shardsynth.kinds_of`` | of a column of kinds of missing values (``.a``): the column that lacks the values |
| ``shardsynth.source`` | ending of the file that the column comes from, such as ``sav`` |

These keys go on into models and samples: they are the codebook of the table. ``import`` leaves out labels of codes that
one to four rows have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data.columns import COMMON_ROWS

#: First part of the keys.
PREFIX = "shardsynth."


@dataclass(frozen=True)
class Codebook:
    """What is said of one column; see the module.

    Attributes:
        label: Label of the variable.
        value_labels: Code as text -> label.
        format: Display format.
        measure: ``nominal``, ``ordinal``, ``scale`` or empty.
        missing: Codes that mean missing.
        kinds_of: Column whose missing values the kinds are of.
        source: Ending of the file.
        width: Columns that SPSS shows it in; 0 where nothing is known.
    """

    label: str = ""
    value_labels: dict[str, str] = field(default_factory=dict)
    format: str = ""
    measure: str = ""
    missing: list[Any] = field(default_factory=list)
    kinds_of: str = ""
    source: str = ""
    width: int = 0

    def on(self, arrow_field: pa.Field) -> pa.Field:
        """The field with the codebook in its metadata."""
        texts = {name: getattr(self, name) for name in ("label", "format", "measure", "kinds_of", "source")}
        for name in ("value_labels", "missing"):
            value = getattr(self, name)
            texts[name] = json.dumps(value, ensure_ascii=False) if value else ""
        texts["width"] = str(self.width) if self.width else ""
        own = {f"{PREFIX}{name}".encode(): text.encode() for name, text in texts.items() if text}
        return arrow_field.with_metadata({**(arrow_field.metadata or {}), **own}) if own else arrow_field

    @classmethod
    def of(cls, arrow_field: pa.Field) -> Codebook:
        """The codebook of a field; empty where it has none, or a damaged one."""
        metadata = arrow_field.metadata or {}
        found: dict[str, Any] = {}
        for name, empty in (("label", ""), ("format", ""), ("measure", ""), ("kinds_of", ""), ("source", "")):
            found[name] = metadata.get(f"{PREFIX}{name}".encode(), empty.encode()).decode("utf-8", "replace")
        for name, kind in (("value_labels", dict), ("missing", list)):
            try:
                value = json.loads(metadata.get(f"{PREFIX}{name}".encode(), b"null"))
            except ValueError:
                value = None
            found[name] = value if isinstance(value, kind) else kind()
        width = metadata.get(f"{PREFIX}width".encode(), b"0")
        found["width"] = int(width) if width.isdigit() else 0
        return cls(**found)


def said_of(book: Codebook) -> str:
    """What a codebook says of a column, in a few words; empty where it says nothing."""
    said = [repr(book.label if len(book.label) <= 40 else book.label[:37] + "...")] if book.label else []
    if book.value_labels:
        said.append(f"{len(book.value_labels)} codes with labels")
    if book.missing:
        said.append(f"{len(book.missing)} codes or ranges that mean missing")
    if book.kinds_of:
        said.append(f"kinds of missing values of {book.kinds_of!r}")
    return ", ".join(said)


def without_rare_labels(book: Codebook, values: pa.Array) -> Codebook:
    """The codebook without labels of codes that one to four rows have: these can name a person.

    Args:
        book: A column's codebook.
        values: All values of the column.
    """
    if not book.value_labels:
        return book
    pairs = pc.value_counts(values.drop_null())
    rows = dict(zip(map(_text, pairs.field("values").to_pylist()), pairs.field("counts").to_pylist()))
    kept = {code: text for code, text in book.value_labels.items() if not 0 < rows.get(code, 0) < COMMON_ROWS}
    return replace(book, value_labels=kept)


def sdtype_of_labels(book: Codebook, values: Sequence[Any]) -> str | None:
    """What the codebook says that a column of codes is: ``categorical`` or ``ordinal``; None where it says nothing.

    A number of which only the codes for missing have labels is a number.

    Args:
        book: The column's codebook.
        values: Its distinct values.
    """
    if book.measure == "scale" or not book.value_labels:
        return None
    absent = {_text(code) for code in book.missing if not isinstance(code, dict)}
    codes = [_text(value) for value in values if _text(value) not in absent]
    labelled = sum(code in book.value_labels for code in codes)
    if not codes or 2 * labelled < len(codes):
        return None
    return "ordinal" if book.measure == "ordinal" else "categorical"


def _text(code: Any) -> str:
    return str(int(code)) if isinstance(code, float) and code.is_integer() else str(code)
