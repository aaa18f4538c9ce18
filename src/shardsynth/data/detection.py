"""SDV's metadata: SDV itself detects them on the row sample, and the exact counts of ``Profile`` correct them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardsynth.data import column_roles, frames
from shardsynth.data.codebook import Codebook, sdtype_of_labels
from shardsynth.data.column_roles import Finding
from shardsynth.data.columns import COMMON_ROWS, role_of_sdtype
from shardsynth.data.grid import needed_decimals, precision_of, shortest
from shardsynth.data.layouts import LAYOUT, width_of
from shardsynth.data.learn_layout import (
    Counted,
    date_forms,
    integer_date_form,
    learn_date_layout,
    learn_number_layout,
)
from shardsynth.data.metadata import KINDS, TABLE, keys_of, plain_values, shown_value, table_of
from shardsynth.data.personal import is_free_text
from shardsynth.data.values import axis_of_native, datetime_unit, decoded, kind_of, native, without_view
from shardsynth.data.writings import Levels, LocalMidnights, local_midnights
from shardsynth.errors import MetadataError

if TYPE_CHECKING:
    import pandas as pd

    from shardsynth.data.tallies import TableTallies, Tally

#: Most categories that SDV lists; of more it lists none and sets ``high_cardinality``.
_LISTED_CATEGORIES = 499
#: SDV calls a column of integers with at most this many distinct values ``ordinal``.
_ORDINAL_VALUES = 10
_DETECTED_ROWS = 10_000
_FLOAT_DIGITS = 15
#: SDV's validation refuses dates outside of these, which nanoseconds cannot hold.
_STAMPS = np.array(["1678-01-01", "2262-01-01"], dtype="datetime64[s]")


def detect(sample: pa.Table, profile: TableTallies, schema: pa.Schema, learn: Collection[str] = ()) -> dict[str, Any]:
    """Metadata as ``detect_with_findings`` gives them."""
    return detect_with_findings(sample, profile, schema, learn)[0]


def detect_with_findings(
    sample: pa.Table, profile: TableTallies, schema: pa.Schema, learn: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Finding]]:
    """SDV Metadata V2 of one table, "table": detected by SDV on the row sample, then corrected by exact counts.

    These corrections are made:

    - Ranges, categories (in canonical order), nullability and decimal places come from all rows.
    - A column of integers with more than ten values is numerical.
    - SDV guesses some personal sdtypes from the name. If the Arrow type cannot hold the sdtype, SDV guesses again
      without the name.
    - A date format that only the first value follows is replaced by one that all values follow. Whole numbers such as
      20240131 are dates, and so is text of dates that hardly repeats.
    - Text of measured numbers is numerical: decimal comma, thousands, a unit, values beyond a limit (``<0.5``).
    - Text that hardly repeats is an ``id``, or ``unknown`` where it is free text. Neither is learned.
    - A column without any value is ``unknown`` and not ``pii``.
    - Persons' names, addresses and numbers are personal or an ``id``, and codes are categories (``column_roles``).
    - Values of a primary key repeat neither in the exact counts nor in the sample.

    Args:
        sample: Uniform row sample, dictionaries decoded.
        profile: Exact counts over all training rows.
        schema: The shards' schema.
        learn: Columns that are learned although they hold persons.

    Returns:
        The metadata, and what the counts say against SDV's guess, by name of the column.

    Raises:
        MetadataError: A column of a type that no model can hold.
    """
    for field in schema:
        if kind_of(field.type) in ("nested", "binary"):
            raise MetadataError(
                f"column {field.name!r} is of type {field.type}, which no model can hold; "
                "flatten or cast it, or leave the column out"
            )
    filled = [name for name in schema.names if profile[name].present]
    step = max(1, -(-len(sample) // _DETECTED_ROWS))
    frame = frames.to_pandas(sample.select(filled).take(pa.array(np.arange(0, len(sample), step))))
    guessed = _by_sdv(frame)
    neutral_names = {name: f"c{i}" for i, name in enumerate(filled) if _clashes(guessed[name], profile[name])}
    if neutral_names:
        second_guess = _by_sdv(frame[list(neutral_names)].rename(columns=neutral_names))
        guessed.update({name: second_guess[neutral] for name, neutral in neutral_names.items()})
    described: dict[str, Any] = {}
    for field in schema:
        tally = profile[field.name]
        if field.name not in guessed:
            described[field.name] = {"sdtype": "unknown", "pii": False, "range_is_nullable": True}
        else:
            options = _reconsidered(guessed[field.name], sample[field.name], tally, field.type)
            options = _by_labels(options, field, tally)
            described[field.name] = _corrected(options, sample[field.name], tally, field.type)
    found = {
        name: finding
        for name, finding in column_roles.findings(described, sample, profile, schema).items()
        if finding.sdtype != described[name]["sdtype"] and not (finding.person and name in learn)
    }
    for name, finding in found.items():
        described[name] = _as_found(finding, sample[name], profile[name], schema.field(name).type)
    table: dict[str, Any] = {"columns": described}
    key = _primary_key(sample, frame, profile, described)
    if key is not None:
        described[key].pop("range_is_nullable", None)
        if role_of_sdtype(described[key]["sdtype"]) != "pii":
            described[key] = {"sdtype": "id"}
        table["primary_key"] = key
    return {"tables": {TABLE: table}, "relationships": [], "METADATA_SPEC_VERSION": "V2"}, found


def _as_found(finding: Finding, sample: pa.ChunkedArray, tally: Tally, type_: pa.DataType) -> dict[str, Any]:
    """Options of a column whose counts say something else than SDV."""
    personal = {"pii": True} if role_of_sdtype(finding.sdtype) == "pii" else {}
    return _corrected({"sdtype": finding.sdtype, **personal}, sample, tally, type_)


def complete(metadata: dict[str, Any], sample: pa.Table, profile: TableTallies, schema: pa.Schema) -> dict[str, Any]:
    """A user's metadata, with what is left out filled in from exact counts. What the user says is kept.

    Filled in are ranges, categories, nullability and decimal places. A column without any value is marked as empty.

    Args:
        metadata: As ``metadata.read`` gives them.
        sample: Uniform row sample, dictionaries decoded.
        profile: Exact counts over all training rows.
        schema: The shards' schema.
    """
    table = dict(table_of(metadata))
    described: dict[str, Any] = {}
    for field in schema:
        options = table["columns"][field.name]
        if not profile[field.name].present:
            described[field.name] = {"sdtype": "unknown", "pii": False, "range_is_nullable": True}
            continue
        exact = _corrected(options, sample[field.name], profile[field.name], field.type)
        if options["sdtype"] == "numerical" and kind_of(field.type) == "text" and LAYOUT not in exact:
            raise MetadataError(no_numbers(field.name, field.type))
        described[field.name] = {**exact, **options} if exact["sdtype"] == options["sdtype"] else dict(options)
    for key in keys_of(metadata):
        if "range_is_nullable" not in table["columns"][key]:
            described[key].pop("range_is_nullable", None)
    table["columns"] = described
    return {**metadata, "tables": {TABLE: table}}


def no_numbers(name: str, type_: pa.DataType) -> str:
    """The error of text that the metadata call numerical, and that holds no numbers."""
    return (
        f"column {name!r} is of type {type_} and 'numerical' in the metadata, but fewer than nine of ten values are "
        "numbers; call it 'categorical'"
    )


def _by_sdv(frame: pd.DataFrame, keys: str | None = None) -> dict[str, Any]:
    """Options of each column by SDV's detector; with ``keys``, only the primary key that it chooses, under ""."""
    if not len(frame.columns):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdv.metadata import Metadata

        metadata = Metadata.detect_from_dataframes({TABLE: frame}, infer_keys=keys).to_dict()
    table = table_of(metadata)
    return {"": table.get("primary_key")} if keys else dict(table["columns"])


