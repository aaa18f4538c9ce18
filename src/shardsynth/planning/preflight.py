"""What can be wrong with a job is said before any task starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.metadata import check_composite, columns, read
from shardsynth.data.public_codes import public_coder
from shardsynth.data.shards import Dataset, open_shards
from shardsynth.errors import JobError
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
from shardsynth.planning.generators import learn_generators, no_rows
from shardsynth.planning.options import expected_rows, native_options, training_plan
from shardsynth.planning.personal import check_personal, marked
from shardsynth.planning.plan import Plan, make_plan, metadata_digest
from shardsynth.planning.quotas import check_quotas
from shardsynth.standalone.cpus import available_cpus


def checked_plan(job: Job, image: dict[str, Any] | None = None) -> Plan:
    """Look at the shards, check the job against them and plan it; writes nothing.

    Args:
        job: The job.
        image: What was written down of the image that the tasks will run in; None: they run in this installation.

    Raises:
        InputError: The job or the shards are wrong.
    """
    dataset = open_shards(job.input)
    check_job(job, dataset, runs_here=image is None)
    plan = make_plan(job, dataset, job.cluster.workers or available_cpus(), metadata_digest(job))
    return replace(plan, image=image)


def check_job(job: Job, dataset: Dataset, *, runs_here: bool = True) -> None:
    """Check model options, metadata and what is installed.

    Args:
        job: The job.
        dataset: Its shards.
        runs_here: Whether tasks run in this installation; in an image they find torch and SDV there.

    Raises:
        JobError: An option that the model does not have, an engine that is not installed, more rows than fit.
        MetadataError: The metadata file does not fit the shards.
    """
    _check_apart(job)
    check_room_for_job(job, dataset)
    _check_models(job, dataset.schema, None)
    if job.anonymize or job.pseudonymize or job.free_text:
        check_personal(job, dataset.schema)
    known: list[Column] | None = None
    if job.metadata is not None:
        metadata = read(Path(job.metadata), dataset.schema, validate=False)
        if job.privacy is not None:
            _check_dp(job, dataset, metadata)
        metadata = marked(metadata, job)
        known = columns(metadata, dataset.schema)
        _check_made(job, dataset, metadata, known)
        if not job.constraints:  # under constraints models see other columns
            _check_models(job, dataset.schema, known)
    if job.sample.conditions or job.sample.balance is not None:
        check_quotas(job, dataset.schema.names, job.sample.total_rows(dataset.rows))
        check_conditions(job, dataset, known)
    missing = [package for package in ("sdv", "torch") if find_spec(package) is None]  # looked for, not imported
    stock = [name for name, model in job.models.items() if model.engine == "sdv"]
    if runs_here and missing and (stock or job.metadata is None or job.constraints):
        what = "checking constraints" if job.constraints else "detecting the metadata"
        what = f"models.{stock[0]} is a stock model" if stock else what
        raise JobError(f"{what}: needs {' and '.join(missing)}, not installed here: pip install 'shardsynth[all]'")
    if job.constraints:
        check_constraints(job, dataset)


def _check_models(job: Job, schema: pa.Schema, columns: Sequence[Column] | None) -> None:
    """The options are those of the models; the columns that they name are there, and of a type that can have them."""
    for name, model in job.models.items():
        try:
            if model.engine == "native":
                NATIVE[model.model].check(native_options(job, name), schema, columns)
            else:
                validate_options(model.model, model.options, schema.names)
        except JobError as error:
            raise JobError(f"models.{name}: {error}") from None


def _check_apart(job: Job) -> None:
    """Refuse a run directory inside an input folder: its samples would be read as shards the next time."""
    output = Path(job.output).absolute()
    for item in [job.input] if isinstance(job.input, str) else job.input:
        folder = Path(item).absolute()
        inside = output.relative_to(folder).parts if folder == output or folder in output.parents else None
        if inside is not None and folder.is_dir() and not any(part.startswith(("_", ".")) for part in inside):
            raise JobError(f"output: {job.output} lies inside the input folder {item}; choose another `output:`")


def _check_made(job: Job, dataset: Dataset, metadata: dict[str, Any], columns: Sequence[Column]) -> None:
    """What can be known of identifiers and personal data without a row: formats, their capacity, Faker's functions."""
    check_composite(metadata)
    rows = job.sample.total_rows(dataset.rows)
    for model in job.models:
        learn_generators(job, model, metadata, columns, no_rows(dataset.schema), rows)


def _check_dp(job: Job, dataset: Dataset, metadata: dict[str, Any]) -> None:
    """What a private fit would refuse: an undeclared column, a budget that drowns the tables or the gradients."""
    assert job.privacy is not None
    known = columns(metadata, dataset.schema)
    check_dp_columns(known)
    coder = public_coder(known, dataset.rows, job.seed)
    epsilon, delta = job.privacy.epsilon, job.privacy.delta
    training = training_plan(job, coder, dataset.rows)
    if training is not None:
        training.spend(epsilon, delta, histogram_noise(epsilon, delta, training.columns))
        return
    tables = number_of_tables(len(coder.columns))
    groups_for(expected_rows(job, dataset.rows), scale_for(epsilon, delta, tables))
