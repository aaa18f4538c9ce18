"""The learned columns of a deep model in its file: their arrays, and the checks of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import ARRAYS, LARGEST, ModelFile, column_arrays
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.ragged import Ragged
from shardsynth.models.ctgan.codes import DeepCoding
from shardsynth.models.ctgan.columns import ModeColumn
from shardsynth.models.ctgan.modes import STDS, Modes

#: Arrays of a ``ModeColumn`` in the model file.
_CODE_KEYS = {
    "share": np.float64,
    "mean": np.float64,
    "std": np.float64,
    "weight": np.float64,
    "learned": np.int64,
    "folded": np.int64,
    "folded_share": np.float64,
}
#: Codes are int16.
_MOST_CODES = 32_767


def coding_arrays(coding: DeepCoding) -> dict[str, Ragged]:
    """The arrays of all columns, one tensor per kind of array."""
    none = np.zeros(0)
    arrays: dict[str, list[NDArray[Any]]] = {"share": [c.share for c in coding.columns]}
    for key in ("mean", "std", "weight"):
        arrays[key] = [none if c.modes is None else getattr(c.modes, key) for c in coding.columns]
    for key in ("learned", "folded", "folded_share"):
        arrays[key] = [none if c.is_axis else getattr(c, key) for c in coding.columns]
    return {
        **column_arrays(coding.table),
        **{key: Ragged.of(arrays[key], dtype) for key, dtype in _CODE_KEYS.items()},
    }


def load_mode_columns(file: ModelFile, table: Sequence[FittedColumn]) -> tuple[ModeColumn, ...]:
    """The learned columns, checked.

    Args:
        file: The model's files.
        table: All columns.

    Raises:
        ModelError: An array is not what it must be, or does not go with the column.
    """
    names = [card.name for card in file.card.learned]
    by_name = {column.name: column for column in table}
    # SDV's networks, in an imported model, also learn columns that are always missing
    if len(set(names)) < len(names) or any(
        name not in by_name or by_name[name].treatment not in ("latent", "empty") for name in names
    ):
        raise file.wrong("learned: names a column twice, or one that is not learned")
    if missing := {column.name for column in table if column.treatment == "latent"} - set(names):
        raise file.wrong(f"learned: column {min(missing)!r} is not there")
    fits = [by_name[name] for name in names]
    held = [0 if fit.categories is None else len(fit.categories) for fit in fits]
    share = Array("float64", parts=names, minimum=0.0, sums_to=1.0)
    code = Array("int64", parts=names, minimum=0, below=held)
    ragged = file.check({"mean": Array("float64", parts=names, minimum=-LARGEST, maximum=LARGEST), "learned": code})
    modes, learned = (np.diff(ragged[key].starts) for key in ("mean", "learned"))
    ragged |= file.check({"folded": code})
    folded = np.diff(ragged["folded"].starts)
    std = Array("float64", parts=names, lengths=modes, minimum=float(np.finfo(float).tiny), maximum=LARGEST / STDS)
    ragged |= file.check(
        {
            "std": std,
            "weight": replace(share, lengths=modes),
            "folded_share": replace(share, lengths=folded),
            "share": share,
        }
    )
    columns = []
    for i, (card, fit) in enumerate(zip(file.card.learned, fits)):
        codes = modes[i] + learned[i] + (folded[i] > 0) + card.nullable
        is_axis = fit.treatment == "latent" and fit.categories is None
        fits_in = len(ragged["share"][i]) == codes or fit.treatment == "empty"
        if not fits_in or not 0 < len(ragged["share"][i]) <= _MOST_CODES:
            raise file.wrong(f"array 'share' of {card.name!r} does not go with its codes", ARRAYS)
        if (modes[i] > 0) != is_axis or (fit.treatment == "latent" and not is_axis and not learned[i]):
            raise file.wrong(f"array 'mean' or 'learned' of {card.name!r} does not go with its kind", ARRAYS)
        arrays = {key: ragged[key][i] for key in _CODE_KEYS}
        if is_axis:
            mixture = Modes(arrays["mean"], arrays["std"], arrays["weight"])
            tails = (card.tails[0], card.tails[1])
            columns.append(
                ModeColumn(fit, arrays["share"], card.nullable, mixture, card.normal, coin=card.coin, tails=tails)
            )
        else:
            of_codes = (arrays["learned"], arrays["folded"], arrays["folded_share"])
            columns.append(ModeColumn(fit, arrays["share"], card.nullable, None, False, *of_codes))
    return tuple(columns)