def _clashes(options: dict[str, Any], tally: Any) -> bool:
    """Whether the column's Arrow type cannot hold the sdtype that SDV guessed from its name."""
    sdtype, kind = options["sdtype"], kind_of(tally.type)
    if sdtype == "id" and kind == "float":
        return bool(tally.grid.kind == "float" or tally.grid.digits > 0)
    if sdtype in KINDS:
        return kind not in KINDS[sdtype]
    return kind != "text" and not (sdtype in ("latitude", "longitude") and kind in ("float", "decimal"))


def _reconsidered(options: dict[str, Any], sample: pa.ChunkedArray, tally: Tally, type_: pa.DataType) -> dict[str, Any]:
    """Options of a column after a second look at its values.

    Text and whole numbers can be dates: SDV guesses a format from one value, and reads 03.04.2020 as the 4th of March.
    Text can be numbers. Text that hardly repeats would be memorised as categories: it becomes an id, or free text.
    """
    kind, sdtype = kind_of(type_), options["sdtype"]
    if kind == "integer" and sdtype in ("numerical", "ordinal", "categorical", "id"):
        values, rows = _value_counts(sample, tally)
        form = integer_date_form(np.asarray(values).astype(np.int64), rows) if len(values) else None
        if form is not None and not (sdtype == "id" and form == "%Y%m"):
            return {"sdtype": "datetime", "datetime_format": form}
    if kind != "text" or sdtype not in ("categorical", "id", "unknown", "datetime"):
        return options
    counted, _ = written_values(sample, tally)
    forms = date_forms(counted)
    if forms:
        return {"sdtype": "datetime", "datetime_format": forms[0]}
    if sdtype == "datetime":
        return options
    if learn_number_layout(counted) is not None:
        return {"sdtype": "numerical"}
    present = sample.drop_null().cast(pa.string())
    distinct = pc.unique(present)
    if sdtype != "categorical":
        return options
    if len(present) >= 20 and is_free_text(present):
        return {"sdtype": "unknown", "pii": True}
    if len(present) >= 100 and len(distinct) > 0.9 * len(present):
        return {"sdtype": "id"}
    return options


