"""The image alone: what is in it, and runs in it with everything closed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.site.container.images import outcome, shardsynth

import shardsynth as ss
from shardsynth import __version__
from shardsynth.standalone.image import identify

COPULA = {"gaussian_copula": {}}
STARTING = "import time, os; print(time.time() - float(os.environ['STARTED']))"


def test_labels_help_and_licences_say_what_it_is(image):
    told = json.loads(image.call_plainly("inspect", "--labels", "--json"))["data"]["attributes"]["labels"]
    found = identify(image.path)  # read from the file, without Apptainer
    assert {key: told[f"shardsynth.{key}"] for key in ("build", "version", "torch", "device")} == {
        key: found[key] for key in ("build", "version", "torch", "device")
    }
    assert found["version"] == __version__ and found["device"] == "cpu"
    assert "apptainer run shardsynth.sif" in image.call_plainly("run-help")
    assert "BUSL-1.1" in told["org.opencontainers.image.licenses"]
    licences = image.call(
        "sh", "-c", "cat /usr/share/licenses/sdv-*/* | head -5; ls /usr/share/licenses", action="exec"
    )
    assert "Business Source License" in licences and "torch-2" in licences and "LICENSE" in licences


def test_it_is_small_and_holds_nothing_that_builds(image):
    assert image.path.stat().st_size < 900e6
    tools = "for tool in pip pip3 gcc cc make git curl wget; do command -v $tool; done; ls -d /usr/src/shardsynth; true"
    assert "/" not in image.call("sh", "-c", tools, action="exec").replace(
        "ls: cannot access '/usr/src/shardsynth'", ""
    )
    compiled = image.call("find", "/opt/shardsynth/lib/python3.11/site-packages/sdv", "-name", "*.pyc", action="exec")
    assert len(compiled.split()) > 50


def test_its_own_test_passes(image):
    assert "the image works" in image.call(action="test")


def test_nothing_of_the_host_leaks_in(image, tmp_path):
    """Even where a user closes nothing."""
    (tmp_path / "typer.py").write_text("raise SystemExit('the host\\'s typer')")
    done = subprocess.run(
        ["apptainer", "run", "--bind", str(tmp_path), str(image.path), "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_it_starts_in_under_two_seconds(image):
    seconds = []
    for _ in range(3):
        command = image.command("python3", "-c", STARTING, action="exec", flags=["--env", f"STARTED={time.time()}"])
        seconds.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    print(f"from Apptainer to Python: {min(seconds):.2f} s")
    assert min(seconds) < 2


def test_the_demo_in_it_without_a_network_gives_the_bytes_of_a_run_without_it(
    image, make_job, demo_shards, uncontained, tmp_path
):
    root = tmp_path / "run"
    job = make_job(root)
    mounts = [(tmp_path, "rw"), (job.parent, "ro"), (demo_shards, "ro")]
    image.call("run", job, "--here", mounts=mounts, before=["unshare", "--net"], env={"OMP_NUM_THREADS": "1"})
    assert outcome(root) == uncontained
    run = ss.Run(root)
    manifest = run.samples("tvae").manifest
    assert [entry["build"] for entry in manifest["images"]] == [identify(image.path)["build"]]
    for stage, arguments in {"fit": [], "sample": ["0/1"], "merge": ["0/2"]}.items():
        said = image.call(root, *arguments, flags=["--app", stage], mounts=mounts)
        assert f"{stage} 0: committed" in said


def test_an_unprivileged_user_without_fuse_runs_it(image, make_job, demo_shards):
    """--unsquash unpacks it first; HOME does not exist, the root is read-only."""
    user = 65534
    folder = Path("/var/tmp") / f"shardsynth-test-{os.getpid()}"
    try:
        shutil.copytree(demo_shards, folder / "shards")
        for path in (folder, folder / "shards", *(folder / "shards").iterdir()):
            os.chown(path, user, user)
        job = make_job(folder / "run", models=COPULA)
        shutil.copy(job, folder / "job.yaml")
        text = (folder / "job.yaml").read_text()
        (folder / "job.yaml").write_text(re.sub(r"input: .*(\n  .*)?", f"input: {folder}/shards", text, count=1))
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        for parent in image.path.parents:  # pytest's folders are closed to others
            if str(parent).startswith("/tmp/pytest"):
                os.chmod(parent, 0o755)
        said = image.call(
            "run", folder / "job.yaml", "--here", mounts=[(folder, "rw")], flags=["--unsquash"], before=become,
            env={"HOME": "/nonexistent", "APPTAINER_CONFIGDIR": str(folder / "config"), "TMPDIR": "/var/tmp"},
        )  # fmt: skip
        assert "report: " in said
        assert (folder / "run" / "report" / "index.html").stat().st_uid == user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def element(image, root, mounts, *, flags=(), code=2, env=None):
    """The first share of profiling, as a task would run it."""
    arguments = ["-m", "shardsynth.executors.slurm.element", root, "--stage", "profile", "--share", "0/1"]
    return image.call("python3", *arguments, action="exec", mounts=mounts, flags=flags, code=code, env=env)


@pytest.fixture
def planned(make_job, tmp_path):
    """A run that is planned and not begun."""
    from shardsynth.api import plan_job
    from shardsynth.job import Job

    root = tmp_path / "run"
    plan_job(Job.load(make_job(root, models=COPULA)))
    return root


def test_wrong_binds_are_one_clear_line(image, planned, demo_shards):
    run, shards = (planned, "rw"), (demo_shards, "ro")
    said = element(image, planned, [shards])
    assert f"{planned}: the run directory is not there in the image: bind it (--mount type=bind,src={planned}" in said
    said = element(image, planned, [(planned, "ro"), shards])
    assert "the run directory cannot be written in the image: bind it without `ro`" in said
    said = element(image, planned, [run])
    assert f"{demo_shards}: not there in the image: bind it" in said
    assert "Traceback" not in said
    assert "profile 0: committed" in element(image, planned, [run, shards], code=0)


def test_too_little_shared_memory_is_one_clear_line(image, planned, demo_shards, tmp_path):
    small = tmp_path / "shm"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        mounts = [(planned, "rw"), (demo_shards, "ro")]
        said = element(image, planned, mounts, flags=["--bind", f"{small}:/dev/shm"])
        assert re.search(r"/dev/shm has [\d,]+ bytes free in the image, wanted 1,048,576 at least", said)
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_task_in_another_build_than_submitted_stops(image, planned, demo_shards):
    told = json.dumps({"path": "/images/shardsynth.sif", "build": "00000000-0000", "sha256": "0"})
    mounts = [(planned, "rw"), (demo_shards, "ro")]
    said = element(image, planned, mounts, env={"APPTAINERENV_SHARDSYNTH_SUBMITTED_IMAGE": told})
    assert "the image /images/shardsynth.sif was replaced since the run was submitted: build 00000000-0000" in said


def test_an_output_that_cannot_be_made_is_one_clear_line(image, make_job, demo_shards):
    job = make_job("/srv/somewhere/run", models=COPULA)
    said = image.call("run", job, "--here", mounts=[(job.parent, "ro"), (demo_shards, "ro")], code=2)
    assert "/srv/somewhere" in said and "Read-only file system" in said and "an image sees only what is bound" in said


def started(image, command, ready, **options):
    """A command in the image, in a process group of its own, once ``ready`` exists."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **options
    )
    end = time.monotonic() + 60
    while not list(ready()):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)
    return process


