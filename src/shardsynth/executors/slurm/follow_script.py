"""The script that submits the rest of a run, where a site limits how many elements a user may have queued.

Each element calls it as it ends, on the host and in plain bash: neither an image nor a node need hold anything but
Slurm's commands. One small job, the follower, calls it too, should elements have ended without doing so. It lies in
``private/slurm`` of the run beside the files that it reads:

- ``rest``: the arrays that are not submitted yet, in order, one a line: name, group, groups that it waits for, key,
  elements, further dependencies (a job, or ``name:`` and an array). Arrays of one key are under the same limits.
- ``sent``: the arrays that it submitted: name, group, job, elements.
- ``ended``: elements that ended well: name, number.
- ``refused``: Slurm's words when it last refused an array.

All of it happens under the lock of the run's ledger.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

#: The variable that names another cluster for the script's commands to ask, from a login node of this one.
ON_CLUSTER = "SHARDSYNTH_ON_CLUSTER"
#: Calls of the script: `FOLLOW` (from a login node), `FOLLOW NAME NUMBER CODE` (an element), `FOLLOW follower`.
_BODY = r"""
cd "$(dirname "$0")" || exit 1
umask 077
trap '' TERM USR2
caller=${1:-} number=${2:-} code=${3:-}
IFS=: read -r own_job own_array restarts <<<"$SHARDSYNTH_CALLER"
unset SHARDSYNTH_CALLER

# One process at a time. A lock of a dead process, or one that is older than a quarter of an hour, is removed.
lock() {
  local tries=0 seen host pid at there here
  own="lock.$HOSTNAME.$$"
  here=$(readlink /proc/self/ns/pid)
  printf '{"host": "%s", "pid": %d, "at": %d, "where": "%s %s"}' "$HOSTNAME" "$$" "$(date +%s)" \
    "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$here" >"$own"
  trap 'rm -f "$own"' EXIT
  until take "$own"; do
    seen=$(cat lock 2>/dev/null)
    host=$(sed -n 's/.*"host": "\([^"]*\)".*/\1/p' <<<"$seen")
    pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' <<<"$seen")
    at=$(sed -n 's/.*"at": \([0-9]*\).*/\1/p' <<<"$seen")
    at=${at:-$(stat -c %Y lock 2>/dev/null)} # of one that a process left while it wrote it
    there=$(sed -n 's/.*"where": "[^" ]* \([^"]*\)".*/\1/p' <<<"$seen") # the container in which the number counts
    if [ -n "$at" ] && { [ $(($(date +%s) - at)) -gt 900 ] ||
      { [ "$host" = "$HOSTNAME" ] && [ "${there:-$here}" = "$here" ] && ! kill -0 "$pid" 2>/dev/null; }; }; then
      remove_lock "$seen"
    fi
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || return 1
    sleep 0.2
  done
  trap unlock EXIT
}

take() { # a file: as the lock, unless there is one. NFS may answer that there is one where it has just made it
  ln "$1" lock 2>/dev/null || [ "$1" -ef lock ] || { [ ! -e lock ] && (set -o noclobber; cat "$1" >lock) 2>/dev/null; }
}

remove_lock() { # what it says. One that another process took meanwhile stays
  [ "$(cat lock 2>/dev/null)" = "$1" ] || return 0
  mv -f lock "$own.aside" 2>/dev/null || return 0
  [ "$(cat "$own.aside")" = "$1" ] || take "$own.aside"
  rm -f "$own.aside"
}

unlock() {
  remove_lock "$(cat "$own")"
  rm -f "$own"
}

add() { # a file, and a line for it. The line before may have been cut short, by a kill or a full disk
  [ -z "$(tail -c 1 "$1" 2>/dev/null)" ] || echo >>"$1"
  printf '%s\n' "$2" >>"$1"
}

# Slurm's answer to squeue; the controller may be away for a while.
ask() {
  local tries
  for tries in 1 2 3 4 5 6; do
    squeue --noheader --me --array --format='%T %i %F %j' 2>/dev/null && return 0
    [ "$tries" -eq 6 ] || sleep "$pause"
  done
  return 1
}

pause=5
[ "$caller" != follower ] || pause=60
alone=1
lock || alone=
# An element that ended well says so here: arrays that wait for it may no longer find it in the queue.
[ -z "$number" ] || [ "$code" -ne 0 ] || add ended "$caller $number"
[ -n "$alone" ] || { echo "another process holds $PWD/lock"; exit 1; }
[ -s rest ] || exit 0
queue=$(ask) || { echo "squeue does not answer"; exit 1; }
declare -A live=() job_is_live=() state=()
while read -r word id job name; do
  [[ $name == @PREFIX@* ]] || continue
  live[$name]=$job
  job_is_live[$job]=1
  state[$id]=$word
done <<<"$queue"
# What is being cancelled, or queued again, submits nothing.
if [ -n "$number" ] && [ "${state[${own_array}_$number]:-}" != RUNNING ]; then
  exit 0
fi

declare -A ok=() sent=() sent_of=() waits=() dropped=() full=() seen=()
if [ -s ended ]; then
  while read -r name element; do
    [ -z "${seen[$name $element]:-}" ] || continue
    seen[$name $element]=1
    ok[$name]=$((${ok[$name]:-0} + 1))
  done <ended
fi
if [ -s sent ]; then
  while read -r name group job size; do
    sent[$name]=$job
    sent_of[$group]+=" $name:$job:$size"
  done <sent
fi

