"""From codes to Arrow columns: values within codes, computed columns, constants, identifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.values import Precision
from shardsynth.models.autoregressive.codes import BinnedColumn
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm
from shardsynth.models.columns.relations import Relation, Values

Codes = NDArray[np.int16]
Floats = NDArray[np.float64]
#: Uniform numbers float64[n] of a learned column, by its number; asked only where a column needs them.
Places = Callable[[int], Floats]


class Writer:
    """Writes learned and computed columns.

    Args:
        columns: The learned columns.
        relations: Computed columns, in order.
        fits: Every column by name.
        forms: Of every learned, computed and constant column.
    """

    def __init__(
        self,
        columns: Sequence[BinnedColumn],
        relations: Sequence[Relation],
        fits: Mapping[str, FittedColumn],
        forms: Mapping[str, StorageForm],
    ) -> None:
        self.columns, self.forms, self._fits = tuple(columns), dict(forms), fits
        self.number = {column.name: i for i, column in enumerate(self.columns)}
        #: Computed columns that a table of their one parent's codes gives: (parent, value by code, missing by code).
        self.tables: dict[str, tuple[int, NDArray[Any], NDArray[np.bool_]]] = {}
        self.computed: list[Relation] = []
        for relation in relations:
            table = self._table(relation)
            if table is None:
                self.computed.append(relation)
            else:
                self.tables[relation.name] = table
        self._atoms = {
            i: np.ascontiguousarray(self.forms[c.name].of_raw(c.values(np.arange(len(c.ends)), None)))
            for i, c in enumerate(self.columns)
            if not c.spreads
        }

    def arrays(self, codes: Codes, places: Places) -> dict[str, pa.Array]:
        """Arrow arrays of the learned and computed columns, from codes [columns, n]."""
        found: dict[str, pa.Array] = {}
        for i, column in enumerate(self.columns):
            own = codes[i]
            missing = column.missing(own)
            form = self.forms[column.name]
            if i in self._atoms:
                held = np.minimum(own, len(column.ends) - 1) if column.nullable else own
                values = self._atoms[i][held]
            else:
                values = form.of_raw(column.values(own, places(i)))
            found[column.name] = form.array(np.ascontiguousarray(values), missing)
        for name, (parent, values, absent) in self.tables.items():
            own = codes[parent]
            mask = absent[own] if absent.any() else None
            found[name] = self.forms[name].array(np.ascontiguousarray(values[own]), mask)
        for name, (raw, missing) in self.computed_values(codes, places).items():
            form = self.forms[name]
            held = np.where(missing, raw.dtype.type(0), raw) if missing.any() else raw
            with np.errstate(invalid="ignore"):
                found[name] = form.array(np.ascontiguousarray(form.of_raw(held)), missing)
        return found

    def computed_values(self, codes: Codes, places: Places, names: Sequence[str] | None = None) -> dict[str, Values]:
        """Category indices or axis values, and masks, of computed columns that no table gives."""
        known: dict[str, Values] = {}
        found: dict[str, Values] = {}
        wanted = {relation.name for relation in self.computed} if names is None else set(names)
        for relation in reversed(self.computed):  # those that others are computed from stand before them
            wanted |= set(relation.parents) if relation.name in wanted else set()
        for relation in self.computed:
            if relation.name not in wanted:
                continue
            for parent in relation.parents:
                if parent not in known:
                    known[parent] = self.raw(parent, codes, places)
            known[relation.name] = found[relation.name] = relation.apply(known)
        return found

    def raw(self, name: str, codes: Codes, places: Places | None = None) -> Values:
        """Category indices or axis values of a column not in ``computed``, as written, and which are missing."""
        n = codes.shape[1]
        if name in self.number:
            column = self.columns[self.number[name]]
            own = codes[self.number[name]]
            missing = column.missing(own)
            uniform = places(self.number[name]) if places is not None and column.spreads else None
            values = column.values(own, uniform)
            raw = self._written(self._fits[name], values)
            return raw, np.zeros(n, np.bool_) if missing is None else missing
        if name in self.tables:
            parent, stored, absent = self.tables[name]
            own = codes[parent]
            form = self.forms[name]
            if form.column.categories is not None and form.stored is not None:
                order = np.argsort(form.stored, kind="stable")
                return order[np.searchsorted(form.stored, stored, sorter=order)][own], absent[own]
            raw = stored if form.column.categories is not None else form.axis(stored)
            return raw[own], absent[own]
        fit = self._fits[name]
        if fit.marginal is None:
            return np.zeros(n), np.ones(n, np.bool_)
        return np.repeat(self._written(fit, fit.marginal.lo[:1]), n), np.zeros(n, np.bool_)

    @staticmethod
    def _written(fit: FittedColumn, values: Floats) -> NDArray[Any]:
        if fit.categories is not None:
            return values.astype(np.int64)
        return np.asarray((fit.precision or Precision()).snap(values))

    def _table(self, relation: Relation) -> tuple[int, NDArray[Any], NDArray[np.bool_]] | None:
        """The computed column by its parent's code, where its one parent is learned and each code is one value."""
        if len(relation.parents) != 1 or relation.parents[0] not in self.number:
            return None
        number = self.number[relation.parents[0]]
        column = self.columns[number]
        if column.spreads:
            return None
        codes = np.arange(column.size)
        raw = self._written(column.fit, column.values(codes, None))
        values, missing = relation.apply({column.name: (raw, codes == len(column.ends))})
        held = np.where(missing, values.dtype.type(0), values)
        return number, np.ascontiguousarray(self.forms[relation.name].of_raw(held)), missing
