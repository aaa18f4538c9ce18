"""Damaged and odd inputs in great number: only right results or clear errors, within time and memory?

usage: python benchmarks/fuzz.py [SUBJECT ...] [--tries N] [--first N] [--only N]      (default: all, 10,000 each)

The subjects are those of tests/runs/fuzz. Each is tried in a process of its own; if that dies, the try counts as a
crash, and another process goes on after it. Bar: no traceback, no crash, no hang over 60 s, no memory over 2 GiB, no wrong
result. `--only N` repeats one try in this process and shows its error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from results import record  # noqa: E402
from tests.runs.fuzz.frame import Subject, run  # noqa: E402
from tests.runs.fuzz.subjects import SUBJECTS  # noqa: E402

#: Findings that the table shows of each subject.
SHOWN = 10


def tried(subject: Subject, first: int, last: int, notes: Path) -> None:
    """Make tries in this process; ``notes`` gets the number of each try before it is made, and at the end a line."""
    with tempfile.TemporaryDirectory() as folder, notes.open("a", encoding="utf-8") as out:
        outcomes = run(
            subject, subject.prepare(Path(folder)), range(first, last), lambda n: print(n, file=out, flush=True)
        )
        print(json.dumps([outcomes.counts, outcomes.findings, outcomes.peak]), file=out, flush=True)


def all_tries(subject: Subject, first: int, tries: int, at_once: int = 2500) -> tuple[list[str], bool]:
    """Lines of the table for one subject, and whether it cleared the bar."""
    counts: Counter[str] = Counter()
    findings: list[tuple[int, str]] = []
    peak, start, next_try, last = 0.0, time.monotonic(), first, first + tries
    while next_try < last:
        with tempfile.NamedTemporaryFile(suffix=".txt") as file:
            stop = min(last, next_try + at_once)
            command = [sys.executable, __file__, subject.name, "--child", file.name]
            command += ["--first", str(next_try), "--tries", str(stop - next_try)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = Path(file.name).read_text(encoding="utf-8").split("\n")[:-1]
        if lines and lines[-1].startswith("["):
            more, found, most = json.loads(lines[-1])
            counts.update(more)
            findings += [(number, what) for number, what in found]
            peak, next_try = max(peak, most), stop
            continue
        if not lines:
            return [f"{subject.name}: cannot start: {ended.stderr[-500:]}"], False
        crashed = int(lines[-1])
        counts.update({"crash": 1, "before a crash": crashed - next_try})
        findings.append((crashed, f"crash: exit code {ended.returncode}: {ended.stderr[-200:]!r}"))
        next_try = crashed + 1
    seconds = time.monotonic() - start
    head = f"{subject.name}: {tries:,} tries, {seconds:.0f} s, {peak:,.0f} MiB, {len(findings)} findings"
    shares = [f"    {count:>6,} {outcome}" for outcome, count in counts.most_common()]
    shown = [f"    try {number}: {what}" for number, what in findings[:SHOWN]]
    return [head, *shares, *shown], not findings


def main() -> None:
    """Run the tries of all subjects that are asked for."""
    by_name = {subject.name: subject for subject in SUBJECTS}
    parser = argparse.ArgumentParser(description="Damaged and odd inputs in great number.")
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(by_name)}; default: all")
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.subjects) - set(by_name):
        parser.error(f"no subject is called {min(unknown)!r}; there are {', '.join(by_name)}")
    subjects = [by_name[name] for name in asked.subjects or by_name]
    if asked.child is not None:
        return tried(subjects[0], asked.first, asked.first + asked.tries, asked.child)
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            for subject in subjects:
                print(subject.attempt(subject.prepare(Path(folder)), Random(f"{subject.name} {asked.only}")))
        return None
    cleared = True
    for subject in subjects:
        lines, held = all_tries(subject, asked.first, asked.tries)
        record(f"fuzz_{subject.name.replace('-', '_')}", lines)
        cleared &= held
    sys.exit(not cleared)


if __name__ == "__main__":
    main()