def _value_counts(sample: pa.ChunkedArray, tally: Tally) -> tuple[Any, Any]:
    """Distinct whole numbers and their rows: of all rows where these were counted, else of the sample."""
    counted = tally.value_counts()
    if counted is not None:
        return counted
    pairs = pc.value_counts(sample.drop_null())
    return pairs.field("values").to_numpy(), pairs.field("counts").to_numpy()


def _by_labels(options: dict[str, Any], field: pa.Field, tally: Tally) -> dict[str, Any]:
    """The options of a column whose values have labels, as files of statistics programs have them."""
    book = Codebook.of(field)
    if not book.value_labels or tally.value_counts() is None:
        return options
    if kind_of(field.type) not in ("integer", "float", "text") or options["sdtype"] in ("datetime", "boolean"):
        return options
    sdtype = sdtype_of_labels(book, plain_values(tally))
    return options if sdtype is None else {"sdtype": sdtype}


def written_values(sample: pa.ChunkedArray, tally: Tally, width: int = 0) -> tuple[Counted, bool]:
    """Distinct values of a column of text or whole numbers, as text, and whether these are all of the table.

    Args:
        sample: The column's values in the row sample.
        tally: Its exact counts.
        width: Least digits of a whole number: those of its layout.
    """
    counted, values = tally.value_counts(), tally.values_as_arrow()
    whole = counted is not None and values is not None
    if counted is not None and values is not None:
        rows = counted[1]
    else:
        pairs = pc.value_counts(decoded(sample.drop_null()))
        values, rows = pairs.field("values"), pairs.field("counts").to_numpy()
    texts = without_view(values).cast(pa.string()).to_pylist()
    return Counted.of([text.zfill(width) for text in texts] if width else texts, rows), whole


def _corrected(options: dict[str, Any], sample: pa.ChunkedArray, tally: Tally, type_: pa.DataType) -> dict[str, Any]:
    sdtype = options["sdtype"]
    kind = kind_of(type_)
    if kind == "temporal":
        stamp = pa.types.is_timestamp(tally.type) or pa.types.is_date(tally.type)
        sdtype = "datetime" if stamp else "numerical"
    elif sdtype == "ordinal" and kind != "text" and not _few_whole_values(tally):
        sdtype = "numerical"
    elif sdtype == "datetime":
        ends = _date_range(options, sample, tally, kind)
        if ends is None:
            sdtype = "categorical"
    elif sdtype == "numerical" and kind == "text":
        ends = _text_number_range(sample, tally)
        if ends is None:
            sdtype = "categorical"
    levels = getattr(tally, "levels", []) if sdtype in ("categorical", "ordinal") else []
    if levels:
        sdtype = "ordinal"
    corrected: dict[str, Any] = {"sdtype": sdtype, "range_is_nullable": tally.nulls + tally.nans > 0}
    if sdtype == "numerical":
        corrected.update((ends or {}) if kind == "text" else _number_range(tally))
    elif sdtype == "datetime":
        corrected.update(_stamp_range(tally) if kind == "temporal" else ends or {})
        midnights = _midnights(sample, tally) if kind == "temporal" else None
        if midnights is not None:
            corrected[LAYOUT] = midnights.text
    elif sdtype in ("categorical", "ordinal"):
        few = tally.distinct is not None and tally.distinct <= _LISTED_CATEGORIES
        corrected["high_cardinality"] = not few
        if few:
            corrected["range_values"] = levels or plain_values(tally)
        if levels and few:
            counted = tally.value_counts()
            counts = {} if counted is None else dict(zip(plain_values(tally), counted[1].tolist()))
            shown = tuple(
                level for level in levels if counts.get(level, COMMON_ROWS) >= COMMON_ROWS
            )  # none of a few rows
            corrected[LAYOUT] = Levels(shown).text
    elif "pii" in options:
        corrected["pii"] = options["pii"]
    return corrected


def _midnights(sample: pa.ChunkedArray, tally: Tally) -> LocalMidnights | None:
    """Local midnights, where all instants are such: of all rows, or of the sample where too many differ."""
    counted = tally.value_counts()
    if not pa.types.is_timestamp(tally.type):
        return None
    values = counted[0] if counted is not None else native(decoded(sample.drop_null()))[0]
    return local_midnights(np.unique(values.astype(np.int64)), tally.type)


