"""What `init` says of columns that write dates or numbers as text or as whole numbers: never a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.column_looks import form_of
from shardsynth.data.columns import COMMON_ROWS
from shardsynth.data.detection import written_values
from shardsynth.data.empty_gaps import empty_gaps
from shardsynth.data.layouts import LAYOUT, DateLayout, layout_from
from shardsynth.data.learn_layout import date_forms
from shardsynth.data.metadata import table_of
from shardsynth.data.number_layout import NumberLayout
from shardsynth.data.values import decoded, kind_of, native, to_arrow
from shardsynth.data.writings import writing_from
from shardsynth.summaries.profile import Profile

_MOST_SHOWN = 4
#: What Arrow writes for a time that no calendar has.
_BEYOND = "value out of range"


def written_lines(metadata: dict[str, Any], profile: Profile, schema: pa.Schema) -> Iterator[str]:
    """A line for each column whose text or whole numbers are learned as dates or as numbers.

    Args:
        metadata: Completed metadata, with the learned layouts.
        profile: Exact counts and the row sample.
        schema: Of the shards.
    """
    for name, options in table_of(metadata)["columns"].items():
        kind, form = kind_of(schema.field(name).type), options.get("datetime_format")
        text = options.get(LAYOUT) or form
        if text is None or kind not in ("text", "integer") or writing_from(str(text)) is not None:
            continue
        layout = layout_from(str(text))
        if isinstance(layout, NumberLayout):
            yield f"column {name!r}: numbers as text{_odd_numbers(layout)}: learned as numbers, written as they came"
        elif isinstance(layout, DateLayout):
            held = "text" if kind == "text" else "whole numbers"
            yield f"column {name!r}: dates as {held}, {form}{_odd_dates(layout)}: learned as dates"
            if kind == "text":
                counted, _ = written_values(profile.sample[name], profile[name])
                others = [other for other in date_forms(counted) if other != form and _same_parts(other, str(form))]
                if others:
                    yield (
                        f"column {name!r}: its values fit {' and '.join(others)} as well as {form}, which is what they "
                        "are learned as; correct datetime_format in the metadata if that is wrong"
                    )


def sentinel_lines(metadata: dict[str, Any], profile: Profile, schema: pa.Schema) -> Iterator[str]:
    """A line for each column of numbers or dates with a value far from all others, such as 9999 for "unknown"."""
    for name, options in table_of(metadata)["columns"].items():
        kind = kind_of(schema.field(name).type)
        if options["sdtype"] not in ("numerical", "datetime") or kind not in (
            "integer",
            "float",
            "temporal",
            "decimal",
        ):
            continue
        if LAYOUT in options or not profile[name].present:
            continue
        counted = profile[name].value_counts()
        if counted is not None:
            values, rows = counted
        else:
            pairs = decoded(profile.sample[name].drop_null()).value_counts()
            plain, _ = native(pairs.field("values"))
            order = np.argsort(plain, kind="stable")
            values, rows = plain[order], pairs.field("counts").to_numpy()[order]
        numbers = np.asarray(values, np.float64)
        far = _beyond_gaps(numbers, rows)
        if far.any():
            share = rows[far].sum() / rows.sum()
            apart = to_arrow(np.asarray(values)[far], profile[name].type)
            if kind == "temporal":  # Arrow has words for times that Python has not
                apart = apart.cast(pa.string())
            texts = [str(value) for value in apart.to_pylist()]
            kinds = list(dict.fromkeys("infinity" if _BEYOND in text else form_of(text) for text in texts))[
                :_MOST_SHOWN
            ]
            yield (
                f"column {name!r}: {share:.1%} of its values, {len(texts)} like {', '.join(map(repr, kinds))}, lie far "
                "from all others: kept as values of their own; if they mean missing, write them as missing"
            )


def _beyond_gaps(values: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values that an empty gap parts from most of the rows."""
    apart = np.cumsum(empty_gaps(values, values, rows, rows >= COMMON_ROWS))
    if not len(apart) or apart[-1] == 0:
        return np.zeros(len(values), np.bool_)
    return np.asarray(apart != np.bincount(apart, weights=rows).argmax(), np.bool_)


def _same_parts(one: str, other: str) -> bool:
    return sorted(re.findall("%.", one)) == sorted(re.findall("%.", other))


def _odd_numbers(layout: NumberLayout) -> str:
    found = []
    if layout.decimal != ".":
        found.append("decimal comma")
    if layout.thousands:
        found.append(f"thousands separated by {layout.thousands!r}")
    if layout.after.strip() or layout.before.strip():
        found.append(f"with {(layout.before + layout.after).strip()!r}")
    return "".join(f", {what}" for what in [*found, *_specials([text for text, _ in layout.specials])])


def _odd_dates(layout: DateLayout) -> str:
    found = []
    if layout.partial or layout.bare:
        found.append("of which some are less precise")
    if layout.pivot:
        found.append("two-digit years from 1936 to 2035")
    if len(layout.zones) > 1:
        found.append(f"{len(layout.zones)} UTC offsets")
    return "".join(f", {what}" for what in [*found, *_specials([text for text, _ in layout.specials])])


def _specials(texts: list[str]) -> list[str]:
    if not texts:
        return []
    kinds = list(dict.fromkeys(form_of(text) for text in texts))
    more = " and others" if len(kinds) > _MOST_SHOWN else ""
    return [f"{len(texts)} values like {', '.join(map(repr, kinds[:_MOST_SHOWN]))}{more} apart from the others"]
