"""Base class of the native models: what follows from their fitted columns alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm, forms_of

if TYPE_CHECKING:
    from typing_extensions import Self


class ColumnModel(ABC):
    """Base of a native model that is a frozen dataclass."""

    schema: pa.Schema
    formats: dict[str, str]

    @property
    @abstractmethod
    def fitted(self) -> Sequence[FittedColumn]:
        """One per field of the schema."""

    @cached_property
    def forms(self) -> dict[str, StorageForm]:
        """By column name, how learned, computed and constant values are held until they become Arrow arrays."""
        return forms_of(self.fitted, self.schema, self.formats)

    @property
    def learned_distributions(self) -> dict[str, Any]:
        """Per column, SDV's ``{"distribution": name, "learned_parameters": {...}}``; none for columns without one."""
        return {c.name: dict(c.distribution) for c in self.fitted if c.distribution}

    def with_schema(self, schema: pa.Schema) -> Self:
        """The same model with another schema: other Arrow types for the same values."""
        model: Self = replace(self, schema=schema)  # type: ignore[type-var]
        return model

    def with_sampling(
        self, *, temperature: float | None = None, top_p: float | None = None, balance: str | None = None
    ) -> Self:
        """The model with other sampling options; an option that is None stays. Only some families have any.

        Raises:
            ModelError: The model has no such option.
        """
        options = {"temperature": temperature, "top_p": top_p, "balance": balance}
        if options_set := [name for name, value in options.items() if value is not None]:
            raise ModelError(f"{', '.join(options_set)}: for autoregressive models only")
        return self

    @property
    def device(self) -> str:
        """Where rows are made: always ``cpu``, unless a family says otherwise."""
        return "cpu"

    def on_device(self, device: str) -> Self:
        """The same model: this family makes its rows on the CPU, whatever the device."""
        return self
