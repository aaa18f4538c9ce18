"""A site's own facts in a file of its own, so that job files stay portable.

`~/.config/shardsynth/sites/NAME.yaml`, or the file or name in `$SHARDSYNTH_SITE`; a job asks for it by
`cluster: {profile: NAME}`.
"""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 - evaluated at run time on Python 3.9

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardsynth.errors import JobError
from shardsynth.executors.slurm.commands import Limits
from shardsynth.job import STAGES, Cluster, Resources


class SiteLimits(BaseModel):
    """Limits that the site does not tell, or that should be lower than it allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_array_size: Optional[int] = Field(None, ge=2)  # noqa: UP045
    max_submit_jobs: Optional[int] = Field(None, ge=1)  # noqa: UP045


class Site(BaseModel):
    """What a site file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    defaults: Resources = Resources()
    stages: Dict[str, Resources] = Field(default_factory=dict)  # noqa: UP006
    limits: SiteLimits = SiteLimits()
    setup: List[str] = Field(default_factory=list)  # noqa: UP006
    apptainer: str = "apptainer"
    apptainer_options: List[str] = Field(default_factory=list)  # noqa: UP006
    unpack: Optional[str] = None  # noqa: UP045
    binds: List[str] = Field(default_factory=list)  # noqa: UP006
    python: Optional[str] = None  # noqa: UP045
    mail: Optional[str] = None  # noqa: UP045


def sites_folder() -> Path:
    """Where site files lie."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "shardsynth" / "sites"


def find_site(name: str | None) -> Path | None:
    """File of a site: the job's ``profile``, else ``$SHARDSYNTH_SITE``; None where neither is given."""
    wanted = name or os.environ.get("SHARDSYNTH_SITE")
    if not wanted:
        return None
    direct = Path(wanted)
    path = direct if direct.suffix in (".yaml", ".yml") else sites_folder() / f"{wanted}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in sites_folder().glob("*.yaml"))) or "none"
        raise JobError(f"no site file at {path}; known sites: {known}; `shardsynth doctor --write-profile` drafts one")
    return path


def load_site(name: str | None) -> Site:
    """The site; an empty one where none is asked for. JobError where the file is wrong."""
    path = find_site(name)
    if path is None:
        return Site()
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JobError(f"{path}: cannot be read as YAML: {error}") from None
    try:
        site = Site.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise JobError(f"{path}: {key}: {first['msg']}; keys: {', '.join(Site.model_fields)}") from None
    for stage in site.stages:
        if stage not in STAGES:
            raise JobError(f"{path}: stages: no stage is called {stage!r}; stages: {', '.join(STAGES)}")
    return site


def limits_at(site: Site, found: Limits) -> Limits:
    """The site's own limits, lowered by the file's."""
    array_size = min(found.array_size, site.limits.max_array_size or found.array_size)
    asked = site.limits.max_submit_jobs
    if asked is not None and asked < found.jobs:
        return replace(found, array_size=array_size, jobs=asked, reason="the site file's max_submit_jobs")
    return replace(found, array_size=array_size)


def resources(site: Site, cluster: Cluster, stage: str, model: str) -> Resources:
    """What a stage asks for; the more special wins: model, stage, defaults of the job, then of the site."""
    layers = [
        site.defaults,
        site.stages.get(stage, Resources()),
        cluster.defaults,
        cluster.stages.get(stage, Resources()),
        cluster.models.get(model.partition("/")[0], {}).get(stage, Resources()),  # candidates ask as their model does
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        given = layer.model_dump(exclude_unset=True)
        merged.setdefault("options", {}).update(given.pop("options", {}))
        merged.update(given)
    return Resources.model_validate(merged)
