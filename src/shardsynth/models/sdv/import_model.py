"""A fitted stock synthesizer's pickle as a native model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.errors import ModelError
from shardsynth.models.sdv.import_copula import _columns, _fit
from shardsynth.models.sdv.state import silenced
from shardsynth.models.sdv.synthesizers import STATE, StockModel, unpickle


def import_stock(path: str | Path, trust: bool = False, sha256: str | None = None) -> Any:
    """Native model of a stock synthesizer's pickle, SDV's own or this project's: a copula, or see ``deep_import``.

    SDV's encoding carries over exactly: a category is an interval of a uniform latent, a number may be missing by an
    independent coin or by its ``is_null`` latent; distributions of numbers are tabulated. Ids and personal columns
    get generators of their own (formats as in SDV's metadata).

    Args:
        path: The pickle. Opening it runs the code that it names.
        trust: Open it whatever it is.
        sha256: Open it if it has this checksum.

    Raises:
        ModelError: Not trusted, not a fitted synthesizer of a native family, or one with constraints or transformers
            that a native model cannot follow.
    """
    from shardsynth.models.copula.model import GaussianCopula

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the pickle cannot be read: {error.strerror}") from None
    if not trust and (sha256 is None or hashlib.sha256(data).hexdigest() != sha256):
        raise ModelError(
            f"{path}: opening a pickle runs the code in it; give --trust-pickle if you know where it comes from"
        )
    synthesizer = unpickle(data, str(path))
    state = synthesizer.__dict__.pop(STATE, None) if hasattr(synthesizer, "__dict__") else None
    from shardsynth.models.sdv.import_deep import import_deep
    from shardsynth.models.sdv.stock_objects import family_of

    if family_of(synthesizer) is not None:
        with silenced():
            return import_deep(synthesizer, state, path)
    _check(synthesizer, path)
    with silenced():
        if state is not None:
            stock = StockModel(synthesizer, state)
            columns, schema, generators = stock.columns, stock.schema, stock.generators
        else:
            columns, generators = _columns(synthesizer)
            schema = pa.schema([(column.name, column.type) for column in columns])
        fit = _fit(synthesizer, columns, {} if state is None else state)
    return GaussianCopula.from_fit(fit, schema, columns, generators=generators)


def _check(synthesizer: Any, path: Path) -> None:
    from copulas.multivariate import GaussianMultivariate
    from sdv.single_table import GaussianCopulaSynthesizer

    if not isinstance(synthesizer, GaussianCopulaSynthesizer):
        raise ModelError(
            f"{path}: holds a {type(synthesizer).__name__}, not a synthesizer of SDV that has a native family"
        )
    if not synthesizer._fitted or not isinstance(synthesizer._model, GaussianMultivariate):
        raise ModelError(f"{path}: the synthesizer is not fitted; fit it in SDV first")
    if synthesizer.get_constraints():
        raise ModelError(f"{path}: the synthesizer has constraints, which its copula alone does not meet")
