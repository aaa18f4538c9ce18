"""A trained model of several tables as plain data: drawn by blocks of subjects, saved and loaded.

Its folder has one folder a table, which is that of a model of this table alone, and two files of its own: what ties the
tables together.
"""

# ruff: noqa: UP045
from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from shardsynth.data.columns import schema_to_text
from shardsynth.data.layout import (
    Layout,
    count_name,
    first_name,
    from_numbers,
    index_values,
    inner_schemas,
    moved_name,
    ranks,
    to_numbers,
)
from shardsynth.data.relations import Table, TableTree
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.parameters import AutoregressiveParameters
from shardsynth.models.autoregressive.sampler import places as uniforms
from shardsynth.models.autoregressive.subjects.network import SubjectsNetwork, TableShape
from shardsynth.models.autoregressive.subjects.sampler import BLOCK, DrawnRows, SubjectsSampler, Tie
from shardsynth.models.columns.card import Card, Count, GeneratorCard, Name, Share
from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import read_files, schema_of, write_files
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.sampling.generators import GeneratorError, check_generator
from shardsynth.sampling.identifiers import make
from shardsynth.sampling.streams import random_words, stream_key

FAMILY = "autoregressive_tables"
_FORMAT = 1
Integers = NDArray[np.int64]


class _TableCard(Card):
    """See ``data.relations.Table`` and ``data.layout.Layout``."""

    name: Name
    key: Optional[Name]
    owner: Optional[Name]
    owner_column: Optional[Name]
    index: Optional[Name]
    implied: bool
    plain: list[Name]
    moved: list[Name]
    after: list[Name]
    numbered: list[Name]
    whole: bool
    schema_: Annotated[str, Field(alias="schema")]
    most: Annotated[int, Field(ge=1, lt=2**40)]
    loose: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    stays: list[Share]
    generator: Optional[GeneratorCard]


class SubjectsCard(Card):
    """``model.json`` of a model of several tables."""

    format: Annotated[int, Field(ge=1)]
    engine: Literal["native"]
    family: Literal["autoregressive_tables"]
    name: Name
    subjects: Count
    shape: dict[Name, Annotated[int, Field(ge=1, le=1 << 20)]]
    tables: list[_TableCard]
    notes: list[str]


