"""What both exports tell SDV of a column: metadata, categories, where it clips and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.models.sdv.marginals import StockMarginal
from shardsynth.models.sdv.state import silenced
from shardsynth.standalone.files import replacing

if TYPE_CHECKING:
    import pandas as pd

    from shardsynth.models.copula.model import GaussianCopula
    from shardsynth.models.ctgan.model import DeepModel

#: Rows that the native model draws and that a stock synthesizer is fitted to.
DRAWN_ROWS = 400
_SDTYPES = {"category": "categorical", "number": "numerical", "datetime": "datetime", "empty": "categorical"}


def save_pickle(synthesizer: Any, path: Path) -> None:
    """Write a stock synthesizer as SDV does, but so that ``path`` is never half a file."""
    with silenced(), replacing(path) as temporary:
        synthesizer.save(str(temporary))


def column_of(model: GaussianCopula | DeepModel, index: int) -> Column:
    """A column of a native model, described for SDV, by its index in the schema."""
    fitted, field = model.fitted[index], model.schema.field(index)
    options = {"datetime_format": model.formats[fitted.name]} if fitted.name in model.formats else {}
    role = "empty" if fitted.treatment == "empty" else fitted.role
    return Column(fitted.name, field.type, _SDTYPES.get(role, role), role, options)


def described(model: GaussianCopula | DeepModel, columns: Sequence[Column], frame: pd.DataFrame) -> dict[str, Any]:
    """SDV's metadata of the exported table.

    Args:
        model: The native model.
        columns: Its columns.
        frame: Drawn rows. Identifiers in it are replaced by values that SDV can fit.
    """
    entries: dict[str, Any] = {}
    table: dict[str, Any] = {"columns": entries}
    for column in columns:
        generator = model.generators.get(column.name, {})
        entries[column.name] = {"sdtype": column.sdtype}
        if column.role == "datetime" and frame[column.name].dtype.kind != "M":
            entries[column.name] = {"sdtype": "numerical"}
        elif generator.get("kind") == "pii":
            entries[column.name] = {"sdtype": generator["function"], "pii": True}
        elif column.role in ("id", "pii"):
            entries[column.name] = {"sdtype": "id"}
            if generator.get("kind") == "string":
                entries[column.name]["regex_format"] = _plain_regex(generator["regex"])
            frame[column.name] = _stand_in(frame[column.name], column)
            if "cycle" in generator:  # part of a composite key; SDV's synthesizers have none
                continue
            if "primary_key" not in table:
                table["primary_key"] = column.name
            elif generator.get("kind") != "string":
                table.setdefault("alternate_keys", []).append(column.name)
    return table


def _plain_regex(regex: str) -> str:
    """The regex as SDV's generator can read it: without alternation, whose first branch is the most frequent one."""
    return regex[3:-1].split("|", maxsplit=1)[0] if regex.startswith("(?:") and regex.endswith(")") else regex


def _stand_in(series: pd.Series[Any], column: Column) -> Any:
    """Values of a key for the fit: unique, without gaps."""
    numbers = np.arange(1, len(series) + 1)
    return numbers if kind_of(column.type) != "text" else [f"k{number}" for number in numbers]


def ensure_both(frame: pd.DataFrame, name: str, share: float) -> None:
    """Change a frame of fitted rows so that a column has a value in it, and a missing one if ``share`` is above 0.

    Args:
        frame: The rows; changed in place.
        name: The column.
        share: Share of missing values in the native model.
    """
    gaps = frame[name].isna()
    if share > 0 and not gaps.any():
        frame[name] = frame[name].where(np.arange(len(frame)) > 0)
    elif gaps.all():
        import pandas as pd

        stand_in: Any = pd.Timestamp("2000-01-01") if frame[name].dtype.kind == "M" else 0.0
        frame.loc[0, name] = stand_in if frame[name].dtype.kind in "Mf" else "0"


def labels_of(column: Column, values: pa.Array) -> list[Any]:
    """Categories as SDV gets them from ``frames``."""
    return list(frames.to_pandas(pa.table([values], [column.name]), [column])[column.name].tolist())


def set_axis(transformer: Any, formatter: Any, marginal: StockMarginal, series: pd.Series[Any]) -> None:
    """Set where SDV clips a number or date, and how it rounds."""
    transformer._min_value, transformer._max_value = marginal.low, marginal.high
    if series.dtype.kind == "M":
        return
    transformer._rounding_digits = marginal.digits
    transformer.learn_rounding_scheme = marginal.digits is not None
    if formatter is not None:
        formatter._min_value, formatter._max_value = marginal.low, marginal.high
        formatter._rounding_digits = marginal.digits
        formatter.enforce_rounding = marginal.digits is not None
