"""What must be set up on a node: modules, and variables that Python itself needs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from tests.site.slurm.cluster import wait_until
from tests.site.slurm.runs import SHARDSYNTH, shardsynth

import shardsynth as ss
from shardsynth.executors.status import read_status
from shardsynth.run.committed import recorded


def from_login_shell(*arguments, code=0):
    """The command line as typed into a login shell, where `module` is an exported function that calls others."""
    command = " ".join(shlex.quote(str(word)) for word in [*SHARDSYNTH, *arguments])
    command = f"PATH={shlex.quote(os.environ['PATH'])} {command}"  # of another Slurm than the installed one, too
    done = subprocess.run(
        ["bash", "-lc", command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def site(tmp_path):
    """Writes a site file with a setup; `mark` is a module that sets MARK."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "mark").write_text("#%Module\nsetenv MARK loaded\n")

    def write(*lines):
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump({"setup": [f"module use {modules}", *lines]}))
        return path

    return write


@pytest.mark.needs("environment-modules")
def test_a_module_is_loaded_and_a_setup_that_fails_ends_the_element_and_is_named(idle, make_job, site, tmp_path):
    root = tmp_path / "run"
    job = make_job(root, cluster={"profile": str(site("module load mark", '[ "$MARK" = loaded ]'))})
    from_login_shell("submit", job)
    run = ss.Run(root)
    wait_until("the profile", lambda: recorded(run.dir, run.plan)["profile_merge"], 60)
    shardsynth("cancel", root)
    site("module load marc", 'echo "and on it went"')
    said = from_login_shell("doctor", "--folder", tmp_path, "--site", tmp_path / "site.yaml", code=1)
    assert "shardsynth: setup: `module load marc` ended with exit code 1 on " in said
    from_login_shell("resume", root)
    wait_until("the end", lambda: idle.command("squeue", "-h") == "", 60)
    assert "setup: `module load marc` ended with exit code 1 on " in shardsynth("status", root)
    assert "setup" in {cause.kind for cause in read_status(run.dir, run.plan).causes.values()}
    assert not any("on it went" in log.read_text() for log in (root / "private/slurm/submitit").glob("*.out"))
    site("module load mark")
    assert "FAIL job" not in from_login_shell("doctor", "--folder", tmp_path, "--site", tmp_path / "site.yaml", code=1)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python as EasyBuild makes one, and its variables: packages by PYTHONPATH, libpython by LD_LIBRARY_PATH."""
    folder = tmp_path_factory.mktemp("python")
    python = folder / "bin" / "python3"
    libraries = folder / "libraries"
    python.parent.mkdir()
    libraries.mkdir()
    (folder / "lib").mkdir()
    standard = Path(sysconfig.get_path("stdlib"))
    (folder / "lib" / standard.name).symlink_to(standard)
    program = Path(os.path.realpath(sys.executable)).read_bytes()
    variables = {}
    packages = ":".join(path for path in sys.path if "site-packages" in path or path.endswith("/src"))
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        found = os.fsencode(sysconfig.get_config_var("LIBDIR"))
        program = program.replace(found + b"\0", b"/nowhere".ljust(len(found), b"/") + b"\0")  # its run path
        shutil.copy(os.path.join(os.fsdecode(found), sysconfig.get_config_var("INSTSONAME")), libraries)
        variables["LD_LIBRARY_PATH"] = str(libraries)
    variables["PYTHONPATH"] = packages
    python.write_bytes(program)
    python.chmod(0o755)
    return python, variables


def test_variables_that_python_needs_go_with_the_job_and_others_do_not(idle, bare_python, make_job, tmp_path):
    python, variables = bare_python
    assert subprocess.run([str(python), "-c", "import shardsynth"], capture_output=True, check=False).returncode != 0
    root = tmp_path / "run"
    job = make_job(root)
    environment = {**os.environ, **variables, "PYTHONUSERBASE": "/nowhere"}
    command = [str(python), "-m", "shardsynth.cli", "submit", str(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert f"with the jobs go {' and '.join(variables)}: the Python here needs them" in done.stdout, done.stderr
    run = ss.Run(root)
    wait_until("the profile", lambda: recorded(run.dir, run.plan)["profile_merge"], 90)
    shardsynth("cancel", root)
    (script, *_) = (root / "private" / "slurm").glob("*-profile.sbatch")
    assert str(python) in script.read_text() and "/nowhere" not in script.read_text()