def _few_whole_values(tally: Any) -> bool:
    counted = tally.value_counts()
    if counted is None or len(counted[0]) > _ORDINAL_VALUES:
        return False
    values = axis_of_native(counted[0], tally.type)
    return bool(np.array_equal(values, np.rint(values)))


def _number_range(tally: Any) -> dict[str, Any]:
    precision = precision_of(tally.grid, tally.type)
    if pa.types.is_floating(tally.type):
        digits = precision.digits if precision.kind == "decimal" else None
        if digits is None and not pa.types.is_float64(tally.type):  # as pandas gets them: each the shortest decimal
            low, high = shortest(tally.type, np.array([tally.low, tally.high], np.float64)).tolist()
            counted = tally.value_counts()
            if counted is not None:
                digits = needed_decimals(shortest(tally.type, counted[0].astype(np.float64)))
            return {"range_min": low, "range_max": high, "decimal_places": _FLOAT_DIGITS if digits is None else digits}
        low, high = shown_value(tally.low, digits), shown_value(tally.high, digits)
        return {"range_min": low, "range_max": high, "decimal_places": _FLOAT_DIGITS if digits is None else digits}
    if pa.types.is_decimal(tally.type):
        low, high = tally.axis_range
        return {"range_min": low, "range_max": high, "decimal_places": precision.digits}
    return {"range_min": int(tally.low), "range_max": int(tally.high), "decimal_places": 0}


def _stamp_range(tally: Any) -> dict[str, Any]:
    unit = datetime_unit(tally.type)
    ends = np.array([tally.low, tally.high], dtype=f"datetime64[{unit}]")
    if unit in ("D", "ms"):
        ends = ends.astype("datetime64[s]") if not (ends != ends.astype("datetime64[s]")).any() else ends
    if (ends < _STAMPS[0]).any() or (ends > _STAMPS[1]).any():
        return {}
    low, high = (str(end).replace("T", " ") for end in ends)
    return {"range_min": low, "range_max": high}


def _date_range(options: dict[str, Any], sample: pa.ChunkedArray, tally: Tally, kind: str) -> dict[str, Any] | None:
    """Format, range and layout of dates that are text or whole numbers; None where these are no such dates.

    The range is that of all values where these were counted, else of the sample.
    """
    form = options.get("datetime_format")
    if form is None:
        return None
    counted, whole = written_values(sample, tally, width_of(form) if kind == "integer" else 0)
    layout = learn_date_layout(form, counted, whole)
    if layout is None:
        return None
    counts, good = layout.read(counted.texts)
    counts = counts[good & ~layout.apart(counts)]
    if not len(counts):
        return None
    low, high = layout.write(np.array([counts.min(), counts.max()]))
    if not whole and re.match(r"^%Y.?%m.?%d", form):  # text that starts with the year sorts as its dates do
        low, high = min(low, str(tally.low)), max(high, str(tally.high))
    found = {"datetime_format": form, "range_min": low, "range_max": high}
    return found if layout.text == form else {**found, LAYOUT: layout.text}


def _text_number_range(sample: pa.ChunkedArray, tally: Tally) -> dict[str, Any] | None:
    """Range, decimals and layout of numbers that are text; None where too few are numbers."""
    counted, _ = written_values(sample, tally)
    layout = learn_number_layout(counted, certain=True)
    if layout is None:
        return None
    values, good = layout.read(counted.texts)
    values = values[good & ~layout.apart(values)]
    ends = {"range_min": float(values.min()), "range_max": float(values.max())}
    return {**ends, "decimal_places": layout.digits, LAYOUT: layout.text}


def _primary_key(sample: pa.Table, frame: pd.DataFrame, profile: TableTallies, described: dict[str, Any]) -> str | None:
    """The column that SDV chooses as the key, of those in which no value repeats; None without such a column."""
    candidates = []
    for name in frame.columns:
        tally, sdtype = profile[name], described[name]["sdtype"]
        if sdtype == "unknown" or tally.present < tally.rows or LAYOUT in described[name]:
            continue
        if sdtype == "datetime":
            continue
        if tally.distinct is not None and tally.distinct < tally.rows:
            continue
        if len(pc.unique(sample[name])) < len(sample):
            continue
        if kind_of(tally.type) not in ("text", "integer") or not (sdtype == "id" or _looks_like_key(tally)):
            continue
        candidates.append(name)
    return _by_sdv(frame[candidates], "primary_only").get("")


def _looks_like_key(tally: Any) -> bool:
    """Whether a column without repeats can be a key: text can, and integers that are about as dense as row numbers."""
    return kind_of(tally.type) == "text" or tally.high - tally.low < 10 * tally.rows
