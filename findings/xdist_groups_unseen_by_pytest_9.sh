#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` spreads the tests of one group over all workers, and says
# nothing.
#
# On each worker xdist appends "@GROUP" to the private attribute `_nodeid` of an item, and its scheduler reads the group
# off the node ids that the workers report. pytest 9.2.0 gives the node id without what was appended, so that every test
# is a group of its own: whatever the tests of a group share (a server, a port, a costly fixture) is made once a worker.
#
# Seen: twelve tests of one group, two workers. pytest 9.2.0: both workers run some. pytest 8.4.2: one runs all twelve.
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tests"
cat >"$folder/tests/test_one_group.py" <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_it(number, record):
    time.sleep(0.2)
    record(os.environ["PYTEST_XDIST_WORKER"])
PY
cat >"$folder/tests/conftest.py" <<'PY'
import os
from pathlib import Path

import pytest


@pytest.fixture
def record(request):
    def write(worker):
        with Path(os.environ["WORKERS"]).open("a") as file:
            file.write(f"{worker}\n")

    return write
PY
workers_of() { # workers_of PYTEST: how many workers ran tests of the group
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install -q --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
  (cd "$folder/tests" && WORKERS="$folder/$1.workers" "$folder/$1/bin/python" -m pytest -q -p no:cacheprovider \
    -n 2 --dist loadgroup >"$folder/$1.log" 2>&1)
  sort -u "$folder/$1.workers" | wc -l
}
new=$(workers_of 9.2.0)
old=$(workers_of 8.4.2)
echo "workers that ran tests of one group: pytest 9.2.0: $new, pytest 8.4.2: $old"
[ "$new" -eq 2 ] && [ "$old" -eq 1 ]
