#!/usr/bin/env bash
# submitit 1.5.4: a plug-in that is only installed changes what other programs of the same Python submit: options of
# sbatch without a prefix (`partition=`) for `AutoExecutor(cluster="slurm")` are dropped.
#
# AutoExecutor maps a bare name to "EXECUTOR_NAME" of the last executor that knows it. A plug-in whose executor derives
# from SlurmExecutor comes last and knows all of them: `partition=` becomes `mine_partition=`, which is not for
# cluster="slurm". A warning names the new option; the job goes to the default partition.
#
# Seen: without the plug-in the parameters are {'time': 7, 'partition': 'gpu'}; with it {'time': 7}.
# Exits 0 where this is still so, 1 where it changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check submitit==1.5.4
mkdir -p "$folder/plugin/mine-1.0.dist-info" "$folder/bin"
printf '#!/bin/sh\n' >"$folder/bin/srun" # submitit only looks whether there is one
chmod +x "$folder/bin/srun"
cat >"$folder/plugin/mine.py" <<'PY'
import submitit


class MineExecutor(submitit.SlurmExecutor):
    @classmethod
    def affinity(cls):
        return 0
PY
printf '[submitit]\nexecutor = mine:MineExecutor\n' >"$folder/plugin/mine-1.0.dist-info/entry_points.txt"
printf 'Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n' >"$folder/plugin/mine-1.0.dist-info/METADATA"
cat >"$folder/other.py" <<'PY'
import tempfile
import warnings

import submitit

warnings.simplefilter("ignore")
executor = submitit.AutoExecutor(tempfile.mkdtemp(), cluster="slurm")
executor.update_parameters(partition="gpu", timeout_min=7)
print(executor.parameters)
PY
run() { PATH="$folder/bin:$PATH" PYTHONPATH="$1" "$folder/venv/bin/python" "$folder/other.py"; }
without=$(run "")
with=$(run "$folder/plugin")
echo "without the plug-in: $without; with it: $with"
[ "$without" = "{'time': 7, 'partition': 'gpu'}" ] && [ "$with" = "{'time': 7}" ]
