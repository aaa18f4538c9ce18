"""The run's metadata: the user's or SDV's detection, completed with exact counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shardsynth.data.detection import complete, detect
from shardsynth.data.metadata import public, read
from shardsynth.errors import MetadataError
from shardsynth.planning.constraints import adapted
from shardsynth.planning.personal import marked, refuse_free_text
from shardsynth.planning.plan import Plan, metadata_digest
from shardsynth.summaries.profile import Profile


def complete_metadata(plan: Plan, profile: Profile) -> tuple[dict[str, Any], dict[str, Any]]:
    """SDV metadata with exact ranges, and the same without anything that could identify a person.

    What the user's file says stands, and sdv is not needed for it; what it leaves open comes from the exact counts.
    """
    if plan.job.metadata is None:
        metadata = marked(adapted(detect(profile.sample, profile, plan.schema), plan.job, plan.schema), plan.job)
    else:
        if plan.metadata is not None and metadata_digest(plan.job) != plan.metadata:
            raise MetadataError(
                f"{plan.job.metadata}: the metadata changed since the run was planned; "
                "run the job again with another `output:`"
            )
        given = read(Path(plan.job.metadata), plan.schema, validate=False)
        if plan.job.privacy is not None:
            # Nothing is completed from the rows, and what the user's file says is public.
            return marked(given, plan.job), marked(given, plan.job)
        metadata = complete(marked(given, plan.job), profile.sample, profile, plan.schema)
    refuse_free_text(metadata, profile.sample, plan.job)
    return metadata, public(metadata, profile, plan.job.rare.min_count)
