"""A run in a project's folder, made by one real user and read by others."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.site.slurm.runs import write_job, write_small_shards

pytestmark = pytest.mark.needs("other users")
LAB = 54321
OWNER, MEMBER, STRANGER = 40001, 40002, 40003


def python(user, *arguments, code=0):
    """This Python as a user with umask 077; the first two are members of the group LAB, each has a group of their own."""
    groups = "--clear-groups" if user == STRANGER else f"--groups={LAB}"
    started = time.monotonic()
    done = subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={user}", groups, sys.executable, *(str(a) for a in arguments)],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL, cwd="/",
        env={**os.environ, "HOME": "/nonexistent", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, preexec_fn=lambda: os.umask(0o077),
    )  # fmt: skip
    print(f"{time.monotonic() - started:.1f} s: {arguments}")
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def shardsynth(user, *arguments, code=0):
    """The command line as a user."""
    return python(user, "-m", "shardsynth.cli", *arguments, code=code)


@pytest.fixture
def project():
    """A folder of the group LAB with setgid, in a place that every user can enter."""
    outer = Path(tempfile.mkdtemp(prefix="shardsynth-test-", dir="/var/tmp"))
    outer.chmod(0o755)
    (outer / "shards").mkdir()
    write_small_shards(outer / "shards")
    folder = outer / "project"
    folder.mkdir()
    os.chown(folder, 0, LAB)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(outer)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


#: Each action of a reader that is not allowed, by the Python API: prints the errors.
_REFUSED = """
import sys, shardsynth as ss
run = ss.Run(sys.argv[1])
for act in (run.resume, run.cancel, run.clean, lambda: list(run.log_lines(None, None)), lambda: run.status(verify=True)):
    try:
        act()
    except ss.errors.RunError as error:
        print(error)
"""
_PLAN = "import sys, shardsynth as ss; ss.plan_job(ss.Job.load(sys.argv[1]))"
_READ = "import sys, shardsynth as ss; print(ss.Run(sys.argv[1]).samples('gaussian_copula').to_table().num_rows)"


def test_the_group_reads_a_run_that_is_open_to_it_and_nobody_reads_real_rows(project):
    root = project / "run"
    columns = {"age": "numerical", "sex": "categorical", "hb": "numerical"}
    tables = {"t": {"columns": {name: {"sdtype": sdtype} for name, sdtype in columns.items()}}}
    metadata = project.parent / "metadata.json"  # no detection: SDV takes seconds to import
    metadata.write_text(json.dumps({"METADATA_SPEC_VERSION": "V1", "tables": tables, "relationships": []}))
    changes = {"access": "group", "sample": {"rows": 100}, "cluster": {"executor": "debug"}, "metadata": str(metadata)}
    job = write_job(project.parent / "job.yaml", project.parent / "shards", root, **changes)
    python(OWNER, "-c", _PLAN, job)
    said = shardsynth(MEMBER, "status", root)
    assert "0/4" in said and "private is its owner's alone: what waits, runs or failed is not shown" in said
    assert "tasks are left" in said and "resume" not in said

    shardsynth(OWNER, "run", job, "--here")
    assert mode(root) == 0o2750 and mode(root / "private") == 0o2700
    assert {path.lstat().st_gid for path in [root, *root.rglob("*")]} == {LAB}, "one group, and its quota"
    closed = [p for p in root.rglob("*") if "private" not in p.relative_to(root).parts and not mode(p) & 0o040]
    assert not closed, "a file that the group cannot read"
    assert "all done" in shardsynth(MEMBER, "status", root)
    assert python(MEMBER, "-c", _READ, root).strip() == "100"
    said = "the run of another user: you may read its status and its samples, no more"
    assert python(MEMBER, "-c", _REFUSED, root).count(said) == 5
    assert said in shardsynth(MEMBER, "resume", root, code=2)
    shardsynth(STRANGER, "status", root, code=2)
