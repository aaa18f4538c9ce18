"""From what the kernel draws to Arrow columns: which tables each latent needs, and how its values become an array.

A relation whose one parent is a set of atoms (education-num of education) is a table of the parent's segments,
and costs one more look-up; any other is computed from its parents' codes or axis values once they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import (
    code_dtype,
    decimal_exponent,
    from_codes,
    is_formatted,
    storage_dtype,
    to_array,
    to_storage,
)
from shardsynth.data.values import Precision
from shardsynth.data.values import native as native_values
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FitColumn, Latent, Marginal
from shardsynth.models.copula.kernel import Channel, Spread
from shardsynth.models.copula.tables import Integers
from shardsynth.models.relations import Relation, Values

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Form:
    """How a column's values are held until they become an Arrow array.

    Attributes:
        column: The fitted column.
        type: Its Arrow type.
        dtype: dtype of the values: of codes into ``categories``, or storage values (see ``data.codec``).
        categories: The categories if the values are codes.
        stored: For a category column held as storage values: the value of each code.
        datetime_format: Format of datetimes held as text or integers.
        exponent: Storage values are counts of 10^-exponent: 0, but for decimals.
    """

    column: FitColumn
    type: pa.DataType
    dtype: np.dtype[Any]
    categories: pa.Array | None = None
    stored: Array | None = None
    datetime_format: str | None = None
    exponent: int = 0

    @classmethod
    def of(cls, column: FitColumn, data_type: pa.DataType, datetime_format: str | None = None) -> Form:
        """The cheapest form for a column of a type."""
        if column.categories is None:
            dtype = storage_dtype(data_type, datetime_format)
            ends = (column.marginal.lo, column.marginal.hi) if column.marginal is not None else ()
            largest = max((float(np.abs(end).max(initial=0.0)) for end in ends), default=0.0)
            exponent = decimal_exponent(data_type, largest)
            return cls(column, data_type, dtype, datetime_format=datetime_format, exponent=exponent)
        # An imported model may draw "missing" as one of the categories, code -1: that needs codes.
        coded = column.marginal is not None and bool((column.marginal.lo < 0).any())
        stored = None if coded or pa.types.is_dictionary(data_type) else _stored(column.categories)
        if stored is not None:
            return cls(column, data_type, stored.dtype, stored=stored)
        dtype = np.dtype(np.int32) if coded else code_dtype(data_type, len(column.categories))
        return cls(column, data_type, dtype, column.categories)

    def of_raw(self, values: Array) -> Array:
        """Codes (role ``category``) or axis values [n] in this form."""
        if self.column.categories is not None:
            return values.astype(self.dtype) if self.stored is None else self.stored[values.astype(np.int64)]
        precision = self.column.precision or Precision()
        if precision.kind == "integer" and self.dtype.kind in "iu" and self._scale == 1:
            dtype = np.uint64 if self.dtype == np.uint64 else np.int64
            return to_storage(precision.integers(np.asarray(values, np.float64), dtype), self.dtype)
        if precision.kind == "decimal" and self.dtype.kind in "iu" and self.exponent > precision.digits:
            # In integers from the grid on: 552.73 * 1e15 is no whole number of hundredths in float64.
            unit = 10 ** (self.exponent - precision.digits)
            most = np.iinfo(self.dtype).max // unit
            steps = np.rint(np.asarray(values, np.float64) * 10.0**precision.digits)
            return to_storage(np.clip(steps, -most, most).astype(np.int64) * unit, self.dtype)
        return to_storage(precision.snap(np.asarray(values, np.float64)) * self._scale, self.dtype)

    def axis(self, values: Array) -> Array:
        """Axis values float64[n] of storage values (not for categories)."""
        return values.astype(np.float64) / self._scale if self._scale != 1 else values.astype(np.float64)

    def array(self, values: Array, missing: Mask | None) -> pa.Array:
        """The Arrow column."""
        if self.categories is not None:
            return from_codes(self.type, self.categories, values, missing)
        emit_nan = self.column.emit_nan
        layout = self.datetime_format
        return to_array(self.type, values, missing, emit_nan=emit_nan, datetime_format=layout, exponent=self.exponent)

    def spread(self, marginal: Marginal) -> Spread:
        """How values are spread over the segments of an axis marginal."""
        precision = self.column.precision or Precision()
        lo, hi = marginal.lo * self._scale, marginal.hi * self._scale
        multiplier, offset, divisor = 1, 0, 1.0
        if precision.kind == "integer":
            multiplier, offset = round(precision.unit * self._scale), round(precision.origin * self._scale)
            lo, hi = (lo - float(offset)) / float(multiplier), (hi - float(offset)) / float(multiplier)
        elif precision.kind == "decimal" and self.dtype.kind == "f":
            divisor = 10.0**precision.digits
            lo, hi = lo * divisor, hi * divisor
        elif precision.kind == "decimal":
            multiplier = round(self._scale / 10.0**precision.digits) or 1
            lo, hi = lo / multiplier, hi / multiplier
        rounded = precision.kind != "float" or self.dtype.kind != "f"
        lo, hi = self._inside(lo, hi, multiplier, offset)
        return Spread(lo, hi - lo, self.dtype, rounded, multiplier, offset, divisor)

    def _inside(self, lo: Array, hi: Array, multiplier: int, offset: int) -> tuple[Array, Array]:
        """Segments held within what the dtype can store."""
        if self.dtype.kind not in "iu":
            return lo, hi
        limits = np.iinfo(self.dtype)
        least = float(-((offset - int(limits.min)) // multiplier))
        most = (int(limits.max) - offset) // multiplier
        highest = float(most) if float(most) <= most else float(np.nextafter(float(most), 0.0))
        return np.clip(lo, least, highest), np.clip(hi, least, highest)

    @property
    def _scale(self) -> float:
        return float(f"1e{self.exponent}")  # read from text: the nearest float64 on any machine


def forms_of(columns: Sequence[FitColumn], schema: pa.Schema, formats: Mapping[str, str]) -> dict[str, Form]:
    """How the values of each learned, computed or constant column are held, by name.

    Args:
        columns: One per field of the schema.
        schema: Of the table.
        formats: strftime formats of datetimes that it holds as text or integers.
    """
    return {
        column.name: Form.of(column, field.type, formats.get(column.name))
        for column, field in zip(columns, schema)
        if column.treatment in ("latent", "relation", "constant")
    }


def _stored(categories: pa.Array) -> Array | None:
    """Storage values of categories that are primitive; None for text, bytes and what NumPy cannot hold."""
    try:
        dtype = storage_dtype(categories.type)
    except ModelError:
        return None
    if is_formatted(categories.type, None) or pa.types.is_decimal(categories.type):
        return None
    values, _ = native_values(categories)
    if dtype.kind == "b":
        return values.astype(np.bool_)
    return np.ascontiguousarray(values) if values.dtype == dtype else None


@dataclass
class Plan:
    """Channels of the kernel, and how columns come out of them.

    Attributes:
        forms: By column name; columns that are not learned have none.
        channels: One per latent.
        sources: Column name -> (latent, output) of its values in its form.
        codes: Column name -> (latent, output) of its category codes, for relations.
        masks: Column name -> latent that says whether it is missing.
        constants: Column name -> its one value, in its form [1].
        computed: Relations to be applied after drawing, in order.
    """

    forms: dict[str, Form]
    channels: list[Channel] = field(default_factory=list)
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    codes: dict[str, tuple[int, int]] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    computed: list[Relation] = field(default_factory=list)


def make_plan(
    columns: Sequence[FitColumn],
    latents: Sequence[Latent],
    cuts: Sequence[Integers],
    relations: Sequence[Relation],
    forms: Mapping[str, Form],
) -> Plan:
    """Channels and column sources of a model.

    Args:
        columns: One per schema column.
        latents: Dimensions of the Gaussian.
        cuts: Cuts of each latent.
        relations: In the order of application.
        forms: By column name.
    """
    plan = Plan(dict(forms))
    for number, latent in enumerate(latents):
        if latent.kind == "missing":
            plan.masks.update({columns[i].name: number for i in latent.columns})
    for column in columns:
        if column.treatment == "constant" and column.marginal is not None:
            plan.constants[column.name] = forms[column.name].of_raw(column.marginal.lo[:1])
    tables = _relation_tables(plan, columns, relations)
    wanted = {name for relation in plan.computed for name in relation.parents}
    for number, latent in enumerate(latents):
        if latent.kind == "missing":
            plan.channels.append(Channel(cuts[number]))
            continue
        column = columns[latent.columns[0]]
        plan.channels.append(_value_channel(plan, number, column, cuts[number], tables, column.name in wanted))
    return plan


def _value_channel(
    plan: Plan, number: int, column: FitColumn, cuts: Integers, tables: dict[str, list[tuple[str, Array]]], wanted: bool
) -> Channel:
    """Channel of a value latent, its outputs entered in the plan."""
    marginal, form = column.marginal, plan.forms[column.name]
    assert marginal is not None
    plan.sources[column.name] = (number, 0)
    outputs, spread = [], None
    if np.array_equal(marginal.lo, marginal.hi):
        outputs.append(np.ascontiguousarray(form.of_raw(marginal.lo)))
    else:
        spread = form.spread(marginal)
    for name, table in tables.get(column.name, []):
        plan.sources[name] = (number, len(outputs) + (spread is not None))
        outputs.append(table)
    if wanted and column.categories is not None:
        plan.codes[column.name] = (number, 0)
        if not np.array_equal(outputs[0], marginal.lo):
            plan.codes[column.name] = (number, len(outputs))
            outputs.append(marginal.lo.astype(np.int32))
    if len(outputs) == 1 and len(cuts) == 1 and outputs[0].itemsize == 1 and outputs[0].tolist() == [0, 1]:
        return Channel(cuts)  # the comparison is the value
    return Channel(cuts, tuple(outputs), spread)


def _relation_tables(
    plan: Plan, columns: Sequence[FitColumn], relations: Sequence[Relation]
) -> dict[str, list[tuple[str, Array]]]:
    """Parent -> (derived column, its value by the parent's segment); the other relations go to ``plan.computed``."""
    by_name = {column.name: column for column in columns}
    tables: dict[str, list[tuple[str, Array]]] = {}
    for relation in relations:
        table = _segment_table(plan, by_name, relation)
        if table is None:
            plan.computed.append(relation)
            continue
        (parent,) = relation.parents
        tables.setdefault(parent, []).append((relation.name, table))
        if parent in plan.masks:
            plan.masks[relation.name] = plan.masks[parent]
    return tables


def _segment_table(plan: Plan, columns: Mapping[str, FitColumn], relation: Relation) -> Array | None:
    if len(relation.parents) != 1:
        return None
    parent = columns[relation.parents[0]]
    marginal = parent.marginal
    if parent.treatment != "latent" or marginal is None or not np.array_equal(marginal.lo, marginal.hi):
        return None
    size = len(marginal.lo)
    raw = np.append(marginal.lo, marginal.lo[0])
    values, absent = relation.apply({parent.name: (raw, np.arange(size + 1) == size)})
    if absent[:size].any() or (parent.name in plan.masks and not absent[size]):
        return None
    return np.ascontiguousarray(plan.forms[relation.name].of_raw(values[:size]))


def finished(plan: Plan, outputs: Sequence[Sequence[Array]], n: int) -> dict[str, tuple[Array, Mask | None]]:
    """Values in their forms, and masks, of every column that is drawn or computed."""
    masks = {name: outputs[latent][0] for name, latent in plan.masks.items()}
    drawn = {name: (np.repeat(value, n), masks.get(name)) for name, value in plan.constants.items()}
    for name, (latent, output) in plan.sources.items():
        values = outputs[latent][output]
        if values.dtype == np.bool_ and plan.channels[latent].is_bit:
            values = values.view(plan.forms[name].dtype)
        drawn[name] = (values, masks.get(name))
    for relation in plan.computed:
        parents = {name: _raw(plan, drawn, outputs, name, n) for name in relation.parents}
        raw, missing = relation.apply(parents)
        with np.errstate(invalid="ignore"):
            drawn[relation.name] = (plan.forms[relation.name].of_raw(_held(raw, missing)), missing)
    return drawn


def _held(raw: Array, missing: Mask) -> Array:
    """Raw values with something harmless under the missing ones."""
    return np.where(missing, raw.dtype.type(0), raw) if missing.any() else raw


def _raw(
    plan: Plan, drawn: Mapping[str, tuple[Array, Mask | None]], outputs: Sequence[Sequence[Array]], name: str, n: int
) -> Values:
    """Codes or axis values of a column, and its mask, as relations want them."""
    values, missing = drawn[name]
    form = plan.forms[name]
    if form.column.categories is None:
        values = form.axis(values)
    elif name in plan.codes:
        latent, output = plan.codes[name]
        values = outputs[latent][output]
        values = values.view(np.int8) if values.dtype == np.bool_ else values
    elif form.stored is not None:
        order = np.argsort(form.stored, kind="stable")
        values = order[np.searchsorted(form.stored, values, sorter=order)]
    return values, np.zeros(n, np.bool_) if missing is None else missing
