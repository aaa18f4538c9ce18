"""A foreign table without some of its columns: those that the user leaves out, and empty ones at the end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.errors import InputError, ShardError, did_you_mean


class Selected:
    """The protocol is ``foreign.ForeignTable``.

    Columns without a name at the end of a text table are what a trailing delimiter makes: they are left out, and
    refused where one has a value.
    """

    def __init__(self, path: Path, table: Any, leave_out: tuple[str, ...]) -> None:
        self._path, self._table = path, table
        names = table.fields.names
        for name in leave_out:
            if name not in names:
                raise InputError(f"{path}: --leave-out: there is no column {name!r}{did_you_mean(name, names, 0.6)}")
        width = len(names)
        while table.is_text and width > 1 and not names[width - 1].strip():
            width -= 1
        self._nameless = range(width, len(names))
        self._kept = [place for place in range(width) if names[place] not in leave_out]
        if not self._kept:
            if not leave_out:
                raise ShardError(f"{path}: the table has no column")
            raise InputError(f"{path}: --leave-out leaves no column")
        self.is_text: bool = table.is_text
        self.fields = pa.schema([table.fields.field(place) for place in self._kept], metadata=table.fields.metadata)
        self.texts: set[str] = set(getattr(table, "texts", ()))

    def batches(self) -> Generator[list[pa.Array], None, None]:
        """Batches of the columns in ``fields``."""
        with closing(self._table.batches()) as batches:
            for arrays in batches:
                for place in self._nameless:
                    if arrays[place].null_count < len(arrays[place]):
                        raise ShardError(
                            f"{self._path}: column {place + 1} of {len(arrays)} has no name: give it one in the header "
                            "(a nameless first column is often a row index that another program wrote)"
                        )
                yield [arrays[place] for place in self._kept]
