"""A native copula that was fitted under constraints as a stock SDV synthesizer under SDV's own constraints.

SDV keeps a constraint by columns of its own in place of the constrained ones, which are not those of the native model.
So the stock synthesizer is fitted to rows that the native model drew (no real row is used), with SDV's constraint
objects added; then the columns that no constraint is on get the parameters of the model, as in ``export_copula``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from shardsynth.data import frames
from shardsynth.data.columns import Column
from shardsynth.data.metadata import TABLE
from shardsynth.models.copula.nearest import nearest_correlation
from shardsynth.models.sdv.derived import derive
from shardsynth.models.sdv.export_columns import column_of, save_pickle
from shardsynth.models.sdv.export_copula import (
    as_category,
    not_computed,
    not_held,
    parametrised,
    replace_copula,
    unfitted,
    with_gaps,
)
from shardsynth.models.sdv.state import silenced
from shardsynth.sampling.constraints.partial_order import PartialOrderStep
from shardsynth.sampling.constraints.sdv_constraints import build
from shardsynth.sampling.constraints.table import TableConstraints

if TYPE_CHECKING:
    import pandas as pd

    from shardsynth.models.copula.model import GaussianCopula

#: Rows of the native model that the stock synthesizer is fitted to.
ROWS = 5_000
#: Those on which SDV is asked whether it can keep a constraint.
_TRIED_ROWS = 500


def export(model: GaussianCopula, table: TableConstraints, rows: pa.Table, path: Path) -> list[str]:
    """Write a model under constraints as the pickle of a stock synthesizer under constraints.

    Args:
        model: A native copula of the inner table.
        table: The constraints.
        rows: About ``ROWS`` drawn rows of the table.
        path: File to write.

    Returns:
        Lines that say what is not exact.
    """
    with silenced():
        synthesizer, lost = to_stock(model, table, rows)
    save_pickle(synthesizer, path)
    return lost


def to_stock(model: GaussianCopula, table: TableConstraints, rows: pa.Table) -> tuple[Any, list[str]]:
    """The stock synthesizer of ``export``, and what is not exact."""
    derived = derive(model)
    inner = [column_of(model, i) for i in range(len(model.columns))]
    inner = [as_category(column) if column.name in derived.functions else column for column in inner]
    columns = _columns(table, {column.name: column for column in inner})
    frame = frames.to_pandas(rows, columns)
    added, lost = _kept(model, table, columns, frame)
    constrained = {name for step in table.steps for name in step.columns}
    constrained |= {field.name for field in table.schema if field.name not in model.schema.names}
    synthesizer = _without_checks(unfitted(model, columns, frame, "beta"))
    if added:
        synthesizer.add_constraints(added)
    data = {TABLE: frame}
    synthesizer.auto_assign_transformers(data)
    free = [column for column in columns if column.name not in constrained]
    synthesizer.update_transformers(with_gaps(free, frame))
    synthesizer.fit(data)
    del synthesizer.validate
    names = list(synthesizer._model.columns)
    univariates = dict(zip(names, synthesizer._model.univariates))
    matrix = np.asarray(synthesizer._model.correlation, np.float64)
    outputs, distances = parametrised(
        synthesizer, model, inner, frame, derived, without={c.name for c in inner} - {c.name for c in free}
    )
    scale = np.sqrt(np.diag(derived.correlation))
    for i, name in enumerate(names):
        if name not in outputs:
            continue
        univariates[name] = outputs[name].univariate
        for j, other in enumerate(names[:i]):
            if other in outputs:
                a, b = outputs[name].latent, outputs[other].latent
                known = a >= 0 and b >= 0
                matrix[i, j] = matrix[j, i] = derived.correlation[a, b] / (scale[a] * scale[b]) if known else 0.0
    replace_copula(synthesizer, names, [univariates[name] for name in names], nearest_correlation(matrix))
    lost += [
        f"column {column!r}: KS distance {distance:.3f} to the native marginal"
        for column, distance in distances.items()
        if distance > 0.005
    ]
    lost += not_held(model, derived)
    named = {relation.name for relation in model.relations if relation.name not in derived.functions}
    lost += [not_computed(column.name, column.how) for column in table.computed if column.name not in named]
    if constrained:
        lost.append(f"columns of constraints have SDV's own marginals, fitted to {rows.num_rows:,} drawn rows")
    return synthesizer, lost


def _without_checks(synthesizer: Any) -> Any:
    """The synthesizer, which takes rows as they are: SDV's checks parse each date, in milliseconds, several times."""
    synthesizer.validate = lambda data: None
    return synthesizer


def _columns(table: TableConstraints, inner: dict[str, Column]) -> list[Column]:
    """The columns of the table, as SDV is told of them."""
    known = {c.name: c for program in reversed(table.programs) for c in program.columns}
    for step in table.steps:
        held = step.constrained
        known.update({c.column.name: c.column for c in (held if isinstance(held, tuple) else (held,))})
    return [inner.get(field.name) or known[field.name] for field in table.schema]


def _kept(
    model: GaussianCopula, table: TableConstraints, columns: Sequence[Column], frame: pd.DataFrame
) -> tuple[list[Any], list[str]]:
    """SDV's objects of the constraints that SDV can keep on these columns, and lines for the others."""
    declared: list[dict[str, Any]] = []
    for step in table.steps:
        declared += step.declarations if isinstance(step, PartialOrderStep) else [step.declared]
    kept: list[Any] = []
    lost = [f"constraint {program.declared['class_name']}: lost, a class of your own" for program in table.programs]
    tried = frame.head(_TRIED_ROWS)
    for declaration in declared:
        names = ", ".join(str(value) for key, value in declaration["parameters"].items() if "column" in key)
        data = {TABLE: tried.copy()}
        trial = _without_checks(unfitted(model, columns, data[TABLE], "norm"))
        try:
            trial.add_constraints([build(entry, place) for place, entry in enumerate([*kept, declaration])])
            trial.auto_assign_transformers(data)
        except Exception as error:
            reason = re.split(r"[\n.:]", str(error).strip() or type(error).__name__)[0][:80]
            lost.append(f"constraint {declaration['class_name']} of {names}: lost, SDV refuses it here ({reason})")
        else:
            kept.append(declaration)
    return [build(declaration, number) for number, declaration in enumerate(kept)], lost
