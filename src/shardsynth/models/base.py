"""What a model is to the rest of the package, and what a fit is given and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from shardsynth.data.codec import code_dtype, is_text

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder
    from shardsynth.data.columns import Column
    from shardsynth.sampling.conditions import Conditions
    from shardsynth.summaries.counts import Counts
    from shardsynth.summaries.profile import Profile


class Model(Protocol):
    """A fitted model: plain data that gives any range of rows of an endless table.

    A row is a function of (model, seed, global row number): neither the batch it is drawn in nor what was drawn before
    matters. ``save`` writes ``model.json`` and ``model.safetensors``; a class method ``load(folder)`` reads them and
    runs no code of theirs.
    """

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the input, and of every batch drawn, metadata included."""

    @property
    def learned_distributions(self) -> dict[str, Any]:
        """Per column, SDV's ``{"distribution": name, "learned_parameters": {...}}``."""

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary (see ``data.writer.PartWriter``)."""

    def prepare(self, conditions: Conditions) -> Any:
        """Conditions in terms of this model, for ``draw``; they count their proposals (``acceptance()``).

        Raises:
            ConditionError: The model cannot be drawn under them.
        """

    def draw(self, seed: int, first_row: int, n: int, conditions: Any = None) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the table that ``seed`` names.

        Raises:
            ConditionError: The model cannot be drawn under the conditions.
        """

    def save(self, folder: Path) -> None:
        """Write the model's files: the same bytes for the same model."""


@dataclass(frozen=True)
class Fitting:
    """What a fit is given.

    Attributes:
        profile: Merged, of the training rows; it holds their row sample.
        coder: Made from it.
        counts: Merged, of all training rows.
        relations: Guessed on the row sample.
        schema: Arrow schema of the input.
        columns: The table's columns.
        options: The family's own, and the job's ``rare`` and ``extremes``.
        generators: From ``identifiers.learn_all``, for columns of role ``id`` and ``pii``.
        seed: Everything random follows from it.
        name: The model's name in its run.
        threads: CPUs; a trained model depends on it.
        checkpoint: File to resume from and to save to; None for none.
        should_stop: Asked now and then by a long fit, which then saves its state and raises ``Saved``.
        progress: Gets lines for the log.
        rows: Gives all training rows, batch by batch; None: a trained model learns from the row sample.
        scratch: Folder for files that such a model maps into memory.
        score: Quality of drawn rows, for a training that looks at it.
    """

    profile: Profile
    coder: TableCoder
    counts: Counts
    relations: Sequence[Any]
    schema: pa.Schema
    columns: Sequence[Column]
    options: Mapping[str, Any]
    generators: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
    name: str = ""
    threads: int = 1
    checkpoint: Path | None = None
    should_stop: Callable[[], bool] | None = None
    progress: Callable[[str], None] | None = None
    rows: Callable[[], Iterable[pa.RecordBatch]] | None = None
    scratch: Path | None = None
    score: Callable[[pa.RecordBatch], float] | None = None


@dataclass(frozen=True)
class Fitted:
    """What a fit gives.

    Attributes:
        model: The model.
        rows: Rows that it was fitted on.
        notes: Facts for the report.
        losses: Loss history, one row per epoch, of a trained model.
    """

    model: Model
    rows: int
    notes: tuple[str, ...] = ()
    losses: pa.Table | None = None


def with_coded_text(model: Any) -> Any:
    """The same model, but text categories come as dictionary arrays: half the work, for who knows the table's schema.

    Args:
        model: A native model.
    """

    def coded(asked: pa.Field) -> pa.Field:
        form = model.forms.get(asked.name)
        if form is None or form.categories is None or not is_text(asked.type) or pa.types.is_string_view(asked.type):
            return asked  # Parquet's writer takes no dictionary of views
        index = pa.from_numpy_dtype(code_dtype(asked.type, len(form.categories)))
        return asked.with_type(pa.dictionary(index, form.categories.type))

    return replace(model, schema=pa.schema([coded(x) for x in model.schema], metadata=model.schema.metadata))
