#!/bin/sh
# install.sh: installs shardsynth inside the image that is being built; Apptainer.def and the Dockerfile both call it.
# It expects the project in /usr/src/shardsynth, and deletes it at the end.
#
#   DEVICE   cpu or cuda: the build stops if pip's index gave the other build of torch
#   COMMIT   the commit that is built
#   WHEELS   folder of wheels to install from, without a network; empty: pip's own index
#   LABELS   file that the image's labels are appended to
set -eu
umask 022
source=/usr/src/shardsynth
prefix=/opt/shardsynth
export LC_ALL=C.UTF-8 TMPDIR=/var/tmp PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export PIP_CONSTRAINT=$source/constraints.txt PIP_BUILD_CONSTRAINT=$source/constraints.txt
if [ -n "${WHEELS:-}" ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS="$WHEELS" PIP_CONFIG_FILE=/dev/null; fi

python3 -m venv "$prefix"
"$prefix/bin/python" -m pip install --quiet --no-compile "${source}[all,clinical]"
mkdir -p /usr/share/licenses
cp "$source/LICENSE" "$source/NOTICE" /usr/share/licenses/
"$prefix/bin/python" "$source/containers/identity.py" --device "${DEVICE:-cpu}" --commit "${COMMIT:-unknown}" \
    --labels "${LABELS:-/dev/null}"
sh "$source/containers/trim.sh" "$prefix"
# Sources in an image never change. So Python need not compare byte code with them.
"$prefix/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$prefix/lib"
rm -rf "$source"
