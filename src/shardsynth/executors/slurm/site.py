"""What belongs to a cluster and not to a job stands in a site file, so that job files stay portable.

The file is `~/.config/shardsynth/sites/NAME.yaml`. A job names it by `cluster: {profile: NAME}`; without that, the
name or path in `$SHARDSYNTH_SITE` counts.
"""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 - evaluated at run time on Python 3.9

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shardsynth.errors import JobError
from shardsynth.executors.slurm.limits import Limits
from shardsynth.job import STAGES, Cluster, Resources, load_yaml
from shardsynth.standalone.regular import read_regular


class SiteLimits(BaseModel):
    """Limits that Slurm does not tell, or lower ones than it allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_array_size: Optional[int] = Field(None, ge=2)  # noqa: UP045
    max_submit_jobs: Optional[int] = Field(None, ge=1)  # noqa: UP045


class Site(BaseModel):
    """The content of a site file.

    Attributes:
        defaults: Resources of all stages.
        stages: Resources by stage; they win over the defaults.
        limits: Limits of the site.
        setup: Shell lines that every element runs first.
        apptainer: Path or name of Apptainer.
        apptainer_options: Further options of `apptainer exec`.
        unpack: Folder of each node in which an image is unpacked once; None to start the image itself.
        binds: Further mounts of an image: ``/a``, ``/a:/b`` or ``/a:/b:ro``.
        python: Python of the tasks; None for the one that submits.
        mail: Address to which Slurm writes if an element fails.
    """

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
    """The folder of the site files."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "shardsynth" / "sites"


def find_site(name: str | None) -> Path | None:
    """The site file to use.

    Args:
        name: Name or path of the file, as the job gives it; None: what ``$SHARDSYNTH_SITE`` says.

    Returns:
        Its path; None if neither says anything.

    Raises:
        JobError: There is no such file.
    """
    name = name or os.environ.get("SHARDSYNTH_SITE")
    if not name:
        return None
    direct = Path(name)
    path = direct if direct.suffix in (".yaml", ".yml") else sites_folder() / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in sites_folder().glob("*.yaml"))) or "none"
        raise JobError(f"no site file at {path}; known sites: {known}; `shardsynth doctor --write-profile` drafts one")
    return path


def load_site(name: str | None) -> Site:
    """Read a site file.

    Args:
        name: As for ``find_site``.

    Returns:
        The site; one without any entry if there is no file to use.

    Raises:
        JobError: There is no such file, or it is wrong.
    """
    path = find_site(name)
    if path is None:
        return Site()
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path}: cannot be read: {error}") from None
    data = load_yaml(text, str(path)) or {}
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


def limits_at(site: Site, limits: Limits) -> Limits:
    """Slurm's limits, lowered by those of the site file."""
    array_size = min(limits.array_size, site.limits.max_array_size or limits.array_size)
    return replace(limits, array_size=array_size, submit=limits.submit.lowered(site.limits.max_submit_jobs))


def resources(site: Site, cluster: Cluster, stage: str, model: str) -> Resources:
    """Resources that a stage of a model asks for.

    The first of these that names a resource wins: the job's entry of the model, of the stage, the job's defaults, the
    site's entry of the stage, the site's defaults.

    Args:
        site: The site.
        cluster: The job's section ``cluster``.
        stage: The stage.
        model: The model, or "".
    """
    return _merged(site.defaults, site.stages.get(stage, Resources()), cluster.defaults, *_own(cluster, stage, model))


def own_resources(cluster: Cluster, stage: str, model: str) -> Resources:
    """Resources that the job gives a stage of a model by its name, without the defaults of the job and of the site."""
    return _merged(*_own(cluster, stage, model))


def _own(cluster: Cluster, stage: str, model: str) -> tuple[Resources, Resources]:
    of_model = cluster.models.get(model.partition("/")[0], {})  # a replica has its model's entry
    return cluster.stages.get(stage, Resources()), of_model.get(stage, Resources())


def _merged(*layers: Resources) -> Resources:
    """Resources of several layers; what a later one names wins."""
    merged: dict[str, Any] = {}
    for layer in layers:
        named = layer.model_dump(exclude_none=True)  # a plan that is read back has None where the job names nothing
        merged.setdefault("options", {}).update(named.pop("options", {}))
        merged.update(named)
    return Resources.model_validate(merged)
