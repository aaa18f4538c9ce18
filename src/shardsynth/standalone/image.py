"""Which image tasks run in: the host identifies it without Apptainer, and every task compares it from the inside.

The labels of an image say what was built into it; inside, ``image.json`` beside its Python says the same. `submit`
writes path, size, time, checksum and build into the plan. A task that runs in another build stops.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from shardsynth._version import __version__
from shardsynth.errors import JobError, RunError
from shardsynth.standalone.files import read_json, sha256_of

#: In the environment of a task in an image: what `submit` saw, as JSON.
EXPECTED = "SHARDSYNTH_SUBMITTED_IMAGE"
_PREFIX = "shardsynth."
# The Singularity Image Format, version 01: a header, then descriptors of what the file holds.
_HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_MAGIC = b"SIF_MAGIC\0"
_JSON = 0x4006
#: With less than this in /dev/shm, semaphores and shared tensors fail with a bus error, without a message.
_LEAST_SHARED_BYTES = 1 << 20


def stamp_file(path: Path) -> Path:
    """The file whose size and time stand for the image: the image itself, or a sandbox folder's labels."""
    return path / ".singularity.d" / "labels.json" if path.is_dir() else path


def identify(path: Path, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the plan says of an image: path, size, mtime, sha256 and what its labels say.

    Args:
        path: Image file or sandbox folder.
        known: What the plan said of it before. If path, size and time agree, the checksum is taken from there.

    Raises:
        JobError: There is no image, it is not one of shardsynth, or its version is not that of this shardsynth.
    """
    path = path.absolute()
    labels = read_labels(path)
    stat = os.stat(stamp_file(path))
    image = {"path": str(path), "size": stat.st_size, "mtime": int(stat.st_mtime)}
    if known and all(known.get(key) == value for key, value in image.items()):
        image["sha256"] = known["sha256"]
    else:
        image["sha256"] = sha256_of(stamp_file(path))
    image |= labels
    if labels["version"] != __version__:
        raise JobError(
            f"cluster.container: {path} holds shardsynth {labels['version']}, and this is {__version__}: plans and "
            "records of two versions may differ; install the image's version here, or build the image again"
        )
    return image


def read_labels(path: Path) -> dict[str, str]:
    """The labels that shardsynth gave an image, without their prefix; JobError if it is no image of shardsynth."""
    advice = "`containers/build.sh` makes one"
    try:
        if path.is_dir():
            labels = read_json(path / ".singularity.d" / "labels.json")
        else:
            with path.open("rb") as file:
                labels = _sif_labels(file)
    except FileNotFoundError:
        raise JobError(f"cluster.container: no image at {path}; {advice}") from None
    except OSError as error:
        raise JobError(f"cluster.container: {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, struct.error):
        raise JobError(f"cluster.container: {path} is not an Apptainer image, or is cut short; {advice}") from None
    labels = {key[len(_PREFIX) :]: str(value) for key, value in labels.items() if key.startswith(_PREFIX)}
    if "build" not in labels or "version" not in labels:
        raise JobError(f"cluster.container: {path} is an image, but not one of shardsynth's; {advice}")
    return labels


def _sif_labels(file: BinaryIO) -> dict[str, str]:
    """Labels of a SIF file; ValueError if it is not one."""
    header = _HEADER.unpack(file.read(_HEADER.size))
    if header[1] != _MAGIC:
        raise ValueError("no SIF file")
    total, offset = header[8], header[9]
    file.seek(offset)
    for descriptor in _DESCRIPTOR.iter_unpack(file.read(_DESCRIPTOR.size * total)):
        kind, used, start, size = descriptor[0], descriptor[1], descriptor[5], descriptor[6]
        if used and kind == _JSON:
            file.seek(start)
            labels: dict[str, str] = json.loads(file.read(size))["data"]["attributes"]["labels"]
            return labels
    raise ValueError("a SIF file without labels")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What `resume` says if the image is not the one of before; no line if both are the same build.

    Args:
        before: What ``identify`` said of the old image.
        after: What it says of the new one.
    """
    if before.get("build") == after.get("build"):
        return []
    lines = [f"another image than before: build {before.get('build')} then, {after.get('build')} now"]
    skipped = {"build", "path", "size", "mtime", "sha256", "built"}
    keys = [key for key in {**before, **after} if key not in skipped]
    changed = [f"{key} {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]
    lines.append("differs: " + ", ".join(changed) if changed else "the same versions in both")
    matters = {"torch", "numpy", "scipy", "device", "cuda", "sdv", "rdt", "ctgan", "copulas", "version"}
    if any(before.get(key) != after.get(key) for key in matters):
        lines.append(
            "native copulas draw the same rows all the same; rows of deep and stock models from here on may differ "
            "in their last digits from those that are committed, and the manifest names both builds"
        )
    return lines


def inside() -> dict[str, Any] | None:
    """Identity of the image that this process runs in; None outside of any."""
    try:
        identity: dict[str, Any] = read_json(Path(sys.prefix) / "image.json")
    except (OSError, ValueError):
        return None
    return identity


def expected() -> dict[str, Any] | None:
    """The image that `submit` wanted for this task; None if it wanted none, or if this is no submitted task."""
    text = os.environ.get(EXPECTED)
    if not text:
        return None
    image: dict[str, Any] = json.loads(text)
    return image


def for_record() -> dict[str, Any]:
    """``{"image": ...}`` for a commit record; empty outside an image."""
    here = inside()
    if here is None:
        return {}
    submitted = expected() or {}
    path = submitted.get("path") or os.environ.get("APPTAINER_CONTAINER", "")
    return {"image": {"path": path, "sha256": submitted.get("sha256"), "build": here["build"]}}


def check_inside(run: Path) -> None:
    """In a task, before anything else: is this the submitted image, and can it work on the run?

    Raises:
        RunError: Naming what is wrong and what to change.
    """
    submitted, here = expected(), inside()
    if submitted is not None:
        if here is None:
            raise RunError(
                f"this task should run in the image {submitted['path']}, and runs outside of any; submit again with "
                "`shardsynth resume`"
            )
        if here["build"] != submitted["build"]:
            raise RunError(
                f"the image {submitted['path']} was replaced since the run was submitted: build {submitted['build']} "
                f"was expected, this is {here['build']}; `shardsynth resume {run}` goes on with the new one"
            )
    if here is not None:
        check_run_folder(run)
        check_shared_memory()


def check_reads(paths: Iterable[Path]) -> None:
    """In an image: RunError for a path that tasks read and that is not mounted; it says how to bind it."""
    if inside() is None:
        return
    for path in paths:
        if not path.exists():
            folder = path if not path.suffix else path.parent
            raise RunError(
                f"{path}: not there in the image: bind it (`binds:` in the site file, or "
                f"--mount type=bind,src={folder},dst={folder},ro)"
            )


def check_run_folder(run: Path) -> None:
    """RunError if the run directory is not mounted in the image, or cannot be written there."""
    if not run.is_dir():
        raise RunError(
            f"{run}: the run directory is not there in the image: bind it (--mount type=bind,src={run},dst={run})"
        )
    if not os.access(run, os.W_OK):
        raise RunError(
            f"{run}: the run directory cannot be written in the image: bind it without `ro`, and choose an `output:` "
            "that compute nodes may write"
        )


def check_shared_memory(folder: Path = Path("/dev/shm")) -> None:
    """RunError if the processes of one task cannot share memory."""
    try:
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
    except OSError:
        free = 0
    if free < _LEAST_SHARED_BYTES or not os.access(folder, os.W_OK):
        raise RunError(
            f"{folder} has {free:,} bytes free in the image, wanted {_LEAST_SHARED_BYTES:,} at least: processes of "
            f"one task share memory there; add `{folder}` to `binds:` in the site file, or free it on this node"
        )
