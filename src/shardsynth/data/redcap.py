"""Exports of REDCap: raw data as CSV, and the data dictionary of the project.

The dictionary gives labels of columns and of codes. Rows of repeating instruments become tables of their own, with the
record's id: REDCap exports all of them in one table, each row with the columns of one instrument and blanks elsewhere.
"""

from __future__ import annotations

import csv
import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardsynth.data.codebook import Codebook
from shardsynth.data.columns import COMMON_ROWS
from shardsynth.errors import ShardError

_NAME, _FORM, _TYPE, _LABEL = "Variable / Field Name", "Form Name", "Field Type", "Field Label"
_CHOICES = "Choices, Calculations, OR Slider Labels"
_INSTRUMENT, _INSTANCE, _EVENT = "redcap_repeat_instrument", "redcap_repeat_instance", "redcap_event_name"
_COMPLETE = {"0": "Incomplete", "1": "Unverified", "2": "Complete"}
_CHECKED = {"0": "Unchecked", "1": "Checked"}
_FIXED = {"yesno": {"1": "Yes", "0": "No"}, "truefalse": {"1": "True", "0": "False"}}


@dataclass(frozen=True)
class Dictionary:
    """A data dictionary.

    Attributes:
        record: Name of the field that identifies a record: the first one.
        books: Codebook of each column of an export.
        forms: Instrument of each column of an export.
    """

    record: str
    books: dict[str, Codebook] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)


def read_dictionary(path: Path) -> Dictionary:
    """Read a data dictionary, as REDCap writes it.

    Raises:
        ShardError: It is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ShardError(f"{path}: cannot be read as CSV in UTF-8 ({type(error).__name__})") from None
    lacking = {_NAME, _FORM, _TYPE, _LABEL, _CHOICES} - set(rows[0] if rows else ())
    if lacking:
        raise ShardError(f"{path}: is no data dictionary of REDCap: it lacks the columns {', '.join(sorted(lacking))}")
    found = Dictionary(str(rows[0][_NAME]))
    for row in rows:
        name, form, kind = (str(row[key] or "").strip() for key in (_NAME, _FORM, _TYPE))
        label, choices = (
            _plain(row[_LABEL]),
            _choices(row[_CHOICES]) if kind in ("radio", "dropdown", "checkbox") else {},
        )
        if kind == "checkbox":
            for code, text in choices.items():
                column = f"{name}___{re.sub(r'[^a-z0-9_]', '_', code.lower())}"
                found.books[column] = Codebook(f"{label}: {text}", dict(_CHECKED), measure="nominal", source="csv")
                found.forms[column] = form
        else:
            labels = choices or _FIXED.get(kind, {})
            measure = "nominal" if labels else ""
            found.books[name] = Codebook(label, dict(labels), measure=measure, source="csv")
            found.forms[name] = form
        complete = f"{form}_complete"
        found.books.setdefault(complete, Codebook("Complete?", dict(_COMPLETE), measure="ordinal", source="csv"))
        found.forms.setdefault(complete, form)
    return found


def _choices(text: str | None) -> dict[str, str]:
    """``1, Male | 2, Female`` as codes and labels."""
    pairs = (part.partition(",") for part in str(text or "").split("|"))
    return {code.strip(): _plain(label) for code, comma, label in pairs if comma and code.strip()}


def _plain(text: str | None) -> str:
    """A label without HTML, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", str(text or ""))).split())


