"""A fitted stock synthesizer's pickle as a native model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from shardsynth.errors import ModelError
from shardsynth.models.sdv.import_columns import family_of
from shardsynth.models.sdv.import_copula import import_copula
from shardsynth.models.sdv.import_deep import import_deep
from shardsynth.models.sdv.state import silenced
from shardsynth.models.sdv.synthesizers import STATE, unpickle
from shardsynth.standalone.regular import read_regular


def import_stock(path: str | Path, trust: bool = False, sha256: str | None = None) -> Any:
    """Native model of a stock synthesizer's pickle, SDV's own or this project's.

    A copula's encoding is kept exactly: a category is an interval of a uniform latent; a number is missing by chance or
    by its ``is_null`` latent. Distributions of numbers are tabulated. For the other families see ``import_deep``. Ids
    and personal columns get generators with the formats of SDV's metadata.

    Args:
        path: The pickle. Opening it runs the code that it names.
        trust: Open it, whatever it is.
        sha256: Open it if it has this checksum.

    Raises:
        ModelError: The pickle is not trusted or cannot be read; it is no fitted synthesizer of a native family; or it
            has constraints or transformers that a native model cannot follow.
    """
    path = Path(path)
    try:
        data = read_regular(path)
    except OSError as error:
        raise ModelError(f"{path}: the pickle cannot be read: {error.strerror}") from None
    if not trust and (sha256 is None or hashlib.sha256(data).hexdigest() != sha256):
        raise ModelError(
            f"{path}: opening a pickle runs the code in it; give --trust-pickle if you know where it comes from"
        )
    synthesizer = unpickle(data, str(path))
    state = synthesizer.__dict__.pop(STATE, None) if hasattr(synthesizer, "__dict__") else None
    import_family = import_copula if family_of(synthesizer) is None else import_deep
    with silenced():
        return import_family(synthesizer, state, path)
