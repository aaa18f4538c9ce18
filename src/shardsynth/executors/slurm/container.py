"""How a batch script starts a task in an Apptainer image: what is mounted, which variables go in.

The image is closed (``--containall``). A task sees the image, the folders that it reads, the run directory, and a
scratch folder of its own as /tmp. Of the environment it sees the variables that are named here. It sees no home folder,
and a GPU only if it asked for one.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardsynth.executors.slurm.site import Site
from shardsynth.planning.plan import Plan, single_files
from shardsynth.run.constraint_card import keeps
from shardsynth.run.trust import own_classes
from shardsynth.standalone.image import EXPECTED, stamp_file
from shardsynth.standalone.signatures import VARIABLE, make_key

#: Exit code of a script if the image or a folder is missing or changed on its node; the log says which.
WRONG_IMAGE = 78
#: With more folders, their common parents are mounted instead: each mount takes time.
MOST_MOUNTS = 64
#: Variables of the job that a task gets, if they are set: Slurm's numbers, visible GPUs and thread counts.
_PASSED = (
    "SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_ARRAY_TASK_COUNT SLURM_RESTART_COUNT "
    "SLURM_CPUS_PER_TASK SLURM_CPUS_ON_NODE SLURM_JOB_NAME SLURM_NODEID SLURM_PROCID SLURM_LOCALID SLURM_NTASKS "
    "SLURMD_NODENAME SLURM_JOB_GPUS SLURM_STEP_GPUS CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER GPU_DEVICE_ORDINAL "
    "NVIDIA_VISIBLE_DEVICES SLURM_JOB_NUM_NODES SLURM_JOB_NODELIST SUBMITIT_EXECUTOR SUBMITIT_LOG_LEVEL "
    "SHARDSYNTH_ELEMENT SHARDSYNTH_CPUS OMP_NUM_THREADS PYTHONUNBUFFERED PYTHONHASHSEED PYTHONSAFEPATH TZ"
)
#: Shell lines that pass them on.
PASS_ON = (
    f"for name in {_PASSED}; do",
    '  [ -z "${!name+set}" ] || export "APPTAINERENV_$name=${!name}"',
    "done",
)
_CACHES = ("XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR")


@dataclass(frozen=True)
class Mount:
    """A folder or file of the host, and where the image has it.

    Attributes:
        source: Path on the host.
        target: Path in the image.
        writable: Whether tasks may write there.
    """

    source: str
    target: str
    writable: bool = False

    def __str__(self) -> str:
        """The value of `--mount`: fields with commas between, quoted as in CSV."""
        fields = ["type=bind", f"src={self.source}", f"dst={self.target}"]
        return ",".join(_csv(field) for field in [*fields, *([] if self.writable else ["ro"])])


def _csv(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if any(c in field for c in ',"\n') else field


def mounts_of(plan: Plan, run: Path, extra: Iterable[str] = ()) -> tuple[Mount, ...]:
    """All mounts that the tasks need, outer folders first.

    A shard's folder has the path that the plan names. If a shard is a link, the folder of the real file is mounted too.

    Args:
        plan: The plan.
        run: The run directory, absolute: the only one of these that tasks may write.
        extra: ``binds`` of the site file, as ``/a``, ``/a:/b`` or ``/a:/b:ro``.
    """
    folders: dict[str, str] = {}
    for shard in plan.shards:
        parent = os.path.dirname(shard.path)
        folders.setdefault(parent, os.path.realpath(parent))
        real = os.path.dirname(os.path.realpath(shard.path))
        if real != folders[parent]:
            folders.setdefault(real, real)
    for sampled in sampled_folders(plan):
        folders.setdefault(sampled, os.path.realpath(sampled))
    folders = _outermost(folders)
    if len(folders) > MOST_MOUNTS:
        folders = _outermost({common: os.path.realpath(common) for common in _common(folders)})
    mounts = [Mount(source, target) for target, source in folders.items()]
    mounts += [Mount(os.path.realpath(path), path) for path in single_files(plan)]
    for bind in extra:
        source, _, rest = bind.partition(":")
        target, _, mode = rest.partition(":")
        mounts.append(Mount(source, target or source, writable=mode != "ro"))
    written = run if plan.sampling is None else run.parent  # the parts of a sample lie beside its run directory
    real = os.path.realpath(written)
    mounts += [Mount(real, target, writable=True) for target in dict.fromkeys([str(written), real])]
    unique = {mount.target: mount for mount in mounts}
    return tuple(sorted(unique.values(), key=lambda mount: (mount.target.count("/"), mount.target)))


def _outermost(folders: dict[str, str]) -> dict[str, str]:
    """The folders (target -> source) without those that another one contains, on the host and in the image."""
    outermost: dict[str, str] = {}
    for target in sorted(folders, key=lambda path: path.count("/")):
        source = folders[target]
        parents = [parent for parent in map(str, Path(target).parents) if parent in outermost]
        if not any(os.path.join(outermost[p], os.path.relpath(target, p)) == source for p in parents):
            outermost[target] = source
    return outermost


def _common(folders: dict[str, str]) -> set[str]:
    """Parents of the folders, at most ``MOST_MOUNTS`` if that is possible without the root itself."""
    parents = set(folders)
    while len(parents) > MOST_MOUNTS:
        higher = {os.path.dirname(path) if path.count("/") > 1 else path for path in parents}
        if higher == parents:
            break
        parents = higher
    return parents


@dataclass(frozen=True)
class Container:
    """Everything a batch script needs to start Python in an image.

    Attributes:
        apptainer: Path or name of Apptainer.
        image: The image, as `shardsynth.standalone.image.identify` describes it.
        mounts: What is mounted.
        gpus: Whether the tasks asked for GPUs: only then the driver's libraries are mounted.
        unpack: Folder of each node in which the image is unpacked once; None to start the image itself.
        flags: Further options of `apptainer exec`.
        key: The user's key, where tasks sign or open pickles; None where they do not.
    """

    apptainer: str
    image: dict[str, Any]
    mounts: tuple[Mount, ...]
    gpus: bool
    unpack: str | None = None
    flags: tuple[str, ...] = ()
    key: Path | None = None

    def script(self) -> list[str]:
        """Lines of the batch script; the last one sets the shell array ``python``."""
        path = self.image["path"]
        stamp = shlex.quote(str(stamp_file(Path(path))))
        image = f"image={shlex.quote(path)}"
        expected = {key: self.image[key] for key in ("path", "size", "mtime", "sha256", "build")}
        sources = " ".join(shlex.quote(mount.source) for mount in self.mounts)
        lines = [
            'wrong() { echo "shardsynth: $1" >&2; exit ' + str(WRONG_IMAGE) + "; }",
            image,
            f'stamp=$(stat -L -c "%s %Y" -- {stamp} 2>/dev/null) || '
            'wrong "$image: the image is not on $(hostname): put it where every node sees it"',
            f'[ "$stamp" = "{self.image["size"]} {self.image["mtime"]}" ] || '
            'wrong "$image changed since the run was submitted: \\`shardsynth resume\\` goes on with it"',
            f"for place in {sources}; do",
            '  [ -e "$place" ] || wrong "$place is not on $(hostname), and the tasks need it: is it shared?"',
            "done",
            "command -v " + shlex.quote(self.apptainer) + " >/dev/null || "
            'wrong "no apptainer on $(hostname): \\`setup:\\` of the site file can load it"',
            *(self._unpack() if self.unpack else []),
            'scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/shardsynth.XXXXXX") || '
            'wrong "no scratch folder on $(hostname): TMPDIR is ${TMPDIR:-not set}"',
            "trap 'rm -rf --one-file-system \"$scratch\"' EXIT",
            *_mount_points(self.mounts),
            *PASS_ON,
            "unset APPTAINER_BIND APPTAINER_BINDPATH APPTAINER_MOUNT SINGULARITY_BIND SINGULARITY_BINDPATH",
            f"export APPTAINERENV_{EXPECTED}={shlex.quote(json.dumps(expected))}",
            "export " + " ".join(f"APPTAINERENV_{name}=/tmp/cache" for name in _CACHES),
            *([f"export APPTAINERENV_{VARIABLE}={shlex.quote(str(self.key))}"] if self.key else []),
        ]
        words = [self.apptainer, "exec", "--containall", "--no-home", "--no-eval", "--pwd", "/tmp"]
        words += [*(["--nv"] if self.gpus else []), *self.flags]
        quoted = [shlex.quote(word) for word in words]
        quoted += ["--mount", '"type=bind,\\"src=${scratch//\\"/\\"\\"}\\",dst=/tmp"']
        for mount in self.mounts:
            quoted += ["--mount", shlex.quote(str(mount))]
        lines.append(f'python=({" ".join(quoted)} "$image" python3)')
        return lines

    def _unpack(self) -> list[str]:
        """Lines that unpack the image once per node: for sites that cannot mount an image."""
        assert self.unpack is not None
        return [
            f"unpacked={shlex.quote(self.unpack)}/shardsynth-$(id -u)-{self.image['build']}",
            'mkdir -p "${unpacked%/*}" && (umask 077; flock 9 && { [ -e "$unpacked/.singularity.d/whole" ] || {',
            '  rm -rf "$unpacked"',
            f'  {shlex.quote(self.apptainer)} --quiet build --sandbox "$unpacked" "$image" '
            '&& : >"$unpacked/.singularity.d/whole"',
            '}; }) 9>>"$unpacked.lock" || wrong "the image could not be unpacked to $unpacked on $(hostname)"',
            "image=$unpacked",
        ]


def _mount_points(mounts: Iterable[Mount]) -> list[str]:
    """Lines that make the mount points below /tmp, in the scratch folder that becomes /tmp."""
    folders, files = ["cache"], []
    for mount in mounts:
        if mount.target.startswith("/tmp/"):
            inner = mount.target[len("/tmp/") :]
            folders.append(inner if os.path.isdir(mount.source) else os.path.dirname(inner))
            files += [] if os.path.isdir(mount.source) else [inner]
    lines = ["mkdir -p" + "".join(f' "$scratch"/{shlex.quote(path)}' for path in dict.fromkeys(folders))]
    return lines + [f'touch "$scratch"/{shlex.quote(path)}' for path in files]


def container_of(site: Site, image: dict[str, Any] | None, plan: Plan, run: Path, *, gpus: bool) -> Container | None:
    """The container of a plan's tasks; None if they run on the host.

    Args:
        site: The site.
        image: The image, as `shardsynth.standalone.image.identify` describes it; None for the host.
        plan: The plan.
        run: The run directory, absolute.
        gpus: Whether the tasks asked for GPUs.
    """
    if image is None:
        return None
    key = make_key() if runs_code(plan) else None
    mounts = (*mounts_of(plan, run, site.binds), *([Mount(os.path.realpath(key), str(key))] if key else []))
    return Container(site.apptainer, image, mounts, gpus, site.unpack, tuple(site.apptainer_options), key)


def sampled_folders(plan: Plan) -> list[str]:
    """What a sample of a model reads: its folder, the run of a model that needs more than it, the known rows."""
    if plan.sampling is None:
        return []
    model, known = Path(plan.sampling.asked["model"]), plan.sampling.asked.get("remaining")
    pickled = any(entry.engine == "sdv" for entry in plan.job.models.values()) or keeps(model)
    folders = [str(model.parents[1] if pickled else model)]
    while known is not None and (not os.path.isdir(known) or any(character in known for character in "*?[")):
        known = os.path.dirname(known)  # a file or a pattern
    return folders if known is None else [*folders, known]


def runs_code(plan: Plan) -> bool:
    """Whether tasks of a plan write or open pickles: those of a stock model, or of constraint classes of the job's."""
    if plan.sampling is not None and keeps(Path(plan.sampling.asked["model"])):
        return True
    stock = any(model.engine == "sdv" for model in plan.job.models.values())
    return stock or bool(own_classes(constraint.class_name for constraint in plan.job.constraints))
