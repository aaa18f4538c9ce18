"""What of a run may run code: SDV's pickles and the job's own constraint classes, each only if this user signed it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from shardsynth.errors import RunError
from shardsynth.standalone.files import sha256_of
from shardsynth.standalone.signatures import is_signed, sign


def signatures_of(private: Path) -> Path:
    """Folder of the signatures, below the ``private/`` of a run."""
    return private / "signatures"


def signed_sha256(private: Path, path: Path) -> str | None:
    """SHA-256 of a file of a run if this user signed it, else None.

    Args:
        private: The run's ``private/``.
        path: The file.
    """
    try:
        digest = sha256_of(path)
    except OSError:
        return None
    return digest if is_signed(signatures_of(private), digest) else None


def own_classes(names: Iterable[str]) -> list[str]:
    """Those of a job's constraint classes that are not SDV's own, by import path, sorted."""
    names = sorted(set(names))
    if not names:
        return []
    from shardsynth.sampling.constraints.declared import is_programmed

    return [name for name in names if is_programmed({"class_name": name})]


def _digest(classes: list[str]) -> str:
    return hashlib.sha256(json.dumps(["constraint classes", *classes]).encode("utf-8")).hexdigest()


def sign_classes(private: Path, names: Iterable[str]) -> None:
    """Sign the names of the constraint classes of a job that this user runs; nothing where there are none."""
    classes = own_classes(names)
    if classes:
        sign(signatures_of(private), _digest(classes))


def check_classes(private: Path, names: Iterable[str]) -> None:
    """Check that this user gave a job with these classes.

    Raises:
        RunError: Somebody else planned the run.
    """
    classes = own_classes(names)
    if classes and not is_signed(signatures_of(private), _digest(classes)):
        raise RunError(
            f"{private.parent}: running this run's constraints runs code ({', '.join(classes)}), and its job is not "
            f"signed by you; if you know where it comes from: `shardsynth resume {private.parent} --trust-pickle`"
        )


def trust_run(private: Path, names: Iterable[str]) -> list[str]:
    """Sign everything of a run that runs code: the user knows where it comes from.

    Returns:
        What was signed, as lines.
    """
    sign_classes(private, names)
    lines = [f"signed: constraint class {name}" for name in own_classes(names)]
    for path in sorted([*private.glob("models/*/*.pkl"), *private.glob("summary/*.pkl")]):
        sign(signatures_of(private), sha256_of(path))
        lines.append(f"signed: {path}")
    return lines
