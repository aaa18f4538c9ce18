"""The table as a deep model sees it: where each column lies in a row of the networks, and the rows in compact codes.

A network row holds column after column, as in the ctgan package: for a numeric column one tanh position and the one-hot
mode, for a category column the one-hot code. Rows are one-hot only inside a batch. Outside of it, a row is one small
integer per one-hot span and one float32 per numeric column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from shardsynth.data.coding import TableCoder
from shardsynth.errors import ModelError
from shardsynth.models.columns.fit import ColumnPersons
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.formulas import DatePartRelation
from shardsynth.models.columns.learn import bound_relations, verified_relations
from shardsynth.models.columns.relations import FunctionRelation, Relation
from shardsynth.models.ctgan.columns import Integers, ModeColumn, code_axis, code_category
from shardsynth.models.ctgan.options import DeepOptions
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile


@dataclass(frozen=True)
class Layout:
    """Positions in a row of the networks. A span is the one-hot positions of one column.

    Attributes:
        width: Length of a row.
        start: int64[s], first position of each span, in column order.
        size: int64[s], length of each span.
        tanh: int64[c], position of each numeric column's place.
        conditional: int64[d], numbers of the spans that condition vectors choose from: those of category columns.
    """

    width: int
    start: Integers
    size: Integers
    tanh: Integers
    conditional: Integers

    @classmethod
    def of(cls, columns: Sequence[ModeColumn]) -> Layout:
        """Layout of the learned columns."""
        start, tanh, conditional, width = [], [], [], 0
        for number, column in enumerate(columns):
            if column.is_axis:
                tanh.append(width)
                width += 1
            else:
                conditional.append(number)
            start.append(width)
            width += column.size
        size = [column.size for column in columns]
        return cls(width, *(np.array(a, np.int64) for a in (start, size, tanh, conditional)))

    @cached_property
    def segment(self) -> Integers:
        """int64[width]: segment of each position. Segments are the spans, then one for each tanh position."""
        owner = np.empty(self.width, np.int64)
        owner[self.tanh] = len(self.start) + np.arange(len(self.tanh))
        for number, (first, size) in enumerate(zip(self.start, self.size)):
            owner[first : first + size] = number
        return owner

    @cached_property
    def condition_start(self) -> Integers:
        """int64[d]: first position of each conditional span in a condition vector."""
        return np.concatenate([[0], np.cumsum(self.size[self.conditional])[:-1]]).astype(np.int64)[
            : len(self.conditional)
        ]

    @property
    def condition_width(self) -> int:
        """Length of a condition vector."""
        return int(self.size[self.conditional].sum())


@dataclass(frozen=True)
class DeepCoding:
    """The columns of a deep model.

    Attributes:
        table: One per schema column: treatment ``latent``, ``constant``, ``empty``, ``id`` or ``pii``.
        columns: The learned ones, in schema order.
        notes: Facts for the report.
        relations: How computed columns are computed. The networks learn these columns, too; what they draw of them is
            replaced.
    """

    table: tuple[FittedColumn, ...]
    columns: tuple[ModeColumn, ...]
    notes: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()

    @cached_property
    def layout(self) -> Layout:
        """Positions of the learned columns."""
        return Layout.of(self.columns)

    @classmethod
    def fit(
        cls,
        profile: Profile,
        coder: TableCoder,
        counts: Counts,
        options: DeepOptions,
        schema: pa.Schema,
        relations: Sequence[Relation] | None = None,
    ) -> DeepCoding:
        """Choose modes and codes from the counts of all training rows; no row is read.

        Args:
            profile: Merged profile of the training rows.
            coder: Made from the profile.
            counts: Merged counts of the training rows.
            options: Of the family.
            schema: Arrow schema of the table.
            relations: Computed columns, as for ``fit_copula``; None: there are none.

        Raises:
            ModelError: There is nothing to learn, or a column cannot be learned under the protections.
        """
        if counts.rows == 0:
            raise ModelError("there is no training row: a smaller evaluate.holdout leaves some")
        table: dict[str, FittedColumn] = {}
        learned: list[ModeColumn] = []
        notes: list[str] = []
        for i, (column_coder, hist) in enumerate(zip(coder.columns, counts.hist)):
            persons = ColumnPersons.of(counts, i)
            if column_coder.is_category:
                nullable = schema.field(column_coder.name).nullable
                fitted, column, more = code_category(column_coder, hist, options, nullable=nullable, persons=persons)
            else:
                fitted, column, more = code_axis(column_coder, hist, profile[column_coder.name], options, persons)
            table[column_coder.name] = fitted
            learned += [column] if column is not None else []
            notes += more
        if not learned:
            raise ModelError(
                f"{options.family}: no column is left to learn (all are ids, personal, empty, constant or rare)"
            )
        rest = {
            c.name: FittedColumn(c.name, c.role, c.role if c.role in ("id", "pii") else "empty") for c in coder.table
        }
        whole = tuple(table.get(name) or rest[name] for name in schema.names)
        computed = () if relations is None else _computed(coder, counts, table, relations, notes)
        return cls(whole, tuple(learned), tuple(notes), computed)


def _computed(
    coder: TableCoder,
    counts: Counts,
    table: Mapping[str, FittedColumn],
    relations: Sequence[Relation],
    notes: list[str],
) -> tuple[Relation, ...]:
    """The relations that no row breaks and that whatever the networks draw can be put into; ``notes`` gets them."""
    usable: list[Relation] = []
    for relation in verified_relations(counts, relations, notes):
        if isinstance(relation, FunctionRelation) and relation.parent.values is None:
            continue  # a network draws numbers between those for which the function is known
        (found,) = bound_relations(coder, table, [relation], notes) or (None,)
        if isinstance(found, DatePartRelation) and found.derived.values is not None:
            held = table[found.name].categories
            values = [] if held is None else held.to_pylist()
            if not set(found.derived.values) <= set(values):
                continue
            found = replace(found, derived=replace(found.derived, values=tuple(values)))
        if found is not None and table[found.name].treatment == "latent":
            usable.append(found)
    notes += [relation.describe() for relation in usable]
    return tuple(usable)


def needed_bytes(layout: Layout, options: DeepOptions, rows: int) -> Mapping[str, int]:
    """Bytes that training needs on its device: ``parameters`` (with Adam's state), ``batch`` and ``table``."""
    w, c, b = layout.width, layout.condition_width, options.batch_size

    def chain(width: int, hidden: Sequence[int], out: int, *, residual: bool = False) -> int:
        total = 0
        for size in hidden:
            total += (width + 3) * size
            width = width + size if residual else size
        return total + (width + 1) * out

    if options.is_gan:
        packed = (w + c) * options.pac
        parameters = chain(options.embedding_dim + c, options.generator_dim, w, residual=True)
        parameters += chain(packed, options.discriminator_dim, 1)
        table = rows * (len(layout.size) * 2 + len(layout.tanh) * 4 + len(layout.conditional) * 4)
    else:
        parameters = chain(w, options.compress_dims, 2 * options.embedding_dim)
        parameters += chain(options.embedding_dim, options.decompress_dims, w)
        table = rows * (len(layout.size) * 2 + len(layout.tanh) * 4)
    return {"parameters": 16 * parameters, "batch": 4 * 24 * b * (w + c), "table": table}


def check_memory(columns: Sequence[ModeColumn], options: DeepOptions, rows: int, available: int, device: str) -> str:
    """The width of a row and the memory that training will need, as a line for the log.

    Args:
        columns: The learned columns.
        options: Sizes of the networks and of a batch.
        rows: Rows whose codes lie in the device's memory.
        available: Bytes that the device has.
        device: Its name.

    Raises:
        ModelError: The device has too little memory; the error names the widest columns and what to change.
    """
    layout = Layout.of(columns)
    need = needed_bytes(layout, options, rows)
    total = sum(need.values())
    line = (
        f"{options.family}: rows of {layout.width} positions, conditions of {layout.condition_width}, "
        f"{need['parameters'] / 16e6:.1f} M parameters, "
        f"about {total / 2**30:.2f} GiB of {available / 2**30:.1f} on {device}"
    )
    if total > available:
        widest = sorted(columns, key=lambda column: -column.size)[:3]
        names = ", ".join(f"{column.name!r} ({column.size})" for column in widest)
        raise ModelError(
            f"{line}: too much. The widest columns are {names}: lower max_categories (now {options.max_categories}) "
            "or batch_size, make them ids in the metadata, or take a device with more memory"
        )
    return line
