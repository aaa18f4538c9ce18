"""What the parts of a model file say of each other: columns, relations, generators and formats must fit together.

A relation names columns that are made before it, and its codes are categories of the model. A generator has a fixed
kind, makes values of its column's type, and needs little memory. The ends of every column are written once, so that a
column whose values its type cannot hold is found before the first row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardsynth.data.layouts import layout_from
from shardsynth.data.writings import writing_from
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import FittedColumn
from shardsynth.models.columns.forms import StorageForm, forms_of
from shardsynth.models.columns.formulas import DatePartRelation, LinearRelation, PowerRelation, StepRelation
from shardsynth.models.columns.operands import Amount, Operand
from shardsynth.models.columns.relations import FlagRelation, FunctionRelation, Relation, SumRelation, in_order
from shardsynth.sampling.generators import GeneratorError, check_generator

#: Makes the error of a wrong file from what is wrong in it.
Wrong = Callable[[str], ModelError]

_UNREADABLE = (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)


def check_references(
    wrong: Wrong,
    schema: pa.Schema,
    columns: Sequence[FittedColumn],
    relations: Sequence[Relation],
    plain: Mapping[str, Any],
    computed: str = "relation",
) -> None:
    """Check the parts of a model file that name each other.

    Args:
        wrong: Makes the error.
        schema: The model's.
        columns: One per field of it.
        relations: In the order in which they are applied.
        plain: ``model.json``.
        computed: Treatment of the columns that relations compute.

    Raises:
        ModelError: From ``wrong``.
    """
    for column in columns:
        _check_column(wrong, column)
    _check_formats(wrong, schema, plain["formats"])
    for column, field in zip(columns, schema):
        if column.treatment in ("id", "pii"):
            generator = plain["generators"].get(column.name)
            if generator is None:
                raise wrong(f"generators: there is none for column {column.name!r}")
            try:
                check_generator(generator, field.type)
            except GeneratorError as error:
                raise wrong(f"generators.{column.name}: {error}") from None
    for column, field in zip(columns, schema):
        if column.treatment in ("latent", "constant", "relation"):
            _check_ends(wrong, column, field, plain["formats"])
    waiting = {relation.name for relation in relations}
    at_hand = ("latent", "constant") if computed == "relation" else ("latent", "constant", "empty")
    made = {column.name for column in columns if column.treatment in at_hand and column.name not in waiting}
    by_name = {column.name: column for column in columns}
    if len(in_order(relations)) < len(relations):
        raise wrong("relations: compute columns in a circle, or one twice")
    if computed != "relation":
        relations = in_order(relations)
    for number, relation in enumerate(relations):
        problem = _relation_problem(relation, by_name, made, computed)
        if problem:
            raise wrong(f"relations.{number}: {problem}")
        made.add(relation.name)
    for column in columns:
        if column.treatment == "relation" and column.name not in made:
            raise wrong(f"relations: there is none for column {column.name!r}")


def _check_column(wrong: Wrong, column: FittedColumn) -> None:
    marginal = column.marginal
    if column.treatment in ("latent", "constant"):
        if marginal is None or not len(marginal.lo):
            raise wrong(f"column {column.name!r} is of treatment {column.treatment} and has no value")
        if (column.role == "category") != (column.categories is not None):
            raise wrong(f"column {column.name!r} of role {column.role} does not go with its categories")
    if column.treatment == "relation" and column.categories is not None and not len(column.categories):
        raise wrong(f"column {column.name!r} is computed and has no category")
    if marginal is not None and (marginal.kind == "category") != (column.categories is not None):
        raise wrong(f"column {column.name!r}: a marginal of kind {marginal.kind} does not go with its categories")


def _check_formats(wrong: Wrong, schema: pa.Schema, formats: Mapping[str, str]) -> None:
    for name in formats:
        if name not in schema.names:
            raise wrong(f"formats: there is no column {name[:80]!r}")
        try:
            if writing_from(formats[name]) is None:
                layout_from(formats[name])
        except (ValueError, TypeError):
            raise wrong(f"formats: that of the column {name[:80]!r} is no layout of dates or numbers") from None


def _check_ends(wrong: Wrong, column: FittedColumn, field: pa.Field, formats: Mapping[str, str]) -> None:
    """Write the first and the last value of a column as Arrow, and see that its segments are finite."""
    try:
        form = forms_of([column], pa.schema([field]), formats)[column.name]
        spread = None if column.categories is not None or column.marginal is None else form.spread(column.marginal)
        if spread is not None and not (np.isfinite(spread.lo).all() and np.isfinite(spread.width).all()):
            raise wrong(f"column {column.name!r}: its values are too large for its type")
        form.array(form.of_raw(_ends(column, form)), None).validate(full=True)
    except _UNREADABLE:
        raise wrong(f"column {column.name!r} of type {field.type} cannot hold its values") from None


def _ends(column: FittedColumn, form: StorageForm) -> Any:
    if column.categories is not None:
        return np.array([0, len(column.categories) - 1])
    return np.zeros(1) if column.marginal is None else np.array([column.marginal.lo[0], column.marginal.hi[-1]])


def _relation_problem(relation: Relation, columns: Mapping[str, FittedColumn], made: set[str], computed: str) -> str:
    """What is wrong with a relation, in words; empty if nothing is."""
    if relation.name not in columns or columns[relation.name].treatment != computed or relation.name in made:
        return f"{relation.name[:80]!r} is no column that waits to be computed"
    for name in relation.parents:
        if name not in made:
            return f"column {name[:80]!r} is not made before it"
    derived, parents = columns[relation.name], [columns[name] for name in relation.parents]
    if isinstance(relation, FunctionRelation):
        return _function_problem(relation, parents[0], derived)
    if isinstance(relation, FlagRelation):
        return _flag_problem(relation, len(parents), derived)
    if isinstance(relation, SumRelation):
        return "a sum is of numbers" if any(c.categories is not None for c in (*parents, derived)) else ""
    if isinstance(relation, StepRelation):
        return _step_problem(relation, parents[0], derived)
    if isinstance(relation, DatePartRelation):
        if parents[0].categories is not None or relation.part == "date" and not relation.derived.nanoseconds:
            return "a part is that of an instant"
        return _amount_problem(relation.derived, derived)
    return _formula_problem(relation, parents, derived)


def _function_problem(relation: FunctionRelation, parent: FittedColumn, derived: FittedColumn) -> str:
    points, results = relation.parent_points, relation.derived_points
    values = len(points) if points is not None else len(parent.categories or ())
    if (points is None) != (parent.categories is not None) or (results is None) != (derived.categories is not None):
        return "its points do not go with the kinds of its columns"
    if len(relation.table) != values + 1:
        return f"its table has {len(relation.table)} codes, not {values + 1}"
    if points is not None and (np.diff(points) <= 0).any():
        return "its points do not increase"
    if max(relation.table) >= (len(results) if results is not None else len(derived.categories or ())):
        return "its table has a code that is out of range"
    return "" if results is None or len(results) else "it has no result"


def _flag_problem(relation: FlagRelation, parents: int, derived: FittedColumn) -> str:
    if len(relation.ones) != parents + 1 or len(relation.zeros) != parents + 1:
        return f"it has {len(relation.ones)} and {len(relation.zeros)} codes, not {parents + 1}"
    if (relation.derived.values is None) != (derived.categories is None):
        return "its values do not go with the kind of its column"
    if derived.categories is not None:
        codes = (relation.ones[-1], relation.zeros[-1])
        if min(codes) < -1 or max(codes) >= len(derived.categories):
            return "a code is out of range"
    return ""


def _step_problem(relation: StepRelation, parent: FittedColumn, derived: FittedColumn) -> str:
    if parent.categories is not None or derived.categories is None:
        return "it makes categories of a number"
    if len(relation.codes) != len(relation.cuts) + 1 or (np.diff(relation.cuts) <= 0).any():
        return "its cuts do not increase, or do not go with its codes"
    return "a code is out of range" if max(relation.codes) >= len(derived.categories) else ""


def _amount_problem(operand: Operand, column: FittedColumn) -> str:
    values = operand.values
    if (values is None) != (column.categories is None):
        return "its values do not go with the kinds of its columns"
    if values is None:
        return ""
    if len(values) != len(column.categories or ()) or any(not _is_number(value) for value in values):
        return f"the values of column {column.name!r} are not numbers, one for each of its categories"
    return ""


def _is_number(value: object) -> bool:
    try:
        return bool(np.isfinite(float(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _formula_problem(
    relation: LinearRelation | PowerRelation, parents: Sequence[FittedColumn], derived: FittedColumn
) -> str:
    numbers: Sequence[float] = relation.factors if isinstance(relation, LinearRelation) else relation.powers
    if len(numbers) != len(parents):
        return f"it has {len(numbers)} numbers for {len(parents)} columns"
    if derived.categories is not None or not all(isinstance(p, Amount) for p in (*relation.parents_, relation.derived)):
        return "it computes a number from amounts"
    return next(filter(None, map(_amount_problem, relation.parents_, parents)), "")
