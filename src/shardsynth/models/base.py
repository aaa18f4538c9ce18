"""What a model is to the rest of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa


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

    def draw(self, seed: int, first_row: int, n: int, conditions: Any = None) -> pa.RecordBatch:
        """Rows ``first_row`` to ``first_row + n - 1`` of the table that ``seed`` names.

        Raises:
            ConditionError: The model cannot be drawn under the conditions.
        """

    def save(self, folder: Path) -> None:
        """Write the model's files: the same bytes for the same model."""
