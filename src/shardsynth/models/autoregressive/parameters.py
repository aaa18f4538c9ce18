"""A trained autoregressive model as plain data: drawn, saved and loaded like every native model."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from shardsynth.data.columns import schema_to_text
from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.class_rows import ClassBiases
from shardsynth.models.autoregressive.codes import BinnedColumn, Coding
from shardsynth.models.autoregressive.columns import Writer
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.sampler import Sampler
from shardsynth.models.columns.card import Card, Count, ModelCard, Name, RelationCard
from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import (
    ARRAYS,
    ModelFile,
    column_arrays,
    column_card,
    load_columns,
    read_files,
    unlearned_array,
    write_files,
)
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.model import ColumnModel
from shardsynth.models.columns.ragged import Ragged
from shardsynth.models.training.saved_network import load_network

if TYPE_CHECKING:
    from typing_extensions import Self

_FORMAT = 1
#: Codes are int16.
MOST_CODES = 32_767
#: Logits below this, divided by the least temperature, are finite in float32.
_MOST_LOGIT = 1e36


class ShapeCard(Card):
    """Widths of the network."""

    embedding: Annotated[int, Field(ge=1, le=1 << 20)]
    hidden: Annotated[int, Field(ge=1, le=1 << 20)]


class LearnedCard(Card):
    """See ``codes.BinnedColumn``."""

    name: Name
    nullable: bool


class AutoregressiveCard(ModelCard):
    """``model.json`` of an autoregressive model; its options are checked by their class."""

    family: Literal["autoregressive"]
    rows: Count
    torch: Name
    options: dict[Name, Any]
    shape: ShapeCard
    learned: list[LearnedCard]
    relations: list[RelationCard]
    together: list[list[Count]] = []
    classes: list[Count] = []


@dataclass(frozen=True)
class AutoregressiveParameters(ColumnModel):
    """The parts of a trained model, which can be saved and loaded; ``AutoregressiveModel`` draws rows from them.

    Attributes:
        schema: Arrow schema of the input, and of every batch drawn.
        options: How it was trained, and how it is sampled.
        coding: Its columns.
        network: The conditional distributions of the columns.
        calibration: float32[all codes], see ``calibrated_biases``.
        rows: Number of training rows.
        generators: By column name, for ids and personal data (see ``sampling.identifiers``).
        formats: By column name, for datetimes held as text or integers.
        name: Part of the key of its random stream.
        loss: Loss history, one row per check; not in the model folder.
        threads: Blocks of rows made at the same time; changes no row.
        together: Groups of numbers of learned columns that are missing on the same rows.
        classes: Rare classes of the first learned column; None: there are none.
    """

    schema: pa.Schema
    options: AutoregressiveOptions
    coding: Coding
    network: Network
    calibration: Tensor
    rows: int
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    name: str = "autoregressive"
    loss: pa.Table | None = None
    threads: int = 1
    together: tuple[tuple[int, ...], ...] = ()
    classes: ClassBiases | None = None

    def assembled(self, arrays: dict[str, pa.Array], first_row: int, n: int) -> pa.RecordBatch:
        """A batch of the learned and computed columns, and of those that are neither."""
        columns = [
            arrays[c.name]
            if c.name in arrays
            else unlearned_array(c, f.type, first_row, n, self.forms, self.generators)
            for c, f in zip(self.coding.table, self.schema)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def with_threads(self, threads: int) -> Self:
        """The same model; it makes ``threads`` blocks of rows at the same time."""
        return replace(self, threads=threads)

    def with_sampling(
        self, *, temperature: float | None = None, top_p: float | None = None, balance: str | None = None
    ) -> Self:
        """The same model with other options of sampling; an argument that is None changes nothing.

        Raises:
            JobError: A number is out of range.
            ModelError: ``balance`` names no category column that the model learned, or the order is fixed.
        """
        changed = replace(self, options=self.options.sampled(temperature, top_p, balance))
        _ = changed.order  # raises ModelError if the column cannot be balanced
        return changed

    @property
    def fitted(self) -> tuple[FittedColumn, ...]:
        """One per field of the schema."""
        return self.coding.table

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary."""
        atoms = {c.name for c in self.coding.columns if not c.spreads}
        return [
            c.name
            for c in self.coding.table
            if c.categories is not None or c.treatment in ("constant", "relation") or c.name in atoms
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """Facts for the report."""
        return self.coding.notes

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Numbers of the learned columns in the order in which they are drawn without conditions."""
        order = list(range(len(self.coding.columns)))
        for column in self.balance_weights:
            order = [column, *(c for c in order if c != column)]
        if self.options.order == "fixed" and order != sorted(order):
            raise ModelError(f"balance: {self.options.balance}: wants a model of order: any")
        return tuple(order)

    @cached_property
    def balance_weights(self) -> dict[int, Tensor]:
        """Number of the column that ``balance`` names -> float32[size], weights of its codes; empty without one."""
        name = self.options.balance
        if not name:
            return {}
        for number, column in enumerate(self.coding.columns):
            if column.name == name and column.fit.categories is not None:
                weights = torch.ones(column.size)
                weights[len(column.ends) :] = 0.0
                return {number: weights}
        raise ModelError(f"balance: {name!r} is no category column that the model learned")

    @cached_property
    def fits(self) -> dict[str, FittedColumn]:
        """Every column of the schema, by its name."""
        return {c.name: c for c in self.coding.table}

    @property
    def relations(self) -> Sequence[Any]:
        """How its computed columns are computed, in this order."""
        return self.coding.relations

    @cached_property
    def writer(self) -> Writer:
        """Turns codes into arrays."""
        return Writer(self.coding.columns, self.coding.relations, self.fits, self.forms)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws columns by the network, with the model's temperature and top-p."""
        return Sampler(
            self.network,
            self.calibration,
            temperature=self.options.temperature,
            top_p=self.options.top_p,
            classes=self.classes,
        )

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors``: the same bytes for the same model."""
        card: dict[str, Any] = {
            "format": _FORMAT,
            "family": "autoregressive",
            "engine": "native",
            "name": self.name,
            "rows": self.rows,
            "torch": torch.__version__,
            "schema": schema_to_text(self.schema),
            "options": self.options.to_json(),
            "shape": {"embedding": self.network.width, "hidden": self.network.hidden},
            "columns": [column_card(c) for c in self.coding.table],
            "learned": [{"name": c.name, "nullable": c.nullable} for c in self.coding.columns],
            "relations": [r.to_json() for r in self.coding.relations],
            "generators": self.generators,
            "formats": self.formats,
            "notes": list(self.coding.notes),
        }
        if self.together:
            card["together"] = [list(group) for group in self.together]
        network = {f"network.{key}": value.detach().cpu().numpy() for key, value in self.network.state_dict().items()}
        tensors = {**network, "calibration": self.calibration.detach().cpu().numpy()}
        if self.classes is not None:
            card["classes"] = list(self.classes.codes)
            tensors["classes"] = self.classes.biases.detach().cpu().numpy()
        ends = Ragged.of([c.ends for c in self.coding.columns], np.int64)
        write_files(folder, card, tensors, {**column_arrays(self.coding.table), "ends": ends})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote. No code from the folder is run.

        Raises:
            ModelError: The folder holds no such model, or one of a later format.
        """
        file = read_files(folder, ["autoregressive"], "an autoregressive model", _FORMAT, AutoregressiveCard)
        schema, table, relations = load_columns(file)
        try:
            options = AutoregressiveOptions.from_json(file.plain["options"])
        except ModelError as error:
            raise file.wrong(str(error)) from None
        learned = _learned_columns(file, table)
        coding = Coding(table, learned, relations, tuple(file.card.notes))
        embedding, hidden = file.card.shape.embedding, file.card.shape.hidden
        network = load_network(
            file, lambda: Network(coding.sizes, embedding, hidden), (embedding, hidden) if learned else ()
        )
        file.check({"calibration": Array("float32", (sum(coding.sizes),))})
        classes = _classes(file, coding)
        file.refuse_others()
        calibration = torch.from_numpy(file.arrays["calibration"])
        added = calibration if classes is None else torch.cat([calibration, classes.biases.flatten()])
        if not network.reach(added) < _MOST_LOGIT:
            raise file.wrong("the weights of the network are too large", ARRAYS)
        generators, formats = file.plain["generators"], file.plain["formats"]
        together = tuple(tuple(group) for group in file.card.together)
        if any(number >= len(learned) for group in together for number in group):
            raise file.wrong("together: names a column that is not there")
        model = cls(
            schema, options, coding, network, calibration, file.card.rows, generators, formats, file.card.name,
            together=together, classes=classes,
        )  # fmt: skip
        _ = model.order  # raises ModelError if the column cannot be balanced
        return model


def _classes(file: ModelFile, coding: Coding) -> ClassBiases | None:
    """The rare classes of the first learned column, checked."""
    codes = tuple(file.card.classes)
    if not codes:
        return None
    if not coding.columns or len(set(codes)) < len(codes) or max(codes) >= coding.sizes[0]:
        raise file.wrong("classes: are not codes of the first learned column, each once")
    file.check({"classes": Array("float32", (len(codes), sum(coding.sizes)))})
    return ClassBiases(codes, torch.from_numpy(file.arrays["classes"]))


def _learned_columns(file: ModelFile, table: Sequence[FittedColumn]) -> tuple[BinnedColumn, ...]:
    """The learned columns, their codes checked: each holds one segment or more, and the last one ends with them."""
    by_name = {column.name: column for column in table}
    names = [column.name for column in file.card.learned]
    if sorted(names) != sorted(c.name for c in table if c.treatment == "latent"):
        raise file.wrong("learned: are not the columns of treatment latent, each once")
    segments = [len(_segments(by_name[name])) for name in names]
    wanted = Array("int64", parts=names, minimum=1, maximum=segments, increasing=True)
    ends = file.check({"ends": wanted})["ends"]
    columns = []
    for number, card in enumerate(file.card.learned):
        column = BinnedColumn(by_name[card.name], ends[number], card.nullable)
        if not 0 < column.size <= MOST_CODES or not len(column.ends) or column.ends[-1] != segments[number]:
            raise file.wrong(f"array 'ends' of {card.name!r} does not end with its segments", ARRAYS)
        columns.append(column)
    return tuple(columns)


def _segments(column: FittedColumn) -> NDArray[np.float64]:
    assert column.marginal is not None
    return column.marginal.lo
