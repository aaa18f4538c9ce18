"""The batch script as the shell runs it: what it does with signals and exit codes."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time

from shardsynth.executors.slurm.script import body


def test_no_exit_code_is_lost_where_signals_arrive_as_the_task_ends(tmp_path):
    """`wait` of bash alone gave another code in 12 of 150 runs."""
    run = tmp_path / "a run"
    (run / "private").mkdir(parents=True)
    (run / "plan.json").touch()
    script = tmp_path / "script"
    task = shlex.quote("trap : USR2; sleep 0.3; exit 28")
    script.write_text(
        body(["python=(bash)"], [], f"run={shlex.quote(str(run))}", "", listen=False, python=f"-c {task}")
    )
    scripts = [
        subprocess.Popen(["bash", script], env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}) for _ in range(20)
    ]
    time.sleep(0.25)
    end = time.monotonic() + 60
    while any(one.poll() is None for one in scripts) and time.monotonic() < end:
        for one in scripts:
            if one.poll() is None:
                one.send_signal(signal.SIGUSR2)
        time.sleep(0.005)
    assert [one.wait(10) for one in scripts] == [28] * 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a run", "script"], "nothing is left behind"
