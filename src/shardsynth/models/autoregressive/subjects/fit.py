"""Fitting the model of several tables: code the inner tables, train the network, calibrate the frequencies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.data.layout import Layout, count_name, decoded_codes
from shardsynth.data.relations import TableTree
from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.codes import Coding
from shardsynth.models.autoregressive.fit import TOO_SMALL
from shardsynth.models.autoregressive.network import Network
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.autoregressive.parameters import AutoregressiveParameters
from shardsynth.models.autoregressive.subjects.families import CodedRows, Families, joined
from shardsynth.models.autoregressive.subjects.model import SubjectsModel, shapes_of
from shardsynth.models.autoregressive.subjects.sampler import BLOCK, SubjectsSampler, calibrated
from shardsynth.models.autoregressive.subjects.training import shape_of, train_subjects
from shardsynth.models.autoregressive.training import Shape, bins_of, bounded_by_attack
from shardsynth.models.columns.options import FitOptions
from shardsynth.models.training.checkpoint import Watch
from shardsynth.models.training.device import choose_device
from shardsynth.models.training.torch_threads import torch_threads
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.profile import Profile

#: Subjects that are drawn in each round of the calibration, and rounds.
_CALIBRATION, _ROUNDS = 4_096, 4


@dataclass(frozen=True)
class InnerTable:
    """What is known of one inner table before the fit.

    Attributes:
        schema: Its Arrow schema.
        profile: Of its training rows.
        coder: Bins and categories.
        counts: Of its training rows, without what too few persons have.
        relations: Relations between its columns, guessed on the row sample.
        generators: For its columns of role ``id`` and ``pii``.
        formats: By column name, the format of datetimes that are held as text or integers.
    """

    schema: pa.Schema
    profile: Profile
    coder: TableCoder
    counts: Counts
    relations: list[Any]
    generators: Mapping[str, dict[str, Any]]
    formats: Mapping[str, str]


#: By table: the inner rows of training subjects, and int64[n] the place of each row's owner.
InnerRows = Mapping[str, tuple[pa.Table, NDArray[np.int64]]]


@dataclass(frozen=True)
class SubjectsFitting:
    """The input of a fit.

    Attributes:
        tree: The tables.
        layouts: What of each table is learned where.
        schemas: Schema of each table that is in files.
        inner: Its inner tables.
        generators: By table with a primary key, how its values are made.
        loose: By table, rows that name no owner for each row that has one.
        rows: Gives the inner rows of the training subjects, some of them at a time, whole subjects.
        options: Those of the family, and the job's ``rare`` and ``extremes``.
        seed: All random numbers follow from it.
        name: The model's name in its run.
        threads: CPUs; the weights depend on it.
        checkpoint: File to resume from and to save to; None: no checkpoints.
        should_stop: Where it is true, the fit saves its state and raises ``Saved``.
        progress: Gets lines for the log.
        check: Gets, before the training, the largest number of rows of a subject by table.
    """

    tree: TableTree
    layouts: Mapping[str, Layout]
    schemas: Mapping[str, pa.Schema]
    inner: Mapping[str, InnerTable]
    generators: Mapping[str, dict[str, Any]]
    loose: Mapping[str, float]
    rows: Callable[[], Iterable[InnerRows]]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    name: str = "autoregressive"
    threads: int = 1
    checkpoint: Path | None = None
    should_stop: Callable[[], bool] | None = None
    progress: Callable[[str], None] | None = None
    check: Callable[[Mapping[str, int]], None] = lambda most: None


def fit_subjects(fitting: SubjectsFitting) -> tuple[SubjectsModel, pa.Table]:
    """Fit the model; returns it and its losses, one row a check.

    Raises:
        JobError: An option is unknown or impossible.
        ModelError: A column cannot be learned.
        Saved: ``should_stop`` was true, and the state is saved; run it again to go on.
    """
    options = AutoregressiveOptions.parse(fitting.options)
    device = choose_device(options.device)
    codings = {table.name: _coding(fitting.inner[table.name], options) for table in fitting.tree.tables}
    families, stays = _coded(fitting, codings)
    rows = int(families.rows_of_subjects().sum())
    shape = shape_of(options, len(families), rows)
    parts = {
        name: AutoregressiveParameters(
            fitting.inner[name].schema,
            options,
            coding,
            Network(coding.sizes, shape.embedding, shape.hidden),
            torch.zeros(sum(coding.sizes)),
            fitting.inner[name].counts.rows,
            dict(fitting.inner[name].generators),
            dict(fitting.inner[name].formats),
            fitting.name,
        )
        for name, coding in codings.items()
    }
    shapes = shapes_of(fitting.tree, parts)
    most = _most(fitting.tree, parts)
    fitting.check(most)
    if fitting.progress is not None:
        sizes = sum(sum(coding.sizes) for coding in codings.values())
        fitting.progress(
            f"autoregressive: {len(families):,} subjects, {rows:,} rows in {len(codings)} tables of {sizes:,} codes, "
            f"batches of {shape.batch:,} subjects on {device}"
        )
    identity = _identity(options, shape, families, fitting.seed)

    def watch(total: int, steps_per_epoch: int) -> Watch:
        every = 60.0 * options.checkpoint_minutes
        return Watch(total, steps_per_epoch, fitting.checkpoint, identity, every, fitting.should_stop, fitting.progress)

    columns = max(len(coding.columns) for coding in codings.values())
    step_rows = replace(shape, batch=max(1, shape.batch * rows // max(1, len(families))))
    with torch_threads(step_rows.threads(columns, fitting.threads)):
        network, history = train_subjects(
            families, shapes, options, shape, seed=fitting.seed, device=device, watch=watch
        )
    notes = [note for coding in codings.values() for note in coding.notes]
    if bounded_by_attack(history, options):
        notes.append(TOO_SMALL)
    model = SubjectsModel(
        fitting.tree,
        fitting.layouts,
        fitting.schemas,
        parts,
        network,
        most,
        stays,
        fitting.generators,
        fitting.name,
        len(families),
        fitting.loose,
        tuple(dict.fromkeys(notes)),
    )
    if options.calibrate:
        model = _with_calibration(model, fitting.seed, fitting.threads)
    loss = pa.table(
        {
            "epoch": np.arange(len(history)),
            "loss": history[:, 0].numpy(),
            "held_out": history[:, 1].numpy(),
            "membership": history[:, 2].numpy(),
        }
    )
    return model, loss


def _with_calibration(model: SubjectsModel, seed: int, threads: int) -> SubjectsModel:
    shares = {name: [column.share for column in part.coding.columns] for name, part in model.parts.items()}
    blocks = max(1, _CALIBRATION // BLOCK)

    def sampler(biases: Mapping[str, torch.Tensor]) -> SubjectsSampler:
        return model.sampler(biases)

    with torch_threads(1):  # as at sampling
        biases = calibrated(sampler, shares, model.keys(seed ^ 0x63616C), blocks=blocks, rounds=_ROUNDS)
    return replace(model, parts={n: replace(part, calibration=biases[n]) for n, part in model.parts.items()})


def _coding(inner: InnerTable, options: AutoregressiveOptions) -> Coding:
    rows = inner.counts.rows
    return Coding.fit(
        inner.profile,
        inner.coder,
        inner.counts,
        FitOptions(rare=options.rare, extremes=options.extremes),
        bins=options.bins or bins_of(rows),
        most_categories=options.max_categories,
        relations=inner.relations,
    )


def _coded(fitting: SubjectsFitting, codings: Mapping[str, Coding]) -> tuple[Families, dict[str, NDArray[np.float64]]]:
    """The training subjects in codes and in random order, and how often a value stays where its code does."""
    parts: list[Families] = []
    names = tuple(table.name for table in fitting.tree.tables)
    owner_of = {table.name: table.owner for table in fitting.tree.tables if table.owner is not None}
    same = {name: np.zeros((2, len(codings[name].columns)), np.int64) for name in names}
    for number, some in enumerate(fitting.rows()):
        coded = {}
        subject: dict[str, NDArray[np.int64]] = {}
        for name in names:
            rows, owner = some[name]
            subject[name] = subject[owner_of[name]][owner] if name in owner_of else owner
            codes = np.zeros((len(owner), 0), np.int16)
            if codings[name].columns:
                codes = codings[name].encode(fitting.inner[name].coder, rows, fitting.seed, number, subject[name])
            owners = len(some[owner_of.get(name, name)][1])
            coded[name] = CodedRows(codes, owner, owners)
            if name in owner_of:
                _count_same(codings[name], rows, codes, owner, same[name])
        parts.append(Families(names, owner_of, coded))
    if not sum(len(part) for part in parts):
        raise ModelError("there is no training subject: a smaller evaluate.holdout leaves some")
    families = joined(parts)
    order = np.random.default_rng([fitting.seed, 7]).permutation(len(families))
    stays = {name: counts[0] / np.maximum(counts[1], 1) for name, counts in same.items()}
    return families.take(order), stays


def _count_same(
    coding: Coding, rows: pa.Table, codes: NDArray[np.int16], owner: NDArray[np.int64], same: NDArray[np.int64]
) -> None:
    """Count neighbouring rows of an owner with the same code, and of these such as have the very same value."""
    siblings = owner[1:] == owner[:-1]
    for place, column in enumerate(coding.columns):
        if not column.spreads:
            continue
        together = siblings & (codes[1:, place] == codes[:-1, place])
        missing = column.missing(codes[1:, place])
        together &= ~missing if missing is not None else True
        values = decoded_codes(rows.column(column.name))
        same[:, place] += [int((together & (values[1:] == values[:-1])).sum()), int(together.sum())]


def _most(tree: TableTree, parts: Mapping[str, AutoregressiveParameters]) -> dict[str, int]:
    """By table, the largest number of rows that a subject can have."""
    most: dict[str, int] = {}
    for table in tree.tables:
        if table.owner is None:
            most[table.name] = 1
            continue
        fitted = parts[table.owner].fits[count_name(table.name)]
        largest = 1 if fitted.marginal is None else int(np.ceil(fitted.marginal.hi.max()))
        most[table.name] = most[table.owner] * max(1, largest)
    return most


def _identity(options: AutoregressiveOptions, shape: Shape, families: Families, seed: int) -> str:
    """Hash of all that the training depends on."""
    ignored = {"device": "", "checkpoint_minutes": 0.0, "temperature": 1.0, "top_p": 1.0, "calibrate": True}
    sizes = [shape.embedding, shape.hidden, shape.batch, shape.dropout]
    parts = [options.model_copy(update=ignored).to_json(), sizes, seed]
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    for name in families.names:
        digest.update(np.ascontiguousarray(families.rows[name].codes).tobytes())
        digest.update(families.rows[name].owner.tobytes())
    return digest.hexdigest()