@dataclass(frozen=True)
class Block:
    """The synthetic rows of one block of subjects.

    Attributes:
        rows: By table that is in files, in the input's schema.
        subjects: By table int64[n], number of each row's subject, never decreasing.
        loose: By table: rows that name no owner, and int64[n], never decreasing, the subject that each is written with.
    """

    rows: dict[str, pa.RecordBatch]
    subjects: dict[str, Integers]
    loose: dict[str, tuple[pa.RecordBatch, Integers]] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectsModel:
    """A trained model of several tables.

    Attributes:
        tree: The tables.
        layouts: What of each table is learned where.
        schemas: Schema of each table that is in files.
        parts: By table, its inner table as a model of one table; the networks are in ``network``.
        network: The networks of all tables, folded.
        most: By table, the largest number of rows of a subject.
        stays: By table float64[learned columns]: how often a value is the very same as in the row before, where its
            code is.
        generators: By table with a primary key, how its values are made.
        name: Part of the keys of the random streams.
        subjects: Number of training subjects.
        loose: By table, rows that name no owner for each row that has one.
        notes: Facts for the report.
    """

    tree: TableTree
    layouts: Mapping[str, Layout]
    schemas: Mapping[str, pa.Schema]
    parts: Mapping[str, AutoregressiveParameters]
    network: SubjectsNetwork
    most: Mapping[str, int]
    stays: Mapping[str, NDArray[np.float64]]
    generators: Mapping[str, dict[str, Any]]
    name: str
    subjects: int
    loose: Mapping[str, float]
    notes: tuple[str, ...] = ()

    def keys(self, seed: int) -> dict[str, tuple[int, int]]:
        """Key of each table's random stream."""
        return {table.name: stream_key(seed, f"{self.name}/{table.name}") for table in self.tree.tables}

    @cached_property
    def _sampler(self) -> SubjectsSampler:
        options = self.parts[self.tree.root.name].options
        calibration = {name: part.calibration for name, part in self.parts.items()}
        return self.sampler(calibration, temperature=options.temperature, top_p=options.top_p)

    def sampler(
        self, calibration: Mapping[str, torch.Tensor], temperature: float = 1.0, top_p: float = 1.0
    ) -> SubjectsSampler:
        """Draws codes, with these additions to the biases."""

        def counts(name: str, owner_rows: DrawnRows) -> Integers:
            owner = self.tree.by_name[name].owner
            assert owner is not None
            return self._counts(name, self._inner(owner, owner_rows))

        return SubjectsSampler(
            self.network,
            calibration,
            self.most,
            counts,
            self._ties(),
            self._first_missing(),
            temperature=temperature,
            top_p=top_p,
        )

    def _first_missing(self) -> dict[str, int]:
        """By table, the column of gaps that the first row of an owner lacks, and no other."""
        found = {}
        for table in self.tree.files:
            for number, column in enumerate(self.parts[table.name].coding.columns):
                if column.name == table.index and column.nullable and self.layouts[table.name].whole:
                    found[table.name] = number
        return found

    def _ties(self) -> dict[str, dict[int, Tie]]:
        """By table: columns that say something of rows of a child table, and are missing where there is none."""
        ties: dict[str, dict[int, Tie]] = {table.name: {} for table in self.tree.tables}
        for child in self.tree.tables:
            if child.owner is None:
                continue
            columns = self.parts[child.owner].coding.columns
            numbers = {column.name: number for number, column in enumerate(columns)}
            count = numbers.get(count_name(child.name))
            none = None if count is None else columns[count].code_of_only(0.0)
            if count is None or none is None:
                continue
            childless = float(columns[count].share[none])
            names = [moved_name(child.name, name) for name in self.layouts[child.name].moved]
            for name in [first_name(child.name), *names]:
                number = numbers.get(name)
                if number is not None and columns[number].nullable and number > count:
                    missing = float(columns[number].share[-1])
                    ties[child.owner][number] = Tie(count, none, always=missing <= 1.001 * childless + 1e-6)
        return ties

    def _counts(self, child: str, owner_rows: pa.RecordBatch) -> Integers:
        """Rows of each owner in a child table."""
        owner = self.tree.by_name[child].owner
        assert owner is not None
        column = owner_rows.column(owner_rows.schema.get_field_index(count_name(child)))
        numbers = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        least = 1 if self.tree.by_name[owner].implied else 0
        return np.asarray(np.clip(numbers, least, max(least, self.most[child] // self.most[owner])), np.int64)

    def _inner(self, name: str, drawn: DrawnRows) -> pa.RecordBatch:
        """The inner rows of a table from their codes."""
        part = self.parts[name]
        within = _kept_places(drawn, self.stays[name])
        arrays = part.writer.arrays(drawn.codes, lambda column: uniforms(within[column]))
        return part.assembled(arrays, drawn.first, len(drawn))

    def draw_block(self, seed: int, number: int) -> Block:
        """The rows of subjects ``number * BLOCK`` to ``(number + 1) * BLOCK - 1`` of the endless tables of a seed.

        Rows that name no owner are those of subjects that are nobody: every other block of the sampler is of such ones,
        so that no two rows have one number. The tables have no such rows: then all blocks are of subjects.
        """
        loose = {name: rate for name, rate in self.loose.items() if rate > 0}
        if not loose:
            return self._block(seed, number, number)
        block, nobody = self._block(seed, 2 * number, number), self._block(seed, 2 * number + 1, number)
        taken = {name: self._loose(nobody, block, name, rate, seed) for name, rate in loose.items()}
        return Block(block.rows, block.subjects, taken)

    def _loose(self, nobody: Block, block: Block, name: str, rate: float, seed: int) -> tuple[pa.RecordBatch, Integers]:
        """Rows of a table whose owner is taken from them: at their rate beside those of a block that have one."""
        batch, owned = nobody.rows[name], block.rows[name].num_rows
        first = int(block.subjects[name][0]) if owned else 0
        key = stream_key(seed, f"{self.name}/{name}/loose")
        shares = random_words(key, first, 1 + len(batch), 1).ravel().astype(np.float64) * 2.0**-64
        count = min(int(rate * owned + shares[0]), len(batch))
        rows = np.sort(np.argsort(shares[1:], kind="stable")[:count])
        column = self.tree.by_name[name].owner_column
        place = batch.schema.get_field_index(column)
        kept = batch.take(pa.array(rows, pa.int64()))
        kept = kept.set_column(place, batch.schema.field(place), pa.nulls(count, batch.schema.field(place).type))
        return kept, nobody.subjects[name][rows]

    def _block(self, seed: int, drawn_as: int, number: int) -> Block:
        """One block of the sampler, as that of the subjects from ``number * BLOCK`` on."""
        with torch_threads(1):
            drawn = self._sampler.block(self.keys(seed), drawn_as)
        inner = {name: self._inner(name, rows) for name, rows in drawn.items()}
        keys: dict[str, pa.Array] = {}
        subjects: dict[str, Integers] = {}
        rows: dict[str, pa.RecordBatch] = {}
        for table in self.tree.tables:
            own = drawn[table.name]
            root = table.owner is None
            subjects[table.name] = number * BLOCK + own.owner if root else subjects[str(table.owner)][own.owner]
            if table.key is not None:
                type_ = self.key_type(table)
                keys[table.name] = make(self.generators[table.name], type_, own.first, len(own))
            if not table.implied:
                owner_inner = inner.get(str(table.owner))
                rows[table.name] = self._outer(table, own, inner[table.name], owner_inner, keys)
        return Block(rows, {name: subjects[name] for name in rows})

    def draw_subjects(self, seed: int, subjects: range) -> Iterator[tuple[str, pa.RecordBatch, Integers]]:
        """The rows of a range of subjects, block by block: the table, a batch, and the number of each row's subject."""
        for number in range(subjects.start // BLOCK, -(-subjects.stop // BLOCK)):
            block = self.draw_block(seed, number)
            for name, batch in block.rows.items():
                numbers = block.subjects[name]
                start, stop = np.searchsorted(numbers, [subjects.start, subjects.stop]).tolist()
                yield name, batch.slice(start, stop - start), numbers[start:stop]
            for name, (batch, numbers) in block.loose.items():
                start, stop = np.searchsorted(numbers, [subjects.start, subjects.stop]).tolist()
                yield name, batch.slice(start, stop - start), numbers[start:stop]

    @property
    def blocks_per_block(self) -> int:
        """Blocks of the sampler that one block of subjects takes."""
        return 2 if any(rate > 0 for rate in self.loose.values()) else 1

    def key_type(self, table: Table) -> pa.DataType:
        """Arrow type of a table's primary key."""
        if table.implied:
            (child,) = self.tree.children(table.name)
            return self.schemas[child.name].field(child.owner_column).type
        return self.schemas[table.name].field(table.key).type

    def _outer(
        self,
        table: Table,
        own: DrawnRows,
        inner: pa.RecordBatch,
        owner_inner: pa.RecordBatch | None,
        keys: Mapping[str, pa.Array],
    ) -> pa.RecordBatch:
        """Rows in the input's schema."""
        layout, schema = self.layouts[table.name], self.schemas[table.name]
        owner = pa.array(own.owner)
        arrays: dict[str, pa.Array] = {name: _column(inner, name) for name in layout.plain}
        for name in layout.numbered:
            drawn, _ = to_numbers(arrays[name])
            none = np.zeros(len(own), np.bool_)
            arrays[name] = from_numbers(ranks(drawn, own.owner), none, schema.field(name).type)
        if table.index is not None:
            gaps, absent = to_numbers(_column(inner, table.index))
            if owner_inner is None:
                first, no_first = np.zeros(len(own), gaps.dtype), np.zeros(len(own), np.bool_)
            else:
                first, no_first = to_numbers(_column(owner_inner, first_name(table.name)))
            absent = np.zeros(len(own), np.bool_) if layout.whole else absent
            values, absent, known = index_values(gaps, absent, own.owner, first, no_first)
            arrays[table.index] = from_numbers(values, absent, schema.field(table.index).type)
            for name in layout.after:
                distance, missing = to_numbers(_column(inner, name))
                type_ = schema.field(name).type
                arrays[name] = from_numbers(known + np.maximum(distance, 0), missing, type_)
        if owner_inner is not None and table.owner is not None:
            for name in layout.moved:
                arrays[name] = _column(owner_inner, moved_name(table.name, name)).take(owner)
            assert table.owner_column is not None
            taken = keys[table.owner].take(owner)
            wanted = schema.field(table.owner_column).type
            arrays[table.owner_column] = taken if taken.type == wanted else taken.cast(wanted)
        if table.key is not None:
            arrays[table.key] = keys[table.name]
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in schema], schema=schema)

    @property
    def dictionary_columns(self) -> dict[str, list[str]]:
        """By table, columns of few distinct values."""
        found: dict[str, list[str]] = {}
        for table in self.tree.files:
            layout = self.layouts[table.name]
            few = set(self.parts[table.name].dictionary_columns)
            of_owner = set(self.parts[table.owner].dictionary_columns) if table.owner else set()
            moved = [name for name in layout.moved if moved_name(table.name, name) in of_owner]
            found[table.name] = [name for name in layout.plain if name in few] + moved
        return found

    def save(self, folder: Path) -> None:
        """Write the folder: the same bytes for the same model."""
        tensors: dict[str, NDArray[Any]] = {}
        tables = []
        for place, table in enumerate(self.tree.tables):
            part, network = self.parts[table.name], self.network.table(table.name)
            base = Network(part.coding.sizes, network.width, network.hidden)
            own = set(base.state_dict())
            weights = network.state_dict()
            base.load_state_dict({key: weights[key] for key in own})
            replace(part, network=base).save(folder / table.name)
            for key, value in weights.items():
                if key not in own:
                    tensors[f"{place}.{key}"] = value.detach().cpu().numpy()
            layout = self.layouts.get(table.name, Layout(table.name, ()))
            schema = self.schemas.get(table.name, pa.schema([]))
            tables.append(
                {
                    **{
                        key: getattr(table, key) for key in ("name", "key", "owner", "owner_column", "index", "implied")
                    },
                    **{key: list(getattr(layout, key)) for key in ("plain", "moved", "after", "numbered")},
                    "whole": layout.whole,
                    "schema": schema_to_text(schema),
                    "most": self.most[table.name],
                    "loose": float(self.loose.get(table.name, 0.0)),
                    "stays": [float(share) for share in self.stays[table.name]],
                    "generator": self.generators.get(table.name),
                }
            )
        root = self.network.table(self.tree.root.name)
        card = {
            "format": _FORMAT,
            "family": FAMILY,
            "engine": "native",
            "name": self.name,
            "subjects": self.subjects,
            "shape": {"embedding": root.width, "hidden": root.hidden},
            "tables": tables,
            "notes": list(self.notes),
        }
        write_files(folder, card, tensors, {})

    @classmethod
    def load(cls, folder: Path) -> SubjectsModel:
        """Read what ``save`` wrote. No code from the folder is run.

        Raises:
            ModelError: The folder holds no such model, or a damaged one.
        """
        file = read_files(folder, [FAMILY], "a model of several tables", _FORMAT, SubjectsCard)
        cards = file.card.tables
        names = [card.name for card in cards]
        fields = ("name", "key", "owner", "owner_column", "index", "implied")
        tree = TableTree(tuple(Table(**{key: getattr(card, key) for key in fields}) for card in cards))
        for place, table in enumerate(tree.tables):
            if (table.owner is None) != (place == 0) or table.owner not in (None, *names[:place]):
                raise file.wrong("tables: are no tree, owners first")
        if len(set(names)) < len(names) or any("/" in name or name in (".", "..") for name in names):
            raise file.wrong("tables: a name is no name of a folder, or stands twice")
        schemas = {card.name: schema_of(file, card.schema_) for card in cards if not card.implied}
        layouts = {
            c.name: Layout(c.name, tuple(c.plain), tuple(c.moved), tuple(c.after), tuple(c.numbered), c.whole)
            for c in cards
            if not c.implied
        }
        parts = {name: AutoregressiveParameters.load(folder / name) for name in names}
        _check_layouts(file, tree, layouts, schemas, parts)
        width, hidden = file.card.shape.get("embedding", 1), file.card.shape.get("hidden", 1)
        shapes = shapes_of(tree, parts)
        for name in names:
            if (parts[name].network.width, parts[name].network.hidden) != (width, hidden):
                raise file.wrong(f"shape: is not that of table {name!r}")
        with torch.device("meta"):
            untrained = SubjectsNetwork(shapes, width, hidden, folded=True)
        wanted = {}
        state: dict[str, torch.Tensor] = {}
        for place, name in enumerate(names):
            base = parts[name].network.state_dict()
            for key, value in untrained.table(name).state_dict().items():
                if key in base:
                    state[f"tables.{place}.{key}"] = base[key]
                    continue
                wanted[f"{place}.{key}"] = Array("float32", tuple(value.shape))
        file.check(wanted)
        file.refuse_others()
        state.update({f"tables.{key}": torch.from_numpy(file.arrays[key]) for key in wanted})
        network = SubjectsNetwork(shapes, width, hidden, folded=True)
        network.load_state_dict(state)
        network.eval().requires_grad_(False)
        generators = {card["name"]: card["generator"] for card in file.plain["tables"] if card["generator"] is not None}
        stays = {card.name: np.array(card.stays, np.float64) for card in cards}
        most = {card.name: card.most for card in cards}
        loose = {card.name: card.loose for card in cards if card.owner is not None}
        for name in names:
            if len(stays[name]) != len(parts[name].coding.columns):
                raise file.wrong(f"tables: stays of {name!r}: wanted one number a learned column")
            owner = tree.by_name[name].owner
            if most[name] % (most[owner] if owner is not None else 1):
                raise file.wrong(f"tables: most of {name!r} is no multiple of its owner's")
        model = cls(
            tree, layouts, schemas, parts, network, most, stays, generators, file.card.name, file.card.subjects,
            loose, tuple(file.card.notes),
        )  # fmt: skip
        for table in tree.tables:
            if table.key is None:
                continue
            if table.name not in generators:
                raise file.wrong(f"tables: {table.name!r} has a key and no generator")
            try:
                check_generator(generators[table.name], model.key_type(table))
            except GeneratorError as error:
                raise file.wrong(f"tables: generator of {table.name!r}: {error}") from None
            if generators[table.name].get("missing"):
                raise file.wrong(f"tables: generator of {table.name!r}: a key is never missing")
        return model


def _check_layouts(
    file: Any,
    tree: TableTree,
    layouts: Mapping[str, Layout],
    schemas: Mapping[str, pa.Schema],
    parts: Mapping[str, AutoregressiveParameters],
) -> None:
    """ModelError where the tables are not made of what the parts learn."""
    for table in tree.files:
        layout, names = layouts[table.name], set(schemas[table.name].names)
        index = [table.index] if table.index is not None else []
        made = [*layout.plain, *layout.moved, *layout.after, *table.key_columns, *index]
        if sorted(made) != sorted(names) or not {*layout.numbered} <= {*layout.plain}:
            raise file.wrong(f"tables: the columns of {table.name!r} are not those of its schema, each once")
    for name, schema in inner_schemas(tree, layouts, schemas).items():
        if not schema.equals(parts[name].schema):
            raise file.wrong(f"tables: the model of {name!r} has another schema")


def shapes_of(tree: TableTree, parts: Mapping[str, AutoregressiveParameters]) -> dict[str, TableShape]:
    """What the network needs to know of the tables."""
    shapes = {}
    for table in tree.tables:
        columns = parts[table.name].coding.columns
        shapes[table.name] = TableShape(
            tuple(column.size for column in columns),
            tuple(column.nullable for column in columns),
            tuple(column.places for column in columns),
            tuple(column.share for column in columns),
            table.owner,
        )
    return shapes


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))


def _kept_places(drawn: DrawnRows, stays: Sequence[float] | NDArray[np.float64]) -> NDArray[np.uint32]:
    """Random numbers for the place within a code, uint32[columns, n], in which values stay as they were.

    A row whose code is that of the row before keeps its place with the column's probability. One random number says
    both: whether the place is kept, and else the new one.
    """
    kept = drawn.places.copy()
    place = np.arange(drawn.places.shape[1])
    for column, share in enumerate(stays):
        if share <= 0.0:
            continue
        numbers = drawn.places[column].astype(np.float64) * 2.0**-32
        stay = drawn.same[column] & (numbers < share)
        fresh = np.where(drawn.same[column] & ~stay, (numbers - share) / max(1.0 - share, 1e-12), numbers)
        fresh_words = np.minimum(fresh * 2.0**32, 2.0**32 - 1).astype(np.uint32)
        source = np.maximum.accumulate(np.where(stay, -1, place)) if len(place) else place
        kept[column] = fresh_words[np.maximum(source, 0)]
    return kept
