"""Constraints as a job file declares them, in SDV's JSON form, and the steps that keep them.

A declaration is ``{"class_name": "Inequality", "parameters": {"low_column_name": "LFS_YEARS", "high_column_name":
"OS_YEARS"}}``; the class may also be a user's own, derived from SDV's ProgrammableConstraint, by its import path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError, did_you_mean
from shardsynth.sampling.constraints.combined import CombinationStep, OneHotStep
from shardsynth.sampling.constraints.increments import IncrementStep
from shardsynth.sampling.constraints.ordered import OrderedStep
from shardsynth.sampling.constraints.step import ConstrainedColumn, Step, unique_name

Declared = Mapping[str, Any]

#: Parameters of SDV's classes that name columns, then the others.
PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Inequality": (("low_column_name", "high_column_name"), ("strict_boundaries",)),
    "Range": (("low_column_name", "middle_column_name", "high_column_name"), ("strict_boundaries",)),
    "FixedCombinations": (("column_names",), ()),
    "FixedIncrements": (("column_name",), ("increment_value",)),
    "OneHotEncoding": (("column_names",), ("learning_strategy",)),
}
_FITTING = {
    "Inequality": ("number", "datetime"),
    "Range": ("number", "datetime"),
    "FixedCombinations": ("category",),
    "FixedIncrements": ("number",),
    "OneHotEncoding": ("category", "number"),
}


def is_programmed(declared: Declared) -> bool:
    """Whether the class is a user's own, named by its import path."""
    return declared["class_name"] not in PARAMETERS


def describe(declared: Declared, number: int) -> str:
    """Which constraint of the job an error speaks of."""
    return f"constraints[{number}] ({declared['class_name']})"


def columns_in(declared: Declared) -> tuple[str, ...]:
    """Columns that a constraint of SDV's own classes is about; () for a user's class."""
    if is_programmed(declared):
        return ()
    names: list[str] = []
    for key in PARAMETERS[declared["class_name"]][0]:
        value = declared["parameters"].get(key)
        names += value if isinstance(value, list) else [] if value is None else [value]
    return tuple(names)


def check_declared(declared: Declared, number: int, columns: Collection[str]) -> None:
    """Check the form of one constraint.

    Args:
        declared: ``class_name`` and ``parameters``.
        number: Its place in the job.
        columns: Names of the table's columns.

    Raises:
        JobError: An unknown class, parameter or column, with the nearest; a parameter that is missing.
    """
    where = describe(declared, number)
    name, given = declared["class_name"], declared["parameters"]
    if is_programmed(declared):
        if ":" not in name and "." not in name:
            raise JobError(
                f"{where}: SDV has no constraint of this class; it has {', '.join(PARAMETERS)}; a class of your own "
                f"is named as package.module:Class or file.py:Class{did_you_mean(name, PARAMETERS)}"
            )
        return
    wanted, more = PARAMETERS[name]
    for key in given:
        if key not in (*wanted, *more, "table_name"):
            raise JobError(f"{where}: it takes no parameter {key!r}{did_you_mean(key, (*wanted, *more))}")
    for key in (*wanted, *(("increment_value",) if name == "FixedIncrements" else ())):
        if key not in given:
            raise JobError(f"{where}: the parameter {key!r} is missing")
    named = columns_in(declared)
    for column in named:
        if column not in columns:
            raise JobError(f"{where}: no column is called {column!r}{did_you_mean(str(column), columns)}")
    if len(set(named)) < len(named):
        raise JobError(f"{where}: it names a column twice")


def bind(
    declared: Sequence[Declared],
    held_of: Callable[[str], ConstrainedColumn],
    names: Collection[str],
    *,
    busy: Collection[str] = (),
    anchored: Callable[[tuple[str, ...]], bool] = lambda columns: False,
    known: Callable[[CombinationStep], frozenset[str]] = lambda step: frozenset(),
) -> list[Step]:
    """The steps of the constraints of SDV's own classes, in the order in which their columns can be restored.

    A constraint whose columns another one has taken already is kept by drawing again, as in SDV.

    Args:
        declared: All constraints of the job; those of a user's class are passed over.
        held_of: What is known of a column.
        names: Names of all columns.
        busy: Columns that a user's own constraint has taken already.
        anchored: Whether the first of some ordered columns is missing where a later one is not.
        known: Combinations that may be made, for a FixedCombinations that is kept by drawing again.

    Raises:
        JobError: A constraint cannot be on such a column.
    """
    taken: set[str] = set(busy)
    used_names = set(names)
    steps: list[Step] = []
    for number, one in enumerate(declared):
        if is_programmed(one):
            continue
        where = describe(one, number)
        held = tuple(held_of(name) for name in columns_in(one))
        check_learned(one, number, (h.column for h in held))
        for h in held:
            _check_role(where, one["class_name"], h.column)
        step = _step(where, dict(one), held, used_names, anchored)
        if taken & {*step.taken, *(set(busy) & set(step.columns))} or not _ordered([*steps, step]):
            step = _again(step, known)
        taken |= set(step.taken)
        used_names |= {made.field.name for made in step.made}
        steps.append(step)
    ordered = _ordered(steps)
    assert ordered is not None
    return ordered


