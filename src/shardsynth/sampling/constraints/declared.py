"""Constraints as a job file declares them, in SDV's JSON form, and the steps that enforce them.

A declaration is ``{"class_name": "Inequality", "parameters": {"low_column_name": "LFS_YEARS", "high_column_name":
"OS_YEARS"}}``. The class may also be a user's own, named by its import path: it is derived from SDV's
ProgrammableConstraint.
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
from shardsynth.sampling.constraints.partial_order import Edge, PartialOrderStep, between, sorted_edges
from shardsynth.sampling.constraints.step import ConstrainedColumn, Step, unique_name

Declared = Mapping[str, Any]

#: Class -> parameters that name columns, and other parameters.
PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Inequality": (("low_column_name", "high_column_name"), ("strict_boundaries",)),
    "Range": (("low_column_name", "middle_column_name", "high_column_name"), ("strict_boundaries",)),
    "FixedCombinations": (("column_names",), ()),
    "FixedIncrements": (("column_name",), ("increment_value",)),
    "OneHotEncoding": (("column_names",), ("learning_strategy",)),
}
_ORDERS = ("Inequality", "Range")
_ALLOWED_ROLES = {
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
    """The place and class of a constraint in the job, for errors."""
    return f"constraints[{number}] ({declared['class_name']})"


def columns_in(declared: Declared) -> tuple[str, ...]:
    """Columns that the parameters of one of SDV's own classes name; () for a user's class."""
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
        JobError: An unknown class, parameter or column (the message names the nearest one), or a missing parameter.
    """
    where = describe(declared, number)
    name, parameters = declared["class_name"], declared["parameters"]
    if is_programmed(declared):
        if ":" not in name and "." not in name:
            raise JobError(
                f"{where}: SDV has no constraint of this class; it has {', '.join(PARAMETERS)}; a class of your own "
                f"is named as package.module:Class or file.py:Class{did_you_mean(name, PARAMETERS)}"
            )
        return
    naming_columns, others = PARAMETERS[name]
    for key in parameters:
        if key not in (*naming_columns, *others, "table_name"):
            raise JobError(f"{where}: it takes no parameter {key!r}{did_you_mean(key, (*naming_columns, *others))}")
    for key in (*naming_columns, *(("increment_value",) if name == "FixedIncrements" else ())):
        if key not in parameters:
            raise JobError(f"{where}: the parameter {key!r} is missing")
    named = columns_in(declared)
    for column in named:
        if column not in columns:
            raise JobError(f"{where}: no column is called {column!r}{did_you_mean(str(column), columns)}")
    if len(set(named)) < len(named):
        raise JobError(f"{where}: it names a column twice")


def bind(
    declared: Sequence[Declared],
    column_of: Callable[[str], ConstrainedColumn],
    names: Collection[str],
    *,
    busy: Collection[str] = (),
    anchored: Callable[[tuple[str, ...]], bool] = lambda columns: False,
    known: Callable[[CombinationStep], frozenset[str]] = lambda step: frozenset(),
    rooted: Callable[[Sequence[str], Sequence[Edge]], list[bool]] = lambda names, edges: [False] * len(names),
    holds: Callable[[PartialOrderStep], bool] = lambda step: False,
) -> list[Step]:
    """The steps of the constraints of SDV's own classes, in the order in which their columns can be restored.

    Inequalities and ranges that share columns become one step. Where an earlier constraint of another kind has
    replaced a column already, the later one is enforced by rejection, as in SDV.

    Args:
        declared: All constraints of the job. Those of a user's class are skipped.
        column_of: What is known of a column, by its name.
        names: Names of all columns.
        busy: Columns that a constraint of a user's class changes.
        anchored: Whether some row has a later one of these ordered columns but not the first.
        known: The allowed combinations of a FixedCombinations that is enforced by rejection, as JSON.
        rooted: By column of a partial order: whether some row has it, but no column that must lie below it.
        holds: Whether an order that follows from others holds on the rows without the column between its two, as well.

    Raises:
        JobError: A constraint cannot be on such a column.
    """
    replaced: set[str] = set(busy)
    used_names = set(names)
    steps: list[Step] = []
    shared = {number: group for group in _order_groups(declared, busy) for number in group}
    for number, declaration in enumerate(declared):
        if is_programmed(declaration):
            continue
        if number in shared:
            group = shared[number]
            if number == group[0]:
                joint = _partial_order([declared[k] for k in group], group, column_of, used_names, rooted, holds)
                replaced |= set(joint.replaced)
                used_names |= {replacement.field.name for replacement in joint.replacements}
                steps.append(joint)
            continue
        where = describe(declaration, number)
        constrained = tuple(column_of(name) for name in columns_in(declaration))
        check_learned(declaration, number, (c.column for c in constrained))
        for c in constrained:
            _check_role(where, declaration["class_name"], c.column)
        step = _step(where, dict(declaration), constrained, used_names, anchored)
        if replaced & {*step.replaced, *(set(busy) & set(step.columns))} or not _restoring_order([*steps, step]):
            step = _by_rejection(step, known)
        replaced |= set(step.replaced)
        used_names |= {replacement.field.name for replacement in step.replacements}
        steps.append(step)
    ordered = _restoring_order(steps)
    assert ordered is not None
    return ordered


