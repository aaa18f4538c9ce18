"""What one column is: its Arrow type, its SDV sdtype and its role for a model.

Summaries, models, metrics and the report share it. It imports neither sdv nor torch.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

#: Roles. ``category``: a finite set of values. ``number`` and ``datetime``: values on an axis.
#: ``id``: made from the row number. ``pii``: made by Faker, never learned. ``empty``: all missing.
ROLES = ("category", "number", "datetime", "id", "pii", "empty")

#: Rows of a value that is not one person's: what ``rare.min_count`` is by default.
COMMON_ROWS = 5

_ROLE_OF_SDTYPE = {
    "numerical": "number",
    "datetime": "datetime",
    "categorical": "category",
    "ordinal": "category",
    "boolean": "category",
    "id": "id",
}


def role_of_sdtype(sdtype: str) -> str:
    """Role of a column of an SDV sdtype; ``pii`` for every sdtype that SDV calls personal, and for unknown ones."""
    return _ROLE_OF_SDTYPE.get(sdtype, "pii")


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        name: Column name, as in the Parquet schema; can be any text.
        type: Arrow type of the input field, dictionary types included.
        sdtype: SDV sdtype (``numerical``, ``categorical``, ``ordinal``, ``boolean``, ``datetime``, ``id``, PII names).
        role: One of ``ROLES``.
        options: The rest of the SDV column metadata (``datetime_format``, ``regex_format``, ``pii`` ...).
    """

    name: str
    type: pa.DataType
    sdtype: str
    role: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def value_type(self) -> pa.DataType:
        """Arrow type of the values: a dictionary column's value type, else the type itself."""
        return self.type.value_type if pa.types.is_dictionary(self.type) else self.type

    @property
    def ordered(self) -> bool:
        """Whether the categories have an order of their own (SDV ``ordinal``)."""
        return self.sdtype == "ordinal"


def schema_to_text(schema: pa.Schema) -> str:
    """Arrow schema as base64 text of its IPC message, with field and schema metadata: nothing is lost."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def schema_from_text(text: str) -> pa.Schema:
    """The schema whose text ``schema_to_text`` gave."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
