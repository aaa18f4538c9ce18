"""The command line as a person meets it: one line an error, exit codes, closed streams."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from shardsynth import cli


def shardsynth(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "shardsynth.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_version():
    assert shardsynth("--version").stdout.startswith("shardsynth 0.")


@pytest.fixture
def main(monkeypatch, capsys, tmp_path):
    """Runs the entry point in this process, in an empty folder: its exit code and what it wrote to standard error."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["shardsynth", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr().err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_mistake_is_one_line_and_exit_2_of_the_process(tmp_path):
    done = shardsynth("run", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("shardsynth: no job file at nowhere.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "no job file at nowhere.yaml"),
        (["resume", "nowhere"], "no run here"),
        (["status", "nowhere"], "no run here"),
        (["report", "nowhere"], "no run here"),
        (["task", "nowhere", "fit", "0"], "no run here"),
        (["sample", "nowhere", "--rows", "10", "-o", "out"], "no model here"),
        (["sample", "nowhere", "--rows", "many", "-o", "out"], "'many' is not a row count"),
        (["init", "nowhere", "-o", "job.yaml"], "no such file or folder"),
        (["import", "nowhere.csv", "-o", "out", "--type", "age"], "wanted COLUMN=TYPE"),
    ],
)
def test_the_users_mistakes_are_one_line_and_exit_2(main, arguments, message):
    code, said = main(*arguments)
    assert code == 2
    assert message in said and "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


def test_a_path_that_cannot_be_written_is_one_line(main, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "t.csv").write_text("a\n1\n")
    code, said = main("import", "t.csv", "-o", "file/out")
    assert code == 2 and "file: is a file, and a folder is wanted there" in said


def test_a_bug_is_one_line_without_values(tmp_path):
    code = (
        "import sys; from shardsynth import cli\n"
        "def broken(): raise ValueError('SECRET')\n"
        "cli.app = broken; sys.argv = ['shardsynth']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "SECRET" not in done.stderr and "Traceback" not in done.stderr
    assert "unexpected ValueError" in done.stderr and "--debug" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(tmp_path, closed):
    (tmp_path / "t.csv").write_text("a\n1\n")
    command = f"{sys.executable} -m shardsynth.cli import t.csv -o out {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert list((tmp_path / "out").glob("*.parquet"))
    command = f"{sys.executable} -m shardsynth.cli status nowhere {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False).returncode == 2


def test_debug_shows_the_traceback(tmp_path):
    done = shardsynth("run", "nowhere.yaml", "--debug", cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" in done.stderr
