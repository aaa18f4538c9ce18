#!/bin/bash
# Each stage waits for the one before. Run again after a failure: committed tasks are not done again.
set -eu
run="${1:?usage: bash slurm/submit.sh RUN}"
scripts="$(cd "$(dirname "$0")" && pwd)"
after=()
for stage in profile profile_merge count count_merge fit sample score merge report; do
  case $stage in
    profile | count | sample | score) elements=0-9 ;;
    *) elements=0-0 ;;
  esac
  job=$(sbatch --parsable --chdir="$PWD" ${after[@]+"${after[@]}"} --job-name="shardsynth-$stage" --array="$elements" "$scripts/stage.sbatch" "$run" "$stage")
  echo "job ${job%%;*}: $stage"
  after=(--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes)
done