def _step(
    where: str,
    declared: dict[str, Any],
    constrained: tuple[ConstrainedColumn, ...],
    names: set[str],
    anchored: Callable[[tuple[str, ...]], bool],
) -> Step:
    parameters, name = declared["parameters"], declared["class_name"]
    columns = tuple(c.column.name for c in constrained)
    joint = unique_name("#".join(columns), names)
    if name == "FixedCombinations":
        if len(constrained) < 2:
            raise JobError(f"{where}: column_names: wanted at least two columns")
        return CombinationStep(declared, constrained, joint)
    if name == "OneHotEncoding":
        if len(constrained) < 2:
            raise JobError(f"{where}: column_names: wanted at least two columns")
        return OneHotStep(declared, constrained, joint)
    if name == "FixedIncrements":
        increment = parameters["increment_value"]
        if isinstance(increment, bool) or not isinstance(increment, (int, float)) or increment <= 0 or increment % 1:
            raise JobError(f"{where}: increment_value: wanted a positive whole number")
        return IncrementStep(declared, constrained[0], int(increment), unique_name(f"{columns[0]}#increment", names))
    roles = {c.column.role for c in constrained}
    formats = {c.datetime_format for c in constrained}
    if len(roles) > 1:
        raise JobError(f"{where}: its columns must all be numbers or all datetimes")
    if len(formats) > 1:
        raise JobError(f"{where}: its columns have different datetime formats; write the shards with one format")
    strict = parameters.get("strict_boundaries", name == "Range")
    if not isinstance(strict, bool):
        raise JobError(f"{where}: strict_boundaries: wanted true or false")
    preferred = [f"{a}#{b}" for a, b in zip(columns[:-1], columns[1:])]
    if anchored(columns):
        preferred += [f"{joint}.first_value", f"{joint}.first_column"]
    replacements: list[str] = []
    for replacement in preferred:
        replacements.append(unique_name(replacement, names | set(replacements)))
    return OrderedStep(declared, constrained, strict, tuple(replacements))


def _order_groups(declared: Sequence[Declared], busy: Collection[str]) -> list[list[int]]:
    """Places of the inequalities and ranges that share columns, group by group; those that stand alone are left out."""
    groups: list[tuple[set[str], list[int]]] = []
    for number, declaration in enumerate(declared):
        columns = set(columns_in(declaration))
        if declaration["class_name"] not in _ORDERS or columns & set(busy):
            continue
        touching = [group for group in groups if group[0] & columns]
        groups = [group for group in groups if not group[0] & columns]
        names = columns.union(*(group[0] for group in touching))
        groups.append((names, sorted([number, *(k for group in touching for k in group[1])])))
    others = {c for d in declared if d["class_name"] not in _ORDERS for c in columns_in(d)}
    found = []
    for names, numbers in sorted(groups, key=lambda group: group[1]):
        if len(numbers) > 1 and not names & others and sorted_edges(_pairs([declared[k] for k in numbers])):
            found.append(numbers)
    return found


def _pairs(declared: Sequence[Declared]) -> list[tuple[str, str, bool]]:
    """Lower column, upper column, and whether they must differ: of every pair that the declarations order."""
    pairs = []
    for declaration in declared:
        names = columns_in(declaration)
        strict = bool(declaration["parameters"].get("strict_boundaries", declaration["class_name"] == "Range"))
        pairs += [(low, high, strict) for place, low in enumerate(names) for high in names[place + 1 :]]
    return pairs


