"""The archive of what of a run may leave the house."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

from shardsynth.errors import RunError
from shardsynth.planning.plan import Plan
from shardsynth.run.integrity import check_done, outputs_of
from shardsynth.run.rundir import RunDir
from shardsynth.standalone.files import HashingReader, no_space_is_clear, replacing
from shardsynth.standalone.locks import sole_writer
from shardsynth.standalone.regular import refuse_special

MAY_LEAVE = ("models", "samples", "metrics", "report")
#: Folders in these that only the run itself reads; the ranges tell how many rows were held out.
_INTERNAL = ("ledger", "_ranges")


def pack(plan: Plan, run: RunDir, output: Path | None) -> Path:
    """Archive of what may leave the house; with differential privacy, of what it covers.

    It holds the files that the run's tasks wrote, each with the checksum of its record. Of a link it holds the
    content, if that is what the task wrote; it names neither owner nor group.

    Raises:
        RunError: The run is not done, or a file is missing or damaged: there is no archive then.
    """
    if plan.sampling is not None:
        raise RunError(f"{run.root}: holds no model and no figures; the parts lie in {run.root.parent}")
    check_done(plan, run)
    # Figures and plots of a private run compare with real rows, exactly.
    leaving = MAY_LEAVE[:2] if plan.job.privacy is not None else MAY_LEAVE
    root = run.root.resolve()
    output = output or root.with_name(root.name + ".tar.gz")
    with (
        sole_writer(output, "pack"),
        no_space_is_clear(output),
        replacing(output) as temporary,
        tarfile.open(temporary, "w:gz") as archive,
    ):
        for _, recorded in outputs_of(plan, run):
            path = Path(recorded["path"])
            if path.parts[0] in leaving and path.parent.name not in _INTERNAL:
                _add_to_archive(archive, root, recorded)
    return output


def _add_to_archive(archive: tarfile.TarFile, root: Path, recorded: dict[str, Any]) -> None:
    """Add one output of a task; RunError if it is missing or not what the task wrote."""
    path = root / recorded["path"]
    advice = f"not packed: `shardsynth resume {root} --verify` makes it again"
    try:
        refuse_special(path)
        with path.open("rb") as file:
            member = tarfile.TarInfo(f"{root.name}/{recorded['path']}")
            member.size, member.mtime, member.mode = recorded["size"], int(os.fstat(file.fileno()).st_mtime), 0o644
            reader = HashingReader(file)
            archive.addfile(member, reader)
            changed = reader.hexdigest() != recorded["sha256"] or bool(file.read(1))
    except OSError as error:
        if error.errno is not None and not path.exists():
            raise RunError(f"{path}: missing; {advice}") from None
        if str(error) == "unexpected end of data":
            raise RunError(f"{path}: damaged, shorter than its task wrote it; {advice}") from None
        raise
    if changed:
        raise RunError(f"{path}: damaged, not what its task wrote; {advice}")
