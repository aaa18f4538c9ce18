"""The metadata of a run: the user's or detected by SDV, completed from exact counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shardsynth.data.detection import complete, detect
from shardsynth.data.metadata import public, read
from shardsynth.errors import MetadataError
from shardsynth.planning.constraints import with_numbers_for_constraints
from shardsynth.planning.personal import refuse_all_rare, refuse_free_text, refuse_persons, with_personal_columns
from shardsynth.planning.plan import Plan, metadata_digest
from shardsynth.stages.persons import profile_persons
from shardsynth.summaries.profile import Profile


def complete_metadata(plan: Plan, profile: Profile) -> tuple[dict[str, Any], dict[str, Any]]:
    """SDV metadata with exact ranges, and the same without values that could identify a person.

    With a file of the user, sdv is not needed. The file is not changed; what it does not say comes from the exact
    counts.
    """
    persons = profile_persons(plan, profile)
    if plan.job.metadata is None:
        detected = detect(profile.sample, profile, plan.schema, plan.job.learn_personal)
        metadata = with_personal_columns(with_numbers_for_constraints(detected, plan.job, plan.schema), plan.job)
    else:
        if plan.metadata is not None and metadata_digest(plan.job) != plan.metadata:
            raise MetadataError(
                f"{plan.job.metadata}: the metadata changed since the run was planned; "
                "run the job again with another `output:`"
            )
        user_metadata = read(Path(plan.job.metadata), plan.schema, validate=False)
        if plan.job.privacy is not None:
            # Nothing may be completed from the rows, and the user's file is public.
            return with_personal_columns(user_metadata, plan.job), with_personal_columns(user_metadata, plan.job)
        metadata = complete(with_personal_columns(user_metadata, plan.job), profile.sample, profile, plan.schema)
        refuse_persons(metadata, profile, plan.job)
    refuse_free_text(metadata, profile.sample, plan.job)
    if plan.job.metadata is not None:
        refuse_all_rare(metadata, profile, plan.job, persons)
    return metadata, public(metadata, profile, plan.job.rare.min_count, persons)
