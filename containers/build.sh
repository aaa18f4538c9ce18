#!/usr/bin/env bash
# Build the image: containers/build.sh [cpu|cuda] [-o FILE] [--base IMAGE|debian] [--wheels auto|none|FOLDER] [--no-test]
#
#   cpu, cuda        which build of torch (default cpu)
#   -o FILE          image to write (default shardsynth.sif or shardsynth-cuda.sif); a name ending in / is a sandbox folder
#   --base IMAGE     local Apptainer image to start from, where no Docker registry can be reached: Debian 12 or newer with
#                    Python 3.11, python3-venv and ca-certificates; `debian` makes one with mmdebstrap
#   --wheels         auto (default): the host's pip fetches the wheels with its own settings, and the build installs from
#                    them without a network; none: pip inside the build fetches them; FOLDER: keep them there
#   --no-test        do not run `apptainer test` on the result
#
# Compression: SHARDSYNTH_ZSTD_LEVEL (default 12; 3 builds three times faster), or SHARDSYNTH_COMPRESSION=gzip for
# kernels older than 4.14.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
die() { echo "build.sh: $*" >&2; exit 2; }

device=cpu output='' base='' wheels=auto tested=yes
while (($#)); do
  case $1 in
    cpu | cuda) device=$1 ;;
    -o) output=${2:?-o wants a file}; shift ;;
    --base) base=${2:?--base wants an image}; shift ;;
    --wheels) wheels=${2:?--wheels wants auto, none or a folder}; shift ;;
    --no-test) tested=no ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) die "unknown argument '$1'; see --help" ;;
  esac
  shift
done
[[ -n $output ]] || output=$([[ $device == cpu ]] && echo shardsynth.sif || echo shardsynth-cuda.sif)
command -v apptainer >/dev/null || die "apptainer: not found; load its module, or see https://apptainer.org/docs"
slash=$([[ $output != */ ]] || echo /)
output=$(realpath -m -- "$output")$slash
[[ -d $(dirname "$output") ]] || die "$(dirname "$output"): no such folder"

work=$(mktemp -d "${TMPDIR:-/tmp}/shardsynth-build.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT

# Root with all capabilities builds directly. Everyone else, and root in most containers, builds in a user namespace
# (--fakeroot). For that Apptainer wants subordinate ids, or a base whose files all belong to one user.
flags=()
capabilities=$(awk '/^CapEff/ {print $2}' /proc/self/status)
everything=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
if [[ $(id -u) != 0 ]] || ((16#$capabilities != everything)); then flags+=(--fakeroot); fi
if [[ $output == */ ]]; then
  flags+=(--sandbox)
else
  case ${SHARDSYNTH_COMPRESSION:-zstd} in
    zstd) flags+=(--mksquashfs-args "-comp zstd -Xcompression-level ${SHARDSYNTH_ZSTD_LEVEL:-12}") ;;
    gzip) flags+=(--mksquashfs-args "-comp gzip") ;;
    *) die "SHARDSYNTH_COMPRESSION: zstd or gzip" ;;
  esac
fi

# The base image: the header of the recipe. All else is the same for every base.
header=()
if [[ $base == debian ]]; then
  command -v mmdebstrap >/dev/null || die "--base debian needs mmdebstrap (Debian, Ubuntu: apt install mmdebstrap)"
  echo "build.sh: a Debian base"
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/rootfs"
  rm -rf "${work:?}"/rootfs/dev/*
  base=$work/rootfs
fi
if [[ -n $base ]]; then
  [[ -e $base ]] || die "--base $base: no such image"
  header=(--build-arg bootstrap=localimage --build-arg "from=$(realpath -- "$base")")
fi

# The host's pip fetches the wheels: its settings (index, proxy, certificates) must not get into the image.
binds=() inside=''
if [[ $wheels != none ]]; then
  python=${PYTHON:-python3}
  [[ $("$python" -c 'import sys; print(*sys.version_info[:2])') == "3 11" ]] || {
    [[ $wheels == auto ]] || die "--wheels $wheels: fetching wheels wants Python 3.11, the image's; set PYTHON"
    echo "build.sh: no Python 3.11 here to fetch wheels with; pip in the build fetches them"
    wheels=none
  }
fi
if [[ $wheels != none ]]; then
  folder=$wheels
  [[ $folder != auto ]] || folder=$work/wheels
  mkdir -p "$folder"
  echo "build.sh: fetching wheels"
  (cd "$top" && "$python" -m pip download -q -q -d "$(realpath -- "$folder")" -c constraints.txt \
    --only-binary :all: '.[all,clinical]' hatchling) || die "pip could not fetch the wheels"
  inside=/mnt
  binds=(--bind "$(realpath -- "$folder"):/mnt:ro")
fi

commit=$(git -C "$top" describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
echo "build.sh: building $output ($device, $commit)"
cd "$top"
apptainer build --force --notest "${flags[@]}" "${binds[@]}" "${header[@]}" --build-arg "device=$device" \
  --build-arg "commit=$commit" --build-arg "wheels=$inside" "$output" Apptainer.def
if [[ $tested == yes ]]; then
  closed=(--containall --no-home)
  if [[ $(id -u) != 0 && ! -w /dev/fuse ]]; then closed+=(--unsquash); fi # nothing here can mount an image
  apptainer test "${closed[@]}" "$output"
fi
du -sh --apparent-size "$output"
