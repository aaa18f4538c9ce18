"""Guess exact relations between columns on a sample of rows. A counting pass then verifies each on all rows.

A guess needs evidence: in a table with many rare flags, many relations hold by chance. Evidence is in
nats: how improbable the agreement would be if the columns were independent. All searches look at every pair of
columns at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shardsynth.data.columns import Column
from shardsynth.data.distinct_persons import persons_per_code
from shardsynth.data.values import Precision, axis, decoded
from shardsynth.models.columns.echelon import row_echelon
from shardsynth.models.columns.formulas import Formula
from shardsynth.models.columns.guess_formulas import guess_formulas
from shardsynth.models.columns.marginals import grid_unit
from shardsynth.models.columns.operands import Operand, Scalar
from shardsynth.models.columns.relations import FlagRelation, FunctionRelation, Relation, SumRelation, in_order

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Nats of evidence that a relation needs.
EVIDENCE = 20.0
_MAX_CODES = 1000  # a finer column is no parent of a function
_COMMON = 0.5  # share of rows whose value is no rare one, of a parent that is a category
_COMMON_NUMBERS = 0.95  # the same, of a number: a model would hold no other of its values
_MOVED = 0.1  # share of rows that change the computed column's value if the parent's rare values are left out
_COMMON_OF_PAIR = 0.3  # the same, where parent and column determine each other
_MAX_COLUMNS = 600  # beyond this only flags are searched
_PAIR_WORK = 40_000_000  # rows x columns^2 of the first search for functions
_MAX_SUM_COLUMNS = 200
_SUM_ROWS = 5_000
_MAX_PARTS = 12


@dataclass(frozen=True)
class SampledColumn:
    """A column of the sample in codes.

    Attributes:
        column: The column.
        codes: int64[n]; the code ``size`` is missing.
        size: Number of distinct values.
        values: For categories: the distinct values in code order; else None.
        points: For numbers: the distinct axis values in code order; else None.
    """

    column: Column
    codes: Integers
    size: int
    values: tuple[Scalar, ...] | None
    points: Floats | None

    @property
    def operand(self) -> Operand:
        """The column as an operand of a relation."""
        return Operand(self.column.name, self.values)

    @property
    def missing(self) -> Mask:
        """bool[n], the rows in which the column is missing."""
        return np.asarray(self.codes == self.size)

    @property
    def flag_codes(self) -> tuple[int, int] | None:
        """Codes of "no" and "yes" if the values are 0 and 1, or false and true; else None."""
        values = self.values if self.values is not None else tuple(self.points if self.points is not None else ())
        if self.size != 2 or any(isinstance(v, str) for v in values) or sorted(values) != [0, 1]:
            return None
        return values.index(0), values.index(1)


def guess_relations(
    columns: Sequence[Column],
    sample: pa.Table,
    precisions: dict[str, Precision] | None = None,
    min_count: int = 5,
    given: Collection[str] = (),
    persons: NDArray[np.uint64] | None = None,
) -> list[Relation]:
    """Relations that hold on every row of a sample, with enough evidence.

    Args:
        columns: The table's columns; only categories of plain types and numbers are looked at.
        sample: Rows, dictionaries decoded or not.
        precisions: Grids of the number columns; without a grid, sums are compared as floats.
        min_count: Rows that a value needs to count as evidence.
        given: Columns that are not to be computed, such as those that constraints restore.
        persons: uint64[n], hashes of the persons of the rows, where persons are counted: then rows of one person are no
            evidence that two columns hang together, and a value is rare that few persons have.

    Returns:
        The relations in the order in which they can be applied. No column is computed twice, or from itself.
    """
    fields = [field for field in (_field(c, sample) for c in columns) if field is not None]
    relations: list[Relation] = []
    derived: set[str] = set()
    refused = frozenset(given)
    enough_codes = [f for f in fields if f.size + bool(f.missing.any()) >= 2 and f.size <= _MAX_CODES]
    # Of a number without a grid, bins hold intervals, not the values that a function is known for.
    gridless = {name for name, precision in (precisions or {}).items() if precision.kind == "float"}
    if len(enough_codes) <= _MAX_COLUMNS:
        for relation in _functions(enough_codes, min_count, gridless, persons):
            if relation.name not in derived | refused:
                relations.append(relation)
                derived.add(relation.name)
    flags = [f for f in fields if f.flag_codes is not None and f.column.name not in derived]
    for flag_relation in _flags(flags, min_count):
        if flag_relation.name not in derived | refused and _acyclic(relations, flag_relation):
            relations.append(flag_relation)
            derived.add(flag_relation.name)
    numbers = [f for f in fields if f.column.role == "number" and f.size > 2 and f.column.name not in derived]
    if 3 <= len(numbers) <= _MAX_SUM_COLUMNS:
        for sum_relation in _sums(numbers, precisions or {}, min_count):
            if sum_relation.name not in derived | refused and _acyclic(relations, sum_relation):
                relations.append(sum_relation)
                derived.add(sum_relation.name)

    def allowed(formula: Formula) -> bool:
        if formula.name in derived | refused or not _acyclic(relations, formula):
            return False
        relations.append(formula)
        derived.add(formula.name)
        return True

    categories = {f.column.name: f.values for f in fields if f.values is not None}
    guess_formulas(columns, sample, precisions or {}, categories, allowed)
    return in_order(relations)


def _field(column: Column, sample: pa.Table) -> SampledColumn | None:
    if column.role not in ("category", "number"):
        return None
    array = sample.column(column.name)
    if column.role == "number":
        values, missing = axis(column, array)
        points, inverse = np.unique(values[~missing], return_inverse=True)
        codes = np.full(len(values), len(points), dtype=np.int64)
        codes[~missing] = inverse
        return SampledColumn(column, codes, len(points), None, points)
    kind = column.value_type
    plain_types = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not (any(test(kind) for test in plain_types) or pa.types.is_floating(kind)) or pa.types.is_float16(kind):
        return None  # Arrow sorts no halves of floats
    plain = decoded(array)
    if pa.types.is_floating(kind):
        plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    encoded = plain.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)
    indices = np.asarray(pc.fill_null(encoded.indices, len(order)).to_numpy(zero_copy_only=False), dtype=np.int64)
    return SampledColumn(
        column, rank[indices], len(order), tuple(encoded.dictionary.take(pa.array(order)).to_pylist()), None
    )


def _functions(
    fields: list[SampledColumn],
    min_count: int,
    gridless: Collection[str] = (),
    persons: NDArray[np.uint64] | None = None,
) -> list[FunctionRelation]:
    """Columns that are a function of one other; of columns that determine each other, the first one is not computed.

    Args:
        fields: The columns.
        min_count: Rows that a value needs to count as evidence.
        gridless: Numbers whose values no bin holds exactly: nothing is a function of them.
        persons: uint64[n], hashes of the persons of the rows, where persons are counted.
    """
    if len(fields) < 2 or len(fields[0].codes) < 4 * min_count:
        return []
    n = len(fields[0].codes)
    codes = np.stack([f.codes for f in fields], axis=1).astype(np.int32)
    rows = min(n, max(500, _PAIR_WORK // len(fields) ** 2))
    weight = [_weights(f, persons) for f in fields]
    parents: dict[int, list[int]] = {}
    common = [int((weight[a] >= min_count)[fields[a].codes].sum()) for a in range(len(fields))]
    for a, field in enumerate(fields):
        number = field.column.role == "number"
        if common[a] < (_COMMON_NUMBERS if number else _COMMON_OF_PAIR) * n or (
            number and field.column.name in gridless
        ):
            continue
        order = np.argsort(field.codes[:rows], kind="stable")
        ordered = codes[order]
        same = ordered[1:, a] == ordered[:-1, a]
        changes = (ordered[1:] != ordered[:-1]) & same[:, None]
        for b in np.flatnonzero(~changes.any(axis=0)).tolist():
            if (
                b != a
                and not _is_copy(field, fields[b])
                and _is_function(field.codes, weight[a], fields[b].codes, weight[b], min_count)
            ):
                parents.setdefault(b, []).append(a)
    # Many rare codes are no evidence, unless each has a text of its own: a code and its description.
    parents = {
        b: [
            a
            for a in candidates
            if b in parents.get(a, [])
            or (common[a] >= _COMMON * n and _moved(fields[a].codes, weight[a], fields[b].codes, min_count) <= _MOVED)
        ]
        for b, candidates in parents.items()
    }
    chosen: dict[int, int] = {}
    for b, candidates in parents.items():
        # Of columns that determine each other, one is not computed: categories first, then the order in the table.
        equal = [a for a in candidates if b in parents.get(a, []) and _key(fields, a) < _key(fields, b)]
        finer = [a for a in candidates if b not in parents.get(a, [])]
        if equal:
            chosen[b] = min(equal, key=lambda a: _key(fields, a))
        elif finer:
            chosen[b] = min(finer, key=lambda a: (fields[a].size, *_key(fields, a)))
    return [_function(fields[a], fields[b]) for b, a in sorted(chosen.items())]


def _weights(field: SampledColumn, persons: NDArray[np.uint64] | None) -> Integers:
    """By code, the rows or the persons that have it."""
    if persons is None:
        return np.bincount(field.codes, minlength=field.size + 1)
    return persons_per_code(field.codes, persons, field.size + 1)


def _is_copy(a: SampledColumn, b: SampledColumn) -> bool:
    """Whether two numbers are equal: a formula says so of all values, not only of those that many rows have."""
    numbers = a.points is not None and b.points is not None and a.size > 2
    return numbers and np.array_equal(a.points, b.points) and np.array_equal(a.codes, b.codes)  # type: ignore[arg-type]


def _moved(a: Integers, a_rows: Integers, b: Integers, min_count: int) -> float:
    """Total variation distance between column b on all rows and on those whose a is not rare: a model holds these."""
    kept = (a_rows >= min_count)[a]
    every, some = (np.bincount(codes, minlength=int(b.max()) + 1) for codes in (b, b[kept]))
    return float(0.5 * np.abs(every / len(b) - some / max(1, len(b[kept]))).sum())


def _key(fields: list[SampledColumn], a: int) -> tuple[bool, int]:
    return fields[a].column.role == "number", a


def _is_function(a: Integers, a_rows: Integers, b: Integers, b_rows: Integers, min_count: int) -> bool:
    """Whether every code of a has one code of b, with evidence that this does not hold by chance."""
    first = np.zeros(len(a_rows), dtype=np.int64)
    first[a] = b  # some row's b of each code of a
    if not np.array_equal(first[a], b):
        return False
    common = np.argmax(b_rows)
    # After the first row of each code of a, every other row agrees by chance with probability p_b.
    surprise = -np.log(np.maximum(b_rows, 1) / b_rows.sum())
    evidence = np.maximum(a_rows - 1, 0) * surprise[first]
    rare_side = evidence[first != common].sum()
    return bool((b_rows >= min_count).sum() >= 2 and rare_side >= EVIDENCE)


def _function(a: SampledColumn, b: SampledColumn) -> FunctionRelation:
    table = np.full(a.size + 1, -2, dtype=np.int64)
    table[a.codes] = np.where(b.missing, -1, b.codes)
    points_a = None if a.points is None else tuple(a.points.tolist())
    points_b = None if b.points is None else tuple(b.points.tolist())
    return FunctionRelation(a.operand, b.operand, points_a, points_b, tuple(table.tolist()), len(a.codes))


def _flags(fields: list[SampledColumn], min_count: int) -> list[FlagRelation]:
    """Columns that are the OR (or the AND) of at least two others."""
    if len(fields) < 3:
        return []
    ones = np.stack([f.codes == (f.flag_codes or (0, 1))[1] for f in fields], axis=1)
    missing = np.stack([f.missing for f in fields], axis=1)
    relations = []
    for operation in ("or", "and"):
        yes = ones if operation == "or" else ~ones & ~missing
        no = ~yes & ~missing
        broken = yes.T.astype(np.float64) @ no  # parent says yes, column says no
        for d in range(len(fields)):
            parts = _cover(yes, missing, broken[:, d], d, min_count)
            rule = _flag_missing_rule(yes, missing, parts, d) if parts else None
            if rule is None:
                continue
            codes = [f.flag_codes or (0, 1) for f in (*(fields[p] for p in parts), fields[d])]
            axis_like = [f.values is None for f in (*(fields[p] for p in parts), fields[d])]
            zero_codes = tuple(0 if plain else c[0] for c, plain in zip(codes, axis_like))
            one_codes = tuple(1 if plain else c[1] for c, plain in zip(codes, axis_like))
            operands = tuple(fields[p].operand for p in parts)
            support = int(yes[:, d].sum())
            relations.append(FlagRelation(operands, fields[d].operand, one_codes, zero_codes, operation, rule, support))
    return relations


def _cover(yes: Mask, missing: Mask, broken: Floats, d: int, min_count: int) -> list[int]:
    """Flags that imply column d; at least one of them is set in each row where d is. Empty if there are none."""
    known = ~missing[:, d]
    size = yes.sum(axis=0)
    n, count = int(known.sum()), int(yes[:, d].sum())
    if min(count, n - count) < 4 * min_count:
        return []
    surprise = -np.log(count / n)
    need = EVIDENCE / 2 + 2 * np.log(yes.shape[1])
    implies = (broken == 0) & (size >= min_count) & (size < count) & (size * surprise >= need)
    implies[d] = False
    candidates = np.flatnonzero(implies)
    target = yes[:, d] & ~missing[:, candidates].any(axis=1) if len(candidates) else yes[:, d]
    if len(candidates) < 2 or not yes[target][:, candidates].any(axis=1).all():
        return []
    # Leave out each flag that the others make needless, the smallest first.
    parts = sorted(candidates.tolist(), key=lambda p: (-int(size[p]), p))
    for p in reversed(list(parts)):
        rest = [q for q in parts if q != p]
        if len(rest) >= 1 and yes[target][:, rest].any(axis=1).all():
            parts = rest
    single = yes[:, parts].sum(axis=1) == 1
    each_needed = all(int((single & yes[:, p]).sum()) >= min_count for p in parts)
    return sorted(parts) if 2 <= len(parts) <= _MAX_PARTS and each_needed else []


def _flag_missing_rule(yes: Mask, missing: Mask, parts: list[int], d: int) -> str | None:
    decided = yes[:, parts].any(axis=1)
    unknown = missing[:, parts].any(axis=1)
    for rule, absent in (("any", unknown), ("known", unknown & ~decided)):
        if np.array_equal(absent, missing[:, d]) and np.array_equal((decided & ~absent), yes[:, d]):
            return rule
    return None


def _sums(fields: list[SampledColumn], precisions: dict[str, Precision], min_count: int) -> list[SumRelation]:
    """Totals of other columns: sparse vectors with entries 1 and -1 in the null space of the columns."""
    values = np.stack([_axis_values(f) for f in fields], axis=1)
    relations: list[SumRelation] = []
    for rule in ("any", "zero"):
        filled = np.nan_to_num(values) if rule == "zero" else values
        often = np.flatnonzero(np.isnan(filled).mean(axis=0) <= 0.5)
        block = filled[:, often]
        block = block[~np.isnan(block).any(axis=1)][:_SUM_ROWS]
        if len(block) < max(50, 2 * len(often)) or len(often) < 3:
            continue
        for vector in _sparse_null_vectors(block):
            total, parts = vector
            relation = _sum(fields, often, total, parts, rule, precisions, values)
            nonzero = [(block[:, p] != 0).sum() >= 4 * min_count for p in parts]
            if relation is not None and all(nonzero) and relation.name not in {r.name for r in relations}:
                relations.append(relation)
        if relations or not np.isnan(values).any():
            break
    return relations


def _axis_values(field: SampledColumn) -> Floats:
    assert field.points is not None
    return np.append(field.points, np.nan)[field.codes]


def _sparse_null_vectors(block: Floats) -> list[tuple[int, list[int]]]:
    """(total, parts) for each exact relation total = sum of parts among the columns of ``block``."""
    scale = np.sqrt((block**2).mean(axis=0))
    usable = np.flatnonzero((scale > 0) & (np.ptp(block, axis=0) > 0))
    if len(usable) < 3:
        return []
    _, singular, right = np.linalg.svd(block[:, usable] / scale[usable], full_matrices=False)
    basis = right[singular <= 1e-7 * singular[0]] / scale[usable]
    totals = []
    for vector in row_echelon(basis):
        support = np.flatnonzero(np.abs(vector) > 1e-4 * np.abs(vector).max())
        signs = vector[support] / np.abs(vector[support]).max()
        if not 3 <= len(support) <= _MAX_PARTS + 1 or np.abs(np.abs(signs) - 1).max() > 1e-3:
            continue
        positive, negative = support[signs > 0], support[signs < 0]
        for total, parts in ((positive, negative), (negative, positive)):
            if len(total) == 1 and len(parts) >= 2:
                totals.append((int(usable[total[0]]), sorted(int(usable[m]) for m in parts)))
    return totals


def _sum(
    fields: list[SampledColumn],
    often: Integers,
    total: int,
    parts: list[int],
    rule: str,
    precisions: dict[str, Precision],
    values: Floats,
) -> SumRelation | None:
    """The relation, if it holds on every row of the sample."""
    columns = [int(often[p]) for p in parts]
    target = int(often[total])
    field = fields[target]
    precision = precisions.get(field.column.name, Precision("float"))
    assert field.points is not None
    bits = field.column.value_type.bit_width if pa.types.is_floating(field.column.value_type) else 64
    tolerance = 0.25 * grid_unit(precision)
    if not tolerance:
        tolerance = (1e-5 if bits < 64 else 1e-9) * float(np.abs(field.points).max())
    part_values = values[:, columns]
    missing = np.isnan(part_values)
    absent = missing.any(axis=1) if rule == "any" else missing.all(axis=1)
    if not np.array_equal(absent, np.isnan(values[:, target])):
        return None
    difference = np.abs(np.nan_to_num(part_values).sum(axis=1) - values[:, target])[~absent]
    if not (difference <= tolerance).all():
        return None
    operands = tuple(fields[c].operand for c in columns)
    support = int((~absent).sum())
    return SumRelation(operands, field.operand, tolerance, precision, rule, support)


def _acyclic(relations: Sequence[Relation], candidate: Relation) -> bool:
    """Whether the relations can still be put in order if the candidate is added."""
    together = [*relations, candidate]
    return len(in_order(together)) == len(together)
