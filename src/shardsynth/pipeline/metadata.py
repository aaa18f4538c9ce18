"""The run's metadata: the user's or SDV's detection, completed with exact counts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardsynth.pipeline.plan import Plan

if TYPE_CHECKING:
    from shardsynth.summaries.profile import Profile


def complete_metadata(plan: Plan, profile: Profile) -> tuple[dict[str, Any], dict[str, Any]]:
    """SDV metadata with exact ranges, and the same without anything that could identify a person.

    What the user's file says stands; where it and the detection agree on a column's sdtype, ranges and formats that it
    leaves out come from the exact counts.
    """
    from shardsynth.data.metadata import TABLE, detect, public, read

    detected = detect(profile.sample, profile, plan.schema)
    metadata = detected
    if plan.job.metadata is not None:
        metadata = copy.deepcopy(read(Path(plan.job.metadata), plan.schema))
        known = detected["tables"][TABLE]["columns"]
        described = metadata["tables"][TABLE]["columns"]
        for name, options in described.items():
            if known[name]["sdtype"] == options["sdtype"]:
                described[name] = {**known[name], **options}
    return metadata, public(metadata, profile, plan.job.rare.min_count)
