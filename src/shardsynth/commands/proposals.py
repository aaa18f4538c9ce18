"""Relations that hold on every row: `init` writes orders as constraints, and the others commented out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from shardsynth.data.coding import TableCoder
from shardsynth.data.column_names import said_by
from shardsynth.data.columns import Column
from shardsynth.data.metadata import TABLE
from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.shards import Dataset, read_batches
from shardsynth.data.values import Precision, kind_of
from shardsynth.models.columns.formulas import DAY, DatePartRelation, LinearRelation
from shardsynth.models.columns.guess_relations import guess_relations
from shardsynth.models.columns.relations import Relation
from shardsynth.sampling.constraints.declared import bind
from shardsynth.sampling.constraints.guess_orders import OrderGuess, guess_orders
from shardsynth.sampling.constraints.step import ConstrainedColumn, Step

if TYPE_CHECKING:
    from shardsynth.summaries.persons import Hashes
    from shardsynth.summaries.profile import Profile

#: Most columns of a FixedCombinations that is proposed.
_MOST_COLUMNS = 6


@dataclass(frozen=True)
class ProposedOrder:
    """An order relation that `init` writes into the job as one of SDV's constraints.

    Attributes:
        guess: The two columns.
        step: Tests rows.
    """

    guess: OrderGuess
    step: Step

    @classmethod
    def of(cls, guess: OrderGuess, columns: dict[str, ConstrainedColumn]) -> ProposedOrder:
        """The guess, to be tested on columns of these names."""
        (step,) = bind([_inequality(guess)], columns.__getitem__, list(columns))
        return cls(guess, step)

    @property
    def declaration(self) -> dict[str, Any]:
        """The constraint as a job file declares it."""
        return _inequality(self.guess)

    def violations(self, batch: pa.RecordBatch) -> int:
        """Rows that break it."""
        arrays = {name: batch.column(name) for name in self.step.columns}
        return int(np.count_nonzero(~self.step.valid(arrays, batch.num_rows)))

    def describe(self) -> str:
        """In words, without data values."""
        return self.guess.describe()


def _inequality(guess: OrderGuess) -> dict[str, Any]:
    names = {"low_column_name": guess.low, "high_column_name": guess.high}
    return {"class_name": "Inequality", "parameters": {**names, "strict_boundaries": guess.strict}}


@dataclass(frozen=True)
class Proposals:
    """What holds on every row.

    Attributes:
        relations: Columns that are computed from others, of ``models.columns.guess_relations``.
        orders: Columns that lie below others.
    """

    relations: tuple[Any, ...] = ()
    orders: tuple[ProposedOrder, ...] = ()


def counts_in_order(metadata: dict[str, Any], sample: pa.Table) -> list[str]:
    """Columns of small whole numbers, told as ordered categories, that are counts: they lie below or above another one.

    As numbers, they keep their order.

    Args:
        metadata: In SDV's V2 form.
        sample: Row sample.
    """
    columns = columns_of(metadata, sample.schema)
    table = metadata["tables"][TABLE]["columns"]
    small = {
        column.name
        for column in columns
        if table[column.name]["sdtype"] == "ordinal"
        and kind_of(column.type) == "integer"
        and not pa.types.is_dictionary(column.type)
        and not said_by(column.name).code
    }
    numbers = [replace(c, sdtype="numerical", role="number") if c.name in small else c for c in columns]
    found = {name for guess in guess_orders(numbers, sample) for name in (guess.low, guess.high)} & small
    return [column.name for column in columns if column.name in found]


def verified_proposals(
    dataset: Dataset,
    profile: Profile,
    metadata: dict[str, Any],
    without: Collection[str] = (),
    persons: Hashes | None = None,
) -> Proposals:
    """Relations that are guessed on the row sample and hold on every row of the shards.

    Args:
        dataset: The shards; they are read once more if a relation was guessed.
        profile: Profile of the same rows.
        metadata: Their metadata in SDV's V2 form.
        without: Columns that no model learns, whatever the metadata say.
        persons: Hashes of the persons of the rows of the sample, where persons are counted.
    """
    columns = [column for column in columns_of(metadata, dataset.schema) if column.name not in without]
    coder = TableCoder.from_profile(profile, columns)
    precisions = {c.name: c.precision for c in coder.columns}
    relations, ordered = relations_and_orders(columns, profile.sample, precisions, persons)
    constrained = {c.name: ConstrainedColumn(c.column, c.precision) for c in coder.columns}
    orders = [ProposedOrder.of(guess, constrained) for guess in ordered]
    guesses: list[Any] = [*relations, *orders]
    violations = [0] * len(guesses)
    if guesses:
        for shard in dataset.shards:
            for batch in read_batches(shard, dataset.schema):
                for place, guess in enumerate(guesses):
                    violations[place] += guess.violations(batch)
    holds = [not count for count in violations]
    return Proposals(
        tuple(relation for relation, kept in zip(relations, holds) if kept),
        tuple(order for order, kept in zip(orders, holds[len(relations) :]) if kept),
    )


def relations_and_orders(
    columns: Sequence[Column], sample: pa.Table, precisions: dict[str, Precision], persons: Hashes | None = None
) -> tuple[list[Relation], list[OrderGuess]]:
    """Relations and orders that do not contradict each other: no column of an order is computed.

    An order of a computed column often follows from how it is computed (an end after its start, if no duration is
    negative). One that does not follow makes it a column that is learned: then the duration is computed from the ends.

    Args:
        columns: The table's columns.
        sample: Rows.
        precisions: Grids of the numbers and instants.
        persons: Hashes of the persons of the rows, where persons are counted.
    """
    instants = [column for column in columns if column.role == "datetime"]
    pairs = {(guess.low, guess.high) for guess in guess_orders(instants, sample, reduced=False)}
    learned: set[str] = set()
    while True:
        relations = guess_relations(columns, sample, precisions, given=learned, persons=persons)
        by_name = {relation.name: relation for relation in relations}
        open_ = [
            name for pair in sorted(pairs) if not follows(pair, pairs, by_name) for name in pair if name in by_name
        ]
        if not open_:
            break
        place = {column.name: k for k, column in enumerate(columns)}
        learned.add(min(open_, key=place.__getitem__))
    return relations, guess_orders(columns, sample, set(by_name))


def follows(pair: tuple[str, str], pairs: Collection[tuple[str, str]], relations: Mapping[str, Any]) -> bool:
    """Whether an order of columns holds because of how they are computed, and of the orders of what is learned.

    Args:
        pair: Lower and upper column.
        pairs: All orders that hold, also those that follow from others.
        relations: By name of a computed column.
    """
    low, high = pair
    if low not in relations and high not in relations:
        return True
    (lowest, at_most, _), (highest, _, at_least) = source_of(low, relations), source_of(high, relations)
    if lowest == highest or {lowest, highest} & {*_starts_of(highest, relations), *_starts_of(lowest, relations)}:
        return True
    return at_most and at_least and (lowest, highest) in pairs and not {lowest, highest} & set(relations)


def source_of(name: str, relations: Mapping[str, Any]) -> tuple[str, bool, bool]:
    """The instant that a column is a copy or the date of, or a fixed time from, through others.

    Returns:
        Its name, and whether the column never lies above it and never below it.
    """
    at_most = at_least = True
    while (relation := relations.get(name)) is not None:
        if isinstance(relation, DatePartRelation) and relation.part == "date":
            at_least &= relation.parent.nanoseconds >= DAY
            name = relation.parent.name
        elif isinstance(relation, LinearRelation) and len(relation.parents_) == 1 and relation.derived.nanoseconds:
            at_most &= relation.offset <= 0
            at_least &= relation.offset >= 0
            name = relation.parents_[0].name
        else:
            break
    return name, at_most, at_least


def _starts_of(name: str, relations: Mapping[str, Any]) -> set[str]:
    """The start of an end that is computed from it and a duration."""
    relation = relations.get(name)
    if not isinstance(relation, LinearRelation) or not relation.derived.nanoseconds:
        return set()
    return {source_of(parent.name, relations)[0] for parent in relation.parents_ if parent.nanoseconds}


def constraint_lines(orders: Sequence[ProposedOrder], rows: int) -> Iterator[str]:
    """The lines of a job file that declare orders as its ``constraints``.

    Args:
        orders: Orders that hold on all rows.
        rows: Number of rows.
    """
    if not orders:
        return
    yield f"# Orders of columns on all {rows:,} rows: models learn the gaps, SDV checks every row that is written."
    yield "constraints:"
    for order in orders:
        yield f"  # {one_line(order.describe())} (seen on {order.guess.support:,} rows of the sample)"
        yield f"  - class_name: {order.declaration['class_name']}"
        yield f"    parameters: {_flow(order.declaration['parameters'])}"


def _flow(value: Any) -> str:
    """A value as YAML on one line, its texts quoted."""
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style='"', allow_unicode=True, width=math.inf, sort_keys=False
    )
    return text.strip().replace('!!bool "true"', "true").replace('!!bool "false"', "false")


def proposed_lines(relations: Sequence[Any], rows: int, *, after_constraints: bool = False) -> Iterator[str]:
    """Lines for a job file that propose relations as its ``constraints``, commented out.

    Args:
        relations: Relations that hold on all rows.
        rows: Number of rows.
        after_constraints: Whether the lines go on with the list of the job's ``constraints``.

    Yields:
        Comments of YAML. The first two characters of each are to be deleted.
    """
    if not relations:
        return
    yield f"# # Relations that hold on all {rows:,} rows. Native models keep them anyway; as constraints, every engine"
    yield "# # keeps them, and SDV checks every row that is written. Delete the first two characters of each line."
    declarable = [relation for relation in relations if _combined_columns(relation)]
    if declarable and not after_constraints:
        yield "# constraints:"
    for relation in declarable:
        yield f"#   # {one_line(relation.describe())} (seen on {relation.support:,} rows of the sample)"
        yield "#   - class_name: FixedCombinations"
        yield f"#     parameters: {{column_names: {_flow(_combined_columns(relation))}}}"
    others = [relation for relation in relations if relation not in declarable]
    for relation in others:
        yield f"# # {one_line(relation.describe())} (seen on {relation.support:,} rows; no class of SDV expresses it)"


def _combined_columns(relation: Any) -> list[str]:
    """Columns of the FixedCombinations that expresses a relation; none where one is no category, or they are many."""
    operands = [relation.derived, *(getattr(relation, "parents_", None) or [getattr(relation, "parent", None)])]
    if any(operand is None or operand.values is None for operand in operands) or len(operands) > _MOST_COLUMNS:
        return []
    return [operand.name for operand in operands]


def one_line(text: str) -> str:
    """Text on one line without control characters: YAML forbids them, also in a comment."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