def _step(
    where: str,
    declared: dict[str, Any],
    held: tuple[ConstrainedColumn, ...],
    names: set[str],
    anchored: Callable[[tuple[str, ...]], bool],
) -> Step:
    parameters, name = declared["parameters"], declared["class_name"]
    columns = tuple(h.column.name for h in held)
    joint = unique_name("#".join(columns), names)
    if name == "FixedCombinations":
        if len(held) < 2:
            raise JobError(f"{where}: column_names: wanted at least two columns")
        return CombinationStep(declared, held, joint)
    if name == "OneHotEncoding":
        if len(held) < 2:
            raise JobError(f"{where}: column_names: wanted at least two columns")
        return OneHotStep(declared, held, joint)
    if name == "FixedIncrements":
        increment = parameters["increment_value"]
        if isinstance(increment, bool) or not isinstance(increment, (int, float)) or increment <= 0 or increment % 1:
            raise JobError(f"{where}: increment_value: wanted a positive whole number")
        return IncrementStep(declared, held[0], int(increment), unique_name(f"{columns[0]}#increment", names))
    roles = {h.column.role for h in held}
    formats = {h.datetime_format for h in held}
    if len(roles) > 1:
        raise JobError(f"{where}: its columns must all be numbers or all datetimes")
    if len(formats) > 1:
        raise JobError(f"{where}: its columns have different datetime formats; write the shards with one format")
    strict = parameters.get("strict_boundaries", name == "Range")
    if not isinstance(strict, bool):
        raise JobError(f"{where}: strict_boundaries: wanted true or false")
    wanted = [f"{a}#{b}" for a, b in zip(columns[:-1], columns[1:])]
    if anchored(columns):
        wanted += [f"{joint}.first_value", f"{joint}.first_column"]
    made: list[str] = []
    for one in wanted:
        made.append(unique_name(one, names | set(made)))
    return OrderedStep(declared, held, strict, tuple(made))


def _again(step: Step, known: Callable[[CombinationStep], frozenset[str]]) -> Step:
    """The same constraint, kept by drawing again."""
    if isinstance(step, CombinationStep):
        return CombinationStep(step.declared, step.held, "", known(step))
    if isinstance(step, OneHotStep):
        return OneHotStep(step.declared, step.held, "")
    if isinstance(step, IncrementStep):
        return IncrementStep(step.declared, step.held, step.increment, "")
    assert isinstance(step, OrderedStep)
    return OrderedStep(step.declared, step.held, step.strict, ())


def _ordered(steps: Sequence[Step]) -> list[Step] | None:
    """Steps, each after those that restore what it uses; None if there is no such order."""
    waiting, done = list(steps), list[Step]()
    while waiting:
        open_names = {name for step in waiting for name in step.taken}
        ready = [s for s in waiting if not set(s.used) & (open_names - set(s.taken))]
        if not ready:
            return None
        done += ready
        waiting = [s for s in waiting if s not in ready]
    return done


def check_learned(declared: Declared, number: int, columns: Iterable[Column]) -> None:
    """JobError where a column of a constraint is one that no model learns."""
    for column in columns:
        if column.role in ("id", "pii", "empty"):
            what = {"id": "an id", "pii": "personal", "empty": "without any value"}[column.role]
            raise JobError(
                f"{describe(declared, number)}: the column {column.name!r} is {what}: no model learns it, so nothing "
                "can constrain it; leave the constraint out"
            )


def _check_role(where: str, name: str, column: Column) -> None:
    number = kind_of(column.type) in ("integer", "float", "decimal", "boolean")
    if name == "OneHotEncoding" and not number:
        raise JobError(f"{where}: the column {column.name!r} is of type {column.type}, wanted numbers 0 and 1")
    if column.role not in _FITTING[name]:
        wanted = {"category": "categorical, ordinal or boolean", "number": "numerical", "datetime": "datetime"}
        fitting = " or ".join(wanted[role] for role in _FITTING[name])
        raise JobError(
            f"{where}: the column {column.name!r} is of sdtype {column.sdtype!r}, wanted {fitting}; "
            "correct it in the metadata"
        )
