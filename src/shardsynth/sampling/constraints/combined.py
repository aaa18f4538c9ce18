"""SDV's FixedCombinations and OneHotEncoding: a model sees several columns as one joint category.

A category of a FixedCombinations is the combination itself, written as JSON. One of a OneHotEncoding is the name of the
column that is 1. So the columns can be restored from a model's categories alone. A combination that a model leaves out
(it is on fewer than ``rare.min_count`` rows) is stored nowhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.values import decoded, kind_of, native, taken
from shardsynth.sampling.constraints.step import Arrays, ConstrainedColumn, Mask, Replacement, missing_of

#: Arrow type of the joint column.
JOINT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class CombinationStep:
    """Only combinations that the row sample has.

    Attributes:
        declared: SDV's declaration.
        constrained: The columns.
        name: Name of the joint column; "" where another constraint has replaced one of the columns, so that this one is
            enforced by rejection.
        known: The allowed combinations as JSON, where there is no joint column.
    """

    declared: dict[str, Any]
    constrained: tuple[ConstrainedColumn, ...]
    name: str = ""
    known: frozenset[str] = frozenset()
    _cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(c.column.name for c in self.constrained)

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``."""
        return self.columns if self.name else ()

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``."""
        return ()

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        return (Replacement(pa.field(self.name, JOINT), {"sdtype": "categorical"}),) if self.name else ()

    def labels(self, arrays: Arrays) -> pa.DictionaryArray:
        """Each row's combination as JSON."""
        key: NDArray[np.int64] = np.zeros(len(arrays[self.columns[0]]), np.int64)
        columns: list[list[Any]] = []  # codes and values
        for name in self.columns:
            codes, values = _coded(arrays[name])
            # Renumber after each column: the product of all sizes might not fit 64 bits.
            _, key = np.unique(key * len(values) + codes, return_inverse=True)
            key = key.reshape(-1)
            columns.append([codes, values])
        distinct, first, codes = np.unique(key, return_index=True, return_inverse=True)
        rows = [[values[column[row]] for column, values in columns] for row in first.tolist()]
        labels = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
        return pa.DictionaryArray.from_arrays(
            pa.array(codes.reshape(-1).astype(np.int32)), pa.array(labels, pa.string())
        )

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        return {self.name: self.labels(arrays)} if self.name else {}

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        if not self.name:
            return {}, np.zeros(n, np.bool_)
        joint = arrays[self.name]
        tables, known = self._tables(joint.dictionary)
        indices = joint.indices
        broken = missing_of(indices)
        place = np.where(broken, 0, np.asarray(indices.fill_null(0).to_numpy(zero_copy_only=False))).astype(np.int64)
        if not len(known):
            return {c.column.name: pa.nulls(n, c.column.type) for c in self.constrained}, np.ones(n, np.bool_)
        broken |= ~known[place]
        rows = pa.array(place)
        return {c.column.name: taken(table, rows) for c, table in zip(self.constrained, tables)}, broken

    def _tables(self, dictionary: pa.Array) -> tuple[list[pa.Array], Mask]:
        """For each column, its value by label; and bool[labels]: which labels are combinations."""
        cached = self._cache.get("tables")
        if cached is not None and (cached[0] is dictionary or cached[0].equals(dictionary)):
            tables_and_known: tuple[list[pa.Array], Mask] = cached[1]
            return tables_and_known
        rows = [_parsed(label, len(self.constrained)) for label in dictionary.to_pylist()]
        known = np.array([row is not None for row in rows], np.bool_)
        tables = [_typed([None if row is None else row[i] for row in rows], c) for i, c in enumerate(self.constrained)]
        self._cache["tables"] = (dictionary, (tables, known))
        return tables, known

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``: a joint column leaves nothing to check."""
        if self.name:
            return np.ones(n, np.bool_)
        labels = self.labels(arrays)
        table = np.array([label in self.known for label in labels.dictionary.to_pylist()], np.bool_)
        return np.asarray(table[labels.indices.to_numpy()]) if n else np.ones(0, np.bool_)

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        return {
            "kind": "combination",
            "declared": self.declared,
            "held": [c.to_json() for c in self.constrained],
            "name": self.name,
            "known": sorted(self.known),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> CombinationStep:
        """Inverse of ``to_json``."""
        constrained = tuple(ConstrainedColumn.from_json(c, schema) for c in data["held"])
        return cls(data["declared"], constrained, data["name"], frozenset(data["known"]))


@dataclass(frozen=True)
class OneHotStep:
    """Exactly one of the columns is 1, the others are 0.

    Attributes:
        declared: SDV's declaration.
        constrained: The columns.
        name: Name of the column that says which one is 1; "" where the constraint is enforced by rejection.
    """

    declared: dict[str, Any]
    constrained: tuple[ConstrainedColumn, ...]
    name: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """See ``Step``."""
        return tuple(c.column.name for c in self.constrained)

    @property
    def replaced(self) -> tuple[str, ...]:
        """See ``Step``."""
        return self.columns if self.name else ()

    @property
    def needed(self) -> tuple[str, ...]:
        """See ``Step``."""
        return ()

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """See ``Step``."""
        return (Replacement(pa.field(self.name, JOINT), {"sdtype": "categorical"}),) if self.name else ()

    def transform(self, arrays: Arrays) -> dict[str, pa.Array]:
        """See ``Step``."""
        if not self.name:
            return {}
        which = np.argmax(np.stack([self.number(arrays[name]) == 1 for name in self.columns]), axis=0)
        return {self.name: pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(self.columns))}

    @staticmethod
    def number(array: pa.Array) -> NDArray[np.float64]:
        """Values float64[n] of a flag, NaN where missing."""
        plain = decoded(array)
        if kind_of(plain.type) == "decimal":
            plain = plain.cast(pa.float64())
        if kind_of(plain.type) not in ("integer", "float", "boolean"):
            return np.full(len(plain), np.nan)
        values, nulls = native(plain)
        return values.astype(np.float64) if nulls is None else np.where(nulls, np.nan, values)

    def restore(self, arrays: Arrays, n: int) -> tuple[dict[str, pa.Array], Mask]:
        """See ``Step``."""
        if not self.name:
            return {}, np.zeros(n, np.bool_)
        joint = arrays[self.name]
        names = joint.dictionary.to_pylist()
        table = np.array([self.columns.index(x) if x in self.columns else -1 for x in names] + [-1], np.int64)
        codes = table[np.asarray(joint.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)).astype(np.int64)]
        restored = {}
        for i, c in enumerate(self.constrained):
            table = _typed([0, 1], c)
            restored[c.column.name] = taken(table, pa.array((codes == i).astype(np.int8)))
        return restored, codes < 0

    def valid(self, arrays: Arrays, n: int) -> Mask:
        """See ``Step``: the rule of SDV's ``OneHotEncoding``."""
        values = np.stack([self.number(arrays[name]) for name in self.columns])
        with np.errstate(invalid="ignore"):
            return np.asarray((values.sum(axis=0) == 1) & (values.max(axis=0) == 1) & (values.min(axis=0) == 0))

    def to_json(self) -> dict[str, Any]:
        """See ``Step``."""
        columns = [c.to_json() for c in self.constrained]
        return {"kind": "one_hot", "declared": self.declared, "held": columns, "name": self.name}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], schema: pa.Schema) -> OneHotStep:
        """Inverse of ``to_json``."""
        return cls(data["declared"], tuple(ConstrainedColumn.from_json(c, schema) for c in data["held"]), data["name"])


