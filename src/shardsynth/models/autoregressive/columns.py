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
from shardsynth.models.columns.operands import Values
from shardsynth.models.columns.relations import Relation

Codes = NDArray[np.int16]
Floats = NDArray[np.float64]
#: Gives the uniform numbers float64[n] of a learned column, by its number; called only for columns that need them.
Places = Callable[[int], Floats]


class Writer:
    """Turns codes into Arrow arrays of the learned and the computed columns.

    Args:
        columns: The learned columns.
        relations: Computed columns; each comes after the computed columns that it needs.
        fits: Every column, by its name.
        forms: Storage form of every learned, computed and constant column, by its name.

    Attributes:
        columns: The learned columns.
        forms: Storage forms by column name.
        number: Number of each learned column, by its name.
        tables: Computed columns that a table over the codes of their one parent gives, by name: the parent's number,
            and per code of the parent the value and whether it is missing.
        computed: The other computed columns.
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
        arrays: dict[str, pa.Array] = {}
        for i, column in enumerate(self.columns):
            column_codes = codes[i]
            missing = column.missing(column_codes)
            form = self.forms[column.name]
            if i in self._atoms:
                value_codes = np.minimum(column_codes, len(column.ends) - 1) if column.nullable else column_codes
                values = self._atoms[i][value_codes]
            else:
                values = form.of_raw(column.values(column_codes, places(i)))
            arrays[column.name] = form.array(np.ascontiguousarray(values), missing)
        for name, (parent, values, absent) in self.tables.items():
            parent_codes = codes[parent]
            mask = absent[parent_codes] if absent.any() else None
            arrays[name] = self.forms[name].array(np.ascontiguousarray(values[parent_codes]), mask)
        for name, (raw, missing) in self.computed_values(codes, places).items():
            form = self.forms[name]
            filled = np.where(missing, raw.dtype.type(0), raw) if missing.any() else raw
            with np.errstate(invalid="ignore"):
                arrays[name] = form.array(np.ascontiguousarray(form.of_raw(filled)), missing)
        return arrays

    def computed_values(self, codes: Codes, places: Places, names: Sequence[str] | None = None) -> dict[str, Values]:
        """Category indices or axis values of columns in ``computed``, and which are missing, by column name.

        Args:
            codes: Codes [columns, n] of the learned columns.
            places: Gives uniform numbers.
            names: The columns to compute; None: all.
        """
        known: dict[str, Values] = {}
        computed: dict[str, Values] = {}
        needed = {relation.name for relation in self.computed} if names is None else set(names)
        for relation in reversed(self.computed):  # a parent comes before its children
            needed |= set(relation.parents) if relation.name in needed else set()
        for relation in self.computed:
            if relation.name not in needed:
                continue
            for parent in relation.parents:
                if parent not in known:
                    known[parent] = self.raw(parent, codes, places)
            known[relation.name] = computed[relation.name] = relation.apply(known)
        return computed

    def raw(self, name: str, codes: Codes, places: Places | None = None) -> Values:
        """Category indices or axis values, on the grid, of a column that is not in ``computed``; and which are missing.

        Args:
            name: The column: learned, constant, empty, or one of ``tables``.
            codes: Codes [columns, n] of the learned columns.
            places: Gives uniform numbers; None: each code stands for one of its values.
        """
        n = codes.shape[1]
        if name in self.number:
            column = self.columns[self.number[name]]
            column_codes = codes[self.number[name]]
            missing = column.missing(column_codes)
            uniform = places(self.number[name]) if places is not None and column.spreads else None
            values = column.values(column_codes, uniform)
            raw = self._written(self._fits[name], values)
            return raw, np.zeros(n, np.bool_) if missing is None else missing
        if name in self.tables:
            parent, stored, absent = self.tables[name]
            parent_codes = codes[parent]
            form = self.forms[name]
            if form.column.categories is not None and form.stored is not None:
                order = np.argsort(form.stored, kind="stable")
                return order[np.searchsorted(form.stored, stored, sorter=order)][parent_codes], absent[parent_codes]
            raw = stored if form.column.categories is not None else form.axis(stored)
            return raw[parent_codes], absent[parent_codes]
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
        """Entry of ``tables``; None unless the column has one parent, which is learned and has one value per code."""
        if len(relation.parents) != 1 or relation.parents[0] not in self.number:
            return None
        number = self.number[relation.parents[0]]
        column = self.columns[number]
        if column.spreads:
            return None
        codes = np.arange(column.size)
        raw = self._written(column.fit, column.values(codes, None))
        values, missing = relation.apply({column.name: (raw, codes == len(column.ends))})
        filled = np.where(missing, values.dtype.type(0), values)
        return number, np.ascontiguousarray(self.forms[relation.name].of_raw(filled)), missing
