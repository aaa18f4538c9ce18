#!/bin/bash
# Each stage waits for the one before. Run again after a failure: committed tasks are not done again.
set -eu
run="${1:?usage: bash slurm/submit.sh RUN}"
scripts="$(cd "$(dirname "$0")" && pwd)"
after=()
for stage in profile profile_merge count count_merge fit sample score merge report; do
  job=$(sbatch --parsable --chdir="$PWD" ${after[@]+"${after[@]}"} "$scripts/$stage.sbatch" "$run")
  echo "job ${job%%;*}: $stage"
  after=(--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes)
done