def split_export(shards: list[Path], dictionary: Dictionary, folder: Path, source: Path) -> list[tuple[str, int]]:
    """Write the shards of an export again: with labels, and a table per repeating instrument.

    Args:
        shards: The export as it came.
        dictionary: Of its project.
        folder: Gets the shards if no instrument repeats, else a folder of shards per table.
        source: The export, for messages.

    Returns:
        Name of each table and its rows; the first one is ``records``.

    Raises:
        ShardError: It is no raw export of that project.
    """
    schema = pq.read_schema(shards[0])
    known = [name for name in schema.names if name in dictionary.books]
    if dictionary.record not in schema.names or 2 * len(known) < len(schema.names):
        raise ShardError(
            f"{source}: {len(known)} of {len(schema.names)} columns are fields of the dictionary: export the data raw "
            "(not as labels), from the same project"
        )
    tables = list(_tables(shards, schema, dictionary, source))
    counts = _counts(shards, [name for name in known if dictionary.books[name].value_labels])
    written = []
    for name, instrument, columns in tables:
        place = folder if len(tables) == 1 else folder / name
        place.mkdir(exist_ok=True)
        written.append((name, _write(shards, place, instrument, _labelled(schema, columns, dictionary, counts))))
    return written


def _tables(
    shards: list[Path], schema: pa.Schema, dictionary: Dictionary, source: Path
) -> Iterator[tuple[str, str | None, list[str]]]:
    """Each table: its name, its instrument (None: the rows of none), and its columns."""
    filled: dict[str | None, set[str]] = {}
    for batch in _batches(shards):
        for instrument, part in _parts(batch):
            seen = filled.setdefault(instrument, set())
            seen |= {field.name for field in part.schema if part[field.name].null_count < len(part)}
    instruments = [name for name in filled if name is not None]
    repeating = set(instruments)
    unknown = [repr(name) for name in instruments if name not in dictionary.forms.values()]
    if unknown:
        raise ShardError(f"{source}: {_INSTRUMENT}: {len(unknown)} names are no forms of the dictionary")
    base = filled.get(None, set())
    columns = [
        name
        for name in schema.names
        if (name in base or dictionary.forms.get(name) not in repeating)
        and (name in base or name not in (_INSTRUMENT, _INSTANCE))
    ]
    if None in filled or not instruments:
        yield "records", None, columns
    for instrument in instruments:
        shared = [dictionary.record, *(name for name in (_EVENT, _INSTANCE) if name in schema.names)]
        own = [name for name in schema.names if dictionary.forms.get(name) == instrument and name not in shared]
        yield instrument, instrument, [*shared, *own]


def _batches(shards: list[Path]) -> Iterator[pa.Table]:
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(use_threads=False):
                yield pa.Table.from_batches([batch])


def _parts(batch: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows of each instrument; None: of none."""
    if _INSTRUMENT not in batch.schema.names or pa.types.is_null(batch.schema.field(_INSTRUMENT).type):
        yield None, batch
        return
    column = batch[_INSTRUMENT]
    for instrument in column.unique().to_pylist():
        chosen = column.is_null() if instrument is None else pc.fill_null(pc.equal(column, instrument), False)
        yield instrument, batch.filter(chosen)


def _counts(shards: list[Path], names: list[str]) -> dict[str, Counter[str]]:
    """Rows of each code of labelled columns."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for batch in _batches(shards):
        for name in names:
            pairs = pc.value_counts(batch[name].drop_null())
            for value, rows in zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist()):
                counts[name][str(int(value) if isinstance(value, (bool, float)) else value)] += rows
    return counts


def _labelled(
    schema: pa.Schema, columns: list[str], dictionary: Dictionary, counts: dict[str, Counter[str]]
) -> pa.Schema:
    fields = []
    for name in columns:
        book: Any = dictionary.books.get(name, Codebook())
        kept = {c: t for c, t in book.value_labels.items() if not 0 < counts.get(name, Counter())[c] < COMMON_ROWS}
        fields.append(replace(book, value_labels=kept).on(schema.field(name)))
    return pa.schema(fields)


def _write(shards: list[Path], place: Path, instrument: str | None, schema: pa.Schema) -> int:
    rows = 0
    for number, shard in enumerate(shards):
        with pq.ParquetWriter(place / f"part-{number:05d}.parquet", schema) as writer:
            for batch in _batches([shard]):
                for found, part in _parts(batch):
                    if found == instrument and len(part):
                        writer.write_table(part.select(schema.names).cast(schema))
                        rows += len(part)
    return rows
