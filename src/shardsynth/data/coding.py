"""From values to small integer codes, which ``Counts`` counts.

A ``TableCoder`` is made once, from a merged ``Profile``. *Fine* codes are categories, or the bins and atoms of an axis.
*Coarse* codes (at most 32) join fine codes for the pair tables of the fit. The last code of both means "missing".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.data import archive
from shardsynth.data.choose import choose_coder
from shardsynth.data.column_codes import SCORE_STEP, Codes, ColumnCoder, Floats, Native
from shardsynth.data.columns import Column, schema_from_text, schema_to_text
from shardsynth.data.ends import NO_ENDS, EndRule, Ends
from shardsynth.data.values import Array, Precision, axis_of_native, kind_of, native, plain_type, to_arrow, wide_dtype

if TYPE_CHECKING:
    from shardsynth.data.tallies import TableTallies

__all__ = ["SCORE_STEP", "WIDE", "ColumnCoder", "Encoded", "TableCoder"]

#: Most learned columns of a table that has pair tables.
WIDE = 500


@dataclass(frozen=True)
class Encoded:
    """A batch in codes.

    Attributes:
        coder: The coder that made the codes.
        rows: Number of rows of the batch.
        codes: Fine codes per learned column, int16[rows] each.
        native: Native values and null mask per learned column; None for text categories.
    """

    coder: TableCoder
    rows: int
    codes: list[Codes]
    native: list[Native | None]

    @cached_property
    def axis(self) -> list[Floats | None]:
        """float64[rows] with NaN where missing, per learned column; None for categories."""
        return [self._axis_of(i) for i in range(len(self.codes))]

    def missing(self, i: int) -> npt.NDArray[np.bool_] | None:
        """bool[rows], True where learned column ``i`` is missing; None if no row is."""
        absent = self.codes[i] == self.coder.columns[i].missing
        return absent if absent.any() else None

    def _axis_of(self, i: int) -> Floats | None:
        coder, values = self.coder.columns[i], self.native[i]
        if coder.is_category or values is None:
            return None
        floats = axis_of_native(values[0], coder.column.value_type)
        return floats if values[1] is None else np.where(values[1], np.nan, floats)


@dataclass(frozen=True)
class TableCoder:
    """Coders of the learned columns of a table.

    Attributes:
        columns: One coder per learned column, in schema order: the index ``i`` everywhere in ``Counts``.
        table: Every column of the table, learned or not, in schema order.
        rows: Number of rows of the profile (training rows).
        seed: The job's seed.
    """

    columns: list[ColumnCoder]
    table: tuple[Column, ...]
    rows: int
    seed: int = 0

    @cached_property
    def index(self) -> dict[str, int]:
        """Name of a learned column to its index in ``columns``."""
        return {c.name: i for i, c in enumerate(self.columns)}

    @property
    def wide(self) -> bool:
        """Whether there are too many columns for pair tables."""
        return len(self.columns) > WIDE

    @property
    def missing_columns(self) -> list[int]:
        """Indices of the columns that have missing values in the profile."""
        return [i for i, c in enumerate(self.columns) if c.mass[-1] > 0]

    @property
    def normal_scores(self) -> list[Floats]:
        """Per column, float64[n_codes]: the normal score of each fine code; 0 for missing."""
        return [c.scores for c in self.columns]

    def encode(self, batch: pa.RecordBatch | pa.Table) -> Encoded:
        """Codes of a batch or table; it must have the learned columns, by name."""
        arrays = [batch.column(c.name) for c in self.columns]
        if isinstance(batch, pa.Table):
            arrays = [_one_chunk(a) for a in arrays]
        values = [c.native(a) for c, a in zip(self.columns, arrays)]
        codes = [c.codes(a, v) for c, a, v in zip(self.columns, arrays, values)]
        return Encoded(self, batch.num_rows, codes, values)

    @classmethod
    def from_profile(
        cls,
        profile: TableTallies,
        columns: Sequence[Column],
        row_sample: pa.Table | None = None,
        min_count: int = 5,
        ends: EndRule | None = None,
    ) -> TableCoder:
        """Choose the codes of every learned column.

        Args:
            profile: Merged profile of the training rows.
            columns: Every column of the table.
            row_sample: Row sample, used for columns with too many distinct values to count; the profile's own sample if
                None.
            min_count: In such a column, categories with fewer rows in the sample become ``other``.
            ends: How the ends of numeric columns are chosen, where tails are fitted to them; None: there are no tails.
        """
        sample = profile.sample if row_sample is None else row_sample
        learned = [c for c in columns if c.role in ("category", "number", "datetime")]
        coders = [choose_coder(c, profile[c.name], sample[c.name], min_count, ends) for c in learned]
        return cls(coders, tuple(columns), profile.rows, profile.options.seed)

    def save(self, path: str | Path) -> None:
        """Write one file; equal coders give equal bytes."""
        members: dict[str, archive.Member] = {}
        heads = []
        for c in self.columns:
            head: dict[str, Any] = {"precision": c.precision.to_json(), "values": None, "numbers": 0}
            if c.values is not None:
                is_text = kind_of(c.column.type) in ("text", "binary")
                head["values"] = [archive.value_to_json(v) for v in c.values.to_pylist()] if is_text else len(c.values)
            heads.append({**head, "other": c.other, "emit_nan": c.emit_nan, "decimals": c.decimals})
            heads[-1].update(name=c.name, cuts=len(c.cuts), codes=c.n_codes)
        for name in ("int64", "uint64", "float64"):
            numbers = [_numbers(c) for c in self.columns]
            members[f"values.{name}"] = np.concatenate(
                [np.zeros(0, name), *(n for n in numbers if n is not None and n.dtype == name)]
            )
        members["cuts"] = np.concatenate([np.zeros(0), *(c.cuts for c in self.columns)])
        members["coarse"] = np.concatenate([np.zeros(0, np.int16), *(c.coarse for c in self.columns)])
        members["mass"] = np.concatenate([np.zeros(0, np.int64), *(c.mass for c in self.columns)])
        members["ends"] = np.array([[c.low, c.high, *c.bounds] for c in self.columns], np.float64).reshape(-1, 4)
        if any(c.ends is not None for c in self.columns):
            members["protected_ends"] = np.array([NO_ENDS if c.ends is None else c.ends.to_row() for c in self.columns])
        if self.wide:
            # Stored, so that the Gram matrix does not depend on the machine that counts.
            scores = [np.rint(c.scores / SCORE_STEP) for c in self.columns]
            members["scores"] = np.concatenate(scores).astype(np.int32)
        members["head"] = {
            "version": 1,
            "schema": schema_to_text(pa.schema([pa.field(c.name, c.type) for c in self.table])),
            "table": [{"sdtype": c.sdtype, "role": c.role, "options": c.options} for c in self.table],
            "columns": heads,
            "rows": self.rows,
            "seed": self.seed,
        }
        archive.write(path, members)

    @classmethod
    def load(cls, path: str | Path) -> TableCoder:
        """The coder that ``save`` wrote.

        Raises:
            RunError: The file cannot be read.
        """
        members = archive.read(path)
        head = members["head"]
        schema = schema_from_text(head["schema"])
        table = tuple(Column(f.name, f.type, **fields) for f, fields in zip(schema, head["table"]))
        by_name = {c.name: c for c in table}
        offsets = dict.fromkeys(("cuts", "coarse", "mass", "values.int64", "values.uint64", "values.float64"), 0)

        def take(name: str, n: int) -> Array:
            offsets[name] += n
            values: Array = members[name][offsets[name] - n : offsets[name]]
            return values

        protected = members.get("protected_ends", np.full((len(head["columns"]), len(NO_ENDS)), np.nan))
        coders = []
        for c, ends, protected_ends in zip(head["columns"], members["ends"], protected):
            column = by_name[c["name"]]
            values = None
            if isinstance(c["values"], list):
                binary = kind_of(column.type) == "binary"
                values = pa.array([archive.value_from_json(v, binary) for v in c["values"]], plain_type(column.type))
            elif c["values"] is not None:
                values = to_arrow(take(f"values.{wide_dtype(column.value_type)}", c["values"]), column.value_type)
            cuts, coarse, mass = take("cuts", c["cuts"]), take("coarse", c["codes"]), take("mass", c["codes"])
            low, high, *bounds = (float(v) for v in ends)
            coders.append(
                ColumnCoder(
                    column=column,
                    values=values,
                    other=c["other"],
                    cuts=cuts,
                    coarse=coarse,
                    mass=mass,
                    precision=Precision.from_json(c["precision"]),
                    emit_nan=c["emit_nan"],
                    low=low,
                    high=high,
                    bounds=(bounds[0], bounds[1]),
                    decimals=c["decimals"],
                    ends=Ends.from_row(protected_ends),
                )
            )
        if "scores" in members:
            parts = np.split(members["scores"], np.cumsum([c.n_codes for c in coders])[:-1])
            for coder, part in zip(coders, parts):
                coder.__dict__["scores"] = part * SCORE_STEP
        return cls(coders, table, head["rows"], head["seed"])


def _numbers(coder: ColumnCoder) -> Array | None:
    if coder.values is None or kind_of(coder.column.type) in ("text", "binary"):
        return None
    return native(coder.values)[0].astype(wide_dtype(coder.column.value_type))


def _one_chunk(array: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.unify_dictionaries()
    return array.combine_chunks()
