"""A trained CTGAN, CopulaGAN or TVAE as plain data: drawn, saved and loaded like every native model."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from shardsynth.data.columns import schema_to_text
from shardsynth.errors import ModelError
from shardsynth.models.columns.card import Card, Count, ModelCard, Name, RelationCard, Share
from shardsynth.models.columns.files import column_card, load_columns, read_files, write_files
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.model import ColumnModel
from shardsynth.models.columns.operands import Values
from shardsynth.models.columns.relations import Relation
from shardsynth.models.ctgan.codes import DeepCoding, Layout
from shardsynth.models.ctgan.columns import ModeColumn
from shardsynth.models.ctgan.networks import Decoder, Generator
from shardsynth.models.ctgan.options import FAMILIES, DeepOptions
from shardsynth.models.ctgan.sampler import Drawn, Sampler
from shardsynth.models.ctgan.saved_columns import coding_arrays, load_mode_columns
from shardsynth.models.training.device import choose_device
from shardsynth.models.training.saved_network import load_network

if TYPE_CHECKING:
    from typing_extensions import Self

_FORMAT = 1


class LearnedCard(Card):
    """See ``columns.ModeColumn``."""

    name: Name
    nullable: bool
    normal: bool
    coin: Share = 0.0
    tails: Annotated[list[Share], Field(min_length=2, max_length=2)] = [1.0, 1.0]


class DeepCard(ModelCard):
    """``model.json`` of a deep model; its options are checked by their class."""

    family: Literal["ctgan", "copulagan", "tvae"]
    rows: Count
    torch: Name
    options: dict[Name, Any]
    learned: Annotated[list[LearnedCard], Field(min_length=1)]
    relations: list[RelationCard] = []


def _tails_entry(column: ModeColumn) -> dict[str, Any]:
    return {"tails": list(column.tails)} if column.has_tails else {}


Network = Union[Generator, Decoder]


def make_network(options: DeepOptions, layout: Layout) -> Network:
    """The network that makes rows, generator or decoder, untrained."""
    if options.is_gan:
        return Generator(options.embedding_dim + layout.condition_width, options.generator_dim, layout.width)
    return Decoder(options.embedding_dim, options.decompress_dims, layout.width)


def condition_cdf(coding: DeepCoding, *, log_rows: int | None = None) -> NDArray[np.float64]:
    """float64[condition width]: the probabilities of conditions at sampling, cumulated as ``ctgan.Conditions.cdf``.

    Args:
        coding: Columns with the true shares of their codes.
        log_rows: Draw by the logarithm of counts in so many rows, as the ctgan package does; None: by frequency.
    """
    parts = []
    for number, column in enumerate(c for c in coding.columns if not c.is_axis):
        weight = column.share if log_rows is None else np.log1p(column.share * log_rows)
        share = np.cumsum(weight / weight.sum())
        share[share >= share[-1]] = 1.0
        parts.append(number + share)
    return np.concatenate([np.zeros(0), *parts])


@dataclass(frozen=True)
class DeepParameters(ColumnModel):
    """The parts of a trained model, which can be saved and loaded; ``DeepModel`` draws rows from them.

    Attributes:
        schema: Arrow schema of the input, and of every batch drawn.
        options: How it was trained.
        coding: Its columns.
        network: Generator (batch normalisation settled) or decoder.
        rows: Number of training rows.
        generators: By column name, for ids and personal data (see ``sampling.identifiers``).
        formats: By column name, for datetimes held as text or integers.
        name: Part of the key of its random stream.
        loss: Loss history, one row per epoch; not in the model folder.
        threads: Blocks of rows made at the same time; changes no row.
        device: Where rows are made: ``cpu`` or ``cuda``; their last bits depend on it.
    """

    schema: pa.Schema
    options: DeepOptions
    coding: DeepCoding
    network: Network
    rows: int
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    name: str = ""
    loss: pa.Table | None = None
    threads: int = 1
    device: str = "cpu"

    def on_device(self, device: str) -> Self:
        """The same model; it makes its rows on the device.

        Args:
            device: ``cpu``, ``cuda``, or ``auto``: a GPU where this process has one.

        Raises:
            InputError: A GPU is wanted, or Slurm gave this task one, and it cannot be used.
        """
        return replace(self, device=choose_device(device).type)

    def with_threads(self, threads: int) -> Self:
        """The same model; it makes ``threads`` blocks of rows at the same time."""
        return replace(self, threads=threads)

    @property
    def fitted(self) -> tuple[FittedColumn, ...]:
        """One per field of the schema."""
        return self.coding.table

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary."""
        return [c.name for c in self.coding.table if c.categories is not None or c.treatment == "constant"]

    @property
    def notes(self) -> tuple[str, ...]:
        """Facts for the report."""
        return self.coding.notes

    @cached_property
    def sampler(self) -> Sampler:
        """Makes rows in codes, with the model's options of sampling."""
        log_rows = self.rows if self.options.condvec == "log" else None
        cdf = condition_cdf(self.coding, log_rows=log_rows) if self.options.is_gan else np.zeros(0)
        return Sampler(
            self.network,
            self.coding.layout,
            self.options.embedding_dim,
            cdf,
            stochastic=len(self._stochastic),
            argmax=not self.options.is_gan and self.options.decode == "argmax",
            half=self.options.precision == "bf16",
            device=self.device,
        )

    @cached_property
    def _stochastic(self) -> list[str]:
        return [c.name for c in self.coding.columns if c.stochastic]

    def raw(self, drawn: Drawn, number: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Category indices or axis values [n] of a learned column, by its number; and which are missing.

        A column that is computed from others is computed from what is drawn of these.
        """
        relation = self._relations.get(self.coding.columns[number].name)
        if relation is None:
            return self._of_network(drawn, number)
        values, missing = relation.apply({name: self._written(drawn, name) for name in relation.parents})
        return (np.where(missing, values.dtype.type(0), values) if missing.any() else values), missing

    @cached_property
    def _relations(self) -> dict[str, Relation]:
        return {relation.name: relation for relation in self.coding.relations}

    def _written(self, drawn: Drawn, name: str) -> Values:
        """Category indices or axis values [n] of a column as they are written, and which are missing."""
        n = drawn.codes.shape[1]
        number = next((i for i, column in enumerate(self.coding.columns) if column.name == name), -1)
        fitted = next(column for column in self.coding.table if column.name == name)
        if number >= 0:
            values, absent = self.raw(drawn, number)
            missing = np.zeros(n, np.bool_) if absent is None else absent
        elif fitted.marginal is not None:
            values, missing = np.repeat(fitted.marginal.lo[:1], n), np.zeros(n, np.bool_)
        else:
            return np.zeros(n), np.ones(n, np.bool_)
        if fitted.categories is not None:
            return values.astype(np.int64), missing
        form = self.forms[name]
        return form.axis(form.of_raw(values)), missing

    def _of_network(self, drawn: Drawn, number: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """As ``raw``, of any column as the network draws it."""
        column, codes = self.coding.columns[number], drawn.codes[number]
        places = drawn.places[self._axes[number]] if column.is_axis else None
        uniform = drawn.uniform[self._stochastic.index(column.name)] if column.stochastic else None
        return column.values(codes, places, uniform), column.missing(codes, uniform)

    @cached_property
    def _axes(self) -> NDArray[np.int64]:
        """int64[learned columns]: number of the column among the numeric ones; meaningless for the others."""
        return np.cumsum([column.is_axis for column in self.coding.columns]) - 1

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors``: the same bytes for the same model."""
        card: dict[str, Any] = {
            "format": _FORMAT,
            "family": self.options.family,
            "engine": "native",
            "name": self.name,
            "rows": self.rows,
            "torch": torch.__version__,
            "schema": schema_to_text(self.schema),
            "options": self.options.to_json(),
            "columns": [column_card(c) for c in self.coding.table],
            "learned": [
                {"name": c.name, "nullable": c.nullable, "normal": c.normal, "coin": c.coin, **_tails_entry(c)}
                for c in self.coding.columns
            ],
            "generators": self.generators,
            "formats": self.formats,
            "notes": list(self.coding.notes),
        }
        if self.coding.relations:
            card["relations"] = [relation.to_json() for relation in self.coding.relations]
        network = {f"network.{key}": value.detach().cpu().numpy() for key, value in self.network.state_dict().items()}
        write_files(folder, card, network, coding_arrays(self.coding))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote. No code from the folder is run.

        Raises:
            ModelError: The folder holds no such model, or one of a later format.
        """
        file = read_files(folder, FAMILIES, "a native deep model", _FORMAT, DeepCard)
        schema, table, relations = load_columns(file, computed="latent")
        try:
            options = DeepOptions.from_json(file.plain["options"])
        except ModelError as error:
            raise file.wrong(str(error)) from None
        if options.family != file.card.family:
            raise file.wrong("options.family: is not the model's")
        coding = DeepCoding(table, load_mode_columns(file, table), tuple(file.card.notes), relations)
        widths = options.generator_dim if options.is_gan else options.decompress_dims
        network = load_network(file, lambda: make_network(options, coding.layout), (options.embedding_dim, *widths))
        file.refuse_others()
        generators, formats = file.plain["generators"], file.plain["formats"]
        return cls(schema, options, coding, network, file.card.rows, generators, formats, file.card.name)