record() { # name, group, job, size
  add jobs.jsonl "$(printf '{"name": "%s", "job": %d, "at": %d}' "$1" "$3" "$(date +%s)")"
  add sent "$1 $2 $3 $4"
  sent[$1]=$3
  sent_of[$2]+=" $1:$3:$4"
  live[$1]=$3
  job_is_live[$3]=1
}

submit() { # arguments of sbatch; sets `job`, or `refusal` and returns 1
  local text
  text=$(sbatch --parsable "$@" 2>refusal.tmp)
  job=$(sed -n 's/^\([0-9][0-9]*\)\(;.*\)\{0,1\}$/\1/p' <<<"$text" | tail -n 1)
  refusal=$(tr '\n' ' ' <refusal.tmp)
  rm -f refusal.tmp
  [ -n "$job" ]
}

# First the follower: it needs a place in the queue, too.
follower=${live[@PREFIX@follow]:-}
if [ -z "$follower" ]; then
  submit --begin=now+120 --output="$PWD/follow.log" follow.sbatch && follower=$job
fi

: >rest.tmp
left=0
hard=
while read -r name group needs key size after; do
  if [ -n "${sent[$name]:-}" ]; then continue; fi
  if [ -n "${live[$name]:-}" ]; then # the process that submitted it died before it wrote that down
    record "$name" "$group" "${live[$name]}" "$size"
    continue
  fi
  now=ready
  list=
  for need in ${needs//,/ }; do
    [ "$need" != - ] || continue
    if [ -n "${dropped[$need]:-}" ]; then now=drop; fi
    if [ "$now" = ready ] && [ -n "${waits[$need]:-}" ]; then now='wait'; fi
    [ "$now" = ready ] || continue
    for entry in ${sent_of[$need]:-}; do
      IFS=: read -r other job count <<<"$entry"
      if [ -n "${live[$other]:-}" ]; then
        list+=",afterok:$job"
      elif [ "${ok[$other]:-0}" -lt "$count" ]; then
        now=drop
        break
      fi
    done
  done
  if [ "$now" = drop ]; then
    add jobs.jsonl "$(printf '{"name": "%s", "dropped": true}' "$name")"
    dropped[$group]=1
    echo "$name: not submitted, since an element that it needs failed"
    continue
  fi
  if [ "$now" = ready ] && [ -z "${full[$key]:-}" ]; then
    for other in ${after//,/ }; do
      if [[ $other == name:* ]]; then
        other=${live[${other#name:}]:-}
        other=${other:+afterany:$other}
      fi
      [ -z "${job_is_live[${other##*:}]:-}" ] || list+=",$other"
    done
    if submit ${list:+--dependency="${list#,}" --kill-on-invalid-dep=yes} "$name.sbatch"; then
      record "$name" "$group" "$job" "$size"
      rm -f refused
      echo "job $job: $name"
      continue
    fi
    full[$key]=1
    echo "$refusal" >refused
    [[ $refusal == *Submit*Limit* || $refusal == *temporarily* ]] || hard=1
  fi
  waits[$group]=1
  left=$((left + 1))
  echo "$name $group $needs $key $size $after" >>rest.tmp
done <rest
mv -f rest.tmp rest

if [ "$left" -eq 0 ]; then
  rm -f rest refused ended sent
  [ -z "$follower" ] || [ "$caller" = follower ] || scancel "$follower"
  echo "all is submitted"
  exit 0
fi
# The follower starts once nothing of the run is queued: then no element is left that could submit the rest.
all=
for name in "${!live[@]}"; do
  if [ "$name" != @PREFIX@follow ]; then all+=",afterany:${live[$name]}"; fi
done
if [ "$caller" = follower ]; then
  if [ -n "$hard" ] && [ -z "$all" ] && [ "${restarts:-0}" -ge 30 ]; then
    echo "given up: $refusal"
    exit 1
  fi
  scontrol requeue "$own_job"
fi
if [ -n "$follower" ] && [ -n "$all" ]; then
  scontrol update "JobId=$follower" "Dependency=${all#,}" >/dev/null 2>&1
fi
echo "$left arrays wait until elements end"
if [ "$caller" = follower ]; then
  unlock
  trap - EXIT
  sleep 60 # until the requeue ends this script
fi
exit 0
"""


def follow_script(environment: Mapping[str, str], prefix: str) -> str:
    """The text of ``follow.sh``.

    Args:
        environment: The environment in which jobs are submitted.
        prefix: Start of every job name of the run.
    """
    kept = {name: value for name, value in sorted(environment.items()) if name not in ("PATH", "SLURM_CONF")}
    words = [shlex.quote(f"{name}={value}") for name, value in kept.items()]
    words.append('${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"}')
    words.append(f'${{{ON_CLUSTER}:+SLURM_CLUSTERS="${ON_CLUSTER}"}}')
    words.append(f'PATH={shlex.quote(environment["PATH"])}:"$PATH"')
    words.append('SHARDSYNTH_CALLER="${SLURM_JOB_ID:-}:${SLURM_ARRAY_JOB_ID:-}:${SLURM_RESTART_COUNT:-0}"')
    lines = [
        "#!/bin/bash",
        "# Submits what of this run is not submitted yet, as far as the site's limits allow.",
        "# shellcheck disable=SC2016 # a value may hold anything; it is quoted, and inert",
        'if [ -z "${SHARDSYNTH_CALLER:-}" ]; then',
        "  # Not the environment of an element: sbatch would read it. That of the login shell that submitted the run.",
        f'  exec env -i {" ".join(words)} bash "$0" "$@" >>"$(dirname "$0")/follow.log" 2>&1',
        "fi",
    ]
    return "\n".join(lines) + _BODY.replace("@PREFIX@", prefix)
