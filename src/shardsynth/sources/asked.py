"""The rows that `shardsynth sample` asks for, as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shardsynth.errors import ConditionError, InputError
from shardsynth.sources.known import KnownSource, open_known
from shardsynth.sources.sources import ConstrainedSource, NativeSource, Source, open_source


def open_asked(asked: dict[str, Any], *, trust_pickle: bool, first_row: int = 0) -> Source:
    """The rows of a model, or the known rows that it completes.

    Args:
        asked: What decides the rows, as the plan of a sample holds it.
        trust_pickle: Load a stock pickle that this user did not sign.
        first_row: Number of the first known row, as the plan holds it.

    Raises:
        ModelError: There is no such model.
        ConditionError: The model cannot meet the condition, or cannot complete rows.
        InputError: The known rows are not those that were first read.
    """
    source = open_source(
        Path(asked["model"]),
        seed=asked["seed"],
        name=asked["name"],
        chunk_rows=asked["chunk_rows"],
        trust_pickle=trust_pickle,
        where=asked["where"],
        sampling=asked.get("sampling"),
    )
    if asked.get("remaining") is None:
        return source
    under = source.table if isinstance(source, ConstrainedSource) else None
    native = source.inner if isinstance(source, ConstrainedSource) else source
    if not isinstance(native, NativeSource):
        raise ConditionError("--remaining-columns: a stock model cannot complete rows; use a native one")
    known, digest = open_known(asked["remaining"])
    if digest != asked["known"]:
        raise InputError(
            f"{asked['remaining']}: the known rows changed since they were first read; restore them, or choose "
            "another --output"
        )
    completed = KnownSource(native.model, asked["seed"], known, digest, under=under)
    completed.first_row = first_row
    return completed
