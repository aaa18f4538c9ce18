#!/bin/bash
# Each array waits for those that it needs. Run again after a failure: committed tasks are not done again.
set -eu
run="${1:?usage: bash slurm/submit.sh RUN [MOST]}"
scripts="$(cd "$(dirname "$0")" && pwd)"
shift
declare -A jobs
said="$(mktemp)"
cancel() { if [ "${#jobs[@]}" -gt 0 ]; then scancel "${jobs[@]%%;*}"; fi; }
trap 'rm -f "$said"; cancel' EXIT
submit() { # NAME, ELEMENTS, and the names of those that it waits for
  local name=$1 elements=$2 after="" need
  shift 2
  for need in "$@"; do after="$after:${jobs[$need]%%;*}"; done
  local start=(--hold) # nothing starts before all are accepted
  if [ -n "$after" ]; then start=("--dependency=afterok$after" --kill-on-invalid-dep=yes); fi
  if [ "$elements" -gt "$most" ]; then elements=$most; fi
  local job
  job=$(sbatch --parsable --array="0-$((elements - 1))" "${start[@]}" --chdir="$PWD" --job-name="shardsynth-$name" "$scripts/stage.sbatch" "$run" "$name" 2>"$said") || return 1
  jobs[$name]=$job
  echo "job ${job%%;*}: $name, elements: $elements"
}
submit_all() {
  submit profile 10 &&
    submit profile_merge 1 profile &&
    submit count 10 profile_merge &&
    submit count_merge 1 count &&
    submit fit 1 count_merge &&
    submit sample 10 fit &&
    submit score 10 sample &&
    submit merge 1 score &&
    submit report 1 merge
}

# Most elements of an array: what the site allows (MaxArraySize), or the number given to this script.
most=$(scontrol show config | awk '$1 == "MaxArraySize" { print $3 }')
if [ "${most:-0}" -lt 1 ] || [ "$most" -gt 10 ]; then most=10; fi
most=${1:-$most}
until submit_all; do
  cat "$said" >&2
  cancel
  jobs=()
  if [ "$most" -le 1 ] || ! grep -Eqi "accounting/QOS policy|SubmitJob|job array specification" "$said"; then
    echo "nothing is queued; the scripts can also be submitted one after the other" >&2
    exit 1
  fi
  most=$(((most + 1) / 2))
  echo "cancelled; again, with at most $most elements an array" >&2
done
scontrol release "${jobs[profile]%%;*}"
jobs=()
