from __future__ import annotations

import subprocess
import sys

import pytest

# --- size ---------------------------------------------------------------------------------------------------------


def in_a_process_of_its_own(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("/proc")
def test_a_large_csv_is_streamed(tmp_path):
    source = tmp_path / "large.csv"
    block = "".join(f"{i},{i / 7:.6f},2020-01-{i % 28 + 1:02d},name {i % 97},{i:012d}\n" for i in range(20_000))
    with source.open("w") as file:
        file.write("n,x,day,word,code\n")
        while file.tell() < 64 << 20:
            file.write(block)
    code = (
        "import re, sys; from pathlib import Path; from shardsynth.data.importer import import_table;"
        "parts = import_table(Path(sys.argv[1]), Path(sys.argv[2]), rows_per_shard=500_000);"
        # not ru_maxrss, which a process inherits from the one that started it
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1];"
        "print(len(parts), int(peak) // 1024)"
    )
    parts, megabytes = map(int, in_a_process_of_its_own(code, str(source), str(tmp_path / "out")).split())
    assert parts > 1
    assert megabytes < 400


def test_a_full_disk_leaves_nothing(tmp_path):
    source = tmp_path / "t.csv"
    source.write_text("a\n" + "".join(f"{i * 7919 % 1000003}\n" for i in range(200_000)))
    code = (
        "import resource, sys; from pathlib import Path; from shardsynth.data.importer import import_table;"
        "from shardsynth.errors import SpaceError;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: import_table(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except SpaceError as error: print(error)"
    )
    said = in_a_process_of_its_own(code, str(source), str(tmp_path / "out"))
    assert "the disk or the quota is full after" in said
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]
