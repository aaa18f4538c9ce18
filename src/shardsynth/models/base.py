"""What a native model is to the rest of the package, and what a fit is given and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from shardsynth.data.codec import code_dtype, is_text

if TYPE_CHECKING:
    from typing_extensions import Self

    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column
    from shardsynth.models.columns.forms import StorageForm
    from shardsynth.sampling.conditions import Conditions
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile


class PreparedConditions(Protocol):
    """Conditions in terms of one model: cheap to draw under."""

    @property
    def conditions(self) -> Conditions:
        """What was asked."""

    def acceptance(self) -> dict[str, int]:
        """``proposals`` made and ``accepted`` since the last call."""


class NativeModel(Protocol):
    """A fitted model: plain data that gives any range of rows of an endless table.

    A row is a function of (model, seed, global row number): neither the batch it is drawn in nor what was drawn before
    matters. ``save`` writes ``model.json`` and ``model.safetensors``; a class method ``load(folder)`` reads them and
    runs no code of theirs.
    """

    @property
    def name(self) -> str:
        """Part of the key of its random stream."""

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the input, and of every batch drawn, metadata included."""

    @property
    def generators(self) -> dict[str, dict[str, Any]]:
        """By column name, how ids and personal data are made (see ``sampling.identifiers``)."""

    @property
    def forms(self) -> Mapping[str, StorageForm]:
        """By column name, how learned values are held until they become arrays."""

    @property
    def device(self) -> str:
        """Where rows are made: ``cpu`` or ``cuda``. Their last bits depend on it."""

    @property
    def learned_distributions(self) -> dict[str, Any]:
        """Per column, SDV's ``{"distribution": name, "learned_parameters": {...}}``."""

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary (see ``data.writer.PartWriter``)."""

    def with_schema(self, schema: pa.Schema) -> Self:
        """The same model; its batches have this schema: other types for the same values."""

    def with_sampling(
        self, *, temperature: float | None = None, top_p: float | None = None, balance: str | None = None
    ) -> Self:
        """The same model, sampled otherwise; what is None stays.

        Raises:
            JobError: A number is out of range.
            ModelError: The model has no such option, or ``balance`` names no category column that it learned.
        """

    def on_device(self, device: str) -> Self:
        """The same model, making its rows on ``cpu``, ``cuda`` or ``auto`` (a GPU where there is one), if it can.

        Raises:
            InputError: A GPU is wanted, or Slurm gave this task one, and it cannot be used.
        """

    def prepare(self, conditions: Conditions | PreparedConditions) -> PreparedConditions:
        """Conditions in terms of this model, for ``draw``.

        Raises:
            ConditionError: The model cannot be drawn under them.
        """

    def draw(
        self, seed: int, first_row: int, n: int, conditions: Conditions | PreparedConditions | None = None
    ) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the table that ``seed`` names.

        Raises:
            ConditionError: The model cannot be drawn under the conditions.
        """

    def complete(self, rows: pa.Table, seed: int, first_row: int = 0) -> pa.Table:
        """Rows in the model's schema: what they have stays, what they lack is drawn given it.

        Args:
            rows: Some or all of the model's columns.
            seed: Any integer.
            first_row: Global number of the first row.

        Raises:
            ConditionError: The model cannot complete rows, or does not know a category of theirs.
            InputError: A column is not the model's, or not of its type.
        """

    def save(self, folder: Path) -> None:
        """Write the model's files: the same bytes for the same model."""


@dataclass(frozen=True)
class FitSetup:
    """What every fit is given, whatever it may know of the rows.

    Attributes:
        schema: Arrow schema of the table.
        columns: The table's columns.
        coder: The codes of its columns.
        options: The family's own, and the job's ``rare`` and ``extremes``.
        generators: From ``identifiers.learn_all``, for columns of role ``id`` and ``pii``.
        seed: Everything random follows from it, but for the noise of differential privacy.
        name: The model's name in its run.
        threads: CPUs; a trained model depends on it.
        checkpoint: File to resume from and to save to; None for none.
        should_stop: Asked now and then by a long fit, which then saves its state and raises ``Saved``.
        progress: Gets lines for the log.
        scratch: Folder for files that a training maps into memory; None: it keeps its rows in memory.
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
        """A line for the log."""
        if self.progress is not None:
            self.progress(line)

    @property
    def formats(self) -> dict[str, str]:
        """By column name, the format of datetimes that are held as text or integers."""
        return {c.name: str(c.options["datetime_format"]) for c in self.columns if c.options.get("datetime_format")}


@dataclass(frozen=True)
class Fitting:
    """What a fit is given that may know the rows exactly.

    Attributes:
        setup: What every fit is given.
        profile: Merged, of the training rows; it holds their row sample.
        counts: Merged, of all training rows.
        relations: Guessed on the row sample.
        rows: Gives all training rows, batch by batch; None: a trained model learns from the row sample.
        score: Quality of drawn rows, for a training that looks at it.
    """

    setup: FitSetup
    profile: Profile
    counts: Counts
    relations: Sequence[Any] = ()
    rows: Callable[[], Iterable[pa.RecordBatch]] | None = None
    score: Callable[[pa.RecordBatch], float] | None = None

    @property
    def training_rows(self) -> int:
        """Rows that a trained model learns from."""
        return self.profile.sample.num_rows if self.rows is None else self.counts.rows

    def batches(self) -> Iterable[pa.RecordBatch | pa.Table]:
        """The rows that a trained model learns from."""
        return [self.profile.sample] if self.rows is None else self.rows()


@dataclass(frozen=True)
class Fitted:
    """What a fit gives.

    Attributes:
        model: The model.
        rows: Rows that it was fitted on.
        notes: Facts for the report.
        losses: Loss history, one row per epoch, of a trained model.
    """

    model: NativeModel
    rows: int
    notes: tuple[str, ...] = ()
    losses: pa.Table | None = None


def with_coded_text(model: NativeModel) -> NativeModel:
    """The same model, but text categories come as dictionary arrays: half the work, for who knows the table's schema.

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