def _coded(array: pa.Array) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes of a column, and the JSON value of each code; the last code is missing."""
    plain = decoded(array)
    if kind_of(plain.type) == "float":
        plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    encoded = plain.dictionary_encode()
    values = _to_json(encoded.dictionary)
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return np.asarray(codes).astype(np.int64), [*values, None]


def _to_json(values: pa.Array) -> list[Any]:
    kind = kind_of(values.type)
    if kind == "temporal":
        return list(native(values)[0].tolist())
    if kind == "decimal":
        return [str(v) for v in values.to_pylist()]
    if kind == "binary":
        return [base64.b64encode(v).decode("ascii") for v in values.to_pylist()]
    return list(values.to_pylist())


def _parsed(label: str, size: int) -> list[Any] | None:
    """The combination of a label; None for another label, such as the ``other`` of rare categories."""
    try:
        row = json.loads(label)
    except ValueError:
        return None
    return row if isinstance(row, list) and len(row) == size else None


def _typed(values: Sequence[Any], constrained: ConstrainedColumn) -> pa.Array:
    """JSON values as an array of the column's type."""
    kind = constrained.column.value_type
    nature = kind_of(kind)
    if nature == "temporal":
        storage = pa.int32() if kind.bit_width == 32 else pa.int64()
        plain = pa.array(values, storage).view(kind)
    elif nature == "decimal":
        plain = pa.array([None if v is None else str(v) for v in values], pa.string()).cast(kind)
    elif nature == "binary":
        plain = pa.array([None if v is None else base64.b64decode(v) for v in values], kind)
    else:
        plain = pa.array([bool(v) if v is not None else None for v in values] if nature == "boolean" else values, kind)
    if constrained.emit_nan and nature == "float":
        plain = plain.fill_null(float("nan"))
    if not pa.types.is_dictionary(constrained.column.type):
        return plain
    encoded = plain.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(constrained.column.type.index_type),
        encoded.dictionary,
        ordered=constrained.column.type.ordered,
    )
