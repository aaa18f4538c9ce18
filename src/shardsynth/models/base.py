"""The protocol of a native model, and the input and output of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.codec import code_dtype, is_text
from shardsynth.data.layouts import layout_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column
    from shardsynth.models.columns.fitted import FittedColumn
    from shardsynth.models.columns.forms import StorageForm
    from shardsynth.sampling.conditions import Conditions
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile


class PreparedConditions(Protocol):
    """Conditions translated for one model, once; drawing under them is then cheap."""

    @property
    def conditions(self) -> Conditions:
        """The conditions before translation."""

    def acceptance(self) -> dict[str, int]:
        """Number of ``proposals`` and of those ``accepted``, both since the last call."""


class NativeModel(Protocol):
    """A fitted model: plain data from which any range of rows of an endless table can be drawn.

    A row is a function of (model, seed, global row number). It depends neither on the batch nor on the rows before it.
    ``save`` writes ``model.json`` and ``model.safetensors``. A class method ``load(folder)`` reads them; it runs no
    code from these files.
    """

    @property
    def name(self) -> str:
        """The model's name in its run; it is part of the key of its random stream."""

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the input, and of every batch drawn, metadata included."""

    @property
    def fitted(self) -> Sequence[FittedColumn]:
        """The fitted columns, one per field of the schema."""

    @property
    def generators(self) -> dict[str, dict[str, Any]]:
        """By column name, how ids and personal data are made (see ``sampling.identifiers``)."""

    @property
    def forms(self) -> Mapping[str, StorageForm]:
        """By column name, how learned values are held until they become Arrow arrays."""

    @property
    def device(self) -> str:
        """Where rows are made: ``cpu`` or ``cuda``. The last bits of their values depend on it."""

    @property
    def learned_distributions(self) -> dict[str, Any]:
        """Per column, SDV's ``{"distribution": name, "learned_parameters": {...}}``."""

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary (see ``data.writer.PartWriter``)."""

    def with_schema(self, schema: pa.Schema) -> Self:
        """The same model with another schema: other Arrow types for the same values."""

    def with_sampling(
        self, *, temperature: float | None = None, top_p: float | None = None, balance: str | None = None
    ) -> Self:
        """The model with other sampling options; an option that is None stays.

        Raises:
            JobError: A number is out of range.
            ModelError: The model has no such option, or ``balance`` names no category column that it learned.
        """

    def on_device(self, device: str) -> Self:
        """The model, with its rows made on ``cpu``, ``cuda`` or ``auto`` (a GPU where there is one), if it can do so.

        Raises:
            InputError: A GPU is wanted, or Slurm gave this task one, and it cannot be used.
        """

    def prepare(self, conditions: Conditions | PreparedConditions) -> PreparedConditions:
        """Translate conditions for this model, for use in ``draw``.

        Raises:
            ConditionError: The model cannot meet them.
        """

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the table that ``seed`` names.

        Raises:
            ConditionError: The model cannot meet the conditions.
        """

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Complete rows: their values stay, and the missing columns and gaps are drawn given these values.

        Args:
            rows: Some or all of the model's columns.
            seed: Any integer.
            first_row: Global number of the first row.

        Returns:
            The rows in the model's schema, in their order.

        Raises:
            ConditionError: The model cannot complete rows.
            InputError: A column is not the model's, or not of its type.
        """

    def save(self, folder: Path) -> None:
        """Write the model's files: the same bytes for the same model."""


@dataclass(frozen=True)
class FitSetup:
    """The input of every fit, also of one under differential privacy that sees no exact count.

    Attributes:
        schema: Arrow schema of the table.
        columns: The table's columns.
        coder: The codes of its columns.
        options: Those of the family, and the job's ``rare`` and ``extremes``.
        generators: From ``identifiers.learn_all``, for columns of role ``id`` and ``pii``.
        seed: All random numbers follow from it, except the noise of differential privacy.
        name: The model's name in its run.
        threads: CPUs; the weights of a trained model depend on it.
        checkpoint: File to resume from and to save to; None: no checkpoints.
        should_stop: A long fit calls it now and then. Where it is true, the fit saves its state and raises ``Saved``.
        progress: Gets lines for the log.
        scratch: Folder for files that a training maps into memory; None: the rows are kept in memory.
    """

    schema: pa.Schema
    columns: Sequence[Column]
    coder: TableCoder
    options: Any
    generators: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
    name: str = ""
    threads: int = 1
    checkpoint: Path | None = None
    should_stop: Callable[[], bool] | None = None
    progress: Callable[[str], None] | None = None
    scratch: Path | None = None

    def tell(self, line: str) -> None:
        """Send a line to the log."""
        if self.progress is not None:
            self.progress(line)

    @property
    def formats(self) -> dict[str, str]:
        """By column name, the layout of what is held as text or integers, or is written in a way of its own."""
        return {c.name: text for c in self.columns if (text := layout_of(c)) is not None}


@dataclass(frozen=True)
class Fitting:
    """The input of a fit that may see exact counts and rows.

    Attributes:
        setup: The input of every fit.
        profile: Merged, of the training rows; it holds their row sample.
        counts: Merged, of all training rows.
        relations: Guessed on the row sample.
        rows: Gives all training rows, batch by batch; None: a trained model learns from the row sample.
        score: Quality of drawn rows, 0 to 1, for a training that keeps the best of several states.
        hide: Takes out of rows what too few persons have; None: rows are learned as they are.
        persons: Gives the hashes uint64[training rows] of the rows' persons, in their order; None: each row is a
            person of its own.
        target: The column that a user would predict, whose rare classes matter most; None: not said.
    """

    setup: FitSetup
    profile: Profile
    counts: Counts
    relations: Sequence[Any] = ()
    rows: Callable[[], Iterable[pa.RecordBatch]] | None = None
    score: Callable[[pa.RecordBatch], float] | None = None
    hide: Callable[[Any], Any] | None = None
    persons: Callable[[], NDArray[np.uint64]] | None = None
    target: str | None = None

    @property
    def training_rows(self) -> int:
        """Number of rows that a trained model learns from."""
        return self.profile.sample.num_rows if self.rows is None else self.counts.rows

    def batches(self) -> Iterable[pa.RecordBatch | pa.Table]:
        """The rows that a trained model learns from."""
        rows = [self.profile.sample] if self.rows is None else self.rows()
        return rows if self.hide is None else map(self.hide, rows)


@dataclass(frozen=True)
class Fitted:
    """The output of a fit.

    Attributes:
        model: The fitted model.
        rows: Number of rows that it was fitted on.
        notes: Facts for the report.
        losses: Loss history, one row per epoch, of a trained model.
    """

    model: NativeModel
    rows: int
    notes: tuple[str, ...] = ()
    losses: pa.Table | None = None


def with_coded_text(model: NativeModel) -> NativeModel:
    """The model, with text categories drawn as dictionary arrays.

    This is half the work, for a caller that knows the schema of the table.

    Args:
        model: A native model.
    """

    def coded(field_: pa.Field) -> pa.Field:
        form = model.forms.get(field_.name)
        if form is None or form.categories is None or not is_text(field_.type) or pa.types.is_string_view(field_.type):
            return field_  # Parquet's writer takes no dictionary of views
        index = pa.from_numpy_dtype(code_dtype(field_.type, len(form.categories)))
        return field_.with_type(pa.dictionary(index, form.categories.type))

    return model.with_schema(pa.schema([coded(x) for x in model.schema], metadata=model.schema.metadata))
