"""What can be wrong with a job is said before any task starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from shardsynth.data.shards import Dataset
from shardsynth.errors import JobError
from shardsynth.job import Job


def check_job(job: Job, dataset: Dataset) -> None:
    """Check model options, metadata and what is installed.

    Raises:
        JobError: An option that the model does not have, or an engine that is not installed.
        MetadataError: The metadata file does not fit the shards.
    """
    from shardsynth.models.copula_fit import validate_options as validate_copula
    from shardsynth.models.sdv import validate_options as validate_stock

    for name, model in job.models.items():
        if model.engine == "native":
            validate_copula(model.options, dataset.schema.names, where=f"models.{name}")
        else:
            validate_stock(model.model, model.options, where=f"models.{name}")
    if job.metadata is not None:
        from shardsynth.data.metadata import read

        read(Path(job.metadata), dataset.schema)
    missing = [package for package in ("sdv", "torch") if find_spec(package) is None]
    stock = [name for name, model in job.models.items() if model.engine == "sdv"]
    if missing and (stock or job.metadata is None):
        what = f"models.{stock[0]} is a stock model" if stock else "detecting the metadata"
        raise JobError(f"{what}: needs {' and '.join(missing)}, not installed here: pip install 'shardsynth[all]'")