def _partial_order(
    declared: Sequence[Declared],
    numbers: Sequence[int],
    column_of: Callable[[str], ConstrainedColumn],
    names: Collection[str],
    rooted: Callable[[Sequence[str], Sequence[Edge]], list[bool]],
    holds: Callable[[PartialOrderStep], bool],
) -> PartialOrderStep:
    for number, declaration in zip(numbers, declared):
        constrained = tuple(column_of(name) for name in columns_in(declaration))
        check_learned(declaration, number, (c.column for c in constrained))
        for c in constrained:
            _check_role(describe(declaration, number), declaration["class_name"], c.column)
        _step(describe(declaration, number), dict(declaration), constrained, set(names), lambda columns: False)
    found = sorted_edges(_pairs(declared))
    assert found is not None
    columns, edges = found
    held = tuple(column_of(c) for c in columns)
    kept, taken = tuple(dict(d) for d in declared), set(names)
    # In a drawn row the column between two others may be missing, though it never is in the input.
    more = [edge for edge in between(edges) if holds(PartialOrderStep(kept, held, (edge,), (), ()))]
    every = tuple(sorted([*edges, *more]))
    gaps, roots = [], []
    for place, (name, root) in enumerate(zip(columns, rooted(columns, every))):
        lower = [columns[low] for low, high, _ in edges if high == place]
        gaps.append(unique_name("#".join([*lower, name]), taken) if lower else "")
        taken.add(gaps[-1])
        roots.append(unique_name(f"{name}.first_value", taken) if lower and root else "")
        taken.add(roots[-1])
    return PartialOrderStep(kept, held, every, tuple(gaps), tuple(roots))


def _by_rejection(step: Step, known: Callable[[CombinationStep], frozenset[str]]) -> Step:
    """The same constraint without replacements: rows that violate it are drawn again."""
    if isinstance(step, CombinationStep):
        return CombinationStep(step.declared, step.constrained, "", known(step))
    if isinstance(step, OneHotStep):
        return OneHotStep(step.declared, step.constrained, "")
    if isinstance(step, IncrementStep):
        return IncrementStep(step.declared, step.constrained, step.increment, "")
    assert isinstance(step, OrderedStep)
    return OrderedStep(step.declared, step.constrained, step.strict, ())


def _restoring_order(steps: Sequence[Step]) -> list[Step] | None:
    """The steps, each after those that restore the columns it needs; None if there is no such order."""
    waiting, done = list(steps), list[Step]()
    while waiting:
        not_restored = {name for step in waiting for name in step.replaced}
        ready = [s for s in waiting if not set(s.needed) & (not_restored - set(s.replaced))]
        if not ready:
            return None
        done += ready
        waiting = [s for s in waiting if s not in ready]
    return done


def check_learned(declared: Declared, number: int, columns: Iterable[Column]) -> None:
    """Check that models learn the columns of a constraint.

    Raises:
        JobError: A column is an id, personal or empty: no model learns it.
    """
    for column in columns:
        if column.role in ("id", "pii", "empty"):
            what = {"id": "an id", "pii": "personal", "empty": "without any value"}[column.role]
            raise JobError(
                f"{describe(declared, number)}: the column {column.name!r} is {what}: no model learns it, so it "
                "cannot be constrained; leave the constraint out"
            )


def _check_role(where: str, name: str, column: Column) -> None:
    number = kind_of(column.type) in ("integer", "float", "decimal", "boolean")
    if name == "OneHotEncoding" and not number:
        raise JobError(f"{where}: the column {column.name!r} is of type {column.type}, wanted numbers 0 and 1")
    if column.role not in _ALLOWED_ROLES[name]:
        sdtypes = {"category": "categorical, ordinal or boolean", "number": "numerical", "datetime": "datetime"}
        allowed = " or ".join(sdtypes[role] for role in _ALLOWED_ROLES[name])
        raise JobError(
            f"{where}: the column {column.name!r} is of sdtype {column.sdtype!r}, wanted {allowed}; "
            "correct it in the metadata"
        )
