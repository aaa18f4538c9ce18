"""All checks of a job before any task starts."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.metadata import check_composite, read
from shardsynth.data.metadata import columns as columns_of
from shardsynth.data.public_codes import public_coder
from shardsynth.data.shards import Dataset, open_shards
from shardsynth.errors import JobError, ShardError
from shardsynth.job import Job
from shardsynth.models.dp.accounting import histogram_noise
from shardsynth.models.dp.columns import check_dp_columns
from shardsynth.models.dp.noise import scale_for
from shardsynth.models.dp.tables import groups_for, number_of_tables
from shardsynth.models.families import NATIVE
from shardsynth.models.sdv.options import validate_options
from shardsynth.planning.capacity import check_room_for_job
from shardsynth.planning.conditions import check_conditions
from shardsynth.planning.constraints import check_constraints
from shardsynth.planning.contradictions import check_types, contradictions
from shardsynth.planning.generators import learn_generators, no_rows
from shardsynth.planning.options import expected_rows, native_options, training_plan
from shardsynth.planning.personal import check_personal, with_personal_columns
from shardsynth.planning.plan import Plan, make_plan, metadata_digest
from shardsynth.planning.quotas import check_quotas
from shardsynth.planning.survival import check_event_codes
from shardsynth.planning.tables import open_tables, plan_tables
from shardsynth.standalone.cpus import available_cpus


def checked_plan(job: Job, image: dict[str, Any] | None = None, fit_cpus: dict[str, int] | None = None) -> Plan:
    """Open the shards, check the job against them and plan it; writes nothing.

    Args:
        job: The job.
        image: Facts about the image that the tasks will run in; None: they run in this installation.
        fit_cpus: CPUs of each fit, by model; None: the job's, else this machine's, shared among the trained models.

    Raises:
        InputError: The job or the shards are wrong.
    """
    _check_output(job)
    if job.tables:
        return replace(checked_tables_plan(job, fit_cpus, runs_here=image is None), image=image)
    try:
        dataset = open_shards(job.input, widen=job.widen)
    except ShardError as error:
        raise ShardError(f"input: {error}") from None
    notes = check_job(job, dataset, runs_here=image is None)
    cpus = fit_cpus or job.cluster.workers or available_cpus()
    plan = make_plan(job, dataset, cpus, metadata_digest(job))
    return replace(plan, image=image, notes=tuple(notes))


def checked_tables_plan(job: Job, fit_cpus: dict[str, int] | None, *, runs_here: bool) -> Plan:
    """Check a job of several tables and plan it; arguments and errors as ``checked_plan`` and ``check_job``."""
    _check_output_outside_input(job)
    opened = open_tables(job)
    for dataset in opened.datasets.values():
        check_room_for_job(job, dataset)
        _check_models(job, dataset.schema, None)
    if runs_here and find_spec("torch") is None:
        raise JobError(
            "tables: the autoregressive model needs torch, not installed here: pip install 'shardsynth[all]'"
        )
    return plan_tables(job, opened, fit_cpus or job.cluster.workers or available_cpus(), metadata_digest(job))


def check_job(job: Job, dataset: Dataset, *, runs_here: bool = True) -> list[str]:
    """Check model options, metadata and what is installed.

    Args:
        job: The job.
        dataset: Its shards.
        runs_here: Whether tasks run in this installation; in an image they find torch and SDV there.

    Returns:
        What the rows contradict in the metadata.

    Raises:
        JobError: An option that a model does not have, a package that is not installed, or more rows than fit the disk.
        MetadataError: The metadata file does not fit the shards.
    """
    _check_output_outside_input(job)
    check_room_for_job(job, dataset)
    _check_models(job, dataset.schema, None)
    if job.anonymize or job.pseudonymize or job.free_text or job.learn_personal:
        check_personal(job, dataset.schema)
    check_event_codes(job, dataset)
    known_columns: list[Column] | None = None
    notes: list[str] = []
    if job.metadata is not None:
        metadata = read(Path(job.metadata), dataset.schema, validate=False)
        if job.privacy is not None:
            _check_dp(job, dataset, metadata)
        metadata = with_personal_columns(metadata, job)
        known_columns = columns_of(metadata, dataset.schema)
        check_types(known_columns)
        _check_generators(job, dataset, metadata, known_columns)
        if not job.constraints:  # under constraints models see other columns
            _check_models(job, dataset.schema, known_columns)
    if job.sample.conditions or job.sample.balance is not None:
        check_quotas(job, dataset.schema.names, job.sample.total_rows(dataset.rows))
        check_conditions(job, dataset, known_columns)
    # Looked up, not imported: an import takes seconds.
    not_installed = [package for package in ("sdv", "torch") if find_spec(package) is None]
    stock = [name for name, model in job.models.items() if model.engine == "sdv"]
    if runs_here and not_installed and (stock or job.metadata is None or job.constraints):
        reason = "checking constraints" if job.constraints else "detecting the metadata"
        reason = f"models.{stock[0]} is a stock model" if stock else reason
        raise JobError(
            f"{reason}: needs {' and '.join(not_installed)}, not installed here: pip install 'shardsynth[all]'"
        )
    if job.constraints:
        check_constraints(job, dataset)
    if known_columns is not None:
        notes = contradictions(job, dataset, metadata, known_columns)
    return notes


def _check_models(job: Job, schema: pa.Schema, columns: Sequence[Column] | None) -> None:
    """JobError for an option that its model does not have, or that names a column that cannot have it."""
    for name, model in job.models.items():
        try:
            if model.engine == "native":
                NATIVE[model.model].check(native_options(job, name), schema, columns)
            else:
                validate_options(model.model, model.options, schema.names)
        except JobError as error:
            raise JobError(f"models.{name}: {error}") from None


def _check_output(job: Job) -> None:
    """JobError for an output that can be no path."""
    try:
        os.lstat(job.output)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise JobError(f"output: {job.output[:80]}: {error.strerror}; choose another `output:`") from None


def _check_output_outside_input(job: Job) -> None:
    """JobError for a run directory inside an input folder: the next run would read its samples as shards."""
    output = Path(job.output).absolute()
    inputs = [entry.input for entry in job.tables.values()] or [job.input]
    for item in (path for source in inputs for path in ([source] if isinstance(source, str) else source)):
        folder = Path(item).absolute()
        inside = output.relative_to(folder).parts if folder == output or folder in output.parents else None
        if inside is not None and folder.is_dir() and not any(part.startswith(("_", ".")) for part in inside):
            raise JobError(f"output: {job.output} lies inside the input folder {item}; choose another `output:`")


def _check_generators(job: Job, dataset: Dataset, metadata: dict[str, Any], columns: Sequence[Column]) -> None:
    """Check identifiers and personal data without reading a row: formats, their capacity, Faker's functions."""
    check_composite(metadata)
    rows = job.sample.total_rows(dataset.rows)
    for model in job.models:
        learn_generators(job, model, metadata, columns, no_rows(dataset.schema), rows)


def _check_dp(job: Job, dataset: Dataset, metadata: dict[str, Any]) -> None:
    """Check what a fit under dp would refuse: an undeclared column, or a budget with too much noise."""
    assert job.privacy is not None
    known_columns = columns_of(metadata, dataset.schema)
    check_dp_columns(known_columns)
    coder = public_coder(known_columns, dataset.rows, job.seed)
    epsilon, delta = job.privacy.epsilon, job.privacy.delta
    training = training_plan(job, coder, dataset.rows)
    if training is not None:
        training.spend(epsilon, delta, histogram_noise(epsilon, delta, training.columns))
        return
    tables = number_of_tables(len(coder.columns))
    groups_for(expected_rows(job, dataset.rows), scale_for(epsilon, delta, tables))