def test_ctrl_c_stops_it_and_the_rest_can_be_resumed(image, make_job, demo_shards, tmp_path):
    root = tmp_path / "run"
    job = make_job(root, models=COPULA, sample={"rows": 60_000_000, "rows_per_shard": 200_000})
    mounts = [(tmp_path, "rw"), (job.parent, "ro"), (demo_shards, "ro")]
    command = image.command("run", job, "--here", mounts=mounts)
    process = started(image, command, lambda: root.glob("samples/*/part-*.parquet"))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "what is committed stays" in said
    assert 0 < len(list(root.glob("samples/*/part-*.parquet"))) < 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_being_asked_to_stop_saves_and_exits_with_75(image, make_job, demo_shards, tmp_path, number):
    root = tmp_path / "run"
    job = make_job(root, models=COPULA, sample={"rows": 60_000_000, "rows_per_shard": 200_000, "tasks": 300})
    from shardsynth.api import plan_job
    from shardsynth.job import Job

    run = plan_job(Job.load(job))
    for stage in ("profile", "profile_merge", "count", "count_merge", "fit"):
        shardsynth("task", root, stage, 0)
    arguments = ["-m", "shardsynth.executors.slurm.element", root, "--stage", "sample", "--share", "0/1"]
    command = image.command("python3", *arguments, action="exec", mounts=[(root, "rw"), (demo_shards, "ro")])
    process = started(image, command, lambda: root.glob("tasks/sample/*/*.json"))
    os.kill(process.pid, number)  # to Apptainer alone, as a batch script does
    os.killpg(process.pid, number)  # and to everything, as Slurm does
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "asked to stop" in said
    done = len(list((root / "tasks" / "sample").rglob("*.json")))
    assert 0 < done < len(run.plan.tasks["sample"])


def test_the_exit_code_of_a_killed_task_passes_through(image):
    image.call("python3", "-c", "import os; os.kill(os.getpid(), 9)", action="exec", code=128 + 9)  # out of memory
    image.call("sh", "-c", "exit 42", action="exec", code=42)


def test_images_that_are_none_are_refused_before_anything_is_submitted(image, make_job, tmp_path):
    def refused(path):
        return shardsynth("submit", make_job(tmp_path / "run", cluster={"container": str(path)}), code=2)

    assert "no image at /nowhere.sif; `containers/build.sh` makes one" in refused("/nowhere.sif")
    (tmp_path / "text.sif").write_text("no image" * 100)
    assert "is not an Apptainer image, or is cut short" in refused(tmp_path / "text.sif")
    with image.path.open("rb") as file:
        (tmp_path / "short.sif").write_bytes(file.read(20_000))
    assert "is not an Apptainer image, or is cut short" in refused(tmp_path / "short.sif")
    labels = tmp_path / "old" / ".singularity.d" / "labels.json"
    labels.parent.mkdir(parents=True)
    labels.write_text(json.dumps({"shardsynth.build": "1", "shardsynth.version": "0.0.9"}))
    said = refused(tmp_path / "old")
    assert f"holds shardsynth 0.0.9, and this is {__version__}" in said
    labels.write_text(json.dumps({"org.label-schema.build-arch": "amd64"}))
    assert "is an image, but not one of shardsynth's" in refused(tmp_path / "old")
    assert not (tmp_path / "run").exists()
